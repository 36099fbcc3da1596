"""What a run that goes on sees: what it saw before, however much has arrived meanwhile."""

from pathlib import Path

import pytest

from lwd.replay.bindings import Bindings
from lwd.store.lines import entries
from processes import wait_until

BOTH = {"demo": 0.5, "online": 0.5}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run" / "bindings.jsonl"


def bindings(reader, journal: Path, *, keep: bool = True) -> Bindings:
    return Bindings(reader, journal, keep=keep)


def drawn(reader, look: Bindings, draws: range, *, every: int = 2) -> list[tuple[int, list[int]]]:
    """Snapshot and windows of each draw, with a look at the catalog before every second one."""
    found = []
    for draw in draws:
        if draw % every == 0:
            wait_until(lambda: look.sync(draw), "the snapshot")  # noqa: B023
        found.append((reader.version, reader.sample(draw, BOTH, 8).window.tolist()))
    return found


def test_a_resumed_run_sees_the_uninterrupted_order(plane, read, fleet, journal) -> None:
    """Snapshots arrive while the first run draws, and more before the second one goes on."""
    plane.commit(*fleet[:2])
    reader = read()
    look = bindings(reader, journal)
    whole = drawn(reader, look, range(0, 3))
    plane.commit(*fleet[2:4])
    whole += drawn(reader, look, range(3, 7))
    plane.commit(fleet[4])
    whole += drawn(reader, look, range(7, 10))
    assert [version for version, _ in whole] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]

    plane.commit(fleet[5])
    for checkpoint in (1, 3, 6):
        resumed = read(f"resumed {checkpoint}")
        assert resumed.sync(at_most=whole[checkpoint - 1][0]) == whole[checkpoint - 1][0]
        look = bindings(resumed, journal, keep=False)
        assert drawn(resumed, look, range(checkpoint, 10)) == whole[checkpoint:]
        assert drawn(resumed, look, range(10, 11))[0][0] == 4


def test_a_new_run_does_not_look_back(plane, read, fleet, journal) -> None:
    plane.commit(*fleet[:2])
    reader = read()
    drawn(reader, bindings(reader, journal), range(0, 3))
    plane.commit(*fleet[2:])
    fresh = read("fresh")
    look = bindings(fresh, journal)
    look.forget()
    assert drawn(fresh, look, range(0, 1))[0][0] == 2
    assert len(list(entries(journal))) == 1


def test_what_is_still_on_the_way_is_waited_for(plane, read, fleet, journal) -> None:
    plane.commit(*fleet[:2])
    reader = read()
    drawn(reader, bindings(reader, journal), range(0, 1))
    plane.objects.delete(next(iter(plane.objects.list("episodes"))))
    assert not bindings(read("behind"), journal).sync(0)


@pytest.mark.parametrize("torn", ["\n", '\n{"draw": 4, "ver', "\nnull", '\n{"draw": 4}\n'])
def test_a_torn_line_is_left_out(plane, read, fleet, journal, torn: str) -> None:
    plane.commit(*fleet[:2])
    reader = read()
    drawn(reader, bindings(reader, journal), range(0, 3))
    with journal.open("a") as file:
        file.write(torn)
    plane.commit(*fleet[2:])
    resumed = read("resumed")
    assert [v for v, _ in drawn(resumed, bindings(resumed, journal), range(0, 5))] == [
        1,
        1,
        1,
        1,
        2,
    ]


def test_what_follows_a_torn_line_is_whole(plane, read, fleet, journal) -> None:
    plane.commit(*fleet[:2])
    reader = read()
    drawn(reader, bindings(reader, journal), range(0, 1))
    with journal.open("a") as file:
        file.write('\n{"draw": 2, "ver')
    drawn(reader, bindings(reader, journal), range(2, 5))
    assert [bound.draw for bound in bindings(reader, journal)._seen] == [0, 2, 4]


def test_only_one_host_writes(plane, read, fleet, journal) -> None:
    plane.commit(*fleet)
    reader = read()
    drawn(reader, bindings(reader, journal, keep=False), range(0, 3))
    assert not journal.exists()


def test_a_run_killed_while_it_waited_for_more_goes_on_with_what_came(
    plane, read, fleet, journal
) -> None:
    plane.commit(*fleet[:2])
    reader = read()
    look = bindings(reader, journal)
    drawn(reader, look, range(0, 2))
    assert look.sync(2)
    assert look.sync(2)
    plane.commit(*fleet[2:])
    resumed = read("resumed")
    look = bindings(resumed, journal)
    for _ in range(2):
        wait_until(lambda: look.sync(2), "the snapshot")
        assert resumed.version == 1, "what the run had seen there"
    assert look.sync(2)
    assert resumed.version == 2, "it waits for more, so it sees what is newest"
