"""Which rows are selected, one file for each acquisition: what differs between them in steps 4 to 6 of a query."""
