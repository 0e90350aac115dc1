"""From an order to the bytes that leave: mapping, look-ups, tables, schema, exact numbers, and refusals that a person can act on."""

from __future__ import annotations

import asyncio
import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import AuthError, RateLimited, TransientError
from gateway.api.order import Message, Order, encode
from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.mapping.functions import Exact
from gateway.targets.builder import Builder
from gateway.targets.examples import read_sample
from gateway.targets.expressions import encode_body, evaluate
from gateway.targets.functions import shown
from gateway.targets.request import Refused, Unknown
from gateway.targets.sender import AuthSender
from gateway.targets.settings import TargetSettings
from gateway.testing import ManualClock
from tests.scripted_erp import Erp, erp

MAPPING = """{
  "customer": $req(order.customer.number, "customer number"),
  "number": $req(order.order_number, "order number"),
  "day": $day(order.ordered_at, "Europe/Berlin"),
  "lines": [order.lines.{
    "product": $lookup_id("products", article_number).id,
    "unit": $table("unit", unit),
    "quantity": $dec(quantity),
    "price": $dec($req(unit_price, "unit price")),
    "name": name
  }]
}"""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["customer", "number", "lines"],
    "properties": {
        "customer": {"type": "string"},
        "lines": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["product", "quantity", "price"],
                "properties": {"product": {"type": "integer"}, "quantity": {"type": "number"}, "price": {"type": "number"}},
            },
        },
    },
}
TOML = """
url = "{base}/orders"
vars = { base = "BASE" }
[body]
mapping = "erp.jsonata"
schema = "erp.schema.json"
examples = ["order.json"]
[tables]
unit = { EA = "C62", KG = "KGM" }
[lookups.products]
url = "{base}/products"
query = { "$filter" = "{filter}" }
values = { filter = '$join($map(codes, function($c){"sku eq " & $odata($c)}), " or ")' }
codes = "order.lines.article_number"
rows = "body.value"
code = "sku"
"""


def line(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "line_number": n,
        "article_number": f"A-{n}",
        "name": "Nails",
        "quantity": "4",
        "unit": "EA",
        "unit_price": "12.3450",
        **changes,
    }


def an_order(*lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "order_ref": "5f0c",
        "order_number": "PO-1",
        "ordered_at": "2024-03-31T22:30:00Z",
        "currency": "EUR",
        "customer": {"number": "0010023"},
        "lines": list(lines) or [line()],
    }
    return {**whole, **changes}


def message(order: dict[str, Any]) -> bytes:
    return encode(read_sample(json.dumps(order)).message)


def settings(folder: Path, url: str = "https://erp.example", toml: str = TOML, **files: Any) -> TargetSettings:
    known = {f"A-{n}": {"id": n} for n in range(1, 9)}
    texts = {
        "mapping": MAPPING,
        "schema": json.dumps(SCHEMA),
        "order": json.dumps({"order": an_order(line(1), line(2)), "lookup": {"products": known}}),
    }
    for name, file in (("mapping", "erp.jsonata"), ("schema", "erp.schema.json"), ("order", "order.json")):
        (folder / file).write_text(files.get(name, texts[name]))
    report = Report({}, folder / "gateway.toml")
    made = decode(TargetSettings, tomllib.loads(toml.replace("BASE", url)), ("targets", "erp"), report)
    assert made is not None, report.problems
    return made


class Products:
    """An OData list of products that counts its calls."""

    def __init__(self, **ids: int) -> None:
        self.ids = {name.replace("_", "-"): number for name, number in ids.items()}
        self.filters: list[str] = []
        self.answer: web.Response | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        self.filters.append(request.query.get("$filter", ""))
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        asked = [part.removeprefix("sku eq '").removesuffix("'").replace("''", "'") for part in self.filters[-1].split(" or ")]
        return web.json_response({"value": [{"sku": sku, "id": self.ids[sku]} for sku in asked if sku in self.ids]})


class Built:
    """A builder with its ERP and clock."""

    def __init__(self, peer: Erp, products: Products, builder: Builder, clock: ManualClock) -> None:
        self.peer, self.products, self.builder, self.clock = peer, products, builder, clock

    async def body(self, order: dict[str, Any], *, fresh: bool = False) -> Any:
        request = await self.builder.request(self.builder.context(message(order)), fresh=fresh)
        assert request.body is not None
        return json.loads(request.body, parse_float=Decimal)

    async def refusal(self, order: dict[str, Any], **more: Any) -> tuple[str, ...]:
        with pytest.raises((Refused, Unknown)) as caught:
            await self.body(order, **more)
        return caught.value.problems  # type: ignore[attr-defined]


@pytest.fixture
async def built(tmp_path: Path) -> Any:
    products, clock = Products(A_1=71, A_2=72, A_3=73), ManualClock()
    async with erp(products) as peer:
        made = settings(tmp_path, peer.url)
        sender = AuthSender("erp", made, clock)
        await sender.open()
        yield Built(peer, products, Builder(made, sender, clock), clock)
        await sender.close()


# --- the body


async def test_the_body_is_what_the_mapping_says_with_ids_units_and_exact_numbers(built: Built) -> None:
    request = await built.builder.request(built.builder.context(message(an_order(line(1), line(2, unit="KG", quantity="0.125")))))
    assert (request.method, request.url) == ("POST", f"{built.peer.url}/orders")
    assert request.headers == {"Content-Type": "application/json"}
    assert request.body == (
        b'{"customer":"0010023","number":"PO-1","day":"2024-04-01","lines":['
        b'{"product":71,"unit":"C62","quantity":4,"price":12.3450,"name":"Nails"},'
        b'{"product":72,"unit":"KGM","quantity":0.125,"price":12.3450,"name":"Nails"}]}'
    )


async def test_a_one_line_order_without_optional_fields_and_with_hostile_texts(built: Built) -> None:
    """erp_targets.md 7, test 8."""
    name = "Quote \" backslash \\ emoji \U0001f600 apostrophe ' line\nbreak"
    found = await built.body(an_order(line(1, name=name, quantity="0.125", unit_price="0.0001")))
    assert found["lines"] == [{"product": 71, "unit": "C62", "quantity": Decimal("0.125"), "price": Decimal("0.0001"), "name": name}]
    bare = {
        "order_number": "PO-1",
        "customer": {"number": "1"},
        "lines": [{"line_number": 1, "article_number": "A-1", "unit": "EA", "quantity": "1", "unit_price": "1"}],
    }
    assert (await built.body(bare))["lines"] == [{"product": 71, "unit": "C62", "quantity": 1, "price": 1, "name": None}]


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_exact_numbers_leave_to_the_digit_in_every_form(number: Decimal) -> None:
    text = format(number, "f")
    value = {"n": Exact(text), "t": text, "l": [Exact(text)]}
    assert encode_body(value, "number") == f'{{"n":{text},"t":"{text}","l":[{text}]}}'.encode()
    assert encode_body(value, "string") == f'{{"n":"{text}","t":"{text}","l":["{text}"]}}'.encode()
    tagged = f'{{"__class__":"Decimal","decimal":"{text}"}}'
    assert encode_body(value, "tagged") == f'{{"n":{tagged},"t":"{text}","l":[{tagged}]}}'.encode()
    assert json.loads(encode_body(value, "number"), parse_float=Decimal)["n"] == number


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9, places=4), st.integers(0, 4))
def test_amounts_go_through_a_mapping_without_a_float(tmp_path_factory: Any, price: Decimal, places: int) -> None:

    text = format(price.quantize(Decimal(1).scaleb(-places)), "f")
    found = evaluate('{"a": $dec(p), "b": $mul(p, "3"), "c": p}', {"p": text})
    assert encode_body(found, "number") == f'{{"a":{text},"b":{format(Decimal(text) * 3, "f")},"c":"{text}"}}'.encode()


def test_null_keys_are_left_out_where_the_target_says_so_and_list_items_never() -> None:
    value = {"a": None, "b": {"c": None}, "d": [None, {"e": None}]}
    assert encode_body(value, "number") == b'{"a":null,"b":{"c":null},"d":[null,{"e":null}]}'
    assert encode_body(value, "number", omit_null=True) == b'{"b":{},"d":[null,{}]}'


def test_without_a_mapping_the_body_is_the_message_to_the_byte(tmp_path: Path) -> None:
    made = settings(tmp_path, toml='url = "https://erp.example/orders"')
    assert made.is_plain_message
    builder = Builder(made, None, ManualClock())
    raw = message(an_order())
    assert builder.create(builder.context(raw)).body == raw


async def test_templates_name_fields_and_values(built: Built, tmp_path: Path) -> None:
    toml = TOML.replace(
        'url = "{base}/orders"',
        'url = "{base}/c({company})/orders/{order.order_number|path}"\nquery = { ref = "{order.customer.number}-{n}" }\n'
        'headers = { X-Company = "{company}", X-Ref = "{order.order_ref}" }\nvalues = { n = "$count(order.lines)" }',
    ).replace('vars = { base = "BASE" }', 'vars = { base = "BASE", company = "7" }')
    made = settings(tmp_path, built.peer.url, toml)
    builder = Builder(made, None, ManualClock())
    request = builder.around(b"{}", builder.context(message(an_order(order_number="A/1'"))))
    assert request.url == f"{built.peer.url}/c(7)/orders/A%2F1%27?ref=0010023-1"
    assert request.headers == {"Content-Type": "application/json", "X-Company": "7", "X-Ref": "5f0c"}
    with pytest.raises(Refused, match=r"url: needs order\.order_number"):
        builder.around(b"{}", builder.context(message(an_order(order_number=None))))
    with pytest.raises(Refused, match="header X-Ref: holds a line break"):
        builder.around(b"{}", builder.context(message(an_order(order_ref="a\r\nX-Admin: 1"))))


# --- what is missing: a refusal that a person can act on


async def test_everything_that_is_missing_is_named_at_once_by_line(built: Built) -> None:
    order = an_order(line(1), line(2, unit="BOX", unit_price=None), line(3, unit=None), customer={"number": None})
    assert await built.refusal(order) == (
        "there is no customer number",
        'line 2: unit: "BOX" is not in this table',
        "line 2: there is no unit price",
        "line 3: unit: there is no code to look up",
    )


async def test_an_unknown_article_is_refused_by_line_and_code_and_goes_once_it_is_there(built: Built) -> None:
    """erp_targets.md 7, test 9."""
    order = an_order(line(1), line(2, article_number="SKU-9"), line(3, article_number="SKU-9"), line(4, article_number="SKU-8"))
    assert await built.refusal(order) == (
        'lines 2, 3: products: the ERP has no "SKU-9"',
        'line 4: products: the ERP has no "SKU-8"',
    )
    built.products.ids |= {"SKU-9": 9, "SKU-8": 8}  # somebody puts the master data right, and replays
    other = an_order(line(1, article_number="SKU-9"), order_ref="another")
    assert await built.refusal(other)  # remembered: of a thousand orders with it, few ask
    assert [one["product"] for one in (await built.body(order))["lines"]] == [71, 9, 9, 8]
    assert (await built.body(other))["lines"][0]["product"] == 9


async def test_a_message_that_was_tried_before_can_have_everything_asked_anew(built: Built) -> None:
    await built.refusal(an_order(line(9)))
    built.products.ids["A-9"] = 9
    assert (await built.body(an_order(line(9), order_ref="another"), fresh=True))["lines"][0]["product"] == 9


async def test_on_missing_hold_leaves_it_to_a_person(tmp_path: Path) -> None:
    products, clock = Products(), ManualClock()
    async with erp(products) as peer:
        made = settings(tmp_path, peer.url, TOML + 'on_missing = "hold"')
        sender = AuthSender("erp", made, clock)
        await sender.open()
        with pytest.raises(Unknown, match='line 1: products: the ERP has no "A-1"'):
            await Built(peer, products, Builder(made, sender, clock), clock).body(an_order())
        await sender.close()


async def test_an_article_that_the_erp_has_twice_is_refused(built: Built) -> None:
    built.products.answer = web.json_response({"value": [{"sku": "A-1", "id": 1}, {"sku": "A-1", "id": 2}]})
    assert await built.refusal(an_order()) == ('products: the ERP has "A-1" more than once; which one is meant must be clear to it',)


async def test_a_code_without_its_look_up_is_named(built: Built, tmp_path: Path) -> None:
    made = settings(tmp_path, built.peer.url, TOML.replace("order.lines.article_number", "order.lines[0].article_number"))
    with pytest.raises(Refused, match='line 2: products: "A-2" is not among its codes'):
        sender = AuthSender("erp", made, ManualClock())
        await sender.open()
        try:
            builder = Builder(made, sender, ManualClock())
            await builder.request(builder.context(message(an_order(line(1), line(2)))))
        finally:
            await sender.close()


async def test_what_the_schema_does_not_allow_is_refused_by_its_path(built: Built, tmp_path: Path) -> None:
    made = settings(tmp_path, built.peer.url)
    builder = Builder(
        made, None, ManualClock(), mapping='{"customer": order.customer.number, "lines": order.lines.{"product": article_number}}'
    )
    context = builder.context(message(an_order()))
    assert builder.body(context).wrong == (
        "erp.schema.json: the body: lacks number",
        "erp.schema.json: lines: must be of type array, and is an object",
    )


# --- look-ups


async def test_one_call_asks_for_every_article_of_an_order(built: Built) -> None:
    await built.body(an_order(line(1), line(2), line(3), line(1)))
    assert built.products.filters == ["sku eq 'A-1' or sku eq 'A-2' or sku eq 'A-3'"]


async def test_answers_are_remembered_and_misses_only_briefly(built: Built) -> None:
    await built.body(an_order(line(1)))
    await built.body(an_order(line(1), line(2)))
    assert built.products.filters == ["sku eq 'A-1'", "sku eq 'A-2'"]
    built.clock.advance(299)
    await built.body(an_order(line(1)))
    assert len(built.products.filters) == 2
    built.clock.advance(2)
    await built.body(an_order(line(1)))
    assert built.products.filters[2:] == ["sku eq 'A-1'"]
    for n in range(5):
        await built.refusal(an_order(line(9), order_ref=f"other-{n}"))
    assert len(built.products.filters) == 4
    built.clock.advance(16)
    await built.refusal(an_order(line(9), order_ref="later"))
    assert len(built.products.filters) == 5


async def test_ten_orders_with_the_same_article_ask_once(built: Built) -> None:
    await asyncio.gather(*(built.body(an_order(line(1))) for _ in range(10)))
    assert len(built.products.filters) == 1


async def test_an_apostrophe_in_an_article_number_stays_in_its_literal(built: Built) -> None:
    built.products.ids["O'Neill' ne 'x"] = 5
    found = await built.body(an_order(line(1, article_number="O'Neill' ne 'x")))
    assert found["lines"][0]["product"] == 5
    assert built.products.filters == ["sku eq 'O''Neill'' ne ''x'"]


async def test_many_articles_are_asked_for_in_batches(tmp_path: Path) -> None:
    products, clock = Products(**{f"A_{n}": n for n in range(1, 51)}), ManualClock()
    async with erp(products) as peer:
        made = settings(tmp_path, peer.url, TOML + "batch = 20")
        sender = AuthSender("erp", made, clock)
        await sender.open()
        found = await Built(peer, products, Builder(made, sender, clock), clock).body(an_order(*(line(n) for n in range(1, 51))))
        assert [one["product"] for one in found["lines"]] == list(range(1, 51))
        assert len(products.filters) == 3
        await sender.close()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (web.Response(status=503), TransientError, "answers 503"),
        (web.Response(status=429, headers={"Retry-After": "7"}), RateLimited, r"too often \(429\)"),
        (web.Response(status=403), AuthError, "what they may read"),
        (web.Response(status=302), AuthError, "answers 302"),
        (web.Response(status=400), Refused, "answers 400"),
        (web.Response(status=200, body=b"<html>log in</html>"), AuthError, "not JSON"),
        (web.json_response({"error": {"code": 1}}), Refused, "answers with an error"),
    ],
)
async def test_a_look_up_that_fails_says_what_is_to_be_done(built: Built, answer: web.Response, error: type, said: str) -> None:
    built.products.answer = answer
    with pytest.raises(error, match=said):
        await built.body(an_order())
    if error is RateLimited:
        with pytest.raises(RateLimited) as caught:
            await built.body(an_order())
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (web.Response(status=401), True),
        (web.Response(status=403), True),
        (web.Response(status=302), False),
        (web.Response(status=200, body=b"<html>we are back soon</html>"), False),
    ],
)
async def test_a_look_up_that_is_elsewhere_speaks_of_no_credentials(built: Built, answer: web.Response, refused: bool) -> None:
    """A password is tried again only after a person has looked; a moved address and a maintenance page mend themselves."""
    built.products.answer = answer
    with pytest.raises(AuthError) as caught:
        await built.body(an_order())
    assert caught.value.refused is refused


async def test_a_404_of_a_look_up_means_that_there_is_nothing(built: Built) -> None:
    built.products.answer = web.Response(status=404)
    assert await built.refusal(an_order()) == ('line 1: products: the ERP has no "A-1"',)


async def test_one_row_for_the_whole_order(tmp_path: Path) -> None:
    async def parties(request: web.Request) -> web.Response:
        return (
            web.json_response({"id": 12, "addresses": [5, 6], "limit": 10000.50})
            if request.path == "/party/0010023"
            else web.Response(status=404)
        )

    toml = TOML + '[lookups.party]\nurl = "{base}/party/{order.customer.number|path}"\ncodes = "order.customer.number"\none = true\n'
    mapping = """{"party": lookup.party.id, "address": lookup.party.addresses[0], "limit": lookup.party.limit,
        "lines": [order.lines.{"a": article_number}]}"""
    sample = json.dumps({"order": an_order(), "lookup": {"party": {"0010023": {"id": 1, "addresses": [1]}}, "products": {}}})
    async with erp(parties) as peer:
        made = settings(tmp_path, peer.url, toml.replace("order.lines.article_number", "[]"), mapping=mapping, schema="{}", order=sample)
        sender = AuthSender("erp", made, ManualClock())
        await sender.open()
        built = Built(peer, Products(), Builder(made, sender, ManualClock()), ManualClock())
        assert await built.body(an_order()) == {"party": 12, "address": 5, "limit": Decimal("10000.50"), "lines": [{"a": "A-1"}]}
        assert await built.refusal(an_order(customer={"number": "9/../1"})) == ('party: the ERP has no "9/../1"',)
        assert peer.heard[-1][0] == "GET /party/9%2F..%2F1"
        await sender.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("erika@mustermann.example", "customer.email of this order"),
        ("ERIKA MUSTERMANN", "customer.name of this order"),
        ("Mustermann", "customer.name of this order"),
        ("p:+45 00000000", "customer.phone of this order"),
        ("Langgade 12", "ship_to.street of this order"),
        ("12", '"12"'),
        ("NAILS-12", '"NAILS-12"'),
    ],
)
def test_a_code_that_speaks_of_a_person_is_named_by_its_place(code: str, said: str) -> None:
    person = {"number": "12", "name": "Erika Mustermann", "email": "erika@mustermann.example", "phone": "+45 00000000"}
    order = an_order(line(article_number="NAILS-12"), customer=person, ship_to={"street": "Langgade 12"})
    assert shown(code, order) == said


async def test_a_look_up_by_a_persons_address_does_not_repeat_it(built: Built) -> None:
    email = "erika@mustermann.example"
    order = an_order(line(article_number=email), customer={"number": "1", "email": email})
    assert await built.refusal(order) == ("line 1: products: the ERP has no customer.email of this order",)


def test_a_message_keeps_every_field_for_expressions(tmp_path: Path) -> None:
    builder = Builder(settings(tmp_path), None, ManualClock())
    context = builder.context(message(an_order()))
    assert context["message"]["kind"] == "order.placed"
    assert context["order"]["lines"][0]["line_number"] == 1
    assert context["order"]["lines"][0]["unit_price"] == "12.3450"
    assert set(context["message"]) == set(Message.__struct_fields__)
    assert set(context["order"]) == set(Order.__struct_fields__)
