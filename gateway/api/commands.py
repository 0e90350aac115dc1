"""Commands: requests of the supplier's systems to a vendor, as a connector describes and receives them.

accepted -> ready -> leased -> done | dead | held          (refused: dead; a person decides: held)
            leased -> unknown -> done | ready | held       (in doubt: looked up before it is sent again)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from gateway.api.messages import Event


class Submission(Struct, frozen=True, kw_only=True):
    """Submitted command, as a connector sends it.

    Attributes:
        id: The gateway's id, the same for every attempt; usable as an idempotency key at the vendor.
        body: The caller's body, decoded as the command's `body`.
        accepted_at: Time of the commit, UTC.
        repeated: True if an earlier attempt may have reached the vendor, and a refusal may be due to it.
    """

    id: str
    command: str
    body: Any
    accepted_at: datetime
    repeated: bool = False


class Codes(Struct, frozen=True, kw_only=True):
    """Codes of an order to print: `pickup` as a QR code for the customer, `storage` as a DataMatrix on the label with the order's `number`.

    Both open a pickup machine, so no log, page or error may hold them.
    """

    number: str
    pickup: str | None = None
    storage: str | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """The vendor's answer to a command.

    Attributes:
        answer: JSON, as it came; None if there is none.
        codes: The codes of a created order.
        events: Events of orders for the ERP that follow from the answer; accepted in the same transaction as the answer.
    """

    answer: bytes | None = None
    codes: Codes | None = None
    events: Sequence[Event] = ()


class Command(Struct, frozen=True, kw_only=True):
    """Command of a vendor, submitted by `POST /out/{source}/{command}`.

    Attributes:
        title: One sentence for people and for the OpenAPI document.
        body: The Struct that a caller's JSON is checked against, with the vendor's field names; its docstring describes it.
        needs: Settings without which the command does not exist.
        check: Checks what types cannot: yields a path as in `$.articles[0].interval` and a problem, for every problem. Pure; takes the
            body, the settings and the current time, UTC.
        subject: Returns the vendor's number of the order, or other thing, that the command is about. Commands of one subject are sent
            one after the other, oldest first.
        unique: True if a subject can have one such command only: another one conflicts, unless the first was refused or dropped.
        repeatable: Returns, from the settings, whether sending twice does no harm: a command in doubt is then sent again.
        look_up: Finds the result of an attempt in doubt: returns what `submit` would have returned, or None if the vendor certainly has
            nothing of it. Raises as `submit` does; the result is then still in doubt. Without it, and if not `repeatable`, a command in
            doubt is held for a person.
    """

    title: str
    body: type[Struct]
    needs: Sequence[str] = ()
    check: Callable[[Any, Any, datetime], Iterable[tuple[str, str]]] | None = None
    subject: Callable[[Any], str] | None = None
    unique: bool = False
    repeatable: Callable[[Any], bool] | None = None
    look_up: Callable[..., Awaitable[Submitted | None]] | None = None
