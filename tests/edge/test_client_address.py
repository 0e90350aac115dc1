"""Who sends: the socket's other end, or whom a trusted proxy names."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.edge.client_address import TrustedProxies, name, read

PEERS = TrustedProxies(["127.0.0.1", "::1", "10.0.0.0/8"])


def client_of(*lines: tuple[str, str]) -> str | None:
    return PEERS.client_of(CIMultiDictProxy(CIMultiDict(lines)))


@pytest.mark.parametrize(
    ("lines", "whom"),
    [
        ([], None),
        ([("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "203.0.113.9, 192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "203.0.113.9, 192.0.2.1, 10.1.1.1,127.0.0.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "192.0.2.1:4711")], "192.0.2.1"),
        ([("X-Forwarded-For", "[2001:db8::7]:4711")], "2001:db8::/64"),
        ([("X-Forwarded-For", "2001:db8:0:0:1:2:3:4")], "2001:db8::/64"),
        ([("X-Forwarded-For", "::ffff:192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "10.0.0.1")], None),
        ([("X-Forwarded-For", "192.0.2.1, unknown")], None),
        ([("X-Forwarded-For", "192.0.2.1, ")], None),
        ([("X-Forwarded-For", ", " * 5000)], None),
        ([("X-Forwarded-For", "192.0.2.1" + ", 10.0.0.1" * 10)], None),
        ([("Forwarded", 'for=203.0.113.9;proto=https, For="192.0.2.1:80";by=10.0.0.1')], "192.0.2.1"),
        ([("Forwarded", 'for="[2001:db8::7]:4711"')], "2001:db8::/64"),
        ([("Forwarded", "for=_hidden")], None),
        ([("Forwarded", "proto=https")], None),
        ([("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "192.0.2.1")], "192.0.2.1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_sender(lines: list[tuple[str, str]], whom: str | None) -> None:
    assert client_of(*lines) == whom


def test_only_what_is_configured_is_trusted() -> None:
    assert [PEERS.is_trusted(read(text)) for text in ("127.0.0.1", "::1", "::ffff:10.2.3.4", "127.0.0.2", "11.0.0.1", "x")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_one_sender_has_a_network_of_ipv6_and_a_unix_socket_has_no_name() -> None:
    assert name(read("2001:db8:1:2:3::4%eth0")) == name(read("2001:db8:1:2::9")) == "2001:db8:1:2::/64"
    assert name(None) == ""
