"""RECAP, the advantage-conditioned baseline of -C1, in two collection rounds.

SFT acts and robots collect a round; a value model is fitted to all that was collected and says
which windows are better than expected (Eq. 35 and 36); the supervised policy is trained on all of
it with that in its instruction, acts as if told "positive" and collects the second round.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lwd.algorithms import recap
from lwd.algorithms.categorical import support
from lwd.config import COMPACT, ControlConfig, DivlConfig, LearnerConfig, StageConfig
from lwd.errors import ConfigError
from lwd.learner import feed
from lwd.learner.loss import Data, Loss, Metrics, Relabel
from lwd.learner.recipes import lwd
from lwd.learner.state import Nets, Networks, Optimisers, Rates, TrainState, Transitions
from lwd.learner.update import commit, descend, sft_update
from lwd.models.acts import Acting
from lwd.models.fns import Params
from lwd.models.sharding import everywhere
from lwd.models.tokenizer import INDICATORS
from lwd.replay.batch import Batch

log = logging.getLogger(__name__)

TO_THE_END = 1_000_000
"""Chunks in a window that reaches the end of every episode: its return is the Monte-Carlo one."""


@dataclass(frozen=True, kw_only=True)
class PolicyStage(StageConfig):
    """A policy stage of RECAP."""

    positive: float = 0.3
    """Fraction of all windows whose advantage counts as positive (-C1)."""
    dropped: float = 0.3
    """Fraction of a batch that is trained on without the indicator."""
    guidance: float = 1.5
    """What a robot amplifies the indicator with: 1 obeys it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("positive", "dropped"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise ConfigError(f"{name} is {value}; it lies strictly between 0 and 1.")
        if self.guidance <= 0:
            raise ConfigError(f"guidance is {self.guidance}; it must be positive, 1 is none.")


def settings(control: ControlConfig = COMPACT, *, seed: int = 0) -> LearnerConfig:
    """Two rounds with the episodes that `lwd` has for its offline and its online stage."""
    base = lwd.settings(control, seed=seed)
    sft, optimiser = base.stage("sft"), base.stage("online").optimiser
    rounds = {
        1: base.stage("offline").episodes - sft.episodes,
        2: int(base.stage("online").updates / base.stage("online").updates_per_episode),
    }
    everything = {"experience": 1.0}
    value = StageConfig(
        updates=1000,
        mixture=everything,
        divl=DivlConfig(n_step=TO_THE_END),
        optimiser=optimiser,
    )
    policy = PolicyStage(updates=1000, mixture=everything, optimiser=optimiser)
    stages = {"sft": sft}
    for number, episodes in rounds.items():
        stages[f"value_{number}"] = replace(value, fresh=episodes)
        stages[f"policy_{number}"] = policy
    return replace(base, recipe="recap", stages=stages)


def value_update(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Fit V to Monte-Carlo returns; after an interruption its own estimate stands for the rest."""
    del key  # nothing is drawn
    logits, atoms = nets.critic.value_logits, _atoms(stage)
    rest = recap.expected(logits(state.value, batch.next_inputs), atoms)
    returns = batch.returns + batch.discount * rest

    def loss(psi: Params) -> tuple[Array, Metrics]:
        return recap.value_loss(logits(psi, batch.inputs), returns, atoms, stage.divl.width)

    psi, value_state, metrics = descend(
        "value", loss, state.value, optimisers.value, state.optimiser.value, rates.critic
    )
    new = state._replace(value=psi, optimiser=state.optimiser._replace(value=value_state))
    return commit(state, new, metrics)


def policy_update(
    state: TrainState,
    batch: Transitions,
    key: Array,
    rates: Rates,
    *,
    nets: Nets,
    optimisers: Optimisers,
    stage: StageConfig,
) -> tuple[TrainState, Metrics]:
    """Flow matching on instructions with their indicator, which some of them lose."""
    assert isinstance(stage, PolicyStage)
    drop_key, flow_key = jax.random.split(key)
    words = len(INDICATORS[True].split())
    tokens, dropped = recap.drop_indicator(batch.inputs.tokens, words, stage.dropped, drop_key)
    told = batch._replace(inputs=batch.inputs._replace(tokens=tokens))
    new, metrics = sft_update(
        state, told, flow_key, rates, nets=nets, optimisers=optimisers, stage=stage
    )
    return new, metrics | {"policy/dropped": dropped.mean()}


class Windows(NamedTuple):
    """Every window of the training set."""

    number: np.ndarray
    """[windows] `Batch.window`."""
    advantage: np.ndarray
    """[windows] float32, Eq. 35."""
    human: np.ndarray
    """[windows] bool, an operator had taken over."""


def label(state: TrainState, data: Data) -> Relabel:
    """Which windows are positive, by one threshold for all tasks, said in their instructions."""
    assert isinstance(data.stage, PolicyStage)
    windows = _windows(state, data)
    rng = np.random.default_rng((data.config.seed, len(windows.number)))
    labels = recap.improvement_labels(windows.advantage, windows.human, data.stage.positive, rng)
    table = np.zeros(windows.number.max() + 1, bool)
    table[windows.number] = labels
    log.info(
        "labelled windows=%d positive=%d human=%d advantage_positive=%.4f advantage_negative=%.4f",
        *(len(labels), labels.sum(), windows.human.sum()),
        *(windows.advantage[labels].mean(), windows.advantage[~labels].mean()),
    )

    def tell(batch: Batch) -> Batch:
        told = zip(batch.instruction, table[batch.window], strict=True)
        texts = [f"{instruction} {INDICATORS[bool(good)]}" for instruction, good in told]
        return batch._replace(instruction=np.array(texts, np.object_))

    return tell


def _windows(state: TrainState, data: Data) -> Windows:
    """Every window of every part of the mixture, once."""
    advantage = _advantage_of(state, data)
    parts = [part for part, share in data.stage.mixture.items() if share]
    batches = [batch for part in parts for batch in data.reader.transitions(part)]
    found = [Windows(batch.window, advantage(batch), batch.human) for batch in batches]
    joined = Windows(*map(np.concatenate, zip(*found, strict=True)))
    _, once = np.unique(joined.number, return_index=True)
    return Windows(*(column[once] for column in joined))


def _advantage_of(state: TrainState, data: Data) -> Callable[[Batch], np.ndarray]:
    """Batch to the advantages of its windows, on the host."""
    atoms = _atoms(data.stage)

    @partial(jax.jit, out_shardings=everywhere(data.mesh))
    def advantage(psi: Params, batch: Transitions) -> Array:
        now, then = (
            recap.expected(data.nets.critic.value_logits(psi, inputs), atoms)
            for inputs in (batch.inputs, batch.next_inputs)
        )
        return recap.lookahead_advantage(batch.returns, batch.discount, now, then)

    def of(batch: Batch) -> np.ndarray:
        here = feed.whole(batch, data.normaliser, data.mesh)
        return np.asarray(advantage(state.value, here))

    return of


def _atoms(stage: StageConfig) -> Array:
    if stage.divl.value != "categorical":
        raise ConfigError(f"value is {stage.divl.value!r}; recap fits a 'categorical' one.")
    return support(stage.divl.v_min, stage.divl.v_max, stage.divl.atoms)


def from_reference(state: TrainState) -> TrainState:
    """Every round starts from the supervised policy."""
    return state._replace(policy=jax.tree.map(jnp.copy, state.beta))


def guided(networks: Networks, stage: StageConfig) -> Acting:
    """A robot tells the policy that its advantage is positive."""
    assert isinstance(stage, PolicyStage)
    return Acting(act="guided", settings={"guidance": stage.guidance})


VALUE = Loss(lambda stage, number: value_update, acting=None, learns_q=False)
POLICY = Loss(
    lambda stage, number: policy_update,
    start=from_reference,
    prepare=label,
    acting=guided,
    learns_q=False,
)
LOSSES = {
    "sft": lwd.SUPERVISED,
    "value_1": VALUE._replace(start=lwd.fix_reference),
    "policy_1": POLICY,
    "value_2": VALUE,
    "policy_2": POLICY,
}
