"""Attempt at one delivery: look the order up, send it, read the answer, take the steps that follow.

The order of the steps makes it safe. A target that recognises no repeat is asked before each try. A request is recorded before its
first byte leaves. A request without an answer leaves the order in doubt: it is sent again only after the look-up has not found it,
late enough and often enough. Without a look-up, a person decides.
"""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from gateway.api.errors import AuthError, Hold, MappingError, PermanentError, TransientError
from gateway.store.outcome import Progress
from gateway.targets.attempt_io import MOST_500, AttemptIO, not_sent
from gateway.targets.classify import Outcome
from gateway.targets.delivery_settings import Step
from gateway.targets.preflight import Ended, Seen
from gateway.targets.request import Context, Request, key_in_format, with_message_headers


class Attempt(AttemptIO):
    """Attempt at one delivery; call `run()` once."""

    async def run(self) -> Outcome:
        """Make the attempt; never raises for what the ERP or the network does."""
        try:
            if self._in_doubt:
                outcome = await self._find_out()
            elif self._row.step:
                outcome = await self._follow(self._row.step, self._row.item)
            else:
                outcome = await self._create()
        except Ended as ended:
            outcome = ended.outcome
            if self._in_doubt:
                outcome = replace(outcome, in_doubt=True)
        erp_id, erp_number = outcome.erp_id or self._erp_id, outcome.erp_number or self._erp_number
        return replace(outcome, erp_id=erp_id, erp_number=erp_number, silent=not self._asked)

    def name(self) -> str | None:
        """Return what the ERP would look this order up by, or None."""
        if self._settings.preflight is None:
            return None
        try:
            request = self._builder.render(self._settings.preflight, {**self._context_of_order(), "captured": self._captured()})
        except (PermanentError, Hold):
            return None
        return f"{request.method} {request.url} {request.body!r}"

    # --- the order itself

    async def _create(self) -> Outcome:
        if self._look_first and self._settings.preflight is not None:
            seen = await self._look()
            if seen.found:
                return await self._already(seen)
        request = await self._request()
        if not self._keyed:
            await self._journal.start_request(hashlib.sha256(request.body or b"").digest())
        outcome = await self._exchange(request, None)
        if not self._settings.steps or outcome.meaning not in ("delivered", "duplicate"):
            return outcome
        if outcome.meaning == "duplicate" and not (self._row.maybe_delivered and outcome.erp_id):
            return self._for_person("the target has the order already, and it is unknown whether its steps were done")
        self._erp_id, self._erp_number = outcome.erp_id, outcome.erp_number
        await self._journal.finished(Progress(step=1, erp_id=outcome.erp_id, erp_number=outcome.erp_number))
        return await self._follow(1, 0)

    async def _request(self) -> Request:
        """Make the request for the order; a target without a mapping gets the stored bytes."""
        row, settings = self._row, self._settings
        try:
            if settings.is_plain_message:
                request = Request(method=settings.method, url=settings.url, headers={**settings.headers}, body=row.body)
            else:
                request = await self._builder.request(self._context_of_order(), fresh=row.attempts > 1)
                if settings.body is None:
                    request = replace(request, body=row.body)
        except (Hold, PermanentError, TransientError, AuthError) as error:
            raise Ended(not_sent(error)) from error
        return with_message_headers(request, row, settings.idempotency)

    # --- in doubt

    async def _find_out(self) -> Outcome:
        """Look up an order in doubt; send it again only when it is certainly absent."""
        row, settings = self._row, self._settings
        if settings.preflight is None:
            if settings.idempotency.honoured or any(step.repeat for step in settings.steps[row.step - 1 : row.step]):
                self._in_doubt = False
                return await (self._follow(row.step, row.item) if row.step else self._create())
            return self._for_person("it is unknown whether the target took the order, and there is no preflight to ask it")
        seen = await self._look()
        if row.step:
            return await self._find_out_step(seen)
        if not seen.found:
            return self._later() or self._surely_not_there()
        if seen.complete is not True and settings.steps:  # made, and none of what follows was ever sent
            found = await self._found(seen)
            if found.meaning != "duplicate":
                return found
            self._erp_id, self._erp_number = seen.id, seen.number
            return await self._go_on(1, 0)
        if seen.complete is False:
            return self._later() or self._for_person(f"the target has it ({seen.name}), and not all of it")
        return await self._found(seen)

    async def _find_out_step(self, seen: Seen) -> Outcome:
        row = self._row
        if seen.complete is True or row.step > len(self._settings.steps):  # the configuration has fewer now
            return self._delivered()
        step = self._settings.steps[row.step - 1]
        if not seen.found:
            return self._later() or self._for_person(
                f"the target no longer shows its order {row.erp_id}; it was there before step {step.name}"
            )
        if step.repeat:
            return await self._go_on(row.step, row.item)
        if step.done is None and step.for_each is None and seen.complete is False and row.step == len(self._settings.steps):
            return self._later() or await self._go_on(row.step, row.item)  # all that could be missing is this very request
        if step.done is None:
            reason = f"it is unknown whether step {step.name} was done; check the target's order {seen.name}: "
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
        self._in_doubt = False
        return await self._follow(step, item)

    def _later(self) -> Outcome | None:
        """Return when to look again for what may still appear, or None after the last look-up."""
        preflight, row = self._settings.preflight, self._row
        assert preflight is not None
        since = row.in_doubt_since or row.first_attempt_at or self._now()
        wait_s = preflight.settle_s - (self._now() - since).total_seconds()
        waiting = Outcome(meaning="unknown", reason="the target does not show it yet", in_doubt=True, maybe_delivered=True, wait_s=wait_s)
        if wait_s > 0:
            return waiting
        if row.lookup_attempts + 1 < preflight.attempts:
            return replace(waiting, looked=True, wait_s=preflight.settle_s / preflight.attempts)
        return None

    def _surely_not_there(self) -> Outcome:
        if self._row.ambiguous_failures >= MOST_500:
            return Outcome(meaning="refused", reason=f"the target fails on this order ({MOST_500} times 500)", cleared=True)
        return Outcome(meaning="retry", reason="it was not taken: the target does not have it", cleared=True, wait_s=0.0)

    # --- what follows

    async def _follow(self, number: int, item: int) -> Outcome:
        """Take the steps from one on; each is durable before the next begins."""
        steps = self._settings.steps
        if self._settings.lookups:
            await self._look_up()
        for n in range(number, len(steps) + 1):
            step = steps[n - 1]
            context = {**self._context_of_order(), "captured": self._captured()}
            items = self._items(step, context)
            for k in range(item, len(items)):
                request = self._with_key(self._rendered(step, {**context, "item": items[k]}, f"step {step.name}"), n, k)
                if not self._keyed:
                    await self._journal.start_request(None)
                outcome = await self._exchange(request, step)
                if outcome.meaning not in ("delivered", "duplicate"):
                    return replace(outcome, reason=f"step {step.name}: {outcome.reason}")
                if n == len(steps) and k == len(items) - 1:
                    break  # stored with the outcome of the row
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
        """Give each request its own key under `header`, the same on every repeat."""
        if not self._keyed:
            return request
        name, key = self._settings.idempotency.header, key_in_format(f"{self._row.key}#{step}.{item}", self._settings.idempotency)
        return replace(request, headers={name: key, **request.headers})

    def _delivered(self) -> Outcome:
        return Outcome(meaning="delivered", reason="taken", erp_id=self._erp_id, erp_number=self._erp_number)
