"""The prompt is openpi's to the letter: the cases were worked out by its rule."""

import numpy as np

from lwd.models.inputs.prompt import discretise, prompt


def test_states_become_bins_of_256():
    assert discretise(np.array([-1.0, -0.99, 0.0, 0.999, 1.0, 3.0])).tolist() == [
        0, 1, 128, 255, 255, 255,
    ]  # fmt: skip
    assert discretise(np.array([-1.0001, -7.0])).tolist() == [-1, -1]


def test_the_text_is_cleaned_and_followed_by_the_state():
    text = prompt("  put_the can\non the {shelf} ", np.array([-2.0, 0.0, 1.0]))
    assert text == "Task: put the can on the {shelf}, State: -1 128 255;\nAction: "
    assert prompt(" pour_tea ", None) == "pour tea\n"
