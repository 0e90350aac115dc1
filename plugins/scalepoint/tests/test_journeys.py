"""A whole gateway, its vendor and its ERP, each proof of a webhook in turn."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import gateway_scalepoint
import pytest
from gateway_scalepoint.simulator import ScalepointSimulator

from gateway.api.errors import ConfigError
from gateway.cli import check as check_commands
from gateway.outbound import jwks_cache
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import assemble
from gateway.service.gateway import Gateway
from gateway.testing import ErpSimulator, running_gateway
from gateway.testing.toml import to_toml

TOKEN = "token-of-the-erp-constructed"
PLUGINS = {"scalepoint": Plugin(name="scalepoint", distribution="order-gateway-scalepoint", version="0", module=gateway_scalepoint)}
CALLER = {"token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "commands": ["claims/publish_event"]}


@pytest.fixture
async def live() -> AsyncIterator[ScalepointSimulator]:
    """A simulator whose clock is the machine's, as the gateway's is."""
    async with ScalepointSimulator() as simulator:
        yield simulator


@pytest.fixture
async def start(live: ScalepointSimulator, erp: ErpSimulator, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await start(webhook_kind="jwt")`: a whole gateway in this process, as configured for the demo; its address."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Gateway:
            source = live.source(tmp_path)
            source["settings"] |= changes
            submit = {"listen": "127.0.0.1:0", "callers": {"erp": CALLER}}
            gateway = running_gateway(gateway_scalepoint, source, tmp_path, erp.url, name="claims", submit=submit)
            return await stack.enter_async_context(gateway)

        yield make


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.vendors.port}"


async def pages(gateway: Gateway, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{gateway.pages.port}{path}") as answer:
        return await answer.json()


@pytest.mark.parametrize("kind", ["bearer", "basic", "jwt"])
async def test_an_order_comes_in_by_each_door_with_each_proof(start: Any, live: ScalepointSimulator, erp: ErpSimulator, kind: Any) -> None:
    live.webhook_kind = kind
    gateway = await start()
    sent = [await live.place(url(gateway), "claims", door) for door in live.doors]
    assert [one.answer for one in sent] == ["taken", "taken"]
    await erp.wait_for(2)
    assert {message["order"]["order_ref"] for message in erp.messages()} == {one.order_ref for one in sent}
    assert await live.post(f"{url(gateway)}/in/claims", b"{}", "Bearer wrong") == 401


async def test_the_simulators_script_ends_as_it_says(start: Any, live: ScalepointSimulator, erp: ErpSimulator) -> None:
    gateway = await start()
    sent = await live.script(url(gateway), "claims")
    placed = [one for one in sent if one.expected == "placed"]
    await erp.wait_for(len(placed))
    held: list[Any] = []
    async with asyncio.timeout(10):
        while len(held) < sum(one.expected == "held" for one in sent):
            held = await pages(gateway, "/api/inbox?status=held")
    assert [row["order_ref"] for row in held] == [one.order_ref for one in sent if one.expected == "held"]
    assert [one.answer for one in sent if one.expected == "nothing"] == ["taken", "taken", "refused"]
    got = {m["order"]["order_ref"]: m["order"] for m in erp.messages()}
    assert {ref: (o["order_number"], len(o["lines"]), o["total"]) for ref, o in got.items()} == {
        one.order_ref: (one.order_number, one.lines, one.total) for one in placed
    }
    assert [order["flags"] for order in got.values() if order["flags"]] == [["new_payload_version"]]
    assert len(erp.messages()) == len(placed)


async def test_case_16_an_issuer_that_changes_its_key_is_followed_at_once(
    start: Any, live: ScalepointSimulator, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_cache, "QUIET_S", 0.2)
    live.webhook_kind = "jwt"
    gateway = await start()
    assert (await live.place(url(gateway), "claims", "webhook")).answer == "taken"
    old = live.proof()
    live.identity.rotate(keep=False)
    await asyncio.sleep(0.25)
    assert (await live.place(url(gateway), "claims", "webhook")).answer == "taken"
    assert await live.post(f"{url(gateway)}/in/claims", b"{}", old) == 401
    await erp.wait_for(2)


async def test_the_webhook_asks_to_come_again_while_the_issuers_keys_cannot_be_had(
    start: Any, live: ScalepointSimulator, erp: ErpSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_cache, "QUIET_S", 0.1)
    live.webhook_kind = "jwt"
    keys, live.identity.key_set = live.identity.key_set, lambda: {"keys": []}  # type: ignore[method-assign]
    gateway = await start()
    one = live.new()
    assert await live.post(f"{url(gateway)}/in/claims", b"{}") == 503
    (reason,) = (await pages(gateway, "/readyz"))["reasons"]
    assert (reason["door"], reason["reason"]) == (
        "webhook",
        "the keys at jwks_url cannot be had: it has no key that can check tokens",
    )
    live.identity.key_set = keys  # type: ignore[method-assign]
    assert await live.push(f"{url(gateway)}/in/claims", one.event) == "taken"
    await erp.wait_for(1)
    assert (await pages(gateway, "/readyz"))["status"] == "ready"


async def test_a_mapping_that_was_put_right_lets_a_held_order_go(
    start: Any, live: ScalepointSimulator, erp: ErpSimulator, tmp_path: Path
) -> None:
    """The first order shows what its fields are called; then the mapping is written, in force within seconds, and it is released."""
    (tmp_path / "own.jsonata").write_text('{"order_number": id}')
    gateway = await start(mapping=str(tmp_path / "own.jsonata"))
    sent = await live.place(url(gateway), "claims", "webhook")
    held: list[Any] = []
    async with asyncio.timeout(10):
        while not held:
            held = await pages(gateway, "/api/inbox?status=held")
    assert "lines: missing" in held[0]["reason"]
    (tmp_path / "own.jsonata").write_text((tmp_path / "scalepoint.jsonata").read_text())
    os.utime(tmp_path / "own.jsonata", ns=(1, 1))
    async with asyncio.timeout(10):
        while "externalId" not in gateway._runtime.sources["claims"].connector.settings.mapping.reveal():
            await asyncio.sleep(0.05)
    await gateway._store.release([held[0]["key"].removeprefix("claims/")], "test")
    await erp.wait_for(1)
    (message,) = erp.messages()
    assert (message["order"]["order_number"], message["order"]["total"]) == (sent.order_number, sent.total)


async def test_case_7_orders_are_taken_while_the_token_endpoint_refuses_us_and_go_out_when_it_does_not(
    start: Any, live: ScalepointSimulator, erp: ErpSimulator
) -> None:
    gateway = await start()
    registered = dict(live.identity.registered)
    live.identity.registered.clear()
    live.identity.expire_tokens()
    sent = await live.place(url(gateway), "claims", "webhook")
    assert sent.answer == "taken"
    rows: list[Any] = []
    async with asyncio.timeout(10):
        while not any("invalid_client" in str(row["reason"]) for row in rows):
            rows = await pages(gateway, "/api/inbox")
    live.identity.registered |= registered
    gateway._runtime.resume("claims")
    await erp.wait_for(1)


async def test_check_online_fetches_the_keys_and_signs_in(
    live: ScalepointSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live.webhook_kind = "jwt"
    tables = {"targets": {"erp": {"url": "http://127.0.0.1:9/"}}, "sources": {"claims": live.source(tmp_path)}}
    (tmp_path / "gateway.toml").write_text(to_toml(tables))
    assembly = assemble(tmp_path / "gateway.toml", PLUGINS)
    await check_commands.online(assembly)
    live.identity.registered.clear()
    live.identity.key_set = lambda: {"keys": []}  # type: ignore[method-assign]
    await check_commands.online(assembly)
    said = [line.removeprefix("sources.claims: ") for line in capsys.readouterr().out.splitlines() if line.startswith("sources")]
    assert said[:3] == [
        "keys at jwks_url: 1",
        "signed in",
        "the keys at jwks_url cannot be had: it has no key that can check tokens",
    ]
    assert said[3].startswith("the token endpoint answers 401 (invalid_client); check three things")


# --- commands


async def publish(gateway: Gateway, key: str = "k1", wait_s: int = 20) -> tuple[int, Any]:
    assert gateway.command_api.listener is not None
    address = f"http://127.0.0.1:{gateway.command_api.listener.port}/out/claims/publish_event"
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key, "Prefer": f"wait={wait_s}"}
    body = {"eventType": "order_shipped", "orderToken": "0A1B-Beef", "attributes": {"status": "sent", "quantity": 2}}
    async with aiohttp.request("POST", address, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_an_event_is_published_once_for_its_key(start: Any, live: ScalepointSimulator) -> None:
    gateway = await start()
    status, said = await publish(gateway)
    assert (status, said["state"], said["answer"]) == (200, "done", {"id": "_1"})
    assert await publish(gateway) == (status, said)
    assert [(one.type, one.payload["status"]) for one in live.publishing.taken] == [("order_shipped", "sent")]


@pytest.mark.parametrize(("is_repeatable", "state", "events"), [(False, "held", 1), (True, "done", 2)])
async def test_an_event_of_which_nobody_knows_is_repeated_where_the_settings_say_so(
    start: Any, live: ScalepointSimulator, is_repeatable: bool, state: str, events: int
) -> None:
    gateway = await start(publish_repeatable=is_repeatable)
    live.publishing.loses = 1
    async with asyncio.timeout(30):
        while (await publish(gateway, wait_s=1))[1]["state"] != state:
            await asyncio.sleep(0.05)
    assert len(live.publishing.taken) == events


async def test_without_its_settings_there_is_no_such_command(live: ScalepointSimulator, tmp_path: Path) -> None:
    source = live.source(tmp_path)
    for name in [name for name in source["settings"] if name.startswith("publish_")]:
        del source["settings"][name]
    tables = {"targets": {"erp": {"url": "https://erp.example"}}, "submit": {"callers": {"erp": CALLER}}, "sources": {"claims": source}}
    (tmp_path / "gateway.toml").write_text(to_toml(tables))
    with pytest.raises(ConfigError, match="is there only with the key publish_url"):
        assemble(tmp_path / "gateway.toml", PLUGINS)
