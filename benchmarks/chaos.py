"""A storm over a fleet: `python -m benchmarks.chaos`, about ten minutes on an idle machine."""

import time
from pathlib import Path
from typing import Any

from benchmarks.record import header
from lwd.chaos.run import run
from lwd.config import ChaosConfig

RESULTS = Path(__file__).parent / "results" / "chaos.md"
STORM = ChaosConfig(episodes=3000, kills=500, faults=500, seed=21, seconds=420.0)
COMMAND = "lwd chaos --episodes {} --kills {} --faults {} --seed {} --seconds {:.0f} --json"
COUNTS = ("acknowledged", "in_snapshots", "lost", "doubled", "corrupted", "repaired", "kills")


def command(config: ChaosConfig) -> str:
    """The command line of a storm."""
    numbers = (config.episodes, config.kills, config.faults, config.seed, config.storm_s)
    return COMMAND.format(*numbers)


def table(found: dict[str, Any]) -> str:
    """Counts of a storm, then its faults by kind, then what was wrong."""
    rows = [(name.replace("_", " "), found[name]) for name in (*COUNTS, "faults", "seconds")]
    rows += [(f"fault: {kind}", count) for kind, count in found["faults_by_kind"].items()]
    rows += [(f"ended by itself: {name}", n) for name, n in found["crashes"].items()]
    lines = ["| what | number |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([*lines, "", *(f"- {finding}" for finding in found["findings"])])


def main() -> None:
    """Let the storm loose and write what the audit said."""
    found = run(STORM).to_json()
    top = header(command(STORM))
    RESULTS.write_text(f"# Chaos\n\n{top}\n{table(found)}\n")
    print(f"{time.strftime('%H:%M:%S')} {found}")


if __name__ == "__main__":
    main()
