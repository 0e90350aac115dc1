"""What every store must do with whole targets, in the words of `gateway.store.targets`; a part of the common suite."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gateway.api.errors import LeaseLost
from gateway.api.order import Kind
from gateway.store.arrivals import NewEvent
from gateway.store.base import Store
from gateway.store.outcome import Progress, Settlement
from gateway.testing import ManualClock
from tests.store import conformance as suite

KINDS = get_args(Kind)
TAKEN = Settlement(status="ready", outcome="retry", maybe_delivered=True, due_in_s=60)
HALF = "Zo\u00eb \ud83d and \x00 and \udc00\ud83d"
WHOLE = "Zo\u00eb \ufffd and \ufffd and \ufffd\ufffd"


async def move(store: Store, old: str = "erp", new: str = "new", **more: Any) -> dict[str, str | None]:
    options: dict[str, Any] = {"accepts": KINDS, "same_erp": False, "dry_run": False, **more}
    return {one.key: one.problem for one in await store.move_target(old, new, "anna", **options)}


class OfTargets:
    async def test_what_a_person_holds_stays_held_until_a_person_releases_it(self, store: Store, clock: ManualClock) -> None:
        assert await store.paused_target("erp") is None
        held = await store.pause_target("erp", "anna", "stocktaking")
        assert (held.words, held.at) == (f"paused by anna: stocktaking (since {clock.now():%Y-%m-%d %H:%M} UTC)", clock.now())
        assert await store.paused_target("erp") == held
        assert await store.paused_target("other") is None
        await store.release_all_leases()
        assert await store.paused_target("erp") == held
        assert (await store.release_target("erp", "bert"), await store.release_target("erp", "bert")) == (True, False)
        assert await store.paused_target("erp") is None

    async def test_a_hold_can_be_said_again_with_another_reason(self, store: Store) -> None:
        await store.pause_target("erp", "anna", "stocktaking")
        await store.pause_target("erp", "bert", None)
        held = await store.paused_target("erp")
        assert held is not None
        assert held.words.startswith("paused by bert (since ")

    # --- another target

    async def test_what_waits_for_one_target_goes_to_another_in_its_order(self, store: Store) -> None:
        for content in ("a", "b", "c"):
            await suite.accept(store, suite.incoming("o1", content))
            await suite.prepare(store)
        await suite.accept(store, suite.incoming("o2"))
        await suite.prepare(store)
        dry = await move(store, dry_run=True)
        assert dry == dict.fromkeys(["acme/o1/1", "acme/o1/2", "acme/o1/3", "acme/o2/1"])
        assert await store.lease_outbox("new", 10) == []
        assert await move(store) == dry
        assert await store.lease_outbox("erp", 10) == []
        assert await suite.deliver(store, target="new") == ["acme/o1/1", "acme/o2/1"]
        assert await suite.deliver(store, target="new") == ["acme/o1/2"]
        assert await suite.deliver(store, target="new") == ["acme/o1/3"]
        assert await move(store) == {}

    async def test_dead_and_held_rows_go_along_and_stay_what_they_are(self, store: Store) -> None:
        ends = {
            "dead": Settlement(status="dead", outcome="refused", reason="no"),
            "held": Settlement(status="held", outcome="held", reason="look"),
        }
        for ref in ends:
            await suite.accept(store, suite.incoming(ref))
        await suite.prepare(store)
        for row in await store.lease_outbox("erp", 10):
            await store.settle_outbox(row, ends[row.order_ref])
        assert await move(store) == {"acme/dead/1": None, "acme/held/1": None}
        assert await store.lease_outbox("new", 10) == []
        await store.replay(["acme/dead/1"], "anna")
        await store.release(["acme/held/1"], "anna")
        assert sorted(await suite.deliver(store, target="new")) == ["acme/dead/1", "acme/held/1"]

    async def test_what_the_old_target_may_have_goes_only_where_it_is_the_same_erp(self, store: Store, clock: ManualClock) -> None:
        await suite.accept(store, suite.incoming("o1"), suite.incoming("o2"))
        await suite.prepare(store)
        first, second = await store.lease_outbox("erp", 10)
        await store.settle_outbox(first, TAKEN)
        await store.settle_outbox(second, Settlement(status="unknown", outcome="unknown", due_in_s=60))
        said = await move(store)
        assert all(problem and "--same-erp" in problem for problem in said.values())
        assert await move(store, same_erp=True) == {"acme/o1/1": None, "acme/o2/1": None}
        clock.advance(61)
        rows = {row.key: row for row in await store.lease_outbox("new", 10)}
        assert rows["acme/o1/1"].maybe_delivered
        assert rows["acme/o2/1"].in_doubt_since is not None

    async def test_an_order_that_the_new_target_has_a_later_message_of_stays_whole(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1", "a"))
        await suite.prepare(store, "erp")
        await suite.accept(store, suite.incoming("o1", "b"))
        await suite.prepare(store, "erp", "new")
        said = await move(store)
        assert all(problem and "acme/o1/2 already" in problem for problem in said.values())
        assert len(said) == 2
        assert await suite.deliver(store) == ["acme/o1/1"], "it is where it was"
        said = await move(store)
        assert said["acme/o1/2"] is not None

    async def test_nothing_overtakes_a_later_message_that_the_new_target_has_had(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1", "a"))
        await suite.prepare(store, "erp")
        await suite.accept(store, suite.incoming("o1", "b"))
        await suite.prepare(store, "new")
        assert await suite.deliver(store, target="new") == ["acme/o1/2"]
        (problem,) = (await move(store)).values()
        assert problem is not None
        assert "a later message" in problem

    async def test_what_follows_a_message_of_the_new_target_waits_for_it(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1", "a"))
        await suite.prepare(store, "new")
        await suite.accept(store, suite.incoming("o1", "b"))
        await suite.prepare(store, "erp")
        assert await move(store) == {"acme/o1/2": None}
        assert await suite.deliver(store, target="new") == ["acme/o1/1"]
        assert await suite.deliver(store, target="new") == ["acme/o1/2"]

    async def test_a_message_that_the_new_target_does_not_take_stays(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1"))
        await suite.prepare(store, kind="order.status")
        (problem,) = (await move(store, accepts=("order.placed",))).values()
        assert problem == "new does not take order.status (its `accepts`)"

    async def test_what_was_sent_to_a_renamed_target_counts_as_sent(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1", "a"))
        await suite.prepare(store)
        await suite.deliver(store)
        await move(store, same_erp=True)
        await suite.accept(store, suite.incoming("o1", "b"))
        (row,) = await store.lease_inbox("acme", 1)
        assert await store.sent_before(row, supersede=False) == {"erp", "new"}
        await move(store, "new", "newest", same_erp=True)
        assert await store.sent_before(row, supersede=False) == {"erp", "new", "newest"} - {"new"}

    async def test_an_order_of_the_erp_that_the_renamed_target_made_is_known(self, store: Store) -> None:
        """Another order under the same name is not taken for it."""
        await suite.accept(store, suite.incoming("o1"))
        await suite.prepare(store)
        await suite.deliver(store, Settlement(status="done", outcome="delivered", erp_id="41"))
        await suite.accept(store, suite.incoming("o2"))
        await suite.prepare(store, "new")
        (row,) = await store.lease_outbox("new", 1)
        assert await store.claimant(row, "41") is None
        await move(store, same_erp=True)
        assert await store.claimant(row, "41") == "acme/o1/1"

    # --- what is tried while a target is down

    async def test_what_is_due_later_can_be_leased_early_and_another_one_first(self, store: Store) -> None:
        await suite.accept(store, suite.incoming("o1"), suite.incoming("o2"))
        await suite.prepare(store)
        first, second = await store.lease_outbox("erp", 10)
        await store.settle_outbox(first, Settlement(status="ready", outcome="retry", due_in_s=10))
        await store.settle_outbox(second, Settlement(status="ready", outcome="retry", due_in_s=900))
        assert await store.lease_outbox("erp", 1) == []
        (row,) = await store.lease_outbox("erp", 1, early=True, but_not=[first.id])
        assert row.id == second.id
        (row,) = await store.lease_outbox("erp", 1, early=True, but_not=[first.id, second.id])
        assert row.id == first.id, "there is no other"
        assert await store.lease_outbox("erp", 1, early=True) == []

    async def test_what_waits_behind_its_order_is_never_early(self, store: Store) -> None:
        for content in ("a", "b"):
            await suite.accept(store, suite.incoming("o1", content))
            await suite.prepare(store)
        (row,) = await store.lease_outbox("erp", 10, early=True)
        assert row.key == "acme/o1/1"
        assert await store.lease_outbox("erp", 10, early=True) == []

    # --- attempts without an end

    @pytest.mark.parametrize(("records_intent", "sent", "ends"), [(False, False, "ready"), (True, False, "ready"), (True, True, "unknown")])
    async def test_a_row_whose_end_could_not_be_written_goes_back(
        self, store: Store, clock: ManualClock, records_intent: bool, sent: bool, ends: str
    ) -> None:
        await suite.accept(store, suite.incoming("o1"), suite.incoming("o2"))
        await suite.prepare(store)
        row, other = await store.lease_outbox("erp", 10, records_intent=records_intent)
        if sent:
            await store.start_request(row, None)
        assert await store.release_leases("outbox", "erp", "it could not be written", [row.id]) == 1
        with pytest.raises(LeaseLost):
            await store.settle_outbox(row, suite.DONE)
        assert await store.lease_outbox("erp", 10) == [], "not at once: why it went wrong may be in the row"
        clock.advance(901)
        (again,) = await store.lease_outbox("erp", 10)
        assert (again.id, again.in_doubt_since is not None) == (row.id, ends == "unknown")
        assert again.maybe_delivered == (sent or not records_intent)
        await store.settle_outbox(other, suite.DONE)

    async def test_all_of_a_lane_that_a_turn_has_left_goes_back(self, store: Store, clock: ManualClock) -> None:
        await suite.accept(store, suite.incoming("o1"), suite.incoming("o2"))
        await suite.accept(store, suite.incoming("o3"), source="other")
        assert len(await store.lease_inbox("acme", 10)) == 2
        assert len(await store.lease_inbox("other", 10)) == 1
        assert await store.release_leases("inbox", "acme", "it could not be written") == 2
        clock.advance(901)
        assert sorted(row.key for row in await store.lease_inbox("acme", 10)) == ["o1", "o2"]
        assert await store.lease_inbox("other", 10) == []

    # --- what others say

    async def test_words_that_cannot_be_stored_are_stored_with_a_mark_in_their_place(self, store: Store) -> None:
        """An ERP that cuts its words by the length of UTF-16 sends half a surrogate pair (case 21)."""
        end = Settlement(status="dead", outcome="refused", reason=HALF, detail=HALF, erp_id=HALF, erp_number=HALF)
        assert (end.reason, end.detail, end.erp_id, end.erp_number) == (WHOLE,) * 4
        progress = Progress(step=1, erp_id=HALF, erp_number=HALF)
        assert (progress.erp_id, progress.erp_number) == (WHOLE, WHOLE)
        await suite.accept(store, suite.incoming("o1", acknowledge="stored"), NewEvent(key="dead", dead=HALF))
        await suite.prepare(store)
        (row,) = await store.lease_outbox("erp", 1)
        await store.record_progress(row, progress)
        await store.settle_outbox(row, end)
        (ack,) = await store.lease_acknowledgements("acme", 1)
        await store.settle_acknowledgements([(ack, end)])
        await store.drop(["acme/o1/1"], "anna", HALF)
        await store.note("anna", "purge", "1 row", HALF)
        assert (await store.pause_target("erp", "anna", HALF)).reason == WHOLE
