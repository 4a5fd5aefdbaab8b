"""A query: inputs, posteriors, cuts, scores, picks."""
