"""What every store must do with commands for a vendor, in the words of `gateway.store.submissions`; a part of the common suite."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.api.commands import Codes
from gateway.api.errors import LeaseLost
from gateway.store.arrivals import NewEvent
from gateway.store.base import Store
from gateway.store.outcome import Settlement
from gateway.store.submissions import NewSubmission, SubmissionEnd, SubmissionRow
from gateway.testing import ManualClock

DONE = Settlement(status="done", outcome="submitted")
RETRY = Settlement(status="ready", outcome="retry", reason="down", due_in_s=30)
UNKNOWN = Settlement(status="unknown", outcome="unknown", reason="no answer in time", due_in_s=30)
PAUSED = Settlement(status="held", outcome="held", reason="a person decides")
DEAD = Settlement(status="dead", outcome="refused", reason="the vendor refuses it")
CODES = Codes(number="RX-1", pickup="P-secret", storage="S-secret")
_ids = itertools.count(1)


def command(key: str, subject: str | None = "RX-1", **more: Any) -> NewSubmission:
    body = more.pop("body", f'{{"order":"{subject}"}}').encode()
    given: dict[str, Any] = {"caller": "erp", "source": "acme", "command": "create_order", "unique": False, **more}
    said = repr((given["source"], given["command"], body.replace(b" ", b""))).encode()
    return NewSubmission(id=f"id-{next(_ids)}", key=key, subject=subject, body=body, sha256=hashlib.sha256(said).digest(), **given)


async def submit_command(store: Store, *new: NewSubmission) -> list[str]:
    """The public ids, all of them stored."""
    accepted = [await store.accept_submission(one) for one in new]
    assert [one.outcome for one in accepted] == ["stored"] * len(new)
    return [one.state.id for one in accepted]


async def leased(store: Store) -> SubmissionRow:
    (row,) = await store.lease_submissions("acme", 10)
    return row


async def due_ids(store: Store) -> list[str]:
    return [row.public_id for row in await store.lease_submissions("acme", 10)]


def created() -> SubmissionEnd:
    document = b'{"request":{},"answer":{}}'
    event = NewEvent(
        key="created-RX-1", order_ref="RX-1", document=document, sha256=hashlib.sha256(document).digest(), acknowledge="stored"
    )
    return SubmissionEnd(answer=b'{"orderNumber":"RX-1"}', codes=CODES, events=(event,))


class Submitting:
    async def test_a_command_is_kept_as_it_came(self, store: Store, clock: ManualClock) -> None:
        (id_,) = await submit_command(store, command("k1", body='{"order": "RX-1"}'))
        row = await leased(store)
        assert (row.public_id, row.caller, row.source, row.command, row.subject) == (id_, "erp", "acme", "create_order", "RX-1")
        assert (row.attempts, row.accepted_at, row.first_attempt_at) == (1, clock.now(), None)
        assert (row.body, row.sha256) == (b'{"order": "RX-1"}', hashlib.sha256(b'{"order": "RX-1"}').digest())
        assert (row.in_doubt_since, row.lookup_attempts) == (None, 0)

    async def test_a_repeat_gets_the_submission_of_then_and_its_state_of_now(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1", body='{"order":"RX-1"}', unique=True))
        await store.settle_submission(await leased(store), DONE, created())
        again = await store.accept_submission(command("k1", body='{"order": "RX-1"}', unique=True))
        assert (again.outcome, again.state.id, again.state.state) == ("repeat", id_, "done")
        assert (again.state.answer, again.state.codes) == (b'{"orderNumber":"RX-1"}', CODES)
        assert await due_ids(store) == []

    @pytest.mark.parametrize("other", [{"body": '{"order":"RX-2"}'}, {"command": "get_order"}, {"source": "other"}])
    async def test_the_same_key_for_something_else_is_a_conflict(self, store: Store, other: dict[str, str]) -> None:
        (id_,) = await submit_command(store, command("k1"))
        refused = await store.accept_submission(command("k1", **other))
        assert (refused.outcome, refused.state.id) == ("conflict", id_)
        assert await due_ids(store) == [id_]

    async def test_a_key_belongs_to_its_caller(self, store: Store) -> None:
        first, second = await submit_command(store, command("k1", None), command("k1", None, caller="shop"))
        assert await store.submission("erp", second) is None
        found = await store.submission("shop", second)
        assert found is not None
        assert (found.id, found.caller, found.state, found.attempts) == (second, "shop", "ready", 0)
        assert await store.submission("erp", "nothing") is None
        assert first != second

    async def test_a_unique_subject_is_taken_while_something_stands_for_it(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1", unique=True, caller="shop"))
        refused = await store.accept_submission(command("k2", unique=True, command="create_recurrent_order"))
        assert (refused.outcome, refused.state.id, refused.state.caller) == ("taken", id_, "shop")
        for end in (PAUSED, DONE):
            await self.settle_first(store, id_, end)
            assert (await store.accept_submission(command("k2", unique=True))).outcome == "taken"
        await submit_command(
            store, command("k2", unique=True, source="other"), command("k3", unique=False), command("k4", "RX-2", unique=True)
        )

    async def settle_first(self, store: Store, id_: str, end: Settlement) -> None:
        await store.release([id_], "anna")
        await store.settle_submission(await leased(store), end)

    async def test_what_was_refused_or_dropped_stands_for_nothing(self, store: Store) -> None:
        first = await submit_command(store, command("k1", unique=True))
        await store.settle_submission(await leased(store), DEAD)
        second = await submit_command(store, command("k2", unique=True))
        (decided,) = await store.replay(first, "anna")
        assert decided.problem is not None
        assert second[0] in decided.problem
        await store.drop(second, "anna", "a mistake")
        (decided,) = await store.replay(first, "anna")
        assert (decided.problem, decided.queue) == (None, "submit")
        assert (await store.accept_submission(command("k3", unique=True))).outcome == "taken"

    async def test_a_refused_one_can_be_dropped_while_another_stands_for_its_number(self, store: Store) -> None:
        refused = await submit_command(store, command("k1", unique=True))
        await store.settle_submission(await leased(store), DEAD)
        await submit_command(store, command("k2", unique=True))
        (decided,) = await store.drop(refused, "anna", "submitted again as k2")
        assert (decided.problem, decided.queue) == (None, "submit")
        assert (await store.accept_submission(command("k3", unique=True))).outcome == "taken"

    async def test_ten_callers_at_once_store_a_command_once(self, store: Store) -> None:
        accepted = await asyncio.gather(*(store.accept_submission(command("k1", unique=True)) for _ in range(10)))
        assert sorted(one.outcome for one in accepted) == ["repeat"] * 9 + ["stored"]
        assert len({one.state.id for one in accepted}) == 1

    async def test_one_of_a_subject_at_a_time_oldest_first(self, store: Store, clock: ManualClock) -> None:
        a1, a2, b1, none1, none2 = await submit_command(
            store, command("k1"), command("k2"), command("k3", "RX-2"), command("k4", None), command("k5", None)
        )
        rows = await store.lease_submissions("acme", 10)
        assert [row.public_id for row in rows] == [a1, b1, none1, none2]
        await store.settle_submission(rows[0], RETRY)
        assert await due_ids(store) == []
        clock.advance(30)
        row = await leased(store)
        assert row.public_id == a1
        await store.settle_submission(row, UNKNOWN)
        assert await due_ids(store) == []
        clock.advance(30)
        await store.settle_submission(await leased(store), DONE)
        assert await due_ids(store) == [a2]

    @pytest.mark.parametrize("end", [PAUSED, DEAD])
    async def test_what_waits_for_a_person_stops_nothing_and_comes_back_behind(self, store: Store, end: Settlement) -> None:
        first, second = await submit_command(store, command("k1"), command("k2"))
        await store.settle_submission(await leased(store), end)
        row = await leased(store)
        (decided,) = await (store.release if end is PAUSED else store.replay)([first], "anna")
        assert (decided.key, decided.waits_behind) == (first, f"{second} (leased)")
        assert await due_ids(store) == []
        await store.settle_submission(row, DONE)
        assert await due_ids(store) == [first]

    async def test_a_command_that_a_crash_finds_announced_is_unknown(self, store: Store, clock: ManualClock) -> None:
        await submit_command(store, command("k1"))
        await store.start_submission(await leased(store))
        clock.advance(5)
        await store.release_all_leases()
        row = await leased(store)
        assert (row.in_doubt_since, row.attempts) == (clock.now(), 2)

    async def test_a_command_that_a_crash_finds_leased_and_not_announced_has_not_left(self, store: Store) -> None:
        await submit_command(store, command("k1"))
        await leased(store)
        await store.release_all_leases()
        assert (await leased(store)).in_doubt_since is None

    async def test_what_is_unknown_stays_so_until_it_is_cleared(self, store: Store, clock: ManualClock) -> None:
        since = clock.now()
        await submit_command(store, command("k1"))
        await store.settle_submission(await leased(store), UNKNOWN)
        assert await store.next_due_s("submit", "acme") == 30
        for looks in range(3):
            clock.advance(30)
            row = await leased(store)
            assert (row.in_doubt_since, row.lookup_attempts, row.attempts) == (since, looks, 2)
            await store.settle_submission(row, replace(UNKNOWN, looked=True, counts=False))
        clock.advance(30)
        await leased(store)  # a crash during a look-up, and one during a repeat
        await store.release_all_leases()
        await store.start_submission(await leased(store))
        await store.release_all_leases()
        row = await leased(store)
        assert row.in_doubt_since == since
        await store.settle_submission(row, replace(RETRY, due_in_s=0, cleared=True))
        row = await leased(store)
        assert (row.in_doubt_since, row.lookup_attempts) == (None, 0)

    async def test_nobody_announces_or_settles_after_a_lost_lease(self, store: Store) -> None:
        await submit_command(store, command("k1"))
        row = await leased(store)
        await store.release_all_leases()
        with pytest.raises(LeaseLost):
            await store.start_submission(row)
        with pytest.raises(LeaseLost):
            await store.settle_submission(row, DONE, created())
        assert await store.lease_inbox("acme", 10) == []

    async def test_an_answer_and_its_events_are_kept_together(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1"))
        accepted = await store.settle_submission(await leased(store), DONE, created())
        assert [(one.key, one.outcome) for one in accepted] == [("created-RX-1", "stored")]
        (row,) = await store.lease_inbox("acme", 10)
        assert (row.door, row.key, row.order_ref) == ("submit", "created-RX-1", "RX-1")
        assert [ack.stage for ack in await store.lease_acknowledgements("acme", 10)] == ["stored"]
        state = await store.submission("erp", id_)
        assert state is not None
        assert (state.state, state.attempts, state.answer, state.codes) == ("done", 1, b'{"orderNumber":"RX-1"}', CODES)

    async def test_an_event_that_overtook_its_answer_is_a_repeat_or_the_next_of_its_order(self, store: Store) -> None:
        overtaking = replace(created().events[0], key="pushed-1", acknowledge=None)
        await store.accept("acme", "realtime", [overtaking])
        await submit_command(store, command("k1"))
        await store.settle_submission(await leased(store), DONE, created())
        (row,) = await store.lease_inbox("acme", 10)
        assert row.key == "pushed-1"

    async def test_release_of_what_is_unknown_says_that_it_is_not_there(self, store: Store) -> None:
        ids = await submit_command(store, command("k1"))
        await store.settle_submission(await leased(store), replace(UNKNOWN, status="held"))
        (decided,) = await store.release(ids, "anna")
        assert decided.problem is None
        row = await leased(store)
        assert (row.in_doubt_since, row.lookup_attempts, row.attempts) == (None, 0, 1)

    async def test_what_is_dropped_ends_and_lets_the_next_go(self, store: Store) -> None:
        first, second = await submit_command(store, command("k1"), command("k2"))
        await store.settle_submission(await leased(store), UNKNOWN)
        (decided,) = await store.drop([first], "anna", "ordered by phone")
        assert (decided.problem, decided.key) == (None, first)
        assert await due_ids(store) == [second]
        state = await store.submission("erp", first)
        assert state is not None
        assert (state.state, state.error) == ("done", "a person at the gateway dropped it")
        (decided,) = await store.drop([second], "anna", "too late")
        assert decided.problem is not None
        assert "being worked on right now" in decided.problem

    async def test_a_row_can_be_named_by_its_number(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1"))
        row = await leased(store)
        await store.settle_submission(row, DEAD)
        (decided,) = await store.replay([f"submit:{row.id}"], "anna")
        assert (decided.key, decided.queue, decided.problem) == (id_, "submit", None)

    async def test_bodies_answers_and_codes_are_erased_and_a_repeat_is_still_one(self, store: Store, clock: ManualClock) -> None:
        done, dead = await submit_command(store, command("k1"), command("k2", "RX-2"))
        one, other = await store.lease_submissions("acme", 10)
        await store.settle_submission(one, DONE, replace(created(), events=()))
        await store.settle_submission(other, DEAD)
        assert await store.redact_bodies(clock.now(), 100) == 0
        clock.advance(1)
        assert await store.redact_bodies(clock.now(), 100) == 1
        assert await store.redact_bodies(clock.now(), 100) == 0
        again = await store.accept_submission(command("k1"))
        assert (again.outcome, again.state.id, again.state.answer, again.state.codes) == ("repeat", done, None, None)
        assert (await store.accept_submission(command("k1", body='{"order":"x"}'))).outcome == "conflict"
        await store.replay([dead], "anna")
        assert (await leased(store)).body == b'{"order":"RX-2"}'

    async def test_whoever_waits_for_an_end_hears_it(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1"))
        waiting = [asyncio.create_task(store.submission_ended("erp", id_, 60)) for _ in range(3)]
        await store.settle_submission(await leased(store), replace(RETRY, due_in_s=0))
        await store.settle_submission(await leased(store), DONE, created())
        ended = await asyncio.wait_for(asyncio.gather(*waiting, store.submission_ended("erp", id_, 60)), 5)
        assert [state and state.state for state in ended] == ["done"] * 4

    async def test_whoever_waits_in_vain_hears_how_it_is(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1"))
        state = await asyncio.wait_for(store.submission_ended("erp", id_, 0.05), 5)
        assert state is not None
        assert state.state == "ready"
        assert await store.submission_ended("shop", id_, 60) is None

    async def test_a_decision_wakes_whoever_waits(self, store: Store) -> None:
        (id_,) = await submit_command(store, command("k1"))
        waiting = asyncio.create_task(store.submission_ended("erp", id_, 60))
        await asyncio.sleep(0)
        await store.drop([id_], "anna", "a mistake")
        state = await asyncio.wait_for(waiting, 5)
        assert state is not None
        assert state.state == "done"
