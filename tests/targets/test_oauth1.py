"""OAuth1 headers against a second way of computing them (RFC 5849, 3.4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from urllib.parse import quote, unquote

import pytest

from gateway.api.secrets import Secret
from gateway.targets.auth_settings import OAuth1
from gateway.targets.credentials import Proof, signer_for
from gateway.targets.request import Request
from gateway.testing import ManualClock

FIELDS = (
    "oauth_consumer_key%3Dc%2520k%26oauth_nonce%3D{nonce}%26oauth_signature_method%3DHMAC-SHA256%26oauth_timestamp%3D{at}"
    "%26oauth_token%3Dt%26oauth_version%3D1.0"
)


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


@pytest.mark.parametrize(
    ("method", "url", "address", "parameters"),
    [
        ("POST", "https://ERP.example:443/a", "https%3A%2F%2Ferp.example%2Fa", ""),
        (
            "GET",
            "https://erp.example:8443/a?b5=%3D%253D&a3=2+q",
            "https%3A%2F%2Ferp.example%3A8443%2Fa",
            "a3%3D2%2520q%26b5%3D%253D%25253D%26",
        ),
        ("GET", "http://[::1]:8080/?a[0]='x'&c", "http%3A%2F%2F%5B%3A%3A1%5D%3A8080%2F", "a%255B0%255D%3D%2527x%2527%26c%3D%26"),
    ],
)
def test_the_signature_is_hmac_sha256_over_method_address_and_parameters(method: str, url: str, address: str, parameters: str) -> None:
    auth = OAuth1(consumer_key=secret("c k"), consumer_secret=secret("c&s"), token=secret("t"), token_secret=secret("t/s"), realm="123_SB1")
    clock = ManualClock()
    signer = signer_for(auth, ask=None, variables={}, clock=clock)  # type: ignore[arg-type]
    header = signer.headers(Proof(1), Request(method=method, url=url, body=b"{}"))["Authorization"]
    sent = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    assert header.startswith('OAuth realm="123_SB1", ')
    assert int(sent["oauth_timestamp"]) == clock.now_ms() // 1000
    signed = f"{method}&{address}&{parameters}{FIELDS}".format(nonce=sent["oauth_nonce"], at=sent["oauth_timestamp"]).encode()
    assert sent["oauth_signature"] == base64.b64encode(hmac.new(b"c%26s&t%2Fs", signed, hashlib.sha256).digest()).decode()
    assert quote(sent["oauth_signature"], safe="") in header


def test_no_two_requests_have_the_same_nonce() -> None:
    auth = OAuth1(consumer_key=secret("c"), consumer_secret=secret("c"), token=secret("t"), token_secret=secret("t"))
    signer = signer_for(auth, ask=None, variables={}, clock=ManualClock())  # type: ignore[arg-type]
    made = {signer.headers(Proof(1), Request(method="GET", url="https://erp.example/"))["Authorization"] for _ in range(20)}
    assert len(made) == 20


def test_the_realm_is_escaped_as_the_other_values_are() -> None:
    keys = {name: secret("c") for name in ("consumer_key", "consumer_secret", "token", "token_secret")}
    signer = signer_for(OAuth1(**keys, realm="123 Ö"), ask=None, variables={}, clock=ManualClock())  # type: ignore[arg-type]
    header = signer.headers(Proof(1), Request(method="GET", url="https://erp.example/"))["Authorization"]
    assert header.startswith('OAuth realm="123%20%C3%96", ')
