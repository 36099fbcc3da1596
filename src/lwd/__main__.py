"""`python -m lwd` is `lwd`."""

from lwd.cli import main

main()
