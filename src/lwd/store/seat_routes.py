"""Routes of the service: robots ask for orders, people's pages look and say words."""

from typing import Annotated

from fastapi import FastAPI, Header, Query
from fastapi.concurrency import run_in_threadpool

from lwd.errors import EpisodeError
from lwd.store.access import OPERATE, READ, UPLOAD, Access
from lwd.store.catalog import Catalog
from lwd.store.seats import MAX_NAME, Live, Orders, Seats, Sight, Word, check_live, check_word

MAX_WAIT_S = 60.0
NOBODY = "somebody without a name"
"""Signs a pause: stopping a robot needs no name."""
Token = Annotated[str | None, Header(alias="Authorization")]


def add_seats(app: FastAPI, seats: Seats, access: Access, catalog: Catalog) -> None:
    """Every press is written down in the catalog, with who pressed."""

    @app.post("/seats/orders")
    async def orders(
        live: Live,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0,
        authorization: Token = None,
    ) -> Orders:
        access.check(authorization, UPLOAD, live.robot)
        return await seats.orders(check_live(live), wait_s)

    @app.get("/seats/sight")
    async def sight(
        robot: str,
        seat: Annotated[str, Query(max_length=MAX_NAME)] = "",
        authorization: Token = None,
    ) -> Sight:
        grant = access.check(authorization, READ)
        if grant is not None and UPLOAD in grant.scopes:
            access.check(authorization, UPLOAD, robot)  # robots do not look at each other
        return seats.look(robot, seat)

    @app.post("/seats/words")
    async def words(word: Word, authorization: Token = None) -> Sight:
        grant = access.check(authorization, OPERATE)
        check_word(word)
        who = grant.robot if grant is not None else word.person.strip()
        if word.press and not who and word.press != "pause":
            raise EpisodeError("Give your name: it is recorded with what you do.")
        found = seats.say(word, who or NOBODY)
        if word.press:
            await run_in_threadpool(catalog.note_handover, word.robot, word.press, who or NOBODY)
        return found
