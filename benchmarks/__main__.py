"""`python -m benchmarks NAME ...` measures what is named, one after the other, with its defaults.

Folders, and what needs to be told more, are commands of their own: `python -m benchmarks.NAME`.
"""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import benchmarks
from lwd.errors import unknown

NOT_BY_NAME = {
    *("__main__", "builtin_tokenizer", "cells", "extraction", "finished", "optimiser", "parity"),
    *("parity_reference", "prediction", "record"),
}
"""What measures nothing, or needs a run, a checkpoint or another environment."""


def main(names: Sequence[str]) -> None:
    """Run the `main` of each; a name that is not known ends it before anything is measured."""
    parts = {part.name for part in pkgutil.iter_modules(benchmarks.__path__) if not part.ispkg}
    known = sorted(parts - NOT_BY_NAME)
    if not names:
        sys.exit(f"name what to measure: {', '.join(known)}.")
    for name in names:
        if name not in known:
            sys.exit(str(unknown("benchmark", name, known)))
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    asked = sys.argv[1:]
    del sys.argv[1:]  # the names are not for the parts, some of which have flags
    main(asked)
