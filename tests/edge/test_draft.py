"""What a kill leaves of an episode is recovered as truncated, or discarded, and either is said."""

from dataclasses import replace

import numpy as np
import pytest

from lwd.edge.account import Fate, account
from lwd.edge.draft import Drafts, joined
from lwd.edge.spool import Spool
from lwd.episode.payload import decode, encode
from lwd.episode.types import Episode, Outcome
from sample_episodes import make_episode

WHY = "the process ended inside it"


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "arm-1") as opened:
        yield opened


def pieces(episode: Episode, size: int) -> list[Episode]:
    """The episode as a recorder hands it over while it runs."""
    header = replace(episode.header, outcome=Outcome.INTERRUPTED, terminated=False, truncated=True)
    return [
        Episode(
            header=header,
            time=episode.time[k : k + size + 1],
            state=episode.state[k : k + size + 1],
            action=episode.action[k : k + size],
            action_policy=episode.action_policy[k : k + size],
            source=episode.source[k : k + size],
            events=episode.events[k : k + size],
            images={name: rows[k : k + size + 1] for name, rows in episode.images.items()},
        )
        for k in range(0, episode.ticks, size)
    ]


def test_pieces_give_the_episode_back():
    episode = make_episode(40)
    whole = joined(pieces(episode, 10))
    assert (whole.header.outcome, whole.header.truncated) == (Outcome.INTERRUPTED, True)
    assert whole.header.episode_id == episode.header.episode_id
    for name in ("time", "state", "action", "action_policy", "source"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(episode, name))
    assert whole.events == episode.events
    assert whole.images == episode.images


def test_what_was_recorded_is_saved_as_truncated(spool):
    episode = make_episode(40)
    for number, piece in enumerate(pieces(episode, 10)[:3]):
        Drafts(spool).add(number, piece)
    recovered = Drafts(spool).recover(keep=True, why=WHY)
    assert recovered is not None
    assert recovered.outcome is Outcome.INTERRUPTED
    saved = decode(spool.path(episode.header.episode_id))
    assert (saved.ticks, saved.header.outcome) == (30, Outcome.INTERRUPTED)
    np.testing.assert_array_equal(saved.state, episode.state[:31])
    found = account(spool.root)
    assert (found.waiting, found.fates, found.dropped) == (1, {Fate.RECOVERED: 1}, ())
    assert Drafts(spool).recover(keep=True, why=WHY) is None


def test_or_discarded_with_a_line(spool):
    Drafts(spool).add(0, pieces(make_episode(40), 10)[0])
    assert Drafts(spool).recover(keep=False, why=WHY) is None
    assert spool.pending() == []
    ((_, reason),) = account(spool.root).dropped
    assert reason == f"discarded: {WHY}, after 10 recorded ticks"


def test_a_damaged_piece_costs_itself_and_what_follows(spool):
    episode = make_episode(40)
    for number, piece in enumerate(pieces(episode, 10)):
        Drafts(spool).add(number, piece)
    path = spool.root / "drafts" / episode.header.episode_id / "000002.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    recovered = Drafts(spool).recover(keep=True, why=WHY)
    assert recovered is not None
    assert decode(spool.path(recovered.episode_id)).ticks == 20


@pytest.mark.parametrize("keep", [True, False])
def test_without_a_usable_piece_a_line_is_left(spool, keep):
    """As after a power cut: pieces are not synced."""
    episode = make_episode(20)
    Drafts(spool).add(0, pieces(episode, 10)[0])
    (spool.root / "drafts" / episode.header.episode_id / "000000.arrow").write_bytes(b"")
    assert Drafts(spool).recover(keep=keep, why=WHY) is None
    assert account(spool.root).dropped == (
        (episode.header.episode_id, f"torn: {WHY}, and no piece of it is usable"),
    )
    assert not (spool.root / "drafts").exists()


@pytest.mark.parametrize("state", ["pending", "done", "rejected"])
def test_a_finished_episode_is_not_recovered_again(spool, state):
    episode = make_episode(20)
    Drafts(spool).add(0, pieces(episode, 10)[0])
    spool.save(episode.header.episode_id, encode(episode))
    if state == "done":
        spool.acknowledge(episode.header.episode_id)
    if state == "rejected":
        spool.reject(episode.header.episode_id, "nobody takes it")
    assert Drafts(spool).recover(keep=True, why=WHY) == episode.header
    assert account(spool.root).fates == {}
    assert not (spool.root / "drafts").exists()


def test_a_finished_episode_that_has_rotted_is_not_recovered_either(spool):
    episode = make_episode(20)
    Drafts(spool).ended(episode.header.episode_id)
    spool.save(episode.header.episode_id, b"not an episode")
    assert Drafts(spool).recover(keep=True, why=WHY) is None
    assert account(spool.root).fates == {}
