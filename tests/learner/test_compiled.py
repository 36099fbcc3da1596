"""What an update is compiled for."""

from dataclasses import fields, replace

import pytest

from learner.fleet import tiny
from lwd.learner.compiled import without_rates

STAGE = tiny().stage("offline")
READ = {
    "divl": {
        "atoms": 31, "v_min": -0.2, "v_max": 1.2, "alpha": 0.1, "tau_min": 0.1, "tau_max": 0.9,
        "quantile": "atom", "projection": "hl_gauss", "sigma": 0.5, "value": "expectile",
        "target_clip": (0.0, 1.0),
    },
    "qam": {
        "inv_temp": 0.25, "steps": 7, "sampler": "euler", "critic_gradient": "online_mean",
        "gate": 1.0, "gate_step": 0.2, "action_box": 1.0, "loss_weight": 2.0, "weighting": "sigma",
        "reference": "shared_vlm", "recompute": "nothing",
    },
    "optimiser": {
        "policy": "muon", "weight_decay": 0.1, "clip_norm": 2.0, "ema_rate": 0.1,
        "value_ema_rate": 0.1,
    },
}  # fmt: skip
"""Other values of all settings that the program of an update depends on."""
GIVEN = {
    "divl": {"tau_base": 0.7, "n_step": 5},
    "qam": {},
    "optimiser": {"policy_lr": 1.0, "critic_lr": 1.0, "warmup": 7},
}
"""Those that it is given with every call, or that only say what its batches are."""


@pytest.mark.parametrize("part", READ)
def test_stages_share_a_program_where_they_differ_in_nothing_that_it_reads(part):
    settings = getattr(STAGE, part)
    assert {field.name for field in fields(settings)} == READ[part].keys() | GIVEN[part].keys()
    for name, value in (READ[part] | GIVEN[part]).items():
        assert getattr(settings, name) != value, name
        other = replace(STAGE, **{part: replace(settings, **{name: value})})
        assert (without_rates(other) == without_rates(STAGE)) == (name in GIVEN[part]), name


def test_so_do_stages_that_differ_in_their_data_only():
    changes = {"trained": "expert", "draws": 2, "parts": 2, "loss_adaptive": 1.0}
    for name, value in changes.items():
        assert without_rates(replace(STAGE, **{name: value})) != without_rates(STAGE), name
    data = {"updates": 9, "mixture": {"online": 1.0}, "episodes": 7, "deployed": True}
    assert without_rates(replace(STAGE, **data)) == without_rates(STAGE)
