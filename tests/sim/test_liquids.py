import numpy as np
import pytest

from lwd.sim.liquids import Liquids, catcher, lip, lip_angle, outflow
from lwd.sim.things import Shape, Vessel

ROUND = Shape(kind="cup", radius=0.03, height=0.08, round=True, topped=True)
CUP = Vessel(name="cup", shape=ROUND, capacity_ml=100.0, mouth_radius=0.025, depth=0.07)
POT = Vessel(name="pot", shape=ROUND, capacity_ml=60.0, mouth_radius=0.03, depth=0.07)


def tilted(angle: float) -> np.ndarray:
    """Rotation about y, so that the x side of the rim goes down."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_a_half_full_cylinder_runs_out_when_its_surface_joins_lip_and_floor_edge():
    assert lip_angle(CUP, 50.0) == pytest.approx(np.arctan(0.07 / 0.05))
    assert lip_angle(CUP, 100.0) == 0
    assert lip_angle(CUP, 0.0) == pytest.approx(np.pi / 2)
    angles = [lip_angle(CUP, float(ml)) for ml in np.linspace(0, 100, 41)]
    assert (np.diff(angles) < 0).all(), "the fuller, the earlier"


def test_outflow_starts_at_the_lip_angle_and_grows_with_the_excess():
    at = lip_angle(CUP, 80.0)
    assert outflow(CUP, 80.0, at - 0.01) == 0
    assert outflow(CUP, 80.0, at + np.deg2rad(30)) == pytest.approx(CUP.drain_ml_s)
    assert outflow(CUP, 0.0, np.pi) == 0


def test_the_stream_leaves_at_the_lowest_point_of_the_rim():
    point = lip(CUP, np.array([0.5, 0.0, 1.0]), tilted(np.pi / 2))
    np.testing.assert_allclose(point, [0.5 + 0.04, 0.0, 1.0 - 0.025], atol=1e-9)


def test_a_stream_falls_into_the_mouth_below_it_and_nowhere_else():
    stand = (POT, np.array([0.5, 0.0, 0.74]), np.eye(3))
    assert catcher(np.array([0.52, 0.0, 0.9]), [stand]) is POT
    assert catcher(np.array([0.56, 0.0, 0.9]), [stand]) is None, "beside the mouth"
    assert catcher(np.array([0.52, 0.0, 0.7]), [stand]) is None, "below the mouth"
    assert catcher(np.array([0.5, 0.0, 0.9]), [(POT, stand[1], tilted(1.2))]) is None, "lying"


def test_no_drop_is_lost_unaccounted():
    liquids = Liquids()
    liquids.fill(CUP, 100.0)
    liquids.pour(CUP, POT, 50.0)
    liquids.pour(CUP, POT, 30.0)
    liquids.pour(CUP, None, 5.0)
    liquids.pour(CUP, None, 500.0)
    assert liquids.ml == {"cup": 0, "pot": 60}
    assert liquids.spilled_ml == {"cup": pytest.approx(40)}
    assert liquids.poured_ml == {("cup", "pot"): 60}


def test_what_missed_is_a_share_of_what_ran_out_since():
    liquids = Liquids()
    liquids.fill(CUP, 100.0)
    start = liquids.copy()
    assert liquids.missed(CUP, start) == 0
    liquids.pour(CUP, POT, 30.0)
    liquids.pour(CUP, None, 10.0)
    assert liquids.missed(CUP, start) == pytest.approx(0.25)
    assert liquids.missed(POT, start) == 0
    later = liquids.copy()
    liquids.pour(CUP, POT, 20.0)
    assert liquids.missed(CUP, later) == 0
    liquids.pour(CUP, None, 20.0)
    assert liquids.missed(CUP, later) == pytest.approx(0.5)


def test_a_vessel_is_not_filled_beyond_its_capacity():
    with pytest.raises(ValueError, match=r"100\.5 ml do not fit the cup of 100\.0 ml"):
        Liquids().fill(CUP, 100.5)
