"""Canary, promotion and roll-back: which robot gets which version, and the chain of all of them."""

from dataclasses import replace

import pytest

from lwd.errors import ConfigError
from lwd.store.catalog import Catalog
from sample_rows import POLICY

CANARY = ",arm-1,arm_2,"


@pytest.fixture
def catalog(url):
    with Catalog(url) as catalog:
        yield catalog


def offered(catalog, *robots: str) -> list[int]:
    """Versions that robots are to act with, 0 for none."""
    rows = [catalog.weights_for(robot) for robot in robots]
    return [row.version if row else 0 for row in rows]


def test_a_canary_gets_a_version_first_and_all_get_it_when_it_is_promoted(catalog):
    catalog.publish_weights(POLICY)
    canary = catalog.publish_weights(replace(POLICY, update=200, audience=CANARY))
    assert offered(catalog, "arm-1", "arm_2", "arm-3", "arm", "armx2", "") == [2, 2, 1, 1, 1, 1]
    promoted = catalog.promote_weights(2)
    assert (promoted.version, promoted.note) == (3, "promoted 2")
    assert (promoted.sha256, promoted.update) == (canary.sha256, 200)
    assert offered(catalog, "arm-1", "arm-3", "") == [3, 3, 3]


def test_after_a_roll_back_nothing_new_reaches_a_robot_until_a_promotion(catalog):
    first = catalog.publish_weights(POLICY)
    catalog.publish_weights(replace(POLICY, update=200, sha256="b" * 64))
    back = catalog.roll_back_weights(1)
    assert (back.version, back.sha256, back.note) == (3, first.sha256, "rolled back to 1")
    for update in (300, 400):
        catalog.publish_weights(replace(POLICY, update=update, sha256="c" * 64, audience=CANARY))
    assert offered(catalog, "arm-1", "arm-3", "") == [3, 3, 3]
    catalog.promote_weights(5)
    assert offered(catalog, "arm-1", "arm-3") == [6, 6]
    catalog.publish_weights(replace(POLICY, update=500))
    assert offered(catalog, "arm-3") == [7]


def test_what_was_never_published_cannot_be_released(catalog):
    with pytest.raises(ConfigError, match="version 1 was never published; the newest is 0"):
        catalog.promote_weights(1)
    catalog.publish_weights(POLICY)
    with pytest.raises(ConfigError, match="version 7 was never published; the newest is 1"):
        catalog.roll_back_weights(7)
    assert len(catalog.list_weights()) == 1


def test_every_version_is_chained_to_the_one_before(catalog):
    for update in (100, 200):
        catalog.publish_weights(replace(POLICY, update=update))
    catalog.roll_back_weights(1)
    chain = ""
    for row in catalog.list_weights():
        assert row.chain == row.chained(chain)
        assert replace(row, sha256="0" * 64).chained(chain) != row.chain
        chain = row.chain
