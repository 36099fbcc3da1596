"""The launch files start the learner as it is, one process per host."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from lwd import cli
from lwd.config import HostConfig, LearnerConfig

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
JOBSET = CLUSTER / "learner.jobset.yaml"
SBATCH = CLUSTER / "learner.sbatch"
SCHEMA = Path(__file__).parent / "golden" / "jobset.schema.json"


@pytest.fixture
def started(monkeypatch):
    """What `lwd learner` would run with these words."""

    def start(words: list[str]) -> tuple[LearnerConfig, HostConfig]:
        found = []
        monkeypatch.setattr("lwd.learner.process.run", lambda *given, **_: found.append(given[1:]))
        monkeypatch.setattr("lwd.store.process.stop_on_signals", lambda: SimpleStop)
        monkeypatch.setattr(sys, "argv", ["lwd", "learner", *words])
        cli.main()
        return found[0]

    return start


class SimpleStop:
    """Never set."""

    is_set = staticmethod(lambda: False)


def test_the_jobset_fits_its_schema_and_starts_four_hosts(started):
    jobset = yaml.safe_load(JOBSET.read_text())
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(jobset, schema)
    (hosts,) = jobset["spec"]["replicatedJobs"]
    pods = hosts["template"]["spec"]
    (container,) = pods["template"]["spec"]["containers"]
    assert container["command"] == ["lwd", "learner"]
    given = {"LWD_CATALOG": "sqlite:///x", "LWD_OBJECTS": "file:///x", "JOB_COMPLETION_INDEX": "3"}
    words = [re.sub(r"\$\((\w+)\)", lambda m: given[m[1]], word) for word in container["args"]]
    learner, group = started(words)
    assert learner.preset == "pi05"
    assert learner.stage("online").trained == "expert"
    assert (group.host, group.hosts) == (3, pods["completions"])
    assert pods["completions"] == pods["parallelism"]
    first = f"{jobset['metadata']['name']}-{hosts['name']}-0-0.{jobset['metadata']['name']}"
    assert group.gather_at.rpartition(":")[0] == first
    assert group.fsdp == container["resources"]["limits"]["nvidia.com/gpu"]

    pods["completion"] = 4
    with pytest.raises(jsonschema.ValidationError, match="'completion' was unexpected"):
        jsonschema.validate(jobset, schema)


def test_the_batch_script_starts_a_host_on_each_node(started):
    text = SBATCH.read_text()
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    settings = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", text, re.MULTILINE))
    assert settings["ntasks-per-node"] == "1", "one process per host"
    given = {
        "LWD_ROOT": "/x", "LWD_CATALOG": "sqlite:///x", "LWD_OBJECTS": "file:///x",
        "LWD_FIRST": "node-1:8476", "SLURM_NNODES": settings["nodes"], "SLURM_NODEID": "2",
    }  # fmt: skip
    command = re.search(r"exec lwd learner (.*?)\n'", text, re.DOTALL)
    assert command is not None
    filled = re.sub(r'"\$(\w+)"', lambda m: given[m[1]], command[1])
    _, group = started(shlex.split(filled.replace("\\\n", " ")))
    assert (group.host, group.hosts, group.gather_at) == (2, 4, "node-1:8476")
    assert group.fsdp == int(settings["gpus-per-node"])
