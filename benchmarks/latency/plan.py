"""What a scenario measures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.latency.link import Shape

ONE_HOST = "one host"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Robots that record and follow weights, a fleet that takes in and publishes."""

    name: str
    control: str = ""
    """Congestion control of the shaped link; empty means no link: all on the loopback."""
    robots: int = 16
    episodes: int = 5
    """By each robot."""
    episode_bytes: int = 100_000
    period_s: float = 4.0
    """Time between two episodes of a robot."""
    versions: int = 20
    """Published policies."""
    policy_bytes: int = 1_480_000
    publish_s: float = 2.0
    """Time between two publications, if the one before has arrived."""

    @property
    def shape(self) -> Shape:
        """The link."""
        return Shape()


def write(scenario: Scenario, folder: Path) -> None:
    """Leave the scenario for the processes that take part."""
    (folder / "scenario.json").write_text(json.dumps(asdict(scenario)))


def read(folder: Path) -> Scenario:
    """The scenario of a folder."""
    return Scenario(**json.loads((folder / "scenario.json").read_text()))


def note(path: Path, **entry: float | str) -> None:
    """Append a line of JSON, whole."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def notes(path: Path) -> list[dict]:
    """Lines of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
