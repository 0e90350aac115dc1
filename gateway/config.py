"""The configuration file: TOML, with `conf.d/*.toml` beside it, into Structs (CONTRACT section 3).

What a target and what a connector want to know is theirs to say (`target/settings.py`, a connector's `Settings`), so their
tables are kept as tables here and decoded with the same `decode`.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.decode import Report, decode, dotted
from gateway.errors import ConfigError
from gateway.messages import Door
from gateway.toml_lines import Path as KeyPath
from gateway.toml_lines import key_lines
from gateway.urls import is_loopback

DEFAULT_PATH = Path("/etc/order-gateway/gateway.toml")

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]
OnRevision = Literal["hold", "replace", "send"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_LISTEN = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^:\s]+):(\d{1,5})\Z")


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class GatewaySettings(_Table, frozen=True, kw_only=True):
    data_dir: Path = Path("/var/lib/order-gateway")
    node: str = ""


class StoreSettings(_Table, frozen=True, kw_only=True):
    """`reserve_bytes` is given back to a full disk so that what is stored can still leave; `keep_bodies_days` is how long
    the bodies of delivered orders stay readable."""

    url: str = "sqlite:gateway.db"
    reserve_bytes: Annotated[int, Meta(ge=0)] = 128 * 1024 * 1024
    keep_bodies_days: PositiveInt = 30

    def check(self) -> Iterable[tuple[str, str]]:
        if not self.url.startswith("sqlite:") or self.url == "sqlite:":
            yield "url", 'must be "sqlite:FILE"; this version has no other store'


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
    listen: str = "0.0.0.0:8080"
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    max_connections: PositiveInt = 1000


class AdminSettings(_Listener, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:8081"
    allow_remote: bool = False

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if not self.allow_remote and not is_loopback(self.listen.rpartition(":")[0].strip("[]")):
            yield "listen", "opens the operators' side to the network; say allow_remote = true if a proxy with a login stands in front"


class SourceSettings(_Table, frozen=True, kw_only=True):
    """One vendor account. `settings` is decoded into the connector's own Struct.

    `allow_private_addresses`: the vendor's host name may resolve to an address of a private network.
    """

    connector: str
    targets: tuple[str, ...] | None = None
    doors: tuple[Door, ...] | None = None
    on_revision: OnRevision = "hold"
    max_requests_per_second: PositiveInt = 500
    allow_private_addresses: bool = False
    settings: dict[str, Any] = {}


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration; `targets` holds the tables that `target/settings.py` decodes."""

    gateway: GatewaySettings
    store: StoreSettings
    http: HttpSettings
    admin: AdminSettings
    sources: dict[str, SourceSettings]
    targets: dict[str, Any]

    @property
    def node(self) -> str:
        return self.gateway.node or socket.gethostname()

    @property
    def database(self) -> Path:
        return self.gateway.data_dir / self.store.url.removeprefix("sqlite:")


def load(path: Path) -> tuple[Config | None, Report]:
    """Read the file and its `conf.d`. What is wrong stands in the report; None where too much is.

    Raises:
        ConfigError: There is no such file, it is not TOML, or a key stands twice.
    """
    tree: dict[str, Any] = {}
    places: dict[KeyPath, tuple[Path, int]] = {}
    for file in [path, *sorted((path.parent / "conf.d").glob("*.toml"))]:
        text = _text(file)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([f"{file}: not TOML: {error}"]) from error
        lines = {at: (file, line) for at, line in key_lines(text).items()}
        _merge(tree, table, (), places, lines)
        places = {**lines, **places}
    report = Report(places, path)
    return _config(tree, report), report


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8").replace("\r\n", "\n")
    except OSError as error:
        hint = "; give another one with --config FILE" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError([f"{file}: cannot be read: {error.strerror}{hint}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8 text: {error.reason} at byte {error.start}"]) from error


def _merge(tree: dict[str, Any], more: Mapping[str, Any], at: KeyPath, old: Any, new: Any) -> None:
    for key, value in more.items():
        here = (*at, key)
        if key not in tree:
            tree[key] = value
        elif isinstance(tree[key], dict) and isinstance(value, dict):
            _merge(tree[key], value, here, old, new)
        else:
            (first, line), (second, again) = old[here], new[here]
            raise ConfigError([f"{second}:{again}: {dotted(here)}: stands already in {first}:{line}; keep one of them"])


class _File(_Table, frozen=True, kw_only=True):
    gateway: GatewaySettings = GatewaySettings()
    store: StoreSettings = StoreSettings()
    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    sources: dict[str, SourceSettings] = {}
    targets: dict[str, dict[str, Any]] = {}


def _config(tree: dict[str, Any], report: Report) -> Config | None:
    for table, what in (("sources", "nothing can come in"), ("targets", "nothing can go out")):
        if not tree.get(table):
            report.add((table,), f"there is none, so {what}; add a table [{table}.NAME]")
        for name in tree.get(table) or ():
            if not _NAME.match(name):
                report.add((table, name), "a name is made of a-z, 0-9, - and _, at most 40, and starts with a letter or digit")
    read = decode(_File, tree, (), report)
    if read is None:
        return None
    for name, source in read.sources.items():
        for n, wanted in enumerate(source.targets or ()):
            if wanted not in read.targets:
                known = ", ".join(read.targets)
                report.add(("sources", name, "targets", n), f"there is no [targets.{wanted}]; there is {known}")
        if source.targets == ():
            report.add(("sources", name, "targets"), "is empty, so its orders would go nowhere; leave it out for every target")
        if source.doors == ():
            report.add(("sources", name, "doors"), "is empty, so nothing could come in; leave it out for every door")
    return Config(gateway=read.gateway, store=read.store, http=read.http, admin=read.admin, sources=read.sources, targets=read.targets)
