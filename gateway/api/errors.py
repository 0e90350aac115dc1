"""Errors that the gateway raises on purpose, one class for each thing that the core does next.

    GatewayError
    ├── ConfigError        start-up stops, exit code 2
    ├── TransientError     again later; honours retry_after_s
    │   ├── RateLimited    again later, and does not cost an attempt
    │   └── TimedOut       nothing came in time
    ├── PermanentError     no further attempt: a dead letter
    │   ├── Rejected       refused, with a reason for the sender
    │   └── MappingError   an operator's mapping does not fit the vendor's document
    ├── AuthError          that side pauses, its rows wait
    ├── UnknownKey         a webhook is signed with a key that the gateway does not have
    ├── Hold               a person decides: the row is held
    ├── Ignore             nothing goes out: the row is done
    ├── PluginError        a connector broke its contract: a dead letter with a traceback
    ├── LeaseLost          drop the result: the row is no longer this worker's
    ├── Outdated           prepare the message again: its input has changed meanwhile
    └── StoreError
        ├── StoreBusy      the store commits nothing now (disk full, closing): 503 to senders
        └── StoreFailed    the database file is damaged or unreadable: the process stops

Any other exception of a hook counts as `PluginError`, any other exception in the core as transient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.api.order import Order

_REASON_LIMIT = 1000
_QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)  # greedy: what is quoted may hold quotes


class GatewayError(Exception):
    """Base class of all errors above."""


class ConfigError(GatewayError):
    """The configuration cannot be used.

    Attributes:
        problems: Every reason, one line each.
        warnings: Doubtful settings, one line each.
    """

    def __init__(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


class TransientError(GatewayError):
    """Temporary failure; the core tries again later.

    Attributes:
        retry_after_s: Seconds that the other side asked to wait at least, else None.
        undone: True if the other side certainly did nothing: the request did not reach it, or it says so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, undone: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.undone = undone


class RateLimited(TransientError):
    """Refusal because of too many requests; nothing was done, and waiting costs no attempt."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s, undone=True)


class TimedOut(TransientError):
    """No answer in time to a request that was sent. For a call that the vendor holds open: no news."""


class PermanentError(GatewayError):
    """Failure that no retry can mend; the row becomes a dead letter until an operator replays it."""


class Rejected(PermanentError):
    """Refusal with a reason for the sender, often a customer (422)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MappingError(PermanentError, ValueError):
    """A mapping makes no order of a document; `problems` has every reason with its path, one line each, without values."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class AuthError(GatewayError):
    """The other side refuses the gateway's credentials; the core pauses this side.

    Attributes:
        refused: True if the answer is about the credentials; False for an answer that is not, as from a wrong address.
    """

    def __init__(self, message: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.refused = refused


class UnknownKey(GatewayError):
    """A webhook's token is signed with a key that is not in `keys`, and is otherwise good so far.

    `verify` raises it: the core fetches the keys again, unless it has just done so, and calls `verify` once more.
    """


class Hold(GatewayError):
    """A person must decide; the row is held.

    Attributes:
        reason: What the clerk has to decide, in a sentence.
        order: The order that is sent if the clerk releases the row. Without it, `normalize` is called again after the release.
        revision: True if the row waits because it is a revision. It then waits only where the source's `on_revision` is `hold`; elsewhere
            `order` is sent.
    """

    def __init__(self, reason: str, *, order: Order | None = None, revision: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.order = order
        self.revision = revision
        self.detail: str | None = None  # what differs from the previous order, for the clerk; the core sets it


class Ignore(GatewayError):
    """Nothing is sent for this event; its row is kept, and is done.

    Attributes:
        reason: Why, in a sentence.
        flag: True if a person should look at it, as at an unknown state: outcome `flagged` and a warning. Else the outcome is `ignored`.
    """

    def __init__(self, reason: str, *, flag: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.flag = flag


class PluginError(GatewayError):
    """A connector raised, or returned, something that its hook may not."""


class LeaseLost(GatewayError):
    """Another worker has the row, or it has ended, since it was leased; the late result is dropped."""


class Outdated(GatewayError):
    """The input of a prepared message has changed meanwhile; the message is prepared again."""


class StoreError(GatewayError):
    """A transaction of the store failed."""


class StoreBusy(StoreError):
    """The disk is full or the store is closing: nothing was committed, nothing is damaged. Try again later."""

    def __init__(self, message: str, *, retry_after_s: float = 30.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreFailed(StoreError):
    """The database file cannot be trusted any more (I/O error, corruption, read-only): stop, do not try again."""


def without_input(error: Exception) -> str:
    """Return the text of a ValueError without its quotations: they are pieces of an order, and pages show the text."""
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start}"
    return bounded(_QUOTED.sub("…", _text(error)))


def bounded(value: object) -> str:
    """Return `str(value)`, cut to 1000 characters, as text that UTF-8 can encode."""
    return _text(value)[:_REASON_LIMIT].encode("utf-8", "backslashreplace").decode()


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return type(value).__name__
