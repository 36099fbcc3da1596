"""A robot of ours with somebody else's server."""

import contextlib
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import trustme

from actor.point import PointRobot
from lwd.actor.ledger import Ledger
from lwd.actor.loop import run_episode
from lwd.actor.process import Rig, run
from lwd.actor.realtime import RealtimePolicy
from lwd.actor.robot import Observation
from lwd.config import ActorConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import decode
from lwd.episode.types import Kind, Outcome
from lwd.errors import ConfigError, IntegrityError, ServiceError
from lwd.serve.client import Elsewhere, RemotePolicy, Server
from lwd.serve.wire import pack
from lwd.store.access import issue, load_access
from processes import free_port, wait_until
from serve.elsewhere import foreign
from serve.point import CONTROL, GoalPolicy

SEEN = Observation(state=np.array([0, 0, 1, 2], np.float32))


def go(message: dict) -> bytes:
    """A chunk of eight goals, as openpi's models plan more than is executed."""
    return pack({"actions": np.tile(message["observation/state"][2:], (8, 1)).astype(np.float64)})


@pytest.fixture
def remote():
    """Makes policies of a URL that are closed in the end."""
    with contextlib.ExitStack() as stack:

        def make(url: str, **settings) -> RemotePolicy:
            policy = RemotePolicy(Server(url=url, **{"patience_s": 0.3, **settings}), CONTROL)
            stack.callback(policy.close)
            return policy

        yield make


def test_a_robot_of_ours_reaches_its_goal_with_openpis_server(remote):
    with foreign(go) as (url, messages):
        policy = remote(url)
        episode = run_episode(PointRobot(), 7, policy, None, kind=Kind.ONLINE)
        policy.close()
    assert episode is not None
    assert episode.header.outcome is Outcome.SUCCESS
    assert episode.header.policy_version == 0
    assert policy.metadata == {"reset_pose": [0, 1.5]}
    assert {key for message in messages for key in message} == {"observation/state", "prompt"}


IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    "cameras",
    [
        ("base_0_rgb", "left_wrist_0_rgb"),
        ("exterior_image_1_left", "wrist_image_left", "exterior_image_2_left"),
        ("head", "left_wrist", "right_wrist"),
    ],
)
def test_a_robot_of_ours_talks_as_a_droid_does(remote, serving, cameras):
    state = np.arange(8, dtype=np.float32)
    seen = Observation(state=state, images=dict.fromkeys(cameras, IMAGE))
    policy = remote(serving(GoalPolicy(), layout="droid"), layout="droid")
    assert policy.chunk(seen, "open the drawer")[0].tolist() == state[2:].tolist()


def test_what_a_robot_lacks_for_a_layout_is_said_once_and_for_all(remote, serving):
    policy = remote(serving(GoalPolicy(), layout="droid"), layout="droid")
    with pytest.raises(ConfigError, match=r"the robot's state has 4 numbers; .* 7 \+ 1 under"):
        policy.chunk(SEEN, "go there")
    eight = Observation(state=np.zeros(8, np.float32), images={"top": IMAGE})
    said = "'observation/exterior_image_1_left' is sent none of the robot's cameras, top: .* head"
    with pytest.raises(ConfigError, match=said):
        policy.chunk(eight, "go there")
    blind = Observation(state=np.zeros(8, np.float32))
    with pytest.raises(ConfigError, match="none of the robot's cameras, of which it has none"):
        policy.chunk(blind, "go there")


@pytest.mark.parametrize("records", [True, False])
def test_our_own_server_is_told_robot_and_episode(remote, serving, tmp_path, records):
    url = serving(GoalPolicy(6), record=True, executed=5)
    policy = remote(url, robot="point-0", records=records)
    for seed in (1, 2):
        episode = run_episode(PointRobot(), seed, policy, None, kind=Kind.ONLINE)
        assert episode is not None
        assert (episode.header.outcome, episode.header.policy_version) == (Outcome.SUCCESS, 6)
    policy.close()
    known = httpx.get(f"{url.replace('ws', 'http', 1)}/robots").json()
    assert [(robot["robot"], robot["recorded_as"] == "") for robot in known] == [
        ("point-0", records)
    ]
    if not records:
        pending = tmp_path / "spool" / "point-0" / "pending"
        wait_until(lambda: list(pending.glob("*.arrow")), "the first episode, as the server saw it")


def test_a_refused_key_is_an_error_at_once(remote, serving, tmp_path):
    issue(tmp_path / "tokens.json", "arm")
    url = serving(access=load_access(tmp_path / "tokens.json"))
    with pytest.raises(ServiceError, match=r"answered: HTTP 401 .*No valid token"):
        remote(url, key="wrong", patience_s=60.0).chunk(SEEN, "go there")


def test_a_traceback_of_the_server_is_told_by_its_last_line(remote):
    trace = "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'observation/image'\n"
    replies = iter([trace, go({"observation/state": SEEN.state})])
    with foreign(lambda message: next(replies)) as (url, _):
        policy = remote(url)
        with pytest.raises(ServiceError, match="answered: KeyError: 'observation/image'"):
            policy.chunk(SEEN, "go there")
        assert np.array_equal(policy.chunk(SEEN, "go there"), np.tile([1, 2], (5, 1)))
        policy.close()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (pack({"actions": np.zeros((4, 2), np.float32)}), r"\(4, 2\); expected 5 or more"),
        (pack({"actions": np.full((5, 2), np.nan)}), "expected 5 or more finite"),
        (pack({"action": np.zeros((5, 2))}), "actions are NoneType"),
        (b"\xc1", "no msgpack"),
    ],
)
def test_what_is_no_chunk_never_reaches_the_robot(remote, reply, said):
    with foreign(lambda message: reply) as (url, _):
        policy = remote(url)
        with pytest.raises(IntegrityError, match=said):
            policy.chunk(SEEN, "go there")
        policy.close()


def test_a_server_that_is_away_is_waited_for_and_then_named(remote):
    port = free_port()
    policy = remote(f"ws://127.0.0.1:{port}")
    with pytest.raises(ServiceError, match=r"is away for .* Is it running there\?"):
        policy.chunk(SEEN, "go there")
    with foreign(go, port):
        assert policy.chunk(SEEN, "go there").shape == (5, 2)
        policy.close()


def test_a_restarted_server_is_found_again(remote):
    port = free_port()
    policy = remote(f"ws://127.0.0.1:{port}", patience_s=10.0)
    for _ in range(2):
        with foreign(go, port):
            assert policy.chunk(SEEN, "go there").shape == (5, 2)


def test_a_process_goes_on_when_its_server_was_away(remote, tmp_path, monkeypatch):
    monkeypatch.setattr("lwd.actor.process.AWAY_S", 0.05)
    port = free_port()
    policy = remote(f"ws://127.0.0.1:{port}", patience_s=0.1)
    rig = Rig(robot=PointRobot, policies=lambda: Elsewhere(policy))
    actor = ActorConfig(robot="r0", kind="online", episodes=2)
    stop, tried = threading.Event(), threading.Event()
    reset = policy.reset
    monkeypatch.setattr(policy, "reset", lambda seed: (reset(seed), tried.set()))
    assert rig.policies is not None
    with Ledger(tmp_path / "l", "r0") as ledger, Spool(tmp_path / "s" / "r0") as spool:
        arguments = (actor, rig, ledger, spool, rig.policies(), stop)
        thread = threading.Thread(target=run, args=arguments)
        thread.start()
        assert tried.wait(10)
        with foreign(go, port):
            thread.join(20)
            policy.close()
        assert not thread.is_alive()
        assert len(spool.pending()) == 2
        assert {decode(spool.path(e)).header.outcome for e in spool.pending()} == {Outcome.SUCCESS}


def test_a_robot_plans_over_several_lanes_and_its_server_records_one_episode(
    remote, serving, tmp_path
):
    url = serving(GoalPolicy(6), record=True, executed=1)
    server = Server(url=url, robot="point-0", records=False)
    lanes = [RemotePolicy(server, CONTROL, lane=n) for n in range(3)]
    realtime = RealtimePolicy(lanes, CONTROL)
    robot = PointRobot("point-0", tick_s=0.02)
    for seed in (1, 2):
        episode = run_episode(robot, seed, realtime, None, kind=Kind.ONLINE)
        assert episode is not None
        assert (episode.header.outcome, episode.header.policy_version) == (Outcome.SUCCESS, 6)
    realtime.close()
    for lane in lanes:
        lane.close()
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["point-0"]


def test_a_server_with_a_certificate(remote, serving, tmp_path, monkeypatch):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    paths = [tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(str(paths[0]))
    issued.cert_chain_pems[0].write_to_path(str(paths[1]))
    issued.private_key_pem.write_to_path(str(paths[2]))
    url = serving(GoalPolicy(), tls=tuple(paths[1:]))
    secure = url.replace("ws://127.0.0.1", "wss://localhost")
    with pytest.raises(ServiceError, match=r"is away .*CERTIFICATE_VERIFY_FAILED"):
        remote(secure).chunk(SEEN, "go there")
    monkeypatch.setenv("SSL_CERT_FILE", str(paths[0]))
    assert remote(secure).chunk(SEEN, "go there").shape == (5, 2)


@pytest.mark.timeout(30)
def test_a_secure_server_that_says_nothing_is_away(tmp_path, monkeypatch):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        secured = pool.submit(lambda: context.wrap_socket(listener.accept()[0], server_side=True))
        url = f"wss://localhost:{listener.getsockname()[1]}"
        server = Server(url=url, timeout_s=0.5, patience_s=0.0)
        with pytest.raises(ServiceError, match=r"is away .*timed out"):
            RemotePolicy(server, CONTROL).chunk(SEEN, "go there")
        secured.result().close()


def test_a_lane_without_an_episode_is_refused(remote, serving):
    policy = RemotePolicy(Server(url=serving(), robot="nobody"), CONTROL, lane=1)
    policy.reset(1)
    with pytest.raises(ServiceError, match="'nobody' has no such episode; its first lane begins"):
        policy.chunk(SEEN, "go there")
    policy.close()


def test_a_process_that_ends_waits_for_no_server(remote):
    stop = threading.Event()
    server = Server(url=f"ws://127.0.0.1:{free_port()}", patience_s=60.0)
    policy = RemotePolicy(server, CONTROL, stop=stop)
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(ServiceError, match="is away for 0 s"):
        policy.chunk(SEEN, "go there")
