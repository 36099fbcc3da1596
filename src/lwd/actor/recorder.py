"""Ticks of a running episode to `lwd.episode.types.Episode`."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import simplejpeg

from lwd.actor.policy import Policy
from lwd.actor.robot import Observation, Robot, Task, Tick
from lwd.episode import trace
from lwd.episode.payload import new_id
from lwd.episode.types import ENDS, Episode, Header, Kind, Outcome, Source


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How episodes are recorded."""

    held_out: bool = False
    """The scenes come from the held-out split; such episodes are never trained on."""
    image_every: int = 0
    """Keep images every so many ticks, besides those at planning ticks; 0 is once a chunk."""
    jpeg_quality: int = 90
    clock: Callable[[], float] = time.time
    """UTC seconds."""
    new_id: Callable[[], str] = new_id
    """Makes episode ids: 32 lower-case hex digits, never the same twice."""
    begun: Callable[[str, Task], None] | None = None
    """Gets the id and the task of each episode that begins."""
    ended: Callable[[Header], None] | None = None
    """Gets the header of each episode that has ended, also of those that are not kept."""
    draft: Callable[[int, Episode], None] | None = None
    """Takes each chunk's worth of ticks, numbered from 0, while the episode still runs."""


def begin_trace(header: Header) -> None:
    """The first span of an episode's trace: the episode itself."""
    trace.happened(
        "record",
        header.episode_id,
        header.started_at,
        header.ended_at,
        robot=header.robot,
        task=header.task,
        policy=header.policy_version,
        outcome=header.outcome,
    )


class Recorder:
    """Collects one episode."""

    def __init__(
        self, robot: Robot, task: Task, *, kind: Kind, policy: Policy | None, recording: Recording
    ) -> None:
        self._robot, self._task, self._kind, self._policy = robot, task, kind, policy
        self._recording = recording
        self._image_every = recording.image_every or robot.control.horizon
        self._started_at = recording.clock()
        self._episode_id = recording.new_id()
        self._drafted = 0
        self._observations: list[Observation] = []
        self._images: list[dict[str, bytes]] = []
        self._actions: list[np.ndarray] = []
        self._wanted: list[np.ndarray] = []
        self._sources: list[Source] = []
        self._events: list[tuple[str, ...]] = []
        self._substeps: tuple[float, ...] = ()
        if recording.begun is not None:
            recording.begun(self._episode_id, task)

    @property
    def ticks(self) -> int:
        """Ticks recorded so far."""
        return len(self._actions)

    def add(
        self, tick: Tick, *, source: Source, wanted: np.ndarray | None, planned: bool = False
    ) -> None:
        """Append a tick; `wanted` is the policy's action, None where it was not asked.

        `planned` marks the observation that a chunk was planned from: its images are kept.
        """
        keep = planned or self.ticks % self._image_every == 0
        self._sense(tick.observation, keep=keep)
        self._draft()
        action = np.asarray(tick.action, np.float32)
        self._actions.append(action)
        self._wanted.append(np.full_like(action, np.nan) if wanted is None else wanted)
        self._sources.append(source)
        self._events.append(tuple(tick.events))
        self._substeps = tick.substeps

    def finish(self, last: Observation, outcome: Outcome) -> Episode:
        """The episode; `last` was sensed after the last action. At least one tick is needed."""
        self._sense(last, keep=True)
        episode = self._episode(0, self.ticks, outcome)
        if self._recording.ended is not None:
            self._recording.ended(episode.header)
        return episode

    def _draft(self) -> None:
        """Hand over the ticks since the last time, once they are a chunk's worth."""
        first, end = self._drafted, self.ticks
        if self._recording.draft is None or end - first < self._robot.control.horizon:
            return
        number = first // self._robot.control.horizon
        self._recording.draft(number, self._episode(first, end, Outcome.INTERRUPTED))
        self._drafted = end

    def _episode(self, first: int, end: int, outcome: Outcome) -> Episode:
        """Ticks [first, end), with the observation after the last one."""
        observations, images = self._observations[first : end + 1], self._images[first : end + 1]
        return Episode(
            header=self._header(outcome),
            time=self._times()[first : end + 1],
            state=np.stack([seen.state for seen in observations]).astype(np.float32),
            action=np.stack(self._actions[first:end]),
            action_policy=np.stack(self._wanted[first:end]).astype(np.float32),
            source=np.array(self._sources[first:end], np.uint8),
            events=tuple(self._events[first:end]),
            images={
                camera: tuple(row.get(camera) for row in images)
                for camera in sorted(set().union(*images))
            },
        )

    def _sense(self, observation: Observation, *, keep: bool) -> None:
        # Kept without images: as sensed, those of an episode would fill the memory.
        self._observations.append(replace(observation, images={}))
        quality = self._recording.jpeg_quality
        images = observation.images.items() if keep else ()
        self._images.append(
            {
                camera: simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)
                for camera, image in images
            }
        )

    def _times(self) -> np.ndarray:
        """[T+1] the robot's own time stamps, or ticks counted at the control rate.

        Stamps that go back, as where somebody set the clock, are no reason to lose the episode.
        """
        stamps = [seen.time for seen in self._observations]
        measured = np.array([stamp for stamp in stamps if stamp is not None], np.float64)
        if len(measured) == len(stamps) and (np.diff(measured) > 0).all():
            return measured
        return self._started_at + np.arange(len(stamps)) / self._robot.control.rate_hz

    def _header(self, outcome: Outcome) -> Header:
        policy = self._policy
        return Header(
            episode_id=self._episode_id,
            robot=self._robot.robot_id,
            task=self._task.name,
            instruction=self._task.instruction,
            kind=self._kind,
            policy_version=policy.version if policy else 0,
            rate_hz=self._robot.control.rate_hz,
            horizon=self._robot.control.horizon,
            seed=self._task.seed,
            outcome=outcome,
            terminated=outcome in ENDS,
            truncated=outcome not in ENDS,
            started_at=self._started_at,
            ended_at=max(self._recording.clock(), self._started_at),
            held_out=self._recording.held_out,
            substeps=self._substeps,
            normalisation_hash=policy.normalisation_hash if policy else "",
            tokenizer_hash=policy.tokenizer_hash if policy else "",
        )
