"""The toy's games as the learner's transitions, for many seeds at once."""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import jax
import jax.numpy as jnp
import numpy as np
import throws  # pyright: ignore[reportMissingImports]
from jax import Array

from lwd.config import StageConfig
from lwd.learner.state import Transitions
from lwd.models.fns import Inputs
from lwd.models.tokenizer import INDICATORS, tokenize

RECORD, ROUNDS, GAMES = 3000, 3, 400
"""Recorded games; the games of a policy come in `ROUNDS` of `GAMES`."""
BATCH = 64
INSTRUCTION = "throw"


class Games(NamedTuple):
    """Games of every seed; the second throw of one counts only where the first has hit."""

    at: np.ndarray
    """[seeds, games, turns, 2], where the throws went."""
    hit: np.ndarray
    """[seeds, games, turns]"""


class Rows(NamedTuple):
    """What a batch is drawn from: [seeds, slots, ...], two slots for each game."""

    columns: Transitions
    index: Array
    """[seeds, parts, slots] slots of each part of the mixture, its own first."""
    count: Array
    """[seeds, parts] how many of them are its own."""


def play(at: np.ndarray, rng: np.random.Generator) -> Games:
    """Games with throws [seeds, games, turns, 2]."""
    hit = rng.random(at.shape[:3]) < throws.chance(np.arange(2), at)
    return Games(at, hit)


def record(seeds: int) -> Games:
    """As somebody plays, for each seed."""
    rng = np.random.default_rng(7)
    return play(throws.behave(rng, seeds * RECORD * 2).reshape(seeds, RECORD, 2, 2), rng)


def parts(games: Games) -> dict[str, np.ndarray]:
    """[seeds, slots] which throws each replay part has."""
    happened = games.hit.copy()
    happened[:, :, 1], happened[:, :, 0] = games.hit[:, :, 0], True
    old = np.arange(games.hit.shape[1])[None, :, None] < RECORD
    won = games.hit.all(axis=2, keepdims=True)
    found = {
        "demo": happened & old,
        "offline": happened & old,
        "online": happened & ~old,
        "experience": happened,
        "corrected": happened & ~old & won,
    }
    return {name: which.reshape(len(which), -1) for name, which in found.items()}


def rows(games: Games, stage: StageConfig, to_the_end: bool, told: np.ndarray | None) -> Rows:
    """What `stage` draws from; slots are filled up to those of a whole run, so that nothing
    compiles twice. `told` [seeds, slots] are RECAP's labels."""
    seeds, played = games.hit.shape[:2]
    missing = RECORD + ROUNDS * GAMES - played
    masks = [
        np.pad(mask, ((0, 0), (0, 2 * missing)))
        for name, mask in parts(games).items()
        if stage.mixture.get(name)
    ]
    games = Games(*(np.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)) for x in games))
    hit, turn = games.hit, np.broadcast_to(np.arange(2), games.hit.shape)
    later = hit[:, :, :1] & hit[:, :, 1:]
    returns = np.where(turn == 1, hit, throws.DISCOUNT * later if to_the_end else 0.0)
    discount = np.where((turn == 0) & hit & (not to_the_end), throws.DISCOUNT, 0.0)
    flat = (seeds, hit[0].size)
    texts = [INSTRUCTION, *(f"{INSTRUCTION} {INDICATORS[kind]}" for kind in (False, True))]
    said = np.zeros(flat, int)
    if told is not None:
        said[:, : told.shape[1]] = 1 + told
    tokens = jnp.asarray(tokenize(texts)[said])
    state = np.eye(2, dtype=np.float32)[turn.reshape(flat)]
    columns = Transitions(
        inputs=Inputs(jnp.asarray(state), tokens),
        action=jnp.asarray(games.at.reshape(*flat, 1, 2), jnp.float32),
        action_mask=jnp.ones((*flat, 1), bool),
        returns=jnp.asarray(returns.reshape(flat), jnp.float32),
        discount=jnp.asarray(discount.reshape(flat), jnp.float32),
        next_inputs=Inputs(jnp.zeros_like(state).at[..., 1].set(1.0), tokens),
    )
    index = np.stack([np.argsort(~mask, axis=1, kind="stable") for mask in masks], axis=1)
    count = np.stack([mask.sum(axis=1) for mask in masks], axis=1)
    return Rows(columns, jnp.asarray(index), jnp.asarray(count))


def draw(data: Rows, key: Array) -> Transitions:
    """A batch of one seed, every part of the mixture with the same share."""
    per_part = BATCH // len(data.count)
    keys = jax.random.split(key, len(data.count))
    chosen = [
        index[jax.random.randint(part, (per_part,), 0, count)]
        for part, index, count in zip(keys, data.index, data.count, strict=True)
    ]
    return jax.tree.map(lambda column: column[jnp.concatenate(chosen)], data.columns)
