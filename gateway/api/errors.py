"""Every error the gateway raises on purpose, cut by what the core does next.

    GatewayError
    ├── ConfigError        start-up stops, exit code 2
    ├── TransientError     again later; honours retry_after_s
    │   ├── RateLimited    again later, and does not cost an attempt
    │   └── TimedOut       nothing came in time
    ├── PermanentError     never again: a dead letter
    │   ├── Rejected       refused, with a reason the sender is meant to read
    │   └── MappingError   an operator's mapping does not fit the vendor's document
    ├── AuthError          that side pauses, its rows wait
    ├── UnknownKey         a webhook is signed with a key that we do not have
    ├── Hold               a person decides: the row is held
    ├── Ignore             nothing goes out: the row is done
    ├── PluginError        a connector broke its contract: a dead letter with a traceback
    ├── LeaseLost          drop the result: the row is no longer this worker's
    ├── Outdated           make it anew: what the result was made of has changed meanwhile
    └── StoreError
        ├── StoreBusy      the store takes nothing now (disk full, closing): 503 to senders
        └── StoreFailed    the store can no longer be trusted: the process stops

Anything else that a hook raises counts as `PluginError`, anything else that the core meets as transient.
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
    """The root of the tree above."""


class ConfigError(GatewayError):
    """The configuration cannot be used; `problems` names every reason, one line each, `warnings` what is doubtful beside them."""

    def __init__(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


class TransientError(GatewayError):
    """It may work later.

    Attributes:
        retry_after_s: The other side asked for at least this many seconds of quiet, else None.
        undone: It is certain that the other side did nothing: it was never reached, or says so.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, undone: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.undone = undone


class RateLimited(TransientError):
    """The other side said "not so fast", and did nothing; waiting costs no attempt."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s, undone=True)


class TimedOut(TransientError):
    """The request was sent, and nothing came back in time: of a call that is held open, no news."""


class PermanentError(GatewayError):
    """It will never work as it is; the row becomes a dead letter until a person replays it."""


class Rejected(PermanentError):
    """Refused for a reason that the sender, often a customer, is meant to read (answered 422)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MappingError(PermanentError, ValueError):
    """A mapping makes nothing usable of a document; `problems` names every reason by its path, one line each, without values."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class AuthError(GatewayError):
    """The other side does not let us in; trying again at once cannot help.

    Attributes:
        refused: It has looked at our credentials. False: we got no answer that speaks of them, as from a wrong address.
    """

    def __init__(self, message: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.refused = refused


class UnknownKey(GatewayError):
    """`keys` does not hold the key that a webhook's token is signed with; nothing else was found wrong with it so far.

    Raised by `verify`: the keys are fetched anew, unless that was done just now, and `verify` is asked once more.
    """


class Hold(GatewayError):
    """No machine should decide this.

    Attributes:
        reason: What the clerk has to decide, in a sentence.
        order: What goes out if the clerk releases the row. Without it, `normalize` is asked again after the release.
        revision: It waits because it is a revision, so only where the source's `on_revision` is `hold`; elsewhere `order` goes.
    """

    def __init__(self, reason: str, *, order: Order | None = None, revision: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.order = order
        self.revision = revision
        self.detail: str | None = None  # what differs from the order before, for the clerk; the core's to fill


class Ignore(GatewayError):
    """Nothing goes out for this event; it is kept, and done.

    Attributes:
        reason: Why, in a sentence.
        flag: A person should have a look: an unknown state, for instance. Outcome `flagged` and a warning, else `ignored`.
    """

    def __init__(self, reason: str, *, flag: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.flag = flag


class PluginError(GatewayError):
    """A connector raised something it should not have, or returned what its hook may not return."""


class LeaseLost(GatewayError):
    """The row was settled, handed back or taken over since it was leased; the late result is dropped."""


class Outdated(GatewayError):
    """What a result was made of has changed meanwhile: it is made anew."""


class StoreError(GatewayError):
    """The store could not do what it was asked."""


class StoreBusy(StoreError):
    """Nothing was committed and nothing is broken: the disk is full or the store is closing. Try again later."""

    def __init__(self, message: str, *, retry_after_s: float = 30.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreFailed(StoreError):
    """The file cannot be trusted any more (I/O error, corruption, read-only): stop, do not try again."""


def without_input(error: Exception) -> str:
    """What a ValueError says, but for what it quotes: that is a piece of an order, and a reason is shown on pages."""
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start}"
    return bounded(_QUOTED.sub("…", _text(error)))


def bounded(said: object) -> str:
    """Bounded text that UTF-8 can carry."""
    return _text(said)[:_REASON_LIMIT].encode("utf-8", "backslashreplace").decode()


def _text(said: object) -> str:
    try:
        return str(said)
    except Exception:
        return type(said).__name__
