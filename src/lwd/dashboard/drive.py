"""A person at the page drives a robot: looks and words go to the metadata service, with the
person's own token, so that the page itself may move nothing."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from lwd.dashboard import actions
from lwd.dashboard.gate import Gate
from lwd.store.access import OPERATE, READ
from lwd.store.client import ServiceClient
from lwd.store.seats import Word


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a person wants of a robot, as the page sends it."""

    robot: str
    seat: str
    press: str = ""
    motion: tuple[float, ...] = ()
    author: str = ""


def add_drive(app: FastAPI, gate: Gate, service: ServiceClient) -> None:
    """Routes: look at a robot, and say a word to it."""

    @app.get("/api/seat")
    def look(request: Request, robot: str, seat: str = "") -> dict[str, Any]:
        gate.check(request, READ)
        return service.sight(robot, seat, gate.credentials(request))

    @app.post("/api/seat")
    def say(request: Request, said: Said) -> dict[str, Any]:
        grant = gate.check(request, OPERATE)
        needed = said.press not in ("", "pause")  # a robot is stopped first and signed for later
        who = actions.author(grant, said.author) if needed or grant else said.author.strip()
        word = Word(
            robot=said.robot, seat=said.seat, person=who, press=said.press, motion=said.motion
        )
        return service.say(word, gate.credentials(request))
