"""Metrics of a process, as Prometheus fetches them."""

import subprocess
import sys

import httpx
import pytest

import lwd
from lwd.store import metrics

CHILD = """
import sys
from lwd.store import metrics
metrics.EPISODES.add(kind="online", outcome="success")  # before anybody listens: not counted
assert "prometheus_client" not in sys.modules
port = metrics.expose(0)
metrics.EPISODES.add(kind="online", outcome="success")
metrics.SNAPSHOT.set(7)
metrics.UPLOAD_S.observe(0.2)
assert metrics.expose(None) is None
try:
    metrics.expose(port)
except metrics.ServiceError as error:
    print(port, error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child():
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe) as process:
        yield process
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_process_with_a_port_serves_what_it_has_noted(child):
    port, _, complaint = child.stdout.readline().decode().partition(" ")
    assert "Give another --metrics-port" in complaint
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'lwd_robot_episodes_total{kind="online",outcome="success"} 1.0' in text
    assert "lwd_coordinator_snapshot 7.0" in text
    assert f'lwd_info{{version="{lwd.__version__}"}} 1.0' in text
    assert 'lwd_edge_upload_seconds_bucket{le="0.3"} 1.0' in text


def test_every_metric_has_a_name_of_its_own():
    names = [metric.name for metric in metrics.EVERY]
    assert len({*names}) == len(names)
    defined = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert len(defined) == len(names)
