"""Robots fail like robots: a simulated robot to which things happen, at random but by its seed."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.config.fleet import DisturbanceConfig, Span
from lwd.sim.body import SIDES
from lwd.sim.robot import SimRobot
from lwd.sim.things import Thing


def cut_power() -> None:
    """End this process as a power cut does: at once, with nothing tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


Act = Callable[["TroubledRobot"], None]
"""Given the robot: a bound method would make a cycle of it, and the graphics context of its cameras
must not wait for whatever thread collects garbage, where it cannot be freed (EGL_BAD_ACCESS)."""


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something that starts, stops or strikes before a tick is carried out."""

    tick: int
    event: str
    """As it is recorded with the tick."""
    act: Act


class TroubledRobot:
    """A `SimRobot` with disturbances; `lwd.actor.robot.Robot` as that is.

    An episode's happenings are drawn when it starts, from its seed alone, and each is an event of
    the tick in which it starts or ends. What the recording says was executed is what the robot was
    told: that a gripper is stuck only its measured opening shows, as on a real robot.
    """

    def __init__(
        self,
        inner: SimRobot,
        disturbances: DisturbanceConfig,
        *,
        power: Callable[[], None] = cut_power,
    ) -> None:
        self.inner = inner
        self.robot_id, self.control = inner.robot_id, inner.control
        self._disturbances, self._power = disturbances, power
        self._rng = np.random.default_rng(0)
        self._ahead: list[Happening] = []
        self._tick = 0
        self._stopped = False
        self._seen: dict[str, np.ndarray] = {}
        self._frozen: dict[str, np.ndarray] = {}
        self._over: dict[str, float] = {}
        """When what was drawn last of each kind ends, in robot seconds."""

    def reset(self, seed: int) -> Task:
        """Set the scene and draw what will happen in it."""
        task = self.inner.reset(seed)
        self._tick, self._stopped = 0, False
        self._seen, self._frozen, self._over = {}, {}, {}
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
        drawn = self._draw(task.time_limit_s)
        self._ahead = sorted(drawn, key=lambda happening: happening.tick)
        return task

    def observe(self) -> Observation:
        """The state now, and the images of the cameras that are not frozen."""
        return self._through_cameras(self.inner.observe())

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute [ticks, action] targets, with what happens in the middle of them."""
        ticks: list[Tick] = []
        while len(ticks) < len(chunk) and not self._stopped:
            events = self._strike()
            until = self._ahead[0].tick if self._ahead else self._tick + len(chunk)
            rows = chunk[len(ticks) : len(ticks) + (1 if self._stopped else until - self._tick)]
            done = [self._as_sensed(tick) for tick in self.inner.apply(rows)]
            if not done:
                break
            done[0] = replace(done[0], events=(*events, *done[0].events))
            ticks += done
            self._tick += len(done)
        if ticks and self._stopped and ticks[-1].status is Status.RUNNING:
            ticks[-1] = replace(ticks[-1], status=Status.INTERRUPTED)
        return ticks

    def stop(self) -> None:
        """Hold the arms where they are."""
        self.inner.stop()

    def _strike(self) -> list[str]:
        """Let happen what is due; what it is called."""
        events = []
        while self._ahead and self._ahead[0].tick <= self._tick:
            happening = self._ahead.pop(0)
            happening.act(self)
            events.append(happening.event)
        return events

    def _draw(self, seconds: float) -> Iterator[Happening]:
        """All happenings of an episode of so many robot seconds."""
        wanted, rng, cameras = self._disturbances, self._rng, self.inner.cameras
        for span in self._spans(wanted.gripper_stuck_per_h, seconds, wanted.gripper_stuck_s):
            side = SIDES[rng.integers(len(SIDES))]
            names = f"gripper stuck:{side}", f"gripper free:{side}"
            acts = (partial(TroubledRobot._jam, side=side, stuck=stuck) for stuck in (True, False))
            yield from self._lasting(span, names, acts)
        often = wanted.camera_frozen_per_h if cameras else 0.0
        for span in self._spans(often, seconds, wanted.camera_frozen_s):
            camera = cameras[rng.integers(len(cameras))]
            names = f"camera frozen:{camera}", f"camera back:{camera}"
            acts = (
                partial(act, camera=camera) for act in (TroubledRobot._freeze, TroubledRobot._thaw)
            )
            yield from self._lasting(span, names, acts)
        for span in self._spans(wanted.pushes_per_h, seconds, wanted.push_s):
            scene = self.inner.scene
            things = [i.thing for i in scene.layout.items if scene.movable(i.thing)]
            thing, angle = things[rng.integers(len(things))], rng.uniform(0, 2 * np.pi)
            force = rng.uniform(*wanted.push_weights) * np.array(
                [np.cos(angle), np.sin(angle), 0.0]
            )
            names = f"pushed:{thing.name}", f"let be:{thing.name}"
            acts = (
                partial(TroubledRobot._push, thing=thing, weights=w) for w in (force, np.zeros(3))
            )
            yield from self._lasting(span, names, acts)
        for start, _ in self._spans(wanted.emergency_stops_per_h, seconds, (1.0, 1.0)):
            yield self._at(start, "emergency stop", TroubledRobot._press)
        for start, _ in self._spans(wanted.power_cycles_per_h, seconds, (1.0, 1.0)):
            yield self._at(start, "power cut", TroubledRobot._cut_power)

    def _spans(self, per_h: float, seconds: float, lasting: Span) -> list[tuple[float, float]]:
        """Starts and ends in robot seconds of a Poisson process."""
        starts = self._rng.uniform(0, seconds, self._rng.poisson(per_h * seconds / 3600))
        return [(start, start + self._rng.uniform(*lasting)) for start in sorted(starts.tolist())]

    def _lasting(
        self,
        span: tuple[float, float],
        names: tuple[str, str],
        acts: Iterable[Act],
    ) -> Iterator[Happening]:
        """How it starts and how it ends; nothing where the same is not over yet."""
        if span[0] < self._over.get(names[0], 0.0):
            return
        self._over[names[0]] = span[1]
        yield from map(self._at, span, names, acts)

    def _at(self, seconds: float, event: str, act: Act) -> Happening:
        return Happening(tick=round(seconds * self.control.rate_hz), event=event, act=act)

    def _jam(self, side: str, stuck: bool) -> None:
        self.inner.scene.jam(side, stuck=stuck)

    def _push(self, thing: Thing, weights: np.ndarray) -> None:
        self.inner.scene.push(thing, weights)

    def _freeze(self, camera: str) -> None:
        self._frozen[camera] = self._seen.get(camera, self.observe().images[camera])

    def _thaw(self, camera: str) -> None:
        del self._frozen[camera]

    def _press(self) -> None:
        self._stopped = True

    def _cut_power(self) -> None:
        self._power()

    def _as_sensed(self, tick: Tick) -> Tick:
        return replace(tick, observation=self._through_cameras(tick.observation))

    def _through_cameras(self, observation: Observation) -> Observation:
        images: Mapping[str, np.ndarray] = observation.images
        if not images:
            return observation
        images = {**images, **self._frozen}
        self._seen.update(images)
        return replace(observation, images=images)
