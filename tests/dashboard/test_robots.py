"""A robot's line, from its last signs of life."""

from dataclasses import replace

from dashboard.test_statistics import brief
from lwd.dashboard.robots import FRESH_S, QUIET_S, describe, overview
from lwd.store.heartbeats import Beat
from lwd.store.rows import LoadRow, WeightsRow

NOW = 1000.0
BEAT = Beat(
    robot="a", state="acting", at=NOW - 1, task="pour", policy_version=3, received_at=NOW - 1
)


def policy(version: int, audience: str = "") -> WeightsRow:
    return WeightsRow(
        version=version,
        sha256="",
        size_bytes=1,
        snapshot=1,
        stage="online",
        update=version,
        published_at=900.0 + version,
        audience=audience,
    )


WEIGHTS = [policy(1), policy(2, ",b,"), policy(3), policy(4)]


def test_a_fresh_heartbeat_says_what_a_robot_does():
    row = describe("a", [], None, BEAT, WEIGHTS, now=NOW)
    assert (row.state, row.task, row.version, row.seen_at) == ("acting", "pour", 3, NOW - 1)
    assert not row.shared
    assert describe("a", [], None, replace(BEAT, shared=True), [], now=NOW).shared


def test_an_old_heartbeat_means_silence_even_after_an_episode():
    old = replace(BEAT, received_at=NOW - FRESH_S - 1)
    assert describe("a", [brief(0, inserted_at=NOW)], None, old, [], now=NOW).state == "silent"


def test_without_heartbeats_an_episode_is_a_sign_of_life_for_a_while():
    recent = [brief(0, inserted_at=NOW - QUIET_S + 1)]
    assert describe("a", recent, None, None, [], now=NOW).state == "reporting"
    assert describe("a", recent, None, None, [], now=NOW + 2).state == "silent"


def test_staleness_counts_only_policies_meant_for_the_robot():
    load = LoadRow(robot="a", version=1, loaded_at=950.0)
    row = describe("a", [], load, None, WEIGHTS, now=NOW)
    assert (row.version, row.wanted, row.behind, row.behind_since) == (1, 4, 2, 903.0)
    assert describe("b", [], load, None, WEIGHTS, now=NOW).behind == 3


def test_success_is_over_the_last_episodes_with_a_verdict():
    episodes = [brief(i, outcome="failure") for i in range(30)]
    episodes += [brief(30 + i, interventions=i % 2) for i in range(15)]
    episodes += [brief(50, outcome="interrupted")]
    row = describe("a", episodes, None, None, [], now=NOW)
    assert (row.episodes, row.judged, row.successes, row.helped) == (46, 20, 15, 7)


def test_a_clock_that_is_an_hour_off_is_named():
    ahead = brief(0, produced_at=NOW + 3600, inserted_at=NOW)
    assert describe("a", [ahead], None, None, [], now=NOW).clock_off_s == 3600
    late = brief(0, produced_at=NOW - 3600, inserted_at=NOW)  # it may have been offline
    assert describe("a", [late], None, None, [], now=NOW).clock_off_s == 0
    behind = replace(BEAT, at=NOW - 3601)
    assert describe("a", [], None, behind, [], now=NOW).clock_off_s == -3600


def test_what_a_clock_puts_into_the_future_is_no_sign_of_life():
    load = LoadRow(robot="a", version=1, loaded_at=NOW + 3600)
    old = replace(BEAT, received_at=NOW - 60)
    assert describe("a", [], load, old, [], now=NOW).seen_at == NOW - 60
    assert describe("a", [], load, None, [], now=NOW).seen_at == NOW


def test_every_robot_that_was_ever_heard_of_has_a_line():
    load = LoadRow(robot="b", version=1, loaded_at=1.0)
    found = overview({"c": [brief(0)]}, {"b": load}, {"a": BEAT}, WEIGHTS, now=NOW)
    assert list(found) == ["a", "b", "c"]
