"""benchmarks/tilt.py: what it prints is right, and what cannot be solved is refused."""

import json

import numpy as np
import pytest

from benchmarks import tilt


def test_one_gaussian_is_solved_and_printed_as_json(capsys):
    words = "gaussian --mean .3 --var .25 --linear 2 --quadratic 0 --steps 10 --sampler bridge"
    tilt.main(words.split())
    found = json.loads(capsys.readouterr().out)
    assert found["exact"] == {"mean": pytest.approx(0.8), "variance": pytest.approx(0.25)}
    assert found["sampled"]["mean"] == pytest.approx(0.8, abs=0.01)
    perfect = found["exact_field_with_these_steps"]["variance"]
    assert found["sampled"]["variance"] == pytest.approx(perfect, abs=0.005)
    assert found["field_error"] < 1e-3


@pytest.mark.parametrize(("name", "sampler", "steps"), [("A", "euler", 4), ("D", "euler", 3)])
def test_the_schemes_reach_the_fixed_points_of_their_recursions(name, sampler, steps):
    """Also where a concave critic makes the plain iteration swing."""
    found = tilt.solve_gaussian(tilt.CASES[name], sampler, steps)
    mean, variance = tilt.EXPECTED[name, sampler][steps]
    assert found["sampled"]["mean"] == pytest.approx(mean, abs=0.01)
    assert found["sampled"]["variance"] == pytest.approx(variance, abs=0.01)
    assert found["field_error"] > 0.1


def test_a_constant_critic_leaves_nothing_to_compare_with():
    case = tilt.Case(0.3, 0.5, 0.0, 0.0)
    rows = np.array([case.reference.affine(i / 4) for i in range(4)])
    assert tilt._field_error(case, rows) is None


def test_mixtures_differ_by_seed_and_repeat():
    first, again, other = (tilt.random_tilt(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.base.means, again.base.means)
    assert first.base.means.tolist() != other.base.means.tolist()
    assert first.base.weights.sum() == pytest.approx(1.0)


def test_training_on_a_mixture_shows_its_progress(capsys):
    found = tilt.train_mixture(seed=3, sampler="bridge", steps=4, updates=40)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("update 40 of 40, loss ")
    assert 0 < found["field_error"] < 1
    assert sum(found["weights"]["exact"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gaussian --steps 1", "--steps is 1; adjoint matching needs at least 2"),
        ("gaussian --var 0", "--var is 0.0"),
        ("gaussian --var .5 --quadratic -2", "--quadratic is -2.0; above -2 there is a tilt"),
        ("gaussian --sampler brigde", "invalid choice: 'brigde'"),
        ("mixture --updates 5", "--updates is 5; at least 20"),
    ],
)
def test_what_has_no_answer_is_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        tilt.main(words.split())
    assert message in capsys.readouterr().err
