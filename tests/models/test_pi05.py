"""What the golden numbers do not show: masks, caching, dtypes, gradients, bad input."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.models import pi05
from lwd.models.checkpoints.tree import flatten
from lwd.models.gemma import GemmaConfig
from lwd.models.pi05 import CAMERAS, Observation, Pi05Config
from models.goldens import BLOCKS, CONFIG, random_params


@pytest.fixture(scope="module")
def params():
    return random_params()


@pytest.fixture(scope="module")
def act():
    """Jitted velocity from an observation."""

    @jax.jit
    def act(params, seen, a, w):
        return pi05.velocity(params, pi05.encode(params, seen, CONFIG), a, w, CONFIG)

    return act


def observation(seed: int = 0, batch: int = 2, tokens: int = 10) -> Observation:
    rng = np.random.default_rng(seed)
    shape = (batch, 28, 28, 3)
    return Observation(
        images={name: jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32) for name in CAMERAS},
        image_mask={name: jnp.ones(batch, bool) for name in CAMERAS},
        tokens=jnp.asarray(rng.integers(1, 512, (batch, tokens))),
        token_mask=jnp.ones((batch, tokens), bool),
    )


def chunk(seed: int = 1) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(2, 6, 8)), jnp.float32), jnp.asarray([0.3, 0.8])


def test_padding_and_missing_cameras_change_nothing(params, act):
    seen = observation()
    mask = seen.token_mask.at[:, 6:].set(False)
    gone = seen.image_mask | {"left_wrist_0_rgb": jnp.zeros(2, bool)}
    seen = seen._replace(token_mask=mask, image_mask=gone)
    images = seen.images | {"left_wrist_0_rgb": -jnp.ones((2, 28, 28, 3))}
    other = seen._replace(tokens=seen.tokens.at[:, 6:].set(7), images=images)
    first, second = (act(params, given, *chunk()) for given in (seen, other))
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.abs(act(params, observation(), *chunk()) - first).max() > 1e-3


def test_a_fresh_expert_moves_only_by_its_projections(act):
    fresh = pi05.init(jax.random.key(0), CONFIG)
    first, second = (act(fresh, observation(seed), *chunk()) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_a_velocity_needs_the_experts_parameters_only(params, act):
    seen = observation()
    cache = pi05.encode(params, seen, CONFIG)
    flat = flatten(params)
    frozen = {path for path in flat if not pi05.is_expert(path)}
    assert {path.split("/")[1] for path in flat if path.startswith("PaliGemma")} == {"img", "llm"}
    assert all(path.startswith("PaliGemma/") for path in frozen)

    def total(params):
        return pi05.velocity(params, cache, *chunk(), CONFIG).sum()

    gradient = flatten(jax.grad(total)(params))
    used = {path for path, g in gradient.items() if np.abs(g).max() > 0}
    assert used == flat.keys() - frozen


def test_bfloat16_stays_near_float32(params):
    half = replace(CONFIG, bfloat16=True)
    seen = observation()
    exact, rough = (
        pi05.velocity(params, pi05.encode(params, seen, config), *chunk(), config)
        for config in (CONFIG, half)
    )
    assert rough.dtype == jnp.float32
    scale = np.abs(exact).mean()
    assert 0 < np.abs(exact - rough).max() < 0.1 * scale


def test_unrolled_and_recomputed_blocks_give_the_same(params, act):
    seen = observation()
    other = replace(CONFIG, unroll=True, remat=True)
    again = pi05.velocity(params, pi05.encode(params, seen, other), *chunk(), other)
    np.testing.assert_allclose(act(params, seen, *chunk()), again, atol=1e-6)


def test_the_released_model_has_its_known_size():
    shapes = jax.eval_shape(lambda key: pi05.init(key, Pi05Config()), jax.random.key(0))
    sizes = {path: leaf.size for path, leaf in flatten(shapes).items()}
    assert sum(sizes.values()) == pytest.approx(3353e6, rel=1e-3)
    assert sum(n for p, n in sizes.items() if pi05.is_expert(p)) == pytest.approx(430e6, rel=1e-2)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda s: s._replace(images={}), "camera 'base_0_rgb' is missing"),
        (lambda s: observation(tokens=11), "the prompt has 11 tokens; at most 10"),
        (
            lambda s: s._replace(images=s.images | {"base_0_rgb": jnp.zeros((2, 14, 28, 3))}),
            "base_0_rgb.*14, 28, 3.*28 x 28 x 3",
        ),
    ],
)
def test_what_does_not_fit_is_named(params, broken, message):
    with pytest.raises(ValueError, match=message):
        pi05.encode(params, broken(observation()), CONFIG)


def test_an_expert_that_cannot_read_the_cache_is_refused():
    with pytest.raises(ValueError, match=r"expert.heads is 4, vlm.heads is 8"):
        replace(CONFIG, expert=replace(BLOCKS, heads=4))
    assert Pi05Config(expert=GemmaConfig(width=512, mlp=64)).expert.depth == 18
