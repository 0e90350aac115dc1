"""`gateway target check|map|send`: try a target before its first order. None of them creates anything in the ERP."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.api.errors import ConfigError, GatewayError, MappingError
from gateway.api.order import encode
from gateway.api.secrets import read_text
from gateway.cli.arguments import Commands, Options, utf8
from gateway.cli.output import one_line, plain, print_json
from gateway.clock import SystemClock
from gateway.outbound.answer import Answer
from gateway.service.assembly import assemble_target
from gateway.targets.builder import Builder, with_rows
from gateway.targets.examples import Sample, read_sample
from gateway.targets.preflight import Ended, look
from gateway.targets.request import Context, Refused, Request, Unknown, with_message_headers
from gateway.targets.request_settings import RequestTable
from gateway.targets.sender import AuthSender
from gateway.targets.settings import TargetSettings

_MOST_SHOWN = 10


def register(actions: Commands) -> None:
    """Add the actions of this file to `gateway target`."""
    tried = actions.add("check", "sign in, send a harmless request and try the look-ups; creates nothing", check)
    tried.add_argument("name", type=utf8, metavar="NAME")
    tried.add_argument("--order", type=utf8, default=None, metavar="FILE", help="order for the look-ups; default: the first example")
    shown = actions.add("map", "print the exact request of an order and what is missing in it; sends nothing", show_map)
    shown.add_argument("name", type=utf8, metavar="NAME")
    shown.add_argument("file", type=utf8, metavar="ORDER.json", help="a canonical order or message; - reads the standard input")
    sent = actions.add(
        "send", "do the look-ups for real and print the request; sends no order", send, example="gateway target send erp o.json --dry-run"
    )
    sent.add_argument("name", type=utf8, metavar="NAME")
    sent.add_argument("file", type=utf8, metavar="ORDER.json", help="as for map")
    sent.add_argument("--dry-run", action="store_true", help="required: only the running gateway sends orders")


class _Parts:
    """Parts of one target while a command uses them."""

    def __init__(self, options: Options) -> None:
        self.name: str = options.name
        self.settings = assemble_target(options.config, options.name)
        self.clock = SystemClock()
        self.sender = AuthSender(self.name, self.settings, self.clock)
        self.builder = Builder(self.settings, self.sender, self.clock)

    async def __aenter__(self) -> _Parts:
        await self.sender.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sender.close()


# --- check


def check(options: Options) -> int:
    """Sign in, send a harmless request, look up; 1 if a step fails."""
    return asyncio.run(_check(options))


async def _check(options: Options) -> int:
    steps: list[dict[str, Any]] = []

    async def step(what: str, doing: Callable[[], Awaitable[str]]) -> bool:
        try:
            text, works = await doing(), True
        except Ended as ended:
            text, works = ended.outcome.reason, False
        except GatewayError as error:
            text, works = str(error), False
        steps.append({"step": what, "works": works, "said": text})
        if not options.json:
            print(one_line(f"targets.{options.name}: {what}: {'' if works else 'FAILED: '}{text}"))
        return works

    async with _Parts(options) as parts:
        sample = _sample(options.order, parts.settings)
        if await step("sign in", lambda: _sign_in(parts)) and await step("reach", lambda: _reach(parts, sample)) and sample is not None:
            context = parts.builder.context(encode(sample.message))
            for name in parts.builder.lookups:
                await step(f"look-up {name}", lambda name=name: _look_up(parts, name, context))  # type: ignore[misc]
            if parts.settings.preflight is not None:
                await step("preflight", lambda: _preflight(parts, with_sample(parts.settings, context, sample)))
    if options.json:
        print_json(steps)
    return 0 if all(one["works"] for one in steps) else 1


async def _sign_in(parts: _Parts) -> str:
    await parts.sender.sign_in()
    kind = parts.settings.auth.__struct_config__.tag
    none = "the credentials are part of the bodies" if parts.settings.secrets else "no credentials are configured"
    texts = {"none": none, "oauth2": "got a token", "session": "logged in"}
    return texts.get(str(kind), f"{kind} is sent with the next request")


async def _reach(parts: _Parts, sample: Sample | None) -> str:
    settings = parts.settings
    request = settings.check_request
    context = parts.builder.without_order()
    if request is not None:
        made = parts.builder.render(request, context, where="check")
        return _judged(await parts.sender.send(made), made, exact=True)
    if sample is not None:
        context = parts.builder.context(encode(sample.message))
    try:
        made = parts.builder.render(RequestTable(url=settings.url, method="HEAD", headers=settings.headers), context)
    except Refused as refused:
        return f"not tried: the url needs an order ({refused}); give one with --order FILE, or configure check = {{ url = ... }}"
    return _judged(await parts.sender.send(made), made, exact=False)


def _judged(answer: Answer, request: Request, *, exact: bool) -> str:
    said = f"{request.method} {_shown_url(request.url)} answers {answer.status}"
    if answer.status in (401, 403):
        raise GatewayError(f"{said}: check the credentials and their permissions")
    if exact and not 200 <= answer.status < 300:
        raise GatewayError(f"{said}; expected a 2xx")
    return said


async def _look_up(parts: _Parts, name: str, context: Context) -> str:
    lookup = parts.builder.lookups[name]
    codes = lookup.codes(context, parts.builder.evaluate)
    if not codes:
        return "nothing to look up for this order"
    rows = await lookup.rows(codes, context)
    missing = [code for code in codes if code not in rows]
    text = f"asked for {len(codes)}, the ERP knows {len(rows)}"
    return text + (f"; not {', '.join(missing[:_MOST_SHOWN])} (give a real order with --order FILE)" if missing else "")


async def _preflight(parts: _Parts, context: Context) -> str:
    preflight = parts.settings.preflight
    assert preflight is not None
    seen = await look(preflight, parts.builder.render(preflight, context, where="preflight"), context, parts.sender, parts.clock.now())
    if not seen.found:
        return "asked, and the ERP does not have this order"
    return f"asked, and the ERP has it: {seen.name}" + (" (not all of it)" if seen.complete is False else "")


# --- map, and send --dry-run


def show_map(options: Options) -> int:
    """Print the exact request of an order and what is missing in it."""
    parts = _Parts(options)
    sample = _needed(options.file)
    context = with_sample(parts.settings, parts.builder.context(encode(sample.message)), sample)
    return _show(parts, sample, context, options, [])


def send(options: Options) -> int:
    """Do the look-ups for real and print the request; only with --dry-run."""
    if not options.dry_run:
        raise ConfigError(["gateway target send: only the running gateway sends orders; --dry-run shows what it would send"])
    return asyncio.run(_dry_run(options))


async def _dry_run(options: Options) -> int:
    sample = _needed(options.file)
    notes: list[str] = []
    async with _Parts(options) as parts:
        context = parts.builder.context(encode(sample.message))
        problems: list[str] = []
        try:
            context = await parts.builder.look_up(context)
        except (Refused, Unknown) as refused:
            problems.extend(refused.problems)
        except MappingError as error:
            problems.append(str(error))
        if parts.settings.preflight is not None and not problems:
            try:
                notes.append(f"preflight: {await _preflight(parts, context)}")
            except Ended as ended:
                problems.append(ended.outcome.reason)
            except Refused as refused:
                problems.extend(refused.problems)
        return _show(parts, sample, context, options, problems, notes)


def _show(parts: _Parts, sample: Sample, context: Context, options: Options, problems: list[str], notes: list[str] | None = None) -> int:
    """Print the request as far as it could be made; 1 if something is missing."""
    notes = notes or []
    made = parts.builder.body(context)
    problems += [problem for problem in made.problems if problem not in problems]
    request: Request | None = None
    try:
        request = parts.builder.around(made.body, context)
    except Refused as refused:
        problems += [problem for problem in refused.problems if problem not in problems]
    shown: dict[str, Any] = {"method": parts.settings.method, "url": None, "headers": {}, "body": _text(made.body)}
    if request is not None:
        request = with_message_headers(request, sample.message, parts.settings.idempotency)
        shown |= {"url": request.url, "headers": parts.sender.masked(request)}
    if options.json:
        print_json({**shown, "problems": problems, "notes": notes})
        return 1 if problems else 0
    if request is not None:
        print(one_line(f"{request.method} {request.url}"))
        for name, value in shown["headers"].items():
            print(one_line(f"{name}: {value}"))
    if made.body is not None:
        print(f"\n{plain(_text(made.body))}")
    for line in [*(f"missing: {problem}" for problem in problems), *notes]:
        print(one_line(line), file=sys.stderr)
    return 1 if problems else 0


# --- underneath


def with_sample(settings: TargetSettings, context: Context, sample: Sample) -> Context:
    """Return the context with the rows that the file says the ERP has."""
    return with_rows(context, sample.rows, {name: lookup.one for name, lookup in settings.lookups.items()})


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode()


def _shown_url(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path or '/'}" + ("?..." if parts.query else "")


def _needed(file: str) -> Sample:
    try:
        return read_sample(sys.stdin.buffer.read() if file == "-" else read_text(Path(file)))
    except ValueError as error:
        raise ConfigError([f"{file}: {error}"]) from error


def _sample(file: str | None, settings: TargetSettings) -> Sample | None:
    """Return the order for the look-ups: the given one, else the first example."""
    if file is not None:
        return _needed(file)
    if settings.body is None:
        return None
    return read_sample(read_text(settings.body.examples[0]))
