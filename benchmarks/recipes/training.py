"""One recipe on all seeds: its stages, its own games, and how often its policy wins."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.recipes.games import (
    BATCH,
    GAMES,
    INSTRUCTION,
    ROUNDS,
    Games,
    Rows,
    draw,
    parts,
    play,
    record,
    rows,
    throws,
)
from benchmarks.recipes.nets import mlp, nets
from lwd.algorithms import recap as labels
from lwd.algorithms.categorical import support
from lwd.config import LearnerConfig, OptimiserConfig, StageConfig
from lwd.learner import recipes
from lwd.learner.compiled import without_rates
from lwd.learner.loss import HowToAct
from lwd.learner.recipes import losses
from lwd.learner.state import Networks, Rates, TrainState, init, optimisers, start_stage
from lwd.learner.state import rates as rates_of
from lwd.models.acts import ACTS, Parts
from lwd.models.artifact import FLOW_STEPS
from lwd.models.fns import Inputs
from lwd.models.tokenizer import tokenize

SFT, OFFLINE, ONLINE = 1200, 450, 450
"""Updates; `ONLINE` of them in `ROUNDS` parts, each after `GAMES` games by the policy so far."""
ATOMS, SAMPLES = 201, 1024
KNOBS: dict[str, tuple[str, tuple[float, ...]]] = {
    "lwd": ("inv_temp", (1.0, 5.0, 25.0)),
    "iql": ("inv_temp", (1.0, 5.0, 25.0)),
    "constant_tau": ("inv_temp", (1.0, 5.0, 25.0)),
    "qam_edit": ("scale", (0.03, 0.1, 0.3)),
    "qam_fql": ("alpha", (0.3, 1.0, 3.0)),
    "fql": ("alpha", (0.3, 1.0, 3.0)),
    "latent": ("noise_bound", (0.75, 1.5, 3.0)),
    "best_of_n": ("candidates", (4, 32, 256)),
    "recap": ("guidance", (1.0, 1.5, 3.0)),
    "hg_dagger": ("none", (0.0,)),
}
"""What says how far each recipe leaves the supervised policy."""
INV_TEMP = 5.0
"""Of the recipes with QAM whose knob is another."""


def settings(name: str, strength: float) -> LearnerConfig:
    """The recipe with the toy's budget, and its knob turned to `strength`."""
    config, knob = recipes.recipe(name), KNOBS[name][0]
    spent = {stage: (OFFLINE + ONLINE) // (len(config.stages) - 1) for stage in config.stages}
    changed = {}
    for stage, each in config.stages.items():
        supervised = stage == "sft"
        changed[stage] = replace(
            each,
            updates=SFT if supervised else spent[stage],
            batch=BATCH,
            policy_every=1,
            divl=replace(each.divl, atoms=ATOMS, n_step=1),
            qam=replace(each.qam, inv_temp=strength if knob == "inv_temp" else INV_TEMP),
            optimiser=OptimiserConfig(policy_lr=2e-3, critic_lr=2e-3, ema_rate=0.01),
            **({knob: type(getattr(each, knob))(strength)} if hasattr(each, knob) else {}),
        )
    return replace(config, stages=changed)


@cache
def updates(step: Any, stage: StageConfig, outputs: int) -> Callable[..., TrainState]:
    """Updates of every seed in one program: states, rows, keys and rates to states."""
    chain = optimisers(stage.optimiser)

    def many(state: TrainState, data: Rows, key: Array, rates: Rates) -> TrainState:
        def one(state: TrainState, drawn: tuple[Array, Rates]) -> tuple[TrainState, Array]:
            key_rows, key_step = jax.random.split(drawn[0])
            state, metrics = step(
                state, draw(data, key_rows), key_step, drawn[1],
                nets=nets(outputs), optimisers=chain, stage=stage,
            )  # fmt: skip
            return state, metrics["finite"]

        keys = jax.random.split(key, len(rates.policy))
        state, finite = jax.lax.scan(one, state, (keys, rates))
        return state._replace(update=jnp.where(finite.all(), state.update, -1))

    return jax.jit(jax.vmap(many, in_axes=(0, 0, 0, None)))


@cache
def robot(how: HowToAct, stage: StageConfig, outputs: int) -> Callable[..., Array]:
    """Networks and keys of every seed to throws [seeds, SAMPLES, turns, 2]."""

    def one(networks: Networks, key: Array) -> Array:
        acting = how(networks, stage)
        act = ACTS[acting.act]
        turns = jnp.tile(jnp.eye(2), (SAMPLES, 1))
        tokens = jnp.broadcast_to(jnp.asarray(tokenize([INSTRUCTION])), (2 * SAMPLES, 16))
        part = Parts(
            policy=nets(outputs).policy, critic=nets(outputs).critic, params=networks.policy,
            extra=acting.extra, inputs=Inputs(turns, tokens), steps=FLOW_STEPS,
        )  # fmt: skip
        draws = jax.random.normal(key, (act.draws(acting.settings), 2 * SAMPLES, 1, 2))
        return act.sample(part, draws, acting.settings).reshape(SAMPLES, 2, 2)

    return jax.jit(lambda networks, keys: jax.lax.map(lambda both: one(*both), (networks, keys)))


class Run:
    """One recipe on all seeds."""

    def __init__(self, name: str, strength: float, seeds: int, supervised: Any = None) -> None:
        self.config, self.seeds = settings(name, strength), seeds
        self.losses, self.games = losses(name), record(seeds)
        self.outputs = self.config.stage("sft").divl.outputs
        self.rng = np.random.default_rng(11)
        self.keys = jax.random.split(jax.random.key(0), seeds)
        self.state = jax.jit(jax.vmap(self._fresh))(self.keys)
        self.told: np.ndarray | None = None
        self.acting: tuple[str, StageConfig] | None = None
        if supervised is not None:
            self.state = self.state._replace(policy=supervised, reference=supervised)

    def _fresh(self, key: Array) -> TrainState:
        """As `lwd.learner.recipes.fresh`, with the toy's networks."""
        extra = {}
        for number, begin in enumerate(dict.fromkeys(x.extra for x in self.losses.values())):
            extra |= begin(jax.random.fold_in(key, 1 + number), nets(self.outputs))
        chain = optimisers(self.config.stage("sft").optimiser)
        return init(key, *nets(self.outputs), chain, extra)

    def to_the_end(self) -> None:
        """All stages after the supervised one."""
        for name in list(self.config.stages)[1:]:
            self._stage(name)

    def supervise(self) -> Any:
        """The supervised policies."""
        self._train("sft", 0, SFT)
        return self.state.policy

    def wins(self) -> np.ndarray:
        """[seeds] how often the policy wins, by the rules."""
        return throws.chance(np.arange(2), self.throw()).mean(axis=1).prod(axis=1)

    def throw(self) -> np.ndarray:
        """[seeds, SAMPLES, turns, 2] throws as a robot makes them."""
        name, stage = self.acting or ("sft", self.config.stage("sft"))
        how = self.losses[name].acting
        assert how is not None
        keys = jax.random.split(jax.random.key(self.rng.integers(1 << 31)), self.seeds)
        return np.asarray(robot(how, without_rates(stage), self.outputs)(self.state.networks, keys))

    def _stage(self, name: str) -> None:
        """Start, collect what the stage waits for, and train."""
        loss, stage = self.losses[name], self.config.stage(name)
        chain = optimisers(stage.optimiser)
        self.state = jax.jit(jax.vmap(lambda s: start_stage(loss.start(s), chain)))(self.state)
        if name == "online":
            for number in range(ROUNDS):
                self._collect(GAMES)
                self._train(name, number * stage.updates // ROUNDS, stage.updates // ROUNDS)
                self.acting = (name, stage)
            return
        if name.startswith("value"):
            self._collect(ROUNDS * GAMES // 2)
        if loss.prepare is not None:
            self.told = self._labels(stage)
        self._train(name, 0, stage.updates)
        if loss.acting is not None:
            self.acting = (name, stage)

    def _collect(self, count: int) -> None:
        new = play(self.throw()[:, :count], self.rng)
        pairs = zip(self.games, new, strict=True)
        self.games = Games(*(np.concatenate(pair, axis=1) for pair in pairs))

    def _train(self, name: str, first: int, count: int) -> None:
        stage, rate = self.config.stage(name), rates_of(self.config.stage(name))
        table = [rate(number) for number in range(first, first + count)]
        rates = jax.tree.map(lambda *each: jnp.stack(each), *table)
        told = self.told if name.startswith("policy") else None
        data = rows(self.games, stage, name.startswith("value"), told)
        run = updates(self.losses[name].step(stage, 0), without_rates(stage), self.outputs)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode()) + first))(
            self.keys
        )
        self.state = run(self.state, data, keys, rates)
        assert (np.asarray(self.state.update) >= 0).all(), f"{name}: not finite"

    def _labels(self, stage: Any) -> np.ndarray:
        """[seeds, slots] as `lwd.learner.recipes.recap.label` says, of games instead of a reader;
        nobody intervenes."""
        atoms = support(stage.divl.v_min, stage.divl.v_max, stage.divl.atoms)
        logits = jax.vmap(lambda psi: mlp(psi, jnp.eye(2)))(self.state.value)
        value = np.asarray(labels.expected(logits, atoms))
        hit, happened = self.games.hit, parts(self.games)["experience"]
        later = throws.DISCOUNT * hit[:, :, 0] * value[:, 1:]
        gains = np.stack([later, hit[:, :, 1]], axis=2) - value[:, None]
        told = np.zeros(happened.shape, bool)
        for seed, (gain, real) in enumerate(
            zip(gains.reshape(happened.shape), happened, strict=True)
        ):
            nobody = np.zeros(real.sum(), bool)
            told[seed, real] = labels.improvement_labels(
                gain[real].astype(np.float32), nobody, stage.positive, self.rng
            )
        return told
