"""Events of Scalepoint, from webhook or long poll (vendors/scalepoint.md sections 1 and 2; samples 5.1 to 5.4).

An event needs only a type, and an order event a token. Unknown fields are ignored; null, an empty text and a missing field are the
same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

import msgspec
from msgspec import Raw, Struct

from gateway import Event, PermanentError, is_identity, list_apart, read_json, utc
from gateway_scalepoint.settings import Settings, normalized_name

_NAME_LIMIT = 200
_MOST = 1000
_MAJOR = re.compile(r"\s*v?([0-9]{1,6})(?:\.|\s*\Z)")


class EventFields(Struct, frozen=True, kw_only=True):
    """Fields of an event.

    Attributes:
        token: The order's token, exactly as received. Tokens come in both letter cases, and case does not count in comparisons.
        case: The claim of the event: its filled texts.
    """

    type: str
    token: str | None
    correlation: str | None
    version: str | None
    timestamp: str | None
    case: Mapping[str, str]

    @property
    def major(self) -> int | None:
        """Major version of `payloadVersion`; None if it cannot be read."""
        found = _MAJOR.match(self.version or "")
        return int(found[1]) if found else None


class _Wrapper(Struct):
    """Element of a long-poll answer, or a whole answer."""

    eventType: Raw = Raw()
    type: Any = None
    attributes: Raw = Raw()
    data: Raw = Raw()


def read(document: bytes, *, type: str | None = None) -> EventFields:
    """Read an event.

    Args:
        type: The wrapper's type, for an event without one.
    Raises:
        PermanentError, ValueError: It is no unambiguous JSON object, or has no type.
    """
    said = read_json(document)
    if not isinstance(said, dict):
        raise PermanentError("not a Scalepoint event: it is no object")
    name = _filled(said.get("eventType")) or type
    if name is None or not normalized_name(name):
        raise PermanentError("not a Scalepoint event: it has no eventType")
    case = said.get("case")
    return EventFields(
        type=name,
        token=_filled(said.get("orderToken")),
        correlation=_filled(said.get("correlationId")),
        version=_filled(said.get("payloadVersion")),
        timestamp=_filled(said.get("timestamp")),
        case={key: text for key, value in case.items() if (text := _filled(value))} if isinstance(case, dict) else {},
    )


def event(document: bytes, settings: Settings, *, type: str | None = None) -> Event:
    """Convert an event; the result is the same through both doors and in every wrapper.

    The key of an order event holds its correlation id, or else its timestamp: a repeat falls out, and another event of the same order
    fetches the order again. Other events are stored and ignored. One of them that names an order is flagged, because it may announce
    an undocumented kind of change.

    Raises:
        PermanentError, ValueError: It cannot be read, or is an order event without a token.
    """
    fields = read(document, type=type)
    kind, token = normalized_name(fields.type), (fields.token or "").lower()
    at = instant(fields.timestamp, settings.zone())
    if settings.is_order_event(fields.type):
        if not fields.token or not fields.token.strip(" .") or not is_identity(token):  # a token of dots would change the path
            raise PermanentError("an order event without an orderToken")
        named = fields.correlation if is_identity(fields.correlation) else fields.timestamp
        key = _key(kind, token, (named or "").lower())
        return Event(key=key, order_ref=token, document=document, fetch=True, occurred_at=at, reference=fields.token)
    meaning = json.dumps(read_json(document), sort_keys=True)
    shown = kind[:40] if kind.isascii() and kind.isalnum() else "?"
    return Event(
        key=_key(kind, token, hashlib.sha256(meaning.encode()).hexdigest()[:16]),
        order_ref=token if 0 < len(token) <= _NAME_LIMIT and token.isprintable() else _digest(kind),
        document=document,
        occurred_at=at,
        ignored=f"events of the type {shown} are " + ("not known, and this one names an order" if token else "not about orders"),
        flagged=bool(token),
    )


def unwrapped(body: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Yield the events of a body byte for byte, each with its wrapper's type: the body itself, or the contents of a long-poll answer.

    Raises ValueError.
    """
    try:
        wrapper = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        _, apart = list_apart(body, "data")  # one invalid event must not cost the others
        if 1 < len(apart) <= _MOST:
            yield from ((element, None) for element in apart)
            return
        wrapper = _Wrapper()  # its reader reports the problem
    inner, elements = bytes(wrapper.attributes), bytes(wrapper.data)
    if bytes(wrapper.eventType):
        yield body, None
    elif inner.startswith(b"{"):
        yield inner, wrapper.type if isinstance(wrapper.type, str) else None
    elif elements.startswith(b"["):
        several = msgspec.json.decode(elements, type=list[Raw])
        if len(several) > _MOST:
            raise ValueError(f"more than {_MOST} events in one body")
        for element in several:
            yield from unwrapped(bytes(element))
    else:
        yield body, None


def instant(text: str | None, zone: tzinfo) -> datetime | None:
    """Convert a timestamp to UTC; return None for one that is missing or unreadable, which is no reason to refuse an event.

    Known are 0, 7 and 9 digits of a second, and the offsets `Z`, `+02:00` and `+0200` (vendors/scalepoint.md 4, case 12).
    """
    try:
        read_as = datetime.fromisoformat(text or "")
        return utc(read_as if read_as.tzinfo else read_as.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        return None


def _key(kind: str, token: str, rest: str) -> str:
    key = f"{kind}/{token or '-'}/{rest or '-'}"
    return key if len(key) <= _NAME_LIMIT and key.isprintable() else f"{kind[:40] if kind.isprintable() else '?'}/{_digest(key)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _filled(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


_decoder = msgspec.json.Decoder(_Wrapper)
