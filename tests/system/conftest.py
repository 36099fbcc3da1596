"""The whole data plane on every kind of catalog and object store, as an operator starts it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from ring import Cell, Ring

from lwd.config import PlaneConfig
from lwd.store.access import CONSUME, PUBLISH, ROBOT_SCOPES, issue
from lwd.store.catalog import Catalog
from processes import Processes, free_port

ALL = pytest.mark.services
CELLS = [
    pytest.param(("sqlite", "file"), id="sqlite-file"),
    pytest.param(("postgresql", "s3"), id="postgresql-s3"),
    pytest.param(("sqlite", "s3"), id="sqlite-s3", marks=ALL),
    pytest.param(("postgresql", "file"), id="postgresql-file", marks=ALL),
]
"""`make test` runs the first two, `make test-services` all."""


@pytest.fixture(params=CELLS)
def cell(request, tmp_path: Path) -> Cell:
    """Catalog and object store of a kind; with PostgreSQL and S3 also tokens and TLS throughout, as
    between machines."""
    catalog, objects = request.param
    config = PlaneConfig(
        root=tmp_path,
        catalog_url=request.getfixturevalue("postgres_url") if catalog == "postgresql" else "",
        objects_url=request.getfixturevalue("s3_url") if objects == "s3" else "",
        queue_url=f"nats://127.0.0.1:{free_port()}",
        service_url=f"http://127.0.0.1:{free_port()}",
    )
    if request.param != ("postgresql", "s3"):
        return Cell(config=config)
    return guarded(config, request.getfixturevalue("monkeypatch"))


def guarded(config: PlaneConfig, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """The same with tokens, and certificates of an authority that all processes trust."""
    root, authority = config.root, trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(root / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(root / "cert.pem")
    authority.cert_pem.write_to_path(root / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(root / "authority.pem"))
    scopes = {"service": (PUBLISH,), "coordinator": (CONSUME,), "edge": ROBOT_SCOPES}
    names = {"edge": "arm-1"}
    tokens = {
        name: issue(root / "tokens.json", names.get(name, name), scopes[name]) for name in scopes
    }
    doors = ["--tokens", str(root / "tokens.json"), "--tls-cert", str(root / "cert.pem")]
    doors += ["--tls-key", str(root / "key.pem")]
    secure = replace(
        config,
        queue_url=config.queue_url.replace("nats:", "tls:"),
        service_url=config.service_url.replace("http:", "https:"),
    )
    return Cell(config=secure, flags={"queue": doors, "service": doors}, tokens=tokens)


@pytest.fixture
def ring(cell: Cell) -> Iterator[Ring]:
    processes = Processes()
    yield Ring(cell, processes)
    processes.close()


@pytest.fixture
def config(cell: Cell) -> PlaneConfig:
    return cell.config


@pytest.fixture
def catalog(config: PlaneConfig) -> Iterator[Catalog]:
    with Catalog(config.catalog) as opened:
        yield opened
