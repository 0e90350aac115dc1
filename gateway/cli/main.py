"""The command `gateway` (CONTRACT section 8). Exit codes: 0 done, 1 failed, 2 wrong configuration or usage."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import __version__
from gateway.api.errors import ConfigError, GatewayError
from gateway.cli import backup as copy_commands
from gateway.cli import check as check_commands
from gateway.cli import commands
from gateway.cli import decide as decide_commands
from gateway.cli import map as preview
from gateway.cli import plugins as plugin_commands
from gateway.cli import submit as submit_commands
from gateway.cli import target as target_commands
from gateway.config.settings import DEFAULT_PATH
from gateway.edge.request_headers import LONGEST_KEY, LONGEST_WAIT_S
from gateway.log import Form, set_up
from gateway.service.systemd import logs_to_journal
from gateway.store.row_names import Queue, statuses_of

KEYS = "inbox:17, outbox:17, submit:17, ack:17, message:KEY, event:SOURCE/KEY, order:SOURCE/ORDER_REF, number:PO-1, or a text for any"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    options.config = options.config.absolute()
    try:
        return int(options.run(options) or 0)
    except ConfigError as error:
        _complain(*error.problems)
        return 2
    except GatewayError as error:
        _complain(f"gateway: {error}")
        return 1
    except PermissionError as error:
        _complain(f"gateway: {error.filename}: permission denied; run this as root (sudo) or as the service's user")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(*problems: str) -> None:
    mark = "<3>" if logs_to_journal() else ""
    for problem in problems:
        print(mark + problem.replace("\n", f"\n{mark}"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="Orders from vendors' clouds into the ERP, at least once.")
    parser.add_argument("--version", action="version", version=f"order-gateway {__version__}")
    parser.set_defaults(config=DEFAULT_PATH)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help=f"default {DEFAULT_PATH}")
    shows = argparse.ArgumentParser(add_help=False, parents=[common])
    shows.add_argument("--json", action="store_true", help="print JSON")
    sub = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, help: str, run: object, parent: argparse.ArgumentParser = shows) -> argparse.ArgumentParser:
        made = sub.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", parents=[parent])
        made.set_defaults(run=run)
        return made

    serve = add("serve", "run the gateway", _serve, common)
    serve.add_argument("--new-store", action="store_true", help="begin with nothing where the data directory has lost its database")
    serve.add_argument("--log", choices=["json", "plain"], help="default: plain at a terminal, else json")
    serve.add_argument("--log-level", choices=["debug", "info", "warning"], default="info")
    check = add("check", "check the configuration and report every problem", check_commands.check, common)
    check.add_argument("--online", action="store_true", help="also sign in everywhere; sends no order")
    add("schema", "print the JSON Schema of the messages that targets receive", commands.schema, common)
    add("status", "how the gateway is doing", commands.status)
    add("sources", "the configured sources and their doors", commands.sources)
    listed = add("plugins", "the installed connectors, and which sources use them", plugin_commands.plugins)
    listed.add_argument("--load", action="store_true", help="import each in a process of its own: its doors, or what is wrong with it")
    queues: dict[Queue, str] = {"inbox": "inbox", "outbox": "outbox", "submit": "submissions"}
    for queue, name in queues.items():
        listing = add(name, f"the newest {name}" if queue == "submit" else f"the newest rows of the {name}", commands.listing)
        listing.set_defaults(queue=queue)
        listing.add_argument("--status", choices=statuses_of(queue))
        listing.add_argument("--target" if queue == "outbox" else "--source", dest="name", type=_text, metavar="NAME")
        listing.add_argument("--limit", type=_count, default=50)
    orders = add("orders", "the newest orders and where their newest message is", commands.orders)
    orders.add_argument("--source", type=_text, metavar="NAME")
    orders.add_argument("--limit", type=_count, default=50)
    show = add("show", "everything known of an event, a message, a submission or a row", commands.show)
    show.add_argument("key", type=_text, metavar="KEY", help=KEYS)
    show.add_argument("--body", action="store_true", help="print stored documents and messages too; they can hold personal data")
    shown = add("map", "what a source's mapping makes of a saved document, as canonical fields", preview.preview)
    shown.add_argument("--source", type=_text, required=True, metavar="NAME")
    shown.add_argument("file", type=_text, metavar="FILE", help="one document as the vendor sends it; - reads it from the standard input")
    _add_decisions(add)
    purge = add("purge", "erase the bodies of what is done; keys stay", commands.purge)
    purge.add_argument("--older-than-days", type=_days, default=None, metavar="DAYS", help="default: store.keep_bodies_days")
    resume = add("resume", "open a source's doors again and ask at once", commands.resume)
    resume.add_argument("source", type=_text, metavar="SOURCE")
    submit = add("submit", "hand in a command for a vendor at the running gateway", submit_commands.submit)
    submit.add_argument("source", type=_text, metavar="SOURCE")
    submit.add_argument("command", type=_text, metavar="COMMAND", help="what the source's connector takes; /openapi.json lists them")
    submit.add_argument("file", type=_text, metavar="FILE", help="its body, JSON; - reads it from the standard input")
    submit.add_argument("--key", type=_key, default=None, help="the idempotency key; default: made of the command, so that twice is once")
    submit.add_argument("--wait", type=_wait, default=None, metavar="SECONDS", help="wait for the vendor's answer, at most 60 s")
    token = add("token", "make a token for somebody who hands in commands", submit_commands.token)
    token.add_argument("caller", nargs="?", default="erp", type=_text, metavar="NAME", help="default: erp")
    _add_target(add("target", "hold, release, check or try a target", lambda options: 2, common))
    clock = add("clock", "say that the clock of this machine is right", commands.clock, common)
    clock.add_argument("action", choices=["confirm"], help="after a jump of more than a day, when nothing is erased until it is confirmed")
    add("reload", "read the configuration of the running gateway anew; fails where it is refused", commands.reload, common)
    add("migrate", "bring the store of a stopped gateway up to this version", commands.migrate, common)
    backup = add("backup", "copy the database, also while the gateway runs, and verify the copy", copy_commands.backup)
    backup.add_argument("to", type=Path, metavar="TO", help="a new file, or a folder: then the file is named after the time")
    backup.add_argument("--keep", type=_count, default=None, metavar="COUNT", help="with a folder: remove older copies but for so many")
    restore = add("restore", "put a copy back; what may have been delivered since is looked up or held", copy_commands.restore)
    restore.add_argument("copy", nargs="?", type=Path, metavar="FILE", help="a copy that `gateway backup` made")
    restore.add_argument("--finish", action="store_true", help="the gap is closed: messages from before are sent like others again")
    demo = add("demo", "the gateway with simulated vendors and a simulated ERP, on this machine", _demo, common)
    demo.add_argument("--once", action="store_true", help="send a fixed set of orders, compare, and exit")
    return parser


def _add_decisions(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that decide about rows."""
    whys = "why; it is kept in the audit for good, so write nothing about people"
    for action, help, statuses in (
        ("replay", "try dead letters again", ("dead",)),
        ("release", "let held rows go on", ("held",)),
        ("drop", "end rows without delivering them", ("dead", "held", "ready", "unknown")),
        ("resend", "send a delivered message to its target once more, under the same key", ()),
    ):
        made = add(action, help, decide_commands.decide)
        made.set_defaults(action=action, reason="", status=None, source=None, target=None, older_than_s=None)
        made.add_argument("keys", nargs="*" if statuses else "+", type=_text, metavar="KEY", help=KEYS)
        if action in ("drop", "resend"):
            made.add_argument("--reason", type=_text, required=True, help=whys)
        if statuses:
            made.add_argument("--status", choices=statuses, help="in place of keys: all rows of this status")
            made.add_argument("--source", type=_text, metavar="NAME", help="in place of keys: those of this source")
            made.add_argument("--target", type=_text, metavar="NAME", help="in place of keys: messages for this target")
            made.add_argument(
                "--older-than", dest="older_than_s", type=_age, metavar="AGE", help="those that came before: 2d, 3h, 90m, 30s"
            )
        made.add_argument("--dry-run", action="store_true", help="say which rows it would be, and change nothing")
        made.add_argument("--yes", action="store_true", help="needed where it is more than one row")


def _add_target(target: argparse.ArgumentParser) -> None:
    """`gateway target ACTION NAME`."""
    shows = argparse.ArgumentParser(add_help=False)
    shows.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=f"default {DEFAULT_PATH}")
    shows.add_argument("--json", action="store_true", help="print JSON")
    sub = target.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(name: str, help: str, run: object) -> argparse.ArgumentParser:
        made = sub.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", parents=[shows])
        made.set_defaults(run=run, action=name)
        made.add_argument("name", type=_text, metavar="NAME")
        return made

    hold = add("hold", "send nothing to it until it is released", commands.target)
    hold.add_argument("--reason", type=_text, default="", help="why; it is kept and shown to everybody, so write nothing about people")
    add("release", "send to it again", commands.target).set_defaults(reason="")
    move = add("move", "give what waits for a target that is configured no more to another one", commands.target_move)
    move.add_argument("to", type=_text, metavar="NEW")
    move.add_argument("--same-erp", action="store_true", help="NEW is the same ERP under another name: what NAME was sent, NEW has")
    move.add_argument("--dry-run", action="store_true", help="say what would go")
    move.add_argument("--yes", action="store_true", help="needed for more than one row")
    reconcile = add("reconcile", "look for every order that it should have", commands.target)
    reconcile.add_argument("--days", type=_days, default=1.0, help="how far back; default 1")
    reconcile.add_argument("--per-minute", type=_count, default=120, metavar="COUNT", help="look-ups a minute; default 120")
    check = add("check", "sign in, ask something harmless and look up; creates nothing", target_commands.check)
    check.add_argument(
        "--order", type=_text, default=None, metavar="FILE", help="look up what this order needs; default: the first example"
    )
    shown = add("map", "print the exact request of an order and what it lacks; sends nothing", target_commands.show_map)
    shown.add_argument("file", type=_text, metavar="ORDER.json", help="a canonical order or message; - reads it from the standard input")
    send = add("send", "look up and ask for real, and print the request; sends no order", target_commands.send)
    send.add_argument("file", type=_text, metavar="ORDER.json", help="as for map")
    send.add_argument("--dry-run", action="store_true", help="needed: orders go out through the running gateway alone")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000")
    return int(text)


def _key(text: str) -> str:
    if not 0 < len(text) <= LONGEST_KEY or not text.isascii() or not text.isprintable() or text != text.strip():
        raise argparse.ArgumentTypeError(f"must be 1 to {LONGEST_KEY} printable ASCII characters")
    return text


def _wait(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= LONGEST_WAIT_S):
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {LONGEST_WAIT_S}")
    return int(text)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8 text") from None
    return text


def _age(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number with its unit, as 2d, 3h, 90m or 30s")
    return int(found[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[found[2]]


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= 36500:
        raise argparse.ArgumentTypeError("must be a number of days, from 0 on")
    return days


def _serve(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is loaded yet that could be loaded anew
    from gateway.service.gateway import serve

    form: Form = options.log or ("plain" if sys.stderr.isatty() else "json")
    set_up(form, options.log_level, journal=logs_to_journal())
    return asyncio.run(serve(options.config, new_store=options.new_store))


def _demo(options: argparse.Namespace) -> int:
    try:
        from gateway.testing.demo import main as demo
    except ImportError as error:
        raise GatewayError(f"the demo needs its extra packages: {error}") from error
    return demo(once=options.once)


if __name__ == "__main__":
    sys.exit(main())
