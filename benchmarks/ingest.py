"""What the plane takes in: episodes whose payload and row are on disk and acknowledged, per second.

Robots are threads that do what an edge client does once it has read its spool: hash, store the
payload, insert the row through the service. Service and queue are processes of their own, every
commit and every payload is synced to the disk, PostgreSQL comes from its wheel. `python -m
benchmarks.ingest` writes benchmarks/results/ingest.md.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from sqlalchemy import insert, update

from benchmarks.record import REPOSITORY, header
from lwd.config import PlaneConfig
from lwd.errors import ServiceError
from lwd.store import schema as t
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.client import ServiceClient
from lwd.store.engine import transaction
from lwd.store.objects import Objects, episode_key, sha256_of
from lwd.store.process import allow_connections
from lwd.store.rows import EpisodeRow

# The servers are started as the tests start them.
sys.path.insert(0, str(REPOSITORY / "tests"))
from postgres import postgres_server
from processes import Processes, answers, free_port, wait_until

CLI = "logging.getLogger().setLevel(40); from lwd.cli import main; main()"
LOADS = {
    "100 KB": (100_000, (1, 10, 100, 1000)),
    "10 MB": (10_000_000, (1, 10, 100, 1000)),
}
"""Sizes in bytes and numbers of robots."""
MEMORY = 2_000_000_000
"""Bytes of payloads that all robots together hold at a time: they share this machine's memory."""
ATTEMPTS = 20
"""A robot repeats an insert whose connection broke, as edge clients do."""
SECONDS = 10.0
CONNECTIONS = 50
"""Robots that share a client, each on a connection of its own; a client takes time to make."""
CATALOGUED = (1_000, 10_000, 100_000)
SNAPSHOT = 64
ROUNDS = 10
TRANSACTIONS = ("insert", "forget notices", "find who waits", "snapshot", "read what it added")

ROW = EpisodeRow(
    episode_id="",
    sha256="",
    size_bytes=0,
    robot="",
    task="restocking",
    instruction="Put the can back on its shelf.",
    kind="online",
    policy_version=1,
    outcome="success",
    terminated=True,
    truncated=False,
    ticks=300,
    rate_hz=10.0,
    horizon=10,
    produced_at=0.0,
)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of the plane at once."""

    robots: int
    size_bytes: int
    seconds: float = SECONDS


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A running queue and service."""

    config: PlaneConfig
    processes: Processes

    def cpu_s(self) -> float:
        """Processor time of both so far; a busy machine changes it less than it changes rates."""
        started = [psutil.Process(process.pid) for process in self.processes.started]
        every = [p for parent in started for p in (parent, *parent.children(recursive=True))]
        return sum(times.user + times.system for times in (p.cpu_times() for p in every))


@contextmanager
def plane(root: Path, catalog_url: str) -> Iterator[Plane]:
    """Started for one load, and ended after it."""
    config = PlaneConfig(
        root=root,
        catalog_url=catalog_url,
        queue_url=f"nats://127.0.0.1:{free_port()}",
        service_url=f"http://127.0.0.1:{free_port()}",
    )
    processes, port, quiet = Processes(), config.queue_url.rsplit(":", 1)[1], "ERROR"
    urls = ("--queue-url", config.queue_url, "--service-url", config.service_url)
    try:
        processes.start(CLI, "queue", "--root", root, "--port", port, LWD_LOG=quiet)
        arguments = ("--root", root, "--catalog", config.catalog, *urls)
        processes.start(CLI, "service", *arguments, LWD_LOG=quiet)
        wait_until(
            lambda: answers(config.queue_url) and answers(config.service_url), "the plane", 120.0
        )
        yield Plane(config=config, processes=processes)
    finally:
        processes.close()


def deliver(config: PlaneConfig, load: Load) -> list[float]:
    """Seconds from payload to acknowledgement of every episode, and at last the whole time."""
    objects, pad = Objects(config.objects), os.urandom(load.size_bytes)
    began, seconds = [], []
    ready = threading.Barrier(load.robots, action=lambda: began.append(time.perf_counter()))
    room = threading.BoundedSemaphore(max(MEMORY // load.size_bytes, 1))

    def _robot(number: int, client: ServiceClient) -> None:
        client.healthy()
        ready.wait()
        end = time.perf_counter() + load.seconds
        while (start := time.perf_counter()) < end:
            with room:
                row = _put(objects, f"robot-{number}", pad)
            _insert(client, row)
            seconds.append(time.perf_counter() - start)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(load.robots))
        clients = [
            stack.enter_context(ServiceClient(config.service_url, timeout_s=120.0))
            for _ in range(0, load.robots, CONNECTIONS)
        ]
        robots = [
            pool.submit(_robot, number, clients[number // CONNECTIONS])
            for number in range(load.robots)
        ]
        for robot in robots:
            robot.result()
    return [*seconds, time.perf_counter() - began[0]]


def _put(objects: Objects, robot: str, pad: bytes) -> EpisodeRow:
    name = os.urandom(16)
    payload = name + pad[16:]
    sha256 = sha256_of(payload)
    objects.put(episode_key(sha256), payload)
    return replace(
        ROW,
        episode_id=name.hex(),
        sha256=sha256,
        size_bytes=len(payload),
        robot=robot,
        produced_at=time.time(),
    )


def _insert(client: ServiceClient, row: EpisodeRow) -> None:
    for attempt in range(ATTEMPTS):
        try:
            client.insert_episode(row)
            return
        except ServiceError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(0.05)


def fill(catalog: Catalog, count: int) -> None:
    """Catalogue episodes that are all in snapshots, past the interface that makes each durable."""
    have = catalog.count_episodes()
    with transaction(catalog._engine, write=True) as connection:
        version = catalog.snapshot_version()
        for first in range(have, count, SNAPSHOT):
            version += 1
            numbers = range(first, min(first + SNAPSHOT, count))
            rows = [
                asdict(replace(ROW, episode_id=f"{n:032x}", sha256=f"{n:064x}", size_bytes=1))
                for n in numbers
            ]
            snapshot = {"version": version, "added": len(rows), "token": 0, "committed_at": 0.0}
            connection.execute(insert(t.episodes), rows)
            connection.execute(insert(t.snapshots), [snapshot])
            members = [{"episode_id": row["episode_id"], "version": version} for row in rows]
            connection.execute(insert(t.members), members)
        moved = update(t.pointers).where(t.pointers.c.name == "snapshot")
        connection.execute(moved.values(version=version))


class Meter:
    """Milliseconds of each transaction that an episode takes part in, in one catalog."""

    def __init__(self, catalog: Catalog):
        self._catalog = catalog
        self._token = catalog.acquire_lease(COORDINATOR, "benchmark", 1e9) or 0
        self.found: dict[str, list[float]] = {name: [] for name in TRANSACTIONS}

    def one_round(self) -> None:
        """A snapshot's worth of episodes, from insertion to what a reader sees."""
        catalog, before = self._catalog, self._catalog.snapshot_version()
        rows = [
            replace(ROW, episode_id=os.urandom(16).hex(), sha256=os.urandom(32).hex())
            for _ in range(SNAPSHOT)
        ]
        for row in rows:
            self._time("insert", lambda row=row: catalog.insert_episode(row))
        notices = [notice.outbox_id for notice in catalog.unpublished(SNAPSHOT)]
        self._time("forget notices", lambda: catalog.mark_published(notices))
        self._time("find who waits", lambda: catalog.unsnapshotted(128))
        ids = [row.episode_id for row in rows]
        self._time("snapshot", lambda: catalog.commit_snapshot(ids, token=self._token))
        self._time(
            "read what it added", lambda: catalog.snapshot_episodes(before + 1, after=before)
        )

    def medians(self) -> list[float]:
        """In the order of TRANSACTIONS."""
        return [statistics.median(values) for values in self.found.values()]

    def _time(self, name: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        self.found[name].append((time.perf_counter() - start) * 1e3)


def throughput(name: str, catalog_url: Callable[[Path], str]) -> Iterator[str]:
    """Rows of the first table for one kind of catalog; each load has a plane of its own."""
    for size, (size_bytes, fleets) in LOADS.items():
        for robots in fleets:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder)
                with plane(root, catalog_url(root)) as running:
                    used = running.cpu_s()
                    load = Load(robots=robots, size_bytes=size_bytes)
                    *seconds, whole = deliver(running.config, load)
                    used = running.cpu_s() - used
            ordered = sorted(seconds)
            p99 = ordered[round(0.99 * (len(ordered) - 1))]
            rate = len(seconds) / whole
            yield (
                f"| {name} | {size} | {robots} | {rate:.1f} | {rate * size_bytes / 1e6:.1f} | "
                f"{statistics.median(ordered) * 1e3:.0f} | {p99 * 1e3:.0f} | "
                f"{used / len(seconds) * 1e3:.1f} |"
            )


def flatness(name: str, urls: dict[int, str]) -> Iterator[str]:
    """Rows of the second table for one kind of catalog, with a URL for each number of episodes.

    The catalogs take turns, so that whatever else the machine does meets all alike.
    """
    with ExitStack() as stack:
        meters = {}
        for count, url in urls.items():
            catalog = stack.enter_context(Catalog(url))
            fill(catalog, count)
            meters[count] = Meter(catalog)
        for _ in range(ROUNDS):
            for meter in meters.values():
                meter.one_round()
        for count, meter in meters.items():
            cells = " | ".join(f"{value:.2f}" for value in meter.medians())
            yield f"| {name} | {count:,} | {cells} |"


def report(rates: list[str], flat: list[str], busy: float) -> str:
    """The page; `busy` is the load average before anything was measured."""
    return (
        "# Ingest\n\n"
        + header("python -m benchmarks.ingest")
        + f"\nRobots are threads of one process on the same machine; each load ran {SECONDS:g} s. "
        "Acknowledged means that payload\nand row were synced to the disk. CPU is that of service "
        "and queue, not of the robots or PostgreSQL.\n"
        f"The load average was {busy:.1f} before the first load: above the number of cores, other "
        "work took its part, and the\nrates are what was left of the machine. Robots hold at most "
        f"{MEMORY / 1e9:g} GB of payloads together; the others\nwait for room, and their "
        "waiting counts.\n\n"
        "| catalog | episode | robots | episodes/s | MB/s | P50 ms | P99 ms | CPU ms/episode |\n"
        "|---|---|---|---|---|---|---|---|\n"
        + "\n".join(rates)
        + "\n\nMedian milliseconds of a transaction with so many episodes in the catalog already; "
        f"notices and snapshots of\n{SNAPSHOT} episodes; the catalogs took turns:\n\n"
        + f"| catalog | episodes | {' | '.join(TRANSACTIONS)} |\n"
        + "|---|---|---|---|---|---|---|\n"
        + "\n".join(flat)
        + "\n"
    )


def main() -> None:
    """Measure and write the page."""
    allow_connections()
    busy = os.getloadavg()[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres_server(durable=True))
        flat = [
            *flatness("SQLite", {n: f"sqlite:///{folder}/{n}.db" for n in CATALOGUED}),
            *flatness("PostgreSQL", {n: server.create() for n in CATALOGUED}),
        ]
        print(*flat, sep="\n", flush=True)
        rates = []
        for row in throughput("SQLite", lambda root: ""):
            rates.append(row)
            print(row, flush=True)
        for row in throughput("PostgreSQL", lambda root: server.create()):
            rates.append(row)
            print(row, flush=True)
    path = REPOSITORY / "benchmarks" / "results" / "ingest.md"
    path.write_text(report(rates, flat, busy))
    print(path)


if __name__ == "__main__":
    main()
