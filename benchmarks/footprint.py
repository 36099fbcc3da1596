"""What each process of the plane costs: to start, at rest, and while robots deliver.

Cheap robots, which save real episodes of a few kilobytes as fast as they can, are the load; all
processes are those that an operator starts, on SQLite and a local folder. `python -m
benchmarks.footprint` writes benchmarks/results/footprint.md.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.record import REPOSITORY, header
from lwd.chaos.worker import Role, command
from lwd.config import PlaneConfig
from lwd.store.catalog import Catalog

sys.path.insert(0, str(REPOSITORY / "tests"))
from processes import answers, free_port, wait_until

OUT = REPOSITORY / "benchmarks" / "results" / "footprint.md"
ROBOTS, REST_S, LOAD_S = 4, 20.0, 40.0
START_S = 120.0


@dataclass
class Part:
    """A process with its children, and what was measured of it."""

    name: str
    process: subprocess.Popen
    wall_s: float = 0.0
    """From the start until it says or shows that it is ready."""
    start_cpu_s: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Cores in use, on average."""

    def family(self) -> list[psutil.Process]:
        """The process and its children."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """Processor time so far."""
        times = [process.cpu_times() for process in self.family()]
        return sum(t.user + t.system for t in times)

    def memory_mb(self) -> float:
        """Memory that would be free without it."""
        return sum(process.memory_full_info().uss for process in self.family()) / 1e6


class Plane:
    """Starts parts and measures them together."""

    def __init__(self, root: Path, stack: ExitStack):
        self._root, self._stack = root, stack
        self.parts: list[Part] = []

    def start(self, name: str, line: Sequence[object], ready: Callable[[Path], bool]) -> None:
        """Start a part and wait until it is ready."""
        path, began = self._root / f"{name}.log", time.monotonic()
        with path.open("ab") as out:
            process = subprocess.Popen([*map(str, line)], stdout=out, stderr=out)
        self._stack.callback(_end, process)
        part = Part(name, process)
        wait_until(lambda: ready(path), name, START_S)
        part.wall_s, part.start_cpu_s = time.monotonic() - began, part.cpu_s()
        self.parts.append(part)

    def measure(self, when: str, seconds: float) -> None:
        """Memory and processor time of every part over a while."""
        before, began = {part.name: part.cpu_s() for part in self.parts}, time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        for part in self.parts:
            part.cpu[when] = (part.cpu_s() - before.get(part.name, 0.0)) / took
            part.memory[when] = part.memory_mb()


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(30)


def _says(words: str) -> Callable[[Path], bool]:
    return lambda path: words in path.read_text(errors="replace")


def services(plane: Plane, config: PlaneConfig) -> None:
    """All parts but the robots."""
    lwd, root = [sys.executable, "-m", "lwd"], ["--root", config.root]
    urls = ["--queue-url", config.queue_url]
    service = ["--service-url", config.service_url]
    port = urlsplit(config.queue_url).port
    plane.start(
        "queue", [*lwd, "queue", *root, "--port", port], lambda _: answers(config.queue_url)
    )
    line = [*lwd, "service", *root, *urls, *service]
    plane.start("service", line, lambda _: answers(config.service_url))
    line = [*lwd, "coordinator", *root, *urls]
    plane.start("coordinator", line, _says("lease acquired"))
    plane.start("edge", [*lwd, "edge", *root, *service], _says("start spool"))
    plane.start("reader with prefetcher", _line(config, "learner", 0), _says("start cache"))


def robots(plane: Plane, config: PlaneConfig) -> None:
    """Robots that save an episode about three times a second."""
    for index in range(ROBOTS):
        plane.start(f"robot {index}", _line(config, "robot", index), _says("episode saved"))


def _line(config: PlaneConfig, work: str, index: int) -> list[str]:
    name, root = f"{work}-{index}", config.root
    role = Role(
        name=name,
        work=work,
        plane=config,
        journal=str(root / "witness" / name),
        clock=str(root / "skew" / name),
        index=index,
        episodes=1_000_000,
        tick_s=0.02,
        simulated=False,
    )
    return command(role, root / "roles")


def page(parts: Sequence[Part], counted: Mapping[str, float]) -> str:
    """The table."""
    lines = []
    for part in parts:
        rest = (
            f"{part.memory['rest']:.0f} | {part.cpu['rest']:.3f}" if "rest" in part.cpu else "- | -"
        )
        load = f"{part.memory['load']:.0f} | {part.cpu['load']:.3f}"
        more = part.cpu["load"] - part.cpu.get("rest", 0.0)
        per = 1e3 * more / counted["rate"] if counted["rate"] else 0.0
        lines.append(
            f"| {part.name} | {part.wall_s:.1f} | {part.start_cpu_s:.2f} | {rest} | {load} | "
            f"{per:.1f} |"
        )
    return (
        f"# Footprint\n\n{header('python -m benchmarks.footprint')}\n"
        f"Under load {counted['rate']:.1f} episodes/s came from {ROBOTS} robots, for {LOAD_S:g} s. "
        "Memory is what a process does not share\n(USS), CPU is in cores, both with children. The "
        f"load average was {counted['busy']:.0f} before: times to start are those of a machine\n"
        "that had other work; processor times are not much changed by it. The last column is "
        "what an episode of all robots adds to\nthe time at rest. A robot is ready when its "
        "first episode is saved.\n\n"
        "| process | ready after, s | CPU s to start | memory at rest, MB | CPU at rest | "
        "memory under load, MB | CPU under load | CPU ms/episode |\n"
        "|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def main() -> None:
    """Measure and write the page."""
    busy = psutil.getloadavg()[0]
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = PlaneConfig(
            root=root,
            queue_url=f"nats://127.0.0.1:{free_port()}",
            service_url=f"http://127.0.0.1:{free_port()}",
        )
        plane = Plane(root, stack)
        services(plane, config)
        plane.measure("rest", REST_S)
        publisher = subprocess.Popen(_line(config, "publisher", 0), stderr=subprocess.DEVNULL)
        stack.callback(_end, publisher)
        robots(plane, config)
        with Catalog(config.catalog) as catalog:
            wait_until(lambda: catalog.count_episodes() >= ROBOTS, "the first episodes", START_S)
            before = catalog.count_episodes()
            plane.measure("load", LOAD_S)
            rate = (catalog.count_episodes() - before) / LOAD_S
    OUT.write_text(page(plane.parts, {"rate": rate, "busy": busy}))
    print(OUT.read_text())


if __name__ == "__main__":
    main()
