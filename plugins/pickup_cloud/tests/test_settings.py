"""The settings, as an operator writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gateway_pickup_cloud
import msgspec
import pytest

from gateway import BearerAuth, HeaderAuth, QueryAuth
from gateway.api.errors import ConfigError
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import Assembly, assemble

PLUGINS = {"pickup_cloud": Plugin(name="pickup_cloud", distribution="x", version="0", module=gateway_pickup_cloud)}

CONTRACT = """
base_url = "https://api.pickup.bd.com"
api_version = "v2"
api_key = { file = "key" }
hub_url = "https://hub.example/orders"
api_key_in = { header = "x-api-key" }
resync_interval_s = 900
time_zone = "Europe/Berlin"
reconnect = { base_s = 1, factor = 2, cap_s = 60 }
keep_alive_s = 15
server_timeout_s = 30
forward_personal_data = false
"""
LEAST = 'api_key = { file = "key" }\nhub_url = "https://hub.example/orders"\n'


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    (tmp_path / "key").write_text("the key\n")

    def make(settings: str, doors: str = "") -> Assembly:
        source = f'[sources.pharmacy]\nconnector = "pickup_cloud"\n{doors}\n[sources.pharmacy.settings]\n{settings}'
        (tmp_path / "gateway.toml").write_text(f'[targets.erp]\nurl = "https://erp.example/"\n{source}')
        return assemble(tmp_path / "gateway.toml", PLUGINS)

    return make


def test_settings_of_the_contract_are_understood(configure: Any) -> None:
    part = configure(CONTRACT).sources["pharmacy"]
    assert set(part.doors) == {"poll", "realtime"}
    assert (part.api.base_url, part.api.calls_per_minute) == ("https://api.pickup.bd.com", 120)
    assert (part.api.auth.name, part.api.auth.value.reveal()) == ("x-api-key", "the key")
    assert part.connector.poll_interval_s() == 900
    hub = part.connector.subscribe()
    assert (hub.url, hub.keep_alive_s, hub.server_timeout_s, hub.negotiate) == ("https://hub.example/orders", 15, 30, True)
    assert (hub.reconnect.base_s, hub.reconnect.factor, hub.reconnect.cap_s) == (1, 2, 60)
    assert hub.targets["OrderStateChange"] == hub.targets["OrderStateChanged"] == "OrderStateChanged"


def test_the_settings_of_the_contract_are_the_defaults(configure: Any) -> None:
    written, least = (configure(text).sources["pharmacy"].connector.settings for text in (CONTRACT, LEAST))
    assert msgspec.structs.replace(written, api_key=least.api_key) == least


@pytest.mark.parametrize(
    ("written", "auth"),
    [
        ('{ header = "X-Key" }', HeaderAuth),
        ('{ query = "code" }', QueryAuth),
        ('"bearer"', BearerAuth),
    ],
)
def test_the_key_goes_to_the_hub_in_one_of_three_ways(configure: Any, written: str, auth: type) -> None:
    part = configure(LEAST + f"api_key_in = {written}").sources["pharmacy"]
    assert isinstance(part.connector.subscribe().auth, auth)
    assert isinstance(part.api.auth, HeaderAuth)
    assert part.api.auth.name == "x-api-key"


def test_a_source_may_only_ask(configure: Any) -> None:
    """For orders that the gateway created itself, where the hub's address is not to be had."""
    assert configure('api_key = { file = "key" }', 'doors = ["poll"]').sources["pharmacy"].doors == ("poll",)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ('api_key = { file = "key" }', "needs the key hub_url for the door realtime"),
        ('hub_url = "https://hub.example/"', "needs the key api_key"),
        (LEAST.replace('{ file = "key" }', '"text"'), "api_key"),
        (LEAST.replace("https://hub", "http://hub"), "hub_url: would be sent unencrypted"),
        (LEAST + 'base_url = "http://api.pickup.bd.com"', "base_url: would be sent unencrypted"),
        (LEAST + "api_key_in = {}", 'api_key_in: must be { header = "x-api-key" }, { query = "name" } or "bearer"'),
        (LEAST + 'api_key_in = { header = "a", query = "b" }', "api_key_in: must be"),
        (LEAST + 'api_key_in = { header = "a b" }', "api_key_in.header: must be the name of a header"),
        (LEAST + 'api_key_in = { query = "a&b" }', "api_key_in.query: must be the name of a query parameter"),
        (LEAST + 'api_key_in = "header"', "api_key_in"),
        (LEAST + 'api_key_in = { cookie = "a" }', "cookie"),
        (LEAST + 'targets = { order = ["A"], pack = ["A"] }', "targets: must not give one name to two notifications"),
        (LEAST + 'targets = { order = ["OrderArticleStateChanged"] }', "targets: must not give one name to two"),
        (LEAST + 'targets = { order = [""] }', "targets: must not have an empty name"),
        (LEAST + 'api_version = "v2/../x?"', 'api_version: must be a version, as in "v2"'),
        (LEAST + 'status_path = "orders"', "status_path: must be a path below base_url"),
        (LEAST + 'status_path = "orders/{order_number}/{x}"', "status_path: may hold"),
        (LEAST + 'status_path = "https://elsewhere.example/{order_number}"', "status_path: must be a path"),
        (LEAST + 'orders_path = ""', "orders_path: must be a path below base_url"),
        (LEAST + 'recurrent_orders_path = "https://elsewhere.example/"', "recurrent_orders_path: must be a path below base_url"),
        (LEAST + 'on_behalf_of_path = "orders/{x}"', "on_behalf_of_path: may hold {api_version}, and no other braces"),
        (LEAST + 'on_behalf_of_path = "orders?x=1"', "on_behalf_of_path: must be a path"),
        (LEAST + 'content_type = "json"', "content_type: must be a media type"),
        (LEAST + 'content_type = "application/json\\r\\nX-Evil: 1"', "content_type: must be a media type"),
        (LEAST + "fetch_retry_s = []", "fetch_retry_s: must have at least one pause"),
        (LEAST + "fetch_retry_s = [0]", "fetch_retry_s"),
        (LEAST + "resync_interval_s = 0", "resync_interval_s"),
        (LEAST + "calls_per_minute = 10", "calls_per_minute: must be at least 30"),
        (LEAST + "reconnect = { cap_s = 0.1 }", "cap_s"),
        (LEAST + 'time_zone = "Mars/Olympus"', "time zone of this machine"),
        (LEAST + "forward_personal = true", "did you mean forward_personal_data"),
    ],
    ids=range(31),
)
def test_a_wrong_setting_is_named(configure: Any, settings: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configure(settings)
    assert problem in str(refused.value)
