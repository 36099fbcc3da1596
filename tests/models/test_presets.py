"""The presets that see: inputs, networks and the artifact that a robot acts with."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lwd.actor.robot import Observation
from lwd.config import COMPACT, FULL, StateLayout
from lwd.config.embodiment import EmbodimentConfig
from lwd.errors import ConfigError, IntegrityError
from lwd.learner.recipes import input_format_of, recipe
from lwd.models import presets
from lwd.models.artifact import FlowPolicy, pack, unpack
from lwd.models.inputs.processor import Processor
from lwd.models.inputs.tokenizers import load_tokenizer
from lwd.models.normaliser import Normaliser

INSTRUCTION = "put the red can on the shelf"
STATES = StateLayout().size
ONE_ARM = EmbodimentConfig(
    cameras=("top", "", "wrist"), state=tuple(range(7)), anchors=(*range(6), -1)
)


@pytest.fixture(scope="module")
def windows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, STATES)), rng.normal(size=(64, COMPACT.horizon, 16))


def drawn(init):
    """Parameters of the shapes of `init`, without compiling it."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: (0.1 * rng.normal(size=x.shape)).astype(np.float32),
        jax.eval_shape(init, jax.random.key(0)),
    )


@pytest.fixture(scope="module")
def artifact(windows):
    params = drawn(presets.build("tiny", COMPACT)[0].init)
    return pack(params, presets.fit("tiny", COMPACT, *windows), preset="tiny", control=COMPACT)


def seen(rng, *cameras: str) -> Observation:
    images = {name: rng.integers(0, 256, (32, 32, 3), np.uint8) for name in cameras}
    return Observation(state=rng.normal(size=STATES).astype(np.float32), images=images)


def test_a_robot_acts_on_what_its_cameras_see(artifact, rng):
    policy = FlowPolicy(*artifact, 3, control=COMPACT)
    observation = seen(rng, *presets.ROBOT_CAMERAS)
    dark = {name: np.zeros_like(image) for name, image in observation.images.items()}
    chunks = []
    for images in (observation.images, observation.images, dark):
        policy.reset(0)
        at = Observation(state=observation.state, images=images)
        chunks.append(policy.chunk(at, INSTRUCTION))
    assert chunks[0].shape == (COMPACT.horizon, 16)
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert np.abs(chunks[0] - chunks[2]).max() > 1e-3
    with pytest.raises(ConfigError, match="camera 'left_wrist' gave no image"):
        policy.chunk(seen(rng, "head"), INSTRUCTION)


def test_inputs_come_back_with_the_weights(artifact, windows):
    tensors, metadata = artifact
    again = unpack(tensors, metadata, COMPACT).normaliser
    assert isinstance(again, Processor)
    fitted = presets.fit("tiny", COMPACT, *windows)
    assert again.metadata() == fitted.metadata()
    np.testing.assert_array_equal(again.action(*windows), fitted.action(*windows))


@pytest.mark.parametrize("name", ["normalisation_hash", "tokenizer_hash", "input_hash"])
def test_another_hash_is_refused_by_name(artifact, name):
    tensors, metadata = artifact
    expected = "normalisation statistics differ" if name.startswith("norm") else f"have {name} '0"
    with pytest.raises(IntegrityError, match=expected):
        unpack(tensors, metadata | {name: "0" * 64}, COMPACT)


def test_another_tokenizer_is_refused(artifact, tmp_path):
    from lwd.models.inputs.training import train_tokenizer

    other = tmp_path / "tokenizer.json"
    other.write_bytes(train_tokenizer(["pour the tea"], vocabulary=300))
    with pytest.raises(IntegrityError, match=r"\(from builtin\), here .* \(from .*tokenizer.json"):
        unpack(*artifact, COMPACT, tokenizer=str(other))


def test_inputs_of_other_sizes_are_refused(artifact):
    tensors, metadata = artifact
    format_ = presets.input_format("pi05", COMPACT)
    other = {"inputs": format_.to_json(), "input_hash": format_.sha256}
    with pytest.raises(IntegrityError, match="with image 224, but preset 'tiny' takes 64"):
        unpack(tensors, metadata | other, COMPACT)


def test_another_robot_has_its_own_cameras_and_joints(rng):
    robot = presets.input_format("tiny", COMPACT, ONE_ARM)
    states, targets = rng.normal(size=(64, 9)), rng.normal(size=(64, COMPACT.horizon, 7))
    made = presets.fit("tiny", COMPACT, states, targets, robot=robot)
    policy, critic = presets.build("tiny", COMPACT, robot=robot)
    acting = FlowPolicy(
        *pack(drawn(policy.init), made, preset="tiny", control=COMPACT), 1, control=COMPACT
    )
    images = {name: rng.integers(0, 256, (48, 64, 3), np.uint8) for name in ("top", "wrist")}
    chunk = acting.chunk(Observation(state=states[0], images=images), INSTRUCTION)
    assert chunk.shape == (COMPACT.horizon, 7)
    assert jax.eval_shape(critic.init_q, jax.random.key(0))["heads"]["action"]["kernel"].shape == (
        *(2, 7, 64),
    )
    with pytest.raises(ConfigError, match="one for each of base_0_rgb, left_wrist_0_rgb"):
        presets.input_format("tiny", COMPACT, replace(ONE_ARM, cameras=("top",)))
    with pytest.raises(ConfigError, match="but only cameras, state is given"):
        replace(ONE_ARM, anchors=())


def test_a_checkpoint_that_reads_no_state_gets_the_instruction_alone(windows):
    """As openpi's pi05_libero, of discrete_state_input=False."""
    libero = EmbodimentConfig(
        cameras=("image", "wrist_image", ""), state=tuple(range(8)), anchors=(-1,) * 7,
        state_input="none", normalisation="zscore",
    )  # fmt: skip
    robot = presets.input_format("pi05", COMPACT, libero)
    assert (robot.state_input, robot.normalisation, robot.action) == ("none", "zscore", 32)
    sizes = presets.sized("pi05", COMPACT, robot=robot)
    assert (sizes.policy.state, sizes.critic.state, sizes.policy.action) == (0, 0, 32)
    states, targets = windows
    made = presets.fit("pi05", COMPACT, states, targets[..., :7], robot=robot)
    images = {name: [np.zeros((8, 8, 3), np.uint8)] for name in ("image", "wrist_image")}
    tokens = made.observe(states[:1], images, ["x"]).tokens[0]
    expected = load_tokenizer("builtin").encode("x\n")
    assert tokens.tolist() == expected + [0] * (len(tokens) - len(expected))


def test_how_a_preset_reads_the_state_is_not_turned_round():
    for name, usual, other in (("pi05", "prompt", "token"), ("tiny", "token", "prompt")):
        assert presets.input_format(name, COMPACT, ONE_ARM).state_input == usual
        with pytest.raises(ConfigError, match=f"is '{other}', but preset '{name}' takes '{usual}'"):
            presets.input_format(name, COMPACT, replace(ONE_ARM, state_input=other))
    blind = presets.input_format("tiny", COMPACT, EmbodimentConfig(state_input="none"))
    assert blind == replace(presets.input_format("tiny", COMPACT), state_input="none")
    config = replace(recipe("lwd"), embodiment=EmbodimentConfig(state_input="none"))
    with pytest.raises(ConfigError, match="preset state reads the state vector of the simulated"):
        input_format_of(config)


def test_a_policy_without_a_state_is_published_and_acts(windows, rng):
    robot = presets.input_format("tiny", COMPACT, EmbodimentConfig(state_input="none"))
    params = drawn(presets.build("tiny", COMPACT, robot=robot)[0].init)
    assert "state_proj" not in params
    made = presets.fit("tiny", COMPACT, *windows, robot=robot)
    policy = FlowPolicy(*pack(params, made, preset="tiny", control=COMPACT), 1, control=COMPACT)
    assert policy.chunk(seen(rng, *presets.ROBOT_CAMERAS), INSTRUCTION).shape == (
        *(COMPACT.horizon, 16),
    )


@pytest.mark.parametrize("name", presets.VLA)
def test_what_is_fitted_is_what_the_networks_take(name, windows):
    made = presets.fit(name, COMPACT, *windows)
    sizes = presets.VLA[name](COMPACT.horizon, 201)
    assert made.action(*windows).shape[-1] == made.dimensions == sizes.policy.action
    again = presets.prepare(name, COMPACT, made.tensors())
    assert again.sha256 == made.sha256
    assert sizes.policy.cameras == sizes.critic.cameras
    assert sizes.policy.state == sizes.critic.state
    assert sizes.critic.text.vocabulary >= sizes.policy.vocabulary


def test_a_critic_may_have_words_of_its_own(windows, tmp_path, rng):
    from lwd.models.fns import Inputs
    from lwd.models.inputs.training import train_tokenizer
    from lwd.models.vla import observation

    file = tmp_path / "gemma3.json"
    file.write_bytes(train_tokenizer(["pour the tea"], vocabulary=300))
    made = presets.fit("tiny", COMPACT, *windows, critic_tokenizer=str(file))
    images = {name: [np.zeros((8, 8, 3), np.uint8)] for name in presets.ROBOT_CAMERAS}
    said = [INSTRUCTION]
    ours, theirs = (
        each.observe(windows[0][:1], images, said)
        for each in (presets.fit("tiny", COMPACT, *windows), made)
    )
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    assert ours.critic_tokens is None
    assert (theirs.critic_tokens != theirs.tokens).any()
    model = presets.VLA["tiny"](COMPACT.horizon, 11)
    inputs = Inputs(*jax.tree.map(jnp.asarray, theirs))
    for config, tokens in ((model.policy, theirs.tokens), (model.critic, theirs.critic_tokens)):
        np.testing.assert_array_equal(observation(inputs, config).tokens, tokens)
    file.write_bytes(train_tokenizer(["".join(map(chr, range(900, 9000)))], vocabulary=1100))
    with pytest.raises(ConfigError, match=r"has 1100 tokens, the model 1024"):
        presets.fit("tiny", COMPACT, *windows, critic_tokenizer=str(file))


def test_the_critic_of_pi05_does_not_see_the_padding_of_actions():
    _, critic = presets.build("pi05", COMPACT)
    z, chunk = (jax.ShapeDtypeStruct((3, *rest), np.float32) for rest in ((640,), (10, 32)))
    q = jax.eval_shape(critic.q, jax.eval_shape(critic.init_q, jax.random.key(0)), z, chunk)
    assert q.shape == (2, 3)


def test_the_statistics_of_a_pretrained_policy_are_taken(windows, tmp_path, caplog):
    from lwd.models.inputs.norm_stats import write_norm_stats

    fitted, file = presets.fit("pi05", COMPACT, *windows), tmp_path / "norm_stats.json"
    write_norm_stats(file, fitted.stats)
    assert presets.prepare_as("pi05", COMPACT, file).sha256 == fitted.sha256
    assert caplog.text == ""
    still = fitted.stats["state"]._replace(q99=fitted.stats["state"].q01)
    write_norm_stats(file, fitted.stats | {"state": still})
    presets.prepare_as("pi05", COMPACT, file)
    assert "constant: state 0: never changes" in caplog.text


def test_the_preset_without_eyes_keeps_its_statistics(windows):
    made = presets.fit("state", COMPACT, *windows)
    assert isinstance(made, Normaliser)
    inputs = made.observe(windows[0][:2], {}, [INSTRUCTION, "pour the tea"])
    assert inputs.images is None
    assert inputs.tokens.shape[0] == 2
    assert presets.prepare("state", COMPACT, made.tensors()).sha256 == made.sha256


def test_another_name_is_refused():
    with pytest.raises(ConfigError, match=r"model preset 'tinny' is unknown\. Did you mean 'tiny'"):
        presets.build("tinny", FULL)
    with pytest.raises(ConfigError, match="preset that sees 'state' is unknown"):
        presets.input_format("state", FULL)
