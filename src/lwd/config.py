"""Every knob of the system: frozen dataclasses with the paper's values as defaults.

Functions take values, not these objects; only processes (learner, actor, services, cli) see them.
Section numbers point to the LWD paper (arXiv 2605.00416).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from lwd.errors import ConfigError, unknown


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_each(
    config: Any, names: tuple[str, ...], holds: Callable[[Any], bool], expected: str
) -> None:
    """The same condition on several fields; the message names the first that breaks it."""
    for name in names:
        value = getattr(config, name)
        _require(holds(value), f"{name} is {value}; {expected}.")


def _require_positive(config: Any, *names: str) -> None:
    """Finite numbers above 0."""
    _require_each(config, names, lambda x: 0 < x < math.inf, "it must be positive and finite")


def _require_not_negative(config: Any, *names: str) -> None:
    """Finite numbers, 0 or above."""
    _require_each(config, names, lambda x: 0 <= x < math.inf, "it must be finite and not negative")


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
    projection: Literal["two_hot", "hl_gauss"] = "two_hot"
    """Targets of the value distribution: C51's, as in the paper, or a Gaussian for each value."""
    sigma: float = 0.75
    """Width of that Gaussian in spacings of the atoms."""
    value: Literal["categorical", "expectile"] = "categorical"
    """`expectile` is IQL's scalar V, the ablation of Table V: tau_base is its expectile level, the
    same in every state, and what is said here of atoms does not apply."""
    n_step: int | Mapping[str, int] = 1
    """Chunks in a TD window (Eq. 19): offline 10 for long tasks, 1 for short; online 1. One number,
    or by task; tasks that are not named use 1."""
    target_clip: tuple[float, float] | None = None
    """Clip of the TD target; returns are in [0, 1] although the support reaches 1.1."""

    def __post_init__(self) -> None:
        self._check_support()
        levels = ("tau_base", "tau_min", "tau_max")
        expected = "a quantile level lies strictly between 0 and 1"
        _require_each(self, levels, lambda tau: 0 < tau < 1, expected)
        _require(
            self.tau_min <= self.tau_max,
            f"tau_min is {self.tau_min}, above tau_max, {self.tau_max}; swap them.",
        )
        _require_not_negative(self, "alpha")
        steps = self.n_step.values() if isinstance(self.n_step, Mapping) else (self.n_step,)
        _require(
            all(n >= 1 for n in steps),
            f"n_step is {self.n_step}; a TD window has at least 1 chunk.",
        )

    def _check_support(self) -> None:
        _require(self.atoms >= 2, f"atoms is {self.atoms}; a value distribution has at least 2.")
        _require(
            -math.inf < self.v_min < self.v_max < math.inf,
            f"v_min is {self.v_min} and v_max is {self.v_max}; the support goes from a lower "
            f"number to a higher one, and every return lies between them.",
        )
        _require_positive(self, "sigma")
        clip = self.target_clip
        _require(
            clip is None or clip[0] < clip[1],
            f"target_clip is {clip}; give the lower bound first, or leave it out.",
        )

    @property
    def outputs(self) -> int:
        """Outputs of the value network: one for each atom, or a scalar."""
        return self.atoms if self.value == "categorical" else 1

    @property
    def width(self) -> float:
        """`sigma` as `lwd.algorithms.categorical` counts it: 0 for two-hot targets."""
        return self.sigma if self.projection == "hl_gauss" else 0.0

    def require_support(self, lowest: float, highest: float) -> None:
        """ConfigError unless the support (and the clip) cover these returns."""
        ranges = {"The support": (self.v_min, self.v_max), "target_clip": self.target_clip}
        for name, bounds in ranges.items():
            _require(
                bounds is None or bounds[0] <= lowest <= highest <= bounds[1],
                f"{name} is {bounds}, but the returns in the snapshot go from {lowest:g} to "
                f"{highest:g}: values outside cannot be learnt. Set divl.v_min and divl.v_max (or "
                f"target_clip) below and above them, with a margin, in all stages.",
            )


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
    gate: float | None = None
    """Follow the critic only in states where even the most cautious head sees a gain over the
    reference of more than this many standard deviations between heads; elsewhere the reference is
    the target. None, as in the paper: everywhere."""
    gate_step: float = 0.1
    """Step along the gradient whose gain the gate asks for: root mean square, normalised units."""
    action_box: float | None = None
    """Outside [-action_box, action_box], in normalised units, a coordinate of the action gradient
    is 0. The official QAM code has 1, its actions' bound; None does not stop it anywhere."""
    loss_weight: float = 1.0
    """Weight of adjoint matching in the policy's loss. On its own it only says when the gradient's
    norm is clipped."""
    weighting: Literal["constant", "sigma"] | None = None
    """Weight over flow time: `constant`, or Eq. 9's (2 / sigma)^2; None leaves it to the sampler:
    constant for `bridge`, Eq. 9's for `euler`. The optimum is the same."""
    recompute: Literal["nothing", "elementwise", "everything"] = "elementwise"
    """What of the policy the backward pass evaluates again instead of keeping it for all T steps:
    `everything` keeps one step's activations at a time, for policies of billions of parameters."""

    def __post_init__(self) -> None:
        _require(
            self.steps >= 2,
            f"steps is {self.steps}; adjoint matching needs at least 2 flow steps.",
        )
        for name in ("inv_temp", "loss_weight", "gate_step"):
            value = getattr(self, name)
            _require(
                0 <= value < math.inf, f"{name} is {value}; it must be finite and not negative."
            )
        _require(
            self.action_box is None or 0 < self.action_box < math.inf,
            f"action_box is {self.action_box}; it must be positive, or None for no box.",
        )
        for name, known in QAM_CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), [str(choice) for choice in known])


QAM_CHOICES: dict[str, tuple[str | None, ...]] = {
    "sampler": ("bridge", "euler"),
    "critic_gradient": ("target_mean", "target_min", "online_mean"),
    "weighting": ("constant", "sigma", None),
    "recompute": ("nothing", "elementwise", "everything"),
}
"""What the named choices of QamConfig may be."""


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
    value_ema_rate: float | None = None
    """The same for a target V that is then bootstrapped from (-B2 has one, with 0.005); None
    bootstraps from V itself, as Eq. 14 and 19 do."""

    def __post_init__(self) -> None:
        _require_not_negative(self, "policy_lr", "critic_lr", "weight_decay", "warmup")
        _require_positive(self, "clip_norm")
        expected = "a step of an average lies above 0 and goes up to 1, which copies the network"
        rates = ("ema_rate", *(["value_ema_rate"] if self.value_ema_rate is not None else []))
        _require_each(self, rates, lambda rate: 0 < rate <= 1, expected)


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
    fresh: int = 0
    """Episodes by the policy that was published last that must be there too: a collection round."""
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
    deployed: bool = False
    """Robots act with the policy while it learns; otherwise only its end is published."""

    def __post_init__(self) -> None:
        for name, least in (("updates", 0), ("batch", 1), ("episodes", 0), ("policy_every", 1)):
            value = getattr(self, name)
            _require(value >= least, f"{name} is {value}; it must be at least {least}.")
        _require(
            self.updates_per_episode > 0,
            f"updates_per_episode is {self.updates_per_episode}; it must be positive, and inf does "
            f"not wait for data.",
        )
        weights = self.mixture.values()
        _require(
            all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0,
            f"mixture is {dict(self.mixture)}; name at least one replay part, with weights that "
            f"are finite, not negative and not all 0, such as demo 1.0.",
        )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """A recipe with its settings; `lwd` is Algorithm 1: SFT, then offline RL, then online RL."""

    stages: Annotated[dict[str, StageConfig], arg(name="")]
    """Stages by name, in the order in which they are trained."""
    recipe: str = "lwd"
    """Module of `lwd.learner.recipes` that says what each stage learns by."""
    preset: str = "state"
    """Model preset."""
    control: ControlConfig = FULL
    """Rate and chunk length of the policy."""
    seed: int = 0
    """Initial parameters and every random draw of an update."""
    publish_every: int = 100
    """Updates of a deployed stage between two published versions, N_sync."""
    checkpoint_every: int = 500
    """Updates between checkpoints; the end of a stage is always one."""
    report_every: int = 20
    """Updates between metric records and looks at new snapshots."""
    max_skipped: int = 10
    """Updates in a row that may be skipped for non-finite numbers before the learner stops."""

    def __post_init__(self) -> None:
        for name in ("publish_every", "checkpoint_every", "report_every"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1.")
        _require(self.max_skipped >= 0, f"max_skipped is {self.max_skipped}; at least 0.")
        _require(bool(self.stages), "stages is empty; a recipe has at least one.")
        divl = [stage.divl for stage in self.stages.values()]
        supports = {(d.outputs, d.v_min, d.v_max) for d in divl}
        _require(
            len(supports) <= 1,
            f"stages have different value supports (atoms, v_min, v_max): {sorted(supports)}; all "
            f"of {', '.join(self.stages)} share one critic, give each the same.",
        )

    def stage(self, name: str) -> StageConfig:
        """Stage by name; ConfigError if the recipe has none of that name."""
        if name not in self.stages:
            raise unknown("stage", name, self.stages)
        return self.stages[name]

    def with_stage(self, name: str, **changes: Any) -> "LearnerConfig":
        """The same recipe with other settings in one stage."""
        changed = replace(self.stage(name), **changes)
        return replace(self, stages=self.stages | {name: changed})


STAGES = ("sft", "offline", "online")
"""Stages of Algorithm 1."""


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
        _require(bool(self.tasks), "tasks is empty; name at least one.")
        for name, least in (("episodes", 1), ("samples", 2), ("simulated_episodes", 1)):
            value = getattr(self, name)
            _require(value >= least, f"{name} is {value}; at least {least}.")
