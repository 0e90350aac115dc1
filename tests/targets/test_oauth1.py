"""OAuth1 signatures against the text of the standard, and against a second way of computing them."""

from __future__ import annotations

import base64
import hashlib
import hmac

from gateway.targets.oauth1 import authorization, base_string


def test_the_base_string_is_the_one_of_rfc_5849_section_3_4_1_1() -> None:
    """Its body parameters stand in the query here; the gateway's bodies are JSON and are not signed."""
    fields = [
        ("oauth_consumer_key", "9djdj82h48djs9d2"),
        ("oauth_token", "kkk9d7dh3k39sjv7"),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", "137131201"),
        ("oauth_nonce", "7d8f3e4a"),
    ]
    assert base_string("POST", "http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b&c2&a3=2+q", fields) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26"
        "oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26"
        "oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
    )


def test_the_signature_is_hmac_sha256_over_it_with_both_secrets() -> None:
    made = authorization(
        "GET", "https://erp.example:8443/a?x=1",
        consumer_key="c k", consumer_secret="c&s", token="t", token_secret="t/s", realm="123_SB1", nonce="n", timestamp=1700000000,
    )  # fmt: skip
    base = base_string(
        "GET",
        "https://erp.example:8443/a?x=1",
        [
            ("oauth_consumer_key", "c k"), ("oauth_nonce", "n"), ("oauth_signature_method", "HMAC-SHA256"),
            ("oauth_timestamp", "1700000000"), ("oauth_token", "t"), ("oauth_version", "1.0"),
        ],
    )  # fmt: skip
    expected = base64.b64encode(hmac.new(b"c%26s&t%2Fs", base.encode(), hashlib.sha256).digest()).decode()
    assert made.startswith('OAuth realm="123_SB1", oauth_consumer_key="c%20k", oauth_nonce="n"')
    assert made.endswith(f'oauth_signature="{expected.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")}"')
    assert "https%3A%2F%2Ferp.example%3A8443%2Fa&" in base
