"""The metadata service, as a real process: conflicts, relay after kill -9, long poll."""

import contextlib
import json
import signal
import socket
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import pytest
import trustme

from lwd.config import PlaneConfig
from lwd.errors import ConfigError, ConflictError, EpisodeError, ServiceError
from lwd.store.access import issue
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from lwd.store.heartbeats import Beat
from lwd.store.objects import Objects, episode_key
from lwd.store.queue import Queue
from lwd.store.rows import LoadRow
from lwd.store.service import check_row, serve
from processes import QUEUE, SERVICE, answers, free_port, wait_until
from sample_rows import POLICY, row


@pytest.fixture
def url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def queue_url() -> str:
    return f"nats://127.0.0.1:{free_port()}"


@pytest.fixture
def start(processes, tmp_path: Path, url: str, queue_url: str):
    """Starts the service and waits until it answers."""

    def _start():
        process = processes.start(SERVICE, tmp_path, queue_url, url)
        with ServiceClient(url) as client:
            wait_until(client.healthy, "the service")
        return process

    return _start


@pytest.fixture
def client(url):
    with ServiceClient(url) as opened:
        yield opened


@pytest.fixture
def catalog(tmp_path):
    with Catalog(PlaneConfig(root=tmp_path).catalog) as opened:
        yield opened


def test_a_robot_inserts_repeats_and_reports(start, client, catalog, url, processes):
    process = start()
    assert client.insert_episode(row(1)) is True
    assert client.insert_episode(row(1)) is False
    with pytest.raises(ConflictError, match="already catalogued"):
        client.insert_episode(row(1, sha256="f" * 64))
    with pytest.raises(EpisodeError, match=r"ticks=0.*positive"):
        client.insert_episode(row(2, ticks=0))
    client.report_load(LoadRow(robot="arm-1", version=4, loaded_at=5.0))
    stored = catalog.episode(row(1).episode_id)
    assert stored is not None
    assert replace(stored, inserted_at=0.0) == row(1)
    for process_of_robot in ("1", "2"):
        client.send_beat(Beat(robot="arm-1", state="acting", at=5.0, process=process_of_robot))
    with pytest.raises(ConflictError, match="Two processes call themselves robot 'arm-1'"):
        client.send_beat(Beat(robot="arm-1", state="acting", at=5.0, process="1"))
    status = client.status()
    assert (status["episodes"], status["robots"], status["snapshot"]) == (1, {"arm-1": 4}, 0)
    assert processes.stop(process) == 0
    assert not client.healthy()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"episode_id": "../../etc/passwd"}, "episode_id="),
        ({"sha256": "A" * 64}, "sha256="),
        ({"kind": "holiday"}, "kind="),
        ({"outcome": "fine"}, "outcome="),
        ({"rate_hz": float("nan")}, "rate_hz=nan"),
        ({"size_bytes": -1}, "size_bytes="),
        ({"interventions": 51}, "interventions="),
        ({"robot": ""}, "robot="),
        ({"instruction": "x" * 5000}, "instruction="),
    ],
)
def test_a_row_that_is_not_plausible_is_refused_by_name(change, reason):
    assert check_row(row(1)) == row(1)
    with pytest.raises(EpisodeError, match=reason):
        check_row(row(1, **change))


def test_what_is_not_a_small_json_body_is_refused(start, url):
    start()
    answers = [
        httpx.post(f"{url}/episodes", content=b"not json"),
        httpx.post(f"{url}/episodes", json={}),
        httpx.post(f"{url}/episodes", json=asdict(row(1)) | {"rate_hz": "fast"}),
        httpx.post(f"{url}/episodes", content=b"x" * 100_000),
        httpx.post(f"{url}/episodes", content=iter([b"{}"])),
        httpx.get(f"{url}/weights/7"),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 413, 411, 404]
    assert "rate_hz: Input should be a valid number" in answers[2].json()["detail"]
    assert all(answer.json()["detail"] for answer in answers)


def test_a_long_poll_answers_when_another_process_publishes(start, client, catalog):
    start()
    assert client.latest_weights(0) is None
    first = catalog.publish_weights(POLICY)
    assert client.latest_weights(0) == first
    began = time.monotonic()
    assert client.latest_weights(1, wait_s=0.2) is None
    assert time.monotonic() - began >= 0.2
    got = []
    waiting = threading.Thread(target=lambda: got.append(client.latest_weights(1, wait_s=30.0)))
    waiting.start()
    second = catalog.publish_weights(replace(POLICY, update=200))
    waiting.join(20)
    assert got == [second]


def test_sigterm_ends_a_service_that_robots_wait_on(start, url, processes):
    process = start()
    client, got = ServiceClient(url), []
    waiting = threading.Thread(target=lambda: got.append(client.latest_weights(0, wait_s=50.0)))
    waiting.start()
    with ServiceClient(url) as other:
        assert other.healthy()
    assert processes.stop(process) == 0
    waiting.join(10)
    client.close()
    assert got in ([None], [])


UPLOAD = """
import json, os, signal, sys
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects, episode_key
from lwd.store.rows import EpisodeRow
row = EpisodeRow(**json.loads(sys.argv[3]))
Objects(sys.argv[1]).put(episode_key(row.sha256), b"x" * row.size_bytes)
if sys.argv[4] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
with ServiceClient(sys.argv[2]) as client:
    client.insert_episode(row)
"""


def test_an_upload_killed_between_object_and_row_is_repeated_without_a_trace(
    start, catalog, processes, tmp_path, url
):
    start()
    objects = Objects((tmp_path / "objects").as_uri())
    arguments = [objects.url, url, json.dumps(asdict(row(1)))]
    assert processes.start(UPLOAD, *arguments, "die").wait(30) == -signal.SIGKILL
    assert list(objects.list()) == [episode_key(row(1).sha256)]
    assert (catalog.count_episodes(), catalog.backlog()) == (0, 0)
    for _ in range(2):
        assert processes.start(UPLOAD, *arguments, "live").wait(30) == 0
    assert list(objects.list()) == [episode_key(row(1).sha256)]
    assert (catalog.count_episodes(), catalog.backlog()) == (1, 1)


def test_notices_written_before_a_kill_are_relayed_after_the_restart(
    start, client, catalog, processes, tmp_path, queue_url
):
    process = start()
    for number in range(20):
        client.insert_episode(row(number))
    processes.kill(process)
    assert catalog.backlog() == 20
    processes.start(QUEUE, tmp_path, queue_url.rsplit(":", 1)[1])
    wait_until(lambda: answers(queue_url), "the queue")
    process = start()
    client.insert_episode(row(20))
    wait_until(lambda: catalog.backlog() == 0, "the relay")
    processes.kill(process)
    with Queue(queue_url) as queue:
        ids = [message.msg_id for message in queue.pull("coordinator", 100, 2.0)]
        assert ids == [row(number).episode_id for number in range(21)]


def test_a_notice_published_but_not_marked_is_dropped_as_a_duplicate(
    start, catalog, queue_server, processes, tmp_path, url
):
    queue_url = queue_server[1]
    catalog.insert_episode(row(1))
    with Queue(queue_url) as queue:
        (notice,) = catalog.unpublished(10)
        queue.publish(notice.subject, notice.payload.encode(), notice.key)
        process = processes.start(SERVICE, tmp_path, queue_url, url)
        wait_until(lambda: catalog.backlog() == 0, "the relay")
        assert processes.stop(process) == 0
        assert len(queue.pull("coordinator", 10, 0.5)) == 1


def test_tokens_limit_who_does_what(processes, tmp_path, url, queue_url):
    tokens = tmp_path / "tokens.json"
    robot = issue(tokens, "arm-1")
    reader = issue(tokens, "*", ["read"])
    assert robot not in tokens.read_text()
    assert tokens.stat().st_mode & 0o077 == 0
    code = SERVICE.replace(
        "root=Path(sys.argv[1])", "root=Path(sys.argv[1]), tokens=Path(sys.argv[4])"
    )
    processes.start(code, tmp_path, queue_url, url, tokens)
    with (
        ServiceClient(url) as nobody,
        ServiceClient(url, token=robot) as arm,
        ServiceClient(url, token=reader) as viewer,
    ):
        wait_until(nobody.healthy, "the service")
        assert arm.insert_episode(row(1)) is True
        assert viewer.status()["episodes"] == 1
        with pytest.raises(ServiceError, match=r"403.*for robot 'arm-1'"):
            arm.insert_episode(row(2, robot="arm-2"))
        with pytest.raises(ServiceError, match=r"403.*may read, not upload"):
            viewer.insert_episode(row(2))
        with pytest.raises(ServiceError, match=r"401.*Bearer"):
            nobody.insert_episode(row(2))
        with pytest.raises(ServiceError, match="401"):
            nobody.latest_weights()


def test_what_cannot_be_a_token_is_refused_without_being_repeated(monkeypatch, url):
    monkeypatch.setenv("LWD_TOKEN", "secret\n")  # as `cat` of a file gives it
    assert ServiceClient(url)._http.headers["Authorization"] == "Bearer secret"
    for wrong in ("sec\nret", "s\u00e9cret"):
        with pytest.raises(ConfigError, match=r"LWD_TOKEN.*`lwd token`") as refused:
            ServiceClient(url, token=wrong)
        assert "cret" not in str(refused.value)


def test_more_robots_may_wait_than_the_usual_limit_of_open_files(
    processes, tmp_path, url, queue_url
):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))\n"
    processes.start(limit + SERVICE, tmp_path, queue_url, url)
    with ServiceClient(url) as client, contextlib.ExitStack() as stack:
        wait_until(client.healthy, "the service")
        host, port = url.removeprefix("http://").split(":")
        for _ in range(100):
            robot = stack.enter_context(socket.create_connection((host, int(port))))
            robot.sendall(b"GET /weights/latest?wait_s=30 HTTP/1.1\r\nHost: x\r\n\r\n")
        with ServiceClient(url) as late:
            assert late.insert_episode(row(1)) is True


def test_the_service_speaks_tls(processes, tmp_path, queue_url, monkeypatch):
    authority, port = trustme.CA(), free_port()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = "tls_cert=Path(sys.argv[4]), tls_key=Path(sys.argv[5]), root="
    url, pems = f"https://127.0.0.1:{port}", (tmp_path / "cert.pem", tmp_path / "key.pem")
    processes.start(SERVICE.replace("root=", files), tmp_path, queue_url, url, *pems)
    wait_until(lambda: answers(url), "the service")
    with ServiceClient(url) as client, pytest.raises(ServiceError, match="CERTIFICATE_VERIFY"):
        client.insert_episode(row(1))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with ServiceClient(url) as client:
        assert client.insert_episode(row(1)) is True


def test_https_needs_a_certificate(tmp_path):
    config = PlaneConfig(root=tmp_path, service_url="https://127.0.0.1:8321")
    with pytest.raises(ConfigError, match="--tls-cert"):
        serve(config, threading.Event())


def test_an_open_service_stays_on_the_loopback(tmp_path):
    config = PlaneConfig(root=tmp_path, service_url="http://0.0.0.0:8321")
    with pytest.raises(ConfigError, match="--tokens"):
        serve(config, threading.Event())


def test_a_tokens_file_without_tokens_does_not_open_the_service(tmp_path):
    (tmp_path / "tokens.json").write_text("[]")
    config = PlaneConfig(root=tmp_path, tokens=tmp_path / "tokens.json")
    with pytest.raises(ConfigError, match="no tokens"):
        serve(config, threading.Event())


def test_a_port_in_use_is_a_clear_error(start, tmp_path, url):
    start()
    with pytest.raises(ServiceError, match="choose another"):
        serve(PlaneConfig(root=tmp_path, service_url=url), threading.Event())


@pytest.mark.parametrize(
    "unusable", ["127.0.0.1:8321", "http://127.0.0.1", "http://[", "http://h:99999"]
)
def test_an_unusable_url_says_what_to_give(tmp_path, unusable):
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        serve(PlaneConfig(root=tmp_path, service_url=unusable), threading.Event())


def test_an_unwritable_root_is_a_clear_error(forbidden_folder, url):
    with pytest.raises(ServiceError, match="not writable"):
        serve(PlaneConfig(root=forbidden_folder, service_url=url), threading.Event())


def test_an_unreachable_service_is_a_service_error(url):
    with ServiceClient(url) as client:
        assert not client.healthy()
        with pytest.raises(ServiceError, match="lwd service"):
            client.insert_episode(row(1))
