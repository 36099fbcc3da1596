"""How long a robot's edge client takes to start, and that it loads neither JAX nor MuJoCo.

Each import runs in a fresh interpreter; the time of an interpreter that imports nothing is
measured alike and given beside it. `python -m benchmarks.edge_import` writes
benchmarks/results/edge_import.md.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.record import header

RUNS = 20
FORBIDDEN = ("jax", "jaxlib", "mujoco", "mink", "optax", "orbax", "fastapi")
CASES = {
    "nothing (the interpreter alone)": "pass",
    "`lwd.edge.spool` (what a control loop needs to save an episode)": "import lwd.edge.spool",
    "`lwd.edge.uploader` (the edge process)": "import lwd.edge.uploader",
    "with all that the first upload loads (pyarrow, obstore, httpx)": (
        "import lwd.edge.uploader, lwd.edge.announce, lwd.episode.payload;"
        "import lwd.store.objects, lwd.store.client"
    ),
    "`lwd.replay.prefetch` (the prefetcher process)": "import lwd.replay.prefetch",
}
REPORT = "; import json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"


def measure(code: str) -> tuple[list[float], list[str]]:
    """Wall seconds of fresh interpreters that run `code`, and the packages that it loaded."""
    command = [sys.executable, "-c", code + REPORT]
    seconds, modules = [], []
    for _ in range(RUNS):
        start = time.perf_counter()
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        modules = json.loads(answer.stdout)
    return seconds, modules


def main() -> None:
    """Measure all cases and write the page."""
    lines = [
        "| imported | median | fastest | slowest | minus the bare interpreter | forbidden loaded |",
        "|---|---|---|---|---|---|",
    ]
    bare = 0.0
    for name, code in CASES.items():
        seconds, modules = measure(code)
        middle = statistics.median(seconds)
        bare = bare or middle
        loaded = ", ".join(m for m in FORBIDDEN if m in modules) or "none"
        lines.append(
            f"| {name} | {middle * 1e3:.0f} ms | {min(seconds) * 1e3:.0f} ms "
            f"| {max(seconds) * 1e3:.0f} ms | {(middle - bare) * 1e3:.0f} ms | {loaded} |"
        )
    text = "\n".join(
        [
            "# Start of the edge client",
            "",
            header("python -m benchmarks.edge_import"),
            f"Wall time of {RUNS} fresh interpreters each, from start to exit. Forbidden are "
            f"{', '.join(FORBIDDEN)}.",
            "",
            *lines,
            "",
        ]
    )
    path = Path(__file__).parent / "results" / "edge_import.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
