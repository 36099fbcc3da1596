from dataclasses import replace

import pytest

from lwd.actor.robot import Status
from lwd.config import COMPACT
from lwd.errors import ConfigError
from lwd.sim.measure import Attempt, ExpertSuccess, expert_success


def attempt(seed: int, status: Status, robot_s: float) -> Attempt:
    return Attempt(seed=seed, status=status, robot_s=robot_s, cpu_s=0.25)


def test_a_result_counts_and_averages():
    result = ExpertSuccess(
        task="freezer",
        attempts=(attempt(4, Status.SUCCESS, 8.0), attempt(5, Status.TIMEOUT, 45.0)),
    )
    assert (result.successes, result.episodes, result.failed_seeds) == (1, 2, (5,))
    assert result.mean_s == 26.5
    assert str(result) == (
        "freezer: 1/2 succeeded, score 0.500, 26.5 robot s and 0.25 CPU s per episode; "
        "look at seeds 5"
    )


def test_the_score_is_step_wise_where_there_are_sub_steps():
    done, late = attempt(0, Status.SUCCESS, 90.0), attempt(1, Status.TIMEOUT, 150.0)
    steps = (replace(done, substeps=(1.0, 0.5)), replace(late, substeps=(1.0, 0.0)))
    assert ExpertSuccess(task="tea", attempts=steps).score == 0.625


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task": "shelf"}, "task 'shelf' is unknown"),
        ({"episodes": 0}, "episodes is 0; at least 1"),
        ({"workers": 0}, "workers is 0; at least 1"),
        ({"seed": -1}, "seed is -1; it must not be negative"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, said):
    asked = {"task": "restocking", "episodes": 1, "seed": 0, "control": COMPACT}
    with pytest.raises(ConfigError, match=said):
        expert_success(**(asked | given))


@pytest.mark.slow
def test_workers_change_nothing_but_the_time():
    alone = expert_success("restocking", 2, 20, COMPACT)
    together = expert_success("restocking", 2, 20, COMPACT, workers=2)
    lengths = [[(a.seed, a.status, a.robot_s) for a in r.attempts] for r in (alone, together)]
    assert lengths[0] == lengths[1]
    assert [a.seed for a in alone.attempts] == [20, 21]
