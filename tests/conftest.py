"""Settings of the whole suite. `lwd` is not imported here: the jaxtyping hook must come first."""

import atexit
import importlib
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers, like processes of tests, inherit all this
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # What is compiled once serves the whole run. An entry that a killed process left half
        # written is compiled again.
        compiled = tempfile.mkdtemp(prefix="lwd-compiled-")
        atexit.register(shutil.rmtree, compiled, ignore_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Programs that run for milliseconds: to make good code of them costs more than it gains.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    plain = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {plain}".strip()

import jax
import numpy as np
import pytest

from postgres import postgres_server
from s3_gateway import CREDENTIALS, s3_gateway

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")  # (B,) - (B,1) is an error, not a (B,B) loss
jax.config.update("jax_debug_key_reuse", True)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many a test waits for the processes that it has started."""
    return 1 + len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no worker begins one when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(trylast=True)  # after the jaxtyping hook
def pytest_configure() -> None:
    """MuJoCo reads MUJOCO_GL when it is imported: `lwd.sim`, which sets it, comes before any test
    that imports `mujoco` itself."""
    importlib.import_module("lwd.sim")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def optimised():
    """For a test that trains for long: good code is worth its compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


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
