import numpy as np
import pytest

from lwd.sim.geometry import (
    angle_between,
    blend,
    exponential,
    hermite,
    leaning,
    smooth,
    towards,
    wrap,
)


def test_a_leaning_hand_is_a_rotation_that_points_down_and_forward():
    rotation = leaning(np.deg2rad(30), 0.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation[:, 2], [0.5, 0, -np.sqrt(0.75)], atol=1e-12)
    np.testing.assert_allclose(leaning(0.4, np.pi / 2)[:, 1], [-1, 0, 0], atol=1e-12)


def test_the_exponential_of_a_vector_turns_about_it():
    np.testing.assert_allclose(
        exponential(np.array([0, 0, np.pi / 2])), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12
    )


def test_a_blend_turns_at_constant_speed():
    a, b = leaning(0.5, 0.3), leaning(1.2, -0.9)
    np.testing.assert_allclose(blend(a, b, 0.0), a, atol=1e-12)
    np.testing.assert_allclose(blend(a, b, 1.0), b, atol=1e-12)
    assert angle_between(a, blend(a, b, 0.3)) == pytest.approx(0.3 * angle_between(a, b))


def test_the_curve_goes_through_its_points_and_is_smooth_there():
    knots = np.array([0.0, 1.0, 1.5, 3.0])
    points = np.random.default_rng(0).normal(size=(4, 3))
    for knot, point in zip(knots, points, strict=True):
        np.testing.assert_allclose(hermite(knots, points, knot), point, atol=1e-12)
    step = 1e-5
    for knot in knots[1:-1]:
        before = (hermite(knots, points, knot) - hermite(knots, points, knot - step)) / step
        after = (hermite(knots, points, knot + step) - hermite(knots, points, knot)) / step
        np.testing.assert_allclose(before, after, atol=1e-3)


def test_a_straight_line_stays_straight():
    points = np.outer([0.0, 1.0, 2.0], [1.0, 2.0, -1.0])
    np.testing.assert_allclose(hermite(np.array([0.0, 1.0, 2.0]), points, 0.7), 0.7 * points[1])


def test_timing_starts_and_ends_at_rest():
    assert [smooth(part) for part in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]
    assert smooth(0.01) < 0.001
    assert smooth(0.99) > 0.999


def test_towards_keeps_the_direction_and_the_largest_step():
    now, goal = np.array([0.0, 1.0]), np.array([4.0, -1.0])
    np.testing.assert_allclose(towards(now, goal, 1.0), [1.0, 0.5])
    np.testing.assert_allclose(towards(now, goal, 9.0), goal)


@pytest.mark.parametrize(
    ("angle", "wrapped"), [(3 * np.pi / 2, -np.pi / 2), (0.1, 0.1), (-7.0, -7 + 2 * np.pi)]
)
def test_angles_are_wrapped(angle, wrapped):
    assert wrap(angle) == pytest.approx(wrapped)
