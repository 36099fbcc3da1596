"""What a simulated second costs, per task and control rate, and how often the expert succeeds.

`python -m benchmarks.sim_speed` runs on one core and writes benchmarks/results/sim_speed.md.
"""

import time
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from benchmarks.record import header
from lwd.config import CONTROL, ControlConfig
from lwd.sim.measure import expert_success
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.tasks import TASKS

EPISODES = 20
RESETS = 50
SECONDS = 10


def cpu_s(work: Callable[[], object]) -> float:
    """Process time of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def stirred(robot: SimRobot, seconds: int) -> None:
    """Move both hands over the table, so that the arms' physics is at work but nothing else."""
    for k in range(round(seconds * robot.control.rate_hz)):
        target = REST.copy()
        target[[0, 8]] += 0.3 * np.sin(2 * np.pi * k / robot.control.rate_hz)
        robot.apply(target[None])


def row(task: str, name: str, control: ControlConfig) -> str:
    """Measure a task at a control rate: a line of the table."""
    robot = SimRobot(task, control=control)
    robot.reset(0)
    reset = cpu_s(lambda: [robot.reset(seed) for seed in range(RESETS)]) / RESETS
    stir = cpu_s(lambda: stirred(robot, SECONDS)) / SECONDS
    expert = expert_success(task, EPISODES, 0, control)
    return (
        f"| {task} | {name}: {control.rate_hz:g} Hz, {control.timestep_s * 1e3:g} ms "
        f"| {1 / stir:.0f} | {expert.mean_s / expert.cpu_s:.0f} | {expert.cpu_s:.2f} "
        f"| {expert.mean_s:.1f} | {expert.successes}/{expert.episodes} | {reset * 1e3:.1f} |"
    )


def main() -> None:
    """Measure all tasks and write the page."""
    lines = [
        "| task | control, physics step | sim s per CPU s: arms only | with the expert "
        "| CPU s per episode | robot s per episode | successes | reset, CPU ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        lines += [row(task, name, control) for name, control in CONTROL.items()]
    text = "\n".join(
        [
            "# Speed of the simulator",
            "",
            header("python -m benchmarks.sim_speed"),
            f"CPU time of one process, MuJoCo {mujoco.__version__}, no images. *Arms only*: both "
            f"hands swing above the table for {SECONDS} s, goods asleep. *With the expert*: "
            f"{EPISODES} noisy demonstrations (seeds 0 to {EPISODES - 1}), inverse kinematics, "
            "predicates and states included.",
            "",
            *lines,
            "",
        ]
    )
    path = Path(__file__).parent / "results" / "sim_speed.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
