"""One learner host: ROOT ADDRESS HOST HOSTS, and the stage in which it waits after an update.

`storm` instead of a stage trains one stage of `STORM` updates that draws all kinds of ways, and
writes down what every draw saw; `recap` trains that recipe with one round of collection.
"""

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from learner.fleet import paced, recap_once, tiny
from lwd.config import HostConfig, LearnerConfig, PlaneConfig
from lwd.learner.process import run
from lwd.replay.reader import Reader
from lwd.store.process import stop_on_signals

STORM = 24


def main(root: str, address: str, host: str, hosts: str, held: str = "") -> None:
    logging.basicConfig(level=logging.INFO, force=True)  # orbax has set it up already
    logging.getLogger("absl").setLevel(logging.WARNING)
    config, silence_s = tiny(checkpoint_every=1), 5
    if held == "storm":
        config, silence_s = storm(), 20  # nobody is silent but the dead, however busy the machine
        write_draws(Path(root) / f"draws-{host}-{os.getpid()}.jsonl")
    elif held == "recap":
        config, silence_s = recap_once(checkpoint_every=1), 30
    elif held:
        config = paced(config, held, 0.2)  # of five episodes
    group = HostConfig(host=int(host), hosts=int(hosts), gather_at=address, silence_s=silence_s)
    stop = stop_on_signals().is_set
    run(PlaneConfig(root=Path(root)), config, group, stop=stop)


def storm() -> LearnerConfig:
    """A stage whose draws depend on tasks, losses and snapshots; a checkpoint every 8 updates."""
    config = tiny(checkpoint_every=8, report_every=2)
    offline = replace(
        config.stages["offline"],
        updates=STORM,
        mixture={"offline": 1.0, "online": 1.0},
        task_balanced=True,
        loss_adaptive=1.0,
    )
    return replace(config, stages={"offline": offline})


def write_draws(path: Path) -> None:
    """Have every draw of this process leave a line: number, snapshot, windows."""
    sample = Reader.sample

    def written(self: Reader, update: int, *rest, **options):
        batch = sample(self, update, *rest, **options)
        line = {"draw": update, "version": self.version, "windows": batch.window.tolist()}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return batch

    Reader.sample = written


if __name__ == "__main__":
    main(*sys.argv[1:])
