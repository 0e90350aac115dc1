"""The settings, as an operator writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gateway_supercat
import pytest
from gateway_supercat.constructed import EXAMPLE

from gateway.api.errors import ConfigError
from gateway.api.vendor_client import BasicAuth
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import Assembly, assemble

PLUGINS = {"supercat": Plugin(name="supercat", distribution="order-gateway-supercat", version="0", module=gateway_supercat)}

CONTRACT = """
base_url = "https://supercat.supercatsolutions.com"
org = "demo"
username = "gateway"
password = { file = "supercat" }
poll_interval_s = 300
mark = "stored"
start = { after_id = 0 }
stop_after_auth_failures = 2
currency = "USD"
mapping = "supercat.jsonata"
"""


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    (tmp_path / "supercat").write_text("constructed-password\n")
    (tmp_path / "supercat.jsonata").write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    (tmp_path / "broken.jsonata").write_text("{ ", "utf-8")

    def make(settings: str, source: str = "") -> Assembly:
        text = (
            f'[targets.erp]\nurl = "https://erp.example/"\n[sources.reps]\nconnector = "supercat"\n{source}'
            f"\n[sources.reps.settings]\n{settings}"
        )
        (tmp_path / "gateway.toml").write_text(text)
        return assemble(tmp_path / "gateway.toml", PLUGINS)

    return make


def test_settings_of_the_contract_are_understood(configure: Any) -> None:
    part = configure(CONTRACT, 'on_revision = "hold"').sources["reps"]
    assert part.doors == ("poll",)
    assert part.connector.settings.start.after_id == 0
    assert part.connector.poll_interval_s() == 300
    assert part.connector.stages() == {"stored"}
    assert isinstance(part.api.auth, BasicAuth)
    assert (part.api.auth.username, part.api.auth.password.reveal()) == ("gateway", "constructed-password")
    assert (part.api.base_url, part.api.stop_after_auth_failures) == ("https://supercat.supercatsolutions.com", 2)
    assert "constructed-password" not in repr(part)


def test_what_the_vendor_page_suggests_is_the_default(configure: Any) -> None:
    """vendors/supercat.md section 3."""
    least = "\n".join(row for row in CONTRACT.splitlines() if row.split(" ")[0] in ("org", "username", "password", "start", "mapping"))
    made = configure(least).sources["reps"].connector.settings
    assert (made.poll_interval_s, made.read_timeout_s, made.max_response_bytes) == (300, 120, 50 * 1024**2)
    assert (made.mark, made.mark_batch, made.stop_after_auth_failures) == ("stored", 100, 2)
    assert (made.base_pattern, made.suffix_pattern, made.headers, made.currency) == (r"^\d+-\d{6}-\d+$", r"-(\d+)$", {}, None)
    assert made.list_at() == made.mark_at() == "demo/ext/v2/orders/new_orders"


def test_the_source_refuses_to_start_without_a_start_and_says_what_to_write(configure: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        configure(CONTRACT.replace("start = { after_id = 0 }", ""))
    (problem,) = refused.value.problems
    assert "sources.reps.settings.start: is needed" in problem
    assert "write start = { after_id = 0 } to forward them all" in problem


def test_everything_that_is_missing_is_said_at_once(configure: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        configure("")
    said = "\n".join(refused.value.problems)
    assert len(refused.value.problems) == 5
    assert all(f"settings.{key}: is needed" in said for key in ("org", "username", "password", "start", "mapping"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (CONTRACT.replace("after_id = 0", "after_id = -1"), "start.after_id: must be at least 0"),
        (CONTRACT.replace("after_id = 0", ""), "start: needs the key after_id"),
        (CONTRACT.replace('"demo"', '"d"'), "org: must be the organisation's short name"),
        (CONTRACT.replace('"demo"', '"../../x"'), "org: must be the organisation's short name"),
        (CONTRACT.replace('"gateway"', '"a:b"'), "username: must be a name without a colon"),
        (CONTRACT.replace('{ file = "supercat" }', '"text"'), "password: a secret may not stand in the file"),
        (CONTRACT.replace("https://", "https://gateway:secret@"), "base_url: may not hold a user name or password"),
        (CONTRACT.replace("https://", "http://"), "base_url: would be sent unencrypted"),
        (CONTRACT.replace('"USD"', '"usd"'), "currency: must be three capital letters"),
        (CONTRACT.replace('mark = "stored"', 'mark = "storred"'), "mark: must be one of stored, delivered, off; did you mean stored"),
        (CONTRACT.replace('"supercat.jsonata"', '"missing.jsonata"'), "mapping: cannot read"),
        (CONTRACT.replace('"supercat.jsonata"', '"broken.jsonata"'), "mapping: .*broken.jsonata:1"),
        (CONTRACT.replace("failures = 2", "failures = 0"), "stop_after_auth_failures: must be at least 1"),
        (CONTRACT.replace("interval_s = 300", "interval_s = 0"), "poll_interval_s"),
        (CONTRACT + "read_timeout_s = 3000", "read_timeout_s: must be at most 280"),
        (CONTRACT + "mark_batch = 101", "mark_batch: must be at most 100"),
        (CONTRACT + 'quiet_hours = "22-6"', 'quiet_hours: must be from and to, as in "22:00-06:00"'),
        (CONTRACT + 'list_path = "https://elsewhere.example/"', "list_path: must be a path below base_url"),
        (CONTRACT + 'mark_path = "orders?x=1"', "mark_path: must be a path below base_url"),
        (CONTRACT + 'base_pattern = "("', "base_pattern: is no regular expression"),
        (CONTRACT + "suffix_pattern = '-\\d+$'", "suffix_pattern: must have one group"),
        (CONTRACT + 'headers = { Authorization = "Basic x" }', "headers: may not hold Authorization"),
        (CONTRACT + 'headers = { "X Y" = "1" }', "headers: has a name or a value that HTTP cannot carry"),
        (CONTRACT + 'headers = { X = "a\\r\\nb" }', "headers: has a name or a value that HTTP cannot carry"),
        (CONTRACT + 'time_zone = "Mars/Olympus"', "time_zone: is no time zone of this machine"),
        (CONTRACT.replace("currency", "curency"), "curency: is not a key of this table; did you mean currency"),
    ],
    ids=range(26),
)
def test_a_wrong_setting_is_named(configure: Any, settings: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configure(settings)


def test_the_example_is_where_the_readme_says() -> None:
    folder = Path(__file__).parent.parent
    assert f"`{EXAMPLE.relative_to(folder)}`" in (folder / "README.md").read_text("utf-8")
