"""Who sends: the address at the other end of a connection, or whom a trusted proxy names there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from multidict import CIMultiDictProxy

Address = IPv4Address | IPv6Address

_MOST_NAMED = 10
_LONGEST = 4096


class TrustedProxies:
    """Names senders for the limits.

    A name is an IPv4 address, or the first 64 bits of an IPv6 address, of which one sender has a whole network; "" is a Unix socket.

    Args:
        trusted: Addresses and networks of proxies that say in `X-Forwarded-For` or `Forwarded` for whom they ask.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = [ip_network(one) for one in trusted]

    def is_trusted(self, address: Address | None) -> bool:
        """Whether it is a proxy that is believed."""
        return address is not None and any(address in network for network in self._trusted)

    def client_of(self, headers: CIMultiDictProxy[str]) -> str | None:
        """Whom a trusted proxy names: the last address that is no trusted proxy itself. None where it names nobody."""
        for text in _from_the_right(headers):
            address = read(text)
            if address is None:
                return None
            if not self.is_trusted(address):
                return name(address)
        return None


def read(text: object) -> Address | None:
    """An address with or without a port, as proxies and sockets write it; None for anything else."""
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
    """What the limits call it."""
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return "" if address is None else str(address)


def _from_the_right(headers: CIMultiDictProxy[str]) -> list[str]:
    """What the nearest proxy has added comes first. `Forwarded` counts where there is no `X-Forwarded-For`."""
    if lines := headers.getall("X-Forwarded-For", []):
        return _last(lines)
    return [_for(element) for element in _last(headers.getall("Forwarded", []))]


def _last(lines: Sequence[str]) -> list[str]:
    return ",".join(lines)[-_LONGEST:].split(",")[: -_MOST_NAMED - 1 : -1]


def _for(element: str) -> str:
    """The `for` of one element of `Forwarded` (RFC 7239); nothing where there is none."""
    for pair in element.split(";"):
        key, _, value = pair.partition("=")
        if key.strip().lower() == "for":
            return value
    return ""
