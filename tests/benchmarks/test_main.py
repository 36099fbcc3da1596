"""`python -m benchmarks NAME`."""

import runpy
import sys

import benchmarks.sim_speed


def test_a_benchmark_with_flags_of_its_own_is_run_by_its_name(monkeypatch):
    seen = []
    monkeypatch.setattr(benchmarks.sim_speed, "main", lambda: seen.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sim_speed"])
    runpy.run_module("benchmarks.__main__", run_name="__main__")
    assert seen == [[]]
