"""The setting `mapping = "vendor.jsonata"`: from a document to an order, exact to the digit, and re-read when the file changes."""

from __future__ import annotations

import json
import logging
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway import Address, Customer, Line, Mapping, MappingError, Order, missing_fields
from gateway.api.messages import Event
from gateway.api.order import encode
from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.mapping import checks
from gateway.mapping.functions import FUNCTIONS
from gateway.plugin.connector import Connector
from gateway.testing import ErpSimulator
from tests import mapped_connector
from tests.conftest import Start

TEXT = """{
  /* a comment */
  "order_number": claim.po,
  "ordered_at": $date(claim.at, "iso", "m/d/yy"),
  "customer": {"number": claim.customer.no, "name": claim.customer.name},
  "lines": claim.items.{"article_number": sku, "quantity": qty, "unit_price": price, "line_total": $mul(qty, price)},
  "total": $sum(claim.items.$mul(qty, price)),
  "references": {"claim": claim.id}
}"""
ITEM = b'{"sku": "0001-2", "qty": 4, "price": 12.3450}'


def mapping(text: str = TEXT) -> Mapping:
    return Mapping(text, origin="file vendor.jsonata")


def claim(*items: bytes) -> bytes:
    return b'{"claim": {"id": 700, "po": "PO-1", "at": "4/2/24", "customer": {"no": "0042"}, "items": [' + b",".join(items) + b"]}}"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mapping: Mapping | None = None


def configured(folder: Path, value: object) -> tuple[Settings | None, Report]:
    report = Report({("settings", "mapping"): (folder / "gateway.toml", 7)}, folder / "gateway.toml")
    return decode(Settings, {"mapping": value}, ("settings",), report), report


# --- documents into orders


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_lines_are_a_list_however_many_there_are(count: int) -> None:
    order = mapping().order(claim(*[ITEM] * count), currency="DKK")
    assert [str(line.line_total) for line in order.lines] == ["49.3800"] * count
    assert [line.line_number for line in order.lines] == list(range(1, count + 1))
    assert order.total == (Decimal("49.3800") * count if count else None)
    assert (order.order_number, order.currency, order.references) == ("PO-1", "DKK", {"claim": "700"})


def test_the_zone_is_of_instants_without_an_offset() -> None:
    order = mapping().order(claim(ITEM), zone=ZoneInfo("Europe/Copenhagen"))
    assert order.ordered_at is not None
    assert order.ordered_at.isoformat() == "2024-04-01T22:00:00+00:00"


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?", fullmatch=True))
def test_any_decimal_survives_to_the_byte(number: str) -> None:
    """As a JSON number and as a text, through JSONata, into the message."""
    text = '{"total": a, "lines": items.{"unit_price": p, "quantity": q}, "extra": {"raw": a}}'
    document = f'{{"a": {number}, "items": [{{"p": "{number}", "q": {number}}}]}}'.encode()
    sent = encode(mapping(text).order(document))
    assert msgspec.json.decode(sent)["total"] == number
    for field in ("total", "unit_price", "quantity", "raw"):
        assert f'"{field}":"{number}"'.encode() in sent


@given(st.text(max_size=30).filter(lambda text: text.strip() and "\x00" not in text))
def test_any_text_survives(text: str) -> None:
    document = json.dumps({"claim": {"po": text, "customer": {"no": text, "name": text}, "items": {"sku": text}}}).encode()
    order = mapping().order(document)
    assert (order.order_number, order.customer.number, order.customer.name, order.lines[0].article_number) == (text,) * 4


def test_a_document_may_have_been_read_by_somebody_else() -> None:
    read: dict[str, Any] = {"claim": {"po": "PO-1", "id": 700, "items": ({"sku": "A", "qty": 4, "price": Decimal("12.3450")},)}}
    assert mapping().order(read).lines[0].line_total == Decimal("49.3800")
    assert mapping('{"total": x}').order({"x": Decimal("1E+3")}).total == Decimal(1000)
    assert read["claim"]["items"][0]["price"] == Decimal("12.3450")
    with pytest.raises(MappingError, match=r"it holds a float; read it with gateway\.read_json"):
        mapping().order({"claim": {"items": [{"price": 12.345}]}})


@pytest.mark.parametrize("document", [b"", b"<html>", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 1000, b'["\\ud800"]', b"\xff"])
def test_a_document_that_is_no_json_is_refused_and_not_quoted(document: bytes) -> None:
    with pytest.raises(MappingError, match="the document cannot be read: ") as refused:
        mapping().order(document)
    assert "html" not in str(refused.value)


def test_a_text_that_does_not_fit_the_document_names_its_file_and_place() -> None:
    with pytest.raises(MappingError, match=r"vendor.jsonata: line 6, column \d+: \$mul: not a plain decimal number"):
        mapping().order(claim(b'{"sku": "A", "qty": "four", "price": 1}'))


def test_problems_are_those_of_a_complete_order() -> None:
    assert mapping().problems(claim(ITEM)) == []
    assert mapping().problems(claim()) == ["lines: missing"]
    assert mapping('{"foo": 1, "total": "x"}').problems(b"{}") == [
        "foo: unknown key; there is currency, customer, extra, flags, lines, notes, order_number, ordered_at, references, requested_for,"
        " ship_to, status, total",
        "total: must be a decimal number, as in 12.50, and is a text that is no number; $dec reads a decimal comma",
    ]
    assert mapping("1").evaluate(b"{}") == 1


def test_a_connector_may_let_the_refusal_through_as_it_is() -> None:
    """The core takes what is in quotes out of a ValueError, since that could be an order; here it is the operator's."""
    connector = Connector(mapped_connector)
    connector.settings = mapped_connector.Settings(mapping=mapping("($x := $req(a, \"the 'a' of it\"); {})"))
    with pytest.raises(MappingError, match="there is no the 'a' of it"):
        connector.normalize(Event(key="k", order_ref="r"), b'{"data": {}}')


# --- what the operator reads

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mappings.md").read_text("utf-8")


def block(language: str) -> str:
    return DOCUMENT.split(f"```{language}\n")[1].split("```")[0]


def test_the_example_of_the_manual_works_as_printed() -> None:
    order = mapping(block("jsonata")).order(block("json").encode(), currency="DKK", zone=ZoneInfo("Europe/Copenhagen"))
    assert missing_fields(order) == []
    assert (order.order_number, order.references, order.customer.number) == ("PO-7", {"shop_id": "700"}, "0042")
    assert [(line.article_number, str(line.line_total)) for line in order.lines] == [("0001-2", "49.3800"), ("0002", "99.00")]
    assert str(order.total) == "148.3800"
    one_row = json.loads(block("json"), parse_float=str)
    assert len(mapping(block("jsonata")).order({**one_row, "rows": one_row["rows"][:1]}).lines) == 1


def test_the_manual_names_every_field_and_every_function() -> None:
    for kind in (Order, Line, Customer, Address):
        for name in {field.name for field in msgspec.structs.fields(kind)}:
            assert f"`{name}`" in DOCUMENT
    for name in checks.KEPT - {"base64encode", "base64decode", "encodeUrlComponent", "encodeUrl", "decodeUrlComponent", "decodeUrl"}:
        assert re.search(rf"\${name}\b", DOCUMENT), name
    named = set(re.findall(r"\$([a-z]\w*)", DOCUMENT))
    assert named - checks.KEPT - {"now", "millis", "random", "eval", "a", "b"} == set(FUNCTIONS)


@pytest.mark.parametrize(
    "expression",
    [
        "$lookup({'N': 'placed', 'X': 'cancelled'}, state)",
        "$compare(qty, 2) = 0",
        "rows[$compare(qty, 0) > 0]",
        "$sort(rows, function($a, $b) { $compare($a.price, $b.price) > 0 })",
        "$join(notes.text, '\\n')",
        "rows.{ 'article_number': sku, 'unit': $$.default_unit }",
        "`ship-to`.`post code`",
    ],
)
def test_what_the_manual_recommends_works(expression: str) -> None:
    assert " ".join(expression.replace("'", '"').split()) in " ".join(DOCUMENT.split())
    document = {
        "state": "N",
        "qty": "2.0",
        "rows": [{"sku": "A", "qty": "2", "price": "10"}, {"sku": "B", "qty": "0", "price": "9"}],
        "notes": [{"text": "a"}, {"text": "b"}],
        "default_unit": "pcs",
        "ship-to": {"post code": "0100"},
    }
    made = mapping(expression).evaluate(document)
    assert json.dumps(made) in (
        '"placed"',
        "true",
        '{"sku": "A", "qty": "2", "price": "10"}',
        '[{"sku": "B", "qty": "0", "price": "9"}, {"sku": "A", "qty": "2", "price": "10"}]',
        '"a\\nb"',
        '[{"article_number": "A", "unit": "pcs"}, {"article_number": "B", "unit": "pcs"}]',
        '"0100"',
    )


# --- the setting


def test_a_mapping_is_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "vendor.jsonata").write_text("\ufeff" + TEXT + "\n")
    settings, report = configured(tmp_path, "vendor.jsonata")
    assert report.problems == []
    assert settings is not None
    assert settings.mapping is not None
    assert settings.mapping.order(claim(ITEM)).order_number == "PO-1"
    assert report.file_backed == [settings.mapping]
    assert repr(settings.mapping) == "<mapping from file vendor.jsonata>"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("missing.jsonata", "cannot read {folder}/missing.jsonata: No such file or directory"),
        ({"file": "vendor.jsonata"}, 'must be the path of a JSONata file, as in "vendor.jsonata"'),
        ("", "must be the path of a JSONata file"),
        ("a\0b", "must be the path of a JSONata file"),
        ("broken.jsonata", "{folder}/broken.jsonata:2:10: Expected }}, got c"),
        ("latin.jsonata", "cannot read {folder}/latin.jsonata: not UTF-8 text"),
        ("empty.jsonata", "{folder}/empty.jsonata:1:1: Unexpected end of expression"),
        (
            "several.jsonata",
            "{folder}/several.jsonata:1:15: $now is left out; {folder}/several.jsonata:2:5: there is no $lins; did you mean lines?",
        ),
    ],
)
def test_what_cannot_be_used_is_a_problem_of_the_configuration(tmp_path: Path, value: object, said: str) -> None:
    (tmp_path / "broken.jsonata").write_text('{\n  "a": b c\n}')
    (tmp_path / "latin.jsonata").write_bytes(b'{"a": "\xfc"}')
    (tmp_path / "empty.jsonata").write_text("")
    (tmp_path / "several.jsonata").write_text("($lines := $now();\n$lins)")
    settings, report = configured(tmp_path, value)
    assert settings is None
    (problem,) = report.problems
    assert problem.startswith(f"{tmp_path}/gateway.toml:7: settings.mapping: " + said.format(folder=tmp_path))


def test_a_changed_file_is_used_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "vendor.jsonata"
    file.write_text('{"order_number": "1"}')
    made = Mapping.from_reference("vendor.jsonata", tmp_path)
    file.write_text('{"order_number": "22"}')
    assert made.refresh()
    assert made.order(b"{}").order_number == "22"
    file.write_text('{"order_number": }')
    assert not made.refresh()
    assert not made.refresh()
    assert made.order(b"{}").order_number == "22"
    assert made.complaint() == f"{file}:1:18: The symbol }} cannot be used as a unary operator"
    assert made.complaint() is None
    file.unlink()
    assert not made.refresh()
    file.write_text('{"order_number": "333"}')
    assert made.refresh()
    assert made.order(b"{}").order_number == "333"
    assert made.complaint() is None


async def test_a_file_that_is_not_used_is_in_the_log_once(start: Start, erp: ErpSimulator, caplog: pytest.LogCaptureFixture) -> None:
    running = await start(erp.url)
    broken = Mapping.from_reference(_written(running.folder / "vendor.jsonata", '{"total": "1"}'), running.folder)
    running.gateway._runtime.assembly.file_backed.append(broken)
    (running.folder / "vendor.jsonata").write_text('{"total": $now()}')
    with caplog.at_level(logging.INFO, "gateway"):
        await running.gateway._maintenance._reread_files()
        await running.gateway._maintenance._reread_files()
    refused = [record for record in caplog.records if record.message == "config.file_refused"]
    assert [(record.levelname, record.problem) for record in refused] == [  # type: ignore[attr-defined]
        ("WARNING", f"{running.folder}/vendor.jsonata:1:14: $now is left out")
    ]
    assert broken.order(b"{}") == Order(total=Decimal(1))


async def test_a_changed_mapping_does_not_try_a_refused_password_again(
    start: Start, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(erp.url)
    made = Mapping.from_reference(_written(running.folder / "vendor.jsonata", "{}"), running.folder)
    tried: list[str] = []
    monkeypatch.setattr(running.gateway._runtime, "secrets_changed", lambda: tried.append("again"))
    running.gateway._runtime.assembly.file_backed.append(made)
    _written(running.folder / "vendor.jsonata", '{"total": "1"}')
    await running.gateway._maintenance._reread_files()
    assert (made.order(b"{}").total, tried) == (Decimal(1), [])
    _written(running.folder / "secret", "another")
    await running.gateway._maintenance._reread_files()
    assert tried == ["again"]


def _written(file: Path, text: str) -> str:
    file.write_text(text)
    return file.name
