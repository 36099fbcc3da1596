"""The robot's side of the metadata service."""

from dataclasses import asdict
from typing import Any

import httpx

from lwd.errors import ConflictError, EpisodeError, ServiceError
from lwd.store.access import own_token
from lwd.store.heartbeats import Beat
from lwd.store.rows import EpisodeRow, LoadRow, WeightsRow
from lwd.store.seats import Live, Orders, Word


class ServiceClient:
    """Calls a metadata service. No call retries: the caller knows how long it may wait.

    ServiceError means "later" (unreachable, overloaded, token refused); ConflictError and
    EpisodeError mean "never".
    """

    def __init__(
        self, url: str, *, token: str | None = None, robot: str = "", timeout_s: float = 10.0
    ):
        """`token` defaults to the environment's LWD_TOKEN; `robot` is whose weights are asked for,
        none for those that everybody gets. ConfigError for what cannot be a token."""
        token = own_token(token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url, self._robot = url, robot
        self._timeout_s = timeout_s
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def insert_episode(self, row: EpisodeRow) -> bool:
        """Catalogue an episode: True if new, False if the same was there already."""
        answer = self._call("POST", "/episodes", json=asdict(row))
        return _body(answer)["status"] == "inserted"

    def latest_weights(self, after: int = 0, wait_s: float = 0.0) -> WeightsRow | None:
        """Weights newer than version `after`; waits up to `wait_s` for them, then None."""
        answer = self._call(
            "GET",
            "/weights/latest",
            params={"after": after, "wait_s": wait_s, "robot": self._robot},
            timeout=self._timeout_s + wait_s,
        )
        return None if answer.status_code == 204 else WeightsRow(**_body(answer))

    def report_load(self, row: LoadRow) -> None:
        """This robot acts with a version from now on."""
        self._call("POST", "/loads", json=asdict(row))

    def send_beat(self, beat: Beat) -> None:
        """A sign of life of this robot."""
        self._call("POST", "/heartbeats", json=asdict(beat))

    def beats(self, after: float = 0.0) -> list[Beat]:
        """The last sign of life of each robot since a time by the service's clock."""
        answer = self._call("GET", "/heartbeats", params={"after": after})
        try:
            return [Beat(**beat) for beat in answer.json()]
        except (ValueError, TypeError) as error:
            raise ServiceError(f"{answer.url} answered no list of heartbeats.") from error

    def orders(self, live: Live, wait_s: float) -> Orders:
        """Show this robot, and wait up to `wait_s` for what a person wants of it."""
        answer = self._call(
            "POST",
            "/seats/orders",
            json=asdict(live),
            params={"wait_s": wait_s},
            timeout=self._timeout_s + wait_s,
        )
        try:
            body = _body(answer)
            presses = [(int(n), str(press), str(who)) for n, press, who in body.pop("presses")]
            motion = tuple(float(speed) for speed in body.pop("motion"))
            return Orders(**body, presses=presses, motion=motion)
        except (ValueError, TypeError, KeyError) as error:
            raise ServiceError(f"{answer.url} answered no orders.") from error

    def sight(self, robot: str, seat: str, authorization: str | None) -> dict[str, Any]:
        """What a robot showed last, for whoever has this authorization."""
        asked = {"robot": robot, "seat": seat}
        headers = {"Authorization": authorization} if authorization else None
        return _body(self._call("GET", "/seats/sight", params=asked, headers=headers))

    def say(self, word: Word, authorization: str | None) -> dict[str, Any]:
        """Pass a person's word to a robot, with that person's authorization; what it shows."""
        headers = {"Authorization": authorization} if authorization else None
        return _body(self._call("POST", "/seats/words", json=asdict(word), headers=headers))

    def status(self) -> dict[str, Any]:
        """Counts of the data plane, for people."""
        return _body(self._call("GET", "/status"))

    def healthy(self) -> bool:
        """Whether the service answers."""
        try:
            self._call("GET", "/healthz")
        except ServiceError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "ServiceClient":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **arguments)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise ServiceError(
                f"Service {self.url} is not reachable: {reason}. Is `lwd service` running there?"
            ) from error
        if answer.is_success:
            return answer
        reason = f"Service {self.url} answered {answer.status_code}: {_detail(answer)}"
        if answer.status_code == 409:
            raise ConflictError(reason)
        if answer.status_code in (413, 422):
            raise EpisodeError(reason)
        raise ServiceError(reason)


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        return dict(answer.json())
    except (ValueError, TypeError) as error:
        raise ServiceError(
            f"{answer.url} answered something that is not JSON; is it the metadata service?"
        ) from error


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
