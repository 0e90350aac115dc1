"""What every store must do, in the words of `gateway.store.base`. A store's own test file supplies `store` and `clock`.

Times are the clock's; nothing sleeps.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.api.errors import LeaseLost, Outdated
from gateway.store.arrivals import NewEvent
from gateway.store.base import Store
from gateway.store.outcome import Progress, Settlement
from gateway.store.rows import Delivery, InboxRow, OutboxRow, Prepared
from gateway.testing import ManualClock
from tests.store.naming import Choosing, Naming, Resending
from tests.store.of_targets import OfTargets
from tests.store.submitting import Submitting
from tests.store.versions import Versions

DONE = Settlement(status="done", outcome="delivered")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def incoming(ref: str, content: str | None = "1", *, key: str | None = None, **more: Any) -> NewEvent:
    document = f'{{"id":"{ref}","content":"{content}"}}'.encode()
    return NewEvent(
        key=key or ref,
        order_ref=ref,
        document=document,
        sha256=sha(document),
        content=None if content is None else sha(content.encode()),
        **more,
    )


async def accept(store: Store, *events: NewEvent, source: str = "acme", **more: Any) -> list[tuple[str, str]]:
    return [(one.key, one.outcome) for one in await store.accept(source, "webhook", events, **more)]


def message(row: InboxRow, *targets: str, kind: str = "order.placed") -> Prepared:
    body = f"message {row.key}@{row.version}".encode()
    deliveries = tuple(Delivery(target=t, kind=kind, body=body, sha256=sha(body)) for t in targets)  # type: ignore[arg-type]
    return Prepared(row=row, key=f"{row.source}/{row.order_ref}/{row.messages + 1}", n=row.messages + 1, deliveries=deliveries)


async def prepare(store: Store, *targets: str, source: str = "acme", kind: str = "order.placed") -> list[str]:
    """Prepare what is due; the keys of the messages."""
    rows = await store.lease_inbox(source, 100)
    made = [message(row, *(targets or ("erp",)), kind=kind) for row in rows]
    await store.prepared(made)
    return [one.key for one in made]


async def deliver(store: Store, end: Settlement = DONE, *, target: str = "erp", limit: int = 100, **more: Any) -> list[str]:
    rows = await store.lease_outbox(target, limit)
    for row in rows:
        await store.settle_outbox(row, end, **more)
    return [row.key for row in rows]


class Accepting:
    async def test_accept_stores_what_is_new(self, store: Store) -> None:
        assert await accept(store, incoming("o1"), incoming("o2")) == [("o1", "stored"), ("o2", "stored")]

    async def test_accept_names_the_stored_event_for_a_repeat(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        assert await accept(store, incoming("o1")) == [("o1", "repeat")]
        assert len(await store.lease_inbox("acme", 10)) == 1

    async def test_accept_finds_a_repeat_inside_one_call(self, store: Store) -> None:
        assert await accept(store, incoming("o1"), incoming("o1")) == [("o1", "stored"), ("o1", "repeat")]

    async def test_accept_counts_other_content_as_a_version(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        assert await accept(store, incoming("o1", "b")) == [("o1@2", "stored")]
        assert await accept(store, incoming("o1", "b")) == [("o1@2", "repeat")]

    async def test_an_event_that_comes_again_behind_a_newer_one_of_its_order_is_a_repeat(self, store: Store) -> None:
        """A vendor that shows every record until it is acknowledged shows the original and its revision side by side."""
        first, second = incoming("o1", "a", key="e1"), incoming("o1", "b", key="e2")
        assert await accept(store, first, second) == [("e1", "stored"), ("e2@2", "stored")]
        assert await accept(store, first, second) == [("e1", "repeat"), ("e2@2", "repeat")]
        assert await accept(store, incoming("o1", "c", key="e1"), second) == [("e1@3", "stored"), ("e2@2", "repeat")]
        assert await accept(store, first) == [("e1@earlier-1", "stored")]

    async def test_accept_lets_the_key_decide_where_there_is_no_content(self, store: Store) -> None:
        assert await accept(store, incoming("o1", None, key="event-1")) == [("event-1", "stored")]
        assert await accept(store, incoming("o1", None, key="event-1")) == [("event-1", "repeat")]
        assert await accept(store, incoming("o1", None, key="event-2")) == [("event-2", "stored")]

    async def test_sources_do_not_see_each_other(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        assert await accept(store, incoming("o1", "b"), source="other") == [("o1", "stored")]
        assert [row.source for row in await store.lease_inbox("other", 10)] == ["other"]

    async def test_keys_that_look_like_versions_do_not_collide(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await accept(store, incoming("o1", "b"))
        assert (await accept(store, incoming("o1@2", "c")))[0][1] == "stored"
        assert len(await store.lease_inbox("acme", 10)) == 2  # o1 and o1@2's own; o1's second version waits behind o1

    async def test_cursor_moves_with_the_events(self, store: Store) -> None:
        assert await store.cursor("acme", "poll") is None
        await store.accept("acme", "poll", [incoming("o1")], cursor="page 2")
        assert await store.cursor("acme", "poll") == "page 2"
        await store.accept("acme", "poll", [], cursor="page 3")
        assert await store.cursor("acme", "poll") == "page 3"
        await store.accept("acme", "poll", [incoming("o2")])
        assert await store.cursor("acme", "poll") == "page 3"

    async def test_a_dead_letter_is_kept_once_and_never_leased(self, store: Store) -> None:
        dead = NewEvent(key="unreadable-1", document=b"{", sha256=sha(b"{"), dead="not JSON")
        assert await accept(store, dead) == [("unreadable-1", "stored")]
        assert await accept(store, dead) == [("unreadable-1", "repeat")]
        assert await store.lease_inbox("acme", 10) == []

    async def test_an_ignored_event_is_kept_done_and_makes_no_order(self, store: Store) -> None:
        old = incoming("o1", "a", key="e0", ignored="from before the start")
        assert await accept(store, old) == [("e0", "stored")]
        assert await accept(store, old) == [("e0", "repeat")]
        assert await store.lease_inbox("acme", 10) == []
        assert await accept(store, incoming("o1", "b", key="e1")) == [("e1", "stored")]
        (row,) = await store.lease_inbox("acme", 10)
        assert (row.key, row.version) == ("e1", 1)

    async def test_an_ignored_event_is_acknowledged_like_any_other(self, store: Store) -> None:
        await accept(store, incoming("o1", key="e0", ignored="old", reference="N-1", acknowledge="delivered"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        assert (row.stage, row.order_ref, row.reference) == ("delivered", "N-1", "N-1")

    async def test_first_start_stays_the_same_for_ever(self, store: Store, clock: ManualClock) -> None:
        first = (await store.register(["acme"]))["acme"]
        clock.advance(3600)
        assert (await store.register(["acme"]))["acme"] == first

    async def test_ten_callers_at_once_store_an_order_once(self, store: Store) -> None:
        outcomes = await asyncio.gather(*(accept(store, incoming("o1")) for _ in range(10)))
        assert sorted(outcome for ((_, outcome),) in outcomes) == ["repeat"] * 9 + ["stored"]


class Preparing:
    async def test_lease_gives_the_whole_row(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1", reference="R-1", occurred_at=clock.now()))
        (row,) = await store.lease_inbox("acme", 10)
        assert (row.source, row.door, row.key, row.version, row.order_ref) == ("acme", "webhook", "o1", 1, "o1")
        assert (row.messages, row.attempts, row.released, row.reference) == (0, 1, False, "R-1")
        assert row.occurred_at == row.received_at == clock.now()
        assert sha(row.document or b"") == row.sha256

    async def test_lease_takes_a_row_once(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        assert len(await store.lease_inbox("acme", 10)) == 1
        assert await store.lease_inbox("acme", 10) == []

    async def test_lease_takes_the_oldest_first_and_no_more_than_asked(self, store: Store, clock: ManualClock) -> None:
        for n in range(5):
            await accept(store, incoming(f"o{n}"))
            clock.advance(1)
        assert [row.key for row in await store.lease_inbox("acme", 3)] == ["o0", "o1", "o2"]

    async def test_a_version_waits_for_the_one_before_it(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await accept(store, incoming("o1", "b"))
        (first,) = await store.lease_inbox("acme", 10)
        assert first.version == 1
        await store.prepared([message(first, "erp")])
        (second,) = await store.lease_inbox("acme", 10)
        assert (second.version, second.messages) == (2, 1)

    async def test_a_held_row_stops_its_own_order_only(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"), incoming("o2", "a"))
        await accept(store, incoming("o1", "b"))
        first, _ = await store.lease_inbox("acme", 10)
        await store.settle_inbox(first, Settlement(status="held", outcome="held", reason="look"))
        await accept(store, incoming("o3"))
        assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o3"]

    async def test_prepared_makes_deliveries_and_counts_messages(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        assert await prepare(store, "erp", "archive") == ["acme/o1/1"]
        assert [row.key for row in await store.lease_outbox("erp", 10)] == ["acme/o1/1"]
        assert [row.key for row in await store.lease_outbox("archive", 10)] == ["acme/o1/1"]
        await accept(store, incoming("o1", "b"))
        assert await prepare(store) == ["acme/o1/2"]

    async def test_prepared_does_nothing_after_a_lost_lease(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.release_all_leases()
        with pytest.raises(LeaseLost):
            await store.prepared([message(row, "erp")])
        assert await store.lease_outbox("erp", 10) == []

    async def test_prepared_without_any_target_finishes_the_row(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.prepared([message(row)])
        assert await store.lease_inbox("acme", 10) == []

    async def test_a_retry_is_due_when_it_says(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(row, Settlement(status="ready", outcome="retry", due_in_s=60))
        assert await store.lease_inbox("acme", 10) == []
        assert await store.next_due_s("inbox", "acme") == 60
        clock.advance(60)
        (again,) = await store.lease_inbox("acme", 10)
        assert again.attempts == 2

    async def test_an_attempt_that_does_not_count_is_given_back(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(row, Settlement(status="ready", outcome="handed_back", counts=False))
        (again,) = await store.lease_inbox("acme", 10)
        assert again.attempts == 1

    async def test_what_is_fetched_makes_the_versions_where_it_is_compared(self, store: Store) -> None:
        async def compared(key: str, content: str) -> int | str:
            await accept(store, incoming("o1", None, key=key, fetch=True))
            (row,) = await store.lease_inbox("acme", 10)
            found = await store.compare(row, sha(content.encode()))
            if found.verdict != "new":
                assert (await store.compare(row, sha(content.encode()))) == found, "a crash may have it asked again"
                await store.settle_inbox(row, Settlement(status="done", outcome="ignored"))
                return found.verdict
            await store.settle_inbox(row, Settlement(status="ready", outcome="retry"))
            (row,) = await store.lease_inbox("acme", 10)
            assert (row.version, row.content_checked) == (found.version, True)
            await store.prepared([message(row, "erp")])
            return found.version

        assert [await compared(f"e{n}", content) for n, content in enumerate("aabbac")] == [1, "same", 2, "same", "earlier", 3]
        again = await accept(store, *(incoming("o1", None, key=f"e{n}", fetch=True) for n in range(6)))
        assert again == [(key, "repeat") for key in ("e0", "e1", "e2@2", "e3", "e4", "e5@3")]
        assert await store.lease_inbox("acme", 10) == []

    async def test_the_newest_message_of_an_order_is_there_for_the_next(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"), incoming("o2", "a"))
        await prepare(store)
        await accept(store, incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        assert await store.newest_message(row) == b"message o1@1"
        await store.prepared([message(row, "erp")])
        await accept(store, incoming("o1", "c"), incoming("o3", "a"))
        second, first_of_o3 = sorted(await store.lease_inbox("acme", 10), key=lambda row: row.key)
        assert (await store.newest_message(second), await store.newest_message(first_of_o3)) == (b"message o1@2", None)

    async def test_open_orders_are_found_oldest_first_with_their_newest_message(self, store: Store) -> None:
        await accept(store, *(incoming(f"o{n}") for n in range(4)))
        rows = await store.lease_inbox("acme", 10)
        await store.prepared([replace(message(row, "erp"), open=row.order_ref != "o2") for row in rows])
        first, second = await store.open_orders("acme", 0, 2)
        assert [(one.order_ref, one.message) for one in (first, second)] == [("o0", b"message o0@1"), ("o1", b"message o1@1")]
        assert [one.order_ref for one in await store.open_orders("acme", second.id, 2)] == ["o3"]
        assert await store.open_orders("other", 0, 2) == []

    async def test_an_order_is_open_as_its_newest_message_says(self, store: Store) -> None:
        await accept(store, incoming("o1", None, key="e1"), incoming("o1", None, key="e2"))
        for is_open in (True, False):
            (row,) = await store.lease_inbox("acme", 10)
            await store.prepared([replace(message(row, "erp"), open=is_open)])
            assert bool(await store.open_orders("acme", 0, 10)) == is_open

    async def test_a_fetched_document_is_kept(self, store: Store) -> None:
        await accept(store, incoming("o1", None, fetch=True))
        (row,) = await store.lease_inbox("acme", 10)
        assert (row.fetch, row.fetched) == (True, None)
        await store.keep_document(row, b"fetched", sha(b"fetched"))
        await store.settle_inbox(row, Settlement(status="ready", outcome="retry"))
        (again,) = await store.lease_inbox("acme", 10)
        assert (again.document, again.fetched, again.fetched_sha256) == (row.document, b"fetched", sha(b"fetched"))

    async def test_a_replayed_dead_letter_can_become_events(self, store: Store) -> None:
        await accept(store, NewEvent(key="unreadable-1", document=b"{", sha256=sha(b"{"), dead="not JSON"))
        await store.replay(["unreadable-1"], "anna")
        (row,) = await store.lease_inbox("acme", 10)
        assert row.order_ref is None
        assert [one.key for one in await store.reaccept(row, [incoming("o1")])] == ["o1"]
        assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o1"]


class Revising:
    """What happens to earlier versions when a later one is prepared."""

    async def second(self, store: Store) -> InboxRow:
        await accept(store, incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        return row

    async def test_hold_takes_what_has_not_left_with_it(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        row = await self.second(store)
        await store.settle_inbox(row, Settlement(status="held", outcome="revision", reason="other content"), with_earlier=True)
        assert await store.lease_outbox("erp", 10) == []
        (decided,) = await store.release([f"acme/{row.key}@2"], "anna")
        assert decided.problem is None
        assert await deliver(store) == ["acme/o1/1"]
        assert await prepare(store, "erp", kind="order.revised") == ["acme/o1/2"]
        assert await deliver(store) == ["acme/o1/2"]

    async def test_a_version_does_not_leave_while_a_later_one_waits_to_be_looked_at(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"), incoming("o1", "b"))
        assert await prepare(store, "erp", "archive") == ["acme/o1/1"]
        assert await store.lease_outbox("erp", 10) == []
        assert await prepare(store, "erp") == ["acme/o1/2"]
        for target, keys in (("archive", ["acme/o1/1"]), ("erp", ["acme/o1/1"]), ("erp", ["acme/o1/2"])):
            assert await deliver(store, target=target) == keys

    async def test_hold_takes_what_came_at_the_same_time_with_it(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"), incoming("o1", "b"), incoming("o1", "c"))
        await prepare(store)
        (second,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(second, Settlement(status="held", outcome="revision"), with_earlier=True)
        assert await deliver(store) == []
        await store.drop(["o1@2"], "anna", "typed twice")
        assert await deliver(store) == []  # the third is still to be looked at
        (third,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(third, Settlement(status="held", outcome="revision"), with_earlier=True)
        assert await deliver(store) == []
        await store.release(["o1@3"], "anna")
        assert await deliver(store) == ["acme/o1/1"]
        assert await prepare(store, kind="order.revised") == ["acme/o1/2"]

    async def test_a_version_leaves_once_the_later_one_has_been_looked_at(self, store: Store) -> None:
        ends: tuple[Any, ...] = ("dead", "done", "held")
        for status in ends:
            await accept(store, incoming(status, "a"), incoming(status, "b"))
            await prepare(store)
            (second,) = await store.lease_inbox("acme", 10)
            await store.settle_inbox(second, Settlement(status=status, outcome="looked at"))
            assert await deliver(store) == [f"acme/{status}/1"]

    async def test_dropping_the_later_version_unseen_lets_the_earlier_one_go(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"), incoming("o1", "b"))
        await prepare(store)
        await store.drop(["o1@2"], "anna", "typed twice")
        assert await deliver(store) == ["acme/o1/1"]

    async def test_dropping_the_held_version_lets_the_earlier_one_go(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        row = await self.second(store)
        await store.settle_inbox(row, Settlement(status="held", outcome="revision"), with_earlier=True)
        await store.drop(["o1@2"], "anna", "typed twice")
        assert await deliver(store) == ["acme/o1/1"]
        assert await prepare(store) == []

    async def test_a_message_supersedes_unsent_ones_when_it_is_there_itself(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp", "archive")
        await deliver(store, target="archive")
        row = await self.second(store)
        sent = await store.sent_before(row, supersede=True)
        assert sent == {"archive"}
        await store.prepared([replace(message(row, "erp"), sent=sent, supersedes=True)])
        assert await deliver(store) == ["acme/o1/2"]

    async def test_a_later_version_that_cannot_be_made_leaves_the_earlier_one_where_it_is(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        row = await self.second(store)
        assert await store.sent_before(row, supersede=True) == frozenset()
        await store.settle_inbox(row, Settlement(status="dead", outcome="dead", reason="it cannot be made"))
        assert await deliver(store) == ["acme/o1/1"]

    @pytest.mark.parametrize("supersedes", [True, False])
    async def test_a_message_that_was_made_before_another_one_left_is_made_anew(self, store: Store, supersedes: bool) -> None:
        """`order.placed` would be the second one of its kind, and `order.revised` one that nothing came before."""
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        row = await self.second(store)
        made = replace(message(row, "erp"), sent=await store.sent_before(row, supersede=supersedes), supersedes=supersedes)
        if supersedes:
            await deliver(store)
        else:
            await store.drop(["acme/o1/1"], "anna", "wrong customer")
        with pytest.raises(Outdated):
            await store.prepared([made])
        assert await deliver(store) == []
        sent = await store.sent_before(row, supersede=supersedes)
        assert sent == ({"erp"} if supersedes else frozenset())
        await store.prepared([replace(made, sent=sent)])
        assert await deliver(store) == ["acme/o1/2"]

    async def test_supersede_leaves_what_may_have_been_taken(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        await deliver(store, Settlement(status="ready", outcome="retry", due_in_s=5, maybe_delivered=True))
        row = await self.second(store)
        assert await store.sent_before(row, supersede=True) == {"erp"}
        await store.prepared([message(row, "erp", kind="order.revised")])
        clock.advance(5)
        assert await deliver(store) == ["acme/o1/1"]
        assert await deliver(store) == ["acme/o1/2"]

    async def test_supersede_leaves_what_is_being_sent(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        (flying,) = await store.lease_outbox("erp", 10)
        row = await self.second(store)
        assert await store.sent_before(row, supersede=True) == {"erp"}
        await store.settle_outbox(flying, DONE)

    async def test_supersede_takes_a_refused_message_away(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        await deliver(store, Settlement(status="dead", outcome="refused"))
        row = await self.second(store)
        assert await store.sent_before(row, supersede=True) == frozenset()

    async def test_a_dropped_message_does_not_count_as_sent(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp")
        await store.drop(["acme/o1/1"], "anna", "wrong customer")
        row = await self.second(store)
        assert await store.sent_before(row, supersede=False) == frozenset()


class Delivering:
    async def leased(self, store: Store, *refs: str) -> list[OutboxRow]:
        await accept(store, *(incoming(ref) for ref in refs or ("o1",)))
        await prepare(store)
        return await store.lease_outbox("erp", 10)

    async def test_a_leased_delivery_is_the_whole_row(self, store: Store, clock: ManualClock) -> None:
        (row,) = await self.leased(store)
        assert (row.target, row.source, row.order_ref, row.key, row.kind) == ("erp", "acme", "o1", "acme/o1/1", "order.placed")
        assert (row.attempts, row.first_attempt_at, row.received_at) == (1, None, clock.now())
        assert sha(row.body or b"") == row.sha256

    async def test_a_delivered_row_is_not_leased_again(self, store: Store) -> None:
        (row,) = await self.leased(store)
        await store.settle_outbox(row, DONE)
        assert await store.lease_outbox("erp", 10) == []

    async def test_messages_of_one_order_leave_one_after_the_other(self, store: Store) -> None:
        (first,) = await self.leased(store)
        await accept(store, incoming("o1", "b"))
        await prepare(store)
        assert await store.lease_outbox("erp", 10) == []
        await store.settle_outbox(first, DONE)
        (second,) = await store.lease_outbox("erp", 10)
        assert second.key == "acme/o1/2"

    async def test_a_dead_message_holds_back_its_own_order_only(self, store: Store) -> None:
        one, two = await self.leased(store, "o1", "o2")
        await store.settle_outbox(one, Settlement(status="dead", outcome="refused"))
        await store.settle_outbox(two, DONE)
        await accept(store, incoming("o1", "b"), incoming("o2", "b"))
        await prepare(store)
        assert [row.key for row in await store.lease_outbox("erp", 10)] == ["acme/o2/2"]

    async def test_targets_do_not_wait_for_each_other(self, store: Store) -> None:
        await accept(store, incoming("o1", "a"))
        await prepare(store, "erp", "archive")
        await store.lease_outbox("erp", 10)
        await deliver(store, target="archive")
        await accept(store, incoming("o1", "b"))
        await prepare(store, "erp", "archive")
        assert [row.key for row in await store.lease_outbox("archive", 10)] == ["acme/o1/2"]
        assert await store.lease_outbox("erp", 10) == []

    async def test_a_late_settlement_changes_nothing(self, store: Store) -> None:
        (row,) = await self.leased(store)
        await store.release_all_leases()
        (again,) = await store.lease_outbox("erp", 10)
        with pytest.raises(LeaseLost):
            await store.settle_outbox(row, DONE)
        await store.settle_outbox(again, DONE)

    async def test_what_was_being_sent_may_have_been_taken(self, store: Store) -> None:
        await self.leased(store)
        await store.release_all_leases()
        await accept(store, incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        assert await store.sent_before(row, supersede=True) == {"erp"}

    async def test_age_counts_from_the_first_attempt(self, store: Store, clock: ManualClock) -> None:
        (row,) = await self.leased(store)
        began = clock.now_ms()
        await store.settle_outbox(row, Settlement(status="ready", outcome="retry", due_in_s=10, started_at_ms=began))
        clock.advance(10)
        (row,) = await store.lease_outbox("erp", 10)
        await store.settle_outbox(row, Settlement(status="ready", outcome="retry", due_in_s=10, started_at_ms=clock.now_ms()))
        clock.advance(10)
        (row,) = await store.lease_outbox("erp", 10)
        assert row.first_attempt_at is not None
        assert (clock.now() - row.first_attempt_at).total_seconds() == 20

    async def test_retry_soon_brings_far_off_tries_near(self, store: Store, clock: ManualClock) -> None:
        rows = await self.leased(store, "o1", "o2", "o3")
        for row in rows:
            await store.settle_outbox(row, Settlement(status="ready", outcome="retry", due_in_s=900))
        assert await store.retry_soon("erp", 5) == 3
        clock.advance(5)
        assert len(await store.lease_outbox("erp", 10)) == 3

    async def test_retry_soon_leaves_what_waits_behind_another(self, store: Store, clock: ManualClock) -> None:
        (row,) = await self.leased(store)
        await accept(store, incoming("o1", "b"))
        await prepare(store)
        await store.settle_outbox(row, Settlement(status="ready", outcome="retry", due_in_s=900))
        assert await store.retry_soon("erp", 5) == 1
        clock.advance(5)
        assert [row.key for row in await store.lease_outbox("erp", 10)] == ["acme/o1/1"]


UNKNOWN = Settlement(status="unknown", outcome="unknown", due_in_s=30, maybe_delivered=True)
RETRY = Settlement(status="ready", outcome="retry")


class Unclear:
    """A target that recognises no repeat: what is not known to have arrived is looked up, and never just sent again."""

    async def announced(self, store: Store, ref: str = "o1") -> OutboxRow:
        await accept(store, incoming(ref))
        await prepare(store)
        return await self.again(store)

    async def again(self, store: Store) -> OutboxRow:
        (row,) = await store.lease_outbox("erp", 10, records_intent=True)
        return row

    async def test_what_a_crash_finds_announced_is_unknown(self, store: Store, clock: ManualClock) -> None:
        row = await self.announced(store)
        await store.start_request(row, sha(b"body"))
        clock.advance(5)
        await store.release_all_leases()
        row = await self.again(store)
        assert (row.in_doubt, row.in_doubt_since, row.maybe_delivered, row.sent_sha256) == (True, clock.now(), True, sha(b"body"))

    async def test_what_a_crash_finds_leased_and_not_announced_has_not_left(self, store: Store) -> None:
        await self.announced(store)
        await store.release_all_leases()
        row = await self.again(store)
        assert (row.in_doubt, row.maybe_delivered) == (False, False)

    async def test_what_a_crash_finds_while_it_is_looked_up_is_still_unknown(self, store: Store, clock: ManualClock) -> None:
        since = clock.now()
        await store.settle_outbox(await self.announced(store), UNKNOWN)
        clock.advance(30)
        await self.again(store)
        await store.release_all_leases()
        row = await self.again(store)
        assert (row.in_doubt, row.in_doubt_since) == (True, since)

    async def test_an_unknown_row_is_due_when_it_says_and_keeps_since_when(self, store: Store, clock: ManualClock) -> None:
        since = clock.now()
        await store.settle_outbox(await self.announced(store), UNKNOWN)
        assert await store.lease_outbox("erp", 10, records_intent=True) == []
        assert await store.next_due_s("outbox", "erp") == 30
        for looks in range(3):
            clock.advance(30)
            row = await self.again(store)
            assert (row.in_doubt_since, row.lookup_attempts) == (since, looks)
            await store.settle_outbox(row, replace(UNKNOWN, looked=True, counts=False))
        assert (row.attempts, row.in_doubt) == (2, True)

    async def test_an_unknown_row_stops_its_own_order_only(self, store: Store) -> None:
        await store.settle_outbox(await self.announced(store), UNKNOWN)
        await accept(store, incoming("o1", "b"), incoming("o2"))
        await prepare(store)
        assert (await self.again(store)).key == "acme/o2/1"

    async def test_what_is_surely_not_there_is_as_new(self, store: Store, clock: ManualClock) -> None:
        await store.settle_outbox(await self.announced(store), replace(UNKNOWN, ambiguous_failure=True))
        clock.advance(30)
        await store.settle_outbox(await self.again(store), replace(RETRY, cleared=True))
        row = await self.again(store)
        assert (row.in_doubt, row.maybe_delivered, row.in_doubt_since, row.lookup_attempts, row.ambiguous_failures) == (
            False,
            False,
            None,
            0,
            1,
        )

    async def test_a_newer_version_does_not_take_what_is_unknown_away(self, store: Store) -> None:
        await store.settle_outbox(await self.announced(store), UNKNOWN)
        await accept(store, incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        assert await store.sent_before(row, supersede=True) == {"erp"}
        (decided,) = await store.drop(["acme/o1/1"], "anna", "ordered by phone")
        assert decided.problem is None

    async def test_release_of_a_held_unknown_row_says_that_it_is_not_there(self, store: Store) -> None:
        await store.settle_outbox(await self.announced(store), replace(UNKNOWN, status="held"))
        assert await store.lease_outbox("erp", 10, records_intent=True) == []
        (decided,) = await store.release(["acme/o1/1"], "anna")
        assert decided.problem is None
        row = await self.again(store)
        assert (row.in_doubt, row.maybe_delivered, row.attempts) == (False, False, 1)

    async def test_a_restart_goes_on_behind_the_last_finished_request(self, store: Store) -> None:
        row = await self.announced(store)
        await store.start_request(row, None)
        await store.record_progress(row, Progress(step=1, erp_id="42", erp_number="SO-42"))
        await store.record_progress(row, Progress(step=1, item=2))
        await store.release_all_leases()
        row = await self.again(store)
        assert (row.step, row.item, row.erp_id, row.erp_number) == (1, 2, "42", "SO-42")
        assert (row.in_doubt, row.maybe_delivered) == (False, True)

    async def test_an_unclear_later_request_leaves_the_order_taken(self, store: Store) -> None:
        row = await self.announced(store)
        await store.record_progress(row, Progress(step=1, erp_id="42"))
        await store.start_request(row, None)
        await store.release_all_leases()
        row = await self.again(store)
        assert (row.in_doubt, row.step) == (True, 1)
        await store.settle_outbox(row, replace(RETRY, cleared=True))
        row = await self.again(store)
        assert (row.in_doubt, row.maybe_delivered) == (False, True)

    async def test_nobody_announces_or_finishes_after_a_lost_lease(self, store: Store) -> None:
        row = await self.announced(store)
        await store.release_all_leases()
        with pytest.raises(LeaseLost):
            await store.start_request(row, None)
        with pytest.raises(LeaseLost):
            await store.record_progress(row, Progress(step=1))
        assert (await self.again(store)).step == 0

    async def test_an_order_of_the_target_belongs_to_one_of_ours(self, store: Store) -> None:
        await store.settle_outbox(await self.announced(store), replace(DONE, erp_id="42", erp_number="SO-42"))
        other = await self.announced(store, "o2")
        assert await store.claimant(other, "42") == "acme/o1/1"
        assert await store.claimant(other, "43") is None
        await store.settle_outbox(other, DONE)
        await accept(store, incoming("o1", "b"))
        await prepare(store)
        assert await store.claimant(await self.again(store), "42") is None

    async def test_how_long_it_is_unknown_follows_a_jump_of_the_clock(self, store: Store, clock: ManualClock) -> None:
        since = clock.now()
        await store.settle_outbox(await self.announced(store), UNKNOWN)
        clock.jump(86_400)
        await store.shift_due(86_400_000, 10**9)
        clock.advance(30)
        row = await self.again(store)
        assert row.in_doubt_since is not None
        assert (row.in_doubt_since - since).total_seconds() == 86_400


class Acknowledging:
    async def test_stored_acknowledgements_come_with_the_event(self, store: Store) -> None:
        await accept(store, incoming("o1", reference="R-1", acknowledge="stored"), incoming("o1", reference="R-1", acknowledge="stored"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        assert (row.stage, row.reference, row.order_ref, row.attempts) == ("stored", "R-1", "o1", 1)
        await store.settle_acknowledgements([(row, Settlement(status="done", outcome="acknowledged"))])
        assert await store.lease_acknowledgements("acme", 10) == []

    async def test_delivered_acknowledgements_wait_for_the_last_target(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        await prepare(store, "erp", "archive")
        await deliver(store, acknowledge=True)
        assert await store.lease_acknowledgements("acme", 10) == []
        await deliver(store, target="archive", acknowledge=True)
        (row,) = await store.lease_acknowledgements("acme", 10)
        assert (row.stage, row.reference) == ("delivered", "o1")

    async def test_a_dropped_message_is_never_acknowledged_as_delivered(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        await prepare(store, "erp", "archive")
        await store.drop(["acme/o1/1"], "anna", "no")
        await deliver(store, target="archive", acknowledge=True)
        assert await store.lease_acknowledgements("acme", 10) == []

    async def test_one_lease_holds_one_stage(self, store: Store) -> None:
        await accept(store, incoming("o1", acknowledge="stored"))
        await prepare(store)
        await deliver(store, acknowledge=True)
        stages = [[row.stage for row in await store.lease_acknowledgements("acme", 10)] for _ in range(2)]
        assert stages == [["stored"], ["delivered"]]

    async def test_an_unconfirmed_one_is_tried_again(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1", acknowledge="stored"), incoming("o2", acknowledge="stored"))
        first, second = await store.lease_acknowledgements("acme", 10)
        retry = Settlement(status="ready", outcome="retry", due_in_s=30)
        await store.settle_acknowledgements([(first, Settlement(status="done", outcome="acknowledged")), (second, retry)])
        assert await store.lease_acknowledgements("acme", 10) == []
        clock.advance(30)
        (again,) = await store.lease_acknowledgements("acme", 10)
        assert (again.order_ref, again.attempts) == ("o2", 2)


class Deciding:
    async def dead(self, store: Store, ref: str = "o1", **more: Any) -> None:
        await accept(store, incoming(ref), **more)
        await prepare(store, source=more.get("source", "acme"))
        await deliver(store, Settlement(status="dead", outcome="refused", reason="no such customer"))

    async def test_replay_starts_a_dead_letter_over(self, store: Store, clock: ManualClock) -> None:
        await self.dead(store)
        (decided,) = await store.replay(["acme/o1/1"], "anna")
        assert (decided.queue, decided.problem) == ("outbox", None)
        (row,) = await store.lease_outbox("erp", 10)
        assert (row.attempts, row.first_attempt_at) == (1, None)

    async def test_replay_takes_the_event_key_too(self, store: Store) -> None:
        await self.dead(store)
        assert [d.problem for d in await store.replay(["o1"], "anna")] == [None]

    async def test_replay_leaves_what_is_not_dead(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        (decided,) = await store.replay(["o1"], "anna")
        assert decided.problem is not None
        assert "nothing of it is dead" in decided.problem

    async def test_unknown_keys_are_named(self, store: Store) -> None:
        (decided,) = await store.release(["nonsense"], "anna")
        assert (decided.key, decided.problem is not None) == ("nonsense", True)

    async def test_a_key_of_two_sources_must_be_told_apart(self, store: Store) -> None:
        for source in ("acme", "other"):
            dead = NewEvent(key="same", document=b"{", sha256=sha(b"{"), dead="not JSON")
            await accept(store, dead, source=source)
        (decided,) = await store.replay(["same"], "anna")
        assert decided.problem is not None
        assert "may mean several things" in decided.problem
        assert "\n  inbox:1 (the event acme/same" in decided.problem
        (decided,) = await store.replay(["other/same"], "anna")
        assert decided.problem is None
        assert await store.lease_inbox("acme", 10) == []
        assert len(await store.lease_inbox("other", 10)) == 1

    async def test_drop_ends_a_row_and_lets_the_next_go(self, store: Store) -> None:
        await self.dead(store)
        await accept(store, incoming("o1", "b"))
        await prepare(store)
        assert await store.lease_outbox("erp", 10) == []
        (decided,) = await store.drop(["acme/o1/1"], "anna", "ordered by phone")
        assert decided.problem is None
        assert [row.key for row in await store.lease_outbox("erp", 10)] == ["acme/o1/2"]

    async def test_drop_leaves_what_is_being_sent(self, store: Store) -> None:
        await accept(store, incoming("o1"))
        await prepare(store)
        await store.lease_outbox("erp", 10)
        (decided,) = await store.drop(["acme/o1/1"], "anna", "no")
        assert decided.problem is not None
        assert "right now" in decided.problem

    async def test_release_says_what_a_row_waits_behind(self, store: Store) -> None:
        await self.dead(store)
        await accept(store, incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(row, Settlement(status="held", outcome="revision"), with_earlier=True)
        await store.release(["o1@2"], "anna")
        await prepare(store)
        (decided,) = await store.replay(["acme/o1/1"], "anna")
        assert decided.waits_behind is None
        await deliver(store, Settlement(status="dead", outcome="refused"))
        assert await store.lease_outbox("erp", 10) == []

    async def test_a_dead_acknowledgement_can_be_replayed(self, store: Store) -> None:
        await accept(store, incoming("o1", acknowledge="stored"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        await store.settle_acknowledgements([(row, Settlement(status="dead", outcome="dead"))])
        assert [d.queue for d in await store.replay(["o1"], "anna")] == ["acknowledgements"]
        assert len(await store.lease_acknowledgements("acme", 10)) == 1


class Keeping:
    async def test_release_all_leases_gives_everything_back(self, store: Store) -> None:
        await accept(store, incoming("o1", acknowledge="stored"), incoming("o2", acknowledge="stored"))
        await prepare(store)
        await store.lease_outbox("erp", 1)
        await store.lease_acknowledgements("acme", 1)
        await accept(store, incoming("o3"))
        await store.lease_inbox("acme", 10)
        await store.release_all_leases()
        assert len(await store.lease_outbox("erp", 10)) == 2
        assert len(await store.lease_acknowledgements("acme", 10)) == 2
        assert len(await store.lease_inbox("acme", 10)) == 1

    async def test_what_the_process_ended_over_again_and_again_goes_last(self, store: Store, clock: ManualClock) -> None:
        async def leased() -> set[str]:
            return {row.key for row in await store.lease_inbox("acme", 50)}

        await accept(store, *(incoming(f"o{n}") for n in range(20)))
        for _ in range(3):
            assert len(await leased()) == 20, "after an end or two they come again at once"
            await store.release_all_leases()
        await accept(store, incoming("new"))
        assert await leased() == {"new"}
        clock.advance(3)
        some: set[str] = set()
        while one := await leased():
            assert len(one) == 1, "each of them goes by itself, so that only it is blamed for the next end"
            some |= one
        assert 0 < len(some) < 20, "they do not come back all at the same time, with the one that it was among them"
        clock.advance(1)
        assert len([one for _ in range(20) for one in await leased()]) == 20 - len(some), "what a kill found leased is back within 5 s"

    async def test_beside_one_that_was_tried_often_the_others_go_together(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("often"))
        for _ in range(3):
            await store.lease_inbox("acme", 10)
            await store.release_all_leases()
        await accept(store, incoming("o1"), incoming("o2"))
        clock.advance(5)
        await accept(store, incoming("o3"))
        turns = [{row.key for row in await store.lease_inbox("acme", 10)} for _ in range(4)]
        assert turns == [{"o1", "o2"}, {"often"}, {"o3"}, set()]

    async def test_what_ended_ten_processes_comes_back_later_and_later(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1"))
        for _ in range(10):
            assert len(await store.lease_inbox("acme", 1)) == 1
            await store.release_all_leases()
            clock.advance(5)
        for longest_s in (10, 20, 40, 80, 160, 320, 640, 900, 900):
            await store.lease_inbox("acme", 1)
            await store.release_all_leases()
            clock.advance(longest_s / 2 - 1)
            assert await store.lease_inbox("acme", 1) == []
            clock.advance(longest_s / 2 + 1)

    @pytest.mark.parametrize("jump_s", [-3600, 2 * 86400])
    async def test_due_times_follow_a_jump_of_the_clock(self, store: Store, clock: ManualClock, jump_s: int) -> None:
        await accept(store, incoming("o1"), incoming("o2"))
        one, two = await store.lease_inbox("acme", 10)
        await store.settle_inbox(one, Settlement(status="ready", outcome="retry", due_in_s=60))
        await store.settle_inbox(two, Settlement(status="ready", outcome="retry", due_in_s=0))
        clock.jump(jump_s)
        await store.shift_due(jump_s * 1000, 86_400_000)
        assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o2"]
        clock.advance(60)
        assert [row.key for row in await store.lease_inbox("acme", 10)] == ["o1"]

    async def test_a_first_start_by_a_clock_that_was_ahead_moves_back_with_it(self, store: Store, clock: ManualClock) -> None:
        """A poll asks for nothing from before the first start; what the vendor takes meanwhile would be left out."""
        before = await store.register(["early"])
        first = clock.now()
        clock.jump(2 * 86400)
        await store.shift_due(2 * 86_400_000, 86_400_000)
        assert await store.register(["late"]) == before | {"late": clock.now()}
        clock.advance(10)
        clock.jump(-2 * 86400)
        await store.shift_due(-2 * 86_400_000, 86_400_000)
        assert await store.register([]) == before | {"late": first}

    async def test_a_clock_that_was_never_set_moves_no_first_start(self, store: Store, clock: ManualClock) -> None:
        first = await store.register(["acme"])
        back_s = int(clock.now().timestamp()) - 60
        clock.jump(-back_s)
        await store.shift_due(-back_s * 1000, 86_400_000)
        assert await store.register([]) == first

    @pytest.mark.parametrize("jump_s", [-3600, 2 * 86400])
    async def test_what_came_after_a_jump_and_before_it_was_noticed_does_not_wait_for_it(
        self, store: Store, clock: ManualClock, jump_s: int
    ) -> None:
        await accept(store, incoming("o1"))
        clock.advance(10)
        clock.jump(jump_s)
        clock.advance(0.5)
        await accept(store, incoming("o2"), incoming("o3"))
        rows = {row.key: row for row in await store.lease_inbox("acme", 10)}
        await store.settle_inbox(rows["o3"], Settlement(status="ready", outcome="retry", due_in_s=5))
        await store.settle_inbox(rows["o2"], Settlement(status="ready", outcome="retry", due_in_s=0))
        clock.advance(0.5)
        await store.shift_due(jump_s * 1000, 86_400_000)
        clock.advance(5)
        later = {row.key for row in await store.lease_inbox("acme", 10)}
        assert later | set(rows) == {"o1", "o2", "o3"}
        assert {"o2", "o3"} <= later

    async def test_a_jump_ahead_is_no_time_of_trying(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1"))
        await prepare(store)
        for _ in range(2):
            (row,) = await store.lease_outbox("erp", 10)
            end = Settlement(status="ready", outcome="retry", due_in_s=100, started_at_ms=clock.now_ms())
            await store.settle_outbox(row, end, acknowledge=False)
            clock.advance(100)
        clock.jump(30 * 86400)
        await store.shift_due(30 * 86_400_000, 86_400_000)
        clock.advance(100)
        (row,) = await store.lease_outbox("erp", 10)
        assert row.first_attempt_at is not None
        assert (clock.now() - row.first_attempt_at).total_seconds() == 300

    async def test_nothing_is_due_further_away_than_allowed(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1"))
        (row,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(row, Settlement(status="ready", outcome="retry", due_in_s=10**6))
        await store.shift_due(0, 900_000)
        clock.advance(900)
        assert len(await store.lease_inbox("acme", 10)) == 1

    async def test_erase_keeps_keys_and_what_is_under_way(self, store: Store, clock: ManualClock) -> None:
        await accept(store, incoming("o1"), incoming("o2"))
        await prepare(store)
        await deliver(store, limit=1)
        clock.advance(10)
        assert await store.redact_bodies(clock.now(), 100) == 3  # two documents, one body
        assert await accept(store, incoming("o1")) == [("o1", "repeat")]
        (row,) = await store.lease_outbox("erp", 10)
        assert row.body is not None

    async def test_erase_leaves_an_open_order_its_newest_message(self, store: Store, clock: ManualClock) -> None:
        await accept(store, *(incoming("o1", None, key=f"e{n}") for n in range(2)))
        for _ in range(2):
            (row,) = await store.lease_inbox("acme", 10)
            await store.prepared([replace(message(row, "erp"), open=True)])
            await deliver(store)
        clock.advance(10)
        assert await store.redact_bodies(clock.now(), 100) == 3  # two documents, the older body
        (one,) = await store.open_orders("acme", 0, 10)
        assert one.message == b"message e1@1"
        assert await store.redact_bodies(clock.now(), 100) == 0

    async def test_a_waiter_is_woken_by_what_it_waits_for(self, store: Store) -> None:
        waiting = asyncio.create_task(store.wait("inbox", "acme", 60))
        await asyncio.sleep(0)
        await accept(store, incoming("o1"))
        await asyncio.wait_for(waiting, 5)

    async def test_a_waiter_gives_up_in_time(self, store: Store) -> None:
        await asyncio.wait_for(store.wait("outbox", "erp", 0.01), 5)

    async def test_a_cancelled_caller_leaves_a_whole_transaction(self, store: Store) -> None:
        for n in range(50):
            task = asyncio.create_task(accept(store, incoming(f"o{n}"), incoming(f"p{n}")))
            await asyncio.sleep(0)
            task.cancel()
        rows = await store.lease_inbox("acme", 1000)
        assert {row.key[1:] for row in rows if row.key[0] == "o"} == {row.key[1:] for row in rows if row.key[0] == "p"}
        assert await accept(store, incoming("after")) == [("after", "stored")]


class StoreConformance(
    Accepting,
    Versions,
    Preparing,
    Revising,
    Delivering,
    Unclear,
    Acknowledging,
    Submitting,
    Deciding,
    Naming,
    Choosing,
    Resending,
    Keeping,
    OfTargets,
):
    """All of it."""
