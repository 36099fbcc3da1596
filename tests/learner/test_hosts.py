"""A job of two learner hosts: real processes, one catalog, one checkpoint."""

import re

import jax
import numpy as np
import pytest

from learner.fleet import learn, tiny
from learner.outcome import published, reports, saved, versions
from lwd.learner.checkpoint import Position
from processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # every host compiles for itself


def waits_after(root, updates: int) -> bool:
    """And its checkpoint is whole."""
    return (root / "checkpoints" / str(updates)).exists() and len(reports(root)) == updates


def bound(log) -> list[str]:
    return re.findall(r"bound version=(\d+)", log.read_text())


def test_two_hosts_learn_what_one_learns_and_survive_stops_and_the_loss_of_one(
    root, hosts, finished
):
    wanted = saved(finished)[1]

    first, second = hosts.pair(root, held="sft")
    wait_until(lambda: waits_after(root, updates=1), "the first update of two hosts", 120)
    second.terminate()
    assert [first.wait(60), second.wait(60)] == [0, 0], "SIGTERM to any of them stops all"
    assert all("learner stopped" in host.log.read_text() for host in (first, second))
    assert saved(root)[0] == Position("sft", 1)

    first, second = hosts.pair(root, held="online")
    wait_until(lambda: waits_after(root, updates=5), "an online update of two hosts", 120)
    second.kill()
    assert first.wait(60) != 0, "a host that lost the other must not go on"
    assert "lost the group host=0 hosts=2" in first.log.read_text()
    assert bound(first.log) == ["1"]

    assert learn(root, tiny(checkpoint_every=1))
    at, state = saved(root)
    assert at == Position("online", 2)
    for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    assert versions(root) == versions(finished)
    assert {row.snapshot for row in published(root)} == {1}
