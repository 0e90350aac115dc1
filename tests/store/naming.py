"""What every store must do with names, filters and messages that are sent again; a part of the common suite."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.store.arrivals import NewEvent
from gateway.store.base import Store
from gateway.store.decisions import AT_ONCE, Choice, Decided
from gateway.store.outcome import Settlement
from gateway.store.rows import Delivery, InboxRow, OutboxRow, Prepared
from gateway.store.submissions import NewSubmission
from gateway.testing import ManualClock

DONE = Settlement(status="done", outcome="delivered", detail="taken as 42")
DEAD = Settlement(status="dead", outcome="refused", reason="the target refuses the order (422)")
PAUSED = Settlement(status="held", outcome="held", reason="look at it")
ONE = Choice(yes=False)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def event(ref: str, content: str = "1", *, key: str | None = None, **more: Any) -> NewEvent:
    document = f"{ref} {content}".encode()
    return NewEvent(key=key or ref, order_ref=ref, document=document, sha256=sha(document), content=sha(content.encode()), **more)


async def accept(store: Store, *events: NewEvent, source: str = "acme") -> None:
    await store.register(["acme", "other"])
    await store.accept(source, "webhook", events)


def message(row: InboxRow, *targets: str, number: str | None = None) -> Prepared:
    body = f"message {row.key}@{row.version}".encode()
    deliveries = tuple(Delivery(target=target, kind="order.placed", body=body, sha256=sha(body)) for target in targets)
    n = row.messages + 1
    return Prepared(row=row, key=f"{row.source}/{row.order_ref}/{n}", n=n, deliveries=deliveries, number=number)


async def prepare(store: Store, *targets: str, source: str = "acme", number: str | None = None) -> None:
    while rows := await store.lease_inbox(source, 100):
        await store.prepared([message(row, *(targets or ("erp",)), number=number) for row in rows])


async def deliver(store: Store, end: Settlement = DONE, *, target: str = "erp", only: str | None = None) -> list[str]:
    rows = await store.lease_outbox(target, 100)
    for row in rows:
        back = Settlement(status="ready", outcome="handed_back", counts=False)
        await store.settle_outbox(row, end if only in (None, row.key) else back)
    return [row.key for row in rows]


async def dead(store: Store, *refs: str, targets: tuple[str, ...] = ("erp",), source: str = "acme") -> None:
    """Orders whose messages were refused by every target."""
    await accept(store, *(event(ref) for ref in refs), source=source)
    await prepare(store, *targets, source=source)
    for target in targets:
        await deliver(store, DEAD, target=target)


def touched(said: list[Decided]) -> list[str | None]:
    """The rows that were decided on."""
    return [one.row for one in said if not one.problem and not one.would]


def listed(said: list[Decided]) -> list[str]:
    """The names that a refusal lists."""
    (one,) = said
    assert one.problem is not None
    assert "may mean several things" in one.problem
    return [line.split()[0] for line in one.problem.splitlines()[1:]]


class Naming:
    """A command touches what it was told and nothing else."""

    async def test_a_message_and_another_orders_event_of_the_same_text_are_told_apart(self, store: Store) -> None:
        await dead(store, "x")
        await accept(store, event("x/1"))
        await prepare(store)
        said = await store.drop(["acme/x/1"], "anna", "no")
        assert listed(said) == ["inbox:2", "message:acme/x/1", "order:acme/x/1"]
        for name, row in (("message:acme/x/1", "outbox:1"), ("order:acme/x/1", "outbox:2")):
            assert touched(await store.drop([name], "anna", "no", choice=ONE)) == [row]

    async def test_a_version_and_another_orders_event_of_the_same_text_are_told_apart(self, store: Store) -> None:
        await accept(store, event("v"), event("v", "2"), event("v@2"))
        said = await store.drop(["v@2"], "anna", "no")
        assert listed(said) == ["inbox:2", "inbox:3", "order:acme/v@2"]
        assert touched(await store.drop(["inbox:2"], "anna", "no")) == ["inbox:2"]
        assert listed(await store.drop(["event:acme/v@2"], "anna", "no")) == ["inbox:2", "inbox:3"]

    async def test_a_vendors_number_and_another_orders_reference_are_told_apart(self, store: Store) -> None:
        await accept(store, event("a"))
        await prepare(store, number="PO-1")
        await accept(store, event("PO-1"))
        await prepare(store)
        said = await store.drop(["PO-1"], "anna", "no")
        assert set(listed(said)) == {"order:acme/a", "inbox:2", "order:acme/PO-1"}
        assert touched(await store.drop(["number:PO-1"], "anna", "no")) == ["outbox:1"]

    async def test_a_number_of_two_orders_names_neither(self, store: Store) -> None:
        for source in ("acme", "other"):
            await accept(store, event("a"), source=source)
            await prepare(store, source=source, number="PO-7")
        assert listed(await store.drop(["number:PO-7"], "anna", "no")) == ["order:acme/a", "order:other/a"]

    async def test_a_submission_and_an_order_of_the_same_text_are_told_apart(self, store: Store) -> None:
        await dead(store, "same")
        new = NewSubmission(id="same", caller="erp", key="k", source="acme", command="c", body=b"{}", sha256=sha(b"{}"))
        await store.accept_submission(new)
        assert listed(await store.drop(["same"], "anna", "no")) == ["inbox:1", "order:acme/same", "submit:1"]
        assert touched(await store.drop(["submit:1"], "anna", "no")) == ["submit:1"]

    async def test_a_row_is_that_row_alone(self, store: Store) -> None:
        await dead(store, "o1")
        (said,) = await store.replay(["inbox:1"], "anna")
        assert said.problem == "nothing of it is dead (inbox done). outbox:1 (dead) was made of it."
        assert touched(await store.replay(["outbox:1"], "anna")) == ["outbox:1"]

    async def test_the_name_of_an_acknowledgement(self, store: Store) -> None:
        await accept(store, event("o1", acknowledge="stored"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        await store.settle_acknowledgements([(row, DEAD)])
        assert touched(await store.replay(["ack:1"], "anna")) == ["ack:1"]

    async def test_an_events_name_goes_on_to_the_one_row_made_of_it_that_fits(self, store: Store) -> None:
        await dead(store, "o1", targets=("erp", "archive"))
        assert listed(await store.replay(["event:acme/o1"], "anna")) == ["inbox:1"]
        assert touched(await store.drop(["outbox:1"], "anna", "no")) == ["outbox:1"]
        assert touched(await store.replay(["event:acme/o1"], "anna")) == ["outbox:2"]

    async def test_an_events_own_row_comes_before_what_was_made_of_it(self, store: Store) -> None:
        await accept(store, event("o1", acknowledge="stored"))
        (row,) = await store.lease_acknowledgements("acme", 10)
        await store.settle_acknowledgements([(row, DEAD)])
        (inbox,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(inbox, DEAD)
        assert touched(await store.drop(["event:acme/o1"], "anna", "no")) == ["inbox:1"]

    async def test_a_bare_text_for_one_order_means_the_one_row_of_it_that_fits(self, store: Store) -> None:
        await dead(store, "o1")
        await accept(store, event("o1", "2"))
        (second,) = await store.lease_inbox("acme", 10)
        await store.settle_inbox(second, PAUSED)
        assert listed(await store.drop(["o1"], "anna", "no")) == ["inbox:1", "inbox:2", "order:acme/o1"]
        assert touched(await store.release(["o1"], "anna")) == ["inbox:2"]
        assert touched(await store.replay(["acme/o1"], "anna")) == ["outbox:1"]

    async def test_a_name_with_a_prefix_is_nothing_else(self, store: Store) -> None:
        await accept(store, event("inbox:1"), event("message:o1"))
        await prepare(store)
        assert touched(await store.drop(["event:acme/inbox:1"], "anna", "no")) == ["outbox:1"]
        for name in ("message:o1", "inbox:7", "ack:1", "order:acme", "order:nobody/inbox:1", "number:inbox:1", "event:", "outbox:²"):
            (said,) = await store.drop([name], "anna", "no")
            assert said.problem is not None, name
            assert said.problem.startswith("no such key"), name

    async def test_every_name_that_a_refusal_lists_can_be_pasted_back(self, store: Store) -> None:
        await dead(store, "x")
        await dead(store, "x/1")
        said = await store.replay(["acme/x/1"], "anna", choice=Choice(dry_run=True))
        for name in listed(said):
            (one,) = await store.replay([name], "anna", choice=Choice(dry_run=True))
            assert one.would or "outbox:2 (dead) was made of it" in str(one.problem), name

    async def test_more_than_one_row_is_asked_about(self, store: Store) -> None:
        await dead(store, "o1", targets=("erp", "archive"))
        said = await store.replay(["message:acme/o1/1"], "anna", choice=ONE)
        assert [(one.row, one.status, one.would) for one in said] == [("outbox:1", "dead", True), ("outbox:2", "dead", True)]
        assert touched(await store.replay(["outbox:1"], "anna", choice=ONE)) == ["outbox:1"]
        await deliver(store, DEAD)
        assert touched(await store.replay(["message:acme/o1/1"], "anna")) == ["outbox:1", "outbox:2"]

    async def test_a_row_that_is_named_twice_is_one(self, store: Store) -> None:
        await dead(store, "o1")
        assert touched(await store.replay(["outbox:1", "acme/o1/1", "order:acme/o1"], "anna", choice=ONE)) == ["outbox:1"]

    async def test_a_dry_run_changes_nothing(self, store: Store) -> None:
        await dead(store, "o1")
        for decide in (store.replay, store.release):
            await decide(["o1"], "anna", choice=Choice(dry_run=True))
        (said,) = await store.drop(["o1"], "anna", "no", choice=Choice(dry_run=True))
        assert (said.row, said.would) == ("outbox:1", True)
        assert touched(await store.replay(["o1"], "anna")) == ["outbox:1"]


class Choosing:
    """Filters are looked at in the transaction that decides."""

    async def test_by_status_source_target_and_age(self, store: Store, clock: ManualClock) -> None:
        await dead(store, "old", targets=("erp", "archive"))
        clock.advance(86_400)
        await dead(store, "new")
        await dead(store, "theirs", source="other")
        for choice, rows in (
            (Choice(status="dead", dry_run=True), ["outbox:1", "outbox:2", "outbox:3", "outbox:4"]),
            (Choice(source="other", dry_run=True), ["outbox:4"]),
            (Choice(target="archive", dry_run=True), ["outbox:2"]),
            (Choice(target="archive", source="other", dry_run=True), []),
            (Choice(older_than_s=3600, dry_run=True), ["outbox:1", "outbox:2"]),
            (Choice(status="held", dry_run=True), []),
            (Choice(dry_run=True), []),
        ):
            assert [one.row for one in await store.replay([], "anna", choice=choice)] == rows, choice

    async def test_all_queues_and_all_statuses_are_found(self, store: Store) -> None:
        await dead(store, "o1")
        await accept(store, NewEvent(key="bad", document=b"{", sha256=sha(b"{"), dead="no JSON"), event("o2", acknowledge="stored"))
        (ack,) = await store.lease_acknowledgements("acme", 10)
        await store.settle_acknowledgements([(ack, DEAD)])
        new = NewSubmission(id="s", caller="erp", key="k", source="acme", command="c", body=b"{}", sha256=sha(b"{}"))
        await store.accept_submission(new)
        (sub,) = await store.lease_submissions("acme", 10)
        await store.settle_submission(sub, DEAD)
        found = await store.replay([], "anna", choice=Choice(status="dead"))
        assert touched(found) == ["inbox:2", "outbox:1", "ack:1", "submit:1"]
        ready = await store.drop([], "anna", "no", choice=Choice(status="ready", source="acme", dry_run=True))
        assert [one.row for one in ready] == ["inbox:2", "inbox:3", "outbox:1", "ack:1", "submit:1"]

    async def test_what_does_not_match_at_that_moment_is_not_touched(self, store: Store) -> None:
        await dead(store, "o1", "o2")
        shown = await store.drop([], "anna", "no", choice=Choice(status="dead", dry_run=True))
        await store.replay(["outbox:2"], "anna")
        await accept(store, event("o3"))
        await prepare(store)
        assert len(shown) == 2
        assert touched(await store.drop([], "anna", "no", choice=Choice(status="dead"))) == ["outbox:1"]

    async def test_several_need_a_yes_and_one_does_not(self, store: Store) -> None:
        await dead(store, "o1", "o2")
        only = Choice(status="dead", yes=False)
        assert [one.would for one in await store.replay([], "anna", choice=only)] == [True, True]
        await store.drop(["outbox:1"], "anna", "no")
        assert touched(await store.replay([], "anna", choice=only)) == ["outbox:2"]

    async def test_many_are_taken_in_slices_each_row_once(self, store: Store) -> None:
        count = AT_ONCE + 7
        bad = [NewEvent(key=f"bad {n}", document=b"{", sha256=sha(b"{"), dead="no JSON") for n in range(count)]
        await accept(store, *bad)
        await dead(store, "o1")
        rows: list[str | None] = []
        while part := await store.replay([], "anna", choice=Choice(status="dead", after=rows[-1] if rows else None)):
            assert len(part) <= AT_ONCE
            rows += touched(part)
        assert rows == [*(f"inbox:{n + 1}" for n in range(count)), "outbox:1"]


class Resending:
    """A delivered message goes again, under its key and with its bytes, and overtakes nothing."""

    async def delivered(self, store: Store, ref: str = "o1", versions: int = 1) -> None:
        for n in range(versions):
            await accept(store, event(ref, str(n)))
            await prepare(store)
            await deliver(store)

    async def again(self, store: Store) -> OutboxRow:
        (row,) = await store.lease_outbox("erp", 10, records_intent=True)
        return row

    async def test_it_is_as_new_and_keeps_its_key_and_bytes(self, store: Store) -> None:
        await self.delivered(store)
        for name in ("acme/o1/1", "o1", "event:acme/o1", "order:acme/o1", "message:acme/o1/1", "outbox:1"):
            said = await store.resend([name], "anna", "the ERP was put back", choice=ONE)
            assert touched(said) == ["outbox:1"], (name, said)
            row = await self.again(store)
            assert (row.key, row.body, row.attempts, row.in_doubt, row.step) == ("acme/o1/1", b"message o1@1", 1, False, 0)
            await store.settle_outbox(row, DONE)

    async def test_what_was_not_delivered_cannot_go_again(self, store: Store) -> None:
        await dead(store, "o1")
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert said.problem == "nothing of it is delivered or duplicate (outbox dead)."
        await store.drop(["acme/o1/1"], "anna", "no")
        (said,) = await store.resend(["outbox:1"], "anna", "x")
        assert said.problem is not None

    async def test_an_erased_body_is_the_reason(self, store: Store, clock: ManualClock) -> None:
        await self.delivered(store)
        clock.advance(10)
        assert await store.redact_bodies(clock.now(), 10) > 0
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "its body has been erased" in str(said.problem)
        assert await store.lease_outbox("erp", 10) == []

    async def test_it_does_not_overtake_a_later_message_that_was_delivered(self, store: Store) -> None:
        await self.delivered(store, versions=2)
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "outbox:2 (acme/o1/2) was delivered after it" in str(said.problem)
        assert touched(await store.resend(["acme/o1/2"], "anna", "x")) == ["outbox:2"]
        await store.settle_outbox(await self.again(store), DONE)
        assert touched(await store.resend(["acme/o1/2", "acme/o1/1"], "anna", "x")) == ["outbox:2", "outbox:1"]
        assert [await deliver(store) for _ in range(2)] == [["acme/o1/1"], ["acme/o1/2"]]

    async def test_where_the_later_one_cannot_go_neither_goes(self, store: Store, clock: ManualClock) -> None:
        await self.delivered(store, versions=2)
        clock.advance(10)
        await store.redact_bodies(clock.now(), 10)
        said = await store.resend(["acme/o1/1", "acme/o1/2"], "anna", "x")
        assert [one.problem is None for one in said] == [False, False]

    async def test_what_is_open_behind_it_waits_for_it(self, store: Store) -> None:
        await self.delivered(store)
        await accept(store, event("o1", "b"))
        await prepare(store)
        assert touched(await store.resend(["acme/o1/1"], "anna", "x")) == ["outbox:1"]
        assert [await deliver(store) for _ in range(2)] == [["acme/o1/1"], ["acme/o1/2"]]

    async def test_nothing_goes_beside_a_later_one_that_is_on_its_way(self, store: Store) -> None:
        await self.delivered(store)
        await accept(store, event("o1", "b"))
        await prepare(store)
        later = await self.again(store)
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "outbox:2 (acme/o1/2, leased)" in str(said.problem)
        await store.settle_outbox(later, replace(DONE, status="ready", outcome="retry", maybe_delivered=True))
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "outbox:2 (acme/o1/2, retry), a later message of the order, may have reached the target" in str(said.problem)
        await store.drop(["outbox:2"], "anna", "no")
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "outbox:2 (acme/o1/2, dropped), a later message" in str(said.problem)

    async def test_it_does_not_overtake_one_that_was_sent_again_and_dropped(self, store: Store) -> None:
        await self.delivered(store, versions=2)
        await store.resend(["acme/o1/2"], "anna", "x")
        await store.drop(["acme/o1/2"], "anna", "no")
        (said,) = await store.resend(["acme/o1/1"], "anna", "x")
        assert "may have reached the target" in str(said.problem)

    @pytest.mark.parametrize("end", ["dropped", "open"])
    async def test_its_target_has_had_it_whatever_becomes_of_it(self, store: Store, end: str) -> None:
        await self.delivered(store)
        await store.resend(["acme/o1/1"], "anna", "x")
        if end == "dropped":
            await store.drop(["acme/o1/1"], "anna", "no")
        await accept(store, event("o1", "b"))
        (row,) = await store.lease_inbox("acme", 10)
        assert await store.sent_before(row, supersede=True) == {"erp"}
        assert (await deliver(store)) == ([] if end == "dropped" else ["acme/o1/1"])
