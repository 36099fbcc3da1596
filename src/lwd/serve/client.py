"""A robot of ours driven by somebody else's policy server: openpi's, or another `lwd serve`."""

import logging
import random
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from lwd.actor.policy import Policy
from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.errors import IntegrityError, ServiceError
from lwd.serve.layout import layout, sent
from lwd.serve.wire import RequestError, pack, unpack
from lwd.store.backoff import Backoff

log = logging.getLogger(__name__)

_PAUSES = Backoff(first_s=0.1, limit_s=2.0)


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a policy server is and how to talk to it."""

    url: str
    """ws://HOST:PORT or wss://HOST:PORT."""
    layout: str = "lwd"
    """Keys of the observations that it wants."""
    sizes: tuple[int, ...] = ()
    """Numbers of the state under each of the layout's keys, where they are not the layout's own."""
    key: str = ""
    """API key."""
    robot: str = ""
    """Name that one of our servers is told."""
    records: bool = True
    """The robot records its episodes itself: one of our servers does not do so a second time."""
    timeout_s: float = 10.0
    """Longest wait for one answer."""
    patience_s: float = 20.0
    """How long a server that is away is tried again before `ServiceError`."""


class _Connection(ClientConnection):
    """Its thread that reads ends with it, also where TLS 1.3 session tickets have woken that thread
    and nothing follows them: `recv` then waits in the socket, where closing alone is not heard."""

    def close_socket(self) -> None:
        with suppress(OSError):  # closed already
            self.socket.shutdown(socket.SHUT_RDWR)
        super().close_socket()


class RemotePolicy:
    """A `Policy` that asks a server; one connection, made anew when it breaks."""

    normalisation_hash = ""
    tokenizer_hash = ""

    def __init__(
        self,
        server: Server,
        control: ControlConfig,
        *,
        lane: int = 0,
        stop: threading.Event | None = None,
    ) -> None:
        """Nothing is connected until the first chunk. `lane` counts the policies that plan for one
        robot at the same time, each with a connection of its own. Once `stop` is set a server that
        is away is waited for no more."""
        self.version = 0
        """What one of our servers says; 0 where nobody does."""
        self.metadata: dict[str, Any] = {}
        """What the server said when it was connected to."""
        self._server, self._control = server, control
        self._layout, self._lane = layout(server.layout), lane
        self._stop = stop or threading.Event()
        self._stack = ExitStack()
        self._connection: ClientConnection | None = None
        self._episode, self._number = "", 0
        self._closed = False

    def reset(self, seed: int) -> None:
        """Start an episode; one of our servers is told, openpi's has no such thing."""
        self._number += 1
        self._episode = f"{seed}-{self._number}"

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, action] absolute targets, the first of what the server plans.

        ServiceError if it is away for longer than its patience or refuses; IntegrityError if what
        it answers is no chunk.
        """
        started, failures = time.monotonic(), 0
        while True:
            try:
                return self._chunk(self._answer(observation, instruction))
            except (OSError, WebSocketException) as error:
                self._hang_up()
                failures += 1
                away_s = time.monotonic() - started
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, InvalidStatus) and error.response.status_code < 500:
                    raise ServiceError(self._said(_body(error))) from error
                ends = self._closed or self._stop.is_set()
                if ends or away_s > self._server.patience_s:
                    raise ServiceError(
                        f"policy server {self._server.url} is away for {away_s:.0f} s: {reason}. "
                        "Is it running there?"
                    ) from error
                level = logging.WARNING if failures == 1 else logging.DEBUG
                log.log(level, "retry server=%s reason=%s", self._server.url, reason)
                self._stop.wait(_PAUSES.delay(failures, random.random()))

    def close(self) -> None:
        """Close the connection; whoever waits for the server in another thread gives up."""
        self._closed = True
        self._hang_up()

    def _hang_up(self) -> None:
        self._stack.close()
        self._connection = None

    def _answer(self, observation: Observation, instruction: str) -> dict[str, Any]:
        """The server's reply to an observation."""
        connection = self._connection or self._connected()
        message = sent(self._layout, observation, instruction, sizes=self._server.sizes)
        if self.metadata.get("server") == "lwd":
            message |= {"lwd/episode_id": self._episode, "lwd/records": self._server.records}
            if self._server.robot:
                message["lwd/robot_id"] = self._server.robot
            if self._lane:
                message["lwd/lane"] = self._lane
        connection.send(pack(message))
        reply = connection.recv(timeout=self._server.timeout_s)
        if isinstance(reply, str):  # a traceback, after which openpi's server closes
            self._hang_up()
            raise ServiceError(self._said(reply))
        return self._unpacked(reply)

    def _connected(self) -> ClientConnection:
        headers = {"Authorization": f"Api-Key {self._server.key}"} if self._server.key else None
        connection = self._stack.enter_context(
            connect(
                self._server.url,
                compression=None,
                max_size=None,
                additional_headers=headers,
                open_timeout=self._server.timeout_s,
                create_connection=_Connection,
            )
        )
        greeting = connection.recv(timeout=self._server.timeout_s)
        if isinstance(greeting, str):
            self._hang_up()
            raise ServiceError(self._said(greeting))
        self.metadata = self._unpacked(greeting)
        log.info("connected server=%s metadata=%s", self._server.url, str(self.metadata)[:200])
        self._connection = connection
        return connection

    def _unpacked(self, data: bytes) -> dict[str, Any]:
        try:
            return unpack(data)
        except RequestError as error:
            self._hang_up()
            raise IntegrityError(self._said(str(error))) from error

    def _chunk(self, reply: dict[str, Any]) -> np.ndarray:
        actions, horizon = reply.get("actions"), self._control.horizon
        if (
            not isinstance(actions, np.ndarray)
            or actions.ndim != 2
            or len(actions) < horizon
            or not np.isfinite(actions).all()
        ):
            held = getattr(actions, "shape", type(actions).__name__)
            raise IntegrityError(
                self._said(f"actions are {held}; expected {horizon} or more finite ones")
            )
        version = reply.get("lwd/policy_version", 0)
        self.version = version if isinstance(version, int) and version >= 0 else 0
        return actions[:horizon].astype(np.float32)

    def _said(self, text: str) -> str:
        """openpi's server sends its whole traceback; the last line says what it is."""
        lines = [line for line in text.strip().splitlines() if line.strip()] or ["nothing"]
        return f"policy server {self._server.url} answered: {lines[-1]:.300}"


class Elsewhere:
    """`lwd.actor.process.Policies` of a server: always the same policy, whatever it answers."""

    def __init__(self, policy: Policy, pause_s: float = 5.0) -> None:
        self._policy, self._pause_s = policy, pause_s
        self._stop = threading.Event()

    def swap(self) -> Policy | None:
        """The policy."""
        return self._policy

    def wait(self, timeout_s: float) -> bool:
        """Nothing newer ever comes from here: the server changes its weights by itself."""
        self._stop.wait(timeout_s)
        return False

    def withdraw(self, reason: str) -> None:
        """There is no other; the robot rests for a while."""
        log.error("policy server misbehaves pause_s=%.1f reason=%s", self._pause_s, reason)
        self._stop.wait(self._pause_s)


def _body(error: InvalidStatus) -> str:
    body = error.response.body or b""
    return f"HTTP {error.response.status_code} {bytes(body).decode(errors='replace')}"
