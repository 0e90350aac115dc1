"""Results of attempts, as every store takes them. Text from outside is made storable here, for all stores."""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import force_setattr

from gateway.store.row_names import Status

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Replace what no UTF-8 column can hold, half a surrogate pair and NUL, by U+FFFD.

    An ERP that cuts its words by the length of UTF-16 sends half a pair as valid JSON, and no UTF-8 can hold it.
    """
    return _UNSTORABLE.sub("\ufffd", text)


class _Storable(Struct, frozen=True, kw_only=True):
    """Base of structs whose texts can all be stored."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            text = getattr(self, name)
            if isinstance(text, str) and _UNSTORABLE.search(text):
                force_setattr(self, name, storable(text))


class Progress(_Storable, frozen=True, kw_only=True):
    """Progress of an order that takes several requests; see `OutboxRow`."""

    step: int
    item: int = 0
    erp_id: str | None = None
    erp_number: str | None = None


class Settlement(_Storable, frozen=True, kw_only=True):
    """Result of an attempt, for any queue.

    Attributes:
        status: Where the row goes.
        outcome: One word for logs, metrics and operators: `delivered`, `duplicate`, `retry` ...
        due_in_s: For `ready`, seconds from now.
        counts: False gives the attempt back (rate limited, cut short by a shutdown).
        maybe_delivered: The other side may have it; the row keeps this until `cleared`.
        cleared: It is certain that the last request was not done.
        looked: A look-up did not find it; counted.
        ambiguous_failure: An answer that is believed a few times only; counted.
        erp_id, erp_number: What the target calls the order.
        detail: What the other side said, bounded, for the operator.
    """

    status: Status
    outcome: str
    reason: str | None = None
    due_in_s: float = 0.0
    counts: bool = True
    maybe_delivered: bool = False
    cleared: bool = False
    looked: bool = False
    ambiguous_failure: bool = False
    erp_id: str | None = None
    erp_number: str | None = None
    http_status: int | None = None
    detail: str | None = None
    started_at_ms: int = 0
    duration_ms: int = 0
