"""The process of one robot: episode after episode into the spool, until its quota or SIGTERM."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.actor.attended import AttendedRobot, Mode
from lwd.actor.devices.page import PageDevice
from lwd.actor.heartbeat import BEAT_S, Heart, Watched, beating
from lwd.actor.ledger import Ledger, operator_rng, scene_seed
from lwd.actor.loop import run_episode
from lwd.actor.operator import Operator
from lwd.actor.policy import Build, Fleet, Policy, PolicyStore, Polling
from lwd.actor.recorder import Recording, begin_trace
from lwd.actor.robot import Robot
from lwd.config import ActorConfig, PlaneConfig
from lwd.edge.account import Fate
from lwd.edge.draft import Drafts
from lwd.edge.spool import Spool
from lwd.episode.payload import encode
from lwd.episode.types import Episode, Kind, Outcome, Source
from lwd.errors import ConfigError, EpisodeError, IntegrityError, LwdError, ServiceError
from lwd.store import metrics, weights
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects
from lwd.store.process import stop_on_signals
from lwd.store.rows import WeightsRow

log = logging.getLogger(__name__)

AUTONOMOUS = (Kind.ROLLOUT, Kind.ONLINE)
"""Kinds in which a policy acts."""
FULL_SPOOL_RETRY_S = 2.0
"""Pause of a robot whose spool is full."""
AWAY_S = 2.0
"""Pause of a robot whose policy server is away."""
STATES = {Mode.AUTONOMOUS: "acting", Mode.PAUSED: "paused", Mode.CORRECTING: "correcting"}
"""What a heartbeat says of each mode."""


@runtime_checkable
class Policies(Protocol):
    """Hands out policies between episodes; `PolicyStore` does."""

    def swap(self) -> Policy | None:
        """The newest good policy, None while there is none."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait until `swap` has something newer; False when nothing came in time."""
        ...

    def withdraw(self, reason: str) -> None:
        """Give up the current policy, which misbehaved."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rig:
    """How a process makes the parts that differ between robots and between models."""

    robot: Callable[[], Robot]
    operator: Callable[[Robot, np.random.Generator], Operator] | None = None
    """Makes the operator of one episode; for demonstrations a `Demonstration`."""
    build: Build | None = None
    """Makes a policy of fetched weights; rollout and online need it, or `policies`."""
    policies: Callable[[], "Policies"] | None = None
    """Where policies come from instead of the fleet's weights, for example another's server."""
    around: Callable[[Policy], Policy] | None = None
    """What acts in the policy's place, for example a `RealtimePolicy` around it."""
    recording: Recording = field(default_factory=Recording)
    waits: Callable[[], None] = lambda: None
    """Called where the robot waits, for a policy or for room."""


def main(
    actor: ActorConfig,
    plane: PlaneConfig,
    rig: Rig,
    *,
    token: str | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Drive one robot until its quota of episodes is saved, SIGTERM, SIGINT or `stop`."""
    _check(actor, rig)
    stop = stop or stop_on_signals()
    folder = plane.root / "actors" / actor.robot
    log.info("start robot=%s kind=%s episodes=%s", actor.robot, actor.kind, actor.episodes)
    with (
        Ledger(folder, actor.robot) as ledger,
        Spool(plane.root / "spool" / actor.robot, actor.spool_quota_bytes) as spool,
    ):
        if Kind(actor.kind) not in AUTONOMOUS:
            run(actor, rig, ledger, spool, None, stop)
        else:
            with (
                ServiceClient(plane.service_url, token=token, robot=actor.robot) as client,
                _policies(actor, plane, rig, client, folder) as policies,
                ServiceClient(plane.service_url, token=token, timeout_s=BEAT_S) as beats,
                Heart(actor.robot, beats.send_beat, pending=lambda: len(spool.pending())) as heart,
                ExitStack() as over,
            ):

                def connect(device: PageDevice) -> None:
                    over.callback(device.close)
                    device.connect(ServiceClient(plane.service_url, token=token, timeout_s=BEAT_S))

                run(actor, heard(rig, heart, connect), ledger, spool, policies, stop)
    log.info("stop robot=%s", actor.robot)


@contextmanager
def _policies(
    actor: ActorConfig, plane: PlaneConfig, rig: Rig, fleet: Fleet, folder: Path
) -> Iterator[Policies]:
    """Where a robot's policies come from: its own server, or the fleet's weights."""
    if rig.policies is not None:
        yield rig.policies()
    else:
        with policy_store(actor, plane, rig, fleet, folder) as policies:
            yield policies


def heard(rig: Rig, heart: Heart, connect: Callable[[PageDevice], None]) -> Rig:
    """The rig of a robot whose heartbeats say who acts, with what and on which task, or that it
    waits; `connect` gets its device where that is the fleet's page."""
    make, around, operator = rig.robot, rig.around, rig.operator

    def robot() -> Robot:
        made = make()
        if isinstance(made, AttendedRobot):
            made.on_mode = lambda mode: heart.note(STATES[mode])
            if isinstance(made.device, PageDevice):
                connect(made.device)
        return made

    return replace(
        rig,
        robot=robot,
        around=lambda policy: beating(around(policy) if around else policy, heart),
        operator=operator and (lambda robot, rng: Watched(operator(robot, rng), heart)),
        recording=replace(rig.recording, begun=heart.began),
        waits=lambda: heart.note("waiting"),
    )


def run(
    actor: ActorConfig,
    rig: Rig,
    ledger: Ledger,
    spool: Spool,
    policies: Policies | None,
    stop: threading.Event,
) -> None:
    """Episodes until the quota or `stop`; a policy that misbehaves is withdrawn.

    First comes what a kill has left of the last one.
    """
    robot, kind, drafts = rig.robot(), Kind(actor.kind), Drafts(spool)
    _recover(actor, ledger, drafts)
    rig = replace(rig, recording=replace(rig.recording, draft=drafts.add))
    while not stop.is_set() and (actor.episodes is None or ledger.saved(kind) < actor.episodes):
        policy = _next_policy(rig, policies, stop)
        if policies is not None and policy is None:
            return
        number = ledger.begin(kind)
        saved, outcome = False, ""
        try:
            episode = _episode(actor, rig, robot, policy, number, stop)
            if episode is not None:
                drafts.ended(episode.header.episode_id)
                saved, outcome = _save(rig, spool, episode, number, stop), episode.header.outcome
        except (IntegrityError, ServiceError) as error:
            _cut_off(rig, policies, error, stop)
            if cut := drafts.recover(keep=_keeps(actor), why=str(error)):
                saved, outcome = True, cut.outcome
        ledger.end(saved=saved, outcome=outcome)
        drafts.clear()


def _cut_off(rig: Rig, policies: Policies | None, error: LwdError, stop: threading.Event) -> None:
    """After an episode that its policy ended: one that misbehaves is withdrawn, a server that is
    away is waited for; anything else is raised again."""
    if policies is not None and isinstance(error, IntegrityError):
        policies.withdraw(str(error))
    elif rig.policies is not None and isinstance(error, ServiceError) and not stop.is_set():
        log.warning("episode cut off pause_s=%.1f reason=%s", AWAY_S, error)
        stop.wait(AWAY_S)
    else:
        raise error


def _check(actor: ActorConfig, rig: Rig) -> None:
    if Kind(actor.kind) in AUTONOMOUS:
        if rig.build is None and rig.policies is None:
            raise ConfigError(f"kind {actor.kind!r} needs a policy: give the rig a `build`.")
    elif rig.operator is None:
        raise ConfigError(f"kind {actor.kind!r} needs a demonstrator: give the rig an `operator`.")


def policy_store(
    actor: ActorConfig, plane: PlaneConfig, rig: Rig, fleet: Fleet, folder: Path
) -> PolicyStore:
    """The policies of a robot that keeps its own in `folder`."""
    objects, cache = Objects(plane.objects), folder / "weights"
    assert rig.build is not None

    def download(row: WeightsRow) -> tuple[weights.Tensors, weights.Metadata]:
        fetched = weights.fetch(objects, row, folder=cache)
        weights.evict(cache, keep={row.sha256, *store.in_use})
        return fetched

    store = PolicyStore(
        actor.robot,
        fleet,
        download,
        rig.build,
        polling=Polling(wait_s=actor.poll_s),
        memory=folder / "weights.json",
    )
    return store


def _next_policy(rig: Rig, policies: Policies | None, stop: threading.Event) -> Policy | None:
    """At an episode boundary: the newest policy, waited for until there is one or `stop`."""
    if policies is None:
        return None
    policy = policies.swap()
    if policy is None:
        log.info("robot waits for=policy")
        rig.waits()
    while policy is None and not stop.is_set():
        policies.wait(0.2)
        policy = policies.swap()
    return policy


def _episode(
    actor: ActorConfig,
    rig: Rig,
    robot: Robot,
    policy: Policy | None,
    number: int,
    stop: threading.Event,
) -> Episode | None:
    if rig.around is not None and policy is not None:
        policy = rig.around(policy)
    operator = None
    if rig.operator is not None:
        operator = rig.operator(robot, operator_rng(actor.seed, actor.index, number))
    seed = scene_seed(actor.seed, actor.index, number)
    return run_episode(
        robot,
        seed,
        policy,
        operator,
        kind=Kind(actor.kind),
        stop=stop,
        recording=rig.recording,
    )


def _recover(actor: ActorConfig, ledger: Ledger, drafts: Drafts) -> None:
    """Settle the episode inside which, or before whose count, the last process was killed."""
    header = drafts.recover(keep=_keeps(actor), why="the process ended inside it")
    if header is not None and ledger.running:
        ledger.end(saved=header.outcome is not Outcome.INVALID, outcome=header.outcome)


def _keeps(actor: ActorConfig) -> bool:
    """Whether an episode that was cut off is kept; a demonstration is only if it succeeds."""
    return actor.interrupted == "keep" and Kind(actor.kind) is not Kind.DEMO


def _save(rig: Rig, spool: Spool, episode: Episode, number: int, stop: threading.Event) -> bool:
    """Spool the episode if it is to be kept; a full spool makes the robot wait.

    An invalid episode is spooled, so that the fleet can count it, but fills no quota.
    """
    header = episode.header
    valid = header.outcome is not Outcome.INVALID
    wanted = header.kind is not Kind.DEMO or header.outcome is Outcome.SUCCESS or not valid
    saved = wanted and _spooled(rig, spool, episode, stop)
    _note(episode)
    if not wanted:
        reason = f"a demonstration that ended as {header.outcome} is not kept"
        spool.drop(header.episode_id, Fate.POLICY, reason)
    log.info(
        "episode %s robot=%s number=%d episode=%s kind=%s outcome=%s ticks=%d policy=%d human=%d",
        "saved" if saved else "not kept",
        *(header.robot, number, header.episode_id, header.kind, header.outcome),
        *(episode.ticks, header.policy_version, int((episode.source == Source.HUMAN).sum())),
    )
    return saved and valid


def _note(episode: Episode) -> None:
    """Metrics of a finished episode, and the first span of its trace."""
    header = episode.header
    metrics.EPISODES.add(kind=header.kind, outcome=header.outcome)
    metrics.ACTING.set(header.policy_version)
    for source in Source:
        metrics.TICKS.add(int((episode.source == source).sum()), source=source.name.lower())
    begin_trace(header)


def _spooled(rig: Rig, spool: Spool, episode: Episode, stop: threading.Event) -> bool:
    try:
        payload = encode(episode)
    except EpisodeError as error:
        log.error("episode invalid episode=%s reason=%s", episode.header.episode_id, error)
        spool.drop(episode.header.episode_id, Fate.INVALID, str(error))
        return False
    while True:
        try:
            spool.save(episode.header.episode_id, payload)
            return True
        except ServiceError as error:
            log.error("episode not saved episode=%s reason=%s", episode.header.episode_id, error)
            rig.waits()
            if stop.wait(FULL_SPOOL_RETRY_S):
                spool.drop(episode.header.episode_id, Fate.FULL, str(error))
                raise
