"""Matrices of rows in any storage, and what is known of the rows: labels, names of classes, ids, manifests."""
