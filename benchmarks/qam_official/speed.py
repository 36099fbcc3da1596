"""Time of one update of the authors' agent and of ours, on the same nets in the same run.

    python -m benchmarks.qam_official.speed REPOSITORY PYTHON_OF_ITS_ENVIRONMENT [--sizes small]

The authors' code needs an old JAX (README.md beside this file), so it runs in a process of its own,
and so does ours; ours also runs under their JAX, which leaves the algorithm as the only difference.
The processes take turns. Writes benchmarks/results/qam_speed.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import REPOSITORY, header

SIZES = {"small": (128, 2, 2), "large": (512, 4, 2), "official": (512, 4, 10)}
"""Width, layers and critics; the last is the configuration of their paper."""
OLD = ("official:10", "official:4", "euler:10", "bridge:10", "euler:4", "bridge:4")
NEW = ("euler:10", "bridge:10", "euler:4", "bridge:4")
BASE = ("old", "official:10")
Variant = tuple[str, str]


class Worker(NamedTuple):
    """A process that holds compiled updates."""

    process: subprocess.Popen
    facts: dict[str, dict[str, Any]]

    def time(self, name: str, repetitions: int) -> list[dict[str, float]]:
        """Times of so many updates in a row."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {repetitions}\n")
        self.process.stdin.flush()
        return _read(self.process)


def _read(process: subprocess.Popen) -> Any:
    """Next line of a worker."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"worker {process.args} ended with {process.wait()}; its error is above.")
    return json.loads(line)


def start(python: str, repository: str, sizes: tuple[int, ...], names: tuple[str, ...]) -> Worker:
    """A worker that has compiled everything."""
    command = [python, "-m", "benchmarks.qam_official.worker", repository, *map(str, sizes), *names]
    paths = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'src'}"
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
    )
    return Worker(process, {name: _read(process) for name in names})


def measure(
    workers: dict[str, Worker], rounds: int, repetitions: int
) -> dict[Variant, list[dict[str, float]]]:
    """Median of every variant in every round; in a round each has its turn once."""
    turns = [(side, name) for side, worker in workers.items() for name in worker.facts]
    times: dict[Variant, list[dict[str, float]]] = {turn: [] for turn in turns}
    for number in range(rounds):
        for side, name in turns if number % 2 == 0 else reversed(turns):
            found = workers[side].time(name, repetitions)
            times[side, name].append(
                {key: statistics.median(each[key] for each in found) for key in found[0]}
            )
    return times


def table(workers: dict[str, Worker], times: dict[Variant, list[dict[str, float]]]) -> str:
    """Medians over rounds; ratios are medians of the ratios within a round."""
    lines = [
        "| update | T | JAX | clock | processor | against official, T = 10: clock, processor "
        "| against official, same T: processor | temporary memory | compilation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (side, name), rounds in times.items():
        kind, steps = name.split(":")
        facts = workers[side].facts[name]
        wall, processor = (
            statistics.median(each[key] for each in rounds) for key in ("wall", "processor")
        )
        ten = [_ratio(rounds, times[BASE], key) for key in ("wall", "processor")]
        same = _ratio(rounds, times["old", f"official:{steps}"], "processor")
        lines.append(
            f"| {kind} | {steps} | {facts['jax']} | {wall:.1f} ms | {processor:.1f} ms "
            f"| {ten[0]:.2f}, {ten[1]:.2f} | {same:.2f} | {facts['temporary_mib']:.1f} MiB "
            f"| {facts['compile_s']:.1f} s |"
        )
    return "\n".join(lines)


def _ratio(rounds: list[dict[str, float]], base: list[dict[str, float]], key: str) -> float:
    return statistics.median(a[key] / b[key] for a, b in zip(rounds, base, strict=True))


def compare(given: argparse.Namespace, name: str) -> str:
    """One section: start both workers, let them take turns, end them."""
    sizes = SIZES[name]
    workers: dict[str, Worker] = {}
    try:
        workers["old"] = start(given.python, given.repository, sizes, OLD)
        workers["new"] = start(sys.executable, given.repository, sizes, NEW)
        times = measure(workers, given.rounds, given.repetitions)
    finally:
        for worker in workers.values():
            worker.process.terminate()
            worker.process.wait()
    width, layers, critics = sizes
    title = f"## {name}: {layers} layers of {width}, {critics} critics"
    return f"{title}\n\n{table(workers, times)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time against the authors' QAM code.")
    parser.add_argument("repository", help="checkout of github.com/ColinQiyangLi/qam")
    parser.add_argument("python", help="interpreter of the environment that it runs in")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "large", "official"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    given.repository = str(Path(given.repository).absolute())
    sections = []
    for name in given.sizes:
        sections.append(compare(given, name))
        print(sections[-1], flush=True)
    command = "python -m benchmarks.qam_official.speed REPOSITORY PYTHON"
    words = (
        f"One update: critic from the policy's own next actions, flow matching of the cloned "
        f"policy, adjoint matching, one step of Adam; batch 256, 40 observations, 25 actions. "
        f"{given.rounds} rounds; in each, every variant is called {given.repetitions} times in a "
        f"row after one call for warm-up, and the order turns round. Ratios are medians over "
        f"rounds of the ratio within a round. Compilation and `processor` are processor time over "
        f"all threads, which other load on the machine moves less than the clock. The authors' "
        f"code runs with JAX 0.4.34 only."
    )
    body = "\n".join(sections)
    text = f"# Time of one update against the authors' code\n\n{header(command)}\n{words}\n\n{body}"
    (REPOSITORY / "benchmarks" / "results" / "qam_speed.md").write_text(text)


if __name__ == "__main__":
    main()
