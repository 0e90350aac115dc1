"""A caller's body against a command: what fits goes through, and what does not is told whole, by JSON path, in plain words."""

from __future__ import annotations

import json
import time
from typing import Any

import gateway_pickup_cloud
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import PluginError
from gateway.api.secrets import Secret
from gateway.config.report import MOST_BODY_PROBLEMS, json_path
from gateway.plugin.command_body import InvalidBody, check_body, meaning
from gateway.plugin.connector import Connector
from tests import pharma
from tests.bad_commands import BAD, NOW, Bad, articles, good


@pytest.fixture
def connector() -> Connector:
    made = Connector(pharma)
    made.settings = pharma.Settings()
    return made


def problems(connector: Connector, bad: Bad) -> list[tuple[str, str]]:
    with pytest.raises(InvalidBody) as refused:
        connector.check_command(bad.command, bad.body, NOW)
    return [(path, said) for path, said in refused.value.problems]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_command_is_told_all_that_is_wrong_with_it(connector: Connector, name: str) -> None:
    found = problems(connector, BAD[name])
    assert [path for path, _ in found] == [path for path, _ in BAD[name].problems]
    for (_, said), (_, words) in zip(found, BAD[name].problems, strict=True):
        assert words in said


def test_there_are_sixty_of_them() -> None:
    assert len(BAD) >= 60


# What only the test connector limits, and what Pickup Cloud says in words of its own.
LOOSER = {
    "a long order number",
    "notes that are too long",
    "an address that is none",
    "an unknown country",
    "too many articles",
    "too large a quantity",
}
OTHER_WORDS = {
    "past 64 bits",
    "a date without a time",
    "a date with a zone",
    "a date that is none",
    "a date as a number",
    "yesterday",
    "an end today",
}


def test_pickup_clouds_own_commands_are_told_the_same() -> None:
    connector = Connector(gateway_pickup_cloud)
    connector.settings = connector.description.settings(api_key=Secret("k", origin="test"))
    assert connector.check_command("create_recurrent_order", json.dumps(good()).encode(), NOW) == "WEB/2026 00042#ä"
    assert len(BAD) - len(LOOSER) >= 60
    for name in BAD.keys() - LOOSER:
        found = problems(connector, BAD[name])
        assert [path for path, _ in found] == [path for path, _ in BAD[name].problems], name
        if name not in OTHER_WORDS:
            assert all(words in said for (_, said), (_, words) in zip(found, BAD[name].problems, strict=True)), name


@pytest.mark.parametrize("command", ["create_order", "create_recurrent_order"])
def test_a_good_command_goes_through_and_is_about_its_order(connector: Connector, command: str) -> None:
    assert connector.check_command(command, json.dumps(good(command)).encode(), NOW) == "WEB/2026 00042#ä"
    assert connector.check_command(command, b"\xef\xbb\xbf" + json.dumps(good(command, customerDetails=None)).encode(), NOW)
    assert connector.check_command(command, json.dumps(good(command, customerDetails=..., relatedNotes=...)).encode(), NOW)


def test_a_command_without_a_subject_is_about_nothing(connector: Connector) -> None:
    body = b'{"event": "shipped", "amount": 1.50, "payload": {"any": [1, null, "x"]}}'
    assert connector.check_command("publish_event", body, NOW) is None


def test_a_thousand_problems_are_told_as_a_hundred(connector: Connector) -> None:
    began = time.perf_counter()
    many = Bad(json.dumps({f"key {n}": 1 for n in range(20_000)}).encode(), ())
    assert len(problems(connector, many)) == MOST_BODY_PROBLEMS
    poison = Bad(json.dumps(["\0"] * 20_000).encode(), ())
    assert len(problems(connector, poison)) == MOST_BODY_PROBLEMS
    assert time.perf_counter() - began < 30  # they used to be looked at one by one


def test_a_connector_that_fails_over_a_body_is_to_blame_not_the_caller(connector: Connector) -> None:
    for error in (KeyError("Łucja"), RecursionError(), SystemExit(3), ValueError("x")):
        pharma.faults["check"] = raising(error)
        with pytest.raises(PluginError):
            connector.check_command("create_recurrent_order", json.dumps(good()).encode(), NOW)


def test_a_subject_that_cannot_be_kept_is_the_connectors_fault(connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in ("", "x" * 201, 7, "\ud800"):
        command = msgspec.structs.replace(connector.description.commands["create_order"], subject=lambda body, s=subject: s)
        monkeypatch.setitem(connector.description.commands, "create_order", command)
        with pytest.raises(PluginError, match="subject of create_order"):
            connector.check_command("create_order", json.dumps(good("create_order")).encode(), NOW)


def raising(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("at", "path"),
    [((), "$"), (("a", 0, "b_1"), "$.a[0].b_1"), (("1a",), '$["1a"]'), (("a b", 'q"'), '$["a b"]["q\\""]'), (("ä",), '$["\\u00e4"]')],
)
def test_a_path_as_people_and_programs_read_it(at: tuple[str | int, ...], path: str) -> None:
    assert json_path(at) == path


# --- what a body says


SAME = [
    (b'{"a": 1, "b": [true, null, "\\u00e9"]}', '{"b":[true,null,"é"],"a":1}'.encode()),
    (b'{"a": 1.0}', b'{"a": 1}'),
    (b'{"a": 10}', b'{"a": 1e1}'),
    (b'{"a": 0.10}', b'{"a": 1E-1}'),
    (b'{"a": -0.0}', b'{"a": 0}'),
    (b'\xef\xbb\xbf{"a":"/"}', b'{"a":"\\/"}'),
]
OTHER = [
    (b'{"a": 1}', b'{"a": "1"}'),
    (b'{"a": 1}', b'{"a": true}'),
    (b'{"a": null}', b"{}"),
    (b'{"a": [1, 2]}', b'{"a": [2, 1]}'),
    (b'{"a": 0.1}', b'{"a": 0.100000000000000001}'),
    (b'{"a": "e"}', b'{"a": "E"}'),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_of_one_body_mean_the_same(one: bytes, other: bytes) -> None:
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_bodies_do_not_mean_the_same(one: bytes, other: bytes) -> None:
    assert meaning(one) != meaning(other)


# --- properties


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=10,
)


def refusals(kind: type[msgspec.Struct], body: bytes) -> list[tuple[str, str]]:
    try:
        check_body(kind, body)
        meaning(body)
    except InvalidBody as refused:
        return [(path, said) for path, said in refused.problems] or [("", "")]
    return []


@given(st.binary(max_size=60) | trees.map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_fit_or_are_told_why_not(body: bytes) -> None:
    for kind in (pharma.PublishEvent, pharma.CreateRecurrentOrder):
        for path, said in refusals(kind, body):
            assert path.startswith("$")
            assert said
            assert (path + said).encode()


@given(st.sampled_from(list(good())), trees)
def test_what_fits_is_what_the_submit_step_reads(key: str, value: Any) -> None:
    body = json.dumps(good(**{key: value})).encode()
    try:
        made = check_body(pharma.CreateRecurrentOrder, body)
    except InvalidBody:
        return
    assert made == msgspec.json.decode(body, type=pharma.CreateRecurrentOrder)


def test_an_article_more_means_another_body() -> None:
    assert meaning(json.dumps(good(articles=articles({}, {}))).encode()) != meaning(json.dumps(good(articles=articles({}))).encode())
