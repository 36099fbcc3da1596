"""Signs of life of robots that run no code of ours: the server that they ask sends them."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from lwd.actor.heartbeat import EVERY_S, Voice
from lwd.serve.session import Session, Sessions
from lwd.store.heartbeats import MAX_NAME, Beat

LOOK_S = 0.5
"""Time between two looks for robots whose state has changed."""


class Beats:
    """Tells the fleet's service how each connected robot is: every few seconds, and as soon as that
    changes. Looks at the sessions on the event loop, and speaks from other threads."""

    def __init__(
        self,
        sessions: Sessions,
        send: Callable[[Beat], None],
        *,
        task: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`task` is what recorded episodes are called; without one the instruction stands in."""
        self._sessions, self._voice, self._task, self._clock = sessions, Voice(send), task, clock
        self._process = uuid.uuid4().hex[:16]
        self._sent: dict[str, Beat] = {}

    async def run(self) -> None:
        """Send beats until cancelled."""
        while True:
            for beat in self.due():
                await asyncio.to_thread(self._voice.say, beat)
            await asyncio.sleep(LOOK_S)

    def due(self) -> list[Beat]:
        """Beats of the connected robots that send none themselves, where there is news or it is
        time; each is given out once."""
        beats = {
            session.robot: self._beat(session)
            for session in self._sessions.all()
            if session.holder is not None and not session.beats
        }
        new = [beat for beat in beats.values() if self._is_news(beat)]
        self._sent = {name: self._sent[name] for name in beats.keys() & self._sent.keys()}
        self._sent |= {beat.robot: beat for beat in new}
        return new

    def _is_news(self, beat: Beat) -> bool:
        sent = self._sent.get(beat.robot)
        if sent is None or replace(sent, at=beat.at) != beat:
            return True
        return abs(beat.at - sent.at) >= EVERY_S  # also where somebody has set the clock back

    def _beat(self, session: Session) -> Beat:
        at = self._clock()
        beat = Beat(robot=session.robot, state="waiting", at=at, process=self._process)
        if (running := session.running) is None:
            return beat
        return replace(
            beat,
            state="correcting" if running.human else "acting",
            task=(self._task or running.instruction)[:MAX_NAME],
            episode_id=running.track.episode_id if running.track else "",
            policy_version=running.policy.version,
        )
