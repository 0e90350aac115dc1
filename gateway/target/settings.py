"""A target's configuration: `[targets.NAME]` (CONTRACT section 3)."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config import Positive, PositiveInt
from gateway.orders import Kind
from gateway.secret import Secret
from gateway.target.policy import Capture, Flow, Idempotency, Preflight, Rule, Step, policy_problems
from gateway.urls import Url

_HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
_RESERVED = ("idempotency-key", "content-type", "content-length", "host", "transfer-encoding", "connection")


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class NoAuth(_Table, frozen=True, kw_only=True, tag_field="kind", tag="none"):
    """Nothing: the network decides who may send."""


class Basic(_Table, frozen=True, kw_only=True, tag_field="kind", tag="basic"):
    username: str
    password: Secret

    def check(self) -> Iterable[tuple[str, str]]:
        if ":" in self.username or not self.username.isprintable():
            yield "username", "may not hold a colon or a control character; HTTP cannot carry it"
        yield from _one_line("password", self.password)


class Bearer(_Table, frozen=True, kw_only=True, tag_field="kind", tag="bearer"):
    token: Secret

    def check(self) -> Iterable[tuple[str, str]]:
        yield from _one_line("token", self.token)


class Header(_Table, frozen=True, kw_only=True, tag_field="kind", tag="header"):
    """A header of any name: `name: prefix value`, as in `Authorization: token KEY` or `DOLAPIKEY: KEY`."""

    name: Annotated[str, Meta(pattern=_HEADER_NAME)]
    value: Secret
    prefix: str = ""

    def check(self) -> Iterable[tuple[str, str]]:
        if _is_ours(self.name):
            yield "name", f"{self.name} is set by the gateway itself; name the header that holds the credential"
        yield from _one_line("value", self.value)
        if not self.prefix.isprintable():
            yield "prefix", "may not hold a line break or another control character"


def _is_ours(name: str) -> bool:
    return name.lower() in _RESERVED or name.lower().startswith("ce-")


def _one_line(key: str, secret: Secret) -> Iterable[tuple[str, str]]:
    if not secret.reveal().isprintable():
        yield key, f"holds a line break or another character that no HTTP header can carry ({secret.origin}); leave just the secret there"


class Retry(_Table, frozen=True, kw_only=True):
    """Full jitter between 0 and min(cap_s, base_s * 2^n); past `max_age_s` since the first try a dead letter."""

    base_s: Positive = 2.0
    cap_s: Positive = 900.0
    max_age_s: Positive = 604800.0

    def check(self) -> Iterable[tuple[str, str]]:
        if self.base_s > self.cap_s:
            yield "cap_s", f"must not be below base_s ({self.base_s:g})"
        if self.cap_s > 86400:
            yield "cap_s", "must be at most a day (86400)"


class Breaker(_Table, frozen=True, kw_only=True):
    """After `failures` in a row nothing is sent for `cooldown_s`, then one order tries; longer after each failed try."""

    failures: PositiveInt = 5
    cooldown_s: Positive = 30.0


class TargetSettings(_Table, frozen=True, kw_only=True):
    """Where canonical orders go, and how."""

    url: Url
    allow_plain_http: bool = False
    method: Literal["POST", "PUT"] = "POST"
    auth: NoAuth | Basic | Bearer | Header = NoAuth()
    headers: dict[str, str] = {}
    accepts: tuple[Kind, ...] = ("order.placed", "order.revised", "order.cancelled", "order.status")
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8
    connect_timeout_s: Positive = 5.0
    read_timeout_s: Positive = 60.0
    ca_file: Path | None = None
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    idempotency: Idempotency = Idempotency()
    preflight: Preflight | None = None
    steps: tuple[Step, ...] = ()
    classify: tuple[Rule, ...] = ()
    capture: Capture | None = None
    flow: Flow = Flow()

    def check(self) -> Iterable[tuple[str, str]]:
        for name, value in self.headers.items():
            if _is_ours(name):
                yield "headers", f"{name} is set by the gateway itself; leave it out"
            elif name.lower() in _CREDENTIALS:
                yield "headers", f"{name} would stand in the file for all to read; use auth = {{ ... }} with a secret by reference"
            if not name.isascii() or not value.isprintable() or not name.replace("-", "").replace("_", "").isalnum():
                yield "headers", f"{name!r} is not a header that HTTP can carry"
        if not self.accepts:
            yield "accepts", "is empty, so nothing would ever be sent; leave it out for every kind"
        if self.ca_file is not None and not _holds_certificates(self.ca_file):
            yield "ca_file", f"{self.ca_file} is no PEM file with the authority that signed the target's certificate; export it as PEM"
        yield from policy_problems(self.idempotency, self.preflight, self.steps)


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # what ssl raises is one, too
        return False
    return True
