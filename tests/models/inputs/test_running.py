"""Statistics in one pass are those of all samples at once."""

import numpy as np
import pytest

from lwd.errors import ConfigError
from lwd.models.inputs import norm_stats
from lwd.models.inputs.running import Running


def fed(x, limit=None) -> Running:
    running = Running(limit)
    for batch in np.split(x, [1, 30, 31, 700]):
        running.add(batch)
    return running


@pytest.fixture
def samples(rng):
    return rng.gamma(2.0, size=(5000, 3)).astype(np.float32) * [1, 100, 1e-3] - [0, 1e4, 0]


def test_it_is_exact_while_all_samples_are_kept(samples):
    samples = samples.astype(np.float32)
    running, whole = fed(samples), norm_stats.of(samples.astype(np.float64))
    assert running.stride == 1
    for name, array in running.stats()._asdict().items():
        np.testing.assert_allclose(array, getattr(whole, name), rtol=1e-9, err_msg=name)


def test_beyond_the_limit_quantiles_come_from_every_so_manieth(samples):
    running = fed(samples, limit=1500)
    whole = norm_stats.of(samples)
    assert running.stride == 4
    stats = running.stats()
    np.testing.assert_allclose(stats.mean, whole.mean, rtol=1e-9)
    np.testing.assert_allclose(stats.std, whole.std, rtol=1e-9)
    for level, found in ((0.01, stats.q01), (0.99, stats.q99)):
        ranks = (samples <= found).mean(0)
        np.testing.assert_allclose(ranks, level, atol=2 * (level * (1 - level) / 1250) ** 0.5)


def test_the_batches_do_not_matter(samples):
    whole = Running(1500)
    whole.add(samples)
    for first, second in zip(whole.stats(), fed(samples, limit=1500).stats(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9)


def test_it_says_how_far_the_samples_reach():
    x = np.clip(np.linspace(-2, 2, 1000), -1, 1.5)[:, None]
    running = Running()
    running.add(x[:400])
    running.add(x[400:])
    low, high, share = running.spread()
    assert (low[0], high[0]) == (-1, 1.5)
    assert share[0] == np.mean((x == -1) | (x == 1.5))


def test_constant_dimensions_get_a_range():
    running = Running()
    running.add(np.full((10, 1), 0.7))
    stats = running.stats()
    assert (stats.std[0], stats.q99[0] - stats.q01[0]) == (1.0, 2.0)
    np.testing.assert_allclose(stats.normalise(np.full((1, 1), 0.7), "quantile"), 0, atol=1e-6)


def test_too_little_is_refused(samples):
    running = Running()
    with pytest.raises(ConfigError, match="0 samples"):
        running.stats()
    running.add(samples[:1])
    with pytest.raises(ConfigError, match="1 samples to take statistics of; at least 2"):
        running.stats()
    with pytest.raises(ConfigError, match="2 dimensions, those before had 3"):
        running.add(samples[:, :2])
