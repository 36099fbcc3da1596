"""How each robot is, from its last signs of life: a pure function of what was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwd.dashboard.records import Brief
from lwd.episode.types import Outcome
from lwd.store.heartbeats import Beat
from lwd.store.rows import LoadRow, WeightsRow

FRESH_S = 15.0
"""Age at which a heartbeat says nothing any more."""
QUIET_S = 120.0
"""Silence after which a robot that sends no heartbeat counts as silent."""
RECENT = 20
"""Episodes that a robot's success is taken over."""
SKEW_S = 30.0
"""Difference of clocks that is worth a word."""


@dataclass(frozen=True, kw_only=True)
class RobotRow:
    """One line of the table of robots."""

    robot: str
    task: str
    state: str
    """What its heartbeat says (`acting`, `correcting`, `paused`, `waiting`), `reporting` where only
    its episodes tell, or `silent`."""
    episode: str
    """The one that it is in, or the last one."""
    version: int | None
    """Policy that it acts with."""
    wanted: int | None
    """Policy that it is to act with."""
    behind: int
    """Policies meant for it that are newer than its own."""
    behind_since: float | None
    """UTC second at which the oldest of them was published."""
    seen_at: float
    """Last sign of life, by the service's clock."""
    pending: int
    """Episodes in its spool, where it says so."""
    episodes: int
    successes: int
    """Among its last `RECENT` episodes with a verdict."""
    judged: int
    helped: int
    """Of these, episodes in which a person took over."""
    clock_off_s: float
    """By how much its clock differs, where that is more than `SKEW_S`."""
    shared: bool
    """Whether two processes have its name."""


def overview(
    episodes: Mapping[str, Sequence[Brief]],
    loads: Mapping[str, LoadRow],
    beats: Mapping[str, Beat],
    weights: Sequence[WeightsRow],
    *,
    now: float,
) -> dict[str, RobotRow]:
    """Robot to its line, in the order of their names, from what is known by robot: its episodes in
    the order of insertion, its last report of weights, its last heartbeat."""
    return {
        name: describe(
            name, episodes.get(name, ()), loads.get(name), beats.get(name), weights, now=now
        )
        for name in sorted(episodes.keys() | loads.keys() | beats.keys())
    }


def describe(
    robot: str,
    episodes: Sequence[Brief],
    load: LoadRow | None,
    beat: Beat | None,
    weights: Sequence[WeightsRow],
    *,
    now: float,
) -> RobotRow:
    """A robot's line; `weights` are oldest first."""
    last = episodes[-1] if episodes else None
    judged = [b for b in episodes[-3 * RECENT :] if Outcome(b.outcome).judged][-RECENT:]
    version = beat.policy_version or None if beat else None
    version = version or (load.version if load else None)
    newer = _newer(robot, version or 0, weights)
    seen = _seen(last, load, beat, now)
    return RobotRow(
        robot=robot,
        task=(beat.task if beat and beat.task else last.task if last else ""),
        state=_state(beat, seen, now),
        episode=(beat.episode_id if beat and beat.episode_id else last.episode_id if last else ""),
        version=version,
        wanted=newer[-1].version if newer else version,
        behind=len(newer),
        behind_since=newer[0].published_at if newer else None,
        seen_at=seen,
        pending=beat.pending if beat else 0,
        episodes=len(episodes),
        successes=sum(b.outcome == Outcome.SUCCESS for b in judged),
        judged=len(judged),
        helped=sum(b.interventions > 0 for b in judged),
        clock_off_s=_clock_off(last, beat),
        shared=beat is not None and beat.shared,
    )


def _newer(robot: str, version: int, weights: Sequence[WeightsRow]) -> list[WeightsRow]:
    """Policies meant for a robot that came after its own, oldest first."""
    found = []
    for row in reversed(weights):
        if row.version <= version:
            break
        if not row.audience or f",{robot}," in row.audience:
            found.append(row)
    return found[::-1]


def _state(beat: Beat | None, seen: float, now: float) -> str:
    if beat is not None and now - beat.received_at < FRESH_S:
        return beat.state
    return "reporting" if beat is None and now - seen < QUIET_S else "silent"


def _seen(last: Brief | None, load: LoadRow | None, beat: Beat | None, now: float) -> float:
    """Last sign of life. A load is told by the robot's clock: what that puts into the future counts
    only where nothing else is known."""
    heard = max(last.inserted_at if last else 0.0, beat.received_at if beat else 0.0)
    told = load.loaded_at if load else 0.0
    return max(heard, told) if told <= now else heard or now


def _clock_off(last: Brief | None, beat: Beat | None) -> float:
    """A heartbeat is sent at once, so that its age is the clocks' difference; an episode may have
    waited in the spool, but none is inserted before it was made."""
    off = beat.at - beat.received_at if beat else last.produced_at - last.inserted_at if last else 0
    return off if (beat and abs(off) > SKEW_S) or off > SKEW_S else 0.0
