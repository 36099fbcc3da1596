"""What replay costs a learner: one batch, one sync, one episode taken in, and arrivals meanwhile.

A synthetic data set of the simulator's sizes (10 Hz, H = 10) in a temporary folder: SQLite catalog
and local objects. Costs are measured with downloads in place. Then a learner that draws a batch
every `UPDATE_S` and looks at the catalog at every 20th, as `lwd learner` does, is timed with its
prefetcher process, in turns without and with a process that commits snapshots. `python -m
benchmarks.replay_sampling` writes benchmarks/results/replay_sampling.md.
"""

import select
import statistics
import subprocess
import sys
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
from lwd.learner.train import LOAD_S
from lwd.replay.reader import Options, Reader
from lwd.replay.sampler import EVEN, NStep, Sampling
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of

EPISODES, TICKS, ACTION = 500, 300, 16
TASKS = ("restocking", "freezer", "tea", "juice", "cocktail", "shoes", "correction", "cooler")
BATCH = 256
MIXTURE = {"offline": 0.5, "online": 0.5}
BALANCED, ADAPTIVE = Sampling(task_balanced=True), Sampling(loss_adaptive=1.0)
UPDATE_S, LOOK_EVERY, TURN_S, TURNS = 0.05, 20, 15.0, 6
"""Time that a learner's update would take, updates between two looks, and turns with and without
arrivals."""
ARRIVALS_S, AT_ONCE = 1.0, 8
"""Time between two snapshots that arrive, and their episodes: 16 robots with episodes of 2 s."""


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
    updates = iter(range(10**9))
    size = len(payloads[0])
    by_task: dict[str, int] = dict.fromkeys(TASKS[4:], 10)

    def batch(sampling: Sampling = EVEN, n_step: NStep = 1) -> Callable[[], object]:
        """Draws a batch, and says its losses where that is of use."""

        def call() -> None:
            update = next(updates)
            drawn = reader.sample(update, MIXTURE, BATCH, n_step=n_step, sampling=sampling)
            if sampling.loss_adaptive:
                reader.feedback(update, np.abs(drawn.state[:, 0]))

        return call

    both = Sampling(task_balanced=True, loss_adaptive=1.0)
    rows = [
        f"| batch of {BATCH}, H = 10, offline and online 1:1 | " + timed(batch(), 1000),
        "| the same, task-balanced, n-step by task | " + timed(batch(BALANCED, by_task), 1000),
        "| the same, loss-adaptive, with feedback | " + timed(batch(ADAPTIVE), 1000),
        "| the same, loss-adaptive and task-balanced | " + timed(batch(both), 1000),
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
    fleet.catalog.close()
    return [f"{row} |" for row in rows]


episode_zero = episode(0)


def arrive(folder: Path) -> None:
    """A process of its own: commits new episodes until its stdin closes, once it has said so."""
    fleet, number = Fleet(folder), EPISODES + 20
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], ARRIVALS_S)[0]:
        fleet.commit([encode(episode(number + i)) for i in range(AT_ONCE)])
        number += AT_ONCE


def stalls(folder: Path) -> list[str]:
    """Rows of the table: what an update waits for data, with and without arrivals."""
    fleet = Fleet(folder)
    reader = Reader(
        fleet.catalog,
        fleet.objects,
        folder / "learner",
        horizon=COMPACT.horizon,
        discount=COMPACT.discount(),
    )
    while reader.sync() == 0:
        time.sleep(0.05)
    waits: dict[bool, list[float]] = {False: [], True: []}
    seen: dict[bool, set[int]] = {False: set(), True: set()}
    updates = iter(range(10**9))
    for turn in range(TURNS):
        arrivals = bool(turn % 2)
        command = [sys.executable, "-c", _ARRIVE, str(folder)] if arrivals else ["cat"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe if arrivals else None) as other:
            if other.stdout is not None:
                other.stdout.readline()  # on a busy machine its imports take as long as a turn
            end = time.monotonic() + TURN_S
            while time.monotonic() < end:
                waits[arrivals].append(_update(reader, next(updates)))
                seen[arrivals].add(reader.version)
            assert other.stdin is not None
            other.stdin.close()
    reader.close()
    fleet.catalog.close()
    return [
        f"| {name} | {len(waits[arrivals])} | {max(1, len(seen[arrivals])) - 1} | "
        + " | ".join(f"{1e3 * q:.2f}" for q in np.quantile(waits[arrivals], (0.5, 0.99, 1.0)))
        + " |"
        for name, arrivals in (("nothing arrives", False), ("snapshots arrive", True))
    ]


_ARRIVE = """
import sys
from pathlib import Path
from benchmarks.replay_sampling import arrive
arrive(Path(sys.argv[1]))
"""


def _update(reader: Reader, update: int) -> float:
    """Seconds that an update waits for its data; the rest of it is slept."""
    start = time.perf_counter()
    if update % LOOK_EVERY == 0:
        reader.sync(within_s=LOAD_S)
    reader.sample(update, MIXTURE, BATCH)
    waited = time.perf_counter() - start
    reader.load(LOAD_S)  # while the device computes
    time.sleep(max(0.0, UPDATE_S - (time.perf_counter() - start)))
    return waited


def main() -> None:
    """Measure and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
        waits = stalls(Path(folder))
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
            f"An update that draws every {UPDATE_S * 1e3:.0f} ms and looks at the catalog at every "
            f"{LOOK_EVERY}th, in {TURNS} turns of {TURN_S:.0f} s, without and with a process that "
            f"commits a snapshot of {AT_ONCE} episodes every {ARRIVALS_S:.0f} s. What it waits for "
            "data, in milliseconds:",
            "",
            "| while | updates | new snapshots bound | median | 99th percentile | longest |",
            "|---|---|---|---|---|---|",
            *waits,
            "",
        ]
    )
    path = Path(__file__).parent / "results" / "replay_sampling.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
