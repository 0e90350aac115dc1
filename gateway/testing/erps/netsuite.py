"""NetSuite, REST record service: an empty 204 with the id in `Location`, `externalId` unique, SuiteQL for look-ups.

Facts: erp_targets.md section 2, after Oracle's NetSuite help (creating a record, external ids, OAuth 2.0 client credentials, TBA). The
words of the error for a known `externalId` are a guess (u). Tokens: a JWT signed by the client's key, or each request signed by OAuth 1.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import jwt
from aiohttp import web

from gateway.testing.erps.base import ErpServer, Handler, Held, HeldLine, is_number, read, said

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_-]+\Z")
_QUERY = re.compile(r"SELECT\s+id, (\w+) FROM (item|customer) WHERE \1 (?:IN \((.*)\)|= ('.*'))\Z", re.IGNORECASE | re.DOTALL)
_TEXT = re.compile(r"\s*'((?:[^']|'')*)'\s*(?:,|\Z)")
_CODE = {401: "INVALID_LOGIN", 403: "INSUFFICIENT_PERMISSION", 404: "NONEXISTENT_ID", 429: "CONCURRENCY_LIMIT_EXCEEDED"}


class NetSuite(ErpServer):
    """Account `1234567`, token endpoint, records and SuiteQL on one address.

    Attributes:
        public_key: PEM of the certificate that was uploaded; None: no tokens are given, OAuth 1 still works.
    """

    title = "NetSuite"
    account = "1234567"
    client_id = "constructed-netsuite-client"
    consumer = ("constructed-consumer", "constructed-consumer-secret")
    token = ("constructed-token-id", "constructed-token-secret")

    def __init__(self) -> None:
        super().__init__()
        self.public_key: str | None = None
        self._tokens: set[str] = set()

    def routes(self) -> Sequence[tuple[str, str, str, Handler]]:
        record = "/services/rest/record/v1/salesOrder"
        return [
            ("POST", "/services/rest/auth/oauth2/v1/token", "token", self._token),
            ("POST", record, "create", self._create),
            ("GET", f"{record}/{{id}}", "find", self._get),
            ("POST", "/services/rest/query/v1/suiteql", "codes", self._query),
            ("GET", "/services/rest/record/v1/metadata-catalog/salesOrder", "check", self._check),
        ]

    def held(self) -> list[Held]:
        return [
            Held(
                id=str(order["id"]),
                number=order["tranId"],
                reference=order.get("otherRefNum") or "",
                customer=self.customer(order["entity"]["id"]) or "",
                state="Pending Fulfillment",
                lines=tuple(self._line(line) for line in order["item"]["items"]),
            )
            for order in self.made
        ]

    def _line(self, line: dict[str, Any]) -> HeldLine:
        article = self.article(line["item"]["id"])
        assert article is not None
        return HeldLine(article=article.code, quantity=Decimal(line["quantity"]), price=Decimal(line["rate"]))

    def expire_tokens(self) -> None:
        """End all tokens."""
        self._tokens.clear()

    def refusal(self, status: int, message: str, *, code: str = "") -> web.Response:
        detail = {"detail": message, "o:errorCode": code or _CODE.get(status, "USER_ERROR")}
        title = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}.get(status, "Error")
        return said(status, {"type": "about:blank", "title": title, "status": status, "o:errorDetails": [detail]})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        given = dict(await request.post())
        audience = f"{self.address}{request.path}"
        try:
            if self.public_key is None or given["grant_type"] != "client_credentials" or given["client_assertion_type"] != _ASSERTION:
                raise ValueError("not configured")
            claims = jwt.decode(
                str(given["client_assertion"]),
                self.public_key,
                algorithms=["PS256", "RS256", "ES256"],
                audience=audience,
                issuer=self.client_id,
            )
            if int(claims["exp"]) - int(claims["iat"]) > 3600:
                raise ValueError("lives too long")
        except (jwt.PyJWTError, KeyError, ValueError):
            return said(400, {"error": "invalid_request"})
        token = f"constructed-token-{self.new_id()}"
        self._tokens.add(token)
        return said(200, {"access_token": token, "expires_in": "3600", "token_type": "bearer"})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        try:
            order = read(await request.read())
            external = order.get("externalId")
            lines = order["item"]["items"]
        except (ValueError, KeyError, TypeError):
            return self.refusal(400, "Invalid content in the request body.", code="INVALID_CONTENT")
        if external is not None and not _EXTERNAL_ID.match(external):
            return self.refusal(400, f"Invalid value for externalId: {external}", code="INVALID_VALUE")
        if external is not None and any(known.get("externalId") == external for known in self.made):
            return self.refusal(400, "Error while accessing a resource. This record already exists.", code="DUP_RCRD")
        if self.customer(order.get("entity", {}).get("id")) is None:
            return self.refusal(400, f"Invalid Field Value {order.get('entity', {}).get('id')} for the following field: entity")
        for line in lines:
            if self.article(line["item"]["id"]) is None:
                return self.refusal(400, f"Invalid Field Value {line['item']['id']} for the following field: item")
            if not is_number(line.get("quantity")) or not is_number(line.get("rate")):
                return self.refusal(400, "Invalid value for quantity or rate: a number is expected", code="INVALID_CONTENT")
        id = self.new_id()
        self.made.append(order | {"id": str(id), "tranId": f"SO{id}"})
        return web.Response(status=204, headers={"Location": f"{self.address}{request.path}/{id}"})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["id"]
        field, value = ("externalId", wanted[4:]) if wanted.startswith("eid:") else ("id", wanted)
        found = next((order for order in self.made if order.get(field) == value), None)
        return (
            said(200, found)
            if found is not None
            else self.refusal(404, "The record instance does not exist. Provide a valid record instance ID.")
        )

    async def _query(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Prefer") != "transient":
            return self.refusal(400, "The required request header 'Prefer' is missing or has an invalid value. Use 'transient'.")
        found = _QUERY.match(read(await request.read()).get("q", ""))
        wanted = _texts(found[3] or found[4]) if found else None
        if found is None or wanted is None:
            return self.refusal(
                400, "Invalid search query. Detailed unprocessed description follows. Search error occurred: Invalid or unsupported search."
            )
        codes = {a.code: a.id for a in self.articles.values()} if found[2].lower() == "item" else self.customers
        items = [{"links": [], "id": str(codes[code]), found[1].lower(): code} for code in wanted if code in codes]
        return said(200, {"links": [], "count": len(items), "hasMore": False, "items": items, "offset": 0, "totalResults": len(items)})

    async def _check(self, request: web.Request) -> web.StreamResponse:
        return said(200, {"name": "salesOrder"})

    def stranger(self, request: web.Request) -> web.Response | None:
        kind, _, rest = request.headers.get("Authorization", "").partition(" ")
        if (kind.lower() == "bearer" and rest in self._tokens) or (kind == "OAuth" and self._signed(request, rest)):
            return None
        return self.refusal(401, "Invalid login attempt.")

    def _signed(self, request: web.Request, header: str) -> bool:
        """OAuth 1.0 (RFC 5849) with HMAC-SHA256: method, address and every parameter but the signature and the realm are under it."""
        given = {name.strip(): unquote(value.strip('"')) for name, _, value in (part.partition("=") for part in header.split(","))}
        signature, realm = given.pop("oauth_signature", ""), given.pop("realm", "")
        pairs = sorted((_escaped(n), _escaped(v)) for n, v in [*given.items(), *parse_qsl(request.query_string, keep_blank_values=True)])
        url = f"{self.address}{request.path}"
        text = "&".join(map(_escaped, (request.method, url, "&".join(f"{n}={v}" for n, v in pairs))))
        key = f"{_escaped(self.consumer[1])}&{_escaped(self.token[1])}"
        wanted = base64.b64encode(hmac.digest(key.encode(), text.encode(), "sha256")).decode()
        known = (given.get("oauth_consumer_key"), given.get("oauth_token"), realm) == (self.consumer[0], self.token[0], self.account)
        return known and hmac.compare_digest(signature.encode(), wanted.encode())


def _escaped(text: str) -> str:
    return quote(text, safe="-._~")


def _texts(written: str) -> list[str] | None:
    """Return the texts of an SQL list, or None if it is malformed, as after an apostrophe that is not doubled."""
    found, at = [], 0
    while at < len(written):
        text = _TEXT.match(written, at)
        if text is None:
            return None
        found.append(text[1].replace("''", "'"))
        at = text.end()
    return found
