"""The settings, as an operator writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gateway_apicbase
import pytest

from gateway.api.errors import ConfigError
from gateway.api.vendor_client import OAuth2
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import Assembly, assemble

PLUGINS = {"apicbase": Plugin(name="apicbase", distribution="order-gateway-apicbase", version="0", module=gateway_apicbase)}

CONTRACT = """
webhook_secrets = [{ file = "webhook" }]
ascii_fallback = true
currency = "EUR"
base_url = "https://api.apicbase.com"
token_url = "https://api.apicbase.com/oauth/token/"
client_id = "supplier-1"
client_secret = { file = "client" }
poll_interval_s = 300
overlap_s = 900
calls_per_minute = 60
start = { after = "2026-11-01T00:00:00Z" }
refuse = ["unknown_customer", "empty_order"]
known_customers = { file = "customers.txt" }
sandbox_customers = []
mark_fetched = "off"
mark_viewed = "off"
token_encoding = "form"
"""
WEBHOOK = 'currency = "EUR"\nwebhook_secrets = [{ file = "webhook" }]\n'


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    (tmp_path / "webhook").write_text("one secret\n")
    (tmp_path / "client").write_text("another\n")
    (tmp_path / "customers.txt").write_text("0010023  # the one at the harbour\n10024\n")

    def make(settings: str, doors: str = "") -> Assembly:
        text = (
            f'[targets.erp]\nurl = "https://erp.example/"\n[sources.a]\nconnector = "apicbase"\n{doors}\n[sources.a.settings]\n{settings}'
        )
        (tmp_path / "gateway.toml").write_text(text)
        return assemble(tmp_path / "gateway.toml", PLUGINS)

    return make


def test_settings_of_the_contract_are_understood(configure: Any) -> None:
    part = configure(CONTRACT).sources["a"]
    assert part.doors == ("webhook", "poll")
    assert part.connector.settings.known_customers.words == {"0010023", "10024"}
    assert part.connector.settings.start.after.isoformat() == "2026-11-01T00:00:00+00:00"
    assert (part.api.base_url, part.api.calls_per_minute) == ("https://api.apicbase.com", 60)
    assert isinstance(part.api.auth, OAuth2)
    assert (part.api.auth.token_url, part.api.auth.scope) == ("https://api.apicbase.com/oauth/token/", "supplier")
    assert part.connector.poll_interval_s() == 300


def test_a_webhook_alone_needs_no_client(configure: Any) -> None:
    part = configure(WEBHOOK, 'doors = ["webhook"]').sources["a"]
    assert part.api is None
    assert part.connector.settings.signature_header == "X-APIC-WEBHOOK-SIGNATURE"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (WEBHOOK, "client_id"),
        ('currency = "EUR"\nclient_id = "c"\nclient_secret = { file = "client" }', "webhook_secrets"),
        (CONTRACT.replace('"EUR"', '"eur"'), "three capital letters"),
        (CONTRACT.replace("[{ file", "{ file").replace('"webhook" }]', '"webhook" }'), "webhook_secrets"),
        (CONTRACT.replace('{ file = "client" }', '"text"'), "client_secret"),
        (CONTRACT.replace('known_customers = { file = "customers.txt" }', ""), "known_customers, which is not there"),
        (CONTRACT.replace('{ file = "customers.txt" }', "[]"), "known_customers, which is empty"),
        (CONTRACT.replace('"empty_order"', '"unknown_article"'), "known_articles, which is not there"),
        (CONTRACT.replace('"empty_order"', '"too_late"'), r"refuse\[1\]: must be one of"),
        (CONTRACT.replace("calls_per_minute = 60", "calls_per_minute = 101"), "calls_per_minute"),
        (CONTRACT.replace("Z", ""), "start.after"),
        (CONTRACT + 'time_zone = "Mars/Olympus"', "time zone of this machine"),
        (CONTRACT + 'time_zone = "../../etc/passwd"', "time zone of this machine"),
        (CONTRACT + "page_size = 201", "page_size"),
        (CONTRACT + 'list_path = "https://elsewhere.example/"', "list_path"),
        (CONTRACT + 'mark_path = "orders/{id}/"\nmark_body = "list"', "mark_path"),
        (CONTRACT + 'signature_header = "X APIC"', "signature_header"),
        (CONTRACT.replace("https://api.apicbase.com/oauth", "http://api.apicbase.com/oauth"), "token_url"),
        (CONTRACT.replace("currency", "curency"), "curency"),
    ],
    ids=range(19),
)
def test_a_wrong_setting_is_named(configure: Any, settings: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configure(settings)


def test_marks_need_a_client_where_nothing_is_polled(configure: Any) -> None:
    with pytest.raises(ConfigError, match=r"mark_fetched.*client_id and client_secret"):
        configure(WEBHOOK + 'mark_fetched = "stored"', 'doors = ["webhook"]')
