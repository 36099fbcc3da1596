"""What a robot's small computer must never have to load."""

import json
import subprocess
import sys

import pytest

HEAVY = {"jax", "jaxlib", "jaxtyping", "mujoco", "mink", "optax", "orbax", "fastapi", "matplotlib"}
SHOW = "; import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"


def loaded(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after `code`."""
    answer = subprocess.run(
        [sys.executable, "-c", code + SHOW], check=True, capture_output=True, text=True, timeout=60
    )
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize("module", ["edge.uploader", "edge.announce", "replay.reader"])
def test_data_plane_loads_neither_jax_nor_mujoco(module: str) -> None:
    assert loaded(f"import lwd.{module}") & HEAVY == set()


def test_edge_client_starts_without_arrow_and_numpy() -> None:
    """They load with the first episode, when nobody waits."""
    found = loaded("import lwd.edge.spool, lwd.edge.uploader")
    assert "lwd" in found
    assert found & (HEAVY | {"pyarrow", "numpy", "obstore", "sqlalchemy", "httpx"}) == set()
