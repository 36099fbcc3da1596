import numpy as np
import pytest

from lwd.config import StateLayout
from lwd.errors import ConfigError, IntegrityError
from lwd.models.normaliser import GRIPPER_FLOOR, JOINT_FLOOR, Normaliser

LAYOUT = StateLayout()


@pytest.fixture
def windows(rng):
    state = rng.normal(scale=0.1, size=(64, LAYOUT.size)).astype(np.float32)
    slots = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(64, LAYOUT.slots, LAYOUT.slot)
    slots[..., -1] = 1
    slots[:, 6:] = 0
    action = rng.normal(size=(64, 10, 16)).astype(np.float32)
    return state, action


def test_restore_inverts_action(windows):
    state, action = windows
    normaliser = Normaliser.fit(state, action)
    back = normaliser.restore(state, normaliser.action(state, action))
    np.testing.assert_allclose(back, action, atol=1e-5)


def test_normalised_actions_have_zero_mean_and_unit_variance_per_tick_and_dimension(windows):
    state, action = windows
    unit = Normaliser.fit(state, action).action(state, action)
    np.testing.assert_allclose(unit.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(unit.std(0), 1, atol=1e-4)


def test_a_state_is_clipped_to_ten_deviations(windows):
    state, action = windows
    normaliser = Normaliser.fit(state, action)
    found = normaliser.state(np.stack([state[0] + 1e6, state[0] - 1e6]))
    np.testing.assert_array_equal(found, np.stack([np.full(LAYOUT.size, 10.0)] * 2) * [[1], [-1]])


def test_joint_targets_are_relative_to_the_measured_joints_and_grippers_are_not(windows):
    state, action = windows
    normaliser = Normaliser.fit(state, action)
    moved, target = state.copy(), action.copy()
    moved[:, 3] += 0.5  # fourth joint of the first arm
    target[:, :, 3] += 0.5
    moved[:, 14] += 0.5  # its gripper opening
    np.testing.assert_allclose(
        normaliser.action(moved, target), normaliser.action(state, action), atol=1e-5
    )


def test_a_joint_that_never_moves_keeps_a_scale_that_does_not_blow_up_noise():
    state = np.zeros((8, LAYOUT.size), np.float32)
    action = np.zeros((8, 10, 16), np.float32)
    scale = Normaliser.fit(state, action).action_scale
    assert scale[0, 0] == np.float32(JOINT_FLOOR)
    assert scale[0, 7] == np.float32(GRIPPER_FLOOR)


def test_object_slots_share_one_scale_and_keep_their_identity(windows):
    state, action = windows
    normaliser = Normaliser.fit(state, action)
    slots = normaliser.state(state)[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(
        64, -1, LAYOUT.slot
    )
    raw = state[:, LAYOUT.proprio : -LAYOUT.scalars].reshape(64, -1, LAYOUT.slot)
    np.testing.assert_array_equal(slots[..., 3:], raw[..., 3:])
    np.testing.assert_allclose(slots[:, :6, :3].mean((0, 1)), 0, atol=1e-4)


def test_tensors_round_trip_with_the_same_hash(windows):
    normaliser = Normaliser.fit(*windows)
    again = Normaliser.from_tensors(normaliser.tensors())
    assert again.sha256 == normaliser.sha256
    changed = normaliser.tensors() | {"action_mean": normaliser.action_mean + 1e-3}
    assert Normaliser.from_tensors(changed).sha256 != normaliser.sha256


def test_too_little_data_and_missing_tensors_are_named(windows):
    state, action = windows
    with pytest.raises(ConfigError, match="1 windows"):
        Normaliser.fit(state[:1], action[:1])
    tensors = Normaliser.fit(state, action).tensors()
    del tensors["state_scale"]
    with pytest.raises(IntegrityError, match="state_scale"):
        Normaliser.from_tensors(tensors)
