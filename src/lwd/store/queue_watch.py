"""What Prometheus learns of the embedded queue: its server's own monitoring, translated."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from lwd.store import metrics

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Time between two looks."""
ANSWER_S = 1.0
"""Longest wait for an answer of the server, which is on this machine."""
PORTS = "*.ports"
"""The file in which a server says where it listens; one that was killed leaves it behind."""
_open = build_opener(ProxyHandler({})).open


def monitoring(folder: Path) -> dict[str, Any]:
    """The server's settings for it: any free port of the loopback, named in a file of `folder`."""
    return {"http": "127.0.0.1:-1", "ports_file_dir": str(folder)}


class Watch:
    """Notes the numbers of whichever server runs in a folder, now and then."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock, self._due = folder, clock, 0.0

    def begin(self) -> None:
        """Another server is about to start."""
        for left in self._folder.glob(PORTS):
            left.unlink(missing_ok=True)

    def look(self) -> None:
        """Note the server's numbers, if the last time was long enough ago and it answers."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + LOOK_S
        try:
            for path in self._folder.glob(PORTS):
                (url,) = json.loads(path.read_bytes())["monitoring"]
                note(_answer(f"{url}/varz"), _answer(f"{url}/jsz?consumers=1"))
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            log.debug("queue not looked at reason=%s", error)


def note(server: Mapping[str, Any], jetstream: Mapping[str, Any]) -> None:
    """Note what nats-server answers under /varz and under /jsz?consumers=1."""
    metrics.QUEUE_CLIENTS.set(server["connections"])
    for account in jetstream.get("account_details", ()):
        for stream in account.get("stream_detail", ()):
            state = stream["state"]
            metrics.QUEUE_PUBLISHED.set(state["last_seq"])
            metrics.QUEUE_NOTICES.set(state["messages"])
            metrics.QUEUE_BYTES.set(state["bytes"])
            for consumer in stream.get("consumer_detail") or ():
                name = consumer["name"]
                metrics.QUEUE_PENDING.set(consumer["num_pending"], consumer=name)
                metrics.QUEUE_UNACKNOWLEDGED.set(consumer["num_ack_pending"], consumer=name)
                metrics.QUEUE_REDELIVERED.set(consumer["num_redelivered"], consumer=name)


def _answer(url: str) -> dict[str, Any]:
    with _open(url, timeout=ANSWER_S) as answer:
        return json.load(answer)
