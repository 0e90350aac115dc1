"""SignalR negotiation: find the URL and the headers for the WebSocket.

It follows redirects: Azure SignalR and load balancers answer with another URL and a token for it. The vendor's key goes to the
vendor's host only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

import aiohttp
import msgspec
from msgspec import Struct

from gateway.api.secrets import Secret
from gateway.api.subscription import Subscription
from gateway.api.urls import Url
from gateway.api.vendor_client import BearerAuth, HeaderAuth, QueryAuth
from gateway.clock import Clock
from gateway.edge.reconnect import Disconnected
from gateway.outbound.answer import retry_after_s
from gateway.outbound.session import exchange

_MOST_REDIRECTS = 5
_MOST_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"


class _Transport(Struct):
    transport: str = ""


class _Answer(Struct):
    """Answer of `POST /negotiate` (TransportProtocols.md): version 1 has a connection token, version 0 only the id."""

    url: str | None = None
    accessToken: str | None = None
    error: str | None = None
    negotiateVersion: int = 0
    connectionToken: str | None = None
    connectionId: str | None = None
    availableTransports: list[_Transport] | None = None


class Negotiation:
    """Negotiation from the configured URL and the current credential. `secrets` are the texts to mask."""

    def __init__(self, subscription: Subscription, http: aiohttp.ClientSession, clock: Clock) -> None:
        self._subscription = subscription
        self._http = http
        self._clock = clock
        self.secrets: set[str] = set()

    async def run(self) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of the WebSocket.

        Raises:
            Disconnected: The hub refuses, or is no hub.
            Unreached, Untrusted, Unanswered, TooLong: No answer.
        """
        url, token = self._subscription.url, None
        if not self._subscription.negotiate:
            return self._with_credential(url, token)
        for _ in range(1 + _MOST_REDIRECTS):
            answer = await self._ask(url, token)
            if answer.url is None:
                id = answer.connectionToken if answer.negotiateVersion > 0 else answer.connectionId
                if not id:
                    raise Disconnected("not_a_hub", "the negotiation gives no connection")
                if "WebSockets" not in {one.transport for one in answer.availableTransports or ()}:
                    raise Disconnected("not_a_hub", "the hub offers no WebSockets")
                target, headers = self._with_credential(url, token)
                return _with_query(target, id=id), headers
            url, token = self._checked_redirect(answer.url), answer.accessToken
        raise Disconnected("not_a_hub", f"the negotiation redirects more than {_MOST_REDIRECTS} times")

    async def _ask(self, url: str, token: str | None) -> _Answer:
        target, headers = self._with_credential(url, token)
        parts = urlsplit(_with_query(target, negotiateVersion="1"))
        path = parts.path.rstrip("/") + "/negotiate"
        answer = await exchange(
            self._http,
            "POST",
            urlunsplit(parts._replace(path=path)),
            headers={"Accept": "application/json", **headers},
            body=b"",
            timeout_s=self._subscription.connect_timeout_s,
            max_bytes=_MOST_BYTES,
        )
        if answer.status != 200:
            raise status_error(answer.status, answer.headers, self._clock.now())
        try:
            found = msgspec.json.decode(answer.body.removeprefix(_BOM), type=_Answer)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Disconnected("not_a_hub", "the negotiation's answer is not the JSON expected") from error
        if found.error:
            text = "".join(c if c.isprintable() else " " for c in found.error[:200])
            raise Disconnected("not_a_hub", f"it refuses the negotiation: {text}")
        return found

    def _checked_redirect(self, url: str) -> str:
        try:
            found = Url.parse(url)
        except ValueError as error:
            raise Disconnected("not_a_hub", "the negotiation redirects to what is no address") from error
        if found.is_plain and urlsplit(self._subscription.url).scheme == "https":
            raise Disconnected("not_a_hub", "the negotiation redirects to an unencrypted address")
        return found

    def _with_credential(self, url: str, token: str | None) -> tuple[str, dict[str, str]]:
        """Return URL and headers with the credential: the vendor's key on its own host only, and the token of a redirect."""
        headers: dict[str, str] = {}
        if _origin(url) == _origin(self._subscription.url):
            match self._subscription.auth:
                case HeaderAuth(name=name, value=value, prefix=prefix):
                    headers[name] = f"{prefix} {self._reveal(value)}".strip()
                case QueryAuth(name=name, value=value):
                    url = _with_query(url, **{name: self._reveal(value)})
                case BearerAuth(token=own):
                    headers["Authorization"] = f"Bearer {self._reveal(own)}"
        if token:
            self.secrets.add(token)
            headers["Authorization"] = f"Bearer {token}"
        return url, headers

    def _reveal(self, secret: Secret) -> str:
        text = secret.reveal()
        self.secrets.add(text)
        return text


def status_error(status: int, headers: Mapping[str, str], now: datetime) -> Disconnected:
    """Return the error for an unexpected status."""
    wait_s = retry_after_s(headers, now)
    if status in (401, 403):
        return Disconnected("credential", f"the hub answers {status}; check the credential and what it may do", retry_after_s=wait_s)
    if status == 404:
        return Disconnected("not_found", "the hub answers 404", retry_after_s=wait_s)
    if 300 <= status < 400:
        return Disconnected("refused", f"the hub redirects ({status}); check its address", retry_after_s=wait_s)
    return Disconnected("refused", f"the hub answers {status}", retry_after_s=wait_s)


def _with_query(url: str, **parameters: str) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(parameters))))
    return urlunsplit(parts._replace(query=query))


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
