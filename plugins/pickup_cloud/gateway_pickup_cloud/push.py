"""Notifications of the hub (vendors/pickup_cloud.md section 1, from the vendor's page on the realtime push mechanism).

    OrderStateChanged(OrderNumber, PickupCode, OrderState, OrderStateChangedDate, ExtraData)
    OrderArticleStateChanged(OrderNumber, PickupCode, ArticleStatusChangedDto)

The page leaves open whether ExtraData is a fourth argument or in the DTO, and .NET may send one object in place of the list.
All of these forms are read, in any letter case; other fields are ignored. OrderArticleWithPackStateChanged is named by a
newer variant of the page that was not seen whole: it is read if it has an article's state.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway import read_json
from gateway_pickup_cloud.wire import ArticleStatus, Text, fold

ORDER, ARTICLE, PACK = "OrderStateChanged", "OrderArticleStateChanged", "OrderArticleWithPackStateChanged"


class Push(Struct, frozen=True, kw_only=True):
    """Notification of the state of an order, or of one of its articles."""

    order_number: str
    state: str
    changed: str | None
    article: ArticleStatus | None = None


class Strange(Struct, frozen=True, kw_only=True):
    """Notification in an unknown form."""

    reason: str


class _Call(Struct, frozen=True):
    target: str
    arguments: list[Any]


class _Order(Struct, frozen=True, kw_only=True):
    ordernumber: Text
    orderstate: Text
    orderstatechangeddate: Text | None = None


class _Listed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The documented list with nothing but texts in it: no keys, so no letter case and none twice, and no numbers."""

    number: str
    code: str | None
    state: str
    changed: str | None = None
    extra: str | None = None


_HEAD = b'{"target":"%b","arguments":' % ORDER.encode()
_MOST = 64 * 1024
_listed = msgspec.json.Decoder(_Listed)


def read_push(body: bytes) -> Push | Strange:
    """Read `{"target": ..., "arguments": [...]}`.

    Raises:
        ValueError: A notification that we know does not have what belongs to it.
    """
    return _listed_push(body) or _any_push(body)


def _listed_push(body: bytes) -> Push | None:
    """Read the usual form fast; return None for the others, which `_any_push` reads or refuses."""
    if not body.startswith(_HEAD) or not body.endswith(b"}") or b"\\" in body or len(body) > _MOST:
        return None
    try:
        read = _listed.decode(body[len(_HEAD) : -1])
    except ValueError:
        return None
    return Push(order_number=read.number, state=read.state, changed=read.changed)


def _any_push(body: bytes) -> Push | Strange:
    call = msgspec.convert(fold(read_json(body)), _Call)
    if call.target == ORDER:
        return _order(call.arguments)
    if call.target == ARTICLE:
        return _article(call.arguments)
    if call.target != PACK:
        return Strange(reason="a notification that nobody knows")
    try:
        return _article(call.arguments)
    except ValueError:
        return Strange(reason="a pack's notification without the state of an article, and its parameters are not published")


def _order(arguments: list[Any]) -> Push:
    if len(arguments) == 1:
        members = _object(arguments[0])
    else:
        members = dict(zip(("ordernumber", "pickupcode", "orderstate", "orderstatechangeddate"), arguments, strict=False))
    read = msgspec.convert(members, _Order)
    return Push(order_number=read.ordernumber, state=read.orderstate, changed=read.orderstatechangeddate)


def _article(arguments: list[Any]) -> Push:
    if len(arguments) == 1:
        members = _object(arguments[0])
        number, parts = members.get("ordernumber"), [*members.values(), members]  # the DTO is a member, or its members are
    else:
        number, parts = next(iter(arguments), None), arguments[2:]
    if not isinstance(number, str):
        raise ValueError("an article's notification without an order number")
    dto = next((part for part in parts if isinstance(part, dict) and "articleid" in part), None)
    read = msgspec.convert(dto, ArticleStatus)
    return Push(order_number=number, state=read.order_article_state, changed=read.order_article_state_changed_date, article=read)


def _object(argument: Any) -> dict[str, Any]:
    if not isinstance(argument, dict):
        raise ValueError("one argument that is no object")
    return argument
