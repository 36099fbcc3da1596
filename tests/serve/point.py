"""A policy for tests that counts its batches, and robots that talk to its server."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import websockets.sync.client

from lwd.config import ControlConfig
from lwd.serve.batch import Asked
from lwd.serve.wire import pack, unpack

CONTROL = ControlConfig(rate_hz=10.0, horizon=5, timestep_s=0.1)
STATE = 4
ACTION = 2


class GoalPolicy:
    """Every action is the state's second half, the goal; a batch of any size costs `cost_s`."""

    normalisation_hash = "a" * 64
    tokenizer_hash = "b" * 64

    def __init__(self, version: int = 1, *, cost_s: float = 0.0) -> None:
        self.version = version
        self.cost_s = cost_s
        self.batches: list[int] = []
        self.instructions: list[str] = []
        self.threads: set[str] = set()
        self.hold = threading.Event()
        """Cleared, inference waits."""
        self.hold.set()

    def chunks(self, asked: Sequence[Asked]) -> np.ndarray:
        self.batches.append(len(asked))
        self.threads.add(threading.current_thread().name)
        self.instructions += [one.instruction for one in asked]
        assert self.hold.wait(10)
        time.sleep(self.cost_s)
        if any(one.instruction == "fail" for one in asked):
            raise RuntimeError("this one fails")
        chunks = np.stack([np.tile(one.observation.state[2:], (5, 1)) for one in asked])
        broken = [one.instruction == "break" for one in asked]
        chunks[broken] = np.nan
        return chunks.astype(np.float32)


class Robot:
    """A robot that speaks the protocol, no more."""

    def __init__(self, url: str, *, key: str = "") -> None:
        headers = {"Authorization": f"Api-Key {key}"} if key else None
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(
            websockets.sync.client.connect(
                url, compression=None, max_size=None, additional_headers=headers
            )
        )
        self.metadata = unpack(self.socket.recv())

    def ask(self, state=(0, 0, 1, 1), prompt: str = "go there", **own) -> dict:
        """The server's answer; AssertionError with the text of an error."""
        self.send(state, prompt, **own)
        return self.answer()

    def send(self, state=(0, 0, 1, 1), prompt: str = "go there", **own) -> None:
        message = {"observation/state": np.array(state, np.float32), "prompt": prompt}
        self.socket.send(pack(message | {f"lwd/{key}": value for key, value in own.items()}))

    def answer(self) -> dict:
        reply = self.socket.recv(timeout=10)
        if isinstance(reply, str):
            raise AssertionError(reply)
        return unpack(reply)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> "Robot":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
