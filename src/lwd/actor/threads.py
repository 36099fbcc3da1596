"""One thread per robot process: a fleet shares its cores by processes, not inside them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

SINGLE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "MKL_NUM_THREADS": "1",
    "NPROC": "1",  # size of XLA's thread pool
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
"""Environment of a process that acts with a small policy on a CPU."""


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside the block get `SINGLE_THREAD`; their libraries read it on import."""
    before = {name: os.environ.get(name) for name in SINGLE_THREAD}
    flags = f"{before['XLA_FLAGS'] or ''} {SINGLE_THREAD['XLA_FLAGS']}".strip()
    os.environ.update(SINGLE_THREAD | {"XLA_FLAGS": flags})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
