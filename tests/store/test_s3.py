"""A real S3 gateway: what breaks on the way is noticed, and each refusal says what to do."""

import http.server
import threading

import pytest
from test_objects import DATA

from lwd.errors import ConfigError, MissingError, ServiceError
from lwd.store.objects import Objects, sha256_of
from processes import free_port
from proxy import Cut, proxy
from s3_gateway import CREDENTIALS


def through(url: str, port: int) -> str:
    """The same bucket, reached through a proxy."""
    return f"{url.partition('?')[0]}?endpoint=http://127.0.0.1:{port}"


@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_a_payload_damaged_on_the_way_up_is_not_stored(s3, s3_url, size):
    damaged = []

    def _damage(data: bytes) -> bytes:
        if b"\x07\x08\x09" in data:
            damaged.append(1)
        return data.replace(b"\x07\x08\x09", b"\x07\x00\x09", 1)

    with proxy(s3.port, up=_damage) as port, pytest.raises(ServiceError, match="damaged the bytes"):
        Objects(through(s3_url, port)).put("episodes/x", DATA[:size])
    assert damaged
    assert not Objects(s3_url).exists("episodes/x")
    Objects(s3_url).put("episodes/x", DATA[:size])
    assert Objects(s3_url).get("episodes/x") == DATA[:size]


def test_a_connection_cut_while_reading_is_taken_up_again(s3, s3_url, tmp_path):
    Objects(s3_url).put("episodes/x", DATA)
    seen = [0, 0]

    def _cut_twice(data: bytes) -> bytes:
        seen[0] += len(data)
        if seen[0] > 2_000_000 and seen[1] < 2:
            seen[:] = [0, seen[1] + 1]
            raise Cut
        return data

    with proxy(s3.port, down=_cut_twice) as port:
        objects = Objects(through(s3_url, port))
        objects.get_to("episodes/x", tmp_path / "x", sha256=sha256_of(DATA))
        del objects
    assert seen[1] == 2
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_connection_cut_while_writing_is_tried_again(s3, s3_url):
    seen = [0, 0]

    def _cut_twice(data: bytes) -> bytes:
        seen[0] += len(data)
        if seen[0] > 2_000_000 and seen[1] < 2:
            seen[:] = [0, seen[1] + 1]
            raise Cut
        return data

    with proxy(s3.port, up=_cut_twice) as port:
        Objects(through(s3_url, port)).put("episodes/x", DATA)
    assert seen[1] == 2
    assert Objects(s3_url).get("episodes/x") == DATA


def test_a_bucket_that_is_not_there_is_not_taken_for_missing_objects(s3, s3_url, tmp_path):
    objects = Objects(s3.url("no-such-bucket"))
    for use in (
        objects.check,
        lambda: objects.put("episodes/x", b"x"),
        lambda: objects.put("episodes/x", DATA),
        lambda: objects.get("episodes/x"),
        lambda: objects.get_to("episodes/x", tmp_path / "x", sha256="0" * 64),
        lambda: objects.head("episodes/x"),
        lambda: objects.delete("episodes/x"),
        lambda: list(objects.list()),
    ):
        with pytest.raises(ServiceError, match=r"no-such-bucket.*Create the bucket"):
            use()
    objects = Objects(s3_url)
    objects.check()
    with pytest.raises(MissingError, match="episodes/x"):
        objects.head("episodes/x")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch.*Correct AWS_SECRET_ACCESS_KEY"),
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId.*Correct AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_credentials_are_a_clear_error(s3_url, monkeypatch, name, hint):
    monkeypatch.setenv(name, "wrong")
    objects = Objects(s3_url)
    for use in (objects.get, lambda key: objects.put(key, b"x")):
        with pytest.raises(ServiceError, match=hint) as error:
            use("episodes/x")
        assert "\n" not in str(error.value)
    with pytest.raises(ServiceError, match=r"403.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        objects.head("episodes/x")


@pytest.fixture
def no_credentials(monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)


def test_no_credentials_are_an_error_before_anything_is_sent(s3, no_credentials):
    with pytest.raises(ConfigError, match=r"needs credentials\. Set AWS_ACCESS_KEY_ID"):
        Objects(s3.url("bucket"))


def test_a_machine_that_has_no_credentials_to_give_is_a_clear_error(no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceError, match=r"There are no credentials. Set AWS_ACCESS_KEY_ID"):
        Objects("s3://bucket").head("episodes/x")


def test_an_endpoint_that_is_away_is_a_clear_error(s3_url):
    objects = Objects(through(s3_url, free_port()))
    with pytest.raises(ServiceError, match="Start the store, or correct the endpoint"):
        objects.put("episodes/x", b"x")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("gs://", "names no bucket"),
        ("s3://bucket?endpoint=nonsense", "endpoint 'nonsense' is not usable.*http://HOST:PORT"),
        ("s3://bucket?endpoint=", "endpoint '' is not usable"),
        ("s3://bucket?endpoint=ftp://host", "is not usable"),
        ("s3://bucket?colour=red", "'colour' is unknown; known: endpoint, region"),
        ("s3://bucket?secret_access_key=1", "Credentials belong in the environment"),
        ("gs://bucket?endpoint=http://host", "only s3:// takes options"),
    ],
)
def test_an_unusable_url_says_what_to_give(url, hint):
    with pytest.raises(ConfigError, match=hint):
        Objects(url)


@pytest.mark.parametrize(
    "url", ["s3://me:hidden@bucket/x", "s3://bucket?secret_access_key=hidden&endpoint=http://h"]
)
def test_an_error_never_shows_a_secret(url):
    with pytest.raises(ConfigError, match="environment") as error:
        Objects(url)
    assert "hidden" not in str(error.value)


class Unconditional(http.server.BaseHTTPRequestHandler):
    """A store that answers conditional writes as some do: it has not implemented them."""

    puts: list[bool]

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        conditional = "If-None-Match" in self.headers
        self.puts.append(conditional)
        answer = b"<Error><Code>NotImplemented</Code><Message>No.</Message></Error>"
        self.send_response(501 if conditional else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(answer) if conditional else 0))
        self.end_headers()
        self.wfile.write(answer if conditional else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


def test_a_store_without_conditional_writes_is_written_plainly(s3_url, monkeypatch):
    monkeypatch.setattr(Unconditional, "puts", [], raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unconditional) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        Objects(through(s3_url, server.server_port)).put("episodes/x", b"x")
        server.shutdown()
        serving.join(10)
    assert Unconditional.puts[-1] is False
    assert True in Unconditional.puts
