"""No command and no route takes an undelivered order away without a person, a reason and an audit row.

What there is to walk over is asked of the program itself: a new command, action, route or listener that stands in none of the
tables below fails here, and whoever adds it says in its table how it is called.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import importlib
import inspect
import json
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.cli import main as cli
from gateway.edge.server import Listener
from gateway.service.command_api import CommandApi
from gateway.service.control_socket import ControlSocket, socket_path
from gateway.service.gateway import Gateway
from gateway.service.operations import Operations, operator_name
from gateway.store.sqlite import SqliteStore
from tests import acme
from tests.conftest import SECRET, config_text

from .undelivered_orders import INBOX, OUTBOX, audited, stock, undelivered

NOBODY = "http://127.0.0.1:1/orders"
TOKEN = "constructed-token-do-not-use"
CALLER = f"""
[submit]
listen = "127.0.0.1:0"
[submit.callers.erp]
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
commands = ["pharmacy/*"]
[sources.pharmacy]
connector = "pharma"
settings.base_url = "http://127.0.0.1:1"
"""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROWS = [f"{queue}:{n}" for queue in ("inbox", "outbox", "ack", "submit") for n in range(1, 25)]
EVENTS = [f"acme/{name}" for name in (*INBOX, *OUTBOX, "out-behind", "out-held@2", "nobody")]

# How each command is called, as often as it has something to take. ORDER is a document, COPY a backup made before, NEW a file.
COMMANDS: dict[str, list[list[str]]] = {
    "serve": [],  # the routes below are walked on one that runs
    "demo": [],  # see test_the_demo_is_told_of_no_configuration
    "check": [[], ["--online"]],
    "schema": [[]],
    "status": [[], ["--json"]],
    "sources": [[]],
    "plugins": [[]],
    "inbox": [[], ["--status", "dead"]],
    "outbox": [[], ["--status", "unknown"]],
    "orders": [[]],
    "submissions": [[], ["--status", "dead"]],
    "submit": [["acme", "nothing", "ORDER"]],
    "token": [[], ["other"]],
    "show": [["acme/out-dead", "--body"], ["inbox:1"]],
    "map": [["--source", "acme", "ORDER"]],
    "replay": [
        [*ROWS, "--yes"],
        [*EVENTS, "--yes"],
        ["--status", "dead"],
        ["--status", "dead", "--yes"],
        ["--status", "dead", "--dry-run"],
    ],
    "release": [[*ROWS, "--yes"], [*EVENTS, "--yes"], ["--status", "held"], ["--source", "acme", "--older-than", "0s", "--yes"]],
    "resend": [[*ROWS, "--yes", "--reason", "x"], [*EVENTS, "--yes", "--reason", "x"]],
    # Without a reason, without a yes, or only looking; see test_drop_takes_a_reason_and_leaves_an_audit_row.
    "drop": [ROWS, [*ROWS, "--reason", "x"], ["--status", "dead", "--reason", "x"], ["--status", "ready", "--reason", "x", "--dry-run"]],
    "purge": [["--older-than-days", "0"], []],
    "resume": [["acme"]],
    "clock": [["confirm"]],
    "reload": [[]],
    "migrate": [[]],
    "backup": [["NEW"]],
    "restore": [["COPY"], ["--finish"]],
    "target hold": [["erp", "--reason", "x"]],
    "target release": [["erp"]],
    "target move": [["gone", "erp"], ["erp", "erp", "--yes"], ["gone", "erp", "--same-erp", "--dry-run"]],
    "target reconcile": [["erp"]],
    "target check": [["erp"], ["erp", "--order", "ORDER"]],
    "target map": [["erp", "ORDER"]],
    "target send": [["erp", "ORDER", "--dry-run"], ["erp", "ORDER"]],
}
# What the control socket is asked for; `drop` is asked for without a reason, and without a person.
ACTIONS: dict[str, list[dict[str, Any]]] = {
    "replay": [{"keys": ROWS, "yes": True}, {"keys": EVENTS, "yes": True}, {"status": "dead", "yes": True}],
    "release": [{"keys": ROWS, "yes": True}, {"keys": EVENTS, "yes": True}, {"source": "acme", "yes": True}],
    "resend": [{"keys": ROWS, "yes": True, "reason": "x"}],
    "drop": [
        {"keys": ROWS},
        {"keys": ROWS, "reason": "  ", "yes": True},
        {"source": "acme", "reason": "x", "yes": True},
        {"keys": ROWS, "who": "", "reason": "x"},
        {"keys": ROWS, "who": " ", "reason": "x"},
    ],
    "resume": [{"name": "acme"}],
    "target-hold": [{"name": "erp"}],
    "target-release": [{"name": "erp"}],
    "target-move": [{"name": "gone", "to": "erp"}, {"name": "gone", "to": "erp", "same_erp": True, "dry_run": True}],
    "finish-restore": [{}],
    "purge": [{"days": 0}],
    "confirm-clock": [{}],
    "reload": [{}],
}
READS = ["/api/status", "/api/orders", "/api/{queue}"]
# Listeners by their attribute of `Gateway`; the vendors' side is one function, whatever the path.
ROUTES: dict[str, list[str]] = {
    "vendors": ["/", "/in/acme", "/in/acme/out-dead", "/in/other", "/out/acme", "/api/inbox", "/control"],
    "pages": ["/", "/glossary", "/style.css", "/icon.svg", "/healthz", "/readyz", "/metrics", *READS],
    "_control.listener": ["/control", "/out/{tail}", *READS],
    "command_api.listener": ["/openapi.json", "/out/pharmacy/create_order", "/out/s1", "/out/s1/pickup-code.svg", "/in/acme", "/control"],
}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    asyncio.run(stock(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path, stocked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration around a copy of the stock, with `acme` as if it were installed."""
    info = tmp_path / "site" / "order_gateway_acme-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: order-gateway-acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gateway.connectors]\nacme = tests.acme\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "gateway.toml").write_text(config_text(NOBODY))
    (tmp_path / "order.json").write_text(json.dumps({"order": {"order_ref": "o1", "lines": []}}))
    shutil.copytree(stocked, tmp_path / "data")
    return tmp_path


def leaves(parser: argparse.ArgumentParser, above: str = "") -> Iterator[str]:
    """Every command of the program, `target hold` as one."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield above
    for action in below:
        for name, made in action.choices.items():
            yield from leaves(made, f"{above} {name}".strip())


def actions() -> set[str]:
    """Every action that `Operations` carries out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(Operations.__call__)))
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.MatchValue)]
    return {str(node.value) for node in values if isinstance(node, ast.Constant)}


def command(folder: Path, name: str, arguments: list[str]) -> int:
    """Run it, as a person does; the exit code."""
    files = {"ORDER": folder / "order.json", "COPY": folder / "copy.db", "NEW": folder / "new.db"}
    try:
        return cli.main([*name.split(), "--config", str(folder / "gateway.toml"), *(str(files.get(one, one)) for one in arguments)])
    except SystemExit as end:
        return int(end.code or 0)


def still(folder: Path, before: dict[str, str]) -> dict[str, str | None]:
    """What was undelivered before, as it is now; what is sent again may have come to it."""
    there = undelivered(folder / "data")
    return {name: there.get(name) for name in before}


def walk_over_command(folder: Path, name: str) -> None:
    """Nothing undelivered is less than before, whatever the command said."""
    before = undelivered(folder / "data")
    assert len(before) == 17
    for arguments in COMMANDS[name]:
        if "COPY" in arguments:
            assert command(folder, "backup", ["COPY"]) == 0
        command(folder, name, arguments)
        assert still(folder, before) == before, (name, arguments)


# --- the tables are whole


def test_every_command_is_in_the_table() -> None:
    assert set(leaves(cli._parser())) == COMMANDS.keys()


def test_every_action_is_in_the_table() -> None:
    assert actions() == ACTIONS.keys()


async def test_every_listener_and_route_is_in_the_table(start: Any, erp: Any) -> None:
    running = await start(erp.url, more=CALLER)
    assert listeners(running.gateway) == {name: sorted(set(paths)) for name, paths in ROUTES.items()}


def listeners(gateway: Gateway) -> dict[str, list[str]]:
    """Every address that is listened on, with the paths of its routes."""
    found = {}
    inner = {
        f"{name}.{more}": one
        for name, part in vars(gateway).items()
        if isinstance(part, CommandApi | ControlSocket)
        for more, one in vars(part).items()
    }
    for name, value in {**vars(gateway), **inner}.items():
        if isinstance(value, Listener):
            answers = value._answers
            routes = answers.router.routes() if isinstance(answers, web.Application) else None
            # Where one function answers everything, the table says what it is asked.
            paths = ROUTES.get(name, []) if routes is None else [_path(route) for route in routes]
            found[name] = sorted(set(paths))
    return found


def _path(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


# --- commands


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_takes_an_undelivered_order_away(folder: Path, name: str) -> None:
    walk_over_command(folder, name)


def test_drop_takes_a_reason_and_leaves_an_audit_row(folder: Path) -> None:
    before = undelivered(folder / "data")
    assert command(folder, "drop", ["acme/out-dead", "--reason", " "]) == 1
    assert undelivered(folder / "data") == before
    assert audited(folder / "data") == []
    assert command(folder, "drop", ["acme/out-dead", "--reason", "ordered by telephone"]) == 0
    assert undelivered(folder / "data") == {name: state for name, state in before.items() if name != "out-dead@1"}
    assert audited(folder / "data") == [("drop", operator_name(), "ordered by telephone")]


def test_the_demo_is_told_of_no_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes a data directory of its own, and cannot know of ours."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("gateway.testing.demo.main", lambda **options: told.append(options) or 0)
    assert command(folder, "demo", ["--once"]) == 0
    assert told == [{"once": True}]


# --- routes


async def asked(running: Any, base: str, session: aiohttp.ClientSession, path: str) -> None:
    """Every method, with everything in it that could be taken for an order to drop something."""
    target = path.replace("{queue}", "inbox").replace("{tail}", "s1")
    body = json.dumps({"action": "drop", "who": "somebody", "keys": ROWS}).encode()
    headers = {"X-Acme-Signature": acme.sign(SECRET, body), "Content-Type": "application/json", "Idempotency-Key": "k"}
    headers["Authorization"] = f"Bearer {TOKEN}"
    for method in METHODS:
        for query in ("", "?action=drop&keys=inbox:1&status=dead&_method=DELETE"):
            async with session.request(method, base + target + query, data=body, headers=headers) as answer:
                assert answer.status < 500 or path == "/readyz", (method, path)
                await answer.read()


@pytest.mark.parametrize("listener", ROUTES)
async def test_no_route_takes_an_undelivered_order_away(start: Any, folder: Path, listener: str) -> None:
    before = undelivered(folder / "data")
    running = await start(NOBODY, more=CALLER)
    connector = aiohttp.UnixConnector(path=str(socket_path(folder / "data"))) if listener == "_control.listener" else aiohttp.TCPConnector()
    base = {"vendors": running.vendors_url, "pages": running.admin_url, "_control.listener": "http://gateway"}.get(listener)
    if base is None:
        base = f"http://127.0.0.1:{running.gateway.command_api.listener.port}"
    async with aiohttp.ClientSession(connector=connector) as session:
        for path in ROUTES[listener]:
            await asked(running, base, session, path)
            assert still(folder, before) == before, path
    assert audited(folder / "data") == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_no_action_takes_an_undelivered_order_away(start: Any, folder: Path, action: str) -> None:
    before = undelivered(folder / "data")
    await start(NOBODY)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(socket_path(folder / "data")))) as session:
        for arguments in ACTIONS[action]:
            async with session.post("http://gateway/control", json={"action": action, "who": "anna", **arguments}) as answer:
                assert answer.status == (400 if action == "drop" else 200), arguments
            assert still(folder, before) == before, arguments


# --- known-bad mutants


async def test_known_bad_mutant_a_command_that_nobody_walks_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cli._parser

    def with_one_more() -> argparse.ArgumentParser:
        parser = whole()
        (sub,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        sub.add_parser("sweep")
        return parser

    monkeypatch.setattr(cli, "_parser", with_one_more)
    with pytest.raises(AssertionError):
        test_every_command_is_in_the_table()


async def test_known_bad_mutant_a_route_that_nobody_walks_over_is_found(start: Any, erp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.web.admin import Admin

    whole = Admin.add_reads

    def with_one_more(self: Admin, application: web.Application) -> None:
        whole(self, application)
        application.router.add_delete("/api/orders/{ref}", self.api_orders)

    monkeypatch.setattr(Admin, "add_reads", with_one_more)
    with pytest.raises(AssertionError):
        await test_every_listener_and_route_is_in_the_table(start, erp)


FAULTS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "purge takes dead letters with it": ("purge", "redact_bodies", lambda _: "UPDATE inbox SET document = NULL WHERE status = 'dead'"),
    "replay gives up what is unknown": ("replay", "replay", lambda _: "UPDATE outbox SET status = 'done' WHERE status = 'unknown'"),
    "migrate forgets what was under way": ("migrate", "open", lambda _: "DELETE FROM outbox WHERE attempts > 1 OR status = 'held'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_known_bad_mutant_a_command_that_takes_an_order_is_found(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, method, sql = FAULTS[fault]
    whole = getattr(SqliteStore, method)

    async def bad(self: SqliteStore, *arguments: Any, **more: Any) -> Any:
        said = await whole(self, *arguments, **more)
        await self._run(lambda db: db.execute(sql(db)))
        return said

    monkeypatch.setattr(SqliteStore, method, bad)
    with pytest.raises(AssertionError):
        walk_over_command(folder, name)
