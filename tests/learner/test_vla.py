"""The same updates on a policy and a critic that see: what is trained, and what it costs."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.nets import at
from lwd.config import DivlConfig, QamConfig, StageConfig, StateLayout
from lwd.learner.recipes.lwd import fix_reference
from lwd.learner.state import (
    Nets,
    TrainState,
    Transitions,
    init,
    optimisers,
    start_stage,
    trained,
)
from lwd.learner.update import critic_update, extract_policy, in_parts, sft_update, update
from lwd.models import vla
from lwd.models.checkpoints.tree import flatten
from lwd.models.fns import Inputs
from lwd.models.pi05 import CAMERAS
from models.mini import mini

HORIZON, ACTION, ATOMS, BATCH = 4, 16, 11, 4
SIZES = mini(HORIZON, ATOMS)
NETS = Nets(vla.policy(SIZES.policy), vla.critic(SIZES.critic))
ALL = StageConfig(
    updates=1,
    batch=BATCH,
    mixture={"demo": 1.0},
    divl=DivlConfig(atoms=ATOMS),
    qam=QamConfig(steps=2, inv_temp=5.0),
)
EXPERT = replace(ALL, trained="expert")
SHARED = replace(EXPERT, qam=replace(ALL.qam, reference="shared_vlm"))
CHAIN = optimisers(ALL.optimiser)


def rows(rng: np.random.Generator) -> Transitions:
    def inputs() -> Inputs:
        side, there = SIZES.policy.vision.image, {name: np.ones(BATCH, bool) for name in CAMERAS}
        shape = (BATCH, side, side, 3)
        seen = {name: rng.integers(0, 256, shape, np.uint8) for name in CAMERAS}
        state = rng.normal(size=(BATCH, StateLayout().proprio)).astype(np.float32)
        tokens = rng.integers(1, 1024, (BATCH, 6), np.int32)
        return Inputs(*jax.tree.map(jnp.asarray, (state, tokens, seen, there)))

    return Transitions(
        inputs=inputs(),
        action=jnp.asarray(rng.normal(size=(BATCH, HORIZON, ACTION)), jnp.float32),
        action_mask=jnp.ones((BATCH, HORIZON), bool),
        returns=jnp.asarray(rng.uniform(size=BATCH), jnp.float32),
        discount=jnp.full(BATCH, 0.9),
        next_inputs=inputs(),
    )


@cache
def state(stage: StageConfig = ALL) -> TrainState:
    """Networks that are random everywhere, also where fresh ones have zeros."""

    def begin() -> TrainState:
        shared = stage.qam.reference == "shared_vlm"
        made = init(jax.random.key(0), NETS.policy, NETS.critic, CHAIN, share_vlm=shared)
        return start_stage(made, CHAIN, trained(NETS.policy, stage))

    shapes, rng = jax.eval_shape(begin), np.random.default_rng(0)

    def drawn(name: str):
        like = getattr(shapes, name)
        return jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), like)

    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    nets = {name: drawn(name) for name in ("policy", "value", "q", "target_q")}
    return fix_reference(empty._replace(**nets))


def extraction(state, batch, key, rates, *, stage):
    return extract_policy(state, batch, key, rates, NETS, CHAIN, stage)


@cache
def jitted(step, stage):
    given = {} if step is extraction else {"nets": NETS, "optimisers": CHAIN}
    return jax.jit(partial(step, stage=stage, **given))


def apply(step, stage, state, batch):
    return jitted(step, stage)(state, batch, jax.random.key(7), at(1e-2, 1e-2, 0.6))


def changed(new, old) -> dict[str, bool]:
    before = flatten(old)
    return {path: bool((leaf != before[path]).any()) for path, leaf in flatten(new).items()}


@pytest.fixture
def batch(rng) -> Transitions:
    return rows(rng)


def test_sft_trains_all_of_the_policy(batch):
    new, metrics = apply(sft_update, ALL, state(), batch)
    moved = changed(new.policy, state().policy)
    # What the last block of the language model does after its keys and values, nobody reads.
    unread = ("pre_ffw_norm/", "mlp/", "q_einsum/", "attn_vec_einsum/", "final_norm/")
    assert all(moved[path] for path in moved if not any(part in path for part in unread)), moved
    assert not any(changed(new.q, state().q).values())
    assert np.isfinite(float(metrics["policy/sft_loss"]))


def test_online_the_expert_learns_and_what_it_sees_with_stays(batch):
    new, _ = apply(extraction, EXPERT, state(EXPERT), batch)
    for path, moved in changed(new.policy, state(EXPERT).policy).items():
        assert moved == NETS.policy.is_expert(path), path
    own = sum(x.size for p, x in flatten(new.policy).items() if NETS.policy.is_expert(p))
    remembered = sum(x.size for x in jax.tree.leaves(state(EXPERT).optimiser.policy))
    assert remembered == 2 * own + 1, "two moments of the expert and a count"


def test_where_the_vlm_was_frozen_a_shared_reference_is_exact_and_smaller(batch):
    own, shared = state(EXPERT), state(SHARED)
    np.testing.assert_array_equal(*(s.policy["action_in_proj"]["kernel"] for s in (own, shared)))
    size = [sum(x.size for x in jax.tree.leaves(s.reference)) for s in (own, shared)]
    assert size[1] < 0.3 * size[0]
    # Another expert than the reference's, so that the two flows differ.
    new = [apply(extraction, EXPERT, own, batch)[0], apply(extraction, SHARED, shared, batch)[0]]
    again = [
        apply(extraction, stage, s, batch)[0].policy
        for stage, s in zip((EXPERT, SHARED), new, strict=True)
    ]
    for path, leaf in flatten(again[0]).items():
        np.testing.assert_allclose(leaf, flatten(again[1])[path], atol=2e-5, err_msg=path)


def test_the_critic_learns_to_see_and_both_values_share_it(batch):
    before = state()
    new, metrics = apply(critic_update, ALL, before, batch)
    moved = changed(new.q, before.q)
    assert all(moved[path] for path in moved if "backbone" in path), moved
    assert set(before.value) == {"hidden", "out"}, "V has a head and sees with Q's backbone"
    assert all(changed(new.value, before.value).values())
    assert np.isfinite(float(metrics["critic/loss"]))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="3 rows does not divide into 2 parts"):
        in_parts(lambda params, x: (x.sum(), {}), 2, jnp.zeros(3))
    with pytest.raises(ValueError, match="batch is 6 and parts is 4"):
        replace(ALL, batch=6, parts=4)


def test_what_is_seen_is_encoded_once_for_a_batch(batch):
    """Whatever the number of flow steps and of draws, gated or not: once for the policy, once for a
    reference of its own, once for each of the critics whose values are needed."""
    gated = replace(EXPERT, qam=replace(ALL.qam, gate=0.0))
    for step, stage, policies, critics in (
        (sft_update, replace(ALL, draws=4), 1, 0),
        # The target of Q now and then, Q itself, and the target as it is after its step.
        (update, gated, 2, 4),
        (update, SHARED, 1, 4),
    ):
        calls = {"policy": 0, "critic": 0}

        def encoded(which, encode, params, inputs, calls=calls):
            calls[which] += 1
            return encode(params, inputs)

        nets = Nets(
            replace(NETS.policy, encode=partial(encoded, "policy", NETS.policy.encode)),
            replace(NETS.critic, encode=partial(encoded, "critic", NETS.critic.encode)),
        )
        asked = replace(stage, qam=replace(stage.qam, steps=5))
        apart = partial(step, nets=nets, optimisers=CHAIN, stage=asked)
        jax.eval_shape(apart, state(stage), batch, jax.random.key(0), at(1e-2, 1e-2, 0.6))
        assert list(calls.values()) == [policies, critics], (step, asked)


def test_bfloat16_computes_and_float32_is_kept(batch):
    policy = vla.policy(replace(SIZES.policy, bfloat16=True))
    step = partial(sft_update, nets=NETS._replace(policy=policy), optimisers=CHAIN, stage=ALL)
    new, metrics = jax.jit(step)(state(), batch, jax.random.key(7), at(1e-2, 1e-2, 0.6))
    kept = {x.dtype for x in jax.tree.leaves((new.policy, new.optimiser.policy))}
    assert kept == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert metrics["policy/sft_loss"].dtype == jnp.float32
    exact = apply(sft_update, ALL, state(), batch)[1]["policy/sft_loss"]
    assert float(metrics["policy/sft_loss"]) == pytest.approx(float(exact), rel=0.02)
    assert float(metrics["policy/sft_loss"]) != float(exact)
