"""A data directory with an undelivered order in every state that one can be in, and the question whether they are all still there."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.clock import SystemClock
from gateway.plugin.incoming import dead_letter, incoming
from gateway.store.outcome import Settlement
from gateway.store.sqlite import SqliteStore
from gateway.store.submissions import NewSubmission
from tests import acme
from tests.store import conformance as suite
from tests.store.conformance import message

LATER_S = 80000.0
INBOX = ("in-ready", "in-retry", "in-leased", "in-held", "in-dead")
OUTBOX = ("out-ready", "out-retry", "out-leased", "out-held", "out-dead", "out-unknown")


async def stock(folder: Path) -> None:
    """Make it. What is leased stays so: whoever leased it is gone. A delivered order stands beside them, for what erases."""
    store = SqliteStore(folder / "gateway.db", clock=SystemClock())
    await store.open()
    await store.register(["acme"])
    names = (*(name for name in OUTBOX), "delivered")
    await store.accept("acme", "webhook", incoming([acme.event(acme.body(name)) for name in names]))
    rows = await store.lease_inbox("acme", 100)
    made = [message(row, "erp") for row in rows]
    await store.prepared(made)
    for row in await store.lease_outbox("erp", 100):
        if (end := _END.get(row.order_ref.removeprefix("out-"))) is not None:
            await store.settle_outbox(row, end)
    events = [acme.event(acme.body(name)) for name in (*INBOX, "out-behind")]
    await store.accept("acme", "webhook", [*incoming(events), dead_letter(b"{unreadable", "no JSON"), _second("out-held")])
    for inbox_row in await store.lease_inbox("acme", 100):
        end = _END.get((inbox_row.order_ref or "").removeprefix("in-"))
        if end is not None:
            await store.settle_inbox(inbox_row, end)
    await _submissions(store)
    await store.close()


async def _submissions(store: SqliteStore) -> None:
    """Commands: one that is ready, one dead, one held."""
    for name in ("ready", "dead", "held"):
        body = f'{{"for": "{name}"}}'.encode()
        digest = hashlib.sha256(body).digest()
        await store.accept_submission(
            NewSubmission(id=f"sub-{name}", caller="erp", key=name, source="acme", command="create_order", body=body, sha256=digest)
        )
    for row in await store.lease_submissions("acme", 10):
        await store.settle_submission(row, _END[row.public_id.removeprefix("sub-")])


_END: dict[str, Settlement] = {
    "ready": Settlement(status="ready", outcome="retry", due_in_s=LATER_S, counts=False),
    "retry": Settlement(status="ready", outcome="retry", due_in_s=LATER_S, maybe_delivered=True),
    "held": Settlement(status="held", outcome="held", reason="look"),
    "dead": Settlement(status="dead", outcome="refused", reason="the target refuses the order (422)"),
    "unknown": Settlement(status="unknown", outcome="unknown", due_in_s=LATER_S, maybe_delivered=True),
    "delivered": Settlement(status="done", outcome="delivered"),
}


def _second(ref: str) -> Any:
    """A second version, which waits behind the first."""
    return replace(suite.incoming(ref), document=acme.body(ref, 2), sha256=hashlib.sha256(acme.body(ref, 2)).digest())


def undelivered(folder: Path) -> dict[str, str]:
    """By event: the state it is in. What is gone is not in it, and what can no longer be delivered says so."""
    with closing(sqlite3.connect(f"file:{folder / 'gateway.db'}?mode=ro", uri=True)) as db:
        found: dict[str, str] = {}
        inbox = db.execute("SELECT id, key || '@' || version, status, document, sha256 FROM inbox").fetchall()
        for id_, name, status, document, sha256 in inbox:
            made = db.execute("SELECT status, body, sha256 FROM outbox WHERE inbox_id = ?", (id_,)).fetchone()
            if made is not None and status == "done":
                status, document, sha256 = made
            whole = document is not None and hashlib.sha256(document).digest() == sha256
            if status != "done":
                found[name] = "waits" if whole else "its body is gone"
        for name, status, body in db.execute("SELECT public_id, status, body FROM submit").fetchall():
            if status != "done":
                found[name] = "waits" if body is not None else "its body is gone"
        return found


def audited(folder: Path) -> list[tuple[str, str | None, str | None]]:
    """What was decided, by whom and why."""
    with closing(sqlite3.connect(f"file:{folder / 'gateway.db'}?mode=ro", uri=True)) as db:
        return [tuple(row) for row in db.execute("SELECT action, who, reason FROM audit ORDER BY id").fetchall()]
