"""Take over from a page in a browser, on this machine or through a tunnel to it.

GET  /        the page: buttons, and keys while it has the focus
POST /press   {"press": "take over"}, one of `lwd.actor.attended.Press`
POST /push    {"dimension": 2, "by": 0.03}, in the unit of the action's dimension

Listens on the loopback only. Requests of other sites' pages are refused: they can send no JSON here
without this server's leave, which it never gives.
"""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np

from lwd.actor.attended import Press
from lwd.actor.devices.fed import FedDevice
from lwd.actor.robot import Robot
from lwd.errors import ConfigError, ServiceError
from lwd.store.process import LOOPBACK

log = logging.getLogger(__name__)

PORT = 8765
MAX_BODY_BYTES = 1000
LARGEST_PUSH = 0.2
"""Of one request, in the dimension's unit (rad, m)."""
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Take over</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px sans-serif; margin: 2em; max-width: 40em }
button { font: inherit; padding: .6em 1em; margin: .2em }
</style>
<h1>Take over NAME</h1>
<p>BUTTONS</p>
<p><label>Dimension <input id="dimension" type="number" min="0" max="LAST" value="0"></label>
<button onclick="push(-1)">&minus; (arrow down)</button>
<button onclick="push(1)">+ (arrow up)</button></p>
<p>Keys: t takes over, h hands back, space pauses, left and right choose the dimension.</p>
<p id="said" role="status"></p>
<script>
const said = document.getElementById("said"), dimension = document.getElementById("dimension");
async function send(path, body) {
  const answer = await fetch(path, {method: "POST", body: JSON.stringify(body),
    headers: {"Content-Type": "application/json"}});
  said.textContent = (await answer.json()).said;
}
const press = name => send("press", {press: name});
const push = sign => send("push", {dimension: +dimension.value, by: sign * 0.03});
const choose = by => dimension.value = Math.min(LAST, Math.max(0, +dimension.value + by));
const keys = {t: () => press("take over"), h: () => press("hand back"), " ": () => press("pause"),
  ArrowUp: () => push(1), ArrowDown: () => push(-1),
  ArrowLeft: () => choose(-1), ArrowRight: () => choose(1)};
document.addEventListener("keydown", event => {
  if (keys[event.key] && event.target.tagName !== "BUTTON") {
    event.preventDefault(); keys[event.key]();
  }
});
</script></html>
"""


class WebDevice(FedDevice):
    """A `FedDevice` that a page feeds."""

    def __init__(self, robot_id: str, actions: int, port: int) -> None:
        """Port 0 takes any; ServiceError if it is taken."""
        super().__init__()
        self._robot_id, self._actions = robot_id, actions
        device = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                device._get(self)

            def do_POST(self) -> None:
                device._post(self)

            def log_message(self, format: str, *values: object) -> None:
                log.debug("page %s", format % values)

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise ServiceError(
                f"The page cannot listen on 127.0.0.1:{port}: {error.strerror}. "
                "Choose another port: --device web:PORT."
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        log.info("take over robot=%s url=%s", robot_id, self.url)

    def close(self) -> None:
        """Close the page."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        buttons = "".join(f"<button onclick=\"press('{p}')\">{p}</button>" for p in Press)
        page = PAGE.replace("NAME", self._robot_id).replace("BUTTONS", buttons)
        body = page.replace("LAST", str(self._actions - 1)).encode()
        found = request.path == "/"
        _answer(request, 200 if found else 404, body if found else b"", "text/html; charset=utf-8")

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        try:
            said, status = self._done(request.path, _body(request)), 200
        except (ValueError, KeyError, TypeError) as error:
            said, status = f"not understood: {error}", 422
        _answer(request, status, json.dumps({"said": said}).encode(), "application/json")

    def _done(self, path: str, body: dict) -> str:
        """Do what the page asks; ValueError, KeyError and TypeError say why not."""
        if path == "/press":
            self.press(Press(body["press"]))
            return str(body["press"])
        if path != "/push":
            raise ValueError(f"there is no {path:.80}")
        dimension, by = int(body["dimension"]), float(body["by"])
        if not (0 <= dimension < self._actions and abs(by) <= LARGEST_PUSH):
            raise ValueError(
                f"dimension {dimension} by {by}; there are {self._actions}, by {LARGEST_PUSH:g}"
            )
        motion = np.zeros(self._actions, np.float32)
        motion[dimension] = by
        self.push(motion)
        return f"dimension {dimension} by {by:+.3f}"


def web(robot: Robot, where: str) -> WebDevice:
    """Plugin: `where` is the port. ConfigError if it is none."""
    if where and not where.isdigit():
        raise ConfigError(f"web:{where} is not usable; give a port, web:{PORT}.")
    actions = len(getattr(robot, "target", np.zeros(16)))
    return WebDevice(robot.robot_id, actions, int(where or PORT))


def _body(request: BaseHTTPRequestHandler) -> dict:
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    if host not in LOOPBACK:  # a name that somebody has pointed here
        raise ValueError(f"host {host!r}")
    length = int(request.headers.get("Content-Length", "0"))
    if length > MAX_BODY_BYTES:
        raise ValueError(f"{length} bytes; at most {MAX_BODY_BYTES}")
    body = request.rfile.read(length)
    # A page of another site can send forms and plain text here, but no JSON.
    if request.headers.get_content_type() != "application/json":
        raise ValueError("send application/json")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("send an object")
    return found


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
