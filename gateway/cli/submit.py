"""`gateway submit` and `gateway token`: commands for a vendor from the command line, and a token for who hands them in otherwise."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
from urllib.parse import quote

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.map import read_file
from gateway.cli.output import one_line, print_json, readable_json
from gateway.cli.running_gateway import Heard, is_running, send
from gateway.config.settings import load
from gateway.plugin.command_body import meaning
from gateway.service.assembly import Assembly
from gateway.service.operations import operator_name

_KEY = "cli-"


def submit(options: argparse.Namespace) -> int:
    """Hand one in; 1 where it is refused, dead or held."""
    config, report = load(options.config)
    if report.tables & {"gateway"}:
        raise ConfigError(report.problems)
    body = read_file(options.file)
    if not is_running(config):
        raise GatewayError("the gateway does not run; a command is handed in at a running one")
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": options.key or default_key(options.source, options.command, body),
        "X-Operator": quote(operator_name(), safe=" "),
        **({"Prefer": f"wait={options.wait}"} if options.wait is not None else {}),
    }
    path = f"/out/{quote(options.source, safe='')}/{quote(options.command, safe='')}"
    heard = asyncio.run(send(config, "POST", path, body, headers, timeout_s=(options.wait or 0) + 30.0))
    if options.json:
        print_json(heard.said)
    else:
        _print(heard)
    return 0 if heard.status in (200, 202) and heard.said.get("state") not in ("dead", "held") else 1


def default_key(source: str, command: str, body: bytes) -> str:
    """The same for the same command, so that a file that is handed in twice is done once."""
    try:
        said = meaning(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # it will be told what is wrong with it
        said = body
    return _KEY + hashlib.sha256(b"\0".join((source.encode(), command.encode(), said))).hexdigest()[:32]


def _print(heard: Heard) -> None:
    said = heard.said
    if heard.status not in (200, 202):
        for one in said.get("problems", ()):
            print(one_line(f"{one['path']}: {one['problem']}"), file=sys.stderr)
        if "problem" in said:
            print(one_line(f"gateway: {said['problem']}" + (f" ({said['id']})" if "id" in said else "")), file=sys.stderr)
        return
    before = ", handed in before; --key NAME hands it in once more" if "Idempotent-Replayed" in heard.headers else ""
    print(one_line(f"{said['id']}: {said['state']}{before}"))
    if said.get("error"):
        print(one_line(said["error"]), file=sys.stderr)
    if said.get("answer") is not None:
        print(readable_json(said["answer"]))


def summary(assembly: Assembly) -> str:
    """Who may hand in commands, in a line; nothing where there is nothing to hand in."""
    submit, commands = assembly.config.submit, sum(len(part.connector.commands()) for part in assembly.sources.values())
    if submit.callers:
        return f"submit.listen: {submit.listen} is opened for {', '.join(submit.callers)}\n"
    there = f"submit.listen: stays closed, for there is no [submit.callers.NAME]; {commands} commands could be handed in\n"
    return there if commands else ""


def token(options: argparse.Namespace) -> int:
    """Make a token; it is printed once and kept nowhere."""
    made = secrets.token_urlsafe(32)
    digest = hashlib.sha256(made.encode()).hexdigest()
    table = f'[submit.callers.{options.caller}]\ntoken_sha256 = "{digest}"\ncommands = ["SOURCE/*"]'
    if options.json:
        print_json({"token": made, "token_sha256": digest, "toml": table})
    else:
        print(f"The caller's token, which is shown this once:\n\n    {made}\n\nIts table for {options.config}:\n\n{table}")
    return 0
