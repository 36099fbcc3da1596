"""What the critic says along an episode, by a child process."""

from pathlib import Path

import numpy as np
import pytest

from lwd.dashboard.critic import MOST_LEVELS, MOST_TICKS, Critic, thinned
from lwd.errors import ServiceError


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
