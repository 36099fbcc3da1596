"""Every error that `lwd` raises on purpose.

LwdError
├── ConfigError         a flag, a preset or a file of settings is not usable
├── EpisodeError        an episode breaks the format or its own invariants
│   └── PayloadError    bytes that are not a whole, valid episode payload
├── ConflictError       the same name with other contents, or a lost lease
├── IntegrityError      bytes do not have the hash, size or shape that was promised
│   └── MissingError    an object or a row that was promised is not there
├── ServiceError        a service is unreachable, refuses, or cannot start
└── NonFiniteError      training met NaN or infinity too often
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LwdError(Exception):
    """Base class: catching it catches every deliberate error of `lwd`."""


class ConfigError(LwdError, ValueError):
    """A setting is not usable."""


class EpisodeError(LwdError, ValueError):
    """An episode breaks the format or its own invariants."""


class PayloadError(EpisodeError):
    """Bytes that are not a whole, valid episode payload."""


class ConflictError(LwdError):
    """The same name came with other contents, or a lease was lost to somebody else."""


class IntegrityError(LwdError):
    """Bytes do not have the hash, size or shape that was promised."""


class MissingError(IntegrityError):
    """An object or a row that was promised is not there."""


class ServiceError(LwdError):
    """A service is unreachable, refuses, or cannot start."""


class NonFiniteError(LwdError):
    """Training met NaN or infinity in more updates in a row than allowed."""


def unknown(kind: str, given: str, known: Iterable[str]) -> ConfigError:
    """Error for a name that is not known, with near misses first and then all that is available."""
    names = sorted(known)
    near = get_close_matches(given, names, n=3)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return ConfigError(f"{kind} {given!r} is unknown.{hint} Known: {', '.join(names)}.")
