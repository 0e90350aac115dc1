"""The prepare step: what a row becomes, for every policy and every way a connector can fail."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway import AuthError, Event, FetchRetry, Hold, Ignore, Order, PermanentError, RateLimited, TransientError, hookimpl
from gateway.api.errors import StoreFailed
from gateway.api.order import Kind
from gateway.engine import prepare
from gateway.engine.prepare import Prepare
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.incoming import incoming
from gateway.plugin.source import Destination, Source
from gateway.store.sqlite import SqliteStore, inbox
from gateway.store.sqlite.reader import SqliteReader
from gateway.testing import ManualClock
from tests import acme

EVERY_KIND: frozenset[Kind] = frozenset({"order.placed", "order.revised", "order.cancelled", "order.status"})


def source(clock: ManualClock, **changes: Any) -> Source:
    connector = Connector(changes.pop("module", acme), "acme")
    connector.settings = acme.Settings()
    values: dict[str, Any] = {
        "name": "acme",
        "connector": connector,
        "doors": ("webhook",),
        "on_revision": "hold",
        "destinations": (Destination(target="erp", accepts=EVERY_KIND),),
        "stages": frozenset(),
        "max_body_bytes": 1000,
        "max_requests_per_second": 1000,
        "since": clock.now(),
        "vendor": "acme",
    }
    return Source(**{**values, **changes})


class Bench:
    """A store, a clock and one prepare step."""

    def __init__(self, store: SqliteStore, clock: ManualClock, path: Path, **changes: Any) -> None:
        self.store, self.clock, self.path = store, clock, path
        self.step = Prepare(source(clock, **changes), store, Metrics(clock), clock)

    async def accept(self, *bodies: bytes) -> None:
        await self.store.accept("acme", "webhook", incoming([acme.event(body) for body in bodies]))

    async def messages(self, target: str = "erp") -> list[dict[str, Any]]:
        return [msgspec.json.decode(row.body or b"") for row in await self.store.lease_outbox(target, 100)]

    async def rows(self, queue: Any = "inbox") -> list[dict[str, Any]]:
        reader = SqliteReader(self.path / "gateway.db")
        await reader.open()
        try:
            return list(reversed(await reader.rows(queue)))
        finally:
            await reader.close()


@pytest.fixture
def bench(store: SqliteStore, clock: ManualClock, tmp_path: Path) -> Any:
    return lambda **changes: Bench(store, clock, tmp_path, **changes)


async def test_whether_an_order_is_open_is_asked_beside_the_loop(bench: Any) -> None:
    asked: list[int] = []
    made = bench()
    connector = made.step._source.connector
    told = msgspec.structs.replace(connector.description, is_open=lambda _: bool(asked.append(threading.get_ident())))
    connector.description = told
    made.step = Prepare(made.step._source, made.store, Metrics(made.clock), made.clock)
    await made.accept(acme.body("o1"))
    assert await made.step.run_once()
    assert len(asked) == 1
    assert asked[0] != threading.get_ident()


async def test_a_row_becomes_the_message_of_the_contract(bench: Any) -> None:
    made = bench()
    await made.accept(acme.body("o1", 3, "12.3450"))
    assert await made.step.run_once()
    (message,) = await made.messages()
    assert message["schema"] == "order-gateway/1"
    assert (message["key"], message["kind"], message["source"], message["vendor"]) == ("acme/o1/1", "order.placed", "acme", "acme")
    assert (message["occurred_at"], message["received_at"]) == ("2024-03-31T12:00:00Z", "2024-03-31T12:00:00Z")
    order = message["order"]
    assert (order["order_ref"], order["revision"], order["status"], order["flags"]) == ("o1", 1, "placed", [])
    assert (order["total"], order["lines"][0]["unit_price"], order["lines"][0]["quantity"]) == ("37.0350", "12.3450", "3")


async def test_nothing_to_do_says_so(bench: Any) -> None:
    assert not await bench().step.run_once()


async def test_every_target_gets_what_it_accepts(bench: Any) -> None:
    destinations = (
        Destination(target="erp", accepts=EVERY_KIND),
        Destination(target="archive", accepts=frozenset({"order.revised"})),
    )
    made = bench(destinations=destinations, on_revision="send")
    await made.accept(acme.body("o1"))
    await made.step.run_once()
    assert len(await made.messages("erp")) == 1
    assert await made.messages("archive") == []


def only_danes(body: bytes) -> bool:
    if b'"odd"' in body:
        raise PermanentError("accepts_if of a target gives neither true nor false for this order")
    return b'"quantity":"2"' in body


async def test_a_target_gets_the_orders_that_it_wants_and_every_change_of_those(bench: Any) -> None:
    made = bench(destinations=(Destination(target="erp", accepts=EVERY_KIND, wants=only_danes),), on_revision="send")
    for ref, quantities in (("o1", (1, 1)), ("o2", (2, 3)), ("o3", (1, 2))):
        for n, quantity in enumerate(quantities):
            await made.accept(acme.body(ref, quantity, f"1.{n}"))
            await made.step.run_once()
    found = await made.messages()
    await made.store.release_all_leases()
    assert {(message["key"], message["kind"]) for message in found} == {("acme/o2/1", "order.placed"), ("acme/o3/2", "order.placed")}
    await made.accept(acme.body("odd"))
    await made.step.run_once()
    (row,) = [row for row in await made.rows() if row["key"].endswith("odd")]
    assert (row["status"], "neither true nor false" in row["reason"]) == ("dead", True)


class TestRevisions:
    async def test_hold_waits_for_a_person(self, bench: Any) -> None:
        made = bench()
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        await made.accept(acme.body("o1", 2))
        await made.step.run_once()
        assert await made.messages() == []  # the first one waits as well
        assert [row["status"] for row in await made.rows()] == ["done", "held"]
        await made.store.release(["o1@2"], "anna")
        await made.step.run_once()
        (first,) = await made.messages()
        assert (first["key"], first["order"]["revision"]) == ("acme/o1/1", 1)

    async def test_a_released_revision_goes_as_one(self, bench: Any) -> None:
        made = bench()
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        await made.messages()
        await made.accept(acme.body("o1", 2))
        await made.step.run_once()
        await made.store.release(["o1@2"], "anna")
        await made.step.run_once()
        await made.store.release_all_leases()
        await self.settle(made)
        (second,) = await made.messages()
        assert (second["key"], second["kind"], second["order"]["revision"]) == ("acme/o1/2", "order.revised", 2)
        assert "resubmitted" in second["order"]["flags"]

    async def settle(self, made: Any) -> None:
        from gateway.store.outcome import Settlement

        for row in await made.store.lease_outbox("erp", 10):
            await made.store.settle_outbox(row, Settlement(status="done", outcome="delivered"))

    async def test_replace_sends_the_newest_as_placed_where_nothing_left(self, bench: Any) -> None:
        made = bench(on_revision="replace")
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        await made.accept(acme.body("o1", 2))
        await made.step.run_once()
        (only,) = await made.messages()
        assert (only["key"], only["kind"], only["order"]["lines"][0]["quantity"]) == ("acme/o1/2", "order.placed", "2")

    async def test_replace_sends_a_revision_after_a_delivered_one(self, bench: Any) -> None:
        made = bench(on_revision="replace")
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        await self.settle(made)
        await made.accept(acme.body("o1", 2))
        await made.step.run_once()
        (only,) = await made.messages()
        assert (only["key"], only["kind"]) == ("acme/o1/2", "order.revised")

    async def test_send_sends_every_version_in_order(self, bench: Any) -> None:
        made = bench(on_revision="send")
        await made.accept(acme.body("o1"))
        await made.accept(acme.body("o1", 2))
        await made.accept(acme.body("o1", 3))
        while await made.step.run_once():
            pass
        kinds = []
        for _ in range(3):
            (message,) = await made.messages()
            kinds.append((message["key"], message["kind"], message["order"]["revision"]))
            await made.store.release_all_leases()
            await self.settle(made)
        assert kinds == [("acme/o1/1", "order.placed", 1), ("acme/o1/2", "order.revised", 2), ("acme/o1/3", "order.revised", 3)]

    async def test_replace_leaves_the_waiting_version_where_the_newer_one_cannot_be_made(self, bench: Any) -> None:
        def wants(body: bytes) -> bool:
            if msgspec.json.decode(body)["order"]["lines"][0]["quantity"] == "2":
                raise PermanentError("accepts_if cannot say")
            return True

        made = bench(on_revision="replace", destinations=(Destination(target="erp", accepts=EVERY_KIND, wants=wants),))
        for quantity in (1, 2):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
        assert [row["status"] for row in await made.rows()] == ["done", "dead"]
        (good,) = await made.messages()
        assert (good["key"], good["order"]["revision"]) == ("acme/o1/1", 1)

    async def test_a_message_is_made_anew_where_the_one_that_it_replaces_left_meanwhile(self, bench: Any) -> None:
        made = bench(on_revision="replace")
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        await made.accept(acme.body("o1", 2))
        real = made.store.prepared

        async def late(ready: Any) -> None:
            made.store.prepared = real
            await self.settle(made)
            await real(ready)

        made.store.prepared = late
        await made.step.run_once()
        (only,) = await made.messages()
        assert (only["key"], only["kind"]) == ("acme/o1/2", "order.revised")

    @pytest.mark.parametrize("policy", ["hold", "replace", "send"])
    async def test_what_an_order_was_before_is_kept_and_goes_nowhere(self, bench: Any, policy: str) -> None:
        made = bench(on_revision=policy)
        for quantity in (1, 2, 1, 1):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
        earlier = [row for row in await made.rows() if row["outcome"] == "earlier_version"]
        assert [(row["status"], row["key"]) for row in earlier] == [("done", "acme/o1@earlier-1")]
        assert earlier[0]["reason"] == "the order had this content before, as version 1; version 2 is newer"
        assert not await made.step.run_once()


class TestFailures:
    async def outcome(self, made: Any, error: BaseException) -> dict[str, Any]:
        def fail() -> None:
            raise error

        acme.faults["normalize"] = fail
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        (row,) = await made.rows()
        return dict(row)

    @pytest.mark.parametrize(
        "error",
        [
            PermanentError("no"),
            ValueError("no"),
            KeyError("no"),
            RecursionError("no"),
            SystemExit(3),
            KeyboardInterrupt(),
            MemoryError(),
            TransientError("normalize may not say so"),
            GeneratorExit(),
        ],
        ids=lambda e: type(e).__name__,
    )
    async def test_what_a_connector_raises_is_a_dead_letter(self, bench: Any, error: BaseException) -> None:
        row = await self.outcome(bench(), error)
        assert (row["status"], row["outcome"]) == ("dead", "dead")
        assert row["reason"]

    async def test_a_dead_letter_replays_once_the_connector_is_mended(self, bench: Any) -> None:
        made = bench()
        await self.outcome(made, ValueError("no"))
        acme.faults.clear()
        await made.store.replay(["o1"], "anna")
        await made.step.run_once()
        assert [m["key"] for m in await made.messages()] == ["acme/o1/1"]

    async def test_hold_waits_and_its_order_goes_after_the_release(self, bench: Any) -> None:
        made = bench()
        row = await self.outcome(made, Hold("ask the customer", order=Order(order_number="held one")))
        assert (row["status"], row["reason"]) == ("held", "ask the customer")
        await made.store.release(["o1"], "anna")
        await made.step.run_once()
        (message,) = await made.messages()
        assert message["order"]["order_number"] == "held one"

    async def test_a_revision_of_something_unknown_is_held_under_hold_only(self, bench: Any) -> None:
        error = Hold("nobody has seen what it revises", order=Order(order_number="N-1"), revision=True)
        made = bench(on_revision="send")
        await self.outcome(made, error)
        (message,) = await made.messages()
        assert (message["kind"], message["order"]["order_number"]) == ("order.placed", "N-1")
        made = bench()
        await made.accept(acme.body("o2"))
        await made.step.run_once()
        assert [row["status"] for row in await made.rows()] == ["done", "held"]

    async def test_hold_without_an_order_asks_again(self, bench: Any) -> None:
        made = bench()
        await self.outcome(made, Hold("ask the customer"))
        acme.faults.clear()
        await made.store.release(["o1"], "anna")
        await made.step.run_once()
        assert len(await made.messages()) == 1

    async def test_an_order_that_is_no_json_is_a_dead_letter(self, bench: Any) -> None:
        hooks = {name: getattr(acme, name) for name in ("describe", "verify", "ingest")}

        @hookimpl
        def normalize(event: Any, document: bytes) -> Order:
            return Order(extra={"what": object()})

        made = bench(module=SimpleNamespace(**hooks, normalize=normalize))
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        (row,) = await made.rows()
        assert row["status"] == "dead"
        assert "no place for" in row["reason"]

    async def test_other_rows_of_the_batch_go_on(self, bench: Any) -> None:
        made = bench()

        def fail_once() -> None:
            acme.faults.clear()
            raise ValueError

        acme.faults["normalize"] = fail_once
        await made.accept(*(acme.body(f"o{n}") for n in range(5)))
        await made.step.run_once()
        assert len(await made.messages()) == 4

    async def test_a_damaged_document_is_not_forwarded(self, bench: Any) -> None:
        made = bench()
        await made.accept(acme.body("o1"))
        await made.store._run(lambda db: db.execute("UPDATE inbox SET document = x'00'"))
        await made.step.run_once()
        (row,) = await made.rows()
        assert row["status"] == "dead"
        assert "SHA-256" in row["reason"]


def broken_connector() -> None:
    raise ZeroDivisionError


def fetching(fetch: Any, description: Any = None) -> Any:
    """The acme connector with a `fetch`, and events without documents."""

    async def hook(event: Any, client: Any, settings: Any) -> bytes:
        return await fetch(event)

    hooks = {name: getattr(acme, name) for name in ("describe", "verify", "ingest", "normalize")}
    if description is not None:
        hooks["describe"] = hookimpl(lambda: description)
    hook.__name__ = "fetch"
    return SimpleNamespace(**hooks, fetch=hookimpl(hook))


class TestFetching:
    async def thin(self, made: Any) -> None:
        await made.store.accept("acme", "webhook", incoming([Event(key="e1", order_ref="o1")]))

    async def test_a_thin_event_is_fetched_and_kept(self, bench: Any) -> None:
        async def fetch(event: Any) -> bytes:
            return acme.body(event.order_ref)

        made = bench(module=fetching(fetch))
        await self.thin(made)
        await made.step.run_once()
        assert [m["key"] for m in await made.messages()] == ["acme/o1/1"]

    async def many(self, made: Any, count: int) -> None:
        await made.store.accept(
            "acme", "webhook", incoming([Event(key=f"e{n}", order_ref=f"o{n}", document=b"{}", fetch=True) for n in range(count)])
        )

    async def test_each_order_leaves_when_it_is_fetched_and_a_slow_one_delays_no_other(self, bench: Any) -> None:
        """The first answer does not come before everything else of the turn has left."""
        goes_on, asked = asyncio.Event(), 0

        async def fetch(event: Any) -> bytes:
            nonlocal asked
            asked += 1
            if event.key == "e0":
                await goes_on.wait()
            return acme.body(event.order_ref)

        made = bench(module=fetching(fetch))
        made.step._limit = prepare.BATCH
        await self.many(made, 20)
        turn = asyncio.create_task(made.step.run_once())
        async with asyncio.timeout(30):
            while len(await made.rows("outbox")) < 19:
                await asyncio.sleep(0.01)
        assert not turn.done()
        goes_on.set()
        assert await turn
        assert (len(await made.messages()), asked) == (20, 20)

    async def test_a_few_are_asked_for_at_a_time(self, bench: Any) -> None:
        under_way = most = 0

        async def fetch(event: Any) -> bytes:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return acme.body(event.order_ref)

        made = bench(module=fetching(fetch))
        await self.many(made, 30)
        while await made.step.run_once():
            pass
        assert 1 < most <= 4
        assert len(await made.messages()) == 30

    async def test_while_the_vendor_is_slow_a_turn_is_short(self, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes meanwhile and needs no fetch would else wait for fifty of its answers."""
        asked: list[str] = []

        async def fetch(event: Any) -> bytes:
            asked.append(event.key)
            return acme.body(event.order_ref)

        made = bench(module=fetching(fetch))
        await self.many(made, 60)
        for slow_s, then in ((-1.0, 4), (-1.0, 8), (1e9, 12), (1e9, 60)):
            monkeypatch.setattr(prepare, "_SLOW_S", slow_s)
            await made.step.run_once()
            assert len(asked) == then

    async def test_a_store_that_fails_in_a_fetch_ends_the_step(self, bench: Any) -> None:
        async def fetch(event: Any) -> bytes:
            return acme.body(event.order_ref)

        async def fail(*_: Any) -> None:
            raise StoreFailed("the disk is gone")

        made = bench(module=fetching(fetch))
        await self.many(made, 2)
        made.store.keep_document = fail
        with pytest.raises(StoreFailed):
            await made.step.run_once()

    @pytest.mark.parametrize(
        ("error", "attempts"), [(TransientError("not there yet"), 1), (AuthError("401"), 1), (RateLimited("429", retry_after_s=7), 0)]
    )
    async def test_a_passing_failure_is_tried_again(self, bench: Any, clock: ManualClock, error: Exception, attempts: int) -> None:
        async def fetch(event: Any) -> bytes:
            raise error

        made = bench(module=fetching(fetch))
        await self.thin(made)
        await made.step.run_once()
        (row,) = await made.rows()
        assert (row["status"], row["attempts"]) == ("ready", attempts)
        assert not await made.step.run_once()
        clock.advance(900)
        assert await made.step.run_once()

    async def test_credentials_that_the_vendor_does_not_take_are_a_complaint(self, bench: Any, clock: ManualClock) -> None:
        refused = True

        async def fetch(event: Any) -> bytes:
            if refused:
                raise AuthError("the vendor answers 401")
            return acme.body(event.order_ref)

        made, metrics = bench(module=fetching(fetch)), Metrics(clock)
        made.step = Prepare(made.step._source, made.store, metrics, clock)
        await self.thin(made)
        await made.step.run_once()
        assert list(metrics.health.problems()) == [{"source": "acme", "door": "fetch", "reason": "the vendor answers 401"}]
        refused = False
        clock.advance(900)
        await made.step.run_once()
        assert list(metrics.health.problems()) == []

    async def test_what_never_comes_is_held_after_a_day(self, bench: Any, clock: ManualClock) -> None:
        async def fetch(event: Any) -> bytes:
            raise TransientError("404")

        made = bench(module=fetching(fetch))
        await self.thin(made)
        for _ in range(200):
            await made.step.run_once()
            clock.advance(900)
        (row,) = await made.rows()
        assert (row["status"], row["outcome"]) == ("held", "given_up")

    async def test_a_fetched_document_that_can_be_read_is_not_fetched_again(self, bench: Any) -> None:
        calls: list[str] = []

        async def fetch(event: Any) -> bytes:
            calls.append(event.key)
            return acme.body(event.order_ref)

        made = bench(module=fetching(fetch))
        await self.thin(made)
        acme.faults["normalize"] = broken_connector
        await made.step.run_once()
        acme.faults.clear()
        await made.store.replay(["e1"], "anna")
        await made.step.run_once()
        assert [m["key"] for m in await made.messages()] == ["acme/o1/1"]
        assert calls == ["e1"]

    async def test_one_that_makes_no_sense_is_fetched_anew_when_it_is_replayed(self, bench: Any) -> None:
        pages = [b"<html>we are back at noon</html>", acme.body("o1")]

        async def fetch(event: Any) -> bytes:
            return pages.pop(0)

        made = bench(module=fetching(fetch))
        await self.thin(made)
        await made.step.run_once()
        assert [row["status"] for row in await made.rows()] == ["dead"]
        assert len(pages) == 1, "what does not make sense waits for a person, at once"
        await made.store.replay(["e1"], "anna")
        await made.step.run_once()
        assert [m["key"] for m in await made.messages()] == ["acme/o1/1"]

    async def test_one_that_cannot_be_had_again_stays_as_it_was_kept(self, bench: Any) -> None:
        answers: list[Any] = [acme.body("o1"), PermanentError("404")]

        async def fetch(event: Any) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return bytes(answer)

        made = bench(module=fetching(fetch))
        await self.thin(made)
        acme.faults["normalize"] = broken_connector
        await made.step.run_once()
        await made.store.replay(["e1"], "anna")
        await made.step.run_once()
        acme.faults.clear()
        await made.store.replay(["e1"], "anna")
        await made.step.run_once()
        assert [m["key"] for m in await made.messages()] == ["acme/o1/1"]

    async def test_the_connector_may_have_a_schedule_of_its_own(self, bench: Any, clock: ManualClock) -> None:
        async def fetch(event: Any) -> bytes:
            raise TransientError("404")

        description = msgspec.structs.replace(acme.describe(), fetch_retry=lambda s: FetchRetry(schedule_s=(5, 60), give_up_s=200))
        made = bench(module=fetching(fetch, description))
        await self.thin(made)
        for wait_s in (5, 60, 60):
            assert await made.step.run_once()
            clock.advance(wait_s - 1)
            assert not await made.step.run_once()
            clock.advance(1)
        clock.advance(100)
        await made.step.run_once()
        (row,) = await made.rows()
        assert (row["status"], row["outcome"]) == ("held", "given_up")

    async def test_fetch_and_normalize_are_given_the_events_own_document(self, bench: Any) -> None:
        async def fetch(event: Any) -> bytes:
            return acme.body(event.order_ref, len(event.document))

        made = bench(module=fetching(fetch))
        await made.store.accept("acme", "webhook", incoming([Event(key="e1", order_ref="o1", document=b"thin", fetch=True)]))
        await made.step.run_once()
        (message,) = await made.messages()
        assert message["order"]["lines"][0]["quantity"] == "4"

    async def test_what_is_fetched_again_and_the_same_goes_out_once(self, bench: Any) -> None:
        quantity = 1

        async def fetch(event: Any) -> bytes:
            return acme.body(event.order_ref, quantity)

        made = bench(module=fetching(fetch, msgspec.structs.replace(acme.describe(), compares_fetched=True)))
        for n, quantity in enumerate((1, 1, 2)):  # noqa: B007 - fetch reads it
            await made.store.accept("acme", "webhook", incoming([Event(key=f"e{n}", order_ref="o1")]))
            await made.step.run_once()
        assert [(row["status"], row["outcome"]) for row in await made.rows()] == [
            ("done", "prepared"),
            ("done", "ignored"),
            ("held", "revision"),
        ]
        await made.store.release(["e2@2"], "anna")
        await made.step.run_once()
        assert [row["outcome"] for row in await made.rows()] == ["prepared", "ignored", "prepared"]


@pytest.mark.parametrize(("policy", "then"), [("flag", "earlier_version"), ("send", "prepared")])
async def test_a_fetched_order_that_is_as_it_was_before_goes_only_where_the_source_says_so(bench: Any, policy: str, then: str) -> None:
    quantity = 1

    async def fetch(event: Any) -> bytes:
        return acme.body(event.order_ref, quantity)

    module = fetching(fetch, msgspec.structs.replace(acme.describe(), compares_fetched=True))
    made = bench(module=module, on_revision="send", earlier_versions=policy)
    for n, quantity in enumerate((1, 2, 1)):  # noqa: B007 - fetch reads it
        await made.store.accept("acme", "webhook", incoming([Event(key=f"e{n}", order_ref="o1")]))
        await made.step.run_once()
    assert [row["outcome"] for row in await made.rows()] == ["prepared", "prepared", then]
    assert not await made.step.run_once()


def knowing(normalize: Any, **described: Any) -> Any:
    """The acme connector with a `normalize` that asks for the order before."""
    hooks = {name: getattr(acme, name) for name in ("verify", "ingest")}
    description = msgspec.structs.replace(acme.describe(), **described)
    return SimpleNamespace(**hooks, describe=hookimpl(lambda: description), normalize=hookimpl(normalize))


class TestWhatCameBefore:
    async def test_normalize_may_ask_for_the_order_before(self, bench: Any) -> None:
        seen: list[str | None] = []

        def normalize(event: Any, document: bytes, previous: Order | None) -> Order:
            seen.append(previous.order_number if previous else None)
            return Order(order_number=document.decode())

        made = bench(module=knowing(normalize), on_revision="send")
        for quantity in (1, 2):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
        assert seen == [None, acme.body("o1", 1).decode()]

    @pytest.mark.parametrize(("flag", "outcome"), [(False, "ignored"), (True, "flagged")])
    async def test_an_event_that_says_nothing_new_is_done(self, bench: Any, flag: bool, outcome: str) -> None:
        def normalize(event: Any, document: bytes) -> Order:
            raise Ignore("it is known", flag=flag)

        made = bench(module=knowing(normalize))
        await made.accept(acme.body("o1"))
        await made.step.run_once()
        (row,) = await made.rows()
        assert (row["status"], row["outcome"], row["reason"]) == ("done", outcome, "it is known")
        assert await made.messages() == []

    async def test_an_order_is_open_while_its_connector_says_so(self, bench: Any) -> None:
        made = bench(module=knowing(acme.normalize, is_open=lambda order: order.lines[0].quantity == 1), on_revision="send")
        for quantity, count in ((1, 1), (2, 0)):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
            assert len(await made.store.open_orders("acme", 0, 10)) == count

    async def test_a_held_revision_says_what_is_different(self, bench: Any, tmp_path: Path) -> None:
        made = bench()
        for quantity in (1, 2):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
        reader = SqliteReader(tmp_path / "gateway.db")
        await reader.open()
        first, *_ = [row for row in await reader.show("o1@2") if row["queue"] == "inbox"]
        await reader.close()
        assert first["tried"][0]["detail"] == "total: 1.50 -> 3.00\n  line 1: A-1, quantity 1 -> 2"

    async def test_another_order_under_an_old_name_is_flagged(self, bench: Any) -> None:
        def normalize(event: Any, document: bytes) -> Order:
            order = acme.normalize(event, document, acme.Settings())
            (line,) = order.lines
            number = f"A-{line.quantity}"
            return msgspec.structs.replace(order, lines=(msgspec.structs.replace(line, article_number=number),))

        made = bench(module=knowing(normalize))
        for quantity in (1, 2):
            await made.accept(acme.body("o1", quantity))
            await made.step.run_once()
        assert "looks like another order" in (await made.rows())[1]["reason"]
        await made.store.release(["o1@2"], "anna")
        await made.step.run_once()
        await TestRevisions().settle(made)
        (message,) = await made.messages()
        assert message["order"]["flags"] == ["resubmitted", "likely_new_order"]


async def test_a_lost_lease_costs_only_its_own_row(bench: Any, store: SqliteStore) -> None:
    made = bench()
    await made.accept(acme.body("o1"), acme.body("o2"))
    original = store.prepared

    async def meanwhile(ready: Any) -> None:
        await store._run(lambda db: db.execute("UPDATE inbox SET status = 'dead', lease = NULL WHERE key = 'o1'"))
        store.prepared = original  # type: ignore[method-assign]
        await original(ready)

    store.prepared = meanwhile  # type: ignore[method-assign, assignment]
    await made.step.run_once()
    assert [m["key"] for m in await made.messages()] == ["acme/o2/1"]


def test_digest_is_over_the_bytes_that_are_sent() -> None:
    body = acme.body("o1")
    (one,) = incoming([acme.event(body)])
    assert one.sha256 == hashlib.sha256(body).digest()


class TestSendersFirst:
    async def test_while_senders_wait_nothing_is_leased_for_a_second_at_most(self, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = bench()
        await made.accept(acme.body("o1"))
        monkeypatch.setattr(prepare, "_GIVES_WAY_S", 0.05)
        monkeypatch.setattr(made.store, "_is_crowded", lambda: True)
        turn = asyncio.create_task(made.step.run_once())
        await asyncio.sleep(0.01)
        assert not turn.done()
        assert await turn
        assert len(await made.store.lease_outbox("erp", 10)) == 1

    async def test_many_events_at_once_are_a_crowd_for_a_moment(self, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = bench()
        monkeypatch.setattr(inbox, "_CROWD_S", 600.0)
        await made.accept(*(acme.body(f"o{n}") for n in range(5)))
        assert made.store._is_crowded()
        monkeypatch.setattr(inbox, "_CROWD_S", 0.0)
        assert not made.store._is_crowded()

    async def test_what_has_waited_long_does_not_give_way(self, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = bench()
        monkeypatch.setattr(prepare, "_GIVES_WAY_S", 3600.0)
        await made.accept(*(acme.body(f"o{n}") for n in range(60)))
        made.clock.advance(7200)
        await asyncio.sleep(0.03)
        assert await made.step.run_once()
        monkeypatch.setattr(made.store, "_is_crowded", lambda: True)
        assert await made.step.run_once()
        assert not await made.store.lease_inbox("acme", 10)
