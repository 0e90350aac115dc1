"""What every connector must pass, whoever wrote it: `check_connector(module, settings, samples)`.

A sample is a pair of files: `NAME.http`, a webhook as it came over the wire (request line, headers, empty line, body), and
`NAME.order.json`, the canonical order that it must become (the `order` of a message, without `order_ref` and `revision`).
A document that a poll brought is `NAME.json` in place of `NAME.http`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Struct

from gateway.connector import Connector, Unverified
from gateway.errors import GatewayError, Hold
from gateway.messages import Envelope, Event
from gateway.orders import Order

_AT = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)
_encoder = msgspec.json.Encoder(decimal_format="string")


class Sample(Struct, frozen=True, kw_only=True):
    """One recorded or constructed delivery. `order` is what it must become, as JSON, or None where that is not checked."""

    name: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    order: dict[str, Any] | None

    @property
    def is_webhook(self) -> bool:
        return bool(self.headers)


def load_samples(folder: Path) -> list[Sample]:
    """Every sample of a folder, by name."""
    found = []
    for file in sorted([*folder.glob("*.http"), *(f for f in folder.glob("*.json") if not f.name.endswith(".order.json"))]):
        raw = file.read_bytes()
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if file.suffix == ".http":
            head, _, raw = raw.partition(b"\n\n")
            pairs = (line.partition(b":") for line in head.split(b"\n")[1:])
            headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
        expected = file.with_suffix(".order.json")
        order = msgspec.json.decode(expected.read_bytes()) if expected.exists() else None
        found.append(Sample(name=file.stem, headers=headers, body=raw, order=order))
    return found


def check_connector(module: ModuleType, settings: Struct, samples: Iterable[Sample]) -> list[str]:
    """Run every check; what is wrong, one sentence each. An empty list is a pass.

    Webhooks: genuine ones pass; a changed byte, a changed, missing or doubled signature header is refused, for every
    header that `verify` can be seen to depend on. Reading: `ingest` and `normalize` answer the same twice, and as the
    sample expects. The hooks' names, arguments and colours fit (building the connector checks that).
    """
    try:
        connector = Connector(module)
    except GatewayError as error:
        return [str(error)]
    connector.settings = settings
    wrong: list[str] = []
    for sample in samples:
        if sample.is_webhook:
            wrong += [f"{sample.name}: {text}" for text in _webhook(connector, sample)]
        else:
            event = Event(key=sample.name, order_ref=sample.name, document=sample.body)
            wrong += [f"{sample.name}: {text}" for text in _order(connector, sample, event)]
    for hook in ("verify", "ingest", "normalize"):
        if hook in connector.hooks and inspect.iscoroutinefunction(getattr(module, hook, None)):
            wrong.append(f"{hook} is async; thinking is not")
    return wrong


def _webhook(connector: Connector, sample: Sample) -> Iterable[str]:
    if not _passes(connector, sample.headers, sample.body):
        yield "a genuine delivery is refused"
        return
    for at in {0, len(sample.body) // 2, len(sample.body) - 1}:
        changed = bytearray(sample.body)
        changed[at] ^= 1
        if _passes(connector, sample.headers, bytes(changed)):
            yield f"a delivery with byte {at} changed is accepted"
    proofs = [n for n in range(len(sample.headers)) if not _passes(connector, _without(sample.headers, n), sample.body)]
    if not proofs:
        yield "a delivery without its proof is accepted: no header matters to verify"
    for n in proofs:
        name, value = sample.headers[n]
        other = value[:-1] + (b"0" if value[-1:] != b"0" else b"1")
        if _passes(connector, (*_without(sample.headers, n), (name, other)), sample.body):
            yield f"a delivery with another {name.decode()} is accepted"
        if _passes(connector, (*sample.headers, (name, other)), sample.body):
            yield f"a delivery with {name.decode()} twice is accepted"
    envelope = _envelope(sample.headers, sample.body)
    first, second = connector.read(envelope), connector.read(envelope)
    if list(first) != list(second):
        yield "ingest answers differently the second time"
    for event in first:
        yield from _order(connector, sample, event)


def _order(connector: Connector, sample: Sample, event: Event) -> Iterable[str]:
    document = event.document if event.document is not None else sample.body
    bare = msgspec.structs.replace(event, document=None, content=None)
    try:
        first, second = _made(connector, bare, document), _made(connector, bare, document)
    except GatewayError as error:
        yield f"normalize raises {type(error).__name__}: {error}"
        return
    if first != second:
        yield "normalize answers differently the second time"
    if sample.order is not None:
        got = msgspec.json.decode(_encoder.encode(first))
        for field, expected in sample.order.items():
            if got.get(field) != expected:
                yield f"{field} is {got.get(field)!r}, expected {expected!r}"


def _made(connector: Connector, event: Event, document: bytes) -> Order:
    """The order, also one that is held for a person: it is what goes out after the release."""
    try:
        return connector.normalize(event, document)
    except Hold as hold:
        if hold.order is None:
            raise
        return hold.order


def _passes(connector: Connector, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> bool:
    try:
        connector.admit(_envelope(headers, body), _AT)
    except Unverified:
        return False
    except Exception:
        return True  # it got past verify, which is what is asked here
    return True


def _envelope(headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> Envelope:
    return Envelope(source="sample", body=body, headers=headers, received_at=_AT)


def _without(headers: tuple[tuple[bytes, bytes], ...], n: int) -> tuple[tuple[bytes, bytes], ...]:
    return headers[:n] + headers[n + 1 :]
