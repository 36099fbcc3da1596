"""A fleet at work: real processes that die and start again, real uploads over a slow link."""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lwd.cli import main
from lwd.config import PlaneConfig
from lwd.config.fleet import DisturbanceConfig, FleetConfig, LinkConfig, RobotConfig
from lwd.edge.spool import Spool
from lwd.episode.payload import decode
from lwd.episode.types import Outcome
from lwd.errors import ConfigError
from lwd.fleet.drive import Order, _Linked, drive
from lwd.fleet.file import read
from lwd.fleet.report import line, table
from lwd.fleet.run import _flags, run, standings
from lwd.store.catalog import Catalog
from lwd.store.client import ServiceClient
from processes import SERVICE, Processes, free_port, wait_until

BLACKOUTS = """
seed: 3
disturbances: {blackouts: {power_cycles_per_h: 250}}
robots: [{name: r0, tasks: [restocking], disturbance: blackouts}]
"""


@pytest.mark.slow
def test_a_robot_whose_power_goes_is_started_again_and_saves_what_it_recorded_until_then(tmp_path):
    source = tmp_path / "blackouts.yaml"
    source.write_text(BLACKOUTS)
    fleet, plane = read(source), PlaneConfig(root=tmp_path / "run")
    order = Order(kind="play", episodes=3, upload=False)
    restarts = run(source, fleet, plane, order, threading.Event())
    (robot,) = standings(plane.root, fleet)
    pending = Spool(plane.root / "spool" / "r0").root / "pending"
    headers = [decode(path).header for path in pending.glob("*.arrow")]
    cut_off = sum(header.outcome is Outcome.INTERRUPTED for header in headers)
    assert restarts == cut_off + robot.lost > 0
    assert cut_off > 0
    assert (robot.saved, robot.begun, robot.waiting) == (3, 3 + robot.lost, 3)
    assert len({header.seed for header in headers}) == 3, "no scene comes twice"
    assert list(pending.glob("*.part")) == []
    assert f"{robot.lost} lost with their process" in line([robot], 0)
    assert table([robot]).row_count == 1


FLEET = FleetConfig(
    robots=(
        RobotConfig(name="a", tasks=("restocking",), link="slow"),
        RobotConfig(name="b", tasks=("restocking",), disturbance="stopped"),
    ),
    split="held-out",
    links={"slow": LinkConfig(delay_s=0.05, bytes_per_s=1e6)},
    disturbances={"stopped": DisturbanceConfig(emergency_stops_per_h=6000.0)},
)


@pytest.mark.slow
def test_robots_of_one_process_upload_each_over_its_own_link(tmp_path: Path):
    url = f"http://127.0.0.1:{free_port()}"
    plane, servers = PlaneConfig(root=tmp_path, service_url=url), Processes()
    servers.start(SERVICE, tmp_path, f"nats://127.0.0.1:{free_port()}", url)
    try:
        with ServiceClient(url) as client:
            wait_until(client.healthy, "the service")
        drive(FLEET, ["a", "b"], plane, Order(kind="play", episodes=1), threading.Event())
        with Catalog(plane.catalog) as catalog:
            rows = {row.robot: row for row in catalog.unsnapshotted(9)}
        assert set(rows) == {"a", "b"}
        assert rows["b"].outcome == Outcome.INTERRUPTED
        assert all(row.held_out for row in rows.values())
        assert all(robot.waiting == 0 for robot in standings(tmp_path, FLEET))
        with _Linked(FLEET, 0, plane, threading.Event()) as linked:
            assert linked.plane.service_url != url
            with ServiceClient(linked.plane.service_url) as client:
                started = time.monotonic()
                assert client.healthy()
                assert time.monotonic() - started >= 0.1, "the delay, there and back"
    finally:
        servers.close()


def test_an_outage_breaks_what_goes_over_the_link(tmp_path):
    link = LinkConfig(outages_per_h=1e6, outage_s=(600.0, 600.0))
    fleet = replace(FLEET, links={"slow": link})
    url = f"http://127.0.0.1:{free_port()}"
    plane, servers, stop = (
        PlaneConfig(root=tmp_path, service_url=url),
        Processes(),
        threading.Event(),
    )
    servers.start(SERVICE, tmp_path, f"nats://127.0.0.1:{free_port()}", url)
    try:
        with ServiceClient(url) as near:
            wait_until(near.healthy, "the service")
            with _Linked(fleet, 0, plane, stop) as linked:
                with ServiceClient(linked.plane.service_url) as far:
                    wait_until(lambda: not far.healthy(), "the outage")
                assert near.healthy()
    finally:
        servers.close()


def test_a_link_that_cannot_be_shaped_is_refused():
    plane = PlaneConfig(service_url="https://fleet.example:8321")
    order, stop = Order(kind="play", episodes=1), threading.Event()
    with pytest.raises(ConfigError, match=r"link 'slow' of robot a .*https://fleet\.example"):
        drive(FLEET, ["a"], plane, order, stop)
    plane = PlaneConfig(objects_url="s3://bucket")
    with pytest.raises(ConfigError, match="s3://bucket"):
        drive(FLEET, ["a"], plane, order, stop)


def test_a_process_of_a_fleet_is_ordered_as_the_fleet_is(tmp_path, monkeypatch):
    plane = PlaneConfig(root=tmp_path, objects_url="s3://bucket")
    order = Order(kind="rollout", episodes=3, upload=False, tokenizer="here.model")
    seen = []
    monkeypatch.setattr("lwd.store.process.stop_on_signals", threading.Event)
    monkeypatch.setattr("lwd.fleet.drive.drive", lambda *given: seen.append(given))
    words = ["lwd", "fleet", "paper", *map(str, _flags(plane, order)), "--drive", "tea-0"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert seen[0][1:4] == (("tea-0",), plane, order)


def test_a_robot_has_the_tokenizer_of_its_machine(monkeypatch):
    def rig(*given, circumstances, **more):
        raise ConfigError(f"its tokenizer is {circumstances.tokenizer}")

    monkeypatch.setattr("lwd.fleet.drive.rig", rig)
    order = Order(kind="rollout", upload=False, tokenizer="here.model")
    with pytest.raises(ConfigError, match=r"its tokenizer is here\.model"):
        drive(FLEET, ["b"], PlaneConfig(), order, threading.Event())


def test_a_robot_that_is_not_in_the_fleet_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"robot 'c' is unknown\. Known: a, b"):
        drive(FLEET, ["c"], PlaneConfig(root=tmp_path), Order(), threading.Event())
