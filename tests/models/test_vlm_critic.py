"""The critic that reads cameras and instruction."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.models import vlm_critic
from lwd.models.checkpoints.tree import flatten
from lwd.models.gemma3 import Gemma3Config
from lwd.models.pi05 import CAMERAS, Observation
from lwd.models.siglip import SiglipConfig
from lwd.models.vlm_critic import VlmCriticConfig

CONFIG = VlmCriticConfig(
    text=Gemma3Config(
        width=32, depth=3, mlp=64, heads=2, head_dim=16, query_scale=16.0,
        vocabulary=64, window=8, every=3, causal=False,
    ),
    vision=SiglipConfig(width=16, depth=1, mlp=32, heads=2, patch=4, image=16),
    pooled=2, atoms=11, horizon=5, action=3, bfloat16=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return vlm_critic.init_backbone(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def read():
    return jax.jit(lambda params, seen: vlm_critic.read(params, seen, CONFIG))


def observation(seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    image = (4, 16, 16, 3)
    return Observation(
        images={name: jnp.asarray(rng.uniform(-1, 1, image), jnp.float32) for name in CAMERAS},
        image_mask={name: jnp.ones(4, bool) for name in CAMERAS},
        tokens=jnp.asarray(rng.integers(1, 64, (4, 6))),
        token_mask=jnp.ones((4, 6), bool),
    )


def test_the_readout_sees_every_camera_and_every_word(backbone, read):
    seen = observation()
    z = read(backbone, seen)
    assert z.shape == (4, 32)
    for name in CAMERAS:
        other = seen._replace(images=seen.images | {name: -seen.images[name]})
        assert np.abs(read(backbone, other) - z).max() > 1e-3, name
    other = seen._replace(tokens=seen.tokens.at[:, 0].set(5))
    assert np.abs(read(backbone, other) - z).max() > 1e-3


def test_what_is_masked_changes_nothing(backbone, read):
    seen = observation()
    gone = seen._replace(
        image_mask=seen.image_mask | {CAMERAS[1]: jnp.zeros(4, bool)},
        token_mask=seen.token_mask.at[:, 4:].set(False),
    )
    other = gone._replace(
        images=gone.images | {CAMERAS[1]: -gone.images[CAMERAS[1]]},
        tokens=gone.tokens.at[:, 4:].set(0),
    )
    np.testing.assert_allclose(read(backbone, gone), read(backbone, other), atol=1e-6)


def test_fresh_heads_know_nothing(backbone, read):
    z = read(backbone, observation())
    logits = vlm_critic.value_logits(vlm_critic.init_value(jax.random.key(1), CONFIG), z)
    np.testing.assert_array_equal(logits, np.zeros((4, 11)))
    a = jnp.ones((4, 5, 3))
    q = vlm_critic.q(vlm_critic.init_q(jax.random.key(2), CONFIG), z, a, CONFIG)
    np.testing.assert_array_equal(q, np.zeros((2, 4)))


def test_q_heads_differ_and_depend_on_every_action_of_the_chunk():
    z = jax.random.normal(jax.random.key(3), (4, 32))
    a = jax.random.normal(jax.random.key(4), (4, 5, 3))
    params = vlm_critic.init_q(jax.random.key(5), CONFIG)
    params["out"]["kernel"] = jax.random.normal(jax.random.key(6), params["out"]["kernel"].shape)
    first, second = vlm_critic.q(params, z, a, CONFIG)
    assert np.abs(first - second).min() > 1e-3
    gradient = jax.grad(lambda a: vlm_critic.q(params, z, a, CONFIG)[0].sum())(a)
    assert (np.abs(gradient) > 0).all()


def test_the_whole_is_as_large_as_gemma3_and_siglip_together():
    shapes = jax.eval_shape(
        lambda key: vlm_critic.init_backbone(key, VlmCriticConfig()), jax.random.key(0)
    )
    sizes = {path: leaf.size for path, leaf in flatten(shapes).items()}
    assert sum(n for p, n in sizes.items() if p.startswith("llm")) == pytest.approx(
        268.1e6, rel=1e-3
    )
    assert sum(sizes.values()) == pytest.approx(681e6, rel=2e-3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="pooled is 3; it must divide the 4 patches"):
        replace(CONFIG, pooled=3)
    with pytest.raises(ValueError, match="heads is 5; it must divide the width 32"):
        replace(CONFIG, heads=5)
    params = vlm_critic.init_q(jax.random.key(0), CONFIG)
    with pytest.raises(ValueError, match=r"shape \(5, 4\); the critic judges 5 actions of 3"):
        vlm_critic.q(params, jnp.zeros((4, 32)), jnp.zeros((4, 5, 4)), CONFIG)
