"""A checkpoint whose answers are known: the policy adds a shift to its noise, Q is linear."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lwd.config import (
    COMPACT,
    DivlConfig,
    LearnerConfig,
    QamConfig,
    StageConfig,
    StateLayout,
)
from lwd.episode.types import Episode
from lwd.learner.checkpoint import Position
from lwd.learner.diagnose.trained import Trained
from lwd.learner.state import Nets, Networks
from lwd.models.acts import Acting
from lwd.models.fns import CriticFns, PolicyFns
from lwd.models.normaliser import Normaliser
from lwd.models.presets import ACTION
from sample_episodes import make_episode

HORIZON, STATE, ATOMS = COMPACT.horizon, StateLayout().size, 51
SHAPE = (HORIZON, ACTION)
STAGE = StageConfig(
    updates=1,
    mixture={"online": 1.0},
    divl=DivlConfig(atoms=ATOMS),
    qam=QamConfig(steps=4, inv_temp=3.0),
)

PLAIN = Acting()


def linear(params, inputs, a):
    """Q_k = by_state s_0 + slope_k . a."""
    q = jnp.einsum("cha,bha->cb", params["slope"], a)
    return q + params["by_state"] * inputs.state[None, :, 0]


def trained(
    *,
    slope: np.ndarray | None = None,
    shift: np.ndarray | None = None,
    by_state: float = 1.0,
    q: Callable[..., jax.Array] = linear,
    acting: Acting = PLAIN,
) -> Trained:
    """`slope` [critics, horizon, action] of Q; `shift` [horizon, action] of the policy's chunks
    from the reference's, which are standard normal; V is uniform on its support, so 0.5."""
    slope = np.zeros((2, *SHAPE)) if slope is None else slope
    nets = Nets(
        PolicyFns(
            init=lambda key: {},
            encode=lambda params, inputs: inputs.state,
            velocity=lambda params, context, a, w: jnp.broadcast_to(params["shift"][None], a.shape),
        ),
        CriticFns(
            init_value=lambda key: {},
            init_q=lambda key: {},
            value_logits=lambda params, inputs: jnp.zeros((len(inputs.state), ATOMS)),
            q=q,
        ),
    )
    critic = {"slope": jnp.asarray(slope, jnp.float32), "by_state": jnp.float32(by_state)}
    still = jnp.zeros(SHAPE)
    networks = Networks(
        policy={"shift": still if shift is None else jnp.asarray(shift, jnp.float32)},
        reference={"shift": still},
        value={},
        target_value=None,
        q=critic,
        target_q=critic,
        extra={},
    )
    normaliser = Normaliser(
        state_mean=np.zeros(STATE, np.float32),
        state_scale=np.ones(STATE, np.float32),
        action_mean=np.zeros(SHAPE, np.float32),
        action_scale=np.ones(SHAPE, np.float32),
    )
    return Trained(
        nets=nets,
        networks=networks,
        normaliser=normaliser,
        at=Position("online", 7),
        config=LearnerConfig(stages={"online": STAGE}, control=COMPACT),
        acting=acting,
    )


def episodes(count: int = 8, *, ticks: int = 35) -> list[Episode]:
    """Random ones of two tasks; every other pair fails."""
    return [
        make_episode(
            ticks + n,
            state=STATE,
            action=ACTION,
            seed=n,
            task=("restocking", "freezer")[n % 2],
            outcome=("success", "failure")[n // 2 % 2],
        )
        for n in range(count)
    ]
