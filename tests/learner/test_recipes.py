"""Recipes: found by name, and every stage has a loss."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from learner.drawn import batch
from learner.fleet import small
from lwd.cli.processes import asked_recipe
from lwd.config import DivlConfig
from lwd.errors import ConfigError
from lwd.learner.recipes import losses, names, nets, recipe, shapes
from lwd.learner.state import Rates, optimisers


@pytest.mark.parametrize("name", names())
def test_every_stage_of_a_recipe_has_a_loss_and_its_own_name(name):
    settings = recipe(name, seed=7)
    assert settings.recipe == name
    assert settings.seed == 7
    assert list(settings.stages) == list(losses(name))


def test_an_unknown_recipe_is_answered_with_near_misses():
    with pytest.raises(ConfigError, match=r"recipe 'lvd' is unknown\. Did you mean 'lwd'"):
        recipe("lvd")


@pytest.mark.parametrize(
    "words", [["--recipe", "lwd"], ["--root", "x", "--recipe=lwd"], ["--root", "x"]]
)
def test_the_flag_chooses_the_defaults_of_the_others(words):
    assert asked_recipe(words) == recipe("lwd")


def test_an_unknown_stage_is_answered_with_near_misses():
    with pytest.raises(ConfigError, match=r"stage 'ofline' is unknown\. Did you mean 'offline'"):
        recipe("lwd").with_stage("ofline", updates=1)


def test_stages_that_cannot_share_a_critic_are_refused():
    with pytest.raises(ConfigError, match=r"different value supports.*\(51, -0.1, 1.1\)"):
        recipe("lwd").with_stage("offline", divl=DivlConfig(atoms=51))


def test_hg_dagger_has_the_budget_of_lwd():
    ours, theirs = recipe("lwd").stages, recipe("hg_dagger").stages
    assert list(theirs) == ["sft", "online"]
    assert theirs["sft"] == ours["sft"]
    same = ("batch", "updates", "updates_per_episode", "optimiser", "episodes", "deployed")
    for name in same:
        assert getattr(theirs["online"], name) == getattr(ours["online"], name), name
    assert {part for part, share in theirs["online"].mixture.items() if share} == {
        *("demo", "corrected")
    }


def test_the_policy_learns_in_the_last_of_every_few_updates():
    stage = replace(recipe("lwd").stage("online"), policy_every=3)
    steps = [losses("lwd")["online"].step(stage, number).__name__ for number in range(6)]
    assert steps == 2 * ["critic_update", "critic_update", "update"]


def test_recap_collects_what_lwd_collects_in_two_rounds():
    ours, theirs = recipe("lwd").stages, recipe("recap").stages
    assert theirs["sft"] == ours["sft"]
    rounds = [stage.fresh for stage in theirs.values() if stage.fresh]
    assert rounds == [280 - 120, 1000 / 8]
    policy = theirs["policy_1"]
    assert (policy.positive, policy.dropped) == (0.3, 0.3)
    assert theirs["policy_2"] == policy


@pytest.mark.parametrize(
    ("name", "changed"),
    [("iql", {"value": "expectile"}), ("constant_tau", {"tau_base": 0.52, "alpha": 0.0})],
)
def test_an_ablation_changes_one_thing(name, changed):
    for stage, ours in recipe("lwd").stages.items():
        theirs = recipe(name).stages[stage]
        assert theirs == replace(ours, divl=replace(ours.divl, **changed))


@pytest.mark.parametrize("name", names())
def test_a_stage_says_whether_it_learns_q(name):
    """Traced: what an update does not train goes through it untouched."""
    config, found = small(name), {}
    for stage, loss in losses(name).items():
        settings = config.stage(stage)
        step = partial(
            loss.step(settings, 0),
            nets=nets(config),
            optimisers=optimisers(settings.optimiser),
            stage=settings,
        )

        def noted(state, drawn, key, rates, step=step, stage=stage):
            after, _ = step(state, drawn, key, rates)
            pairs = zip(jax.tree.leaves(after.q), jax.tree.leaves(state.q), strict=True)
            found[stage] = not all(new is old for new, old in pairs)
            return after

        arguments = (shapes(config, stage), batch(config), jax.random.key(0))
        jax.eval_shape(noted, *arguments, Rates(*map(jnp.float32, (1e-3, 1e-3, 0.6))))
    assert found == {stage: loss.learns_q for stage, loss in losses(name).items()}
