"""Makes the faults of a plan happen, and takes back those that last only a while."""

import heapq
import json
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lwd.chaos.clock import set_skew
from lwd.chaos.fleet import LEAST_FILE_BYTES, Fleet
from lwd.chaos.links import FAIR, Links, Weather
from lwd.chaos.packets import GOOD, Radio, Shape
from lwd.chaos.plan import LINK, PROCESS, Fault, Kind, skew_s
from lwd.chaos.witness import Journal
from lwd.errors import LwdError, ServiceError
from lwd.store import weights
from lwd.store.catalog import EPISODES, Catalog
from lwd.store.objects import Objects, episode_key
from lwd.store.queue import Message, Queue

log = logging.getLogger(__name__)

AGAIN_S = 0.1
"""Pause before a fault is tried again whose victim is down."""
MISSED_S = 2.0
"""Pause before a fault is tried again that found nothing to harm."""
TRIES = 5
PULL_S = 1.0
MOST_NOTICES = 8
POISONS = (b"", b"\x00\xff" * 20, b"[]", b'{"episode_id": 7}', b'{"episode_id": "not an id"}', b"{")


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What faults happen to."""

    fleet: Fleet
    links: Links
    queue: Queue
    catalog: Catalog
    objects: Objects
    spools: Path
    """Folder with the spool of each robot."""
    skews: Path
    """Folder with the file that sets a process's clock wrong."""
    journal: Journal
    """Where the payloads are written down that were damaged on purpose."""
    radio: Radio | None = None
    """The robots' network, where they have one of their own."""


@dataclass
class Injector:
    """Faults in, things gone wrong; `done` counts those that really happened."""

    ground: Ground
    clock: Callable[[], float] = time.monotonic
    done: Counter[Kind] = field(default_factory=Counter)
    _agenda: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "inject"))
    _busy: list[tuple[Future, Fault, int]] = field(default_factory=list)

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()

    def happen(self, fault: Fault) -> None:
        """Let the fault happen, now or as soon as its victim is up."""
        if fault.kind is Kind.KILL:
            self._kill(fault)
        elif fault.kind in PROCESS:
            self._trouble(fault)
        elif fault.kind in LINK:
            self.ground.links.set(fault.target, weather(fault))
            self.done[fault.kind] += 1
            self._later(fault.lasts_s, lambda: self.ground.links.set(fault.target, FAIR))
        elif fault.kind is Kind.LOSSY:
            self._fade(fault)
        else:
            self._start(fault, TRIES)

    def tend(self) -> None:
        """Do what is due: take faults back, try again what had to wait."""
        while self._agenda and self._agenda[0][0] <= self.clock():
            heapq.heappop(self._agenda)[2]()
        for entry in [entry for entry in self._busy if entry[0].done()]:
            self._busy.remove(entry)
            self._ended(*entry)

    @property
    def idle(self) -> bool:
        """Whether nothing lasts any more."""
        return not self._agenda and not self._busy

    def _start(self, fault: Fault, tries: int) -> None:
        self._busy.append((self._pool.submit(self._aside, fault), fault, tries))

    def _ended(self, future: Future, fault: Fault, tries: int) -> None:
        """Count a fault that happened; try again where there was nothing to harm yet."""
        if future.result():
            self.done[fault.kind] += 1
        elif tries > 1:
            self._later(MISSED_S, lambda: self._start(fault, tries - 1))

    def _later(self, after_s: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._agenda, (self.clock() + after_s, uuid.uuid4().int, action))

    def _kill(self, fault: Fault) -> None:
        target = self._alive(fault.target)
        if target is None:
            return  # the whole fleet has done its work
        if self.ground.fleet.kill(target, fault.lasts_s):
            self.done[Kind.KILL] += 1
        else:
            self._later(AGAIN_S, lambda: self._kill(fault))

    def _trouble(self, fault: Fault) -> None:
        """A fault that a process survives; one that is down has enough trouble."""
        fleet, target = self.ground.fleet, fault.target
        if fault.kind is Kind.SKEW:
            set_skew(self.ground.skews / target, skew_s(fault))
            self.done[fault.kind] += 1
            return
        if fault.kind is Kind.PAUSE:
            happened, back = fleet.pause(target), lambda: fleet.resume(target)
        else:
            size = LEAST_FILE_BYTES + fault.draw % 65_536
            happened = fleet.limit_files(target, size)
            back = lambda: fleet.limit_files(target, None)  # noqa: E731
        if happened:
            self.done[fault.kind] += 1
            self._later(fault.lasts_s, back)

    def _fade(self, fault: Fault) -> None:
        """Packets suffer, for a while."""
        radio = self.ground.radio
        if radio is not None:
            radio.set(shape(fault))
            self.done[fault.kind] += 1
            self._later(fault.lasts_s, lambda: radio.set(GOOD))

    def _alive(self, target: str) -> str | None:
        """The victim, or another one if it has finished its work."""
        fleet = self.ground.fleet
        if not fleet.finished(target.partition("/")[0]):
            return target
        return next((name for name in fleet.names if not fleet.finished(name)), None)

    def _aside(self, fault: Fault) -> bool:
        """Faults that call services, which may take a while; they run in a thread of their own."""
        work = {
            Kind.TEAR: self._tear,
            Kind.CORRUPT: self._corrupt,
            Kind.TAMPER: self._tamper,
            Kind.POISON: self._poison,
            Kind.DUPLICATE: self._duplicate,
        }.get(fault.kind, self._mistreat)
        try:
            return work(fault, random.Random(fault.draw))
        except (LwdError, OSError) as error:
            log.debug("fault missed kind=%s reason=%s", fault.kind, error)
            return False

    def _tear(self, fault: Fault, rng: random.Random) -> bool:
        """Half of an episode under a name of its own: whoever finds it must not take it for one."""
        folder = self.ground.spools / fault.target
        whole = sorted(folder.glob("*/*.arrow"))
        if not whole:
            return False
        data = rng.choice(whole).read_bytes()
        torn, name = data[: rng.randrange(len(data))], f"{rng.getrandbits(128):032x}"
        path = folder / "pending" / rng.choice([f"{name}.arrow", f".{name}.arrow.1.part"])
        path.write_bytes(torn)
        return True

    def _corrupt(self, fault: Fault, rng: random.Random) -> bool:
        ground = self.ground
        rows = ground.catalog.snapshot_episodes(ground.catalog.snapshot_version())
        rows += ground.catalog.unsnapshotted(100)
        if not rows:
            return False
        sha256 = rng.choice(sorted(row.sha256 for row in rows))
        data = bytearray(ground.objects.get(episode_key(sha256), sha256=sha256))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        ground.journal.write(damaged=sha256)
        ground.objects.put(
            episode_key(sha256), bytes(data[: rng.choice([len(data), len(data) // 2])])
        )
        return True

    def _tamper(self, fault: Fault, rng: random.Random) -> bool:
        """A flipped bit or a cut-off end in what robots fetch next."""
        newest = self.ground.catalog.latest_weights()
        if newest is None:
            return False
        keys = sorted(self.ground.objects.list("weights"))
        keys = [key for key in keys if key.startswith(weights.key(newest.sha256))]
        key = rng.choice(keys)
        data = bytearray(self.ground.objects.get(key))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        damaged = bytes(data[: rng.choice([len(data), len(data) // 2])])
        self.ground.objects.put(key, damaged)
        return True

    def _poison(self, fault: Fault, rng: random.Random) -> bool:
        self.ground.queue.publish(EPISODES, rng.choice(POISONS), f"poison-{fault.draw}")
        return True

    def _duplicate(self, fault: Fault, rng: random.Random) -> bool:
        """Notices of episodes old and new, under ids that the queue has not seen."""
        ground, caught = self.ground, self._catch()
        for message in caught:
            message.nak()
        ids = [row.episode_id for row in ground.catalog.unsnapshotted(MOST_NOTICES)]
        old = ground.catalog.snapshot_episodes(ground.catalog.snapshot_version())
        ids += [row.episode_id for row in rng.sample(old, min(len(old), MOST_NOTICES))]
        datas = [json.dumps({"episode_id": episode_id}).encode() for episode_id in ids]
        for number, data in enumerate([m.data for m in caught] + datas):
            ground.queue.publish(EPISODES, data, f"again-{fault.draw}-{number}")
        return bool(caught or ids)

    def _mistreat(self, fault: Fault, rng: random.Random) -> bool:
        """Drop, delay or reorder what can be caught before the coordinator has it."""
        caught = self._catch()
        for message in caught:
            if fault.kind is Kind.DROP:
                message.ack()
            elif fault.kind is Kind.DELAY:
                message.nak(fault.lasts_s)
            else:
                message.nak(rng.uniform(0.001, fault.lasts_s))
        return bool(caught)

    def _catch(self) -> list[Message]:
        """Notices that would have been the coordinator's: it pulls under the same name."""
        try:
            return self.ground.queue.pull("coordinator", MOST_NOTICES, PULL_S)
        except ServiceError as error:
            log.debug("queue away reason=%s", error)
            return []


def weather(fault: Fault) -> Weather:
    """What a fault of a link does to it."""
    if fault.kind is Kind.CUT:
        return Weather(cut=True)
    if fault.kind is Kind.STALL:
        return Weather(stalled=True)
    rng = random.Random(fault.draw)
    return Weather(delay_s=rng.uniform(0.01, 0.3), bytes_per_s=rng.uniform(2e4, 1e6))


def shape(fault: Fault) -> Shape:
    """What happens to packets while they suffer."""
    rng = random.Random(fault.draw)
    loss, delay_s, mbit_s = rng.uniform(0.02, 0.3), rng.uniform(0.005, 0.2), rng.uniform(0.5, 20.0)
    return Shape(mbit_s=mbit_s, delay_s=delay_s, loss=loss)
