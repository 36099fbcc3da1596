from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.algorithms.flow import euler_sample
from lwd.config import COMPACT, StateLayout
from lwd.errors import ConfigError
from lwd.models import state
from lwd.models.fns import Inputs
from lwd.models.presets import WIDTHS, build
from lwd.models.tokenizer import tokenize

LAYOUT = StateLayout()


def inputs(rng, batch=4, instruction="put the red can on the shelf"):
    state = rng.normal(size=(batch, LAYOUT.size)).astype(np.float32)
    slots = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(batch, LAYOUT.slots, LAYOUT.slot)
    slots[..., LAYOUT.identities.start :] = 0
    for slot in range(6):
        slots[:, slot, -30 + slot % 3] = slots[:, slot, -10 + slot % 4] = slots[:, slot, -1] = 1
    slots[:, 6:] = 0
    return Inputs(jnp.asarray(state), jnp.asarray(tokenize([instruction] * batch)))


def with_permuted_slots(given, rng):
    state = np.array(given.state)
    slots = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(
        len(state), LAYOUT.slots, LAYOUT.slot
    )
    slots[:] = slots[:, rng.permutation(LAYOUT.slots)]
    return given._replace(state=jnp.asarray(state))


def parameters(init):
    """Random ones, without the zeros of a fresh output layer."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), x.dtype), shapes
    )


@pytest.mark.parametrize("preset", WIDTHS)
def test_shapes_of_policy_and_critic(preset, rng):
    policy, critic = build(preset, COMPACT, atoms=51)
    given, chunk = inputs(rng), jnp.zeros((4, 10, 16))

    def evaluate(key):
        params = policy.init(key)
        velocity = policy.velocity(params, policy.encode(params, given), chunk, jnp.zeros(4))
        value = critic.value_logits(critic.init_value(jax.random.clone(key)), given)
        return velocity, value, critic.q(critic.init_q(jax.random.clone(key)), given, chunk)

    shapes = [found.shape for found in jax.eval_shape(evaluate, jax.random.key(0))]
    assert shapes == [(4, 10, 16), (4, 51), (2, 4)]


def test_a_fresh_policy_predicts_the_mean_action_from_whatever_noise(rng):
    """Its output layer is zero: all Euler paths end at 0, the mean of normalised actions."""
    policy, _ = build("narrow", COMPACT)
    given, params = inputs(rng), policy.init(jax.random.key(0))
    noise = jnp.asarray(rng.normal(size=(4, 10, 16)), jnp.float32)
    context = policy.encode(params, given)
    found = euler_sample(lambda a, w: policy.velocity(params, context, a, w), noise, 10)
    np.testing.assert_allclose(found, np.zeros(noise.shape), atol=1e-5)
    assert policy.predicts == "action"


def test_the_order_of_object_slots_does_not_matter(rng):
    policy, critic = build("narrow", COMPACT)
    given, chunk = inputs(rng), jnp.asarray(rng.normal(size=(4, 10, 16)), jnp.float32)
    other = with_permuted_slots(given, rng)
    params, encode, q = parameters(policy.init), jax.jit(policy.encode), jax.jit(critic.q)
    np.testing.assert_allclose(encode(params, given), encode(params, other), atol=1e-4)
    params = parameters(critic.init_q)
    np.testing.assert_allclose(q(params, given, chunk), q(params, other, chunk), atol=1e-4)


def test_a_score_is_that_of_a_query_and_a_key_of_each_slot(rng):
    """As written down plainly, with the gradients that follow from it."""
    batch, words = 4, state.WORD + LAYOUT.done
    width = state.HEADS * state.KEY
    query, key = (0.1 * rng.normal(size=(size, width)) for size in (words, LAYOUT.identity))
    params = {
        "query": {"w": jnp.asarray(query), "b": jnp.asarray(rng.normal(size=width))},
        "key": jnp.asarray(key),
    }
    wanted = jnp.asarray(rng.normal(size=(batch, words)))
    slots = jnp.asarray(rng.normal(size=(batch, LAYOUT.slots, LAYOUT.slot)))
    present = slots[..., -1] > 0.5
    assert 0 < present.sum() < present.size

    def plainly(params, slots):
        split = (state.HEADS, state.KEY)
        query = (wanted @ params["query"]["w"] + params["query"]["b"][None]).reshape(
            batch, 1, *split
        )
        key = (slots[..., LAYOUT.identities] @ params["key"]).reshape(batch, -1, *split)
        share = jax.nn.softmax(jnp.where(present[..., None], (query * key).sum(-1), -1e9), axis=1)
        return (share[..., None] * slots[:, :, None]).sum(1)

    def ours(params, slots):
        return state._attend(params, wanted, slots, LAYOUT)

    found, expected = (
        jax.jit(jax.value_and_grad(lambda p, x, f=f: jnp.square(f(p, x)).sum(), (0, 1)))(
            params, slots
        )
        for f in (ours, plainly)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, expected)
    np.testing.assert_allclose(ours(params, slots), plainly(params, slots), atol=1e-5)


def test_who_has_an_object_does_not_change_which_one_is_meant(rng):
    params = parameters(lambda key: state._init_encoder(key, LAYOUT, 32))
    wanted = jnp.asarray(rng.normal(size=(4, state.WORD + LAYOUT.done)), jnp.float32)
    slots = jnp.asarray(rng.normal(size=(4, LAYOUT.slots, LAYOUT.slot)), jnp.float32)
    slots = slots.at[..., -1].set(1.0)
    held = slots.at[:, 0, -LAYOUT.arms - 1 : -1].add(1.0)
    free, grasped = (state._attend(params, wanted, each, LAYOUT) for each in (slots, held))
    unlike = np.flatnonzero(np.abs(free - grasped).max((0, 1)) > 1e-6)
    assert list(unlike) == [LAYOUT.slot - 3, LAYOUT.slot - 2]


def test_the_named_object_decides_what_the_policy_sees(rng):
    policy, _ = build("narrow", COMPACT)
    params, encode = parameters(policy.init), jax.jit(policy.encode)
    red = inputs(rng)
    green = red._replace(tokens=jnp.asarray(tokenize(["put the green can on the shelf"] * 4)))
    difference = jnp.abs(encode(params, red) - encode(params, green)).max()
    assert difference > 1e-2


def test_the_policy_does_not_see_the_clock_and_nobody_sees_the_padding_of_words(rng):
    policy, critic = build("narrow", COMPACT)
    given, params = inputs(rng), parameters(policy.init)
    encode, value = jax.jit(policy.encode), jax.jit(critic.value_logits)
    clock = LAYOUT.size - LAYOUT.scalars
    late = given._replace(state=given.state.at[:, clock].add(1.0))
    np.testing.assert_array_equal(encode(params, late), encode(params, given))
    psi = parameters(critic.init_value)
    assert jnp.abs(value(psi, late) - value(psi, given)).max() > 1e-3
    padded = given._replace(tokens=jnp.pad(given.tokens, ((0, 0), (0, 5))))
    np.testing.assert_allclose(encode(params, padded), encode(params, given), atol=1e-5)


def test_an_instruction_is_read_with_the_sub_steps_that_are_done(rng, monkeypatch):
    given, asked, real = inputs(rng), [], state._attend
    params = parameters(lambda key: state._init_encoder(key, LAYOUT, 32))

    def noted(params, wanted, *rest):
        asked.append(wanted[:, state.WORD :])
        return real(params, wanted, *rest)

    @jax.jit
    def done(given):
        state._encode(params, given, LAYOUT)
        return asked[0]

    monkeypatch.setattr(state, "_attend", noted)
    np.testing.assert_array_equal(done(given), given.state[:, -LAYOUT.done :])


def test_q_heads_start_from_different_parameters_and_depend_on_the_action(rng):
    _, critic = build("narrow", COMPACT)
    params, given = jax.jit(critic.init_q)(jax.random.key(0)), inputs(rng)
    first, second = params["lift"]["w"]
    assert jnp.abs(first - second).max() > 0
    params = parameters(critic.init_q)
    chunk = jnp.asarray(rng.normal(size=(4, 10, 16)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda a: critic.q(params, given, a).sum()))(chunk)
    assert (jnp.abs(gradient).max((0,)) > 0).all()


def test_an_unknown_preset_offers_the_known_ones():
    with pytest.raises(ConfigError, match=r"'stat' is unknown\. Did you mean 'state'"):
        build("stat", COMPACT)
