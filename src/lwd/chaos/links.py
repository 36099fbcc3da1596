"""Links between the processes: proxies on the loopback that can be cut, stalled and slowed down.

They shape whole connections, not packets: loss and reordering inside a connection, which TCP hides
anyway, need network namespaces and root.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_PIECE = 16 * 1024
"""Bytes that pass at once: latency counts once for each."""
PATIENCE_S = 300.0
"""Longest time that a change of a link may take, on a machine that is busy with other things."""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """State of a link."""

    cut: bool = False
    stalled: bool = False
    delay_s: float = 0.0
    """Added to every piece of 16 KiB, each way."""
    bytes_per_s: float = 0.0
    """Bandwidth of a connection, each way; 0 is unlimited."""


FAIR = Weather()


class Links:
    """Proxies by name, all in one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._links: dict[str, _Link] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Links":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, name: str, url: str, at: str = "127.0.0.1") -> str:
        """The URL through a new link, entered at one of our addresses, to where it pointed."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._links[name] = link = _Link(parts.hostname, parts.port)
        port = self._run(link.open(at))
        login, sign, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{sign}{at}:{port}"))

    @property
    def names(self) -> list[str]:
        """Of all links."""
        return list(self._links)

    def set(self, name: str, weather: Weather) -> None:
        """Change the state of a link, also for the connections that are open."""
        self._run(self._links[name].set(weather))

    def close(self) -> None:
        """Break all connections and end the thread."""
        for link in self._links.values():
            self._run(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


class _Link:
    """One proxy; everything happens in the thread of its `Links`."""

    def __init__(self, host: str, port: int):
        self._host, self._port = host, port
        self._weather = FAIR
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task] = set()
        self._server: asyncio.Server | None = None

    async def open(self, at: str) -> int:
        self._server = await asyncio.start_server(self._accept, at, 0)
        return self._server.sockets[0].getsockname()[1]

    async def set(self, weather: Weather) -> None:
        self._weather = weather
        if weather.stalled:
            self._passing.clear()
        else:
            self._passing.set()
        if weather.cut:
            await self._break()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._break()

    async def _break(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, up: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [back]
        try:
            if not self._weather.cut:
                down, forth = await asyncio.open_connection(self._host, self._port)
                writers.append(forth)
                await asyncio.gather(self._pump(up, forth), self._pump(down, back))
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or the link is cut: both ends are told below
        finally:
            for writer in writers:
                writer.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            weather = self._weather
            pace_s = len(data) / weather.bytes_per_s if weather.bytes_per_s else 0.0
            if weather.delay_s or pace_s:
                await asyncio.sleep(weather.delay_s + pace_s)
            await self._passing.wait()
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()
