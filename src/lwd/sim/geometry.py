"""Positions, rotations and the timing of a motion: the maths under the expert's skills."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

import mujoco
import numpy as np

Pose = tuple[np.ndarray, np.ndarray]
"""Position [3] and rotation matrix [3, 3] of a tool centre point."""
UP = np.array([0.0, 0.0, 1.0])


def leaning(tilt: float, yaw: float) -> np.ndarray:
    """Rotation of a hand that points down, leaning forward by `tilt` in the direction `yaw`."""
    z = np.array([np.sin(tilt) * np.cos(yaw), np.sin(tilt) * np.sin(yaw), -np.cos(tilt)])
    y = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    return np.stack([np.cross(y, z), y, z], axis=1)


def yawed(yaw: float) -> np.ndarray:
    """[3, 3] rotation about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def wrap(angle: float) -> float:
    """Angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def towards(now: np.ndarray, goal: np.ndarray, step: float) -> np.ndarray:
    """Move in a straight line so that no entry changes by more than `step`."""
    gap = goal - now
    return now + gap * min(1.0, step / max(float(np.abs(gap).max()), 1e-9))


def smooth(part: float) -> float:
    """Share of the way at a share of the time: starts and ends at rest."""
    return part * part * (3 - 2 * part)


def hermite(knots: np.ndarray, points: np.ndarray, at: float) -> np.ndarray:
    """Point of a smooth curve at a time: cubic through [points, 3] at their times `knots`."""
    tangents = np.gradient(points, knots, axis=0)
    k = min(int(np.searchsorted(knots, at, side="right")), len(knots) - 1) - 1
    width = knots[k + 1] - knots[k]
    s = (at - knots[k]) / width
    a, b = points[k], points[k + 1]
    rise, fall = tangents[k] * width, tangents[k + 1] * width
    return (
        (2 * s**3 - 3 * s**2 + 1) * a
        + (s**3 - 2 * s**2 + s) * rise
        + (3 * s**2 - 2 * s**3) * b
        + (s**3 - s**2) * fall
    )


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two rotations."""
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1)))


def blend(a: np.ndarray, b: np.ndarray, part: float) -> np.ndarray:
    """Rotation part of the way from a to b."""
    quaternion, velocity = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quaternion, (b @ a.T).ravel())
    mujoco.mju_quat2Vel(velocity, quaternion, 1.0)
    return exponential(velocity * part) @ a


def exponential(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector."""
    quaternion, matrix = np.array([1.0, 0, 0, 0]), np.zeros(9)
    mujoco.mju_quatIntegrate(quaternion, np.asarray(vector, np.float64), 1.0)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)
