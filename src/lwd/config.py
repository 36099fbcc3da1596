"""Every knob of the system: frozen dataclasses with the paper's values as defaults.

Functions take values, not these objects; only processes (learner, actor, services, cli) see them.
Section numbers point to the LWD paper (arXiv 2605.00416).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lwd.errors import ConfigError, unknown


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """How often a robot acts and how long a chunk is (V-A1)."""

    rate_hz: float = 30.0
    """Control ticks per second."""
    horizon: int = 30
    """Ticks in an action chunk, H."""
    timestep_s: float = 0.002
    """Physics step of the simulator in seconds."""

    def __post_init__(self) -> None:
        _require(self.rate_hz > 0, f"rate_hz is {self.rate_hz}; it must be positive.")
        _require(self.horizon > 0, f"horizon is {self.horizon}; it must be positive.")

    def discount(self, per_tick_30hz: float = 0.9999) -> float:
        """Discount per tick so that one second is discounted as the paper's 30 ticks (-B2)."""
        return per_tick_30hz ** (30.0 / self.rate_hz)


FULL = ControlConfig()
COMPACT = ControlConfig(rate_hz=10.0, horizon=10, timestep_s=0.005)
CONTROL: dict[str, ControlConfig] = {"full": FULL, "compact": COMPACT}


def control(name: str) -> ControlConfig:
    """Control preset by name: `full` (30 Hz, H = 30) or `compact` (10 Hz, H = 10)."""
    if name not in CONTROL:
        raise unknown("control rate", name, CONTROL)
    return CONTROL[name]


@dataclass(frozen=True, kw_only=True)
class StateLayout:
    """Order and sizes of the parts of a state vector: arms, then object slots, then scalars.

    Positions are in m in the robot's base frame; a rotation is its first two columns (6D).
    """

    arms: int = 2
    """Arms of the robot."""
    arm: int = 25
    """Per arm: joint positions 7 (rad), joint velocities 7, gripper opening (m) and its velocity,
    hand position 3, hand rotation 6D."""
    slots: int = 10
    """Object slots; an absent object is all zeros."""
    slot: int = 17
    """Per slot: position 3, rotation 6D, shape one-hot 3, colour one-hot 4, present 1."""
    scalars: int = 12
    """Elapsed fraction of the time limit, door angle (rad), door was open once, fixture position 3
    and yaw, goal position 3, two spare."""

    @property
    def proprio(self) -> int:
        """Dimensions of all arms."""
        return self.arms * self.arm

    @property
    def size(self) -> int:
        """Length of the whole state vector."""
        return self.proprio + self.slots * self.slot + self.scalars

    @property
    def joints(self) -> list[int]:
        """Index of the measured value of every action dimension (7 joints and gripper, per arm)."""
        return [a * self.arm + i for a in range(self.arms) for i in (*range(7), 14)]

    @property
    def positions(self) -> list[slice]:
        """Where the position of every hand, slot and of the goal lies."""
        hands = [a * self.arm + 16 for a in range(self.arms)]
        slots = [self.proprio + s * self.slot for s in range(self.slots)]
        goal = self.size - self.scalars + 7
        return [slice(first, first + 3) for first in (*hands, *slots, goal)]


@dataclass(frozen=True, kw_only=True)
class DivlConfig:
    """Distributional implicit value learning (IV-A, -A1, -B2)."""

    atoms: int = 201
    """Categories of the value distribution."""
    v_min: float = -0.1
    """Lowest atom."""
    v_max: float = 1.1
    """Highest atom."""
    tau_base: float = 0.6
    """Quantile level for confident states: 0.6 offline, 0.9 online."""
    alpha: float = 0.3
    """Sensitivity of tau to the normalised entropy."""
    tau_min: float = 0.05
    """Lower clip of tau; the paper does not give it."""
    tau_max: float = 0.95
    """Upper clip of tau; the paper does not give it."""
    quantile: Literal["interpolated", "atom"] = "interpolated"
    """`atom` is Eq. 13 to the letter and erases the discount in one-step backups."""
    n_step: int = 1
    """Chunks in a TD window (Eq. 19): offline 10 for long tasks, 1 for short; online 1."""
    target_clip: tuple[float, float] | None = None
    """Clip of the TD target; returns are in [0, 1] although the support reaches 1.1."""


@dataclass(frozen=True, kw_only=True)
class QamConfig:
    """Policy extraction by adjoint matching (IV-B)."""

    inv_temp: float = 0.5
    """Multiplies Q: 1 / lambda of Eq. 8. The paper's lambda = 2 gives 0.5."""
    steps: int = 10
    """Flow steps of the memoryless roll-out, T."""
    sampler: Literal["bridge", "euler"] = "bridge"
    """`bridge` preserves the marginals; `euler` is the scheme of the official QAM code."""
    critic_gradient: Literal["target_mean", "target_min", "online_mean"] = "target_mean"
    """Which Q gives the action gradient; the paper does not say."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Learning rates and schedules (-B2)."""

    policy_lr: float = 2e-5
    """AdamW peak rate for the policy."""
    critic_lr: float = 5e-4
    """Adam peak rate for V and Q."""
    weight_decay: float = 1e-10
    """AdamW decay of the policy (openpi's default)."""
    clip_norm: float = 1.0
    """Global-norm clip per network."""
    warmup: int = 100
    """Linear warm-up updates."""
    ema_rate: float = 0.005
    """Step of the target Q: target += ema_rate * (online - target)."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of Algorithm 1."""

    updates: int
    """Learner updates in this stage."""
    batch: int = 256
    """Global batch size over all hosts."""
    mixture: Mapping[str, float]
    """Share of each replay part in a batch: `demo`, `offline` (B_off), `online` (B_on)."""
    episodes: int = 1
    """Episodes of the rarest part of the mixture that must be in the snapshot to start."""
    updates_per_episode: float = math.inf
    """Updates allowed for each episode of the rarest part; the learner waits for more data."""
    policy_every: int = 1
    """Updates of V and Q for each one of the policy; the paper has 1. More let a critic that
    starts from nothing get ahead of the policy that follows it."""
    divl: DivlConfig = field(default_factory=DivlConfig)
    """Value learning in this stage."""
    qam: QamConfig = field(default_factory=QamConfig)
    """Policy extraction in this stage."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Learning rates of this stage."""


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Algorithm 1: SFT, then offline RL, then online RL."""

    sft: StageConfig
    """Supervised fine-tuning on demonstrations."""
    offline: StageConfig
    """RL on what was recorded before deployment."""
    online: StageConfig
    """RL while the fleet is deployed."""
    preset: str = "state"
    """Model preset."""
    control: ControlConfig = FULL
    """Rate and chunk length of the policy."""
    seed: int = 0
    """Initial parameters and every random draw of an update."""
    publish_every: int = 100
    """Online updates between two published versions, N_sync."""
    checkpoint_every: int = 500
    """Updates between checkpoints; the end of a stage is always one."""
    report_every: int = 20
    """Updates between metric records and looks at new snapshots."""
    max_skipped: int = 10
    """Updates in a row that may be skipped for non-finite numbers before the learner stops."""

    def stage(self, name: str) -> StageConfig:
        """Stage by name: `sft`, `offline` or `online`."""
        if name not in STAGES:
            raise unknown("stage", name, STAGES)
        return getattr(self, name)


STAGES = ("sft", "offline", "online")
"""Order of Algorithm 1."""


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

    def __post_init__(self) -> None:
        _require(
            0 <= self.host < self.hosts,
            f"host is {self.host} of {self.hosts}; hosts count from 0 to {self.hosts - 1}.",
        )


@dataclass(frozen=True, kw_only=True)
class PlaneConfig:
    """Where the parts of the data plane are. The defaults are the embedded ones under `root`."""

    root: Path = Path("runs/demo")
    """Folder of this run."""
    catalog_url: str = ""
    """SQLAlchemy URL; empty means SQLite at root/catalog.db."""
    objects_url: str = ""
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
    lease_s: float = 10.0
    """Time after which another coordinator may take over from a silent one."""
    reconcile_s: float = 3.0
    """Time between looks for catalogued episodes whose notice was lost."""
    patience_s: float = 300.0
    """Time after which a catalogued episode without a payload is given up."""

    def __post_init__(self) -> None:
        for name in ("lease_s", "reconcile_s", "patience_s"):
            value = getattr(self, name)
            _require(value > 0, f"{name} is {value}; it must be positive.")

    @property
    def catalog(self) -> str:
        """SQLAlchemy URL with the embedded default filled in."""
        return self.catalog_url or f"sqlite:///{(self.root / 'catalog.db').absolute()}"

    @property
    def objects(self) -> str:
        """Object store URL with the embedded default filled in."""
        return self.objects_url or (self.root / "objects").absolute().as_uri()


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
    poll_s: float = 5.0
    """Long poll for newer weights; the service answers at once when there are any."""

    def __post_init__(self) -> None:
        _require(self.index >= 0, f"index is {self.index}; it must not be negative.")
        _require(self.seed >= 0, f"seed is {self.seed}; it must not be negative.")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The whole ring on one machine. The defaults take about five minutes on two cores."""

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
    sft_updates: int = 3000
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
        _require(self.robots >= 1, f"robots is {self.robots}; at least 1 is needed.")
        _require(bool(self.tasks), "tasks is empty; name at least one.")
        for name in ("demos", "rollouts", "evaluation_episodes", "offline_updates"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1.")
