"""What will go wrong, when and to whom: a pure function of the seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A way in which something goes wrong."""

    KILL = "kill"
    """SIGKILL; the process is started again after a while."""
    PAUSE = "pause"
    """SIGSTOP, and SIGCONT later: the process wakes in a world that went on."""
    FILL = "fill"
    """The process can write no file beyond a few kilobytes: what is longer is torn there."""
    SKEW = "skew"
    """The clock of the process jumps, and stays wrong."""
    CUT = "cut"
    """Connections of a link break, and new ones do too."""
    STALL = "stall"
    """Connections of a link stay, and nothing passes."""
    SLOW = "slow"
    """A link gets latency and little bandwidth."""
    LOSSY = "lossy"
    """Packets to and from the robots are lost, late and few."""
    DUPLICATE = "duplicate"
    """Notices come again, under other ids, also long after the first time."""
    DROP = "drop"
    """Notices vanish from the queue, acknowledged by nobody who acted on them."""
    DELAY = "delay"
    """Notices come seconds later."""
    REORDER = "reorder"
    """Notices come in another order."""
    POISON = "poison"
    """Notices that are none."""
    TEAR = "tear"
    """A half-written episode lies among the finished ones of a spool."""
    CORRUPT = "corrupt"
    """The object store damages a payload that it has."""
    TAMPER = "tamper"
    """The object store damages the newest policy, or its difference to the one before."""


PROCESS = (Kind.KILL, Kind.PAUSE, Kind.FILL, Kind.SKEW)
"""Kinds that happen to a process."""
LINK = (Kind.CUT, Kind.STALL, Kind.SLOW)
"""Kinds that happen to a link."""
LONGEST_S: Mapping[Kind, float] = {
    Kind.KILL: 1.5,
    Kind.PAUSE: 8.0,
    Kind.FILL: 4.0,
    Kind.CUT: 4.0,
    Kind.STALL: 8.0,
    Kind.SLOW: 8.0,
    Kind.LOSSY: 10.0,
    Kind.DELAY: 5.0,
    Kind.REORDER: 2.0,
}
"""Bound of how long a fault lasts; a pause must be able to outlast a lease."""
LARGEST_SKEW_S = 7200.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    at_s: float
    """Seconds after the fleet has started."""
    kind: Kind
    target: str
    """Name of a process, of a link or of a robot; empty where a queue or a store is meant."""
    lasts_s: float
    draw: int
    """32 random bits that decide the details, for example which byte."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Whom faults may happen to."""

    processes: Sequence[str]
    """May be killed and paused."""
    writers: Sequence[str]
    """Of these, those whose disk may be full."""
    clocks: Sequence[str]
    """Of these, those with a clock of their own."""
    links: Sequence[str]
    robots: Sequence[str]
    radios: Sequence[str] = ()
    """Links of packets."""


def plan(
    seed: int, targets: Targets, *, kills: int, faults: int, seconds: float
) -> tuple[Fault, ...]:
    """`kills` kills and `faults` other faults within `seconds`, in the order of time.

    Victims are dealt in rounds, so that every process and every kind gets its share; the moments
    are uniform and independent, so that two may come at once.
    """
    rng = random.Random(seed)
    others = [kind for kind in Kind if kind is not Kind.KILL and _targets_of(kind, targets)]
    kinds = [Kind.KILL] * kills + _dealt(others, faults, rng)
    victims = {kind: _dealt(_targets_of(kind, targets), kinds.count(kind), rng) for kind in Kind}
    found = [
        Fault(
            at_s=rng.uniform(0.0, seconds),
            kind=kind,
            target=victims[kind].pop(),
            lasts_s=rng.uniform(0.1, 1.0) * LONGEST_S.get(kind, 0.0),
            draw=rng.getrandbits(32),
        )
        for kind in kinds
    ]
    return tuple(sorted(found, key=lambda fault: fault.at_s))


def skew_s(fault: Fault) -> float:
    """By how much the clock goes wrong; every fourth fault sets it right again."""
    if fault.draw % 4 == 0:
        return 0.0
    return (fault.draw / 2**31 - 1.0) * LARGEST_SKEW_S


def _targets_of(kind: Kind, targets: Targets) -> Sequence[str]:
    if kind is Kind.FILL:
        return targets.writers
    if kind is Kind.SKEW:
        return targets.clocks
    if kind in PROCESS:
        return targets.processes
    if kind in LINK:
        return targets.links
    if kind is Kind.LOSSY:
        return targets.radios
    return targets.robots if kind is Kind.TEAR else ("",)


def _dealt(choices: Sequence, count: int, rng: random.Random) -> list:
    """`count` choices, each about equally often, in random order."""
    dealt: list = []
    while len(dealt) < count:
        dealt += rng.sample(list(choices), len(choices))
    return dealt[:count]
