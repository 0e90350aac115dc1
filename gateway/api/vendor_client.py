"""A vendor's API: its description by a connector, and the client that hooks call it with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from gateway.api import client_assertion
from gateway.api.errors import PermanentError, without_input
from gateway.api.secrets import Secret

T = TypeVar("T")


class BasicAuth(Struct, frozen=True, kw_only=True):
    """HTTP Basic."""

    username: str
    password: Secret


class HeaderAuth(Struct, frozen=True, kw_only=True):
    """Header of any name: `name: prefix value`."""

    name: str
    value: Secret
    prefix: str = ""


class QueryAuth(Struct, frozen=True, kw_only=True):
    """Parameter in the address: `?name=value`."""

    name: str
    value: Secret


class BearerAuth(Struct, frozen=True, kw_only=True):
    """`Authorization: Bearer token`, with a token that the operator renews."""

    token: Secret


class OAuth2(Struct, frozen=True, kw_only=True):
    """OAuth2 client credentials: one token for all calls of a scope, renewed early and after a 401, once at a time.

    Attributes:
        client_auth: `client_secret`, or `private_key_jwt`: an assertion signed with RS256 in place of the secret.
        private_key: PEM, RSA, for `private_key_jwt`.
        certificate: PEM; identifies the key to the token endpoint (`x5t`).
        send_certificate: True sends the certificate, too (`x5c`).
        audience: `aud` of the assertions; default `token_url`. The two differ behind a proxy of one's own.
        assertion_s: Lifetime of an assertion, in seconds.
    """

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    scope: str = ""
    encoding: Literal["form", "json"] = "form"
    client_auth: Literal["client_secret", "private_key_jwt"] = "client_secret"
    private_key: Secret | None = None
    certificate: Secret | None = None
    send_certificate: bool = False
    audience: str = ""
    assertion_s: float = 60.0

    def problems(self) -> Iterable[tuple[str, str]]:
        """Yield each problem as the name of a setting and a text, for `gateway check`."""
        if self.client_auth == "client_secret":
            if self.client_secret is None:
                yield "client_secret", 'is needed with client_auth = "client_secret"'
        elif self.private_key is None:
            yield "private_key", 'is needed with client_auth = "private_key_jwt"'
        else:
            yield from client_assertion.problems(self.private_key, self.certificate)


class Api(Struct, frozen=True, kw_only=True):
    """Description of a vendor's API.

    Attributes:
        base_url: Prefix of relative paths; credentials go to this host and to those of `also` only.
        also: Further addresses of the same API, for absolute URLs on other hosts.
        calls_per_minute: Limit within any minute; requests for tokens and acknowledgements count.
        max_response_bytes: A longer answer is an error, and nothing of it is used.
        timeout_s: Seconds for a whole call.
        stop_after_auth_failures: Number of 401 in a row after which nothing is sent, so that the vendor does not lock the account, until
            the credentials change or an operator resumes the source.
    """

    base_url: str
    also: tuple[str, ...] = ()
    auth: BasicAuth | HeaderAuth | OAuth2 | None = None
    calls_per_minute: int | None = None
    max_response_bytes: int = 16 * 1024 * 1024
    timeout_s: float = 30.0
    stop_after_auth_failures: int | None = None


class Response(Struct, frozen=True, kw_only=True):
    """Answer with a status that the caller accepts. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """Decode the JSON body as `kind`. Raises PermanentError for anything else (a sign-in page, a cut-off answer)."""
        try:
            return msgspec.json.decode(self.body.removeprefix(b"\xef\xbb\xbf"), type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            declared = self.headers.get("content-type", "no content type")
            raise PermanentError(f"the answer is not the JSON expected ({declared}): {without_input(error)}") from error


class VendorClient(Protocol):
    """API client of a source: it signs in, limits rates, bounds answers and refuses redirects."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        scope: str | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Call the vendor.

        Args:
            path: Relative to the API's base URL, or an absolute URL on the same host or one of `also`.
            params: Query parameters, percent-encoded by the client.
            json: The body, unless it is None.
            accept: Statuses to return, beside 2xx; others raise.
            scope: With OAuth2: the scope of the token, in place of the API's own.
            timeout_s: In place of the API's own, for calls that the vendor holds open.
        Raises:
            AuthError: 401 or 403, after one renewal of the token.
            RateLimited: 429.
            TimedOut: No answer in time; a TransientError, too.
            TransientError: 408, 425, 5xx, a timeout, a broken connection.
            PermanentError: Any other status, a redirect, an answer that is too long.
        """
