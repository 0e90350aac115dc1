"""The submit step against a real vendor on loopback: every outcome, and one order at the vendor whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import AuthError, Hold, PermanentError, RateLimited, TransientError
from gateway.engine import submit as step
from gateway.engine.submit import Submit
from gateway.engine.submit_outcome import CERTAIN_AFTER_S, MAX_AGE_S
from gateway.metrics import Metrics
from gateway.outbound.vendor import HttpVendorClient
from gateway.plugin.connector import Connector
from gateway.service.runtime import vendor_session
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.store.submissions import NewSubmission, SubmissionState
from gateway.testing import ManualClock
from tests import order_vendor
from tests.engine.test_prepare import source
from tests.order_vendor import Registry

_ids = itertools.count(1)


class Bench:
    """A vendor, a store, a clock and one submit step."""

    def __init__(self, registry: Registry, store: SqliteStore, clock: ManualClock, client: HttpVendorClient, path: Path) -> None:
        self.registry, self.store, self.clock, self.path = registry, store, clock, path
        self.metrics = Metrics(clock)
        self.source = source(clock, module=order_vendor, client=client, stages=frozenset({"stored"}))
        self.source.connector.settings = order_vendor.Settings()
        self.step = Submit(self.source, store, self.metrics, clock)

    def again(self) -> None:
        """Another process, after a crash."""
        self.step = Submit(self.source, self.store, self.metrics, self.clock)

    async def submit_command(self, number: str, command: str = "create_order", body: bytes | None = None) -> str:
        text = body or json.dumps({"number": number}).encode()
        new = NewSubmission(
            id=f"sub-{next(_ids)}",
            caller="erp",
            key=f"key-{next(_ids)}",
            source="acme",
            command=command,
            subject=None if command == "send_note" else number,
            unique=command.startswith("create"),
            body=text,
            sha256=hashlib.sha256(text).digest(),
        )
        accepted = await self.store.accept_submission(new)
        assert accepted.outcome == "stored"
        return accepted.state.id

    async def run_once(self) -> int:
        started = await self.step.run_once()
        await self.step.idle()
        return started

    async def state(self, id_: str) -> SubmissionState:
        state = await self.store.submission("erp", id_)
        assert state is not None
        return state

    async def until(self, id_: str, *ends: str) -> SubmissionState:
        """Let time pass until it has come to one of these states."""
        for _ in range(200):
            await self.run_once()
            if (state := await self.state(id_)).state in ends:
                return state
            due_s = await self.store.next_due_s("submit", "acme")
            self.clock.advance(max(due_s or 0.0, 0.001) + 0.001)
        raise AssertionError(f"still {state.state}: {state.error}")

    async def shown(self, id_: str) -> dict[str, Any]:
        async with self.reader() as reader:
            (row,) = await reader.show(id_)
            return row

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[SqliteReader]:
        reader = SqliteReader(self.path / "gateway.db")
        await reader.open()
        try:
            yield reader
        finally:
            await reader.close()

    async def events(self) -> list[str]:
        return [row.key for row in await self.store.lease_inbox("acme", 10)]

    def door(self) -> str:
        return self.metrics.health.doors["acme", "submit"].state


@pytest.fixture(autouse=True)
def without_faults() -> Iterator[None]:
    order_vendor.faults.clear()
    yield
    order_vendor.faults.clear()


@pytest.fixture
async def bench(store: SqliteStore, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    registry = Registry()
    await registry.start()
    settings = order_vendor.Settings(base_url=registry.url)
    connector = Connector(order_vendor, "acme")
    connector.settings = settings
    api = connector.api()
    assert api is not None
    session = vendor_session(api, private=True)
    yield Bench(registry, store, clock, HttpVendorClient(api, session, clock), tmp_path)
    await session.close()
    await registry.stop()


async def test_a_created_order_is_done_with_its_answer_its_codes_and_its_event(bench: Bench) -> None:
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    state = await bench.state(id_)
    assert (state.state, state.attempts, state.error) == ("done", 1, None)
    assert json.loads(state.answer or b"") == order_vendor.answer("RX-1")
    assert state.codes is not None
    assert (state.codes.number, state.codes.pickup, state.codes.storage) == ("RX-1", "P-secret-RX-1", "S-secret-RX-1")
    assert await bench.events() == ["created-RX-1"]
    assert [ack.stage for ack in await bench.store.lease_acknowledgements("acme", 10)] == ["stored"]
    assert bench.registry.created == ["RX-1"]


# How a request to create can end, and what the caller and the vendor have in the end.
ENDINGS = {
    "do": ("done", 1),
    "do, hang": ("done", 1),
    "do, reset": ("done", 1),
    "do, 500": ("done", 1),
    "do, too long": ("done", 1),
    "do, 200": ("done", 1),
    "not, hang": ("done", 1),
    "not, reset": ("done", 1),
    "503": ("done", 1),
    "408": ("done", 1),
    "429": ("done", 1),
    "400": ("dead", 0),
    "409": ("dead", 0),
    "307": ("dead", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_one_order_whatever_happens_to_the_answer(bench: Bench, ending: str) -> None:
    bench.registry.behaviours = [ending]
    id_ = await bench.submit_command("RX-1")
    state = await bench.until(id_, "done", "dead", "held")
    assert (state.state, len(bench.registry.created)) == ENDINGS[ending]
    assert await bench.events() == ["created-RX-1"] * ENDINGS[ending][1]


async def test_the_mutant_that_repeats_blindly_is_caught(bench: Bench) -> None:
    bench.registry.behaviours = ["do, hang"]
    await bench.until(await bench.submit_command("RX-1", "create_blindly"), "done")
    assert bench.registry.created == ["RX-1", "RX-1"]


async def test_a_lost_answer_is_found_by_a_look_up_and_nothing_is_sent_again(bench: Bench) -> None:
    bench.registry.behaviours = ["do, reset"]
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    assert (await bench.state(id_)).state == "unknown"
    state = await bench.until(id_, "done")
    assert (bench.registry.seen, bench.registry.asked, state.attempts) == (1, ["RX-1"], 1)
    assert state.codes is not None
    assert [tried["outcome"] for tried in (await bench.shown(id_))["tried"]] == ["unknown", "found"]


async def test_that_nothing_is_there_counts_once_the_attempt_cannot_be_on_its_way(bench: Bench) -> None:
    bench.registry.behaviours = ["not, reset"]
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    bench.clock.advance(CERTAIN_AFTER_S / 2)
    await bench.run_once()
    bench.registry.created = ["RX-1"]  # it was slow, and is done now
    state = await bench.until(id_, "done")
    assert (bench.registry.seen, bench.registry.created, state.attempts) == (1, ["RX-1"], 1)


async def test_what_is_surely_not_there_is_sent_again_and_counted(bench: Bench) -> None:
    bench.registry.behaviours = ["not, reset", "do"]
    id_ = await bench.submit_command("RX-1")
    state = await bench.until(id_, "done")
    assert (bench.registry.seen, state.attempts) == (2, 2)
    assert [tried["outcome"] for tried in (await bench.shown(id_))["tried"]] == ["unknown", "unknown", "not_there", "submitted"]


async def test_a_vendor_that_is_not_reached_has_done_nothing(bench: Bench) -> None:
    id_ = await bench.submit_command("RX-1")
    await bench.registry.stop()
    await bench.run_once()
    state = await bench.state(id_)
    assert (state.state, bench.registry.asked) == ("ready", [])
    assert "no connection" in (state.error or "")


async def test_what_never_reached_the_vendor_is_given_up_in_the_end(bench: Bench) -> None:
    id_ = await bench.submit_command("RX-1")
    await bench.registry.stop()
    await bench.run_once()
    bench.clock.advance(MAX_AGE_S)
    await bench.run_once()
    state = await bench.state(id_)
    assert state.state == "dead"
    assert (state.error or "").startswith("not done in 168 h of trying: ")


async def test_what_is_unknown_is_never_given_up(bench: Bench) -> None:
    bench.registry.behaviours, bench.registry.looks = ["do, reset"], ["500"] * 10
    id_ = await bench.submit_command("RX-1")
    for _ in range(5):
        await bench.run_once()
        bench.clock.advance(1000)
    assert ((await bench.state(id_)).state, (await bench.state(id_)).attempts) == ("unknown", 1)
    bench.clock.advance(MAX_AGE_S)
    await bench.run_once()
    state = await bench.state(id_)
    assert state.state == "held"
    assert (state.error or "").startswith("unknown for 169 h: ")
    (decided,) = await bench.store.release([id_], "anna")  # she has looked, and it is not there
    assert decided.problem is None
    bench.registry.created = []
    await bench.run_once()
    assert ((await bench.state(id_)).state, bench.registry.created) == ("done", ["RX-1"])


async def test_a_look_up_that_is_refused_is_a_persons_to_make(bench: Bench) -> None:
    bench.registry.behaviours, bench.registry.looks = ["do, reset"], ["400"]
    state = await bench.until(await bench.submit_command("RX-1"), "held")
    assert (state.error or "").startswith("it cannot be looked up: the vendor answers 400; ")


async def test_without_a_look_up_a_person_decides(bench: Bench) -> None:
    bench.registry.behaviours = ["do, hang"]
    id_ = await bench.submit_command("N-1", "send_note")
    state = await bench.until(id_, "held")
    assert (bench.registry.seen, state.attempts) == (1, 1)
    assert (state.error or "").startswith("the vendor may have done it, and cannot be asked; ")
    await bench.store.drop([id_], "anna", "they have it")
    state = await bench.state(id_)
    assert (state.state, state.error, bench.registry.seen) == ("done", "a person at the gateway dropped it", 1)


async def test_what_does_no_harm_is_just_done_again(bench: Bench) -> None:
    bench.registry.created, bench.registry.looks = ["RX-1"], ["hang", "500"]
    state = await bench.until(await bench.submit_command("RX-1", "get_order"), "done")
    assert (state.attempts, len(bench.registry.asked)) == (3, 3)


async def test_too_many_calls_cost_no_attempt_and_the_vendor_gets_its_quiet(bench: Bench) -> None:
    first, second = await bench.submit_command("RX-1"), await bench.submit_command("RX-2", "send_note")
    bench.registry.behaviours = ["429", "429"]
    await bench.run_once()
    assert [(await bench.state(id_)).attempts for id_ in (first, second)] == [0, 0]
    bench.clock.advance(76)
    assert await bench.run_once() == 0
    bench.clock.advance(1)
    assert await bench.run_once() == 2
    assert [(await bench.state(id_)).state for id_ in (first, second)] == ["done", "done"]


@pytest.mark.parametrize("error", [RateLimited("no", retry_after_s=86400.0), TransientError("no", retry_after_s=86400.0, undone=True)])
async def test_what_a_vendor_asks_for_is_believed_up_to_an_hour(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: TransientError
) -> None:
    async def refuses(*_: object) -> None:
        raise error

    id_ = await bench.submit_command("RX-1", "send_note")
    with monkeypatch.context() as patch:
        patch.setattr(bench.source.connector, "submit", refuses)
        await bench.run_once()
    bench.clock.advance(3590)
    assert await bench.run_once() == 0
    bench.clock.advance(20)
    await bench.run_once()
    assert (await bench.state(id_)).state == "done"


async def test_a_refused_sign_in_pauses_the_commands_until_somebody_says_so(bench: Bench) -> None:
    bench.registry.behaviours = ["401"]
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    later = await bench.submit_command("RX-2")
    assert ((await bench.state(id_)).state, (await bench.state(id_)).attempts, bench.door()) == ("ready", 0, "down")
    assert next(bench.metrics.health.problems())["door"] == "submit"
    bench.clock.advance(step.AUTH_PAUSE_S - 1)
    assert (await bench.run_once(), bench.registry.seen) == (0, 1)
    bench.step.resume()
    await bench.run_once()
    assert [(await bench.state(one)).state for one in (id_, later)] == ["done", "done"]
    assert bench.door() == "up"


async def test_after_a_long_pause_one_row_tries_by_itself(bench: Bench) -> None:
    bench.registry.behaviours = ["403", "403"]
    ids = [await bench.submit_command("RX-1")]
    await bench.run_once()
    ids += [await bench.submit_command("RX-2")]
    bench.clock.advance(step.AUTH_PAUSE_S)
    assert (await bench.run_once(), bench.door()) == (1, "down")
    bench.clock.advance(step.AUTH_PAUSE_S)
    assert (await bench.run_once(), bench.door()) == (1, "up")
    await bench.run_once()
    assert [(await bench.state(id_)).state for id_ in ids] == ["done", "done"]


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [
        (Hold("two patients have this name"), "held", "two patients have this name"),
        (PermanentError("the pharmacy is unknown"), "dead", "the pharmacy is unknown"),
        (AuthError("no"), "ready", "no"),
    ],
)
async def test_what_a_connector_says_is_what_the_caller_reads(bench: Bench, error: Exception, state: str, says: str) -> None:
    def fails() -> None:
        raise error

    order_vendor.faults["before"] = fails
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    assert ((await bench.state(id_)).state, (await bench.state(id_)).error) == (state, says)


async def test_a_connector_that_breaks_behind_its_request_is_looked_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def breaks() -> None:
        order_vendor.faults.clear()
        raise ZeroDivisionError("P-secret-RX-1")

    order_vendor.faults["after"] = breaks
    state = await bench.until(await bench.submit_command("RX-1"), "done")
    assert (bench.registry.created, state.attempts) == (["RX-1"], 1)
    assert "plugin.failed" in caplog.text


async def test_a_slow_order_does_not_hold_up_the_others(bench: Bench) -> None:
    bench.registry.behaviours = ["do, hang"]
    slow = await bench.submit_command("RX-0")
    await bench.step.run_once()
    while not bench.registry.seen:
        await asyncio.sleep(0.001)
    others = [await bench.submit_command(f"RX-{n}") for n in range(1, 8)]
    async with asyncio.timeout(0.45):  # less than the vendor's own timeout
        while not all([(await bench.state(id_)).state == "done" for id_ in others]):
            await bench.step.run_once()
            await asyncio.sleep(0.001)
    assert (await bench.state(slow)).state == "leased"
    await bench.step.idle()


async def test_commands_of_one_subject_go_one_after_the_other(bench: Bench) -> None:
    create, ask = await bench.submit_command("RX-1"), await bench.submit_command("RX-1", "get_order")
    assert await bench.run_once() == 1
    assert ((await bench.state(create)).state, (await bench.state(ask)).state) == ("done", "ready")
    assert await bench.run_once() == 1
    assert (await bench.state(ask)).state == "done"


async def test_a_shutdown_hands_back_what_is_not_announced_and_leaves_the_rest_unknown(bench: Bench) -> None:
    bench.registry.behaviours = ["do, hang"]
    id_ = await bench.submit_command("RX-1")
    await bench.step.run_once()
    while not bench.registry.seen:
        await asyncio.sleep(0.001)
    await bench.step.drain(0)
    assert ((await bench.state(id_)).state, (await bench.state(id_)).attempts) == ("unknown", 1)
    assert await bench.step.run_once() == 0
    bench.again()
    await bench.until(id_, "done")
    assert bench.registry.created == ["RX-1"]


async def test_a_shutdown_before_the_announcement_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    announcing = asyncio.Event()

    async def never(_: Any) -> None:
        announcing.set()
        await asyncio.Event().wait()

    id_ = await bench.submit_command("RX-1")
    monkeypatch.setattr(bench.store, "start_submission", never)
    await bench.step.run_once()
    await announcing.wait()
    await bench.step.drain(0)
    assert ((await bench.state(id_)).state, (await bench.state(id_)).attempts, bench.registry.seen) == ("ready", 0, 0)


@pytest.mark.parametrize("lost", ["settle", "everything"])
async def test_an_answer_that_was_not_noted_is_found_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """What a kill leaves between the vendor's answer and the commit: announced, done, and nothing known of it."""
    id_ = await bench.submit_command("RX-1")
    (row,) = await bench.store.lease_submissions("acme", 1)
    await bench.store.start_submission(row)
    if lost == "settle":
        bench.registry.created.append("RX-1")
    await bench.store.release_all_leases()
    bench.again()
    await bench.until(id_, "done")
    assert bench.registry.created == ["RX-1"]
    assert await bench.events() == ["created-RX-1"]


async def test_a_command_that_is_not_there_any_more_waits_for_a_person(bench: Bench) -> None:
    state = await bench.until(await bench.submit_command("RX-1", "create_nothing"), "held")
    assert state.error == "the source has no command 'create_nothing' with its current settings"


async def test_a_stored_body_that_does_not_fit_any_more_is_dead(bench: Bench) -> None:
    state = await bench.until(await bench.submit_command("RX-1", body=b'{"number":7}'), "dead")
    assert state.error == "the stored command does not fit what the connector takes now"


async def test_a_damaged_body_is_not_sent(bench: Bench) -> None:
    id_ = await bench.submit_command("RX-1")
    await bench.store._run(lambda db: db.execute("UPDATE submit SET body = CAST(replace(body, 'RX-1', 'RX-9') AS BLOB)"))
    state = await bench.until(id_, "dead")
    assert (bench.registry.seen, (state.error or "")[:30]) == (0, "the stored command is damaged:")


async def test_neither_bodies_nor_codes_are_in_the_log_the_metrics_and_what_is_shown(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    id_ = await bench.submit_command("RX-1")
    await bench.run_once()
    (line,) = [record for record in caplog.records if record.message == "submit.attempted"]
    fields = {name: vars(line)[name] for name in ("source", "command", "order_ref", "key", "attempt", "outcome")}
    assert fields == {
        "source": "acme",
        "command": "create_order",
        "order_ref": "RX-1",
        "key": id_,
        "attempt": 1,
        "outcome": "submitted",
    }
    labels = {"source": "acme", "command": "create_order", "outcome": "submitted"}
    assert bench.metrics.registry.get_sample_value("gateway_submissions_total", labels) == 1
    assert "secret" not in " ".join(str(vars(record)) for record in caplog.records)
    shown = await bench.shown(id_)
    assert (shown["key"], shown["codes"], shown["name"]) == (id_, "pickup ***, storage ***", "create_order")
    assert json.loads(shown["answer"]) == {"number": "RX-1", "pickup": "***", "storage": "***"}
    async with bench.reader() as reader:
        assert (await reader.summary())["submit"]["done"] == 1
        event, _acknowledgement = await reader.show("created-RX-1")
        listed = [*await reader.rows("submit"), *await reader.rows("inbox")]
    assert b"RX-1" in event["body"]
    assert b"secret" not in event["body"]
    assert "secret" not in str(listed)


async def test_the_step_runs_by_itself(bench: Bench) -> None:
    running = asyncio.create_task(bench.step.run())
    id_ = await bench.submit_command("RX-1")
    state = await bench.store.submission_ended("erp", id_, 10)
    assert state is not None
    assert state.state == "done"
    await bench.step.drain(1)
    running.cancel()
