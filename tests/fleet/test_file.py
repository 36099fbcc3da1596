"""Fleet files: what is shipped, and what every mistake is answered with."""

from pathlib import Path

import pytest

from lwd.config.fleet import PERFECT, UNTROUBLED
from lwd.errors import ConfigError
from lwd.fleet.file import find, read, shipped
from lwd.fleet.run import crews

PAPER = find("paper").read_text()
TASKS = ("restocking", "correction", "freezer", "cooler", "tea", "juice", "cocktail", "shoes")


@pytest.fixture
def written(tmp_path: Path):
    """Writes the paper's fleet with one change; the file."""

    def write(old: str, new: str) -> Path:
        assert PAPER.count(old) >= 1
        path = tmp_path / "fleet.yaml"
        path.write_text(PAPER.replace(old, new, 1))
        return path

    return write


def test_the_paper_has_sixteen_robots_in_its_allotment():
    fleet = read(find("paper"), tasks=TASKS)
    assert len(fleet.robots) == 16
    grocery = [robot for robot in fleet.robots if robot.tasks == TASKS[:4]]
    assert len(grocery) == 4
    for task in TASKS[4:]:
        assert sum(robot.tasks == (task,) for robot in fleet.robots) == 3
    assert {fleet.disturbance(r) for r in fleet.robots}.isdisjoint({UNTROUBLED})
    assert sum(fleet.link(r) == PERFECT for r in fleet.robots) == 11


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate: compact", "rate: fast", r"line 7, rate: is 'fast'; allowed: 'compact' or 'full'"),
        ("split: train", "split: test", r"line 9, split: is 'test'; .* 'train' or 'held-out'"),
        ("seed: 0", "sed: 0", r"line 6, sed: field 'sed' is unknown\. Did you mean 'seed'"),
        ("seed: 0", "seed: '0'", r"line 6, seed: is '0'; .* valid integer"),
        ("speed: null", "speed: 0", r"line 8, speed: is 0\.0; allowed: above 0"),
        ("speed: null", "speed: [1", r"line 9: not YAML"),
        ("speed: null", "seed: 1", r"line 8: not YAML: 'seed' was given before, in line 6"),
        (
            "tasks: [tea]",
            "tasks: [tee]",
            r"^[^\n]*line 25, robots\[4\]\.tasks\[0\]: task 'tee' is unknown\. Did you mean[^\n]*$",
        ),
        ("tea: 3", "tee: 3", r"line 3, allotment\.tee: task 'tee' is unknown\. Did you mean 'tea'"),
        ("shoes: 3", "shoes: 4", r"line 3, allotment\.shoes: 4 robots .* 3 of the 16 have"),
        (", shoes: 3", "", r"line 34, robots\[13\]\.tasks: shoes is not in the allotment"),
        ("tasks: [tea]", "tasks: []", r"line 25, robots\[4\]\.tasks: .*at least one task"),
        (
            "name: tea-1",
            "name: ../tea",
            r"line 26, robots\[5\]\.name: is '\.\./tea'; allowed: .*letters",
        ),
        ("shop: {pushes", "none: {pushes", r"line 13, disturbances\.none: .*choose another name"),
        ("name: tea-1", "name: tea-0", r"line 26, robots\[5\]\.name: .*which robots\[4\] has"),
        ("{name: tea-0, ", "{", r"line 25, robots\[4\]\.name: is missing"),
        ("link: wifi}", "link: wify}", r"line 24, robots\[3\]\.link: .*Did you mean 'wifi'"),
        ("disturbance: worn", "disturbance: torn", r"line 23, robots\[2\]\.disturbance: .*'worn'"),
        ("pushes_per_h: 6.0", "pushes: 6.0", r"line 13, disturbances\.shop\.pushes: field"),
        ("pushes_per_h: 6.0", "pushes_per_h: -1.0", r"shop\.pushes_per_h: is -1\.0; allowed: 0"),
        (
            "delay_s: 0.01",
            "loss: 0.1",
            r"line 18, links\.wifi\.loss: is 0\.1; allowed: 0, sin",
        ),
        ("robots_per_process: 4", "robots_per_process: 17", r"line 5, .* allowed: 1 to 16"),
        (
            "tasks: [tea], disturbance: shop",
            "tasks: [tea], cameras: [hed]",
            r"line 25, robots\[4\]\.cameras\[0\]: camera 'hed' is unknown\. Did you mean 'head'",
        ),
        ("2.5e+6", "2.5e6", r"line 18, links\.wifi\.bytes_per_s: is '2\.5e6'; .* valid number"),
    ],
)
def test_a_mistake_is_answered_with_line_field_and_what_is_allowed(written, old, new, said):
    with pytest.raises(ConfigError, match=said):
        read(written(old, new), tasks=TASKS)


def test_every_task_that_the_simulator_lacks_is_named(written):
    with pytest.raises(ConfigError) as error:
        read(find("paper"), tasks=TASKS[:-1])
    lines = str(error.value).splitlines()
    fields = [line.split(", ")[2].partition(":")[0] for line in lines]
    assert fields == ["allotment.shoes", *(f"robots[{place}].tasks[0]" for place in (13, 14, 15))]
    assert all("task 'shoes' is unknown. Known: cocktail" in line for line in lines)


@pytest.mark.parametrize("text", ["", "- 1", "robots: 3", "a: &a [*a]", "\0", "robots: []"])
def test_what_is_no_fleet_is_refused(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        read(path)


def test_a_name_that_is_no_file_and_no_fleet_is_refused(tmp_path):
    assert list(shipped()) == ["paper"]
    with pytest.raises(ConfigError, match="Did you mean 'paper'"):
        find("papr")
    with pytest.raises(ConfigError, match="no fleet file"):
        find(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)


def test_robots_share_processes_unless_their_power_can_go():
    found = crews(read(find("paper"), tasks=TASKS))
    assert [len(crew) for crew in found] == [4, 4, 4, 2, 1, 1]
    assert found[-2:] == [("grocery-3",), ("shoes-2",)]
    assert len({name for crew in found for name in crew}) == 16
