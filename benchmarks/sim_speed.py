"""What a simulated second costs, per task and control rate, with and without images.

`python -m benchmarks.sim_speed` runs on one core and writes benchmarks/results/sim_speed.md.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.record import header
from lwd.actor.loop import run_episode
from lwd.actor.operator import Demonstration
from lwd.config import CONTROL, ControlConfig
from lwd.episode.types import Kind
from lwd.sim.cameras import CAMERAS
from lwd.sim.expert import Expert
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.tasks import TASKS

RESETS = 20
SECONDS = 10
SIZES = (96, 224)
FLEET_H = {
    **dict.fromkeys(("restocking", "correction", "freezer", "cooler"), 15 / 4),
    **dict.fromkeys(("tea", "juice", "cocktail", "shoes"), 45 / 4),
}
"""Robot hours of each task in 60 hours of the fleet: 4 robots on short tasks, 12 on long."""


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


def demonstrated(task: str, control: ControlConfig, size: int, episodes: int) -> float:
    """CPU seconds per robot second of recorded demonstrations, images of `size` once a chunk."""
    cameras = CAMERAS if size else ()
    robot = SimRobot(task, control=control, cameras=cameras, image_size=size or 96)
    robot.reset(0)
    robot.observe()  # compiles the scene and opens the renderer
    ticks = 0

    def record(seed: int) -> None:
        nonlocal ticks
        operator = Demonstration(partial(Expert, robot, np.random.default_rng(seed)))
        episode = run_episode(robot, seed, None, operator, kind=Kind.DEMO)
        assert episode is not None
        ticks += episode.ticks

    spent = cpu_s(lambda: [record(seed) for seed in range(episodes)])
    return spent * control.rate_hz / ticks


def measure(task: str, control: ControlConfig, episodes: int) -> tuple[list[float], float]:
    """CPU seconds per robot second: arms only, no images, and each of SIZES; and of a reset."""
    robot = SimRobot(task, control=control)
    robot.reset(0)
    reset = cpu_s(lambda: [robot.reset(seed) for seed in range(RESETS)]) / RESETS
    costs = [cpu_s(lambda: stirred(robot, SECONDS)) / SECONDS]
    return costs + [demonstrated(task, control, size, episodes) for size in (0, *SIZES)], reset


def main() -> None:
    """Measure all tasks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=4, help="demonstrations of each cell")
    episodes = parser.parse_args().episodes
    rows: list[str] = []
    hours = {name: np.zeros(1 + len(SIZES)) for name in CONTROL}
    for task in TASKS:
        for name, control in CONTROL.items():
            costs, reset = measure(task, control, episodes)
            speeds = " | ".join(f"{1 / cost:.0f}" for cost in costs)
            rows.append(f"| {task} | {name} | {speeds} | {reset * 1e3:.1f} |")
            hours[name] += FLEET_H[task] * np.array(costs[1:])
            print(rows[-1], flush=True)
    images = " | ".join(f"3 x {size} px" for size in SIZES)
    page = [
        "# Speed of the simulator",
        "",
        header(f"python -m benchmarks.sim_speed --episodes {episodes}"),
        f"Simulated seconds per second of CPU time of one process, MuJoCo {version('mujoco')}.",
        f"*Arms only*: both hands swing above the table for {SECONDS} s, goods asleep. The others:",
        f"recorded demonstrations, {episodes} a cell (noise, kinematics, predicates, states), "
        "without",
        "images and with those of three cameras as JPEG at the beginning of every chunk.",
        "",
        f"| task | rate | arms only | no images | {images} | reset, CPU ms |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "CPU hours for 60 hours of the paper's fleet (4 robots on the short tasks, 12 on the long",
        "ones), which two cores share:",
        "",
        f"| rate | no images | {images} |",
        "|---|---|---|---|",
        *(f"| {n} | {' | '.join(f'{h:.1f}' for h in spent)} |" for n, spent in hours.items()),
        "",
    ]
    path = Path(__file__).parent / "results" / "sim_speed.md"
    path.write_text("\n".join(page))
    print("\n".join(page))


if __name__ == "__main__":
    main()
