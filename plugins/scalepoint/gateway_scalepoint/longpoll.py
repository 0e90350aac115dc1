"""Long polling of the Event API (vendors/scalepoint.md section 2, "Receiving events"; sample 5.4).

A call stays open until there is something; the next one follows at once. The place in the stream is ours to keep, so what the
webhook missed can be had again.
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
# A server that ends a held call without news may say so in these ways.
_NO_NEWS = (304, 408)


class _Answer(Struct):
    links: Any = None
    data: list[Raw] | None = None


class _Element(Struct):
    id: str | int


async def page(cursor: str | None, client: VendorClient, settings: Settings) -> Page:
    """One call from the last committed event on.

    Raises:
        PermanentError: The answer is no list of events, or leads nowhere.
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
        raise PermanentError("the answer holds events and no id to go on from")
    return Page(events=[read_element(element, settings) for element in elements], cursor=following, more=bool(elements))


def _read(answer: Response) -> tuple[_Answer, list[bytes]]:
    """The answer and its elements, taken apart where one of them is poison (NaN, half a surrogate pair). Raises PermanentError."""
    try:
        said = answer.decode(_Answer)
        return said, [bytes(element) for element in said.data or ()]
    except PermanentError:
        rest, elements = list_apart(answer.body, "data")
        if not elements:
            raise
        return msgspec.structs.replace(answer, body=rest).decode(_Answer), elements


def read_element(element: bytes, settings: Settings, *, type: str | None = None) -> Event | Unreadable:
    """What cannot be read is kept as it came, and the rest of the batch goes on."""
    try:
        ((document, kind),) = unwrapped(element)
        return event(document, settings, type=kind or type)
    except (PermanentError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else without_input(error)
        return Unreadable(document=element, reason=f"cannot be read: {reason}")


def _following(links: Any, template: str) -> str | None:
    """The id in `links.next`; its address is not followed, credentials go where the settings say."""
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
    """The id of the last element that has one; the ids before it were in the same answer."""
    for element in reversed(elements):
        try:
            return _usable(str(_decoder.decode(element).id))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
    return None


def _usable(id: str) -> str | None:
    return id if 0 < len(id) <= _LONGEST and id.isprintable() else None


_decoder = msgspec.json.Decoder(_Element)
