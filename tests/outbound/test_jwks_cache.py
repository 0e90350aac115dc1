"""A key set is kept fresh, and nobody can make us hammer the endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.outbound import jwks_cache as module
from gateway.outbound.jwks_cache import QUIET_S, REFRESH_S, KeySet
from gateway.outbound.session import any_unicast, global_only, open_session
from gateway.testing import ManualClock
from tests.raw_server import Peer, answer, hang_up, peer, says, silence
from tests.rsa_keys import jwks

CUT_OFF = says(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"keys"', then=hang_up)


@pytest.fixture
async def keys(clock: ManualClock) -> AsyncIterator[Callable[..., Any]]:
    """`await keys(peer)`: a key set, and what it noted."""
    async with AsyncExitStack() as stack:

        async def make(vendor: Peer, *, allowed: Any = any_unicast) -> tuple[KeySet, list[str | None]]:
            session = open_session(allowed=allowed, connections=1, connect_timeout_s=1)
            stack.push_async_callback(session.close)
            noted: list[str | None] = []
            return KeySet(f"{vendor.url}/jwks", session, clock, noted.append), noted

        yield make


async def test_keys_are_fetched_and_kept(keys: Any) -> None:
    async with peer(answer(200, jwks("one", "two"))) as vendor:
        made, noted = await keys(vendor)
        assert made.current == {}
        assert await made.look_again() is True
        assert set(made.current) == {"one", "two"}
        assert noted == [None]
        assert [(heard.method, heard.path) for heard in vendor.heard] == [("GET", "/jwks")]


async def test_looking_again_asks_at_most_every_30_s_whoever_wants_it(keys: Any, clock: ManualClock) -> None:
    async with peer(answer(200, jwks("one"))) as vendor:
        made, _ = await keys(vendor)
        for _ in range(100):
            await made.look_again()
        await asyncio.gather(*(made.look_again() for _ in range(100)))
        assert len(vendor.heard) == 1
        clock.advance(QUIET_S)
        await asyncio.gather(*(made.look_again() for _ in range(100)))
        assert len(vendor.heard) == 2


async def test_a_failed_fetch_is_not_repeated_sooner_either(keys: Any, clock: ManualClock) -> None:
    async with peer(answer(503)) as vendor:
        made, _ = await keys(vendor)
        assert [await made.look_again() for _ in range(50)] == [False] * 50
        assert len(vendor.heard) == 1


async def test_a_new_set_replaces_the_old_one(keys: Any, clock: ManualClock) -> None:
    async with peer(answer(200, jwks("one")), answer(200, jwks("two"))) as vendor:
        made, _ = await keys(vendor)
        await made.look_again()
        clock.advance(QUIET_S)
        await made.look_again()
        assert set(made.current) == {"two"}


@pytest.mark.parametrize(
    "failing",
    [answer(503), answer(302, location="/elsewhere"), answer(200, b"<html>"), answer(200, b'{"keys": []}'), CUT_OFF],
    ids=["503", "redirect", "a page", "no keys", "broken off"],
)
async def test_old_keys_stay_while_the_endpoint_is_not_well(
    keys: Any, clock: ManualClock, failing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with peer(answer(200, jwks("one")), failing, failing, answer(200, jwks("two"))) as vendor:
        made, noted = await keys(vendor)
        await made.look_again()
        for _ in range(2):
            clock.advance(QUIET_S)
            assert await made.look_again() is False
            assert set(made.current) == {"one"}
        clock.advance(QUIET_S)
        assert await made.look_again() is True
        assert set(made.current) == {"two"}
    assert noted == [None] * 4
    assert [r.levelname for r in caplog.records if r.message == "keys.not_fetched"] == ["WARNING"]


async def test_an_endpoint_that_says_nothing_is_given_up_after_five_seconds(keys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.05)
    async with peer(silence) as vendor:
        made, noted = await keys(vendor)
        assert await made.look_again() is False
    assert noted == ["the keys at jwks_url cannot be had: no answer in time"]


async def test_a_longer_answer_than_any_key_set_is_refused(keys: Any) -> None:
    async with peer(answer(200, b" " * 300_000)) as vendor:
        made, noted = await keys(vendor)
        assert await made.look_again() is False
    assert "longer than" in noted[0]


async def test_a_host_name_may_not_lead_into_the_own_network(keys: Any) -> None:
    async with peer(answer(200, jwks("one"))) as vendor:
        made, _ = await keys(vendor, allowed=global_only)
        assert await made.look_again() is False
        assert vendor.heard == []


async def test_its_task_looks_once_an_hour_and_sooner_after_a_failure(keys: Any, clock: ManualClock) -> None:
    async with peer(answer(503), answer(200, jwks("one"))) as vendor:
        made, noted = await keys(vendor)
        task = asyncio.create_task(made.run())

        async def noted_after(seconds: float, count: int) -> None:
            clock.advance(seconds)
            async with asyncio.timeout(5):
                while len(noted) < count or not clock._sleepers:
                    await asyncio.sleep(0.005)

        await noted_after(0, 1)
        assert noted == ["the keys at jwks_url cannot be had: it answers 503"]
        await noted_after(QUIET_S + 1, 2)
        assert noted[1] is None
        clock.advance(REFRESH_S - 1)
        await asyncio.sleep(0.02)
        assert len(vendor.heard) == 2
        await noted_after(1, 3)
        task.cancel()
