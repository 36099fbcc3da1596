"""The ledger: numbers that never come twice, counts that survive, one process per robot."""

import pytest

from lwd.actor.ledger import Ledger, operator_rng, scene_seed
from lwd.errors import ConflictError


def test_numbers_go_on_after_a_restart(tmp_path):
    with Ledger(tmp_path, "r0") as ledger:
        assert [ledger.begin("demo"), ledger.begin("demo")] == [0, 1]
        ledger.end(saved=True)
    with Ledger(tmp_path, "r0") as ledger:
        assert ledger.begin("online") == 2
        assert (ledger.saved("demo"), ledger.saved("online")) == (1, 0)


def test_a_number_is_used_up_when_the_process_dies_inside_the_episode(tmp_path, caplog):
    with Ledger(tmp_path, "r0") as ledger:
        ledger.begin("online")
    with Ledger(tmp_path, "r0") as ledger:
        assert "episode cut off robot=r0 number=0 kind=online" in caplog.text
        assert ledger.begin("online") == 1
        ledger.end(saved=True)
    caplog.clear()
    with Ledger(tmp_path, "r0") as ledger:
        assert ledger.saved("online") == 1
        assert caplog.text == ""


def test_only_saved_episodes_are_counted(tmp_path):
    with Ledger(tmp_path, "r0") as ledger:
        for saved in (True, False, True):
            ledger.begin("demo")
            ledger.end(saved=saved)
        assert ledger.saved("demo") == 2


def test_one_process_drives_a_robot(tmp_path):
    with Ledger(tmp_path, "r0"), pytest.raises(ConflictError, match="'r0' is driven by another"):
        Ledger(tmp_path, "r0")
    Ledger(tmp_path, "r0").close()


def test_scenes_differ_between_seeds_robots_and_episodes():
    seeds = [scene_seed(s, i, n) for s in range(3) for i in range(20) for n in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert scene_seed(1, 2, 3) == scene_seed(1, 2, 3)


def test_the_operator_draws_what_the_scene_does_not_know():
    draws = {float(operator_rng(0, i, n).random()) for i in range(3) for n in range(3)}
    assert len(draws) == 9
