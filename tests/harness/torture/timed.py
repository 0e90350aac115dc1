"""A vendor for whom the time of day matters, and its connector: signatures with a timestamp, tokens that run out, a list by date.

The vendor runs beside the harness and its clock is right. The connector runs in the gateway, whose clock is not.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import aiohttp
from aiohttp import web
from msgspec import Meta, Struct

from gateway import Api, Description, Envelope, Event, OAuth2, Order, Page, Secret, Url, VendorClient, hookimpl
from tests import acme

TOLERANCE_S = 300
TOKEN_S = 4
_OVERLAP_S = 60


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: Url
    secret: Secret
    poll_interval_s: Annotated[float, Meta(gt=0)] = 0.2


class Listed(Struct):
    ref: str
    at: float


def headers(secret: str, body: bytes, stamp: int) -> dict[str, str]:
    """What goes with a body that was sent at `stamp`, in seconds since 1970."""
    return {"X-Timed-At": str(stamp), "X-Timed-Signature": hmac.new(secret.encode(), b"%d." % stamp + body, "sha256").hexdigest()}


@hookimpl
def describe() -> Description:
    def api(settings: Settings) -> Api:
        auth = OAuth2(token_url=f"{settings.base_url}/token", client_id="torture", client_secret=settings.secret)
        return Api(base_url=settings.base_url, auth=auth)

    return Description(title="Timed", settings=Settings, api=api, poll_interval_s=lambda s: s.poll_interval_s)


@hookimpl
def verify(envelope: Envelope, settings: Settings, now: datetime) -> bool:
    stamp = envelope.header("X-Timed-At") or ""
    if not stamp.isdecimal() or abs(now.timestamp() - int(stamp)) > TOLERANCE_S:
        return False
    expected = headers(settings.secret.reveal(), envelope.body, int(stamp))["X-Timed-Signature"]
    return hmac.compare_digest(expected, envelope.header("X-Timed-Signature") or "")


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    return [acme.event(envelope.body)]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    """Everything since the newest order that was seen, less an overlap, and nothing from before the first start."""
    known = min(float(cursor), now.timestamp()) if cursor else 0.0
    after = max(since.timestamp(), known) - _OVERLAP_S
    found = (await client.request("GET", "/orders", params={"after": f"{after:.3f}"})).decode(list[Listed])
    newest = max([known, *(one.at for one in found)])
    return Page(events=[acme.event(acme.body(one.ref)) for one in found], cursor=f"{newest:.3f}" if newest else None)


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    return acme.normalize(event, document, acme.Settings())


class Vendor:
    """The other side.

    Attributes:
        given: How many tokens it has given.
        run_out: How often it was shown one that had run out.
    """

    def __init__(self) -> None:
        self.listed: list[Listed] = []
        self.given = self.run_out = 0
        self._good_until: dict[str, float] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_post("/token", self._token)
        application.router.add_get("/orders", self._orders)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def configuration(self) -> str:
        """Its source, which reads the same secret as the others."""
        assert self._runner is not None
        address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        settings = f'base_url = "{address}"\nsecret = {{ file = "secret" }}'
        return f'[sources.timed]\nconnector = "timed"\non_revision = "send"\n[sources.timed.settings]\n{settings}\n'

    def place(self, ref: str) -> None:
        """An order that only the list tells of."""
        self.listed.append(Listed(ref=ref, at=time.time()))

    async def _token(self, _: web.Request) -> web.Response:
        token = secrets.token_hex(8)
        self._good_until[token] = time.monotonic() + TOKEN_S
        self.given += 1
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S})

    async def _orders(self, request: web.Request) -> web.Response:
        until = self._good_until.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if until is None or time.monotonic() > until:
            self.run_out += 1
            return web.Response(status=401)
        after = float(request.query["after"])
        return web.json_response([{"ref": one.ref, "at": one.at} for one in self.listed if one.at > after])


async def deliver(session: aiohttp.ClientSession, url: str, secret: str, ref: str, at: float) -> int:
    """One order to the webhook, signed at `at`; the answer's status."""
    body = acme.body(ref)
    async with session.post(f"{url}/in/timed", data=body, headers=headers(secret, body, int(at))) as answer:
        return answer.status
