"""Addresses in a configuration: HTTPS, except to this machine or with `allow_plain_http = true`."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


class Url(str):
    """An `https://` address; `http://` to another machine needs `allow_plain_http = true` beside it."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Url:
        """Check the form. Raises ValueError for anything but an absolute http(s) address without user name and password."""
        if not isinstance(text, str):
            raise ValueError('must be a text, as in "https://erp.example/orders"')
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError('is not an address: its host or port is not valid; write it as in "https://erp.example/orders"') from error
        if parts.scheme not in ("http", "https") or not host or " " in text or not text.isprintable():
            raise ValueError('must be an absolute address, as in "https://erp.example/orders"')
        if parts.username or parts.password:
            raise ValueError("may not hold a user name or password; use the auth settings")
        return cls(text)

    @property
    def is_plain(self) -> bool:
        """True if requests travel unencrypted over a network."""
        return urlsplit(self).scheme == "http" and not is_loopback(urlsplit(self).hostname or "")


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_literal(host: str) -> bool:
    """Return True if a host is an IP address or `localhost`: the operator means exactly that machine."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
