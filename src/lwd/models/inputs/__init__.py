"""From what a robot senses to what a VLA reads, and from its chunks to targets, without JAX.

Learner and robot run this same code. What it depends on (tokenizer, statistics, format) has hashes
that travel with a published policy.
"""
