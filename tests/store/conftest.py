"""What the tests of the store share."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest


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
