"""The connections of one listener: who may have one, who has to go, and how much they may send before anything of it is proven.

A stranger pays nothing for a connection. So no address gets more than its part of them; where there are too many, one of the
address that has most makes room, idle ones first; what has come of all unfinished requests together stays within bounds, where
the largest of the address that sent most has to go; and an answer that is not read ends its connection.
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
"""`idle`: no request in progress. `paused`: refused, and made to wait. `waiting`: to be looked at. `answering`: nobody ends it."""

_RESTED_S = 1.0

Told = Callable[[Literal["address_connections", "connections", "made_room", "unfinished_bodies", "unread_answers"]], None]


class Limits(Struct, frozen=True, kw_only=True):
    """Of one listener. `per_address` does not hold for a trusted proxy, nor on a Unix socket."""

    connections: int
    per_address: int
    unfinished_bytes: int
    write_timeout_s: float


class Seat:
    """One connection.

    Attributes:
        named: For whom a trusted proxy asks in the request in progress, or in the last one.
        held: Bytes that have come and belong to no finished request.
        since: When it came into its state.
    """

    __slots__ = (
        "_blocked_since",
        "_counts",
        "_crowd",
        "_handler",
        "_scope",
        "cut",
        "held",
        "is_proxy",
        "named",
        "peer",
        "since",
        "state",
        "transport",
    )

    def __init__(self, crowd: Crowd, handler: QuietHandler, transport: asyncio.Transport, peer: str, *, is_proxy: bool) -> None:
        self._crowd = crowd
        self._handler = handler
        self.transport = transport
        self.peer = peer
        self.is_proxy = is_proxy
        self.named: str | None = None
        self.state: State = "idle"
        self.since = crowd.now()
        self.held = 0
        self.cut = False
        self._counts = True
        self._scope: asyncio.Timeout | None = None
        self._blocked_since: float | None = None

    def turn(self, state: State, scope: asyncio.Timeout | None = None) -> None:
        """Come into a state. `scope`: what ends the reading of a body early."""
        self.state, self.since, self._scope = state, self._crowd.now(), scope

    def begin(self) -> None:
        """A request is in progress."""
        self._counts = True
        self.turn("answering")

    def finish(self, *, has_more: bool) -> None:
        """It is answered. What still comes of it (`has_more`) is thrown away, and counts no more."""
        self.turn("idle")
        self._counts = not has_more
        self._hold(sum(getattr(body, "_size", 0) for _, body in self._handler._messages))

    def take(self, size: int) -> None:
        """So many bytes have come."""
        if self._counts:
            self._hold(self.held + size)
            self._crowd.keep_within()

    def end(self) -> None:
        """Stop it: a body that is being read is answered 503, anything else is cut off."""
        self.cut = True
        self._hold(0)
        scope, self._scope = self._scope, None
        if scope is None or scope.expired():
            self.transport.abort()
        else:
            self._handler._lingering_time = 0.0
            scope.reschedule(self._crowd.now())

    def is_unread(self, for_s: float) -> bool:
        """Whether an answer lies here unread for so long. To be asked once a second."""
        if not self.transport.get_write_buffer_size():
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = self._crowd.now()
        return self._blocked_since is not None and self._crowd.now() - self._blocked_since >= for_s

    @property
    def sender(self) -> str:
        """Whose bytes these are."""
        return self.named or self.peer

    @property
    def may_end(self) -> bool:
        """Whether nothing that was proven is lost with it."""
        return not self.cut and (self.state != "answering" or self._blocked_since is not None)

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is here."""
        return self.state == "idle" and not self._handler._messages

    def _hold(self, size: int) -> None:
        size = 0 if self.cut else size
        self._crowd.held += size - self.held
        self.held = size


class Crowd:
    """All connections of one listener."""

    def __init__(self, limits: Limits, told: Told) -> None:
        self.limits = limits
        self.held = 0
        self.now = asyncio.get_running_loop().time
        self._told = told
        self._seats: dict[Seat, None] = {}
        self._of_peer: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._seats)

    def has_room(self, peer: str, *, is_proxy: bool) -> bool:
        """Whether one more may come from there; an idle one has to go for it where that is fair."""
        limits = self.limits
        if peer and not is_proxy and self._of_peer[peer] >= limits.per_address:
            self._told("address_connections")
            rested = self.now() - _RESTED_S  # a flood of its own does not get a place for each try
            return self._make_room([seat for seat in self._seats if seat.peer == peer and seat.is_idle and seat.since <= rested])
        if len(self._seats) < limits.connections:
            return True
        most = 0 if is_proxy else self._of_peer[peer]
        fair = [seat for seat in self._seats if self._of_peer[seat.peer] >= most and (seat.is_idle if seat.is_proxy else seat.may_end)]
        if self._make_room(fair):
            self._told("made_room")
            return True
        self._told("connections")
        return False

    def join(self, seat: Seat) -> None:
        """It is connected."""
        self._seats[seat] = None
        self._of_peer[seat.peer] += 1

    def leave(self, seat: Seat) -> None:
        """It is not any more, or will not be in a moment."""
        if seat in self._seats:
            del self._seats[seat]
            self._of_peer[seat.peer] -= 1
            if not self._of_peer[seat.peer]:
                del self._of_peer[seat.peer]
            seat.cut = True
            seat._hold(0)

    def keep_within(self) -> None:
        """End what has sent most, until what all have sent is within the limit."""
        while self.held > self.limits.unfinished_bytes:
            sent: Counter[str] = Counter()
            for seat in self._seats:
                sent[seat.sender] += seat.held
            largest = max(
                (seat for seat in self._seats if seat.held and seat.may_end),
                key=lambda seat: (sent[seat.sender], seat.held, -seat.since),
                default=None,
            )
            if largest is None:
                return
            self._told("unfinished_bodies")
            largest.end()

    def look_round(self) -> None:
        """Once a second: end connections whose answers nobody reads."""
        for seat in [seat for seat in self._seats if seat.is_unread(self.limits.write_timeout_s)]:
            self._told("unread_answers")
            seat.transport.abort()

    def _make_room(self, candidates: list[Seat]) -> bool:
        """End the one that can be done without: not a proxy's, of the address that has most, idle, for the longest time."""
        if not candidates:
            return False
        first = max(candidates, key=lambda seat: (not seat.is_proxy, self._of_peer[seat.peer], seat.is_idle, -seat.since))
        self.leave(first)
        first.transport.abort()
        return True


def seat_of(request: web.BaseRequest) -> Seat | None:
    """The connection that a request came by; None where it is gone, or is none of ours."""
    return getattr(request.protocol, "seat", None)
