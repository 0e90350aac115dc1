"""Retention time: it follows the time that has really passed, whatever the wall clock says.

While the gateway runs, its steady clock says how much that is; while it was stopped, the wall clock, for up to a day. Where the two are
more than a day apart, the wall clock is in doubt, and nothing is deleted or given up for its age: until they agree again, or the wall
clock has gone evenly for a day, or an operator confirms it.
"""

from __future__ import annotations

import logging
from datetime import datetime

from msgspec import Struct, structs

from gateway.clock import from_ms
from gateway.store.sqlite.core import Core, audit
from gateway.store.sqlite.retention import REDACTABLE
from gateway.store.sqlite.writer import Connection

log = logging.getLogger("gateway.store")

DAY_MS = 86_400_000
_EVEN_MS = 60_000
_SAVE_EVERY_S = 60.0
_MARGIN_MS = 600_000
_COLUMNS = "seen_ms, trusted_ms, agreed_ms, from_ms, to_ms"
_NEWEST = """
    SELECT max(at_ms) FROM (
        SELECT max(at_ms) AS at_ms FROM sizes
        UNION ALL SELECT received_at_ms FROM inbox WHERE id = (SELECT max(id) FROM inbox)
        UNION ALL SELECT accepted_at_ms FROM submit WHERE id = (SELECT max(id) FROM submit))"""


class Ledger(Struct, kw_only=True):
    """Clock readings in milliseconds: the wall clock as `seen` last, and the time that is `trusted`.

    Attributes:
        agreed_ms: For how long the wall clock has gone evenly since it came into doubt.
        from_ms, to_ms: What it showed meanwhile; None if it is not in doubt.
    """

    seen_ms: int
    trusted_ms: int
    agreed_ms: int = 0
    from_ms: int | None = None
    to_ms: int | None = None

    @property
    def in_doubt(self) -> bool:
        return self.from_ms is not None

    def start(self, now_ms: int) -> int:
        """Take up the time after a stop. Return by how much the wall clock is further than can be believed, 0 if it can be."""
        jump_ms = now_ms - self.seen_ms
        if -_EVEN_MS <= jump_ms <= DAY_MS:
            self.trusted_ms += max(jump_ms, 0)
            jump_ms = 0
        else:
            self.agreed_ms = 0
        self._see(now_ms)
        return jump_ms

    def go_on(self, now_ms: int, passed_ms: int) -> None:
        """Add what has passed on the steady clock."""
        even = abs(now_ms - self.seen_ms - passed_ms) <= _EVEN_MS
        self.trusted_ms += passed_ms
        self.agreed_ms = self.agreed_ms + passed_ms if even and self.in_doubt else 0
        self._see(now_ms)

    def confirm(self, now_ms: int) -> None:
        """Trust the wall clock."""
        self.seen_ms = self.trusted_ms = now_ms
        self.agreed_ms, self.from_ms, self.to_ms = 0, None, None

    def agrees(self, now_ms: int) -> bool:
        return abs(now_ms - self.trusted_ms) <= DAY_MS

    def _see(self, now_ms: int) -> None:
        self.seen_ms = now_ms
        if self.agrees(now_ms) or self.agreed_ms >= DAY_MS:
            self.confirm(now_ms)
        else:
            self.from_ms = now_ms if self.from_ms is None else min(self.from_ms, now_ms)
            self.to_ms = now_ms if self.to_ms is None else max(self.to_ms, now_ms)


class TrustedTime(Core):
    """Part of `SqliteStore`; `gateway.store.retention.RetentionStore` describes the methods."""

    _ledger: Ledger
    _noted_at: float
    _saved_at: float
    _wrong: tuple[int, int] | None = None

    def retention_time(self) -> datetime | None:
        if self._ledger.in_doubt:
            return None
        return from_ms(self._ledger.trusted_ms + self._passed_ms())

    def clock_doubt(self) -> str | None:
        ledger = self._ledger
        if not ledger.in_doubt:
            return None
        shown, meant = from_ms(ledger.seen_ms), from_ms(ledger.trusted_ms)
        return (
            f"the clock says {shown:%Y-%m-%d}, and by the time that has passed it should be about {meant:%Y-%m-%d}: nothing is "
            "deleted meanwhile. Set the clock right, or confirm it if it is right: gateway clock confirm. "
            f"The gateway trusts it after it has gone evenly for {(DAY_MS - ledger.agreed_ms) / 3_600_000:.0f} h more"
        )

    async def note_time(self, *, at_once: bool = False) -> None:
        was = structs.replace(self._ledger)
        self._ledger.go_on(self._clock.now_ms(), self._passed_ms())
        self._noted_at = self._clock.monotonic()
        if was.in_doubt and not self._ledger.in_doubt:
            self._believe(was)
        if self._ledger.in_doubt and not was.in_doubt:
            log.warning("clock.doubted", extra={"reason": self.clock_doubt()})
            self._saved_at = self._noted_at - _SAVE_EVERY_S
        if at_once or self._wrong is not None or self._noted_at - self._saved_at >= _SAVE_EVERY_S:
            await self._keep_time()

    async def confirm_clock(self, who: str) -> bool:
        was_in_doubt, now_ms = self._ledger.in_doubt, self._clock.now_ms()
        if was_in_doubt:
            self._ledger.confirm(now_ms)
            self._noted_at = self._clock.monotonic()
            said = f"the clock is right: {from_ms(now_ms):%Y-%m-%d}"
            await self._run(lambda db: audit(db, now_ms, who, "clock-confirm", reason=said))
            await self._keep_time()
            log.info("clock.believed", extra={"reason": f"{who} says so"})
        return was_in_doubt

    def _believe(self, was: Ledger) -> None:
        """End the doubt. If the clock has come back, what was settled meanwhile bears a wrong time."""
        came_back = was.agrees(self._ledger.seen_ms)
        log.info("clock.believed", extra={"reason": "it is right again" if came_back else "it has gone evenly for a day"})
        if came_back and was.from_ms is not None and was.to_ms is not None:
            self._wrong = (was.from_ms - _MARGIN_MS, was.to_ms + _MARGIN_MS)

    async def _keep_time(self) -> None:
        now_ms, kept, wrong = self._clock.now_ms(), structs.replace(self._ledger), self._wrong

        def change(db: Connection) -> None:
            _save(db, kept)
            if wrong is not None:
                settle_anew(db, now_ms, *wrong)

        await self._run(change)
        self._wrong, self._saved_at = None, self._clock.monotonic()

    def _passed_ms(self) -> int:
        return round((self._clock.monotonic() - self._noted_at) * 1000)

    def _resume_time(self, db: Connection) -> int:
        """Load what the last process has seen. Return by how much the wall clock has jumped since, 0 if that can be believed."""
        now_ms, found = self._clock.now_ms(), db.execute(f"SELECT {_COLUMNS} FROM clock").fetchone()
        if found is None:  # a new store, or one from before there was a ledger: the newest of its rows has to do
            (newest_ms,) = db.execute(_NEWEST).fetchone()
            seen_ms = now_ms if newest_ms is None else int(newest_ms)
            found = (seen_ms, seen_ms, 0, None, None)
        self._ledger = Ledger(**dict(zip(_COLUMNS.split(", "), found, strict=True)))
        was = structs.replace(self._ledger)
        jump_ms = self._ledger.start(now_ms)
        if was.in_doubt and not self._ledger.in_doubt:
            self._believe(was)
        if self._ledger.in_doubt:
            log.warning("clock.doubted", extra={"reason": self.clock_doubt()})
        self._noted_at = self._saved_at = self._clock.monotonic()
        _save(db, self._ledger)
        return jump_ms


def settle_anew(db: Connection, now_ms: int, from_ms: int, to_ms: int) -> None:
    """Date what was settled while the clock was wrong as of now: it is not kept for years, nor deleted at once."""
    for table, _, there, _ in REDACTABLE:
        db.execute(
            f"UPDATE {table} SET settled_at_ms = ?1 WHERE status = 'done' AND {there} AND settled_at_ms BETWEEN ?2 AND ?3 "
            "AND abs(settled_at_ms - ?1) > ?4",
            (now_ms, from_ms, to_ms, DAY_MS),
        )


def _save(db: Connection, ledger: Ledger) -> None:
    db.execute(f"INSERT OR REPLACE INTO clock (id, {_COLUMNS}) VALUES (1,?,?,?,?,?)", structs.astuple(ledger))
