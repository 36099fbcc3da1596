"""The queue: nothing lost by kill -9, duplicates dropped, poison terminated, clear when refused."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext

from lwd.errors import ConfigError, ServiceError
from lwd.store.catalog import EPISODES
from lwd.store.queue import Queue, serve_queue
from processes import QUEUE, answers, free_port, wait_until


def server_pid(supervisor: subprocess.Popen) -> int:
    (child,) = psutil.Process(supervisor.pid).children()
    return child.pid


def drain(queue: Queue, count: int) -> list[str]:
    """Pull and acknowledge until `count` notices came."""
    got: list[str] = []

    def _pull() -> bool:
        with contextlib.suppress(ServiceError):
            for message in queue.pull("coordinator", 64, 0.2):
                got.append(message.msg_id)
                message.ack()
        return len(got) >= count

    wait_until(_pull, f"{count} notices, have {len(got)}")
    return got


def test_notices_arrive_once_in_order_and_stay_until_acknowledged(queue_server):
    with Queue(queue_server[1]) as queue:
        for number in (1, 2, 2, 3, 1):
            queue.publish(EPISODES, b"data %d" % number, f"id-{number}")
        queue.publish("lwd.other", b"other subject", "other-1")
        first, second, third = queue.pull("coordinator", 10, 1.0)
        assert [m.msg_id for m in (first, second, third)] == ["id-1", "id-2", "id-3"]
        assert (first.data, first.subject) == (b"data 1", EPISODES)
        first.ack()
        second.nak()
        third.term()
        (again,) = queue.pull("coordinator", 10, 1.0)
        assert again.msg_id == "id-2"
        again.ack()
        assert queue.pull("coordinator", 10, 0.1) == []


@pytest.mark.parametrize("error", [TimeoutError, NatsTimeout])
def test_a_pull_whose_time_is_up_is_an_empty_one(queue_server, monkeypatch, error):
    """Of a server that says late that it has nothing, nats-py tells by either of the two."""

    async def fetch(*_: object) -> None:
        raise error

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", fetch)
    with Queue(queue_server[1]) as queue:
        assert queue.pull("coordinator", 10, 0.1) == []


def test_the_server_is_told_to_sync_every_notice(queue_server, tmp_path):
    settings = (tmp_path / "queue" / "nats.conf").read_text()
    assert '"sync_interval": "always"' in settings
    assert 'host: "127.0.0.1"' in settings


def test_the_server_killed_with_notices_pending_loses_none(queue_server):
    supervisor, url = queue_server
    with Queue(url) as queue:
        for number in range(100):
            queue.publish(EPISODES, b"x", f"id-{number}")
        unacknowledged = queue.pull("coordinator", 10, 1.0)
        pid = server_pid(supervisor)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid), "the end of the server")
        wait_until(lambda: answers(url), "the restart by the supervisor")
        assert server_pid(supervisor) != pid
        wait_until(lambda: publishes(queue, "id-100"), "the connection")
        for message in unacknowledged:
            message.nak()
        assert set(drain(queue, 101)) == {f"id-{n}" for n in range(101)}


def publishes(queue: Queue, msg_id: str) -> bool:
    try:
        queue.publish(EPISODES, b"x", msg_id)
    except ServiceError:
        return False
    return True


def test_the_supervisor_killed_takes_the_server_along_and_a_new_one_has_everything(
    queue_server, processes, tmp_path
):
    supervisor, url = queue_server
    with Queue(url, timeout_s=2.0) as queue:
        queue.publish(EPISODES, b"x", "id-1")
        pid = server_pid(supervisor)
        processes.kill(supervisor)
        wait_until(lambda: not psutil.pid_exists(pid), "the end of the server")
        with pytest.raises(ServiceError, match="lwd queue"):
            queue.publish(EPISODES, b"x", "id-2")
        restarted = processes.start(QUEUE, tmp_path, url.rsplit(":", 1)[1])
        wait_until(lambda: publishes(queue, "id-2"), "the restart")
        assert drain(queue, 2) == ["id-1", "id-2"]
    assert processes.stop(restarted) == 0
    assert not answers(url)


def test_a_queue_that_lost_all_its_files_is_set_up_again(queue_server, processes, tmp_path):
    supervisor, url = queue_server
    with Queue(url, timeout_s=1.0) as queue, Queue(url, timeout_s=1.0) as puller:
        queue.publish(EPISODES, b"x", "id-1")
        assert len(puller.pull("coordinator", 10, 1.0)) == 1
        processes.kill(supervisor)
        wait_until(lambda: not answers(url), "the end of the server")
        shutil.rmtree(tmp_path / "queue")
        processes.start(QUEUE, tmp_path, url.rsplit(":", 1)[1])
        wait_until(lambda: publishes(queue, "id-2"), "the new stream")
        assert drain(puller, 1) == ["id-2"]


def test_a_client_closes_quietly_after_its_server_died(queue_server, processes):
    supervisor, url = queue_server
    queue = Queue(url, timeout_s=1.0)
    queue.publish(EPISODES, b"x", "id-1")
    assert len(queue.pull("coordinator", 10, 1.0)) == 1
    processes.kill(supervisor)
    wait_until(lambda: not answers(url), "the end of the server")
    with pytest.raises(ServiceError):
        queue.publish(EPISODES, b"x", "id-2")
    queue.close()
    queue.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "queue"]


def test_a_queue_that_is_not_there_is_a_clear_error():
    url = f"nats://127.0.0.1:{free_port()}"
    with Queue(url, timeout_s=0.5) as queue:
        for _ in range(2):
            with pytest.raises(ServiceError, match=url):
                queue.pull("coordinator", 1, 0.1)


def test_a_port_in_use_is_a_clear_error(queue_server, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lwd.store.queue_server.FREE_S", 0.1)
    port = int(queue_server[1].rsplit(":", 1)[1])
    with pytest.raises(ServiceError, match=f"127.0.0.1:{port}.*choose another"):
        serve_queue(tmp_path / "other", port, threading.Event())


def test_what_is_no_address_is_a_clear_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="nats://HOST:PORT"):
        Queue("127.0.0.1:4222")
    with pytest.raises(ServiceError, match="ports go from"):
        serve_queue(tmp_path, 99_999, threading.Event())


def test_a_second_queue_on_the_same_folder_is_refused(queue_server, tmp_path: Path):
    with pytest.raises(ServiceError, match="already runs"):
        serve_queue(tmp_path, free_port(), threading.Event())


def test_a_folder_without_permission_is_a_clear_error(forbidden_folder: Path):
    with pytest.raises(ServiceError, match="Cannot create folder"):
        serve_queue(forbidden_folder, free_port(), threading.Event())


def test_a_configuration_that_cannot_be_written_is_a_clear_error(tmp_path: Path):
    (tmp_path / "queue" / "nats.conf").mkdir(parents=True)
    with pytest.raises(ServiceError, match=r"cannot write .*nats.conf: Is a directory"):
        serve_queue(tmp_path, free_port(), threading.Event())


def test_a_server_that_cannot_run_is_given_up_with_its_last_words(tmp_path: Path):
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "jetstream").write_text("a file where the server needs a folder")
    command = [sys.executable, "-c", QUEUE, str(tmp_path), str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert re.search(r"ServiceError: .*died 5 times.*not a directory", ended.stderr)
