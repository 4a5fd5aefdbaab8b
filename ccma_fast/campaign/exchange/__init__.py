"""What passes between a campaign and the programs in which people answer: images to label out, answers back in."""
