"""Where a run stands and what it came to, against folders with known contents."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from lwd.config import STAGES
from lwd.demo.progress import (
    episode_latencies,
    model_latencies,
    percentiles,
    produced,
    success_by_robot,
    waiting,
)
from lwd.demo.summary import accounting, sentences, summarise, table, write
from lwd.edge.spool import Spool
from lwd.episode.types import Kind, Outcome
from lwd.eval.results import Attempt, Evaluation


@pytest.fixture
def evaluation() -> Evaluation:
    """Successes out of four starts: 1 after SFT, 2 after offline RL, 4 after online RL."""
    outcomes = {"sft": 1, "offline": 2, "online": 4}
    return Evaluation(
        attempts=tuple(
            Attempt(
                policy=policy,
                task=("restocking", "freezer")[seed % 2],
                seed=seed,
                outcome=Outcome.SUCCESS if seed < outcomes[policy] else Outcome.FAILURE,
                ticks=10,
                cycle_s=1.0,
            )
            for policy in STAGES
            for seed in range(4)
        )
    )


def test_a_run_that_has_not_begun_is_empty(run):
    now = run.observer.look()
    assert (now.produced, now.acknowledged, now.snapshot, now.episodes) == (0, 0, 0, [])
    assert (now.metrics, now.weights, now.published("sft")) == ([], [], None)
    assert accounting(run.root, now) == dict.fromkeys(
        ("produced", "acknowledged", "in_snapshot", "lost", "invalid", "doubled"), 0
    )


def test_looking_again_adds_only_what_is_new(run):
    run.upload(run.save(kind="demo"))
    assert len(run.observer.look().episodes) == 1
    run.upload(run.save(kind="online"))
    run.report("sft", 1)
    now = run.observer.look()
    assert [row.kind for row in now.episodes] == ["demo", "online"]
    assert (now.produced, now.acknowledged, now.snapshot) == (2, 2, 2)
    assert [report["update"] for report in run.observer.look().metrics] == [1]


def test_a_line_that_the_learner_is_still_writing_waits_for_its_end(run):
    path = run.root / "learner.jsonl"
    path.write_text('{"stage": "sft", "update": 1}\n{"stage": "sft", "upd')
    assert [report["update"] for report in run.observer.look().metrics] == [1]
    with path.open("a") as file:
        file.write('ate": 2}\n')
    assert [report["update"] for report in run.observer.look().metrics] == [1, 2]


def test_the_newest_weights_of_each_stage(finished):
    now = finished.observer.look()
    assert [now.published(stage).version for stage in STAGES] == [1, 2, 3]


def test_every_episode_of_a_good_run_is_accounted_for(finished):
    now = finished.observer.look()
    assert accounting(finished.root, now) == {
        "produced": 6, "acknowledged": 6, "in_snapshot": 6, "lost": 0, "invalid": 0, "doubled": 0,
    }  # fmt: skip


def test_a_lost_episode_is_found(finished):
    finished.save("robot-01")
    found = accounting(finished.root, finished.observer.look())
    assert (found["produced"], found["in_snapshot"], found["lost"]) == (7, 6, 1)
    assert waiting(finished.root) == 7  # no uploader has run at all


def test_an_episode_that_was_catalogued_but_never_committed_is_lost(finished):
    row = finished.save()
    finished.catalog.insert_episode(row)
    found = accounting(finished.root, finished.observer.look())
    assert (found["acknowledged"], found["lost"]) == (7, 1)


def test_an_acknowledged_episode_still_counts_as_produced_and_a_draft_does_not(finished):
    known = {row.episode_id for row in finished.observer.look().episodes}
    draft = finished.root / "spool" / "robot-00" / "drafts" / f"{0:032x}.arrow"
    draft.parent.mkdir()
    draft.touch()
    with Spool(finished.root / "spool" / "robot-00") as spool:
        spool.acknowledge(spool.pending()[0])
    assert waiting(finished.root) == 5
    assert produced(finished.root) == known


def test_diverged_physics_is_counted(finished):
    finished.upload(finished.save(outcome="invalid"))
    found = accounting(finished.root, finished.observer.look())
    assert (found["invalid"], found["in_snapshot"]) == (1, 7)


def test_a_recording_under_two_ids_is_doubled(finished):
    row = finished.save()
    finished.upload(row)
    finished.double(row)
    found = accounting(finished.root, finished.observer.look())
    assert (found["doubled"], found["lost"]) == (1, 0)


def test_an_episode_that_a_look_gave_twice_is_doubled(finished):
    now = finished.observer.look()
    now.episodes.append(now.episodes[0])
    assert accounting(finished.root, now)["doubled"] == 1


def test_latencies_are_those_of_online_episodes_and_online_weights(finished):
    now = finished.observer.look()
    assert sorted(episode_latencies(now)) == pytest.approx([1.0, 2.0, 3.0, 10.0])
    assert sorted(model_latencies(now)) == pytest.approx([0.5, 2.0])


def test_an_episode_that_the_learner_has_not_seen_has_no_latency_yet(run):
    run.upload(run.save())
    assert episode_latencies(run.observer.look()) == []


def test_percentiles():
    assert percentiles([]) == {"p50": None, "p99": None, "count": 0}
    assert percentiles([4.0]) == {"p50": 4.0, "p99": 4.0, "count": 1}
    spread = percentiles(float(i) for i in range(101))
    assert spread == {"p50": 50.0, "p99": 99.0, "count": 101}


def test_success_and_help_of_every_robot(finished):
    counts = success_by_robot(finished.observer.look().of(Kind.ONLINE))
    assert counts["robot-00"] == {"episodes": 2, "successes": 1, "human": 2}
    assert counts["robot-01"] == {"episodes": 2, "successes": 1, "human": 2}


def test_the_summary_holds_success_accounting_and_latencies(finished, evaluation, tmp_path):
    now = finished.observer.look()
    found = summarise(finished.root, now, evaluation, 12.34)
    assert {stage: found["success"][stage]["freezer"]["successes"] for stage in STAGES} == {
        "sft": 0, "offline": 1, "online": 2,
    }  # fmt: skip
    assert found["success"]["online"]["restocking"]["high"] == pytest.approx(1.0)
    assert found["success"]["online"]["restocking"]["low"] < 0.5
    assert found["episodes"]["produced"] == 6
    assert found["latency_s"]["episode_to_learner"] == {
        "p50": pytest.approx(2.5), "p99": pytest.approx(9.79), "count": 4,
    }  # fmt: skip
    assert found["weights"] == {"published": 3, "loaded": 4}
    assert found["seconds"] == 12.3
    path = tmp_path / "summary.json"
    write(path, found)
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))


def test_the_closing_table_and_sentences(finished, evaluation):
    now = finished.observer.look()
    screen = Console(width=80)
    with screen.capture() as shown:
        screen.print(table(evaluation))
        for sentence in sentences(summarise(finished.root, now, evaluation, 1.0)):
            screen.print(sentence, soft_wrap=True)
    text = shown.get()
    for wanted in (
        "│ freezer │ 2 │ 0% [0%, 66%] │ 50% [9%, 91%] │ 100% [34%, 100%] │",
        "│ all │ 4 │ 25% [5%, 70%]",
        "6 produced, 6 acknowledged",
        "0 lost, 0 invalid, 0 doubled",
        "3 published, 4 loads by robots",
        "episode to learner: P50 2.5 s, P99 9.8 s over 4",
    ):
        assert wanted in " ".join(text.split()), wanted


def test_tasks_with_sub_steps_show_their_score(evaluation):
    attempts = [replace(a, task="tea", substeps=(1.0, 0.5)) for a in evaluation.attempts]
    screen = Console(width=80)
    with screen.capture() as shown:
        screen.print(table(Evaluation(attempts=tuple(attempts))))
    assert shown.get().count("score 0.75") == len(STAGES)


def test_a_run_without_online_episodes_has_no_latency_to_tell(run, evaluation):
    found = summarise(run.root, run.observer.look(), evaluation, 1.0)
    assert "episode to learner: - over 0" in sentences(found)
