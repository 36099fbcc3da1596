"""The fleet's page with 1,000 robots: first paint, all robots in the table, updates per second.

`python -m benchmarks.dashboard` writes benchmarks/results/dashboard.md. A catalog of synthetic
robots and episodes, the real metadata service's heartbeats, the real page, Debian's chromium
without a window. Everything shares this machine: the browser competes with the servers for cores.
"""

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import insert

from benchmarks.record import header
from lwd.config import PlaneConfig
from lwd.dashboard.board import Board
from lwd.dashboard.serve import serve
from lwd.store.catalog import Catalog
from lwd.store.engine import transaction
from lwd.store.heartbeats import STATES, Beat
from lwd.store.migrate import open_engine
from lwd.store.process import listen
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow
from lwd.store.schema import episodes, loads
from lwd.store.service import Parts, create_app

COMMAND = "python -m benchmarks.dashboard"
OUT = Path(__file__).parent / "results" / "dashboard.md"
ROBOTS, EPISODES = 1_000, 100_000
PAINTS = 7
WINDOW_S = 10.0
TASKS = ("restocking", "freezer", "tea", "shoes")
WATCH = """
window.seen = { updates: 0, blocked: 0, full: null };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) seen.blocked += entry.duration;
}).observe({ type: "longtask" });
document.addEventListener("DOMContentLoaded", () => new MutationObserver((records) => {
  const rows = new Set();
  for (const record of records) {
    const at = record.target.nodeType === 1 ? record.target : record.target.parentElement;
    const row = at?.closest("#robot-table tbody tr");
    if (row) rows.add(row);
  }
  seen.updates += rows.size;
  if (seen.full === null && document.querySelectorAll("#robot-table tbody tr").length >= ROBOTS)
    requestAnimationFrame(() => { seen.full ??= performance.now(); });
}).observe(document.body, { subtree: true, childList: true, characterData: true }));
"""


def fill(plane: PlaneConfig) -> None:
    """Robots that have each loaded a policy, and episodes of the last day."""
    now = time.time()
    with Catalog(plane.catalog) as catalog:
        catalog.publish_weights(
            WeightsRow(version=0, sha256="a" * 64, size_bytes=1, snapshot=0, stage="sft", update=1)
        )
    engine = open_engine(plane.catalog)
    reports = [LoadRow(robot=f"robot-{k:04d}", version=1, loaded_at=now) for k in range(ROBOTS)]
    with transaction(engine, write=True) as connection:
        connection.execute(insert(loads), [asdict(report) for report in reports])
        connection.execute(insert(episodes), [asdict(_episode(k, now)) for k in range(EPISODES)])
    engine.dispose()


def _episode(number: int, now: float) -> EpisodeRow:
    at = now - 86_400 * (1 - number / EPISODES)
    outcome = "success" if number % 5 else "failure"
    return EpisodeRow(
        episode_id=f"{number:032x}",
        sha256=f"{number:064x}",
        size_bytes=1,
        robot=f"robot-{number % ROBOTS:04d}",
        task=TASKS[number % ROBOTS % len(TASKS)],
        instruction="do it",
        kind="online",
        policy_version=1,
        outcome=outcome,
        terminated=True,
        truncated=False,
        ticks=300,
        rate_hz=10.0,
        horizon=10,
        produced_at=at,
        inserted_at=at,
    )


@contextmanager
def beating(plane: PlaneConfig, every_s: float) -> Iterator[str]:
    """URL of a metadata service at which all robots change their state once in `every_s`."""
    with Catalog(plane.catalog) as catalog, listen("127.0.0.1", 0, what="service") as socket:
        parts, stop = Parts(catalog=catalog), threading.Event()
        app = create_app(catalog, parts)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        threads = [
            threading.Thread(target=server.run, args=[[socket]]),
            threading.Thread(target=_beat, args=[parts, every_s, stop]),
        ]
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            stop.set()
            server.should_exit = True
            for thread in threads:
                thread.join()


def _beat(parts: Parts, every_s: float, stop: threading.Event) -> None:
    turn = 0
    while not stop.wait(every_s):
        turn += 1
        for number in range(ROBOTS):
            state = STATES[(turn + number) % 2]
            beat = Beat(robot=f"robot-{number:04d}", state=state, at=time.time(), pending=turn % 9)
            parts.beats.note(replace(beat, policy_version=1))


@contextmanager
def shown(plane: PlaneConfig, every_s: float) -> Iterator[str]:
    """URL of the page."""
    stop, ready = threading.Event(), Future()

    def run() -> None:
        serve(plane, "http://127.0.0.1:0", every_s=every_s, stop=stop, started=ready.set_result)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(60)
    finally:
        stop.set()
        thread.join()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Chromium without a window, with the counters of `WATCH` in every page."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        raise SystemExit("No chromium here: apt-get install chromium chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument("--window-size=1280,900")
    opened = webdriver.Chrome(options=options, service=Service(driver))
    source = {"source": WATCH.replace("ROBOTS", str(ROBOTS))}
    opened.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
    try:
        yield opened
    finally:
        opened.quit()


def paint(driver: webdriver.Chrome, url: str) -> tuple[float, float]:
    """Milliseconds to the first contentful paint and to the frame with every robot."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.get("about:blank")
    driver.get(url)
    WebDriverWait(driver, 60, 0.05).until(lambda d: d.execute_script("return seen.full"))
    script = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return driver.execute_script(script), driver.execute_script("return seen.full")


def updates(driver: webdriver.Chrome, url: str) -> tuple[float, float]:
    """Rows of robots written anew in a second, and the share of time in long tasks (> 50 ms)."""
    paint(driver, url)
    driver.execute_script("seen.updates = 0; seen.blocked = 0")
    started = time.monotonic()
    time.sleep(WINDOW_S)
    seen = driver.execute_script("return seen")
    wall = time.monotonic() - started
    return seen["updates"] / wall, seen["blocked"] / 1000 / wall


def look(plane: PlaneConfig) -> tuple[float, float]:
    """CPU milliseconds of the first look and of one that finds every robot changed."""
    engine, turn = open_engine(plane.catalog), [0]

    def beats() -> list[Beat]:
        turn[0] += 1
        return [
            Beat(robot=f"robot-{k:04d}", state="acting", at=0.0, pending=turn[0])
            for k in range(ROBOTS)
        ]

    board = Board(engine, plane.root, beats, time.time)
    first = _cpu_ms(board.look)
    later = statistics.median(_cpu_ms(board.look) for _ in range(20))
    engine.dispose()
    return first, later


def _cpu_ms(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Measure, print, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        plane = PlaneConfig(root=Path(folder))
        fill(plane)
        first_look, later_look = look(plane)
        with browser() as driver:
            with beating(plane, 5.0) as service, shown(_at(plane, service), 1.0) as url:
                paints = [paint(driver, url) for _ in range(PAINTS)]
            with beating(plane, 1.0) as service, shown(_at(plane, service), 1.0) as url:
                usual = updates(driver, url)
            with beating(plane, 0.1) as service, shown(_at(plane, service), 0.02) as url:
                most = updates(driver, url)
    first, full = (statistics.median(column) for column in zip(*paints, strict=True))
    text = (
        f"# The fleet's page with {ROBOTS:,} robots and {EPISODES:,} episodes\n\n"
        f"{header(COMMAND)}\nChromium without a window, on the same cores as the servers; medians "
        f"of {PAINTS} loads with an empty cache.\n\n| what | measured |\n|---|---|\n"
        f"| first contentful paint | {first:.0f} ms |\n"
        f"| a frame with all {ROBOTS:,} robots in the table | {full:.0f} ms |\n"
        f"| every robot changes once a second, page looks once a second | {usual[0]:.0f} rows/s "
        f"written, {usual[1]:.0%} of the time in tasks over 50 ms |\n"
        f"| every robot changes ten times a second, page looks as often as it can | {most[0]:.0f} "
        f"rows/s written, {most[1]:.0%} in tasks over 50 ms |\n"
        f"| CPU of the server's first look | {first_look:.0f} ms |\n"
        f"| CPU of a look that finds every robot changed | {later_look:.0f} ms |\n"
    )
    OUT.write_text(text)
    print(text)


def _at(plane: PlaneConfig, service: str) -> PlaneConfig:
    return replace(plane, service_url=service)


if __name__ == "__main__":
    main()
