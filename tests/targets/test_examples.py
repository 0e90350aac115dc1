"""A mapping is refused at load, and after a change, where its examples do not pass; and what else a target's tables get wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import ConfigError
from gateway.service.assembly import assemble_target
from gateway.targets.auth_settings import ClientCredentials, Login, OAuth1
from gateway.targets.examples import bare, read_sample
from tests.raw_server import certificate

GOOD = '{"number": $req(order.order_number, "order number"), "lines": [order.lines.{"sku": article_number, "price": $dec(unit_price)}]}'
ORDER: dict[str, Any] = {
    "order_number": "PO-1",
    "notes": "leave at the door",
    "lines": [
        {"line_number": 1, "article_number": "A-1", "quantity": "1", "unit_price": "1.50", "notes": "blue"},
        {"line_number": 2, "article_number": "A-2", "quantity": "2", "unit_price": "2"},
    ],
}
SCHEMA: dict[str, Any] = {"type": "object", "required": ["number", "lines"], "properties": {"lines": {"type": "array"}}}
BODY = 'body = { mapping = "erp.jsonata", schema = "erp.schema.json", examples = ["order.json"] }\n'


class Folder:
    """A configuration to write and to load."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, mapping: str = GOOD, schema: Any = SCHEMA, order: Any = ORDER, more: str = "", body: str = BODY, url: str = "") -> None:
        (self.path / "erp.jsonata").write_text(mapping)
        (self.path / "erp.schema.json").write_text(json.dumps(schema))
        (self.path / "order.json").write_text(json.dumps(order))
        text = f'[targets.erp]\nurl = "{url or "https://erp.example/orders"}"\n{body}{more}'
        (self.path / "gateway.toml").write_text(text)

    def load(self) -> Any:
        return assemble_target(self.path / "gateway.toml", "erp")

    def problems(self, **parts: Any) -> list[str]:
        self.write(**parts)
        try:
            self.load()
        except ConfigError as error:
            return [problem.split(": ", 1)[1] for problem in error.problems]
        return []


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "secret").write_text("s3cret")
    return Folder(tmp_path)


SECRET = '{ file = "secret" }'

# --- examples


def test_a_mapping_whose_examples_pass_is_used(folder: Folder) -> None:
    assert folder.problems() == []


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"mapping": GOOD.replace("[order.lines.", "order.lines.").replace("}]}", "}}")},
            "with one line: erp.schema.json: lines: must be of type array",
        ),
        (
            {"mapping": GOOD.replace("[order.lines.", "order.lines.").replace("}]}", "}}"), "schema": {}},
            "lines: is a list with two lines and none with one, or the other way round; put it into [ ]",
        ),
        (
            {
                "mapping": '{"number": order.order_number, "lines": [order.lines], "remark": order.notes}',
                "schema": {"properties": {"remark": {"type": "string"}}},
            },
            "without optional fields: erp.schema.json: remark: must be of type string, and is null",
        ),
        (
            {"mapping": '{"number": order.nonsense, "a": "1"}', "schema": {**SCHEMA, "required": ["number"]}},
            "order.json: erp.schema.json: the body: lacks number",
        ),
        ({"mapping": "order.nothing"}, "makes no body of this order"),
        ({"mapping": '{"a": order.order_number < "10", "b": $dec(order.notes)}'}, "$dec"),
        ({"mapping": '{"a": $lookup_id("products", "x")}'}, "there is no look-up"),
        ({"mapping": '{"a": $table("unit", "x")}'}, "there is no table"),
        ({"order": {**ORDER, "lines": []}}, "the example has no lines"),
        ({"body": 'body = { mapping = "erp.jsonata" }\n'}, "targets.erp.body.examples: is needed: files with an order"),
    ],
)
def test_a_mapping_that_fails_its_examples_is_refused(folder: Folder, parts: dict[str, Any], said: str) -> None:
    (problem,) = folder.problems(**parts)
    assert said in problem
    assert problem.startswith("targets.erp.body")


def test_a_mapping_that_refuses_a_bare_order_by_name_passes(folder: Folder) -> None:
    assert folder.problems(mapping=GOOD.replace('"lines"', '"remark": $req(order.notes, "remark"), "lines"')) == []


def test_look_ups_of_an_example_stand_in_it(folder: Folder) -> None:
    mapping = '{"number": "1", "lines": [order.lines.{"id": $lookup_id("products", article_number).id}]}'
    more = '[targets.erp.lookups.products]\nurl = "https://erp.example/products"\ncodes = "order.lines.article_number"\n'
    (problem,) = folder.problems(mapping=mapping, more=more)
    assert 'line 1: products: "A-1" has not been looked up; line 2: products: "A-2" has not been looked up' in problem
    rows = {"products": {"A-1": {"id": 1}, "A-2": {"id": 2}}}
    assert folder.problems(mapping=mapping, more=more, order={"order": ORDER, "lookup": rows}) == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"order": {"lins": []}}, "lins: is no field of a canonical order; did you mean lines?"),
        ({"lines": [{"line_number": 1, "article": "x"}]}, "lines[0].article: is no field of a canonical order"),
        ({"lines": [{"line_number": "one"}]}, "is no canonical order"),
        ([1], "must be an order"),
    ],
)
def test_an_example_that_is_no_order_is_named(folder: Folder, order: Any, said: str) -> None:
    (problem,) = folder.problems(order=order)
    assert said in problem
    assert problem.startswith("targets.erp.body.examples[0]: ")


def test_a_whole_message_is_an_example_too() -> None:
    message = {
        "schema": "order-gateway/1", "key": "a/1/1", "kind": "order.revised", "source": "a", "vendor": "b",
        "occurred_at": None, "received_at": "2024-01-01T00:00:00Z", "order": ORDER,
    }  # fmt: skip
    sample = read_sample(json.dumps(message))
    assert (sample.message.key, sample.message.kind) == ("a/1/1", "order.revised")
    assert bare(sample.message.order).notes is None


# --- a change


def replace(path: Path, text: str) -> None:
    """As editors do: another file under the same name."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


def test_a_changed_mapping_that_fails_its_examples_is_not_used(folder: Folder) -> None:
    folder.write()
    mapping = folder.load().body.mapping
    replace(folder.path / "erp.jsonata", '{"number": order.order_number, "lines": order.lines.{"sku": article_number}}')
    assert not mapping.refresh()
    assert "does not pass with order.json with one line: erp.schema.json: lines: must be of type array" in (mapping.complaint() or "")
    assert mapping.reveal() == GOOD
    replace(folder.path / "erp.jsonata", '{"number": ')
    assert not mapping.refresh()
    assert "erp.jsonata:1:" in (mapping.complaint() or "")
    replace(folder.path / "erp.jsonata", GOOD.replace('"sku"', '"code"'))
    assert mapping.refresh()
    assert '"code"' in mapping.reveal()


def test_a_mapping_and_its_schema_that_change_together_are_judged_together(folder: Folder) -> None:
    folder.write()
    body = folder.load().body
    replace(folder.path / "erp.jsonata", GOOD.replace('"number"', '"ref"'))
    replace(folder.path / "erp.schema.json", json.dumps({**SCHEMA, "required": ["ref"]}))
    assert body.mapping.refresh()
    assert body.schema.refresh()


def test_a_changed_schema_that_the_mapping_does_not_meet_is_not_used(folder: Folder) -> None:
    folder.write()
    schema = folder.load().body.schema
    for text in (json.dumps({"required": ["else"]}), "{", '{"type": "objekt"}', '{"$ref": "https://erp.example/schema"}'):
        replace(folder.path / "erp.schema.json", text)
        assert not schema.refresh()
        assert schema.complaint()


# --- tables


def test_a_table_is_read_from_a_file_and_read_again(folder: Folder) -> None:
    (folder.path / "units.csv").write_text("# ours;theirs\nEA;C62\n\nKG ; KGM ; kilogram\n")
    folder.write(more='tables = { unit = { file = "units.csv" }, tax = { DE19 = 7, DE7 = "8" } }\n')
    made = folder.load()
    assert made.tables["unit"].codes == {"EA": "C62", "KG": "KGM"}
    assert made.tables["tax"].codes == {"DE19": 7, "DE7": "8"}
    replace(folder.path / "units.csv", "EA,PCE\n")
    assert made.tables["unit"].refresh()
    assert made.tables["unit"].codes == {"EA": "PCE"}
    replace(folder.path / "units.csv", "EA,PCE\nEA,C62\n")
    assert not made.tables["unit"].refresh()
    assert "line 2 has EA again" in (made.tables["unit"].complaint() or "")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ file = "nowhere.csv" }', "cannot read"),
        ("{}", "must be a table of codes"),
        ("{ EA = 1.5 }", "gives each code a text or a whole number"),
        ('"EA"', "must be a table of codes"),
    ],
)
def test_a_table_that_is_none_is_refused(folder: Folder, table: str, said: str) -> None:
    (problem,) = folder.problems(more=f"tables = {{ unit = {table} }}\n")
    assert said in problem


# --- addresses and names


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"url": "{base}/orders"}, "targets.erp.url: there is no {base}"),
        (
            {"url": "{base}/{order.nmber}", "more": 'vars = { base = "https://erp.example" }\n'},
            "targets.erp.url: there is no {order.nmber}",
        ),
        ({"url": "https://{order.order_number}.example/x"}, "targets.erp.url: its host must be fixed"),
        (
            {"url": "{host}{order.order_number}/x", "more": 'vars = { host = "https://erp.example" }\n'},
            "targets.erp.url: its host must be fixed",
        ),
        ({"url": "{base}/x", "more": 'vars = { base = "http://erp.example" }\n'}, "targets.erp.url: would be sent unencrypted"),
        ({"url": "{base}/x", "more": 'vars = { base = "erp.example" }\n'}, "targets.erp.url: must be an absolute address"),
        ({"more": 'headers = { X-A = "{nope}" }\n'}, "targets.erp.headers: there is no {nope}"),
        ({"more": 'headers = { Authorization = "x" }\n'}, "targets.erp.headers: Authorization would stand in the file"),
        ({"more": 'query = { a = "{order.order_number" }\n'}, "targets.erp.query.a: has a {"),
        (
            {"more": """query = { "$filter" = "ref eq '{order.order_number}'" }\n"""},
            "targets.erp.query: {order.order_number} stands in quotes, which an apostrophe in it would end; write",
        ),
        (
            {"more": """query = { filters = '[["po_no","=","{order.order_number}"]]' }\n"""},
            "targets.erp.query: {order.order_number} stands in quotes, which a quote in it would end; write {order.order_number|json}",
        ),
        ({"url": "https://erp.example/Orders('{order.order_number|path}')"}, "targets.erp.url: {order.order_number} stands in quotes"),
        ({"more": 'vars = { order = "1" }\n'}, "targets.erp.vars: 'order' cannot be the name of a variable"),
        ({"more": 'values = { a = "order." }\n'}, "targets.erp.values.a: line 1"),
        ({"more": 'check = { url = "https://other.example/ping" }\n'}, "targets.erp.check.url: is on another host than the target's url"),
        ({"more": 'csrf = { url = "https://other.example/" }\n'}, "targets.erp.csrf.url: is on another host"),
        ({"more": 'lookups = { p = { url = "https://other.example/p", codes = "1" } }\n'}, "targets.erp.lookups.p.url: is on another host"),
        (
            {"more": 'lookups = { p = { url = "https://erp.example/p", method = "DELETE", codes = "1" } }\n'},
            "targets.erp.lookups.p.method: must be GET or POST",
        ),
        ({"more": 'lookups = { p = { url = "https://erp.example/p" } }\n'}, "targets.erp.lookups.p: needs the key codes"),
    ],
)
def test_what_cannot_work_is_refused_with_its_key(folder: Folder, parts: dict[str, Any], said: str) -> None:
    (problem,) = folder.problems(**parts)
    assert problem.startswith(said)


# --- credentials


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        (
            f'{{ kind = "oauth2", token_url = "https://t.example/token", client_id = "c", client_secret = {SECRET}, scope = "s" }}',
            ClientCredentials,
        ),
        (f'{{ kind = "oauth1", consumer_key = {SECRET}, consumer_secret = {SECRET}, token = {SECRET}, token_secret = {SECRET} }}', OAuth1),
        (f'{{ kind = "session", url = "https://erp.example/Login", body = "secret", secrets = {{ p = {SECRET} }} }}', Login),
    ],
)
def test_every_kind_of_credentials_is_read(folder: Folder, auth: str, kind: type) -> None:
    folder.write(more=f"auth = {auth}\n")
    made = folder.load()
    assert isinstance(made.auth, kind)
    assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('auth = { kind = "oauth2", token_url = "https://t.example", client_id = "c" }', "auth.client_secret: is needed"),
        (
            f'auth = {{ kind = "oauth2", token_url = "http://t.example", client_id = "c", client_secret = {SECRET} }}',
            "auth.token_url: would be sent unencrypted",
        ),
        (
            'auth = { kind = "oauth2", token_url = "https://t.example", client_id = "c", client_auth = "private_key_jwt" }',
            "auth.private_key: is needed",
        ),
        ('auth = { kind = "session", url = "https://erp.example/l", cookies = false }', "auth: keeps neither cookies nor a header"),
        ('auth = { kind = "session", url = "https://other.example/l" }', "auth.url: is on another host"),
        ('auth = { kind = "session", url = "https://erp.example/l", body = "{" }', "auth.body: line 1"),
        (
            'auth = { kind = "session", url = "https://erp.example/l", secrets = { p = "plain" } }',
            "auth.secrets.p: a secret may not stand in the file itself",
        ),
        ('client_cert = "secret"', "client_cert"),
        ('client_key = "secret"', "client_key: is the key of a client_cert, and there is none"),
        ("max_consecutive_auth_failures = 0", "max_consecutive_auth_failures: must be at least 1"),
    ],
)
def test_credentials_that_cannot_work_are_refused(folder: Folder, more: str, said: str) -> None:
    problems = folder.problems(more=more + "\n")
    assert len(problems) == 1
    assert problems[0].startswith(f"targets.erp.{said}")
    assert "s3cret" not in problems[0]


def test_a_client_certificate_with_its_key_is_read(folder: Folder) -> None:
    made = certificate(folder.path)
    folder.write(more=f'client_cert = "{made.pem.name}"\nclient_key = "{made.key.name}"\n')
    assert folder.load().client_certificate == (made.pem, made.key, None)
    (problem,) = folder.problems(more=f'client_cert = "{made.pem.name}"\n')
    assert problem.startswith("targets.erp.client_cert: ")
