"""Signs of life of robots, as the service has them: in memory, because they are worth nothing
after a minute and a thousand robots send hundreds of them a second."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from lwd.errors import ConflictError, EpisodeError
from lwd.store.access import READ, UPLOAD, Access

if TYPE_CHECKING:
    from fastapi import FastAPI

MOST_ROBOTS = 100_000
MAX_NAME = 128
STATES = ("acting", "correcting", "paused", "waiting")
"""The policy acts; a person acts; a person has stopped it; it has no policy or no room yet."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a robot says of itself every few seconds."""

    robot: str
    state: str
    """One of `STATES`."""
    at: float
    """UTC seconds by the robot's clock."""
    task: str = ""
    episode_id: str = ""
    policy_version: int = 0
    """Version that it acts with; 0 for none."""
    pending: int = 0
    """Episodes in its spool that are not uploaded."""
    process: str = ""
    """Another one after every start of its process."""
    received_at: float = 0.0
    """UTC seconds by the service's clock."""
    shared: bool = False
    """Whether two processes have the robot's name, as the service has heard."""


class Heartbeats:
    """The last beat of every robot; safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._beats: dict[str, Beat] = {}
        self._before: dict[str, str] = {}
        """Robot to the process that beat before the one that beats now."""

    def note(self, beat: Beat) -> bool:
        """Remember a beat, in place of the robot's last one; of too many robots the one that has
        been silent for longest is forgotten.

        False if two processes have the robot's name: one beats that another had taken over from.
        """
        with self._lock:
            last = self._beats.pop(beat.robot, None)
            alone = not beat.process or self._before.get(beat.robot) != beat.process
            if last is not None and last.process != beat.process:
                self._before[beat.robot] = last.process
            self._beats[beat.robot] = replace(beat, received_at=self._clock(), shared=not alone)
            if len(self._beats) > MOST_ROBOTS:
                silent = next(iter(self._beats))
                del self._beats[silent]
                self._before.pop(silent, None)
            return alone

    def last(self, after: float = 0.0) -> list[Beat]:
        """The last beat of each robot that came after a time by the service's clock."""
        with self._lock:
            beats = list(self._beats.values())
        return [beat for beat in beats if beat.received_at > after]


def check_beat(beat: Beat) -> Beat:
    """The beat, if every field is plausible; else EpisodeError."""
    names = (beat.robot, beat.task, beat.episode_id, beat.process)
    usable = (
        beat.robot
        and beat.state in STATES
        and all(len(name) <= MAX_NAME and name.isprintable() for name in names)
        and math.isfinite(beat.at)
        and 0 <= beat.policy_version < 2**31
        and 0 <= beat.pending < 2**31
    )
    if not usable:
        raise EpisodeError(
            f"Heartbeat is not valid: {str(beat)[:300]}. States are {', '.join(STATES)}; names "
            f"have at most {MAX_NAME} printable characters."
        )
    return beat


def add_heartbeats(app: "FastAPI", beats: Heartbeats, access: Access) -> None:
    """Routes of the service: robots send beats, the fleet's page reads them."""
    from fastapi import Header

    header = Header(alias="Authorization")

    @app.post("/heartbeats")
    async def note(
        beat: Beat, authorization: Annotated[str | None, header] = None
    ) -> dict[str, str]:
        access.check(authorization, UPLOAD, beat.robot)
        if not beats.note(check_beat(beat)):
            raise ConflictError(
                f"Two processes call themselves robot {beat.robot!r}: start each with a --robot of "
                "its own, or nobody can tell which of them acted, nor take over from one."
            )
        return {"status": "noted"}

    @app.get("/heartbeats")
    async def last(
        after: float = 0.0, authorization: Annotated[str | None, header] = None
    ) -> list[Beat]:
        access.check(authorization, READ)
        return beats.last(after)
