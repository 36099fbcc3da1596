"""What the critic says along an episode, by a child process."""

from pathlib import Path

import numpy as np
import pytest

from learner.drawn import checkpoint
from learner.fleet import commit, tiny
from lwd.config import StateLayout
from lwd.dashboard.critic import MOST_LEVELS, MOST_TICKS, Critic, Head, thinned
from lwd.episode.payload import encode
from lwd.errors import ServiceError
from lwd.learner.checkpoint import Position
from lwd.learner.diagnose.trained import load
from lwd.models.presets import ACTION, ROBOT_CAMERAS
from sample_episodes import make_episode


def test_a_distribution_is_thinned_without_moving_it():
    probabilities = np.zeros((1000, 201))
    probabilities[:500, 50] = 1.0
    probabilities[500:, 150] = 1.0
    found = thinned(probabilities, (-0.1, 1.1))
    density = np.array(found["density"])
    assert density.shape == (MOST_LEVELS, MOST_TICKS)
    assert found["ticks"][0][0] == 0
    assert found["ticks"][-1][1] == 1000
    value = -0.1 + 1.2 * 50 / 200
    (level,) = np.flatnonzero(density[:, 0])
    low, high = found["values"][level]
    assert low < value < high
    assert (density[:, 0].sum(), density.max()) == (1000, 1000)
    assert np.flatnonzero(density[:, -1]) > level


def test_a_short_episode_keeps_every_tick():
    found = thinned(np.full((5, 11), 1 / 11), (0.0, 1.0))
    assert found["ticks"] == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert np.array(found["density"]).shape == (11, 5)


def test_without_a_checkpoint_it_says_where_one_would_be(tmp_path: Path):
    with pytest.raises(ServiceError, match="no checkpoint under"):
        Critic(tmp_path / "checkpoints").values(tmp_path / "x.arrow")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """A checkpoint whose critic says something else in every state."""
    return checkpoint(tmp_path_factory.mktemp("run"), tiny(), Position("online", 2))


@pytest.mark.slow
def test_the_child_says_what_the_checkpoint_says(checkpoints: Path, tmp_path: Path):
    episode = make_episode(12, state=StateLayout().size, action=ACTION)
    payload = tmp_path / "x.arrow"
    payload.write_bytes(encode(episode))
    critic = Critic(checkpoints)
    try:
        found = critic.values(payload)
        with pytest.raises(ServiceError, match=r"No values: .*no\.arrow"):
            critic.values(tmp_path / "no.arrow")
        assert critic.values(payload) == found
    finally:
        critic.close()
    along = load(checkpoints).along(episode)
    for name in ("mean", "low", "median", "high"):
        np.testing.assert_allclose(found[name], getattr(along, name), atol=2e-3)
    assert np.ptp(found["mean"]) > 1e-3
    assert found["checkpoint"] == {"stage": "online", "update": 2}
    assert np.array(found["distribution"]["density"]).shape == (51, 12)


@pytest.mark.slow
def test_a_critic_that_sees_is_asked_with_the_images_of_the_episode(tmp_path: Path):
    checkpoints = checkpoint(tmp_path, tiny(preset="tiny"), Position("online", 2))
    commit(tmp_path, "online", cameras=ROBOT_CAMERAS)
    (payload,) = (path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    found = Head(checkpoints).values(payload)
    assert len(found["mean"]) == 12
    assert found["mean"][0] == found["mean"][1] != found["mean"][2], "pictures at every other tick"
    assert np.array(found["distribution"]["density"]).shape == (51, 12)
