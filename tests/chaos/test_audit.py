"""The audit can fail: every kind of loss, double and disorder is found, and nothing else."""

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text

from lwd.chaos.audit import Evidence, Member, Report, audit
from lwd.chaos.gather import Witnesses, gather
from lwd.chaos.witness import Journal
from lwd.edge.announce import describe
from lwd.episode.payload import encode
from lwd.store.catalog import COORDINATOR, Catalog
from lwd.store.objects import Objects, episode_key, sha256_of
from sample_episodes import make_episode

FINE = Evidence(
    acknowledged=frozenset("abc"),
    begun=frozenset("abcd"),
    sizes=[(1, 2), (2, 2)],
    members=[Member(1, "a", "A"), Member(1, "b", "B"), Member(2, "c", "C"), Member(2, "d", "D")],
    scenes={e: ("robot", n) for n, e in enumerate("abcd")},
    hashes={e: e.upper() for e in "abcd"},
    readings=[
        {"started": "learner"},
        {"bound": 1, "holds": 2, "distinct": 2},
        {"bound": 1, "drew": ["a", "b"]},
        {"bound": 2, "holds": 4, "distinct": 4},
        {"started": "learner"},
        {"bound": 1, "drew": ["a"]},
    ],
    asked={"robot": 4},
    saved={"robot": 4},
    planned=(9, 8),
    happened=(9, 4),
)


def test_what_is_fine_is_clean_although_one_episode_was_never_promised():
    report = audit(FINE)
    assert report.clean
    assert (report.acknowledged, report.in_snapshots, report.lost, report.doubled) == (3, 3, 0, 0)


@pytest.mark.parametrize(
    ("changes", "lost", "doubled", "says"),
    [
        ({"acknowledged": frozenset("abce")}, 1, 0, "gone without a trace: e"),
        ({"acknowledged": frozenset("e"), "whereabouts": {"e": "in a spool"}}, 1, 0, "in a spool"),
        ({"faults": {"A": "damaged"}}, 1, 0, "without their payload: a"),
        ({"members": [*FINE.members, Member(2, "a", "A")], "sizes": [(1, 2), (2, 3)]}, 0, 1, "a"),
        ({"scenes": dict(FINE.scenes) | {"d": ("robot", 0)}}, 0, 2, "more than once: a, d"),
        ({"begun": frozenset("abc")}, 0, 0, "no robot made: d"),
        ({"sizes": [(1, 2), (3, 2)]}, 0, 0, "do not grow by one"),
        ({"sizes": [(1, 2), (2, 1)]}, 0, 0, "version 2 says that 1"),
        ({"sizes": [(1, 2)]}, 0, 0, "versions that are not there: [2]"),
        ({"readings": [{"bound": 2}, {"bound": 1}]}, 0, 0, "went back from version 2 to 1"),
        ({"readings": [{"bound": 1, "drew": ["c"]}]}, 0, 0, "1 samples came from outside"),
        ({"readings": [{"bound": 1, "drew": ["e"]}]}, 0, 0, "1 samples came from outside"),
        ({"readings": [{"bound": 2, "holds": 3, "distinct": 3}]}, 0, 0, "a reader holds"),
        ({"readings": [{"bound": 2, "holds": 4, "distinct": 3}]}, 0, 0, "a reader holds"),
        ({"readings": FINE.readings[:3]}, 0, 0, "never bound version 2 (last 1)"),
        ({"readings": ()}, 0, 0, "never bound version 2 (last 0)"),
        ({"readings": [{"bound": 2}]}, 0, 0, "drew no batch"),
        ({"acknowledged": frozenset()}, 0, 0, "no robot has saved"),
        ({"saved": {"robot": 3}}, 0, 0, "robot saved 3 of 4 episodes"),
        ({"saved": {}}, 0, 0, "robot saved 0 of 4 episodes"),
        ({"followers": {"robot"}}, 0, 0, "acted with no policy: robot"),
        ({"happened": (8, 8)}, 0, 0, "8 of 9 kills happened"),
        ({"happened": (9, 3)}, 0, 0, "3 of 8 other faults happened"),
        ({"crashes": {"queue": 1, "edge": 2}}, 0, 0, "3 processes ended by themselves: edge 2"),
    ],
)
def test_what_is_wrong_is_found(changes, lost, doubled, says):
    report = audit(replace(FINE, **changes))
    assert not report.clean
    assert (report.lost, report.doubled) == (lost, doubled)
    assert any(says in finding for finding in report.findings), report.findings


ACTED = replace(
    FINE,
    policies={1: "one", 2: "two"},
    followers={"arm-1", "arm-2"},
    acted={"arm-1": [(1, "one"), (1, "one"), (2, "two")], "arm-2": [(2, "two")]},
    made_by={"a": ("arm-1", 1), "b": ("arm-2", 2), "c": ("somebody who has no policy", 0)},
)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"policies": {1: "one", 3: "two"}}, "do not follow from one another: [1, 3]"),
        ({"policies": {1: "", 2: "two"}}, "do not follow from one another"),
        ({"policies": {1: "one"}}, "arm-2 acted with version 2, which nobody published"),
        ({"policies": {1: "one", 2: "other"}}, "something else than what version 2 is"),
        ({"acted": {"arm-1": [(2, "two"), (1, "one")]}}, "arm-1 went back from version 2 to 1"),
        ({"made_by": {"a": ("arm-2", 1)}}, "a policy that their robot did not act with: a"),
        ({"made_by": {"a": ("arm-3", 1)}}, "a policy that their robot did not act with: a"),
    ],
)
def test_a_robot_that_acts_with_what_it_must_not_is_found(changes, says):
    assert audit(ACTED).clean
    report = audit(replace(ACTED, **changes))
    assert not report.clean
    assert any(says in finding for finding in report.findings), report.findings


def test_damage_on_purpose_counts_as_lost_unless_somebody_noticed():
    damaged = replace(FINE, damaged=frozenset("A"), faults={"A": "sha256"})
    assert audit(damaged).lost == 1
    noticed = audit(replace(damaged, found=frozenset("A")))
    assert (noticed.lost, noticed.corrupted, noticed.repaired, noticed.clean) == (0, 1, 0, True)
    healed = audit(replace(FINE, damaged=frozenset("A"), found=frozenset("A")))
    assert (healed.in_snapshots, healed.corrupted, healed.repaired) == (3, 1, 1)
    given_up = replace(FINE, members=FINE.members[1:], sizes=[(1, 1), (2, 2)])
    given_up = replace(given_up, readings=[{"bound": 2, "drew": ["b"]}])
    given_up = replace(given_up, damaged=frozenset("A"), dead={"a": "sha256"})
    assert (audit(given_up).lost, audit(given_up).clean) == (0, True)
    assert audit(replace(given_up, damaged=frozenset())).lost == 1


@pytest.fixture
def storm(tmp_path):
    """A catalog at which four acknowledged episodes have arrived, and its witnesses."""
    url, objects = f"sqlite:///{tmp_path}/catalog.db", Objects((tmp_path / "objects").as_uri())
    readings = tmp_path / "learner"
    with (
        Journal(tmp_path / "witness") as journal,
        Journal(readings) as reader,
        Catalog(url) as catalog,
    ):
        token = catalog.acquire_lease(COORDINATOR, "me", 60.0)
        assert token is not None
        for seed in range(4):
            episode = make_episode(5, seed=seed, policy_version=0)
            header = replace(episode.header, seed=seed)
            payload = encode(replace(episode, header=header))
            journal.write(begun=header.episode_id)
            row = describe(episode, sha256=sha256_of(payload), size_bytes=len(payload))
            objects.put(episode_key(row.sha256), payload)
            catalog.insert_episode(row)
            catalog.commit_snapshot([row.episode_id], token=token)
            journal.write(saved=header.episode_id)
        reader.write(bound=4, drew=[header.episode_id])
        none, spools = tmp_path / "none", tmp_path / "spool"
        witnesses = Witnesses([tmp_path / "witness"], [readings], none, spools)

        def _report() -> Report:
            evidence = gather(catalog, objects, witnesses, after=0)
            return audit(replace(evidence, asked={"witness": 4}))

        yield catalog, objects, _report


def execute(catalog: Catalog, *statements: str) -> None:
    engine = create_engine(catalog.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_a_planted_loss_in_a_real_catalog_is_found(storm):
    catalog, _, report = storm
    assert report().clean
    execute(catalog, "DELETE FROM members WHERE version = 2")
    assert (report().lost, report().doubled, report().in_snapshots) == (1, 0, 3)
    assert any("catalogued, in no snapshot" in finding for finding in report().findings)


def test_a_planted_double_in_a_real_catalog_is_found(storm):
    catalog, _, report = storm
    execute(
        catalog,
        "ALTER TABLE members RENAME TO old_members",
        "CREATE TABLE members (episode_id VARCHAR, version INTEGER)",
        "INSERT INTO members SELECT episode_id, version FROM old_members",
        "INSERT INTO members SELECT episode_id, 4 FROM old_members WHERE version = 1",
        "UPDATE snapshots SET added = 2 WHERE version = 4",
    )
    assert (report().lost, report().doubled) == (0, 1)
    assert not report().clean


def test_a_planted_hole_and_a_planted_flaw_in_a_real_store_are_found(storm):
    catalog, objects, report = storm
    keys = [episode_key(row.sha256) for row in catalog.snapshot_episodes(4)]
    objects.delete(keys[0])
    objects.put(keys[1], objects.get(keys[1])[:-1] + b"x")
    objects.put(keys[2], objects.get(keys[3]))
    assert report().lost == 3
