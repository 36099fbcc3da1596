"""The game of the toy: its rules, its exact answer, and pictures beside what was learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lwd.algorithms import categorical, divl
from lwd.eval.figures import BLUE, GREEN, GREY, INK, ORANGE, STYLE

SPOTS = np.stack([np.cos(np.arange(5) * 0.4 * np.pi), np.sin(np.arange(5) * 0.4 * np.pi)], axis=1)
HOW_OFTEN = np.array([0.15, 0.1, 0.2, 0.25, 0.3])
SPREAD = 0.2
TARGETS = np.array([[0.8, 0.85], [-0.7, -1.0]])
REACH, BEST, DISCOUNT = 1.0, 0.9, 0.95
SIDE = np.linspace(-2.0, 2.0, 64)
GRID = np.stack(np.meshgrid(SIDE, SIDE), axis=-1).reshape(-1, 2).astype(np.float32)
"""Actions at which a critic is looked at, row by row from the lower left: [4096, 2]."""


Levels = dict[str, float]


class Record(NamedTuple):
    """Transitions; `discount` is 0 where the game ends."""

    state: jax.Array
    """[throws, 2], one-hot turn."""
    action: jax.Array
    """[throws, 2], where the throw went."""
    reward: jax.Array
    discount: jax.Array
    next_state: jax.Array


class Turn(NamedTuple):
    """What is known, or was learned, about one of the two throws."""

    reference: Any
    """[4096, 2], throws of the reference policy."""
    tilted: Any
    """[4096, 2], throws of the improved one."""
    q: Any
    """[4096], Q at GRID."""
    logits: Any
    """[atoms], of the value distribution."""


def behave(rng: np.random.Generator, count: int) -> np.ndarray:
    """Throws as somebody makes them, at either turn: [count, 2]."""
    return SPOTS[rng.choice(5, count, p=HOW_OFTEN)] + SPREAD * rng.normal(size=(count, 2))


def chance(turn: int | np.ndarray, action: np.ndarray) -> np.ndarray:
    """Probability that a throw hits."""
    apart = np.square(action - TARGETS[turn]).sum(axis=-1)
    return BEST * np.exp(-apart / (2 * REACH**2))


def record(rng: np.random.Generator, count: int) -> Record:
    """First and second throws in turn. A hit leads on or wins, a miss ends the game."""
    turn, action = np.arange(count) % 2, behave(rng, count)
    hit = rng.random(count) < chance(turn, action)
    columns = (
        np.eye(2)[turn],
        action,
        hit * (turn == 1),
        DISCOUNT * hit * (turn == 0),
        np.tile([[0.0, 1.0]], (count, 1)),
    )
    return Record(*(jnp.asarray(column, jnp.float32) for column in columns))


def bootstrap(logits: Any, atoms: jax.Array, levels: Levels) -> tuple[float, float]:
    """The quantile that a critic bootstraps from, and its level tau."""
    value, metrics = divl.bootstrap(jnp.asarray(logits)[None], atoms, **levels)
    return float(value[0]), float(metrics["value/tau"])


def solve(inv_temp: float, atoms: jax.Array, levels: Levels) -> list[Turn]:
    """Both turns from the rules: Q, the distribution of Q over throws, and the tilted throws."""
    rng = np.random.default_rng(1)
    throws, worth, turns = behave(rng, 200_000), 1.0, []
    for turn in (1, 0):
        q = worth * chance(turn, throws)
        parts = jnp.asarray(q, jnp.float32).reshape(20, -1)
        mass = np.mean([categorical.two_hot(part, atoms).mean(0) for part in parts], axis=0)
        weight = np.exp(inv_temp * q)
        chosen = rng.choice(len(q), len(GRID), p=weight / weight.sum())
        logits = np.log(np.maximum(mass, 1e-12))
        turns.append(Turn(throws[: len(GRID)], throws[chosen], worth * chance(turn, GRID), logits))
        worth = DISCOUNT * bootstrap(logits, atoms, levels)[0]
    return turns[::-1]


def report(
    learned: Sequence[Turn], exact: Sequence[Turn], atoms: jax.Array, levels: Levels
) -> dict[str, float]:
    """How often each policy hits, and what the second throw is worth to the first; also printed."""
    policies = {
        "record": [turn.reference for turn in exact],
        "SFT": [turn.reference for turn in learned],
        "QAM": [turn.tilted for turn in learned],
        "exact": [turn.tilted for turn in exact],
    }
    numbers = {}
    print(f"{'policy':10}{'first hits':>12}{'second hits':>12}{'wins':>12}")
    for name, actions in policies.items():
        first, second = (float(chance(turn, np.asarray(actions[turn])).mean()) for turn in (0, 1))
        numbers[name] = first * second
        print(f"{name:10}{first:12.3f}{second:12.3f}{first * second:12.3f}")
    for name, turns in (("learned", learned), ("exact", exact)):
        value, tau = bootstrap(turns[1].logits, atoms, levels)
        numbers[f"{name} quantile"], numbers[f"{name} tau"] = value, tau
        print(f"V(second throw), {name}: quantile {value:.3f} at tau {tau:.3f}")
    return numbers


def draw(
    learned: Sequence[Turn], exact: Sequence[Turn], atoms: jax.Array, levels: Levels, out: Path
) -> None:
    """Write policy.png and value.png."""
    out.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 5.4), layout="constrained")
        rows = figure.subplots(2, 4, sharex=True, sharey=True)
        for row, turn, solved, target in zip(rows, learned, exact, TARGETS, strict=True):
            _throws(row[0], turn.reference, target, GREY)
            _critic(row[1], turn.q, target)
            _throws(row[2], turn.tilted, target, BLUE)
            _throws(row[3], solved.tilted, target, GREEN)
        titles = ("SFT: reference flow", "DIVL: critic Q", "QAM: tilted flow", "Exact tilt")
        for axes, title in zip(rows[0], titles, strict=True):
            axes.set_title(title)
        for axes, name in zip(rows[:, 0], ("first throw", "second throw"), strict=True):
            axes.set_ylabel(name)
        figure.savefig(out / "policy.png", dpi=110)

        figure = Figure(figsize=(10.5, 2.9), layout="constrained")
        for axes, turn, solved, name in zip(
            figure.subplots(1, 2), learned, exact, ("first", "second"), strict=True
        ):
            _value(axes, turn.logits, solved.logits, atoms, levels)
            axes.set_title(f"V before the {name} throw")
        figure.savefig(out / "value.png", dpi=110)


def _throws(axes: Axes, actions: Any, target: np.ndarray, colour: str) -> None:
    """A cloud of throws and the target."""
    x, y = np.asarray(actions[:1500]).T
    axes.plot(x, y, ".", color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0)
    axes.plot(*target, "+", color=INK, markersize=9, markeredgewidth=1.4)
    axes.set(aspect="equal", xlim=SIDE[[0, -1]], ylim=SIDE[[0, -1]], xticks=[-1, 0, 1])
    axes.set_yticks([-1, 0, 1])


def _critic(axes: Axes, q: Any, target: np.ndarray) -> None:
    """Q over the plane, with the spots at which the record throws."""
    surface = np.asarray(q).reshape(len(SIDE), len(SIDE))
    levels = np.linspace(0.0, 0.9, 19)
    shades = axes.contourf(SIDE, SIDE, surface, levels, cmap="Oranges", extend="both")
    axes.plot(*SPOTS.T, "o", color=GREY, markersize=4, fillstyle="none")
    axes.plot(*target, "+", color=INK, markersize=9, markeredgewidth=1.4)
    axes.set_aspect("equal")
    axes.figure.colorbar(shades, ax=axes, ticks=[0, 0.3, 0.6, 0.9], shrink=0.8)


def _value(axes: Axes, logits: Any, solved: Any, atoms: jax.Array, levels: Levels) -> None:
    """The learned distribution, the exact one, and the quantiles of both."""
    for shown, colour, name in ((logits, ORANGE, "learned"), (solved, GREEN, "exact")):
        probs = np.asarray(jax.nn.softmax(jnp.asarray(shown)))
        value, tau = bootstrap(shown, atoms, levels)
        axes.axvline(value, ymax=0.8, color=colour, linewidth=1.2, linestyle=":")
        label = f"{name}: quantile {value:.2f} at τ = {tau:.2f}"
        if name == "learned":
            axes.fill_between(atoms, probs, step="mid", color=colour, alpha=0.35, linewidth=0)
            axes.fill_between([], [], color=colour, alpha=0.35, linewidth=0, label=label)
        else:
            axes.step(atoms, probs, where="mid", color=colour, linewidth=1, label=label)
    axes.margins(y=0.3)
    axes.set(xlabel="Q of a recorded throw", yticks=[], xlim=(-0.1, 1.0), ylim=(0, None))
    axes.legend(loc="upper right")
