"""An episode as a policy server sees it: what robots sent when they asked, and what they were told.

A robot asks once a chunk, so the server sees one state in several ticks. A robot that sends what it
executed (`Executed`) is recorded exactly. Of any other the states between two requests are reckoned
along a straight line and their ticks have the event `reckoned`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.episode.payload import new_id
from lwd.episode.types import ENDS, Episode, Header, Kind, Outcome, Source
from lwd.serve.batch import BatchPolicy
from lwd.serve.wire import RequestError

RECKONED = "reckoned"
"""Event of a tick whose state was not measured."""


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What a robot did since it asked the last time; messages may hold it under `lwd/`."""

    actions: np.ndarray
    """[ticks, action] float32."""
    states: np.ndarray | None = None
    """[ticks, state] float32, before each action."""
    human: np.ndarray | None = None
    """[ticks] bool, whether a person acted."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the episodes of a server are recorded."""

    control: ControlConfig
    task: str
    kind: Kind
    executed: int = 0
    """Ticks of each chunk that robots execute; 0 reckons from the time between requests."""
    joints: tuple[int, ...] = ()
    """Where in the state the measured value of every action dimension is; empty if unknown."""
    jpeg_quality: int = 90


@dataclass(kw_only=True)
class Track:
    """One running episode of one robot. Not for several threads."""

    terms: Terms
    robot: str
    policy: BatchPolicy
    instruction: str
    started_at: float
    """UTC seconds."""
    episode_id: str = field(default_factory=new_id)
    human: bool = False
    """Whether a person has the robot now."""
    ticks: int = 0
    _last: "_Seen | None" = None
    _marks: list[str] = field(default_factory=list)
    _rows: dict[str, list] = field(default_factory=lambda: {name: [] for name in _COLUMNS})

    def saw(
        self,
        observation: Observation,
        chunk: np.ndarray,
        at: float,
        executed: Executed | None = None,
    ) -> None:
        """The robot asked with `observation` at UTC second `at` and was told `chunk`."""
        last, self._last = (
            self._last,
            _Seen(observation, _jpegs(observation, self.terms), chunk, at),
        )
        if last is not None:
            self._add(last, self._last, executed)

    def mark(self, *, human: bool) -> None:
        """A person takes the robot, or hands it back."""
        if human != self.human:
            self.human = human
            self._marks.append("mode:correcting" if human else "mode:autonomous")

    def finish(self, outcome: Outcome) -> Episode | None:
        """The episode up to the last request; nobody saw what became of the chunk after that.

        None if there was only one.
        """
        if self._last is None or not self.ticks:
            return None
        rows, last = self._rows, self._last
        frames = [*rows["images"], last.images]
        return Episode(
            header=self._header(outcome, last.at),
            time=np.array([*rows["time"], last.at], np.float64),
            state=np.stack([*rows["state"], last.observation.state]).astype(np.float32),
            action=np.stack(rows["action"]).astype(np.float32),
            action_policy=np.stack(rows["wanted"]).astype(np.float32),
            source=np.array(rows["source"], np.uint8),
            events=tuple(rows["events"]),
            images={
                camera: tuple(images.get(camera) for images in frames)
                for camera in sorted(set().union(*frames))
            },
        )

    def _add(self, last: "_Seen", now: "_Seen", executed: Executed | None) -> None:
        """The ticks between two requests."""
        now.at = max(now.at, last.at + 1e-3)  # somebody may have set the clock back
        count = self._count(last, now, executed)
        states, measured = _states(last, now, count, executed)
        human = self._human(count, executed)
        wanted = np.full((count, last.chunk.shape[1]), np.nan, np.float32)
        wanted[: len(last.chunk)] = last.chunk[:count]
        if executed is not None:
            actions = executed.actions
        elif human.any():
            after = np.concatenate([states[1:], now.observation.state[None]])
            actions = after[:, list(self.terms.joints)]
        else:
            actions = wanted
        for i in range(count):
            marks, self._marks = tuple(self._marks), []
            row = {
                "time": last.at + i * (now.at - last.at) / count,
                "state": states[i],
                "action": actions[i],
                "wanted": wanted[i],
                "source": Source.HUMAN if human[i] else Source.POLICY,
                "events": marks if measured[i] else (*marks, RECKONED),
                "images": last.images if i == 0 else {},
            }
            for name, value in row.items():
                self._rows[name].append(value)
        self.ticks += count

    def _count(self, last: "_Seen", now: "_Seen", executed: Executed | None) -> int:
        """Ticks between two requests."""
        if executed is not None:
            return len(executed.actions)
        if self.terms.executed:
            return min(self.terms.executed, len(last.chunk))
        ticks = round((now.at - last.at) * self.terms.control.rate_hz)
        return min(max(ticks, 1), len(last.chunk))

    def _human(self, count: int, executed: Executed | None) -> np.ndarray:
        if executed is not None and executed.human is not None:
            return executed.human
        return np.full(count, self.human)

    def _header(self, outcome: Outcome, ended_at: float) -> Header:
        return Header(
            episode_id=self.episode_id,
            robot=self.robot,
            task=self.terms.task,
            instruction=self.instruction,
            kind=self.terms.kind,
            policy_version=self.policy.version,
            rate_hz=self.terms.control.rate_hz,
            horizon=self.terms.control.horizon,
            seed=-1,
            outcome=outcome,
            terminated=outcome in ENDS,
            truncated=outcome not in ENDS,
            started_at=self.started_at,
            ended_at=max(ended_at, self.started_at),
            normalisation_hash=self.policy.normalisation_hash,
            tokenizer_hash=self.policy.tokenizer_hash,
        )


def executed_of(message: Mapping[str, object], *, state: int, action: int) -> Executed | None:
    """What a message says under `lwd/executed`, `lwd/states` and `lwd/human`; RequestError if that
    is not what a robot with so many numbers of state and action does."""
    if "lwd/executed" not in message:
        return None
    actions = _matrix(message, "lwd/executed", action)
    count = len(actions)
    states = _matrix(message, "lwd/states", state) if "lwd/states" in message else None
    human = message.get("lwd/human")
    if states is not None and len(states) != count:
        raise RequestError(f"key 'lwd/states' has {len(states)} rows for {count} actions.")
    if human is not None:
        human = np.asarray(human)
        if human.shape != (count,) or human.dtype != np.bool_:
            raise RequestError(
                f"key 'lwd/human' is {human.dtype} {list(human.shape)}; expected bool [{count}]."
            )
    return Executed(actions=actions, states=states, human=human)


_COLUMNS = ("time", "state", "action", "wanted", "source", "events", "images")
MOST_TICKS = 10_000
"""In one message."""


@dataclass
class _Seen:
    observation: Observation
    images: dict[str, bytes]
    chunk: np.ndarray
    at: float


def _states(
    last: _Seen, now: _Seen, count: int, executed: Executed | None
) -> tuple[np.ndarray, np.ndarray]:
    """[ticks, state] before each tick, and whether it was measured."""
    if executed is not None and executed.states is not None:
        return executed.states, np.ones(count, bool)
    before, after = last.observation.state, now.observation.state
    share = (np.arange(count) / count)[:, None].astype(np.float32)
    return before + share * (after - before), np.arange(count) == 0


def _matrix(message: Mapping[str, object], key: str, width: int) -> np.ndarray:
    value = message[key]
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.ndim == 2:
        matrix = value.astype(np.float32)
        fits = 0 < len(matrix) <= MOST_TICKS and matrix.shape[1] == width
        if fits and np.isfinite(matrix).all():
            return matrix
    held = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
    raise RequestError(f"key {key!r} is {held:.80}; expected finite numbers of [ticks, {width}].")


def _jpegs(observation: Observation, terms: Terms) -> dict[str, bytes]:
    return {
        camera: simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=terms.jpeg_quality)
        for camera, image in observation.images.items()
    }
