"""What the gateway says to Pickup Cloud, against the simulator over HTTP (vendors/pickup_cloud.md section 4, case 4, and seed 001)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from gateway_pickup_cloud.constructed import CUSTOMER, article
from gateway_pickup_cloud.simulator import PickupCloudSimulator
from gateway_pickup_cloud.simulator_creations import ON_BEHALF, ORDERS, RECURRENT

from gateway import AuthError, Hold, PermanentError, RateLimited, Submission, Submitted, TransientError
from gateway.plugin.connector import Connector
from gateway.testing import ManualClock, vendor_client

ONCE = {
    "orderNumber": "WEB/2024 00042#ä",
    "relatedNotes": None,
    "dosageInformation": "",
    "sendCustomerPickupMail": True,
    "customerSelfRegistration": False,
    "customerDetails": CUSTOMER,
    "articles": [article(0, 2), article(0, 1)],
}
AGAIN = ONCE | {
    "orderNumber": "R-1",
    "articles": [article(2, 10, interval=10), article(3, 2, interval=99)],
    "startDate": "2024-03-31T00:00:00",
    "endDate": "2024-04-01T00:00:00",
}
FOR_OTHERS = ONCE | {"orderNumber": "B-1", "origin": "shop-7", "originOrderNumber": "their/1"}
EVERY = [("create_order", ONCE), ("create_recurrent_order", AGAIN), ("create_order_on_behalf_of", FOR_OTHERS)]


class Out:
    """The commands of one source, as the submit step calls them."""

    def __init__(self, connector: Connector, client: Any, clock: ManualClock) -> None:
        self.connector, self.client, self.clock = connector, client, clock

    def submission(self, command: str, body: dict[str, Any], **more: Any) -> Submission:
        described = self.connector.commands()[command]
        decoded = msgspec.json.decode(json.dumps(body), type=described.body)
        assert described.check is not None
        assert list(described.check(decoded, self.connector.settings, self.clock.now())) == []
        return Submission(id="s-1", command=command, body=decoded, accepted_at=self.clock.now(), **more)

    async def submit(self, command: str, body: dict[str, Any], **more: Any) -> Submitted:
        return await self.connector.submit(self.submission(command, body, **more), self.client)

    async def look_up(self, command: str, body: dict[str, Any]) -> Submitted | None:
        return await self.connector.look_up(self.submission(command, body), self.client)


@pytest.fixture
async def out(simulator: PickupCloudSimulator, clock: ManualClock, settings: Any, connector: Any) -> AsyncIterator[Out]:
    made = connector(settings(simulator, on_behalf_of_path=f"api/{{api_version}}/{ON_BEHALF}"))
    async with vendor_client(made.api(), clock) as client:
        yield Out(made, client, clock)


def path_of(command: str) -> str:
    return {"create_order": ORDERS, "create_recurrent_order": RECURRENT}.get(command, ON_BEHALF)


@pytest.mark.parametrize(("command", "body"), EVERY)
async def test_an_order_is_created_as_the_caller_wrote_it(
    out: Out, simulator: PickupCloudSimulator, command: str, body: dict[str, Any]
) -> None:
    made = await out.submit(command, body)
    (creation,) = simulator.creations.made
    assert (creation.path, creation.request) == (path_of(command), body)
    assert creation.headers["content-type"] == "application/json"
    assert simulator.creations.mailed == [body["orderNumber"]]
    answer = json.loads(made.answer or b"")
    assert answer["articles"] == ([] if command == "create_recurrent_order" else body["articles"])
    assert answer["state"] == ("SCHEDULED" if command == "create_recurrent_order" else "READYFORINPUT")


async def test_codes_are_told_apart_by_their_fields_and_never_by_how_they_begin(out: Out) -> None:
    """Seed 001: the code that begins with `pickup_` is the storage code."""
    made = await out.submit("create_order", ONCE)
    assert made.codes is not None
    assert made.codes.number == ONCE["orderNumber"]
    assert (made.codes.pickup or "").startswith("customer_")
    assert (made.codes.storage or "").startswith("pickup_")


async def test_what_is_absent_stays_absent(out: Out, simulator: PickupCloudSimulator) -> None:
    least = {"orderNumber": "L", "customerSelfRegistration": True, "articles": [{"scanCode": "00012345", "quantityOrdered": 1}]}
    await out.submit("create_order", least)
    assert simulator.creations.made[0].request == least


async def test_the_media_type_of_the_vendors_examples_can_be_sent(
    simulator: PickupCloudSimulator, clock: ManualClock, settings: Any, connector: Any
) -> None:
    made = connector(settings(simulator, content_type="application/*+json"))
    async with vendor_client(made.api(), clock) as client:
        await Out(made, client, clock).submit("create_recurrent_order", AGAIN)
    assert simulator.creations.made[0].headers["content-type"] == "application/*+json"


async def test_the_vendors_example_requests_are_sent_as_they_stand(
    simulator: PickupCloudSimulator, clock: ManualClock, settings: Any, connector: Any, example: str
) -> None:
    """Seed 001: curl, raw HTTP, JavaScript; on their day, since later their dates are past."""
    body = json.loads(example)
    clock.jump((datetime.fromisoformat(f"{body['startDate'][:10]}T12:00:00Z") - clock.now()).total_seconds())
    made = connector(settings(simulator, content_type="application/*+json"))
    async with vendor_client(made.api(), clock) as client:
        await Out(made, client, clock).submit("create_recurrent_order", body)
    (creation,) = simulator.creations.made
    assert (creation.path, creation.request) == (RECURRENT, body)
    sent = creation.headers
    assert (sent["accept"], sent["content-type"], sent["x-api-key"]) == ("application/json", "application/*+json", simulator.api_key)


def test_on_behalf_of_is_there_where_its_path_is(settings: Any, connector: Any) -> None:
    """Its path cannot be told from what the vendor publishes."""
    assert set(connector(settings()).commands()) == {"create_order", "create_recurrent_order", "get_order"}
    assert "create_order_on_behalf_of" in connector(settings(on_behalf_of_path="api/v2/orders-on-behalf-of")).commands()


def test_creations_are_unique_and_are_looked_up_and_a_question_may_be_repeated(out: Out) -> None:
    for name, command in out.connector.commands().items():
        creates = name != "get_order"
        assert (command.unique, command.look_up is not None, out.connector.is_repeatable(name)) == (creates, creates, not creates)
        assert command.subject is not None
        assert command.subject(out.submission(name, dict(EVERY).get(name, {"orderNumber": "x"})).body) in (
            "WEB/2024 00042#ä",
            "R-1",
            "B-1",
            "x",
        )


# --- get_order


async def test_an_order_is_asked_for_by_a_number_that_is_awkward_in_an_address(out: Out) -> None:
    await out.submit("create_order", ONCE)
    found = await out.submit("get_order", {"orderNumber": ONCE["orderNumber"]})
    assert json.loads(found.answer or b"")["orderNumber"] == ONCE["orderNumber"]
    assert found.codes == (await out.look_up("create_order", ONCE)).codes  # type: ignore[union-attr]
    assert found.events == ()


async def test_an_order_that_is_not_there_is_the_end_of_the_question(out: Out) -> None:
    with pytest.raises(PermanentError, match="knows no order of this number"):
        await out.submit("get_order", {"orderNumber": "nobody's"})


# --- refusals


async def test_a_refusal_names_the_field_and_no_person(out: Out, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    submission = out.submission("create_recurrent_order", AGAIN)
    clock.advance(3 * 86400)  # what was fit when it was accepted is late now: it is the vendor's to say so, once
    with pytest.raises(PermanentError, match=r"refuses it \(400\): One or more validation errors occurred\. startDate: ") as caught:
        await out.connector.submit(submission, out.client)
    assert "Dresden" not in str(caught.value)
    assert simulator.creations.made == []


@pytest.mark.parametrize("status", [400, 409])
async def test_a_number_that_is_taken_is_a_refusal(out: Out, simulator: PickupCloudSimulator, status: int) -> None:
    simulator.creations.duplicates = status
    simulator.create(number="R-1")
    with pytest.raises(PermanentError, match=f"{status}.*exists already"):
        await out.submit("create_recurrent_order", AGAIN)


async def test_a_repeat_that_its_own_first_attempt_is_in_the_way_of_is_done(out: Out, simulator: PickupCloudSimulator) -> None:
    simulator.creations.arm("lose_answer")
    with pytest.raises(TransientError):
        await out.submit("create_order", ONCE)
    made = await out.submit("create_order", ONCE, repeated=True)
    assert made.codes is not None
    assert made.codes.pickup == simulator.creations.made[0].pickup_code
    assert len(simulator.creations.made) == 1


async def test_a_repeat_that_is_refused_for_another_reason_is_refused(out: Out, clock: ManualClock) -> None:
    submission = msgspec.structs.replace(out.submission("create_recurrent_order", AGAIN), repeated=True)
    clock.advance(3 * 86400)
    with pytest.raises(PermanentError, match="startDate"):
        await out.connector.submit(submission, out.client)


async def test_a_vendor_that_makes_doubles_is_seen_to(out: Out, simulator: PickupCloudSimulator) -> None:
    """The known-bad mutant: with no look-up between, the patient has two orders and two mails."""
    simulator.creations.duplicates = "twice"
    simulator.creations.arm("lose_answer")
    with pytest.raises(TransientError):
        await out.submit("create_order", ONCE)
    await out.submit("create_order", ONCE)
    assert simulator.creations.doubles() == [ONCE["orderNumber"]]
    assert simulator.creations.mailed == [ONCE["orderNumber"]] * 2


# --- whether it was done


@pytest.mark.parametrize(("command", "body"), EVERY)
@pytest.mark.parametrize("fault", [{"fault": "lose_answer"}, {"fault": "status", "status": 500}])
async def test_case_4_a_creation_whose_answer_is_lost_is_found_by_its_number(
    out: Out, simulator: PickupCloudSimulator, command: str, body: dict[str, Any], fault: dict[str, Any]
) -> None:
    simulator.creations.arm(**fault)
    with pytest.raises(TransientError) as caught:
        await out.submit(command, body)
    assert not caught.value.undone
    found = await out.look_up(command, body)
    again = await out.look_up(command, body)
    assert found == again
    assert found is not None
    assert found.codes is not None
    assert found.codes.pickup == simulator.creations.made[0].pickup_code
    assert len(found.events) == 1
    assert simulator.creations.doubles() == []


@pytest.mark.parametrize("fault", [{"fault": "lose_answer"}, {"fault": "status", "status": 503}])
async def test_case_4_a_creation_that_never_was_is_surely_not_there(
    out: Out, simulator: PickupCloudSimulator, fault: dict[str, Any]
) -> None:
    simulator.creations.arm(**fault, after=False)
    with pytest.raises(TransientError):
        await out.submit("create_order", ONCE)
    assert await out.look_up("create_order", ONCE) is None
    assert simulator.creations.made == []


async def test_a_slow_answer_that_nobody_waited_for_is_found(out: Out, simulator: PickupCloudSimulator) -> None:
    simulator.creations.arm("slow", delay_s=30)
    out.client._api = msgspec.structs.replace(out.client._api, timeout_s=0.2)
    with pytest.raises(TransientError):
        await out.submit("create_order", ONCE)
    out.client._api = msgspec.structs.replace(out.client._api, timeout_s=10)
    assert await out.look_up("create_order", ONCE) is not None


async def test_a_found_order_is_as_it_stands(out: Out, simulator: PickupCloudSimulator) -> None:
    await out.submit("create_order", ONCE)
    await simulator.move(str(ONCE["orderNumber"]), "PICKEDUP")
    found = await out.look_up("create_order", ONCE)
    assert found is not None
    assert json.loads(found.answer or b"")["state"] == "PICKEDUP"


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 400, 302])
async def test_an_answer_that_is_no_clear_no_says_nothing(out: Out, simulator: PickupCloudSimulator, status: int) -> None:
    simulator.refuses = [status] * 2
    with pytest.raises((TransientError, AuthError, PermanentError, RateLimited)):
        await out.look_up("create_order", ONCE)


@pytest.mark.parametrize(
    ("command", "body", "there", "reason"),
    [
        ("create_recurrent_order", AGAIN, {"articles": [article(2, 10)], "state": "READYFORINPUT"}, "which is not recurrent"),
        ("create_order", ONCE, {"articles": [article(0, 2, interval=3), article(0, 1)]}, "which is recurrent"),
        ("create_order", ONCE, {"state": "SCHEDULED", "articles": []}, "which is recurrent"),
        ("create_order", ONCE, {"articles": [article(0, 3)]}, "with other articles"),
        ("create_order", ONCE, {"creationDate": "2024-03-30T12:00:00Z", "articles": []}, "created before it was asked for"),
    ],
)
async def test_another_order_under_the_number_is_for_a_person(
    out: Out, simulator: PickupCloudSimulator, command: str, body: dict[str, Any], there: dict[str, Any], reason: str
) -> None:
    number = simulator.create(number=str(body["orderNumber"]))
    shown = simulator.shown(number)
    assert shown is not None
    shown |= there
    with pytest.raises(Hold, match=reason):
        await out.look_up(command, body)


async def test_an_order_for_others_may_be_scheduled_and_is_still_a_one_time_order(out: Out, simulator: PickupCloudSimulator) -> None:
    notes = FOR_OTHERS | {"relatedNotes": "$pickup-005-010-015"}
    await out.submit("create_order_on_behalf_of", notes)
    found = await out.look_up("create_order_on_behalf_of", notes)
    assert found is not None
    assert json.loads(found.answer or b"")["state"] == "SCHEDULED"


# --- answers that cannot be used


@pytest.fixture
async def answering(settings: Any, connector: Any, clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """`out = await answering(200, b"<html>")`: a vendor that says this to everything."""
    said: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=said["status"], body=said["body"], content_type=said["kind"])

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    made = connector(settings(base_url=f"http://127.0.0.1:{port}"))
    async with vendor_client(made.api(), clock) as client:

        def make(status: int, body: bytes, kind: str = "application/json") -> Out:
            said.update(status=status, body=body, kind=kind)
            return Out(made, client, clock)

        yield make
    await runner.cleanup()


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"orderNumber": "another"}', b'{"orderNumber": "R-1", "creationDate": "soon"}']
)
async def test_a_success_that_shows_no_order_is_no_certainty(answering: Callable[..., Out], body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        await answering(200, body).submit("create_recurrent_order", AGAIN)
    assert not caught.value.undone
    with pytest.raises(TransientError):
        await answering(200, body).look_up("create_recurrent_order", AGAIN)


async def test_a_page_that_says_404_is_no_clear_no(answering: Callable[..., Out]) -> None:
    with pytest.raises(TransientError, match="a page"):
        await answering(404, b"<html>not here</html>", "text/html").look_up("create_order", ONCE)
    assert await answering(404, b"").look_up("create_order", ONCE) is None


async def test_an_answer_without_codes_or_with_a_byte_order_mark_is_an_answer(answering: Callable[..., Out]) -> None:
    made = await answering(201, b'\xef\xbb\xbf{"OrderNumber": "R-1", "PickupCode": ""}').submit("create_recurrent_order", AGAIN)
    assert made.codes is not None
    assert (made.codes.pickup, made.codes.storage) == (None, None)
    assert json.loads(made.answer or b"") == {"OrderNumber": "R-1", "PickupCode": ""}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            400,
            {"errors": {"customerDetails.email": ["'lucja@example.org' is not a mail address"]}},
            "customerDetails.email: … is not a mail",
        ),
        (400, {"message": "Łucja Müller-Öztürk of Dresden has customer_00000000000000000000000000000A41"}, "… of … has …"),
        (422, {"title": "Bad", "detail": "phone +49 0351 000 00 00 for müller-öztürk"}, "Bad phone … for …"),
        (400, {"error": "maximum reached"}, "maximum reached"),
        (415, "<html>Łucja</html>", "refuses it (415)"),
        (400, {"errors": {"x": ["y" * 5000]}}, "x: yyy"),
        (400, {"title": {"a": {"b": "c"}}}, "a: c"),
    ],
)
async def test_what_a_refusal_repeats_of_a_person_is_left_out(answering: Callable[..., Out], status: int, body: Any, said: str) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with pytest.raises(PermanentError) as caught:
        await answering(status, raw).submit("create_order", ONCE)
    text = str(caught.value)
    assert said in text
    assert len(text) < 500
    for secret in ("Łucja", "ztürk", "lucja@", "Dresden", "0351", "A41"):
        assert secret not in text


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthError), (403, AuthError), (429, RateLimited), (408, TransientError), (500, TransientError)]
)
async def test_who_are_you_and_not_now_are_no_refusals(answering: Callable[..., Out], status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        await answering(status, b"").submit("create_order", ONCE)


async def test_an_order_is_not_looked_for_in_the_place_of_another(out: Out, simulator: PickupCloudSimulator, clock: ManualClock) -> None:
    """Clocks may differ by some minutes."""
    await out.submit("create_order", ONCE)
    clock.advance(300)
    assert await out.look_up("create_order", ONCE) is not None
    clock.advance(timedelta(minutes=20).total_seconds())
    with pytest.raises(Hold, match="created before"):
        await out.look_up("create_order", ONCE)
