"""Backoff between two connections to a hub, by the cause that ended the last. Pure but for the dice.

The count of tries starts over only after a connection has lasted, so that a hub that accepts and then closes is not hammered.
There is no last try.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal

from gateway.api.subscription import Reconnect
from gateway.retry import capped_retry_after_s

Cause = Literal[
    "unreachable",  # nothing there: no name, no route, refused
    "untrusted",  # its certificate is not accepted
    "no_answer",  # not online within the deadline, or the answer broke off
    "credential",  # 401, 403
    "not_found",  # 404: an unknown connection id, or a wrong address
    "refused",  # any other status; 429 and 503 may say when to come again
    "not_a_hub",  # an unexpected answer, a refused negotiation or handshake: the configuration is wrong
    "closed",  # a close frame, or a Close message with allowReconnect=true
    "close_no_reconnect",  # a Close message without it
    "broken",  # the end without a close frame, a reset
    "silent",  # nothing heard for the server timeout
    "protocol",  # too many bad records, or one that is too long
    "connector",  # `subscribe` failed
    "internal",  # a mistake of ours
]
_AT_THE_CAP: frozenset[Cause] = frozenset({"credential", "not_a_hub", "connector"})
_MOST_STEPS = 1000


class Disconnected(Exception):
    """End of a connection, or of a try to connect.

    Attributes:
        reason: Text for operators: no address, no credential, nothing of what was sent.
        retry_after_s: Wait that the hub asks for.
    """

    def __init__(self, cause: Cause, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{cause}: {reason}")
        self.cause: Cause = cause
        self.reason = reason
        self.retry_after_s = retry_after_s

    def without(self, secrets: Iterable[str]) -> Disconnected:
        """Return a copy with every secret masked, since the hub's own text may repeat it."""
        reason = self.reason
        for secret in filter(None, secrets):
            reason = reason.replace(secret, "***")
        return Disconnected(self.cause, reason, retry_after_s=self.retry_after_s)


class Backoff:
    """Counter of tries, without a clock.

    Args:
        least_s: Shortest wait.
        no_reconnect_s: Shortest wait after `close_no_reconnect`.
        stable_s: Time online after which the count starts over.
    """

    def __init__(
        self,
        *,
        least_s: float = 0.5,
        no_reconnect_s: float = 30.0,
        stable_s: float = 30.0,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._least_s = least_s
        self._no_reconnect_s = no_reconnect_s
        self._stable_s = stable_s
        self._dice = dice
        self._steps = 0

    def after(self, ended: Disconnected, online_s: float, reconnect: Reconnect) -> float:
        """Return the seconds until the next try. `online_s` is 0 if the connection never was online."""
        if online_s >= self._stable_s:
            self._steps = 0
        near_the_cap = ended.cause in _AT_THE_CAP
        wait_s = reconnect.cap_s * (0.5 + self._dice() / 2) if near_the_cap else self._ceiling_s(reconnect) * self._dice()
        self._steps = min(self._steps + 1, _MOST_STEPS)
        if ended.cause == "close_no_reconnect":
            wait_s = max(wait_s, self._no_reconnect_s)
        return max(wait_s, self._least_s, capped_retry_after_s(ended.retry_after_s, reconnect.cap_s))

    def _ceiling_s(self, reconnect: Reconnect) -> float:
        try:
            return min(reconnect.cap_s, reconnect.base_s * reconnect.factor**self._steps)
        except OverflowError:
            return reconnect.cap_s
