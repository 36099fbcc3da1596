"""Object stores by URL, and their errors in one line that says what to do."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, parse_qsl, unquote, urlparse

from obstore.exceptions import BaseError
from obstore.store import GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

from lwd.errors import ConfigError, MissingError, ServiceError
from lwd.store.disk import make_folder

SCHEMES = ("file", "s3", "gs", "memory")
S3_OPTIONS = ("endpoint", "region", "virtual_hosted_style_request")
"""What an s3:// URL may say after the question mark; the names are obstore's."""

RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
# A part of an upload must fit the read timeout, which also finds a stalled connection; the whole
# download of a large object must fit the last one.
TIMEOUTS: Any = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=120),
    "timeout": timedelta(hours=1),
}

CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
"""Variables that say where credentials are; without any, they are asked of the EC2 machine."""
HOW_TO_SIGN_IN = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"

ADVICE = {
    "NoSuchBucket": "Create the bucket, or correct --objects-url.",
    "InvalidBucketName": "Correct the bucket's name in --objects-url.",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY in the environment.",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID in the environment.",
    "ExpiredToken": "Renew the credentials in the environment.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "XAmzContentSHA256Mismatch": "The connection damaged the bytes; trying again may help.",
    "BadDigest": "The connection damaged the bytes; trying again may help.",
    "/latest/api/token": f"There are no credentials. {HOW_TO_SIGN_IN}.",
    "403 Forbidden": f"{HOW_TO_SIGN_IN}, or let their owner read and write the bucket.",
    "401 Unauthorized": f"{HOW_TO_SIGN_IN}.",
    "error sending request": "Start the store, or correct the endpoint in --objects-url.",
    "No space left": "Free some space; nothing was half-written.",
}
"""What to do when the store's words contain these; the first that fits counts."""


def open_store(url: str) -> tuple[ObjectStore, Path | None]:
    """Store at a URL and, where it is local, its folder; ConfigError says what to give instead."""
    parts = _parse(url)
    if parts.scheme == "file":
        root = make_folder(Path(unquote(parts.path)))
        return LocalStore(root), root
    if parts.scheme == "memory":
        return MemoryStore(), None
    prefix = unquote(parts.path).strip("/") or None
    if parts.scheme == "gs":
        store = GCSStore(parts.netloc, prefix=prefix, client_options=TIMEOUTS, retry_config=RETRIES)
        return store, None
    options = _s3_options(url, parts)
    client: Any = TIMEOUTS | {"allow_http": options.get("endpoint", "").startswith("http://")}
    # One object is deleted at a time, and not every gateway speaks the bulk form.
    config: Any = {"region": "us-east-1", "disable_bulk_delete": True, **options}
    if "AWS_REGION" in os.environ and "region" not in options:
        config.pop("region")
    store = S3Store(
        parts.netloc,
        prefix=prefix,
        config=config,
        client_options=client,
        retry_config=RETRIES,
    )
    return store, None


@contextmanager
def clear_object_errors(url: str, key: str) -> Iterator[None]:
    """Turn obstore's errors, which carry a debug dump, into one line that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise _unclear(url, key, error) from error
        raise MissingError(f"Object {key} is not in {url}.") from error
    except (BaseError, OSError) as error:
        raise _unclear(url, key, error) from error


def _unclear(url: str, key: str, error: Exception) -> ServiceError:
    said = str(error)
    answer = re.search("<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", said, re.DOTALL)
    first = said.partition("\n")[0].rstrip(" .") or type(error).__name__
    reason = f"{answer[1]}: {answer[2].rstrip('.')}" if answer else first
    advice = next((f" {advice}" for words, advice in ADVICE.items() if words in said), "")
    return ServiceError(f"Object store {url} failed at {key!r}: {reason}.{advice}")


def _parse(url: str) -> ParseResult:
    try:
        parts = urlparse(url)
        with_credentials = parts.username is not None
    except ValueError:
        parts, with_credentials = urlparse(""), False
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"Object store {url!r} is not usable; give a URL that starts with "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}."
        )
    if with_credentials:
        raise ConfigError(
            f"The URL of the object store {parts.hostname!r} carries credentials, which other "
            f"users of this machine can read. {HOW_TO_SIGN_IN} instead."
        )
    if parts.scheme in ("s3", "gs") and not parts.netloc:
        raise ConfigError(f"Object store {url!r} names no bucket: {parts.scheme}://BUCKET/PREFIX.")
    if parts.query and parts.scheme != "s3":
        raise ConfigError(f"Object store {url!r}: only s3:// takes options after a question mark.")
    return parts


def _s3_options(url: str, parts: ParseResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(S3_OPTIONS))
    if unknown:
        raise ConfigError(
            f"Object store {parts.scheme}://{parts.netloc}{parts.path}: option {unknown[0]!r} is "
            f"unknown; known: {', '.join(S3_OPTIONS)}. Credentials belong in the environment."
        )
    if "endpoint" not in options:
        return options
    if not re.fullmatch(r"https?://[^/\s]+(/.*)?", options["endpoint"]):
        raise ConfigError(
            f"Object store {url!r}: endpoint {options['endpoint']!r} is not usable; give "
            "http://HOST:PORT or https://HOST."
        )
    if not any(os.environ.get(name) for name in CREDENTIALS):
        raise ConfigError(f"Object store {url} needs credentials. {HOW_TO_SIGN_IN}.")
    return options
