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

    `header`: the ERP recognises a repeated header. `client_key`, `upsert`: it refuses, or overwrites, the second order with a
    key of ours in it. `lookup`: it recognises nothing and is asked before each try. `none`: it cannot even be asked; what is
    unclear waits for a person.
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
        id, number: What the ERP calls it. A list of several ids says that it has the order more than once.
        complete: Whether all of it is there; not given: what is found is whole.
        absent: Statuses that mean "not there", beside a 2xx of which `found` is false.
        per: Whether it looks for the order, or for one message of it: what is found for a change of an order is then the change.
        settle_s: How long the ERP may still be working on a request that nobody answered; "not there" counts after that.
        attempts: How often it must not be found then, until it is surely not there.
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
        for_each: A list, of the context; the request is made for each `item` of it. Not given: once.
        if_: The step is taken only where this is true.
        repeat: Asking twice does no harm, so that an unclear one is simply asked again.
        done: How many of this step's requests the ERP has carried out, or true for all, of the look-up's answer.
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
