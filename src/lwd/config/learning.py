"""DIVL, QAM, and the stages of Algorithm 1."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from tyro.conf import arg

from lwd.config.embodiment import EmbodimentConfig
from lwd.config.pretrained import PretrainedConfig
from lwd.config.require import (
    require,
    require_as_declared,
    require_each,
    require_not_negative,
    require_positive,
)
from lwd.config.robots import FULL, ControlConfig
from lwd.errors import unknown


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
    n_step: int | Mapping[str, int] = field(default=1, hash=False)
    """Chunks in a TD window (Eq. 19): offline 10 for long tasks, 1 for short; online 1. One number,
    or by task; tasks that are not named use 1."""
    target_clip: tuple[float, float] | None = None
    """Clip of the TD target; returns are in [0, 1] although the support reaches 1.1."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        self._check_support()
        levels = ("tau_base", "tau_min", "tau_max")
        expected = "a quantile level lies strictly between 0 and 1"
        require_each(self, levels, lambda tau: 0 < tau < 1, expected)
        require(
            self.tau_min <= self.tau_max,
            f"tau_min is {self.tau_min}, above tau_max, {self.tau_max}; swap them.",
        )
        require_not_negative(self, "alpha")
        steps = self.n_step.values() if isinstance(self.n_step, Mapping) else (self.n_step,)
        require(
            all(isinstance(n, int) and n >= 1 for n in steps),
            f"n_step is {self.n_step}; a TD window has at least 1 chunk, and only whole ones.",
        )

    def _check_support(self) -> None:
        require(self.atoms >= 2, f"atoms is {self.atoms}; a value distribution has at least 2.")
        require(
            -math.inf < self.v_min < self.v_max < math.inf,
            f"v_min is {self.v_min} and v_max is {self.v_max}; the support goes from a lower "
            f"number to a higher one, and every return lies between them.",
        )
        require_positive(self, "sigma")
        clip = self.target_clip
        require(
            clip is None or -math.inf < clip[0] < clip[1] < math.inf,
            f"target_clip is {clip}; give the lower bound first, both finite, or leave it out.",
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
            require(
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
    reference: Literal["own_vlm", "shared_vlm"] = "own_vlm"
    """What the reference flow sees with: the supervised policy's own vision-language model, which
    is kept, or the policy's as it is now. The second spares memory and a prefill, and is exact
    where that model has been frozen since SFT. Presets that do not see have no such part."""
    recompute: Literal["nothing", "elementwise", "everything"] = "elementwise"
    """What of the policy the backward pass evaluates again instead of keeping it for all T steps:
    `everything` keeps one step's activations at a time, for policies of billions of parameters."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        require(
            self.steps >= 2,
            f"steps is {self.steps}; adjoint matching needs at least 2 flow steps.",
        )
        for name in ("inv_temp", "loss_weight", "gate_step"):
            value = getattr(self, name)
            require(
                0 <= value < math.inf, f"{name} is {value}; it must be finite and not negative."
            )
        require(
            self.action_box is None or 0 < self.action_box < math.inf,
            f"action_box is {self.action_box}; it must be positive, or None for no box.",
        )
        require(
            self.gate is None or math.isfinite(self.gate),
            f"gate is {self.gate}; it must be finite, or None for no gate.",
        )


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Learning rates and schedules (-B2)."""

    policy: Literal["adamw", "muon"] = "adamw"
    """What the policy learns by. `muon` makes the step of every matrix orthogonal (Jordan et al.,
    2024): a few times fewer updates, each dearer by what does not grow with the batch. Only for
    presets on state vectors: those that see stack the matrices of their layers."""
    policy_lr: float = 2e-5
    """Peak rate for the policy; a step of Muon is about as long as one of AdamW."""
    critic_lr: float = 5e-4
    """Adam peak rate for V and Q."""
    weight_decay: float = 1e-10
    """Decay of the policy (openpi's default)."""
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
        require_as_declared(self)
        require_not_negative(self, "policy_lr", "critic_lr", "weight_decay", "warmup")
        require_positive(self, "clip_norm")
        expected = "a step of an average lies above 0 and goes up to 1, which copies the network"
        rates = ("ema_rate", *(["value_ema_rate"] if self.value_ema_rate is not None else []))
        require_each(self, rates, lambda rate: 0 < rate <= 1, expected)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of Algorithm 1."""

    updates: int
    """Learner updates in this stage."""
    batch: int = 256
    """Global batch size over all hosts."""
    mixture: Mapping[str, float] = field(hash=False)
    """Share of each replay part in a batch: `demo`, `offline` (B_off), `online` (B_on)."""
    task_balanced: bool = False
    """Inside each part draw tasks evenly, whatever there is of each; else ticks evenly."""
    loss_adaptive: float = 0.0
    """How much likelier ticks of episodes with a high TD loss are: an exponent, 0 is not at all.
    It biases what is learned towards such episodes, within bounds; see `lwd.replay.priorities`."""
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
    trained: Literal["all", "expert"] = "all"
    """Which part of the policy learns: the paper fine-tunes all of it offline, and online freezes
    its vision-language model and trains the action expert alone (IV-D)."""
    draws: int = 1
    """Noises and flow times for each chunk of a supervised batch; what the policy sees is computed
    once for all of them, so that more of them are cheap where it sees much."""
    parts: int = 1
    """Parts of a batch whose gradients are taken one after another, where one pass of the whole
    batch does not fit into memory."""
    deployed: bool = False
    """Robots act with the policy while it learns; otherwise only its end is published."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        least = {"updates": 0, "batch": 1, "episodes": 0, "policy_every": 1, "draws": 1, "parts": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            require(value >= bound, f"{name} is {value}; it must be at least {bound}.")
        require(
            self.batch % self.parts == 0,
            f"batch is {self.batch} and parts is {self.parts}; a batch has equal parts.",
        )
        require(
            self.updates_per_episode > 0,
            f"updates_per_episode is {self.updates_per_episode}; it must be positive, and inf does "
            f"not wait for data.",
        )
        require(
            0 <= self.loss_adaptive < math.inf,
            f"loss_adaptive is {self.loss_adaptive}; it is an exponent, finite and not negative.",
        )
        weights = self.mixture.values()
        require(
            all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0,
            f"mixture is {dict(self.mixture)}; name at least one replay part, with weights that "
            f"are finite, not negative and not all 0, such as demo 1.0.",
        )


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """A recipe with its settings; `lwd` is Algorithm 1: SFT, then offline RL, then online RL."""

    stages: Annotated[dict[str, StageConfig], arg(name="")] = field(hash=False)
    """Stages by name, in the order in which they are trained."""
    recipe: str = "lwd"
    """Module of `lwd.learner.recipes` that says what each stage learns by."""
    preset: str = "state"
    """Model preset: `state`, or `tiny`, `small` and `pi05`, which see."""
    tokenizer: str = "builtin"
    """Path or URL of the tokenizer of a preset that sees; `builtin` is a small one of our own."""
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    """What a preset that sees begins with; a resumed run has its own."""
    embodiment: EmbodimentConfig = field(default_factory=EmbodimentConfig)
    """Which robot the data is of, where it is not the simulated one."""
    control: ControlConfig = FULL
    """Rate and chunk length of the policy."""
    bootstrap_timeouts: bool = False
    """Take a time-out for a mere cut, after which the value counts on; the paper has a failure."""
    single_source: bool = False
    """Leave out chunks that cross the border of an intervention, part policy, part person."""
    seed: int = 0
    """Initial parameters and every random draw of an update."""
    publish_every: int = 50
    """Updates of a deployed stage between two published versions, N_sync."""
    canary: tuple[str, ...] = ()
    """Robots that get what is published until an operator promotes it; none means all at once."""
    checkpoint_every: int = 500
    """Updates between checkpoints; the end of a stage is always one."""
    report_every: int = 20
    """Updates between metric records and looks at new snapshots."""
    max_skipped: int = 10
    """Updates in a row that may be skipped for non-finite numbers before the learner stops."""

    def __post_init__(self) -> None:
        require_as_declared(self)
        for name in ("publish_every", "checkpoint_every", "report_every"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1.")
        require(self.max_skipped >= 0, f"max_skipped is {self.max_skipped}; at least 0.")
        require(bool(self.stages), "stages is empty; a recipe has at least one.")
        divl = [stage.divl for stage in self.stages.values()]
        supports = {(d.outputs, d.v_min, d.v_max) for d in divl}
        require(
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
