"""A job of two learner hosts: real processes, one catalog, one checkpoint."""

import json
import re

import jax
import numpy as np
import pytest

from learner.fleet import commit, learn, tiny
from learner.host import STORM
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


@pytest.mark.timeout(900)
def test_a_job_that_lost_a_host_goes_on_in_the_order_of_its_data(root, hosts):
    """Host 0 dies, which gathers the others. Snapshots arrive all the time, also meanwhile."""
    first = hosts.pair(root, held="storm")
    for update, seed in ((3, 100), (9, 200), (12, 300)):
        wait_until(lambda: drawn(root, 0, past=update), f"draw {update}", 300)  # noqa: B023
        commit(root, "rollout", "online", seed=seed)
    wait_until(lambda: drawn(root, 0, past=13), "draw 13", 120)
    first[0].kill()
    assert first[1].wait(60) != 0, "a host that lost the other must not go on"
    assert "lost the group host=1 hosts=2" in first[1].log.read_text()
    commit(root, "rollout", "online", seed=400)

    second = hosts.pair(root, held="storm")
    assert [host.wait(300) for host in second] == [0, 0]
    for host in (0, 1):
        before, after = drawn_by(root, host, first[host]), drawn_by(root, host, second[host])
        assert list(before) == list(range(max(before) + 1))
        assert list(after) == list(range(min(after), STORM))
        assert min(after) in (8, 16), "it goes on from a checkpoint"
        again = before.keys() & after.keys()
        assert min(after) <= max(before), "some draws were made twice"
        assert {draw: after[draw] for draw in again} == {draw: before[draw] for draw in again}
        assert len({version for version, _ in before.values()}) > 1
    mine, others = (drawn_by(root, host, second[host]) for host in (0, 1))
    assert [v for v, _ in mine.values()] == [v for v, _ in others.values()]
    assert {len(windows) for _, windows in (mine | others).values()} == {4}


def drawn_by(root, host: int, process) -> dict[int, tuple[int, list[int]]]:
    """Snapshot and windows by draw, in the order in which a process drew."""
    lines = (root / f"draws-{host}-{process.pid}.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["draw"] for line in found] == sorted({line["draw"] for line in found})
    return {line["draw"]: (line["version"], line["windows"]) for line in found}


def drawn(root, host: int, *, past: int) -> bool:
    """Whether a draw after this one was made by the first process of a host."""
    files = list(root.glob(f"draws-{host}-*.jsonl"))
    return bool(files) and len(files[0].read_text().splitlines()) > past
