"""What a hook may ask of its vendor's API, and how a connector describes that API to the core."""

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
    """A header of its own: `name: prefix value`."""

    name: str
    value: Secret
    prefix: str = ""


class QueryAuth(Struct, frozen=True, kw_only=True):
    """A parameter in the address: `?name=value`."""

    name: str
    value: Secret


class BearerAuth(Struct, frozen=True, kw_only=True):
    """`Authorization: Bearer token`, with a token that somebody else renews."""

    token: Secret


class OAuth2(Struct, frozen=True, kw_only=True):
    """OAuth2 client credentials: one token for all calls of one scope, one renewal at a time, renewed early and after a 401.

    Attributes:
        client_auth: `client_secret`, or `private_key_jwt`: a signed assertion, RS256, in the secret's place.
        private_key: PEM, RSA, for `private_key_jwt`.
        certificate: PEM; names the key to the other side (`x5t`).
        send_certificate: Send it along as well (`x5c`).
        audience: `aud` of the assertions; default `token_url`. Behind a proxy of one's own the two differ.
        assertion_s: How long an assertion lives.
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
        """What `gateway check` says of it, as pairs of a name above and a text."""
        if self.client_auth == "client_secret":
            if self.client_secret is None:
                yield "client_secret", 'is needed with client_auth = "client_secret"'
        elif self.private_key is None:
            yield "private_key", 'is needed with client_auth = "private_key_jwt"'
        else:
            yield from client_assertion.problems(self.private_key, self.certificate)


class Api(Struct, frozen=True, kw_only=True):
    """A vendor's API.

    Attributes:
        base_url: In front of every relative path; credentials go to this host only, and to those of `also`.
        also: Further addresses of the same API, for absolute URLs on other hosts.
        calls_per_minute: Never more, in any minute; tokens and marks count too.
        max_response_bytes: A longer answer is an error, and nothing of it is used.
        timeout_s: For a whole call.
        stop_after_auth_failures: After so many 401 in a row nothing more is sent, since the vendor would lock the account,
            until the credentials change or a person says so.
    """

    base_url: str
    also: tuple[str, ...] = ()
    auth: BasicAuth | HeaderAuth | OAuth2 | None = None
    calls_per_minute: int | None = None
    max_response_bytes: int = 16 * 1024 * 1024
    timeout_s: float = 30.0
    stop_after_auth_failures: int | None = None


class Response(Struct, frozen=True, kw_only=True):
    """An answer whose status the caller accepts. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def decode(self, kind: type[T]) -> T:
        """The JSON body as `kind`.

        Raises:
            PermanentError: It is not JSON, or not of that shape (a sign-in page, a cut-off answer).
        """
        try:
            return msgspec.json.decode(self.body.removeprefix(b"\xef\xbb\xbf"), type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            declared = self.headers.get("content-type", "no content type")
            raise PermanentError(f"the answer is not the JSON expected ({declared}): {without_input(error)}") from error


class VendorClient(Protocol):
    """The source's API client: authorised, rate limited, bounded, redirects refused."""

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
            json: Sent as a JSON body where it is not None.
            accept: Statuses to return beside 2xx; others raise.
            scope: With OAuth2: call with a token for this scope in place of the API's own.
            timeout_s: In place of the API's own, for calls that the vendor holds open.
        Raises:
            AuthError: 401 or 403, after one renewal of the token.
            RateLimited: 429.
            TimedOut: Nothing came in time; a TransientError as well.
            TransientError: 408, 425, 5xx, a timeout, a broken connection.
            PermanentError: Any other status, a redirect, too long an answer.
        """
