"""A host of a job on a mesh: OUT ADDRESS HOST HOSTS FSDP; host 0 writes losses and a checkpoint."""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

from learner.nets import BATCH, CHAIN, NETS, STAGE, at, random_batch
from lwd.config import HostConfig
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.compiled import compiled
from lwd.learner.process import join
from lwd.learner.state import TrainState, init
from lwd.learner.update import update
from lwd.models import sharding
from lwd.models.normaliser import Normaliser

UPDATES = 3
POSITION = Position("offline", UPDATES)


def begin(key) -> TrainState:
    return init(key, NETS.policy, NETS.critic, CHAIN)


def learn(out: Path, host: int, hosts: int, fsdp: int) -> list[dict[str, float]]:
    """Metrics of a few updates on the same global batches, whatever the mesh."""
    over = sharding.mesh(fsdp)
    state = jax.jit(lambda key: sharding.spread(begin(key), over))(jax.random.key(0))
    put = partial(jax.make_array_from_process_local_data, sharding.rows(over))
    share, found = slice(host * BATCH // hosts, (host + 1) * BATCH // hosts), []
    for number in range(UPDATES):
        batch = random_batch(np.random.default_rng(number))
        mine = jax.tree.map(lambda x: put(np.asarray(x)[share]), batch)
        step = compiled(update, NETS, STAGE, over)
        state, metrics = step(state, mine, jax.random.key(number), at(1e-2, 1e-2, 0.6))
        found.append({name: float(value) for name, value in metrics.items()})
    checkpoints = Checkpoints(out / "checkpoints")
    ones = np.ones((2, 2), np.float32)
    normaliser = Normaliser(state_mean=ones, state_scale=ones, action_mean=ones, action_scale=ones)
    checkpoints.save(POSITION, state, normaliser, snapshot=1, policy=1, settings={})
    checkpoints.close()
    return found


def main(out: str, address: str, host: str, hosts: str, fsdp: str) -> None:
    sharding.LEAST = 0  # nothing here is large
    if int(hosts) > 1:
        join(HostConfig(host=int(host), hosts=int(hosts), gather_at=address, silence_s=10))
    found = learn(Path(out), int(host), int(hosts), int(fsdp))
    if host == "0":
        (Path(out) / "metrics.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
