"""Events as Scalepoint sends them, through whichever door (vendors/scalepoint.md sections 1 and 2; samples 5.1 to 5.4).

The envelope is checked loosely: only a type is needed, and of an order event its token. Unknown fields are ignored; null, the
empty text and a missing field are the same.
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
from gateway_scalepoint.settings import Settings, squashed

_NAME_LIMIT = 200
_MOST = 1000
_MAJOR = re.compile(r"\s*v?([0-9]{1,6})(?:\.|\s*\Z)")


class Told(Struct, frozen=True, kw_only=True):
    """What an event says.

    Attributes:
        token: The order's, exactly as it came; ids come in both letter cases, and are compared without it.
        case: The claim that it is about: only filled texts.
    """

    type: str
    token: str | None
    correlation: str | None
    version: str | None
    timestamp: str | None
    case: Mapping[str, str]

    @property
    def major(self) -> int | None:
        """Of `payloadVersion`; None where it cannot be read."""
        found = _MAJOR.match(self.version or "")
        return int(found[1]) if found else None


class _Wrapper(Struct):
    """An element of a long-poll answer, or the whole answer, where somebody hands us one."""

    eventType: Raw = Raw()
    type: Any = None
    attributes: Raw = Raw()
    data: Raw = Raw()


def read(document: bytes, *, type: str | None = None) -> Told:
    """One event.

    Args:
        type: What its wrapper says, where the event itself does not.
    Raises:
        PermanentError, ValueError: It is no JSON object with one meaning, or says no type.
    """
    said = read_json(document)
    if not isinstance(said, dict):
        raise PermanentError("not a Scalepoint event: it is no object")
    name = _filled(said.get("eventType")) or type
    if name is None or not squashed(name):
        raise PermanentError("not a Scalepoint event: it has no eventType")
    case = said.get("case")
    return Told(
        type=name,
        token=_filled(said.get("orderToken")),
        correlation=_filled(said.get("correlationId")),
        version=_filled(said.get("payloadVersion")),
        timestamp=_filled(said.get("timestamp")),
        case={key: text for key, value in case.items() if (text := _filled(value))} if isinstance(case, dict) else {},
    )


def event(document: bytes, settings: Settings, *, type: str | None = None) -> Event:
    """The event as the core takes it; the same through both doors, in whichever wrapper it came.

    An order event means "this order, again": its key holds the correlation id, so that a repeat falls out and another event of
    the same order fetches it anew; without one its timestamp stands in. Others are kept and ignored; one that names an order is
    flagged, since it may be about a change that nobody has described yet.

    Raises:
        PermanentError, ValueError: It cannot be read, or is an order event without a token.
    """
    told = read(document, type=type)
    kind, token = squashed(told.type), (told.token or "").lower()
    at = instant(told.timestamp, settings.zone())
    if settings.is_order_event(told.type):
        if not told.token or not told.token.strip(" .") or not is_identity(token):  # dots alone would be another path
            raise PermanentError("an order event without an orderToken")
        named = told.correlation if is_identity(told.correlation) else told.timestamp
        key = _key(kind, token, (named or "").lower())
        return Event(key=key, order_ref=token, document=document, fetch=True, occurred_at=at, reference=told.token)
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
    """The events in a body, each with the type that its wrapper says: the body itself, or what is inside the wrapper of a
    long-poll answer, byte for byte. Raises ValueError."""
    try:
        wrapper = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        _, apart = list_apart(body, "data")  # where one of several is poison, it costs no other
        if 1 < len(apart) <= _MOST:
            yield from ((element, None) for element in apart)
            return
        wrapper = _Wrapper()  # whoever reads it will say what is wrong
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
    """A timestamp in UTC; None where there is none or it cannot be read, which no event is refused for.

    Seen are 0, 7 and 9 digits of a second, and the offsets `Z`, `+02:00` and `+0200` (vendors/scalepoint.md 4, case 12).
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
