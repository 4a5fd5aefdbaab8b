"""The loop for people: query, have the picks labelled, tell the labels, query again."""
