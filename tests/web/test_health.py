"""`/healthz`, `/readyz`, `/metrics` on a live gateway: what a monitor is told, and that it is true."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway import AuthError
from gateway.api.errors import StoreError, StoreFailed
from gateway.targets.classify import Outcome
from gateway.testing import ErpSimulator
from gateway.web import health
from tests import acme


async def metrics(running: Any) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels."""
    status, text = await running.get("/metrics")
    assert status == 200
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**named: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(named.items()))


async def reasons(running: Any) -> list[dict[str, str]]:
    status, said = await running.get("/readyz")
    assert (status, said["status"]) == ((503, "not ready") if said["reasons"] else (200, "ready"))
    return list(said["reasons"])


# --- healthz, readyz


async def test_a_gateway_that_works_is_healthy_and_ready(start, erp) -> None:
    running = await start(erp.url)
    assert await running.get("/healthz") == (200, {"status": "ok"})
    assert await reasons(running) == []


async def test_a_door_that_is_down_is_a_reason_until_it_is_up(start, erp) -> None:
    running = await start(erp.url)

    async def refused(**_: Any) -> Any:
        raise AuthError("the vendor answers 401")

    acme.faults["poll"] = refused
    running.gateway._runtime.resume("acme")
    await running.until(lambda: has_reasons(running))
    (reason,) = await reasons(running)
    next_at = datetime.fromisoformat(reason.pop("next_at"))
    assert reason == {"source": "acme", "door": "poll", "reason": "the vendor answers 401"}
    assert next_at > datetime.now(UTC)
    assert (await running.get("/healthz"))[0] == 200
    acme.faults.clear()
    running.gateway._runtime.resume("acme")
    await running.until(lambda: has_no_reasons(running))


async def has_reasons(running: Any) -> bool:
    return bool(await reasons(running))


async def has_no_reasons(running: Any) -> bool:
    return not await reasons(running)


async def test_a_target_on_hold_is_a_reason(start, erp) -> None:
    running = await start(erp.url)
    erp.arm("status", status=401)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has_reasons(running))
    (reason,) = await reasons(running)
    assert (reason["target"], reason["reason"]) == ("erp", "the target answers 401: check its credentials")


async def test_a_target_that_is_down_is_a_reason(start, erp) -> None:
    running = await start(erp.url, target="breaker = { failures = 1 }")
    await erp.stop()
    await running.deliver(acme.body("o1"))
    await running.until(lambda: has_reasons(running))
    (reason,) = await reasons(running)
    assert (reason["target"], reason["reason"]) == ("erp", "no connection: connection refused")


async def test_a_door_that_is_off_is_no_reason(start, erp) -> None:
    running = await start(erp.url, source='doors = ["webhook"]')
    assert await reasons(running) == []


async def test_a_store_that_refuses_is_a_reason_here_and_on_the_page(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._store.look_at_disk = lambda: None  # it would see that there is room
    running.gateway._store.refusing = "the disk is nearly full"
    refusal = {"store": "refuses new orders", "reason": "the disk is nearly full"}
    assert refusal in await reasons(running)
    assert refusal in (await running.get("/api/status"))[1]["reasons"]
    assert "the disk is nearly full" in (await running.get("/"))[1]


@pytest.mark.parametrize("error", [StoreError("odd"), StoreFailed("disk I/O error")], ids=lambda e: type(e).__name__)
async def test_a_store_that_does_not_commit_is_a_reason(start, erp, monkeypatch, error) -> None:
    running = await start(erp.url)

    async def fail() -> None:
        raise error

    (checker,) = [
        route.handler.__self__ for route in running.gateway.pages._runner.app.router.routes() if route.handler.__name__ == "metrics"
    ][:1]
    monkeypatch.setattr(checker, "_commits", fail)
    assert await reasons(running) == [{"store": "does not commit", "reason": str(error)}]


async def test_a_disk_that_hangs_is_a_reason_and_does_not_hang_the_monitor(start, erp, monkeypatch) -> None:
    assert health._PROVE_WITHIN_S == 3
    monkeypatch.setattr(health, "_PROVE_WITHIN_S", 0.05)
    running = await start(erp.url)
    let_go = threading.Event()
    stuck = asyncio.ensure_future(running.gateway._store._writer.run(lambda db: let_go.wait(10)))
    await asyncio.sleep(0)
    try:
        assert await reasons(running) == [{"store": "does not commit", "reason": "too slow"}]
        assert (await running.get("/healthz"))[0] == 200
    finally:
        let_go.set()
        await stuck
    assert await reasons(running) == []


# --- metrics

CONTRACT = {
    "gateway_received_total": {"source", "door", "outcome"},
    "gateway_deliveries_total": {"target", "outcome"},
    "gateway_rows": {"queue", "status"},
    "gateway_oldest_seconds": {"queue"},
    "gateway_door_up": {"source", "door"},
    "gateway_target_up": {"target"},
    "gateway_accept_seconds_bucket": {"le"},
    "gateway_delivery_seconds_bucket": {"target", "le"},
    "gateway_commit_seconds_bucket": {"le"},
}


async def test_every_name_of_the_contract_is_there_with_its_labels(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await erp.wait_for(1)
    await running.until(lambda: delivered(running))
    found = await metrics(running)
    for name, names in CONTRACT.items():
        assert {label for sample in found[name] for label, _ in sample} == names, name


async def delivered(running: Any) -> bool:
    return bool(await running.rows("outbox", status="done"))


async def test_the_answer_is_what_prometheus_reads(start, erp) -> None:
    running = await start(erp.url)
    async with running.session.get(running.admin_url + "/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.status == 200


async def test_every_outcome_of_the_doors_is_counted(start, erp) -> None:
    running = await start(erp.url)
    await running.deliver(acme.body("o1"))
    await running.deliver(acme.body("o1"))
    await running.deliver(acme.body("o1"), signature="0")
    await running.deliver(acme.body("o2", qty=0))
    await running.deliver(b"nonsense")
    found = (await metrics(running))["gateway_received_total"]
    for outcome in ("stored", "repeat", "refused", "rejected", "unreadable"):
        assert found[labels(source="acme", door="webhook", outcome=outcome)] == 1


async def test_deliveries_and_rows_are_counted_as_they_are(start, erp) -> None:
    running = await start(erp.url)
    erp.arm("status", status=422)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: dead(running))
    await running.deliver(acme.body("o2"))
    await running.until(lambda: delivered(running))
    found = await metrics(running)
    assert found["gateway_deliveries_total"] == {labels(target="erp", outcome="refused"): 1, labels(target="erp", outcome="delivered"): 1}
    rows = found["gateway_rows"]
    assert rows[labels(queue="inbox", status="done")] == 2
    assert rows[labels(queue="outbox", status="dead")] == rows[labels(queue="outbox", status="done")] == 1
    assert found["gateway_delivery_seconds_count"][labels(target="erp")] == 2
    assert found["gateway_accept_seconds_count"][()] == 2
    assert found["gateway_commit_seconds_count"][()] > 4
    assert {name for sample in rows for label, name in sample if label == "status"} == {
        "ready",
        "leased",
        "done",
        "held",
        "dead",
        "unknown",
    }
    assert labels(queue="inbox", status="unknown") not in rows


async def dead(running: Any) -> bool:
    return bool(await running.rows("outbox", status="dead"))


async def test_the_oldest_row_under_way_has_an_age_and_what_waits_for_a_person_none(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="paused by a test"), 0, 0.0)
    await running.deliver(acme.body("o1"))
    await running.until(lambda: outbox_has(running, "ready"))
    first = (await metrics(running))["gateway_oldest_seconds"][labels(queue="outbox")]
    await running.until(lambda: older(running, first))
    running.gateway._runtime.deliver["erp"].release()
    await running.until(lambda: outbox_has(running, "done"))
    await running.deliver(b"nonsense")
    found = (await metrics(running))["gateway_oldest_seconds"]
    assert found == {labels(queue=queue): 0 for queue in ("inbox", "outbox", "acknowledgements", "submit")}


async def outbox_has(running: Any, status: str) -> bool:
    return bool(await running.rows("outbox", status=status))


async def older(running: Any, than: float) -> bool:
    return (await metrics(running))["gateway_oldest_seconds"][labels(queue="outbox")] > than


async def test_doors_and_targets_are_up_or_down(start, erp) -> None:
    running = await start(erp.url, source='doors = ["webhook"]')
    found = await metrics(running)
    assert found["gateway_door_up"] == {labels(source="acme", door="webhook"): 1, labels(source="acme", door="poll"): 0}
    assert found["gateway_target_up"] == {labels(target="erp"): 1}
    running.gateway._runtime.deliver["erp"].health.refuse(Outcome(meaning="paused", reason="paused by a test"), 0, 0.0)
    assert (await metrics(running))["gateway_target_up"] == {labels(target="erp"): 0}


async def test_what_is_tried_again_by_itself_says_when_everywhere(start: Any, erp: ErpSimulator) -> None:
    """`readyz`, `status`, the page and the log name the reason and the next time."""
    running = await start(erp.url)
    await running.until(lambda: is_up(running))
    running.gateway._runtime.deliver["erp"].health.show = lambda: None
    metrics, at = running.gateway._metrics, datetime(2026, 12, 1, 8, 0, 30, tzinfo=UTC)
    for state in ("down", "paused", "paced"):
        metrics.health.set_target("erp", state, "the target answers 404", at)
        metrics.health.set_door("acme", "webhook", "down", "the vendor answers 503", next_at=at)
        ready, said = await running.get("/readyz")
        assert (ready, {one["next_at"] for one in said["reasons"]}) == (503, {"2026-12-01T08:00:30Z"})
        assert (await running.get("/api/status"))[1]["targets"]["erp"]["next_at"] == "2026-12-01T08:00:30Z"
        assert (await running.get("/"))[1].count("2026-12-01 08:00:30") == 3  # both reasons, and the table of targets
    metrics.health.set_target("erp", "closed", "a maintenance window", at)
    metrics.health.set_door("acme", "webhook", "up")
    assert (await running.get("/readyz"))[0] == 200, "what is configured is no complaint"
    assert b'gateway_target_up{target="erp"} 0' in generate_latest(metrics.registry)


async def is_up(running: Any) -> bool:
    return bool((await running.get("/api/status"))[1]["targets"]["erp"]["state"] == "up")


async def test_a_fetch_that_was_not_let_in_is_forgotten_when_a_person_says_so(start, erp) -> None:
    running = await start(erp.url)
    running.gateway._metrics.health.set_door("acme", "fetch", "down", "the vendor answers 401")
    assert (await running.get("/readyz"))[0] == 503
    running.gateway._runtime.resume("acme")
    assert (await running.get("/readyz"))[0] == 200
