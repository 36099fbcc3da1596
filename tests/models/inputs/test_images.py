"""Resizing agrees with the rule that openpi documents, on cases that can be checked by hand."""

import numpy as np
import pytest

from lwd.models.inputs.images import resize_with_pad


def test_an_image_of_the_right_size_is_left_as_it_is(rng):
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    assert resize_with_pad(image, 8) is image


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((480, 640), (slice(28, 196), slice(0, 224))),
        ((640, 480), (slice(0, 224), slice(28, 196))),
        ((202, 448), (slice(61, 162), slice(0, 224))),
        ((100, 10), (slice(0, 224), slice(101, 123))),
    ],
)
def test_the_picture_is_centred_on_black(shape, inside):
    padded = resize_with_pad(np.full((*shape, 3), 200, np.uint8), 224)
    assert padded.shape == (224, 224, 3)
    assert (padded[inside] == 200).all()
    assert padded.astype(int).sum() == padded[inside].astype(int).sum()


def test_shrinking_averages_and_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_with_pad(stripes, 16)[4:-4, 4:-4]
    assert np.abs(small.astype(int) - 128).max() < 3


def test_growing_is_linear():
    ramp = np.repeat(np.array([0, 100, 200], np.uint8)[None, :, None], 3, axis=0).repeat(3, axis=2)
    grown = resize_with_pad(ramp, 6)[:, :, 0]
    np.testing.assert_array_equal(grown[0], [0, 25, 75, 125, 175, 200])
