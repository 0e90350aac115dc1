"""Guard around the calls of one source's hooks.

It turns what a hook raises into one of `gateway.api.errors`, SystemExit, KeyboardInterrupt and RecursionError too. Only our own
cancellation passes. It records each step of a hook, see `crash_record.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from gateway.api.errors import AuthError, GatewayError, Hold, Ignore, PermanentError, PluginError, TransientError, bounded, without_input
from gateway.plugin.crash_record import Call, CrashRecord
from gateway.plugin.task_guard import inside_hook, stepped
from gateway.plugin.validation import tidy

T = TypeVar("T")

_EXPECTED = (TransientError, PermanentError, AuthError, Hold, Ignore)


class Guard:
    """Guard of one source."""

    def __init__(self, source: str, crash_record: CrashRecord) -> None:
        self._source, self._crash_record = source, crash_record

    def call(self, hook: str, call: Callable[[], T], body: bytes | None = None) -> T:
        """Call a plain hook; `body` is the document it works on. Raises GatewayError."""
        before = self._crash_record.enter(self._source, hook, body)
        try:
            return call()
        except _EXPECTED as error:
            tidy(error)
            raise
        except BaseException as error:
            raise _translated(hook, error) from error
        finally:
            self._crash_record.leave(before)

    async def wait(self, hook: str, call: Callable[[], Awaitable[Any]], subject: str = "") -> Any:
        """Await an async hook; `subject` names what it works on. Raises GatewayError."""
        steps = Call(self._crash_record, self._source, hook, subject)
        steps.leave(steps.enter())
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()  # until Python 3.13 a TaskGroup that fails leaves one behind
        try:
            with inside_hook(steps):
                return await stepped(call(), steps)
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling() > before:
                raise
            raise PluginError(f"{hook} was cancelled from inside") from error
        except _EXPECTED as error:
            tidy(error)
            raise
        except BaseException as error:
            raise _translated(hook, error) from error


def _translated(hook: str, error: BaseException) -> GatewayError:
    if hook in ("ingest", "normalize") and isinstance(error, (ValueError, msgspec.MsgspecError)):
        return PermanentError(f"cannot be read: {without_input(error)}")
    if hook in ("poll", "fetch", "acknowledge", "submit") and isinstance(error, TimeoutError):
        return TransientError("no answer in time")
    if hook == "ingest" and isinstance(error, RecursionError):
        return PermanentError("cannot be read: nested too deeply")
    # The text of an unexpected exception often holds a piece of an order; the log has the place where it was raised.
    text = f": {bounded(error)}" if hook in ("describe", "subscribe") else ""
    return PluginError(f"{hook} failed: {type(error).__name__}{text}")
