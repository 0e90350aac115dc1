"""What reaches nobody: the key and the redirect's token, whatever the hub does with them (C18); and whom we trust (C17)."""

from __future__ import annotations

import ipaddress
import logging
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import generate_latest

from gateway import BearerAuth, QueryAuth, Secret, Subscription
from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.edge.reconnect import Disconnected
from gateway.outbound.session import global_only
from gateway.testing.hub import END, FaultHub, record
from tests import hub_connector
from tests.edge.listening import KEY, fault_hub, listening
from tests.edge.sessions import AUTH, http_session, try_once
from tests.log_lines import log_lines
from tests.raw_server import Certificate, certificate

TOKEN = "canary-token"

# --- canaries


@pytest.mark.parametrize("key_in", ["header:x-api-key", "query:code", "bearer"])
async def test_the_key_is_nowhere_but_in_our_requests(tmp_path: Path, key_in: str) -> None:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("SignalRCoreClient").setLevel(logging.DEBUG)
    try:
        with log_lines(level=logging.DEBUG) as lines:
            async with fault_hub(key_in=key_in) as hub, listening(tmp_path, hub, key_in=key_in) as door:
                await door.up()
                reasons = [door.reason]
                for act in _everything_wrong(hub):
                    ended = door.metric("gateway_realtime_ended_total", cause="closed")
                    refused = sum(door.metric("gateway_realtime_connects_total", result=r) for r in ("credential", "refused", "not_a_hub"))
                    await act()
                    await hub.close(f"client {KEY} is slow", True)
                    await door.until(lambda n=ended: door.metric("gateway_realtime_ended_total", cause="closed") == n + 1)  # type: ignore[misc]
                    reasons.append(door.reason)
                    await door.until(
                        lambda n=refused: (  # type: ignore[misc]
                            sum(door.metric("gateway_realtime_connects_total", result=r) for r in ("credential", "refused", "not_a_hub"))
                            > n
                        )
                    )
                    reasons.append(door.reason)
                    hub.handshake, hub.negotiate_body = b"{}" + END, None
                    await door.up()
                metrics = generate_latest(door.metrics.registry).decode()
                frames = b"".join(one for line in hub.lines for one in line.records)
                handshakes = str([line.handshake for line in hub.lines])
    finally:
        logging.getLogger().setLevel(before)
        logging.getLogger("SignalRCoreClient").setLevel(logging.NOTSET)
    assert "the hub closes: client *** is slow" in reasons
    assert KEY not in "".join(lines) + metrics + "".join(reasons) + frames.decode() + handshakes


def _everything_wrong(hub: FaultHub) -> list[Any]:
    async def refused() -> None:
        hub.refuse("negotiate", 401, body=KEY.encode(), www_authenticate=KEY)

    async def no_upgrade() -> None:
        hub.refuse("upgrade", 503, body=KEY.encode())

    async def handshake() -> None:
        hub.handshake = record({"error": f"who is {KEY}?"})

    async def negotiation() -> None:
        hub.negotiate_body = b'{"error": "who is ' + KEY.encode() + b'?"}'

    return [refused, no_upgrade, handshake, negotiation]


async def test_no_exception_holds_a_key_or_a_token() -> None:
    ends: list[Disconnected] = []
    async with fault_hub(key=TOKEN, key_in="bearer") as second, fault_hub() as hub:
        hub.redirect = (second.url, TOKEN)
        second.refuse("upgrade", 404, body=TOKEN.encode())
        ends.append((await try_once(hub))[0])
        second.handshake = record({"error": f"who is {TOKEN}?"})
        ends.append((await try_once(hub))[0])
        second.handshake = b"{}" + END
        second.then = lambda _: second.close(f"{TOKEN} has expired")
        ends.append((await try_once(hub))[0])
        url = second.url
    for auth in (AUTH, QueryAuth(name="code", value=Secret(KEY, origin="test"))):
        ends.append((await try_once(url, auth=auth))[0])
        ends.append((await try_once("http://no-such-host.invalid/x", auth=auth))[0])
    ends.append((await try_once("http://127.0.0.1:1/\n", auth=QueryAuth(name="code", value=Secret(KEY, origin="test"))))[0])
    ends.append((await try_once(url, auth=BearerAuth(token=Secret(f"{KEY}\nx", origin="test"))))[0])
    assert [ended.cause for ended in ends[:3]] == ["not_found", "not_a_hub", "close_no_reconnect"]
    assert ends[2].reason.endswith("*** has expired")
    for ended in ends:
        text = "".join(traceback.format_exception(ended)) + repr(vars(ended)) + repr(ended)
        assert KEY not in text
        assert TOKEN not in text


def test_a_subscription_prints_no_secret() -> None:
    for auth in (AUTH, QueryAuth(name="n", value=Secret(KEY, origin="t")), BearerAuth(token=Secret(KEY, origin="t"))):
        assert KEY not in repr(Subscription(url="https://hub.example/", auth=auth))


# --- whom we trust (C17)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


async def test_an_own_authority_is_trusted_where_it_is_named(own: Certificate) -> None:
    async with fault_hub(tls=own.serving()) as hub, http_session(ca_file=own.pem) as http:
        assert hub.url.startswith("https://")
        ended, listener = await try_once(hub, hub.close, http=http)
    assert (ended.cause, listener.was_online) == ("close_no_reconnect", True)


async def test_a_certificate_of_nobody_we_know_is_refused(own: Certificate) -> None:
    async with fault_hub(tls=own.serving()) as hub:
        ended, _ = await try_once(hub)
        assert (ended.cause, hub.heard) == ("untrusted", [])
    assert "self-signed certificate" in ended.reason


async def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    other = certificate(tmp_path, name="DNS:hub.example")
    async with fault_hub(tls=other.serving()) as hub, http_session(ca_file=other.pem) as http:
        ended, _ = await try_once(hub, http=http)
        assert (ended.cause, hub.heard) == ("untrusted", [])


async def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = _expired(tmp_path)
    async with fault_hub(tls=old.serving()) as hub, http_session(ca_file=old.pem) as http:
        ended, _ = await try_once(hub, http=http)
        assert (ended.cause, ended.reason, hub.heard) == ("untrusted", "TLS: certificate has expired", [])


async def test_the_upgrade_is_checked_as_well_as_the_negotiation(own: Certificate) -> None:
    async with fault_hub(tls=own.serving()) as hub:
        ended, _ = await try_once(hub, negotiate=False)
        assert (ended.cause, hub.heard) == ("untrusted", [])


async def test_nothing_is_said_to_a_hub_that_speaks_no_tls() -> None:
    async with fault_hub() as hub:
        ended, _ = await try_once(hub.url.replace("http://", "https://"))
        assert (ended.cause, hub.heard) == ("no_answer", [])


async def test_an_encrypted_hub_may_not_redirect_to_plain_text(own: Certificate) -> None:
    async with fault_hub(tls=own.serving()) as hub, http_session(ca_file=own.pem) as http:
        hub.redirect = ("http://hub.example/other", TOKEN)
        ended, _ = await try_once(hub, http=http)
    assert (ended.cause, ended.reason) == ("not_a_hub", "the negotiation redirects to an unencrypted address")


@pytest.mark.parametrize("negotiate", [True, False])
async def test_an_address_that_is_not_allowed_is_never_connected_to(negotiate: bool) -> None:
    async with fault_hub() as hub, http_session(allowed=global_only) as http:
        ended, _ = await try_once(hub, http=http, negotiate=negotiate)
        assert (ended.cause, hub.connections) == ("unreachable", 0)
    assert "not allowed" in ended.reason


async def test_a_redirect_to_an_address_that_is_not_allowed_is_never_followed() -> None:
    async with fault_hub() as inside, fault_hub() as hub:

        def allowed(host: str) -> bool:
            return host != "127.0.0.2"

        hub.redirect = (f"http://127.0.0.2:{inside.port}/hub", TOKEN)
        async with http_session(allowed=allowed) as http:
            ended, _ = await try_once(hub, http=http)
        assert (ended.cause, inside.connections) == ("unreachable", 0)


def test_plain_http_is_a_problem_of_the_configuration() -> None:
    for url, fine in (("http://hub.example/orders", False), ("https://hub.example/orders", True), ("http://127.0.0.1:1/x", True)):
        report = Report({}, Path("x.toml"))
        assert (decode(hub_connector.Settings, {"hub_url": url}, ("s",), report) is not None) is fine


def _expired(folder: Path) -> Certificate:
    """The `openssl` command of this machine may be too old to make one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "constructed")])
    then = datetime.now(UTC) - timedelta(days=30)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(then)
        .not_valid_after(then + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / "old.pem", folder / "old.key")
    files.pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files
