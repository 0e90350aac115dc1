"""Trial of a mapping with example orders: as they are, with one line, with two, without optional fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.order import Address, Customer, Line, Message, Order, encode
from gateway.api.secrets import read_text
from gateway.clock import SystemClock
from gateway.did_you_mean import nearest
from gateway.targets.body_settings import BodyFile
from gateway.targets.builder import Builder, with_rows
from gateway.targets.settings import TargetSettings

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_NESTED: Mapping[type[Struct], Mapping[str, type[Struct]]] = {
    Order: {"customer": Customer, "ship_to": Address, "lines": Line},
    Customer: {"address": Address},
}


class Sample(Struct, frozen=True, kw_only=True):
    """Order from a file: a canonical order, or a message with it, and in `lookup` the ERP's rows for its codes."""

    message: Message
    rows: dict[str, dict[str, dict[str, Any]]] = {}


def read_sample(document: bytes | str) -> Sample:
    """Parse a sample. Raises ValueError, which says what is wrong."""
    try:
        whole = msgspec.json.decode(document)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise ValueError("must be an order, or a message with an order, as one JSON object")
    inner = whole.get("order", whole)
    rows = whole.get("lookup", {}) if "order" in whole else {}
    for problem in _unknown(Order, inner, ""):
        raise ValueError(problem)
    try:
        order = msgspec.convert(inner, Order, strict=False) if not isinstance(inner, dict) else _order(document, "order" in whole)
        known = msgspec.convert(rows, dict[str, dict[str, dict[str, Any]]])
        if "schema" in whole:
            return Sample(message=msgspec.json.decode(document, type=Message), rows=known)
    except msgspec.ValidationError as error:
        raise ValueError(f"is no canonical order: {error}") from None
    ref = order.order_ref or "preview"
    message = Message(
        key=f"preview/{ref}/1", kind="order.placed", source="preview", vendor="preview", occurred_at=None, received_at=_AT, order=order
    )
    return Sample(message=message, rows=known)


class _Wrapped(Struct):
    order: Order


def _order(document: bytes | str, wrapped: bool) -> Order:
    return msgspec.json.decode(document, type=_Wrapped).order if wrapped else msgspec.json.decode(document, type=Order)


def _unknown(kind: type[Struct], value: Any, at: str) -> Iterator[str]:
    if isinstance(value, list):
        for n, one in enumerate(value):
            yield from _unknown(kind, one, f"{at}[{n}]")
    if not isinstance(value, dict):
        return
    names = [field.name for field in msgspec.structs.fields(kind)]
    for key, one in value.items():
        here = f"{at}.{key}".lstrip(".")
        if key not in names:
            yield f"{here}: is no field of a canonical order{nearest(key, names)}"
        elif key in _NESTED.get(kind, {}):
            yield from _unknown(_NESTED[kind][key], one, here)


def body_problems(
    settings: TargetSettings, mapping: str | None = None, schema: str | None = None
) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """Yield why a target's mapping may not be used, by key.

    Args:
        mapping, schema: Texts in place of those of now.
    """
    body = settings.body
    if body is None:
        return
    if not body.examples:
        yield ("body", "examples"), "is needed: files with an order as canonical JSON (`gateway show KEY --body`), to try the mapping with"
        return
    builder = Builder(settings, None, SystemClock(), mapping=mapping, schema=schema)
    for n, path in enumerate(body.examples):
        try:
            sample = read_sample(read_text(path))
        except ValueError as error:
            yield ("body", "examples", n), f"{path}: {error}"
            continue
        for problem in _judge(builder, settings, sample):
            yield ("body", "mapping"), f"does not pass with {path.name}{problem}"


def _judge(builder: Builder, settings: TargetSettings, sample: Sample) -> Iterator[str]:
    order = sample.message.order
    if not order.lines:
        yield ": the example has no lines"
        return
    second = order.lines[1] if len(order.lines) > 1 else replace(order.lines[0], line_number=order.lines[0].line_number + 1)
    one, two = replace(order, lines=order.lines[:1]), replace(order, lines=(order.lines[0], second))
    ones = {name: lookup.one for name, lookup in settings.lookups.items()}
    shapes: dict[str, Any] = {}
    for name, form in (("", order), (" with one line", one), (" with two lines", two), (" without optional fields", bare(one))):
        made = builder.body(with_rows(builder.context(encode(replace(sample.message, order=form))), sample.rows, ones))
        said = made.wrong if name == " without optional fields" and made.missing and made.body is not None else made.problems
        if said:
            yield f"{name}: {'; '.join(said)}"
            return
        if made.body is not None:
            shapes[name] = msgspec.json.decode(made.body)
    for problem in _differing(shapes.get(" with one line"), shapes.get(" with two lines"), "the body"):
        yield f": {problem}"
        return


def bare(order: Order) -> Order:
    """Return an order with its required fields alone."""
    lines = tuple(
        Line(line_number=x.line_number, article_number=x.article_number, quantity=x.quantity, unit=x.unit, unit_price=x.unit_price)
        for x in order.lines
    )
    return Order(
        order_ref=order.order_ref,
        order_number=order.order_number,
        revision=order.revision,
        status=order.status,
        currency=order.currency,
        customer=Customer(number=order.customer.number),
        lines=lines,
    )


def _differing(one: Any, two: Any, at: str) -> Iterator[str]:
    """Yield where two lines make a list and one line does not, JSONata's most frequent trap."""
    if isinstance(one, list) != isinstance(two, list) and one is not None and two is not None:
        yield f"{at}: is a list with two lines and none with one, or the other way round; put it into [ ], as in [order.lines.{{ ... }}]"
    elif isinstance(one, dict) and isinstance(two, dict):
        for key in one.keys() & two.keys():
            yield from _differing(one[key], two[key], f"{at}.{key}".removeprefix("the body."))
    elif isinstance(one, list) and one and two:
        yield from _differing(one[0], two[0], f"{at}[0]")


def watch(settings: TargetSettings) -> None:
    """Use a changed mapping or schema only where the examples still pass."""
    body = settings.body
    if body is None:
        return
    mapping, schema = body.mapping, body.schema

    def judge_mapping(text: str) -> str | None:
        return _first(body_problems(settings, text, _newest(schema)))

    def judge_schema(text: str) -> str | None:
        return _first(body_problems(settings, _newest(mapping), text))

    mapping.judge = judge_mapping
    if schema is not None:
        schema.judge = judge_schema


def _newest(file: BodyFile | None) -> str | None:
    """Return the text on disk if it is sound: two files that belong together rarely change at the same moment."""
    if file is None:
        return None
    try:
        text = read_text(file.path)
    except ValueError:
        return file.reveal()
    return text if file.broken(text) is None else file.reveal()


def _first(problems: Iterable[tuple[tuple[str | int, ...], str]]) -> str | None:
    return next((text for _, text in problems), None)
