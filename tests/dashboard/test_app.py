"""The page's HTTP interface, as a real server."""

import json
import ssl
from pathlib import Path

import httpx
import pytest
import trustme

from dashboard.conftest import Fleet, served
from dashboard.pictures import jpeg
from lwd.config import PlaneConfig
from lwd.dashboard.serve import serve
from lwd.errors import ConfigError
from lwd.store.access import issue
from lwd.store.catalog import Catalog
from processes import wait_until

WHY = {"reason": "seen on the video", "author": "ana"}


def newest(http: httpx.Client, **filters) -> dict:
    return http.get("/api/episodes", params=filters).json()[0]


def test_the_page_loads_nothing_from_elsewhere_and_says_so(shared: httpx.Client):
    page = shared.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in page.text.replace("<!doctype", "")
    for path in ("main.js", "chart.js", "style.css", "vendor/uPlot.esm.js", "vendor/uPlot.LICENSE"):
        answer = shared.get(f"/static/{path}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_stream_begins_with_everything_and_goes_on_with_what_changes(
    http: httpx.Client, fleet: Fleet
):
    with http.stream("GET", "/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        assert {row["robot"] for row in first["robots"]} == {"robot-1", "robot-2", "robot-3"}
        fleet.record(70, robot="robot-3")
        second = json.loads(next(line for line in lines if "robots" in line)[6:])
        assert [row["robot"] for row in second["robots"]] == ["robot-3"]


def test_an_episode_is_shown_tick_by_tick(shared: httpx.Client):
    row = newest(shared)
    found = shared.get(f"/api/episodes/{row['episode_id']}").json()
    assert found["row"]["task"] == row["task"]
    assert found["joined"] == 1
    ticks = shared.get(f"/api/episodes/{row['episode_id']}/ticks").json()
    assert len(ticks["seconds"]) == row["ticks"] + 1
    assert [len(values) for values in ticks["action"]] == [row["ticks"]] * 4
    assert ticks["action_policy"][0][0] is None
    assert ticks["source"].count(1) == row["interventions"]
    assert ticks["cameras"] == {"head": [0, 10, 20, 30]}
    frame = shared.get(f"/api/episodes/{row['episode_id']}/frames/head/10")
    assert frame.headers["content-type"] == "image/jpeg"
    assert frame.content == jpeg(10)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/episodes/nobody", 404, "not in the catalog"),
        ("/api/episodes/{id}/frames/head/3", 404, "no frame of head at 3"),
        ("/api/episodes/{id}/frames/wrist/0", 404, "no frame of wrist"),
        ("/api/episodes/{id}/values", 503, "no checkpoint"),
        ("/api/episodes?robot=x&limit=abc", 422, "limit"),
    ],
)
def test_what_is_not_there_is_named(shared: httpx.Client, path: str, status: int, words: str):
    answer = shared.get(path.replace("{id}", newest(shared)["episode_id"]))
    assert answer.status_code == status
    assert words in answer.json()["detail"]


def test_a_payload_that_is_gone_is_named(http: httpx.Client, fleet: Fleet):
    row = fleet.record(71)
    fleet.rest.objects.delete(f"episodes/{row.sha256}")
    answer = http.get(f"/api/episodes/{row.episode_id}/ticks")
    assert answer.status_code == 404


def test_a_correction_is_signed_and_stays_on_record(http: httpx.Client, fleet: Fleet):
    episode = newest(http, outcome="success")["episode_id"]
    wanted = {"change": "outcome", "value": '"failure"', **WHY}
    assert http.post(f"/api/episodes/{episode}/amend", json=wanted).status_code == 200
    (entry,) = fleet.rest.catalog.amendments(episode)
    assert (entry.change, entry.value, entry.author) == ("outcome", '"failure"', "ana")
    wait_until(lambda: http.get("/api/audit").json(), "the record", 5)
    assert http.get("/api/audit").json()[0]["reason"] == "seen on the video"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"change": "outcome", "value": '"great"', **WHY}, "not usable"),
        ({"change": "lost", **WHY}, "no change"),
        ({"change": "tombstone", "reason": " ", "author": "ana"}, "reason"),
        ({"change": "tombstone", "reason": "bad", "author": ""}, "name"),
        ({"reason": "bad"}, "change"),
    ],
)
def test_a_correction_that_cannot_be_is_refused(shared, wanted: dict, words: str):
    answer = shared.post(f"/api/episodes/{newest(shared)['episode_id']}/amend", json=wanted)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_policies_are_tried_promoted_and_rolled_back_with_who_and_why(http, fleet: Fleet):
    catalog = fleet.rest.catalog
    fleet.publish()
    tried = http.post("/api/policies/2/canary", json={"robots": ["robot-1"], **WHY})
    assert tried.json()["version"] == 3
    assert catalog.weights_for("robot-1").version == 3
    assert catalog.weights_for("robot-2").version == 2
    assert http.post("/api/policies/1/rollback", json=WHY).json()["version"] == 4
    assert catalog.weights(4).note == "rolled back to 1 by ana: seen on the video"
    fleet.publish()
    assert catalog.weights_for("robot-2").version == 4
    assert http.post("/api/policies/2/canary", json={"robots": ["robot-1"], **WHY}).is_success
    fleet.publish()
    assert catalog.weights_for("robot-2").version == 4  # a canary does not end the roll-back
    assert http.post("/api/policies/2/promote", json=WHY).is_success
    wait_until(lambda: len(http.get("/api/policies").json()) == 8, "all versions", 5)
    assert http.get("/api/policies").json()[-1]["note"].startswith("promoted 2 by ana")


@pytest.mark.parametrize(
    ("path", "wanted", "words"),
    [
        ("/api/policies/99/promote", WHY, "never published"),
        ("/api/policies/1/canary", WHY, "robots by name"),
        ("/api/policies/1/canary", {**WHY, "robots": ["a,b"]}, "without commas"),
        ("/api/policies/1/burn", WHY, "no release"),
    ],
)
def test_a_release_that_cannot_be_is_refused(shared, path: str, wanted: dict, words: str):
    answer = shared.post(path, json=wanted)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_foreign_pages_cannot_act(shared: httpx.Client):
    path = f"/api/episodes/{newest(shared)['episode_id']}/amend"
    wanted = json.dumps({"change": "tombstone", **WHY})
    as_json = {"Content-Type": "application/json"}
    foreign = shared.post(
        path, content=wanted, headers={**as_json, "Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    form = shared.post(path, content=wanted, headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    rebound = shared.get("/api/episodes", headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    assert shared.post(path, content="x" * 70_000, headers=as_json).status_code == 413


@pytest.fixture
def secured(fleet: Fleet, postgres_url: str, tmp_path: Path) -> PlaneConfig:
    """The fleet's newest episode in a catalog on PostgreSQL, a certificate, and who signed it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (tmp_path / "cert.pem").write_bytes(chain)
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Catalog(postgres_url) as catalog:
        catalog.insert_episode(fleet.rest.catalog.newest_episodes(1)[0])
    return PlaneConfig(
        root=fleet.plane.root,
        service_url=fleet.plane.service_url,
        catalog_url=postgres_url,
        tokens=tmp_path / "tokens.json",
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
    )


def test_tokens_say_who_may_look_and_who_may_act_under_tls_on_postgresql(secured: PlaneConfig):
    tokens = secured.tokens
    assert tokens is not None
    looks = issue(tokens, "guest", ("read",))
    acts = issue(tokens, "ana", ("read", "operate"))
    robot = issue(tokens, "robot-1", ("upload",))
    trusted = ssl.create_default_context(cafile=str(secured.root / "ca.pem"))
    with (
        served(secured, "https://127.0.0.1:0") as url,
        httpx.Client(base_url=url, verify=trusted) as http,
    ):
        assert http.get("/").status_code == 200
        assert http.get("/api/episodes").status_code == 401
        assert http.get("/events").status_code == 401
        assert http.post("/api/session", json={"token": "guess"}).status_code == 401
        assert http.post("/api/session", json={"token": robot}).status_code == 403
        cookie = http.post("/api/session", json={"token": looks}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" in cookie
        assert http.get("/api/session").json() == {"open": False, "scopes": ["read"]}
        path = f"/api/episodes/{newest(http)['episode_id']}/amend"
        assert http.post(path, json={"change": "tombstone", **WHY}).status_code == 403
        word = {"robot": "robot-1", "seat": "tab", "press": "take over"}
        assert http.post("/api/seat", json=word).status_code == 403
        bearer = {"Authorization": f"Bearer {acts}"}
        wanted = {"change": "tombstone", "reason": "bad", "author": "somebody else"}
        assert http.post(path, json=wanted, headers=bearer).is_success
        with Catalog(secured.catalog) as catalog:
            assert catalog.amendments()[0].author == "ana"


@pytest.mark.parametrize("url", ["http://0.0.0.0:0", "https://127.0.0.1:0"])
def test_an_open_page_stays_on_the_loopback_and_https_needs_a_certificate(fleet: Fleet, url: str):
    with pytest.raises(ConfigError):
        serve(fleet.plane, url)
