"""The recipes of the learner side by side on a toy: `python -m benchmarks.recipes`."""
