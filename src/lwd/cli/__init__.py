"""The `lwd` command: every process and every tool, each a function with its flags.

What a command needs it imports itself, so that a robot's edge client loads no JAX.
"""

from lwd.cli.app import EXTRAS, app, main

__all__ = ["EXTRAS", "app", "main"]
