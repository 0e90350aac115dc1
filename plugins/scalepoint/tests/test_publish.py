"""Events to Scalepoint: only as the operator has agreed them, since the vendor publishes nothing of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_scalepoint.publish import PublishEvent
from gateway_scalepoint.simulator import TENANT, ScalepointSimulator
from gateway_scalepoint.simulator_publishing import TYPE_HEADER

from gateway import AuthError, Mapping, PermanentError, RateLimited, Response, Submission, Submitted, TransientError, Url
from gateway.plugin.connector import Connector
from gateway.testing import ManualClock, vendor_client

EXAMPLES = Path(__file__).parent.parent / "gateway_scalepoint" / "examples"
SHIPPED = {"eventType": "order_shipped", "orderToken": "0A1B-Beef", "attributes": {"status": "sent", "quantity": 2}}
NAMES = ("publish_url", "publish_country", "publish_tenant", "publish_type_header", "publish_payload")


def publishing(simulator: ScalepointSimulator | None = None, **changes: Any) -> dict[str, Any]:
    address = "https://events.example" if simulator is None else simulator.address
    return {
        "publish_url": Url(f"{address}/api/events/v1/{{country}}/external/{{tenant}}/send"),
        "publish_country": "dk",
        "publish_tenant": TENANT,
        "publish_type_header": TYPE_HEADER,
        "publish_payload": Mapping.from_reference("publish.jsonata", EXAMPLES),
    } | changes


class Out:
    """The command, as the submit step calls it."""

    def __init__(self, connector: Connector, client: Any, clock: ManualClock) -> None:
        self.connector, self.client, self.clock = connector, client, clock

    async def publish(self, body: dict[str, Any]) -> Submitted:
        decoded = msgspec.json.decode(json.dumps(body), type=PublishEvent)
        submission = Submission(id="s-1", command="publish_event", body=decoded, accepted_at=self.clock.now())
        return await self.connector.submit(submission, self.client)


@pytest.fixture
async def out(simulator: ScalepointSimulator, clock: ManualClock, settings: Any, connector: Any) -> AsyncIterator[Out]:
    made = connector(settings(simulator, **publishing(simulator)))
    async with vendor_client(made.api(), clock) as client:
        yield Out(made, client, clock)


async def test_an_event_is_what_the_template_makes_of_it(out: Out, simulator: ScalepointSimulator) -> None:
    made = await out.publish(SHIPPED)
    (event,) = simulator.publishing.taken
    assert (event.type, event.path) == ("order_shipped", f"/api/events/v1/dk/external/{TENANT}/send")
    assert event.payload == {
        "eventType": "order_shipped",
        "payloadVersion": "1.0.0",
        "correlationId": "s-1",
        "timestamp": "2024-03-31T12:00:00Z",
        "orderToken": "0A1B-Beef",
        "status": "sent",
        "quantity": 2,
    }
    assert json.loads(made.answer or b"") == {"id": "_1"}
    assert (made.codes, made.events) == (None, ())


async def test_what_is_missing_is_left_out(out: Out, simulator: ScalepointSimulator) -> None:
    await out.publish({"eventType": "stock_changed"})
    assert "orderToken" not in simulator.publishing.taken[0].payload
    assert "status" not in simulator.publishing.taken[0].payload


async def test_a_token_of_its_own_scope_is_asked_for(
    simulator: ScalepointSimulator, clock: ManualClock, settings: Any, connector: Any
) -> None:
    made = connector(settings(simulator, **publishing(simulator, publish_scope="")))
    async with vendor_client(made.api(), clock) as client:
        with pytest.raises(AuthError):  # a token for `orders`, which the Event API does not take
            await Out(made, client, clock).publish(SHIPPED)
    assert simulator.publishing.taken == []


@pytest.mark.parametrize("without", ["all", *NAMES])
def test_nothing_can_be_published_before_everything_is_set(settings: Any, connector: Any, without: str) -> None:
    signs_in = {"token_url": Url("https://accounts.example/token"), "client_id": "x"}
    values = publishing() | signs_in
    for name in NAMES if without == "all" else [without]:
        del values[name]
    assert connector(settings(**values)).commands() == {}
    assert set(connector(settings(**publishing(), **signs_in)).commands()) == {"publish_event"}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, []),
        (dict.fromkeys(NAMES), []),
        ({"publish_payload": None}, ["publish_payload"]),
        ({"publish_country": "", "publish_tenant": ""}, ["publish_country", "publish_tenant"]),
        ({"publish_url": None}, ["publish_url"]),
        ({"publish_url": Url("https://x.example/send")}, ["publish_url"]),
        ({"publish_url": Url("https://x.example/{country}/{tenant}/{other}")}, ["publish_url"]),
        ({"publish_url": Url("https://{tenant}.example/{country}")}, ["publish_url"]),
        ({"publish_tenant": "a/b"}, ["publish_tenant"]),
        ({"publish_country": "d k"}, ["publish_country"]),
        ({"publish_type_header": "Authorization"}, ["publish_type_header"]),
        ({"publish_type_header": "content-type"}, ["publish_type_header"]),
        ({"publish_type_header": "X Event"}, ["publish_type_header"]),
        ({"publish_scope": "a  b"}, ["publish_scope"]),
    ],
)
def test_half_of_it_is_a_mistake_in_the_configuration(settings: Any, changes: dict[str, Any], wrong: list[str]) -> None:
    assert [key for key, _ in settings(**publishing() | changes).check()] == wrong


@pytest.mark.parametrize("is_repeatable", [False, True])
def test_it_is_repeated_only_where_the_settings_say_that_it_may_be(settings: Any, connector: Any, is_repeatable: bool) -> None:
    made = connector(settings(**publishing(publish_repeatable=is_repeatable)))
    assert made.is_repeatable("publish_event") == is_repeatable
    assert made.description.commands["publish_event"].look_up is None


def test_events_of_one_order_go_one_after_the_other(out: Out) -> None:
    subject = out.connector.description.commands["publish_event"].subject
    assert subject is not None
    assert subject(msgspec.convert(SHIPPED, PublishEvent)) == "0a1b-beef"
    assert subject(PublishEvent(event_type="stock_changed")) == "stock_changed"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"eventType": ""},
        {"eventType": "a\r\nX-Evil: 1"},
        {"eventType": "a b"},
        {"eventType": "x" * 101},
        {"eventType": "x", "orderToken": ""},
        {"eventType": "x", "attributes": []},
        {"eventType": "x", "event_type": "y"},
    ],
)
def test_what_is_no_event_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(body), type=PublishEvent)


# --- what Scalepoint says


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refusal_is_the_end(out: Out, simulator: ScalepointSimulator, status: int) -> None:
    simulator.publishing.answers = [status]
    with pytest.raises(PermanentError, match=rf"Scalepoint refuses it \({status}\): constructed"):
        await out.publish(SHIPPED)


@pytest.mark.parametrize(
    ("status", "error"), [(500, TransientError), (503, TransientError), (408, TransientError), (429, RateLimited), (403, AuthError)]
)
async def test_not_now_is_no_refusal(out: Out, simulator: ScalepointSimulator, status: int, error: type[Exception]) -> None:
    simulator.publishing.answers = [status]
    with pytest.raises(error):
        await out.publish(SHIPPED)


@pytest.mark.parametrize("body", [b"", b"taken", b'"\xff"', b"[" * 5000])
async def test_an_answer_that_is_no_json_is_an_answer(clock: ManualClock, settings: Any, connector: Any, body: bytes) -> None:
    class Client:
        async def request(self, *_: Any, **__: Any) -> Response:
            return Response(status=200, headers={}, body=body)

    made = await Out(connector(settings(None, **publishing())), Client(), clock).publish(SHIPPED)
    assert made.answer is None, "it was taken, and that is what counts"


async def test_a_lost_answer_leaves_it_open_whether_it_was_taken(out: Out, simulator: ScalepointSimulator) -> None:
    simulator.publishing.loses = 1
    with pytest.raises(TransientError) as caught:
        await out.publish(SHIPPED)
    assert not caught.value.undone
    assert len(simulator.publishing.taken) == 1


@pytest.mark.parametrize(
    ("template", "said"),
    [("'text'", "makes no object"), ("nothing", "makes no object"), ("{}", "no object"), ("$error('not so')", "not so")],
)
async def test_a_template_that_makes_nothing_sends_nothing(
    simulator: ScalepointSimulator, clock: ManualClock, settings: Any, connector: Any, tmp_path: Path, template: str, said: str
) -> None:
    (tmp_path / "t.jsonata").write_text(template)
    made = connector(settings(simulator, **publishing(simulator, publish_payload=Mapping.from_reference("t.jsonata", tmp_path))))
    async with vendor_client(made.api(), clock) as client:
        with pytest.raises(PermanentError, match=said):
            await Out(made, client, clock).publish(SHIPPED)
    assert simulator.publishing.taken == []
