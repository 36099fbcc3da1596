"""Outside evidence: the project's algorithms and the authors' QAM code on OGBench manipulation.

Everything here runs in environments of its own (the Makefile in this folder), not in the project's.
"""
