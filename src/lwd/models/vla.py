"""The presets that see: pi0.5 and the VLM critic as functions of `Inputs` (IV-D)."""

import jax
import jax.numpy as jnp
from jax import Array

from lwd.models import pi05, vlm_critic
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns
from lwd.models.pi05 import Observation, Pi05Config
from lwd.models.vlm_critic import VlmCriticConfig


def policy(config: Pi05Config) -> PolicyFns:
    """Flow policy whose context is the keys and values of the prefix."""
    return PolicyFns(
        init=lambda key: pi05.init(key, config),
        encode=lambda params, inputs: pi05.encode(params, observation(inputs, config), config),
        velocity=lambda params, cache, a, w: pi05.velocity(params, cache, a, w, config),
        is_expert=pi05.is_expert,
    )


def critic(config: VlmCriticConfig) -> CriticFns:
    """V and Q on the state z of one backbone, which the tree of Q has.

    V learns a head on z as it is: only Q's loss changes the backbone. Chunks may have more
    dimensions than the robot, as padding.
    """

    def init_q(key: Array) -> Params:
        backbone, heads = jax.random.split(key)
        return {
            "backbone": vlm_critic.init_backbone(backbone, config),
            "heads": vlm_critic.init_q(heads, config),
        }

    def encode(params: Params, inputs: Inputs) -> Array:
        return vlm_critic.read(params["backbone"], observation(inputs, config), config)

    return CriticFns(
        init_value=lambda key: vlm_critic.init_value(key, config),
        init_q=init_q,
        value_logits=vlm_critic.value_logits,
        q=lambda params, z, a: vlm_critic.q(params["heads"], z, a[..., : config.action], config),
        encode=encode,
    )


def observation(inputs: Inputs, config: Pi05Config | VlmCriticConfig) -> Observation:
    """What a model reads of `inputs`; ValueError where they hold no images."""
    if inputs.images is None or inputs.image_mask is None:
        raise ValueError(
            f"the inputs hold no images; the model sees {', '.join(config.cameras)}. Give robots "
            "these cameras, or choose the preset `state`."
        )
    tokens = inputs.tokens
    if isinstance(config, VlmCriticConfig) and inputs.critic_tokens is not None:
        tokens = inputs.critic_tokens
    return Observation(
        images={name: scaled(image) for name, image in inputs.images.items()},
        image_mask=inputs.image_mask,
        tokens=tokens,
        token_mask=tokens != 0,
        # What comes after the robot's own joints and hands is known in simulation only.
        state=inputs.state[:, : config.state] if config.state else None,
    )


def scaled(image: Array) -> Array:
    """Bytes to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0
