"""The log of a campaign: events that are only ever added, in one SQLite file, and the state that follows from them."""
