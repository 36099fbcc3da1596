"""What the page of recipes on the toy says beside the wins."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.recipes import __main__ as page
from benchmarks.recipes.__main__ import Cell, exact_tilt, keep, kept, table

from lwd.learner.recipes import recipe


def test_the_exact_tilt_is_by_the_critic_that_the_table_has(monkeypatch: pytest.MonkeyPatch):
    asked, solve = [], page.throws.solve

    def noted(inv_temp: float, atoms: np.ndarray, levels: dict[str, float]) -> list:
        asked.append(levels)
        return solve(inv_temp, atoms, levels)

    monkeypatch.setattr(page.throws, "solve", noted)
    assert exact_tilt() == pytest.approx(0.262, abs=0.005)
    divl = recipe("lwd").stage("offline").divl
    assert asked == [{name: getattr(divl, name) for name in asked[0]}]


def test_a_kept_cell_stands_beside_the_commit_that_trained_it(tmp_path: Path):
    keep(tmp_path / "lwd.npz", Cell(np.array([0.4, 0.5]), "abc"))
    rows = table({("lwd", 5.0): kept(tmp_path / "lwd.npz")}, Cell(np.array([0.1, 0.2]), "def"))
    assert rows[-2].endswith("| def |")
    assert rows[-1].startswith("| lwd | inv_temp 5 | 45.0 ")
    assert rows[-1].endswith("| abc |")
