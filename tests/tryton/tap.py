"""A wire between two sides on loopback that sees what goes over it, and can do something before a request arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Tap:
    """Forwards bytes to a port; before the first bytes that hold `mark` are handed on, `before` is called, once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._mark: bytes | None = None
        self._before: Callable[[], object] = lambda: None
        self.sprung = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Tap:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def spring(self, mark: bytes, before: Callable[[], object]) -> None:
        """Set the trap."""
        self._mark, self._before = mark, before
        self.sprung.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._hand_on(up_reader, writer))
        try:
            await self._hand_on(reader, up_writer, watched=True)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for one in (up_writer, writer):
                one.close()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool = False) -> None:
        try:
            while data := await reader.read(65536):
                if watched and self._mark is not None and self._mark in data:
                    self._mark = None
                    self._before()
                    self.sprung.set()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        if not watched:
            writer.close()
