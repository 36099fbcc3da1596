"""Server-sent events: whoever watches gets what has changed since the revision that it has."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from lwd.dashboard.board import SECTIONS, Board

PING_S = 5.0
"""Seconds without news after which the stream says that it lives."""


class Bell:
    """Wakes the streams; rung from any thread, heard in one loop."""

    def __init__(self) -> None:
        self._event, self.closed = asyncio.Event(), False
        self._loop: asyncio.AbstractEventLoop | None = None

    def ring(self) -> None:
        """There is news."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._swap)

    def close(self) -> None:
        """The process ends: all streams end."""
        self.closed = True
        self.ring()

    def _swap(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until it rings, or that long."""
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return


async def events(board: Board, bell: Bell, now: Any) -> AsyncIterator[bytes]:
    """The whole state first, then what changes; one event for each look that found something."""
    seen = 0
    while not bell.closed:
        revision = board.revision
        if revision > seen:
            yield event("news", news(board, after=seen, now=now()))
            seen = revision
        else:
            yield event("alive", {"now": now()})
        if board.revision == seen:
            await bell.wait(PING_S)


def news(board: Board, *, after: int, now: float) -> dict[str, Any]:
    """What has changed after a revision."""
    found: dict[str, Any] = {
        "now": now,
        "changed": [name for name in SECTIONS if board.changed_at[name] > after],
    }
    if robots := board.robots(after):
        found["robots"] = robots
    if "numbers" in found["changed"] or after == 0:
        found["numbers"] = board.numbers
    return found


def event(name: str, data: dict[str, Any]) -> bytes:
    """One event on the wire."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
