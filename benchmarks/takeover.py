"""Taking a robot over from the fleet's page: how long each way takes, and how soon a lost person
stops it.

`python -m benchmarks.takeover` writes benchmarks/results/takeover.md. The real metadata service,
page and robot's process, each in threads of this one; a simulated robot at real time with a policy
that holds it still; a client that says what a browser says, ten times a second.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np

from benchmarks.dashboard import beating, shown
from benchmarks.record import header
from lwd.actor.metronome import Metronome
from lwd.actor.process import Rig
from lwd.actor.process import main as run_robot
from lwd.config import COMPACT, ActorConfig, PlaneConfig, StateLayout
from lwd.config.guidance import GuidanceConfig
from lwd.serve.client import Elsewhere
from lwd.serve.rig import guided
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.store.catalog import Catalog

COMMAND = "python -m benchmarks.takeover"
OUT = Path(__file__).parent / "results" / "takeover.md"
ROBOT, TURNS, WORDS = "robot-0", 10, 100
WORD_S, LOOK_S = 0.1, 0.02
STILL = [0.0] * 14


class Hold:
    """A policy that keeps the arms at rest."""

    version, normalisation_hash, tokenizer_hash = 1, "", ""

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def chunk(self, observation: object, instruction: str) -> np.ndarray:
        """[horizon, action] the posture at rest."""
        return np.tile(REST, (COMPACT.horizon, 1)).astype(np.float32)


@contextmanager
def acting(plane: PlaneConfig) -> Iterator[None]:
    """The robot's process, until the end."""
    stop, ended = threading.Event(), Future()

    def robot() -> SimRobot:
        pace = Metronome(1 / COMPACT.rate_hz, COMPACT.horizon)
        return SimRobot("tea", control=COMPACT, robot_id=ROBOT, pace=pace)

    rig = guided(
        Rig(
            robot=robot,
            policies=lambda: Elsewhere(Hold()),
        ),
        GuidanceConfig(),
        COMPACT,
        robot_id=ROBOT,
        joints=StateLayout().joints,
        stop=stop,
    )

    def run() -> None:
        try:
            run_robot(ActorConfig(robot=ROBOT), plane, rig, stop=stop)
            ended.set_result(None)
        except Exception as error:
            ended.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        ended.result()


class Person:
    """Who sits at the page."""

    def __init__(self, page: httpx.Client) -> None:
        self._page = page

    def say(self, press: str = "") -> float:
        """Say a word; seconds until the page has answered."""
        started = time.monotonic()
        word = {"robot": ROBOT, "seat": "here", "press": press, "motion": STILL, "author": "ana"}
        self._page.post("/api/seat", json=word).raise_for_status()
        return time.monotonic() - started

    def until(self, mode: str, *, talking: bool = True) -> float:
        """Seconds until the robot shows a mode, with words meanwhile or with looks alone."""
        started = time.monotonic()
        while self._page.get("/api/seat", params={"robot": ROBOT}).json()["live"]["mode"] != mode:
            if talking:
                self.say()
            time.sleep(LOOK_S)
        return time.monotonic() - started

    def talk(self, words: int) -> list[float]:
        """Words at the pace of the page; how long each takes."""
        took = []
        for _ in range(words):
            time.sleep(max(0.0, WORD_S - (took[-1] if took else 0.0)))
            took.append(self.say())
        return took


def wait_for(page: httpx.Client) -> None:
    """Until the robot asks for orders."""
    while page.get("/api/seat", params={"robot": ROBOT}).status_code != 200:
        time.sleep(0.1)


def measure(page: httpx.Client) -> dict[str, list[float]]:
    """Seconds of every turn."""
    wait_for(page)
    person = Person(page)
    found: dict[str, list[float]] = {"taken": [], "word": [], "lost": [], "back": []}
    for _ in range(TURNS):
        found["taken"].append(_timed(lambda: (person.say("take over"), person.until("correcting"))))
        found["word"] += person.talk(WORDS // TURNS)
        found["lost"].append(person.until("paused", talking=False))
        found["back"].append(_timed(lambda: (person.say("hand back"), person.until("autonomous"))))
    return found


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def main() -> None:
    """Measure, print, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        plane = PlaneConfig(root=Path(folder))
        Catalog(plane.catalog).close()
        with beating(plane, 3600.0) as service:
            plane = replace(plane, service_url=service)
            with acting(plane), shown(plane, 1.0) as url, httpx.Client(base_url=url) as page:
                found = measure(page)
    rows = {
        "from the press until the robot shows that a person has it": found["taken"],
        "a word of the page, there and back": found["word"],
        "from the last word of a person who is lost until the robot is paused": found["lost"],
        "from the press until the policy has it again": found["back"],
    }
    text = (
        f"# Taking over from the fleet's page\n\n{header(COMMAND)}\n"
        f"{TURNS} turns, {WORDS} words; a robot at 10 Hz in real time, all in one process. What "
        f"the robot shows is looked at every {1000 * LOOK_S:.0f} ms.\n\n"
        "| what | median | slowest |\n|---|---|---|\n"
    )
    for name, times in rows.items():
        text += (
            f"| {name} | {1000 * statistics.median(times):.0f} ms | {1000 * max(times):.0f} ms |\n"
        )
    OUT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
