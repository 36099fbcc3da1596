"""A simulated robot: `lwd.actor.robot.Robot` on top of a scene."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lwd.actor.devices.page import Steering
from lwd.actor.metronome import Metronome
from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.config import ControlConfig
from lwd.config.require import require
from lwd.sim.body import JOINT_LIMIT, MAX_OPENING, MAX_SPEED
from lwd.sim.cameras import Cameras, require_cameras
from lwd.sim.scene import ACTION, REST, Scene, SceneMoment
from lwd.sim.score import Scorer, Tally
from lwd.sim.task import TaskSpec, draw_variation
from lwd.sim.tasks import task as find_task
from lwd.sim.things import Thing

_LOWEST = np.tile(np.append(-JOINT_LIMIT, 0.0), 2)
_HIGHEST = np.tile(np.append(JOINT_LIMIT, MAX_OPENING), 2)

_LARGEST_IMAGE = 480
"""Side of the largest square in MuJoCo's framebuffer, pixels."""


class Moment(NamedTuple):
    """A robot and its world at one time."""

    scene: SceneMoment
    tick: int
    target: np.ndarray
    status: Status
    held: frozenset[Thing]
    fallen: frozenset[Thing]
    tally: Tally | None


class SimRobot:
    """A dual-arm robot that draws a task and a layout from each seed.

    Physics is deterministic: the same seed and the same actions give the same states, bit for bit.
    `pace` holds it back to some time per tick; None is as fast as possible.
    """

    def __init__(
        self,
        task: str | tuple[str, ...],
        *,
        control: ControlConfig,
        robot_id: str = "sim-0",
        held_out: bool = False,
        cameras: tuple[str, ...] = (),
        image_size: int = 96,
        pace: Metronome | None = None,
    ) -> None:
        names = (task,) if isinstance(task, str) else task
        require(len(names) > 0, f"robot {robot_id} has no tasks; give at least one.")
        fits = 1 <= image_size <= _LARGEST_IMAGE
        require(fits, f"image_size is {image_size}; expected 1 to {_LARGEST_IMAGE} pixels.")
        self._specs = [find_task(name) for name in names]
        self._scenes: dict[str, Scene] = {}
        self._eyes: dict[str, Cameras] = {}
        require_cameras(cameras)
        self.cameras, self._image_size = cameras, image_size
        self._pace = pace
        self.control = control
        self.image_every = 0
        """Ticks between images that nobody asked for by `observe`; 0 is once a chunk."""
        self.robot_id = robot_id
        self.held_out = held_out
        self.episode = 0
        """Number of resets so far."""
        self.status = Status.RUNNING
        self.spec: TaskSpec
        self.scene: Scene
        self.target = REST.copy()
        """[action] joint targets in force."""
        self._tick = 0
        self._observation: Observation | None = None
        self._held: set[Thing] = set()
        self._fallen: set[Thing] = set()
        self._scorer: Scorer | None = None

    def reset(self, seed: int) -> Task:
        """Draw task, layout, wording and slot order from the seed and set the scene."""
        require(seed >= 0, f"seed is {seed}; it must not be negative.")
        rng = np.random.default_rng(seed)
        self.spec = self._specs[rng.integers(len(self._specs))]
        if self.spec.name not in self._scenes:
            self._scenes[self.spec.name] = Scene(self.spec, self.control.timestep_s)
        self.scene = self._scenes[self.spec.name]
        layout = replace(self.spec.draw(rng, self.held_out), variation=draw_variation(rng))
        slots = [layout.items[i].thing for i in rng.permutation(len(layout.items))]
        template = self.spec.templates[rng.integers(len(self.spec.templates))]
        self.scene.reset(layout, slots)
        self.episode += 1
        self.status = Status.RUNNING
        self.target = REST.copy()
        self._tick = 0
        self._observation = None
        self._held, self._fallen = set(), set()
        self._scorer = Scorer(self.scene) if self.spec.scored else None
        if self._pace:
            self._pace.start()
        return Task(
            name=self.spec.name,
            instruction=template.format(item=layout.target.name, **layout.words),
            time_limit_s=self.spec.time_limit_s,
            seed=seed,
        )

    def save(self) -> "Moment":
        """This moment of the episode, to which `restore` comes back any number of times."""
        return Moment(
            scene=self.scene.save(),
            tick=self._tick,
            target=self.target.copy(),
            status=self.status,
            held=frozenset(self._held),
            fallen=frozenset(self._fallen),
            tally=self._scorer.save() if self._scorer else None,
        )

    def restore(self, moment: "Moment") -> None:
        """Back to a moment of the running episode; ValueError if it is of another one."""
        self.scene.restore(moment.scene)
        self._tick, self.status = moment.tick, moment.status
        self.target = moment.target.copy()
        self._held, self._fallen = set(moment.held), set(moment.fallen)
        if self._scorer and moment.tally:
            self._scorer.restore(moment.tally)
        self._observation = None

    @property
    def elapsed_s(self) -> float:
        """Robot seconds since the reset."""
        return self._tick / self.control.rate_hz

    def observe(self) -> Observation:
        """The state now, with the images that the robot was made for."""
        if self._observation is None:
            self._observation = Observation(state=self._state(), images=self._render())
        return self._observation

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """Execute [ticks, action] targets.

        An observation has images where `observe` was asked for it, and every `image_every` ticks
        after the reset; once a chunk, only where a call of `apply` begins. Rendering is most of the
        cost of a tick, and nobody keeps more.

        Targets are cut to joint limits and top speed; a tick holds what was executed. Raises
        ValueError on a wrong shape or a number that is not finite.
        """
        chunk = np.asarray(chunk, np.float32)
        if chunk.ndim != 2 or chunk.shape[1] != ACTION or not np.isfinite(chunk).all():
            raise ValueError(
                f"chunk has shape {chunk.shape} and {np.sum(~np.isfinite(chunk))} non-finite "
                f"numbers; expected finite [ticks, {ACTION}]."
            )
        ticks: list[Tick] = []
        for wanted in chunk:
            if self.status is not Status.RUNNING:
                break
            ticks.append(self._step(wanted, self._sensed(first=not ticks)))
            if self._pace:
                self._pace.wait()
        return ticks

    def stop(self) -> None:
        """Hold the arms where they are."""
        self.target = self.scene.posture().astype(np.float32)

    def steering(self) -> Steering:
        """How a person moves it from afar: by its hands."""
        from lwd.sim.steering import HandSteering

        return HandSteering(self)

    def _sensed(self, *, first: bool) -> Observation:
        """What is known before a tick, `first` of a call."""
        looks = first or self.image_every > 0
        due = self._tick % (self.image_every or self.control.horizon) == 0
        if self._observation is None and not (looks and due):
            return Observation(state=self._state())
        return self.observe()

    def _step(self, wanted: np.ndarray, observation: Observation) -> Tick:
        """Carry out one tick: the target moves in a straight line, physics follows."""
        reach = np.full(ACTION, MAX_SPEED / self.control.rate_hz)
        reach[7::8] = 2 * MAX_OPENING  # grippers may close at once
        target = np.clip(wanted, self.target - reach, self.target + reach)
        target = np.clip(target, _LOWEST, _HIGHEST).astype(np.float32)
        # Ticks end on whole physics steps; counting from the start keeps the rate exact.
        period = 1 / (self.control.rate_hz * self.control.timestep_s)
        steps = round((self._tick + 1) * period) - round(self._tick * period)
        self.scene.step(target, steps, self.target)
        self.target = target
        self._tick += 1
        self.status = self._judge()
        if self._scorer and self.status is not Status.INVALID:
            self._scorer.watch(target)
        # After a divergence the sensors keep their last sane reading.
        self._observation = observation if self.status is Status.INVALID else None
        return Tick(
            observation=observation,
            action=target,
            status=self.status,
            events=self._events(),
            substeps=self._scorer.scores if self._scorer else (),
        )

    def _judge(self) -> Status:
        if self.scene.diverged:
            return Status.INVALID
        if self.scene.reached == len(self.spec.subtasks):
            return Status.SUCCESS
        if self.spec.lost(self.scene):
            return Status.FAILURE
        if self.elapsed_s >= self.spec.time_limit_s:
            return Status.TIMEOUT
        return Status.RUNNING

    def _events(self) -> tuple[str, ...]:
        """What was picked up, let go or fell to the floor in this tick."""
        if self.status is Status.INVALID:
            return ("diverged",)
        items = [item.thing for item in self.scene.layout.items]
        held = {thing for thing in items if self.scene.lifted(thing)}
        fallen = {thing for thing in items if self.scene.position(thing)[2] < 0.5}
        events = [f"lifted:{thing.name}" for thing in items if thing in held - self._held]
        events += [f"released:{thing.name}" for thing in items if thing in self._held - held]
        events += [f"fell:{thing.name}" for thing in items if thing in fallen - self._fallen]
        self._held, self._fallen = held, fallen
        return tuple(events)

    def _state(self) -> np.ndarray:
        return self.scene.state(self.elapsed_s / self.spec.time_limit_s)

    def _render(self) -> dict[str, np.ndarray]:
        if not self.cameras:
            return {}
        name = self.spec.name
        if name not in self._eyes:
            self._eyes[name] = Cameras(self.scene, self.cameras, self._image_size)
        return self._eyes[name].images()
