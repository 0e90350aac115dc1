"""Configuration of a delivery's course: idempotency, preflight, steps, classify, capture (erp_targets.md 4.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.targets.expressions import Jsonata
from gateway.targets.request_settings import Method, RequestTable, Table

Class = Literal["success", "duplicate", "refused", "retry", "throttled", "auth", "unknown"]
Strategy = Literal["header", "lookup", "client_key", "upsert", "none"]

_RANGE = re.compile(r"([1-9][0-9]{2})-([1-9][0-9]{2})\Z")


class Idempotency(Table, frozen=True, kw_only=True):
    """Protection against a second order.

    `header`: the ERP recognises a repeated header. `client_key`, `upsert`: it refuses, or overwrites, a second order with our key.
    `lookup`: it recognises nothing and is asked before each try. `none`: it cannot even be asked; an order in doubt waits for a person.
    """

    strategy: Strategy = "header"
    header: Annotated[str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")] = "Idempotency-Key"
    format: Literal["plain", "uuid5", "hex32"] = "plain"

    @property
    def honoured(self) -> bool:
        """Return whether the same request, sent twice, makes one order."""
        return self.strategy in ("header", "client_key", "upsert")


class Preflight(RequestTable, frozen=True, kw_only=True):
    """Look-up that tells whether the ERP has an order.

    Attributes:
        found: True or false, of the answer.
        id, number: The ERP's names of the order. A list of several ids: the order exists more than once.
        complete: True where the whole order is there; without it, an order that is found is whole.
        absent: Statuses that mean "not there", beside a 2xx of which `found` is false.
        per: Subject of the look-up: the order, or one message of it, such as a change.
        settle_s: How long the ERP may still work on an unanswered request; "not there" counts after that.
        attempts: How many look-ups must miss the order then, until it is certainly absent.
    """

    found: Jsonata
    id: Jsonata | None = None
    number: Jsonata | None = None
    complete: Jsonata | None = None
    absent: tuple[int, ...] = ()
    per: Literal["order", "message"] = "order"
    settle_s: Annotated[float, Meta(gt=0, le=86400)] = 120.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 5


class Step(RequestTable, frozen=True, kw_only=True):
    """Further request once the order exists.

    Attributes:
        for_each: List over the context; one request for each `item`. Without it: one request.
        if_: Take the step only where this is true.
        repeat: A second request does no harm, so one in doubt is repeated.
        done: Over the preflight's answer: the number of this step's requests that the ERP has carried out, or true for all.
    """

    method: Method = "POST"
    name: Annotated[str, Meta(min_length=1, max_length=60)]
    for_each: Jsonata | None = None
    if_: Jsonata | None = msgspec.field(default=None, name="if")
    repeat: bool = False
    done: Jsonata | None = None


class Rule(Table, frozen=True, kw_only=True):
    """Meaning of an answer, tried before the defaults; all given conditions must hold."""

    class_: Class = msgspec.field(name="class")
    status: int | str | tuple[int | str, ...] | None = None
    header: dict[str, str] = {}
    where: Jsonata | None = None
    message: Jsonata | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        if self.status is None and not self.header and self.where is None:
            yield "", "says nothing of the answer, so it would take every one; give it status, header or where"
        for one in self._statuses():
            found = _RANGE.match(one) if isinstance(one, str) else None
            if not (isinstance(one, int) and 100 <= one <= 999) and not (found and found[1] <= found[2]):
                yield "status", 'must be numbers such as 500 and ranges such as "500-599"'

    def _statuses(self) -> tuple[int | str, ...]:
        return self.status if isinstance(self.status, tuple) else () if self.status is None else (self.status,)

    def has_status(self, status: int) -> bool:
        """Return whether the rule applies to this status."""
        for one in self._statuses():
            low, _, high = str(one).partition("-")
            if int(low) <= status <= int(high or low):
                return True
        return self.status is None


class FromHeader(Table, frozen=True, kw_only=True):
    """Part of a header: the text from `after` to `before`, or to the end; `Location: .../orders(42)`."""

    header: str
    after: str = ""
    before: str = ""


class Capture(Table, frozen=True, kw_only=True):
    """Values to keep from the answer. `"bare"` is the whole body, as in `42`."""

    erp_id: Jsonata | FromHeader | None = None
    erp_number: Jsonata | FromHeader | None = None
    message: Jsonata | None = None


def policy_problems(idempotency: Idempotency, preflight: Preflight | None, steps: Sequence[Step]) -> Iterable[tuple[str, str]]:
    """Yield contradictions between the tables, as pairs of key and text."""
    if idempotency.strategy == "lookup" and preflight is None:
        yield "idempotency", 'strategy "lookup" needs a table preflight beside it, which says how the ERP is asked for an order'
    names = [step.name for step in steps]
    for name in {name for name in names if names.count(name) > 1}:
        yield "steps", f"{name} stands twice; give each step a name of its own"
    if preflight is None and any(step.done is not None for step in steps):
        yield "steps", "`done` reads the answer of the preflight, and there is none"
