"""Robots of a fleet in this process: each acts in one thread and uploads in another."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np

from lwd.actor import process
from lwd.chaos.links import FAIR, Links, Weather
from lwd.config import ActorConfig, PlaneConfig, SightConfig, StateLayout, control
from lwd.config.fleet import PERFECT, FleetConfig, LinkConfig, RobotConfig
from lwd.config.guidance import GuidanceConfig
from lwd.config.require import require
from lwd.edge import uploader
from lwd.edge.spool import Spool
from lwd.episode.types import Kind
from lwd.errors import ConfigError, unknown
from lwd.serve.rig import guided
from lwd.sim.rig import Circumstances, rig
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects

log = logging.getLogger(__name__)
_LOOK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the robots are to record."""

    kind: Literal["demo", "play", "rollout", "online"] = "online"
    episodes: int | None = None
    """Episodes to save by each robot, over restarts; None means until stopped."""
    upload: bool = True
    """Carry what is recorded to the fleet's services; else it stays in the spool."""
    tokenizer: str = ""
    """Path or URL of this machine's copy of the tokenizer that the weights were trained with."""

    def __post_init__(self) -> None:
        enough = self.episodes is None or self.episodes >= 0
        require(enough, f"episodes is {self.episodes}; it must not be negative.")


def drive(
    fleet: FleetConfig,
    names: Sequence[str],
    plane: PlaneConfig,
    order: Order,
    stop: threading.Event,
) -> None:
    """Run some of a fleet's robots until each has its episodes uploaded, or until `stop`.

    Raises what the first robot raises that fails; the others end their episodes as interrupted.
    """
    places = {robot.name: place for place, robot in enumerate(fleet.robots)}
    for name in names:
        if name not in places:
            raise unknown("robot", name, places)
    over = threading.Event()
    with ExitStack() as stack:
        planes = {
            name: stack.enter_context(_Linked(fleet, places[name], plane, stop)).plane
            for name in names
        }
        pool = stack.enter_context(ThreadPoolExecutor(2 * len(names)))
        stack.callback(over.set)
        stack.callback(stop.set)
        acting = [pool.submit(_act, fleet, places[n], planes[n], order, stop) for n in names]
        spools = [Spool(plane.root / "spool" / name) for name in names] if order.upload else []
        carrying = [
            pool.submit(_carry, spool, planes[name], over)
            for name, spool in zip(names, spools, strict=bool(spools))
        ]
        while not stop.wait(_LOOK_S):
            _raise_failures([*acting, *carrying])
            if all(f.done() for f in acting) and not any(s.pending() for s in spools):
                break
        stop.set()
        _raise_failures(acting, wait=True)


def _act(
    fleet: FleetConfig, place: int, plane: PlaneConfig, order: Order, stop: threading.Event
) -> None:
    robot = fleet.robots[place]
    actor = ActorConfig(
        robot=robot.name,
        index=place,
        seed=fleet.seed,
        kind=order.kind,
        episodes=order.episodes,
    )
    kit = rig(
        Kind(order.kind),
        robot.tasks,
        control(fleet.rate),
        robot_id=robot.name,
        held_out=fleet.split == "held-out",
        intervene=fleet.intervene,
        circumstances=Circumstances(
            sight=SightConfig(cameras=robot.cameras, image_size=robot.image_size),
            tokenizer=order.tokenizer,
            speed=fleet.speed,
            disturbance=fleet.disturbance(robot),
        ),
    )
    kit = guided(
        kit,
        GuidanceConfig(),
        control(fleet.rate),
        robot_id=robot.name,
        joints=StateLayout().joints,
        stop=stop,
    )
    process.main(actor, plane, kit, stop=stop)


def _carry(spool: Spool, plane: PlaneConfig, over: threading.Event) -> None:
    with ServiceClient(plane.service_url) as client:
        uploader.run(spool, uploader.Uploader(Objects(plane.objects), client), over)


def _raise_failures(futures: Sequence[Future[None]], *, wait: bool = False) -> None:
    for future in futures:
        if wait or future.done():
            future.result()


class _Linked:
    """The plane as a robot reaches it: through a proxy on the loopback if its link is not perfect.

    An object store in a local folder is no network and stays as near as it is.
    """

    def __init__(
        self, fleet: FleetConfig, place: int, plane: PlaneConfig, stop: threading.Event
    ) -> None:
        self._robot = fleet.robots[place]
        self._link, self._stop = fleet.link(self._robot), stop
        self._rng = np.random.default_rng([fleet.seed, place])
        self._links: Links | None = None
        self._outages: threading.Thread | None = None
        self.plane = plane

    def __enter__(self) -> "_Linked":
        if self._link == PERFECT:
            return self
        self._links = links = Links()
        try:
            self.plane = _through(links, self._robot, self.plane)
        except ConfigError:
            links.close()
            raise
        self._set(_weather(self._link))
        if self._link.outages_per_h:
            self._outages = threading.Thread(target=self._break_now_and_then, daemon=True)
            self._outages.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._outages is not None:
            self._outages.join()
        if self._links is not None:
            self._links.close()

    def _set(self, weather: Weather) -> None:
        assert self._links is not None
        for name in self._links.names:
            self._links.set(name, weather)

    def _break_now_and_then(self) -> None:
        while not self._stop.wait(self._rng.exponential(3600 / self._link.outages_per_h)):
            seconds = self._rng.uniform(*self._link.outage_s)
            log.info("outage robot=%s seconds=%.1f", self._robot.name, seconds)
            self._set(Weather(cut=True))
            self._stop.wait(seconds)
            self._set(_weather(self._link))


def _weather(link: LinkConfig) -> Weather:
    return replace(FAIR, delay_s=link.delay_s, bytes_per_s=link.bytes_per_s)


def _through(links: Links, robot: RobotConfig, plane: PlaneConfig) -> PlaneConfig:
    """The plane through new links of these; ConfigError for an address that cannot be proxied."""
    service = links.add("service", _plain(robot, plane.service_url))
    objects = urlsplit(plane.objects)
    options = dict(parse_qsl(objects.query))
    if objects.scheme == "file":
        return replace(plane, service_url=service)
    endpoint = options.get("endpoint", plane.objects)
    options["endpoint"] = links.add("objects", _plain(robot, endpoint))
    address = objects._replace(query=urlencode(options)).geturl()
    return replace(plane, service_url=service, objects_url=address)


def _plain(robot: RobotConfig, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.port is None:
        raise ConfigError(
            f"link {robot.link!r} of robot {robot.name} can only shape http://HOST:PORT, not "
            f"{url}; a certificate would not be valid for a proxy. Give it the link 'perfect'."
        )
    return url
