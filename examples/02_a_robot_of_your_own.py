"""A robot of your own: an arm behind a TCP port, a policy that thinks long, and no stutter.

    python examples/02_a_robot_of_your_own.py [FOLDER]

What is yours is `TcpArm`: four calls and two attributes make a robot of an arm. Around it come, all
of `lwd`: limits and a watchdog (`GuardedRobot`), a person who takes over (`AttendedRobot`), chunks
that are planned while the arm moves (`RealtimePolicy`), and the process that records episode after
episode into a spool, from which `lwd edge` carries them to the fleet. Replace `fake_arm` by your
controller's address, and `Thinker` by `lwd.serve.client.RemotePolicy` or by the fleet's weights.
"""

import base64
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from fake_arm import HEIGHT, JOINTS, WIDTH, fake_arm

from lwd.actor.attended import AttendedRobot
from lwd.actor.devices.fed import FedDevice
from lwd.actor.loop import HELD
from lwd.actor.policy import Policy
from lwd.actor.process import Rig, main
from lwd.actor.realtime import RealtimePolicy
from lwd.actor.robot import Observation, Status, Task, Tick
from lwd.actor.safety import ActionLimits, GuardedRobot
from lwd.config import ActorConfig, ControlConfig, PlaneConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import decode
from lwd.episode.types import Episode
from lwd.serve.client import Elsewhere

CONTROL = ControlConfig(rate_hz=20.0, horizon=30)
"""Twenty targets a second; a chunk is one and a half seconds long."""
NEAR = 0.03
"""The goal is reached when every joint is so near, in rad."""
LIMITS = ActionLimits(
    lowest=np.full(JOINTS, -1.0, np.float32),
    highest=np.full(JOINTS, 1.0, np.float32),
    step=np.full(JOINTS, 0.35 / CONTROL.rate_hz, np.float32),
)
"""Range in rad, and 0.35 rad/s."""

SPEED = 0.4
"""rad/s that the policy wants: more than the limits allow."""


class TcpArm:
    """`lwd.actor.robot.Robot`: the state is joints and goal [12], an action the joints' targets."""

    robot_id = "arm-1"
    control = CONTROL

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=5.0)
        self._lines = self._socket.makefile("rw")
        self._lock = threading.Lock()  # the watchdog may stop the arm from its own thread
        self._due = 0.0
        self._seen: Observation | None = None

    def reset(self, seed: int) -> Task:
        """Go back to the start. A real arm would drive there, and a person would set the scene."""
        self._ask(do="reset", seed=seed)
        self._due, self._seen = 0.0, None
        return Task(name="reach", instruction="reach the goal", time_limit_s=10.0, seed=seed)

    def observe(self) -> Observation:
        """With a picture: a policy is about to look. The tick that follows is recorded with it."""
        self._seen = self._observation(self._ask(do="observe", picture=True))
        return self._seen

    def apply(self, chunk: np.ndarray) -> list[Tick]:
        """A target each twentieth of a second, by the clock: what a call takes is not added."""
        ticks = []
        for target in chunk:
            now = time.monotonic()
            # An arm that has rested starts a new beat; one that is on its way keeps the old one.
            self._due = now if now - self._due > 1 / CONTROL.rate_hz else self._due
            felt = self._observation(self._ask(do="move", target=target.tolist()))
            before, self._seen = self._seen or felt, None
            self._due += 1 / CONTROL.rate_hz
            time.sleep(max(0.0, self._due - time.monotonic()))
            there = np.abs(felt.state[:JOINTS] - felt.state[JOINTS:]).max() < NEAR
            status = Status.SUCCESS if there else Status.RUNNING
            ticks.append(Tick(observation=before, action=target, status=status))
            if there:
                break
        return ticks

    def stop(self) -> None:
        """Hold the joints where they are; from any thread, at any time."""
        self._ask(do="stop")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def _ask(self, **request: object) -> dict:
        with self._lock:
            self._lines.write(json.dumps(request) + "\n")
            self._lines.flush()
            return json.loads(self._lines.readline())

    def _observation(self, said: dict) -> Observation:
        images = {}
        if "picture" in said:
            flat = np.frombuffer(base64.b64decode(said["picture"]), np.uint8)
            images = {"front": flat.reshape(HEIGHT, WIDTH, 3)}
        state = np.array([*said["joints"], *said["goal"]], np.float32)
        return Observation(state=state, images=images, time=time.time())


class Thinker:
    """A policy that takes its time, as a large model does, and is a little too bold for the arm."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def __init__(self, think_s: float) -> None:
        self._think_s = think_s

    def reset(self, seed: int) -> None:
        """It draws nothing."""

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """Straight to the goal; the joint with the longest way goes at `SPEED`."""
        time.sleep(self._think_s)
        joints, goal = observation.state[:JOINTS], observation.state[JOINTS:]
        ticks = np.arange(1, CONTROL.horizon + 1)[:, None]
        reach = np.abs(goal - joints).max() + 1e-6
        share = np.minimum(ticks * SPEED / (CONTROL.rate_hz * reach), 1.0)
        return (joints + share * (goal - joints)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of a few episodes."""

    episodes: list[Episode]
    slowest_s: float
    """Longest time between two targets."""
    held: int
    """Ticks without a plan."""
    halts: int
    """Times that the arm halted because nobody spoke to it."""


def drive(folder: Path, think_s: float, *, ahead: bool, episodes: int) -> Found:
    """Episodes of the arm into a spool, planning `ahead` or while it stands and waits."""
    stop = threading.Event()
    # A loop that waits for its policy is silent meanwhile; one that plans ahead never is.
    silence_s = 0.5 if ahead else think_s + 0.5
    with fake_arm() as (arm, address):
        yours = TcpArm(address)
        guarded = GuardedRobot(yours, LIMITS, range(JOINTS), stop=stop, silence_s=silence_s)
        robot = AttendedRobot(guarded, FedDevice(), range(JOINTS), stop=stop)
        thinker = Thinker(think_s)

        def around(policy: Policy) -> Policy:
            return RealtimePolicy([policy], CONTROL) if ahead else policy

        rig = Rig(
            robot=lambda: robot,
            operator=lambda robot, rng: robot,
            policies=lambda: Elsewhere(thinker),
            around=around,
        )
        actor = ActorConfig(robot=yours.robot_id, kind="online", episodes=episodes)
        main(actor, PlaneConfig(root=folder), rig, stop=stop)
        guarded.close()
        yours.close()
    with Spool(folder / "spool" / yours.robot_id) as spool:
        done = [decode(spool.path(episode_id)) for episode_id in spool.pending()]
    return Found(
        episodes=done,
        slowest_s=max(float(np.diff(episode.time).max()) for episode in done),
        held=sum(HELD in events for episode in done for events in episode.events),
        halts=arm.halts,
    )


def run(folder: Path, think_s: float = 0.7, episodes: int = 2) -> dict[str, Found]:
    """The same arm and policy, waiting and planning ahead; prints what a control tick is like."""
    found = {}
    for name, ahead in (("waiting", False), ("ahead", True)):
        found[name] = one = drive(folder / name, think_s, ahead=ahead, episodes=episodes)
        ended = ", ".join(
            f"{episode.header.outcome} in {episode.time[-1] - episode.time[0]:.1f} s"
            for episode in one.episodes
        )
        print(
            f"{name}: {ended}; longest pause between two targets {one.slowest_s * 1e3:.0f} ms "
            f"(a tick is {1e3 / CONTROL.rate_hz:.0f} ms), {one.held} ticks without a plan"
        )
    return found


if __name__ == "__main__":
    run(Path(sys.argv[1]) if sys.argv[1:] else Path(mkdtemp()))
