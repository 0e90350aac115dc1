"""Address of a sender: the other end of a connection, or the one that a trusted proxy names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from multidict import CIMultiDictProxy

Address = IPv4Address | IPv6Address

_MOST_NAMED = 10
_LONGEST = 4096


class TrustedProxies:
    """Proxies that say in `X-Forwarded-For` or `Forwarded` for whom they ask.

    Args:
        trusted: Their addresses and networks.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = [ip_network(one) for one in trusted]

    def is_trusted(self, address: Address | None) -> bool:
        """Return True for the address of a trusted proxy."""
        return address is not None and any(address in network for network in self._trusted)

    def client_of(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Return the name of the last address that is no trusted proxy itself; None if the headers have none."""
        for text in _from_the_right(headers):
            address = read(text)
            if address is None:
                return None
            if not self.is_trusted(address):
                return name(address)
        return None


def read(text: object) -> Address | None:
    """Parse an address with or without a port, as proxies and sockets write it; None for anything else."""
    written = str(text).strip().strip('"')
    if written.startswith("["):
        written = written[1:].partition("]")[0]
    elif written.count(":") == 1:
        written = written.partition(":")[0]
    try:
        address = ip_address(written.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def name(address: Address | None) -> str:
    """Return the name that the limits count by: an IPv4 address, an IPv6 /64, since a sender has all of it, or "" for a Unix socket."""
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return "" if address is None else str(address)


def _from_the_right(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the addresses, that of the nearest proxy first. `Forwarded` counts if there is no `X-Forwarded-For`."""
    if lines := headers.getall("X-Forwarded-For", []):
        return _last(lines)
    return [_for(element) for element in _last(headers.getall("Forwarded", []))]


def _last(lines: Sequence[str]) -> list[str]:
    return ",".join(lines)[-_LONGEST:].split(",")[: -_MOST_NAMED - 1 : -1]


def _for(element: str) -> str:
    """Return the `for` of one element of `Forwarded` (RFC 7239), or nothing."""
    for pair in element.split(";"):
        key, _, value = pair.partition("=")
        if key.strip().lower() == "for":
            return value
    return ""
