"""What a robot senses becomes what a model reads; whatever does not fit is named."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from lwd.errors import ConfigError, IntegrityError
from lwd.models.fns import Inputs
from lwd.models.inputs.format import ABSOLUTE, InputFormat
from lwd.models.inputs.norm_stats import NormStats
from lwd.models.inputs.prepared import Prepared
from lwd.models.inputs.processor import Processor
from lwd.models.inputs.tokenizers import builtin

FORMAT = InputFormat(
    cameras=(("base_0_rgb", "head"), ("left_wrist_0_rgb", "left"), ("right_wrist_0_rgb", "")),
    image=32,
    tokens=48,
    vocabulary=1024,
    state=(0, 2, 3),
    anchors=(0, ABSOLUTE),
    action=4,
)
STATS = {
    "state": NormStats(np.zeros(3), np.ones(3), -np.ones(3), np.ones(3)),
    "actions": NormStats(np.array([0.1, 0.5]), np.ones(2), np.array([-1, 0]), np.array([3, 1])),
}
STATE = np.array([[0.503, 9.0, -0.252, 0.01], [-0.5, 9.0, 1.2, 0.75]], np.float32)
TEXTS = ["put the red can on the shelf", "pour the tea"]


@pytest.fixture
def processor() -> Processor:
    return Processor(format=FORMAT, tokenizer=builtin(), stats=STATS)


@pytest.fixture
def images(rng):
    def camera():
        return [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(2)]

    return {"head": camera(), "left": camera()}


def test_a_batch_has_the_fields_that_a_model_takes(processor, images):
    seen = processor.observe(STATE, images, TEXTS)
    assert Prepared._fields == Inputs._fields
    np.testing.assert_allclose(seen.state, STATE[:, [0, 2, 3]], atol=2e-6)
    assert seen.state.dtype == np.float32
    assert seen.images is not None
    assert seen.image_mask is not None
    np.testing.assert_array_equal(seen.images["base_0_rgb"], images["head"])
    assert list(seen.images) == ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]
    assert [mask.tolist() for mask in seen.image_mask.values()] == [[True] * 2] * 2 + [[False] * 2]
    assert not seen.images["right_wrist_0_rgb"].any()


def test_tokens_are_the_prompt_padded_with_zeros(processor, images):
    tokens = processor.observe(STATE, images, TEXTS).tokens
    said = "Task: put the red can on the shelf, State: 192 95 129;\nAction: "
    expected = builtin().encode(said)
    assert tokens.dtype == np.int32
    assert tokens[0].tolist() == expected + [0] * (48 - len(expected))


def test_without_a_state_the_prompt_is_the_instruction(images):
    expected = builtin().encode("pour the tea\n")
    for how in ("token", "none"):
        plain = replace(FORMAT, state_input=how)
        processor = Processor(format=plain, tokenizer=builtin(), stats=STATS)
        tokens = processor.observe(STATE, images, TEXTS).tokens
        assert tokens[1, : len(expected) + 1].tolist() == [*expected, 0]


def test_actions_are_relative_padded_and_come_back(processor, rng):
    action = rng.normal(size=(2, 5, 2)).astype(np.float32)
    unit = processor.action(STATE, action)
    assert unit.shape == (2, 5, 4)
    assert not unit[..., 2:].any()
    by_hand = (action[1, 3, 0] - STATE[1, 0] + 1) / (4 + 1e-6) * 2 - 1
    np.testing.assert_allclose(unit[1, 3, 0], by_hand, rtol=1e-5)
    np.testing.assert_allclose(unit[..., 1], action[..., 1] * 2 - 1, atol=1e-5)
    np.testing.assert_allclose(processor.restore(STATE, unit), action, atol=1e-5)


def test_deviations_normalise_as_well(rng):
    format_ = replace(FORMAT, normalisation="zscore")
    processor = Processor(format=format_, tokenizer=builtin(), stats=STATS)
    action = rng.normal(size=(2, 5, 2)).astype(np.float32)
    unit = processor.action(STATE, action)
    np.testing.assert_allclose(unit[..., 1], action[..., 1] - 0.5, atol=1e-5)
    np.testing.assert_allclose(processor.restore(STATE, unit), action, atol=1e-5)


def test_jpegs_and_other_sizes_are_taken(processor, images, rng):
    tall = rng.integers(0, 256, (64, 32, 3), np.uint8)
    images["left"] = [simplejpeg.encode_jpeg(image, quality=95) for image in images["left"]]
    images["head"][1] = tall
    seen = processor.observe(STATE, images, TEXTS).images
    assert not seen["base_0_rgb"][1, :, :8].any()
    assert seen["base_0_rgb"][1, :, 8:24].any()
    decoded = simplejpeg.decode_jpeg(images["left"][0])
    np.testing.assert_array_equal(seen["left_wrist_0_rgb"][0], decoded)


def test_a_missing_camera_is_named_unless_it_is_optional(processor, images, caplog):
    without = {name: seen for name, seen in images.items() if name != "left"}
    for given in (without, images | {"left": [None, None]}):
        with pytest.raises(ConfigError, match=r"'left' gave no image; there are images of head\."):
            processor.observe(STATE, given, TEXTS)
    spare = replace(FORMAT, optional=("left",))
    processor = Processor(format=spare, tokenizer=builtin(), stats=STATS)
    images["left"] = [None, images["head"][1]]
    with caplog.at_level(logging.WARNING):
        processor.observe(STATE, images, TEXTS)
        seen = processor.observe(STATE, images, TEXTS)
    assert seen.image_mask["left_wrist_0_rgb"].tolist() == [False, True]
    assert [r.message for r in caplog.records] == [
        "camera missing name=left; the model sees a mask"
    ]


def test_an_image_of_another_shape_is_named(processor, images):
    for wrong, hint in (
        (np.zeros((3, 32, 32), np.uint8), r"\(3, 32, 32\).*transpose"),
        (np.zeros((32, 32, 3)), "float64.*Scale it to 0"),
        (np.zeros((32, 32), np.uint8), r"\[height, width, 3\] uint8"),
    ):
        with pytest.raises(ConfigError, match=f"camera 'head' gave an image of shape .*{hint}"):
            processor.observe(STATE, images | {"head": [wrong, wrong]}, TEXTS)
    with pytest.raises(ConfigError, match="camera 'head' gave a JPEG that is damaged"):
        processor.observe(STATE, images | {"head": [b"no", b"no"]}, TEXTS)


def test_an_instruction_that_is_too_long_is_named(processor, images):
    long = " ".join(["cup"] * 60)
    with pytest.raises(ConfigError, match=r"has \d+ tokens, \d+ with .*; at most 48 fit"):
        processor.observe(STATE, images, [TEXTS[0], long])
    with pytest.raises(ConfigError, match="instruction is empty"):
        processor.observe(STATE, images, [TEXTS[0], " \n"])
    with pytest.raises(ConfigError, match="characters that the tokenizer from builtin does not"):
        processor.observe(STATE, images, [TEXTS[0], "put <pad> on the shelf"])


def test_a_state_outside_of_the_statistics_warns_once(processor, images, caplog):
    far = STATE.copy()
    far[1, 3] = 4.0
    with caplog.at_level(logging.WARNING):
        processor.observe(far, images, TEXTS)
        processor.observe(far, images, TEXTS)
    assert len(caplog.records) == 1
    assert "dimension=3 value=4 q01=-1 q99=1" in caplog.text
    far[1, 3] = np.nan
    with pytest.raises(ConfigError, match="dimension 3 of the state is nan"):
        processor.observe(far, images, TEXTS)


def test_vectors_of_another_length_are_named(processor, images):
    with pytest.raises(ConfigError, match=r"shape \(2, 3\); expected \[batch, at least 4\]"):
        processor.observe(STATE[:, :3], images, TEXTS)
    with pytest.raises(ConfigError, match="actions have 3 dimensions; expected 2"):
        processor.action(STATE, np.zeros((2, 5, 3), np.float32))


def test_statistics_and_tokenizer_must_match_the_format():
    with pytest.raises(ConfigError, match="norm stats of state have 3 dimensions, but there are 4"):
        Processor(format=replace(FORMAT, state=(0, 1, 2, 3)), tokenizer=builtin(), stats=STATS)
    with pytest.raises(ConfigError, match="lack actions; expected state and actions"):
        Processor(format=FORMAT, tokenizer=builtin(), stats={"state": STATS["state"]})
    with pytest.raises(ConfigError, match=r"has \d+ tokens, the model 100: they do not match"):
        Processor(format=replace(FORMAT, vocabulary=100), tokenizer=builtin(), stats=STATS)
    with pytest.raises(ConfigError, match="the robot has 2 action dimensions, the model 1"):
        replace(FORMAT, action=1)
    with pytest.raises(ConfigError, match="optional camera 'top' is none of head, left"):
        replace(FORMAT, optional=("top",))


def longer(*more: float) -> dict[str, NormStats]:
    return {n: NormStats(*(np.append(a, more) for a in s)) for n, s in STATS.items()}


def test_padded_statistics_are_cut(processor):
    again = Processor(format=FORMAT, tokenizer=builtin(), stats=longer(0.0, 1e-10))
    assert again.sha256 == processor.sha256


def test_statistics_of_the_whole_state_are_not_taken_for_those_of_a_part():
    """State 0, 2 and 3 is read; the first three of five would be 0, 1 and 2."""
    with pytest.raises(ConfigError, match=r"state have 5 dimensions .* the 3 numbers 0, 2, 3"):
        Processor(format=FORMAT, tokenizer=builtin(), stats=longer(7.0, 8.0))
    first = replace(FORMAT, state=(0, 1, 2))
    made = Processor(format=first, tokenizer=builtin(), stats=longer(7.0, 8.0))
    np.testing.assert_array_equal(made.stats["state"].mean, STATS["state"].mean)


def test_the_format_travels_as_json_and_has_a_hash():
    again = InputFormat.from_json(FORMAT.to_json())
    assert again == FORMAT
    assert again.sha256 == FORMAT.sha256
    assert replace(FORMAT, image=64).sha256 != FORMAT.sha256
    for wrong in ("", "[]", '{"image": 3}', FORMAT.to_json().replace('"image"', '"picture"')):
        with pytest.raises(IntegrityError, match="input format cannot be read"):
            InputFormat.from_json(wrong)


def test_a_format_that_was_published_before_keeps_its_hash():
    """Hashes are of weights that said `discrete_state`."""
    for how, said, known in (
        ("prompt", "true", "a1735da7ce3ff0051232f9c4af367bf57faa33ac7fd277561e00172b75fbef89"),
        ("token", "false", "459b76136ac616b665320b8a70fec479d961b985134a369bb9237a6dac5bf9c5"),
    ):
        format_ = replace(FORMAT, state_input=how)
        assert format_.sha256 == known
        assert f'"discrete_state": {said}' in format_.to_json()
        assert InputFormat.from_json(format_.to_json()) == format_
    none = replace(FORMAT, state_input="none", normalisation="zscore")
    assert InputFormat.from_json(none.to_json()) == none
    assert none.sha256 != replace(none, state_input="token").sha256
    with pytest.raises(IntegrityError, match="input format cannot be read"):
        InputFormat.from_json(none.to_json().replace('"none"', '"tokens"'))


def test_the_format_that_the_page_shows_is_one():
    page = Path(__file__).parents[3] / "docs" / "models.md"
    shown = page.read_text().partition("```json\n")[2].partition("```")[0]
    format_ = InputFormat.from_json(shown)
    assert [robot for _, robot in format_.cameras] == ["top", "", "wrist"]
    assert format_.relative
