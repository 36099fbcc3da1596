"""Who may do what at the service: bearer tokens per robot with scopes, hashed at rest."""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lwd.errors import ConfigError, LwdError
from lwd.store.disk import written_aside

UPLOAD = "upload"
"""Insert episodes and report loads, for one's own robot."""
READ = "read"
"""Read weights and the status."""
SCOPES = (UPLOAD, READ)
ANY_ROBOT = "*"


class RefusedError(LwdError):
    """A request came without the right token; `status` is the HTTP status, 401 or 403."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one token allows."""

    sha256: str
    """Of the token; 256 random bits need no slow hash."""
    robot: str
    """Whose episodes it may upload; `*` means any."""
    scopes: tuple[str, ...]


class Access:
    """The grants of a service. With none at all it is open, and must stay on the loopback."""

    def __init__(self, grants: Sequence[Grant] = ()):
        self._grants = tuple(grants)

    @property
    def open(self) -> bool:
        """Whether everybody who reaches the service may do everything."""
        return not self._grants

    def check(self, authorization: str | None, scope: str, robot: str | None = None) -> None:
        """RefusedError unless the header `Bearer TOKEN` has the scope, for this robot."""
        if self.open:
            return
        grant = self._find(authorization or "")
        if grant is None:
            raise RefusedError(401, "No valid token; give `Authorization: Bearer TOKEN`.")
        if scope not in grant.scopes:
            raise RefusedError(
                403, f"This token may {' and '.join(grant.scopes) or 'do nothing'}, not {scope}."
            )
        if robot is not None and grant.robot not in (ANY_ROBOT, robot):
            raise RefusedError(
                403, f"This token is for robot {grant.robot!r}, the request is for {robot!r}."
            )

    def _find(self, authorization: str) -> Grant | None:
        kind, _, token = authorization.partition(" ")
        digest = _digest(token)
        # Every grant is compared, each in constant time: the answer's timing says nothing.
        found = [grant for grant in self._grants if hmac.compare_digest(grant.sha256, digest)]
        return found[0] if found and kind.lower() == "bearer" else None


def load_access(path: Path | None) -> Access:
    """Grants from a tokens file; no file means an open service."""
    if path is None:
        return Access()
    try:
        access = Access([_grant(entry) for entry in json.loads(path.read_text())])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"Tokens file {path} is not usable: {error}. Make one with `lwd token ROBOT`."
        ) from error
    if access.open:
        raise ConfigError(f"Tokens file {path} has no tokens; the service would be open.")
    return access


def issue(path: Path, robot: str, scopes: Sequence[str] = SCOPES) -> str:
    """Add a grant to the tokens file and return its token, which is stored nowhere."""
    wrong = sorted(set(scopes) - set(SCOPES))
    if wrong:
        raise ConfigError(f"Scopes {wrong} are unknown; known: {', '.join(SCOPES)}.")
    token = secrets.token_urlsafe(32)
    entries = json.loads(path.read_text()) if path.exists() else []
    entries.append(asdict(Grant(sha256=_digest(token), robot=robot, scopes=tuple(scopes))))
    with written_aside(path) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(entries, indent=1).encode())
    return token


def _grant(entry: dict) -> Grant:
    return Grant(
        sha256=str(entry["sha256"]), robot=str(entry["robot"]), scopes=tuple(entry["scopes"])
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
