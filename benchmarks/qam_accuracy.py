"""How close adjoint matching comes to the tilted policy with few flow steps, by sampler.

Three Gaussian modes in the plane, a concave Q, a small network; the exact answer is known
(tests/reference/mixture.py). `python -m benchmarks.qam_accuracy` writes
benchmarks/results/qam_accuracy.md; about ten minutes on two cores.
"""

import sys

import numpy as np

from benchmarks.record import REPOSITORY, header

sys.path.insert(0, str(REPOSITORY / "tests"))
from reference import mixture  # pyright: ignore[reportMissingImports]

UPDATES, SEEDS = 1000, (0, 1, 2)
CASES = (("bridge", 4), ("bridge", 10), ("bridge", 20), ("euler", 4), ("euler", 10), ("euler", 20))


def words(weights: np.ndarray) -> str:
    """Shares as text."""
    return ", ".join(f"{weight:.3f}" for weight in weights)


def main() -> None:
    lines = [
        "| sampler | T | error, mean and range | shares of the modes, mean |",
        "|---|---|---|---|",
        f"| exact tilted policy | | 0 | {words(mixture.TILTED.weights)} |",
        f"| reference | | 1 | {words(mixture.BASE.weights)} |",
    ]
    for sampler, steps in CASES:
        fits = [mixture.fit(sampler, steps, UPDATES, seed) for seed in SEEDS]
        errors = [fit.error for fit in fits]
        spread = f"{np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f})"
        shares = words(np.mean([fit.weights for fit in fits], axis=0))
        lines.append(f"| {sampler} | {steps} | {spread} | {shares} |")
        print(lines[-1], flush=True)
    table = "\n".join(lines)
    text = (
        f"# Accuracy of adjoint matching\n\n{header('python -m benchmarks.qam_accuracy')}\n"
        f"{UPDATES} updates with batch {mixture.BATCH}, {len(SEEDS)} seeds. The error is the "
        f"squared distance of the learned velocity to the exact one, in units of the reference's; "
        f"the policy is sampled with the T it was trained with.\n\n{table}\n"
    )
    path = REPOSITORY / "benchmarks" / "results" / "qam_accuracy.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
