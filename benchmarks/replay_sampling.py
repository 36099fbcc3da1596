"""What replay costs a learner: one batch, one sync, one episode taken in.

A synthetic data set of the simulator's sizes (10 Hz, H = 10) in a
temporary folder: SQLite catalog, local objects, downloads in place. `python -m
benchmarks.replay_sampling` writes benchmarks/results/replay_sampling.md.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import header
from lwd.config import COMPACT, StateLayout
from lwd.edge.announce import describe
from lwd.episode.payload import decode, encode, new_id
from lwd.episode.types import Episode, Header, Kind, Outcome
from lwd.replay.reader import Options, Reader
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of

EPISODES, TICKS, ACTION = 500, 300, 16
TASKS = ("restocking", "freezer", "tea", "juice", "cocktail", "shoes", "correction", "cooler")
BATCH = 256
MIXTURE = {"offline": 0.5, "online": 0.5}


def episode(index: int) -> Episode:
    """Random episode of the usual sizes."""
    random = np.random.default_rng(index)
    action = random.normal(size=(TICKS, ACTION)).astype(np.float32)
    return Episode(
        header=Header(
            episode_id=new_id(),
            robot="robot-1",
            task=TASKS[index % len(TASKS)],
            instruction=f"do the task {TASKS[index % len(TASKS)]}",
            kind=(Kind.DEMO, Kind.ROLLOUT, Kind.ONLINE, Kind.ONLINE)[index % 4],
            policy_version=1,
            rate_hz=COMPACT.rate_hz,
            horizon=COMPACT.horizon,
            seed=index,
            outcome=Outcome.SUCCESS,
            terminated=True,
            truncated=False,
            started_at=1.0,
            ended_at=1.0 + TICKS / COMPACT.rate_hz,
        ),
        time=1.0 + np.arange(TICKS + 1) / COMPACT.rate_hz,
        state=random.normal(size=(TICKS + 1, StateLayout().size)).astype(np.float32),
        action=action,
        action_policy=action,
        source=np.zeros(TICKS, np.uint8),
        events=((),) * TICKS,
    )


class Fleet:
    """Puts episodes where a reader finds them, one snapshot at a time."""

    def __init__(self, folder: Path):
        self.objects = Objects((folder / "objects").as_uri())
        self.catalog = Catalog(f"sqlite:///{folder / 'catalog.db'}")
        self._token = self.catalog.acquire_lease(COORDINATOR, "benchmark", 1e9)

    def commit(self, payloads: list[bytes]) -> None:
        """One snapshot."""
        ids = []
        for data in payloads:
            row = describe(decode(data), sha256=sha256_of(data), size_bytes=len(data))
            self.objects.put(episode_key(row.sha256), data)
            self.catalog.insert_episode(row)
            ids.append(row.episode_id)
        assert self._token is not None
        self.catalog.commit_snapshot(ids, token=self._token)


def timed(call: Callable[[], object], runs: int) -> str:
    """Median and 99th percentile in ms, after three calls that do not count."""
    seconds = []
    for number in range(runs + 3):
        start = time.perf_counter()
        call()
        if number >= 3:
            seconds.append(time.perf_counter() - start)
    ordered = sorted(seconds)
    worst = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"{statistics.median(seconds) * 1e3:.2f} | {worst * 1e3:.2f}"


def measure(folder: Path) -> list[str]:
    """Rows of the table."""
    payloads = [encode(episode(i)) for i in range(EPISODES + 20)]
    fleet = Fleet(folder)
    fleet.commit(payloads[:EPISODES])
    settings = {"horizon": COMPACT.horizon, "discount": COMPACT.discount()}
    reader = Reader(
        fleet.catalog,
        fleet.objects,
        folder / "cache",
        **settings,
        options=Options(prefetcher=False),
    )
    start = time.perf_counter()
    reader.sync()
    first = time.perf_counter() - start
    balanced = Reader(
        fleet.catalog,
        fleet.objects,
        folder / "cache",
        **settings,
        n_step=dict.fromkeys(TASKS[4:], 10),
        options=Options(prefetcher=False),
    )
    balanced.sync()
    updates = iter(range(10**9))
    size = len(payloads[0])
    rows = [
        f"| batch of {BATCH}, H = 10, offline and online 1:1 | "
        + timed(lambda: reader.sample(next(updates), MIXTURE, BATCH), 1000),
        f"| batch of {BATCH}, task-balanced, n-step by task | "
        + timed(lambda: balanced.sample(next(updates), MIXTURE, BATCH), 1000),
        "| batch of 2048 | " + timed(lambda: reader.sample(next(updates), MIXTURE, 2048), 200),
        "| sync when nothing is new | " + timed(reader.sync, 200),
    ]
    late = iter(payloads[EPISODES:])
    seconds = []
    for data in late:
        fleet.commit([data])
        start = time.perf_counter()
        reader.sync()
        seconds.append(time.perf_counter() - start)
    rows += [
        f"| sync that downloads and takes in one new episode of {size / 1e3:.0f} kB | "
        f"{statistics.median(seconds) * 1e3:.2f} | {max(seconds) * 1e3:.2f}",
        f"| first sync, per episode of {EPISODES} ({size * EPISODES / 1e6:.0f} MB) | "
        f"{first / EPISODES * 1e3:.2f} | ",
        f"| encode one episode ({TICKS} ticks, no images) | "
        + timed(lambda: encode(episode_zero), 200),
        "| decode and check one episode | " + timed(lambda: decode(payloads[0]), 200),
    ]
    reader.close()
    balanced.close()
    fleet.catalog.close()
    return [f"{row} |" for row in rows]


episode_zero = episode(0)


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    text = "\n".join(
        [
            "# Cost of replay",
            "",
            header("python -m benchmarks.replay_sampling"),
            f"{EPISODES} episodes of {TICKS} ticks, {StateLayout().size} state and {ACTION} action "
            f"numbers, {len(TASKS)} tasks; SQLite catalog and local objects. Milliseconds.",
            "",
            "| what | median | 99th percentile |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
    path = Path(__file__).parent / "results" / "replay_sampling.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
