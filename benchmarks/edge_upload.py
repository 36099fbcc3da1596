"""How fast an edge client empties the spools of 16 robots: one upload at a time, and several.

Real episodes of 100 KB go to a real service on SQLite, once with the store in a folder of this
machine, once with store and service behind a link: an S3 gateway, 20 ms each way for every 16 KiB
of a connection. Both ways of uploading take turns. `python -m benchmarks.edge_upload` writes
benchmarks/results/edge_upload.md.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.ingest import plane
from benchmarks.latency.robots import episode
from benchmarks.record import REPOSITORY, header
from lwd.chaos.links import Links, Weather
from lwd.edge.spool import Spool, spools
from lwd.edge.uploader import AT_ONCE, Uploader
from lwd.episode.payload import encode
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects

sys.path.insert(0, str(REPOSITORY / "tests"))
from s3_gateway import CREDENTIALS, s3_gateway

OUT = REPOSITORY / "benchmarks" / "results" / "edge_upload.md"
ROBOTS, EPISODES, SIZE = 16, 6, 100_000
TURNS, DELAY_S = 3, 0.02
WIDTHS = (1, AT_ONCE)


def fill(folder: Path) -> list[Spool]:
    """Spools with what robots made while nobody uploaded."""
    for number in range(ROBOTS):
        name = f"robot-{number:02d}"
        with Spool(folder / name) as spool:
            for _ in range(EPISODES):
                made = episode(name, SIZE)
                spool.save(made.header.episode_id, encode(made))
    return spools(folder)


def empty(sources: Sequence[Spool], uploader: Uploader) -> float:
    """Episodes acknowledged per second until nothing waits."""
    waiting, began, stop = (
        sum(len(spool.pending()) for spool in sources),
        time.perf_counter(),
        threading.Event(),
    )
    while any(spool.pending() for spool in sources):
        uploader.sweep(sources, stop)
    return waiting / (time.perf_counter() - began)


def rates(root: Path, objects: str, service: str) -> dict[int, list[float]]:
    """Episodes/s by the number of uploads at once, in turns."""
    found: dict[int, list[float]] = {width: [] for width in WIDTHS}
    for turn in range(TURNS):
        for width in WIDTHS:
            sources = fill(root / f"spool-{turn}-{width}")
            with ServiceClient(service) as client:
                uploader = Uploader(Objects(objects), client, at_once=width)
                found[width].append(empty(sources, uploader))
    return found


def rows(name: str, found: dict[int, list[float]]) -> list[str]:
    """Lines of the table."""
    ratio = statistics.median(b / a for a, b in zip(*found.values(), strict=True))
    lines = []
    for width, seen in found.items():
        middle, more = statistics.median(seen), f"{ratio:.1f}" if width > 1 else ""
        lines.append(
            f"| {name} | {width} | {middle:.1f} | {min(seen):.1f} to {max(seen):.1f} | {more} |"
        )
    return lines


def main() -> None:
    """Measure and write the page."""
    os.environ |= CREDENTIALS
    lines = []
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = stack.enter_context(plane(root, f"sqlite:///{root / 'catalog.db'}")).config
        lines += rows("this machine", rates(root / "near", config.objects, config.service_url))
        store = stack.enter_context(s3_gateway())
        links = stack.enter_context(Links())
        bucket, _, _ = store.create().partition("?")
        far = f"{bucket}?endpoint={links.add('objects', store.endpoint)}"
        service = links.add("service", config.service_url)
        for name in links.names:
            links.set(name, Weather(delay_s=DELAY_S))
        lines += rows("behind a link", rates(root / "far", far, service))
    text = (
        f"# Uploads at once\n\n{header('python -m benchmarks.edge_upload')}\n"
        f"{ROBOTS} robots with {EPISODES} episodes of {SIZE // 1000} KB each, one edge client; "
        f"{TURNS} turns of each way, one after the\nother. The ratio is the median over turns. "
        "The client begins with one at a time in every turn, and\nadds one as each arrives.\n\n"
        "| store and service | at once | episodes/s, median | slowest to fastest | ratio |\n"
        "|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )
    OUT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
