"""The webhook door where a vendor signs with keys that change: looked for once, and no 401 while that cannot be done."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gateway import Envelope, UnknownKey, hookimpl
from gateway.edge.server import Listener
from gateway.edge.webhook import WebhookDoor
from gateway.metrics import Metrics
from gateway.plugin.connector import Connector
from gateway.plugin.source import Source
from gateway.testing import ManualClock
from tests import acme


class Keys:
    """A key set that a test fills."""

    def __init__(self, **known: str) -> None:
        self.current: dict[str, Any] = known
        self.to_come: dict[str, str] = {}
        self.reliable = True
        self.looked = 0

    async def look_again(self) -> bool:
        self.looked += 1
        self.current = self.current | self.to_come
        return self.reliable


@hookimpl
def verify(envelope: Envelope, now: datetime, keys: Mapping[str, Any]) -> bool:
    kid = envelope.header("Kid") or ""
    if kid not in keys:
        raise UnknownKey("not among ours")
    return bool(keys[kid] == envelope.header("Proof"))


CONNECTOR = SimpleNamespace(describe=acme.describe, verify=verify, ingest=acme.ingest, normalize=acme.normalize)


@pytest.fixture
async def door(store: Any, clock: ManualClock) -> AsyncIterator[Any]:
    """`await door(keys)`: a function that sends an order, signed by `kid`, and gives the status."""
    async with AsyncExitStack() as stack:

        async def make(keys: Keys | None) -> Any:
            connector = Connector(CONNECTOR, "acme")
            connector.settings = acme.Settings()
            made = WebhookDoor(store, Metrics(clock), clock)
            made.sources = {
                "acme": Source(
                    name="acme",
                    connector=connector,
                    doors=("webhook",),
                    on_revision="hold",
                    destinations=(),
                    stages=frozenset(),
                    max_body_bytes=1024,
                    max_requests_per_second=1000,
                    since=clock.now(),
                    vendor="acme",
                    keys=keys,
                )
            }
            listener = Listener(made.receive, max_connections=10)
            await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.close, 1)
            session = await stack.enter_async_context(aiohttp.ClientSession())

            async def send(kid: str, proof: str = "good") -> int:
                url, headers = f"http://127.0.0.1:{listener.port}/in/acme", {"Kid": kid, "Proof": proof}
                async with session.post(url, data=acme.body(f"order-{kid}"), headers=headers) as answer:
                    return answer.status

            return send

        yield make


async def test_a_known_key_is_not_looked_for(door: Any) -> None:
    keys = Keys(one="good")
    send = await door(keys)
    assert [await send("one"), await send("one", "bad")] == [200, 401]
    assert keys.looked == 0


async def test_an_unknown_key_is_looked_for_once_before_the_answer(door: Any) -> None:
    keys = Keys(one="good")
    keys.to_come = {"two": "good"}
    send = await door(keys)
    assert [await send("two"), await send("two"), await send("three")] == [200, 200, 401]
    assert keys.looked == 2


async def test_while_keys_cannot_be_had_the_sender_is_asked_to_come_again(door: Any) -> None:
    """A 401 could end the subscription of a sender who did nothing wrong."""
    keys = Keys(one="good")
    keys.reliable = False
    send = await door(keys)
    assert [await send("two"), await send("one"), await send("one", "bad")] == [503, 200, 401]


async def test_without_a_place_to_look_an_unknown_key_is_a_401(door: Any) -> None:
    send = await door(None)
    assert await send("one") == 401


async def test_a_rise_of_401s_is_one_line_a_minute_with_their_number(
    door: Any, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    send = await door(Keys(one="good"))
    for _ in range(5):
        await send("one", "bad")
    clock.advance(60)
    await send("one", "bad")
    lines = [record for record in caplog.records if record.message == "webhook.refused"]
    assert [(line.levelno, getattr(line, "since_last_line", 0)) for line in lines] == [(logging.WARNING, 1), (logging.WARNING, 5)]
