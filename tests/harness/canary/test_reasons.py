"""A reason names path and kind of a mistake, never the value: every sample of every plugin, broken in every way, with a canary."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import gateway_apicbase
import gateway_apicbase.settings
import gateway_pickup_cloud
import gateway_pickup_cloud.settings
import gateway_scalepoint
import gateway_scalepoint.settings
import gateway_supercat
import gateway_supercat.settings
import msgspec
import pytest
from gateway_scalepoint.settings import Start as FromEvent
from gateway_supercat.settings import Start as FromId
from msgspec import Struct

from gateway import Event, Mapping, OpenOrder, Order, Response, Secret, Submission, TextList, Unreadable, Url, hookimpl
from gateway.api.errors import GatewayError, Hold, Rejected
from gateway.api.messages import Envelope
from gateway.api.webhook_auth import BearerToken
from gateway.plugin.command_body import InvalidBody
from gateway.plugin.connector import Connector
from gateway.plugin.validation import Misread
from gateway.testing import ManualClock
from gateway.testing.conformance import Sample, load_samples

ROOT = Path(__file__).parents[3]
WORD = "Kanari Mustermann"
NOW = ManualClock().now()
Path_ = tuple[str | int, ...]


def secret(text: str = "constructed-secret-do-not-use") -> Secret:
    return Secret(text, origin="test")


def example(plugin: str) -> Mapping:
    return Mapping.from_reference(f"{plugin.removeprefix('gateway_')}.jsonata", Path(str(files(plugin).joinpath("examples"))))


class Side(Struct, frozen=True, kw_only=True):
    """A plugin set up as strictly as it can be. `names`: fields that name an order or an event, which a reason may hold."""

    module: ModuleType
    settings: Callable[[], Any]
    names: frozenset[str] = frozenset()
    listed: Callable[[bytes], bytes] | None = None


def apicbase() -> Any:
    return gateway_apicbase.settings.Settings(
        currency="EUR",
        webhook_secrets=(secret(),),
        refuse=("unknown_customer", "unknown_article", "empty_order", "zero_quantity"),
        known_customers=TextList("0010023", origin="test"),
        known_articles=TextList("000451-2", origin="test"),
    )


def scalepoint() -> Any:
    return gateway_scalepoint.settings.Settings(
        webhook_auth=BearerToken(token=secret()),
        mapping=example("gateway_scalepoint"),
        currency="DKK",
        receive_url=Url("https://events.example/events?last={lastEventId}"),
        start=FromEvent(after_event="0"),
    )


def supercat() -> Any:
    return gateway_supercat.settings.Settings(
        mapping=example("gateway_supercat"),
        org="demo",
        username="gateway",
        password=secret(),
        start=FromId(after_id=0),
        currency="USD",
    )


def pickup_cloud() -> Any:
    return gateway_pickup_cloud.settings.Settings(api_key=secret(), on_behalf_of_path="api/v2/behalf")


SIDES = {
    "apicbase": Side(
        module=gateway_apicbase, settings=apicbase, listed=lambda one: b'{"count": 1, "next": null, "results": [' + one + b"]}"
    ),
    "scalepoint": Side(
        module=gateway_scalepoint,
        settings=scalepoint,
        names=frozenset({"eventType", "orderToken", "type"}),
        listed=lambda one: b'{"links": {}, "data": [{"id": "1", "type": "order_created", "attributes": ' + one + b"}]}",
    ),
    "supercat": Side(
        module=gateway_supercat,
        settings=supercat,
        names=frozenset({"id", "uuid", "order_number"}),
        listed=lambda one: b'{"status": "success", "error": null, "data": [' + one + b"]}",
    ),
    "pickup_cloud": Side(module=gateway_pickup_cloud, settings=pickup_cloud),
}

# --- ways to break a document


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every place in a document."""
    if at:
        yield at
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*at, key))


def with_(document: Any, at: Path_, value: Any) -> Any:
    changed = copy.deepcopy(document)
    inside = changed
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = value
    return changed


WRONG: dict[str, Any] = {
    "another text": WORD,
    "a bad decimal": f"12,50 {WORD}",
    "a bad date": f"2024-13-45T99:00 {WORD}",
    "too long": WORD * 2000,
    "a NUL": f"{WORD}\0",
    "half a pair": f"{WORD}\ud800",
    "a list": [WORD],
    "a list of objects": [{"x": WORD}, WORD, 1],
    "an object": {"x": WORD},
    "a number of old": f"1e999 {WORD}",
    "quotes": f"'{WORD}\" `{WORD}` '",
}


def damaged(document: bytes) -> Iterator[tuple[str, bytes]]:
    """Documents that are no JSON of one meaning, or no UTF-8."""
    yield "cut off", document[: len(document) * 2 // 3] + WORD.encode()
    yield "no JSON", WORD.encode()
    yield "a text", json.dumps(WORD).encode()
    yield "no UTF-8", document.replace(b"{", b'{"x": "' + WORD.encode() + b'\xff", ', 1)
    yield "twice", document.replace(b"{", b'{"x": "' + WORD.encode() + b'", "x": "' + WORD.encode() + b'", ', 1)
    yield "a page", b"<html><title>" + WORD.encode() + b"</title></html>"
    yield "NaN", document.replace(b"{", b'{"x": NaN, "y": "' + WORD.encode() + b'", ', 1)
    yield "too deep", b"[" * 3000 + json.dumps(WORD).encode() + b"]" * 3000


def broken(document: bytes, names: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """The document broken in every way, each with what was done to it."""
    read = json.loads(document)
    for at in places(read):
        if at[-1] in names:
            continue
        for what, value in WRONG.items():
            yield f"{what} at {at}", json.dumps(with_(read, at, value)).encode()
    yield from damaged(document)


# --- what is said of it


class Answering:
    """A vendor's client that always gets the same answer."""

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.answer = Response(status=status, headers={"content-type": "application/json"}, body=body)

    async def request(self, *_: Any, **__: Any) -> Response:
        return self.answer


def said(error: BaseException) -> Iterator[str]:
    """What may end in a column or a log: the text, and that of the reason. What is said to the sender alone is his."""
    if not isinstance(error, (Rejected, InvalidBody)):
        yield str(error)
        yield str(getattr(error, "reason", ""))


def read(connector: Connector, envelope: Envelope) -> Iterator[str]:
    try:
        events = connector.read(envelope)
    except (GatewayError, Misread) as error:
        yield from said(error)
        return
    for event in events:
        if isinstance(event, Unreadable):
            yield event.reason
            continue
        yield event.ignored or ""
        if event.document is not None and not event.fetch:
            yield from made(connector, event, event.document)


def made(connector: Connector, event: Event, document: bytes) -> Iterator[str]:
    for previous in (None, Order(order_number="N-0", status="picked_up", references={"supercat_id": "9" * 17, "supercat_base": "other"})):
        try:
            connector.normalize(event, document, previous)
        except GatewayError as error:
            yield from said(error)


async def polled(connector: Connector, body: bytes, sample: Sample) -> AsyncIterator[str]:
    if "poll" not in connector.hooks:
        return
    known = (OpenOrder(order_ref="N-1", order=Order(order_number="N-1", status="scheduled")),)
    try:
        page = await connector.poll(None, NOW, NOW, Answering(body), known)
    except GatewayError as error:
        for text in said(error):
            yield text
        return
    for one in page.events:
        yield one.reason if isinstance(one, Unreadable) else one.ignored or ""


async def reasons(connector: Connector, side: Side, sample: Sample, body: bytes, fetched: bytes | None) -> AsyncIterator[str]:
    """All that is said of a document, whichever way it takes."""
    door = sample.door
    if door != "poll" and "ingest" in connector.hooks:
        for text in read(connector, Envelope(source="s", door=door, body=body, received_at=NOW)):
            yield text
    event = Event(key="k", order_ref="N-1", document=body, fetch=fetched is not None)
    for text in made(connector, event, body if fetched is None else fetched):
        yield text
    async for text in polled(connector, side.listed(body) if side.listed else body, sample):
        yield text
    if "fetch" in connector.hooks:
        try:
            await connector.fetch(event, Answering(body if fetched is None else fetched))
        except GatewayError as error:
            for text in said(error):
                yield text


@lru_cache
def connector_of(name: str) -> Connector:
    made = Connector(SIDES[name].module, name)
    made.settings = SIDES[name].settings()
    return made


def every_sample() -> Iterator[Any]:
    for name in SIDES:
        for sample in load_samples(ROOT / "plugins" / name / "samples"):
            yield pytest.param(name, sample, id=f"{name}-{sample.name}")


async def leaks(name: str, sample: Sample, connector: Connector) -> tuple[list[str], int]:
    """Reasons that hold the canary, each with what was done; and how many reasons there were."""
    side, found, heard = SIDES[name], [], 0
    documents = [(what, body, sample.fetched) for what, body in broken(sample.body, side.names)]
    if sample.fetched is not None:
        documents += [(f"fetched: {what}", sample.body, body) for what, body in broken(sample.fetched, side.names)]
    for what, body, fetched in documents:
        async for text in reasons(connector, side, sample, body, fetched):
            heard += bool(text)
            if "kanari" in text.lower() or "mustermann" in text.lower():
                found.append(f"{what}: {text[:300]}")
    return found, heard


@pytest.mark.parametrize(("name", "sample"), list(every_sample()))
async def test_no_reason_holds_what_a_field_held(name: str, sample: Sample) -> None:
    found, heard = await leaks(name, sample, connector_of(name))
    assert found == []
    assert heard > 20, "where nothing is complained of, the canary's absence says nothing"


async def test_known_bad_mutant_a_hold_that_names_the_customer_is_found() -> None:
    made, real = connector_of("apicbase"), gateway_apicbase.normalize

    @hookimpl
    def normalize(event: Event, document: bytes, settings: Any) -> Order:
        order: Order = real(event, document, settings)
        if order.customer.contact != "x":
            raise Hold(f"ask {order.customer.contact}", order=order)
        return order

    mutant = ModuleType("mutant")
    vars(mutant).update({hook: getattr(gateway_apicbase, hook) for hook in made.hooks} | {"normalize": normalize})
    faulty = Connector(mutant, "mutant")
    faulty.settings = gateway_apicbase.settings.Settings(currency="EUR", webhook_secrets=(secret(),))
    sample = load_samples(ROOT / "plugins" / "apicbase" / "samples")[0]
    assert (await leaks("apicbase", sample, faulty))[0]


# --- commands


def commands() -> Sequence[Any]:
    return [pytest.param(name, command, id=f"{name}-{command}") for name in ("pickup_cloud",) for command in connector_of(name).commands()]


PICKUP: dict[str, Any] = {
    "orderNumber": "N-1",
    "relatedNotes": WORD,
    "dosageInformation": f"three of {WORD}",
    "customerDetails": {"fullName": WORD, "address": f"{WORD} 1", "city": WORD, "email": "kanari@mustermann.example"},
    "articles": [{"scanCode": "042", "name": WORD, "quantityOrdered": 1}],
}
BODIES: dict[str, dict[str, Any]] = {
    "create_order": PICKUP,
    "create_recurrent_order": PICKUP
    | {"articles": [PICKUP["articles"][0] | {"interval": 7}], "startDate": "2099-01-01T00:00:00", "endDate": "2099-02-01T00:00:00"},
    "create_order_on_behalf_of": PICKUP | {"origin": "other", "originOrderNumber": "O-1"},
    "get_order": {"orderNumber": "N-1"},
}


@pytest.mark.parametrize(("name", "command"), commands())
async def test_no_reason_holds_what_a_vendor_repeats_of_a_command(name: str, command: str) -> None:
    connector, body = connector_of(name), json.dumps(BODIES[command]).encode()
    connector.check_command(command, body, NOW)
    kind = connector.description.commands[command].body
    submission = Submission(id="1", command=command, body=msgspec.json.decode(body, type=kind), accepted_at=NOW, repeated=False)
    heard = 0
    for status in (200, 201, 400, 404, 409, 422):
        for what, answer in (
            ("all", body),
            ("a title", json.dumps({"title": f"Bad Request: {WORD} is not known", "detail": f"fullName '{WORD}'"}).encode()),
            ("errors", json.dumps({"errors": {"CustomerDetails.FullName": [f"{WORD.upper()} has no address"]}}).encode()),
            ("half", body[: len(body) // 2]),
        ):
            try:
                await connector.submit(submission, Answering(answer, status))
            except GatewayError as error:
                for text in said(error):
                    heard += bool(text)
                    assert "kanari" not in text.lower(), (status, what)
                    assert "mustermann" not in text.lower(), (status, what)
    assert heard > 10
