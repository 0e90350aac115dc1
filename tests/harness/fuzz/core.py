"""The core's own parsers and verifiers: mappings, configuration, what an ERP answers, SignalR, keys and proofs."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from gateway import BearerAuth, QueryAuth, Subscription
from gateway.api.errors import ConfigError, MappingError, UnknownKey
from gateway.api.jwks import read_keys
from gateway.api.order import read_order
from gateway.api.strict_json import read_json
from gateway.api.urls import Url
from gateway.api.webhook_auth import BearerToken, SignedToken, UserAndPassword
from gateway.config.positions import NotToml, key_lines
from gateway.config.positions import read as read_toml
from gateway.config.settings import load
from gateway.edge import negotiation
from gateway.edge.reconnect import Disconnected
from gateway.edge.signalr import BadRecord, Session, decode
from gateway.mapping import engine
from gateway.mapping.fields import to_order
from gateway.outbound.answer import Answer, date_of, retry_after_s
from gateway.outbound.oauth2 import _code, _reason
from gateway.targets.classify import by_rule, classify, classify_unkeyed
from gateway.targets.examples import read_sample
from gateway.targets.expressions import Jsonata, answer_document
from gateway.targets.preflight import Ended as Over
from gateway.targets.preflight import captured, read
from gateway.targets.templates import Template, Unfilled
from gateway.testing import ManualClock
from tests.engine.unkeyed import LOOKUP, message, settings

from .target import finish, is_plain, parts, target, text
from .vendors import envelope, secret

AT = datetime(2024, 3, 31, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


def files(*patterns: str) -> list[bytes]:
    """Files of this repository."""
    return [file.read_bytes() for pattern in patterns for file in sorted(ROOT.glob(pattern))]


# --- JSON, mappings


@target("json.read", lambda: files("plugins/*/samples/*.json"), ValueError)
def json_read(data: bytes) -> None:
    """What it reads, it can write again."""
    json.dumps(read_json(data), ensure_ascii=False).encode()


@target("orders.previous", lambda: [message("o1", articles=2), *files("etc/targets/examples/*.json")])
def orders_previous(data: bytes) -> None:
    """The stored message of an order, which another version may have written."""
    read_order(data)


@target("mapping.text", lambda: [t + b"\0{}" for t in files("etc/targets/*.jsonata", "plugins/*/*/examples/*.jsonata")], ValueError)
def mapping_text(data: bytes) -> None:
    source, document = parts(data, 2)
    made = engine.compiled(text(source)).evaluate(read_json(document or b"{}"))
    assert is_plain(made)


@cache
def _examples() -> list[engine.Expression]:
    return [engine.compiled(t.decode()) for t in files("plugins/*/*/examples/*.jsonata")]


@target(
    "mapping.document",
    lambda: files("plugins/scalepoint/samples/*.json", "plugins/supercat/samples/*.json"),
    MappingError,
    engine.EvaluationError,
)
def mapping_document(data: bytes) -> None:
    try:
        document = read_json(data)
    except ValueError:
        return
    for expression in _examples():
        to_order(expression.evaluate(document), currency="EUR")


@target("mapping.fields", lambda: files("plugins/*/samples/*.order.json"), MappingError)
def mapping_fields(data: bytes) -> None:
    try:
        document = read_json(data)
    except ValueError:
        return
    to_order(document, currency="EUR")


# --- configuration


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@target("config.load", lambda: files("etc/gateway.toml", "etc/sources/*.toml", "etc/targets/*.toml"), ConfigError)
def config_load(data: bytes) -> None:
    file = _folder() / "gateway.toml"
    file.write_bytes(data)
    _, report = load(file)
    assert all(isinstance(problem, str) for problem in report.problems)


@target("config.toml", lambda: files("etc/gateway.toml", "etc/sources/*.toml", "etc/targets/*.toml"), NotToml, UnicodeDecodeError)
def config_toml(data: bytes) -> None:
    said = data.decode()
    read_toml(said)
    key_lines(said)


# --- targets


ANSWERS = [
    b"200\0Retry-After: 5\0" + b'{"id": 7, "number": "SO-1", "value": [{"id": 7, "number": "SO-1"}]}',
    b"503\0Retry-After: Sun, 31 Mar 2024 12:00:30 GMT\0busy",
    b"429\0X-RateLimit-Reset: 1711886500\0",
    b'422\0Content-Type: text/html\0{"error": {"code": "x", "message": ["no"]}}',
]
RULES = """
[[classify]]
where = "body.error.code = 'x'"
message = "body.error.message"
class = "refused"
[[classify]]
status = "400-499"
header = { Content-Type = "html" }
class = "retry"
"""


@cache
def _target() -> Any:
    return settings(LOOKUP + RULES, "https://erp.example/orders")


def answer(data: bytes) -> Answer:
    """A status, header lines and a body, with a NUL behind the first two."""
    status, lines, body = parts(data, 3)
    headers = {}
    for line in text(lines).split("\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    number = int(status[:3]) if status[:3].isdigit() and len(status) >= 3 else 200
    return Answer(status=number, headers=headers, body=body)


@target("target.answer", lambda: ANSWERS, MappingError)
def target_answer(data: bytes) -> None:
    said, made = answer(data), _target()
    assert classify(said, AT).meaning
    for creates in (True, False):
        classify_unkeyed(said, AT, creates=creates, can_look=creates)
    assert retry_after_s(said.headers, AT) is None or 0 <= (retry_after_s(said.headers, AT) or 0) < 1e9
    date_of(said.headers)
    document = answer_document(said)
    by_rule(made.classify, said, document, AT)
    for source in (made.capture.erp_id, made.capture.erp_number):
        captured(source, document)


@target("target.look", lambda: ANSWERS, MappingError, Over)
def target_look(data: bytes) -> None:
    said = answer(data)
    read(_target().preflight, answer_document(said), said)


@target("target.expression", lambda: [b'body.value[0].id\0{"value": [{"id": 1}]}', b"$odata(body.x)\0{}"], ValueError, MappingError)
def target_expression(data: bytes) -> None:
    source, body = parts(data, 2)
    Jsonata.parse(text(source)).evaluate(answer_document(Answer(status=200, headers={}, body=body)))


@target("target.template", lambda: [b"{base}/o('{ref|odata}')?x={ref|json}\0o'1", b"{ref|path}/{{}}\0../x"], ValueError)
def target_template(data: bytes) -> None:
    """What an order says stays in its place."""
    source, value = parts(data, 2)
    template = Template.parse(text(source))
    values, constants = {"ref": text(value)}, {"base": "https://erp.example"}
    list(template.problems(["base"], ["ref"]))
    list(template.breakouts(["base"]))
    for place in ("path", "query", "header"):
        try:
            filled = template.fill(place, values, constants)
            assert place != "header" or not {"\r", "\n", "\0"} & set(filled)
        except Unfilled:
            pass
    filled = template.fill_url(values, constants)
    assert filled.isascii()
    assert filled.isprintable()
    assert " " not in filled


@target("target.sample", lambda: [message("o1", articles=2), *files("etc/targets/examples/*.json")], ValueError)
def target_sample(data: bytes) -> None:
    """A file that an operator gives to `gateway target map`."""
    read_sample(data)


# --- SignalR


class Socket:
    """A WebSocket that says what it was given, message by message, and hangs up."""

    def __init__(self, data: bytes) -> None:
        self._messages = iter(parts(data, 4))

    async def send(self, _: str) -> None:
        return None

    async def receive(self) -> bytes:
        from gateway.outbound.websocket import Closed

        for said in self._messages:
            return said
        raise Closed(1000, "")


class Listens:
    def on_connected(self) -> None:
        return None

    def on_activity(self) -> None:
        return None

    async def on_call(self, name: str, arguments: bytes) -> None:
        assert isinstance(name, str)
        assert isinstance(arguments, bytes)

    async def on_bad_record(self, record: bytes, reason: str) -> None:
        assert isinstance(record, bytes)
        reason.encode()


RECORDS = [b'{"type":1,"target":"OrderStateChanged","arguments":["o1",2]}', b'{"type":6}', b'{"type":7,"error":"x","allowReconnect":true}']


@target("signalr.record", lambda: RECORDS, BadRecord)
def signalr_record(data: bytes) -> None:
    decode(data)


@target("signalr.session", lambda: [b"{}\x1e" + record + b"\x1e\0" + record + b"\x1e" for record in RECORDS], Disconnected)
def signalr_session(data: bytes) -> None:
    subscription = Subscription(url="https://hub.example/x", auth=BearerAuth(token=secret("key")))
    session = Session(subscription, Listens(), None, ManualClock())  # type: ignore[arg-type]
    socket: Any = Socket(data)
    finish(session._handshake(socket))
    finish(session._read(socket))


NEGOTIATIONS = [
    b'{"connectionId":"a","connectionToken":"b","negotiateVersion":1,"availableTransports":[{"transport":"WebSockets"}]}',
    b'{"url":"https://other.example/hub?x=1","accessToken":"t"}\0{"connectionId":"a","availableTransports":[{"transport":"WebSockets"}]}',
    b'{"error":"no"}',
]


@target("signalr.negotiation", lambda: NEGOTIATIONS, Disconnected)
def signalr_negotiation(data: bytes) -> None:
    bodies = parts(data, 3)

    async def exchange(*_: Any, **__: Any) -> Answer:
        return Answer(status=200, headers={}, body=bodies.pop(0) if bodies else b"{}")

    whole, negotiation.exchange = negotiation.exchange, exchange  # type: ignore[attr-defined]
    try:
        subscription = Subscription(url="https://hub.example/x", auth=QueryAuth(name="code", value=secret("key")))
        url, headers = finish(negotiation.Negotiation(subscription, None, ManualClock()).run())  # type: ignore[arg-type]
    finally:
        negotiation.exchange = whole  # type: ignore[attr-defined]
    assert url.startswith("https://")
    assert not any("\n" in value for value in headers.values())


# --- keys and proofs


KEY = b'{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",\
"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}'


@target("keys.jwks", lambda: [KEY], ValueError)
def keys_jwks(data: bytes) -> None:
    read_keys(data)


PROOFS = [
    b"Bearer constructed",
    b"Basic dmVuZG9yOnB3",
    b"Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJpIiwiYXVkIjoidXMiLCJleHAiOjF9.AA",
]


@target("keys.webhook_auth", lambda: PROOFS, UnknownKey)
def keys_webhook_auth(data: bytes) -> None:
    """No proof that was made up is good, and none makes a verifier raise."""
    header = envelope(b"{}", (b"Authorization", data))
    token = SignedToken(issuer="i", audience="us", jwks_url=Url("https://i.example/jwks"))
    for auth in (BearerToken(token=secret("the-real-one")), UserAndPassword(username="vendor", password=secret("the-real-one")), token):
        assert auth.admits(header, AT, read_keys(KEY)) is False


@target("keys.pem", lambda: [b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n\0-----BEGIN CERTIFICATE-----\n"], ValueError)
def keys_pem(data: bytes) -> None:
    from gateway.api.client_assertion import Signer

    key, certificate = parts(data, 2)
    Signer(text(key), text(certificate))


@target("keys.token_answer", lambda: [b'{"error":"invalid_client","error_description":"no"}', b'{"access_token":"t","expires_in":1}'])
def keys_token_answer(data: bytes) -> None:
    assert isinstance(_code(data), str)
    assert isinstance(_reason(data), str)


@target("urls", lambda: [b"https://erp.example:8443/a?b=c#d", b"http://[::1]/"], ValueError)
def urls(data: bytes) -> None:
    Url.parse(text(data))
