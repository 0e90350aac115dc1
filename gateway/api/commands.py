"""The way back: what the supplier's side says to a vendor, as a connector describes it and as the core hands it over.

accepted -> ready -> leased -> done | dead | held          (refused: dead; a person decides: held)
            leased -> unknown -> done | ready | held       (nobody knows whether it was done: looked up before it is sent again)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from gateway.api.messages import Event


class Submission(Struct, frozen=True, kw_only=True):
    """One command on its way to the vendor.

    Attributes:
        id: Ours; the same for every attempt, for a vendor that takes an idempotency key.
        body: Decoded as the command's `body`, as the caller sent it.
        accepted_at: When it was committed, UTC.
        repeated: An attempt before this one may have reached the vendor: what refuses it may be what that one did.
    """

    id: str
    command: str
    body: Any
    accepted_at: datetime
    repeated: bool = False


class Codes(Struct, frozen=True, kw_only=True):
    """What is printed of an order: `pickup` as a QR code for whoever collects it, `storage` as a DataMatrix on the label under the
    order's `number`. Both open a machine to whoever holds them, so no log, page or error names them."""

    number: str
    pickup: str | None = None
    storage: str | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """What the vendor said to a command.

    Attributes:
        answer: Its answer, JSON, as it came; None where it has none.
        codes: Those of an order that was created.
        events: What follows from it for the orders that flow to the ERP: accepted in the transaction that notes the answer.
    """

    answer: bytes | None = None
    codes: Codes | None = None
    events: Sequence[Event] = ()


class Command(Struct, frozen=True, kw_only=True):
    """One thing that can be said to the vendor: `POST /out/{source}/{command}`.

    Attributes:
        title: One sentence for people and for the OpenAPI document.
        body: The Struct that a caller's JSON is checked against, under the vendor's own field names; its docstring describes it.
        needs: Settings without which the command is not there.
        check: What types cannot say: yields a path as in `$.articles[0].interval` and a problem, for all there are. Pure; given the
            body, the settings and the time of now, UTC.
        subject: The number of what it is about at the vendor. Commands of one subject go one after the other, oldest first.
        unique: There can be one such thing for a subject: another submission that has not been refused or dropped is a conflict.
        repeatable: Whether doing it twice does no harm, from the settings: what is unknown is then sent again.
        look_up: Finds out what became of an attempt of which nobody knows the end: what `submit` would have returned, or None where
            the vendor surely has nothing of it. Raises as `submit` does, and then nothing is known still. Without it, and where it is
            not `repeatable`, what is unknown waits for a person.
    """

    title: str
    body: type[Struct]
    needs: Sequence[str] = ()
    check: Callable[[Any, Any, datetime], Iterable[tuple[str, str]]] | None = None
    subject: Callable[[Any], str] | None = None
    unique: bool = False
    repeatable: Callable[[Any], bool] | None = None
    look_up: Callable[..., Awaitable[Submitted | None]] | None = None
