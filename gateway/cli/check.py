"""`gateway check`: report every problem of a configuration; `--online` also tests the credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from gateway.api.errors import ConfigError, GatewayError, StoreError
from gateway.cli.arguments import Commands, Options
from gateway.cli.submit import summary
from gateway.clock import Clock, SystemClock
from gateway.config.settings import Config
from gateway.edge.signalr import NullListener, Session
from gateway.outbound.jwks_cache import KeySet
from gateway.outbound.session import AddressCheck, any_unicast, certificate_ends_at, global_only, tls_context
from gateway.outbound.vendor import HttpVendorClient
from gateway.service.assembly import Assembly, CheckedSource, assemble
from gateway.service.config_warnings import SOON
from gateway.service.runtime import hub_session, keys_session, vendor_session
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.http import HttpTarget
from gateway.targets.settings import TargetSettings

_HANDSHAKE_S = 10.0


def register(commands: Commands) -> None:
    made = commands.add("check", "check the configuration and report every problem at once", check, json=False)
    made.add_argument("--online", action="store_true", help="also sign in to every vendor and target; sends no order")


def check(options: Options) -> int:
    """Report every problem; with --online sign in everywhere."""
    try:
        assembly = assemble(options.config)
    except ConfigError as error:
        _warn(error.warnings)
        raise
    _warn(assembly.warnings)
    if assembly.problems:  # `gateway serve` starts without these sources
        raise ConfigError(assembly.problems)
    doors = sum(len(part.doors) for part in assembly.sources.values())
    print(summary(assembly), end="")
    found = f"no problem found{f', {len(assembly.warnings)} warnings' if assembly.warnings else ''}"
    print(f"{options.config}: {len(assembly.sources)} sources with {doors} doors, {len(assembly.targets)} targets, {found}")
    for line in asyncio.run(stray_rows(assembly.config)):
        print(line)
    return asyncio.run(online(assembly)) if options.online else 0


def _warn(warnings: Sequence[str]) -> None:
    for one in warnings:
        print(f"WARNING {one}")


async def stray_rows(config: Config) -> list[str]:
    """Return a line for each source or target that is no longer configured and has rows waiting in the store."""
    reader = SqliteReader(config.database)
    try:
        if not config.database.exists():
            return []
        await reader.open()
        return [f"look: {one.reason}" for one in await reader.strays(config.sources, config.targets)]
    except (OSError, StoreError) as error:
        return [f"look: {config.database} cannot be read, so rows of sources and targets that are gone are not found: {error}"]
    finally:
        await reader.close()


async def online(assembly: Assembly) -> int:
    """Sign in everywhere; 1 if a vendor or target refuses or cannot be reached. Sends no order."""
    failed, clock = 0, SystemClock()
    for name, part in assembly.sources.items():
        failed += await _keys(name, part) + await _hub(name, part)
        failed += await _outcome(f"sources.{name}", _sign_in(name, part, clock))
    for name, settings in assembly.targets.items():
        failed += await _outcome(f"targets.{name}", _reach(name, settings, clock))
    return 1 if failed else 0


async def _outcome(what: str, trying: Awaitable[str]) -> int:
    """Print the outcome of a test; 1 if it fails."""
    try:
        print(f"{what}: {await trying}")
    except GatewayError as error:
        print(f"{what}: {error}")
        return 1
    return 0


async def _sign_in(name: str, part: CheckedSource, clock: Clock) -> str:
    if part.api is None:
        return "nothing to test, since this source never calls its vendor"
    is_private = part.settings.allow_private_addresses
    async with vendor_session(part.api, private=is_private) as session:
        await _certificate(f"sources.{name}", part.api.base_url, any_unicast if is_private else global_only)
        await HttpVendorClient(part.api, session, clock).sign_in()
    return "signed in"


async def _reach(name: str, settings: TargetSettings, clock: Clock) -> str:
    target = HttpTarget(name, settings, clock)
    await target.open()
    try:
        await _certificate(f"targets.{name}", _beginning(settings), any_unicast, settings.ca_file)
        status = (await target.probe()).status
    finally:
        await target.close()
    if status in (401, 403):
        raise GatewayError(f"reached, answers HEAD with {status}: check its credentials")
    return f"reached, answers HEAD with {status}"


async def _certificate(what: str, url: str, allowed: AddressCheck, ca_file: Path | None = None) -> None:
    """Warn if the other side's certificate expires soon: a new one takes days, and no request goes through without it."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return
    tls, port = tls_context(ca_file), parts.port or 443
    ends_at = await certificate_ends_at(parts.hostname, port, allowed=allowed, tls=tls, timeout_s=_HANDSHAKE_S)
    if ends_at is not None and ends_at < datetime.now(UTC) + SOON:
        print(f"WARNING {what}: the certificate of {parts.hostname} expires on {ends_at:%Y-%m-%d}; tell its operator")


def _beginning(settings: TargetSettings) -> str:
    """Return the target's URL up to the first placeholder that only an order fills."""
    text = ""
    for part in settings.url.parts:
        if not isinstance(part, str) and part.name not in settings.vars:
            break
        text += part if isinstance(part, str) else settings.vars[part.name]
    return text


async def _keys(name: str, part: CheckedSource) -> int:
    """Fetch the keys that verify a source's webhooks; 1 if that fails."""
    url = part.connector.jwks_url() if "webhook" in part.doors else None
    if url is None:
        return 0
    problems: list[str | None] = []
    async with keys_session(url, private=part.settings.allow_private_addresses) as session:
        keys = KeySet(url, session, SystemClock(), problems.append)
        await keys.look_again()
    print(f"sources.{name}: {problems[0] or f'keys at jwks_url: {len(keys.current)}'}")
    return 1 if problems[0] else 0


async def _hub(name: str, part: CheckedSource) -> int:
    """Connect to a source's hub and disconnect at once; 1 if that fails."""
    if "realtime" not in part.doors:
        return 0
    subscription = part.connector.subscribe()
    async with hub_session(subscription.url, private=part.settings.allow_private_addresses) as http:
        ended = await Session(subscription, NullListener(), http, SystemClock()).probe()
    print(f"sources.{name}: hub: {'connected' if ended is None else ended.reason}")
    return 0 if ended is None else 1
