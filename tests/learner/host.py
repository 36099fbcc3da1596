"""One learner host: ROOT ADDRESS HOST HOSTS, and the stage in which it waits after an update."""

import logging
import sys
from pathlib import Path

from learner.fleet import paced, tiny
from lwd.config import HostConfig, PlaneConfig
from lwd.learner.process import run
from lwd.store.process import stop_on_signals


def main(root: str, address: str, host: str, hosts: str, held: str = "") -> None:
    logging.basicConfig(level=logging.INFO, force=True)  # orbax has set it up already
    logging.getLogger("absl").setLevel(logging.WARNING)
    config = tiny(checkpoint_every=1)
    if held:
        config = paced(config, held, 0.2)  # of five episodes
    group = HostConfig(host=int(host), hosts=int(hosts), gather_at=address, silence_s=5)
    stop = stop_on_signals().is_set
    run(PlaneConfig(root=Path(root)), config, group, stop=stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
