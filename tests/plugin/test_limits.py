"""Limits are told, not met by accident: each plugin's table of them is what its Structs say, and a long text is kept and flagged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import gateway_apicbase.settings
import gateway_pickup_cloud.commands
import gateway_pickup_cloud.created
import gateway_pickup_cloud.wire
import gateway_scalepoint.events
import gateway_scalepoint.publish
import gateway_scalepoint.settings
import gateway_supercat.record
import msgspec
import pytest
from gateway_apicbase import wire
from msgspec import Meta, Struct

from gateway import Address, Customer, Line, Order, decimal
from gateway.api import order as orders
from gateway.api import strict_json
from gateway.codes import printable
from gateway.plugin import validation
from gateway.plugin.validation import checked_order

ROOT = Path(__file__).parents[2]
Limits = dict[str, set[int]]

STRUCTS: dict[str, list[type[Struct]]] = {
    "apicbase": [wire.PurchaseOrder],
    "pickup_cloud": [
        gateway_pickup_cloud.wire.OrderResponse,
        *(command.body for command in gateway_pickup_cloud.commands.commands().values()),
    ],
    "scalepoint": [gateway_scalepoint.publish.PublishEvent],
    "supercat": [],
}
# What no Struct says, by the words of the table.
OTHERS: dict[str, dict[str, int]] = {
    "apicbase": {"a number": orders._MAX_DIGITS},
    "pickup_cloud": {"an answer, a notification": strict_json.MAX_BYTES, "a code": printable.MOST},
    "scalepoint": {
        "an order token": validation._NAME_LIMIT,
        "events in one body": gateway_scalepoint.events._MOST,
        "an event by webhook": 262_144,
        "an order": strict_json.MAX_BYTES,
    },
    "supercat": {"a record": gateway_supercat.record._MAX_BYTES, "id": 18, "uuid": 100, "order_number": 200},
}


def lengths(kind: Any) -> Iterator[tuple[str, int]]:
    """Every field of a Struct, and of those in it, whose length is limited."""
    for field, hint in zip(msgspec.structs.fields(kind), get_type_hints(kind, include_extras=True).values(), strict=True):
        yield from _lengths(field.encode_name, hint)


def _lengths(name: str, hint: Any) -> Iterator[tuple[str, int]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield from lengths(hint)
    elif get_origin(hint) is Annotated:
        for meta in get_args(hint)[1:]:
            if isinstance(meta, Meta) and meta.max_length is not None:
                yield name.lower(), meta.max_length
        yield from _lengths(name, get_args(hint)[0])
    else:
        for one in get_args(hint):
            yield from _lengths(name, one)


def told(plugin: str) -> tuple[Limits, dict[str, set[int]]]:
    """The table of a README: limits of fields, and of other things, by their words."""
    text = (ROOT / "plugins" / plugin / "README.md").read_text("utf-8")
    table = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", text.partition("\n## Limits\n")[2].partition("\n## ")[0], re.MULTILINE)
    fields: Limits = {}
    others: dict[str, set[int]] = {}
    for what, most in table[2:]:
        number = re.search(r"([0-9][0-9,]*)", most)
        if number is None or "MiB" in most:
            continue
        names = re.findall(r"`(\w+)`", what)
        for name in names:
            fields.setdefault(name.lower(), set()).add(int(number[1].replace(",", "")))
        others.setdefault(what.replace("`", ""), set()).add(int(number[1].replace(",", "")))
    return fields, others


@pytest.mark.parametrize("plugin", STRUCTS)
def test_a_plugins_readme_tells_its_limits(plugin: str) -> None:
    fields, others = told(plugin)
    known: Limits = {}
    for kind in STRUCTS[plugin]:
        for name, most in lengths(kind):
            known.setdefault(name, set()).add(most)
    assert known == {name: most for name, most in fields.items() if name not in OTHERS[plugin]}
    for words, most in OTHERS[plugin].items():
        assert others[words] == {most}


def test_an_apicbase_remark_of_any_length_reaches_the_erp_flagged() -> None:
    document = b'{"id": "1", "order_remarks": "%b", "packages": [{"quantity_ordered": 1}]}' % (b"r" * 300_000)
    order = gateway_apicbase.mapping.to_order(wire.read(document), gateway_apicbase.settings.Settings(currency="EUR"))
    assert (checked_order(order).notes, checked_order(order).flags[-1]) == ("r" * 300_000, "long_text")


def test_an_answer_of_pickup_cloud_is_read_whatever_the_length_of_its_code() -> None:
    """A 201 that cannot be read makes a created order unknown."""
    answer = {
        "orderNumber": "O-1",
        "state": "READYFORINPUT",
        "pickupCode": "c" * 512,
        "relatedNotes": "n" * 100_000,
        "storageCode": "s" * 5000,
    }
    read = gateway_pickup_cloud.wire.read_order(msgspec.json.encode(answer))
    codes = gateway_pickup_cloud.created.codes(read)
    assert (codes.pickup, codes.storage, read.related_notes) == ("c" * 512, "s" * 5000, "n" * 100_000)


LONG = "x" * 513
FLAGGED = {
    "notes": Order(notes="x" * 20_001),
    "a line's notes": Order(lines=(Line(line_number=1, notes="x" * 20_001),)),
    "an article's name": Order(lines=(Line(line_number=1, name=LONG),)),
    "an article number": Order(lines=(Line(line_number=1, article_number=LONG),)),
    "a number": Order(order_number=LONG),
    "a customer": Order(customer=Customer(name=LONG)),
    "a street": Order(customer=Customer(address=Address(street=LONG))),
    "a city": Order(ship_to=Address(city=LONG)),
    "a reference": Order(references={"pickup_code": LONG}),
    "a name full of quotes": Order(customer=Customer(name='"' * 513)),
    "a name of other letters": Order(customer=Customer(name="å" * 513)),
}


@pytest.mark.parametrize("order", FLAGGED.values(), ids=FLAGGED)
def test_a_long_text_is_kept_and_flagged(order: Order) -> None:
    assert checked_order(order) == msgspec.structs.replace(order, flags=("long_text",))
    assert checked_order(checked_order(order)).flags == ("long_text",)


def test_a_text_of_usual_length_is_not_flagged() -> None:
    order = Order(notes="x" * 20_000, customer=Customer(name="x" * 512), references={"code": "x" * 512}, total=Decimal("1.50"))
    assert checked_order(order).flags == ()


def test_a_number_of_a_million_digits_costs_nothing() -> None:
    with pytest.raises(ValueError, match="too long or too large"):
        decimal("9" * 1_000_000)


@pytest.mark.parametrize(("field", "letter"), [("id", "9"), ("uuid", "a"), ("order_number", "N")])
def test_a_record_of_supercat_is_read_up_to_what_its_readme_says(field: str, letter: str) -> None:
    most = OTHERS["supercat"][field]
    for length in (most, most + 1):
        record = {"id": "1", "uuid": "a", "order_number": "N"} | {field: letter * length}
        with nullcontext() if length == most else pytest.raises(ValueError):
            gateway_supercat.record.read(msgspec.json.encode(record))


def test_a_webhook_of_scalepoint_is_as_long_as_its_readme_says() -> None:
    settings = gateway_scalepoint.settings.Settings
    default = settings.__struct_defaults__[settings.__struct_fields__.index("max_body_bytes")]
    assert default == OTHERS["scalepoint"]["an event by webhook"]
