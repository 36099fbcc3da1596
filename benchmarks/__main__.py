"""`python -m benchmarks [NAME ...]` measures what is named, or everything, one after the other.

Folders are not part of everything: they need environments of their own.
"""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import benchmarks
from lwd.errors import unknown


def main(names: Sequence[str]) -> None:
    """Run the `main` of each; a name that is not known ends it before anything is measured."""
    parts = {part.name for part in pkgutil.iter_modules(benchmarks.__path__) if not part.ispkg}
    known = sorted(parts - {"__main__", "record"})
    for name in names:
        if name not in known:
            sys.exit(str(unknown("benchmark", name, known)))
    for name in names or known:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    asked = sys.argv[1:]
    del sys.argv[1:]  # the names are not for the parts, some of which have flags
    main(asked)
