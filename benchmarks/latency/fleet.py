"""The fleet's side of a scenario: queue, service, coordinator, a learner's reader, a publisher.

`python -m benchmarks.latency.fleet FOLDER` until FOLDER/stop is there.
"""

import asyncio
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import ml_dtypes
import numpy as np

from benchmarks.latency.link import NEAR
from benchmarks.latency.plan import Scenario, note, notes, read
from benchmarks.record import REPOSITORY
from lwd.config import PlaneConfig
from lwd.replay.options import Options
from lwd.replay.reader import Reader
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from lwd.store.weights import Trained, publish

sys.path.insert(0, str(REPOSITORY / "tests"))
from processes import Processes, answers, free_port, wait_until
from s3_gateway import s3_gateway

CLI = "from lwd.cli import main; main()"
SYNC_S = 0.1
"""Pause between two looks of the reader, as between two updates of a learner."""
TENSORS = 20
WEIGHT_SD, STEP_SD = 0.02, 8e-5
"""Of a synthetic policy and of the change from version to version, which gives differences of
about the share that benchmarks/results/weights_delta.md has for trained policies."""
ARRIVE_S = 900.0


def serve(folder: Path, scenario: Scenario) -> None:
    """Start everything, let the robots come, measure until they have gone."""
    with ExitStack() as stack:
        config = _plane(folder, scenario, stack)
        processes = Processes()
        stack.callback(processes.close)
        _start(processes, config)
        catalog = stack.enter_context(Catalog(config.catalog))
        over = threading.Event()
        pool = stack.enter_context(ThreadPoolExecutor(2))
        stack.callback(over.set)
        following = pool.submit(_follow, folder, config, over)
        _tell(folder, scenario, config)
        publishing = pool.submit(_publish, folder, scenario, config, catalog)
        while not (folder / "gone").exists():
            for future in (following, publishing):
                if future.done():
                    future.result()
            time.sleep(0.2)
        publishing.result()
        expected = scenario.robots * scenario.episodes
        wait_until(lambda: len(catalog.availability()) >= expected, "the last episodes", ARRIVE_S)
        available = catalog.availability()
        for row in catalog.snapshot_episodes(catalog.snapshot_version()):
            took = available[row.episode_id] - row.produced_at
            note(folder / "episodes.jsonl", seconds=took, bytes=row.size_bytes)
        over.set()
        following.result()


def _plane(folder: Path, scenario: Scenario, stack: ExitStack) -> PlaneConfig:
    """The embedded defaults on one host; an S3 gateway where there is a link."""
    objects = ""
    if scenario.control:
        objects = stack.enter_context(s3_gateway()).create()
    return PlaneConfig(
        root=folder / "fleet",
        objects_url=objects,
        queue_url=f"nats://127.0.0.1:{free_port()}",
        service_url=f"http://127.0.0.1:{free_port()}",
    )


def _start(processes: Processes, config: PlaneConfig) -> None:
    root = ["--root", config.root]
    urls = ["--queue-url", config.queue_url]
    quiet = {"LWD_LOG": "WARNING"}
    processes.start(CLI, "queue", *root, "--port", urlsplit(config.queue_url).port, **quiet)
    service = ["service", *root, "--service-url", config.service_url, *urls]
    processes.start(CLI, *service, **quiet)
    coordinator = ["coordinator", *root, "--objects", config.objects, *urls]
    processes.start(CLI, *coordinator, **quiet)
    wait_until(lambda: answers(config.queue_url) and answers(config.service_url), "it", 120.0)


def _tell(folder: Path, scenario: Scenario, config: PlaneConfig) -> None:
    """Say where the robots find the service and the store."""
    service, objects = config.service_url, config.objects
    if scenario.control:
        for url in (service, urlsplit(objects).query.partition("=")[2]):
            forwarding = threading.Thread(target=_forward, args=(urlsplit(url).port,), daemon=True)
            forwarding.start()
        service = service.replace("127.0.0.1", NEAR)
        objects = objects.replace("127.0.0.1", NEAR)
    aside = folder / "ready.part"
    aside.write_text(f"{service}\n{objects}\n")
    aside.rename(folder / "ready")


def _forward(port: int) -> None:
    """Let the far end reach a server of the loopback."""

    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def _accept(up: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        down, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pump(up, forth), _pump(down, back))

    async def _serve() -> None:
        await (await asyncio.start_server(_accept, NEAR, port)).serve_forever()

    asyncio.run(_serve())


def _follow(folder: Path, config: PlaneConfig, over: threading.Event) -> None:
    """Bind new snapshots as a learner does; that an episode can be sampled is in the catalog."""
    with (
        Catalog(config.catalog) as catalog,
        Reader(
            catalog,
            Objects(config.objects),
            folder / "cache",
            horizon=10,
            discount=0.99,
            options=Options(prefetcher=True),
        ) as reader,
    ):
        while not over.wait(SYNC_S):
            reader.sync()


def _publish(folder: Path, scenario: Scenario, config: PlaneConfig, catalog: Catalog) -> None:
    """Publish version after version, each once all robots have the one before."""
    objects, rng = Objects(config.objects), np.random.default_rng(0)
    size = scenario.policy_bytes // 2 // TENSORS
    master = WEIGHT_SD * rng.standard_normal((TENSORS, size), np.float32)
    up = lambda: len(notes(folder / "up.jsonl")) == scenario.robots  # noqa: E731
    wait_until(up, "the robots to start", ARRIVE_S)
    for update in range(1, scenario.versions + 1):
        started = time.time()
        tensors = {f"layer-{k:02d}": row.astype(ml_dtypes.bfloat16) for k, row in enumerate(master)}
        row = publish(objects, catalog, tensors, {"m": "1"}, Trained("online", update, 0))
        done = time.time()
        del tensors
        note(folder / "published.jsonl", version=row.version, started=started, done=done)
        for tensor in master:
            tensor += STEP_SD * rng.standard_normal(size, np.float32)
        _await_robots(folder, row.version, scenario.robots)
        time.sleep(max(0.0, started + scenario.publish_s - time.time()))


def _await_robots(folder: Path, version: int, robots: int) -> None:
    """Return once so many robots have verified a version."""
    arrived = lambda: sum(e["version"] == version for e in notes(folder / "robots.jsonl"))  # noqa: E731
    wait_until(lambda: arrived() == robots, "the robots", ARRIVE_S)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *signal: sys.exit(1))  # its children end with it
    here = Path(sys.argv[1])
    serve(here, read(here))
