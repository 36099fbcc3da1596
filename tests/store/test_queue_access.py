"""The queue with users and TLS: who has no token, or another's scope, gets nowhere."""

import json
import stat
import threading
from pathlib import Path

import httpx
import pytest
import trustme

from lwd.errors import ConfigError, ServiceError
from lwd.store.access import CONSUME, PUBLISH, ROBOT_SCOPES, issue, load_access
from lwd.store.catalog import EPISODES
from lwd.store.queue import Queue
from lwd.store.queue_config import MAX_NOTICE_BYTES, Exposure
from processes import answers, free_port, wait_until
from proxy import proxy

CLI = "from lwd.cli import main; main()"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Token of each user; the file is tokens.json."""
    path = tmp_path / "tokens.json"
    scopes = {"service": (PUBLISH,), "coordinator": (CONSUME,), "robot-7": ROBOT_SCOPES}
    return {name: issue(path, name, scopes[name]) for name in scopes}


@pytest.fixture
def start(processes, tmp_path: Path):
    """Starts a queue with flags; its port."""

    def _start(*flags: object) -> int:
        port = free_port()
        processes.start(CLI, "queue", "--root", tmp_path, "--port", port, *flags)
        wait_until(lambda: answers(f"nats://127.0.0.1:{port}"), "the queue")
        return port

    return _start


@pytest.fixture
def guarded(start, tokens, tmp_path) -> int:
    """Port of a queue that asks for tokens."""
    return start("--tokens", tmp_path / "tokens.json")


@pytest.fixture
def sealed(start, tokens, tmp_path, authority, monkeypatch) -> int:
    """Port of a queue with tokens and a certificate that this process trusts."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    files = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    return start("--tokens", tmp_path / "tokens.json", *files)


def enter(port: int, user: str, token: str, *, scheme: str = "nats") -> Queue:
    """A connection as a user; refusals that the server does not answer come after a second."""
    return Queue(f"{scheme}://{user}@127.0.0.1:{port}", token=token, timeout_s=1.0)


def test_a_service_publishes_and_a_coordinator_consumes_and_prometheus_sees_it(
    start, tokens, tmp_path
):
    port = free_port()
    guarded = start("--tokens", tmp_path / "tokens.json", "--metrics-port", port)
    with (
        enter(guarded, "service", tokens["service"]) as service,
        enter(guarded, "coordinator", tokens["coordinator"]) as coordinator,
    ):
        service.publish(EPISODES, b"data", "id-1")
        (message,) = coordinator.pull("coordinator", 10, 1.0)
        assert (message.msg_id, message.data) == ("id-1", b"data")
        message.nak()
        (message,) = coordinator.pull("coordinator", 10, 1.0)
        wait_until(
            lambda: 'lwd_queue_unacknowledged_notices{consumer="coordinator"} 1.0' in scraped(port),
            "the notice that is under way",
        )
        assert "lwd_queue_published_notices 1.0" in scraped(port)
        message.ack()
        assert coordinator.pull("coordinator", 10, 0.1) == []


def scraped(port: int) -> str:
    """What Prometheus gets of a process."""
    return httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_a_scope_lets_its_user_do_nothing_else(guarded, tokens):
    with (
        enter(guarded, "service", tokens["service"]) as service,
        enter(guarded, "coordinator", tokens["coordinator"]) as coordinator,
    ):
        service.publish(EPISODES, b"data", "id-1")
        with pytest.raises(ServiceError, match=r"permissions violation.*lwd token"):
            service.pull("coordinator", 10, 0.2)
        with pytest.raises(ServiceError, match=r"permissions violation.*lwd token"):
            coordinator.publish(EPISODES, b"forged", "id-2")
        assert [m.msg_id for m in coordinator.pull("coordinator", 10, 1.0)] == ["id-1"]


@pytest.mark.parametrize(
    ("user", "token"), [("service", "coordinator"), ("robot-7", "robot-7"), ("nobody", "service")]
)
def test_a_wrong_user_or_token_is_refused_at_once(guarded, tokens, user, token):
    with (
        enter(guarded, user, tokens[token]) as queue,
        pytest.raises(ServiceError, match=r"Authorization Violation.*LWD_TOKEN") as error,
    ):
        queue.publish(EPISODES, b"forged", "id-1")
    assert tokens[token] not in str(error.value)


def test_without_a_user_nobody_enters(guarded, tokens):
    with (
        Queue(f"nats://127.0.0.1:{guarded}") as queue,
        pytest.raises(ServiceError, match="Give the user in --queue-url"),
    ):
        queue.publish(EPISODES, b"forged", "id-1")


def test_the_token_comes_from_the_environment(guarded, tokens, monkeypatch):
    monkeypatch.setenv("LWD_TOKEN", tokens["service"])
    with Queue(f"nats://service@127.0.0.1:{guarded}") as queue:
        queue.publish(EPISODES, b"data", "id-1")


def test_the_newest_token_of_a_user_counts(tokens, tmp_path, start):
    newer = issue(tmp_path / "tokens.json", "service", (PUBLISH,))
    port = start("--tokens", tmp_path / "tokens.json")
    with enter(port, "service", newer) as queue:
        queue.publish(EPISODES, b"data", "id-1")
    with enter(port, "service", tokens["service"]) as queue, pytest.raises(ServiceError):
        queue.publish(EPISODES, b"data", "id-2")


def test_neither_tokens_nor_configuration_hold_a_secret(guarded, tokens, tmp_path):
    files = [tmp_path / "tokens.json", tmp_path / "queue" / "nats.conf"]
    for path in files:
        assert not any(token in path.read_text() for token in tokens.values())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {g.robot for g in load_access(files[0]).grants if g.bcrypt} == {"service", "coordinator"}


def test_what_is_no_notice_is_refused_for_its_size(guarded, tokens):
    with (
        enter(guarded, "service", tokens["service"]) as queue,
        pytest.raises(ServiceError, match="maximum payload"),
    ):
        queue.publish(EPISODES, b"x" * (MAX_NOTICE_BYTES + 1), "id-1")


def test_with_a_certificate_nothing_passes_in_the_clear(sealed, tokens):
    seen: list[bytes] = []

    def _see(data: bytes) -> bytes:
        seen.append(data)
        return data

    with (
        proxy(sealed, up=_see, down=_see) as port,
        enter(port, "service", tokens["service"], scheme="tls") as queue,
    ):
        queue.publish(EPISODES, b"a secret notice", "id-1")
    with enter(sealed, "coordinator", tokens["coordinator"], scheme="tls") as queue:
        assert [m.data for m in queue.pull("coordinator", 10, 1.0)] == [b"a secret notice"]
    passed = b"".join(seen)
    assert len(passed) > 1000
    for secret in (b"a secret notice", b"service", tokens["service"].encode()):
        assert secret not in passed


def test_a_client_with_tls_closes_quietly_after_its_server_died(sealed, tokens, processes):
    queue = enter(sealed, "service", tokens["service"], scheme="tls")
    queue.publish(EPISODES, b"data", "id-1")
    processes.kill(processes.started[-1])
    wait_until(lambda: not answers(f"nats://127.0.0.1:{sealed}"), "the end of the server")
    with pytest.raises(ServiceError):
        queue.publish(EPISODES, b"data", "id-2")
    queue.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "queue"]


def test_a_server_in_the_clear_gets_no_token_of_a_client_that_wants_tls(guarded, tokens):
    seen: list[bytes] = []

    def _see(data: bytes) -> bytes:
        seen.append(data)
        return data

    with (
        proxy(guarded, up=_see) as port,
        enter(port, "service", tokens["service"], scheme="tls") as queue,
        pytest.raises(ServiceError, match=r"tls:// for a server with a certificate"),
    ):
        queue.publish(EPISODES, b"data", "id-1")
    assert tokens["service"].encode() not in b"".join(seen)


def test_a_certificate_of_an_unknown_authority_is_refused(sealed, tokens, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with (
        enter(sealed, "service", tokens["service"], scheme="tls") as queue,
        pytest.raises(ServiceError, match=r"certificate.*SSL_CERT_FILE"),
    ):
        queue.publish(EPISODES, b"data", "id-1")


def test_a_client_in_the_clear_is_told_of_the_certificate(sealed, tokens):
    with (
        enter(sealed, "service", tokens["service"]) as queue,
        pytest.raises(ServiceError, match="wants tls://"),
    ):
        queue.publish(EPISODES, b"data", "id-1")


@pytest.mark.parametrize("missing", ["tokens", "certificate", "both"])
def test_beyond_the_loopback_it_takes_tokens_and_a_certificate(tmp_path, missing):
    for name in ("tokens.json", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    files = {"tokens": tmp_path / "tokens.json"} if missing == "certificate" else {}
    if missing == "tokens":
        files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    with pytest.raises(ConfigError, match=r"refuses to listen on 0\.0\.0\.0.*--tokens"):
        Exposure(host="0.0.0.0", **files)


def test_settings_that_do_not_fit_are_named(tmp_path, start, processes):
    with pytest.raises(ConfigError, match="go together"):
        Exposure(tls_cert=tmp_path / "cert.pem")
    missing = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    with pytest.raises(ConfigError, match=r"cert\.pem is not readable"):
        Exposure(**missing)


def test_a_tokens_file_without_users_of_the_queue_is_a_clear_error(tmp_path):
    from lwd.store.queue_config import write_config

    issue(tmp_path / "tokens.json", "robot-7")
    with pytest.raises(ConfigError, match=r"lwd token coordinator-1 --scopes consume"):
        write_config(tmp_path, 4222, Exposure(tokens=tmp_path / "tokens.json"))
    (tmp_path / "tokens.json").write_text(json.dumps([{"robot": "x"}]))
    with pytest.raises(ConfigError, match="not usable"):
        write_config(tmp_path, 4222, Exposure(tokens=tmp_path / "tokens.json"))


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("nats://service@host", "'service' needs its token in the environment: LWD_TOKEN"),
        ("nats://service:hidden@host", "carries a secret"),
        ("http://host:4222", "nats://HOST:PORT"),
    ],
)
def test_an_unusable_url_says_what_to_give(url, hint, monkeypatch):
    monkeypatch.delenv("LWD_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=hint) as error:
        Queue(url)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "scopes", "hint"),
    [
        ("arm 1", (PUBLISH,), "letters, digits"),
        ("*", (CONSUME,), "letters, digits"),
        ("arm-1", ("upload", "fly"), "'fly' is unknown.*consume, operate, publish, read, upload"),
    ],
)
def test_a_token_that_cannot_be_issued_says_why(tmp_path, name, scopes, hint):
    with pytest.raises(ConfigError, match=hint):
        issue(tmp_path / "tokens.json", name, scopes)
    assert not (tmp_path / "tokens.json").exists()
