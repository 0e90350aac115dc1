"""Connections of one listener, with fair limits for senders that have proven nothing.

No address gets more than its part of the connections. If there are too many, one of the address that has most makes room, idle
ones first. All unfinished requests together stay within a limit: the largest of the address that sent most is cut off. An answer
that is not read ends its connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from aiohttp import web
from msgspec import Struct

if TYPE_CHECKING:
    from gateway.edge.server import QuietHandler

State = Literal["idle", "paused", "reading", "waiting", "answering"]
"""`idle`: no request in progress. `paused`: refused, and made to wait. `waiting`: to be verified. `answering`: never cut off."""

_RESTED_S = 1.0

Count = Callable[[Literal["address_connections", "connections", "made_room", "unfinished_bodies", "unread_answers"]], None]


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of one listener. `per_address` does not hold for a trusted proxy, nor on a Unix socket."""

    connections: int
    per_address: int
    unfinished_bytes: int
    write_timeout_s: float


class Connection:
    """Connection with its state, and the bytes that it has sent.

    Attributes:
        named: Sender that a trusted proxy names in the current or the last request.
        held: Bytes that have come and belong to no finished request.
        since: Time at which it entered its state.
        cut: It was cut off to make room.
    """

    def __init__(self, connections: Connections, handler: QuietHandler, transport: asyncio.Transport, peer: str, *, is_proxy: bool) -> None:
        self._connections = connections
        self._handler = handler
        self.transport = transport
        self.peer = peer
        self.is_proxy = is_proxy
        self.named: str | None = None
        self.state: State = "idle"
        self.since = connections.now()
        self.pending_bytes = 0
        self.cut = False
        self._counts = True
        self._scope: asyncio.Timeout | None = None
        self._blocked_since: float | None = None

    def enter(self, state: State, scope: asyncio.Timeout | None = None) -> None:
        """Enter a state. `scope` ends the reading of a body early."""
        self.state, self.since, self._scope = state, self._connections.now(), scope

    def begin_request(self) -> None:
        self._counts = True
        self.enter("answering")

    def finish_request(self, *, has_more: bool) -> None:
        """Note that the request is answered. The rest of its body (`has_more`) is thrown away, and does not count."""
        self.enter("idle")
        self._counts = not has_more
        self._set_pending(sum(getattr(body, "_size", 0) for _, body in self._handler._messages))

    def received(self, size: int) -> None:
        if self._counts:
            self._set_pending(self.pending_bytes + size)
            self._connections.shed()

    def cut_off(self) -> None:
        """Answer a body that is being read with 503; abort the connection in any other state."""
        self.cut = True
        self._set_pending(0)
        scope, self._scope = self._scope, None
        if scope is None or scope.expired():
            self.transport.abort()
        else:
            self._handler._lingering_time = 0.0
            scope.reschedule(self._connections.now())

    def is_unread(self, for_s: float) -> bool:
        """Return True if an answer has been unread for `for_s`. Call it once a second."""
        if not self.transport.get_write_buffer_size():
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._connections.now()
        return self._blocked_since is not None and self._connections.now() - self._blocked_since >= for_s

    @property
    def sender(self) -> str:
        """Address that the bytes count for."""
        return self.named or self.peer

    @property
    def may_be_cut(self) -> bool:
        """True if no request that was proven is lost with the connection."""
        return not self.cut and (self.state != "answering" or self._blocked_since is not None)

    @property
    def is_idle(self) -> bool:
        """True if no request is in progress or buffered."""
        return self.state == "idle" and not self._handler._messages

    def _set_pending(self, size: int) -> None:
        size = 0 if self.cut else size
        self._connections.pending_bytes += size - self.pending_bytes
        self.pending_bytes = size


class Connections:
    """All connections of one listener."""

    def __init__(self, limits: Limits, count: Count) -> None:
        self.limits = limits
        self.pending_bytes = 0
        self.now = asyncio.get_running_loop().time
        self._count = count
        self._open: dict[Connection, None] = {}
        self._of_peer: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def has_room(self, peer: str, *, is_proxy: bool) -> bool:
        """Return True if one more may come from `peer`; if that is fair, another connection is closed for it."""
        limits = self.limits
        if peer and not is_proxy and self._of_peer[peer] >= limits.per_address:
            self._count("address_connections")
            rested = self.now() - _RESTED_S  # a flood of its own does not get a place for each try
            return self._make_room(
                [connection for connection in self._open if connection.peer == peer and connection.is_idle and connection.since <= rested]
            )
        if len(self._open) < limits.connections:
            return True
        most = 0 if is_proxy else self._of_peer[peer]
        fair = [
            connection
            for connection in self._open
            if self._of_peer[connection.peer] >= most and (connection.is_idle if connection.is_proxy else connection.may_be_cut)
        ]
        if self._make_room(fair):
            self._count("made_room")
            return True
        self._count("connections")
        return False

    def join(self, connection: Connection) -> None:
        self._open[connection] = None
        self._of_peer[connection.peer] += 1

    def leave(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._of_peer[connection.peer] -= 1
            if not self._of_peer[connection.peer]:
                del self._of_peer[connection.peer]
            connection.cut = True
            connection._set_pending(0)

    def shed(self) -> None:
        """Cut off the largest unfinished requests until all together are within the limit."""
        while self.pending_bytes > self.limits.unfinished_bytes:
            sent: Counter[str] = Counter()
            for connection in self._open:
                sent[connection.sender] += connection.pending_bytes
            largest = max(
                (connection for connection in self._open if connection.pending_bytes and connection.may_be_cut),
                key=lambda connection: (sent[connection.sender], connection.pending_bytes, -connection.since),
                default=None,
            )
            if largest is None:
                return
            self._count("unfinished_bodies")
            largest.cut_off()

    def drop_unread(self) -> None:
        """Abort connections whose answers are not read. Call it once a second."""
        for connection in [connection for connection in self._open if connection.is_unread(self.limits.write_timeout_s)]:
            self._count("unread_answers")
            connection.transport.abort()

    def _make_room(self, candidates: list[Connection]) -> bool:
        """Abort one: rather not a proxy's, then of the address that has most, then idle, then for the longest time."""
        if not candidates:
            return False
        first = max(
            candidates,
            key=lambda connection: (not connection.is_proxy, self._of_peer[connection.peer], connection.is_idle, -connection.since),
        )
        self.leave(first)
        first.transport.abort()
        return True


def connection_of(request: web.BaseRequest) -> Connection | None:
    """Return the connection of a request; None if it is gone or is not one of a `Listener`."""
    return getattr(request.protocol, "connection", None)
