"""An ERP creates orders through a whole gateway, and hears of them: the door, the step, the hub, the resync, the targets.

The triggers are those of the vendor's demo instance (vendors/pickup_cloud.md section 2), one second of it being one of ours.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from gateway_pickup_cloud.constructed import CUSTOMER, article
from gateway_pickup_cloud.simulator import PickupCloudSimulator
from jsonschema import Draft202012Validator

ONCE = {"orderNumber": "A-1", "customerDetails": CUSTOMER, "sendCustomerPickupMail": True, "articles": [article(0, 2), article(1, 1)]}
TOKEN = "token-of-the-erp-constructed"
ORIGIN = {"origin": "shop-7", "originOrderNumber": "7/1"}


def today(days: int = 0) -> str:
    return f"{datetime.now(ZoneInfo('Europe/Berlin')) + timedelta(days=days):%Y-%m-%d}T00:00:00"


def recurrent(**changes: Any) -> dict[str, Any]:
    dates = {"startDate": today(), "endDate": today(90)}
    return ONCE | {"orderNumber": "R-1", "articles": [article(2, 1, interval=28)]} | dates | changes


@pytest.fixture
async def running(whole_gateway: Any) -> Any:
    running = await whole_gateway(PickupCloudSimulator())
    await running.cloud.listened()
    return running


@pytest.mark.parametrize(
    ("command", "number", "notes", "states"),
    [
        ("create_order", "input", "$input-001", ["ready_for_input", "ready_for_pickup"]),
        ("create_order", "pickup", "$pickup-001-002", ["ready_for_input", "ready_for_pickup", "picked_up"]),
        ("create_order", "overdue", "$pickup-001-000", ["ready_for_input", "ready_for_pickup"]),
        ("create_order", "cancel", "$cancel-001-002", ["ready_for_input", "ready_for_pickup", "cancelled"]),
        ("create_order", "never loaded", "$cancel-002-001", ["ready_for_input", "cancelled"]),
        ("create_order_on_behalf_of", "b/pickup", "$pickup-001-002-003", ["scheduled", "ready_for_input", "ready_for_pickup", "picked_up"]),
        ("create_order_on_behalf_of", "b/cancel", "$cancel-001-002-003", ["scheduled", "ready_for_input", "ready_for_pickup", "cancelled"]),
    ],
)
async def test_each_trigger_of_the_demo_instance_is_seen_by_the_erp(
    running: Any, command: str, number: str, notes: str, states: list[str]
) -> None:
    body = ONCE | {"orderNumber": number, "relatedNotes": notes} | (ORIGIN if command.endswith("of") else {})
    status, said = await running.submit_command(command, body, Prefer="wait=20")
    assert (status, said["state"], said["answer"]["orderNumber"]) == (200, "done", number)
    await running.until(lambda: running.arrived() and running.arrived()[-1][1] == states[-1])
    messages = running.erp.messages()
    assert {message["order"]["order_ref"] for message in messages} == {number}
    assert list(dict.fromkeys(message["order"]["status"] for message in messages)) == states
    assert (messages[0]["kind"], messages[-1]["kind"]) == (
        "order.placed",
        "order.cancelled" if states[-1] == "cancelled" else "order.status",
    )
    assert {len(message["order"]["lines"]) for message in messages} == {2}
    if number == "overdue":
        assert messages[-1]["order"]["extra"]["is_overdue"] is True
    assert [one.number for one in running.cloud.creations.made] == [number]


async def test_fail_is_an_error_that_nobody_is_told_of_as_an_order(running: Any) -> None:
    """What is unknown is looked for and sent again; the order is never there, so a person ends it."""
    status, said = await running.submit_command("create_order", ONCE | {"relatedNotes": "$fail"})
    assert status == 202
    await running.until(lambda: running.cloud.creations.heard == [500])
    async with asyncio.timeout(10):
        while (state := await running.submission(said["id"]))["state"] != "unknown":
            await asyncio.sleep(0.02)
    assert (state["attempts"], state.get("answer")) == (1, None)
    assert (running.cloud.creations.made, running.erp.messages()) == ([], [])


async def test_a_recurrent_order_has_the_lines_of_its_command_and_lives_on(running: Any) -> None:
    status, said = await running.submit_command("create_recurrent_order", recurrent(), Prefer="wait=20")
    assert (status, said["answer"]["articles"], said["answer"]["state"]) == (200, [], "SCHEDULED")
    await running.until(lambda: running.erp.messages() and running.erp.messages()[-1]["order"]["lines"])
    for state in ("READYFORINPUT", "READYFORPICKUP", "PICKEDUP"):
        await running.cloud.move("R-1", state)
    await running.until(lambda: running.arrived()[-1] == ("R-1", "picked_up"))
    last = running.erp.messages()[-1]["order"]
    assert [(line["scan_code"], line["interval_days"]) for line in last["lines"]] == [(article(2)["scanCode"], 28)]


async def test_what_the_hub_does_not_tell_is_found_by_asking(running: Any) -> None:
    """The order is open for the resync from its creation on, told of or not."""
    running.cloud.creations.announces = "never"
    await running.submit_command("create_order", ONCE, Prefer="wait=20")
    await running.cloud.hub.stop()
    await running.cloud.move("A-1", "PICKEDUP")
    await running.until(lambda: running.arrived() == [("A-1", "ready_for_input"), ("A-1", "picked_up")])


async def test_an_answer_that_is_lost_makes_one_order(running: Any) -> None:
    running.cloud.creations.arm("lose_answer")
    running.cloud.creations.duplicates = "twice"  # a second creation would be seen
    status, said = await running.submit_command("create_order", ONCE, Prefer="wait=50")
    assert (status, said["state"]) == (200, "done")
    assert said["answer"]["pickupCode"] == running.cloud.creations.made[0].pickup_code
    await running.until(lambda: running.arrived())
    assert (len(running.cloud.creations.made), running.cloud.creations.mailed) == (1, ["A-1"])


async def test_the_same_again_is_the_same_order(running: Any) -> None:
    first = await running.submit_command("create_order", ONCE, Prefer="wait=20")
    again = await running.submit_command("create_order", ONCE, Prefer="wait=20")
    assert first == again
    status, _ = await running.submit_command("create_order", ONCE, key="another key")
    assert status == 409
    assert len(running.cloud.creations.made) == 1


async def test_the_vendors_example_requests_go_through_the_door(running: Any, example: str) -> None:
    """Seed 001, curl, HTTP and JavaScript, as they stand: their dates are past, and the door says so, once for each; with dates of
    today it takes them."""
    status, said = await running.submit_command("create_recurrent_order", example, Content_Type="application/*+json")
    assert (status, [one["path"] for one in said["problems"]]) == (422, ["$.startDate", "$.endDate"])
    body = json.loads(example)
    later = example.replace(body["startDate"], today()).replace(body["endDate"], today(60))
    status, said = await running.submit_command("create_recurrent_order", later, Content_Type="application/*+json", Prefer="wait=20")
    assert (status, said["state"]) == (200, "done")
    (made,) = running.cloud.creations.made
    assert made.request == json.loads(later)


async def test_a_vendors_refusal_is_the_callers_to_read_and_names_nobody(running: Any) -> None:
    running.cloud.create(number="A-1")
    status, said = await running.submit_command("create_order", ONCE, Prefer="wait=20")
    assert (status, said["state"]) == (200, "dead")
    state = await running.submission(said["id"])
    assert "Pickup Cloud refuses it (409): " in state["error"]
    assert CUSTOMER["fullName"] not in state["error"]


async def test_an_order_is_asked_for(running: Any) -> None:
    await running.submit_command("create_order", ONCE, Prefer="wait=20")
    await running.cloud.move("A-1", "READYFORPICKUP")
    status, said = await running.submit_command("get_order", {"orderNumber": "A-1"}, key="q1", Prefer="wait=20")
    assert (status, said["answer"]["state"]) == (200, "READYFORPICKUP")


BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("create_order", {"articles": [article(0, 0), {"scanCode": ""}]}, ["articles[0].quantityOrdered", "articles[1].quantityOrdered"]),
    ("create_order", {"orderNumber": ".."}, ["orderNumber"]),
    ("create_order", {"relatedNotes": 5, "customerDetails": {"email": 1, "mail": ""}}, ["customerDetails.email", "customerDetails.mail"]),
    ("create_order", {"customerDetails": "Max", "sendCustomerPickupMail": None}, ["customerDetails", "sendCustomerPickupMail"]),
    (
        "create_recurrent_order",
        recurrent(articles=[article(2, 1, interval=100), article(2, 1)]),
        ["articles[0].interval", "articles[1].interval"],
    ),
    ("create_recurrent_order", recurrent(startDate=today() + "Z", endDate=today()), ["endDate", "startDate"]),
    ("create_order_on_behalf_of", {}, ["origin", "originOrderNumber"]),
    ("get_order", {"orderNumber": 5}, ["orderNumber"]),
]


@pytest.mark.parametrize(("command", "changes", "paths"), BAD)
async def test_every_problem_of_a_body_is_named_at_once(running: Any, command: str, changes: dict[str, Any], paths: list[str]) -> None:
    status, said = await running.submit_command(command, (ONCE if command != "get_order" else {}) | changes, key="k")
    assert (status, {f"$.{path}" for path in paths} - {one["path"] for one in said["problems"]}) == (422, set())
    for one in said["problems"]:
        assert not {"Struct", "Unset", "`"} & set(one["problem"].split())


async def test_the_codes_of_a_created_order_are_there_to_be_printed(running: Any) -> None:
    _, said = await running.submit_command("create_recurrent_order", recurrent(), Prefer="wait=20")
    for image, kind in (("pickup-code.svg", "image/svg+xml"), ("storage-label.pdf", "application/pdf")):
        url = f"{running.out}/out/{said['id']}/{image}"
        async with aiohttp.request("GET", url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert (answer.status, answer.content_type) == (200, kind)


async def test_no_code_and_no_person_is_in_a_log_line_or_a_list(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="gateway")
    running.cloud.creations.arm("lose_answer")
    await running.submit_command("create_order", ONCE | {"relatedNotes": "Kühl lagern"}, Prefer="wait=50")
    await running.submit_command("create_order", ONCE | {"orderNumber": "fails", "relatedNotes": "$fail"}, Prefer="wait=1")
    await running.until(lambda: running.arrived())
    shown = caplog.text + json.dumps([await running.get(f"/api/{queue}") for queue in ("submit", "inbox", "outbox")], ensure_ascii=False)
    assert "A-1" in shown
    for secret in ("customer_", "pickup_0", "Łucja", "Dresden", "lucja@", "Kühl", TOKEN, running.cloud.api_key):
        assert secret not in shown


async def test_the_document_describes_every_command_in_the_vendors_words(running: Any) -> None:
    async with aiohttp.request("GET", f"{running.out}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        document = await answer.json()
    commands = {"create_order": ONCE, "create_recurrent_order": recurrent(), "create_order_on_behalf_of": ONCE | ORIGIN}
    assert {path for path in document["paths"] if "pharmacy" in path} == {f"/out/pharmacy/{name}" for name in [*commands, "get_order"]}
    for name, body in commands.items():
        schema = document["paths"][f"/out/pharmacy/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        check = Draft202012Validator({**schema, "components": document["components"]})
        check.check_schema(check.schema)
        assert check.is_valid(body)
        assert not check.is_valid(body | {"ordernumber": "x"})
        assert not check.is_valid(body | {"relatedNotes": "a\0b"})
    interval = document["components"]["schemas"]["RecurrentArticle"]["properties"]["interval"]
    assert (interval["minimum"], interval["maximum"]) == (1, 99)
