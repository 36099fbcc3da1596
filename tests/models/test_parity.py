"""Agreement with openpi and Hugging Face on numbers that they wrote, in float32."""

import jax
import numpy as np
import pytest

from benchmarks import parity
from models.goldens import GOLDEN

TOLERANCE = {"prefix": 1e-6, "prefix_out": 1e-4, "v": 1e-4, "sampled": 1e-4}


@pytest.fixture(scope="module", autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def openpi():
    return parity.pi05_differences(dict(np.load(GOLDEN / "pi05.npz")))


@pytest.fixture(scope="module")
def hugging_face():
    golden = dict(np.load(GOLDEN / "huggingface.npz"))
    return parity.hf_differences(golden, window=4, vision_heads=2, head_dim=16)


@pytest.mark.parametrize("name", TOLERANCE)
def test_pi05_is_openpis(openpi, name):
    ours, theirs = openpi[name]
    assert np.abs(theirs).mean() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[name])


@pytest.mark.parametrize("name", ["g3/y", "g3/y_bidir", "sig/y", "pg/h", "pg/logits"])
def test_gemma3_siglip_and_paligemma_are_hugging_faces(hugging_face, name):
    ours, theirs = hugging_face[name]
    assert np.abs(theirs).mean() > 0.01
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
