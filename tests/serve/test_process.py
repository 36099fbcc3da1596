"""The whole process with a plane of its own: weights that change, a kill, nothing lost or twice."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from lwd.config import PlaneConfig
from lwd.config.serving import ServeConfig
from lwd.errors import ServiceError
from lwd.serve.process import serve
from lwd.store import weights
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects
from processes import QUEUE, SERVICE, Processes, answers, free_port, wait_until
from serve.point import CONTROL, Robot

SERVER = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("serve.serving", run_name="__main__")
"""
TESTS = Path(__file__).parents[1]


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


@pytest.fixture
def plane(tmp_path, processes) -> PlaneConfig:
    """A running queue and service."""
    urls = [f"{kind}://127.0.0.1:{free_port()}" for kind in ("nats", "http")]
    config = PlaneConfig(root=tmp_path, queue_url=urls[0], service_url=urls[1])
    processes.start(QUEUE, tmp_path, urls[0].rsplit(":", 1)[1])
    processes.start(SERVICE, tmp_path, urls[0], urls[1])
    wait_until(lambda: all(answers(url) for url in urls), "the plane", 60.0)
    return config


def publish(plane: PlaneConfig, gain: float) -> None:
    with Catalog(plane.catalog) as catalog:
        tensors = {"gain": np.full(1, gain, np.float32)}
        objects, update = Objects(plane.objects), weights.Trained("online", int(gain), 1)
        metadata = {"rate_hz": str(CONTROL.rate_hz), "horizon": str(CONTROL.horizon)}
        weights.publish(objects, catalog, tensors, metadata, update)


def attempt(robot: Robot, url: str, requests: int = 3) -> int:
    """An episode that succeeds; the version that acted."""
    versions = {robot.ask()["lwd/policy_version"] for _ in range(requests)}
    post = f"{url.replace('ws', 'http', 1)}/robots/arm/outcome"
    marked = httpx.post(post, json={"outcome": "success"}, timeout=30.0).json()
    assert marked["saved"], marked
    (version,) = versions
    return version


@pytest.mark.slow
def test_a_server_follows_the_weights_and_a_kill_loses_only_what_runs(plane, processes):
    port = free_port()
    url = f"ws://127.0.0.1:{port}"

    def start():
        return processes.start(SERVER, TESTS, plane.root, plane.service_url, port)

    server = start()
    assert not answers(url)  # nothing to serve, so nobody is let in
    publish(plane, 1.0)
    wait_until(lambda: answers(url), "the server", 60.0)
    with Robot(f"{url}/?robot=arm") as robot:
        assert attempt(robot, url) == 1
        robot.ask()
        with ServiceClient(plane.service_url) as client:
            acting = lambda: [b for b in client.beats() if b.state == "acting"]  # noqa: E731
            wait_until(acting, "the robot's sign of life, which the server sends")
            assert [(b.robot, b.policy_version) for b in acting()] == [("arm", 1)]
        publish(plane, 2.0)
        metrics = url.replace("ws", "http", 1) + "/metrics"
        newest = "lwd_serve_policy_version 2.0"
        wait_until(lambda: newest in httpx.get(metrics).text, "the newer version", 60.0)
        assert robot.ask()["lwd/policy_version"] == 1  # its episode goes on
        assert attempt(robot, url, 1) == 1
        assert attempt(robot, url) == 2
        robot.ask()
        robot.ask()
    processes.kill(server)
    server = start()
    wait_until(lambda: answers(url), "the server again", 60.0)
    with Robot(f"{url}/?robot=arm") as robot:
        assert attempt(robot, url) == 2
        with Catalog(plane.catalog) as catalog:
            wait_until(lambda: catalog.count_episodes() == 4, "four episodes", 60.0)
            assert sorted(row.policy_version for row in catalog.newest_episodes(9)) == [1, 1, 2, 2]
            wait_until(lambda: catalog.acting() == {"arm": 2, "server": 2}, "who acts with what")
    assert processes.stop(server) == 0


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config, plane = ServeConfig(port=taken.getsockname()[1]), PlaneConfig(root=tmp_path)
        with pytest.raises(ServiceError, match="The policy server cannot listen on"):
            serve(config, plane, lambda control: lambda *_: None, stop=threading.Event())
