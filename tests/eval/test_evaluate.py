"""Evaluation: the same starts for every policy, in worker processes, whatever their number."""

import os
from dataclasses import replace

import numpy as np
import pytest

from actor.point import CONTROL, PointPolicy, PointRobot
from eval.bench import BENCH, CHECKING, DYING
from lwd.actor.threads import SINGLE_THREAD, single_threaded
from lwd.episode.types import Outcome
from lwd.errors import ConfigError, ServiceError
from lwd.eval.evaluate import Starts, attempt, evaluate
from lwd.eval.results import Evaluation, load
from lwd.store import weights


def policy(gain: float):
    return {"gain": np.full(1, gain, np.float32)}, {"robot": "point"}


POLICIES = {"stays": policy(0.0), "goes": policy(1.0), "flees": policy(-2.5)}
STARTS = Starts(tasks=("reach", "reach-slowly"), episodes=3, seed=4, control=CONTROL)


@pytest.fixture(scope="module")
def found():
    seen = []
    evaluation = evaluate(
        POLICIES,
        STARTS,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
        bench=BENCH,
    )
    return evaluation, seen


def test_each_policy_gets_each_start_in_order(found):
    evaluation, _ = found
    starts = [(a.policy, a.task, a.seed) for a in evaluation.attempts]
    assert starts == [(p, *scene) for p in POLICIES for scene in STARTS.scenes()]


def test_outcomes_and_cycle_times(found):
    evaluation, _ = found
    goes = evaluation.score("goes", "reach")
    assert (goes.successes, goes.episodes, goes.rate) == (3, 3, 1.0)
    assert 0.7 < goes.cycle_s < 1.3  # 0.8 to 1.2 m at 1 m/s
    assert {a.outcome for a in evaluation.of("stays")} == {Outcome.TIMEOUT}
    assert evaluation.score("stays", "reach").cycle_s == 5.0
    assert {a.outcome for a in evaluation.of("flees", "reach")} == {Outcome.FAILURE}
    # a failure that comes early is not a fast cycle
    assert evaluation.score("flees", "reach").cycle_s == 5.0
    assert evaluation.score("flees").cycle_error_s > 0


def test_progress_counts_to_the_total(found):
    assert found[1] == [(done, 18) for done in range(1, 19)]


def test_policies_are_compared_start_by_start(found):
    comparison = found[0].compare("goes", "stays", "reach")
    assert (comparison.starts, comparison.only_first, comparison.only_second) == (3, 3, 0)
    assert comparison.difference == 1.0


def test_the_number_of_workers_changes_nothing(found, tmp_path):
    path = tmp_path / "goes.safetensors"
    path.write_bytes(weights.encode(*POLICIES["goes"]))
    alone = evaluate({"goes": path}, STARTS, workers=1, bench=BENCH)
    assert list(alone.attempts) == found[0].of("goes")


def test_results_survive_the_disk(found, tmp_path):
    found[0].save(tmp_path / "out" / "eval.json")
    assert load(tmp_path / "out" / "eval.json") == found[0]


def test_scores_list_tasks_and_then_all(found):
    rows = [(score.policy, score.task) for score in found[0].scores()]
    assert rows[:4] == [("stays", t) for t in ("reach", "reach-slowly", "all")] + [
        ("goes", "reach")
    ]
    assert len(rows) == 9


def test_unknown_names_are_explained(found):
    with pytest.raises(ConfigError, match="Did you mean 'goes'"):
        found[0].score("goos")
    with pytest.raises(ConfigError, match="task 'juice' is unknown"):
        found[0].score("goes", "juice")


def test_workers_use_one_thread_and_the_parent_keeps_its_environment(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    monkeypatch.delenv("NPROC", raising=False)
    starts = Starts(tasks=("reach",), episodes=1, control=CONTROL)
    evaluate({"goes": POLICIES["goes"]}, starts, bench=CHECKING)
    assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=2"
    assert "NPROC" not in os.environ
    with single_threaded():
        assert os.environ["XLA_FLAGS"].endswith(SINGLE_THREAD["XLA_FLAGS"])
        assert os.environ["XLA_FLAGS"].startswith("--xla_force")


def test_a_worker_that_dies_is_not_waited_for():
    starts = Starts(tasks=("reach",), episodes=2, control=CONTROL)
    with pytest.raises(ServiceError, match=r"2 attempts to go: it ended with exit code 7"):
        evaluate({"goes": POLICIES["goes"]}, starts, bench=DYING)


def test_weights_that_do_not_build_say_why():
    starts = Starts(tasks=("reach",), episodes=1, control=CONTROL)
    tensors, _ = POLICIES["goes"]
    with pytest.raises(ServiceError, match="weights are for robot 'arm'"):
        evaluate({"goes": (tensors, {"robot": "arm"})}, starts, bench=BENCH)


def test_scenes_of_a_task_do_not_depend_on_the_other_tasks():
    both = Starts(tasks=("a", "b"), episodes=5, seed=1).scenes()
    assert both[5:] == Starts(tasks=("b",), episodes=5, seed=1).scenes()
    assert both[:5] == Starts(tasks=("a",), episodes=9, seed=1).scenes()[:5]
    assert len({seed for _, seed in both}) == 10
    assert not set(both) & set(Starts(tasks=("a", "b"), episodes=5, seed=2).scenes())


def test_an_empty_evaluation_is_refused():
    with pytest.raises(ConfigError, match="is empty"):
        Starts(tasks=("a",), episodes=0)
    with pytest.raises(ConfigError, match="0 policies on 1 workers"):
        evaluate({}, STARTS, bench=BENCH)


def test_the_luck_of_an_attempt_comes_from_its_start():
    acting = PointPolicy()
    attempt(PointRobot(), acting, "goes", "reach", 11)
    assert acting.seeds == [11]


def test_diverged_physics_counts_as_an_episode_but_never_as_a_success(found):
    evaluation, _ = found
    first, *others = evaluation.of("goes", "reach")
    broken = Evaluation(attempts=(replace(first, outcome=Outcome.INVALID), *others))
    score = broken.score("goes")
    assert first.success
    assert (score.episodes, score.invalid, score.successes) == (3, 1, 2)


def test_the_score_is_the_mean_over_sub_steps_or_success_alone():
    robot = PointRobot()
    plain = attempt(robot, PointPolicy(), "goes", "reach", 11)
    robot.substeps = (1.0, 0.5, 0.0, 0.5)
    stepwise = attempt(robot, PointPolicy(), "goes", "steps", 11)
    assert (plain.score, stepwise.score) == (1.0, 0.5)
    evaluation = Evaluation(attempts=(plain, stepwise))
    assert evaluation.score("goes", "steps").score == 0.5
    assert evaluation.score("goes").score == 0.75
    assert evaluation.score("goes").score_error == pytest.approx(0.25)
