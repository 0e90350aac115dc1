"""What `gateway check` says of a source's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gateway_scalepoint
import pytest
from gateway_scalepoint.settings import ORDER_URL, Settings

from gateway.api.errors import ConfigError
from gateway.plugin.connector import Connector
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import Assembly, assemble
from gateway.testing.toml import to_toml

PLUGINS = {"scalepoint": Plugin(name="scalepoint", distribution="order-gateway-scalepoint", version="0", module=gateway_scalepoint)}


@pytest.fixture
def check(tmp_path: Path, pairs: Any) -> Any:
    """`check(currency="DKK")`: the assembly of CONTRACT's source with these settings changed; None leaves one out."""

    def call(doors: Any = None, **changes: Any) -> Assembly:
        made, other = pairs("one"), pairs("two")
        for name, text in (("key", made.key), ("cert", made.certificate), ("other", other.certificate), ("webhook", "s3cret")):
            (tmp_path / name).write_text(text)
        (tmp_path / "scalepoint.jsonata").write_text('{ "order_number": id }')
        settings: dict[str, Any] = {
            "webhook_auth": {"kind": "bearer", "token": {"file": "webhook"}},
            "order_url": "https://www.scalepoint.com/api/Orders?ExternalId={orderToken}",
            "token_url": "https://sandbox-accounts.scalepoint.com/connect/token",
            "client_id": "example_supplier",
            "client_auth": "private_key_jwt",
            "private_key": {"file": "key"},
            "certificate": {"file": "cert"},
            "scope": "orders",
            "currency": "DKK",
            "mapping": "scalepoint.jsonata",
            "fetch_retry_s": [5, 15, 60, 300, 900],
            "fetch_give_up_s": 86400,
            "max_body_bytes": 262144,
        }
        table = {key: value for key, value in (settings | changes).items() if value is not None}
        source: dict[str, Any] = {"connector": "scalepoint", "settings": table} | ({"doors": list(doors)} if doors else {})
        (tmp_path / "gateway.toml").write_text(to_toml({"targets": {"erp": {"url": "https://erp.example"}}, "sources": {"claims": source}}))
        return assemble(tmp_path / "gateway.toml", PLUGINS)

    return call


def problems(check: Any, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        check(**changes)
    return [problem.partition("sources.claims.")[2] for problem in raised.value.problems]


def test_the_source_of_the_contract_has_no_problem(check: Any) -> None:
    part = check().sources["claims"]
    connector: Connector = part.connector
    assert part.doors == ("webhook",)
    assert (connector.max_body_bytes(1 << 20), connector.jwks_url()) == (262144, None)
    retry = connector.fetch_retry()
    assert retry is not None
    assert (retry.schedule_s, retry.give_up_s) == ((5.0, 15.0, 60.0, 300.0, 900.0), 86400.0)


def test_defaults_are_those_of_the_vendors_page(check: Any) -> None:
    bare = dict.fromkeys(("order_url", "client_auth", "scope", "currency", "mapping", "fetch_retry_s", "fetch_give_up_s", "max_body_bytes"))
    settings: Settings = check(**bare).sources["claims"].connector.settings
    assert (settings.order_url, settings.client_auth, settings.assertion_s) == (ORDER_URL, "private_key_jwt", 60)
    assert (settings.fetch_retry_s, settings.fetch_give_up_s, settings.max_body_bytes) == ((5, 15, 60, 300, 900), 86400, 262144)
    assert (settings.events_scope, settings.poll_timeout_s, settings.scope) == ("events", 120, "")
    assert settings.mapping is None


def test_the_source_does_not_start_without_authentication_of_its_webhook(check: Any) -> None:
    assert problems(check, webhook_auth=None) == [
        "settings: needs the key webhook_auth for the door webhook, or leave the door out of `doors`"
    ]
    (said,) = problems(check, webhook_auth={"kind": "none"})
    assert said.startswith("settings.webhook_auth.i_know_that_anybody_can_send: must be true")
    assert check(webhook_auth={"kind": "none", "i_know_that_anybody_can_send": True})


def test_the_poll_door_needs_to_know_where_to_ask_and_where_to_begin(check: Any) -> None:
    assert problems(check, doors=("poll",), webhook_auth=None) == [
        "settings: needs the key receive_url for the door poll, or leave the door out of `doors`",
        "settings: needs the key start for the door poll, or leave the door out of `doors`",
    ]
    receive = "https://www.scalepoint.com/api/events/v1/dk/external/tenant/receive?lastEventId={lastEventId}"
    long_polling = {"receive_url": receive, "start": {"after_event": "_122047"}}
    assert check(doors=("poll",), webhook_auth=None, **long_polling)
    assert check(**long_polling).sources["claims"].doors == ("webhook", "poll")
    assert problems(check, receive_url=receive) == ["settings: needs the key start for the door poll, or leave the door out of `doors`"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order_url": "https://www.scalepoint.com/api/Orders"}, "settings.order_url: must hold {orderToken} once"),
        ({"order_url": "https://{orderToken}.example/"}, "settings.order_url: must hold {orderToken} once, in its path or its query"),
        ({"order_url": "http://www.scalepoint.com/{orderToken}"}, "settings.order_url: would be sent unencrypted"),
        ({"receive_url": "https://www.scalepoint.com/receive"}, "settings.receive_url: must hold {lastEventId} once"),
        ({"token_url": None}, "settings: needs the key token_url for the door webhook"),
        ({"client_id": None}, "settings: needs the key client_id for the door webhook"),
        ({"private_key": None}, 'settings.private_key: is needed with client_auth = "private_key_jwt"'),
        ({"client_auth": "client_secret"}, 'settings.client_secret: is needed with client_auth = "client_secret"'),
        ({"certificate": {"file": "other"}}, "settings.certificate: is not the certificate of private_key"),
        ({"private_key": {"file": "cert"}}, "settings.private_key: is a certificate"),
        ({"certificate": {"file": "key"}}, "settings.certificate: is a private key"),
        ({"private_key": {"file": "webhook"}}, "settings.private_key: is no PEM private key"),
        ({"currency": "kr."}, "settings.currency: must be three capital letters"),
        ({"scope": "a  b"}, "settings.scope: must be names with single spaces"),
        ({"time_zone": "Denmark/Aarhus"}, "settings.time_zone: is no time zone"),
        ({"fetch_retry_s": []}, "settings.fetch_retry_s: is empty"),
        ({"fetch_retry_s": [0]}, "settings.fetch_retry_s[0]: must be more than 0"),
        ({"order_events": ["--"]}, "settings.order_events: must be names of events"),
        ({"poll_timeout_s": 600}, "settings.poll_timeout_s: must be at most 240"),
        ({"mapping": "missing.jsonata"}, "settings.mapping: cannot read"),
        ({"start": {"after_event": ""}}, "settings.start.after_event: must have a length of at least 1"),
        ({"start": {"after": "_1"}}, "settings.start.after: is not a key of this table; did you mean after_event?"),
        ({"wehook_auth": 1}, "settings.wehook_auth: is not a key of this table; did you mean webhook_auth?"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_a_problem_with_its_key(check: Any, changes: dict[str, Any], said: str) -> None:
    found = problems(check, **changes)
    assert [one for one in found if one.startswith(said)], found


def test_keys_for_signed_webhooks_are_the_cores_to_fetch(check: Any) -> None:
    jwks = "https://accounts.scalepoint.com/.well-known/jwks"
    auth = {"kind": "jwt", "issuer": "https://accounts.scalepoint.com", "audience": "supplier", "jwks_url": jwks}
    assert check(webhook_auth=auth).sources["claims"].connector.jwks_url() == jwks
