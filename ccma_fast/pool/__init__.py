"""Rows, wherever they lie, and what people tell of them: readers, labels, names of classes, manifests."""
