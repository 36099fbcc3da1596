"""Ways to act: the plain flow, or what an extractor has put beside it.

An act names the networks that a robot needs besides the flow's, its settings, and how all of them
make a chunk of noise. Every extra network is of a kind that each preset has, the policy's or the
critic's, so that a new preset can act in every way at once.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from lwd.algorithms.best_of_n import best_of_n
from lwd.algorithms.edit import edited
from lwd.algorithms.flow import Chunk, Velocity, euler_sample
from lwd.algorithms.latent import steered
from lwd.algorithms.recap import append_indicator, guided
from lwd.algorithms.sac import Squashed
from lwd.errors import unknown
from lwd.models.fns import CriticFns, Inputs, Params, PolicyFns
from lwd.models.tokenizer import INDICATORS, tokenize

Settings = Mapping[str, Any]
"""Numbers and words of an act, by name."""
Kinds = dict[str, Callable[[Array], Params]]
"""What makes each extra network of a key, by the network's name."""
Draws = Float[Array, "draws batch horizon action"]


@dataclass(frozen=True, kw_only=True)
class Acting:
    """How to act with published networks; every act is one of `ACTS`."""

    act: str = "flow"
    extra: Mapping[str, Params] = field(default_factory=dict)
    """Networks besides the flow's."""
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Networks with their parameters, at one batch of inputs."""

    policy: PolicyFns
    critic: CriticFns
    params: Params
    """Of the flow."""
    extra: Mapping[str, Params]
    inputs: Inputs
    steps: int
    """Euler steps of the flow."""

    def flow(self, noise: Chunk) -> Float[Array, "batch horizon action"]:
        """Where the flow carries `noise`."""
        return euler_sample(velocity(self.policy, self.params, self.inputs), noise, self.steps)


@dataclass(frozen=True, kw_only=True)
class Act:
    """One way to act."""

    sample: Callable[[Parts, Draws, Settings], Chunk]
    """Standard normal draws to chunks in network units."""
    extra: Callable[[PolicyFns, CriticFns], Kinds] = lambda policy, critic: {}
    """Networks that it needs besides the flow's."""
    settings: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    """Settings that it needs, each with what reads it from text."""
    draws: Callable[[Settings], int] = lambda settings: 1
    """Chunks of noise for each chunk of actions."""


def velocity(policy: PolicyFns, params: Params, inputs: Inputs) -> Velocity:
    """The flow's velocity at `inputs`, which are encoded once."""
    context = policy.encode(params, inputs)
    return lambda a, w: policy.velocity(params, context, a, w)


def one_step(policy: PolicyFns, params: Params, inputs: Inputs) -> Callable[[Chunk], Chunk]:
    """mu(s, z): noise to a chunk in one Euler step of a velocity that is trained for it."""
    field_at = velocity(policy, params, inputs)
    return lambda z: z + field_at(z, jnp.zeros(len(z))).astype(z.dtype)


def gaussian(policy: PolicyFns, params: Params, inputs: Inputs) -> Callable[[Chunk], Squashed]:
    """A squashed Gaussian given s and a chunk: one network of the policy's kind, asked at flow
    time 0 for the mean and at 1 for the logarithm of the standard deviation."""
    output_at = velocity(policy, params, inputs)
    return lambda a: Squashed(output_at(a, jnp.zeros(len(a))), output_at(a, jnp.ones(len(a))))


def act_of(name: str) -> Act:
    """Act by name; ConfigError with near misses if there is none."""
    if name not in ACTS:
        raise unknown("act", name, ACTS)
    return ACTS[name]


def _within(chunk: Chunk, settings: Settings) -> Chunk:
    return jnp.clip(chunk, -settings["bound"], settings["bound"])


def _one_step(parts: Parts, draws: Draws, settings: Settings) -> Chunk:
    actor = one_step(parts.policy, parts.extra["one_step"], parts.inputs)
    return _within(actor(draws[0]), settings)


def _edited(parts: Parts, draws: Draws, settings: Settings) -> Chunk:
    editor = gaussian(parts.policy, parts.extra["editor"], parts.inputs)
    flown = _within(parts.flow(draws[0]), settings)
    return edited(editor, flown, draws[1], scale=settings["scale"], bound=settings["bound"])[0]


def _steered(parts: Parts, draws: Draws, settings: Settings) -> Chunk:
    actor = gaussian(parts.policy, parts.extra["noise_actor"], parts.inputs)
    chosen = actor(jnp.zeros_like(draws[0]))
    noise, _ = steered(chosen, draws[0], bound=settings["noise_bound"])
    return _within(parts.flow(noise), settings)


def _best_of_n(parts: Parts, draws: Draws, settings: Settings) -> Chunk:
    critic, judge = parts.extra["critic"], parts.critic
    seen = judge.encode(critic, parts.inputs)
    chunks, _ = best_of_n(
        velocity(parts.policy, parts.params, parts.inputs),
        lambda a: judge.q(critic, seen, a),
        draws,
        steps=parts.steps,
        reduce=settings["reduce"],
        bound=settings["bound"],
    )
    return chunks


def _guided(parts: Parts, draws: Draws, settings: Settings) -> Chunk:
    praise = jnp.asarray(tokenize([INDICATORS[True]])[0, : len(INDICATORS[True].split())])
    praised = append_indicator(parts.inputs.tokens, praise)
    flow = guided(
        velocity(parts.policy, parts.params, parts.inputs._replace(tokens=praised)),
        velocity(parts.policy, parts.params, parts.inputs),
        settings["guidance"],
    )
    return euler_sample(flow, draws[0], parts.steps)


def _positive(text: str) -> float:
    value = float(text)
    if math.isnan(value) or value <= 0:
        raise ValueError(f"{text} is not a positive number")
    return value


def count(text: str) -> int:
    """A number of at least one, from text; ValueError says what it is instead."""
    if (value := int(text)) < 1:
        raise ValueError(f"{text} is less than one")
    return value


def _reduction(text: str) -> str:
    if text not in ("mean", "min"):
        raise ValueError(f"{text!r} is neither 'mean' nor 'min'")
    return text


ACTS = {
    "flow": Act(sample=lambda parts, draws, settings: parts.flow(draws[0])),
    "one_step": Act(
        sample=_one_step,
        extra=lambda policy, critic: {"one_step": policy.init},
        settings={"bound": _positive},
    ),
    "edited": Act(
        sample=_edited,
        extra=lambda policy, critic: {"editor": policy.init},
        settings={"bound": _positive, "scale": _positive},
        draws=lambda settings: 2,
    ),
    "steered": Act(
        sample=_steered,
        extra=lambda policy, critic: {"noise_actor": policy.init},
        settings={"bound": _positive, "noise_bound": _positive},
    ),
    "guided": Act(sample=_guided, settings={"guidance": _positive}),
    "best_of_n": Act(
        sample=_best_of_n,
        extra=lambda policy, critic: {"critic": critic.init_q},
        settings={"bound": _positive, "candidates": count, "reduce": _reduction},
        draws=lambda settings: settings["candidates"],
    ),
}
"""Every way to act, by the name that an artifact's metadata gives it."""
