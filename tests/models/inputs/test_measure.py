"""Norm stats of episodes are those of all their chunks."""

from dataclasses import replace

import numpy as np
import pytest

from lwd.episode.windows import chunks
from lwd.errors import EpisodeError
from lwd.models.inputs import norm_stats
from lwd.models.inputs.format import ABSOLUTE, InputFormat
from lwd.models.inputs.measure import measure
from lwd.models.inputs.processor import Processor
from lwd.models.inputs.tokenizers import builtin
from sample_episodes import make_episode

FORMAT = InputFormat(
    cameras=(), image=8, tokens=8, vocabulary=10, state=(0, 3), anchors=(1, ABSOLUTE, 2, 0),
    action=4,
)  # fmt: skip


def by_hand(episodes, horizon: int):
    states, actions = [], []
    for episode in episodes:
        for start in range(episode.ticks):
            states.append(episode.state[start, [0, 3]])
            for tick in np.minimum(np.arange(start, start + horizon), episode.ticks - 1):
                joints = episode.state[start]
                anchor = np.array([joints[1], 0, joints[2], joints[0]])
                actions.append(episode.action[tick].astype(np.float64) - anchor)
    return np.stack(states).astype(np.float64), np.stack(actions)


def test_every_chunk_counts_and_repeats_the_last_action_of_its_episode():
    episodes = [make_episode(ticks, seed=ticks) for ticks in (25, 7, 40)]
    measured = measure(iter(episodes), FORMAT, horizon=10)
    assert (measured.episodes, measured.ticks) == (3, 72)
    assert measured.stride == {"state": 1, "actions": 1}
    for name, samples in zip(("state", "actions"), by_hand(episodes, 10), strict=True):
        expected = norm_stats.of(samples)
        for field, array in measured.stats[name]._asdict().items():
            # Samples are kept as float32.
            np.testing.assert_allclose(array, getattr(expected, field), atol=1e-6, err_msg=field)


def test_a_learner_that_takes_them_itself_has_the_same():
    episodes = [make_episode(ticks, seed=ticks) for ticks in (25, 7, 40)]
    starts = [np.arange(each.ticks) for each in episodes]
    targets = [
        chunks(each.action, start, np.full_like(start, each.ticks), 10)[0]
        for each, start in zip(episodes, starts, strict=True)
    ]
    states = [each.state[:-1] for each in episodes]
    format_ = replace(FORMAT, tokens=32, vocabulary=1024)
    fitted = Processor.fit(format_, builtin(), np.concatenate(states), np.concatenate(targets))
    measured = measure(iter(episodes), format_, horizon=10)
    for name, stats in fitted.stats.items():
        for field, array in measured.stats[name]._asdict().items():
            np.testing.assert_allclose(array, getattr(stats, field), atol=1e-6, err_msg=field)


def test_blocks_do_not_matter(monkeypatch):
    whole = measure([make_episode(25)], FORMAT, 10)
    monkeypatch.setattr("lwd.models.inputs.measure.BLOCK", 4)
    parts = measure([make_episode(25)], FORMAT, 10)
    np.testing.assert_allclose(parts.stats["actions"].q99, whole.stats["actions"].q99, atol=1e-9)


def test_another_robots_episode_is_named():
    with pytest.raises(EpisodeError, match=r"of robot-3 has 6 state and 3 action dimensions; .* 4"):
        measure([make_episode(action=3)], FORMAT, 10)
