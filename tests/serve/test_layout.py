"""Observations of each make of robot, there and back; what is wrong is said by its key."""

import numpy as np
import pytest

from lwd.actor.robot import Observation
from lwd.errors import ConfigError
from lwd.models.inputs.format import InputFormat
from lwd.serve.layout import LAYOUTS, fitted, layout, received, sent
from lwd.serve.wire import RequestError

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
STATE = np.arange(8, dtype=np.float32)


def observation(name: str) -> Observation:
    cameras = LAYOUTS[name].images or ("top", "wrist")
    return Observation(state=STATE, images={camera: IMAGE for camera in cameras})


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_sent_is_what_is_received(name):
    seen = observation(name)
    message = sent(layout(name), seen, "open the door")
    back, instruction = received(layout(name), message)
    assert instruction == "open the door"
    assert np.array_equal(back.state, STATE)
    assert back.images.keys() == seen.images.keys()
    assert all(np.array_equal(image, IMAGE) for image in back.images.values())


def test_the_keys_are_those_of_openpis_examples():
    droid = sent(layout("droid"), observation("droid"), "x")
    assert set(droid) == {
        "observation/exterior_image_1_left", "observation/wrist_image_left",
        "observation/joint_position", "observation/gripper_position", "prompt",
    }  # fmt: skip
    assert droid["observation/joint_position"].shape == (7,)
    assert droid["observation/gripper_position"].shape == (1,)
    libero = sent(layout("libero"), observation("libero"), "x")
    assert set(libero) == {
        "observation/image", "observation/wrist_image", "observation/state", "prompt"
    }  # fmt: skip
    aloha = sent(layout("aloha"), observation("aloha"), "x")
    assert set(aloha) == {"images", "state", "prompt"}
    assert set(aloha["images"]) == {"cam_high", "cam_left_wrist", "cam_right_wrist"}
    assert aloha["images"]["cam_high"].shape == (3, 4, 6)


def test_a_prompt_of_the_server_stands_in():
    message = {"observation/state": STATE}
    assert received(layout("lwd"), message, prompt="tidy up")[1] == "tidy up"
    with pytest.raises(RequestError, match="'prompt' is ''; expected a text"):
        received(layout("lwd"), message)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("observation/state", None, "is missing; expected a vector.*Sent were: observation/image"),
        ("observation/state", np.zeros((2, 2)), r"float64 \[2, 2\]; expected a vector"),
        ("observation/state", np.array([0, np.nan]), "numbers not finite"),
        ("observation/state", "abc", "'abc'; expected a vector"),
        ("observation/state", [[1, 2], [3]], "expected a vector"),
        ("observation/image", None, r"missing; expected uint8 \[height, width, 3\]"),
        ("observation/image", np.zeros((4, 6, 3), np.float32), r"float32 \[4, 6, 3\]; expected"),
        ("observation/image", np.zeros((3, 4, 6), np.uint8), r"uint8 \[3, 4, 6\]; expected"),
        ("observation/image", np.zeros((0, 6, 3), np.uint8), r"uint8 \[0, 6, 3\]; expected"),
        ("observation/image", b"jpeg", "expected uint8"),
        ("prompt", 7, "'prompt' is 7"),
        ("prompt", "x" * 1001, "up to 1000"),
    ],
)
def test_what_is_wrong_is_said_by_its_key(key, value, said):
    message = sent(layout("libero"), observation("libero"), "x")
    if value is None:
        del message[key]
    else:
        message[key] = value
    with pytest.raises(RequestError, match=said):
        received(layout("libero"), message)


def test_a_state_that_does_not_split_is_refused():
    with pytest.raises(ConfigError, match=r"state has 8 numbers; .* takes 4 \+ 1 under"):
        sent(layout("droid"), observation("droid"), "x", sizes=(4, 1))


def inputs(*cameras: str, **changes) -> InputFormat:
    """Of a policy that sees with these cameras in the places of the model's."""
    models = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    return InputFormat(
        cameras=tuple(zip(models, cameras, strict=True)), image=8, tokens=8, vocabulary=10,
        state=(0, 1), anchors=(0, 1), action=4, **changes,
    )  # fmt: skip


def test_images_get_the_names_that_the_policy_was_trained_with():
    by = fitted("libero", inputs("image", "wrist_image", ""))
    seen, _ = received(by, sent(layout("libero"), observation("libero"), "x"))
    assert seen.images.keys() == {"image", "wrist_image"}
    only = fitted("libero", inputs("", "wrist_image", "other", optional=("other",)))
    assert only.images == {"wrist_image": "observation/wrist_image"}
    assert fitted("libero", None) == layout("libero")
    assert fitted("lwd", inputs("image", "wrist_image", "any")) == layout("lwd")


def test_a_camera_that_robots_of_a_layout_lack_is_named():
    said = "sees with camera 'right_wrist' as right_wrist_0_rgb, but robots of layout droid have"
    with pytest.raises(ConfigError, match=said):
        fitted("droid", inputs("head", "left_wrist", "right_wrist"))


def test_an_unknown_layout_is_answered_with_all_there_are():
    with pytest.raises(ConfigError, match="Did you mean 'libero'"):
        layout("libro")
