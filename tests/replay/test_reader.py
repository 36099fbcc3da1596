"""Reader: bound to one agreed snapshot, incremental, deterministic, and hard to bring down."""

import itertools
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lwd.episode.payload import encode
from lwd.episode.types import Episode
from lwd.errors import ConfigError, ConflictError, ServiceError
from lwd.replay.batch import Batch
from lwd.replay.reader import Options, Reader
from lwd.store.objects import Objects, episode_key
from sample_episodes import make_episode

BOTH = {"demo": 0.5, "online": 0.5}


def assert_same(given: Batch, expected: Batch) -> None:
    for name, left, right in zip(Batch._fields, given, expected, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def joined(batches: list[Batch]) -> Batch:
    """Batches without images, one after another."""
    fields = zip(*(batch[:-2] for batch in batches), strict=True)
    return Batch(*(np.concatenate(arrays) for arrays in fields))


def test_empty_data_set_binds_nothing(read) -> None:
    reader = read()
    assert reader.sync() == 0
    assert reader.statistics()["online"].ticks == 0
    with pytest.raises(ConfigError, match="Nothing to sample"):
        reader.sample(0, {"online": 1.0}, 4)


def test_binds_the_newest_snapshot_and_counts_it(plane, read, fleet: list[Episode]) -> None:
    plane.commit(*fleet[:4])
    reader = read()
    assert reader.sync() == reader.version == 1
    sizes = reader.statistics()
    assert (sizes["demo"].episodes, sizes["demo"].ticks) == (2, 6 + 8)
    assert sizes["online"].tasks == {"task-0": 9, "task-1": 7}
    assert sizes["offline"] == sizes["demo"]
    plane.commit(*fleet[4:])
    assert reader.statistics() == sizes  # nothing moves before the next sync
    assert reader.sync() == 2
    assert reader.statistics()["demo"].ticks == 6 + 8 + 10


def test_only_new_episodes_are_loaded(plane, read, fleet, monkeypatch) -> None:
    plane.commit(*fleet[:5])
    reader = read()
    reader.sync()
    loaded: list[str] = []
    append = reader._memory.append
    monkeypatch.setattr(
        reader._memory, "append", lambda e: (loaded.append(e.header.episode_id), append(e))
    )
    plane.commit(fleet[5])
    reader.sync()
    reader.sync()
    assert loaded == [fleet[5].header.episode_id]


@pytest.mark.parametrize("left_out", [{"held_out": True}, {"outcome": "invalid"}])
def test_held_out_and_invalid_are_never_downloaded_nor_sampled(
    plane, read, fleet, left_out
) -> None:
    secret = make_episode(ticks=500, **left_out)
    plane.commit(*fleet, secret)
    reader = read()
    assert reader.sync() == 1
    batch = reader.sample(0, {"online": 1.0, "human": 1.0, "offline": 1.0}, 512)
    assert secret.header.episode_id not in set(batch.episode)
    assert sum(size.episodes for size in map(reader.statistics().get, BOTH)) == 6
    assert len(list((plane.folder / "cache").iterdir())) == 6
    assert secret.header.episode_id not in plane.catalog.availability()


def test_same_update_same_batch_also_after_a_restart(plane, read, fleet) -> None:
    plane.commit(*fleet)
    first, second = read(seed=3), read("another cache", seed=3)
    first.sync()
    second.sync()
    for update in (0, 1, 99):
        assert_same(first.sample(update, BOTH, 32), second.sample(update, BOTH, 32))
    assert (first.sample(0, BOTH, 32).tick != first.sample(1, BOTH, 32).tick).any()
    other = read(seed=4)
    other.sync()
    assert (first.sample(0, BOTH, 32).tick != other.sample(0, BOTH, 32).tick).any()


def test_resume_binds_what_was_bound(plane, read, fleet) -> None:
    """Data that came after the checkpoint does not change the batches of the old version."""
    plane.commit(*fleet[:2])
    plane.commit(*fleet[2:4])
    before = read()
    before.sync()
    plane.commit(*fleet[4:])
    resumed = read("another cache")
    assert resumed.sync(at_most=2) == 2
    assert_same(resumed.sample(5, BOTH, 16), before.sample(5, BOTH, 16))
    assert resumed.sync() == before.sync() == 3
    assert_same(resumed.sample(6, BOTH, 16), before.sample(6, BOTH, 16))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_draw_the_one_host_batch(plane, read, fleet, hosts: int) -> None:
    plane.commit(*fleet)
    alone = read()
    group = [read(f"cache-{h}", host=h, hosts=hosts) for h in range(hosts)]
    for reader in (alone, *group):
        reader.sync()
    shares = [reader.sample(7, BOTH, 16) for reader in group]
    assert [len(share.tick) for share in shares] == [16 // hosts] * hosts
    assert_same(joined(shares), alone.sample(7, BOTH, 16))
    with pytest.raises(ConfigError, match="batch of 15 does not divide among"):
        group[0].sample(7, BOTH, 15)


def test_hosts_bind_what_all_have(plane, read, fleet) -> None:
    """The barrier is played by hand: the second host is one snapshot behind."""
    plane.commit(*fleet[:2])
    offers: list[int] = []
    slowest = 1

    def barrier(version: int) -> int:
        offers.append(version)
        return min(version, slowest)

    reader = read(barrier=barrier)
    plane.commit(*fleet[2:4])
    plane.commit(*fleet[4:])
    assert reader.sync() == 1
    assert reader.statistics()["demo"].ticks + reader.statistics()["online"].ticks == 6 + 7
    slowest = 2
    assert reader.sync() == 2
    slowest = 99
    assert reader.sync() == 3
    assert offers == [3, 3, 3]


def test_host_that_falls_behind_stops_the_group(plane, read, fleet) -> None:
    plane.commit(*fleet)
    answers = iter([1, 0])
    reader = read(barrier=lambda version: next(answers))
    assert reader.sync() == 1
    with pytest.raises(ConflictError, match="offers snapshot 0, but 1 was agreed"):
        reader.sync()


def test_snapshot_waits_for_its_last_payload(plane, read, fleet, caplog) -> None:
    """The old version stays bound and trainable; a warning names what is missing, then it heals."""
    now = 0.0
    plane.commit(*fleet[:2])
    reader = read(clock=lambda: now)
    lost = plane.put(fleet[2], store=False)
    plane.snapshot(lost, plane.put(fleet[3]))
    with caplog.at_level(logging.WARNING):
        assert reader.sync() == 1
        now = 31.0
        assert reader.sync() == 1
    assert f"payload is late episode={lost.episode_id}" in caplog.text
    assert len(reader.sample(0, BOTH, 8).tick) == 8
    plane.objects.put(episode_key(lost.sha256), encode(fleet[2]))
    reader._prefetch._downloader.troubles.clear()
    assert reader.sync() == 2


def test_damaged_cache_file_is_fetched_again(plane, read, fleet, caplog) -> None:
    plane.commit(*fleet)
    warm = read()
    warm.sync()
    path = sorted((plane.folder / "cache").iterdir())[2]
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" + whole[101:])
    reader = read()
    assert reader.sync() == 0
    assert "damaged cache file removed" in caplog.text
    assert reader.sync() == 1
    assert path.read_bytes() == whole
    assert_same(reader.sample(0, BOTH, 16), warm.sample(0, BOTH, 16))


def test_unusable_episode_is_passed_over_by_every_host(plane, read, fleet) -> None:
    """A payload with the right hash that does not decode, and one with another layout."""
    broken = plane.put(fleet[1], payload=b"not arrow at all")
    odd = plane.put(make_episode(state=9))
    plane.snapshot(plane.put(fleet[0]), broken)
    plane.snapshot(odd)
    readers = [read("a"), read("b")]
    assert [reader.sync() for reader in readers] == [2, 2]
    assert_same(*(reader.sample(0, {"demo": 1.0}, 8) for reader in readers))
    reasons = {letter.episode_id: letter for letter in plane.catalog.dead_letters()}
    assert set(reasons) == {broken.episode_id, odd.episode_id}
    assert reasons[broken.episode_id].where == "reader"
    assert "9 state" in reasons[odd.episode_id].reason


def test_catalog_that_is_away_does_not_stop_training(plane, read, fleet, monkeypatch) -> None:
    plane.commit(*fleet[:4])
    reader = read()
    reader.sync()

    def away() -> int:
        raise ServiceError("The catalog is away.")

    monkeypatch.setattr(plane.catalog, "snapshot_version", away)
    assert reader.sync() == 1
    monkeypatch.undo()
    plane.commit(*fleet[4:])
    assert reader.sync() == 2


def test_availability_is_recorded_once_by_host_0(plane, read, fleet) -> None:
    now = 1000.0
    plane.commit(*fleet[:2])
    reader = read(clock=lambda: now)
    second = read("b", host=1, hosts=2, clock=lambda: 5.0)
    second.sync()
    assert plane.catalog.availability() == {}
    reader.sync()
    now = 2000.0
    plane.commit(*fleet[2:4])
    reader.sync()
    read("c", clock=lambda: 3000.0).sync()  # a restart does not make old episodes new
    at = plane.catalog.availability()
    assert [at[e.header.episode_id] for e in fleet[:4]] == [1000.0, 1000.0, 2000.0, 2000.0]


def test_windows_for_the_statistics(plane, read, fleet) -> None:
    plane.commit(*fleet)
    reader = read()
    reader.sync()
    state, action, mask = reader.windows("demo")
    demos = {e.ticks: e for e in fleet[::2]}
    assert len(state) == len(action) == len(mask) == sum(demos)
    every = list(reader.every_window("demo", batch=10))
    assert [len(part.state) for part in every] == [10, 10, 4]
    np.testing.assert_array_equal(np.concatenate([part.action for part in every]), action)
    known = np.concatenate([e.state[:-1] for e in demos.values()])
    assert {row.tobytes() for row in known} == {row.tobytes() for row in state}
    assert mask.sum() == sum(min(5, t - start) for t in demos for start in range(t))
    assert len(reader.windows("demo", limit=7).state) == 7
    assert len(reader.windows("human").state) == sum(e.ticks // 4 for e in fleet[1::2])
    assert reader.windows("play").state.shape == (0, 6)
    with pytest.raises(ConfigError, match="'demos' is unknown"):
        reader.windows("demos")


def test_n_step_can_change_with_the_stage(plane, read) -> None:
    """One episode, T = 12, H = 5: with n = 1 tick 0 bootstraps, with n = 10 it sees the reward."""
    plane.commit(make_episode(ticks=12, kind="demo"))
    reader = read(n_step={"restocking": 10})
    reader.sync()
    long, short = (reader.sample(0, {"demo": 1.0}, 64, n_step=n) for n in (None, 1))
    np.testing.assert_array_equal(long.tick, short.tick)
    np.testing.assert_allclose(long.returns, 0.9 ** (11 - long.tick), rtol=1e-6)
    assert (long.discount == 0).all()
    assert ((short.discount > 0) == (short.tick + 5 < 12)).all()


def test_options_reach_the_memory(plane, read) -> None:
    cut = make_episode(ticks=8, outcome="timeout", terminated=False, truncated=True)
    plane.commit(cut)
    paper = read()
    loose = read("b", options=Options(prefetcher=False, bootstrap_timeouts=True))
    pure = read("c", options=Options(prefetcher=False, single_source=True))
    for reader in (paper, loose, pure):
        reader.sync()
    assert (paper.sample(0, {"online": 1.0}, 64).discount == 0).any()
    assert (loose.sample(0, {"online": 1.0}, 64).discount > 0).all()
    assert paper.statistics()["online"].ticks == 8
    assert pure.statistics()["online"].ticks == 6  # ticks 0 and 1 are human, their chunks mixed


def test_small_cache_slows_but_never_stops(plane, read, fleet) -> None:
    rows = [plane.put(episode) for episode in fleet]
    plane.snapshot(*rows)
    size = max(row.size_bytes for row in rows)
    reader = read(options=Options(prefetcher=False, cache_bytes=2 * size))
    for _ in range(6):
        reader.sync()
        cached = [path.stat().st_size for path in (plane.folder / "cache").iterdir()]
        assert sum(cached) <= 2 * size
    assert reader.version == 1
    assert sum(reader.statistics()[part].episodes for part in BOTH) == 6


def test_loading_a_little_at_a_time_ends_at_the_same(plane, read, fleet) -> None:
    """The clock advances by a second at every look, so that every call takes one episode in."""
    plane.commit(*fleet[:3])
    plane.commit(*fleet[3:])
    seconds = itertools.count()
    slow, whole = read("slow", clock=lambda: float(next(seconds))), read()
    versions = [slow.sync(within_s=0.5) for _ in fleet]
    assert versions == [0, 0, 1, 1, 1, 2]
    assert whole.sync() == 2
    assert_same(slow.sample(0, BOTH, 16), whole.sample(0, BOTH, 16))


def test_loading_does_not_move_what_is_bound(plane, read, fleet) -> None:
    plane.commit(*fleet[:3])
    reader = read()
    reader.sync()
    before = reader.sample(0, BOTH, 16)
    plane.commit(*fleet[3:])
    reader.load()
    assert reader.version == 1
    assert_same(reader.sample(0, BOTH, 16), before)
    assert reader.sync() == 2


def test_wrong_host_is_refused(read: Callable[..., Reader]) -> None:
    with pytest.raises(ConfigError, match="Host 2 of 2: hosts count from 0 to 1"):
        read(host=2, hosts=2)


def test_prefetcher_cannot_see_memory(plane, read, monkeypatch) -> None:
    monkeypatch.setattr(plane, "objects", Objects("memory:///"))
    with pytest.raises(ConfigError, match="not seen by a prefetcher"):
        read(options=Options())
    assert read().sync() == 0


def test_header_of_a_payload_decides_not_its_row(plane, read) -> None:
    """A row may not smuggle an episode into another part: the payload's header is what counts."""
    demo = make_episode(ticks=7, kind="demo")
    row = replace(plane.put(demo), episode_id="f" * 32, kind="online")
    plane.catalog.insert_episode(row)
    plane.snapshot(row)
    reader = read()
    reader.sync()
    assert reader.statistics()["demo"].episodes == 0
    assert reader.statistics()["online"].episodes == 0


def test_an_invalid_payload_is_unusable_whatever_its_row_says(plane, read) -> None:
    known = plane.put(make_episode(ticks=7, outcome="invalid"))
    row = replace(known, episode_id="f" * 32, outcome="timeout")
    plane.catalog.insert_episode(row)
    plane.snapshot(row)
    reader = read()
    reader.sync()
    assert reader.statistics()["online"].episodes == 0
    assert "is invalid" in plane.catalog.dead_letters()[0].reason


def test_transitions_are_every_window_of_a_part_once(plane, read, fleet) -> None:
    plane.commit(*fleet)
    reader = read()
    reader.sync()
    found = list(reader.transitions("online", batch=7))
    assert max(len(batch.tick) for batch in found) == 7
    pairs = [(e, t) for batch in found for e, t in zip(batch.episode, batch.tick, strict=True)]
    online = [episode for episode in fleet if episode.header.kind == "online"]
    wanted = {(e.header.episode_id, tick) for e in online for tick in range(e.ticks)}
    assert len(pairs) == len(wanted)
    assert set(pairs) == wanted


def test_episodes_are_counted_by_the_policy_that_acted(plane, read) -> None:
    versions = [0, 1, 2, 2, 3]
    episodes = [make_episode(6, seed=i) for i in range(len(versions))]
    headers = [replace(e.header, policy_version=v) for e, v in zip(episodes, versions, strict=True)]
    plane.commit(*[replace(e, header=h) for e, h in zip(episodes[:4], headers[:4], strict=True)])
    reader = read()
    reader.sync()
    plane.commit(replace(episodes[4], header=headers[4]))
    assert [reader.acted(version) for version in (1, 2, 3)] == [3, 2, 0]  # not bound yet
    reader.sync()
    assert [reader.acted(version) for version in (1, 2, 3)] == [4, 3, 1]
    relabelled = episodes[4].header.episode_id  # comes again, and still counts once
    plane.catalog.amend(relabelled, "outcome", '"failure"', author="me", reason="seen")
    plane.snapshot()
    reader.sync()
    assert [reader.acted(version) for version in (1, 2, 3)] == [4, 3, 1]
