"""A look finds what is new, and only that."""

import json

import pytest

from dashboard.conftest import Fleet
from lwd.dashboard.board import Board
from lwd.dashboard.stream import event, news
from lwd.store.heartbeats import Beat
from lwd.store.migrate import open_engine


@pytest.fixture
def board(fleet: Fleet):
    beats: list[Beat] = []
    engine = open_engine(fleet.plane.catalog)
    made = Board(engine, fleet.plane.root, lambda: beats, lambda: fleet.rest.clock.now)
    made.beats = beats
    yield made
    engine.dispose()


def test_the_first_look_finds_everything_and_the_second_nothing(board: Board):
    assert board.look()
    first = news(board, after=0, now=1.0)
    assert sorted(row["robot"] for row in first["robots"]) == ["robot-1", "robot-2", "robot-3"]
    assert first["numbers"]["uploaded"] == first["numbers"]["in_snapshot"] == 6
    assert not board.look()
    assert news(board, after=board.revision, now=1.0) == {"now": 1.0, "changed": []}


def test_only_the_robot_that_did_something_is_sent_again(board: Board, fleet: Fleet):
    board.look()
    before = board.revision
    fleet.record(50, robot="robot-2", task="freezer")
    assert board.look()
    found = news(board, after=before, now=1.0)
    assert [row["robot"] for row in found["robots"]] == ["robot-2"]
    assert "episodes" in found["changed"]
    assert "learner" not in found["changed"]
    assert found["numbers"]["uploaded"] == 7
    assert found["numbers"]["in_snapshot"] == 6


def test_a_heartbeat_changes_a_robots_line(board: Board, fleet: Fleet):
    board.look()
    now = fleet.rest.clock.now
    board.beats.append(Beat(robot="robot-9", state="correcting", at=now, received_at=now))
    assert board.look()
    rows = {row["robot"]: row["state"] for row in board.robots()}
    assert rows["robot-9"] == "correcting"


def test_a_correction_changes_success_backwards(board: Board, fleet: Fleet):
    board.look()
    before = board.success()["tasks"]["restocking"]["total"]["successes"]
    row = fleet.rest.catalog.newest_episodes(1, task="restocking", outcome="success")[0]
    fleet.rest.catalog.amend(row.episode_id, "outcome", '"failure"', author="ana", reason="no")
    board.look()
    assert board.success()["tasks"]["restocking"]["total"]["successes"] == before - 1
    assert board.numbers["amendments_waiting"] == 1


def test_an_episode_from_a_clock_far_behind_is_not_missed(board: Board, fleet: Fleet):
    board.look()
    fleet.rest.clock.now -= 7200
    fleet.record(60, robot="robot-4")
    board.look()
    assert "robot-4" in {row["robot"] for row in board.robots()}


def test_episodes_that_wait_in_a_spool_count_as_produced(board: Board, fleet: Fleet):
    folder = fleet.plane.root / "spool" / "robot-1" / "pending"
    folder.mkdir(parents=True)
    (folder / "x.arrow").write_bytes(b"")
    board.look()
    assert (board.numbers["produced"], board.numbers["uploaded"]) == (7, 6)


def test_the_spool_of_a_robot_that_is_long_silent_counts_no_more(board: Board, fleet: Fleet):
    now = fleet.rest.clock.now
    for robot, at in (("robot-1", now), ("robot-2", now - 86400)):
        board.beats.append(Beat(robot=robot, state="acting", at=at, pending=3, received_at=at))
    board.look()
    assert (board.numbers["produced"], board.numbers["uploaded"]) == (9, 6)


def test_what_was_taken_out_is_not_in_the_data_set(board: Board, fleet: Fleet):
    catalog = fleet.rest.catalog
    row, waits = catalog.newest_episodes(1)[0], fleet.record(70)
    for taken in (row, waits):
        catalog.amend(taken.episode_id, "tombstone", author="ana", reason="a double")
    board.look()
    assert board.numbers["in_snapshot"] == 6
    version = fleet.commit()
    board.look()
    assert board.numbers["in_snapshot"] == len(catalog.snapshot_episodes(version)) == 5


def test_curves_are_read_as_the_learner_writes(board: Board, fleet: Fleet):
    board.look()
    line = {"time": 1.0, "stage": "sft", "update": 10, "loss": 1.0}
    (fleet.plane.root / "learner.jsonl").write_text(json.dumps(line) + "\n")
    before = board.revision
    assert board.look()
    assert news(board, after=before, now=0.0)["changed"] == ["learner"]
    assert board.learner()["metrics"] == {"loss": [1.0]}


def test_an_event_is_one_line_of_json():
    assert event("news", {"a": [1]}) == b'event: news\ndata: {"a":[1]}\n\n'
