"""Which policy the robots of a server act with: one for ever, or the newest that the fleet has.

A newer version is downloaded, verified, built and warmed up beside the current one. A robot gets it
with its next episode; until then it keeps the one that it began with.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from lwd.actor.policy import Build, Policy, PolicyStore
from lwd.actor.robot import Observation
from lwd.config import ControlConfig
from lwd.errors import IntegrityError, LwdError, ServiceError
from lwd.models.inputs.format import InputFormat
from lwd.serve.batch import Asked, BatchPolicy
from lwd.store.rows import LoadRow
from lwd.store.weights import Metadata, Tensors

log = logging.getLogger(__name__)


@runtime_checkable
class Policies(Protocol):
    """Hands out policies at the start of episodes."""

    def current(self) -> BatchPolicy:
        """What an episode that starts now acts with; ServiceError while there is nothing good."""
        ...

    def adopted(self, robot: str, version: int) -> None:
        """A robot's episode has begun with a version."""
        ...

    def withdraw(self, policy: BatchPolicy, reason: str) -> None:
        """A policy misbehaved: give it to nobody any more."""
        ...


class OnePolicy:
    """The same policy for ever; good for a checkpoint that nobody trains on."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._bad = ""

    def current(self) -> BatchPolicy:
        """The policy, unless it was withdrawn (ServiceError)."""
        if self._bad:
            raise ServiceError(f"the server's only policy was withdrawn: {self._bad}")
        return self._policy

    def adopted(self, robot: str, version: int) -> None:
        """Nobody wants to know."""

    def withdraw(self, policy: BatchPolicy, reason: str) -> None:
        """Serve it no more."""
        self._bad = reason


class Following:
    """The newest good version of the fleet's; use as a context manager.

    `store` builds `BatchPolicy` objects, warm. One thread takes over what it has verified, another
    reports who acts with what.
    """

    def __init__(
        self,
        store: PolicyStore,
        report: Callable[[LoadRow], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._report, self._clock = store, report, clock
        self._loads: queue.SimpleQueue[LoadRow | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: BatchPolicy | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._follow, name="follow", daemon=True),
            threading.Thread(target=self._tell, name="adoptions", daemon=True),
        ]

    def __enter__(self) -> "Following":
        self._store.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._loads.put(None)
        for thread in self._threads:
            thread.join(2.0)
        self._store.close()

    def ready(self, stop: threading.Event, poll_s: float = 0.05) -> bool:
        """Wait for the first good policy; False if `stop` came first."""
        while self._current is None and self._failure is None and not stop.wait(poll_s):
            pass
        return self._current is not None and not stop.is_set()

    def current(self) -> BatchPolicy:
        """The newest good policy."""
        if self._failure is not None:
            raise ServiceError("the thread that follows the weights has died") from self._failure
        if self._current is None:
            raise ServiceError("no version of the weights is good; see the server's log.")
        return self._current

    def adopted(self, robot: str, version: int) -> None:
        """Told to the fleet's service by another thread."""
        self._loads.put(LoadRow(robot=robot, version=version, loaded_at=self._clock()))

    def withdraw(self, policy: BatchPolicy, reason: str) -> None:
        """Back to the version before, unless somebody was faster."""
        with self._lock:
            if policy is self._current:
                self._store.withdraw(reason)
                self._take()

    def _take(self) -> None:
        taken = self._store.swap()
        assert taken is None or isinstance(taken, BatchPolicy)
        self._current = taken

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                self._store.wait(0.2)
                with self._lock:
                    self._take()
        except LwdError as error:
            self._failure = error

    def _tell(self) -> None:
        while (row := self._loads.get()) is not None:
            try:
                self._report(row)
            except LwdError as error:
                log.warning("load not reported robot=%s reason=%s", row.robot, error)


@runtime_checkable
class _Together(Protocol):
    """What `lwd.models.artifact.FlowPolicy` has besides a robot's own interface."""

    def chunks(
        self,
        observations: Sequence[Observation],
        instructions: Sequence[str],
        rngs: Sequence[np.random.Generator],
    ) -> np.ndarray: ...


class Padded:
    """A policy whose batches have a few sizes only, 1, 2, 4, … up to `most`: each is compiled once.

    What is added to fill a batch is computed and thrown away.
    """

    def __init__(self, policy: Policy, most: int) -> None:
        """ValueError if the policy cannot choose for several robots at once."""
        if not isinstance(policy, _Together):
            raise ValueError(f"{type(policy).__name__} has no `chunks` for several robots at once.")
        self._policy, self._most = policy, most
        self.version = policy.version
        self.normalisation_hash = policy.normalisation_hash
        self.tokenizer_hash = policy.tokenizer_hash

    def reset(self, seed: int) -> None:
        """Start an episode of a robot of one's own."""
        self._policy.reset(seed)

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, action] absolute targets for a robot of one's own."""
        return self._policy.chunk(observation, instruction)

    def chunks(self, asked: Sequence[Asked]) -> np.ndarray:
        """[robots, horizon, action] absolute targets."""
        parts = [self._chunks(asked[i : i + self._most]) for i in range(0, len(asked), self._most)]
        return np.concatenate(parts)

    def warm(self, observation: Observation, instruction: str) -> None:
        """Compute a batch of every size, so that no robot waits for a compiler."""
        size = 1
        while size <= self._most:
            rng = np.random.default_rng(0)
            one = Asked(observation=observation, instruction=instruction, rng=rng)
            self._chunks([one] * size)
            size *= 2

    def _chunks(self, asked: Sequence[Asked]) -> np.ndarray:
        size = 1 << (len(asked) - 1).bit_length()
        idle = np.random.default_rng(0)
        more = [asked[-1]] * (size - len(asked))
        every = [*asked, *more]
        chunks = self._policy.chunks(
            [one.observation for one in every],
            [one.instruction for one in every],
            [*(one.rng for one in asked), *(idle for _ in more)],
        )
        return np.asarray(chunks)[: len(asked)]


def flows(control: ControlConfig, tokenizer: str = "") -> Build:
    """Builds what acts with the fleet's weights; `tokenizer` as for `lwd.models.artifact.unpack`.

    JAX is loaded with the first weights: who only demonstrates needs none.
    """

    def build(tensors: Tensors, metadata: Metadata, version: int) -> Policy:
        from lwd.models.artifact import FlowPolicy

        return FlowPolicy(tensors, metadata, version, control=control, tokenizer=tokenizer)

    return build


class Alike:
    """Builds what acts on robots that are all alike, those that the first weights were trained for:
    their control rate, chunks and cameras. Weights for others are refused."""

    def __init__(self, build: Callable[[ControlConfig], Build]) -> None:
        self._build = build
        self.control: ControlConfig | None = None
        """Of the robots; None before the first weights."""
        self.inputs: InputFormat | None = None
        """What a policy that sees is given."""

    def __call__(self, tensors: Tensors, metadata: Metadata, version: int) -> Policy:
        """IntegrityError if these weights are for other robots."""
        from lwd.models.artifact import control_of

        control = control_of(metadata)
        inputs = InputFormat.from_json(metadata["inputs"]) if "inputs" in metadata else None
        theirs, ours = _robots(control, inputs), self.control and _robots(self.control, self.inputs)
        if ours not in (None, theirs):
            raise IntegrityError(
                f"weights are for robots with {theirs}; those of this server have {ours}. Serve "
                "them from a server of another --name."
            )
        policy = self._build(control)(tensors, metadata, version)
        self.control, self.inputs = control, inputs
        return policy


def _robots(control: ControlConfig, inputs: InputFormat | None) -> str:
    cameras = [f"{robot} for {model}" for model, robot in inputs.cameras if robot] if inputs else []
    seen = f"cameras {', '.join(cameras)}" if cameras else "no camera"
    return f"{control.rate_hz} Hz, chunks of {control.horizon} ticks and {seen}"


def served(build: Build, most: int, sample: Callable[[Tensors, Metadata], Asked]) -> Build:
    """Builds policies that are ready to serve: batches of up to `most`, all sizes compiled.

    `sample` makes the request that a policy is warmed up with.
    """

    def warm(tensors: Tensors, metadata: Metadata, version: int) -> Policy:
        started = time.monotonic()
        padded = Padded(build(tensors, metadata, version), most)
        one = sample(tensors, metadata)
        padded.warm(one.observation, one.instruction)
        log.info("warm version=%d seconds=%.1f", version, time.monotonic() - started)
        return padded

    return warm
