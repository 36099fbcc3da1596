"""The proof: does what robots were promised agree with what the snapshots hold? Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

MOST_SHOWN = 5
"""Ids that a finding names; the evidence has all."""
LEAST_FAULTS = 0.5
"""Share of the planned faults that must have happened: one whose victim is down, or that finds no
notice to catch, does not."""


class Member(NamedTuple):
    """An episode in a snapshot, as the catalog lists it."""

    version: int
    episode_id: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found after the storm."""

    acknowledged: frozenset[str]
    """Episodes that a robot was promised: its spool has them for good."""
    begun: frozenset[str]
    """Episodes that a robot has tried to save; a kill may have come before the promise."""
    sizes: Sequence[tuple[int, int]]
    """Versions of the data set, as listed, each with how many episodes it says joined."""
    members: Sequence[Member]
    faults: Mapping[str, str] = field(default_factory=dict)
    """Hashes of member payloads that are not in the store as promised, each with the reason."""
    scenes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Robot and scene of each member, from its payload: a robot never has a scene twice."""
    damaged: frozenset[str] = frozenset()
    """Hashes of payloads that were damaged on purpose."""
    found: frozenset[str] = frozenset()
    """Hashes of payloads whose damage was noticed."""
    gone: Set[str] = frozenset()
    """Members whose payload was declared lost: it was damaged, and there was no copy."""
    dead: Mapping[str, str] = field(default_factory=dict)
    """Dead letters of episodes with their reasons."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Hash of every catalogued episode."""
    readings: Sequence[Mapping[str, Any]] = ()
    """What a reader wrote down, oldest first."""
    policies: Mapping[int, str] = field(default_factory=dict)
    """Published versions, each with the digest of the policy that it must be."""
    acted: Mapping[str, Sequence[tuple[int, str]]] = field(default_factory=dict)
    """Robot to the version and the digest of what acted in its episodes, oldest first."""
    made_by: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Member to its robot and the version that its row names."""
    whereabouts: Mapping[str, str] = field(default_factory=dict)
    """For acknowledged episodes that are in no snapshot: where they are."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Robot to how many episodes it was to make."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Robot to how many it made."""
    followers: Set[str] = frozenset()
    """Robots that were to act with published policies."""
    planned: tuple[int, int] = (0, 0)
    """Kills and other faults that were to happen."""
    happened: tuple[int, int] = (0, 0)
    """Kills and other faults that did."""
    crashes: Mapping[str, int] = field(default_factory=dict)
    """Ends of processes that nobody ordered."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the evidence proves."""

    acknowledged: int
    in_snapshots: int
    """Acknowledged episodes that are in the snapshots exactly once, with their payloads."""
    lost: int
    doubled: int
    corrupted: int
    """Payloads that were damaged on purpose."""
    repaired: int
    """Of these, how many are whole again; the damage of the others is known to everybody."""
    findings: tuple[str, ...]
    """Everything that is wrong, one line each."""

    @property
    def clean(self) -> bool:
        """Whether all happened that had to, and nothing was lost, doubled or otherwise wrong."""
        return not (self.lost or self.doubled or self.findings)


def audit(evidence: Evidence) -> Report:
    """Compare promises with snapshots; nothing that is wrong is passed over."""
    times = Counter(member.episode_id for member in evidence.members)
    known = _known_damage(evidence)
    broken = {m.episode_id for m in evidence.members if m.sha256 in evidence.faults} - known
    lost = {e for e in evidence.acknowledged if not times[e]} - known | broken
    doubled = {e for e, count in times.items() if count > 1} | _same_scene(evidence)
    findings = [
        *_storm_findings(evidence),
        *_lost_findings(evidence, lost, broken),
        *_named("episodes are in the snapshots more than once", doubled),
        *_named("episodes are in the snapshots that no robot made", times.keys() - evidence.begun),
        *_version_findings(evidence),
        *_reading_findings(evidence),
        *_policy_findings(evidence),
    ]
    kept = evidence.acknowledged & times.keys() - lost - doubled - known
    return Report(
        acknowledged=len(evidence.acknowledged),
        in_snapshots=len(kept),
        lost=len(lost),
        doubled=len(doubled),
        corrupted=len(evidence.damaged),
        repaired=len(evidence.damaged - {evidence.hashes.get(e) for e in known}),
        findings=tuple(findings),
    )


def _storm_findings(evidence: Evidence) -> Iterable[str]:
    """A storm in which little happened proves little."""
    if not evidence.acknowledged:
        yield "no robot has saved an episode"
    for robot, asked in evidence.asked.items():
        if (saved := evidence.saved.get(robot, 0)) < asked:
            yield f"{robot} saved {saved} of {asked} episodes"
    yield from _named("robots acted with no policy", evidence.followers - evidence.acted.keys())
    newest = max((version for version, _ in evidence.sizes), default=0)
    bound = max((reading.get("bound", 0) for reading in evidence.readings), default=0)
    if bound < newest:
        yield f"the reader never bound version {newest} (last {bound})"
    if not any("drew" in reading for reading in evidence.readings):
        yield "the reader drew no batch"
    (kills, faults), (killed, broken) = evidence.planned, evidence.happened
    if killed < kills:
        yield f"{killed} of {kills} kills happened"
    if broken < LEAST_FAULTS * faults:
        yield f"{broken} of {faults} other faults happened"
    if evidence.crashes:
        ended = ", ".join(f"{name} {n}" for name, n in sorted(evidence.crashes.items()))
        yield f"{sum(evidence.crashes.values())} processes ended by themselves: {ended}"


def _known_damage(evidence: Evidence) -> set[str]:
    """Episodes whose payload was damaged on purpose, and somebody noticed and said so."""
    broken = {m.episode_id for m in evidence.members if m.sha256 in evidence.faults}
    noticed = {e for e in broken if evidence.hashes.get(e) in evidence.found}
    candidates = noticed | evidence.gone | evidence.dead.keys()
    return {e for e in candidates if evidence.hashes.get(e) in evidence.damaged}


def _same_scene(evidence: Evidence) -> set[str]:
    """Episodes whose robot has another one of the same scene."""
    times = Counter(evidence.scenes.values())
    return {episode for episode, scene in evidence.scenes.items() if times[scene] > 1}


def _lost_findings(evidence: Evidence, lost: set[str], broken: set[str]) -> Iterable[str]:
    yield from _named("episodes are in a snapshot without their payload", broken)
    for where, episodes in _grouped(lost - broken, evidence.whereabouts).items():
        yield from _named(f"acknowledged episodes are in no snapshot: {where}", episodes)


def _grouped(episodes: Iterable[str], whereabouts: Mapping[str, str]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for episode in episodes:
        groups.setdefault(whereabouts.get(episode, "gone without a trace"), set()).add(episode)
    return groups


def _version_findings(evidence: Evidence) -> Iterable[str]:
    versions = [version for version, _ in evidence.sizes]
    if any(later != earlier + 1 for earlier, later in pairwise(versions)):
        yield f"versions of the data set do not grow by one: {versions}"
    joined = Counter(member.version for member in evidence.members)
    for version, added in evidence.sizes:
        if joined.pop(version, 0) != added:
            yield f"version {version} says that {added} episodes joined, which is not so"
    if joined:
        yield f"episodes joined in versions that are not there: {sorted(joined)}"


def _reading_findings(evidence: Evidence) -> Iterable[str]:
    """Bound versions only grow; a bound snapshot is held whole, once; a batch is drawn from it."""
    joined = {member.episode_id: member.version for member in evidence.members}
    bound, outside = 0, 0
    for reading in evidence.readings:
        version = 0 if "started" in reading else reading["bound"]
        if version < bound and version:
            yield f"a reader went back from version {bound} to {version}"
        bound = version
        if "holds" in reading:
            expected = sum(v <= version for v in joined.values())
            least = expected - len(evidence.gone)
            if reading["holds"] != reading["distinct"] or not least <= reading["holds"] <= expected:
                yield f"a reader holds {reading} at a version of {expected} episodes"
        outside += sum(joined.get(e, version + 1) > version for e in reading.get("drew", ()))
    if outside:
        yield f"{outside} samples came from outside the bound snapshot"


def _policy_findings(evidence: Evidence) -> Iterable[str]:
    """Robots act with whole, published policies only, go forward only, and say which."""
    numbers = sorted(evidence.policies)
    if numbers != list(range(1, len(numbers) + 1)) or "" in evidence.policies.values():
        yield f"published versions do not follow from one another: {numbers}"
    for robot, acts in evidence.acted.items():
        for version, digest in sorted(set(acts)):
            if version not in evidence.policies:
                yield f"{robot} acted with version {version}, which nobody published"
            elif digest != evidence.policies[version]:
                yield f"{robot} acted with something else than what version {version} is"
        for (earlier, _), (later, _) in pairwise(acts):
            if later < earlier:
                yield f"{robot} went back from version {earlier} to {later}"
    said = {robot: {version for version, _ in acts} for robot, acts in evidence.acted.items()}
    strange = {e for e, (robot, v) in evidence.made_by.items() if v not in said.get(robot, {0})}
    yield from _named("episodes name a policy that their robot did not act with", strange)


def _named(what: str, episodes: Iterable[str]) -> list[str]:
    named = sorted(episodes)
    if not named:
        return []
    more = f" and {len(named) - MOST_SHOWN} more" if len(named) > MOST_SHOWN else ""
    return [f"{len(named)} {what}: {', '.join(named[:MOST_SHOWN])}{more}"]
