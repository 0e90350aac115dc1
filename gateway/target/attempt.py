"""One attempt at one delivery: look whether it is there, send it, read the answer, take the steps that follow.

What makes it right is the order of things. A target that recognises no repeat is asked before each try; that a request is
about to leave is durable before its first byte does; what was sent and not answered is `unknown`, and only a look-up that does
not find it, late enough and often enough, lets it be sent again. Where there is no look-up, a person decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol

from msgspec.structs import replace

from gateway.errors import AuthError, Hold, MappingError, PermanentError, TransientError
from gateway.outbound.session import Answer, TooLong, Unanswered, Unreached, Untrusted
from gateway.store.base import OutboxRow, Progress
from gateway.target.classify import Outcome, by_rule, classify, classify_unkeyed, has_error, words
from gateway.target.envelope import in_format
from gateway.target.expressions import answer_document
from gateway.target.look import Ended, Seen, captured, look
from gateway.target.policy import Step
from gateway.target.request import Context, Request, Sender
from gateway.target.request_settings import RequestTable
from gateway.target.settings import TargetSettings

_MOST_500 = 3
_MOST_409 = 5


class Journal(Protocol):
    """What is made durable while an attempt is under way. Each raises LeaseLost, and then nothing more may be sent."""

    async def sending(self, sha256: bytes | None) -> None:
        """A request is about to leave."""

    async def finished(self, progress: Progress) -> None:
        """One of several requests is done."""

    async def claimant(self, erp_id: str) -> str | None:
        """Another order of ours that became this order of the ERP."""


class Builder(Protocol):
    """Makes the requests of a target."""

    def context(self, body: bytes) -> Context:
        """What templates and expressions see of a canonical message."""

    async def look_up(self, context: Context, *, fresh: bool = False) -> Context:
        """The context with what the ERP knows of the order's codes. Raises Refused, Hold, TransientError, AuthError."""

    def render(self, table: RequestTable, context: Context, *, where: str = "") -> Request:
        """A request beside the one that makes the order. Raises Refused."""


Make = Callable[[OutboxRow, Callable[[], Context]], Awaitable[Request]]
"""The request that makes the order; raises Refused, Hold, TransientError, AuthError. It asks for the context where it needs one."""


class Attempt:
    """One attempt; `run()` is all of it.

    Args:
        probing: The target counts as down: where there is a look-up, it goes first, since an order is too valuable as a probe.
    """

    def __init__(
        self,
        row: OutboxRow,
        settings: TargetSettings,
        *,
        make: Make,
        builder: Builder,
        sender: Sender,
        journal: Journal,
        now: Callable[[], datetime],
        probing: bool = False,
    ) -> None:
        self._row = row
        self._settings = settings
        self._make = make
        self._builder = builder
        self._sender = sender
        self._journal = journal
        self._now = now
        self._probing = probing
        self._keyed = settings.idempotency.strategy == "header"
        self._unclear = row.unclear and not self._keyed
        self._look_first = settings.idempotency.strategy == "lookup" or probing
        self._asked = False
        self._context: Context | None = None
        self._erp_id, self._erp_number = row.erp_id, row.erp_number

    async def run(self) -> Outcome:
        """Offer the delivery; never raises for what the ERP or the network does."""
        try:
            if self._unclear:
                outcome = await self._find_out()
            elif self._row.step:
                outcome = await self._follow(self._row.step, self._row.item)
            else:
                outcome = await self._create()
        except Ended as ended:
            outcome = ended.outcome
            if self._unclear:
                outcome = replace(outcome, unclear=True)
        erp_id, erp_number = outcome.erp_id or self._erp_id, outcome.erp_number or self._erp_number
        return replace(outcome, erp_id=erp_id, erp_number=erp_number, silent=not self._asked)

    def name(self) -> str | None:
        """What the ERP would look this order up by; None where it has no such name."""
        if self._settings.preflight is None:
            return None
        try:
            request = self._builder.render(self._settings.preflight, {**self._seen_by_expressions(), "captured": self._captured()})
        except (PermanentError, Hold):
            return None
        return f"{request.method} {request.url} {request.body!r}"

    # --- the order itself

    async def _create(self) -> Outcome:
        if self._look_first and self._settings.preflight is not None:
            seen = await self._look()
            if seen.found and seen.complete is False:
                return self._for_person(f"the target has it already ({seen.name}), and not all of it; nothing was sent")
            if seen.found:
                return await self._found(seen)
        request = await self._request()
        digest = hashlib.sha256(request.body or b"").digest()
        if not self._keyed:
            await self._journal.sending(digest)
        outcome = await self._exchange(request, None)
        if outcome.meaning != "delivered" or not self._settings.steps:
            return outcome
        self._erp_id, self._erp_number = outcome.erp_id, outcome.erp_number
        await self._journal.finished(Progress(step=1, erp_id=outcome.erp_id, erp_number=outcome.erp_number))
        return await self._follow(1, 0)

    async def _request(self) -> Request:
        try:
            return await self._make(self._row, self._seen_by_expressions)
        except (Hold, PermanentError, TransientError, AuthError) as error:
            raise Ended(_not_sent(error)) from error

    async def _found(self, seen: Seen) -> Outcome:
        preflight = self._settings.preflight
        assert preflight is not None
        if self._row.kind != "order.placed" and preflight.per == "order":
            return self._for_person(f"the target has this order already ({seen.name}), and this is a change of it: make it there by hand")
        if len(seen.ids) > 1:  # made twice by somebody, or the look-up finds more than this order
            return self._for_person(f"the target has {len(seen.ids)} orders under this name: {', '.join(seen.ids[:5])}; look at them")
        other = await self._journal.claimant(seen.id) if seen.id else None
        if other is not None:
            return self._for_person(f"the target's order {seen.name} was made of {other}; this is another order under the same name")
        return Outcome(meaning="duplicate", reason="the target has it already", erp_id=seen.id, erp_number=seen.number)

    # --- what nobody knows

    async def _find_out(self) -> Outcome:
        """An earlier request may have been done: look, and do not send before it surely was not."""
        row, settings = self._row, self._settings
        if settings.preflight is None:
            if settings.idempotency.honoured or (row.step and settings.steps[row.step - 1].repeat):
                self._unclear = False
                return await (self._follow(row.step, row.item) if row.step else self._create())
            return self._for_person("nobody knows whether the target took it, and there is no preflight to ask it")
        seen = await self._look()
        if row.step:
            return await self._find_out_step(seen)
        if not seen.found:
            return self._later() or self._surely_not_there()
        if seen.complete is not True and settings.steps:  # made, and none of what follows was ever sent
            self._erp_id, self._erp_number = seen.id, seen.number
            return await self._go_on(1, 0)
        if seen.complete is False:
            return self._later() or self._for_person(f"the target has it ({seen.name}), and not all of it")
        return await self._found(seen)

    async def _find_out_step(self, seen: Seen) -> Outcome:
        row = self._row
        step = self._settings.steps[row.step - 1]
        if seen.complete is True:
            return self._delivered()
        if not seen.found:
            return self._later() or self._for_person(
                f"the target no longer shows its order {row.erp_id}; it was there before step {step.name}"
            )
        if step.repeat:
            return await self._go_on(row.step, row.item)
        if step.done is None:
            reason = f"nobody knows whether step {step.name} was done; look at the target's order {seen.name}: "
            return self._later() or self._for_person(reason + "release it to take that step, drop it where it was done")
        try:
            done = step.done.evaluate({**seen.document, "captured": self._captured()})
        except MappingError as error:
            return self._for_person(f"step {step.name}: done: {error}")
        if done is True:
            return await self._go_on(row.step + 1, 0)
        if isinstance(done, int) and not isinstance(done, bool) and done > row.item:
            return await self._go_on(row.step, done)
        waits = self._later()
        return waits if waits is not None else await self._go_on(row.step, row.item)

    async def _go_on(self, step: int, item: int) -> Outcome:
        await self._journal.finished(Progress(step=step, item=item, erp_id=self._erp_id, erp_number=self._erp_number))
        self._unclear = False
        return await self._follow(step, item)

    def _later(self) -> Outcome | None:
        """What is not there may still come: when to look again, or None where it has been looked for long enough."""
        preflight, row = self._settings.preflight, self._row
        assert preflight is not None
        since = row.unknown_since or row.first_attempt_at or self._now()
        wait_s = preflight.settle_s - (self._now() - since).total_seconds()
        waiting = Outcome(meaning="unknown", reason="the target does not show it yet", unclear=True, maybe_taken=True, wait_s=wait_s)
        if wait_s > 0:
            return waiting
        if row.looks + 1 < preflight.attempts:
            return replace(waiting, looked=True, wait_s=preflight.settle_s / preflight.attempts)
        return None

    def _surely_not_there(self) -> Outcome:
        if self._row.strikes >= _MOST_500:
            return Outcome(meaning="refused", reason=f"the target fails on this order ({_MOST_500} times 500)", cleared=True)
        return Outcome(meaning="retry", reason="it was not taken: the target does not have it", cleared=True, wait_s=0.0)

    def _for_person(self, reason: str) -> Outcome:
        return Outcome(meaning="held", reason=reason, unclear=self._unclear, maybe_taken=self._unclear)

    def _nobody_knows(self, outcome: Outcome, step: Step | None) -> Outcome:
        """A request left and its outcome is unknown: what the target's settings make of that."""
        strategy = self._settings.idempotency
        again = replace(outcome, meaning="retry", maybe_taken=True)
        if self._keyed:
            return again
        if self._settings.preflight is not None:
            return replace(outcome, meaning="unknown", unclear=True, maybe_taken=True)
        if strategy.honoured or (step is not None and step.repeat):
            if outcome.strike and self._row.strikes + 1 >= _MOST_500:
                return replace(outcome, meaning="refused", reason=f"the target fails on this order ({_MOST_500} times 500)")
            return again
        reason = f"{outcome.reason}: nobody knows whether it was taken, and there is no preflight to ask the target"
        return replace(outcome, meaning="held", reason=reason, unclear=True, maybe_taken=True)

    # --- what follows

    async def _follow(self, number: int, item: int) -> Outcome:
        """Take the steps from one on; each that is finished is durable before the next begins."""
        steps = self._settings.steps
        if self._settings.lookups:
            await self._look_up()
        for n in range(number, len(steps) + 1):
            step = steps[n - 1]
            context = {**self._seen_by_expressions(), "captured": self._captured()}
            items = self._items(step, context)
            for k in range(item, len(items)):
                request = self._with_key(self._rendered(step, {**context, "item": items[k]}, f"step {step.name}"), n, k)
                if not self._keyed:
                    await self._journal.sending(None)
                outcome = await self._exchange(request, step)
                if outcome.meaning not in ("delivered", "duplicate"):
                    return replace(outcome, reason=f"step {step.name}: {outcome.reason}")
                if n == len(steps) and k == len(items) - 1:
                    break  # settled at once, with the row
                after = Progress(step=n, item=k + 1) if k + 1 < len(items) else Progress(step=n + 1)
                await self._journal.finished(after)
            item = 0
        return self._delivered()

    def _items(self, step: Step, context: Context) -> list[Any]:
        try:
            if step.if_ is not None and step.if_.evaluate(context) is not True:
                return []
            if step.for_each is None:
                return [None]
            found = step.for_each.evaluate(context)
        except MappingError as error:
            raise Ended(Outcome(meaning="refused", reason=f"step {step.name}: {error}")) from error
        return found if isinstance(found, list) else [] if found is None else [found]

    def _with_key(self, request: Request, step: int, item: int) -> Request:
        """Under `header`, each request has a key of its own, the same on every repeat."""
        if not self._keyed:
            return request
        name, key = self._settings.idempotency.header, in_format(f"{self._row.key}#{step}.{item}", self._settings.idempotency)
        return replace(request, headers={name: key, **request.headers})

    def _delivered(self) -> Outcome:
        return Outcome(meaning="delivered", reason="taken", erp_id=self._erp_id, erp_number=self._erp_number)

    def _captured(self) -> dict[str, Any]:
        return {"erp_id": self._erp_id, "erp_number": self._erp_number}

    # --- requests and answers

    async def _look(self) -> Seen:
        preflight = self._settings.preflight
        assert preflight is not None
        context = {**self._seen_by_expressions(), "captured": self._captured()}
        request = self._rendered(preflight, context, "preflight")
        self._asked = True
        return await look(preflight, request, context, self._sender, self._now())

    def _seen_by_expressions(self) -> Context:
        if self._context is None:
            self._context = self._builder.context(self._row.body or b"")
        return self._context

    async def _look_up(self) -> None:
        """Steps see what the first request saw; what it asked for is remembered."""
        try:
            self._context = await self._builder.look_up(self._seen_by_expressions())
        except (Hold, PermanentError, TransientError, AuthError) as error:
            raise Ended(_not_sent(error)) from error

    def _rendered(self, table: RequestTable, context: Context, where: str) -> Request:
        try:
            return self._builder.render(table, context, where=where)
        except (Hold, PermanentError) as error:
            raise Ended(_not_sent(error)) from error

    async def _exchange(self, request: Request, step: Step | None) -> Outcome:
        self._asked = True
        try:
            answer = await self._sender.send(request)
        except Unanswered as error:
            outcome = Outcome(meaning="unknown", reason=f"{error}; it may have been taken", unwell=True)
            return self._nobody_knows(outcome, step)
        except TooLong as error:
            answer = error.answer
        except (AuthError, TransientError, PermanentError) as error:
            return _not_sent(error)
        try:
            return await self._meaning(answer, step)
        except MappingError as error:
            said = Outcome(meaning="unknown", reason=f"the answer cannot be read: {error}", http_status=answer.status, detail=words(answer))
            return self._nobody_knows(said, step)

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
            return self._nobody_knows(outcome, step)
        if outcome.meaning in ("delivered", "duplicate") and step is None:
            return self._read(outcome, document)
        return outcome

    def _read(self, outcome: Outcome, document: dict[str, Any]) -> Outcome:
        """What is kept of a good answer; one that lacks the id it should have says nothing."""
        capture = self._settings.capture
        if capture is None:
            return outcome
        erp_id = captured(capture.erp_id, document)
        if capture.erp_id is not None and erp_id is None and outcome.meaning == "delivered":
            return self._nobody_knows(replace(outcome, meaning="unknown", reason="the target's answer holds no id"), None)
        said = captured(capture.message, document)
        return replace(outcome, erp_id=erp_id, erp_number=captured(capture.erp_number, document), detail=said or outcome.detail)

    async def _conflict(self, answer: Answer, step: Step | None) -> Outcome:
        """409: there already, or being written to by somebody else."""
        said = Outcome(meaning="retry", reason="the target answers 409", http_status=409, detail=words(answer), strike=True)
        if step is None and self._settings.preflight is not None:
            seen = await self._look()
            if seen.found:
                return replace(await self._found(seen), http_status=409, detail=said.detail)
        elif step is None and self._settings.idempotency.strategy == "client_key":
            return replace(said, meaning="duplicate", reason="the target has it already", strike=False)
        if self._row.strikes + 1 >= _MOST_409:
            return replace(said, meaning="refused", reason=f"the target refuses the order ({_MOST_409} times 409)")
        return said


def _not_sent(error: Exception) -> Outcome:
    """What came in the way before anything was sent."""
    if isinstance(error, Untrusted):
        return Outcome(meaning="hold", reason=f"{error}; check its certificate, or set ca_file")
    if isinstance(error, AuthError):
        return Outcome(meaning="hold", reason=str(error))
    if isinstance(error, TransientError):
        return Outcome(meaning="retry", reason=str(error), unwell=isinstance(error, Unreached), retry_after_s=error.retry_after_s)
    return Outcome(meaning="held" if isinstance(error, Hold) else "refused", reason=str(error))
