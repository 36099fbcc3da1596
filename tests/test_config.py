"""Settings that cannot work are refused by name, with what was given and what is expected."""

import math
from copy import copy
from dataclasses import replace

import pytest
import tyro

from lwd.config import (
    ControlConfig,
    DivlConfig,
    LearnerConfig,
    OptimiserConfig,
    QamConfig,
    StageConfig,
)
from lwd.errors import ConfigError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atoms": 1}, "atoms is 1; a value distribution has at least 2"),
        ({"v_min": 1.1}, "v_min is 1.1 and v_max is 1.1"),
        ({"v_min": 2.0}, "v_min is 2.0 and v_max is 1.1"),
        ({"v_max": math.inf}, "v_max is inf"),
        ({"v_min": math.nan}, "v_min is nan"),
        ({"tau_base": 0.0}, "tau_base is 0.0; a quantile level lies strictly between 0 and 1"),
        ({"tau_base": 1.0}, "tau_base is 1.0"),
        ({"tau_min": -0.1}, "tau_min is -0.1"),
        ({"tau_max": 1.5}, "tau_max is 1.5"),
        ({"tau_max": math.nan}, "tau_max is nan"),
        ({"tau_min": 0.8, "tau_max": 0.7}, "tau_min is 0.8, above tau_max, 0.7"),
        ({"alpha": -0.3}, "alpha is -0.3; it must be finite and not negative"),
        ({"alpha": math.inf}, "alpha is inf"),
        ({"sigma": 0.0}, "sigma is 0.0; it must be positive"),
        ({"n_step": 0}, "n_step is 0; a TD window has at least 1 chunk"),
        ({"n_step": {"freezer": 10, "restocking": 0}}, "n_step is .*'restocking': 0"),
        ({"target_clip": (1.0, 0.0)}, r"target_clip is \(1.0, 0.0\); give the lower bound first"),
        ({"target_clip": (0.0, math.nan)}, "target_clip"),
        ({"target_clip": (0.0, math.inf)}, r"target_clip is \(0.0, inf\); .* both finite"),
        ({"target_clip": (-math.inf, 1.0)}, "target_clip"),
    ],
)
def test_value_learning_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        DivlConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ema_rate": 0.0}, "ema_rate is 0.0; a step of an average lies above 0"),
        ({"ema_rate": 1.01}, "ema_rate is 1.01"),
        ({"value_ema_rate": 0.0}, "value_ema_rate is 0.0"),
        ({"value_ema_rate": math.nan}, "value_ema_rate is nan"),
        ({"policy_lr": -1e-4}, "policy_lr is -0.0001"),
        ({"critic_lr": math.nan}, "critic_lr is nan"),
        ({"policy_lr": math.inf}, "policy_lr is inf"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0; it must be positive"),
        ({"warmup": -1}, "warmup is -1"),
    ],
)
def test_an_optimiser_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        OptimiserConfig(**change)


STAGE = StageConfig(updates=1, mixture={"demo": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": -1}, "updates is -1; it must be at least 0"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"episodes": -1}, "episodes is -1"),
        ({"policy_every": 0}, "policy_every is 0; it must be at least 1"),
        ({"updates_per_episode": 0.0}, "updates_per_episode is 0.0; it must be positive"),
        ({"updates_per_episode": math.nan}, "updates_per_episode is nan"),
        ({"mixture": {}}, "mixture is {}; name at least one replay part"),
        ({"mixture": {"demo": 0.0}}, "mixture is {'demo': 0.0}"),
        ({"mixture": {"demo": 2.0, "online": -1.0}}, "mixture is .*'online': -1.0"),
        ({"mixture": {"demo": math.nan}}, "mixture is {'demo': nan}"),
        ({"mixture": {"demo": math.inf}}, "mixture is {'demo': inf}"),
    ],
)
def test_a_stage_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(STAGE, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": {}}, "stages is empty"),
        ({"publish_every": 0}, "publish_every is 0; at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"report_every": 0}, "report_every is 0"),
        ({"max_skipped": -1}, "max_skipped is -1"),
    ],
)
def test_a_recipe_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        LearnerConfig(**{"stages": {"sft": STAGE}} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1}, "steps is 1; adjoint matching needs at least 2 flow steps"),
        ({"inv_temp": -0.5}, "inv_temp is -0.5; it must be finite and not negative"),
        ({"inv_temp": math.nan}, "inv_temp is nan"),
        ({"loss_weight": math.inf}, "loss_weight is inf"),
        ({"action_box": 0.0}, "action_box is 0.0; it must be positive, or None"),
        ({"gate": math.nan}, "gate is nan; it must be finite, or None for no gate"),
        ({"gate": math.inf}, "gate is inf"),
    ],
)
def test_adjoint_matching_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        QamConfig(**change)


RECIPE = LearnerConfig(stages={"sft": STAGE})


@pytest.mark.parametrize(
    ("config", "name", "given", "message"),
    [
        (DivlConfig(), "quantile", "atoms", "quantile 'atoms' is unknown. Did you mean 'atom'"),
        (DivlConfig(), "projection", "hlgauss", "Did you mean 'hl_gauss'"),
        (DivlConfig(), "value", "expctile", "Known: categorical, expectile"),
        (DivlConfig(), "atoms", 2.5, "atoms is 2.5; it must be a whole number"),
        (DivlConfig(), "n_step", 1.5, "n_step is 1.5; .* only whole ones"),
        (DivlConfig(), "n_step", {"freezer": 1.5}, "n_step is .*'freezer': 1.5"),
        (QamConfig(), "sampler", "brigde", "sampler 'brigde' is unknown. Did you mean 'bridge'"),
        (QamConfig(), "critic_gradient", "target_max", "Did you mean 'target_mean'"),
        (QamConfig(), "weighting", "flat", "Known: None, constant, sigma"),
        (QamConfig(), "reference", "own", "Known: own_vlm, shared_vlm"),
        (QamConfig(), "recompute", "all", "Known: elementwise, everything, nothing"),
        (QamConfig(), "steps", 2.5, "steps is 2.5; it must be a whole number"),
        (OptimiserConfig(), "policy", "adam", "policy 'adam' is unknown. Did you mean 'adamw'"),
        (OptimiserConfig(), "warmup", 0.5, "warmup is 0.5; it must be a whole number"),
        (STAGE, "trained", "experts", "trained 'experts' is unknown. Did you mean 'expert'"),
        (STAGE, "updates", 1.5, "updates is 1.5; it must be a whole number"),
        (RECIPE, "seed", 0.5, "seed is 0.5; it must be a whole number"),
    ],
)
def test_what_a_type_forbids_is_refused(config, name, given, message):
    """Set past the constructor, whose types the suite checks and a user's process does not."""
    other = copy(config)
    object.__setattr__(other, name, given)
    with pytest.raises(ConfigError, match=message):
        other.__post_init__()


@pytest.mark.parametrize("execute", [0, -1, 11])
def test_a_chunk_is_carried_out_in_part_or_whole(execute):
    expected = f"execute is {execute}; between 1 and all 10 ticks of a chunk"
    with pytest.raises(ConfigError, match=expected):
        ControlConfig(horizon=10, execute=execute)


def test_stages_share_one_value_network():
    scalar = replace(STAGE, divl=DivlConfig(value="expectile"))
    with pytest.raises(ConfigError, match="different value supports"):
        LearnerConfig(stages={"offline": STAGE, "online": scalar})
    LearnerConfig(stages={"offline": scalar, "online": scalar})


def test_the_ends_of_what_is_allowed_are_allowed():
    DivlConfig(atoms=2, alpha=0.0, tau_min=0.6, tau_max=0.6, n_step={}, target_clip=(0.0, 1.0))
    OptimiserConfig(ema_rate=1.0, value_ema_rate=1.0, policy_lr=0.0, warmup=0)
    StageConfig(updates=0, batch=1, mixture={"demo": 1.0, "online": 0.0}, episodes=0)


def test_a_change_is_checked_like_the_original():
    with pytest.raises(ConfigError, match="tau_base is 2"):
        replace(DivlConfig(), tau_base=2.0)


@pytest.mark.parametrize(
    ("support", "returns"), [((-0.1, 0.9), (0.4, 1.0)), ((0.0, 1.1), (-0.5, 0.0))]
)
def test_a_support_that_does_not_cover_the_returns_is_refused(support, returns):
    config = DivlConfig(v_min=support[0], v_max=support[1])
    with pytest.raises(ConfigError, match=r"support is .* go from .* to .* Set divl\.v_min"):
        config.require_support(*returns)
    DivlConfig().require_support(0.0, 1.0)


def test_a_clip_that_does_not_cover_the_returns_is_refused():
    clipped = DivlConfig(target_clip=(0.0, 0.9))
    with pytest.raises(ConfigError, match=r"target_clip is \(0.0, 0.9\), but"):
        clipped.require_support(0.0, 1.0)
    clipped.require_support(0.0, 0.9)


def test_the_command_line_takes_one_window_or_one_for_each_task():
    for words, expected in (("3", 3), ("freezer 10 other 1", {"freezer": 10, "other": 1})):
        assert tyro.cli(DivlConfig, args=["--n-step", *words.split()]).n_step == expected
