"""The rubric of the long tasks, on the tea: what a hand or a shove does to the score."""

# MuJoCo is a C extension without stubs.
# pyright: reportAttributeAccessIssue=false

from dataclasses import replace

import mujoco
import pytest

from lwd.config import COMPACT
from lwd.sim.body import MAX_OPENING
from lwd.sim.robot import SimRobot
from lwd.sim.scene import REST
from lwd.sim.score import Scorer
from lwd.sim.task import Subtask, TaskSpec, spilt
from lwd.sim.tasks.tea import TEA
from lwd.sim.tasks.tea_set import GAIWAN, KETTLE, LEAVES, LID, PITCHER, SNAP
from lwd.sim.things import Thing


def made_up(*things: tuple[Thing, ...]) -> TaskSpec:
    """The tea with other sub-steps: each is done, and flawed, when a fact says so."""
    subtasks = tuple(
        Subtask(
            name=f"step {k}",
            done=lambda scene, k=k: f"done {k}" in scene.facts,
            things=tuple(thing.name for thing in worked_on),
            flawed=lambda scene, before: "flawed" in scene.facts or spilt(KETTLE)(scene, before),
        )
        for k, worked_on in enumerate(things)
    )
    return replace(TEA, subtasks=subtasks, react=None)


class Episode:
    """A scene whose ticks take no time, with things brought to the left hand and taken away."""

    def __init__(self, *things: tuple[Thing, ...]) -> None:
        robot = SimRobot("tea", control=COMPACT)
        robot.reset(0)
        self.scene = robot.scene
        self.scene.task = made_up(*things)
        self.scene.model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)
        self.scorer = Scorer(self.scene)
        self.target = REST.copy()

    def tick(self) -> None:
        mujoco.mj_forward(self.scene.model, self.scene.data)
        self.scene.step(self.target, 0)
        self.scorer.watch(self.target)

    def grasp(self, thing: Thing, *, gap_m: float = 0.02, slot: int = 7) -> None:
        """Bring a thing below the hand, `gap_m` from the finger tips, and close the gripper."""
        side = "left" if slot == 7 else "right"
        x, y, z = self.scene.hand(side)[0]
        drop = 0.045 + gap_m + thing.shape.height / 2
        self.scene.teleport(thing, (x, y, z - drop))
        self.target[slot] = 0.0
        self.tick()

    def release(self, slot: int = 7) -> None:
        self.target[slot] = MAX_OPENING
        self.tick()

    def shove(self, thing: Thing, by_m: float) -> None:
        x, y, z = self.scene.position(thing)
        self.scene.teleport(thing, (x + by_m, y, z))
        self.tick()

    def finish(self, k: int) -> float:
        """Let sub-step `k` be done; its score."""
        self.scene.facts[f"done {k}"] = 1.0
        self.tick()
        return self.scorer.scores[k]


def test_a_sub_step_that_was_not_done_scores_nothing():
    episode = Episode((KETTLE,), (GAIWAN,), (PITCHER,))
    assert episode.scorer.scores == (0.0, 0.0, 0.0)
    episode.grasp(KETTLE)
    assert episode.finish(0) == 1.0
    assert episode.scorer.scores == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("attempts", "score"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.0)])
def test_each_attempt_beyond_the_first_costs(attempts, score):
    episode = Episode((KETTLE,))
    for _ in range(attempts):
        episode.grasp(KETTLE)
        episode.release()
    assert episode.finish(0) == score


def test_only_a_gripper_that_closes_near_the_thing_attempts():
    episode = Episode((KETTLE,))
    for _ in range(3):
        episode.grasp(KETTLE, gap_m=0.10)
        episode.release()
        episode.target[7] = 0.06  # half closed is not closed
        episode.tick()
        episode.release()
    assert episode.finish(0) == 1.0


def test_the_nearest_thing_is_the_one_attempted():
    episode = Episode((KETTLE, LID))
    episode.grasp(KETTLE)
    episode.release()
    episode.shove(KETTLE, 0.05)
    episode.grasp(LID, gap_m=0.01)
    assert episode.finish(0) == 1.0, "one attempt at each"


def test_the_second_hand_joins_the_first():
    episode = Episode((KETTLE,))
    episode.grasp(KETTLE)
    episode.grasp(KETTLE, slot=15)
    episode.release(15)
    episode.grasp(KETTLE, slot=15)
    assert episode.finish(0) == 1.0
    episode = Episode((KETTLE,))
    episode.grasp(KETTLE)
    episode.release()
    episode.grasp(KETTLE, slot=15)
    assert episode.finish(0) == 0.5, "the first had let go"


def test_attempts_are_counted_anew_in_each_sub_step():
    episode = Episode((KETTLE,), (KETTLE,))
    for _ in range(3):
        episode.grasp(KETTLE)
        episode.release()
    assert episode.finish(0) == 0.0
    episode.grasp(KETTLE)
    assert episode.finish(1) == 1.0


def test_a_flaw_halves_the_score():
    episode = Episode((KETTLE,))
    episode.grasp(KETTLE)
    episode.scene.facts["flawed"] = 1.0
    assert episode.finish(0) == 0.5


def test_what_was_spilt_counts_in_the_sub_step_in_which_it_was():
    episode = Episode((KETTLE,), (KETTLE,), (KETTLE,))
    liquids = episode.scene.liquids
    liquids.pour(KETTLE, GAIWAN, 40.0)
    liquids.pour(KETTLE, None, 10.0)
    assert episode.finish(0) == 0.5
    liquids.pour(KETTLE, GAIWAN, 40.0)
    assert episode.finish(1) == 1.0, "a fifth of this pour and none of that"
    liquids.pour(KETTLE, GAIWAN, 40.0)
    liquids.pour(KETTLE, None, 10.0)
    assert episode.finish(2) == 0.5, "a tenth of all three, but a fifth of this"


@pytest.mark.parametrize(("by_m", "score"), [(0.02, 1.0), (0.04, 0.5)])
def test_another_object_that_is_shoved_aside_is_an_imperfection(by_m, score):
    episode = Episode((KETTLE,), (KETTLE,))
    episode.shove(PITCHER, by_m)
    assert episode.finish(0) == score
    assert episode.finish(1) == 1.0, "it is where it was since the sub-step began"


def test_what_is_worked_on_or_carried_may_move(monkeypatch):
    episode = Episode((KETTLE,))
    episode.shove(KETTLE, 0.1)
    holding = {PITCHER}
    monkeypatch.setattr(episode.scene, "holder", lambda t: "right" if t in holding else None)
    episode.shove(PITCHER, 0.1)
    holding.clear()
    episode.tick()  # put down, at rest
    assert episode.finish(0) == 1.0


def test_what_is_welded_to_a_thing_moves_with_it(monkeypatch):
    def weld(episode: Episode) -> None:
        episode.scene.data.eq_active[episode.scene.model.equality(SNAP).id] = 1

    episode = Episode((GAIWAN,))
    weld(episode)
    episode.shove(LID, 0.1)
    assert episode.finish(0) == 1.0, "with what is worked on"

    episode = Episode((KETTLE,))
    weld(episode)
    holding = {GAIWAN}
    monkeypatch.setattr(episode.scene, "holder", lambda t: "right" if t in holding else None)
    episode.shove(LID, 0.1)
    assert episode.finish(0) == 1.0, "with what is carried"


def test_attempts_at_two_things_that_are_one_piece_are_two_attempts():
    episode = Episode((GAIWAN, LID))
    episode.scene.data.eq_active[episode.scene.model.equality(SNAP).id] = 1
    episode.grasp(GAIWAN)
    episode.release()
    episode.shove(GAIWAN, 0.05)
    episode.grasp(LID, gap_m=0.01)
    assert episode.finish(0) == 0.5


def test_what_was_put_down_must_not_be_shoved_either(monkeypatch):
    episode = Episode((KETTLE,))
    holding = {PITCHER}
    monkeypatch.setattr(episode.scene, "holder", lambda t: "right" if t in holding else None)
    episode.shove(PITCHER, 0.1)
    holding.clear()
    episode.tick()
    episode.shove(PITCHER, 0.04)
    assert episode.finish(0) == 0.5


def test_a_saved_record_is_independent():
    episode = Episode((KETTLE,))
    episode.grasp(KETTLE)
    saved = episode.scorer.save()
    episode.release()
    episode.grasp(KETTLE)
    episode.scorer.restore(saved)
    assert episode.finish(0) == 1.0
    assert saved.scores == []


def test_a_robot_reports_its_scores_and_takes_them_back():
    robot = SimRobot("tea", control=COMPACT)
    robot.reset(0)
    assert robot.apply(REST[None])[0].substeps == (0.0,) * 7
    moment = robot.save()
    scene, (x, y, z) = robot.scene, robot.scene.position(GAIWAN)
    for k, leaf in enumerate(LEAVES.bodies):
        q = scene.model.joint(leaf).qposadr[0]
        scene.data.qpos[q : q + 3] = (x - 0.015 + 0.01 * (k % 4), y + 0.01 * (k // 4), z)
    assert robot.apply(REST[None].repeat(6, 0))[-1].substeps == (1.0, *[0.0] * 6)
    robot.restore(moment)
    assert robot.apply(REST[None])[0].substeps == (0.0,) * 7


def test_a_task_without_annotated_sub_steps_has_no_scores():
    robot = SimRobot("restocking", control=COMPACT)
    robot.reset(0)
    assert robot.apply(REST[None])[0].substeps == ()


def test_what_fell_to_the_floor_may_roll_there():
    episode = Episode((KETTLE,), (KETTLE,))
    episode.shove(PITCHER, 0.04)
    assert episode.finish(0) == 0.5
    for y in (0.0, 0.3, 0.6):
        episode.scene.teleport(PITCHER, (1.2, y, 0.04))
        episode.tick()
    assert episode.finish(1) == 1.0
