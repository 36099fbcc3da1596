"""What a new version costs a robot: the whole artifact, or its difference to the one before.

Reads the versions that a finished run published, for example that of `make demo`: `python -m
benchmarks.weights_delta --root runs/demo` writes benchmarks/results/weights_delta.md. Every
difference is applied and compared with the artifact byte for byte.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.record import header
from lwd.config import PlaneConfig
from lwd.store.catalog import Catalog
from lwd.store.delta import apply, difference
from lwd.store.objects import Objects
from lwd.store.rows import WeightsRow
from lwd.store.weights import key

COMMAND = "python -m benchmarks.weights_delta --root runs/demo"
OUT = Path(__file__).parent / "results" / "weights_delta.md"


@dataclass(frozen=True, kw_only=True)
class Step:
    """From one version to the next."""

    row: WeightsRow
    delta_bytes: int
    make_ms: float
    apply_ms: float

    def __str__(self) -> str:
        row, share = self.row, self.delta_bytes / self.row.size_bytes
        return (
            f"| {row.version} | {row.stage} {row.update} | {row.size_bytes:,} | "
            f"{self.delta_bytes:,} | {share:.3f} | {self.make_ms:.0f} | {self.apply_ms:.0f} |"
        )


def steps(plane: PlaneConfig) -> list[Step]:
    """Every step between consecutive versions of a run."""
    objects = Objects(plane.objects)
    with Catalog(plane.catalog) as catalog:
        rows = catalog.list_weights()
    artifacts = [objects.get(key(row.sha256), sha256=row.sha256) for row in rows]
    return [_step(rows[k], artifacts[k - 1], artifacts[k]) for k in range(1, len(rows))]


def _step(row: WeightsRow, old: bytes, new: bytes) -> Step:
    started = time.process_time()
    delta = difference(old, new)
    made = time.process_time()
    if delta is None or apply(old, delta) != new:
        raise SystemExit(f"version {row.version}: the difference does not give the artifact back.")
    applied = time.process_time()
    return Step(
        row=row,
        delta_bytes=len(delta),
        make_ms=1e3 * (made - started),
        apply_ms=1e3 * (applied - made),
    )


def main(root: Path = Path("runs/demo")) -> None:
    """Measure a run and write the table."""
    found = steps(PlaneConfig(root=root))
    online = [step for step in found if step.row.stage == "online"]
    share = sum(s.delta_bytes for s in online) / sum(s.row.size_bytes for s in online)
    table = "\n".join(map(str, found))
    OUT.write_text(
        f"# What a new version costs a robot\n\n{header(COMMAND)}\n"
        "Consecutive versions of a policy as a run of the demo published them, bfloat16 on the "
        "wire; times are of one core.\n\n"
        "| version | after | whole, bytes | difference, bytes | share | make, ms | apply, ms |\n"
        "|---|---|---|---|---|---|---|\n"
        f"{table}\n\nOnline, all versions together: {share:.3f} of the whole.\n"
    )
    print(OUT.read_text())


if __name__ == "__main__":
    tyro.cli(main)
