"""The server over a real socket: protocol, bad clients, keys, backpressure, versions, health."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import httpx
import numpy as np
import pytest
import websockets.exceptions
import websockets.sync.client

from lwd.config import PlaneConfig
from lwd.config.serving import ServeConfig
from lwd.errors import ConfigError
from lwd.serve.policies import OnePolicy
from lwd.serve.process import prepare, run
from lwd.serve.wire import pack
from lwd.store.access import Access, issue, load_access
from processes import wait_until
from serve.point import CONTROL, GoalPolicy, Robot


def http(url: str) -> str:
    return url.replace("ws://", "http://")


def test_a_robot_is_greeted_and_gets_chunks(serving):
    url = serving(GoalPolicy(3))
    with Robot(url) as robot:
        assert robot.metadata["server"] == "lwd"
        assert (robot.metadata["rate_hz"], robot.metadata["horizon"]) == (10.0, 5)
        first, second = robot.ask((0, 0, 1, 2)), robot.ask((0, 0, 3, 4))
    assert np.array_equal(first["actions"], np.tile(np.float32([1, 2]), (5, 1)))
    assert np.array_equal(second["actions"][0], [3, 4])
    assert first["lwd/policy_version"] == 3
    assert first["policy_timing"]["infer_ms"] >= 0
    assert "prev_total_ms" not in first["server_timing"]
    assert second["server_timing"]["prev_total_ms"] > 0


def test_health_is_openpis_and_answers_while_a_batch_is_computed(serving):
    policy = GoalPolicy()
    url = serving(policy)
    policy.hold.clear()
    with Robot(url) as robot:
        robot.send()
        wait_until(lambda: policy.batches, "a batch under way")
        answer = httpx.get(f"{http(url)}/healthz")
        assert (answer.status_code, answer.text) == (200, "OK\n")
        assert "lwd_serve_robots 1.0" in httpx.get(f"{http(url)}/metrics").text
        policy.hold.set()
        robot.answer()


def test_robots_that_ask_together_are_computed_together(serving):
    policy = GoalPolicy(cost_s=0.05)
    url = serving(policy)

    def rounds(number: int) -> set[float]:
        with Robot(f"{url}/?robot=robot-{number}") as robot:
            return {robot.ask((0, 0, number, 0))["actions"][0, 0] for _ in range(5)}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(rounds, range(8))) == [{number} for number in range(8)]
    assert sum(policy.batches) == 40
    assert max(policy.batches) > 2
    assert 'lwd_serve_requests_total{result="ok"} 40.0' in httpx.get(f"{http(url)}/metrics").text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xc1garbage", "no msgpack message"),
        ("a text", "a text message"),
        (pack({}), "key 'observation/state' is missing"),
        (pack({"observation/state": np.zeros(4), "prompt": 3}), "key 'prompt' is 3"),
        (pack({"observation/state": np.zeros((2, 2)), "prompt": "x"}), "expected a vector"),
        (pack({"observation/state": np.full(4, np.nan), "prompt": "x"}), "not finite"),
        (pack({"observation/state": np.zeros(4), "prompt": "x", "lwd/robot_id": "a b"}), "name"),
        (pack({"observation/state": np.zeros(4), "prompt": "x", "lwd/robot_id": 7}), "name"),
        (pack({"observation/state": np.zeros(4), "prompt": "x", "lwd/episode_id": 7}), "episode"),
        (pack({"observation/state": np.zeros(4), "prompt": "fail"}), "version 1 cannot answer"),
    ],
)
def test_a_bad_message_is_answered_by_name_and_the_rest_goes_on(serving, data, said):
    url = serving()
    with Robot(url) as good, Robot(url) as bad:
        good.ask()
        bad.socket.send(data)
        reply = bad.socket.recv(timeout=10)
        assert isinstance(reply, str)
        assert said in reply
        assert np.array_equal(good.ask()["actions"][0], [1, 1])
        assert np.array_equal(bad.ask()["actions"][0], [1, 1])


def test_a_robot_that_is_never_understood_is_disconnected(serving):
    with Robot(serving()) as robot:
        for _ in range(10):
            robot.socket.send(b"garbage")
        for _ in range(10):
            assert "no msgpack" in robot.socket.recv(timeout=10)
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            robot.socket.recv(timeout=10)


def test_a_message_that_is_too_large_closes_only_its_own_connection(serving):
    url = serving(frame_bytes=10_000)
    with Robot(url) as good, Robot(url) as bad:
        bad.socket.send(bytes(20_000))
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
            bad.socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        good.ask()


def test_a_client_that_says_nothing_or_no_http_holds_nobody_up(serving):
    url = serving(silence_s=1.5)
    host, port = urlparse(url).hostname, urlparse(url).port
    with socket.create_connection((host, port)), socket.create_connection((host, port)) as odd:
        odd.sendall(b"\x00\x01 no http at all\r\n\r\n")
        with Robot(url) as robot:
            robot.ask()
            with pytest.raises(websockets.exceptions.ConnectionClosedOK) as closed:
                robot.socket.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.reason == "silent for 1.5 s"


def test_a_state_that_changes_its_size_in_an_episode_is_refused(serving):
    with Robot(serving()) as robot:
        robot.ask()
        with pytest.raises(AssertionError, match=r"state is \(5,\); it was \(4,\)"):
            robot.ask((0, 0, 1, 1, 1))
        robot.ask()


def test_two_robots_with_one_name_are_told_and_the_first_goes_on(serving):
    url = serving()
    with Robot(f"{url}/?robot=arm") as first, Robot(url) as second:
        first.ask()
        with pytest.raises(AssertionError, match="'arm' is connected already"):
            second.ask(robot_id="arm")
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            second.socket.recv(timeout=10)
        first.ask()


def test_a_robot_comes_back_under_its_name(serving):
    url = serving()
    for _ in range(3):
        with Robot(f"{url}/?robot=arm") as robot:
            robot.ask()
    (known,) = httpx.get(f"{http(url)}/robots").json()
    assert known["robot"] == "arm"


@pytest.fixture
def keys(tmp_path) -> tuple[Access, dict[str, str]]:
    path = tmp_path / "tokens.json"
    given = {robot: issue(path, robot) for robot in ("arm-1", "arm-2", "*")}
    given["page"] = issue(path, "*", ("upload",))
    return load_access(path), given


def test_keys_are_checked(serving, keys):
    access, given = keys
    url = serving(access=access)
    for key, status in (("", 401), ("wrong", 401), (given["page"], 403)):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            Robot(url, key=key)
        assert refused.value.response.status_code == status
        assert b"oken" in refused.value.response.body
    with Robot(url, key=given["arm-1"]) as robot:
        robot.ask()
        with pytest.raises(AssertionError, match="for robot 'arm-1', the request is for 'arm-2'"):
            robot.ask(robot_id="arm-2")
    with pytest.raises(websockets.exceptions.InvalidStatus):
        Robot(f"{url}/?robot=arm-2", key=given["arm-1"])
    with Robot(url, key=given["*"]) as robot:
        robot.ask(robot_id="arm-2")
    names = httpx.get(f"{http(url)}/robots", headers={"Authorization": f"Bearer {given['*']}"})
    assert [known["robot"] for known in names.json()] == ["arm-1", "arm-2"]
    assert httpx.get(f"{http(url)}/robots").status_code == 401
    assert httpx.get(f"{http(url)}/healthz").status_code == 200
    assert httpx.get(f"{http(url)}/metrics").status_code == 200
    mark = httpx.post(f"{http(url)}/robots/arm-1/outcome", json={"outcome": "success"})
    assert mark.status_code == 401


def test_more_robots_than_allowed_are_refused_with_a_reason(serving):
    url = serving(robots=2)
    with Robot(url), Robot(url):
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            Robot(url)
        assert refused.value.response.status_code == 503
        assert b"2 robots are connected, which is all that may" in refused.value.response.body
        assert httpx.get(f"{http(url)}/healthz").status_code == 200


def test_an_overloaded_server_says_so_and_recovers(serving):
    policy = GoalPolicy()
    url = serving(policy, waiting=2, batch=1)
    policy.hold.clear()
    robots = [Robot(url) for _ in range(4)]
    robots[0].send()
    wait_until(lambda: policy.batches, "the first batch")
    for robot in robots[1:]:
        robot.send()
    waiting = "lwd_serve_waiting 2.0"
    wait_until(lambda: waiting in httpx.get(f"{http(url)}/metrics").text, "a full queue")
    policy.hold.set()
    replies = [robot.socket.recv(timeout=10) for robot in robots]
    refused = [reply for reply in replies if isinstance(reply, str)]
    assert len(refused) == 1
    assert "overloaded: 2 requests wait" in refused[0]
    for robot in robots:
        robot.ask()
        robot.close()


class Changing:
    """Policies of which a test chooses the newest."""

    def __init__(self):
        self.newest = GoalPolicy(1)
        self.adoptions: list[tuple[str, int]] = []
        self.withdrawn: list[int] = []

    def current(self):
        return self.newest

    def adopted(self, robot, version):
        self.adoptions.append((robot, version))

    def withdraw(self, policy, reason):
        assert "not finite" in reason
        self.withdrawn.append(policy.version)
        self.newest = GoalPolicy(policy.version - 1)


def test_a_robot_changes_its_policy_with_its_episode(serving):
    policies = Changing()
    with Robot(f"{serving(policies)}/?robot=arm") as robot:
        versions = [robot.ask(episode_id="one")["lwd/policy_version"]]
        policies.newest = GoalPolicy(2)
        versions += [robot.ask(episode_id=e)["lwd/policy_version"] for e in ("one", "two", "two")]
    assert versions == [1, 1, 2, 2]
    assert policies.adoptions == [("arm", 1), ("arm", 2)]


def test_without_episode_names_a_pause_is_the_boundary(serving):
    policies = Changing()
    url = serving(policies, gap_s=0.3)
    with Robot(f"{url}/?robot=arm") as robot:
        robot.ask()
        policies.newest = GoalPolicy(2)
        running = lambda: httpx.get(f"{http(url)}/robots").json()[0]["policy_version"]  # noqa: E731
        wait_until(lambda: running() == 0, "the end of the episode")
        assert robot.ask()["lwd/policy_version"] == 2


def test_a_policy_that_makes_nonsense_is_withdrawn(serving, caplog):
    policies = Changing()
    policies.newest = GoalPolicy(5)
    with Robot(serving(policies)) as robot:
        with pytest.raises(AssertionError, match="version 5 made numbers that are not finite"):
            robot.ask(prompt="break")
        assert robot.ask()["lwd/policy_version"] == 4
    assert policies.withdrawn == [5]


def test_a_policy_that_fails_on_one_robot_stays_for_the_others(serving, caplog):
    url = serving()
    with Robot(url) as good, Robot(url) as bad:
        with pytest.raises(AssertionError, match="RuntimeError: this one fails"):
            bad.ask(prompt="fail")
        good.ask()
        bad.ask()
    assert any("inference failed" in record.message for record in caplog.records)


def test_the_only_policy_can_be_withdrawn_too(serving):
    url = serving()
    with Robot(url) as robot:
        with pytest.raises(AssertionError, match="not finite"):
            robot.ask(prompt="break")
        with pytest.raises(AssertionError, match="only policy was withdrawn"):
            robot.ask()
    with pytest.raises(websockets.exceptions.InvalidStatus):
        Robot(url)


def test_robots_draw_what_their_names_say():
    from lwd.serve.session import draws

    assert draws("a", "e", 0).random() == draws("a", "e", 0).random()
    assert draws("a", "e", 0).random() != draws("b", "e", 0).random()
    assert draws("a", "", 1).random() != draws("a", "", 2).random()


@pytest.mark.parametrize(
    ("settings", "plane", "said"),
    [
        ({"host": "0.0.0.0"}, {}, "without tokens"),
        ({}, {"tls_cert": Path("cert.pem")}, "both --tls-cert and --tls-key"),
    ],
)
def test_a_server_that_would_be_open_does_not_start(settings, plane, said, tmp_path):
    config, policies = ServeConfig(port=0, **settings), OnePolicy(GoalPolicy())
    parts = prepare(config, CONTROL, policies, access=Access())
    with pytest.raises(ConfigError, match=said), socket.socket() as bound:
        run(parts, PlaneConfig(root=tmp_path, **plane), socket=bound, stop=threading.Event())


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="batch is 0"):
        ServeConfig(batch=0)
    with pytest.raises(ConfigError, match="window_s is -1"):
        ServeConfig(window_s=-1.0)
