"""`gateway map`: an operator writes a mapping against a saved document and sees at once what it makes, or why it does not."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from gateway.cli import main as cli
from tests import acme, mapped_connector
from tests.conftest import plugins

TEXT = """{"order_number": po, "lines": items.{"article_number": sku, "name": name, "quantity": qty}, "flags": flags, "status": status,
  "customer": {"name": customer}}"""
CONFIG = """
[targets.erp]
url = "https://erp.example/orders"
[sources.shop]
connector = "mapped"
settings = { mapping = "shop.jsonata" }
[sources.acme]
connector = "acme"
settings = { secret = { file = "not-there" } }
"""
ITEM = {"sku": "0001-2", "qty": "4"}


class Said(Struct):
    code: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        return self.err.splitlines()


class Operator:
    """Somebody with a configuration, a document and `gateway map`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.write("gateway.toml", CONFIG)
        self.write("shop.jsonata", TEXT)

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text, "utf-8")
        return self.folder / name

    def document(self, **fields: Any) -> Path:
        return self.write("order.json", json.dumps({"data": {"po": "PO-1", "items": [ITEM], **fields}}))

    def map(self, file: Path | str, *options: str, source: str = "shop") -> Said:
        return self.run("--source", source, *options, str(file))

    def run(self, *arguments: str) -> Said:
        try:
            code = cli.main(["map", "--config", str(self.folder / "gateway.toml"), *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("gateway.service.assembly.installed", lambda **_: plugins(mapped=mapped_connector, acme=acme))
    return Operator(tmp_path, capsys)


def test_an_order_that_fits_is_shown_in_canonical_fields(operator: Operator) -> None:
    said = operator.map(operator.document(customer="Ærø Møbler 🛋"))
    assert (said.code, said.err) == (0, "")
    shown = json.loads(said.out)
    assert list(shown)[:3] == ["order_number", "status", "ordered_at"]
    assert "order_ref" not in shown
    assert "revision" not in shown
    assert shown["currency"] == "EUR"
    assert (shown["lines"][0]["article_number"], shown["lines"][0]["quantity"], shown["lines"][0]["line_number"]) == ("0001-2", "4", 1)
    assert '  "order_number": "PO-1",\n' in said.out
    assert "Ærø Møbler 🛋" in said.out


def test_missing_fields_are_named_under_the_order(operator: Operator) -> None:
    said = operator.map(operator.document(po=None, items=[ITEM, {"sku": ""}]))
    assert said.code == 1
    assert len(json.loads(said.out)["lines"]) == 2
    assert said.problems == [
        "order_number: missing, and there are no references",
        "lines[1].article_number: missing, and so are scan_code and name",
        "lines[1].quantity: missing",
    ]


def test_every_problem_is_listed_when_there_is_no_order(operator: Operator) -> None:
    operator.write("shop.jsonata", '{"order_nr": po, "total": "x", "lines": items.{"sku": sku, "quantity": name}}')
    said = operator.map(operator.document(items=[{"sku": "a", "name": "Erika Mustermann"}]))
    assert (said.code, said.out) == (1, "")
    assert [problem.split(":")[0] for problem in said.problems] == ["order_nr", "total", "lines[0].sku", "lines[0].quantity"]
    assert "Erika" not in said.err


def test_the_connectors_own_part_is_shown_as_well(operator: Operator) -> None:
    said = operator.map(operator.document(flags=["older"]))
    assert (said.code, said.problems) == (0, ["it would be held: older than what was sent"])
    assert json.loads(said.out)["flags"] == ["older"]
    said = operator.map(operator.document(flags=["unknown"]))
    assert (said.code, said.out) == (1, "")
    assert said.problems == ["there is no order in it", "it would be held: nobody knows this customer"]
    said = operator.map(operator.document(status="picked_up"))
    assert (said.code, said.out, said.problems) == (1, "", ["nothing would be sent: picked up long ago"])
    said = operator.map(operator.document(flags=["wrapped"]))
    assert (said.code, said.problems) == (1, ["the document cannot be read: it holds a float; read it with gateway.read_json"])


def test_a_document_that_makes_the_connector_fail_is_a_problem_and_no_traceback(operator: Operator) -> None:
    for text, problem in (
        ("[]", "normalize failed: TypeError"),
        ("{", "cannot be read: not JSON at line 1"),
        ("", "cannot be read: not JSON"),
    ):
        said = operator.map(operator.write("odd.json", text))
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(problem)


def test_a_document_can_come_from_the_standard_input(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = operator.document().read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + saved)))
    assert operator.map("-").code == 0


def test_json_is_for_programs(operator: Operator) -> None:
    said = operator.map(operator.document(items=[], flags=["older"]), "--json")
    made = json.loads(said.out)
    assert (said.code, said.err) == (1, "")
    assert (made["order"]["order_number"], made["problems"], made["remark"]) == (
        "PO-1",
        ["lines: missing"],
        "it would be held: older than what was sent",
    )
    operator.write("shop.jsonata", '{"total": "x"}')
    made = json.loads(operator.map(operator.document(), "--json").out)
    assert (made["order"], len(made["problems"])) == (None, 1)


def test_a_source_without_a_mapping_shows_what_its_connector_makes(operator: Operator) -> None:
    operator.write("not-there", "a secret\n")
    said = operator.map(operator.write("acme.json", acme.body("A-7").decode()), source="acme")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out)["order_number"] == "A-7"


def test_what_is_printed_can_steer_no_terminal_and_is_still_json(operator: Operator) -> None:
    said = operator.map(operator.document(customer="\x1b[31m\x9b\u202eX"))
    assert json.loads(said.out)["customer"]["name"] == "\x1b[31m\x9b\u202eX"
    assert all(character.isprintable() or character == "\n" for character in said.out)


def test_problems_elsewhere_do_not_matter_and_those_of_the_source_do(operator: Operator) -> None:
    assert operator.map(operator.document(), source="acme").code == 2
    operator.write("shop.jsonata", '{\n"order_number": po po}')
    said = operator.map(operator.document())
    assert (said.code, said.out) == (2, "")
    where = f"{operator.folder}/gateway.toml:6: sources.shop.settings.mapping: {operator.folder}/shop.jsonata:2:21"
    assert said.problems == [f"{where}: Expected }}, got po"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "shopp", "order.json"], "there is no source 'shopp'; did you mean shop?"),
        (["--source", "shop", "missing.json"], "missing.json: cannot be read: No such file or directory"),
        (["--source", "shop", "."], ".: cannot be read: Is a directory"),
        (["--source", "shop", "a\0b"], "cannot be read"),
        (["order.json"], "--source"),
        (["--source", "shop"], "FILE"),
        (["--source", "\udcff", "order.json"], "UTF-8"),
    ],
)
def test_wrong_usage_exits_2(operator: Operator, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str) -> None:
    operator.document()
    monkeypatch.chdir(operator.folder)
    found = operator.run(*arguments)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
