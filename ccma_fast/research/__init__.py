"""The loop for research: strategies × seeds × rounds on a pool whose labels are known."""
