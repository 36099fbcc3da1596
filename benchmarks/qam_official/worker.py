"""Compiles updates in one environment and times them on request; speed.py talks to two of these.

`python -m benchmarks.qam_official.worker REPOSITORY WIDTH LAYERS CRITICS NAME ...` prints one line
of JSON per update when it is compiled: its compile time, memory and losses. Then each line of
standard input, a name and a number of repetitions, is answered by the milliseconds of each.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.qam_official import agents


def prepare(repository: Path, sizes: agents.Sizes, name: str) -> tuple[Callable[[], Any], dict]:
    """The compiled update and what is known of it; `name` is official:T, euler:T or bridge:T."""
    kind, steps = name.split(":")
    data = {key: jnp.asarray(value) for key, value in agents.transitions().items()}
    if kind == "official":
        step, agent = agents.official(repository, sizes, int(steps))
        arguments: tuple = (agent, data)
    else:
        step, state = agents.ours(sizes, kind, int(steps))
        arguments = (state, data, jax.random.key(1))
    start = time.process_time()
    compiled = step.lower(*arguments).compile()
    memory = compiled.memory_analysis()
    facts = {
        "name": name,
        "jax": jax.__version__,
        "compile_s": time.process_time() - start,
        "temporary_mib": memory.temp_size_in_bytes / 2**20,
        "losses": {
            key: float(value)
            for key, value in compiled(*arguments)[1].items()
            if np.ndim(value) == 0
        },
    }
    return lambda: compiled(*arguments), facts


def timed(call: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of one call: on the clock, and of processor time over all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return {
        "wall": 1e3 * (time.perf_counter() - clock),
        "processor": 1e3 * (time.process_time() - processor),
    }


def main() -> None:
    repository, width, layers, critics, *names = sys.argv[1:]
    sizes = agents.Sizes(int(width), int(layers), int(critics))
    calls = {}
    for name in names:
        calls[name], facts = prepare(Path(repository), sizes, name)
        print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        name, repetitions = line.split()
        jax.block_until_ready(calls[name]())
        print(json.dumps([timed(calls[name]) for _ in range(int(repetitions))]), flush=True)


if __name__ == "__main__":
    main()
