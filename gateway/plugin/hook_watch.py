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
        self._crash_record, self._report = crash_record, report
        self._stop = threading.Event()
        self._logged: set[Step] = set()

    def start(self) -> None:
        """Start watching; call it on the loop."""
        args = (asyncio.get_running_loop(), threading.get_ident())
        threading.Thread(target=self._run, args=args, name="hook watch", daemon=True).start()

    def stop(self) -> None:
        """Stop watching, within half a second."""
        self._stop.set()

    def _run(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self._look(loop, loop_thread)
            except RuntimeError:  # the loop is closed
                return

    def _look(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        now = time.monotonic()
        long = {step for step in self._crash_record.steps if step is not None and now - step.since > LONG_S}
        for step in long:
            for_s, on_loop = now - step.since, step.thread == loop_thread
            if step not in self._logged:
                extra = {"source": step.source, "hook": step.hook, "for_s": round(for_s, 1), "on_loop": on_loop}
                log.warning("hook.blocks", extra=extra)
            loop.call_soon_threadsafe(self._report, step.source, step.hook, for_s, on_loop)
        self._logged = long
