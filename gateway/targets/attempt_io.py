"""Requests of an attempt, and what their answers mean for the delivery."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from msgspec.structs import replace

from gateway.api.errors import AuthError, Hold, MappingError, PermanentError, TransientError
from gateway.outbound.answer import Answer
from gateway.outbound.session import TooLong, Unanswered, Unreached, Untrusted
from gateway.store.outcome import Progress
from gateway.store.rows import OutboxRow
from gateway.targets.builder import Builder
from gateway.targets.classify import Outcome, by_rule, classify, classify_unkeyed, detail_of, has_error
from gateway.targets.delivery_settings import Step
from gateway.targets.expressions import answer_document
from gateway.targets.preflight import Ended, Seen, captured, look
from gateway.targets.request import Context, Request, Sender
from gateway.targets.request_settings import RequestTable
from gateway.targets.settings import TargetSettings

MOST_500 = 3
_MOST_409 = 5


class Journal(Protocol):
    """Durable record of a running attempt. Each method raises LeaseLost, after which nothing more may be sent."""

    async def start_request(self, sha256: bytes | None) -> None:
        """Record that a request is about to leave."""

    async def finished(self, progress: Progress) -> None:
        """Record that one of several requests is done."""

    async def claimant(self, erp_id: str) -> str | None:
        """Return our other order that already became this order of the ERP."""


class AttemptIO:
    """Requests and answers of one attempt.

    Args:
        probing: The target counts as down: a look-up goes first where there is one, since an order is too valuable as a probe.
    """

    def __init__(
        self,
        row: OutboxRow,
        settings: TargetSettings,
        *,
        builder: Builder,
        sender: Sender,
        journal: Journal,
        now: Callable[[], datetime],
        probing: bool = False,
    ) -> None:
        self._row = row
        self._settings = settings
        self._builder = builder
        self._sender = sender
        self._journal = journal
        self._now = now
        self._keyed = settings.idempotency.strategy == "header"
        self._in_doubt = row.in_doubt and not self._keyed
        self._look_first = settings.idempotency.strategy == "lookup" or probing
        self._asked = False
        self._context: Context | None = None
        self._erp_id, self._erp_number = row.erp_id, row.erp_number

    async def _look(self) -> Seen:
        preflight = self._settings.preflight
        assert preflight is not None
        context = {**self._context_of_order(), "captured": self._captured()}
        request = self._rendered(preflight, context, "preflight")
        self._asked = True
        return await look(preflight, request, context, self._sender, self._now())

    def _context_of_order(self) -> Context:
        if self._context is None:
            self._context = self._builder.context(self._row.body or b"")
        return self._context

    async def _look_up(self) -> None:
        """Repeat the look-ups of the first request for the steps; they are remembered."""
        try:
            self._context = await self._builder.look_up(self._context_of_order())
        except (Hold, PermanentError, TransientError, AuthError) as error:
            raise Ended(not_sent(error)) from error

    def _rendered(self, table: RequestTable, context: Context, where: str) -> Request:
        try:
            return self._builder.render(table, context, where=where)
        except (Hold, PermanentError) as error:
            raise Ended(not_sent(error)) from error

    async def _exchange(self, request: Request, step: Step | None) -> Outcome:
        self._asked = True
        try:
            answer = await self._sender.send(request)
        except Unanswered as error:
            outcome = Outcome(meaning="unknown", reason=f"{error}; it may have been taken", unwell=True)
            return self._in_doubt_outcome(outcome, step)
        except TooLong as error:
            answer = error.answer
        except (AuthError, TransientError, PermanentError) as error:
            return not_sent(error)
        try:
            return await self._meaning(answer, step)
        except MappingError as error:
            said = Outcome(
                meaning="unknown", reason=f"the answer cannot be read: {error}", http_status=answer.status, detail=detail_of(answer)
            )
            return self._in_doubt_outcome(said, step)

    async def _meaning(self, answer: Answer, step: Step | None) -> Outcome:
        settings, now = self._settings, self._now()
        reads = bool(settings.classify) or settings.capture is not None or not self._keyed
        document = answer_document(answer) if reads else {}
        outcome: Outcome | None = by_rule(settings.classify, answer, document, now) if settings.classify else None
        if outcome is None and self._keyed:
            outcome = classify(answer, now)
        elif outcome is None:
            can_look = settings.preflight is not None
            outcome = classify_unkeyed(answer, now, creates=step is None, can_look=can_look)
            if outcome is None:
                return await self._conflict(answer, step)
            if outcome.meaning == "delivered" and has_error(document):
                outcome = replace(outcome, meaning="refused", reason="the target's answer holds an error")
        if outcome.meaning == "unknown":
            return self._in_doubt_outcome(outcome, step)
        if outcome.meaning in ("delivered", "duplicate") and step is None:
            return self._read(outcome, document)
        return outcome

    def _read(self, outcome: Outcome, document: dict[str, Any]) -> Outcome:
        """Capture the id and number of a good answer; an answer without a configured id leaves the order in doubt."""
        capture = self._settings.capture
        if capture is None:
            return outcome
        erp_id = captured(capture.erp_id, document)
        if capture.erp_id is not None and erp_id is None and outcome.meaning == "delivered":
            return self._in_doubt_outcome(replace(outcome, meaning="unknown", reason="the target's answer holds no id"), None)
        said = captured(capture.message, document)
        return replace(outcome, erp_id=erp_id, erp_number=captured(capture.erp_number, document), detail=said or outcome.detail)

    async def _conflict(self, answer: Answer, step: Step | None) -> Outcome:
        """Handle 409: the order exists, or another client writes to it."""
        said = Outcome(meaning="retry", reason="the target answers 409", http_status=409, detail=detail_of(answer), ambiguous_failure=True)
        if step is None and self._settings.preflight is not None:
            seen = await self._look()
            if seen.found:
                raise Ended(replace(await self._already(seen), http_status=409, detail=said.detail))
        elif step is None and self._settings.idempotency.strategy == "client_key":
            return replace(said, meaning="duplicate", reason="the target has it already", ambiguous_failure=False)
        if self._row.ambiguous_failures + 1 >= _MOST_409:
            return replace(said, meaning="refused", reason=f"the target refuses the order ({_MOST_409} times 409)")
        return said

    def _captured(self) -> dict[str, Any]:
        return {"erp_id": self._erp_id, "erp_number": self._erp_number}

    # --- what it means

    async def _already(self, seen: Seen) -> Outcome:
        """Return the outcome of an order that existed before this attempt sent anything."""
        if seen.complete is False:
            return self._for_person(f"the target has it already ({seen.name}), and not all of it; nothing was sent")
        if seen.complete is None and self._settings.steps:
            reason = "and it is unknown whether its steps were done; preflight.complete would tell"
            return self._for_person(f"the target has it already ({seen.name}), {reason}")
        return await self._found(seen)

    async def _found(self, seen: Seen) -> Outcome:
        preflight = self._settings.preflight
        assert preflight is not None
        if self._row.kind != "order.placed" and preflight.per == "order":
            return self._for_person(f"the target has this order already ({seen.name}), and this is a change of it: make it there by hand")
        if len(seen.ids) > 1:  # made twice, or the look-up finds more than this order
            return self._for_person(f"the target has {len(seen.ids)} orders under this name: {', '.join(seen.ids[:5])}; look at them")
        other = await self._journal.claimant(seen.id) if seen.id else None
        if other is not None:
            return self._for_person(f"the target's order {seen.name} was made of {other}; this is another order under the same name")
        return Outcome(meaning="duplicate", reason="the target has it already", erp_id=seen.id, erp_number=seen.number)

    def _in_doubt_outcome(self, outcome: Outcome, step: Step | None) -> Outcome:
        """Return the outcome of a request whose result is unknown, by the target's settings."""
        strategy = self._settings.idempotency
        again = replace(outcome, meaning="retry", maybe_delivered=True)
        if self._keyed:
            return again
        if self._settings.preflight is not None:
            return replace(outcome, meaning="unknown", in_doubt=True, maybe_delivered=True)
        if strategy.honoured or (step is not None and step.repeat):
            if outcome.ambiguous_failure and self._row.ambiguous_failures + 1 >= MOST_500:
                return replace(outcome, meaning="refused", reason=f"the target fails on this order ({MOST_500} times 500)")
            return again
        reason = f"{outcome.reason}: it is unknown whether it was taken, and there is no preflight to ask the target"
        return replace(outcome, meaning="held", reason=reason, in_doubt=True, maybe_delivered=True)

    def _for_person(self, reason: str) -> Outcome:
        return Outcome(meaning="held", reason=reason, in_doubt=self._in_doubt, maybe_delivered=self._in_doubt)


def not_sent(error: Exception) -> Outcome:
    """Return the outcome of an error that came before anything was sent."""
    if isinstance(error, Untrusted):
        return Outcome(meaning="paused", reason=f"{error}; check its certificate, or set ca_file")
    if isinstance(error, AuthError):
        return Outcome(meaning="paused", reason=str(error), credentials=error.refused)
    if isinstance(error, TransientError):
        unreached = isinstance(error, Unreached)
        return Outcome(meaning="retry", reason=str(error), unwell=unreached, unreached=unreached, retry_after_s=error.retry_after_s)
    return Outcome(meaning="held" if isinstance(error, Hold) else "refused", reason=str(error))
