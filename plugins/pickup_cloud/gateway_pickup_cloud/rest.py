"""An order by its number over REST, for one event and for the resync (vendors/pickup_cloud.md section 2).

    GET {base_url}/api/{version}/orders/by-ordernumber/{orderNumber}       x-api-key: ...

What a wrong number is answered is not documented; 404 is taken for "not known".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gateway import Api, Event, HeaderAuth, OpenOrder, PermanentError, RateLimited, TransientError, Unreadable, VendorClient
from gateway_pickup_cloud.events import answered
from gateway_pickup_cloud.settings import Settings
from gateway_pickup_cloud.wire import OrderResponse, read_order

KEY_HEADER = "x-api-key"
_UNKNOWN = 404
_BOM = b"\xef\xbb\xbf"
_FAILURES_IN_A_ROW = 10


def api(settings: Settings) -> Api:
    """Describe the API; its key is the hub's."""
    return Api(
        base_url=settings.base_url,
        auth=HeaderAuth(name=KEY_HEADER, value=settings.api_key),
        calls_per_minute=settings.calls_per_minute,
    )


async def order(number: str, client: VendorClient, settings: Settings) -> bytes:
    """Request the order; return the answer that shows it.

    Raises:
        TransientError: It is not known, or not yet; or something else was answered.
        PermanentError: There can be no address for it.
    """
    found = await find(number, client, settings)
    if found is None:
        raise TransientError("Pickup Cloud does not know this order: it is not ours, or not there yet")
    return found[0]


async def find(number: str, client: VendorClient, settings: Settings) -> tuple[bytes, OrderResponse] | None:
    """Request the order; return the answer without a byte order mark, and read, or None if there is no such order.

    Raises:
        TransientError: Something else was answered. A 404 that is a page for people is the word of something on the way.
        PermanentError: There can be no address for it.
    """
    answer = await client.request("GET", _path(number, settings), accept=(_UNKNOWN,))
    if answer.status == _UNKNOWN:
        if "html" in answer.headers.get("content-type", ""):
            raise TransientError("a page, and no answer of Pickup Cloud's, says that there is no such order (404)")
        return None
    return read(number, answer.body)


def read(number: str, body: bytes) -> tuple[bytes, OrderResponse]:
    """Read an answer that shows this order. Raises TransientError for any other answer."""
    try:
        shown = read_order(body)
    except ValueError as error:
        raise TransientError("what Pickup Cloud answers is no order") from error
    if shown.order_number != number:
        raise TransientError("Pickup Cloud answers with another order")
    return body.removeprefix(_BOM), shown


async def resync(open_orders: Sequence[OpenOrder], client: VendorClient, settings: Settings) -> AsyncIterator[Event | Unreadable]:
    """Yield the news of the open orders; orders that Pickup Cloud does not know (any more) yield nothing.

    A failed request does not stop the others; the next round repeats it.

    Raises:
        AuthError, RateLimited: As the client does.
        TransientError, PermanentError: Several requests in a row failed, or all of them.
    """
    failures = 0
    for one in open_orders:
        try:
            answer = await client.request("GET", _path(one.order_ref, settings), accept=(_UNKNOWN,))
        except RateLimited:
            raise
        except (TransientError, PermanentError):
            failures += 1
            if failures == min(_FAILURES_IN_A_ROW, len(open_orders)):
                raise
            continue
        failures = 0
        if answer.status == _UNKNOWN:
            continue
        try:
            shown = read_order(answer.body)
            event = answered(one, shown, answer.body, settings.zone())
        except ValueError:
            yield Unreadable(document=answer.body, reason="what Pickup Cloud answers for an open order cannot be read")
            continue
        if shown.order_number != one.order_ref:
            yield Unreadable(document=answer.body, reason="Pickup Cloud answers for an open order with another one")
            continue
        if event is not None:
            yield event


def _path(number: str, settings: Settings) -> str:
    """Percent-encode every character of the number: it may hold `/`, `#`, `?`, `%` and spaces (section 4, case 10)."""
    if number in (".", ".."):
        raise PermanentError("an order whose number means a folder in an address, so that it cannot be asked for")
    encoded = "".join(f"%{byte:02X}" for byte in number.encode())
    return path(settings.status_path, settings).replace("{order_number}", encoded)


def path(template: str, settings: Settings) -> str:
    """Return a path of the settings, for this version of the API."""
    return template.replace("{api_version}", settings.api_version)
