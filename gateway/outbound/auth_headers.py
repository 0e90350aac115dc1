"""Headers of the credentials that are sent as they are."""

from __future__ import annotations

import base64

from gateway.api.vendor_client import BasicAuth, BearerAuth, HeaderAuth


def auth_headers(auth: object) -> dict[str, str]:
    """Return the header of a password, a token or a key; none for any other way to sign in."""
    match auth:
        case BasicAuth(username=username, password=password):
            pair = f"{username}:{password.reveal()}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        case BearerAuth(token=token):
            return {"Authorization": f"Bearer {token.reveal()}"}
        case HeaderAuth(name=name, value=value, prefix=prefix):
            return {name: f"{prefix} {value.reveal()}".strip()}
    return {}
