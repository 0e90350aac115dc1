"""Queue of reloads, which run one at a time. A request during a reload causes one more, since the file may have changed again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.metrics import Metrics
from gateway.service import systemd

Problems = Sequence[str]


class Reloads:
    """Reloads requested by SIGHUP and `gateway reload`; they start once the gateway is up.

    Args:
        reload: Replaces the configuration as a whole, or returns the problems for which the old one stays.
        died: Called with the exception of a reload, which is a bug in the gateway.
    """

    def __init__(self, reload: Callable[[], Awaitable[Problems]], metrics: Metrics, died: Callable[[BaseException], None]) -> None:
        self._reload = reload
        self._metrics = metrics
        self._died = died
        self._ready = False
        self._ended = False
        self._asked = False
        self._waiting: list[asyncio.Future[Problems]] = []
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start reloading, now that the gateway is up; a request during the start is carried out."""
        self._ready = True
        self._go_on()

    def ask(self) -> None:
        """Request a reload."""
        if not self._ended:
            self._asked = True
            self._go_on()

    async def outcome(self) -> Problems:
        """Reload and return the problems for which it was refused; empty if it was done."""
        future: asyncio.Future[Problems] = asyncio.get_running_loop().create_future()
        if self._ended:
            return ("the gateway is stopping",)
        self._waiting.append(future)
        self.ask()
        return await future

    async def end(self) -> None:
        """Start no more reloads and cancel the current one."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._answer(self._waiting, ("the gateway is stopping",))

    def _go_on(self) -> None:
        if self._ready and self._asked and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._all(), name="reload")
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._died(error)

    async def _all(self) -> None:
        systemd.notify("RELOADING=1")
        while self._asked:
            self._asked = False
            waiting, self._waiting = self._waiting, []
            problems: Problems = ("the gateway is stopping",)
            try:
                problems = await self._reload()
                self._metrics.health.reload_refused = _in_a_line(problems)
            finally:
                self._answer(waiting, problems)
        systemd.notify("READY=1")

    @staticmethod
    def _answer(waiting: Sequence[asyncio.Future[Problems]], problems: Problems) -> None:
        for future in waiting:
            if not future.done():
                future.set_result(problems)


def _in_a_line(problems: Problems) -> str | None:
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more: `gateway check`)" if problems[1:] else ""
    return f"{problems[0]}{more}; the previous configuration is in force"
