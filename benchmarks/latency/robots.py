"""The robots' side of a scenario, each robot with its spool, uploader and policy store.

`python -m benchmarks.latency.robots FOLDER` until all episodes are delivered and all versions are
there.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes  # noqa: F401  # the policies are bfloat16
import numpy as np

from benchmarks.latency.plan import Scenario, note, notes, read
from lwd.actor.policy import PolicyStore
from lwd.edge.spool import Spool
from lwd.edge.uploader import Uploader, run
from lwd.episode.payload import encode, new_id
from lwd.episode.types import Episode, Header, Kind, Outcome, Source
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects
from lwd.store.rows import WeightsRow
from lwd.store.weights import Metadata, Tensors, evict, fetch

TICKS, KEPT_EVERY = 300, 10
JPEG = b"\xff\xd8\xff\xe0"


class Verified:
    """A policy that was fetched and verified, and never acts."""

    normalisation_hash = tokenizer_hash = ""

    def __init__(self, version: int):
        self.version = version

    def reset(self, seed: int) -> None:
        """Nothing to do."""

    def chunk(self, observation: object, instruction: str) -> np.ndarray:
        """Never asked."""
        raise NotImplementedError


class Timed(Objects):
    """Remembers when its last bytes came."""

    last_byte = 0.0

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        """As `Objects.get_range`."""
        data = super().get_range(key, offset, size)
        self.last_byte = time.time()
        return data


def episode(robot: str, size: int) -> Episode:
    """A 30 s episode of about `size` bytes, nearly all of them images."""
    kept = range(0, TICKS + 1, KEPT_EVERY)
    image = JPEG + os.urandom(max(1, size // len(kept) - 2_000))
    now = time.time()
    return Episode(
        header=Header(
            episode_id=new_id(),
            robot=robot,
            task="restocking",
            instruction="put the red can on the shelf",
            kind=Kind.PLAY,
            policy_version=0,
            rate_hz=10.0,
            horizon=10,
            seed=0,
            outcome=Outcome.SUCCESS,
            terminated=True,
            truncated=False,
            started_at=now - 30.0,
            ended_at=now,
        ),
        time=now - 30.0 + 0.1 * np.arange(TICKS + 1),
        state=np.zeros((TICKS + 1, 8), np.float32),
        action=np.zeros((TICKS, 8), np.float32),
        action_policy=np.full((TICKS, 8), np.nan, np.float32),
        source=np.full(TICKS, Source.PLAY, np.uint8),
        events=((),) * TICKS,
        images={"head": tuple(image if t in kept else None for t in range(TICKS + 1))},
    )


def act(folder: Path, scenario: Scenario, place: int, over: threading.Event) -> None:
    """One robot: an episode now and then, the newest policy at each boundary."""
    service, objects = (folder / "ready").read_text().split("\n")[:2]
    name, files = f"robot-{place:02d}", folder / f"robot-{place:02d}"
    store = Timed(objects)

    def _download(row: WeightsRow) -> tuple[Tensors, Metadata]:
        began, used = time.time(), time.process_time()
        found = fetch(store, row, folder=files / "weights")
        evict(files / "weights", keep={row.sha256})
        fetched = {"began": began, "last_byte": store.last_byte, "cpu": time.process_time() - used}
        note(folder / "fetched.jsonl", robot=name, version=row.version, **fetched)
        return found

    def _build(tensors: Tensors, metadata: Metadata, version: int) -> Verified:
        note(folder / "robots.jsonl", robot=name, version=version, at=time.time())
        return Verified(version)

    with (
        ServiceClient(service, robot=name) as client,
        ServiceClient(service, robot=name) as rows,
        Spool(files / "spool" / name) as spool,
        PolicyStore(name, client, _download, _build) as policies,
    ):
        note(folder / "up.jsonl", robot=name)
        stop = threading.Event()
        uploading = threading.Thread(target=run, args=(spool, Uploader(store, rows), stop))
        uploading.start()
        try:
            _record(scenario, place, name, spool, policies)
            while spool.pending() or not over.is_set():
                policies.swap()
                time.sleep(0.2)
        finally:
            stop.set()
            uploading.join()


def _record(scenario: Scenario, place: int, name: str, spool: Spool, policies: PolicyStore) -> None:
    """The episodes of one robot; the robots take turns."""
    begin = time.monotonic() + scenario.period_s * place / scenario.robots
    for number in range(scenario.episodes):
        time.sleep(max(0.0, begin + number * scenario.period_s - time.monotonic()))
        made = episode(name, scenario.episode_bytes)
        spool.save(made.header.episode_id, encode(made))
        policies.swap()


def main(folder: Path, scenario: Scenario) -> None:
    """All robots; an error of one ends all."""
    over = threading.Event()
    with ThreadPoolExecutor(scenario.robots) as pool:
        robots = [
            pool.submit(act, folder, scenario, place, over) for place in range(scenario.robots)
        ]
        try:
            while len(notes(folder / "robots.jsonl")) < scenario.robots * scenario.versions:
                for robot in robots:
                    if robot.done():
                        robot.result()
                time.sleep(0.2)
        finally:
            over.set()
        for robot in robots:
            robot.result()


if __name__ == "__main__":
    here = Path(sys.argv[1])
    main(here, read(here))
