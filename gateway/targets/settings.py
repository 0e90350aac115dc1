"""Configuration of a target: `[targets.NAME]` (CONTRACT section 3, erp_targets.md 4.3)."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field

from gateway.api.errors import MappingError, PermanentError
from gateway.api.order import Kind
from gateway.api.secrets import Secret
from gateway.config.settings import Positive, PositiveInt
from gateway.outbound.session import ClientCertificate, why_no_client_cert
from gateway.targets.auth_settings import Auth, Basic, ClientCredentials, Csrf, Login, NoAuth, PemFile
from gateway.targets.body_settings import BodySettings, CodeTable, LookupSettings
from gateway.targets.delivery_settings import Capture, Idempotency, Preflight, Rule, Step, policy_problems
from gateway.targets.expressions import Jsonata, read_whole
from gateway.targets.flow import Flow
from gateway.targets.request_settings import RequestTable, Table, address_of, header_problems, origin_of, request_problems
from gateway.targets.templates import RESERVED_NAMES, Template, UrlTemplate


class Retry(Table, frozen=True, kw_only=True):
    """Retry delays: full jitter between 0 and min(cap_s, base_s * 2^n); a dead letter `max_age_s` after the first try."""

    base_s: Positive = 2.0
    cap_s: Positive = 900.0
    max_age_s: Positive = 604800.0

    def check(self) -> Iterable[tuple[str, str]]:
        if self.base_s > self.cap_s:
            yield "cap_s", f"must not be below base_s ({self.base_s:g})"
        if self.cap_s > 86400:
            yield "cap_s", "must be at most a day (86400)"


class Breaker(Table, frozen=True, kw_only=True):
    """Circuit breaker: opens after `failures` in a row for `cooldown_s`, then tries one order; longer after each failure."""

    failures: PositiveInt = 5
    cooldown_s: Positive = 30.0


class TargetSettings(Table, frozen=True, kw_only=True):
    """Target of orders: receives the canonical message or, with `body`, the ERP's own form.

    Attributes:
        vars: Constants of the operator for templates, as `{name}`.
        values: Further names for templates, each a JSONata text over the context.
        accepts_if: True for the orders that this target takes; once it has an order, it gets every change of it.
        renew_on: Statuses that mean "sign in again".
        renew_if: True over an answer that means the same by other means, such as a 200 with an error.
        secrets: Values of `secret.NAME` in request bodies, for an ERP that wants its key there.
        max_consecutive_auth_failures: Limit of refusals in a row; then nothing more is sent, so that the account is not locked.
    """

    url: UrlTemplate
    allow_plain_http: bool = False
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    query: dict[str, Template] = {}
    headers: dict[str, Template] = {}
    vars: dict[str, str] = {}
    values: dict[str, Jsonata] = {}
    auth: Auth = NoAuth()
    csrf: Csrf | None = None
    renew_on: tuple[int, ...] = (401,)
    renew_if: Jsonata | None = None
    secrets: dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Secret] = {}
    max_consecutive_auth_failures: Annotated[int, Meta(ge=1, le=10)] = 2
    client_cert: PemFile | None = None
    client_key: PemFile | None = None
    client_key_password: Secret | None = None
    body: BodySettings | None = None
    tables: dict[str, CodeTable] = {}
    lookups: dict[str, LookupSettings] = {}
    check_request: RequestTable | None = field(name="check", default=None)
    accepts: tuple[Kind, ...] = ("order.placed", "order.revised", "order.cancelled", "order.status")
    accepts_if: Jsonata | None = None
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

    def check(self) -> Iterable[tuple[str | tuple[str | int, ...], str]]:
        yield from header_problems(self.headers)
        yield from self._requests()
        if not self.accepts:
            yield "accepts", "is empty, so nothing would ever be sent; leave it out for every kind"
        if self.ca_file is not None and not _holds_certificates(self.ca_file):
            yield "ca_file", f"{self.ca_file} is no PEM file with the authority that signed the target's certificate; export it as PEM"
        yield from policy_problems(self.idempotency, self.preflight, self.steps)
        if self.client_certificate is not None:
            problem = why_no_client_cert(*self.client_certificate)
            if problem:
                yield "client_cert", problem
        elif self.client_key is not None:
            yield "client_key", "is the key of a client_cert, and there is none"

    def wants(self, body: bytes) -> bool:
        """Return whether this target takes the order of a canonical message. Raises PermanentError: `accepts_if` does not say."""
        if self.accepts_if is None:
            return True
        message = read_whole(body)
        try:
            found = self.accepts_if.evaluate({"order": message["order"], "message": message, "vars": dict(self.vars)})
        except MappingError as error:
            raise PermanentError(f"accepts_if of a target: {error}") from error
        if not isinstance(found, bool):
            raise PermanentError("accepts_if of a target gives neither true nor false for this order")
        return found

    @property
    def is_plain_message(self) -> bool:
        """Tell whether the ERP gets the canonical message, at an address that no order changes."""
        templates = (self.url, *self.query.values(), *self.headers.values())
        return self.body is None and not self.query and not self.lookups and not any("{" in one or "}" in one for one in templates)

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """Certificate to show in handshakes."""
        if self.client_cert is None:
            return None
        return self.client_cert.path, self.client_key.path if self.client_key else None, self.client_key_password

    @property
    def credentials(self) -> Literal["none", "token", "password"]:
        """Kind of credentials at risk: accounts are locked after wrong passwords, not after wrong tokens."""
        match self.auth:
            case Basic() | Login():
                return "password"
            case ClientCredentials(client_auth="client_secret"):
                return "password"
            case NoAuth():
                return "password" if self.secrets else "none"
        return "token"

    def _requests(self) -> Iterable[tuple[str | tuple[str | int, ...], str]]:
        """Check every request: its names are known, its host is fixed and the target's."""
        for name in self.vars:
            if not name.isidentifier() or name in RESERVED_NAMES or name in self.values:
                yield "vars", f"{name!r} cannot be the name of a variable; {', '.join(RESERVED_NAMES)} and the names in values are taken"
        there, problem = address_of(self.url, self.vars)
        origin = "" if problem else origin_of(there)
        own = RequestTable(url=self.url, query=self.query, headers=self.headers)
        yield from request_problems(own, self.vars, self.values, "", plain=self.allow_plain_http or self.url.is_plain)
        for key, more in self.other_requests():
            for below, text in request_problems(more, self.vars, self.values, origin, plain=self.allow_plain_http):
                yield (*key, below), text

    def other_requests(self) -> Iterable[tuple[tuple[str | int, ...], RequestTable]]:
        """Yield every request beside the one that makes the order, by its place in the table."""
        for name, lookup in self.lookups.items():
            yield ("lookups", name), lookup
        if self.preflight is not None:
            yield ("preflight",), self.preflight
        for n, step in enumerate(self.steps):
            yield ("steps", n), step
        if self.check_request is not None:
            yield ("check",), self.check_request
        if isinstance(self.auth, Login):
            yield ("auth",), RequestTable(url=self.auth.url, headers=self.auth.headers)
            if self.auth.logout is not None:
                yield ("auth", "logout"), self.auth.logout
        if self.csrf is not None:
            yield ("csrf",), RequestTable(url=self.csrf.url)


def _holds_certificates(path: Path) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # what ssl raises is one, too
        return False
    return True
