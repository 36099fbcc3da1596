"""Numbers of the page, by hand."""

from dataclasses import replace

import pytest

from lwd.dashboard.records import Brief
from lwd.dashboard.statistics import (
    Correction,
    corrected,
    corrections,
    episode_latencies,
    model_latency,
    percentiles,
    success_over_time,
)
from lwd.eval.intervals import wilson
from lwd.store.amendments import Amendment
from lwd.store.rows import LoadRow, WeightsRow
from sample_rows import POLICY


def brief(number: int, **changes) -> Brief:
    plain = Brief(
        episode_id=f"e{number}",
        robot="a",
        task="t",
        kind="online",
        outcome="success",
        policy_version=1,
        ticks=10,
        interventions=0,
        produced_at=100.0 + number,
        inserted_at=101.0 + number,
    )
    return plain._replace(**changes)


def amendment(number: int, episode: str, change: str, value: str = "") -> Amendment:
    return Amendment(number, episode, change, value, "ana", "seen", 1.0, None)


def test_success_falls_into_spans_of_time_with_wilson_intervals():
    episodes = [brief(0), brief(1, outcome="failure"), brief(100)]
    found = success_over_time(episodes, bins=10)
    task = found["tasks"]["t"]
    assert task["episodes"] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert task["rate"][0] == 0.5
    assert task["rate"][1] is None
    assert (task["low"][0], task["high"][0]) == wilson(1, 2)
    assert task["total"] == {"successes": 2, "episodes": 3, "interval": wilson(2, 3)}
    assert found["at"][0] == pytest.approx(101 + 5)


def test_success_with_help_counts_only_where_it_is_asked_for():
    episodes = [brief(0, interventions=3), brief(1)]
    assert success_over_time(episodes)["tasks"]["t"]["total"]["successes"] == 2
    assert success_over_time(episodes, unaided=True)["tasks"]["t"]["total"]["successes"] == 1


def test_only_episodes_of_a_policy_with_a_verdict_count():
    episodes = [brief(0, kind="demo"), brief(1, outcome="interrupted"), brief(2, kind="rollout")]
    assert success_over_time(episodes)["tasks"]["t"]["total"]["episodes"] == 1
    assert success_over_time(episodes[:2]) == {"at": [], "tasks": {}}


def test_a_person_who_did_not_act_after_all_did_not_help():
    changes = corrections(
        [amendment(1, "e0", "human", "[]"), amendment(2, "e1", "human", "[[2, 5]]")]
    )
    kept = corrected([brief(0, interventions=3), brief(1), brief(2, interventions=1)], changes)
    assert [b.interventions for b in kept] == [0, 3, 1]
    assert success_over_time(kept, unaided=True)["tasks"]["t"]["total"]["successes"] == 1


def test_corrections_hold_in_the_order_in_which_they_were_made():
    found = corrections(
        [
            amendment(1, "e0", "tombstone"),
            amendment(2, "e0", "restore"),
            amendment(3, "e0", "outcome", '"failure"'),
            amendment(4, "e1", "tombstone"),
        ]
    )
    assert found == {"e0": Correction("failure"), "e1": Correction(present=False)}
    kept = corrected([brief(0), brief(1), brief(2)], found)
    assert [(b.episode_id, b.outcome) for b in kept] == [("e0", "failure"), ("e2", "success")]


def test_latencies_follow_an_episode_from_the_robot_to_the_learner():
    episodes = [brief(0), brief(1, kind="demo")]
    found = episode_latencies(episodes, {"e0": 105.0}, {"e0": 110.0})
    assert found == {
        "robot to catalog": {"p50": 1.0, "p99": 1.0, "count": 1},
        "catalog to snapshot": {"p50": 4.0, "p99": 4.0, "count": 1},
        "robot to learner": {"p50": 10.0, "p99": 10.0, "count": 1},
    }


def test_a_wrong_clock_spoils_nobodys_latencies():
    ahead = brief(1, robot="ahead", produced_at=3700.0)  # nobody has said yet that it is
    behind = brief(2, robot="behind", produced_at=-3500.0)
    found = episode_latencies([brief(0), ahead, behind], {}, {}, off={"behind"})
    assert found["robot to catalog"] == {"p50": 1.0, "p99": 1.0, "count": 1}
    loads = [
        LoadRow(robot=robot, version=1, loaded_at=at) for robot, at in (("x", 9e9), ("y", 2.0))
    ]
    policy = replace(POLICY, version=1, stage="online", published_at=1.0)
    assert model_latency([policy], loads, off={"x"})["p99"] == 1.0


def test_a_policys_latency_is_from_its_publication():
    weights = [
        WeightsRow(
            version=4,
            sha256="",
            size_bytes=1,
            snapshot=1,
            stage="online",
            update=1,
            published_at=50.0,
        )
    ]
    loads = [
        LoadRow(robot="a", version=4, loaded_at=53.0),
        LoadRow(robot="a", version=9, loaded_at=1.0),
        LoadRow(robot="a", version=4, loaded_at=4000.0),
    ]
    assert model_latency(weights, loads) == {"p50": 3.0, "p99": 3.0, "count": 1}


def test_nothing_measured_is_not_zero():
    assert percentiles([]) == {"p50": None, "p99": None, "count": 0}
