"""The memory that is planned is that of the real networks, and near what XLA takes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from lwd.algorithms import flow
from lwd.config import COMPACT, FULL, OptimiserConfig
from lwd.config.machine import Machine
from lwd.errors import ConfigError
from lwd.learner import plan as planner
from lwd.learner import state as train_state
from lwd.learner.plan import kept_by, plan, size
from lwd.models import vla
from lwd.models.presets import VLA, build

MIB = 2**20


def fixed(planned) -> dict[str, int]:
    return {row.name: row.fixed for row in planned.rows}


def each(planned) -> dict[str, int]:
    return {row.name: row.each for row in planned.rows}


@pytest.fixture(scope="module")
def offline():
    return plan("tiny", COMPACT, Machine(), batch=8, stage="offline")


def test_what_stays_is_the_train_state(offline):
    chain = train_state.optimisers(OptimiserConfig())
    init = partial(train_state.init, policy=build("tiny", COMPACT)[0],
                   critic=build("tiny", COMPACT)[1], chain=chain)  # fmt: skip
    whole = size(jax.eval_shape(init, jax.random.key(0)))
    rows = fixed(offline)
    for transient in ("gradients", "weights of one block and of the embedding, cast"):
        del rows[transient]
    counts = 4 * 4  # of the optimisers and of updates
    assert abs(sum(rows.values()) - whole) <= counts


def test_pi05_has_the_parameters_of_the_released_model():
    policy = jax.eval_shape(build("pi05", FULL)[0].init, jax.random.key(0))
    assert size(policy) == 4 * 3_353_433_872
    planned = plan("pi05", FULL, Machine(devices=8), batch=64)
    assert fixed(planned)["policy"] == size(policy) // 8
    assert planned.samples == 8
    assert planned.fits
    alone = plan("pi05", FULL, Machine(), batch=64)
    assert not alone.fits
    assert fixed(alone)["gradients"] == size(policy)


def test_what_is_kept_is_what_differentiation_keeps():
    def loss(w, x):
        return jnp.sin(x @ w).sum()

    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    one, two = (kept_by(loss, shape((3, 5)), shape((n, 3))) for n in (1, 2))
    assert two - one == 4 * (3 + 5)  # x, and the cosine


def test_remat_keeps_less_and_repeats_a_block(offline):
    model = VLA["tiny"](COMPACT.horizon, 201)
    saving = replace(model, policy=replace(model.policy, remat=True))
    rows = {
        row.name: row.each
        for row in planner._activations(saving, "sft", planner.QamConfig(), "own_vlm")
    }
    plain = {row.name: row.each for row in plan("tiny", COMPACT, Machine(), batch=1).rows}
    kept, again = list(rows)[1:3]
    assert rows[kept] < plain[kept] / 4
    assert rows[again] > plain[again] == 0


def test_the_batch_that_fits_is_the_largest(offline):
    tight = replace(offline, machine=Machine(memory_gib=0.1, headroom=0.0))
    assert replace(tight, samples=tight.most).fits
    assert not replace(tight, samples=tight.most + 1).fits
    assert replace(offline, machine=Machine(memory_gib=0.001)).most == 0


def test_online_trains_the_expert_alone(offline):
    online = plan("tiny", COMPACT, Machine(), batch=8, stage="online")
    assert fixed(online)["optimiser of the policy"] < fixed(offline)["optimiser of the policy"] / 2
    assert online.total < offline.total
    shared = plan("tiny", COMPACT, Machine(), batch=8, stage="online", reference="shared_vlm")
    assert 2 * fixed(shared)["reference policy"] < fixed(online)["reference policy"]
    caches = [rows["keys and values of the prefix"] for rows in map(each, (online, shared))]
    assert caches[0] == 2 * caches[1] > 0


def test_sharding_and_accumulation_divide():
    whole = plan("tiny", COMPACT, Machine(devices=4, fsdp=1), batch=16)
    cut = plan("tiny", COMPACT, Machine(devices=4), batch=16, parts=2)
    assert (whole.samples, cut.samples) == (4, 2)
    assert fixed(whole)["policy"] == pytest.approx(4 * fixed(cut)["policy"], abs=4)


def test_what_cannot_be_planned_is_named():
    with pytest.raises(
        ConfigError, match="batch of 10 cannot be divided over 4 devices in 1 parts"
    ):
        plan("tiny", COMPACT, Machine(devices=4), batch=10)
    with pytest.raises(ConfigError, match="4 devices cannot be divided into groups of 3"):
        Machine(devices=4, fsdp=3)
    with pytest.raises(ConfigError, match="preset 'state' takes a few MiB; plan one of tiny"):
        plan("state", COMPACT, Machine(), batch=8)
    with pytest.raises(ConfigError, match="memory_gib is 0"):
        Machine(memory_gib=0.0)


@pytest.mark.slow
def test_it_is_near_what_xla_takes():
    """Tiny, its supervised loss: XLA fuses, so that it takes less, but not much less."""
    model = VLA["tiny"](COMPACT.horizon, 201)
    policy, batch = vla.policy(model.policy), 16

    def loss(theta, inputs, a, w):
        context = policy.encode(theta, inputs)
        mask = jnp.ones(a.shape[:2], bool)
        return flow.sft_loss(lambda a, w: policy.velocity(theta, context, a, w), a, a, w, mask)[0]

    shapes = (
        jax.eval_shape(policy.init, jax.random.key(0)),
        planner._inputs(model.inputs, batch),
        planner._chunk(model.inputs.action, COMPACT.horizon, batch),
        planner._floats(batch),
    )
    compiled = jax.jit(jax.grad(loss)).lower(*shapes).compile()
    taken = compiled.memory_analysis().temp_size_in_bytes
    planned = plan("tiny", COMPACT, Machine(), batch=batch)
    activations = sum(row.each for row in planned.rows) * planned.samples
    assert 0.5 * activations < taken < 1.2 * activations
