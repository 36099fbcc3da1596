"""Learning rates over a stage, and what a new stage keeps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.fleet import tiny
from lwd.config import DivlConfig, OptimiserConfig, StageConfig
from lwd.learner.compiled import compiled_init
from lwd.learner.state import TrainState, optimisers, rates, start_stage
from lwd.models.sharding import mesh

STAGE = StageConfig(
    updates=1000,
    mixture={"demo": 1.0},
    optimiser=OptimiserConfig(policy_lr=2e-5, critic_lr=5e-4, warmup=100),
    divl=DivlConfig(tau_base=0.9),
)


CHAIN = optimisers(STAGE.optimiser)


@pytest.fixture(scope="module")
def state() -> TrainState:
    return compiled_init(tiny(), mesh())(jax.random.key(0))


def test_rates_warm_up_peak_and_end_at_a_tenth():
    at = rates(STAGE)
    assert float(at(0).policy) == pytest.approx(2e-5 / 100)
    assert float(at(49).policy) == pytest.approx(1e-5)
    assert float(at(99).policy) == pytest.approx(2e-5)
    assert float(at(999).policy) == pytest.approx(2e-6)
    critic = np.array([at(n).critic for n in (*range(120), *range(120, 1000, 20))])
    assert critic.argmax() == 99
    assert critic.max() == pytest.approx(5e-4)
    assert (np.diff(critic[99:]) < 0).all()


def test_the_quantile_level_is_the_one_of_the_stage_throughout():
    at = rates(STAGE)
    assert [float(at(number).tau_base) for number in (0, 500, 999)] == [pytest.approx(0.9)] * 3


@pytest.mark.parametrize("updates", [1, 2, 20])
def test_a_short_stage_shortens_its_warm_up_and_never_has_a_rate_of_zero(updates):
    at = rates(replace(STAGE, updates=updates))
    found = [float(at(number).policy) for number in range(updates)]
    assert min(found) > 0
    assert max(found) == pytest.approx(2e-5)


def test_muon_steps_as_far_in_every_direction_of_a_matrix_and_about_as_adamw_elsewhere(rng):
    params = {"w": jnp.zeros((6, 4)), "b": jnp.zeros(4)}
    slope = {"w": rng.normal(size=(6, 4)) * [8.0, 4.0, 2.0, 1.0], "b": rng.normal(size=4)}
    slope = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), slope)
    steps = {}
    for kind in ("adamw", "muon"):
        chain = optimisers(OptimiserConfig(policy=kind)).policy
        steps[kind], _ = jax.jit(chain.update)(slope, chain.init(params), params)
    spread = {k: np.linalg.svd(step["w"], compute_uv=False) for k, step in steps.items()}
    assert spread["muon"].max() < 2 * spread["muon"].min()
    assert spread["adamw"].max() > 2 * spread["adamw"].min()
    np.testing.assert_allclose(steps["muon"]["b"], steps["adamw"]["b"], rtol=0.5)
    assert float((steps["muon"]["w"] * slope["w"]).sum()) > 0, "uphill, as every step here"
    assert np.sqrt(np.square(steps["muon"]["w"]).mean()) == pytest.approx(0.2, rel=0.5)


def test_a_new_stage_keeps_networks_and_forgets_optimisers(state):
    used = jax.tree.map(lambda x: x + 1, state)
    fresh = start_stage(used, CHAIN)
    for name in ("policy", "reference", "value", "q", "target_q"):
        assert getattr(fresh, name) is getattr(used, name)
    assert int(fresh.update) == 0
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(fresh.optimiser))
    assert all(jnp.any(leaf) for leaf in jax.tree.leaves(used.optimiser))


def test_the_target_and_the_reference_start_as_copies(state):
    for copy, original in ((state.target_q, state.q), (state.reference, state.policy)):
        for a, b in zip(jax.tree.leaves(copy), jax.tree.leaves(original), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a is not b  # donated separately
