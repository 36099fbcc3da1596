"""The controller of an arm that is not there, behind a TCP port, as slow as a real one.

Six joints follow their targets at a limited speed. An answer takes 2 to 12 ms, a picture 15 ms
more. Like any arm that people trust, it halts by itself when nobody has spoken to it for a while.
One JSON object a line goes each way: {"do": "observe" | "move" | "reset" | "stop", ...}.
"""

import base64
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

JOINTS = 6
SPEED = 1.5
"""rad/s of every joint."""
DELAY_S = (0.002, 0.012)
PICTURE_S = 0.015
SILENCE_S = 1.0
"""Without a word for so long the arm halts."""
HEIGHT, WIDTH = 24, 32


class Arm:
    """Joints that move by themselves, as time goes by."""

    def __init__(self) -> None:
        self.halts = 0
        """Times that the arm halted because nobody spoke to it."""
        self._rng = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._joints = self._target = np.zeros(JOINTS)
        self._goal = np.ones(JOINTS)
        self._moved = self._heard = time.monotonic()

    def answer(self, asked: dict) -> dict:
        """What the arm says to a request, after its delay."""
        time.sleep(self._rng.uniform(*DELAY_S))
        with self._lock:
            self._move()
            self._heard = time.monotonic()
            if asked["do"] == "reset":
                self._joints = self._target = np.zeros(JOINTS)
                self._goal = np.random.default_rng(asked["seed"]).uniform(0.7, 0.95, JOINTS)
            elif asked["do"] == "move":
                self._target = np.clip(asked["target"], -3.0, 3.0)
            elif asked["do"] == "stop":
                self._target = self._joints
            said = {"joints": self._joints.tolist(), "goal": self._goal.tolist()}
        if asked.get("picture"):
            time.sleep(PICTURE_S)
            said["picture"] = base64.b64encode(self._picture()).decode()
        return said

    def _move(self) -> None:
        """Where the joints are now; nobody speaks to the arm less than once in `SILENCE_S`."""
        now = time.monotonic()
        until = min(now, self._heard + SILENCE_S)
        reach = SPEED * max(0.0, until - self._moved)
        self._joints = self._joints + np.clip(self._target - self._joints, -reach, reach)
        if now > until and not np.array_equal(self._joints, self._target):
            self.halts += 1
            self._target = self._joints
        self._moved = now

    def _picture(self) -> bytes:
        """A bar for every joint."""
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for joint, angle in enumerate(self._joints):
            picture[: int(HEIGHT * np.clip(angle, 0, 1)), joint * 5 : joint * 5 + 4] = 200
        return picture.tobytes()


@contextmanager
def fake_arm() -> Iterator[tuple[Arm, tuple[str, int]]]:
    """A controller that listens on a free port of this machine; the arm and its address."""
    arm = Arm()

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(json.dumps(arm.answer(json.loads(line))).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Talk) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield arm, ("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
