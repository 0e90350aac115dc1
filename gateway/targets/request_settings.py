"""Configuration of a request: `url`, `method`, `query`, `headers`, `body`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.api.urls import Url
from gateway.targets.expressions import Jsonata
from gateway.targets.templates import Template

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")
_RESERVED = ("idempotency-key", "content-type", "content-length", "host", "transfer-encoding", "connection")


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table of the configuration; unknown keys are refused."""


class RequestTable(Table, frozen=True, kw_only=True):
    """Request of the configuration.

    Attributes:
        url: A template; what follows `?` in it and `query` are both sent.
        values: Further names for the templates of this request, each a JSONata text over the context.
        body: A JSONata text whose result is sent as JSON; none sends nothing.
    """

    url: Template
    method: Method = "GET"
    query: dict[str, Template] = {}
    headers: dict[str, Template] = {}
    values: dict[str, Jsonata] = {}
    body: Jsonata | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        yield from header_problems(self.headers)


def header_problems(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with configured headers, as pairs of key and text."""
    for name, value in headers.items():
        if is_ours(name):
            yield "headers", f"{name} is set by the gateway itself; leave it out"
        elif name.lower() in _CREDENTIALS:
            yield "headers", f"{name} would stand in the file for all to read; use auth = {{ ... }} with a secret by reference"
        if not name or not set(name) <= _TOKEN or not value.isprintable():
            yield "headers", f"{name!r} is not a header that HTTP can carry"


def is_ours(name: str) -> bool:
    """Return whether the gateway sets this header itself."""
    return name.lower() in _RESERVED or name.lower().startswith("ce-")


def request_problems(
    request: RequestTable, variables: Mapping[str, str], names: Collection[str], origin: str, *, plain: bool
) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with a request beside the target's own `url`.

    Args:
        variables: The target's `vars`.
        names: What else templates may name: its `values`.
        origin: Of the target's url; credentials go nowhere else.
        plain: `allow_plain_http`.
    """
    known = [*names, *request.values]
    for name in request.values:
        if name in variables:
            yield "values", f"{name} is one of vars already; give it another name"
    unknown = list(request.url.problems(variables, known))
    for problem in unknown:
        yield "url", problem
    for key, templates in (("query", request.query), ("headers", request.headers)):
        for template in templates.values():
            for problem in template.problems(variables, known):
                yield key, problem
    for key, template in (("url", request.url), *(("query", one) for one in request.query.values())):
        for problem in template.breakouts(variables):
            yield key, problem
    there, problem = address_of(request.url, variables)
    if problem or unknown:
        yield from (("url", one) for one in [problem] if not unknown)
    elif Url(there).is_plain and not plain:
        yield "url", "would be sent unencrypted; use https, or set allow_plain_http = true in the target"
    elif origin and origin_of(there) != origin:
        yield "url", f"is on another host than the target's url ({origin}); its credentials do not go there"


def address_of(url: Template, variables: Mapping[str, str]) -> tuple[str, str]:
    """Return the fixed beginning of an address, which holds its whole host, and what is wrong with it."""
    fixed = ""
    for part in url.parts:
        if isinstance(part, str):
            fixed += part
        elif part.name in variables and not part.filter:
            fixed += variables[part.name]
        else:
            break
    else:
        return _sound(fixed)
    if "/" not in fixed.partition("://")[2]:
        return fixed, "its host must be fixed: what an order says comes after https://host/ only"
    return _sound(fixed)


def _sound(text: str) -> tuple[str, str]:
    try:
        return Url.parse(text), ""
    except ValueError as error:
        return text, str(error)


def origin_of(url: str) -> str:
    """Return scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
