"""Requests without a mapping, and with the plain ways to sign in."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from gateway.errors import MappingError
from gateway.mapping.functions import Exact
from gateway.outbound.session import Answer, exchange
from gateway.target.expressions import read_whole
from gateway.target.flow import Pace
from gateway.target.request import Context, Refused, Request
from gateway.target.request_settings import RequestTable
from gateway.target.settings import Basic, Bearer, Header, TargetSettings
from gateway.target.templates import Unfilled

_MAX_ANSWER_BYTES = 1024 * 1024


class PlainBuilder:
    """What an attempt asks for, for a target that has no mapping."""

    def context(self, body: bytes) -> Context:
        """What templates and expressions see of a canonical message."""
        message = read_whole(body)
        return {"order": message["order"], "message": message, "vars": {}, "lookup": {}, "captured": {}}

    def render(self, table: RequestTable, context: Context, *, where: str = "") -> Request:
        """A request beside the one that makes the order. Raises Refused."""
        body: bytes | None = None
        try:
            values = {**context, **{name: text.evaluate(context) for name, text in table.values.items()}}
            url = table.url.fill_url(values, context["vars"])
            pairs = [(name, value.fill("query", values, context["vars"])) for name, value in table.query.items()]
            headers = {name: value.fill("header", values, context["vars"]) for name, value in table.headers.items()}
            if table.body is not None:
                body = msgspec.json.encode(_written(table.body.evaluate(context)))
                headers = {"Content-Type": "application/json", **headers}
        except (Unfilled, MappingError) as error:
            raise Refused([f"{where} {error}".strip()]) from error
        if pairs:
            url += ("&" if "?" in url else "?") + "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in pairs)
        return Request(method=table.method, url=url, headers=headers, body=body)


def _written(value: Any) -> Any:
    if isinstance(value, Exact):
        return msgspec.Raw(str(value).encode())
    if isinstance(value, dict):
        return {key: _written(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_written(one) for one in value]
    return value


class PlainSender:
    """`gateway.target.request.Sender` with credentials that need no signing in."""

    def __init__(self, session: aiohttp.ClientSession, settings: TargetSettings, pace: Pace) -> None:
        self._session = session
        self._settings = settings
        self._pace = pace

    async def send(self, request: Request) -> Answer:
        """One request with the credentials, at the target's pace."""
        await self._pace.take()
        return await exchange(
            self._session,
            request.method,
            request.url,
            headers={**request.headers, **self._credentials()},
            body=request.body,
            timeout_s=self._settings.read_timeout_s,
            max_bytes=_MAX_ANSWER_BYTES,
        )

    def _credentials(self) -> dict[str, str]:
        match self._settings.auth:
            case Basic(username=username, password=password):
                pair = f"{username}:{password.reveal()}".encode()
                return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
            case Bearer(token=token):
                return {"Authorization": f"Bearer {token.reveal()}"}
            case Header(name=name, value=value, prefix=prefix):
                return {name: f"{prefix} {value.reveal()}".strip()}
        return {}
