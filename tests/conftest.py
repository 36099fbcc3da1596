"""Settings of the whole suite. `lwd` is not imported here: the jaxtyping hook must come first."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

from postgres import postgres_server
from s3_gateway import CREDENTIALS, s3_gateway

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")  # (B,) - (B,1) is an error, not a (B,B) loss
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def postgres():
    """A running PostgreSQL server; every test makes its own databases."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3():
    """A running S3 gateway; every test makes its own buckets."""
    with s3_gateway() as gateway:
        yield gateway


@pytest.fixture
def s3_url(s3, monkeypatch) -> str:
    """URL of a new, empty bucket, with its credentials in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3.create()


@pytest.fixture
def postgres_url(postgres) -> str:
    """URL of a new, empty database."""
    return postgres.create()
