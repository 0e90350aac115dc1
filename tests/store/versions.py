"""What an order is when it comes again: one key means one thing, and nothing old overtakes. A part of the conformance suite."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.store.arrivals import Accepted, NewEvent
from gateway.store.base import Store
from gateway.store.outcome import Settlement
from gateway.store.rows import Delivery, InboxRow, Prepared
from gateway.testing import ManualClock

DAYS = [datetime(2026, 11, day, tzinfo=UTC) for day in range(1, 11)]
DONE = Settlement(status="done", outcome="delivered")


def said(ref: str, content: str | None, *, key: str | None = None, **more: Any) -> NewEvent:
    document = f"{ref} {content}".encode()
    digest = None if content is None else hashlib.sha256(content.encode()).digest()
    return NewEvent(key=key or ref, order_ref=ref, document=document, sha256=hashlib.sha256(document).digest(), content=digest, **more)


async def come(store: Store, *events: NewEvent) -> list[Accepted]:
    return await store.accept("acme", "webhook", events)


async def outcomes(store: Store, *events: NewEvent) -> list[tuple[str, str]]:
    return [(one.key, one.outcome) for one in await come(store, *events)]


async def is_earlier(store: Store, event: NewEvent) -> bool:
    """Whether it is kept, with a reason, and comes out of nothing; the same once more is a repeat of that."""
    (one,) = await come(store, event)
    if one.outcome == "repeat" or one.flagged is None:
        return False
    assert await outcomes(store, event) == [(one.key, "repeat")], "it is kept once"
    assert (await store.verdict("acme", one.key)).state == "delivered", "who waits for its end need not wait"
    return True


async def leave(store: Store) -> list[int]:
    """Everything that waits, prepared and delivered; the versions in the order in which they left."""
    left: list[int] = []
    while rows := await store.lease_inbox("acme", 100):
        await store.prepared([_message(row) for row in rows])
    while flying := await store.lease_outbox("erp", 100):
        for one in flying:
            left.append(int((one.body or b"").split()[-1]))
            await store.settle_outbox(one, DONE)
    return left


def _message(row: InboxRow) -> Prepared:
    body = f"{row.key} {row.version}".encode()
    delivery = Delivery(target="erp", kind="order.placed", body=body, sha256=hashlib.sha256(body).digest())
    n = row.messages + 1
    return Prepared(row=row, key=f"{row.source}/{row.order_ref}/{n}", n=n, deliveries=(delivery,))


class Versions:
    # --- a key means one thing

    async def test_a_key_of_another_order_makes_a_dead_letter_and_takes_nothing_from_that_order(self, store: Store) -> None:
        first, second = await come(store, said("r1", "a", key="k1"), said("r2", "b", key="k1", acknowledge="stored"))
        assert (first.key, second.outcome) == ("k1", "stored")
        assert second.flagged is not None
        assert second.key != "k1"
        assert "k1" in second.flagged
        assert await store.lease_acknowledgements("acme", 10) == [], "the vendor may not think that it is here"
        assert await outcomes(store, said("r2", "b", key="k1")) == [(second.key, "repeat")]
        assert await outcomes(store, said("r2", "b", key="k2")) == [("k2", "stored")]
        assert [(row.order_ref, row.version) for row in await store.lease_inbox("acme", 10)] == [("r1", 1), ("r2", 1)]

    async def test_one_dead_letter_for_each_thing_that_a_wrong_key_says(self, store: Store) -> None:
        await come(store, said("r1", "a", key="k1"))
        events = (said("r2", "b", key="k1"), said("r2", "c", key="k1"), said("r3", "b", key="k1"), said("r3", None, key="k1"))
        keys = [one.key for one in await come(store, *events)]
        assert len({*keys, "k1"}) == 5

    async def test_a_key_of_a_later_version_is_that_orders_too(self, store: Store) -> None:
        await come(store, said("r1", "a", key="k1"), said("r1", "b", key="k2"))
        found = await come(store, *(said(f"n{n}", "c", key=f"n{n}") for n in range(5)), said("r2", "c", key="k2"))
        assert [one.flagged is None for one in found] == [True] * 5 + [False]

    @pytest.mark.parametrize("count", [1, 40])
    async def test_one_wrong_key_among_many_costs_no_other(self, store: Store, count: int) -> None:
        events = [said(f"r{n}", "a", key=f"k{n}") for n in range(count)]
        found = await come(
            store, *events, said("other", "a", key="k0"), *(replace(e, key=f"{e.key}x", order_ref=f"{e.key}x") for e in events)
        )
        assert [one.flagged is None for one in found] == [True] * count + [False] + [True] * count
        assert len(await store.lease_inbox("acme", 1000)) == 2 * count

    async def test_a_dead_letter_of_a_wrong_key_stays_one_when_it_is_replayed(self, store: Store) -> None:
        await come(store, said("r1", "a", key="k1"))
        wrong = said("r2", "b", key="k1")
        (kept,) = await come(store, wrong)
        await leave(store)
        for _ in range(2):
            (decided,) = await store.replay([kept.key], "anna")
            assert decided.problem is None
            (row,) = await store.lease_inbox("acme", 10)
            await store.reaccept(row, [wrong])
        (decided,) = await store.drop([kept.key], "anna", "it came under its own key")
        assert decided.problem is None

    async def test_an_ignored_event_makes_no_order_when_its_key_comes_again(self, store: Store) -> None:
        await come(store, said("r1", "a", key="k1", ignored="from before the start"))
        assert await outcomes(store, said("r1", "a", key="k1")) == [("k1", "repeat")]
        assert await outcomes(store, said("r1", "a", key="k2")) == [("k2", "stored")]

    async def test_an_ignored_event_is_no_repeat_of_another_order(self, store: Store) -> None:
        await come(store, said("r1", "a", key="k1"), said("r2", "a", key="k2", ignored="old"))
        for event in (said("r3", "a", key="k1", ignored="old"), said("r3", "a", key="k2")):
            (found,) = await come(store, event)
            assert found.flagged is not None

    # --- nothing old overtakes

    async def test_content_that_an_order_had_before_is_kept_and_not_sent(self, store: Store) -> None:
        assert await outcomes(store, said("o1", "a"), said("o1", "b")) == [("o1", "stored"), ("o1@2", "stored")]
        assert await is_earlier(store, said("o1", "a"))
        assert await outcomes(store, said("o1", "b")) == [("o1@2", "repeat")]
        assert await outcomes(store, said("o1", "c")) == [("o1@3", "stored")], "the count of versions knows nothing of it"
        assert await is_earlier(store, said("o1", "b"))
        assert await leave(store) == [1, 2, 3]

    async def test_a_source_may_say_that_it_is_a_revision_all_the_same(self, store: Store) -> None:
        await come(store, said("o1", "a", as_of=DAYS[1]), said("o1", "b", as_of=DAYS[2]))
        again = said("o1", "a", as_of=DAYS[0], sends_earlier=True)
        assert await outcomes(store, again, again) == [("o1@3", "stored"), ("o1@3", "repeat")]
        assert await leave(store) == [1, 2, 3]

    async def test_what_was_flagged_once_goes_when_the_source_changes_its_mind(self, store: Store) -> None:
        await come(store, said("o1", "a"), said("o1", "b"))
        assert await is_earlier(store, said("o1", "a"))
        assert await outcomes(store, said("o1", "a", sends_earlier=True)) == [("o1@3", "stored")]

    async def test_the_newest_version_does_not_wait_behind_an_earlier_one(self, store: Store) -> None:
        await come(store, said("o1", "a"))
        await leave(store)
        await come(store, said("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(row, Settlement(status="held", outcome="revision"), with_earlier=True)
        assert await is_earlier(store, said("o1", "a"))
        await store.release(["o1@2"], "anna")
        assert await leave(store) == [2]

    async def test_the_vendor_hears_that_an_earlier_version_is_stored(self, store: Store) -> None:
        await come(store, said("o1", "a", key="2", sequence=2))
        await come(store, said("o1", "b", key="1", sequence=1, reference="N-1", acknowledge="stored"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        assert (row.order_ref, row.reference) == ("o1", "N-1")

    @pytest.mark.parametrize(
        ("newest", "older"),
        [
            ({"sequence": 10}, {"sequence": 9}),
            ({"as_of": DAYS[1]}, {"as_of": DAYS[1] - timedelta(microseconds=1)}),
            ({"sequence": 10, "as_of": DAYS[0]}, {"sequence": 9, "as_of": DAYS[1]}),
        ],
    )
    async def test_what_the_vendor_dates_before_the_newest_version_is_earlier(self, store: Store, newest: Any, older: Any) -> None:
        for ref, content in (("o1", "never seen"), ("o2", None)):
            await come(store, said(ref, "b", key=f"{ref}-2", **newest))
            assert await is_earlier(store, said(ref, content, key=f"{ref}-1", **older))
            assert await outcomes(store, said(ref, "c", key=f"{ref}-3", **newest)) == [(f"{ref}-3@2", "stored")], "as new is not older"

    @pytest.mark.parametrize(("newest", "next_"), [({"sequence": 10}, {"as_of": DAYS[0]}), ({}, {"sequence": 1}), ({"as_of": DAYS[0]}, {})])
    async def test_what_cannot_be_compared_is_a_revision(self, store: Store, newest: Any, next_: Any) -> None:
        await come(store, said("o1", "a", **newest))
        assert await outcomes(store, said("o1", "b", **next_)) == [("o1@2", "stored")]

    async def test_a_version_without_a_date_hides_none(self, store: Store) -> None:
        await come(store, said("o1", "a", as_of=DAYS[2]), said("o1", "b"))
        assert await is_earlier(store, said("o1", "c", as_of=DAYS[1]))

    async def test_the_newest_version_said_again_is_as_new_as_that(self, store: Store) -> None:
        await come(store, said("o1", "a", as_of=DAYS[0]))
        assert await outcomes(store, said("o1", "a", as_of=DAYS[2])) == [("o1", "repeat")]
        assert await is_earlier(store, said("o1", "b", as_of=DAYS[1]))
        assert await outcomes(store, said("o1", "a", as_of=DAYS[0])) == [("o1", "repeat")], "and no less new afterwards"
        assert await is_earlier(store, said("o1", "c", as_of=DAYS[1]))

    async def test_a_rejected_version_may_be_sent_again_and_the_one_before_it_stands(self, store: Store) -> None:
        for content, key in (("a", "o1"), ("b", "o1@2")):
            assert await outcomes(store, said("o1", content)) == [(key, "stored")]
            (row,) = await store.lease_inbox("acme", 10)
            await store.prepared([_message(row)])
            (flying,) = await store.lease_outbox("erp", 10)
            await store.settle_outbox(flying, DONE if content == "a" else Settlement(status="dead", outcome="refused"))
        assert await store.reject("acme", "o1@2", "no such article")
        assert await outcomes(store, said("o1", "a")) == [("o1", "repeat")]
        assert await outcomes(store, said("o1", "b")) == [("o1@3", "stored")]
        assert await is_earlier(store, said("o1", "a"))

    async def test_a_rejected_version_is_an_earlier_one_once_another_stands(self, store: Store) -> None:
        await come(store, said("o1", "a"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.prepared([_message(row)])
        (flying,) = await store.lease_outbox("erp", 10)
        await store.settle_outbox(flying, Settlement(status="dead", outcome="refused"))
        assert await store.reject("acme", "o1", "no such article")
        assert await outcomes(store, said("o1", "b")) == [("o1@2", "stored")]
        assert await is_earlier(store, said("o1", "a"))

    async def test_what_was_refused_and_then_earlier_is_new_where_nothing_stands(self, store: Store) -> None:
        """Its sender was told that everything was refused: it may not hear that the first one is stored, and nothing be sent."""
        for content, key in (("a", "o1"), ("b", "o1@2")):
            assert await outcomes(store, said("o1", content)) == [(key, "stored")]
            if content == "b":
                assert await is_earlier(store, said("o1", "a"))
            (row,) = await store.lease_inbox("acme", 10)
            await store.prepared([_message(row)])
            (flying,) = await store.lease_outbox("erp", 10)
            await store.settle_outbox(flying, Settlement(status="dead", outcome="refused"))
            assert await store.reject("acme", key, "no such article")
        assert await outcomes(store, said("o1", "a")) == [("o1@3", "stored")]

    async def test_contents_are_remembered_as_long_as_keys(self, store: Store, clock: ManualClock) -> None:
        for key, content in (("o1", "a"), ("o1@2", "b")):
            assert await outcomes(store, said("o1", content)) == [(key, "stored")]
            await leave(store)
        fetched = said("o2", None, key="e1", fetch=True)
        await come(store, fetched, said("other", "x"))
        for document in (b"1", b"2"):
            row = next(row for row in await store.lease_inbox("acme", 10) if row.order_ref == "o2")
            await store.compare(row, document)
            await store.prepared([_message(row)])
            await store.settle_outbox(next(iter(await store.lease_outbox("erp", 10))), DONE)
            fetched = replace(fetched, key=fetched.key + "+")
            await come(store, fetched)
        clock.advance(3600)
        await store.release_all_leases()
        await store.redact_bodies(clock.now(), 1000)
        await store.prune_orders(clock.now(), datetime(1970, 1, 1, tzinfo=UTC), 0, 1000)
        assert await is_earlier(store, said("o1", "a"))
        row = next(row for row in await store.lease_inbox("acme", 10) if row.order_ref == "o2")
        assert (await store.compare(row, b"1")).verdict == "earlier"
        assert (await store.compare(row, b"1", sends_earlier=True)).verdict == "new"

    async def test_a_fetched_order_that_was_rejected_may_come_again(self, store: Store) -> None:
        await come(store, said("o1", None, key="e1", fetch=True))
        (row,) = await store.lease_inbox("acme", 10)
        await store.compare(row, b"1")
        await store.prepared([_message(row)])
        (flying,) = await store.lease_outbox("erp", 10)
        await store.settle_outbox(flying, Settlement(status="dead", outcome="refused"))
        assert await store.reject("acme", "e1", "no such article")
        await come(store, said("o1", None, key="e2", fetch=True))
        (row,) = await store.lease_inbox("acme", 10)
        assert (await store.compare(row, b"1")).verdict == "new"

    # --- what could not be read when it came

    async def read_again(self, store: Store, *between: NewEvent, then: NewEvent) -> Accepted:
        dead = NewEvent(key="unreadable-1", document=b"{", sha256=b"s", dead="not JSON")
        await come(store, dead, *between)
        await leave(store)
        (decided,) = await store.replay(["unreadable-1"], "anna")
        assert decided.problem is None
        (row,) = await store.lease_inbox("acme", 10)
        (one,) = await store.reaccept(row, [then])
        return one

    async def test_a_dead_letter_read_again_overtakes_nothing_that_came_meanwhile(self, store: Store) -> None:
        one = await self.read_again(store, said("o1", "b"), then=said("o1", "a"))
        assert one.flagged is not None
        assert await store.lease_inbox("acme", 10) == []

    async def test_a_dead_letter_that_the_vendor_dates_is_as_new_as_it_says(self, store: Store) -> None:
        one = await self.read_again(store, said("o1", "b", as_of=DAYS[0]), then=said("o1", "a", as_of=DAYS[1]))
        assert (one.key, one.flagged) == ("o1@2", None)

    async def test_a_dead_letter_of_an_order_that_nothing_else_came_of_is_stored(self, store: Store) -> None:
        one = await self.read_again(store, said("o2", "b"), then=said("o1", "a"))
        assert (one.key, one.outcome, one.flagged) == ("o1", "stored", None)

    async def test_a_dead_letter_that_is_no_version_goes_its_way(self, store: Store) -> None:
        """State changes: how they follow one another is their connector's to say."""
        one = await self.read_again(store, said("o1", None, key="e2"), then=said("o1", None, key="e1"))
        assert (one.key, one.outcome, one.flagged) == ("e1", "stored", None)

    # --- whatever comes in whatever order

    @pytest.mark.parametrize("seed", range(25))
    async def test_no_older_version_is_ever_newer_than_what_left(self, store: Store, seed: int) -> None:
        """Dated ones come in any order; undated ones, for which only their first coming speaks, again and again afterwards."""
        shuffled = random.Random(seed)
        versions, dated, own_keys = shuffled.randint(2, 6), seed % 2 == 0, seed % 3 == 0
        comes = list(range(1, versions + 1))
        again = shuffled.choices(comes, k=12)
        if dated:
            comes += again
            shuffled.shuffle(comes)
        else:
            for one in again:
                comes.insert(shuffled.randint(comes.index(one) + 1, len(comes)), one)
        left: list[str] = []
        for n in comes:
            how_new = {} if not dated else {"sequence": n} if seed % 4 == 0 else {"as_of": DAYS[n]}
            await come(store, said("o1", f"v{n}", key=f"e{n}" if own_keys else None, **how_new))
            if shuffled.random() < 0.5:
                left += await self._left(store)
            if shuffled.random() < 0.2:
                await store.release_all_leases()
        left += await self._left(store)
        assert left == sorted(set(left)), f"they came as {comes}"
        assert left[-1] == f"v{versions}", "the newest one is the last"

    async def _left(self, store: Store) -> list[str]:
        left = []
        while rows := await store.lease_inbox("acme", 100):
            for row in rows:
                assert row.document is not None
                left.append(row.document.decode().split()[1])
                await store.prepared([_message(row)])
        return left
