"""The commands about records, as an operator types them, with tables and with JSON."""

import json
import sys

import pytest

from episodes_at_rest import at_rest
from lwd.cli import main
from sample_rows import POLICY


@pytest.fixture
def fleet(tmp_path):
    found = at_rest(tmp_path)
    for number in (1, 2, 3):
        found.put(number, policy_version=0, outcome=("success", "failure")[number % 2])
    found.commit(1, 2)
    found.catalog.publish_weights(POLICY)
    yield found
    found.catalog.close()


@pytest.fixture
def lwd(fleet, tmp_path, monkeypatch, capsys):
    """Runs a command on the fleet: what it prints, from JSON where that was asked for."""

    def _lwd(*words: object):
        monkeypatch.setattr(sys, "argv", ["lwd", *map(str, words), "--root", str(tmp_path)])
        main()
        out = capsys.readouterr().out
        return json.loads(out.splitlines()[-1]) if "--json" in words else out

    return _lwd


def test_status(lwd, fleet):
    found = lwd("status", "--json")
    assert (found["episodes"], found["snapshot"], found["in_snapshot"]) == (3, 1, 2)
    assert (found["waiting"], found["weights"], found["retained_from"]) == (1, 1, 1)
    assert "in snapshot" in lwd("status")


def test_episodes_are_filtered(lwd, fleet):
    ids = {number: row.episode_id for number, row in fleet.rows.items()}
    found = lwd("episodes", "--outcome", "failure", "--json")
    assert {row["episode_id"] for row in found} == {ids[1], ids[3]}
    assert len(lwd("episodes", "--robot", "arm-1", "--limit", 2, "--json")) == 2
    assert lwd("episodes", "--task", "another", "--json") == []
    assert len(lwd("episodes", "--policy-version", 0, "--kind", "online", "--json")) == 3
    assert "failure" in lwd("episodes")


def test_an_amendment_shows_in_the_diff_and_in_the_lineage(lwd, fleet):
    changed = fleet.rows[2].episode_id
    lwd("amend", changed, "outcome", '"failure"', "--reason", "it fell", "--author", "ana")
    fleet.commit(3)
    found = lwd("snapshots", "diff", 1, 2, "--json")
    assert [row["episode_id"] for row in found["joined"]] == [fleet.rows[3].episode_id]
    assert [row["outcome"] for row in found["relabelled"]] == ["failure"]
    assert [(a["author"], a["reason"]) for a in found["amendments"]] == [("ana", "it fell")]
    assert "it fell" in lwd("snapshots", "diff", 1, 2)
    life = lwd("lineage", "--episode", changed, "--json")
    assert (life["trained"], life["joined"], len(life["amendments"])) == ([1], 1, 1)
    assert "by ana" in lwd("lineage", "--episode", changed)
    policy = lwd("lineage", "--policy", 1, "--json")
    assert len(policy["trained_on"]) == 2
    assert "trained on 2" in lwd("lineage", "--policy", 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["snapshots", "diff", 1, 7], "0 to 1"),
        (["lineage"], "either --policy"),
        (["lineage", "--policy", 9], "never published"),
        (["amend", "x", "tombstone", "--reason", "r"], "not in the catalog"),
        (["snapshots", "retain", 9, "--reason", "r"], "not one of 1 to 1"),
    ],
)
def test_mistakes_are_answered_with_one_line(lwd, words, says):
    with pytest.raises(SystemExit, match=says):
        lwd(*words)


def test_retaining_and_collecting(lwd, fleet):
    fleet.amend(1, "tombstone")
    fleet.commit()
    assert "versions from 2 on" in lwd("snapshots", "retain", 2, "--reason", "space")
    planned = lwd("snapshots", "collect", "--grace-days", -1, "--dry-run", "--json")
    assert planned["aside"] == [fleet.rows[1].sha256]
    assert "1 moved aside" in lwd("snapshots", "collect", "--grace-days", -1)
    assert fleet.stored() == {2, 3}


def test_the_doctor_repairs_from_the_spool_and_ends_with_the_truth(lwd, fleet, tmp_path):
    fleet.catalog.mark_published([n.outbox_id for n in fleet.catalog.unpublished(99)])
    fleet.commit(3)
    done = tmp_path / "spool" / "arm-1" / "done"
    done.mkdir(parents=True)
    row = fleet.rows[1]
    (done / f"{row.episode_id}.arrow").write_bytes(fleet.copies[row.sha256])
    fleet.objects.delete(fleet.key(1))
    fleet.objects.put(f"weights/{'a' * 64}.safetensors", b"weights")
    with pytest.raises(SystemExit) as ended:
        lwd("doctor")
    assert ended.value.code == 1
    (finding,) = lwd("doctor", "--repair", "--json")
    assert finding["outcome"] == "the payload was put back from a copy"
    assert fleet.stored() == {1, 2, 3}
    assert "0 findings" in lwd("doctor", "--deep")
