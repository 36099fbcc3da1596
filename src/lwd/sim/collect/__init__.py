"""The offline buffer: episodes of experts, earlier policies and play in the paper's proportions."""
