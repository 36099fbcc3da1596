"""Episodes that a server sees become episodes of the fleet."""

import threading

import httpx
import numpy as np
import pytest

from lwd.actor.robot import Observation
from lwd.edge.spool import Spool
from lwd.edge.uploader import Uploader, run
from lwd.episode.payload import decode, encode
from lwd.episode.types import Kind, Outcome, Source
from lwd.errors import ServiceError
from lwd.serve.archive import Archive
from lwd.serve.track import RECKONED, Executed, Terms, Track, executed_of
from lwd.serve.wire import RequestError
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from processes import wait_until
from serve.point import CONTROL, GoalPolicy, Robot

TERMS = Terms(control=CONTROL, task="reach", kind=Kind.ONLINE)
CHUNK = np.arange(10, dtype=np.float32).reshape(5, 2)


def track(terms: Terms = TERMS) -> Track:
    return Track(
        terms=terms, robot="arm", policy=GoalPolicy(3), instruction="go there", started_at=100.0
    )


def seen(x: float, *, image: bool = False) -> Observation:
    pixels = {"top": np.full((8, 8, 3), 9, np.uint8)} if image else {}
    return Observation(state=np.full(4, x, np.float32), images=pixels)


def whole(recorded: Track, outcome: Outcome = Outcome.SUCCESS):
    """The episode, after a way through its payload."""
    episode = recorded.finish(outcome)
    assert episode is not None
    return decode(encode(episode))


def test_states_between_requests_are_reckoned_and_named_so():
    recorded = track()
    recorded.saw(seen(0.0, image=True), CHUNK, 100.0)
    recorded.saw(seen(4.0, image=True), CHUNK, 100.4)
    episode = whole(recorded)
    assert episode.ticks == 4
    assert episode.state[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(episode.time, [100.0, 100.1, 100.2, 100.3, 100.4])
    assert np.array_equal(episode.action, CHUNK[:4])
    assert np.array_equal(episode.action_policy, CHUNK[:4])
    assert episode.events == ((), (RECKONED,), (RECKONED,), (RECKONED,))
    assert [image is not None for image in episode.images["top"]] == [True, *[False] * 3, True]
    header = episode.header
    assert (header.policy_version, header.horizon, header.rate_hz) == (3, 5, 10.0)
    assert (header.outcome, header.terminated) == (Outcome.SUCCESS, True)


@pytest.mark.parametrize(
    ("pause_s", "executed", "ticks"), [(0.0, 0, 1), (0.2, 0, 2), (9.0, 0, 5), (0.2, 4, 4)]
)
def test_how_many_ticks_a_robot_did_that_does_not_say(pause_s, executed, ticks):
    recorded = track(Terms(control=CONTROL, task="reach", kind=Kind.ONLINE, executed=executed))
    recorded.saw(seen(0.0), CHUNK, 100.0)
    recorded.saw(seen(1.0), CHUNK, 100.0 + pause_s)
    assert whole(recorded).ticks == ticks


def test_a_robot_that_says_what_it_did_is_recorded_exactly():
    recorded = track()
    recorded.saw(seen(0.0), CHUNK, 100.0)
    did = Executed(
        actions=np.full((7, 2), 0.5, np.float32),
        states=np.arange(28, dtype=np.float32).reshape(7, 4),
        human=np.array([False] * 3 + [True] * 4),
    )
    recorded.saw(seen(9.0), CHUNK, 100.7, did)
    episode = whole(recorded)
    assert np.array_equal(episode.action, did.actions)
    assert np.array_equal(episode.state[:7], did.states)
    assert episode.source.tolist() == [Source.POLICY] * 3 + [Source.HUMAN] * 4
    assert np.isnan(episode.action_policy[5:]).all()
    assert set(episode.events) == {()}


def test_what_a_person_does_is_where_the_joints_go():
    recorded = track(Terms(control=CONTROL, task="reach", kind=Kind.ONLINE, joints=(2, 3)))
    recorded.saw(seen(0.0), CHUNK, 100.0)
    recorded.mark(human=True)
    recorded.saw(seen(4.0), CHUNK, 100.4)
    recorded.mark(human=False)
    recorded.saw(seen(8.0), CHUNK, 100.8)
    episode = whole(recorded)
    assert episode.source.tolist() == [Source.HUMAN] * 4 + [Source.POLICY] * 4
    assert episode.action[:4, 0].tolist() == [1, 2, 3, 4]
    assert np.array_equal(episode.action[4:], CHUNK[:4])
    assert episode.events[0] == ("mode:correcting",)
    assert episode.events[4] == ("mode:autonomous",)


def test_a_clock_that_is_set_back_loses_no_episode():
    recorded = track()
    for at in (100.0, 3700.0, 99.0, 100.0):
        recorded.saw(seen(at), CHUNK, at)
    assert (np.diff(whole(recorded).time) > 0).all()


def test_a_robot_that_asked_once_has_no_episode():
    recorded = track()
    assert recorded.finish(Outcome.SUCCESS) is None
    recorded.saw(seen(0.0), CHUNK, 100.0)
    assert recorded.finish(Outcome.SUCCESS) is None


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"lwd/executed": np.zeros((3, 5))}, r"float64 \[3, 5\]; expected finite.*\[ticks, 2\]"),
        ({"lwd/executed": np.zeros((0, 2))}, "expected finite"),
        ({"lwd/executed": np.full((3, 2), np.inf)}, "expected finite"),
        ({"lwd/executed": "abc"}, "expected finite"),
        ({"lwd/executed": np.zeros((3, 2)), "lwd/states": np.zeros((2, 4))}, "2 rows for 3"),
        ({"lwd/executed": np.zeros((3, 2)), "lwd/human": np.zeros(3)}, r"expected bool \[3\]"),
        ({"lwd/executed": np.zeros((3, 2)), "lwd/human": np.zeros(2, bool)}, r"bool \[2\]"),
    ],
)
def test_a_report_that_does_not_fit_is_refused(own, said):
    with pytest.raises(RequestError, match=said):
        executed_of(own, state=4, action=2)


def ask(robot: Robot, times: int, **own) -> None:
    for number in range(times):
        robot.ask((number, 0, 1, 1), **own)


def episodes(root, robot: str = "arm"):
    return [decode(path) for path in (root / "spool" / robot / "pending").glob("*.arrow")]


def http(url: str) -> str:
    return url.replace("ws://", "http://")


def test_an_outcome_that_somebody_marks_ends_the_episode_and_is_saved(serving, tmp_path):
    url = serving(record=True, executed=2)
    with Robot(f"{url}/?robot=arm") as robot:
        ask(robot, 3)
        marked = httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "success"}).json()
        assert (marked["saved"], marked["ticks"]) == (True, 4)
        (episode,) = episodes(tmp_path)
        assert episode.header.episode_id == marked["episode"]
        assert (episode.header.outcome, episode.header.robot) == (Outcome.SUCCESS, "arm")
        assert (episode.header.kind, episode.header.task) == (Kind.ONLINE, "served")
        ask(robot, 2)
    httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "failure"})
    assert {e.header.outcome for e in episodes(tmp_path)} == {Outcome.SUCCESS, Outcome.FAILURE}


def test_episodes_that_robots_name_are_told_apart(serving, tmp_path):
    url = serving(record=True, executed=1)
    with Robot(url) as robot:
        ask(robot, 3, robot_id="arm", episode_id="one")
        ask(robot, 4, robot_id="arm", episode_id="two")
        httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "success"})
        ask(robot, 2, robot_id="arm", episode_id="two")  # the end has not yet reached the robot
        ask(robot, 5, robot_id="arm", episode_id="three")
        httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "failure"})
    found = {e.ticks: e.header.outcome for e in episodes(tmp_path)}
    assert found == {2: Outcome.INTERRUPTED, 3: Outcome.SUCCESS, 4: Outcome.FAILURE}


def test_two_robots_are_recorded_each_for_itself(serving, tmp_path):
    url = serving(record=True, executed=1)
    with Robot(f"{url}/?robot=left") as left, Robot(f"{url}/?robot=right") as right:
        for number in range(3):
            left.ask((number, 0, 1, 1))
            right.ask((number, 0, 2, 2))
        for robot in ("left", "right"):
            httpx.post(f"{http(url)}/robots/{robot}/outcome", json={"outcome": "success"})
    (one,), (two,) = episodes(tmp_path, "left"), episodes(tmp_path, "right")
    assert (one.action == 1).all()
    assert (two.action == 2).all()


def test_a_person_is_recorded_only_where_it_is_known_what_the_person_does(serving, tmp_path):
    url = serving(record=True)
    with Robot(f"{url}/?robot=arm") as robot:
        ask(robot, 2)
        taken = httpx.post(f"{http(url)}/robots/arm/intervention", json={"human": True})
        assert taken.status_code == 422
        assert "send `lwd/executed`, or start the server with --joints" in taken.json()["detail"]
        ask(robot, 1, executed=np.zeros((1, 2), np.float32))
        taken = httpx.post(f"{http(url)}/robots/arm/intervention", json={"human": True})
        assert taken.status_code == 200
        with pytest.raises(AssertionError, match="a person has the robot: send `lwd/executed`"):
            robot.ask()
        ask(robot, 1, executed=np.ones((2, 2), np.float32))
        httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "success"})
    (episode,) = episodes(tmp_path)
    assert episode.source[-2:].tolist() == [Source.HUMAN] * 2
    assert (episode.action[-2:] == 1).all()
    assert "mode:correcting" in episode.events[-2]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nobody/outcome", {"outcome": "success"}, 404),
        ("arm/outcome", {"outcome": "splendid"}, 422),
        ("arm/outcome", {}, 422),
        ("arm/intervention", {"human": "perhaps"}, 422),
        ("arm/outcome", {"outcome": "success", "x": "y" * 5000}, 413),
    ],
)
def test_marks_that_make_no_sense_are_refused(serving, path, body, status):
    url = serving()
    with Robot(f"{url}/?robot=arm") as robot:
        robot.ask()
        assert httpx.post(f"{http(url)}/robots/{path}", json=body).status_code == status


def test_marks_for_a_robot_between_episodes_are_refused(serving):
    url = serving()
    with Robot(f"{url}/?robot=arm") as robot:
        robot.ask()
        post = f"{http(url)}/robots/arm/outcome"
        first = httpx.post(post, json={"outcome": "success"})
        assert first.json() == {
            "robot": "arm", "outcome": "success", "saved": False,
            "reason": "this episode is not recorded",
        }  # fmt: skip
        assert httpx.post(post, json={"outcome": "success"}).status_code == 409


def test_the_end_of_the_server_ends_and_saves_what_runs(tmp_path, serving):
    from lwd.config import PlaneConfig
    from lwd.config.serving import ServeConfig
    from lwd.serve.policies import OnePolicy
    from lwd.serve.process import in_thread

    config = ServeConfig(port=0, record=True, upload=False, executed=1)
    with in_thread(config, PlaneConfig(root=tmp_path), CONTROL, OnePolicy(GoalPolicy())) as url:
        robot = Robot(f"{url}/?robot=arm")
        ask(robot, 3)
    robot.close()
    (episode,) = episodes(tmp_path)
    assert (episode.ticks, episode.header.outcome) == (2, Outcome.INTERRUPTED)


def test_what_a_server_records_an_edge_client_delivers_once(serving, tmp_path):
    url = serving(record=True, executed=1)
    with Robot(f"{url}/?robot=arm") as robot:
        ask(robot, 3)
        httpx.post(f"{http(url)}/robots/arm/outcome", json={"outcome": "success"})
    objects = Objects((tmp_path / "objects").as_uri())
    with Catalog(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        uploader = Uploader(objects, catalog)
        stop = _StopsWhen(lambda: not Spool(tmp_path / "spool" / "arm").pending())
        run(tmp_path / "spool", uploader, stop)
        assert catalog.count_episodes() == 1
        (row,) = catalog.newest_episodes(10)
        assert (row.robot, row.outcome, row.ticks) == ("arm", "success", 2)


class _StopsWhen(threading.Event):
    """An event that is set once a condition holds."""

    def __init__(self, condition):
        super().__init__()
        self._condition = condition

    def is_set(self):
        return self._condition()


def test_an_episode_waits_for_room_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("lwd.serve.archive.RETRY_S", 0.05)
    full = [True]
    save = Spool.save

    def saving(self, episode_id, payload):
        if full[0]:
            raise ServiceError("the disk is full")
        save(self, episode_id, payload)

    monkeypatch.setattr(Spool, "save", saving)
    recorded = track()
    recorded.saw(seen(0.0), CHUNK, 100.0)
    recorded.saw(seen(1.0), CHUNK, 100.4)
    with Archive(tmp_path / "spool") as archive:
        kept = archive.finish(recorded, Outcome.SUCCESS).result(10)
        assert (kept.saved, archive.held) == (False, 1)
        assert "the disk is full It is tried again" in kept.reason
        full[0] = False
        wait_until(lambda: not archive.held, "room on the disk")
    assert len(episodes(tmp_path)) == 1
