"""Parameters split over processes: the same losses as one, and a checkpoint for any mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from learner.mesh_host import POSITION, begin, learn
from lwd.learner import feed
from lwd.learner.checkpoint import Checkpoints
from lwd.models import sharding
from processes import free_port

TESTS = Path(__file__).parent.parent


def job(out: Path, hosts: int, fsdp: int) -> list[dict[str, float]]:
    """Run `hosts` processes with a device each; what host 0 measured."""
    out.mkdir()
    at, script = f"127.0.0.1:{free_port()}", str(TESTS / "learner" / "mesh_host.py")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    settings = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": path}
    started = [
        subprocess.Popen(
            [sys.executable, script, *map(str, (out, at, host, hosts, fsdp))],
            env=settings,
            stdout=subprocess.DEVNULL,
            stderr=(out / f"{host}.log").open("wb"),
        )
        for host in range(hosts)
    ]
    try:
        ended = [process.wait(150) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert ended == [0] * hosts, (out / "0.log").read_text()[-2000:]
    return json.loads((out / "metrics.json").read_text())


def restored(out: Path, over) -> dict[str, np.ndarray]:
    checkpoints = Checkpoints(out / "checkpoints")
    saved = checkpoints.restore(feed.placed(jax.eval_shape(begin, jax.random.key(0)), over))
    checkpoints.close()
    assert saved is not None
    assert saved.position == POSITION
    leaves = jax.tree.leaves_with_path(saved.state)
    wanted = jax.tree.leaves(sharding.shardings(saved.state, over))
    assert [leaf.sharding for _, leaf in leaves] == wanted
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_processes_that_share_parameters_learn_what_one_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "LEAST", 0)
    alone = tmp_path / "alone"
    wanted = learn(alone, 0, 1, 1)
    state = restored(alone, sharding.mesh(1))
    for hosts, fsdp in ((2, 2), (4, 2)):
        out = tmp_path / f"{hosts} by {fsdp}"
        for mine, theirs in zip(wanted, job(out, hosts, fsdp), strict=True):
            for name, value in mine.items():
                assert theirs[name] == pytest.approx(value, rel=1e-4, abs=1e-6), (hosts, name)
        for here in (1, 2):  # saved by `hosts`, read by a process with two devices
            for path, leaf in restored(out, sharding.mesh(here)).items():
                np.testing.assert_allclose(leaf, state[path], rtol=1e-3, atol=1e-5, err_msg=path)
