"""Table VI: how long an episode takes to the learner, and a policy to the robots.

`python -m benchmarks.latency` measures on one host and, as root, over a shaped link; it writes
benchmarks/results/latency.md.
"""
