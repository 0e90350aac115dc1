"""Submit step: send commands to a vendor, and look up an attempt with unknown result before another.

An attempt is recorded on disk before its hook is called. Without the vendor's answer it is in doubt: the command's look-up
clears it up, or it is repeated if that does no harm, or a person decides. It is never sent blindly, nor given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.commands import Command, Submission, Submitted
from gateway.api.errors import AuthError, GatewayError, LeaseLost, PluginError, RateLimited, StoreError, StoreFailed
from gateway.clock import Clock
from gateway.engine.batch_worker import now_for_ages, retry_commit
from gateway.engine.concurrent_worker import ConcurrentWorker
from gateway.engine.submit_outcome import failed, not_there, undecidable
from gateway.metrics import Metrics
from gateway.plugin.incoming import incoming, warn_of_flagged
from gateway.plugin.source import Source
from gateway.store.base import Store
from gateway.store.outcome import Settlement
from gateway.store.submissions import SubmissionEnd, SubmissionRow

log = logging.getLogger("gateway.submit")

CONCURRENCY = 4
CALL_TIMEOUT_S = 120.0
AUTH_PAUSE_S = 900.0
_MOST_QUIET_S = 900.0
_LONGEST_REASON = 1000


class _Attempt(Struct):
    """Progress of an attempt. `sent`: it may have reached the vendor. `looking`: it looks up another."""

    sent: bool = False
    looking: bool = False


class Submit(ConcurrentWorker[SubmissionRow]):
    """Worker that sends one source's commands: several at a time, one for each subject."""

    def __init__(self, source: Source, store: Store, metrics: Metrics, clock: Clock) -> None:
        super().__init__("submit", source.name, store, clock, log=log, failed="submit.failed")
        self._source = source
        self._metrics = metrics
        self._quiet_until = 0.0
        self._paused_until: float | None = None

    def resume(self) -> None:
        """Send again: the credentials changed, or an operator asks for it."""
        self._paused_until, self._quiet_until = None, 0.0
        self._metrics.health.set_door(self._source.name, "submit", "up")
        self._changed.set()

    async def run(self) -> None:
        """Work until `drain`."""
        self._metrics.health.set_door(self._source.name, "submit", "up")
        await super().run()

    async def _lease(self, limit: int) -> list[SubmissionRow]:
        return await self._store.lease_submissions(self._source.name, limit)

    def _start(self, row: SubmissionRow) -> None:
        self._spawn(self._attempt(row), f"submit {row.public_id}", row.id)

    def _allowance(self) -> int:
        now = self._clock.monotonic()
        if now < self._quiet_until or (self._paused_until is not None and now < self._paused_until):
            return 0
        return (1 if self._paused_until is not None else CONCURRENCY) - len(self._tasks)

    def _pause_s(self) -> float:
        return max(self._quiet_until, self._paused_until or 0.0) - self._clock.monotonic()

    async def _attempt(self, row: SubmissionRow) -> None:
        began, began_ms = perf_counter(), self._clock.now_ms()
        attempt, made = _Attempt(), None
        try:
            made, end = await self._try(row, attempt)
        except LeaseLost:
            log.warning("submit.lease_lost", extra={"source": row.source, "key": row.public_id})
            return
        except asyncio.CancelledError:
            in_doubt = attempt.sent or row.in_doubt_since is not None
            end = Settlement(status="unknown" if in_doubt else "ready", outcome="handed_back", counts=attempt.sent)
            await asyncio.shield(self._settle(row, end, None))
            raise
        duration_s = perf_counter() - began
        end = replace(end, started_at_ms=began_ms, duration_ms=round(duration_s * 1000))
        await self._settle(row, end, made)
        self._metrics.submissions.labels(row.source, row.command, end.outcome).inc()
        log.log(
            logging.INFO if end.status in ("done", "ready") or (end.status == "unknown" and attempt.looking) else logging.WARNING,
            "submit.attempted",
            extra={
                "source": row.source,
                "command": row.command,
                "order_ref": row.subject,
                "key": row.public_id,
                "attempt": row.attempts,
                "outcome": end.outcome,
                "duration_s": round(duration_s, 4),
                "next_in_s": round(end.due_in_s, 1) if end.status in ("ready", "unknown") else None,
            },
        )

    async def _try(self, row: SubmissionRow, attempt: _Attempt) -> tuple[Submitted | None, Settlement]:
        """Make one attempt or look-up; return the vendor's answer and the settlement."""
        connector = self._source.connector
        try:
            command = connector.commands().get(row.command)
            if command is None:
                reason = f"the source has no command {row.command!r} with its current settings"
                return None, Settlement(status="held", outcome="held", reason=reason, counts=False)
            submission = self._submission(row, command)
            if isinstance(submission, Settlement):
                return None, submission
            if row.in_doubt_since is not None and command.look_up is not None:
                attempt.looking = True
                return await self._look_up(row, submission)
            if row.in_doubt_since is not None and not connector.is_repeatable(row.command):
                return None, undecidable("the vendor may have done it, and cannot be asked")
            await retry_commit(self._clock, lambda: self._store.start_submission(row))
            attempt.sent = True
            async with asyncio.timeout(CALL_TIMEOUT_S):
                made = await connector.submit(submission, self._source.client)
        except (LeaseLost, StoreError):
            raise
        except Exception as error:
            return None, self._failed(row, attempt, error)
        self._succeeded()
        return made, Settlement(status="done", outcome="submitted", cleared=True)

    def _submission(self, row: SubmissionRow, command: Command) -> Submission | Settlement:
        if row.body is None or hashlib.sha256(row.body).digest() != row.sha256:
            log.critical("store.damaged_body", extra={"source": row.source, "key": row.public_id})
            return self._unusable(row, "the stored command is damaged: its SHA-256 differs from the one it was stored with")
        try:
            body: Any = msgspec.json.decode(row.body.removeprefix(b"\xef\xbb\xbf"), type=command.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._unusable(row, "the stored command does not fit what the connector takes now")
        return Submission(id=row.public_id, command=row.command, body=body, accepted_at=row.accepted_at, repeated=row.maybe_delivered)

    @staticmethod
    def _unusable(row: SubmissionRow, reason: str) -> Settlement:
        return Settlement(status="dead", outcome="refused", reason=reason) if row.in_doubt_since is None else undecidable(reason)

    async def _look_up(self, row: SubmissionRow, submission: Submission) -> tuple[Submitted | None, Settlement]:
        """Ask the vendor what became of an earlier attempt."""
        async with asyncio.timeout(CALL_TIMEOUT_S):
            found = await self._source.connector.look_up(submission, self._source.client)
        self._succeeded()
        if found is not None:
            return found, Settlement(status="done", outcome="found", counts=False, cleared=True)
        return None, not_there(row, self._clock.now(), now_for_ages(self._store))

    def _failed(self, row: SubmissionRow, attempt: _Attempt, error: Exception) -> Settlement:
        reason = str(error) if isinstance(error, GatewayError) else "no answer in time" if isinstance(error, TimeoutError) else ""
        if not reason:
            log.error("submit.failed", exc_info=error, extra={"source": row.source, "key": row.public_id})
            reason = f"{type(error).__name__} in the gateway itself; see its log"
        elif isinstance(error, PluginError):
            log.error("plugin.failed", exc_info=error, extra={"source": row.source, "key": row.public_id})
        if isinstance(error, AuthError):
            self._pause(reason)
        elif isinstance(error, RateLimited):
            self._quiet_until = max(self._quiet_until, self._clock.monotonic() + min(error.retry_after_s or 60.0, _MOST_QUIET_S))
        return failed(row, error, reason[:_LONGEST_REASON], sent=attempt.sent, now=now_for_ages(self._store))

    def _pause(self, reason: str) -> None:
        """Send nothing until `resume`, or for a long while: a vendor locks accounts that sign in too often."""
        self._paused_until = self._clock.monotonic() + AUTH_PAUSE_S
        self._metrics.health.set_door(self._source.name, "submit", "down", reason)

    def _succeeded(self) -> None:
        if self._paused_until is not None:
            self.resume()

    async def _settle(self, row: SubmissionRow, end: Settlement, made: Submitted | None) -> None:
        events = incoming(made.events, self._source.stages, self._source.earlier_versions) if made is not None else []
        kept = SubmissionEnd(answer=made.answer, codes=made.codes, events=tuple(events)) if made is not None else None
        try:
            accepted = await retry_commit(self._clock, lambda: self._store.settle_submission(row, end, kept))
        except LeaseLost:
            log.warning("submit.lease_lost", extra={"source": row.source, "key": row.public_id})
        except StoreFailed:
            raise
        except StoreError as error:
            log.error("submit.unsettled", exc_info=error, extra={"source": row.source, "key": row.public_id})
            held = Settlement(
                status="held",
                outcome="unknown",
                reason=f"the store refuses what the vendor answered: {error}",
                started_at_ms=end.started_at_ms,
            )
            await retry_commit(self._clock, lambda: self._store.settle_submission(row, held))
        else:
            warn_of_flagged(row.source, events, accepted)
