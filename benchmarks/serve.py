"""What a robot waits for its policy server: ours beside one built as openpi's, in the same run.

Robots are threads of a process of their own and ask again as soon as they are answered, with three
images of 224 pixels each. The policy is fake: a batch of any size costs 80 ms, which a server that
batches may use and one that answers robot by robot cannot. A probe asks `/healthz` all the while.
`python -m benchmarks.serve` writes benchmarks/results/serve.md.
"""

import asyncio
import http
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import websockets.asyncio.server as websockets_server
import websockets.sync.client

from benchmarks.record import REPOSITORY, header
from lwd.config import PlaneConfig, control
from lwd.config.serving import ServeConfig
from lwd.serve.batch import Asked
from lwd.serve.policies import OnePolicy
from lwd.serve.process import in_thread
from lwd.serve.wire import pack, unpack

COST_S = 0.08
ROBOTS = (1, 4, 16, 64)
SECONDS = 10.0
SIDE = 224
CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
HORIZON, ACTION = 30, 16
DEADLINE_S = 60.0


class FakePolicy:
    """Takes its time, whatever it is asked, and lets others work meanwhile, as an accelerator."""

    version = 1
    normalisation_hash = tokenizer_hash = ""

    def chunks(self, asked: Sequence[Asked]) -> np.ndarray:
        """[robots, horizon, action] zeros."""
        time.sleep(COST_S)
        return np.zeros((len(asked), HORIZON, ACTION), np.float32)

    def infer(self, observation: dict) -> dict:
        """One robot's answer, as openpi's policies give it."""
        time.sleep(COST_S)
        return {"actions": np.zeros((HORIZON, ACTION), np.float32)}


@contextmanager
def ours() -> Iterator[str]:
    """Our server; its URL."""
    with tempfile.TemporaryDirectory() as root:
        config = ServeConfig(port=0, batch=64)
        plane = PlaneConfig(root=Path(root))
        with in_thread(config, plane, control("full"), OnePolicy(FakePolicy())) as url:
            yield url


@contextmanager
def openpis() -> Iterator[str]:
    """A server with openpi's design (`WebsocketPolicyServer`): one coroutine for each robot, which
    calls the policy itself, on the event loop."""
    policy, ready = FakePolicy(), threading.Event()
    address: list[str] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def handler(websocket: websockets_server.ServerConnection) -> None:
        await websocket.send(pack({}))
        async for message in websocket:
            assert isinstance(message, bytes)
            start = time.monotonic()
            answer = policy.infer(unpack(message))
            answer["server_timing"] = {"infer_ms": (time.monotonic() - start) * 1000}
            await websocket.send(pack(answer))

    def health(connection: websockets_server.ServerConnection, request):
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        return None

    async def serve() -> None:
        async with websockets_server.serve(
            handler, "127.0.0.1", 0, compression=None, max_size=None, process_request=health
        ) as server:
            address.append(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def observation() -> bytes:
    """A robot's message, packed."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    images = {f"observation/images/{name}": image for name in CAMERAS}
    return pack({"observation/state": np.zeros(32, np.float32), "prompt": "tidy up"} | images)


def robots(url: str, count: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of every request of `count` robots, each of which asks all the time, and when they
    began and ended."""
    message, ready = observation(), threading.Barrier(count + 1)
    found: list[list[float]] = [[] for _ in range(count)]
    ended = threading.Event()

    def one(number: int) -> None:
        with websockets.sync.client.connect(
            f"{url}/?robot=robot-{number}", compression=None, max_size=None, open_timeout=DEADLINE_S
        ) as socket:
            socket.recv()
            ready.wait()
            while not ended.is_set():
                start = time.perf_counter()
                socket.send(message)
                answer = socket.recv(timeout=DEADLINE_S)
                assert isinstance(answer, bytes), answer
                found[number].append(time.perf_counter() - start)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.time()
    time.sleep(seconds)
    ended.set()
    during = [began, time.time()]
    for thread in threads:
        thread.join()
    return {"seconds": [value for values in found for value in values], "during": during}


def probe(url: str, ended: threading.Event, found: list[tuple[float, float]]) -> None:
    """Ask for the server's health every 50 ms: when, and how many seconds it took."""
    with httpx.Client(base_url=url.replace("ws://", "http://"), timeout=DEADLINE_S) as client:
        while not ended.is_set():
            now, start = time.time(), time.perf_counter()
            answer = client.get("/healthz")
            found.append((now, time.perf_counter() - start))
            assert answer.text == "OK\n"
            ended.wait(0.05)


def drive(url: str, count: int, seconds: float) -> dict[str, list[float]]:
    """What robots and the probe waited, from a process of their own each."""
    command = [sys.executable, "-m", "benchmarks.serve"]
    looking = subprocess.Popen(
        [*command, "probe", url], cwd=REPOSITORY, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    asked = subprocess.run(
        [*command, "robots", url, str(count), str(seconds)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    answer, _ = looking.communicate(b"\n", timeout=DEADLINE_S)
    found = json.loads(asked.stdout)
    began, ended = found["during"]
    health_s = [seconds for at, seconds in json.loads(answer) if began <= at <= ended]
    return {"robots": found["seconds"], "health": health_s}


def quantile(values: Sequence[float], q: float) -> float:
    """In ms."""
    return float(np.quantile(values, q)) * 1e3


def rows(seconds: float) -> Iterator[str]:
    """The table: both servers take turns at every number of robots."""
    for count in ROBOTS:
        for name, server in (("openpi's design", openpis), ("lwd serve", ours)):
            with server() as url:
                found = drive(url, count, seconds)
            asked, health = found["robots"], found["health"]
            yield (
                f"| {name} | {count} | {quantile(asked, 0.5):.0f} | {quantile(asked, 0.99):.0f} | "
                f"{len(asked) / seconds:.1f} | {quantile(health, 0.5):.1f} | "
                f"{quantile(health, 0.99):.1f} |"
            )


def report(table: Sequence[str], busy: float) -> str:
    """The page; `busy` is the load average before anything was measured."""
    return (
        "# Policy server\n\n"
        + header("python -m benchmarks.serve")
        + f"\nRobots with {len(CAMERAS)} images of {SIDE} x {SIDE} pixels ({len(observation()):,} "
        f"bytes a request) ask a policy that takes {COST_S * 1e3:g} ms for\na batch of any size. "
        f"Each robot asks again as soon as it is answered; every line ran {SECONDS:g} s. Robots "
        "and the probe of\n`/healthz` are processes of their own on the same machine. "
        f"The load average was {busy:.1f} before the first line.\n\n"
        "| server | robots | p50 ms | p99 ms | requests/s | health p50 ms | health p99 ms |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(table) + "\n"
    )


def main() -> None:
    """Measure and write the page; with arguments, be the robots or the probe."""
    match sys.argv[1:]:
        case ["robots", url, count, seconds]:
            print(json.dumps(robots(url, int(count), float(seconds))))
        case ["probe", url]:
            found: list[tuple[float, float]] = []
            ended = threading.Event()
            thread = threading.Thread(target=probe, args=(url, ended, found))
            thread.start()
            sys.stdin.read(1)
            ended.set()
            thread.join()
            print(json.dumps(found))
        case _:
            busy = os.getloadavg()[0]
            table = []
            for row in rows(SECONDS):
                print(row, flush=True)
                table.append(row)
            path = REPOSITORY / "benchmarks" / "results" / "serve.md"
            path.write_text(report(table, busy))


if __name__ == "__main__":
    main()
