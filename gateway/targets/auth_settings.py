"""Configuration of signing in: `auth = { kind = ... }`, `csrf = { ... }`, `client_cert`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from gateway.api.secrets import Secret, read_text, stamp_of
from gateway.api.urls import Url
from gateway.api.vendor_client import BasicAuth, BearerAuth, HeaderAuth, OAuth2
from gateway.targets.expressions import Jsonata
from gateway.targets.request_settings import RequestTable, Table, is_ours
from gateway.targets.templates import Template

HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"


class PemFile(Secret):
    """PEM file, by path since TLS reads it there; re-read when it changes: `client_cert = "gateway.pem"`."""

    __slots__ = ("path",)
    path: Path

    @classmethod
    def from_reference(cls, value: object, base: Path) -> PemFile:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError('must be the path of a PEM file, as in "gateway.pem"')
        path = base / value
        stamp = stamp_of(path)
        made = cls(cls.trimmed(read_text(path)), origin=f"file {value}", path=path, stamp=stamp)
        made.path = path
        return made


class NoAuth(Table, frozen=True, kw_only=True, tag_field="kind", tag="none"):
    """No credentials: the network decides who may send."""


class Basic(BasicAuth, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="basic"):
    """HTTP Basic."""

    def check(self) -> Iterable[tuple[str, str]]:
        if ":" in self.username or not self.username.isprintable():
            yield "username", "may not hold a colon or a control character; HTTP cannot carry it"
        yield from _one_line("password", self.password)


class Bearer(BearerAuth, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="bearer"):
    """`Authorization: Bearer token`."""

    def check(self) -> Iterable[tuple[str, str]]:
        yield from _one_line("token", self.token)


class Header(HeaderAuth, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="header"):
    """Header of any name: `name: prefix value`, as in `Authorization: token KEY` or `DOLAPIKEY: KEY`."""

    name: Annotated[str, Meta(pattern=HEADER_NAME)]

    def check(self) -> Iterable[tuple[str, str]]:
        if is_ours(self.name):
            yield "name", f"{self.name} is set by the gateway itself; name the header that holds the credential"
        yield from _one_line("value", self.value)
        if not self.prefix.isprintable():
            yield "prefix", "may not hold a line break or another control character"


class ClientCredentials(OAuth2, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="oauth2"):
    """OAuth2 client credentials."""

    token_url: Url
    allow_plain_http: bool = False
    assertion_s: Annotated[float, Meta(ge=10, le=3600)] = 60.0

    def check(self) -> Iterable[tuple[str, str]]:
        yield from self.problems()


class OAuth1(Table, frozen=True, kw_only=True, tag_field="kind", tag="oauth1"):
    """OAuth 1.0 with HMAC-SHA256 (RFC 5849), each request signed; NetSuite's TBA wants its account as `realm`."""

    consumer_key: Secret
    consumer_secret: Secret
    token: Secret
    token_secret: Secret
    realm: str = ""

    def check(self) -> Iterable[tuple[str, str]]:
        for key in ("consumer_key", "consumer_secret", "token", "token_secret"):
            yield from _one_line(key, getattr(self, key))
        if not self.realm.isprintable() or '"' in self.realm:
            yield "realm", "may not hold a quote or a control character"


class Login(Table, frozen=True, kw_only=True, tag_field="kind", tag="session"):
    """Login request; its cookies, and headers made of its answer, go with every later request.

    Attributes:
        body: JSONata over `vars` and `secret`; sent as JSON, or as a form with `encoding = "form"`.
        secrets: Values of `secret.NAME` in this table.
        ok: JSONata over the answer: true for a login. Default: any 2xx.
        send: Headers for the requests after it, each JSONata over `status`, `headers`, `body`, `text`, `vars` and `secret`.
        cookies: Keep the cookies of the answers and send them.
        lifetime_s: Age at which to log in again; default: when the ERP refuses the session.
        logout: Request at the end.
    """

    url: Template
    method: Literal["GET", "POST"] = "POST"
    headers: dict[str, Template] = {}
    body: Jsonata | None = None
    encoding: Literal["json", "form"] = "json"
    secrets: dict[str, Secret] = {}
    ok: Jsonata | None = None
    send: dict[str, Jsonata] = {}
    cookies: bool = True
    lifetime_s: Annotated[float, Meta(gt=0, le=86400 * 30)] | None = None
    logout: RequestTable | None = None

    def check(self) -> Iterable[tuple[str, str]]:
        if not self.cookies and not self.send:
            yield "", 'keeps neither cookies nor a header of the login\'s answer; set `send`, as in { X-Session = "body.token" }'
        for name in self.send:
            if is_ours(name):
                yield "send", f"{name} is set by the gateway itself"


class Csrf(Table, frozen=True, kw_only=True):
    """CSRF token for changing requests: fetched, kept with its cookies, and fetched again when refused.

    The defaults are SAP's: a GET with `X-CSRF-Token: Fetch`, and 403 with `x-csrf-token: Required` where it has run out.
    """

    url: Template
    method: Literal["GET", "HEAD"] = "GET"
    header: Annotated[str, Meta(pattern=HEADER_NAME)] = "X-CSRF-Token"
    fetch: str = "Fetch"
    status: tuple[int, ...] = (403,)

    def check(self) -> Iterable[tuple[str, str]]:
        if is_ours(self.header):
            yield "header", f"{self.header} is set by the gateway itself"


Auth = NoAuth | Basic | Bearer | Header | ClientCredentials | OAuth1 | Login


def _one_line(key: str, secret: Secret) -> Iterable[tuple[str, str]]:
    if not secret.reveal().isprintable():
        yield key, f"holds a line break or another character that no HTTP header can carry ({secret.origin}); leave just the secret there"
