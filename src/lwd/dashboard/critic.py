"""What the newest checkpoint's critic says along an episode (Figs. 6 and 9).

The page itself needs no JAX: a child process loads the checkpoint, reads the path of a payload from
each line that comes and answers with a line of JSON. It ends when its input does.
"""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from lwd.episode.payload import decode
from lwd.errors import LwdError, ServiceError

log = logging.getLogger(__name__)

MOST_TICKS, MOST_LEVELS = 240, 67
"""Columns and rows of the picture of a value distribution; more are averaged together."""
PATIENCE_S = 300.0
"""Longest wait for an answer: the first one waits for JAX and a compilation."""
CURVES = ("mean", "low", "median", "high")
"""Of the value distribution; low and high are its 10 % and 90 % quantiles."""


class Critic:
    """The child process; started when it is first asked, and again when it has died."""

    def __init__(self, checkpoints: Path) -> None:
        self._command = [
            *("nice", "-n", "10", sys.executable, "-m", "lwd.dashboard.critic"),
            str(checkpoints),
        ]
        self._checkpoints, self._lock = checkpoints, threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def values(self, payload: Path) -> dict[str, Any]:
        """The critic's values along an episode; ServiceError says why there are none."""
        if not self._checkpoints.is_dir():
            raise ServiceError(
                f"There is no checkpoint under {self._checkpoints}: values come from a learner's. "
                "Start the dashboard with --root at the learner's run."
            )
        with self._lock:
            answer = self._ask(str(payload))
        if "error" in answer:
            raise ServiceError(f"No values: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
            self._child = None

    def _ask(self, line: str) -> dict[str, Any]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "JAX_PLATFORMS": "cpu", "LWD_PARENT": str(os.getpid())},
            )
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        watch = threading.Timer(PATIENCE_S, child.kill)
        watch.start()
        try:
            child.stdin.write(line + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            watch.cancel()
        if not answer:
            self.close()
            raise ServiceError("No values: the critic's process ended; the page's log says why.")
        return json.loads(answer)


def curves_along(payload: Path, checkpoints: Path) -> dict[str, list[float]]:
    """Mean and quantiles of V over the states of an episode, by a child process of its own."""
    critic = Critic(checkpoints)
    try:
        found = critic.values(payload)
    finally:
        critic.close()
    return {name: found[name] for name in CURVES}


class Head:
    """The critic of the newest checkpoint, loaded again when there is a newer one."""

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints, self._loaded = checkpoints, ""

    def values(self, payload: Path) -> dict[str, Any]:
        """Mean, quantiles and distribution of V over the states of an episode."""
        self._load()
        trained = self._trained
        episode = decode(payload, images=bool(trained.cameras))
        along, divl = trained.along(episode), trained.stage.divl
        answer: dict[str, Any] = {name: _rounded(getattr(along, name)) for name in CURVES}
        answer["checkpoint"] = trained.at._asdict()
        if divl.value == "categorical":
            found = trained.distribution_along(episode)
            answer["distribution"] = thinned(found, (divl.v_min, divl.v_max))
        return answer

    def _load(self) -> None:
        newest = ",".join(sorted(p.name for p in self._checkpoints.iterdir() if p.name.isdigit()))
        if newest == self._loaded:
            return
        from lwd.config import COMPACT
        from lwd.learner.diagnose.trained import load
        from lwd.learner.recipes import recipe

        # A checkpoint from before they kept their settings is most likely the demo's.
        self._trained = load(self._checkpoints, otherwise=recipe("lwd", COMPACT))
        self._loaded = newest


def thinned(probabilities: np.ndarray, support: tuple[float, float]) -> dict[str, Any]:
    """[ticks, atoms] probabilities as a picture: at most so many ticks and levels of value.

    `density` is [levels][ticks], in thousandths of the largest; a tick's column is the mean over
    the ticks that it stands for, a level the sum over its atoms.
    """
    ticks, atoms = probabilities.shape
    columns = np.array_split(np.arange(ticks), min(ticks, MOST_TICKS))
    levels = np.array_split(np.arange(atoms), min(atoms, MOST_LEVELS))
    over_time = np.stack([probabilities[c].mean(0) for c in columns])
    density = np.stack([over_time[:, level].sum(1) for level in levels])
    edges = np.linspace(*support, atoms)
    spacing = edges[1] - edges[0]
    shown = np.rint(1000 * density / max(density.max(), 1e-9)).astype(int)
    return {
        "ticks": [[int(c[0]), int(c[-1]) + 1] for c in columns],
        "values": [
            [float(edges[v[0]] - spacing / 2), float(edges[v[-1]] + spacing / 2)] for v in levels
        ],
        "density": shown.tolist(),
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def main(arguments: list[str]) -> None:
    """The child: a line in, a line out."""
    from lwd.store.process import follow_parent

    follow_parent()
    (checkpoints,) = arguments
    head: Head | None = None
    for line in sys.stdin:
        try:
            head = head or Head(Path(checkpoints))
            answer = head.values(Path(line.strip()))
        except (LwdError, OSError, ValueError) as error:
            answer = {"error": " ".join(str(error).split())}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    main(sys.argv[1:])
