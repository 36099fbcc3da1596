"""`python -m benchmarks NAME`."""

import runpy
import sys

import benchmarks.sim_speed
import pytest


def test_a_benchmark_with_flags_of_its_own_is_run_by_its_name(monkeypatch):
    seen = []
    monkeypatch.setattr(benchmarks.sim_speed, "main", lambda: seen.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sim_speed"])
    runpy.run_module("benchmarks.__main__", run_name="__main__")
    assert seen == [[]]


def test_without_a_name_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(SystemExit, match=r"name what to measure: chaos, .*sim_speed"):
        runpy.run_module("benchmarks.__main__", run_name="__main__")
