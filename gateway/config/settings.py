"""Settings of the configuration file and its `conf.d/*.toml`, as Structs (CONTRACT section 3).

The tables of targets and the `settings` of sources stay tables here: `targets/settings.py` and each connector's `Settings` decode them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

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
_BAD_NAME = "a name has a-z, 0-9, - and _, at most 40, and starts with a letter or digit"
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
    """Settings of the store. Near `max_bytes` it shortens all retention times but `keep_keys_days`.

    Attributes:
        reserve_bytes: Space that is freed when the disk is full, so that stored orders can still leave.
        keep_bodies_days: Retention of the bodies of delivered orders.
        keep_attempts_days: Retention of attempts and their answers.
        keep_orders_days: Retention of the rows of orders.
        keep_keys_days: Retention of the keys by which repeated orders and commands are recognised.
    """

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
    """Settings of the listener for vendors. Its limits of refused requests and its times apply to the other listeners, too.

    Attributes:
        max_connections_per_address: A quarter of `max_connections` if None.
        max_unfinished_bytes: Received bytes of all unfinished requests together.
        max_refused_per_second: Limit of requests without proof of origin.
        trusted_proxies: Addresses and networks of proxies, which name their clients and limit their own connections.
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
        """Limit of connections from one address."""
        return self.max_connections_per_address or max(1, self.max_connections // 4)

    @property
    def unfinished_bytes(self) -> int:
        """Limit of bytes of all unfinished requests together: 32 MiB, or two of the longest."""
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
    """Listener bound to a loopback address unless `allow_remote` is set."""

    allow_remote: bool = False
    _REMOTE: ClassVar[str]

    def check(self) -> Iterable[tuple[str, str]]:
        malformed = list(super().check())
        yield from malformed
        if not malformed and not self.allow_remote and not is_loopback(self.listen.rpartition(":")[0].strip("[]")):
            yield "listen", self._REMOTE


class AdminSettings(_Inside, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:8081"
    _REMOTE = "opens the operators' side to the network; set allow_remote = true if a proxy with a login is in front of it"


class CallerSettings(_Table, frozen=True, kw_only=True):
    """Client of the command API. Its `commands` are `SOURCE/COMMAND`, or `SOURCE/*` for all of a source."""

    token_sha256: str
    commands: tuple[str, ...]
    max_requests_per_second: PositiveInt = 20

    def check(self) -> Iterable[tuple[str, str]]:
        if not _SHA256.match(self.token_sha256):
            yield "token_sha256", "must be 64 of the characters 0-9 and a-f; `gateway token` makes a token and prints its SHA-256"
        elif self.token_sha256.lower() == _OF_NOTHING:
            yield "token_sha256", "is the hash of an empty text, which anybody has; `gateway token` makes a token"
        if not self.commands:
            yield "commands", 'is empty, so the caller may do nothing; name some, as in ["pharmacy/*"]'


class SubmitSettings(_Inside, frozen=True, kw_only=True):
    """Settings of the command API. Its listener opens if at least one caller is configured."""

    listen: str = "127.0.0.1:8082"
    max_body_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] = 256 * 1024
    max_connections: PositiveInt = 100
    callers: dict[str, CallerSettings] = {}
    _REMOTE = "opens the command API to the network; set allow_remote = true if a TLS proxy is in front of it, because callers send tokens"


class SourceSettings(_Table, frozen=True, kw_only=True):
    """Settings of a source: one vendor account.

    Attributes:
        earlier_versions: Treatment of content that the order had before, or that the vendor dates before the newest version: `flag`
            keeps it and sends nothing, `send` sends it like any revision.
        answer: Event that a webhook's answer waits for: the commit (`stored`), or the targets' answers (`delivered`), at most
            `answer_wait_s`.
        allow_private_addresses: The vendor's host name may resolve to an address of a private network.
        settings: Table that the connector's own Struct decodes.
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
    """Whole configuration. `targets` holds the tables that `targets/settings.py` decodes.

    `half` has the readable parts of sources whose own table has a problem, so that their settings are checked, too.
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
    """Load the file and its `conf.d`.

    Returns:
        The configuration and its problems. A table with a problem has its defaults, a source with one is left out.
    Raises:
        ConfigError: A file cannot be read, is not TOML, or a key appears twice.
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
    made: dict[str, Any] = {name: decode(kind, tree.get(name, {}), (name,), report) for name, kind in _SINGLE.items()}
    submit: SubmitSettings | None = made["submit"]
    _check_callers(submit, named["sources"], report)
    listeners = {name: made[name] for name in ("http", "admin", "submit") if made[name]}
    if submit is not None and not submit.callers:
        del listeners["submit"]
    _check_addresses(listeners, report)
    single: dict[str, Any] = {name: made[name] or kind() for name, kind in _SINGLE.items()}
    return Config(**single, sources=sources, targets=targets, half=half)


def _half(table: Any) -> SourceSettings | None:
    """Return the readable part of a source's table; None if its connector is missing."""
    read: dict[str, Any] = {}
    for key in SourceSettings.__struct_fields__ if isinstance(table, Mapping) else ():
        try:
            read[key] = getattr(convert({"connector": "", key: table[key]}, SourceSettings), key)
        except (KeyError, ValidationError):  # missing, or reported already
            continue
    return SourceSettings(**read) if "connector" in read else None


_NOTHING = {"sources": "nothing can come in", "targets": "nothing can go out"}
_SINGLE: dict[str, type[_Table]] = {
    "gateway": GatewaySettings,
    "store": StoreSettings,
    "http": HttpSettings,
    "admin": AdminSettings,
    "submit": SubmitSettings,
}
_TABLES = (*_SINGLE, *_NOTHING)


def _named(tree: Mapping[str, Any], what: str, report: Report) -> Mapping[str, Any]:
    """Return the tables `[sources.NAME]` or `[targets.NAME]`, whose names are checked."""
    found = tree.get(what, {})
    if not isinstance(found, Mapping):
        report.add((what,), f"must be tables, as in [{what}.NAME]")
        return {}
    if not found:
        report.add((what,), f"there is none, so {_NOTHING[what]}; add a table [{what}.NAME]")
    for name in found:
        if not _NAME.match(name):
            report.add((what, name), _BAD_NAME)
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
                report.add(("sources", name, key, n), f"{one} appears twice; keep one of them")


def _check_callers(submit: SubmitSettings | None, sources: Mapping[str, Any], report: Report) -> None:
    """Check callers: their names, tokens and sources. Their commands are checked once the connectors are loaded."""
    known: dict[str, str] = {}
    for name, caller in (submit.callers if submit else {}).items():
        at = ("submit", "callers", name)
        if not _NAME.match(name):
            report.add(at, _BAD_NAME)
        elif name == OPERATOR:
            report.add(at, "is the name under which `gateway submit` sends commands; choose another one")
        if (other := known.setdefault(caller.token_sha256.lower(), name)) != name:
            report.add((*at, "token_sha256"), f"is the token of [submit.callers.{other}] too; make one for each with `gateway token`")
        for n, pattern in enumerate(caller.commands):
            source, slash, command = pattern.partition("/")
            if not slash or not source or not command or "/" in command:
                report.add((*at, "commands", n), 'must be "SOURCE/COMMAND", or "SOURCE/*" for all of its commands')
            elif source not in sources:
                report.add((*at, "commands", n), f"there is no [sources.{source}]{nearest(source, sources)}")
            if pattern in caller.commands[:n]:
                report.add((*at, "commands", n), f"{pattern} appears twice; keep one of them")


def _check_addresses(listeners: Mapping[str, _Listener], report: Report) -> None:
    for n, (name, one) in enumerate(listeners.items()):
        for other, before in islice(listeners.items(), n):
            if _collide(before.address, one.address):
                report.add((name, "listen"), f"is the address of {other}.listen ({before.listen}) too; give it another port")


def _collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    everywhere = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return one[1] == other[1] != 0 and (one[0] == other[0] or one[0] in everywhere or other[0] in everywhere)
