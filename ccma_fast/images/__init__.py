"""From images to a pool: where they lie, how they are decoded, what embeds them, what is written."""
