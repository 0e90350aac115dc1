"""Conformance suite for connectors: `check_connector(module, settings, samples)`.

A sample is a pair of files: `NAME.http`, a webhook as it came over the wire (request line, headers, empty line, body), and
`NAME.order.json`, the canonical order that it must become: the fields that it names are compared, in each line and address too.
In place of `NAME.http`, a document of a poll is `NAME.json`, and a call of a hub, `{"target": ..., "arguments": [...]}`, is
`NAME.push.json`. The result of `fetch` is `NAME.fetched.json`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.errors import GatewayError, Hold, UnknownKey
from gateway.api.messages import Door, Envelope, Event
from gateway.api.order import Order
from gateway.plugin.connector import Connector, Unverified

_AT = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)
_DOORS: dict[str, Door] = {"http": "webhook", "json": "poll", "push.json": "realtime"}
_encoder = msgspec.json.Encoder(decimal_format="string")


class Sample(Struct, frozen=True, kw_only=True):
    """Recorded or constructed delivery.

    Attributes:
        fetched: The result of `fetch`.
        order: The fields that its order must have, as JSON; None if they are not checked.
    """

    name: str
    door: Door
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    fetched: bytes | None
    order: dict[str, Any] | None


def load_samples(folder: Path) -> list[Sample]:
    """Read the samples of a folder, sorted by name."""
    found = []
    for file in sorted([*folder.glob("*.http"), *folder.glob("*.json")]):
        name, _, kind = file.name.partition(".")
        if kind not in _DOORS:
            continue
        raw = file.read_bytes()
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if kind == "http":
            head, _, raw = raw.partition(b"\n\n")
            pairs = (line.partition(b":") for line in head.split(b"\n")[1:])
            headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
        expected, fetched = folder / f"{name}.order.json", folder / f"{name}.fetched.json"
        found.append(
            Sample(
                name=name,
                door=_DOORS[kind],
                headers=headers,
                body=raw,
                fetched=fetched.read_bytes() if fetched.exists() else None,
                order=msgspec.json.decode(expected.read_bytes()) if expected.exists() else None,
            )
        )
    return found


def check_connector(module: ModuleType, settings: Struct, samples: Iterable[Sample], *, signs_body: bool = True) -> list[str]:
    """Run every check and return a sentence for each failure; an empty list is a pass.

    Webhooks: genuine ones pass; a changed byte, and a changed, missing or doubled signature header, is refused, for every
    header that `verify` depends on. Reading: `ingest` and `normalize` return the same twice, and as the sample expects. The hooks
    have the names and arguments of their specifications, and are async where those are.

    Args:
        signs_body: False if the vendor authenticates itself and not the body: a changed byte is then accepted.
    """
    try:
        connector = Connector(module)
    except GatewayError as error:
        return [str(error)]
    connector.settings = settings
    wrong: list[str] = []
    for sample in samples:
        if sample.door == "webhook":
            wrong += [f"{sample.name}: {text}" for text in _webhook(connector, sample, signs_body=signs_body)]
        elif sample.door == "realtime":
            wrong += [f"{sample.name}: {text}" for text in _read(connector, sample, _envelope((), sample.body, "realtime"))]
        else:
            event = Event(key=sample.name, order_ref=sample.name, document=sample.body)
            wrong += [f"{sample.name}: {text}" for text in _order(connector, sample, event)]
    for hook in ("verify", "ingest", "normalize"):
        if hook in connector.hooks and inspect.iscoroutinefunction(getattr(module, hook, None)):
            wrong.append(f"{hook} is async, and its specification is not")
    return wrong


def _webhook(connector: Connector, sample: Sample, *, signs_body: bool) -> Iterable[str]:
    if not _passes(connector, sample.headers, sample.body):
        yield "a genuine delivery is refused"
        return
    for at in {0, len(sample.body) // 2, len(sample.body) - 1} if signs_body else ():
        changed = bytearray(sample.body)
        changed[at] ^= 1
        if _passes(connector, sample.headers, bytes(changed)):
            yield f"a delivery with byte {at} changed is accepted"
    proofs = [n for n in range(len(sample.headers)) if not _passes(connector, _without(sample.headers, n), sample.body)]
    if not proofs:
        yield "a delivery without its signature is accepted: verify depends on no header"
    for n in proofs:
        name, value = sample.headers[n]
        other = value[:-1] + (b"0" if value[-1:] != b"0" else b"1")
        if _passes(connector, (*_without(sample.headers, n), (name, other)), sample.body):
            yield f"a delivery with another {name.decode()} is accepted"
        if _passes(connector, (*sample.headers, (name, other)), sample.body):
            yield f"a delivery with {name.decode()} twice is accepted"
    yield from _read(connector, sample, _envelope(sample.headers, sample.body))


def _read(connector: Connector, sample: Sample, envelope: Envelope) -> Iterable[str]:
    first, second = connector.read(envelope), connector.read(envelope)
    if list(first) != list(second):
        yield "ingest returns something else the second time"
    for event in first:
        if isinstance(event, Event) and event.ignored is None:
            yield from _order(connector, sample, event)


def _order(connector: Connector, sample: Sample, event: Event) -> Iterable[str]:
    """Call `normalize` as the core does, with the fetched document if the event wants one."""
    wants_fetch = event.fetch or event.document is None
    document = sample.fetched if wants_fetch else event.document
    if document is None:
        yield "an event is without its order, and there is no .fetched.json"
        return
    bare = msgspec.structs.replace(event, document=event.document if wants_fetch else None, content=None)
    try:
        first, second = _made(connector, bare, document), _made(connector, bare, document)
    except GatewayError as error:
        yield f"normalize raises {type(error).__name__}: {error}"
        return
    if first != second:
        yield "normalize returns something else the second time"
    if sample.order is not None:
        yield from _unlike(first, sample.order, "")


def _unlike(part: Struct, expected: Mapping[str, Any], at: str) -> Iterator[str]:
    """Yield each field that `expected` names, at any depth, and that has another value."""
    for name, wanted in expected.items():
        got, path = getattr(part, name, None), f"{at}{name}"
        if name not in part.__struct_fields__:
            yield f"{path} is no field of an order"
        elif isinstance(got, Struct) and isinstance(wanted, dict):
            yield from _unlike(got, wanted, f"{path}.")
        elif isinstance(got, tuple) and isinstance(wanted, list) and len(got) == len(wanted) and isinstance(next(iter(got), None), Struct):
            for n, (one, fields) in enumerate(zip(got, wanted, strict=True)):
                yield from _unlike(one, fields, f"{path}[{n}].")
        elif (plain := msgspec.json.decode(_encoder.encode(got))) != wanted:
            yield f"{path} is {plain!r}, expected {wanted!r}"


def _made(connector: Connector, event: Event, document: bytes) -> Order:
    """Return the order, even if it is held: a release sends it."""
    try:
        return connector.normalize(event, document)
    except Hold as hold:
        if hold.order is None:
            raise
        return hold.order


def _passes(connector: Connector, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> bool:
    try:
        connector.admit(_envelope(headers, body), _AT)
    except (Unverified, UnknownKey):
        return False
    except Exception:
        return True  # it has passed verify
    return True


def _envelope(headers: tuple[tuple[bytes, bytes], ...], body: bytes, door: Door = "webhook") -> Envelope:
    return Envelope(source="sample", door=door, body=body, headers=headers, received_at=_AT)


def _without(headers: tuple[tuple[bytes, bytes], ...], n: int) -> tuple[tuple[bytes, bytes], ...]:
    return headers[:n] + headers[n + 1 :]
