"""What is odd about statistics is found, and nothing else is."""

import numpy as np
import pytest

from lwd.models.inputs import norm_stats
from lwd.models.inputs.norm_stats import NormStats
from lwd.models.inputs.review import compare, frame_of, review
from lwd.models.inputs.running import Running

ANCHORS = (0, 1, 2, -1)


@pytest.fixture
def joints(rng):
    """Three joints that move around 1, -2 and 0.1 rad, and a gripper."""
    return np.array([1.0, -2.0, 0.1, 0.5]) + rng.uniform(-0.3, 0.3, (2000, 4))


@pytest.fixture
def targets(joints, rng):
    return joints + rng.normal(scale=0.05, size=joints.shape)


def stats_of(state, actions) -> dict[str, NormStats]:
    return {"state": norm_stats.of(state), "actions": norm_stats.of(actions)}


def kinds(findings) -> list[tuple]:
    return [(f.quantity, f.dimension, f.kind) for f in findings]


def test_good_statistics_have_no_findings(joints, targets):
    differences = targets - joints
    running = {name: Running() for name in ("state", "actions")}
    running["state"].add(joints)
    running["actions"].add(differences)
    stats = {name: each.stats() for name, each in running.items()}
    spreads = {name: each.spread() for name, each in running.items()}
    assert review(stats, spreads, anchored=ANCHORS) == []


def test_constant_clipped_and_outlying_dimensions_are_found(joints):
    state = joints.copy()
    state[:, 0] = 0.25
    state[:, 1] = np.clip(state[:, 1], -2.1, 5)
    state[7, 2] = 4.0
    running = Running()
    running.add(state)
    found = review({"state": running.stats()}, {"state": running.spread()})
    assert kinds(found) == [
        ("state", 0, "constant"), ("state", 1, "clipped"), ("state", 2, "outliers"),
    ]  # fmt: skip
    assert "never changes (0.25)" in found[0].message
    assert "33% of the samples" in found[1].message


def test_a_constant_dimension_of_openpis_own_file_is_found(joints):
    stats = norm_stats.of(joints)
    moves = np.array([0, 1, 1, 1])
    still = stats._replace(std=stats.std * moves, q01=stats.mean, q99=stats.mean + moves)
    assert ("state", 0, "constant") in kinds(review({"state": still}))


def test_absolute_actions_are_told_from_relative_ones(joints, targets):
    absolute, relative = stats_of(joints, targets), stats_of(joints, targets - joints)
    assert frame_of(absolute, ANCHORS) == "absolute"
    assert frame_of(relative, ANCHORS) == "relative"
    assert frame_of(absolute, (-1, -1, 2, -1)) == "unclear"
    assert kinds(review(absolute, anchored=ANCHORS)) == [("actions", None, "frame")]
    assert review(relative, anchored=ANCHORS) == []
    assert review(absolute, anchored=(-1,) * 4) == []


def test_a_comparison_names_units_ranges_and_shifts(joints, targets):
    first = stats_of(joints, targets)
    assert compare(first, first) == []
    changed = joints * [np.degrees(1), 1, 4, 1] + [0, 1, 0, 0]
    found = compare(first, stats_of(changed, targets))
    assert kinds(found) == [
        ("state", 0, "units"), ("state", 0, "shift"), ("state", 1, "shift"), ("state", 2, "range"),
        ("state", 2, "shift"),
    ][: len(found)]  # fmt: skip
    assert "degrees and radians" in found[0].message
    fewer = compare(first, stats_of(joints[:, :3], targets))
    assert fewer[0].message == "4 and 3 dimensions: another robot or padding"
    assert "the second has none of actions" in compare(first, {"state": first["state"]})[0].message
