"""Seats: from each one person drives one robot, wherever both are.

Robots connect outwards only, so the service stands between: a robot asks for orders and shows
itself meanwhile, a person's page says words and gets what the robot showed last. Like heartbeats
this is kept in memory; a robot that gets no orders any more stops by its own clock.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lwd.errors import ConflictError, EpisodeError, ServiceError

SEAT_S = 5.0
"""Silence of a person after which another may take the seat."""
NEVER_S = 1e9
"""Silence where nobody has said anything; JSON knows no infinity."""
MOST_ROBOTS = 100_000
MAX_NAME, MAX_TEXT, MAX_PICTURE = 128, 4096, 56 * 1024
MOST_AXES = 64
PRESSES = ("pause", "take over", "hand back", "success", "failure", "stop")
"""What a person can tell a robot, as `lwd.actor.attended.Press`."""
MODES = ("autonomous", "paused", "correcting")
"""Who has a robot, as `lwd.actor.attended.Mode`."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """What a robot shows of itself when it asks for orders."""

    robot: str
    life: str
    """Another one after every start of its process."""
    heard: int = 0
    """Number of the last press that it has taken."""
    received: int = 0
    """Number of the last press that has reached it, taken or not."""
    mode: str = MODES[0]
    task: str = ""
    instruction: str = ""
    seconds: float = 0.0
    """Robot seconds of the episode."""
    axes: tuple[str, ...] = ()
    """What a person can move, in the order of a word's motion."""
    facts: dict[str, str] = field(default_factory=dict)
    """Measured, in words."""
    picture: str = ""
    """JPEG in base64; empty where there is none, or nobody looks."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a person says to a robot; with neither press nor motion a sign of life."""

    robot: str
    seat: str
    """Random, of the page that says it."""
    person: str = ""
    """Who says it, where no token does."""
    press: str = ""
    """One of `PRESSES`, or nothing."""
    motion: tuple[float, ...] = ()
    """Speed along each axis, from -1 to 1, until the next word."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a robot gets."""

    presses: list[tuple[int, str, str]] = field(default_factory=list)
    """Number, press and who pressed, oldest first, until the robot says that it has them."""
    motion: tuple[float, ...] = ()
    person: str = ""
    """Who has the seat; nobody where it is empty."""
    silent_s: float = NEVER_S
    """Since that person's last word."""
    watched: bool = False
    """Whether anybody looks."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a person's page gets."""

    live: Live
    age_s: float
    """Since the robot last asked for orders."""
    person: str
    """Who has the seat."""
    mine: bool
    """Whether that is who asks."""


def _last_number(live: Live) -> int:
    """After which presses are numbered: the robot drops what has reached it before."""
    return max(live.heard, live.received)


class _Seat:
    """A robot and whoever drives it."""

    def __init__(self, live: Live) -> None:
        self.live, self.live_at = live, 0.0
        self.holder, self.person, self.word_at = "", "", -math.inf
        self.watched_at = -math.inf
        self.motion: tuple[float, ...] = ()
        self.presses: list[tuple[int, str, str]] = []
        self.pressed = _last_number(live)
        self.news = asyncio.Event()

    def show(self, live: Live, now: float) -> None:
        """Take what the robot shows; one that acts by itself again has nobody in its seat."""
        if live.life != self.live.life:
            self.presses = []  # they were meant for the process before
            self.pressed = _last_number(live)
        self.live, self.live_at = live, now
        self.presses = [press for press in self.presses if press[0] > live.heard]
        if live.mode == MODES[0] and not self.presses:
            self.holder, self.person, self.motion = "", "", ()

    def held(self, now: float) -> bool:
        """Whether somebody has the seat."""
        return bool(self.holder) and now - self.word_at < SEAT_S


class Seats:
    """The seats of all robots that ask for orders; for one event loop, `close` for any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seats: dict[str, _Seat] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def orders(self, live: Live, wait_s: float = 0.0) -> Orders:
        """Take what a robot shows; its orders as soon as there is a word, or after `wait_s`."""
        self._loop = asyncio.get_running_loop()
        seat = self._seats.pop(live.robot, None) or _Seat(live)
        self._seats[live.robot] = seat
        if len(self._seats) > MOST_ROBOTS:
            del self._seats[next(iter(self._seats))]
        seat.show(live, self._clock())
        if wait_s > 0 and not seat.presses and not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seat.news.wait(), wait_s)
        seat.news.clear()
        now = self._clock()
        return Orders(
            presses=list(seat.presses),
            motion=seat.motion,
            person=seat.person,
            silent_s=now - seat.word_at if seat.holder else NEVER_S,
            watched=now - max(seat.watched_at, seat.word_at) < SEAT_S,
        )

    def look(self, robot: str, seat_id: str = "") -> Sight:
        """What the robot showed last; ServiceError for one that asks for no orders."""
        seat, now = self._found(robot), self._clock()
        seat.watched_at = now
        seat.news.set()
        held = seat.held(now)
        return Sight(
            live=seat.live,
            age_s=now - seat.live_at,
            person=seat.person if held else "",
            mine=held and seat.holder == seat_id,
        )

    def say(self, word: Word, person: str) -> Sight:
        """Pass a word on. A press takes the seat, from another page of the same person, too;
        ConflictError names whoever else has it."""
        seat, now = self._found(word.robot), self._clock()
        mine = seat.holder == word.seat
        if word.press and seat.held(now) and not mine and seat.person != person:
            raise ConflictError(
                f"{word.robot} is in the hands of {seat.person}; wait until it is handed back."
            )
        if word.press:
            if not mine:
                seat.motion = ()
            seat.holder, seat.person, mine = word.seat, person, True
            seat.pressed += 1
            seat.presses.append((seat.pressed, word.press, person))
        if mine:
            seat.word_at, seat.motion = now, word.motion
        return self.look(word.robot, word.seat)

    def close(self) -> None:
        """Nobody waits any more: the process ends."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for seat in self._seats.values():
            seat.news.set()

    def _found(self, robot: str) -> _Seat:
        if robot not in self._seats:
            raise ServiceError(
                f"Robot {robot[:80]!r} asks for no orders: it does not run, it was started with "
                "another --device, or it is of another kind than online and rollout."
            )
        return self._seats[robot]


def check_live(live: Live) -> Live:
    """What a robot shows, if every field is plausible; else EpisodeError."""
    names = [live.life, live.task, *live.axes, *live.facts, *live.facts.values()]
    usable = (
        live.robot
        and live.mode in MODES
        and all(_is_text(name) for name in (live.robot, *names))
        and len(live.axes) <= MOST_AXES
        and len(live.facts) <= MOST_AXES
        and _is_text(live.instruction, MAX_TEXT)
        and _is_text(live.picture, MAX_PICTURE)
        and 0 <= live.heard < 2**31
        and 0 <= live.received < 2**31
        and math.isfinite(live.seconds)
    )
    if not usable:
        raise EpisodeError(f"What robot {live.robot[:80]!r} shows is not valid: {str(live)[:300]}.")
    return live


def check_word(word: Word) -> Word:
    """A person's word, if every field is plausible; else EpisodeError."""
    usable = (
        word.seat
        and _is_text(word.seat)
        and _is_text(word.person)
        and word.press in ("", *PRESSES)
        and len(word.motion) <= MOST_AXES
        and all(abs(speed) <= 1 for speed in word.motion)
    )
    if not usable:
        raise EpisodeError(
            f"A word to robot {word.robot[:80]!r} is not valid: {str(word)[:300]}. Presses are "
            f"{', '.join(PRESSES)}; speeds are from -1 to 1, for {MOST_AXES} axes at most."
        )
    return word


def _is_text(text: str, most: int = MAX_NAME) -> bool:
    """Whether a text can be shown and stored; no control characters, no halves of others."""
    return len(text) <= most and text.isprintable()
