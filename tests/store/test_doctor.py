"""The doctor finds each trouble, explains it, and repairs what can be repaired."""

import time

import pytest
from sqlalchemy import create_engine, text

from episodes_at_rest import AtRest, at_rest
from lwd.edge.copies import described
from lwd.store import parts
from lwd.store.catalog import Catalog
from lwd.store.doctor import Patient, Trouble, examine, repair
from sample_rows import POLICY


@pytest.fixture
def fleet(tmp_path):
    found = at_rest(tmp_path)
    found.clock.now = time.time() + 1000.0  # everything is older than the patience
    for number in (1, 2, 3):
        found.put(number)
    found.commit(1, 2, 3)
    yield found
    found.catalog.mark_published([n.outbox_id for n in found.catalog.unpublished(99)])
    found.catalog.close()


def patient(fleet: AtRest, *, copies: bool = True, deep: bool = True) -> Patient:
    fleet.catalog.mark_published([n.outbox_id for n in fleet.catalog.unpublished(99)])
    copy = fleet.copies.get if copies else {}.get
    return Patient(
        catalog=fleet.catalog,
        objects=fleet.objects,
        clock=fleet.clock,
        copy=lambda row: copy(row.sha256),
        describe=described,
        deep=deep,
    )


def troubles(found: Patient) -> list[tuple[str, str]]:
    return [(finding.trouble, finding.subject) for finding in examine(found)]


def execute(catalog: Catalog, statement: str) -> None:
    engine = create_engine(catalog.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_nothing_is_wrong_with_what_is_fine(fleet):
    assert examine(patient(fleet)) == []


@pytest.mark.parametrize("harm", ["delete", "flip", "cut"])
def test_a_payload_is_put_back_from_a_copy(fleet, harm):
    whole = fleet.objects.get(fleet.key(2))
    if harm == "delete":
        fleet.objects.delete(fleet.key(2))
    else:
        fleet.objects.put(fleet.key(2), whole[:-1] + b"x" if harm == "flip" else whole[:50])
    examined = patient(fleet)
    expected = Trouble.MISSING if harm == "delete" else Trouble.DAMAGED
    assert troubles(examined) == [(expected, fleet.rows[2].episode_id)]
    assert bool(troubles(patient(fleet, deep=False))) == (harm != "flip")
    assert repair(examined, examine(examined)[0]) == "the payload was put back from a copy"
    assert examine(examined) == []
    assert fleet.stored() == {1, 2, 3}


def test_a_wrong_copy_is_not_put_back_and_what_is_lost_leaves_every_version(fleet):
    fleet.objects.delete(fleet.key(2))
    fleet.copies[fleet.rows[2].sha256] = fleet.copies[fleet.rows[1].sha256]
    examined = patient(fleet)
    (finding,) = examine(examined)
    assert "leaves every version" in repair(examined, finding)
    assert fleet.commit() == 2
    assert examine(examined) == []
    kept = {entry.row.episode_id for entry in fleet.catalog.snapshot_log(2)}
    assert kept == {fleet.rows[n].episode_id for n in (1, 3)}
    (amendment,) = fleet.catalog.amendments()
    assert (amendment.change, amendment.author) == ("lost", "lwd doctor")


def test_a_dead_letter_waits_again_once_its_payload_can_be_had(fleet):
    row = fleet.put(4)
    fleet.objects.put(fleet.key(4), b"x" * row.size_bytes)
    fleet.catalog.dead_letter(row.episode_id, "the payload has another hash", "coordinator")
    fleet.catalog.dead_letter("poison", "not a notice", "coordinator")
    hopeless = patient(fleet, copies=False)
    (finding,) = examine(hopeless)
    assert (finding.trouble, finding.repairable) == (Trouble.DEAD, False)
    assert repair(hopeless, finding).startswith("left")
    examined = patient(fleet)
    (finding,) = examine(examined)
    assert "waits for the coordinator again" in repair(examined, finding)
    assert fleet.commit(4) == 2
    assert examine(examined) == []


def test_a_dead_letter_whose_parts_are_there_loses_none_to_a_bad_read(fleet, monkeypatch):
    row = fleet.put(4)
    fleet.objects.delete(fleet.key(4))
    parts.send(fleet.objects, row.sha256, fleet.copies[row.sha256], part_bytes=1000)
    fleet.catalog.dead_letter(row.episode_id, "object is not there", "coordinator")
    examined = patient(fleet, copies=False)
    with monkeypatch.context() as bad:
        bad.setattr(fleet.objects, "_chunks", lambda *args: iter([b"rot"]))
        assert Trouble.DEAD in {finding.trouble for finding in examine(examined)}
    (finding,) = examine(examined)
    assert "waits for the coordinator again" in repair(examined, finding)
    assert fleet.stored() == {1, 2, 3, 4}


def test_a_payload_without_a_row_gets_one_if_it_is_an_episode(fleet):
    fleet.put(4, row=False)
    fleet.objects.put(f"episodes/{'0' * 64}", b"not an episode")
    examined = patient(fleet)
    found = {finding.subject: finding for finding in examine(examined)}
    assert {f.trouble for f in found.values()} == {Trouble.ORPHAN}
    assert not found["0" * 64].repairable
    assert repair(examined, found[fleet.rows[4].sha256]).startswith("its row was written")
    assert fleet.catalog.episode(fleet.rows[4].episode_id) is not None
    fleet.clock.now = time.time()
    fresh = patient(fleet)
    assert examine(fresh) == []


def test_what_only_a_person_can_repair_is_said_and_left(fleet):
    fleet.put(4)
    fleet.catalog.publish_weights(POLICY)
    fleet.clock.now += 2e12  # long after the lease
    execute(fleet.catalog, "UPDATE snapshots SET added = 9")
    examined = patient(fleet)
    found = examine(examined)
    assert [finding.trouble for finding in found] == [
        Trouble.VERSIONS,
        Trouble.STUCK,
        Trouble.NO_POLICY,
        Trouble.LEASE,
    ]
    assert {repair(examined, finding) for finding in found} == {"left: a person has to act"}
    fleet.put(5)
    assert Trouble.NOTICES in {finding.trouble for finding in examine(unmarked(fleet))}
    execute(fleet.catalog, "DELETE FROM members")
    execute(fleet.catalog, "DELETE FROM snapshots")
    (gap, *_) = examine(patient(fleet))
    assert "the pointer names version 1" in gap.explanation


def unmarked(fleet: AtRest) -> Patient:
    return Patient(catalog=fleet.catalog, objects=fleet.objects, clock=fleet.clock)


def test_an_episode_without_payload_that_waits_gets_it_from_its_robot(fleet):
    fleet.put(4)
    fleet.objects.delete(fleet.key(4))
    fleet.clock.now += 1000.0
    hopeless = patient(fleet, copies=False)
    (finding,) = examine(hopeless)
    assert (finding.trouble, finding.subject) == (Trouble.MISSING, fleet.rows[4].episode_id)
    assert repair(hopeless, finding) == "left: bring the robot that has its copy back"
    assert repair(patient(fleet), finding) == "the payload was put back from a copy"
    assert fleet.stored() == {1, 2, 3, 4}
