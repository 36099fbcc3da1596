"""The maths of the paper: pure functions of arrays. Networks come in as callables."""
