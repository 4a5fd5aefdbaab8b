"""Who is picked, one file for each rule: steps 4 to 6 of a query, as far as acquisitions differ."""
