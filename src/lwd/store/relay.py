"""Threads of the service: outbox rows to the queue, and moved weights to whoever waits."""

import asyncio
import logging
import threading
import time

from lwd.errors import ServiceError
from lwd.store.catalog import Catalog
from lwd.store.queue import Queue
from lwd.store.rows import WeightsRow

log = logging.getLogger(__name__)

POLL_S = 0.1
BATCH = 256
MAX_BACKOFF_S = 2.0


class Bell:
    """Wakes the requests that wait for newer weights; rung from a thread, heard in one loop."""

    def __init__(self) -> None:
        self.row: WeightsRow | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def ring(self, row: WeightsRow | None) -> None:
        """The newest weights are `row`."""
        self.row = row
        self._wake()

    def close(self) -> None:
        """Nobody waits any more: the process ends."""
        self._closed = True
        self._wake()

    async def wait(self, after: int, wait_s: float) -> WeightsRow | None:
        """Weights newer than version `after`, or None after `wait_s`."""
        self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + wait_s
        while True:
            event = self._event
            if self.row is not None and self.row.version > after:
                return self.row
            left_s = deadline - self._loop.time()
            if self._closed or left_s <= 0:
                return None
            try:
                await asyncio.wait_for(event.wait(), left_s)
            except TimeoutError:
                return None

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._swap)

    def _swap(self) -> None:
        self._event.set()
        self._event = asyncio.Event()


def watch_weights(catalog: Catalog, bell: Bell, stop: threading.Event) -> None:
    """Ring the bell when the pointer moves, whichever process moved it; until stopped."""
    while not stop.wait(POLL_S):
        try:
            row = catalog.latest_weights()
        except ServiceError as error:
            log.warning("weights not readable error=%s", error)
            stop.wait(MAX_BACKOFF_S)
            continue
        if row != bell.row:
            bell.ring(row)


def relay(catalog: Catalog, queue: Queue, wake: threading.Event, stop: threading.Event) -> None:
    """Publish the outbox, oldest first, and mark what the queue acknowledged; until stopped.

    A kill between the acknowledgement and the mark publishes twice, under the same message id.
    """
    failures = 0
    while not stop.is_set():
        try:
            sent = _relay_some(catalog, queue, stop)
        except ServiceError as error:
            log.log(logging.DEBUG if failures else logging.WARNING, "relay waits error=%s", error)
            failures += 1
            stop.wait(min(0.1 * 2**failures, MAX_BACKOFF_S))
            continue
        if failures:
            log.info("relay goes on failures=%d", failures)
        failures = 0
        if not sent:
            # Another service, or the learner, may have written the outbox: look without a wake too.
            wake.wait(POLL_S)
            wake.clear()


def _relay_some(catalog: Catalog, queue: Queue, stop: threading.Event) -> int:
    started, done = time.monotonic(), []
    try:
        for notice in catalog.unpublished(BATCH):
            if stop.is_set():
                break
            queue.publish(notice.subject, notice.payload.encode(), notice.key)
            done.append(notice.outbox_id)
    finally:
        if done:
            catalog.mark_published(done)
    if done:
        log.debug("relayed notices=%d seconds=%.3f", len(done), time.monotonic() - started)
    return len(done)
