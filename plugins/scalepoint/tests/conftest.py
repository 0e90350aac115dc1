"""A simulated Scalepoint, settings for it, and a gateway's parts around the plugin: store, doors, prepare step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import gateway_scalepoint
import msgspec
import pytest
from gateway_scalepoint.identity import Pair, make_pair
from gateway_scalepoint.settings import Settings, Start
from gateway_scalepoint.simulator import ScalepointSimulator

from gateway import Mapping, Secret, Url
from gateway.api.webhook_auth import BearerToken
from gateway.plugin.connector import Connector
from gateway.testing import Bench, ManualClock, source_bench

SECRET = "constructed-secret-do-not-use"
EXAMPLES = Path(str(files("gateway_scalepoint").joinpath("examples")))


@pytest.fixture
async def simulator(clock: ManualClock) -> AsyncIterator[ScalepointSimulator]:
    simulator = ScalepointSimulator(now=clock.now, prefix="0A1B2C3D")
    simulator.hold_s = 0.05
    async with simulator:
        yield simulator


def secret(text: str) -> Secret:
    return Secret(text, origin="test")


@lru_cache
def pair(name: str = "one") -> Pair:
    return make_pair(ManualClock().now())


@lru_cache
def mapping() -> Mapping:
    return Mapping.from_reference("scalepoint.jsonata", EXAMPLES)


def make_settings(simulator: ScalepointSimulator | None = None, **changes: Any) -> Settings:
    values: dict[str, Any] = {"webhook_auth": BearerToken(token=secret(SECRET)), "mapping": mapping(), "currency": "DKK"}
    if simulator is not None:
        made = pair("one")
        simulator.identity.registered[made.x5t] = made
        said = simulator.settings()
        values |= {
            "order_url": Url(said["order_url"]),
            "receive_url": Url(said["receive_url"]),
            "token_url": Url(said["token_url"]),
            "client_id": said["client_id"],
            "scope": said["scope"],
            "private_key": secret(made.key),
            "certificate": secret(made.certificate),
            "start": Start(after_event="_900000"),
        }
    return Settings(**values | changes)


def make_connector(settings: Settings) -> Connector:
    connector = Connector(gateway_scalepoint, "claims")
    connector.settings = settings
    return connector


class BothDoors(Bench):
    async def webhook(self, body: Any, proof: str = f"Bearer {SECRET}") -> tuple[int, Any]:
        return await self.post(body if isinstance(body, bytes) else msgspec.json.encode(body), Authorization=proof)

    async def cursor(self) -> str | None:
        return await self.store.cursor("claims", "poll")


@pytest.fixture
async def bench(simulator: ScalepointSimulator, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await bench(on_revision="replace", order_at="data")`"""
    async with AsyncExitStack() as stack:

        async def make(*, on_revision: Any = "hold", keys: Any = None, **changes: Any) -> BothDoors:
            made = source_bench(
                gateway_scalepoint,
                make_settings(simulator, **changes),
                tmp_path,
                clock,
                name="claims",
                on_revision=on_revision,
                keys=keys,
                kind=BothDoors,
            )
            return await stack.enter_async_context(made)

        yield make


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """`settings(simulator, order_at="data")`"""
    return make_settings


@pytest.fixture
def connector() -> Callable[[Settings], Connector]:
    return make_connector


@pytest.fixture
def pairs() -> Callable[[str], Pair]:
    """`pairs("two")`: a key and its certificate, the same for the same name."""
    return pair
