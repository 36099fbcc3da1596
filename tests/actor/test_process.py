"""The robot's process: quotas, policies that arrive and misbehave, kills and restarts."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from actor.fleet import FAST, Fleet, until
from actor.point import Expert, PointPolicy, PointRobot, build
from lwd.actor import process
from lwd.actor.ledger import Ledger, read
from lwd.actor.operator import Demonstration
from lwd.actor.policy import PolicyStore
from lwd.actor.process import Rig, main, run
from lwd.actor.robot import Status
from lwd.config import ActorConfig, PlaneConfig
from lwd.edge.account import Fate, account
from lwd.edge.spool import Spool
from lwd.episode import payload
from lwd.episode.types import Outcome
from lwd.errors import ConfigError, EpisodeError, ServiceError
from lwd.store import weights
from lwd.store.heartbeats import Beat
from lwd.store.objects import Objects
from lwd.store.rows import WeightsRow

TESTS = Path(__file__).parent.parent


def demonstrator(robot, rng):
    return Demonstration(lambda: Expert(robot))


def episodes(root: Path):
    """Headers of what is in the spool, in the order of production."""
    pending = (root / "spool" / "r0" / "pending").glob("*.arrow")
    headers = [payload.decode(path).header for path in pending]
    return sorted(headers, key=lambda header: header.started_at)


@pytest.fixture
def parts(tmp_path):
    """Ledger and spool of robot r0."""
    with Ledger(tmp_path / "ledger", "r0") as ledger, Spool(tmp_path / "spool" / "r0") as spool:
        yield ledger, spool


def test_demonstrations_up_to_the_quota_over_restarts(tmp_path):
    rig = Rig(robot=PointRobot, operator=demonstrator)
    for quota in (3, 3, 5):
        actor = ActorConfig(robot="r0", kind="demo", episodes=quota)
        main(actor, PlaneConfig(root=tmp_path), rig, stop=threading.Event())
    headers = episodes(tmp_path)
    assert len(headers) == 5
    assert len({header.seed for header in headers}) == 5
    assert {header.outcome for header in headers} == {Outcome.SUCCESS}


class Clumsy:
    """A demonstrator who stays at the origin in every second episode."""

    def __init__(self, robot, rng, number):
        self._expert, self._idle = Expert(robot), number % 2 == 0

    def act(self):
        return np.zeros(2, np.float32) if self._idle else self._expert.act()


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [("demo", {Outcome.SUCCESS}), ("play", {Outcome.SUCCESS, Outcome.TIMEOUT})],
)
def test_only_demonstrations_must_succeed(tmp_path, kind, outcomes):
    made = []

    def clumsy(robot, rng):
        made.append(rng)
        return Demonstration(lambda: Clumsy(robot, rng, len(made)))

    actor = ActorConfig(robot="r0", kind=kind, episodes=4)
    rig = Rig(robot=PointRobot, operator=clumsy)
    main(actor, PlaneConfig(root=tmp_path), rig, stop=threading.Event())
    assert {header.outcome for header in episodes(tmp_path)} == outcomes
    assert len(episodes(tmp_path)) == 4
    assert len(made) == (7 if kind == "demo" else 4)


class Unstable(PointRobot):
    """Its physics diverges at the third tick of every second episode."""

    def apply(self, chunk):
        ticks = super().apply(chunk)
        if len(self.seeds) % 2 and len(self.commands) % 3 == 0:
            ticks[-1] = replace(ticks[-1], status=Status.INVALID)
        return ticks


@pytest.mark.parametrize("kind", ["demo", "play"])
def test_an_episode_whose_physics_diverged_is_kept_but_fills_no_quota(tmp_path, kind):
    rig = Rig(robot=Unstable, operator=demonstrator)
    actor = ActorConfig(robot="r0", kind=kind, episodes=2)
    main(actor, PlaneConfig(root=tmp_path), rig, stop=threading.Event())
    found = [(h.outcome, h.terminated, h.truncated) for h in episodes(tmp_path)]
    assert found.count((Outcome.SUCCESS, True, False)) == 2
    assert found.count((Outcome.INVALID, False, True)) == len(found) - 2 > 0


def test_the_same_fleet_seed_gives_the_same_scenes_to_the_same_robot(tmp_path):
    seeds = []
    for run_of, index in (("a", 1), ("b", 1), ("c", 2)):
        actor = ActorConfig(robot="r0", index=index, kind="demo", episodes=2)
        rig = Rig(robot=PointRobot, operator=demonstrator)
        main(actor, PlaneConfig(root=tmp_path / run_of), rig, stop=threading.Event())
        seeds.append([header.seed for header in episodes(tmp_path / run_of)])
    assert seeds[0] == seeds[1]
    assert not set(seeds[0]) & set(seeds[2])


def test_a_rig_without_what_the_kind_needs_is_refused(tmp_path):
    plane = PlaneConfig(root=tmp_path)
    with pytest.raises(ConfigError, match="'online' needs a policy"):
        main(ActorConfig(kind="online"), plane, Rig(robot=PointRobot))
    with pytest.raises(ConfigError, match="'demo' needs a demonstrator"):
        main(ActorConfig(kind="demo"), plane, Rig(robot=PointRobot))


def test_online_episodes_use_the_newest_policy(parts, tmp_path):
    fleet = Fleet()
    fleet.publish(1.0)
    ledger, spool = parts

    class Publishing(PointRobot):
        """New weights arrive while the third episode runs."""

        def reset(self, seed):
            task = super().reset(seed)
            if len(self.seeds) == 3:
                fleet.publish(0.8)
                assert store.wait(10.0)
            return task

    actor = ActorConfig(robot="r0", kind="online", episodes=5)
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST) as store:
        run(actor, Rig(robot=Publishing, build=build), ledger, spool, store, threading.Event())
    assert [header.policy_version for header in episodes(tmp_path)] == [1, 1, 1, 2, 2]


def test_a_policy_that_plans_nan_is_withdrawn(parts, tmp_path):
    fleet = Fleet()
    fleet.publish(1.0)
    ledger, spool = parts

    def fragile(tensors, metadata, version):
        return PointPolicy(float("nan") if version == 2 else 1.0, version)

    class Publishing(PointRobot):
        def reset(self, seed):
            if len(self.seeds) == 1:
                fleet.publish(1.0)
                assert store.wait(10.0)
            return super().reset(seed)

    actor = ActorConfig(robot="r0", kind="online", episodes=4)
    with PolicyStore("r0", fleet, fleet.download, fragile, polling=FAST) as store:
        run(actor, Rig(robot=Publishing, build=build), ledger, spool, store, threading.Event())
    assert [header.policy_version for header in episodes(tmp_path)] == [1, 1, 1, 1]
    assert "version 2 planned" in store.rejected[2]


def test_without_weights_a_robot_waits_until_it_is_stopped(parts):
    ledger, spool = parts
    fleet, stop = Fleet(), threading.Event()
    robot = PointRobot()
    rig, actor = Rig(robot=lambda: robot, build=build), ActorConfig(robot="r0", kind="online")
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST) as store:
        thread = threading.Thread(target=run, args=(actor, rig, ledger, spool, store, stop))
        thread.start()
        until(lambda: fleet.asked > 2)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
    assert robot.seeds == []


def test_a_full_spool_makes_the_robot_wait(parts, monkeypatch, caplog):
    ledger, spool = parts
    save, refused = spool.save, []

    def full(episode_id, data):
        if len(refused) < 2:
            refused.append(episode_id)
            raise ServiceError("the disk is full")
        save(episode_id, data)

    monkeypatch.setattr(spool, "save", full)
    monkeypatch.setattr(process, "FULL_SPOOL_RETRY_S", 0.01)
    rig = Rig(robot=PointRobot, operator=demonstrator)
    actor = ActorConfig(robot="r0", kind="demo", episodes=1)
    run(actor, rig, ledger, spool, None, threading.Event())
    assert spool.pending() == refused[:1] == refused[1:]
    assert caplog.text.count("the disk is full") == 2


def test_an_episode_that_breaks_the_format_is_not_saved(parts, monkeypatch, caplog):
    ledger, spool = parts
    encode, broken = process.encode, []

    def picky(episode):
        if not broken:
            broken.append(episode)
            raise EpisodeError("state is not finite at tick 3.")
        return encode(episode)

    monkeypatch.setattr(process, "encode", picky)
    rig = Rig(robot=PointRobot, operator=demonstrator)
    actor = ActorConfig(robot="r0", kind="demo", episodes=1)
    run(actor, rig, ledger, spool, None, threading.Event())
    assert len(spool.pending()) == 1
    assert broken[0].header.episode_id not in spool.pending()
    assert "state is not finite at tick 3" in caplog.text


class Ears(Fleet):
    """A service that hears beats."""

    heard: ClassVar[list[Beat]] = []

    def __init__(self, url, *, token=None, robot="", timeout_s=10.0):
        super().__init__()

    def send_beat(self, beat: Beat) -> None:
        self.heard.append(beat)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class Client(Ears):
    """A service that points to one artifact in a real object store."""

    row: WeightsRow

    def __init__(self, url, **given):
        super().__init__(url, **given)
        self.rows = [self.row]


def test_a_whole_process_fetches_its_policy_from_the_object_store(tmp_path, monkeypatch):
    plane = PlaneConfig(root=tmp_path)
    tensors, metadata = {"gain": np.ones(1, np.float32)}, {"robot": "point"}

    class Pointer:
        def latest_weights(self):
            return None

        def publish_weights(self, row):
            return WeightsRow(**{**row.__dict__, "version": 3})

    trained = weights.Trained("sft", 1, 1)
    Client.row = weights.publish(Objects(plane.objects), Pointer(), tensors, metadata, trained)
    monkeypatch.setattr(process, "ServiceClient", Client)
    actor = ActorConfig(robot="r0", kind="rollout", episodes=2, poll_s=0.05)
    main(actor, plane, Rig(robot=PointRobot, build=build), stop=threading.Event())
    assert [header.policy_version for header in episodes(tmp_path)] == [3, 3]
    cached = tmp_path / "actors" / "r0" / "weights" / f"{Client.row.sha256}.safetensors"
    assert cached.exists()
    assert {beat.robot for beat in Client.heard} == {"r0"}


class OnePolicy:
    """Policies of which there is one, until it is withdrawn."""

    def __init__(self, policy: PointPolicy) -> None:
        self._policy: PointPolicy | None = policy

    def swap(self):
        return self._policy

    def wait(self, timeout_s: float) -> bool:
        time.sleep(0.01)
        return False

    def withdraw(self, reason: str) -> None:
        self._policy = None


@pytest.mark.parametrize("for_what", ["room", "policy"])
def test_a_robot_that_waits_says_so(tmp_path, monkeypatch, caplog, for_what):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(process, "ServiceClient", Ears)
    monkeypatch.setattr(process, "FULL_SPOOL_RETRY_S", 0.01)
    monkeypatch.setattr(Ears, "heard", [])
    gain, quota = (1.0, 10) if for_what == "room" else (float("nan"), 1 << 30)
    stop = threading.Event()
    rig = Rig(
        robot=lambda: PointRobot(tick_s=0.1),
        policies=lambda: OnePolicy(PointPolicy(gain, 1)),
    )
    actor = ActorConfig(robot="r0", kind="rollout", spool_quota_bytes=quota)
    plane = PlaneConfig(root=tmp_path)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(main, actor, plane, rig, stop=stop)
        try:
            until(lambda: [b.state for b in Ears.heard if b.policy_version][-1:] == ["waiting"])
        finally:
            stop.set()
        if for_what == "room":
            with pytest.raises(ServiceError, match="quota of 10 bytes"):
                running.result(20)
        else:
            running.result(20)
            assert caplog.text.count("robot waits for=policy") == 1


def start(root: Path, kind: str, quota: int, **options: str) -> subprocess.Popen:
    command = [sys.executable, str(TESTS / "actor" / "drive.py"), str(root), kind, str(quota)]
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(TESTS)} | options,
        stderr=subprocess.PIPE,
        text=True,
    )


def notes(root: Path, kind: str) -> list[str]:
    """Seeds or ticks that the robot of the process wrote down."""
    path = root / "notes.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith(kind)]


def test_kill_inside_an_episode_costs_that_episode_only(tmp_path):
    with start(tmp_path, "demo", 1000, STUCK_IN="3") as robot:
        until(lambda: notes(tmp_path, "stuck"))
        robot.kill()
    saved = [header.episode_id for header in episodes(tmp_path)]
    assert len(saved) == 2
    with start(tmp_path, "demo", 4) as robot:
        log = robot.communicate(timeout=60)[1]
        assert robot.returncode == 0
    assert "episode cut off robot=r0 number=2 kind=demo" in log
    after = [header.episode_id for header in episodes(tmp_path)]
    assert after[:2] == saved
    assert len(after) == 4
    seeds = notes(tmp_path, "seed")
    assert len(seeds) == len(set(seeds)) == 5


@pytest.mark.parametrize("interrupted", ["keep", "discard"])
def test_what_a_kill_leaves_of_an_episode_is_kept_or_discarded_as_asked(tmp_path, interrupted):
    drafts = tmp_path / "spool" / "r0" / "drafts"
    with start(tmp_path, "play", 1000, TICK_S="0.05") as robot:
        until(lambda: list(drafts.glob("*/*.arrow")))
        robot.kill()
    (cut,) = {path.parent.name for path in drafts.glob("*/*.arrow")}
    finished = {header.episode_id for header in episodes(tmp_path)}
    assert cut not in finished
    with start(tmp_path, "play", len(finished) + 1, INTERRUPTED=interrupted) as robot:
        robot.communicate(timeout=60)
    ended = {header.episode_id: header for header in episodes(tmp_path)}
    found = account(tmp_path / "spool" / "r0")
    assert (cut in ended) is (interrupted == "keep")
    if interrupted == "keep":
        assert (ended[cut].outcome, ended[cut].truncated) == (Outcome.INTERRUPTED, True)
        assert found.fates == {Fate.RECOVERED: 1}
    else:
        assert found.fates == {Fate.DISCARDED: 1}
        assert "the process ended inside it" in found.dropped[0][1]


class Killed(BaseException):
    """What nobody catches."""


@pytest.mark.parametrize("limit_s", [0.3, 5.0])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_saving_and_counting_makes_no_episode_too_many(
    tmp_path, monkeypatch, limit_s, after
):
    """Also where the episode was shorter than a piece of its draft."""
    end, ends = Ledger.end, []

    def killed(ledger, **given):
        ends.append(given)
        if after:
            end(ledger, **given)
        if len(ends) == 2:
            raise Killed
        if not after:
            end(ledger, **given)

    monkeypatch.setattr(Ledger, "end", killed)
    rig = Rig(robot=lambda: PointRobot(time_limit_s=limit_s), operator=demonstrator)
    actor, plane = ActorConfig(robot="r0", kind="play", episodes=3), PlaneConfig(root=tmp_path)
    with pytest.raises(Killed):
        main(actor, plane, rig, stop=threading.Event())
    monkeypatch.undo()
    main(actor, plane, rig, stop=threading.Event())
    entries = read(tmp_path / "actors" / "r0")
    outcome = Outcome.SUCCESS if limit_s == 5.0 else Outcome.TIMEOUT
    assert (entries.saved, entries.outcomes) == ({"play": 3}, {outcome: 3})
    assert len(episodes(tmp_path)) == entries.started == 3
    assert account(tmp_path / "spool" / "r0").fates == {}


def test_an_invalid_episode_fills_no_quota_after_a_kill_either(tmp_path, monkeypatch):
    def killed(ledger, **given):
        raise Killed

    monkeypatch.setattr(Ledger, "end", killed)
    rig = Rig(robot=Unstable, operator=demonstrator)
    actor, plane = ActorConfig(robot="r0", kind="play", episodes=1), PlaneConfig(root=tmp_path)
    with pytest.raises(Killed):
        main(actor, plane, rig, stop=threading.Event())
    monkeypatch.undo()
    rig = Rig(robot=PointRobot, operator=demonstrator)
    main(actor, plane, rig, stop=threading.Event())
    assert [h.outcome for h in episodes(tmp_path)] == [Outcome.INVALID, Outcome.SUCCESS]
    assert read(tmp_path / "actors" / "r0").outcomes == {"invalid": 1, "success": 1}


def test_sigterm_saves_what_there_is_and_exits_cleanly(tmp_path):
    with start(tmp_path, "play", 1000, TICK_S="0.02") as robot:
        until(lambda: len(notes(tmp_path, "seed")) == 2)
        robot.send_signal(signal.SIGTERM)
        log = robot.communicate(timeout=60)[1]
        assert robot.returncode == 0
    assert "Traceback" not in log
    assert "stop robot=r0" in log
    outcomes = [header.outcome for header in episodes(tmp_path)]
    assert outcomes[0] is Outcome.SUCCESS
    assert outcomes[-1] in (Outcome.SUCCESS, Outcome.INTERRUPTED)
    assert len(outcomes) <= len(notes(tmp_path, "seed"))
