"""How the embedded queue is configured: where it listens, who may do what, its certificate."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwd.errors import ConfigError, ServiceError
from lwd.store.access import CONSUME, PUBLISH, Grant, load_access
from lwd.store.disk import written_aside
from lwd.store.process import LOOPBACK
from lwd.store.queue_watch import monitoring

MAX_NOTICE_BYTES = 64 * 1024
"""Notices are pointers into the catalog; anything larger is none."""

SUBJECTS = "lwd.>"
STREAM_API = ["$JS.API.STREAM.CREATE.lwd", "$JS.API.STREAM.UPDATE.lwd", "$JS.API.STREAM.INFO.lwd"]
MAY_PUBLISH = {
    PUBLISH: [SUBJECTS, *STREAM_API],
    CONSUME: [
        *STREAM_API,
        "$JS.API.CONSUMER.CREATE.lwd.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.lwd.*",
        "$JS.API.CONSUMER.INFO.lwd.*",
        "$JS.API.CONSUMER.MSG.NEXT.lwd.*",
        "$JS.ACK.lwd.>",
    ],
}
"""Subjects that a scope lets its user send to; requests to JetStream are messages too."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Who can reach the queue, and how they are told apart."""

    host: str = "127.0.0.1"
    tokens: Path | None = None
    """File of the tokens with a queue's scope; without one everybody who reaches it may do all."""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("A certificate and its key go together: --tls-cert and --tls-key.")
        if self.host not in LOOPBACK and (self.tokens is None or self.tls_cert is None):
            raise ConfigError(
                f"The queue refuses to listen on {self.host} without tokens and a certificate: "
                "everybody could read and write. Give --tokens, --tls-cert and --tls-key, or use "
                "127.0.0.1."
            )
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigError(f"TLS file {path} is not readable.")


def inbox(user: str) -> str:
    """Prefix of the subjects on which the server answers this user, and nobody else may listen."""
    return f"_INBOX_{user}"


def write_config(folder: Path, port: int, exposure: Exposure, *, watched: bool = False) -> Path:
    """Write the server's configuration to `folder`, readable by this user only; its path."""
    path = folder / "nats.conf"
    more = monitoring(folder) if watched else {}
    text = _render(_settings(folder, port, exposure) | more)
    try:
        with written_aside(path) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text.encode())
    except OSError as error:
        raise ServiceError(f"The queue cannot write {path}: {error.strerror}.") from error
    return path


def _settings(folder: Path, port: int, exposure: Exposure) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "host": exposure.host,
        "port": port,
        "log_file": str(folder / "nats.log"),
        "logfile_size_limit": 16 << 20,
        "max_payload": MAX_NOTICE_BYTES,
        # `always`: an acknowledged notice survives a power cut, not only a kill.
        "jetstream": {"store_dir": str(folder), "sync_interval": "always"},
    }
    if exposure.tokens is not None:
        settings["authorization"] = {"users": _users(exposure.tokens)}
    if exposure.tls_cert is not None:
        # Without `handshake_first` a server speaks in the clear first, and a client that believes
        # whoever answers it could be made to go on so, password and all.
        settings["tls"] = {
            "cert_file": str(exposure.tls_cert.absolute()),
            "key_file": str((exposure.tls_key or Path()).absolute()),
            "handshake_first": True,
        }
    return settings


def _users(tokens: Path) -> list[dict[str, Any]]:
    newest: Mapping[str, Grant] = {
        grant.robot: grant for grant in load_access(tokens).grants if grant.bcrypt
    }
    if not newest:
        raise ConfigError(
            f"Tokens file {tokens} has no token for the queue. Make them with "
            f"`lwd token service-1 --scopes {PUBLISH}` and "
            f"`lwd token coordinator-1 --scopes {CONSUME}`."
        )
    return [_user(grant) for grant in newest.values()]


def _user(grant: Grant) -> dict[str, Any]:
    allowed: Sequence[str] = [s for scope in grant.scopes for s in MAY_PUBLISH.get(scope, [])]
    return {
        "user": grant.robot,
        "password": grant.bcrypt,
        "permissions": {
            "publish": {"allow": sorted(set(allowed))},
            "subscribe": {"allow": [f"{inbox(grant.robot)}.>"]},
        },
    }


def _render(settings: Mapping[str, Any]) -> str:
    """The server's own format takes JSON for every value."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
