"""Active learning with people: a pool, the labels they give, and what is saved between sessions."""
