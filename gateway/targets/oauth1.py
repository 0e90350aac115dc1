"""OAuth 1.0 signatures with HMAC-SHA256 (RFC 5849), as NetSuite's token-based authentication wants them. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlsplit


def authorization(
    method: str,
    url: str,
    *,
    consumer_key: str,
    consumer_secret: str,
    token: str,
    token_secret: str,
    realm: str,
    nonce: str,
    timestamp: int,
) -> str:
    """The `Authorization` header of one request.

    Args:
        url: Exactly as it is sent; its query is signed too.
        nonce, timestamp: Of this request alone; seconds since 1970.
    """
    signed = {
        "oauth_consumer_key": consumer_key,
        "oauth_nonce": nonce,
        "oauth_signature_method": "HMAC-SHA256",
        "oauth_timestamp": str(timestamp),
        "oauth_token": token,
        "oauth_version": "1.0",
    }
    key = f"{_escaped(consumer_secret)}&{_escaped(token_secret)}"
    base = base_string(method, url, list(signed.items()))
    signature = base64.b64encode(hmac.digest(key.encode(), base.encode(), hashlib.sha256)).decode()
    fields = {**({"realm": realm} if realm else {}), **signed, "oauth_signature": signature}
    return "OAuth " + ", ".join(f'{name}="{_escaped(value)}"' for name, value in fields.items())


def base_string(method: str, url: str, fields: list[tuple[str, str]]) -> str:
    """What is signed (RFC 5849, 3.4.1): method, address without query, and every parameter in order."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port and (parts.scheme, parts.port) not in (("http", 80), ("https", 443)):
        host += f":{parts.port}"
    pairs = [(_escaped(name), _escaped(value)) for name, value in [*parse_qsl(parts.query, keep_blank_values=True), *fields]]
    normalised = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    address = f"{parts.scheme.lower()}://{host}{parts.path or '/'}"
    return f"{method.upper()}&{_escaped(address)}&{_escaped(normalised)}"


def _escaped(text: str) -> str:
    return quote(text, safe="~")
