"""Rates hold for each client alone, and a refusal costs nothing."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwd.store import limits
from lwd.store.access import READ, issue, load_access
from lwd.store.catalog import Catalog
from lwd.store.limits import BURST_S, MAX_BODY_BYTES, Rates, body_fault
from lwd.store.service import Parts, create_app


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_no_stretch_of_time_has_more_than_its_requests_and_one_burst(pauses) -> None:
    now = 0.0
    rates, taken = Rates(10.0, lambda: now), []
    for pause_s in pauses:
        now += pause_s
        if rates.wait_s("arm-1") == 0.0:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = 10.0 * (taken[last] - taken[first] + BURST_S)
            assert last - first + 1 <= allowed + 1 + 1e-6


def test_one_client_does_not_take_anothers_share() -> None:
    now = 0.0
    rates = Rates(1.0, lambda: now)
    while rates.wait_s("greedy") == 0.0:
        pass
    assert rates.wait_s("arm-1") == 0.0
    wait_s = rates.wait_s("greedy")
    assert 0.0 < wait_s <= 1.0
    now += wait_s
    assert rates.wait_s("greedy") == 0.0


def test_strangers_do_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 10)
    rates = Rates(1.0, lambda: 0.0)
    for number in range(50):
        rates.wait_s(f"address {number}")
    assert len(rates._free_at) == 10


@pytest.mark.parametrize(
    ("method", "length", "status"),
    [
        ("POST", "", 411),
        ("POST", "-1", 411),
        ("POST", "٣", 411),
        ("PUT", "x", 411),
        ("POST", str(MAX_BODY_BYTES + 1), 413),
        ("GET", "9" * 5000, 413),
    ],
)
def test_bodies_that_are_refused(method, length, status) -> None:
    fault = body_fault(method, length)
    assert fault is not None
    assert fault[0] == status


def test_bodies_that_are_fine() -> None:
    assert body_fault("POST", str(MAX_BODY_BYTES)) is None
    assert body_fault("GET", "") is None


def test_the_service_counts_for_each_token_and_each_address(tmp_path) -> None:
    file = tmp_path / "tokens.json"
    tokens = [issue(file, robot, [READ]) for robot in ("arm-1", "arm-2")]

    async def _ask(app) -> list[tuple[int, int]]:
        transport = httpx.ASGITransport(app, client=("10.0.0.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://lwd") as http:
            found = []
            for token in (tokens[0], "guessed", "guessed again", tokens[1]):
                headers = {"Authorization": f"Bearer {token}"}
                answers = [await http.get("/status", headers=headers) for _ in range(3)]
                found.append((answers[0].status_code, answers[-1].status_code))
                if answers[-1].status_code == 429:
                    assert int(answers[-1].headers["Retry-After"]) >= 1
                    assert "wait" in json.loads(answers[-1].text)["detail"]
            return found

    with Catalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        rates = Rates(1.0, lambda: 0.0)
        app = create_app(catalog, Parts(catalog=catalog, access=load_access(file), rates=rates))
        found = asyncio.run(_ask(app))
    assert found == [(200, 429), (401, 429), (429, 429), (200, 429)]
