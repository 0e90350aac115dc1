"""The simulated creations do what Pickup Cloud's pages say, triggers of the demo instance included (vendors/pickup_cloud.md 2)."""

from __future__ import annotations

import contextlib
from typing import Any

import aiohttp
import pytest
from gateway_pickup_cloud.constructed import article
from gateway_pickup_cloud.simulator import PickupCloudSimulator
from gateway_pickup_cloud.simulator_creations import ON_BEHALF, ORDERS, PATHS, RECURRENT

from gateway.testing import ManualClock, Orderable

DATES = {"startDate": "2024-03-31T00:00:00", "endDate": "2024-04-01T00:00:00"}
ORIGIN = {"origin": "shop", "originOrderNumber": "1"}


def order(path: str = ORDERS, notes: str | None = None, **changes: Any) -> dict[str, Any]:
    body = {"orderNumber": "N-1", "relatedNotes": notes, "articles": [article(0, 2)]}
    if path == RECURRENT:
        body |= DATES | {"articles": [article(0, 2, interval=28)]}
    return body | (ORIGIN if path == ON_BEHALF else {}) | changes


async def post(
    simulator: PickupCloudSimulator, body: Any, path: str = ORDERS, key: str | None = None, kind: str = "application/json"
) -> tuple[int, Any]:
    headers = {"x-api-key": simulator.api_key if key is None else key, "Content-Type": kind}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{simulator.address}{PATHS[path]}", json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if answer.content_length else None


class Told:
    """What the hub was given to say: state, and after how many seconds."""

    def __init__(self, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
        self.said: list[tuple[str, int]] = []
        self._began, self._clock = clock.now(), clock

        async def push(target: str, *arguments: Any) -> None:
            self.said.append((arguments[2], round((clock.now() - self._began).total_seconds())))

        simulator.push = push  # type: ignore[method-assign]

    async def watch(self, simulator: PickupCloudSimulator, seconds: int) -> list[tuple[str, int]]:
        for _ in range(seconds):
            self._clock.advance(1)
            await simulator.creations.catch_up()
        return self.said


@pytest.fixture
def told(simulator: PickupCloudSimulator, clock: ManualClock) -> Told:
    return Told(simulator, clock)


@pytest.mark.parametrize(("path", "state"), [(ORDERS, "READYFORINPUT"), (RECURRENT, "SCHEDULED"), (ON_BEHALF, "READYFORINPUT")])
async def test_a_creation_is_answered_as_documented(simulator: PickupCloudSimulator, path: str, state: str) -> None:
    status, answer = await post(simulator, order(path), path)
    assert (status, answer["orderNumber"], answer["state"], len(answer["articles"])) == (200, "N-1", state, int(path != RECURRENT))
    assert set(answer) == {
        *("articles", "orderNumber", "requestCustomerToFillData", "relatedNotes", "dosageInformation", "state", "creationDate"),
        *("lastUpdateDate", "pickedUpDate", "canceledDate", "firstInputDate", "isOverdue", "pickupCode", "storageCode"),
        "cancellationReason",
    }
    assert answer["pickupCode"].startswith("customer_")
    assert answer["storageCode"].startswith("pickup_")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (ORDERS, [], 400),
        (ORDERS, order(orderNumber=""), 400),
        (ORDERS, order(articles=None), 400),
        (ORDERS, order(articles=[article(0, 0)]), 400),
        (ORDERS, order(articles=[article(0, 2**31)]), 400),
        (RECURRENT, order(RECURRENT, articles=[article(0)]), 400),
        (RECURRENT, order(RECURRENT, articles=[article(0, interval=100)]), 400),
        (RECURRENT, order(RECURRENT, startDate="2024-03-30T00:00:00"), 400),
        (RECURRENT, order(RECURRENT, endDate="2024-03-31T00:00:00"), 400),
        (RECURRENT, order(RECURRENT, endDate="soon"), 400),
        (ON_BEHALF, order(), 400),
    ],
)
async def test_a_body_against_the_rules_is_refused(simulator: PickupCloudSimulator, path: str, body: Any, status: int) -> None:
    assert (await post(simulator, body, path))[0] == status
    assert simulator.creations.made == []


async def test_key_and_media_type_count(simulator: PickupCloudSimulator) -> None:
    assert (await post(simulator, order(), key="wrong"))[0] == 401
    assert (await post(simulator, order(), kind="text/plain"))[0] == 415
    assert (await post(simulator, order(), kind="application/*+json"))[0] == 200


@pytest.mark.parametrize("duplicates", [400, 409, "twice"])
async def test_what_a_number_that_is_taken_comes_to_is_a_knob(simulator: PickupCloudSimulator, duplicates: Any) -> None:
    """Nobody documents it."""
    simulator.creations.duplicates = duplicates
    await post(simulator, order())
    status, _ = await post(simulator, order())
    assert status == (200 if duplicates == "twice" else duplicates)
    assert simulator.creations.doubles() == (["N-1"] if duplicates == "twice" else [])


@pytest.mark.parametrize(
    ("path", "notes", "states"),
    [
        (ORDERS, None, [("READYFORINPUT", 0)]),
        (ORDERS, "$input-003", [("READYFORINPUT", 0), ("READYFORPICKUP", 3)]),
        (ORDERS, "$pickup-002-005", [("READYFORINPUT", 0), ("READYFORPICKUP", 2), ("PICKEDUP", 5)]),
        (ORDERS, "$cancel-002-004", [("READYFORINPUT", 0), ("READYFORPICKUP", 2), ("CANCELED", 4)]),
        (ORDERS, "$cancel-004-002", [("READYFORINPUT", 0), ("CANCELED", 2)]),
        (ORDERS, "$pickup-004-002", [("READYFORINPUT", 0), ("READYFORPICKUP", 4)]),
        (ON_BEHALF, "$pickup-001-002-004", [("SCHEDULED", 0), ("READYFORINPUT", 1), ("READYFORPICKUP", 2), ("PICKEDUP", 4)]),
        (ON_BEHALF, "$cancel-001-002-004", [("SCHEDULED", 0), ("READYFORINPUT", 1), ("READYFORPICKUP", 2), ("CANCELED", 4)]),
        (ON_BEHALF, "$pickup-001-002", [("READYFORINPUT", 0)]),
        (ON_BEHALF, "$input-001", [("READYFORINPUT", 0)]),
        (RECURRENT, "$input-001", [("SCHEDULED", 0)]),
        *(
            (ORDERS, notes, [("READYFORINPUT", 0)])
            for notes in ("$input-3", "$input-abc", "$pickup-001", "$input-0001", "$cancel-1-2", "input-001")
        ),
        *((ORDERS, notes, [("READYFORINPUT", 0)]) for notes in ("$pickup-001-002-003", "$input-001 please", "$failed", "$input-٠٠١", "$")),
    ],
)
async def test_a_note_makes_the_demo_instance_act(
    simulator: PickupCloudSimulator, told: Told, path: str, notes: str | None, states: list[tuple[str, int]]
) -> None:
    await post(simulator, order(path, notes), path)
    assert await told.watch(simulator, 8) == states
    shown = simulator.shown("N-1")
    assert shown is not None
    assert shown["state"] == states[-1][0]
    assert shown["isOverdue"] == (notes == "$pickup-004-002")


@pytest.mark.parametrize(("path", "status"), [(ORDERS, 500), (ON_BEHALF, 500), (RECURRENT, 200)])
async def test_fail_is_a_server_error_and_no_order(simulator: PickupCloudSimulator, path: str, status: int) -> None:
    assert (await post(simulator, order(path, "$fail"), path))[0] == status
    assert len(simulator.creations.made) == int(status == 200)


async def test_a_trigger_happens_also_when_nobody_looks(simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    """The status that REST shows is the one of now."""
    await post(simulator, order(ORDERS, "$input-005"))
    clock.advance(6)
    async with aiohttp.request(
        "GET", f"{simulator.address}/api/v2/orders/by-ordernumber/N-1", headers={"x-api-key": simulator.api_key}
    ) as answer:
        assert (await answer.json())["state"] == "READYFORPICKUP"


@pytest.mark.parametrize("after", [True, False])
async def test_a_lost_answer_is_lost_before_or_after_the_effect(simulator: PickupCloudSimulator, after: bool) -> None:
    simulator.creations.arm("lose_answer", after=after)
    with pytest.raises(aiohttp.ClientError):
        await post(simulator, order())
    assert [one.number for one in simulator.creations.made] == ["N-1"] * int(after)
    assert simulator.creations.heard == [0]


@pytest.mark.parametrize("after", [True, False])
async def test_an_error_is_answered_before_or_after_the_effect(simulator: PickupCloudSimulator, after: bool) -> None:
    simulator.creations.arm("status", status=500, after=after, times=2)
    assert (await post(simulator, order()))[0] == 500
    assert (await post(simulator, order(orderNumber="N-2")))[0] == 500
    assert (await post(simulator, order(orderNumber="N-3")))[0] == 200
    assert len(simulator.creations.made) == (3 if after else 1)
    assert simulator.creations.heard == [500, 500, 200]


async def test_a_slow_answer_is_an_answer(simulator: PickupCloudSimulator) -> None:
    simulator.creations.arm("slow", delay_s=0.05)
    assert (await post(simulator, order()))[0] == 200


async def test_what_an_erp_creates_in_the_demo_ends_as_it_says(simulator: PickupCloudSimulator, clock: ManualClock, told: Told) -> None:
    wishes = simulator.wishes(unkind=True)
    assert isinstance(simulator, Orderable)
    for wish in wishes:
        path = RECURRENT if "recurrent" in wish.command else ORDERS
        with pytest.raises(aiohttp.ClientError) if wish is wishes[0] else contextlib.nullcontext():
            assert (await post(simulator, wish.body, path))[0] == 200
    await told.watch(simulator, 4)
    for wish, state in zip(wishes, ("PICKEDUP", "READYFORPICKUP"), strict=True):
        shown = simulator.shown(wish.sent.order_ref)
        assert shown is not None
        assert (shown["state"], len(wish.body["articles"])) == (state, wish.sent.lines)
        assert wish.sent.status == {"PICKEDUP": "picked_up", "READYFORPICKUP": "ready_for_pickup"}[state]
    assert simulator.doubled() == []


@pytest.mark.parametrize("announces", ["before", "after", "never"])
async def test_a_new_order_is_told_of_before_or_after_its_answer_or_not(
    simulator: PickupCloudSimulator, told: Told, announces: Any
) -> None:
    simulator.creations.announces = announces
    await post(simulator, order())
    at_once = len(told.said)
    await simulator.creations.told()
    assert (at_once, len(told.said)) == {"before": (1, 1), "after": (0, 1), "never": (0, 0)}[announces]
