"""The processes: learner host, data plane, edge, robot, demo, diagnosis."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from lwd.config.require import require, require_name, require_not_negative
from lwd.config.robots import BLIND, SightConfig


@dataclass(frozen=True, kw_only=True)
class HostConfig:
    """A learner host's place among the hosts of the SPMD job."""

    host: int = 0
    """Index of this host."""
    hosts: int = 1
    """Number of hosts."""
    gather_at: str = "127.0.0.1:8476"
    """Address at which host 0 gathers the others; unused with one host."""
    silence_s: int = 30
    """Seconds without a sign of life after which a host counts as dead and the job ends."""
    fsdp: int = 1
    """Devices that share one copy of the parameters and of what optimisers remember of them; the
    product with the number of copies is the number of devices of all hosts."""

    def __post_init__(self) -> None:
        require(
            0 <= self.host < self.hosts,
            f"host is {self.host} of {self.hosts}; hosts count from 0 to {self.hosts - 1}.",
        )


@dataclass(frozen=True, kw_only=True)
class PlaneConfig:
    """Where the parts of the data plane are. The defaults are the embedded ones under `root`."""

    root: Path = Path("runs/demo")
    """Folder of this run."""
    catalog_url: Annotated[str, arg(aliases=("--catalog",))] = ""
    """sqlite:///FILE or postgresql://USER@HOST/DATABASE; empty means SQLite at root/catalog.db."""
    objects_url: Annotated[str, arg(aliases=("--objects",))] = ""
    """Object store URL (file://, s3://, gs://); empty means root/objects."""
    queue_url: str = "nats://127.0.0.1:4222"
    """NATS server."""
    service_url: str = "http://127.0.0.1:8321"
    """Metadata service, the one address that a robot needs besides the object store."""
    tokens: Path | None = None
    """File of the tokens that the service accepts; without one it listens on the loopback only."""
    tls_cert: Path | None = None
    """Certificate chain (PEM) of the service, for an https:// service URL."""
    tls_key: Path | None = None
    """Private key (PEM) of the service."""
    requests_per_s: float = 100.0
    """Requests that the service takes from each token, and from each address without a valid one;
    0 is without limit. Without tokens it serves this machine only, and has no limit."""
    lease_s: float = 10.0
    """Time after which another coordinator may take over from a silent one."""
    reconcile_s: float = 3.0
    """Time between looks for catalogued episodes whose notice was lost."""
    patience_s: float = 300.0
    """Time after which a catalogued episode without a payload is given up."""
    metrics_port: int | None = None
    """Port on the loopback at which a process serves its Prometheus metrics; 0 takes a free one,
    none serves none."""

    def __post_init__(self) -> None:
        for name in ("lease_s", "reconcile_s", "patience_s"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; it must be positive.")

    @property
    def catalog(self) -> str:
        """URL of the catalog with the embedded default filled in."""
        return self.catalog_url or f"sqlite:///{(self.root / 'catalog.db').absolute()}"

    @property
    def objects(self) -> str:
        """Object store URL with the embedded default filled in."""
        return self.objects_url or (self.root / "objects").absolute().as_uri()


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """How a machine's robots upload."""

    bytes_per_s: float = 0.0
    """Bandwidth that uploads may take on average; 0 is all there is."""
    first: tuple[Literal["failure", "intervention"], ...] = ()
    """Episodes that go before all others: the task was not done, a person took over. Without any
    the oldest goes first."""

    def __post_init__(self) -> None:
        require(self.bytes_per_s >= 0, f"bytes_per_s is {self.bytes_per_s}; 0 is unlimited.")


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """One robot's process."""

    robot: str = "robot-0"
    """Name of the robot in the fleet."""
    index: int = 0
    """Number of the robot; with the seed it decides its scenes."""
    seed: int = 0
    """Seed of the fleet."""
    kind: Literal["demo", "play", "rollout", "online"] = "online"
    """What is recorded; `demo` keeps successes only, `rollout` and `online` need a policy."""
    episodes: int | None = None
    """Episodes of this kind to save in all, over restarts; None means until stopped."""
    spool_quota_bytes: int = 20 << 30
    """Bound of the robot's spool on disk."""
    sight: Annotated[SightConfig, arg(name="")] = BLIND
    """What its cameras keep."""
    tokenizer: str = ""
    """Path or URL of this machine's copy of the tokenizer that the weights were trained with, where
    it is not where the learner had it; its hash must be the one that the weights name."""
    poll_s: float = 5.0
    """Long poll for newer weights; the service answers at once when there are any."""
    interrupted: Literal["keep", "discard"] = "keep"
    """What becomes of an episode inside which the process was killed: what was recorded of it is
    saved as truncated, or discarded; the robot's account says which."""

    def __post_init__(self) -> None:
        require_name("robot", self.robot)
        require_not_negative(self, "index", "seed")
        enough = self.episodes is None or self.episodes >= 0
        require(enough, f"episodes is {self.episodes}; it must not be negative.")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole ring on one machine. The defaults take five to fifteen minutes on two cores."""

    preset: Literal["state", "tiny", "small"] = "state"
    """What the policy is: a network on state vectors, or a small VLA on three cameras. That one
    learns far more slowly: give it fewer tasks, and smaller numbers of everything."""
    out: Path = Path("runs/demo")
    """Folder of the run; an unfinished run in it goes on, a finished one is moved aside."""
    seed: int = 0
    """Decides every scene, every initial parameter and every draw."""
    robots: int = 4
    """Robots in the fleet, each with processes of its own."""
    tasks: tuple[str, ...] = ("restocking", "freezer")
    """Tasks, dealt to the robots in turn."""
    demos: int = 220
    """Successful demonstrations of each task."""
    play: int = 20
    """Episodes of play, with deliberate faults, of each task."""
    rollouts: int = 150
    """Episodes of the SFT policy, both outcomes, of each task, for the offline buffer."""
    sft_updates: int = 2000
    """Learner updates of supervised fine-tuning."""
    offline_updates: int = 1000
    """Learner updates of offline RL."""
    online_updates: int = 800
    """Learner updates of online RL."""
    updates_per_episode: float = 5.0
    """Online updates for each episode of the fleet."""
    evaluation_episodes: int = 25
    """Held-out starts of each task, the same for all three policies."""
    intervene: bool = True
    """A simulated human takes over when a policy is stuck."""
    plain: bool = False
    """Print lines instead of the live view; so does an output that is no terminal."""

    def __post_init__(self) -> None:
        require(self.robots >= 1, f"robots is {self.robots}; at least 1 is needed.")
        require(bool(self.tasks), "tasks is empty; name at least one.")
        for name in ("demos", "rollouts", "evaluation_episodes", "offline_updates"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1.")


@dataclass(frozen=True, kw_only=True)
class ChaosConfig:
    """A storm over a fleet of cheap robots."""

    root: Path = Path("runs")
    """Folder in which the storm makes a folder of its own."""
    catalog_url: Annotated[str, arg(aliases=("--catalog",))] = ""
    """A catalog for this alone; empty means SQLite in the storm's folder."""
    objects_url: Annotated[str, arg(aliases=("--objects",))] = ""
    """An object store for this alone; empty means the storm's folder."""
    episodes: int = 500
    """Episodes that the robots make in all."""
    kills: int = 50
    """SIGKILLs over all processes."""
    faults: int = 50
    """Other faults, of every kind."""
    seed: int = 0
    """Decides every fault: what, when, to whom."""
    robots: int = 4
    """Robots in the fleet."""
    seconds: float = 0.0
    """Time in which the faults come; 0 means 1.2 s for each kill, at least 20 s."""
    simulated: bool = False
    """Robots of the simulator instead of synthetic ones: real episodes, and slow."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("robots", 1), ("kills", 0), ("faults", 0)):
            value = getattr(self, name)
            require(value >= least, f"{name} is {value}; at least {least}.")
        require_not_negative(self, "seconds")

    @property
    def storm_s(self) -> float:
        """Time in which the faults come."""
        return self.seconds or max(20.0, 1.2 * self.kills)


@dataclass(frozen=True, kw_only=True)
class DiagnosisConfig:
    """What a critic is examined with."""

    source: Literal["fresh", "held-out", "recorded"] = "fresh"
    """Episodes: `fresh` ones from held-out scenes of the simulator, by the checkpoint's policy;
    the newest `held-out` ones of the catalog; or `recorded`, its newest online ones, which the
    critic was probably trained on."""
    episodes: int = 30
    """Episodes of each task."""
    seed: int = 0
    """Scenes of fresh episodes, noises, and bootstrap draws."""
    tasks: tuple[str, ...] = ("restocking", "freezer")
    """Tasks whose episodes are looked at."""
    checkpoint: int | None = None
    """Number of the checkpoint; the newest if none is given."""
    samples: int = 8
    """Chunks drawn of each kind in each state."""
    simulate: bool = False
    """Also execute several chunks from the same states of the simulator and compare outcomes."""
    simulated_episodes: int = 10
    """Episodes of each task whose states are used for that."""

    def __post_init__(self) -> None:
        require(bool(self.tasks), "tasks is empty; name at least one.")
        for name, least in (("episodes", 1), ("samples", 2), ("simulated_episodes", 1)):
            value = getattr(self, name)
            require(value >= least, f"{name} is {value}; at least {least}.")
