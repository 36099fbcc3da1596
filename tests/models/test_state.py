import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.config import COMPACT, StateLayout
from lwd.errors import ConfigError
from lwd.models.fns import Inputs
from lwd.models.presets import build
from lwd.models.tokenizer import tokenize

LAYOUT = StateLayout()


def inputs(rng, batch=4, instruction="put the red can on the shelf"):
    state = rng.normal(size=(batch, LAYOUT.size)).astype(np.float32)
    slots = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(batch, LAYOUT.slots, LAYOUT.slot)
    slots[..., -LAYOUT.identity :] = 0
    for slot in range(6):
        slots[:, slot, -26 + slot % 3] = slots[:, slot, -6 + slot % 4] = slots[:, slot, -1] = 1
    slots[:, 6:] = 0
    return Inputs(jnp.asarray(state), jnp.asarray(tokenize([instruction] * batch)))


def with_permuted_slots(given, rng):
    state = np.array(given.state)
    slots = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(
        len(state), LAYOUT.slots, LAYOUT.slot
    )
    slots[:] = slots[:, rng.permutation(LAYOUT.slots)]
    return given._replace(state=jnp.asarray(state))


def perturbed(params, key):
    """Parameters without the zeros of a fresh output layer."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def test_shapes_of_policy_and_critic(rng):
    policy, critic = build("state", COMPACT, atoms=51)
    given, chunk = inputs(rng), jnp.zeros((4, 10, 16))
    params = policy.init(jax.random.key(0))
    velocity = policy.velocity(params, policy.encode(params, given), chunk, jnp.zeros(4))
    assert velocity.shape == (4, 10, 16)
    assert critic.value_logits(critic.init_value(jax.random.key(1)), given).shape == (4, 51)
    assert critic.q(critic.init_q(jax.random.key(2)), given, chunk).shape == (2, 4)


def test_the_order_of_object_slots_does_not_matter(rng):
    policy, critic = build("state", COMPACT)
    given, chunk = inputs(rng), jnp.asarray(rng.normal(size=(4, 10, 16)), jnp.float32)
    other = with_permuted_slots(given, rng)
    params = perturbed(policy.init(jax.random.key(0)), jax.random.key(1))
    np.testing.assert_allclose(
        policy.encode(params, given), policy.encode(params, other), atol=1e-4
    )
    params = perturbed(critic.init_q(jax.random.key(2)), jax.random.key(3))
    np.testing.assert_allclose(
        critic.q(params, given, chunk), critic.q(params, other, chunk), atol=1e-4
    )


def test_the_named_object_decides_what_the_policy_sees(rng):
    policy, _ = build("state", COMPACT)
    params = policy.init(jax.random.key(0))
    red = inputs(rng)
    green = red._replace(tokens=jnp.asarray(tokenize(["put the green can on the shelf"] * 4)))
    difference = jnp.abs(policy.encode(params, red) - policy.encode(params, green)).max()
    assert difference > 1e-2


def test_q_heads_start_from_different_parameters_and_depend_on_the_action(rng):
    _, critic = build("state", COMPACT)
    params = perturbed(critic.init_q(jax.random.key(0)), jax.random.key(1))
    given = inputs(rng)
    chunk = jnp.asarray(rng.normal(size=(4, 10, 16)), jnp.float32)
    first, second = critic.q(params, given, chunk)
    assert jnp.abs(first - second).max() > 1e-3
    gradient = jax.grad(lambda a: critic.q(params, given, a).sum())(chunk)
    assert (jnp.abs(gradient).max((0,)) > 0).all()


def test_an_unknown_preset_offers_the_known_ones():
    with pytest.raises(ConfigError, match=r"'stat' is unknown\. Did you mean 'state'"):
        build("stat", COMPACT)
