"""`python -m benchmarks.latency [NAME ...]`: scenarios by name, all without any."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.latency.link import inside, shaped
from benchmarks.latency.page import page, rows
from benchmarks.latency.plan import Scenario, notes, write
from benchmarks.record import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests"))
from s3_gateway import CREDENTIALS

RESULTS = REPOSITORY / "benchmarks" / "results" / "latency.md"
LINK = {"episode_bytes": 20_000_000, "period_s": 60.0, "episodes": 3}
EXPERT = {"policy_bytes": 860_000_000, "robots": 1, "episodes": 1, "versions": 2}
SCENARIOS = (
    Scenario(name="one host"),
    Scenario(name="one host, 20 MB", episode_bytes=20_000_000, period_s=30.0, episodes=4),
    Scenario(name="link, BBR", control="bbr", **LINK),
    Scenario(name="link, Reno", control="reno", **LINK),
    Scenario(name="expert over the link, BBR", control="bbr", **EXPERT),
    Scenario(name="expert over the link, Reno", control="reno", **EXPERT),
)
READY_S, DEADLINE_S = 120.0, 1800.0


def measure(scenario: Scenario) -> dict[str, list[float]]:
    """Seconds of every episode and of every policy on every robot, and what publishing took."""
    link = shaped(scenario.shape, control=scenario.control) if scenario.control else None
    with tempfile.TemporaryDirectory() as name, link or nullcontext(("", "")) as (near, far):
        folder = Path(name)
        write(scenario, folder)
        fleet = _start(near, "fleet", folder)
        robots = None
        try:
            _wait(lambda: (folder / "ready").exists(), READY_S, fleet)
            robots = _start(far, "robots", folder)
            if robots.wait(DEADLINE_S):
                raise SystemExit("the robots failed; their words are above.")
            (folder / "gone").touch()
            if fleet.wait(DEADLINE_S):
                raise SystemExit("the fleet failed; its words are above.")
        finally:
            for process in (robots, fleet):
                if process is not None and process.poll() is None:
                    process.terminate()
                    process.wait(30)
        return _found(folder)


def _found(folder: Path) -> dict[str, list[float]]:
    published = {entry["version"]: entry for entry in notes(folder / "published.jsonl")}
    arrived, fetched = notes(folder / "robots.jsonl"), notes(folder / "fetched.jsonl")
    return {
        "episode to learner": [entry["seconds"] for entry in notes(folder / "episodes.jsonl")],
        "model to actor": [e["at"] - published[e["version"]]["done"] for e in arrived],
        "publishing": [e["done"] - e["started"] for e in published.values()],
        "fetching": [e["last_byte"] - e["began"] for e in fetched],
        "CPU of fetching": [e["cpu"] for e in fetched],
    }


def _start(namespace: str, part: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", f"benchmarks.latency.{part}", str(folder)]
    environment = os.environ | CREDENTIALS | {"LWD_LOG": "WARNING"}
    return subprocess.Popen([*inside(namespace), *command], cwd=REPOSITORY, env=environment)


def _wait(condition, seconds: float, process: subprocess.Popen) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit("the fleet did not start; its words are above.")
        time.sleep(0.1)


def main(names: Sequence[str]) -> None:
    """Measure what is named; the results of the others stay as they were. `page` only writes."""
    store = RESULTS.with_suffix(".json")
    if strange := set(names) - {s.name for s in SCENARIOS} - {"page"}:
        raise SystemExit(f"{strange}: there are {', '.join(s.name for s in SCENARIOS)}, page.")
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        load = os.getloadavg()[0]
        found = measure(scenario)
        print(*rows(scenario, found, load), sep="\n", flush=True)
        kept = json.loads(store.read_text()) if store.exists() else {}
        kept[scenario.name] = {"found": found, "load": load}
        store.write_text(json.dumps(kept) + "\n")
    kept = json.loads(store.read_text()) if store.exists() else {}
    RESULTS.write_text(page(SCENARIOS, kept, "python -m benchmarks.latency"))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *signal: sys.exit(1))
    main(sys.argv[1:])
