"""HTTP sessions for all outbound requests: verified TLS, timeouts, bounded answers, no redirects, an address check."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from gateway.api.errors import PermanentError, TimedOut, TransientError
from gateway.api.secrets import Secret
from gateway.outbound.answer import Answer

AddressCheck = Callable[[str], bool]
_IN_ONE_PIECE_BYTES = 1024 * 1024  # longer ones in pieces, so that other requests get their turn
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unreached(TransientError):
    """Nothing was sent: no name, no route, refused, connect timeout."""

    def __init__(self, message: str) -> None:
        super().__init__(message, undone=True)


class Untrusted(Unreached):
    """Nothing was sent: the certificate of the other side is not accepted, and a person has to look."""


class Unanswered(TransientError):
    """A request was sent and no whole answer came back: the other side may have done it."""


class NoAnswerInTime(Unanswered, TimedOut):
    """A request was sent and no answer came in time."""


class TooLong(PermanentError):
    """The answer exceeds its limit; `answer` holds what was read."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


def any_unicast(host: str) -> bool:
    """Return whether a target may have this address: any machine's, private networks included, but no cloud metadata address."""
    ip = _address(host)
    return not (ip.is_link_local or ip.is_multicast or ip.is_unspecified)


def global_only(host: str) -> bool:
    """Return whether a vendor's host may have this address: one of the public internet."""
    ip = _address(host)
    return ip.is_global and not ip.is_multicast


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that packets reach in the end: an IPv6 address can carry an IPv4 one."""
    ip = ipaddress.ip_address(host.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def why_no_client_cert(certificate: Path, key: Path | None, password: Secret | None) -> str | None:
    """Return why a client certificate cannot be used, or None."""
    try:
        present(ssl.create_default_context(), certificate, key, password)
    except (OSError, ValueError) as error:  # what ssl raises is an OSError, too
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        return f"{certificate} and its key cannot be used ({reason}); both as PEM, the key in client_key or in the same file"
    return None


def present(tls: ssl.SSLContext, certificate: Path, key: Path | None, password: Secret | None) -> None:
    """Show this certificate in every later handshake. Raises OSError, ssl.SSLError."""
    tls.load_cert_chain(certificate, key, password.reveal() if password else "")  # without a password ssl would ask at the terminal


ClientCertificate = tuple[Path, Path | None, Secret | None]


def tls_context(ca_file: Path | None = None, client_certificate: ClientCertificate | None = None) -> ssl.SSLContext:
    """Make a TLS context that verifies, TLS 1.2 or later.

    Args:
        ca_file: PEM certificates to trust in place of the system's.
        client_certificate: PEM certificate to show, its key where it stands in another file, and the key's password.
    Raises:
        OSError, ssl.SSLError: One of them cannot be used.
    """
    tls = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_certificate is not None:
        present(tls, *client_certificate)
    return tls


def open_session(
    *,
    allowed: AddressCheck,
    connections: int,
    connect_timeout_s: float,
    ca_file: Path | None = None,
    tls: ssl.SSLContext | None = None,
    upgrades: bool = False,
) -> aiohttp.ClientSession:
    """Open a session for one other side. Call it inside the running loop, and close the session.

    Args:
        allowed: Decides about every address before a socket is made for it, literal addresses included.
        connections: Limit at the same time.
        ca_file: PEM certificates to trust in place of the system's.
        tls: Context in place of the one for `ca_file`.
        upgrades: For WebSockets: keep cookies, with which load balancers pin a client to a server, refuse redirects, and keep no
            connection for a next request.
    Raises:
        OSError, ssl.SSLError: `ca_file` cannot be used.
    """

    def make_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not allowed(str(address[0])):
            raise OSError(f"the address {address[0]} is not allowed for this side")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    tls = tls or tls_context(ca_file)
    connector = aiohttp.TCPConnector(
        limit=connections,
        ssl=tls,
        socket_factory=make_socket,
        force_close=upgrades,
        keepalive_timeout=None if upgrades else 25,
        ttl_dns_cache=30,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.CookieJar(unsafe=True) if upgrades else aiohttp.DummyCookieJar(),
        trace_configs=[_no_redirects()] if upgrades else None,
        timeout=aiohttp.ClientTimeout(sock_connect=connect_timeout_s, connect=None),
        auto_decompress=True,
        raise_for_status=False,
        headers={"User-Agent": "order-gateway"},
    )


def _no_redirects() -> aiohttp.TraceConfig:
    """Refuse redirects of `ws_connect`, which has no argument for it."""

    async def refuse(_: aiohttp.ClientSession, __: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams) -> None:
        answer = redirect.response
        raise aiohttp.WSServerHandshakeError(answer.request_info, (), status=answer.status, headers=answer.headers)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout_s: float,
    max_bytes: int,
    params: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request and read the whole answer.

    Args:
        timeout_s: Limit of silence after the request; connecting has the session's own limit. Their sum limits the whole call.
        max_bytes: Limit of the answer; a longer one is cut.
    Raises:
        Unreached, Untrusted: Nothing was sent.
        Unanswered: The other side may have done it.
        TooLong: The other side has done it, and the answer is cut.
    """
    with translated_errors():
        async with session.request(
            method,
            url,
            headers=headers,
            data=body if body is None or len(body) <= _IN_ONE_PIECE_BYTES else io.BytesIO(body),
            params=params,
            allow_redirects=False,
            timeout=_timeout(session.timeout.sock_connect, timeout_s),
        ) as response:
            try:
                return await _whole(response, max_bytes)
            except (ArithmeticError, LookupError, ValueError) as error:  # it was sent, so this is no `Unreached`
                raise Unanswered("the answer cannot be read") from error


async def takes_connections(url: str, allowed: AddressCheck, timeout_s: float) -> bool:
    """Return whether the host accepts a connection now. Nothing is sent over it."""
    there, loop = URL(url), asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            for family, kind, protocol, _, address in await loop.getaddrinfo(there.host, there.port, type=socket.SOCK_STREAM):
                if allowed(str(address[0])) and await _connects(socket.socket(family, kind, protocol), address):
                    return True
    except (OSError, TimeoutError, UnicodeError):
        pass
    return False


async def _connects(made: socket.socket, address: Any) -> bool:
    with made:
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, address)
        except OSError:
            return False
        return True


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn aiohttp's errors into Unreached, Untrusted or Unanswered."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, aiohttp.ClientSSLError) as error:
        raise Untrusted(f"TLS: {_plain(error)}") from error
    except aiohttp.ConnectionTimeoutError as error:
        raise Unreached("no connection: no answer in time") from error
    except aiohttp.ClientConnectorError as error:
        raise Unreached(f"no connection: {_plain(error)}") from error
    except (aiohttp.InvalidURL, UnicodeError) as error:
        raise Unreached("no connection: the address cannot be used") from error
    except ValueError as error:  # aiohttp looks at them before it connects
        raise Unreached("nothing was sent: a header or credential holds a character that HTTP cannot carry") from error
    except TimeoutError as error:
        raise NoAnswerInTime("no answer in time") from error
    except aiohttp.ClientError as error:
        raise Unanswered(f"the connection broke: {_plain(error)}") from error


@lru_cache(maxsize=256)
def _timeout(connect_s: float, answer_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=connect_s + answer_s, sock_connect=connect_s, sock_read=answer_s)


async def _whole(response: aiohttp.ClientResponse, max_bytes: int) -> Answer:
    try:
        length = response.content_length
    except ValueError:  # thousands of zeros; it was sent all the same, and is no `Unreached`
        length = None
    if length is not None and length <= max_bytes and "Content-Encoding" not in response.headers:
        return Answer(status=response.status, headers=response.headers, body=await response.read())
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise TooLong(
                f"the answer is longer than {max_bytes} bytes",
                Answer(status=response.status, headers=response.headers, body=bytes(body[:max_bytes])),
            )
    return Answer(status=response.status, headers=response.headers, body=bytes(body))


def _plain(error: aiohttp.ClientError) -> str:
    """Return the reason in a few words. Not aiohttp's text: it can hold the whole URL."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError):
        return cause.reason or "it is not spoken there"
    if isinstance(cause, OSError):
        text = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or str(cause) or "closed without an answer"
        return text[:1].lower() + text[1:200]
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return "closed without an answer"
    return "the answer breaks off" if isinstance(cause, aiohttp.ClientPayloadError) else "the answer is not HTTP"


async def certificate_ends_at(host: str, port: int, *, allowed: AddressCheck, tls: ssl.SSLContext, timeout_s: float) -> datetime | None:
    """Return when the other side's certificate expires, by a handshake alone; None where there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            address = next(str(one[4][0]) for one in found if allowed(str(one[4][0])))
            _, writer = await asyncio.open_connection(address, port, ssl=tls, server_hostname=host)
    except (OSError, ValueError, StopIteration, TimeoutError):
        return None
    shown = writer.get_extra_info("peercert")
    writer.transport.abort()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC) if shown else None
