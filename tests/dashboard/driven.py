"""A metadata service and a robot at work, in threads, for a page to take over."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from actor.point import CONTROL, PointPolicy, PointRobot
from dashboard.conftest import Fleet
from lwd.actor.process import Rig, main
from lwd.config import ActorConfig, PlaneConfig
from lwd.config.guidance import GuidanceConfig
from lwd.edge import uploader
from lwd.edge.spool import Spool
from lwd.serve.client import Elsewhere
from lwd.serve.rig import guided
from lwd.store.client import ServiceClient
from lwd.store.objects import Objects
from lwd.store.process import listen, split_url
from lwd.store.service import Parts, create_app


@contextmanager
def service(fleet: Fleet) -> Iterator[None]:
    """The metadata service of the fleet, in a thread."""
    host, port = split_url(fleet.plane.service_url, ("http",))
    parts = Parts(catalog=fleet.rest.catalog)
    with listen(host, port, what="service") as socket:
        settings = uvicorn.Config(
            create_app(fleet.rest.catalog, parts), log_config=None, access_log=False
        )
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=[[socket]])
        thread.start()
        try:
            yield
        finally:
            parts.seats.close()
            server.should_exit = True
            thread.join()


@contextmanager
def running(plane: PlaneConfig, robot: PointRobot) -> Iterator[None]:
    """The robot's process, in a thread, with a policy that leaves it where it is; and its edge."""
    actor, stop = ActorConfig(robot=robot.robot_id, kind="online"), threading.Event()
    rig = guided(
        Rig(robot=lambda: robot, policies=lambda: Elsewhere(PointPolicy(gain=0.0))),
        GuidanceConfig(device="page:2"),
        CONTROL,
        robot_id=robot.robot_id,
        joints=(0, 1),
        stop=stop,
    )

    def upload() -> None:
        with ServiceClient(plane.service_url) as client:
            spool = Spool(plane.root / "spool" / robot.robot_id)
            uploader.run(spool, uploader.Uploader(Objects(plane.objects), client), stop)

    threads = [
        threading.Thread(target=main, args=[actor, plane, rig], kwargs={"stop": stop}),
        threading.Thread(target=upload),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
