"""The one way out: an aiohttp session with verified TLS, timeouts, bounded answers, no redirects, and an address check."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
from msgspec import Struct

from gateway.errors import PermanentError, TransientError

AddressCheck = Callable[[str], bool]
_LONGEST_WAIT_S = 86400.0


class Unreached(TransientError):
    """Nothing was sent: no name, no route, refused, connect timeout."""


class Untrusted(Unreached):
    """The other side's certificate is not accepted; a person has to look."""


class Unanswered(TransientError):
    """Something was sent and no whole answer came back: the other side may have done it."""


class TooLong(PermanentError):
    """The answer is longer than its limit; what came is in `answer`."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class Answer(Struct, frozen=True, kw_only=True):
    """An HTTP answer, body bounded; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def any_unicast(host: str) -> bool:
    """What a target may live at: any address of a machine, private networks included, the cloud's metadata address not."""
    ip = ipaddress.ip_address(host)
    return not (ip.is_link_local or ip.is_multicast or ip.is_unspecified)


def global_only(host: str) -> bool:
    """What a vendor's host name may resolve to: an address of the public internet."""
    return ipaddress.ip_address(host).is_global


def open_session(
    *, allowed: AddressCheck, connections: int, connect_timeout_s: float, ca_file: Path | None = None
) -> aiohttp.ClientSession:
    """A session for one other side. Call it inside the running loop, and close it.

    Args:
        allowed: Asked about every address before a socket is made for it, literal addresses included.
        connections: At the most, at the same time.
        ca_file: PEM certificates to trust in place of the system's.
    Raises:
        OSError, ssl.SSLError: `ca_file` cannot be used.
    """

    def make_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allowed(str(address[0]).split("%", 1)[0]):
            raise OSError(f"the address {address[0]} is not allowed for this side")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    connector = aiohttp.TCPConnector(limit=connections, ssl=tls, socket_factory=make_socket, keepalive_timeout=25, ttl_dns_cache=30)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=connect_timeout_s, connect=None),
        auto_decompress=True,
        raise_for_status=False,
        headers={"User-Agent": "order-gateway"},
    )


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    read_timeout_s: float,
    total_timeout_s: float,
    max_bytes: int,
    params: Mapping[str, str] | None = None,
) -> Answer:
    """One request, one whole answer.

    Raises:
        Unreached, Untrusted: Nothing was sent.
        Unanswered: It may have been done.
        TooLong: It was done, and the answer is cut.
    """
    try:
        async with asyncio.timeout(total_timeout_s):
            async with session.request(
                method,
                url,
                headers=headers,
                data=body,
                params=params,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=session.timeout.sock_connect, sock_read=read_timeout_s),
            ) as response:
                return await _whole(response, max_bytes)
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, aiohttp.ClientSSLError) as error:
        raise Untrusted(f"TLS: {_plain(error)}") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreached(f"no connection: {_plain(error)}") from error
    except TimeoutError as error:
        raise Unanswered("no answer in time") from error
    except aiohttp.ClientError as error:
        raise Unanswered(f"the connection broke: {_plain(error)}") from error


async def _whole(response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise TooLong(
                f"the answer is longer than {max_bytes} bytes",
                Answer(status=response.status, headers=headers, body=bytes(body[:max_bytes])),
            )
    return Answer(status=response.status, headers=headers, body=bytes(body))


def _plain(error: Exception) -> str:
    """The reason without the address's query: an aiohttp error text can hold the whole URL."""
    cause = getattr(error, "os_error", None)
    text = getattr(cause, "strerror", None) or str(cause or "") or type(error).__name__
    return re.sub(r"\?\S*", "", text)[:200]


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or a date; at most a day, None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), _LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now).total_seconds()), _LONGEST_WAIT_S)
