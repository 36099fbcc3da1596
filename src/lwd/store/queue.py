"""The queue: durable notices on NATS JetStream, at least once, acknowledged one by one.

Calls are synchronous; the asyncio client lives in a thread of its own. A call while the server is
away raises ServiceError and the next one works as soon as the server is back.
"""

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig
from nats.js.errors import BadRequestError
from nats.js.errors import Error as JetStreamError

from lwd.errors import ConfigError, ServiceError
from lwd.store.access import own_token
from lwd.store.catalog import EPISODES
from lwd.store.process import split_url
from lwd.store.queue_config import inbox
from lwd.store.queue_server import serve_queue

__all__ = ["STREAM", "Message", "Queue", "serve_queue"]

log = logging.getLogger(__name__)

STREAM = StreamConfig(
    name="lwd",
    subjects=["lwd.>"],
    storage=StorageType.FILE,
    max_age=7 * 24 * 3600.0,
    duplicate_window=600.0,
)
"""Notices are pointers into the catalog: those lost after a week are found by reconciliation."""

ACK_WAIT_S = 30.0
RECONNECT_S: Any = 0.2
"""nats-py says int and takes any number."""

T = TypeVar("T")


class Message:
    """A notice that comes again until it is acknowledged or terminated."""

    def __init__(self, queue: "Queue", raw: Msg):
        self._queue, self._raw = queue, raw
        self.subject: str = raw.subject
        self.data: bytes = raw.data
        self.msg_id: str = (raw.headers or {}).get("Nats-Msg-Id", "")

    def ack(self) -> None:
        """Done: never again."""
        self._queue.call(self._raw.ack())

    def nak(self, delay_s: float = 0.0) -> None:
        """Not now: again after `delay_s`."""
        self._queue.call(self._raw.nak(delay=delay_s or None))

    def term(self) -> None:
        """Poison: never again, to nobody."""
        self._queue.call(self._raw.term())


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a queue is and as whom to enter."""

    scheme: str
    host: str
    port: int
    user: str = ""
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str, token: str | None = None) -> "Door":
        """Parts of a queue's URL; ConfigError if it is none, or its user has no token."""
        host, port = split_url(url, ("nats", "tls"), 4222)
        parts = urlparse(url)
        user = unquote(parts.username or "")
        if parts.password:
            raise ConfigError(
                f"The queue's URL for {host} carries a secret, which other users of this machine "
                "can read. Give only the user there, and the token in LWD_TOKEN."
            )
        token = own_token(token)
        if user and not token:
            raise ConfigError(f"Queue user {user!r} needs its token in the environment: LWD_TOKEN.")
        return cls(scheme=parts.scheme, host=host, port=port, user=user, token=token)

    @property
    def url(self) -> str:
        """Address without the user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def options(self) -> dict[str, Any]:
        """How the client of NATS is told to enter."""
        options: dict[str, Any] = {}
        if self.user:
            options = {"user": self.user, "password": self.token, "inbox_prefix": inbox(self.user)}
        if self.scheme == "tls":
            # The handshake comes first: no server can talk the client into going on without it.
            options |= {"tls": ssl.create_default_context(), "tls_handshake_first": True}
        return options


class Queue:
    """Connection to the queue at `url`; it is made at the first call and kept."""

    def __init__(self, url: str, *, timeout_s: float = 5.0, token: str | None = None):
        """`url` is nats://USER@HOST:PORT, or tls:// where the server has a certificate.

        The user's token is `token`, or the environment's LWD_TOKEN. SSL_CERT_FILE names a
        certificate authority of one's own.
        """
        self._door = Door.of(url, token)
        self.url = self._door.url
        self._reason = ""
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._pulls: dict[str, JetStreamContext.PullSubscription] = {}
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="queue", daemon=True)
        self._thread.start()

    def publish(self, subject: str, data: bytes, msg_id: str) -> None:
        """Return once the notice is on disk; the same `msg_id` within ten minutes is dropped."""
        self.call(self._publish(subject, data, msg_id))

    def pull(self, consumer: str, limit: int, timeout_s: float) -> list[Message]:
        """Up to `limit` notices for the named durable consumer, [] if none came in `timeout_s`.

        Processes that pull with the same name share the notices. One that is not acknowledged in
        ACK_WAIT_S comes again, to any of them.
        """
        raw = self.call(self._pull(consumer, limit, timeout_s), extra_s=timeout_s)
        return [Message(self, message) for message in raw]

    def close(self) -> None:
        """Close the connection and end the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(self, work: Coroutine[Any, Any, T], *, extra_s: float = 0.0) -> T:
        """Run a coroutine on the queue's thread; every failure is a ServiceError."""
        limit_s, self._reason = self._timeout_s + extra_s, ""
        bounded = asyncio.wait_for(work, limit_s)
        try:
            return asyncio.run_coroutine_threadsafe(bounded, self._loop).result()
        except (TimeoutError, NatsError, OSError) as error:
            late = isinstance(error, TimeoutError | NatsTimeout)
            reason = f"no answer within {limit_s:g} s" if late else str(error)
            if late and self._reason:
                reason = f"{reason} ({self._reason})"
            said = reason or type(error).__name__
            raise ServiceError(f"Queue {self.url} failed: {said}. {_advice(said)}") from error

    async def _publish(self, subject: str, data: bytes, msg_id: str) -> None:
        stream, headers = await self._connected(), {"Nats-Msg-Id": msg_id}
        with self._set_up_again():
            await stream.publish(subject, data, timeout=self._timeout_s, headers=headers)

    async def _pull(self, consumer: str, limit: int, timeout_s: float) -> list[Msg]:
        stream = await self._connected()
        with self._set_up_again():
            if consumer not in self._pulls:
                self._pulls[consumer] = await _subscribe(stream, consumer)
            try:
                return await self._pulls[consumer].fetch(limit, timeout_s)
            except TimeoutError:
                # Mostly NatsTimeout, but Python's own where the server said "nothing" so late that
                # no time is left to ask again.
                return []

    @contextmanager
    def _set_up_again(self) -> Iterator[None]:
        """After an error of JetStream itself, the next call finds or makes stream and consumer.

        A server that lost its files is a new one.
        """
        try:
            yield
        except JetStreamError:
            self._stream = None
            self._pulls.clear()
            raise

    async def _connected(self) -> JetStreamContext:
        async with self._turn:
            if self._client is None or self._client.is_closed:
                await self._connect()
            assert self._client is not None
            if self._stream is None:
                stream = self._client.jetstream(timeout=self._timeout_s)
                await _ensure_stream(stream)
                self._stream = stream
            return self._stream

    async def _connect(self) -> None:
        client, self._client = self._client, None
        await self._close(client)
        await _probe(self._door.host, self._door.port)
        client = Client()
        try:
            await client.connect(
                self.url,
                connect_timeout=2,
                # What refuses the first connection is told; later ones are tried for ever.
                allow_reconnect=False,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_S,
                error_cb=self._remember,
                **self._door.options(),
            )
        except BaseException:
            await self._close(client)
            raise
        client.options["allow_reconnect"] = True
        self._client = client

    async def _close(self, client: Client | None) -> None:
        self._stream = None
        self._pulls.clear()
        if client is not None:
            # A server that is gone cannot be told; its end is what closing wants anyway. Python's
            # TLS transport raises AttributeError when it is written to after its connection broke.
            with contextlib.suppress(NatsError, OSError, TimeoutError, AttributeError):
                await asyncio.wait_for(client.close(), self._timeout_s)

    async def _remember(self, error: Exception) -> None:
        """The client tells only here why it was refused."""
        log.debug("queue error=%s", error)
        self._reason = str(error)

    async def _end(self) -> None:
        """Drop the connection and whatever the client leaves running when that fails."""
        await self._close(self._client)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _probe(host: str, port: int) -> None:
    """Fail at once where nobody listens; the client would try until the time is up."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()


async def _ensure_stream(stream: JetStreamContext) -> None:
    try:
        await stream.add_stream(STREAM)
    except BadRequestError:
        await stream.update_stream(STREAM)


async def _subscribe(stream: JetStreamContext, consumer: str) -> JetStreamContext.PullSubscription:
    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=10_000
    )
    return await stream.pull_subscribe(EPISODES, consumer, STREAM.name, config)


ADVICE = {
    "authorization violation": "Give the user in --queue-url and its token in LWD_TOKEN.",
    "permissions violation": "Issue a token with the scope for it: `lwd token`.",
    "certificate": "Name the authority that signed the server's certificate in SSL_CERT_FILE.",
    "ssl": "Give tls:// for a server with a certificate, nats:// for one without.",
    "": "Is `lwd queue` running there? One with a certificate wants tls://.",
}
"""What to do when the reason contains these words; the first that fits counts."""


def _advice(said: str) -> str:
    return next(advice for words, advice in ADVICE.items() if words in said.lower())
