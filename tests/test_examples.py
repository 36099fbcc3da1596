"""The examples find what they say they find."""

import importlib
import runpy
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lwd.episode.types import Outcome

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _examples_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def figures() -> ModuleType:
    return importlib.import_module("figures")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_toy_is_won_more_often_by_the_tilted_policy_about_as_often_as_by_the_exact_one(
    tmp_path, capsys, optimised
):
    main = runpy.run_path(str(EXAMPLES / "01_divl_and_qam_on_a_toy.py"))["main"]
    numbers = main(tmp_path, updates=700)
    gain = numbers["exact"] - numbers["record"]
    assert numbers["SFT"] == pytest.approx(numbers["record"], abs=0.25 * gain)
    assert numbers["QAM"] - numbers["SFT"] > 0.6 * gain
    assert numbers["QAM"] == pytest.approx(numbers["exact"], abs=0.4 * gain)
    assert numbers["learned quantile"] == pytest.approx(numbers["exact quantile"], abs=0.08)
    assert numbers["learned tau"] == pytest.approx(numbers["exact tau"], abs=0.04)
    assert "QAM" in capsys.readouterr().out
    for name in ("policy.png", "value.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_an_arm_behind_a_port_acts_records_and_plans_ahead(tmp_path, capsys):
    run = runpy.run_path(str(EXAMPLES / "02_a_robot_of_your_own.py"))["run"]
    found = run(tmp_path, think_s=0.25, episodes=1)
    for one in found.values():
        assert [episode.header.outcome for episode in one.episodes] == [Outcome.SUCCESS]
        assert any("limited" in events for e in one.episodes for events in e.events)
        for episode in one.episodes:
            assert (episode.header.robot, episode.state.shape[1]) == ("arm-1", 12)
            assert np.abs(np.diff(episode.action, axis=0)).max() <= 0.35 / 20 + 1e-5
            assert sum(image is not None for image in episode.images["front"]) > 1
    planned = [sum(i is not None for i in e.images["front"]) for e in found["ahead"].episodes]
    assert min(planned) > 3  # a plan started at each of these ticks
    assert "longest pause between two targets" in capsys.readouterr().out


def test_the_example_is_short_enough_to_be_read():
    lines = (EXAMPLES / "01_divl_and_qam_on_a_toy.py").read_text().splitlines()
    assert len(lines) <= 120


def test_one_backup_adds_up_to_an_atom_unless_interpolated(figures):
    values = -0.1 + 0.006 * np.linspace(100.0, 101.0, 101)
    atom, linear, ours = (
        figures.rise(values, 0.9, form) for form in ("atom", "linear", "interpolated")
    )
    assert atom.max() == pytest.approx(0.9, abs=0.02)
    assert linear.min() == pytest.approx(0.4, abs=0.02)
    assert linear.max() == pytest.approx(0.87, abs=0.02)
    assert np.abs(ours).max() < 1e-3


@pytest.mark.parametrize(
    ("form", "n_step", "q"),
    [("atom", 1, 0.995), ("atom", 10, 0.462), ("linear", 1, 0.998), ("interpolated", 1, 0.407)],
)
def test_the_curves_of_the_chain_end_where_the_page_says(figures, form, n_step, q):
    assert figures.chain(300, n_step, 0.9, form)[-1] == pytest.approx(q, abs=2e-3)


@pytest.mark.parametrize(
    ("sampler", "steps", "mean"),
    [("bridge", 3, 0.936), ("bridge", 4, 0.976), ("bridge", 10, 0.999),
     ("euler", 3, 0.402), ("euler", 4, 0.636), ("euler", 10, 0.879)],
)  # fmt: skip
def test_the_mean_that_each_scheme_reaches(figures, sampler, steps, mean):
    assert figures.reached(getattr(figures.qam, sampler)(steps)) == pytest.approx(mean, abs=1e-3)


def test_paths_of_the_reference_overshoot_a_concave_critic(figures):
    """N(0, 1) tilted by exp(a - a^2 / 2) is N(0.5, 0.5)."""
    mean, variance = figures.sample(figures.on_reference_paths, 4000)
    assert mean == pytest.approx(0.725, abs=2e-3)
    assert variance == pytest.approx(0.368, abs=2e-3)


def test_the_papers_temperature_moves_a_rate_of_76_percent_to_84(figures):
    assert figures.tilted_rate(0.76, 0.5) == pytest.approx(0.839, abs=1e-3)
    assert figures.tilted_rate(0.2, 0.0) == pytest.approx(0.2)
