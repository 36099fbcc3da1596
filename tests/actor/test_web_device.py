"""The page that a person takes over from."""

from collections.abc import Iterator
from urllib.parse import urlparse

import httpx
import numpy as np
import pytest

from actor.point import PointRobot
from lwd.actor.attended import AttendedRobot, Mode, Press
from lwd.actor.devices.web import WebDevice, web
from lwd.errors import ConfigError, ServiceError


@pytest.fixture
def page() -> Iterator[WebDevice]:
    device = WebDevice("arm-1", 2, 0)
    yield device
    device.close()


def post(page: WebDevice, path: str, body: object) -> httpx.Response:
    return httpx.post(page.url + path, json=body)


def test_the_page_has_a_button_for_everything_that_can_be_pressed(page):
    shown = httpx.get(page.url)
    assert shown.status_code == 200
    assert "Take over arm-1" in shown.text
    assert all(f"press('{press}')" in shown.text for press in Press)
    assert httpx.get(page.url + "/other").status_code == 404


def test_what_is_pressed_and_pushed_reaches_the_robot(page):
    robot = AttendedRobot(PointRobot(), page, (0, 1))
    robot.reset(1)
    assert post(page, "/press", {"press": "take over"}).json() == {"said": "take over"}
    assert robot.wants_control(None)
    assert robot.mode is Mode.CORRECTING
    for _ in range(2):
        post(page, "/push", {"dimension": 1, "by": 0.03})
    assert np.allclose(robot.act(), [0, 0.06])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/press", {"press": "dance"}),
        ("/press", {}),
        ("/press", ["take over"]),
        ("/push", {"dimension": 2, "by": 0.01}),
        ("/push", {"dimension": -1, "by": 0.01}),
        ("/push", {"dimension": 0, "by": 5.0}),
        ("/push", {"dimension": 0, "by": "nan"}),
        ("/push", {"dimension": "x" * 2000, "by": 0.01}),
        ("/other", {}),
    ],
)
def test_what_makes_no_sense_moves_nothing(page, path, body):
    answer = post(page, path, body)
    assert (answer.status_code, "not understood" in answer.json()["said"]) == (422, True)
    assert page.presses() == []
    assert np.array_equal(page.move(np.ones(2, np.float32)), [1, 1])


def test_a_page_of_another_site_can_press_nothing(page):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = httpx.post(
            page.url + "/press", content='{"press": "stop"}', headers={"Content-Type": kind}
        )
        assert answer.status_code == 422
    rebound = {"Host": "evil.example:8765"}
    assert (
        httpx.post(page.url + "/press", json={"press": "stop"}, headers=rebound).status_code == 422
    )
    assert httpx.options(page.url + "/press").status_code == 501
    assert page.presses() == []


def test_a_port_that_is_taken_or_none_is_named(page):
    port = urlparse(page.url).port
    with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1:{port}"):
        web(PointRobot(), str(port))
    with pytest.raises(ConfigError, match="web:abc is not usable"):
        web(PointRobot(), "abc")
