"""Slow, plain versions of the maths that the tests compare with."""
