"""What was witnessed survives a kill in the middle of a line; a promise is written after it."""

import numpy as np
import pytest

from lwd.actor.loop import run_episode
from lwd.chaos.clock import SkewedClock, set_skew
from lwd.chaos.robot import point_rig
from lwd.chaos.witness import Journal, WitnessedSpool
from lwd.chaos.worker import Role, command, read
from lwd.config import PlaneConfig
from lwd.episode.payload import new_id
from lwd.episode.types import Kind, Outcome
from lwd.errors import ServiceError
from lwd.store.lines import entries


def test_a_line_that_was_cut_off_hides_no_other(tmp_path):
    path = tmp_path / "witness" / "robot"
    with Journal(path) as journal:
        journal.write(saved="a")
    with path.open("ab") as file:
        file.write(b'\n{"saved": "b')
    with Journal(path) as journal:
        journal.write(saved="c")
    assert list(entries(path)) == [{"saved": "a"}, {"saved": "c"}]
    assert list(entries(tmp_path / "nobody")) == []


def test_what_could_not_be_saved_is_begun_and_not_promised(tmp_path):
    path, kept, refused = tmp_path / "journal", new_id(), new_id()
    with Journal(path) as journal, WitnessedSpool(tmp_path / "spool", 100, journal) as spool:
        spool.save(kept, b"x" * 60)
        with pytest.raises(ServiceError, match="quota"):
            spool.save(refused, b"x" * 60)
        assert spool.pending() == [kept]
    assert list(entries(path)) == [{"begun": kept}, {"saved": kept}, {"begun": refused}]


def test_a_clock_is_right_until_it_is_set_wrong(tmp_path):
    clock, right = SkewedClock(tmp_path / "skew"), SkewedClock(tmp_path / "other")
    assert abs(clock() - right()) < 60
    set_skew(tmp_path / "skew", -3600.0)
    assert 3500 < right() - clock() < 3700


def test_a_role_comes_back_from_its_file_with_its_url_and_nobody_else_reads_it(tmp_path):
    plane = PlaneConfig(root=tmp_path, catalog_url="postgresql://me:secret@host/db", lease_s=2.0)
    role = Role(name="coordinator-0", work="coordinator", plane=plane, clock="skew")
    words = command(role, tmp_path / "roles")
    assert "secret" not in " ".join(words)
    assert read(tmp_path / "roles" / "coordinator-0.json") == role
    assert (tmp_path / "roles" / "coordinator-0.json").stat().st_mode & 0o077 == 0


def test_the_synthetic_robot_reaches_its_goal():
    rig = point_rig("chaos-0", 0.0)
    robot = rig.robot()
    assert rig.operator is not None
    for seed in range(5):
        operator = rig.operator(robot, np.random.default_rng(seed))
        episode = run_episode(robot, seed, None, operator, kind=Kind.PLAY)
        assert episode is not None
        assert episode.header.outcome is Outcome.SUCCESS
        assert 5 < episode.ticks < 20
