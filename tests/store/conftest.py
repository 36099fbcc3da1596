"""What the tests of the store share."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from processes import QUEUE, Processes, answers, free_port, wait_until


@pytest.fixture
def forbidden_folder():
    """A folder in which this process may not write, also where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="lwd-forbidden-"))
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request) -> str:
    """URL of a new catalog, once of each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return request.getfixturevalue(name)


@pytest.fixture
def processes():
    group = Processes()
    yield group
    group.close()


@pytest.fixture
def queue_server(processes, tmp_path):
    """(supervisor process, url) of a running queue."""
    port = free_port()
    process = processes.start(QUEUE, tmp_path, port)
    url = f"nats://127.0.0.1:{port}"
    wait_until(lambda: answers(url), "the queue")
    return process, url
