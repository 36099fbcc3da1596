"""Robots of a server and their episodes, which the protocol does not tell apart by itself.

openpi's protocol has no names and no resets. A robot may say `lwd/robot_id` and `lwd/episode_id` in
its messages, or be known by its key or by `?robot=NAME` in the URL. Of one that names no episode, a
pause longer than `gap_s`, an outcome that somebody marks, or the end of its connection ends one.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lwd.actor.robot import Observation
from lwd.config.require import NAME
from lwd.errors import ConflictError
from lwd.serve.batch import BatchPolicy
from lwd.serve.track import Executed, Track, executed_of
from lwd.serve.wire import RequestError

log = logging.getLogger(__name__)

MINE = "lwd/"
"""Keys of a message that are for the server, not for the policy."""
STALE_S = 5.0
"""A connection that is silent for so long loses its robot to one that comes with the same name."""


@dataclass(eq=False, kw_only=True)
class Running:
    """One episode of a robot."""

    key: str
    """The robot's own name of it; empty where it has none."""
    policy: BatchPolicy
    instruction: str
    """As the episode began."""
    rng: np.random.Generator
    track: Track | None
    """Where it is recorded; None where it is not."""
    started_at: float
    """UTC seconds."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of state and images, which stay what they are."""
    human: bool = False
    """Whether a person has the robot."""
    tells: bool = False
    """Whether the robot sends what it executed."""
    actions: int = 0
    """Numbers in an action; 0 before the first answer."""
    requests: int = 0


@dataclass(eq=False, kw_only=True)
class Session:
    """One robot, over all its connections."""

    robot: str
    holder: object | None = None
    """The connection that has the robot now; None where there is none."""
    running: Running | None = None
    ended: str = ""
    """Key of the episode that was ended from outside; what the robot still asks is not recorded."""
    seen_at: float = 0.0
    """Monotonic seconds of the last request."""
    beats: bool = False
    """Whether the robot runs our code, which sends its own heartbeats and records by itself."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A robot's message without what is meant for the server."""

    message: Mapping[str, Any]
    robot: str
    """Empty where the message does not say."""
    episode: str
    own: Mapping[str, Any] = field(default_factory=dict)
    """What is meant for the server."""


def request_of(message: Mapping[str, Any]) -> Request:
    """Take the server's keys out of a message; RequestError for a name that is none."""
    own = {key: value for key, value in message.items() if key.startswith(MINE)}
    rest = {key: value for key, value in message.items() if key not in own}
    robot, episode = own.get("lwd/robot_id", ""), own.get("lwd/episode_id", "")
    if robot != "":
        robot = checked_name(robot)
    if not isinstance(episode, str) or len(episode) > 128:
        raise RequestError(f"key 'lwd/episode_id' is {episode!r:.80}; expected a short text.")
    return Request(message=rest, robot=robot, episode=episode, own=own)


def checked_name(robot: object) -> str:
    """A robot's name; RequestError if it is none that an episode may hold."""
    if not isinstance(robot, str) or not NAME.fullmatch(robot):
        raise RequestError(
            f"robot {robot!r:.80} is no plain name: up to 64 letters, digits, '.', '_' and '-'."
        )
    return robot


class Sessions:
    """All robots of a server. Lives on the event loop alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._guests = 0

    def guest(self) -> str:
        """Name for a robot that has none."""
        self._guests += 1
        return f"guest-{self._guests}"

    def join(self, robot: str, holder: object) -> Session:
        """The robot's session, for this connection; ConflictError while another one has it."""
        session = self._sessions.setdefault(robot, Session(robot=robot))
        silent_s = self._clock() - session.seen_at
        if session.holder not in (None, holder):
            if silent_s < STALE_S:
                raise ConflictError(
                    f"robot {robot!r} is connected already and asked {silent_s:.1f} s ago. Two "
                    "robots need two names: send `lwd/robot_id`, or add ?robot=NAME to the URL."
                )
            log.warning("robot taken over robot=%s silent_s=%.1f", robot, silent_s)
        session.holder, session.seen_at = holder, self._clock()
        return session

    def leave(self, session: Session, holder: object) -> None:
        """A connection has ended; its robot may come back for a while."""
        if session.holder is holder:
            session.holder, session.seen_at = None, self._clock()

    def find(self, robot: str) -> Session | None:
        """Session by name."""
        return self._sessions.get(robot)

    def all(self) -> list[Session]:
        """By name."""
        return [self._sessions[name] for name in sorted(self._sessions)]

    @property
    def connected(self) -> int:
        """Robots that have a connection."""
        return sum(session.holder is not None for session in self._sessions.values())

    def stale(self, gap_s: float) -> list[Session]:
        """Robots whose episode is over because they have been silent; a robot that names its
        episodes may be silent as long as it is connected. Those who are gone are forgotten."""
        now = self._clock()
        quiet = [s for s in self._sessions.values() if now - s.seen_at > gap_s]
        for session in quiet:
            if session.holder is None and session.running is None:
                del self._sessions[session.robot]
        return [
            s for s in quiet if s.running and (s.holder is None or (gap_s and not s.running.key))
        ]


def checked(session: Session, observation: Observation, request: Request) -> Executed | None:
    """What the robot says that it executed; RequestError if a message does not fit its episode."""
    running = session.running
    assert running is not None
    given = shapes_of(observation)
    if given != running.shapes:
        wrong = sorted(
            name
            for name in given.keys() | running.shapes.keys()
            if given.get(name) != running.shapes.get(name)
        )
        raise RequestError(
            f"{wrong[0]} is {given.get(wrong[0])}; it was {running.shapes.get(wrong[0])} when the "
            "episode began, and stays so."
        )
    if not running.actions:
        return None
    executed = executed_of(request.own, state=len(observation.state), action=running.actions)
    running.tells |= executed is not None
    return executed


def shapes_of(observation: Observation) -> dict[str, tuple[int, ...]]:
    """Of the state and of each image."""
    images = {f"image {name}": image.shape for name, image in observation.images.items()}
    return {"state": observation.state.shape, **images}


def draws(robot: str, episode: str, number: int) -> np.random.Generator:
    """Random draws of an episode: the same for the same names."""
    digest = hashlib.sha256(f"{robot}\n{episode}\n{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
