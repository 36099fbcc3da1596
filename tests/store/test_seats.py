"""Seats: one person drives one robot, both through the service."""

import asyncio
from dataclasses import asdict, replace

import httpx
import pytest

from lwd.actor.attended import Mode, Press
from lwd.errors import ConflictError, EpisodeError, ServiceError
from lwd.store.access import Access, issue, load_access
from lwd.store.catalog import Catalog
from lwd.store.seats import (
    MODES,
    PRESSES,
    SEAT_S,
    Live,
    Orders,
    Seats,
    Word,
    check_live,
    check_word,
)
from lwd.store.service import Parts, create_app
from sample_rows import Clock

LIVE = Live(robot="arm", life="first", axes=("x", "y"), task="pour")
ANA, BEN = Word(robot="arm", seat="tab-1", person="ana"), Word(robot="arm", seat="tab-2")


def test_presses_and_modes_are_those_of_the_robot():
    assert tuple(Press) == PRESSES
    assert tuple(Mode) == MODES


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seats(clock: Clock) -> Seats:
    made = Seats(clock)
    ask(made)
    return made


def ask(seats: Seats, **changes) -> Orders:
    """What the robot gets at once."""
    return asyncio.run(seats.orders(replace(LIVE, **changes)))


def test_a_press_takes_the_seat_and_comes_until_the_robot_has_it(seats, clock):
    assert not seats.look("arm", ANA.seat).mine
    sight = seats.say(replace(ANA, press="take over"), "ana")
    assert (sight.mine, sight.person) == (True, "ana")
    for _ in range(2):  # the first answer may have been lost
        assert ask(seats).presses == [(1, "take over", "ana")]
    clock.now += 0.5
    seats.say(replace(ANA, motion=(0.5, -1.0)), "ana")
    clock.now += 0.25
    orders = ask(seats, heard=1, mode="correcting")
    assert orders.presses == []
    assert (orders.motion, orders.silent_s, orders.watched) == ((0.5, -1.0), 0.25, True)


def test_two_persons_at_one_robot_are_told_apart_by_name(seats, clock):
    seats.say(replace(ANA, press="take over"), "ana")
    ask(seats, heard=1, mode="correcting")
    with pytest.raises(ConflictError, match="arm is in the hands of ana"):
        seats.say(replace(BEN, press="take over"), "ben")
    seen = seats.say(replace(BEN, motion=(1.0, 1.0)), "ben")  # moves nothing
    assert (seen.mine, seen.person) == (False, "ana")
    assert ask(seats, heard=1, mode="correcting").motion == ()
    clock.now += SEAT_S  # nobody has heard of ana since
    assert seats.say(replace(BEN, press="hand back"), "ben").mine
    assert ask(seats, heard=1, mode="paused").presses == [(2, "hand back", "ben")]


def test_a_robot_that_acts_by_itself_again_has_nobody_in_its_seat(seats):
    seats.say(replace(ANA, press="take over"), "ana")
    assert seats.look("arm", ANA.seat).mine
    ask(seats, heard=1, mode="correcting")
    ask(seats, heard=1, mode="autonomous")
    assert not seats.look("arm", ANA.seat).mine
    assert seats.say(replace(BEN, press="pause"), "ben").mine


def test_what_was_pressed_is_not_for_a_robot_that_was_started_again(seats):
    seats.say(replace(ANA, press="take over"), "ana")
    assert ask(seats, life="second").presses == []
    seats.say(replace(ANA, press="pause"), "ana")
    assert ask(seats, life="second").presses == [(1, "pause", "ana")]


def test_a_service_that_was_started_again_counts_on(clock):
    seats = Seats(clock)
    ask(seats, heard=7, mode="paused")
    seats.say(replace(ANA, press="hand back"), "ana")
    assert ask(seats, heard=7, mode="paused").presses == [(8, "hand back", "ana")]


def test_a_robot_that_asks_for_nothing_is_named(seats):
    with pytest.raises(ServiceError, match="'leg' asks for no orders"):
        seats.look("leg")


def test_a_word_ends_the_wait_and_so_does_the_end():
    seats = Seats()

    async def press() -> Orders:
        waiting = asyncio.create_task(seats.orders(LIVE, 30.0))
        await asyncio.sleep(0)
        seats.say(replace(ANA, press="pause"), "ana")
        return await asyncio.wait_for(waiting, 5)

    async def end() -> Orders:
        waiting = asyncio.create_task(seats.orders(replace(LIVE, heard=1), 30.0))
        await asyncio.sleep(0)
        seats.close()
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(press()).presses == [(1, "pause", "ana")]
    seats = Seats()
    assert asyncio.run(end()).presses == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"robot": ""},
        {"mode": "dancing"},
        {"picture": "x" * 60_000},
        {"seconds": float("nan")},
        {"axes": ("x",) * 65},
        {"facts": {"a": "b" * 200}},
        {"heard": -1},
        {"instruction": "\ud800"},
    ],
)
def test_a_robot_that_shows_what_cannot_be_is_refused(wrong: dict):
    assert check_live(LIVE) is LIVE
    with pytest.raises(EpisodeError, match="shows is not valid"):
        check_live(replace(LIVE, **wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"seat": ""},
        {"press": "dance"},
        {"motion": (1.1,)},
        {"motion": (float("nan"),)},
        {"motion": (0.0,) * 65},
        {"person": "a" * 129},
        {"person": "a\0"},
    ],
)
def test_a_word_that_cannot_be_is_refused(wrong: dict):
    assert check_word(ANA) is ANA
    with pytest.raises(EpisodeError, match="is not valid"):
        check_word(replace(ANA, **wrong))


def talk(access: Access, catalog: Catalog, *calls: tuple[str, dict, str]) -> list:
    """Answers of the service to requests, each with a token."""

    async def run() -> list:
        app = create_app(catalog, Parts(catalog=catalog, access=access))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return [
                await client.request(
                    "POST" if body else "GET",
                    path,
                    json=body or None,
                    headers={"Authorization": f"Bearer {token}"},
                )
                for path, body, token in calls
            ]

    return asyncio.run(run())


def test_the_service_asks_who_may_and_writes_down_who_did(tmp_path):
    tokens = tmp_path / "tokens.json"
    robot, other = issue(tokens, "arm"), issue(tokens, "leg")
    ana, guest = issue(tokens, "ana", ("read", "operate")), issue(tokens, "guest", ("read",))
    with Catalog(f"sqlite:///{tmp_path}/catalog.db", Clock()) as catalog:
        press = asdict(replace(ANA, press="take over", person="somebody else"))
        answers = talk(
            load_access(tokens),
            catalog,
            ("/seats/orders", asdict(LIVE), other),
            ("/seats/orders", asdict(LIVE), robot),
            ("/seats/words", press, guest),
            ("/seats/words", press, robot),
            ("/seats/words", press, "guess"),
            ("/seats/words", press, ana),
            ("/seats/words", asdict(replace(ANA, motion=(1.0, 0.0))), ana),
            ("/seats/sight?robot=arm", {}, guest),
            ("/seats/sight?robot=arm", {}, other),
        )
        assert [a.status_code for a in answers] == [403, 200, 403, 403, 401, 200, 200, 200, 403]
        assert answers[5].json()["person"] == "ana"
        found = [(e.robot, e.press, e.author, e.at) for e in catalog.handovers(10)]
        assert found == [("arm", "take over", "ana", 1000.0)]


def test_without_tokens_whoever_takes_over_gives_a_name_and_whoever_stops_need_not(tmp_path):
    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        asked, refused, paused = talk(
            Access(),
            catalog,
            ("/seats/orders", asdict(LIVE), ""),
            ("/seats/words", asdict(replace(BEN, press="take over")), ""),
            ("/seats/words", asdict(replace(BEN, press="pause")), ""),
        )
        assert (asked.status_code, refused.status_code, paused.status_code) == (200, 422, 200)
        assert [e.author for e in catalog.handovers(10)] == ["somebody without a name"]
