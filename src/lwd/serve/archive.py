"""Keeps what a server records: one thread writes episodes down and into each robot's spool.

From the spool an edge client carries them on, exactly once as those of any robot.
"""

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from lwd.actor.recorder import begin_trace
from lwd.edge.spool import Spool
from lwd.episode.payload import encode
from lwd.episode.types import Outcome
from lwd.errors import ConflictError, EpisodeError, ServiceError
from lwd.serve.track import Track

log = logging.getLogger(__name__)

RETRY_S = 2.0
"""Pause before an episode that the disk did not take is tried again."""
MOST_HELD = 64
"""Episodes that wait for room on the disk; what ends after that is lost, and named."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of an episode."""

    episode_id: str
    ticks: int
    saved: bool
    """On the disk, for good."""
    reason: str = ""
    """Why it was not saved."""


class Archive:
    """Use as a context manager; on the way out everything that waits is written."""

    def __init__(self, root: Path, quota_bytes: int = 20 << 30) -> None:
        """`root` holds a spool for each robot."""
        self._root, self._quota = root, quota_bytes
        self._spools: dict[str, Spool] = {}
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._held: list[tuple[str, str, bytes]] = []
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def __enter__(self) -> "Archive":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._work.put(None)
        self._thread.join()
        for spool in self._spools.values():
            spool.close()
        for robot, episode_id, _ in self._held:
            log.error("episode lost robot=%s episode=%s reason=no room on disk", robot, episode_id)

    @property
    def held(self) -> int:
        """Episodes that wait for room on the disk."""
        return len(self._held)

    def do(self, step: Callable[[], None]) -> None:
        """Let the thread do something with a track, in order."""
        self._work.put(step)

    def finish(self, track: Track, outcome: Outcome) -> Future[Kept]:
        """End an episode and save it; the answer comes once that is done or has failed."""
        answer: Future[Kept] = Future()

        def step() -> None:
            try:
                answer.set_result(self._finished(track, outcome))
            except Exception as error:
                answer.set_exception(error)
                raise

        self._work.put(step)
        return answer

    def _run(self) -> None:
        while True:
            try:
                step = self._work.get(timeout=RETRY_S if self._held else None)
            except queue.Empty:
                self._retry()
                continue
            if step is None:
                self._retry()
                return
            try:
                step()
            except Exception:  # the top of this thread; one robot's trouble is not the others'
                log.exception("episode not recorded")

    def _finished(self, track: Track, outcome: Outcome) -> Kept:
        def kept(saved: bool, reason: str = "") -> Kept:
            log.log(
                logging.INFO if saved else logging.WARNING,
                "episode %s robot=%s episode=%s outcome=%s ticks=%d policy=%d%s",
                *("saved" if saved else "not saved", track.robot, track.episode_id, outcome),
                *(track.ticks, track.policy.version, f" reason={reason}" if reason else ""),
            )
            return Kept(episode_id=track.episode_id, ticks=track.ticks, saved=saved, reason=reason)

        try:
            episode = track.finish(outcome)
            if episode is None:
                return kept(False, "the robot asked only once, so nothing is known of what it did")
            payload = encode(episode)
            begin_trace(episode.header)
            self._spool(track.robot).save(track.episode_id, payload)
        except (EpisodeError, ConflictError) as error:
            return kept(False, str(error))
        except ServiceError as error:
            if len(self._held) >= MOST_HELD:
                return kept(False, str(error))
            self._held.append((track.robot, track.episode_id, payload))
            return kept(False, f"{error} It is tried again.")
        return kept(True)

    def _spool(self, robot: str) -> Spool:
        if robot not in self._spools:
            self._spools[robot] = Spool(self._root / robot, self._quota)
        return self._spools[robot]

    def _retry(self) -> None:
        while self._held:
            robot, episode_id, payload = self._held[0]
            try:
                self._spool(robot).save(episode_id, payload)
            except ServiceError as error:
                log.warning("episode waits robot=%s episode=%s reason=%s", robot, episode_id, error)
                return
            log.info("episode saved robot=%s episode=%s", robot, episode_id)
            del self._held[0]
