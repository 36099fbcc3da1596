"""What `lwd diagnose critic` reads, prints and draws."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from learner.diagnose.known import episodes, trained
from learner.drawn import checkpoint
from learner.fleet import commit, small, tiny
from lwd.config import DiagnosisConfig, PlaneConfig
from lwd.errors import ConfigError
from lwd.eval.critic import Examined, examine, recorded, to_json, write
from lwd.eval.critic_table import render
from lwd.eval.true_ranking import Trial, agreement
from lwd.learner.checkpoint import Position
from lwd.learner.diagnose.report import diagnose
from lwd.models.presets import ROBOT_CAMERAS
from opengl import needs_opengl


@pytest.fixture(scope="module")
def examined() -> Examined:
    rng = np.random.default_rng(0)
    slope = 0.02 * rng.normal(size=(2, 10, 16))
    critic = trained(slope=slope, shift=0.1 * slope.mean(0) / 0.02, by_state=0.1)
    trials = [
        Trial(episode=n, q=rng.normal(size=4), returns=rng.uniform(size=(4, 2))) for n in range(5)
    ]
    return Examined(
        episodes_from="made-up test episodes",
        trained_on=False,
        diagnosis=diagnose(critic, episodes(12), samples=2),
        true_ranking=agreement(trials),
    )


def test_the_table_says_every_finding(examined):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(examined))
    text = console.export_text()
    found = examined.diagnosis
    for words in ("made-up test episodes", "shuffled", "Q(policy) - Q(reference)", "least Q"):
        assert words in text
    first = found.rankings[0]
    assert f"{first.wins.value:.0%} [{100 * first.wins.low:.0f}" in text
    assert f"{found.slope.along:.4f}" in text
    assert "Executed in the simulator" in text


@pytest.mark.parametrize("simulated", [True, False])
def test_the_files_are_whole(examined, simulated, tmp_path):
    found = examined if simulated else replace(examined, true_ranking=None)
    paths = write(found, tmp_path / "deep" / "out")
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == [
        "critic.json",
        "critic.png",
    ]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(to_json(found)))
    assert "NaN" not in paths[0].read_text()
    with Image.open(paths[1]) as image:
        image.load()
        assert image.size == (1950, 1170)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_a_critic_without_successes_can_be_drawn(examined, tmp_path):
    failed = [e for e in episodes(12) if e.header.outcome == "failure"]
    found = replace(examined, diagnosis=diagnose(trained(), failed, samples=2), true_ranking=None)
    write(found, tmp_path)
    assert (tmp_path / "critic.png").stat().st_size > 10_000


def test_an_unusable_folder_is_refused(examined, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not usable"):
        write(examined, tmp_path / "file" / "out")


def test_recorded_episodes_are_the_newest_online_ones_and_held_out_ones_are_apart(tmp_path):
    commit(tmp_path, *3 * ["online"], "demo", "rollout")
    plane = PlaneConfig(root=tmp_path)
    wanted = DiagnosisConfig(source="recorded", episodes=2, tasks=("restocking",))
    found = recorded(plane, wanted)
    assert [episode.header.kind for episode in found] == ["online", "online"]
    with pytest.raises(ConfigError, match="no finished held-out episode of restocking among 5"):
        recorded(plane, replace(wanted, source="held-out"))
    with pytest.raises(ConfigError, match="no finished online episode of freezer"):
        recorded(plane, replace(wanted, tasks=("freezer",)))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("source", ["recorded", pytest.param("fresh", marks=needs_opengl)])
def test_a_critic_that_sees_is_examined_on_episodes_with_images(source, tmp_path):
    config = tiny(preset="tiny")
    checkpoint(tmp_path, config, Position("online", 2))
    commit(tmp_path, "online", "online", cameras=ROBOT_CAMERAS)
    wanted = DiagnosisConfig(source=source, episodes=2, samples=2, tasks=("restocking",))
    found = examine(PlaneConfig(root=tmp_path), config, wanted).diagnosis
    assert found.episodes == 2
    assert found.spreads[0].within.value > 0
    assert found.slope.along == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("recipe", "at", "then"),
    [
        ("lwd", Position("sft", 2), "Stage offline does: train on"),
        ("lwd", Position("offline", 0), "Stage offline does: train on"),
        ("hg_dagger", Position("online", 2), "No stage of this recipe does"),
        ("recap", Position("policy_2", 2), "No stage of this recipe does"),
    ],
)
def test_a_critic_whose_q_nothing_has_trained_is_refused(recipe, at, then, tmp_path):
    config = small(recipe)
    checkpoint(tmp_path, config, at)
    commit(tmp_path, "online", "online")
    wanted = DiagnosisConfig(source="recorded", samples=2, tasks=("restocking",))
    where = f"at update {at.update} of stage {at.stage} of recipe {recipe}"
    with pytest.raises(ConfigError, match=f"nothing has trained the Q .* {where}.* {then}"):
        examine(PlaneConfig(root=tmp_path), config, wanted)
