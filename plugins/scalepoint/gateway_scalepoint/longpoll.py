"""Long polling of the Event API (vendors/scalepoint.md section 2, "Receiving events"; sample 5.4).

A call stays open until there is an event, and the next call follows at once. The client keeps its place in the stream, so long
polling brings what the webhook missed.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import msgspec
from msgspec import Raw, Struct

from gateway import Event, Page, PermanentError, Response, TimedOut, Unreadable, VendorClient, list_apart, without_input
from gateway_scalepoint.events import event, unwrapped
from gateway_scalepoint.settings import Settings

_PLACE = "{lastEventId}"
_LONGEST = 200
# A server may end a held call without news with one of these.
_NO_NEWS = (304, 408)


class _Answer(Struct):
    links: Any = None
    data: list[Raw] | None = None


class _Element(Struct):
    id: str | int


async def page(cursor: str | None, client: VendorClient, settings: Settings) -> Page:
    """Get the events after the last committed one with one call.

    Raises:
        PermanentError: The answer is no list of events, or has no id to continue from.
    """
    assert settings.receive_url is not None
    assert settings.start is not None
    after = cursor or settings.start.after_event
    url = settings.receive_url.replace(_PLACE, quote(after, safe=""))
    try:
        answer = await client.request("GET", url, scope=settings.events_scope or None, timeout_s=settings.poll_timeout_s, accept=_NO_NEWS)
    except TimedOut:
        return Page()
    if answer.status in _NO_NEWS or not answer.body.strip():
        return Page()
    said, elements = _read(answer)
    following = _following(said.links, settings.receive_url) or _last(elements)
    if elements and following is None:
        raise PermanentError("the answer has events and no id to continue from")
    return Page(events=[read_element(element, settings) for element in elements], cursor=following, more=bool(elements))


def _read(answer: Response) -> tuple[_Answer, list[bytes]]:
    """Return the answer and its elements, also if one of them is invalid (NaN, half a surrogate pair). Raises PermanentError."""
    try:
        said = answer.decode(_Answer)
        return said, [bytes(element) for element in said.data or ()]
    except PermanentError:
        rest, elements = list_apart(answer.body, "data")
        if not elements:
            raise
        return msgspec.structs.replace(answer, body=rest).decode(_Answer), elements


def read_element(element: bytes, settings: Settings, *, type: str | None = None) -> Event | Unreadable:
    """Read an element; return one that cannot be read unchanged, as an Unreadable."""
    try:
        ((document, kind),) = unwrapped(element)
        return event(document, settings, type=kind or type)
    except (PermanentError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else without_input(error)
        return Unreadable(document=element, reason=f"cannot be read: {reason}")


def _following(links: Any, template: str) -> str | None:
    """Return the id in `links.next`. Its address is not used: credentials go only to the configured one."""
    following = links.get("next") if isinstance(links, dict) else None
    names = [name for name, value in parse_qsl(urlsplit(template).query) if value == _PLACE]
    if not isinstance(following, str) or not names:
        return None
    try:
        found = parse_qs(urlsplit(following).query).get(names[0], [])
    except ValueError:
        return None
    return _usable(found[0]) if len(found) == 1 else None


def _last(elements: list[bytes]) -> str | None:
    """Return the id of the last element that has one."""
    for element in reversed(elements):
        try:
            return _usable(str(_decoder.decode(element).id))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return None


def _usable(id: str) -> str | None:
    return id if 0 < len(id) <= _LONGEST and id.isprintable() else None


_decoder = msgspec.json.Decoder(_Element)
