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
QUANTILES = (0.1, 0.5, 0.9)


class Critic:
    """The child process; started when it is first asked, and again when it has died."""

    def __init__(self, checkpoints: Path, recipe: str, rate: str) -> None:
        self._command = [
            *("nice", "-n", "10", sys.executable, "-m", "lwd.dashboard.critic"),
            *(str(checkpoints), recipe, rate),
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


def curves_along(
    payload: Path, checkpoints: Path, recipe: str, rate: str
) -> dict[str, list[float]]:
    """Mean and quantiles of V over the states of an episode, by a child process of its own."""
    critic = Critic(checkpoints, recipe, rate)
    try:
        found = critic.values(payload)
    finally:
        critic.close()
    return {name: found[name] for name in ("mean", "low", "median", "high")}


class Head:
    """The critic of the newest checkpoint, loaded again when there is a newer one."""

    def __init__(self, checkpoints: Path, recipe: str, rate: str) -> None:
        from lwd.config import control
        from lwd.learner.recipes import recipe as find_recipe

        self._checkpoints = checkpoints
        self._config = find_recipe(recipe, control(rate))
        self._loaded: str = ""

    def values(self, payload: Path) -> dict[str, Any]:
        """Mean, quantiles and distribution of V over the states of an episode."""
        self._load()
        import jax
        import jax.numpy as jnp

        from lwd.learner import value_head
        from lwd.models.fns import Inputs
        from lwd.models.tokenizer import tokenize

        episode, divl = decode(payload, images=False), self._trained.stage.divl
        tokens = tokenize([episode.header.instruction] * len(episode.state))
        state = self._trained.normaliser.state(episode.state)
        outputs = jnp.asarray(self._logits(Inputs(jnp.asarray(state), jnp.asarray(tokens))))
        low, median, high = np.asarray(value_head.quantiles(outputs, QUANTILES, divl)).T
        mean = np.asarray(value_head.mean(outputs, divl))
        found = {"mean": mean, "low": low, "median": median, "high": high}
        answer: dict[str, Any] = {name: _rounded(v) for name, v in found.items()}
        answer["checkpoint"] = self._trained.at._asdict()
        if divl.value == "categorical":
            probabilities = np.asarray(jax.nn.softmax(outputs, axis=-1))
            support = (divl.v_min, divl.v_max)
            answer["distribution"] = thinned(probabilities, support)
        return answer

    def _load(self) -> None:
        from lwd.learner.diagnose.trained import in_blocks, load

        newest = ",".join(sorted(p.name for p in self._checkpoints.iterdir() if p.name.isdigit()))
        if newest != self._loaded:
            import jax

            self._trained = load(self._config, self._checkpoints)
            critic, networks = self._trained.nets.critic, self._trained.networks
            ask = jax.jit(
                lambda inputs: critic.value_logits(
                    networks.value, critic.encode(networks.q, inputs)
                )
            )
            self._logits = lambda inputs: in_blocks(ask, inputs)
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
    checkpoints, recipe, rate = arguments
    head: Head | None = None
    for line in sys.stdin:
        try:
            head = head or Head(Path(checkpoints), recipe, rate)
            answer = head.values(Path(line.strip()))
        except (LwdError, OSError, ValueError) as error:
            answer = {"error": " ".join(str(error).split())}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(name)s %(message)s")
    main(sys.argv[1:])
