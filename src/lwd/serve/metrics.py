"""What Prometheus reads of a policy server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lwd_serve_requests",
            "Requests of robots, by what became of them.",
            ["result"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "lwd_serve_request_seconds",
            "From a message to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waited = Histogram(
            "lwd_serve_waited_seconds",
            "In the queue of requests.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inference = Histogram(
            "lwd_serve_inference_seconds",
            "Computation of a batch.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.together = Histogram(
            "lwd_serve_batch_requests",
            "Requests in the batch of a request.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.refused = Counter(
            "lwd_serve_refused",
            "Connections that were refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.episodes = Counter(
            "lwd_serve_episodes", "Episodes that ended.", ["outcome"], registry=self.registry
        )
        self.robots = Gauge(
            "lwd_serve_robots", "Robots that are connected.", registry=self.registry
        )
        self.waiting = Gauge(
            "lwd_serve_waiting", "Requests in the queue now.", registry=self.registry
        )
        self.version = Gauge(
            "lwd_serve_policy_version",
            "Version that a new episode acts with.",
            registry=self.registry,
        )
        self.held = Gauge(
            "lwd_serve_episodes_held",
            "Episodes that wait for room on the disk.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
