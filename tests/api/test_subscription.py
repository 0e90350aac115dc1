"""Where to listen: what `subscribe` may return, and what the configuration makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway import BasicAuth, BearerAuth, HeaderAuth, QueryAuth, Reconnect, Secret, Subscription
from gateway.api.errors import ConfigError, PluginError
from gateway.plugin.connector import Connector
from gateway.service.assembly import assemble
from tests import hub_connector
from tests.conftest import plugins

URL = "https://hub.example/orders?tenant=1"
SECRET = Secret("s", origin="test")


def connector(given: Any) -> Connector:
    made = Connector(hub_connector, "hubby")
    made.settings = hub_connector.Settings()
    hub_connector.faults["subscribe"] = lambda settings: given
    return made


@pytest.fixture(autouse=True)
def no_faults_of_the_hub() -> Any:
    yield
    hub_connector.faults.clear()


@pytest.mark.parametrize(
    "auth", [None, HeaderAuth(name="n", value=SECRET), QueryAuth(name="n", value=SECRET), BearerAuth(token=SECRET)], ids=str
)
def test_a_subscription_that_makes_sense_is_taken(auth: Any) -> None:
    given = Subscription(url=URL, auth=auth, targets={"A": "B"})
    assert connector(given).subscribe() is given
    assert (given.keep_alive_s, given.server_timeout_s, given.negotiate, given.max_message_bytes) == (15, 30, True, 1024 * 1024)
    assert given.reconnect == Reconnect(base_s=1, factor=2, cap_s=60)


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "subscribe returned NoneType, not a Subscription"),
    "an address": (URL, "subscribe returned str"),
    "no url": (Subscription(url=""), "its url must be an absolute address"),
    "a url that is none": (Subscription(url=7), "its url"),  # type: ignore[arg-type]
    "a WebSocket url": (Subscription(url="wss://hub.example/"), "its url"),
    "no host": (Subscription(url="https:///x"), "its url"),
    "another auth": (Subscription(url=URL, auth=BasicAuth(username="u", password=SECRET)), "its auth"),  # type: ignore[arg-type]
    "a bare text as secret": (Subscription(url=URL, auth=HeaderAuth(name="n", value="s")), "its auth"),  # type: ignore[arg-type]
    "targets that are a list": (Subscription(url=URL, targets=["A"]), "its targets"),  # type: ignore[arg-type]
    "a target that is a number": (Subscription(url=URL, targets={"A": 1}), "its targets"),  # type: ignore[dict-item]
    "a reconnect that is a dict": (Subscription(url=URL, reconnect={"base_s": 1}), "its reconnect must"),  # type: ignore[arg-type]
    "a reconnect without a pause": (Subscription(url=URL, reconnect=Reconnect(base_s=0)), "its reconnect.base_s must be more than 0"),
    "no pings": (Subscription(url=URL, keep_alive_s=0), "its keep_alive_s must be more than 0"),
    "a timeout that never comes": (Subscription(url=URL, server_timeout_s=float("inf")), "its server_timeout_s"),
    "a limit that is a text": (Subscription(url=URL, max_message_bytes="1"), "its max_message_bytes"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("given", "text"), WRONG.values(), ids=WRONG)
def test_a_subscription_that_cannot_be_used_is_named(given: Any, text: str) -> None:
    with pytest.raises(PluginError, match=text):
        connector(given).subscribe()


def test_a_subscribe_that_fails_says_why() -> None:
    made = connector(None)
    hub_connector.faults["subscribe"] = lambda settings: 1 / 0
    with pytest.raises(PluginError, match="subscribe failed: ZeroDivisionError: division by zero"):
        made.subscribe()


# --- the configuration


def problems(folder: Path, settings: str, source: str = "") -> list[str]:
    (folder / "key").write_text("k")
    (folder / "gateway.toml").write_text(
        f"""[gateway]
data_dir = "data"
[targets.erp]
url = "https://erp.example/orders"
[sources.pharmacy]
connector = "hubby"
{source}
[sources.pharmacy.settings]
{settings}
"""
    )
    try:
        assembly = assemble(folder / "gateway.toml", plugins(hubby=hub_connector))
    except ConfigError as error:
        return [problem.partition("sources.pharmacy")[2] for problem in error.problems]
    if assembly.broken:  # the connector's fault, which takes down its own sources and stops no start
        return [problem.partition("sources.pharmacy")[2] for problem in assembly.problems]
    assert assembly.sources["pharmacy"].doors
    return []


BASE = ".settings.reconnect.base: is not a key of this table; did you mean base_s?"
GOOD = 'hub_url = "https://hub.example/orders"\nkey = { file = "key" }\n'
CASES: Mapping[str, tuple[str, str, list[str]]] = {
    "all there": (GOOD, "", []),
    "no hub": ("", "", [".settings: needs the key hub_url for the door realtime, or leave the door out of `doors`"]),
    "no hub and no door": ("", 'doors = ["poll"]', []),
    "no poll beside it": (
        GOOD,
        'doors = ["realtime"]',
        [".doors: realtime needs poll beside it: a hub replays nothing, a poll brings what was missed"],
    ),
    "plain http": (
        'hub_url = "http://hub.example/"',
        "",
        [".settings.hub_url: would be sent unencrypted; use https, or set allow_plain_http = true next to it"],
    ),
    "plain http that is meant": ('hub_url = "http://hub.example/"\nallow_plain_http = true', "", []),
    "a reconnect of our own": (GOOD + "reconnect = { base_s = 2, factor = 1.5, cap_s = 30 }", "", []),
    "a reconnect without a pause": (GOOD + "reconnect = { base_s = 0 }", "", [".settings.reconnect.base_s: must be more than 0"]),
    "a cap below the base": (GOOD + "reconnect = { base_s = 90 }", "", [".settings.reconnect.cap_s: must be at least base_s"]),
    "a key of reconnect that is none": (GOOD + "reconnect = { base = 2 }", "", [BASE]),
    "a timeout that the connector lets through": (
        GOOD + "server_timeout_s = -1.0",
        "",
        [
            ".connector: the plugin hubby 1 cannot be used: "
            "subscribe returned a Subscription that cannot be used: its server_timeout_s must be more than 0"
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "source", "expected"), CASES.values(), ids=CASES)
def test_the_configuration_is_checked_before_anything_is_connected(tmp_path: Path, settings: str, source: str, expected: list[str]) -> None:
    assert problems(tmp_path, settings, source) == expected
