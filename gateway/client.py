"""What a hook may ask of its vendor's API, and how a connector describes that API to the core."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from gateway.errors import PermanentError
from gateway.secret import Secret

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
    """OAuth2 client credentials: one token for all calls, one renewal at a time, renewed early and after a 401."""

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str = ""
    encoding: Literal["form", "json"] = "form"


class Api(Struct, frozen=True, kw_only=True):
    """A vendor's API.

    Attributes:
        base_url: In front of every relative path; credentials go to this host only.
        calls_per_minute: Never more, in any minute; tokens and marks count too.
        max_response_bytes: A longer answer is an error, and nothing of it is used.
        timeout_s: For a whole call.
        stop_after_auth_failures: After so many 401 in a row nothing more is sent, since the vendor would lock the account,
            until the credentials change or a person says so.
    """

    base_url: str
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
            raise PermanentError(f"the answer is not the JSON expected ({declared}): {error}") from error


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
    ) -> Response:
        """Call the vendor.

        Args:
            path: Relative to the API's base URL, or an absolute URL on the same host.
            params: Query parameters, percent-encoded by the client.
            json: Sent as a JSON body where it is not None.
            accept: Statuses to return beside 2xx; others raise.
        Raises:
            AuthError: 401 or 403, after one renewal of the token.
            RateLimited: 429.
            TransientError: 408, 425, 5xx, a timeout, a broken connection.
            PermanentError: Any other status, a redirect, too long an answer.
        """
