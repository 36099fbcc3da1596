"""A job of two learner hosts: real processes, one catalog, one checkpoint."""

import re
import shutil

import jax
import numpy as np
import pytest

from learner.fleet import learn, tiny
from learner.outcome import published, reports, saved, versions
from lwd.learner.checkpoint import Position
from processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # every host compiles for itself


def waits_after_one_update(root) -> bool:
    """And its checkpoint is whole."""
    return (root / "checkpoints" / "1").exists() and len(reports(root)) == 1


def bound(log) -> list[str]:
    return re.findall(r"bound version=(\d+)", log.read_text())


def test_two_hosts_learn_what_one_learns_and_survive_the_loss_of_one(root, hosts, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(root, alone)
    assert learn(alone, tiny())
    wanted = saved(alone)[1]

    first, second = hosts.pair(root, held="sft")
    wait_until(lambda: waits_after_one_update(root), "the first update of two hosts", 90)
    second.kill()
    assert first.wait(30) != 0, "a host that lost the other must not go on"
    assert "lost the group host=0 hosts=2" in first.log.read_text()

    pair = hosts.pair(root)
    assert [host.wait(120) for host in pair] == [0, 0]
    at, state = saved(root)
    assert at == Position("online", 2)
    for (path, a), b in zip(jax.tree.leaves_with_path(state), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    assert bound(pair[0].log) == bound(pair[1].log) == ["1"]
    assert versions(root) == versions(alone)
    assert {row.snapshot for row in published(root)} == {1}


def test_sigterm_to_any_host_stops_all_of_them_with_a_checkpoint(root, hosts):
    pair = hosts.pair(root, held="sft")
    wait_until(lambda: waits_after_one_update(root), "the first update of two hosts", 90)
    pair[1].terminate()
    assert [host.wait(30) for host in pair] == [0, 0]
    assert all("learner stopped" in host.log.read_text() for host in pair)
    assert saved(root)[0] == Position("sft", 1)
