"""`gateway show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.api.errors import GatewayError
from gateway.cli.access import explained
from gateway.cli.arguments import KEYS, Commands, Options, utf8
from gateway.cli.output import one_line, plain, print_json
from gateway.store.sqlite.reader import as_text
from gateway.store.sqlite.row_names import NOTHING

_BODIES = ("body", "fetched", "answer")
_NAMES = {"outbox": "target", "acknowledgements": "stage", "submit": "command"}


def register(commands: Commands) -> None:
    shown = commands.add(
        "show", "show all that is stored of an event, a message, an order, a command or a row", show, example="gateway show number:PO-1"
    )
    shown.add_argument("key", type=utf8, metavar="KEY", help=KEYS)
    shown.add_argument("--body", action="store_true", help="print stored documents and messages too; they may contain personal data")


def show(options: Options) -> int:
    """Show all that is stored of a key. Raises GatewayError where there is nothing."""
    rows = explained(options, lambda reader, **sides: reader.show(options.key, **sides))
    for row in rows:
        bodies = {name: row.pop(name) for name in _BODIES if name in row}
        if options.body:
            row.update({name: as_text(body) for name, body in bodies.items()})
    if not rows:
        raise GatewayError(f"{one_line(options.key)}: {NOTHING}")
    if options.json:
        print_json(rows)
    else:
        print("\n\n".join("\n".join(_lines(row)) + _texts(row) for row in rows))
    return 0


def _lines(row: dict[str, Any]) -> Iterator[str]:
    yield f"{row['row']}  {row['key']}  {row['status']}" + (f" ({row['outcome']})" if row["outcome"] else "")
    for name, value in _facts(row):
        if value is not None:
            yield f"    {name:10} {one_line(value)}"
    for tried in row["tried"]:
        first, *more = str(tried["detail"] or "").split("\n")  # the differences from the version before have lines of their own
        answer = " ".join(one_line(part) for part in (tried["http_status"], first) if part)
        yield f"    try {tried['attempt']:<6} {tried['at']}  {tried['outcome']}  {tried['duration_ms']} ms  {answer}".rstrip()
        for line in more:
            yield f"    {'':10} {one_line(line)}"
    for decided in row["decided"]:
        yield f"    decided    {decided['at']}  {decided['action']} by {one_line(decided['who'])}: {one_line(decided['reason'] or '-')}"


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("source", "order_ref", "door"):
        yield name, row.get(name)
    if row["queue"] in _NAMES:
        yield _NAMES[row["queue"]], row["name"]
    yield "kind", row.get("kind")
    yield "caller", row.get("caller")
    yield "arrived", row["at"]
    yield "due", row["due_at"]
    yield "attempts", row["attempts"]
    yield "ERP order", " ".join(filter(None, (row.get("erp_number"), row.get("erp_id") and f"({row['erp_id']})"))) or None
    for name in ("codes", "reason", "waits"):
        yield name, row.get(name)


def _texts(row: dict[str, Any]) -> str:
    return "".join(f"\n\n{plain(row[name])}" for name in _BODIES if row.get(name))
