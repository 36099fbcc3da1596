"""Algorithm 1 from a real catalog to published weights: stages, waits, stops and kills."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learner.fleet import commit, learn, tiny
from learner.outcome import assert_same, published, reported, reports, saved, versions
from lwd.config import PlaneConfig
from lwd.errors import ConfigError, NonFiniteError
from lwd.learner.checkpoint import Checkpoints, Position
from lwd.learner.compiled import compiled, without_rates
from lwd.learner.loss import ROW_LOSS, Loss
from lwd.learner.recipes import nets
from lwd.learner.recipes.lwd import LOSSES
from lwd.learner.state import TrainState
from lwd.learner.update import sft_update, update
from lwd.learner.watch import Watch
from lwd.models.artifact import FlowPolicy
from lwd.models.sharding import mesh
from lwd.replay.batch import Batch
from lwd.store import weights
from lwd.store.catalog import Catalog
from lwd.store.objects import Objects
from processes import wait_until


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_stages_of_a_run_share_what_is_compiled_and_report_and_publish_in_order(finished, tmp_path):
    config, over = tiny(), mesh()
    offline, online = (
        compiled(update, nets(config), without_rates(config.stage(stage)), over)
        for stage in ("offline", "online")
    )
    assert offline is online
    assert online._cache_size() == 1
    at, state = saved(finished)
    assert at == Position("online", 2)
    assert [(r["stage"], r["update"]) for r in reports(finished)] == [
        (stage, update) for stage in ("sft", "offline", "online") for update in (1, 2)
    ]
    assert versions(finished) == [("sft", 2), ("offline", 2), ("online", 1), ("online", 2)]
    assert {row.snapshot for row in published(finished)} == {1}
    _check_that_robots_can_act_with(finished, state, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_is_the_same_bit_for_bit_with_kills_and_stops(finished, root, hosts, tmp_path):
    killed, stopped, whole = root, tmp_path / "stopped", saved(finished)[1]
    shutil.copytree(root, stopped)
    host = hosts.start(killed, held="offline")
    reached = {"stage": "offline", "update": 1}
    wait_until(lambda: _has(killed, reached) or host.poll(), "an update of offline", 120)
    assert host.poll() is None
    host.kill()
    host.wait()
    assert learn(killed, tiny(checkpoint_every=1))
    at, resumed = saved(killed)
    assert at == Position("online", 2)
    assert_same(resumed, whole)
    assert versions(killed) == versions(finished)

    assert not learn(stopped, tiny(), stop=reported(stopped, 1))
    assert saved(stopped)[0] == Position("sft", 1)
    assert learn(stopped, tiny())
    assert_same(saved(stopped)[1], whole)
    assert [row.sha256 for row in published(stopped)] == [row.sha256 for row in published(finished)]


def _has(root: Path, wanted: dict) -> bool:
    if not (root / "learner.jsonl").exists():
        return False
    return any(wanted.items() <= report.items() for report in reports(root))


def _check_that_robots_can_act_with(root: Path, state: TrainState, folder: Path) -> None:
    row = published(root)[-1]
    found = weights.fetch(Objects(PlaneConfig(root=root).objects), row, folder=folder / "robot")
    policy = FlowPolicy(*found, row.version, control=tiny().control)
    for a, b in zip(jax.tree.leaves(policy.params), jax.tree.leaves(state.policy), strict=True):
        np.testing.assert_array_equal(a, np.asarray(b, jnp.bfloat16).astype(np.float32))


def test_a_resumed_run_first_binds_what_it_had_bound(root, tmp_path, caplog):
    stopped = tmp_path / "stopped"
    shutil.copytree(root, stopped)
    assert learn(root, SFT_ONLY)
    assert not learn(stopped, SFT_ONLY, stop=reported(stopped, 1))
    assert saved(stopped)[0] == Position("sft", 1)
    commit(stopped, *5 * ["demo"], seed=100)
    caplog.clear()
    with caplog.at_level(logging.INFO, "lwd.replay.reader"):
        assert learn(stopped, SFT_ONLY)
    assert [r.args[0] for r in caplog.records if "bound version" in r.msg] == [1, 2]
    assert published(stopped)[0].sha256 == published(root)[0].sha256


def test_a_run_that_goes_on_with_other_settings_says_which(root, caplog):
    assert not learn(root, SFT_ONLY, stop=reported(root, 1))
    with caplog.at_level(logging.WARNING, "lwd.learner.train"):
        assert learn(root, SFT_ONLY)
        assert "settings differ" not in caplog.text
        shorter = SFT_ONLY.with_stage("sft", batch=4)
        assert learn(root, shorter)
    assert "settings differ from the checkpoint's stages.sft.batch=8->4" in caplog.text


class Checked:
    """A `stop` that acts when the learner asks for the n-th time, which it does while it waits."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.asked, self.at, self.act = 0, at, act

    def __call__(self) -> bool:
        self.asked += 1
        if self.asked == self.at:
            self.act()
        return False


SFT_ONLY = tiny().with_stage("offline", updates=0).with_stage("online", updates=0)


@pytest.mark.slow
def test_the_learner_waits_for_episodes_and_for_the_pace_of_the_fleet(tmp_path):
    commit(tmp_path, *3 * ["demo"], "online")
    config = SFT_ONLY.with_stage("sft", episodes=4, updates_per_episode=0.25)
    seen = []

    def more(seed: int) -> None:
        seen.append(len(reports(tmp_path)) if (tmp_path / "learner.jsonl").exists() else 0)
        commit(tmp_path, "demo", seed=seed)

    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked in (3, 9):
            more(seed=100 + asked)
        return False

    assert learn(tmp_path, config, stop=stop)
    # Nothing was learned from three demonstrations, one update from four, two from five.
    assert seen == [0, 1]
    assert [r["update"] for r in reports(tmp_path)] == [1, 2]
    assert published(tmp_path)[0].snapshot == 3


def test_a_stop_while_waiting_for_the_first_episodes_is_a_clean_end(tmp_path):
    commit(tmp_path, "online")
    seen_before = tmp_path / "bindings.jsonl"  # by a run whose checkpoints are gone
    seen_before.write_text('{"draw": 0, "version": 9}\n')
    asked = iter([False, True])
    assert not learn(tmp_path, tiny(), stop=lambda: next(asked))
    assert '"version": 9' not in seen_before.read_text()
    assert published(tmp_path) == []
    assert not list((tmp_path / "checkpoints").iterdir())


def test_too_many_skipped_updates_end_the_run_and_name_metric_and_episodes(root, monkeypatch):
    def poisoned(state, batch, *rest, **parts):
        return sft_update(state, batch._replace(action=batch.action * np.nan), *rest, **parts)

    monkeypatch.setitem(LOSSES, "sft", Loss(lambda stage, number: poisoned))
    config = replace(SFT_ONLY.with_stage("sft", updates=9), max_skipped=1)
    with pytest.raises(NonFiniteError, match=r"2 updates in a row .* policy/sft_loss") as error:
        learn(root, config)
    with Catalog(PlaneConfig(root=root).catalog) as catalog:
        known = {row.episode_id for row in catalog.snapshot_episodes(1)}
    named = set(str(error.value).split("episodes ")[1].split(".")[0].split(", "))
    assert named
    assert named <= known
    assert published(root) == []


def test_a_kill_right_after_the_publication_of_a_stage_does_not_lose_it(root, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL."""

    config = replace(SFT_ONLY, checkpoint_every=1)

    real = Checkpoints.save

    def save(self, position, *saved, **where):
        if position == Position("sft", 2):
            raise Killed
        real(self, position, *saved, **where)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Killed):
            learn(root, config)
    assert versions(root) == [("sft", 2)]
    before = published(root)
    assert learn(root, config)
    assert published(root) == before


def rows(*episodes: str) -> Batch:
    blank = dict.fromkeys(Batch._fields, np.zeros(len(episodes)))
    return Batch(**(blank | {"episode": np.array(episodes)}))


def seen(loss: float) -> dict:
    values = {"loss": loss, "norm": 1.0, "finite": bool(np.isfinite(loss))}
    return {name: jnp.asarray(value) for name, value in values.items()}


def test_metrics_are_means_over_applied_updates_since_the_last_report():
    watch = Watch(max_skipped=2)
    for loss in (1.0, np.nan, 3.0):
        watch.add(seen(loss), rows("e1"))
    assert watch.means() == {"loss": 2.0, "norm": 1.0}
    watch.add(seen(5.0), rows("e1"))
    assert watch.means() == {"loss": 5.0, "norm": 1.0}
    assert watch.means() == {}


def test_only_skipped_updates_in_a_row_count(caplog):
    watch = Watch(max_skipped=2)
    for loss in 3 * [np.nan, np.inf, 1.0]:
        watch.add(seen(loss), rows("e1", "e2"))
    assert watch.means() == {"loss": 1.0, "norm": 1.0}
    assert caplog.text.count("update skipped: not finite: loss episodes=e1,e2") == 6
    for _ in range(3):
        watch.add(seen(np.nan), rows("e7"))
    with pytest.raises(NonFiniteError, match=r"3 updates in a row .* in loss; .* episodes e7\."):
        watch.means()


def test_losses_of_applied_updates_are_fed_back_with_their_draw():
    """The one before last as soon as an update is dispatched, the last one when that is settled."""
    fed = []
    watch = Watch(max_skipped=9, feedback=lambda draw, loss: fed.append((draw, loss.tolist())))
    for draw, loss in ((5, 1.0), (6, np.nan), (7, 2.0)):
        watch.add(seen(loss) | {ROW_LOSS: jnp.array([loss, 0.5])}, rows("e1", "e2"), draw)
        assert draw not in dict(fed)
    assert fed == [(5, [1.0, 0.5])]
    watch.settle()
    assert fed == [(5, [1.0, 0.5]), (7, [2.0, 0.5])]
    assert watch.means() == {"loss": 1.5, "norm": 1.0}


def test_draws_cannot_adapt_to_losses_that_nobody_computes(root):
    with pytest.raises(ConfigError, match=r"loss_adaptive is 0\.5 in stage sft, which learns no Q"):
        learn(root, SFT_ONLY.with_stage("sft", loss_adaptive=0.5))
