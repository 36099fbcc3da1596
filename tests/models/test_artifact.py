import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.config import COMPACT, FULL, ControlConfig, StateLayout
from lwd.errors import ConfigError, IntegrityError
from lwd.models.acts import ACTS, Acting
from lwd.models.artifact import FlowPolicy, control_of, expected_shapes, pack, unpack
from lwd.models.fns import Inputs
from lwd.models.normaliser import Normaliser
from lwd.models.presets import build
from lwd.models.tokenizer import tokenize

INSTRUCTION = "put the red can on the shelf"


SETTINGS = {
    "flow": {},
    "one_step": {"bound": 1.5},
    "edited": {"bound": math.inf, "scale": 0.25},
    "steered": {"bound": math.inf, "noise_bound": 1.5},
    "best_of_n": {"bound": math.inf, "candidates": 8, "reduce": "min"},
    "guided": {"guidance": 1.5},
}


@pytest.fixture
def normaliser(rng):
    state = rng.normal(size=(32, StateLayout().size)).astype(np.float32)
    return Normaliser.fit(state, rng.normal(size=(32, 10, 16)).astype(np.float32))


@pytest.fixture
def packed(normaliser):
    params = network("flow", "policy")
    return params, *pack(params, normaliser, preset="narrow", control=COMPACT)


@cache
def network(act: str, name: str, seed: int = 0):
    """Random parameters; a fresh network has zeros in its last layer, this has none."""
    policy, critic = build("narrow", COMPACT)
    init = {"policy": policy.init, **ACTS[act].extra(policy, critic)}[name]
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), x.dtype),
        jax.eval_shape(init, jax.random.key(0)),
    )


def networks(act: str, seed: int = 0) -> Acting:
    kinds = ACTS[act].extra(*build("narrow", COMPACT))
    extra = {name: network(act, name, seed) for name in kinds}
    return Acting(act=act, extra=extra, settings=SETTINGS[act])


@pytest.fixture
def acting(request) -> Acting:
    return networks(request.param)


@pytest.fixture
def published(acting, normaliser):
    params = network("flow", "policy")
    return params, *pack(params, normaliser, preset="narrow", control=COMPACT, acting=acting)


every_act = pytest.mark.parametrize("acting", ACTS, indirect=True)
with_networks = pytest.mark.parametrize(
    "acting", [n for n in ACTS if ACTS[n].extra(*build("narrow", COMPACT))], indirect=True
)


def same_in_bfloat16(params, again) -> None:
    """Networks come back as they were, rounded to bfloat16 and in float32."""

    def same(sent, got):
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(np.asarray(sent, jnp.bfloat16).astype(np.float32), got)

    jax.tree.map(same, params, again)


def test_parameters_travel_in_bfloat16(packed):
    params, tensors, metadata = packed
    networks = {name for name in tensors if not name.startswith("normaliser/")}
    assert {tensors[name].dtype for name in networks} == {np.dtype(jnp.bfloat16)}
    same_in_bfloat16(params, unpack(tensors, metadata, COMPACT).params)


def test_statistics_travel_as_they_are(packed):
    _, tensors, metadata = packed
    assert unpack(tensors, metadata, COMPACT).normaliser.sha256 == metadata["normalisation_hash"]


def test_every_tensor_of_the_policy_is_announced_with_its_shape(packed):
    _, tensors, _ = packed
    sent = {name: t.shape for name, t in tensors.items() if name.startswith("policy/")}
    assert sent == expected_shapes("narrow", COMPACT)


def test_a_chunk_is_absolute_targets_and_repeats_with_the_seed(packed, rng):
    _, tensors, metadata = packed
    policy = FlowPolicy(tensors, metadata, 7, control=COMPACT)
    observation = seen(rng)
    policy.reset(3)
    first, second = (policy.chunk(observation, INSTRUCTION) for _ in range(2))
    policy.reset(3)
    assert policy.version == 7
    assert first.shape == (10, 16)
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(policy.chunk(observation, INSTRUCTION), first)


def test_what_does_not_fit_is_named(packed):
    _, tensors, metadata = packed
    name = "policy/action/w"
    with pytest.raises(IntegrityError, match=f"lack tensor '{name}'"):
        unpack({n: t for n, t in tensors.items() if n != name}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match=f"tensor '{name}' has shape"):
        unpack(tensors | {name: tensors[name][:1]}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match="horizon 10, here it is 30"):
        unpack(tensors, metadata, FULL)
    moved = tensors["normaliser/state_mean"] + 1
    with pytest.raises(IntegrityError, match="normalisation statistics differ"):
        unpack(tensors | {"normaliser/state_mean": moved}, metadata, COMPACT)


def test_weights_for_another_control_rate_are_refused(normaliser):
    often = replace(COMPACT, rate_hz=30.0)
    params = network("flow", "policy")
    tensors, metadata = pack(params, normaliser, preset="narrow", control=often)
    assert control_of(metadata) == ControlConfig(rate_hz=30.0, horizon=10)
    unpack(tensors, metadata, replace(often, execute=3))  # which weights know nothing of
    said = r"rate_hz 30.0, here it is 10.0: .*--control.rate-hz"
    with pytest.raises(IntegrityError, match=said):
        unpack(tensors, metadata, COMPACT)
    for wrong in ({"rate_hz": "fast"}, {"rate_hz": "-1"}, {"horizon": "1.5"}):
        with pytest.raises(IntegrityError, match="do not say for which rate and horizon"):
            unpack(tensors, metadata | wrong, COMPACT)
    del metadata["rate_hz"]
    with pytest.raises(IntegrityError, match="do not say for which rate and horizon"):
        unpack(tensors, metadata, COMPACT)


@pytest.mark.parametrize("steps", ["0", "-3", "", "ten", None])
def test_weights_without_a_step_of_the_flow_are_refused(packed, steps):
    """A robot would carry out the noise that it starts from."""
    _, tensors, metadata = packed
    given = {} if steps is None else {"flow_steps": steps}
    wrong = {name: text for name, text in metadata.items() if name != "flow_steps"} | given
    with pytest.raises(IntegrityError, match="weights have flow_steps that do not fit"):
        FlowPolicy(tensors, wrong, 7, control=COMPACT)
    assert unpack(tensors, metadata | {"flow_steps": "3"}, COMPACT).flow_steps == 3


def seen(rng) -> SimpleNamespace:
    return SimpleNamespace(state=rng.normal(size=StateLayout().size).astype(np.float32))


@every_act
def test_every_act_round_trips_and_announces_its_tensors(published, acting):
    params, tensors, metadata = published
    again = unpack(tensors, metadata, COMPACT)
    same_in_bfloat16(params, again.params)
    same_in_bfloat16(dict(acting.extra), again.acting.extra)
    assert (again.acting.act, again.acting.settings) == (acting.act, acting.settings)
    sent = {name: t.shape for name, t in tensors.items() if not name.startswith("normaliser/")}
    assert sent == expected_shapes("narrow", COMPACT, acting.act)


@every_act
def test_every_act_makes_chunks_that_repeat_with_the_seed(published, rng):
    policy = FlowPolicy(*published[1:], 7, control=COMPACT)
    observation = seen(rng)
    policy.reset(3)
    first, second = (policy.chunk(observation, INSTRUCTION) for _ in range(2))
    policy.reset(3)
    assert first.shape == (10, 16)
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(policy.chunk(observation, INSTRUCTION), first)


@with_networks
def test_the_extra_networks_decide_the_chunk(published, acting, normaliser, rng):
    params, *artifact = published
    other = networks(acting.act, seed=1)
    others = pack(params, normaliser, preset="narrow", control=COMPACT, acting=other)
    observation = seen(rng)
    chunks = []
    for each in (artifact, others):
        policy = FlowPolicy(*each, 1, control=COMPACT)
        policy.reset(0)
        chunks.append(np.stack([policy.chunk(observation, INSTRUCTION) for _ in range(4)]))
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-3


@with_networks
def test_a_network_of_an_act_that_does_not_fit_is_named(published):
    _, tensors, metadata = published
    name = next(name for name in tensors if name.startswith("extra/"))
    with pytest.raises(IntegrityError, match=f"lack tensor '{name}'"):
        unpack({n: t for n, t in tensors.items() if n != name}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match=f"tensor '{name}' has shape"):
        unpack(tensors | {name: tensors[name][:1]}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match=r"'extra/else/w', which act '.*' does not use"):
        unpack(tensors | {"extra/else/w": np.zeros(1, np.float32)}, metadata, COMPACT)
    with pytest.raises(IntegrityError, match="which act 'flow' does not use"):
        unpack(tensors, metadata | {"act": "flow"}, COMPACT)
    with pytest.raises(ConfigError, match=r"act 'edit' is unknown\. Did you mean 'edited'"):
        unpack(tensors, metadata | {"act": "edit"}, COMPACT)


@every_act
def test_a_setting_of_an_act_that_does_not_fit_is_named(published, acting):
    _, tensors, metadata = published
    for setting in acting.settings:
        wrong = [{k: v for k, v in metadata.items() if k != f"act.{setting}"}]
        wrong += [metadata | {f"act.{setting}": text} for text in ("", "0", "nan", "-1")]
        for each in wrong:
            with pytest.raises(IntegrityError, match=f"their act.{setting} does not fit"):
                unpack(tensors, each, COMPACT)


def test_an_act_without_its_networks_is_not_packed(packed, normaliser):
    with pytest.raises(ValueError, match=r"act 'edited' got \['scale'\]; it needs \['bound'"):
        pack(
            packed[0], normaliser, preset="narrow", control=COMPACT,
            acting=Acting(act="edited", settings={"scale": 0.1}),
        )  # fmt: skip


@pytest.mark.parametrize("acting", ["edited"], indirect=True)
def test_an_edit_stays_within_its_scale_of_the_flow(published, acting, normaliser, rng):
    params, tensors, metadata = published
    unedited = pack(
        params, normaliser, preset="narrow", control=COMPACT,
        acting=Acting(
            act="edited", extra=acting.extra, settings=acting.settings | {"scale": 1e-9}
        ),
    )  # fmt: skip
    observation, chunks = seen(rng), []
    for artifact in ((tensors, metadata), unedited):
        policy = FlowPolicy(*artifact, 1, control=COMPACT)
        policy.reset(0)
        chunks.append(normaliser.action(*absolute(observation, policy)))
    moved = np.abs(chunks[0] - chunks[1])
    assert 0.01 < moved.max() <= acting.settings["scale"] + 1e-5


def absolute(observation, policy):
    return observation.state[None], policy.chunk(observation, INSTRUCTION)[None]


@pytest.mark.parametrize("acting", ["best_of_n"], indirect=True)
def test_the_best_of_n_is_what_the_carried_critic_prefers(published, acting, normaliser, rng):
    params, *artifact = published
    policy, plain = (
        FlowPolicy(*each, 1, control=COMPACT)
        for each in (artifact, pack(params, normaliser, preset="narrow", control=COMPACT))
    )
    observation = seen(rng)
    best = policy.chunk(observation, INSTRUCTION)
    candidates = np.stack([plain.chunk(observation, INSTRUCTION) for _ in range(8)])
    distance = np.abs(candidates - best[None]).max((1, 2))
    state = np.repeat(observation.state[None], 8, axis=0)
    tokens = np.repeat(tokenize([INSTRUCTION]), 8, axis=0)
    inputs = Inputs(jnp.asarray(normaliser.state(state)), jnp.asarray(tokens))
    actions = jnp.asarray(normaliser.action(state, candidates))
    q = jax.jit(build("narrow", COMPACT)[1].q)(acting.extra["critic"], inputs, actions).min(0)
    assert distance.min() < 1e-4
    assert distance.argmin() == q.argmax()
