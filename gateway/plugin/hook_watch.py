"""Watch for hooks that do not return, from a thread, because the event loop itself may be blocked."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from gateway.plugin.crash_record import CrashRecord, Step

log = logging.getLogger("gateway.hooks")

LONG_S = 2.0
_LOOK_S = 0.5


class HookWatch:
    """Watch of one process.

    Args:
        report: Called on the loop with source, hook, seconds and whether the hook blocks the loop, every half second that it runs.
    """

    def __init__(self, crash_record: CrashRecord, report: Callable[[str, str, float, bool], None]) -> None:
        self._crash_record = crash_record
        self._report = report
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_loop = 0
        self._logged: set[Step] = set()

    def start(self) -> None:
        """Start watching; call it on the loop."""
        self._loop, self._on_loop = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="hook watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, within half a second."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        now = time.monotonic()
        long = {step for step in self._crash_record.steps if step is not None and now - step.since > LONG_S}
        for step in long:
            on_loop = step.thread == self._on_loop
            if step not in self._logged:
                extra = {"source": step.source, "hook": step.hook, "for_s": round(now - step.since, 1), "everybody_waits": on_loop}
                log.warning("hook.blocks", extra=extra)
            self._tell(step, now - step.since, on_loop)
        self._logged = long

    def _tell(self, step: Step, for_s: float, on_loop: bool) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._report, step.source, step.hook, for_s, on_loop)
            except RuntimeError:  # closed meanwhile
                self._stop.set()
