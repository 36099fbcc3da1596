"""The policy store: a newer policy is taken over at boundaries only, a bad one never."""

import re
import threading
from dataclasses import replace

import pytest

from actor.fleet import DEADLINE_S, FAST, Fleet, until
from actor.point import Intervening, PointPolicy, PointRobot, build
from lwd.actor.loop import run_episode
from lwd.actor.policy import Policy, PolicyStore
from lwd.episode.types import Kind
from lwd.errors import IntegrityError, ServiceError
from lwd.store.rows import LoadRow


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def store(fleet):
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST, clock=lambda: 12.0) as store:
        yield store


def take(store: PolicyStore) -> Policy:
    assert store.wait(DEADLINE_S)
    policy = store.swap()
    assert policy is not None
    return policy


def test_there_is_no_policy_before_the_first_weights(fleet, store):
    assert not store.wait(0.01)
    assert store.swap() is None
    fleet.publish(0.5)
    assert take(store).version == 1


def test_what_was_loaded_is_reported(fleet, store):
    fleet.publish(0.5)
    take(store)
    until(lambda: fleet.reported == [LoadRow(robot="r0", version=1, loaded_at=12.0)])
    assert store.swap().version == 1
    fleet.publish(0.6)
    take(store)
    until(lambda: [row.version for row in fleet.reported] == [1, 2])


def test_a_newer_policy_waits_for_the_boundary(fleet, store):
    fleet.publish(0.0)
    policy = take(store)
    robot = PointRobot()

    class Publishing(Intervening):
        """Publishes in the middle of the episode and waits until the robot has the weights."""

        def wants_control(self, tick):
            if self._now == 12:
                fleet.publish(1.0)
                assert store.wait(DEADLINE_S)
            return super().wants_control(tick)

    episode = run_episode(robot, 1, policy, Publishing(robot, range(0)), kind=Kind.ONLINE)
    assert episode.header.policy_version == 1
    assert (episode.action == 0).all()  # gain 0 to the end: the new policy would have moved
    assert store.swap().version == 2
    episode = run_episode(robot, 1, store.swap(), None, kind=Kind.ONLINE)
    assert episode.header.policy_version == 2
    assert (episode.action[0] != 0).all()


def test_only_the_newest_of_several_is_loaded(fleet, store):
    for gain in (0.1, 0.2, 0.3):
        fleet.publish(gain)
    until(lambda: fleet.asked > 4)
    assert take(store).version == 3


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"robot": "arm"}, "weights are for robot 'arm'"),
        ({"size": 2}, r"tensor 'gain' has shape \(2,\); expected \(1,\)"),
    ],
    ids=["another robot", "another shape"],
)
def test_weights_that_do_not_fit_keep_the_last_good(fleet, store, caplog, bad, reason):
    fleet.publish(0.5)
    assert take(store).version == 1
    fleet.publish(0.9, **bad)
    until(lambda: 2 in store.rejected)
    assert re.search(reason, store.rejected[2])
    assert store.swap().version == 1
    assert "weights rejected robot=r0 version=2 last_good=1" in caplog.text
    fleet.publish(0.7)
    assert take(store).version == 3


def test_a_version_whose_chain_is_forged_is_refused(fleet, store):
    fleet.publish(0.5, chain="forged")
    assert take(store).version == 1
    fleet.publish(0.6)
    until(lambda: 2 in store.rejected)
    assert "chain" in store.rejected[2]
    assert store.swap().version == 1


def test_a_version_that_acts_in_another_way_is_taken_over_if_the_rest_fits(fleet, store):
    fleet.publish(0.5)
    assert take(store).version == 1
    fleet.publish(0.6, extra=3)
    assert take(store).version == 2
    fleet.publish(0.7, extra=3, size=2)
    until(lambda: 3 in store.rejected)
    assert "tensor 'gain' has shape (2,)" in store.rejected[3]
    fleet.publish(0.8)
    assert take(store).version == 4


def test_a_damaged_download_is_tried_again_then_given_up(fleet, store):
    fleet.fails[1] = [IntegrityError("other hash"), IntegrityError("other hash")]
    fleet.publish(0.5)
    assert take(store).version == 1
    fleet.fails[2] = [IntegrityError("other hash") for _ in range(3)]
    fleet.publish(0.6)
    until(lambda: store.rejected == {2: "IntegrityError: other hash"})
    assert fleet.fails[2] == []
    assert store.swap().version == 1


def test_an_unreachable_object_store_is_waited_for(fleet, store):
    fleet.fails[1] = [ServiceError("timeout") for _ in range(6)]
    fleet.publish(0.5)
    assert take(store).version == 1
    assert store.rejected == {}


def test_a_dead_service_does_not_stop_the_robot(fleet, store):
    fleet.publish(0.5)
    take(store)
    until(lambda: len(fleet.reported) == 1)
    fleet.down = True
    asked = fleet.asked
    until(lambda: fleet.asked > asked + 3)
    assert store.swap().version == 1
    fleet.publish(0.6)
    fleet.down = False
    assert take(store).version == 2
    until(lambda: [row.version for row in fleet.reported] == [1, 2])


def test_a_load_made_while_the_service_is_down_is_reported_later(fleet, store):
    fleet.publish(0.5)
    assert store.wait(DEADLINE_S)
    fleet.down = True
    store.swap()
    asked = fleet.asked
    until(lambda: fleet.asked > asked + 2)
    assert fleet.reported == []
    fleet.down = False
    until(lambda: [row.version for row in fleet.reported] == [1])


def test_the_last_report_is_sent_on_close(fleet):
    fleet.publish(0.5)
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST) as store:
        take(store)
    assert [row.version for row in fleet.reported] == [1]


def test_a_report_that_hangs_while_the_store_closes_is_sent_again_and_nothing_breaks():
    class Hanging(Fleet):
        """Answers the first report only while the second is under way."""

        def __init__(self) -> None:
            super().__init__()
            self.second, self.threads = threading.Event(), []

        def report_load(self, row: LoadRow) -> None:
            self.threads.append(threading.current_thread())
            super().report_load(row)
            if len(self.threads) == 1:
                assert self.second.wait(DEADLINE_S)
                return
            self.second.set()
            self.threads[0].join(DEADLINE_S)

    fleet = Hanging()
    fleet.publish(0.5)
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST) as store:
        take(store)
        until(lambda: fleet.threads)
    assert [row.version for row in fleet.reported] == [1, 1]
    assert fleet.threads[0] is not fleet.threads[1]


def test_a_service_that_goes_back_is_not_believed(fleet, store, caplog):
    fleet.publish(0.5)
    take(store)
    with fleet.changed:
        fleet.rows.append(replace(fleet.rows[0]))
        fleet.changed.notify_all()
    until(lambda: "offered version 1; asked for one after 1" in caplog.text)
    assert store.swap().version == 1


def test_a_policy_withdrawn_gives_way_to_the_one_before(fleet, store):
    fleet.publish(0.5)
    take(store)
    fleet.publish(0.6)
    take(store)
    store.withdraw("planned NaN")
    assert store.swap().version == 1
    assert store.rejected == {2: "planned NaN"}
    until(lambda: [row.version for row in fleet.reported] == [1, 2, 1])
    store.withdraw("planned NaN again")
    assert store.swap() is None
    fleet.publish(0.7)
    assert take(store).version == 3


def test_the_store_says_which_artifacts_it_may_still_use(fleet, store):
    for gain in (0.1, 0.2, 0.3):
        fleet.publish(gain)
        take(store)
    assert store.in_use == {f"{2:064x}", f"{3:064x}"}


def test_a_bug_in_the_thread_stops_the_robot_at_the_boundary(fleet):
    def broken(row):
        raise AttributeError("no such thing")

    fleet.publish(0.5)
    with PolicyStore("r0", fleet, broken, build, polling=FAST) as store:
        assert not store.wait(DEADLINE_S)
        with pytest.raises(ServiceError, match="has died"):
            store.swap()


def test_a_policy_must_say_its_version(fleet):
    def forgetful(tensors, metadata, version):
        return PointPolicy(1.0, version=99)

    fleet.publish(0.5)
    with PolicyStore("r0", fleet, fleet.download, forgetful, polling=FAST) as store:
        until(lambda: 1 in store.rejected)
    assert "says version 99, not 1" in store.rejected[1]


def test_a_robot_that_restarts_without_the_service_uses_the_last_good(fleet, tmp_path):
    memory = tmp_path / "weights.json"
    fleet.publish(0.5)
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST, memory=memory) as store:
        take(store)
    fleet.down = True
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST, memory=memory) as store:
        assert store.swap().version == 1
        fleet.publish(0.6)
        fleet.down = False
        assert take(store).version == 2


def test_the_remembered_version_is_not_built_twice(fleet, tmp_path):
    memory = tmp_path / "weights.json"
    built = []

    def counting(tensors, metadata, version):
        built.append(version)
        return build(tensors, metadata, version)

    fleet.publish(0.5)
    for _ in range(2):
        asked = fleet.asked
        with PolicyStore(
            "r0", fleet, fleet.download, counting, polling=FAST, memory=memory
        ) as store:
            assert take(store).version == 1
            until(lambda: fleet.asked > asked + 1)  # noqa: B023
    assert built == [1, 1]


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}', "[1]"])
def test_a_damaged_memory_is_ignored(fleet, tmp_path, text, caplog):
    memory = tmp_path / "weights.json"
    memory.write_text(text)
    with PolicyStore("r0", fleet, fleet.download, build, polling=FAST, memory=memory) as store:
        assert store.swap() is None
        assert "last good weights not usable" in caplog.text
        fleet.publish(0.5)
        assert take(store).version == 1
