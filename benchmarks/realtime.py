"""What a control loop is like while its policy thinks: waiting for each chunk, and planning ahead.

A robot that does nothing but keep its beat executes chunks of a policy that takes its time. What
is measured is the time between two targets, the ticks without a plan, and how far the target jumps
in one tick.
`python -m benchmarks.realtime` writes benchmarks/results/realtime.md.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.record import REPOSITORY, header
from lwd.actor.loop import HELD, run_episode
from lwd.actor.policy import Policy
from lwd.actor.realtime import Pace, RealtimePolicy
from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.config import ControlConfig
from lwd.episode.types import Episode, Kind

RATE_HZ = 30.0
SECONDS = 10.0
THINKS_S = (0.1, 0.3, 0.7)
NOISE = 0.05
"""Standard deviation of the constant by which each plan is off, in rad."""


class Beat:
    """A robot that carries out each target on the beat of its clock."""

    robot_id = "beat"

    def __init__(self, control: ControlConfig) -> None:
        self.control = control
        self.at: list[float] = []
        """When each target came."""
        self._due = 0.0

    def reset(self, seed: int) -> Task:
        """Start the clock."""
        self.at.clear()
        self._due = 0.0
        return Task(name="beat", instruction="go on", time_limit_s=SECONDS, seed=seed)

    def observe(self) -> Observation:
        """The number of the tick."""
        return Observation(state=np.array([len(self.at)], np.float32))

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """One target a beat."""
        ticks = []
        for target in chunk:
            now = time.monotonic()
            self._due = max(self._due, now - 1 / RATE_HZ) + 1 / RATE_HZ
            ticks.append(Tick(observation=self.observe(), action=target, status=Status.RUNNING))
            self.at.append(now)
            time.sleep(max(0.0, self._due - time.monotonic()))
        return ticks

    def stop(self) -> None:
        """It stands."""


class Thinker:
    """Plans a sine of 0.2 Hz from the tick that it sees, off by a constant, after a while."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def __init__(self, think_s: float, horizon: int) -> None:
        self._think_s, self._horizon = think_s, horizon
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """The same noise in every episode."""
        self._rng = np.random.default_rng(seed)

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, 1] rad."""
        off = self._rng.normal(0.0, NOISE)
        time.sleep(self._think_s)
        ticks = observation.state[0] + np.arange(self._horizon)
        return (np.sin(2 * np.pi * 0.2 * ticks / RATE_HZ) + off)[:, None].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How chunks are executed."""

    name: str
    horizon: int
    lanes: int
    """0 waits for each chunk."""
    blend: int = 5


WAYS = (
    Way(name="waiting", horizon=50, lanes=0),
    Way(name="planning ahead, not mixed", horizon=50, lanes=1, blend=0),
    Way(name="planning ahead", horizon=50, lanes=1),
    Way(name="planning ahead", horizon=30, lanes=1),
    Way(name="planning ahead, 3 lanes", horizon=30, lanes=3),
)


def drive(way: Way, think_s: float) -> tuple[Beat, Episode]:
    """One episode."""
    control = ControlConfig(rate_hz=RATE_HZ, horizon=way.horizon)
    robot = Beat(control)
    thinkers = [Thinker(think_s, way.horizon) for _ in range(max(way.lanes, 1))]
    policy: Policy = thinkers[0]
    if way.lanes:
        policy = RealtimePolicy(thinkers, control, Pace(blend=way.blend))
    episode = run_episode(robot, 0, policy, None, kind=Kind.ONLINE)
    assert episode is not None
    return robot, episode


def rows() -> Iterator[str]:
    """The table."""
    for think_s, way in itertools.product(THINKS_S, WAYS):
        robot, episode = drive(way, think_s)
        between = np.diff(robot.at) * 1e3
        held = sum(HELD in events for events in episode.events)
        jump = np.abs(np.diff(episode.action[:, 0])).max()
        yield (
            f"| {think_s:g} | {way.name} | {way.horizon} | {np.quantile(between, 0.5):.0f} | "
            f"{np.quantile(between, 0.99):.0f} | {between.max():.0f} | {held} of {episode.ticks} | "
            f"{jump:.3f} |"
        )


def report(table: Sequence[str], busy: float) -> str:
    """The page; `busy` is the load average before anything was measured."""
    smooth = 2 * np.pi * 0.2 / RATE_HZ
    return (
        "# Control while the policy thinks\n\n"
        + header("python -m benchmarks.realtime")
        + f"\nA robot at {RATE_HZ:g} Hz (a tick is {1e3 / RATE_HZ:.0f} ms) executes chunks of H "
        f"ticks for {SECONDS:g} s. The plans follow a sine, each off by a\nconstant of standard "
        f"deviation {NOISE:g} rad; without that the target never moves more than {smooth:.3f} rad "
        "a tick. The ms are between\ntwo targets; held are ticks without a plan, in which the last "
        "target is repeated. The load "
        f"average was {busy:.1f} before the first line.\n\n"
        "| plan takes s | loop | H | p50 ms | p99 ms | most ms | held | largest jump, rad |\n"
        "|---|---|---|---|---|---|---|---|\n" + "\n".join(table) + "\n"
    )


def main() -> None:
    """Measure and write the page."""
    busy = os.getloadavg()[0]
    table = []
    for row in rows():
        print(row, flush=True)
        table.append(row)
    path = REPOSITORY / "benchmarks" / "results" / "realtime.md"
    path.write_text(report(table, busy))


if __name__ == "__main__":
    main()
