"""Whatever is not done says why it does not move, and when it goes on: every status and every cause."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
import pytest_asyncio
from msgspec.structs import replace

from gateway.clock import from_ms
from gateway.health import Condition
from gateway.metrics import Metrics
from gateway.store.outcome import Settlement
from gateway.store.row_names import Queue, Status, statuses_of
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.reader import SqliteReader
from gateway.store.waiting import Ahead, Side, Sides, Waiting, sides_of, why
from gateway.testing import ManualClock
from gateway.web import status as web_status
from tests.store.conformance import accept, deliver, incoming, prepare
from tests.store.submitting import command, submit_command

NOW = 1_800_000_000_000
UP = Sides(running=True, sources={"acme"}, targets={"erp": Side(state="up")})
ROW = Waiting(queue="outbox", row="outbox:3", name="erp", source="acme", status="ready", due_ms=NOW + 5000)
OPEN: tuple[Status, ...] = tuple(status for status in get_args(Status) if status != "done")


def held(**more: Any) -> Sides:
    return replace(UP, targets={"erp": Side(state="paused", reason="the target answers 401: check its credentials", **more)})


# name: the row, the sides, what it says, and in how many ms it goes on
CAUSES: dict[str, tuple[Waiting, Sides, str, int | None]] = {
    "due": (replace(ROW, due_ms=NOW - 1), UP, "due since 2027-01-15T07:59:59Z: waits for its turn", -1),
    "late": (replace(ROW, due_ms=NOW - 90_000), UP, "due since 2027-01-15T07:58:30Z: waits for its turn", -90_000),
    "tried once": (
        replace(ROW, attempts=1, reason="the target answers 503"),
        UP,
        "next try at 2027-01-15T08:00:05Z after 1 try: the target answers 503",
        5000,
    ),
    "tried often": (replace(ROW, attempts=3), UP, "next try at 2027-01-15T08:00:05Z after 3 tries", 5000),
    "unknown": (
        replace(ROW, status="unknown", reason="the target does not show it yet"),
        UP,
        "it may have been taken; next look-up at 2027-01-15T08:00:05Z: the target does not show it yet",
        5000,
    ),
    "leased": (replace(ROW, status="leased", due_ms=None, since_ms=NOW - 1000), UP, "is being worked on since 2027-01-15T07:59:59Z", None),
    "leased by one that is gone": (
        replace(ROW, status="leased", due_ms=None, since_ms=NOW - 1000),
        replace(UP, running=False),
        "was being worked on since 2027-01-15T07:59:59Z when the gateway stopped; it continues when the gateway starts",
        None,
    ),
    "dead": (
        replace(ROW, status="dead", due_ms=None, outcome="refused", reason="the target refuses the order (422)"),
        UP,
        "the target refuses the order (422); a person decides: gateway replay or drop outbox:3",
        None,
    ),
    "held": (replace(ROW, status="held", outcome="held"), UP, "held; a person decides: gateway release or drop outbox:3", None),
    "held for another": (
        replace(ROW, status="held", held_for="inbox:9"),
        UP,
        "waits for the decision on inbox:9; it goes with it",
        None,
    ),
    "behind": (
        replace(ROW, due_ms=None, behind=Ahead(row="outbox:1", key="acme/o1/1", status="dead", why="refused")),
        UP,
        "waits behind outbox:1 (acme/o1/1), which is dead: refused",
        None,
    ),
    "behind one that is tried": (
        replace(ROW, due_ms=None, behind=Ahead(row="outbox:1", key="acme/o1/1", status="ready", next_ms=NOW + 9)),
        UP,
        "waits behind outbox:1 (acme/o1/1), which is ready",
        9,
    ),
    "a later version": (
        replace(ROW, due_ms=None, behind=Ahead(row="inbox:2", key="acme/o1@2", status="ready", unseen=True)),
        UP,
        "waits for inbox:2 (acme/o1@2), a later version that has not been looked at yet",
        None,
    ),
    "behind nothing": (
        replace(ROW, due_ms=None),
        UP,
        "it has no due time and waits behind nothing: this is a fault in the gateway, please report it",
        None,
    ),
    "its target is held": (ROW, held(), "target erp is paused: the target answers 401: check its credentials", 5000),
    "its target is held until": (
        replace(ROW, status="unknown"),
        held(until="2027-01-15T09:00:00Z"),
        "target erp is paused until 2027-01-15T09:00:00Z: the target answers 401: check its credentials",
        5000,
    ),
    "its target is down": (ROW, replace(UP, targets={"erp": Side(state="down")}), "target erp is down", 5000),
    "its target is not configured": (
        ROW,
        replace(UP, targets={}),
        "target erp is not configured: configure it again, or drop its rows",
        None,
    ),
    "its source is not configured": (
        replace(ROW, queue="inbox"),
        replace(UP, sources=frozenset()),
        "source acme is not configured: configure it again, or drop its rows",
        None,
    ),
    "its source lets nobody in": (
        replace(ROW, queue="inbox"),
        replace(UP, doors={("acme", "fetch"): Side(state="down", reason="the vendor answers 401")}),
        "source acme, fetch is down: the vendor answers 401",
        5000,
    ),
    "no gateway": (ROW, replace(UP, running=False), "the gateway is not running; the row continues when it starts", 5000),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_told(cause: str) -> None:
    row, sides, text, goes_on = CAUSES[cause]
    said = why(row, sides, NOW)
    assert said.text == text
    assert said.next_ms == (None if goes_on is None else NOW + goes_on)


@pytest.mark.parametrize(
    ("queue", "status"), [(queue, status) for queue in get_args(Queue) for status in statuses_of(queue) if status != "done"]
)
def test_no_row_is_without_a_reason(queue: Queue, status: Status) -> None:
    """Whatever is known of it and of the other sides."""
    dues = (None, NOW - 1, NOW + 1) if status in ("ready", "unknown") else (None,)
    for due_ms, sides, attempts in itertools.product(dues, (Sides(), UP, held(), replace(UP, running=False)), (0, 2)):
        row = replace(ROW, queue=queue, status=status, due_ms=due_ms, attempts=attempts)
        assert why(row, sides, NOW).text


def test_only_what_is_on_its_way_is_left_out_of_what_stands() -> None:
    on = {cause: why(row, sides, NOW).on for cause, (row, sides, *_) in CAUSES.items()}
    assert {cause for cause, one in on.items() if one == "turn"} == {"due", "leased"}
    assert why(replace(ROW, status="leased", since_ms=NOW - 61_000), UP, NOW).on == "side"


def test_the_sides_are_as_the_status_says() -> None:
    said = sides_of(
        {
            "running": True,
            "sources": {"acme": {"doors": {"webhook": "up", "poll": "down"}}},
            "targets": {"erp": {"state": "paused", "reason": "paused by anna"}, "wms": {"state": "off"}},
            "reasons": [
                {"source": "acme", "door": "fetch", "reason": "401"},
                {"target": "erp", "reason": "x"},
                {"store": "x", "reason": "y"},
            ],
        }
    )
    assert said.targets == {"erp": Side(state="paused", reason="paused by anna"), "wms": Side(state="off")}
    assert said.doors == {("acme", "poll"): Side(state="down"), ("acme", "fetch"): Side(state="down", reason="401")}


def test_the_sides_are_told_whatever_the_gateway_complains_of(clock: ManualClock) -> None:
    """A complaint of a kind that `sides_of` does not expect would take every list, the status and the page with it."""
    metrics = Metrics(clock)
    metrics.health.doors["acme", "poll"] = Condition(state="down", since=clock.now(), reason="401")
    metrics.health.targets["erp"] = Condition(state="paused", since=clock.now(), reason="held")
    metrics.health.reload_refused = metrics.health.clock_doubt = metrics.health.wal_stuck = "why"
    metrics.health.slow_hook("acme", "normalize", 2.5, on_loop=True)
    kinds = {tuple(sorted(complaint)) for complaint in metrics.health.problems()}
    assert len(kinds) == 6, "one of each kind that there is"
    assert web_status.sides(metrics, sources=["acme"], targets=["erp"]).doors == {("acme", "poll"): Side(state="down", reason="401")}


# --- out of the store


@pytest_asyncio.fixture
async def reader(store: SqliteStore, tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteReader]:
    made = SqliteReader(tmp_path / "gateway.db", clock)
    await made.open()
    yield made
    await made.close()


REFUSED = Settlement(status="dead", outcome="refused", reason="the target refuses the order (422)", detail="Jane owes money")
PAUSED = Settlement(status="held", outcome="revision", reason="version 2 of the order has other content")


async def waits(reader: SqliteReader, queue: Queue) -> dict[str, str | None]:
    return {row["row"]: row["waits"] for row in await reader.rows(queue, sides=UP)}


async def test_a_version_behind_a_dead_letter_says_so_everywhere(store: SqliteStore, reader: SqliteReader) -> None:
    await accept(store, incoming("o1", "a"))
    await prepare(store)
    await deliver(store, REFUSED)
    await accept(store, incoming("o1", "b"))
    await prepare(store)
    dead = "the target refuses the order (422); a person decides: gateway replay or drop outbox:1"
    behind = f"waits behind outbox:1 (acme/o1/1), which is dead: {dead}"
    assert await waits(reader, "outbox") == {"outbox:2": behind, "outbox:1": dead}
    assert [row["waits"] for row in await reader.show("acme/o1/2", sides=UP)] == [behind]
    assert [row["waits"] for row in await reader.orders(sides=UP)] == [dead]
    assert {(one["status"], one["rows"], one["row"]): one["waits"] for one in await reader.standing(UP)} == {
        ("ready", 1, "outbox:2"): behind,
        ("dead", 1, "outbox:1"): dead,
    }
    assert "Jane" not in str(await reader.rows("outbox")) + str(await reader.orders()) + str(await reader.standing())
    assert "Jane owes money" in str(await reader.show("acme/o1/1"))


async def test_what_waits_for_a_held_version_says_so(store: SqliteStore, reader: SqliteReader) -> None:
    await accept(store, incoming("o1", "a"), incoming("o1", "b"), incoming("o1", "c"))
    await prepare(store)
    assert (await waits(reader, "outbox"))["outbox:1"] == "waits for inbox:2 (acme/o1@2), a later version that has not been looked at yet"
    (second,) = await store.lease_inbox("acme", 10)
    await store.settle_inbox(second, PAUSED, with_earlier=True)
    person = "version 2 of the order has other content; a person decides: gateway release or drop inbox:2"
    assert await waits(reader, "outbox") == {"outbox:1": "waits for the decision on inbox:2; it goes with it"}
    assert (await waits(reader, "inbox"))["inbox:3"] == f"waits behind inbox:2 (acme/o1@2), which is held: {person}"


async def test_a_lease_says_since_when_and_a_retry_until_when(store: SqliteStore, reader: SqliteReader, clock: ManualClock) -> None:
    at = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    await accept(store, incoming("o1"))
    await prepare(store)
    (row,) = await store.lease_outbox("erp", 10)
    clock.advance(120)
    assert await waits(reader, "outbox") == {"outbox:1": f"is being worked on since {at}"}
    assert [one["on"] for one in await reader.standing(UP)] == ["side"]
    await store.settle_outbox(row, Settlement(status="ready", outcome="retry", reason="the target answers 503", due_in_s=60))
    (shown,) = await reader.rows("outbox", sides=UP)
    later = from_ms(clock.now_ms() + 60_000).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert shown["waits"] == f"next try at {later} after 1 try: the target answers 503"
    assert shown["next_at"].startswith(later[:-1])


async def test_a_submission_waits_behind_what_is_said_for_the_same_order(store: SqliteStore, reader: SqliteReader) -> None:
    first, second = await submit_command(store, command("k1"), command("k2"))
    (row,) = await store.lease_submissions("acme", 10)
    await store.settle_submission(row, Settlement(status="unknown", outcome="unknown", reason="no answer in time", due_in_s=30))
    assert row.public_id == first
    said = (await waits(reader, "submit"))["submit:2"]
    assert said is not None
    assert said.startswith(f"waits behind submit:1 ({first}), which is unknown: it may have been taken; next look-up at ")
    assert [row["row"] for row in await reader.show(second)] == ["submit:2"]


async def test_an_acknowledgement_has_a_name_and_a_reason(store: SqliteStore, reader: SqliteReader) -> None:
    await accept(store, incoming("o1", acknowledge="stored"))
    (row,) = await store.lease_acknowledgements("acme", 10)
    await store.settle_acknowledgements([(row, Settlement(status="dead", outcome="dead", reason="the vendor did not confirm it"))])
    dead = "the vendor did not confirm it; a person decides: gateway replay or drop ack:1"
    assert await waits(reader, "acknowledgements") == {"ack:1": dead}
    assert [shown["row"] for shown in await reader.show("ack:1")] == ["ack:1"]


async def test_what_is_done_waits_for_nothing(store: SqliteStore, reader: SqliteReader) -> None:
    await accept(store, incoming("o1"))
    await prepare(store)
    await deliver(store)
    assert await waits(reader, "outbox") == {"outbox:1": None}
    assert [row["waits"] for row in await reader.orders()] == [None]
    assert await reader.standing(UP) == []
