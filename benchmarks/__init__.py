"""Scripts that measure: each writes benchmarks/results/<name>.md with the facts of the run."""
