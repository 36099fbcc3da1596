"""Who may do what at the service and the queue: tokens with scopes, hashed at rest."""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lwd.errors import ConfigError, LwdError, unknown
from lwd.store.disk import written_aside

UPLOAD = "upload"
"""Insert episodes and report loads, for one's own robot."""
READ = "read"
"""Read weights and the status."""
PUBLISH = "publish"
"""Hand notices to the queue, as the service does."""
CONSUME = "consume"
"""Take notices from the queue, as the coordinator does."""
OPERATE = "operate"
"""Correct episodes and release policies, as people do on the fleet's page."""
ROBOT_SCOPES = (UPLOAD, READ)
QUEUE_SCOPES = (PUBLISH, CONSUME)
SCOPES = (*ROBOT_SCOPES, *QUEUE_SCOPES, OPERATE)
ANY_ROBOT = "*"
BCRYPT_ROUNDS = 5
"""Few: a token has 256 random bits, which nobody guesses however fast the hash is."""


def own_token(given: str | None = None) -> str:
    """The token of this process: the one given, else the environment's LWD_TOKEN; "" for none.

    ConfigError, which does not repeat it, for what cannot be one.
    """
    token = (given or os.environ.get("LWD_TOKEN", "")).strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            "The token (LWD_TOKEN) holds characters that no token has, as accents or a line end "
            "inside. Give one as `lwd token` printed it."
        )
    return token


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
    """Whose episodes it may upload, `*` means any; at the queue, the name of its user."""
    scopes: tuple[str, ...]
    bcrypt: str = ""
    """Of the token too where it is for the queue, whose server knows no other hash."""


class Access:
    """The grants of a service. With none at all it is open, and must stay on the loopback."""

    def __init__(self, grants: Sequence[Grant] = ()):
        self.grants = tuple(grants)

    @property
    def open(self) -> bool:
        """Whether everybody who reaches the service may do everything."""
        return not self.grants

    def check(
        self, authorization: str | None, scope: str, robot: str | None = None
    ) -> Grant | None:
        """The grant of the header `Bearer TOKEN`, None if the service is open; RefusedError unless
        it has the scope, for this robot."""
        if self.open:
            return None
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
        return grant

    def whose(self, authorization: str | None) -> str:
        """The one robot that a header's token is for; empty where it is for any, or for none."""
        grant = self._find(authorization or "")
        return "" if grant is None or grant.robot == ANY_ROBOT else grant.robot

    def client(self, authorization: str | None, address: str) -> str | None:
        """Whom the requests with this header are counted for: the owner of a valid token, else the
        address; nobody where the service is open to this machine only."""
        if self.open:
            return None
        grant = self._find(authorization or "")
        return f"address {address}" if grant is None else f"{grant.robot} {grant.sha256[:16]}"

    def _find(self, authorization: str) -> Grant | None:
        kind, _, token = authorization.partition(" ")
        digest = _digest(token)
        # Every grant is compared, each in constant time: the answer's timing says nothing.
        found = [grant for grant in self.grants if hmac.compare_digest(grant.sha256, digest)]
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


def issue(path: Path, robot: str, scopes: Sequence[str] = ROBOT_SCOPES) -> str:
    """Add a grant to the tokens file and return its token, which is stored nowhere.

    Of several tokens for the queue with one name, the newest counts.
    """
    wrong = sorted(set(scopes) - set(SCOPES))
    if wrong:
        raise unknown("scope", wrong[0], SCOPES)
    for_queue = bool(set(scopes) & set(QUEUE_SCOPES))
    if for_queue and not re.fullmatch("[A-Za-z0-9_-]+", robot):
        raise ConfigError(
            f"{robot!r} cannot be a user of the queue: use letters, digits, - and _ only."
        )
    token = secrets.token_urlsafe(32)
    entries = json.loads(path.read_text()) if path.exists() else []
    hashed = _bcrypt(token) if for_queue else ""
    grant = Grant(sha256=_digest(token), robot=robot, scopes=tuple(scopes), bcrypt=hashed)
    entries.append(asdict(grant))
    with written_aside(path) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(entries, indent=1).encode())
    return token


def _grant(entry: dict) -> Grant:
    return Grant(
        sha256=str(entry["sha256"]),
        robot=str(entry["robot"]),
        scopes=tuple(entry["scopes"]),
        bcrypt=str(entry.get("bcrypt", "")),
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _bcrypt(token: str) -> str:
    # Only who issues tokens for the queue needs the package.
    import bcrypt

    return bcrypt.hashpw(token.encode(), bcrypt.gensalt(BCRYPT_ROUNDS, prefix=b"2a")).decode()
