"""Pages of the list of which a part, or the whole, cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_apicbase.simulator import ApicbaseSimulator

from gateway import PermanentError, Unreadable

NOON = datetime(2024, 3, 31, 12, tzinfo=UTC)


def enlist(simulator: ApicbaseSimulator, count: int, *, first: datetime = NOON - timedelta(minutes=10)) -> list[str]:
    return [simulator.enlist(simulator.new(ordered_on=first + timedelta(seconds=n))) for n in range(count)]


POISON = {
    "another type": b'{"id": "p", "ordered_on": "2024-03-31T11:50:02Z", "packages": 7}',
    "no quantity": b'{"id": "p", "packages": [{"quantity_ordered": "many"}]}',
    "an id that cannot be shown": b'{"id": "p\\u200b"}',
    "an empty id": b'{"id": ""}',
    "a key twice": b'{"id": "p", "id": "q"}',
    "invalid UTF-8": b'{"id": "p", "order_remarks": "\xff"}',
    "half a surrogate pair": b'{"id": "p", "order_remarks": "\\ud83d"}',
    "half a surrogate pair in a price": b'{"id": "p", "theoretical_price": "\\ud83d"}',
    "NaN": b'{"id": "p", "theoretical_price": NaN}',
    "nested without end": b'{"id": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "brackets in texts": b'{"id": "p", "order_remarks": "]}, \\"results\\": [{", "theoretical_price": -Infinity}',
    "no object": b"null",
}


@pytest.mark.parametrize("raw", POISON.values(), ids=POISON.keys())
async def test_one_unreadable_row_is_a_dead_letter_of_its_own_and_stops_nothing(
    simulator: ApicbaseSimulator, polling: Any, raw: bytes
) -> None:
    ids = enlist(simulator, 2)
    simulator.enlist(simulator.new(ordered_on=NOON - timedelta(minutes=9)), raw=raw)
    ids += enlist(simulator, 9, first=NOON - timedelta(minutes=8))
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    dead = [event for event in door.events if isinstance(event, Unreadable)]
    assert {event.document for event in dead} == {raw}
    assert all(event.reason for event in dead)


async def test_pages_of_nothing_but_unreadable_rows_are_got_over(simulator: ApicbaseSimulator, polling: Any) -> None:
    for n in range(9):
        simulator.enlist(simulator.new(ordered_on=NOON - timedelta(minutes=9)), raw=b'{"id": %d}' % n)
    ids = enlist(simulator, 2)
    door = await polling(page_size=4)
    assert await door.round() == set(ids)
    assert len({event.document for event in door.events if isinstance(event, Unreadable)}) == 9


async def test_rows_are_cut_out_of_the_right_list(connector: Callable[..., Any], settings: Callable[..., Any]) -> None:
    links = b'{"links": [[1], {"results": [{"id": "no"}]}], '
    body = links + b'"results": [{"id": "a"} , {"id": "b", "x": [NaN, "]"]},\n{"id": "c"}], "next": null}'

    class Client:
        async def request(self, *_: Any, **__: Any) -> Any:
            return type("Answer", (), {"status": 200, "headers": {}, "body": body})()

    page = await connector(settings()).poll(None, NOON, NOON, Client())
    assert [event.document for event in page.events] == [b'{"id": "a"}', b'{"id": "b", "x": [NaN, "]"]}', b'{"id": "c"}']
    assert [isinstance(event, Unreadable) for event in page.events] == [False, True, False]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Sign in</html>",
        b"",
        b"[]",
        b'{"count": 0}',
        b'{"results": null}',
        b'{"results": {}}',
        b'{"results": [{"id": "a"}, {"id": NaN',
        b'{"count": 1, "results": [], "next": "https://[::1"}',
        b'{"results": [], "next": "https://api.example/?' + b"a" * 2000 + b'"}',
    ],
    ids=range(9),
)
async def test_a_page_of_another_shape_is_an_error_and_moves_no_cursor(
    connector: Callable[..., Any], settings: Callable[..., Any], body: bytes
) -> None:
    made = connector(settings())

    class Client:
        async def request(self, *_: Any, **__: Any) -> Any:
            return type("Answer", (), {"status": 200, "headers": {}, "body": body})()

    with pytest.raises(PermanentError):
        await made.poll(None, NOON, NOON, Client())
