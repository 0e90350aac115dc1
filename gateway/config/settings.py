"""The configuration file: TOML, with `conf.d/*.toml` beside it, into Structs (CONTRACT section 3).

What a target and what a connector want to know is theirs to say (`target/settings.py`, a connector's `Settings`), so their
tables are kept as tables here and decoded with the same `decode`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, ValidationError, convert

from gateway.api.messages import Door
from gateway.api.urls import is_loopback
from gateway.config.decode import decode
from gateway.config.files import read_files
from gateway.config.report import Report
from gateway.did_you_mean import nearest

OPERATOR = "operator"
DEFAULT_PATH = Path("/etc/order-gateway/gateway.toml")

Positive = Annotated[float, Meta(gt=0, le=10 * 365 * 86400)]
_Patience = Annotated[float, Meta(ge=0.1, le=3600)]
_Days = Annotated[int, Meta(ge=1, le=36500)]
PositiveInt = Annotated[int, Meta(ge=1, le=1_000_000)]
OnRevision = Literal["hold", "replace", "send"]
EarlierVersions = Literal["flag", "send"]

_UNFINISHED = 32 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_OF_NOTHING = hashlib.sha256(b"").hexdigest()
_LISTEN = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):([0-9]{1,5})\Z")


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class GatewaySettings(_Table, frozen=True, kw_only=True):
    data_dir: Path = Path("/var/lib/order-gateway")
    node: str = ""


class StoreSettings(_Table, frozen=True, kw_only=True):
    """`reserve_bytes` is given back to a full disk so that what is stored can still leave; `keep_bodies_days` is how long
    the bodies of delivered orders stay readable, `keep_attempts_days` what was tried and answered, `keep_orders_days` the rows
    themselves, `keep_keys_days` what tells a repeat from a new order, the keys of
    commands for a vendor too. `max_bytes`: near it, all but the last are shortened."""

    url: str = "sqlite:gateway.db"
    reserve_bytes: Annotated[int, Meta(ge=0)] = 128 * 1024 * 1024
    keep_bodies_days: _Days = 30
    keep_attempts_days: _Days = 30
    keep_orders_days: _Days = 400
    keep_keys_days: _Days = 1100
    max_bytes: Annotated[int, Meta(ge=16 * 1024 * 1024)] | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        if not self.keep_bodies_days <= self.keep_orders_days <= self.keep_keys_days:
            yield "keep_orders_days", "must be at least keep_bodies_days, and at most keep_keys_days"
        if not self.url.startswith("sqlite:"):
            yield "url", 'must be "sqlite:FILE", as in "sqlite:gateway.db"; this version has no other store'
        elif not _FILE.match(self.url.removeprefix("sqlite:")):
            yield "url", 'must name a file in gateway.data_dir, without a folder, as in "sqlite:gateway.db"'


class _Listener(_Table, frozen=True, kw_only=True):
    listen: str

    def check(self) -> Iterable[tuple[str, str]]:
        found = _LISTEN.match(self.listen)
        if not found or int(found[1]) > 65535:
            yield "listen", 'must be "address:port", as in "127.0.0.1:8080"'

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to bind."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class HttpSettings(_Listener, frozen=True, kw_only=True):
    """The vendors' side. What it says of strangers, and of times, holds for the other listeners, too.

    `max_connections_per_address`: a quarter of `max_connections` if None. `max_unfinished_bytes`: what has come of all unfinished
    requests together. `trusted_proxies`: addresses and networks of proxies
    that say for whom they ask; their own connections are theirs to limit. `max_refused_...`: requests that prove nothing.
    """

    listen: str = "127.0.0.1:8080"
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    max_connections: PositiveInt = 1000
    max_connections_per_address: PositiveInt | None = None
    max_unfinished_bytes: Annotated[int, Meta(ge=1024 * 1024)] | None = None
    max_refused_per_second: PositiveInt = 1000
    max_refused_per_second_per_address: PositiveInt = 50
    idle_timeout_s: _Patience = 15.0
    body_timeout_s: _Patience = 10.0
    write_timeout_s: _Patience = 30.0
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")

    @property
    def per_address(self) -> int:
        """The limit of connections for one address."""
        return self.max_connections_per_address or max(1, self.max_connections // 4)

    @property
    def unfinished_bytes(self) -> int:
        """The limit of bytes for all unfinished requests together: 32 MiB, or two of the longest."""
        return self.max_unfinished_bytes or max(_UNFINISHED, 2 * self.max_body_bytes)

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.unfinished_bytes < 2 * self.max_body_bytes:
            yield "max_unfinished_bytes", "must be at least twice max_body_bytes, or the longest order could never be taken"
        for text in self.trusted_proxies:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield "trusted_proxies", 'must be addresses or networks, as in ["127.0.0.1", "10.0.0.0/8"]'
                break


class _Inside(_Listener, frozen=True, kw_only=True):
    """One that other machines reach only where somebody says so."""

    allow_remote: bool = False

    def _remote(self) -> str:
        raise NotImplementedError

    def check(self) -> Iterable[tuple[str, str]]:
        malformed = list(super().check())
        yield from malformed
        if not malformed and not self.allow_remote and not is_loopback(self.listen.rpartition(":")[0].strip("[]")):
            yield "listen", self._remote()


class AdminSettings(_Inside, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:8081"

    def _remote(self) -> str:
        return "opens the operators' side to the network; say allow_remote = true if a proxy with a login stands in front"


class CallerSettings(_Table, frozen=True, kw_only=True):
    """Somebody who may hand in commands: `commands` are `SOURCE/COMMAND`, or `SOURCE/*` for all of a source's."""

    token_sha256: str
    commands: tuple[str, ...]
    max_requests_per_second: PositiveInt = 20

    def check(self) -> Iterable[tuple[str, str]]:
        if not _SHA256.match(self.token_sha256):
            yield "token_sha256", "must be 64 of the characters 0-9 and a-f; `gateway token` makes a token and prints its SHA-256"
        elif self.token_sha256.lower() == _OF_NOTHING:
            yield "token_sha256", "is that of an empty text, so everybody would have it; `gateway token` makes a token"
        if not self.commands:
            yield "commands", 'is empty, so the caller may do nothing; name some, as in ["pharmacy/*"]'


class SubmitSettings(_Inside, frozen=True, kw_only=True):
    """The way back; it is listened for where there is a caller."""

    listen: str = "127.0.0.1:8082"
    max_body_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] = 256 * 1024
    max_connections: PositiveInt = 100
    callers: dict[str, CallerSettings] = {}

    def _remote(self) -> str:
        return "opens the way back to the network; say allow_remote = true if a proxy that ends TLS stands in front, for tokens travel here"


class SourceSettings(_Table, frozen=True, kw_only=True):
    """One vendor account. `settings` is decoded into the connector's own Struct.

    `earlier_versions`: what becomes of content that an order had before, or that the vendor dates before its newest version: `flag`
    keeps it and sends nothing, `send` takes it for a revision like any other.
    `answer`: what a webhook is answered after: `stored`, the commit; `delivered`, what the targets say, at most `answer_wait_s`
    later. `allow_private_addresses`: the vendor's host name may resolve to an address of a private network.
    """

    connector: str
    targets: tuple[str, ...] | None = None
    doors: tuple[Door, ...] | None = None
    on_revision: OnRevision = "hold"
    earlier_versions: EarlierVersions = "flag"
    answer: Literal["stored", "delivered"] = "stored"
    answer_wait_s: Annotated[float, Meta(gt=0, le=60)] = 8.0
    max_requests_per_second: PositiveInt = 500
    allow_private_addresses: bool = False
    settings: dict[str, Any] = {}


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration; `targets` holds the tables that `target/settings.py` decodes.

    `half` are sources whose own table has a problem, with what of it can be read: their settings are looked at all the same.
    """

    gateway: GatewaySettings
    store: StoreSettings
    http: HttpSettings
    admin: AdminSettings
    submit: SubmitSettings
    sources: dict[str, SourceSettings]
    targets: dict[str, Any]
    half: dict[str, SourceSettings] = {}

    @property
    def node(self) -> str:
        return self.gateway.node or socket.gethostname()

    @property
    def database(self) -> Path:
        return self.gateway.data_dir / self.store.url.removeprefix("sqlite:")


def load(path: Path) -> tuple[Config, Report]:
    """Read the file and its `conf.d`.

    Returns:
        What could be read, and what is wrong: a table that has a problem has its defaults, a source that has one is left out.
    Raises:
        ConfigError: A file cannot be read, is not TOML, or a key stands twice.
    """
    tree, report = read_files(path)
    return _config(tree, report), report


def _config(tree: Mapping[str, Any], report: Report) -> Config:
    for key in tree:
        if key not in _TABLES:
            report.add((key,), f"is not a table of this configuration{nearest(key, _TABLES)}")
    named = {what: _named(tree, what, report) for what in _NOTHING}
    targets = {}
    for name, table in named["targets"].items():
        if isinstance(table, Mapping):
            targets[name] = table
        else:
            report.add(("targets", name), f"must be a table, as in [targets.{name}]")
    sources, half = {}, {}
    for name, table in named["sources"].items():
        source = decode(SourceSettings, table, ("sources", name), report)
        if source is not None:
            sources[name] = source
        elif (source := _half(table)) is not None:
            half[name] = source
        if source is not None:
            _check_source(name, source, named["targets"], report)
    gateway = decode(GatewaySettings, tree.get("gateway", {}), ("gateway",), report)
    store = decode(StoreSettings, tree.get("store", {}), ("store",), report)
    http = decode(HttpSettings, tree.get("http", {}), ("http",), report)
    admin = decode(AdminSettings, tree.get("admin", {}), ("admin",), report)
    submit = decode(SubmitSettings, tree.get("submit", {}), ("submit",), report)
    _check_callers(submit, named["sources"], report)
    _check_addresses({"http": http, "admin": admin, "submit": submit if submit and submit.callers else None}, report)
    return Config(
        gateway=gateway or GatewaySettings(),
        store=store or StoreSettings(),
        http=http or HttpSettings(),
        admin=admin or AdminSettings(),
        submit=submit or SubmitSettings(),
        sources=sources,
        targets=targets,
        half=half,
    )


def _half(table: Any) -> SourceSettings | None:
    """Read what can be read of a source's broken table; None where that lacks even its connector."""
    read: dict[str, Any] = {}
    for key in SourceSettings.__struct_fields__ if isinstance(table, Mapping) else ():
        try:
            read[key] = getattr(convert({"connector": "", key: table[key]}, SourceSettings), key)
        except (KeyError, ValidationError):  # not there, or complained of already
            continue
    return SourceSettings(**read) if "connector" in read else None


_NOTHING = {"sources": "nothing can come in", "targets": "nothing can go out"}
_TABLES = ("gateway", "store", "http", "admin", "submit", *_NOTHING)


def _named(tree: Mapping[str, Any], what: str, report: Report) -> Mapping[str, Any]:
    """The tables `[sources.NAME]` or `[targets.NAME]`."""
    found = tree.get(what, {})
    if not isinstance(found, Mapping):
        report.add((what,), f"must be tables, as in [{what}.NAME]")
        return {}
    if not found:
        report.add((what,), f"there is none, so {_NOTHING[what]}; add a table [{what}.NAME]")
    for name in found:
        if not _NAME.match(name):
            report.add((what, name), "a name is made of a-z, 0-9, - and _, at most 40, and starts with a letter or digit")
    return found


def _check_source(name: str, source: SourceSettings, targets: Mapping[str, Any], report: Report) -> None:
    for n, wanted in enumerate(source.targets or ()):
        if wanted not in targets:
            report.add(("sources", name, "targets", n), f"there is no [targets.{wanted}]{nearest(wanted, targets)}")
    for key, names, otherwise in (
        ("targets", source.targets, "its orders would go nowhere; leave it out for every target"),
        ("doors", source.doors, "nothing could come in; leave it out for every door"),
    ):
        if names == ():
            report.add(("sources", name, key), f"is empty, so {otherwise}")
        for n, one in enumerate(names or ()):
            if one in (names or ())[:n]:
                report.add(("sources", name, key, n), f"{one} stands twice; keep one of them")


def _check_callers(submit: SubmitSettings | None, sources: Mapping[str, Any], report: Report) -> None:
    """What a caller may do is looked at where the connectors are known; here, that the sources exist."""
    known: dict[str, str] = {}
    for name, caller in (submit.callers if submit else {}).items():
        at = ("submit", "callers", name)
        if not _NAME.match(name):
            report.add(at, "a name is made of a-z, 0-9, - and _, at most 40, and starts with a letter or digit")
        elif name == OPERATOR:
            report.add(at, "is the name under which `gateway submit` hands in commands; choose another one")
        if (other := known.setdefault(caller.token_sha256.lower(), name)) != name:
            report.add((*at, "token_sha256"), f"is the token of [submit.callers.{other}] too; make one for each with `gateway token`")
        for n, pattern in enumerate(caller.commands):
            source, slash, command = pattern.partition("/")
            if not slash or not source or not command or "/" in command:
                report.add((*at, "commands", n), 'must be "SOURCE/COMMAND", or "SOURCE/*" for all of its commands')
            elif source not in sources:
                report.add((*at, "commands", n), f"there is no [sources.{source}]{nearest(source, sources)}")
            if pattern in caller.commands[:n]:
                report.add((*at, "commands", n), f"{pattern} stands twice; keep one of them")


def _check_addresses(listeners: Mapping[str, _Listener | None], report: Report) -> None:
    there = [(name, one) for name, one in listeners.items() if one is not None]
    for n, (name, one) in enumerate(there):
        for other, before in there[:n]:
            if _collide(before.address, one.address):
                report.add((name, "listen"), f"is the address of {other}.listen ({before.listen}) too; give it another port")


def _collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    everywhere = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return one[1] == other[1] != 0 and (one[0] == other[0] or one[0] in everywhere or other[0] in everywhere)
