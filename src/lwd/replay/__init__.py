"""Distributed replay buffer: readers bound to one snapshot, fed by a prefetcher process."""
