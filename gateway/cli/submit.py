"""`gateway submit` and `gateway token`: submit a command for a vendor, and make a token for a caller of the command API."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
from urllib.parse import quote

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.arguments import Commands, Options, utf8
from gateway.cli.map import read_file
from gateway.cli.output import one_line, print_json, readable_json
from gateway.cli.running_gateway import Reply, is_running, send
from gateway.config.settings import load
from gateway.edge.request_headers import LONGEST_KEY, LONGEST_WAIT_S
from gateway.plugin.command_body import meaning
from gateway.service.assembly import Assembly
from gateway.service.operations import operator_name

_KEY = "cli-"


def register(commands: Commands) -> None:
    sent = commands.add(
        "submit",
        "submit a command for a vendor through the running gateway",
        submit,
        example="gateway submit pharmacy create_order order.json --wait 30",
    )
    sent.add_argument("source", type=utf8, metavar="SOURCE")
    sent.add_argument("command", type=utf8, metavar="COMMAND", help="a command of the source's connector; /openapi.json lists them")
    sent.add_argument("file", type=utf8, metavar="FILE", help="JSON body of the command; - reads the standard input")
    sent.add_argument("--key", type=_key, default=None, help="idempotency key; default: a digest of the command, so it runs once")
    sent.add_argument("--wait", type=_wait_s, default=None, metavar="SECONDS", help="wait for the vendor's answer, at most 60 s")
    made = commands.add(
        "token", "make a token for a caller that submits commands, and print its configuration", token, example="gateway token erp"
    )
    made.add_argument("caller", nargs="?", default="erp", type=utf8, metavar="NAME", help="default: erp")


def _key(text: str) -> str:
    if not 0 < len(text) <= LONGEST_KEY or not text.isascii() or not text.isprintable() or text != text.strip():
        raise argparse.ArgumentTypeError(f"must be 1 to {LONGEST_KEY} printable ASCII characters")
    return text


def _wait_s(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= LONGEST_WAIT_S):
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {LONGEST_WAIT_S}")
    return int(text)


def submit(options: Options) -> int:
    """Submit a command; 1 if it is refused, dead or held."""
    config, report = load(options.config)
    if report.tables & {"gateway"}:
        raise ConfigError(report.problems)
    body = read_file(options.file)
    if not is_running(config):
        raise GatewayError("the gateway does not run; start it to submit a command")
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": options.key or default_key(options.source, options.command, body),
        "X-Operator": quote(operator_name(), safe=" "),
        **({"Prefer": f"wait={options.wait}"} if options.wait is not None else {}),
    }
    path = f"/out/{quote(options.source, safe='')}/{quote(options.command, safe='')}"
    reply = asyncio.run(send(config, "POST", path, body, headers, timeout_s=(options.wait or 0) + 30.0))
    if options.json:
        print_json(reply.body)
    else:
        _print(reply)
    return 0 if reply.status in (200, 202) and reply.body.get("state") not in ("dead", "held") else 1


def default_key(source: str, command: str, body: bytes) -> str:
    """Derive a key from the command, so that submitting a file twice runs its command once."""
    try:
        content = meaning(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the gateway will answer what is wrong with it
        content = body
    return _KEY + hashlib.sha256(b"\0".join((source.encode(), command.encode(), content))).hexdigest()[:32]


def _print(reply: Reply) -> None:
    said = reply.body
    if reply.status not in (200, 202):
        for one in said.get("problems", ()):
            print(one_line(f"{one['path']}: {one['problem']}"), file=sys.stderr)
        if "problem" in said:
            print(one_line(f"gateway: {said['problem']}" + (f" ({said['id']})" if "id" in said else "")), file=sys.stderr)
        return
    before = ", submitted before; --key NAME submits it again" if "Idempotent-Replayed" in reply.headers else ""
    print(one_line(f"{said['id']}: {said['state']}{before}"))
    if said.get("error"):
        print(one_line(said["error"]), file=sys.stderr)
    if said.get("answer") is not None:
        print(readable_json(said["answer"]))


def summary(assembly: Assembly) -> str:
    """Return a line that names the callers of `[submit]`; empty if no source takes commands."""
    submit, commands = assembly.config.submit, sum(len(part.connector.commands()) for part in assembly.sources.values())
    if submit.callers:
        return f"submit.listen: {submit.listen} opens for {', '.join(submit.callers)}\n"
    there = f"submit.listen: stays closed, since no [submit.callers.NAME] is configured; the sources take {commands} commands\n"
    return there if commands else ""


def token(options: Options) -> int:
    """Make a token; it is printed once and stored nowhere."""
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    table = f'[submit.callers.{options.caller}]\ntoken_sha256 = "{digest}"\ncommands = ["SOURCE/*"]'
    if options.json:
        print_json({"token": made, "token_sha256": digest, "toml": table})
    else:
        print(f"The caller's token, which is shown only this once:\n\n    {made}\n\nIts table for {options.config}:\n\n{table}")
    return 0
