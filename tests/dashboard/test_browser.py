"""The page in a real browser: Debian's chromium, driven by selenium."""

import json
from collections.abc import Iterator
from importlib import import_module

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from actor.point import PointRobot
from dashboard.conftest import CHROMIUM, DRIVER, Fleet, make_fleet, served
from dashboard.driven import running, service
from lwd.config import PlaneConfig
from lwd.store.access import issue

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no chromium here: apt-get install chromium chromium-driver",
    ),
]
VIEWS = ("fleet", "learning", "episodes", "policies", "record")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}

CONTRAST = """
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const over = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return canvas.getImageData(0, 0, 1, 1).data;
};
const behind = (e) => e ? [...behind(e.parentElement), getComputedStyle(e).backgroundColor] : [];
const found = [];
for (const e of document.querySelectorAll("body *")) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3 && n.textContent.trim());
  if (!text.length || !e.checkVisibility() || e.closest(".hidden-words, .skip, option")) continue;
  const ground = behind(e), style = getComputedStyle(e);
  const [a, b] = [light(over(ground)), light(over([...ground, style.color]))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push(`${e.tagName} ${text[0].textContent.trim()}: ${ratio.toFixed(2)}`);
}
return found;
"""
PIXEL = """
return document.querySelector("canvas").getContext("2d").getImageData(4, 4, 1, 1).data[0];
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser: webdriver.Chrome) -> Iterator["Page"]:
    fleet = make_fleet(tmp_path_factory.mktemp("fleet"))
    line = {"time": 1.0, "stage": "sft", "update": 10, "value/tau": 0.6, "value/entropy": 0.5}
    (fleet.plane.root / "learner.jsonl").write_text(json.dumps(line) + "\n")
    with served(fleet.plane) as url:
        yield Page(browser, url, fleet)
        browser.get("about:blank")
    fleet.rest.catalog.close()


class Page:
    """What a person does with the page."""

    def __init__(self, driver: webdriver.Chrome, url: str, fleet: Fleet) -> None:
        self.driver, self.url, self.fleet = driver, url, fleet

    def open(self, view: str, shape: dict | None = None) -> None:
        """Load the page at a view; on a desk unless it is told otherwise."""
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape or DESK)
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/#/{view}")
        self.wait(lambda: self.find("#connection.live"), "the stream")

    def find(self, selector: str) -> list[WebElement]:
        """Elements that a person sees."""
        return [e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]

    def wait(self, condition, what: str):
        """What the condition gives, as soon as it is true."""
        # What the page has just drawn anew is looked for again.
        wait = WebDriverWait(self.driver, 20, 0.05, (StaleElementReferenceException,))
        return wait.until(lambda _: condition(), f"waited for {what}")

    def text(self) -> str:
        """All words that are visible."""
        return self.driver.find_element(By.TAG_NAME, "main").text

    def says(self, words: str) -> None:
        """Wait until the page shows words."""
        self.wait(lambda: words in self.text(), words)

    def press(self, label: str) -> None:
        """Press the button with this name."""
        found = self.wait(
            lambda: [
                b for b in self.find("button") if label in (b.text, b.get_attribute("aria-label"))
            ],
            f"the button {label}",
        )
        middle = "arguments[0].scrollIntoView({block: 'center'})"
        self.driver.execute_script(middle, found[-1])
        found[-1].click()

    def fill(self, name: str, words: str) -> None:
        """Type into a field of the dialog."""
        field = self.find(f"dialog [name={name}]")[0]
        field.clear()
        field.send_keys(words)

    def fits_a_phone(self) -> None:
        """Nothing is wider, everything has a name, and both colours can be read."""
        width = self.driver.execute_script("return document.documentElement.scrollWidth")
        assert width == PHONE["width"]
        assert self.unnamed() == []
        for _ in ("one", "the other"):
            assert self.driver.execute_script(CONTRAST) == []
            self.find("#theme")[0].click()

    def unnamed(self) -> list[str]:
        """Controls and pictures without a name for a screen reader."""
        roles = {"button", "link", "textbox", "searchbox", "combobox", "slider", "checkbox"}
        roles |= {"image", "img", "listbox", "region", "navigation", "dialog"}
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [
            json.dumps(node["role"])
            for node in tree
            if not node["ignored"]
            and node.get("role", {}).get("value") in roles
            and not node.get("name", {}).get("value")
        ]


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone_and_is_readable_and_named(page: Page, view: str):
    page.open(view, PHONE)
    page.wait(lambda: "Loading" not in page.text(), "the data")
    page.fits_a_phone()


def test_what_happens_shows_without_a_reload(page: Page):
    page.open("fleet")
    page.says("robot-3")
    assert "robot-new" not in page.text()
    page.fleet.record(80, robot="robot-new", task="pouring")
    page.says("robot-new")
    page.find("input[type=search]")[0].send_keys("pouring")
    rows = page.find("#robot-table tbody tr")
    assert [row.text.split()[0] for row in rows] == ["robot-new"]


def test_charts_say_in_words_what_they_show(page: Page):
    page.open("learning")
    page.says("Quantile level")
    labels = [e.get_attribute("aria-label") for e in page.find(".plot")]
    assert any("freezer" in label and "episodes succeeded" in label for label in labels)
    assert any("τ: 1 values from 0.6 to 0.6" in label for label in labels)
    page.wait(lambda: page.find(".plot canvas"), "a chart")
    page.find(".chart summary")[0].click()
    page.wait(lambda: page.find(".chart details table"), "its numbers")


def test_an_episode_is_played_and_taken_out_and_that_is_on_record(page: Page):
    row = page.fleet.record(81, robot="robot-1", outcome="success", task="pouring")
    page.open(f"episode/{row.episode_id}")
    page.says("person acted")
    page.says("75 %, steps 1, 0.5")
    slider = page.wait(lambda: page.find("input[type=range]"), "the slider")[0]
    slider.send_keys(Keys.ARROW_RIGHT * 12)
    image = page.find(".frames img")[0]
    page.wait(lambda: image.get_attribute("src").endswith("/frames/head/10"), "the frame")
    page.wait(lambda: image.get_property("naturalWidth") == 32, "its picture")
    assert "1.2 s" in slider.get_attribute("aria-valuetext")
    page.says("There is no checkpoint")
    page.press("Take out …")
    assert page.driver.switch_to.active_element.find_elements(By.XPATH, "ancestor::dialog")
    page.fill("author", "ana")
    page.press("Take it out")  # without a reason the browser does not send it
    assert page.fleet.rest.catalog.amendments(row.episode_id) == []
    page.fill("reason", "the camera was covered")
    page.press("Take it out")
    page.wait(lambda: not page.find("dialog"), "the end of the dialog")
    page.says("tombstone")
    (entry,) = page.fleet.rest.catalog.amendments(row.episode_id)
    assert (entry.change, entry.author) == ("tombstone", "ana")
    page.open("record")
    page.says("the camera was covered")


def test_a_roll_back_needs_no_mouse(page: Page):
    page.fleet.publish()
    page.open("policies")
    page.says("v2")
    keys = ActionChains(page.driver)
    body = page.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    for _ in range(40):
        name = page.driver.switch_to.active_element.get_attribute("aria-label") or ""
        if name.startswith("Roll back to version 1"):
            break
        keys.send_keys(Keys.TAB).perform()
    keys.send_keys(Keys.ENTER).perform()
    page.wait(lambda: page.find("dialog[open]"), "the dialog")
    page.fill("author", "ana")
    page.fill("reason", "it drops cans")
    page.driver.switch_to.active_element.send_keys(Keys.TAB, Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.says("A roll-back holds")
    newest = page.fleet.rest.catalog.latest_weights()
    assert newest is not None
    assert newest.note == "rolled back to 1 by ana: it drops cans"


def test_nothing_comes_from_elsewhere_and_nothing_is_refused(page: Page):
    page.driver.get_log("browser")
    for view in VIEWS:
        page.open(view)
        names = page.driver.execute_script(
            "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        )
        assert len(names) > 10
        assert [name for name in names if not name.startswith(page.url)] == []
    assert [e["message"] for e in page.driver.get_log("browser") if e["level"] == "SEVERE"] == []


def test_who_may_only_look_gets_no_buttons(page: Page, tmp_path):
    token = issue(tmp_path / "tokens.json", "guest", ("read",))
    plane = PlaneConfig(
        root=page.fleet.plane.root,
        tokens=tmp_path / "tokens.json",
        service_url=page.fleet.plane.service_url,
    )
    with served(plane) as url:
        guest = Page(page.driver, url, page.fleet)
        guest.driver.get(f"{url}/#/policies")
        guest.wait(lambda: guest.find("dialog[open]"), "the dialog")
        guest.fill("token", "a guess")
        guest.find("dialog button.main")[0].click()
        guest.wait(lambda: "No valid token" in guest.find("dialog")[0].text, "the refusal")
        guest.fill("token", token)
        guest.find("dialog button.main")[0].click()
        guest.says("v1")
        assert not [b for b in guest.find("main button") if "Promote" in b.text]
        guest.driver.get("about:blank")


def typed(page: Page, *keys: str) -> None:
    """Press keys while the focus is in the robot's frame."""
    page.driver.execute_script("document.querySelector('.drive').focus()")
    for key in keys:
        ActionChains(page.driver).send_keys(key).perform()


def test_a_person_takes_over_moves_hands_back_and_that_is_in_the_catalog(
    page: Page, monkeypatch: pytest.MonkeyPatch
):
    # Of a machine that is too slow to hear a person once a second the robot's own tests tell.
    monkeypatch.setattr(import_module("lwd.actor.devices.page"), "SILENCE_S", 60.0)
    robot = PointRobot("arm-1", tick_s=0.02, camera=True, time_limit_s=600.0)
    catalog = page.fleet.rest.catalog
    with service(page.fleet), running(page.fleet.plane, robot):
        page.open("robot/arm-1", PHONE)
        page.says("The policy acts.")
        page.wait(lambda: page.driver.execute_script(PIXEL), "the camera's picture")
        page.fits_a_phone()
        page.find("[name=author]")[0].send_keys(Keys.CONTROL + "a" + Keys.NULL + "ana")
        typed(page, "t")
        page.says("A person acts; what is recorded counts as a person's. You have it.")
        ActionChains(page.driver).key_down(Keys.ARROW_UP).perform()
        page.wait(lambda: robot.observe().state[0] > 0.05, "the arm to move")
        ActionChains(page.driver).key_up(Keys.ARROW_UP).perform()
        typed(page, "2")
        step = page.wait(lambda: page.find("[aria-label^='dimension 2 −']"), "its button")[0]
        step.send_keys(Keys.ENTER)
        page.wait(lambda: robot.observe().state[1] < -0.02, "the other dimension to move")
        ben = {"robot": "arm-1", "seat": "another", "press": "take over", "author": "ben"}
        refused = httpx.post(f"{page.url}/api/seat", json=ben)
        assert (refused.status_code, "in the hands of ana" in refused.text) == (409, True)
        page.open("robot/arm-1")  # whoever leaves the page does not drive
        page.says("Paused")
        typed(page, "t")
        page.says("You have it.")
        typed(page, "h")
        page.says("The policy acts.")
        typed(page, " ")
        page.says("Paused")
        typed(page, "y")
        (row,) = page.wait(lambda: catalog.newest_episodes(1, robot="arm-1"), "the episode")
    assert (row.outcome, 0 < row.interventions < row.ticks) == ("success", True)
    ticks = httpx.get(f"{page.url}/api/episodes/{row.episode_id}/ticks").json()
    assert ticks["source"].count(1) == row.interventions
    named = [name for _, name in ticks["events"] if name != "moved"]
    assert named[:4] == ["mode:correcting", "by:ana", "mode:paused", "by:ana"]
    assert "verdict:success" in named
    page.open("record")
    page.says("take over told to arm-1 by ana")


def test_news_do_not_take_the_focus(page: Page):
    page.open("policies")
    page.says("v1")
    name = "Canary version 1 …"
    script = "document.querySelector(`[aria-label='${arguments[0]}']`).focus()"
    page.driver.execute_script(script, name)
    version = page.fleet.publish(("robot-2",))
    page.says(f"v{version}")
    assert page.driver.switch_to.active_element.get_attribute("aria-label") == name
