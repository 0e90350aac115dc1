"""Whatever SuperCat, or something that answers in its place, says: it is records, dead letters or a failed poll, never a crash."""

from __future__ import annotations

import json
from typing import Any

from gateway_supercat.answer import records, results
from gateway_supercat.constructed import record
from gateway_supercat.record import found
from gateway_supercat.settings import Settings, Start
from gateway_supercat.unknown import used_fields
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from gateway import Event, PermanentError, TransientError, Unreadable

ANSWER = json.dumps(
    {"status": "success", "error": None, "data": [record(n, number=f"1-111111-{n}", uuid=f"u{n}") for n in (2, 1)]}
).encode()
SETTINGS = Settings(start=Start(after_id=0))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "error", "data", "id", "uuid", "x"]), inner),
    max_leaves=12,
)


def swallow(body: bytes) -> None:
    for read in (records, results):
        try:
            made = read(body)
        except (PermanentError, TransientError):
            continue
        for document in made if isinstance(made, list) else ():
            id, event = found(document, SETTINGS)
            assert isinstance(event, (Event, Unreadable))
            assert (id > 0) is isinstance(event, Event)


@bounds(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(ANSWER)))
def test_bytes_that_were_changed_or_cut(changes: list[tuple[int, int]], end: int) -> None:
    body = bytearray(ANSWER)
    for at, byte in changes:
        body[at] = byte
    swallow(bytes(body))
    swallow(bytes(body[:end]))


@bounds(max_examples=300, deadline=None)
@given(values)
def test_json_of_any_shape(value: Any) -> None:
    swallow(json.dumps(value).encode())
    swallow(json.dumps({"status": "success", "error": None, "data": value}).encode())
    swallow(json.dumps({"status": "success", "error": None, "data": [value]}, ensure_ascii=True).encode())


@bounds(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_of_any_kind(body: bytes) -> None:
    swallow(body)
    swallow(b'{"status": "success", "error": null, "data": [' + body + b"]}")


@bounds(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.$`'\"/*{}[]()^ :,;\\", max_size=40))
def test_a_mapping_of_any_text_can_be_looked_over(text: str) -> None:
    used_fields(text)
