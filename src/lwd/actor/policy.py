"""The policy a robot acts with, and the thread that fetches a newer one while it acts.

A newer version is downloaded, verified and built beside the current one; the control loop takes it
over only at an episode boundary. Whatever is wrong with it, the robot keeps the last good policy.
"""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lwd.actor.robot import Observation
from lwd.errors import LwdError, ServiceError
from lwd.store.backoff import Backoff
from lwd.store.disk import written_aside
from lwd.store.rows import LoadRow, WeightsRow
from lwd.store.weights import Metadata, Shapes, Tensors, check_shapes

log = logging.getLogger(__name__)

EXTRA = "extra/"
"""Names of tensors that one way of acting needs; a version that acts differently has others."""


@runtime_checkable
class Policy(Protocol):
    """Chooses chunks of actions."""

    @property
    def version(self) -> int:
        """Version of its weights, at least 1; 0 where a server does not say."""
        ...

    @property
    def normalisation_hash(self) -> str:
        """sha256 of the statistics it normalises with; empty where that is not known."""
        ...

    @property
    def tokenizer_hash(self) -> str:
        """sha256 of its tokenizer; empty where that is not known."""
        ...

    def reset(self, seed: int) -> None:
        """Start an episode; all randomness of the episode comes from `seed`."""
        ...

    def chunk(self, observation: Observation, instruction: str) -> np.ndarray:
        """[horizon, action] absolute targets in the robot's units for the ticks that follow."""
        ...


Build = Callable[[Tensors, Metadata, int], Policy]
"""Makes a policy of tensors, metadata and version; raises LwdError or ValueError if they differ
from what the code expects."""

Download = Callable[[WeightsRow], tuple[Tensors, Metadata]]
"""Fetches and verifies one version, for example `lwd.store.weights.fetch` with a folder."""


@runtime_checkable
class Fleet(Protocol):
    """What a robot needs of the metadata service; `lwd.store.client.ServiceClient` has it."""

    def latest_weights(self, after: int, wait_s: float) -> WeightsRow | None: ...

    def report_load(self, row: LoadRow) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Polling:
    """How patient the thread that looks for newer weights is."""

    wait_s: float = 10.0
    """Long poll: the service answers at once when there is something newer."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, limit_s=15.0))
    """Pauses after failures in a row."""
    attempts: int = 3
    """Downloads of a version that do not verify before it is given up."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A policy with what it was made of."""

    policy: Policy
    row: WeightsRow
    shapes: Shapes


class PolicyStore:
    """Holds the current policy and a newer candidate; `swap` is the only place they change hands.

    Two threads: one looks for weights, one reports what was loaded. Use as a context manager.
    """

    def __init__(
        self,
        robot: str,
        fleet: Fleet,
        download: Download,
        build: Build,
        *,
        polling: Polling | None = None,
        memory: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`memory` is a file that names the last good version: a robot that restarts while the
        service is away acts with it, if `download` still has the artifact."""
        self.rejected: dict[int, str] = {}
        """Versions that will not be used, with the reason."""
        self._robot, self._fleet = robot, fleet
        self._download, self._build = download, build
        self._polling, self._clock = polling or Polling(), clock
        self._memory = memory
        self._current: Loaded | None = None
        self._previous: Loaded | None = None
        self._candidate: Loaded | None = None
        self._judged = 0
        self._unreported: list[LoadRow] = []
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._thread, args=(step,), name=name, daemon=True)
            for name, step in (("weights", self._look), ("loads", self._report))
        ]

    def start(self) -> None:
        """Look at the last good version, then start to look for newer ones."""
        self._recall()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop looking and send the last reports; a long poll under way may end by itself."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(1.0)
        try:
            self._report()
        except LwdError as error:
            log.warning("loads not reported robot=%s reason=%s", self._robot, error)

    def __enter__(self) -> "PolicyStore":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until a verified newer policy is there for `swap`; False when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._candidate or self._failure, timeout_s)
            return self._candidate is not None

    def swap(self) -> Policy | None:
        """Call between episodes only: the newest good policy, None while there was none yet."""
        if self._failure is not None:
            raise ServiceError("the thread that follows the weights has died") from self._failure
        with self._changed:
            if self._candidate is not None:
                self._previous, self._current = self._current, self._candidate
                self._candidate = None
                self._take(self._current)
            return self._current.policy if self._current else None

    def withdraw(self, reason: str) -> None:
        """Give up the current policy, which misbehaved, for the one before it."""
        with self._changed:
            if self._current is None:
                return
            bad, self._current, self._previous = self._current, self._previous, None
            self._reject(bad.row.version, reason)
            if self._current is not None:
                self._take(self._current)

    @property
    def in_use(self) -> frozenset[str]:
        """Hashes of the artifacts that this robot acts with or may still turn to."""
        with self._changed:
            held = (self._current, self._previous, self._candidate)
            return frozenset(loaded.row.sha256 for loaded in held if loaded)

    def _take(self, loaded: Loaded) -> None:
        version = loaded.row.version
        log.info("weights loaded robot=%s version=%d", self._robot, version)
        self._unreported.append(
            LoadRow(robot=self._robot, version=version, loaded_at=self._clock())
        )
        self._changed.notify_all()
        if self._memory is not None:
            with written_aside(self._memory) as file:
                file.write(json.dumps(asdict(loaded.row)).encode())

    def _recall(self) -> None:
        """Make the last good version the first candidate; whatever is wrong, start without."""
        if self._memory is None or not self._memory.exists():
            return
        try:
            row = WeightsRow(**json.loads(self._memory.read_bytes()))
            self._candidate = self._built(row)
        except (LwdError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("last good weights not usable robot=%s reason=%s", self._robot, error)

    def _reject(self, version: int, reason: str) -> None:
        last_good = self._current.row.version if self._current else 0
        log.error(
            "weights rejected robot=%s version=%d last_good=%d reason=%s",
            *(self._robot, version, last_good, reason),
        )
        self.rejected[version] = reason  # last: who sees it there finds it in the log

    def _thread(self, step: Callable[[], None]) -> None:
        """Repeat `step`; a dead service is waited for, anything else ends the robot's process."""
        failures = 0
        try:
            while not self._stop.is_set():
                try:
                    step()
                    failures = 0
                except LwdError as error:
                    failures += 1
                    self._pause(failures, error)
        except Exception as error:
            log.exception("weights thread died robot=%s", self._robot)
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _pause(self, failures: int, error: LwdError) -> None:
        pause_s = self._polling.backoff.delay(failures, random.random())
        log.warning("retry robot=%s pause_s=%.1f reason=%s", self._robot, pause_s, error)
        self._stop.wait(pause_s)

    def _report(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._unreported or self._stop.is_set())
            waiting = list(self._unreported)
        for row in waiting:
            self._fleet.report_load(row)
            with self._changed:  # close() may have reported meanwhile what this thread was slow to
                self._unreported = [other for other in self._unreported if other is not row]

    def _look(self) -> None:
        row = self._fleet.latest_weights(self._judged, self._polling.wait_s)
        if row is None:
            return
        if row.version <= self._judged:
            raise ServiceError(
                f"the service offered version {row.version}; asked for one after {self._judged}."
            )
        held = self._candidate or self._current
        loaded = None if held and held.row == row else self._verified(row, held)
        with self._changed:
            self._judged = row.version
            self._candidate = loaded or self._candidate
            self._changed.notify_all()

    def _verified(self, row: WeightsRow, held: Loaded | None) -> Loaded | None:
        chain = held.row.chain if held and held.row.version == row.version - 1 else ""
        if chain and row.chain != row.chained(chain):
            self._reject(row.version, "its chain does not follow from the version before")
            return None
        reason = ""
        for attempt in range(self._polling.attempts):
            if attempt:
                self._stop.wait(self._polling.backoff.delay(attempt, random.random()))
            try:
                return self._built(row)
            except ServiceError:
                raise
            except (LwdError, ValueError, KeyError, TypeError) as error:
                reason = f"{type(error).__name__}: {error}"
        self._reject(row.version, reason)
        return None

    def _built(self, row: WeightsRow) -> Loaded:
        tensors, metadata = self._download(row)
        current = self._current
        if current is not None:  # what else an act needs is for `build` to check
            check_shapes(*(_without_extra(named) for named in (tensors, current.shapes)))
        policy = self._build(tensors, metadata, row.version)
        if policy.version != row.version:
            raise ValueError(f"the policy says version {policy.version}, not {row.version}.")
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        return Loaded(policy=policy, row=row, shapes=shapes)


def _without_extra(named: Mapping[str, Any]) -> dict[str, Any]:
    """What every version has, however it acts."""
    return {name: value for name, value in named.items() if not name.startswith(EXTRA)}
