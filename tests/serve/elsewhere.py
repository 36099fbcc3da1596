"""A policy server of somebody else's."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import websockets.asyncio.server

from lwd.serve.wire import pack, unpack


@contextlib.contextmanager
def foreign(answer, port: int = 0) -> Iterator[tuple[str, list[dict]]]:
    """A server as openpi's; `answer` makes the replies. Its URL, and what it was sent."""
    messages: list[dict] = []
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    url: list[str] = []

    async def handler(socket):
        await socket.send(pack({"reset_pose": [0, 1.5]}))
        async for data in socket:
            messages.append(unpack(data))
            reply = answer(messages[-1])
            await socket.send(reply)
            if isinstance(reply, str):
                await socket.close(1011, "Internal server error.")

    async def main():
        async with websockets.asyncio.server.serve(handler, "127.0.0.1", port) as server:
            url.append(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield url[0], messages
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
