"""Prometheus metrics of every process: noted where things happen, served where a port was given.

Without `expose` a note costs one comparison and nothing is imported: a robot's client stays small.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

from lwd import __version__
from lwd.errors import ServiceError

log = logging.getLogger(__name__)

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Edges of the buckets of histograms."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that a process may have."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def add(self, amount: float | int = 1, **labels: str) -> None:
        """Count."""
        if _exposed:
            self._at(labels).inc(amount)

    def set(self, value: float | int, **labels: str) -> None:
        """Set a gauge."""
        if _exposed:
            self._at(labels).set(value)

    def observe(self, value: float | int, **labels: str) -> None:
        """One more value of a histogram."""
        if _exposed:
            self._at(labels).observe(value)

    def _at(self, labels: dict[str, str]) -> Any:
        """The metric of prometheus_client with these labels; a process has only what it notes."""
        if (made := _made.get(self.name)) is None:
            import prometheus_client as prometheus

            kinds = {"counter": prometheus.Counter, "gauge": prometheus.Gauge}
            kind: Any = kinds.get(self.kind, prometheus.Histogram)
            more = {"buckets": SECONDS} if self.kind == "histogram" else {}
            made = _made.setdefault(self.name, kind(self.name, self.help, self.labels, **more))
        return made.labels(**labels) if labels else made


INFO = Metric(
    kind="gauge", name="lwd_info", help="1: a process of lwd is here.", labels=("version",)
)
EPISODES = Metric(
    kind="counter",
    name="lwd_robot_episodes",
    help="Episodes that a robot has finished.",
    labels=("kind", "outcome"),
)
TICKS = Metric(
    kind="counter", name="lwd_robot_ticks", help="Ticks by who acted in them.", labels=("source",)
)
ACTING = Metric(
    kind="gauge", name="lwd_robot_policy_version", help="Policy that the robot acts with."
)
UPLOADS = Metric(
    kind="counter",
    name="lwd_edge_uploads",
    help="Episodes that the edge client has tried to upload, by what came of it.",
    labels=("result",),
)
UPLOAD_S = Metric(
    kind="histogram",
    name="lwd_edge_upload_seconds",
    help="From the start of an upload to the catalog's answer.",
)
INSERTS = Metric(
    kind="counter",
    name="lwd_service_episodes",
    help="Episodes that the service was told of.",
    labels=("result",),
)
SNAPSHOT = Metric(
    kind="gauge", name="lwd_coordinator_snapshot", help="Version of the data set committed last."
)
JUDGED = Metric(
    kind="counter",
    name="lwd_coordinator_episodes",
    help="Verdicts of the coordinator on episodes.",
    labels=("fate",),
)
UPDATE = Metric(
    kind="gauge", name="lwd_learner_update", help="Updates done in a stage.", labels=("stage",)
)
LEARNER = Metric(
    kind="gauge",
    name="lwd_learner_metric",
    help="Metrics of the learner, means since its last report.",
    labels=("metric",),
)
DAMAGED = Metric(
    kind="counter",
    name="lwd_learner_damaged_files",
    help="Cached payloads whose bytes had changed, and which were fetched again.",
)
LOOK_S = Metric(
    kind="histogram", name="lwd_dashboard_look_seconds", help="One look of the page's process."
)
QUEUE_RESTARTS = Metric(
    kind="counter", name="lwd_queue_restarts", help="Deaths of the queue's server."
)
QUEUE_CLIENTS = Metric(
    kind="gauge", name="lwd_queue_clients", help="Connections of services and coordinators."
)
QUEUE_PUBLISHED = Metric(
    kind="gauge", name="lwd_queue_published_notices", help="Notices that the queue has ever taken."
)
QUEUE_NOTICES = Metric(kind="gauge", name="lwd_queue_notices", help="Notices that the queue keeps.")
QUEUE_BYTES = Metric(kind="gauge", name="lwd_queue_bytes", help="Disk that these take.")
QUEUE_PENDING = Metric(
    kind="gauge",
    name="lwd_queue_pending_notices",
    help="Notices that a consumer has not been given yet.",
    labels=("consumer",),
)
QUEUE_UNACKNOWLEDGED = Metric(
    kind="gauge",
    name="lwd_queue_unacknowledged_notices",
    help="Notices that a consumer was given and has not acknowledged.",
    labels=("consumer",),
)
QUEUE_REDELIVERED = Metric(
    kind="gauge",
    name="lwd_queue_redelivered_notices",
    help="Of these, notices that it was given more than once.",
    labels=("consumer",),
)
FLEET_PROCESSES = Metric(
    kind="gauge", name="lwd_fleet_processes", help="Processes of robots that have not ended."
)
FLEET_RESTARTS = Metric(
    kind="gauge", name="lwd_fleet_restarts", help="Processes of robots that were started again."
)
FLEET_SAVED = Metric(
    kind="gauge",
    name="lwd_fleet_saved_episodes",
    help="Episodes that a robot of the fleet has saved.",
    labels=("robot",),
)
FLEET_WAITING = Metric(
    kind="gauge",
    name="lwd_fleet_waiting_episodes",
    help="Episodes of a robot of the fleet that are not uploaded yet.",
    labels=("robot",),
)
EVERY = (
    *(INFO, EPISODES, TICKS, ACTING, UPLOADS, UPLOAD_S, INSERTS, SNAPSHOT, JUDGED, UPDATE),
    *(LEARNER, DAMAGED, LOOK_S, QUEUE_RESTARTS, QUEUE_CLIENTS, QUEUE_PUBLISHED, QUEUE_NOTICES),
    *(QUEUE_BYTES, QUEUE_PENDING, QUEUE_UNACKNOWLEDGED, QUEUE_REDELIVERED),
    *(FLEET_PROCESSES, FLEET_RESTARTS, FLEET_SAVED, FLEET_WAITING),
)

_made: dict[str, Any] = {}
"""Metrics of prometheus_client by name."""
_exposed: list[int] = []
"""Ports at which this process serves them."""


def expose(port: int | None) -> int | None:
    """Serve this process's metrics at http://127.0.0.1:PORT/metrics; the port that it has.

    None does nothing, 0 takes any free port. ServiceError if the port is taken.
    """
    if port is None:
        return None
    import prometheus_client

    try:
        server, _ = prometheus_client.start_http_server(port, addr="127.0.0.1")
    except (OSError, OverflowError) as error:
        raise ServiceError(
            f"Metrics cannot be served on 127.0.0.1:{port}: {error}. Give another --metrics-port."
        ) from error
    _exposed.append(server.server_port)
    INFO.set(1, version=__version__)
    log.info("metrics url=http://127.0.0.1:%d/metrics", server.server_port)
    return server.server_port
