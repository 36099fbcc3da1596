"""A simulated fleet from a file: which robots, in which processes, over which links."""
