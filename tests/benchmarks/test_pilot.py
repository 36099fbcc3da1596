import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.pilot import __main__ as program
from benchmarks.pilot import starts as kept
from benchmarks.pilot import study
from benchmarks.pilot.report import interval, page
from benchmarks.pilot.starts import in_turn
from benchmarks.pilot.study import Plan, fleet_file
from benchmarks.record import commit

from lwd.episode.types import Outcome
from lwd.errors import ConfigError, ServiceError
from lwd.eval.evaluate import Starts
from lwd.eval.results import Attempt
from lwd.fleet.file import read
from lwd.sim.collect.composition import Buffer
from lwd.store.objects import sha256_of

PLAN = Plan(
    runs=Path("runs"),
    tasks=("shoes",),
    starts=1,
    until="online",
    scale=0.01,
    workers=1,
    command="python -m benchmarks.pilot",
)


def attempt(stage: str, start: int, *scores: float) -> Attempt:
    done = min(scores) > 0
    return Attempt(
        policy=stage,
        task="shoes",
        seed=start,
        outcome=Outcome.SUCCESS if done else Outcome.TIMEOUT,
        ticks=500,
        cycle_s=50.0 if done else 120.0,
        substeps=scores,
    )


def write(root: Path, done: list[Attempt]) -> None:
    """Starts of the policies that are there."""
    for stage in {a.policy for a in done}:
        train(root, stage, stage)
    facts = {a.policy: {"sha256": sha256_of(a.policy.encode()), "commit": "1a2b"} for a in done}
    lines = [json.dumps(asdict(a) | facts[a.policy]) + "\n" for a in done]
    (root / "starts.jsonl").write_text("".join(lines))


def train(root: Path, stage: str, weights: str) -> None:
    policy = kept.policy_file(root, stage)
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(weights)


def test_the_page_pairs_what_both_stages_did_on_the_same_start(tmp_path):
    done = [attempt("sft", start, 1.0, 0.5, 0.0) for start in (1, 2, 3)]
    done += [attempt("offline", start, 1.0, 1.0, 1.0) for start in (1, 2)]
    write(tmp_path / "seed-4", done)
    lines = page(tmp_path, [4]).splitlines()
    assert "| shoes | sft | 3 | 0 | 0.500 [0.50, 0.50] | 0% [0%, 56%] | 120.0 ± 0.0 |" in lines
    assert "| offline - sft | shoes | 2 | +0.500 | [+0.500, +0.500] | -70.0 |" in lines
    assert "| 4 | 0.500 of 3 | 1.000 of 2 | - |" in lines


def test_starts_whose_physics_diverged_are_counted_and_no_success(tmp_path):
    done = [attempt("sft", start, 1.0, 1.0) for start in (1, 2, 3)]
    done.append(replace(attempt("sft", 4, 1.0, 0.0), outcome=Outcome.INVALID))
    write(tmp_path / "seed-4", done)
    text = page(tmp_path, [4])
    assert "| task | stage | starts | invalid | score | success | cycle time, s |" in text
    assert "| shoes | sft | 4 | 1 | 0.875 [0.62, 1.00] | 75% [30%, 95%] | 67.5 ± 17.5 |" in text
    assert "diverged" in text


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = sum(
        low <= 0.3 <= high for low, high in (interval(rng.random(40) < 0.3) for _ in "x" * 60)
    )
    assert 50 <= hits <= 60


def test_every_task_has_a_start_before_any_has_two():
    starts = Starts(tasks=("tea", "shoes"), episodes=3)
    order = list(in_turn(starts))
    assert [task for task, _ in order] == ["tea", "shoes"] * 3
    assert sorted(order) == sorted(starts.scenes())


@pytest.mark.parametrize(("tasks", "robots"), [(("shoes", "tea"), 6), (("restocking",), 4)])
def test_the_fleet_has_the_papers_robots_for_some_of_its_tasks(tmp_path, tasks, robots):
    plan = replace(PLAN, runs=tmp_path, tasks=tasks)
    fleet = read(fleet_file(plan, 5, tmp_path / "fleet.yaml"))
    assert len(fleet.robots) == robots
    assert {task for robot in fleet.robots for task in robot.tasks} == set(tasks)
    assert fleet.seed == 5


@pytest.fixture
def acted(monkeypatch) -> list[int]:
    """Scenes at which a policy acted: in this process, and it succeeds."""
    scenes = []

    def act(stage, policy, task, seed):
        scenes.append(seed)
        return attempt(stage, seed, 1.0, 1.0, 1.0)

    monkeypatch.setattr(kept, "_attempt", act)
    monkeypatch.setattr(
        kept, "ProcessPoolExecutor", lambda workers, spawn, initializer: ThreadPoolExecutor(workers)
    )
    return scenes


def test_an_evaluation_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path, acted):
    wanted, path = Starts(tasks=("shoes",), episodes=3), tmp_path / "starts.jsonl"
    scenes = [seed for _, seed in wanted.scenes()]
    write(tmp_path, [attempt("sft", seed, 1.0, 1.0, 1.0) for seed in scenes[:2]])
    path.write_bytes(path.read_bytes()[:-20])
    assert [a.seed for a in kept.read(tmp_path)[0]] == scenes[:1]
    kept.evaluate(tmp_path, "sft", wanted, workers=1)
    assert acted == scenes[1:]
    assert sorted(a.seed for a in kept.read(tmp_path)[0]) == sorted(scenes)


def test_starts_of_another_policy_are_measured_again_and_never_mixed(tmp_path, acted):
    wanted = Starts(tasks=("shoes",), episodes=2)
    unsigned = attempt("sft", wanted.scenes()[0][1], 0.0)
    (tmp_path / "starts.jsonl").write_text(json.dumps(asdict(unsigned)) + "\n")
    for weights in ("first", "second"):
        train(tmp_path, "sft", weights)
        kept.evaluate(tmp_path, "sft", wanted, workers=1)
        kept.evaluate(tmp_path, "sft", wanted, workers=1)
    assert len(acted) == 4
    train(tmp_path, "sft", "first")
    kept.evaluate(tmp_path, "sft", wanted, workers=1)
    assert len(acted) == 4
    found, others = kept.read(tmp_path)
    assert {(a.sha256, a.commit) for a in found} == {(sha256_of(b"first"), commit())}
    assert (len(found), others) == (2, 3)


def test_the_page_says_which_policy_acted_and_what_does_not_count(tmp_path):
    write(tmp_path / "seed-4", [attempt("sft", start, 1.0) for start in (1, 2)])
    row = f"| 4 | sft | 2 | {sha256_of(b'sft')[:10]} | 1a2b |"
    text = page(tmp_path, [4])
    assert row in text
    assert "do not count" not in text
    train(tmp_path / "seed-4", "sft", "trained again")
    text = page(tmp_path, [4])
    assert row not in text
    assert "| shoes |" not in text
    assert "Seed 4: 2 starts do not count" in text


def test_a_fleet_that_keeps_dying_ends_the_learner_and_says_why(tmp_path, monkeypatch):
    def learn(plane, learner, hosts, *, stop=lambda: False):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not stop():
            time.sleep(0.1)
        assert stop(), "nobody stopped the learner"
        return False

    plan = replace(PLAN, runs=tmp_path)
    for stage in ("sft", "offline"):
        train(plan.root(0), stage, stage)
    monkeypatch.setattr(study, "run", learn)
    monkeypatch.setattr(study.starts, "evaluate", lambda *given, **named: None)
    monkeypatch.setattr(study, "fleet_file", lambda plan, seed, path: path)  # it is not there
    with pytest.raises(ServiceError, match=r"fleet ended with status \d for the 4th time"):
        study.study(plan, 0)


@pytest.fixture
def untaught(monkeypatch) -> None:
    """Nothing is collected, learned or evaluated."""
    monkeypatch.setattr(
        study,
        "collect",
        lambda config: Buffer(scale=config.scale, streams=(), entries=(), policies=0),
    )
    monkeypatch.setattr(study, "learn", lambda *given: None)
    monkeypatch.setattr(study, "_export", lambda *given: None)
    monkeypatch.setattr(study.starts, "evaluate", lambda *given, **named: None)


@pytest.mark.usefixtures("untaught")
def test_the_page_has_the_settings_of_the_seeds_and_not_those_of_its_own_command(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(program, "REPOSITORY", tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    where = ["--runs", str(tmp_path), "--seeds", "4", "5"]
    program.main([*where, "--summary"])
    written = tmp_path / "benchmarks" / "results" / "pilot.md"
    assert "- command: `not recorded`" in written.read_text()
    begun = [*where, "--until", "offline", "--scale", "0.25"]
    program.main(begun)
    monkeypatch.setattr(study, "settings", None)  # today's settings are nothing to a finished seed
    program.main([*where, "--summary", "--scale", "0.5"])
    text = written.read_text()
    assert f"- command: `python -m benchmarks.pilot {' '.join(begun)}`\n" in text
    assert "| 4 | 0.25 | 20000 | 6000 | 4000 |\n| 5 | 0.25 |" in text
    assert "| 0.5 |" not in text


@pytest.mark.usefixtures("untaught")
def test_a_seed_goes_on_with_the_settings_that_it_was_begun_with(tmp_path):
    plan = replace(PLAN, runs=tmp_path, until="offline")
    study.study(plan, 4)
    study.study(replace(plan, starts=2, command="another"), 4)
    with pytest.raises(ConfigError, match=r"seed-4 was made with .*scale was 0.01, now 0.02"):
        study.study(replace(plan, scale=0.02), 4)
    (tmp_path / "seed-5" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"seed-5 has checkpoints and no plan\.json"):
        study.study(plan, 5)


@pytest.mark.usefixtures("untaught")
def test_rollouts_of_every_seed_start_from_scenes_of_their_own(tmp_path, monkeypatch):
    asked = {}

    def collect(config):
        asked[config.kinds] = config.root.name, config.seed
        return Buffer(scale=config.scale, streams=(), entries=(), policies=0)

    monkeypatch.setattr(study, "collect", collect)
    study.study(replace(PLAN, runs=tmp_path, until="offline"), 3)
    assert asked == {
        ("demo",): ("buffer", 0),
        ("play",): ("buffer", 0),
        ("rollout",): ("seed-3", 3),
    }
