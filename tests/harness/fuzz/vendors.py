"""The connectors: whatever a vendor sends or answers becomes events, orders, dead letters or documented errors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
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

from gateway import Event, Hold, Ignore, Mapping, OpenOrder, Order, Receipt, Rejected, Response, Secret, Unreadable, Url
from gateway.api.errors import AuthError, PermanentError, PluginError, TransientError
from gateway.api.messages import Door, Envelope
from gateway.api.webhook_auth import BearerToken
from gateway.plugin.connector import Connector, Unverified
from gateway.plugin.validation import Misread
from gateway.testing.conformance import load_samples

from .target import finish, target

AT = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)
PLUGINS = Path(__file__).parents[3] / "plugins"
READING = (Misread, Rejected)
ORDERING = (PermanentError, Hold, Ignore)
ASKING = (PermanentError, TransientError, AuthError)


class Failed(Exception):
    """A connector broke its contract over what a vendor sent."""


class Answers:
    """A vendor's API that answers everything with the same bytes."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def request(self, *_: Any, **__: Any) -> Response:
        return Response(status=200, headers={"content-type": "application/json"}, body=self._body)


def secret(said: str) -> Secret:
    return Secret(said, origin="fuzz")


def mapping(module: ModuleType, name: str) -> Mapping:
    folder = Path(str(files(module).joinpath("examples")))
    return Mapping.from_reference(name, folder)


@cache
def connectors() -> dict[str, Connector]:
    """Every connector with settings that open all of its doors."""
    auth = BearerToken(token=secret("constructed"))
    made: dict[str, tuple[ModuleType, Any]] = {
        "apicbase": (
            gateway_apicbase,
            gateway_apicbase.settings.Settings(currency="EUR", webhook_secrets=(secret("one"),), mark_fetched="stored"),
        ),
        "scalepoint": (
            gateway_scalepoint,
            gateway_scalepoint.settings.Settings(
                webhook_auth=auth,
                mapping=mapping(gateway_scalepoint, "scalepoint.jsonata"),
                currency="DKK",
                order_url=Url("https://vendor.example/api/Orders?ExternalId={orderToken}"),
                receive_url=Url("https://vendor.example/events?after={lastEventId}"),
                start=gateway_scalepoint.settings.Start(after_event="_900000"),
            ),
        ),
        "supercat": (
            gateway_supercat,
            gateway_supercat.settings.Settings(
                org="demo",
                start=gateway_supercat.settings.Start(after_id=0),
                currency="USD",
                mapping=mapping(gateway_supercat, "supercat.jsonata"),
            ),
        ),
        "pickup_cloud": (gateway_pickup_cloud, gateway_pickup_cloud.settings.Settings(api_key=secret("key"))),
    }
    found = {}
    for name, (module, settings) in made.items():
        found[name] = Connector(module, name)
        found[name].settings = settings
    return found


def samples(vendor: str, kind: str) -> list[bytes]:
    """Bodies of a vendor's samples: `http`, `json`, `push.json`, or `fetched.json`."""
    folder = PLUGINS / vendor / "samples"
    if kind == "fetched.json":
        return [file.read_bytes() for file in sorted(folder.glob("*.fetched.json"))]
    door: Door = {"http": "webhook", "json": "poll", "push.json": "realtime"}[kind]  # type: ignore[assignment]
    return [sample.body for sample in load_samples(folder) if sample.door == door]


def envelope(body: bytes, *headers: tuple[bytes, bytes], door: Door = "webhook") -> Envelope:
    return Envelope(source="fuzz", door=door, body=body, headers=headers, received_at=AT)


def normalized(connector: Connector, events: Iterable[Event | Unreadable], document: bytes | None = None) -> Order | None:
    """Each event's order, as the prepare step would make it."""
    order: Order | None = None
    for event in events:
        found = document if document is not None else event.document
        if isinstance(event, Event) and event.ignored is None and found is not None:
            try:
                order = connector.normalize(event, found, order)
            except ORDERING as error:
                no_plugin_error(error)
    return order


def no_plugin_error(error: BaseException) -> None:
    """A PluginError is a PermanentError, and one that a vendor's bytes may not cause."""
    if isinstance(error, PluginError):
        raise Failed(str(error)) from error


def asked(vendor: str, body: bytes, open_orders: tuple[OpenOrder, ...] = ()) -> None:
    """A poll that is answered with `body`, and what its events become."""
    connector = connectors()[vendor]
    try:
        page = finish(connector.poll(None, AT, AT, Answers(body), open_orders))
    except ASKING as error:
        no_plugin_error(error)
        return
    normalized(connector, page.events)


def read(vendor: str, body: bytes, document: bytes | None = None, door: Door = "webhook") -> None:
    connector = connectors()[vendor]
    try:
        events = connector.read(envelope(body, door=door))
    except READING as error:
        no_plugin_error(error)
        return
    normalized(connector, events, document)


def proven(vendor: str, data: bytes, name: bytes) -> None:
    """A webhook whose proof is the first line of the data; nothing that is made up is let in."""
    proof, _, body = data.partition(b"\n")
    try:
        connectors()[vendor].admit(envelope(body, (name, proof)), AT)
    except Unverified as error:
        if error.__cause__ is not None:
            raise Failed("verify raises") from error.__cause__
        return
    except READING:
        pass
    raise Failed("a proof that was made up is accepted")


def confirmed(vendor: str, body: bytes) -> None:
    receipts = [Receipt(id=n, reference=f"100{n}", order_ref=f"o{n}", stage="stored") for n in (1, 2)]
    try:
        finish(connectors()[vendor].acknowledge(receipts, Answers(body)))
    except ASKING as error:
        no_plugin_error(error)


def fetched(vendor: str, body: bytes, event: Event) -> None:
    connector = connectors()[vendor]
    try:
        document = finish(connector.fetch(event, Answers(body)))
    except (*ASKING, Hold) as error:
        no_plugin_error(error)
        return
    normalized(connector, [event], document)


def in_a_list(vendor: str) -> list[bytes]:
    rows = b",".join(samples(vendor, "json"))
    return [b'{"count":2,"next":null,"results":[' + rows + b"]}", b'{"status":"success","error":null,"data":[' + rows + b"]}"]


@target("apicbase.verify", lambda: [b"0" * 64 + b"\n" + body for body in samples("apicbase", "http")])
def apicbase_verify(data: bytes) -> None:
    proven("apicbase", data, b"X-APIC-WEBHOOK-SIGNATURE")


@target("apicbase.ingest", lambda: samples("apicbase", "http"))
def apicbase_ingest(data: bytes) -> None:
    read("apicbase", data)


@target("apicbase.poll", lambda: in_a_list("apicbase"))
def apicbase_poll(data: bytes) -> None:
    asked("apicbase", data)


@target("apicbase.marks", lambda: [b'{"results":[{"id":"1001","fetched_by_supplier":true},{"id":"1002"}]}'])
def apicbase_marks(data: bytes) -> None:
    confirmed("apicbase", data)


@target("scalepoint.verify", lambda: [b"Bearer abc\n" + body for body in samples("scalepoint", "http")])
def scalepoint_verify(data: bytes) -> None:
    proven("scalepoint", data, b"Authorization")


@target("scalepoint.ingest", lambda: samples("scalepoint", "http"))
def scalepoint_ingest(data: bytes) -> None:
    read("scalepoint", data, samples("scalepoint", "fetched.json")[0])


@target("scalepoint.poll", lambda: [b'{"links":{"next":"https://x/?after=_9"},"data":[' + b",".join(samples("scalepoint", "http")) + b"]}"])
def scalepoint_poll(data: bytes) -> None:
    asked("scalepoint", data)


@target("scalepoint.order", lambda: [*samples("scalepoint", "fetched.json"), *samples("scalepoint", "json")])
def scalepoint_order(data: bytes) -> None:
    connector = connectors()["scalepoint"]
    (event,) = connector.read(envelope(samples("scalepoint", "http")[0]))
    assert isinstance(event, Event)
    fetched("scalepoint", data, event)


@target("supercat.record", lambda: samples("supercat", "json"))
def supercat_record(data: bytes) -> None:
    read("supercat", data, door="poll")


@target("supercat.poll", lambda: in_a_list("supercat"))
def supercat_poll(data: bytes) -> None:
    asked("supercat", data)


@target("supercat.marks", lambda: [b'{"status":"success","error":null,"data":{"1001":{"success":true},"1002":{"success":false}}}'])
def supercat_marks(data: bytes) -> None:
    confirmed("supercat", data)


@target("pickup_cloud.push", lambda: samples("pickup_cloud", "push.json"))
def pickup_push(data: bytes) -> None:
    read("pickup_cloud", data, samples("pickup_cloud", "fetched.json")[0], door="realtime")


@target("pickup_cloud.order", lambda: samples("pickup_cloud", "fetched.json"))
def pickup_order(data: bytes) -> None:
    connector = connectors()["pickup_cloud"]
    (event,) = connector.read(envelope(samples("pickup_cloud", "push.json")[0], door="realtime"))
    assert isinstance(event, Event)
    fetched("pickup_cloud", data, event)


@target("pickup_cloud.resync", lambda: [*samples("pickup_cloud", "fetched.json"), *samples("pickup_cloud", "json")])
def pickup_resync(data: bytes) -> None:
    ref = str(json.loads(samples("pickup_cloud", "fetched.json")[0]).get("orderNumber", "1"))
    asked("pickup_cloud", data, (OpenOrder(order_ref=ref, order=Order()),))
