"""What was said to a vendor is let go of like an order: by class and age, never what has not ended, never while its order is known."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config.settings import StoreSettings
from gateway.store.rows import Delivery, Prepared
from tests.store.shelf import BODY, DAY_S, DONE, RETRY, Shelf, a_shelf
from tests.store.submitting import CODES, UNKNOWN, command, created, submit_command
from tests.store.submitting import DONE as SAID


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with a_shelf(tmp_path) as shelf:
        yield shelf


class Commands:
    """What callers submitted, on a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    async def said(self, key: str, subject: str, *, makes_an_order: bool = False) -> str:
        """Submit, and have the vendor do it."""
        (id_,) = await submit_command(self.shelf.store, command(key, subject, unique=makes_an_order))
        (row,) = await self.shelf.store.lease_submissions("acme", 1)
        made = created() if makes_an_order else replace(created(), events=(), codes=None)
        await self.shelf.store.settle_submission(row, SAID, made)
        return id_

    async def prepared(self, *, open: bool = False) -> None:
        """What was created becomes a delivered order, which may change at the vendor where it is open."""
        sha256 = hashlib.sha256(BODY).digest()
        (row,) = await self.shelf.store.lease_inbox("acme", 1)
        delivery = Delivery(target="erp", kind="order.placed", body=BODY, sha256=sha256)
        await self.shelf.store.prepared([Prepared(row=row, key=f"acme/{row.order_ref}/1", n=1, deliveries=(delivery,), open=open)])
        await self.shelf.confirm()
        await self.shelf.store.settle_outbox((await self.shelf.store.lease_outbox("erp", 1))[0], DONE)

    async def outcomes(self, *keys: str) -> list[str]:
        """Whether these keys are still known."""
        return [(await self.shelf.store.accept_submission(command(key, key))).outcome for key in keys]


@pytest.fixture
def commands(shelf: Shelf) -> Commands:
    return Commands(shelf)


async def test_what_was_said_to_a_vendor_goes_with_its_key_once_that_is_old(shelf: Shelf, commands: Commands) -> None:
    for n in range(5):
        await commands.said(f"k{n}", f"k{n}")
    tried = await submit_command(shelf.store, command("later", "later"))
    await shelf.store.settle_submission((await shelf.store.lease_submissions("acme", 1))[0], replace(RETRY, due_in_s=0))
    await shelf.store.settle_submission((await shelf.store.lease_submissions("acme", 1))[0], SAID)
    await commands.said("newest", "newest")
    shelf.clock.advance(11 * DAY_S)
    await shelf.tidy()
    assert (shelf.count("submit"), shelf.count("attempts")) == (7, 0)
    assert await commands.outcomes("k0", "k4") == ["repeat", "repeat"], "contents are gone, the key is not"
    shelf.clock.advance(9 * DAY_S)
    await shelf.tidy()
    assert shelf.count("submit") == 1, "the newest row's number is not used again"
    assert await shelf.store.submission("erp", tried[0]) is None
    assert await commands.outcomes("newest", "k0") == ["repeat", "stored"]


async def test_what_was_tried_of_a_submission_goes_with_it_at_the_latest(shelf: Shelf, commands: Commands) -> None:
    shelf.settings = StoreSettings(keep_bodies_days=20, keep_attempts_days=4000, keep_orders_days=20, keep_keys_days=20)
    await commands.said("k1", "k1")
    await commands.said("newest", "newest")
    shelf.clock.advance(21 * DAY_S)
    await shelf.tidy()
    assert (shelf.count("submit"), shelf.count("attempts WHERE row_id = 1")) == (1, 0)


@pytest.mark.parametrize("end", ["ready", "unknown", "held", "dead"])
async def test_a_submission_that_has_not_ended_stays_whatever_its_age(shelf: Shelf, commands: Commands, end: Any) -> None:
    ids = await submit_command(shelf.store, command("k1"))
    (row,) = await shelf.store.lease_submissions("acme", 1)
    await shelf.store.settle_submission(row, replace(UNKNOWN, status=end))
    await commands.said("other", "RX-2")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    assert shelf.count(f"submit WHERE status = '{end}' AND body IS NOT NULL") == 1
    if end in ("held", "dead"):
        await shelf.store.drop(ids, "anna", "ordered by phone")
        shelf.clock.advance(4000 * DAY_S)
        await shelf.tidy()
        assert shelf.count("submit") == 1, "until a person ends it"
        assert shelf.count("audit WHERE reason = 'ordered by phone'") == 1


async def test_a_submission_stays_while_the_order_that_it_made_is_known(shelf: Shelf, commands: Commands) -> None:
    await commands.said("k1", "RX-1", makes_an_order=True)
    await commands.prepared(open=True)
    await commands.said("k2", "RX-2")
    await shelf.orders("newest")
    shelf.clock.advance(4000 * DAY_S)
    await shelf.tidy()
    assert await commands.outcomes("k1") == ["conflict"]
    assert (await shelf.store.accept_submission(command("k3", unique=True))).outcome == "taken", "it is still in the next resync"
    with sqlite3.connect(shelf.path) as db:
        db.execute("UPDATE orders SET open = 0")
    await shelf.acknowledged("newer")
    shelf.clock.advance(DAY_S)
    await shelf.tidy()
    assert (shelf.count("orders WHERE order_ref = 'RX-1'"), shelf.count("submit WHERE subject = 'RX-1'")) == (0, 0)


async def test_the_codes_of_an_order_stay_while_it_can_be_read_or_collected(shelf: Shelf, commands: Commands) -> None:
    id_ = await commands.said("k1", "RX-1", makes_an_order=True)
    for again in range(2):
        shelf.clock.advance(3 * DAY_S)
        await shelf.tidy()
        state = await shelf.store.submission("erp", id_)
        assert state is not None
        assert (state.answer, state.codes is None) == (None, again == 1), "its event has been delivered meanwhile, and erased"
        if not again:
            await commands.prepared()


async def test_the_codes_of_an_order_that_may_still_change_stay(shelf: Shelf, commands: Commands) -> None:
    id_ = await commands.said("k1", "RX-1", makes_an_order=True)
    await commands.prepared(open=True)
    shelf.clock.advance(300 * DAY_S)
    await shelf.tidy()
    state = await shelf.store.submission("erp", id_)
    assert state is not None
    assert (state.answer, state.codes) == (None, CODES)
    with sqlite3.connect(shelf.path) as db:
        db.execute("UPDATE orders SET open = 0")
    await shelf.tidy()
    assert shelf.count("submit WHERE codes IS NOT NULL") == 0


async def test_day_after_day_of_commands_keep_the_file_as_it_is(shelf: Shelf, commands: Commands) -> None:
    rows = []
    for day in range(45):
        for n in range(4):
            await commands.said(f"k{day}-{n}", f"RX-{day}-{n}")
        shelf.clock.advance(DAY_S - 3601)
        await shelf.tidy()
        rows.append(shelf.count("submit"))
    assert max(rows[30:]) <= 21 * 4 + 1
    assert shelf.count("submit WHERE body IS NOT NULL") <= 3 * 4
    assert shelf.count("attempts") <= 5 * 4


async def test_a_walk_goes_on_behind_what_a_wrong_clock_has_stamped(shelf: Shelf) -> None:
    shelf.clock.advance(4000 * DAY_S)
    await submit_command(shelf.store, *(command(f"ahead{n}", None) for n in range(20)))
    shelf.clock.advance(-4000 * DAY_S)
    await submit_command(shelf.store, *(command(f"k{n}", None) for n in range(5)))
    for row in await shelf.store.lease_submissions("acme", 10):
        await shelf.store.settle_submission(row, SAID)
    await submit_command(shelf.store, command("newest", None))
    shelf.clock.advance(21 * DAY_S)
    await shelf.tidy()
    assert shelf.count("submit") == 21
