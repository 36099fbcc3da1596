"""The learner: Algorithm 1 (`train`), Algorithm 2 (`update`), checkpoints and its process."""
