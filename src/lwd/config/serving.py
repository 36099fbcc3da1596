"""The policy server: what it listens to, how it batches, what it records."""

from dataclasses import dataclass
from typing import Literal

from lwd.config.require import require, require_not_negative


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """A server of one policy for many robots, over openpi's protocol."""

    host: str = "127.0.0.1"
    """Address to listen on; others than the loopback need tokens."""
    port: int = 8000
    """Port of the robots' connections, `/healthz`, `/metrics` and the marks; 0 takes any."""
    name: str = "server"
    """Name under which the server asks for weights: a canary's, say."""
    layout: Literal["lwd", "libero", "droid", "aloha"] = "lwd"
    """Keys of the observations that the robots send."""
    tokenizer: str = ""
    """Path or URL of this machine's copy of the tokenizer that the weights were trained with, where
    it is not where the learner had it; its hash must be the one that the weights name."""
    prompt: str = ""
    """Instruction of a robot that sends none."""
    batch: int = 32
    """Most requests that are computed together."""
    window_s: float = 0.01
    """How long a first request waits for others to be computed with it."""
    waiting: int = 128
    """Most requests that wait; one more is refused."""
    deadline_s: float = 2.0
    """Longest wait of a request before it is refused."""
    robots: int = 256
    """Most connections of robots."""
    frame_bytes: int = 64 << 20
    """Largest message of a robot."""
    silence_s: float = 600.0
    """A robot that is silent for so long is disconnected."""
    gap_s: float = 10.0
    """A pause between requests that ends an episode of a robot that names none; 0 for never."""
    record: bool = False
    """Record the episodes that the server sees into ROOT/spool, a spool for each robot."""
    upload: bool = True
    """Upload what is recorded; otherwise `lwd edge` does."""
    task: str = "served"
    """Task name of recorded episodes."""
    kind: Literal["rollout", "online"] = "online"
    """What recorded episodes count as."""
    executed: int = 0
    """Ticks of each chunk that robots execute (openpi's `action_horizon`) where they do not say;
    0 reckons from the time between requests."""
    joints: tuple[int, ...] = ()
    """Where in the state the measured value of every action dimension is, for absolute targets.
    With it a person's actions can be recorded on a robot that does not send them."""

    def __post_init__(self) -> None:
        for name in ("batch", "waiting", "robots", "frame_bytes"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1.")
        for name in ("deadline_s", "silence_s"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; above 0.")
        require_not_negative(self, "window_s", "gap_s", "executed")
