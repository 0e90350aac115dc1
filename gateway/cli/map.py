"""`gateway map` and `gateway schema`: preview the order that a source makes of a saved document, and describe messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.errors import ConfigError, GatewayError, Hold, Ignore, MappingError
from gateway.api.messages import Event
from gateway.api.order import Order, encode, json_schema
from gateway.cli.arguments import Commands, Options, utf8
from gateway.cli.output import one_line, print_json, readable_json
from gateway.mapping import missing_fields
from gateway.service.assembly import assemble_connector

_NAME = "preview"
_CORES = ("order_ref", "revision")


class Preview(Struct, frozen=True, kw_only=True):
    """Result of a preview: the order, its problems or the reason why there is none, and a remark of the connector."""

    order: Order | None = None
    problems: tuple[str, ...] = ()
    remark: str | None = None


def register(commands: Commands) -> None:
    made = commands.add(
        "map",
        "print the canonical fields that a source makes of a saved document; exit 1 if it lacks any that every ERP needs",
        preview,
        example="gateway map --source claims order.json",
    )
    made.add_argument("--source", type=utf8, required=True, metavar="NAME")
    made.add_argument("file", type=utf8, metavar="FILE", help="one document as the vendor sends it; - reads the standard input")
    commands.add("schema", "print the JSON Schema of the messages that targets receive", schema, json=False)


def schema(_: Options) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


def preview(options: Options) -> int:
    """Print the order; 1 if there is none, or if it lacks a field that every ERP needs."""
    document = read_file(options.file)
    connector = assemble_connector(options.config, options.source)
    try:
        made = _complete(connector.normalize(Event(key=_NAME, order_ref=_NAME), document))
    except Hold as hold:
        made = _complete(hold.order, remark=f"it would be held: {hold.reason}")
    except Ignore as ignored:
        made = Preview(problems=(f"nothing would be sent: {ignored.reason}",))
    except GatewayError as error:
        made = Preview(problems=_problems(error))
    fields = None if made.order is None else _fields(made.order)
    if options.json:
        print_json({"order": fields, "problems": made.problems, "remark": made.remark})
        return 1 if made.problems else 0
    if fields is not None:
        print(readable_json(fields))
    for line in (*made.problems, *([made.remark] if made.remark else ())):
        print(one_line(line), file=sys.stderr)
    return 1 if made.problems else 0


def _complete(order: Order | None, remark: str | None = None) -> Preview:
    if order is None:
        return Preview(problems=("there is no order in it",), remark=remark)
    return Preview(order=order, problems=tuple(missing_fields(order)), remark=remark)


def _problems(error: BaseException) -> tuple[str, ...]:
    """Return each problem of a mapping; a connector may have chained it to an exception of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MappingError):
            return cause.problems
        cause = cause.__cause__
    return (str(error),)


def _fields(order: Order) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(encode(order))
    return {name: value for name, value in fields.items() if name not in _CORES}


def read_file(file: str) -> bytes:
    """Return the contents of a file, or of the standard input for `-`. Raises ConfigError."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise ConfigError([f"{one_line(file)}: cannot be read: {getattr(error, 'strerror', error)}"]) from error
