"""A connector that does what a connector should not: an order's id says what and where, as in `normalize.exit.7`.

Each deed is done once, and what was done is kept in a file, so that the next process does not do it again; `poison` alone ends
every process that comes to it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway import Api, Description, Envelope, Event, Order, Page, Receipt, Secret, VendorClient, hookimpl
from tests import acme

HOOKS = ("verify", "ingest", "poll", "fetch", "normalize", "acknowledge")
DEEDS = ("exit", "interrupt", "recursion", "rubbish")
ASYNC_DEEDS = ("task", "group", "thread", "cancel")
FLOOD = 5_000
_BLOCK_S = 3600.0
_hoard: list[bytearray] = []


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    done: Path
    secret: Secret | None = None


def _raise(error: BaseException) -> Any:
    raise error


def _dig() -> Any:
    return _dig()


async def _exits() -> None:
    await asyncio.sleep(0)
    sys.exit(3)


async def _group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_exits())
        group.create_task(asyncio.sleep(60))


async def _cancel() -> None:
    raise asyncio.CancelledError


def _hog() -> None:
    while True:  # until somebody ends it
        _hoard.append(bytearray(b"x") * (8 * 1024 * 1024))
        time.sleep(0.01)


PLAIN: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "recursion": _dig,
    "rubbish": object,
    "block": lambda: time.sleep(_BLOCK_S),
    "poison": lambda: os._exit(3),
    "leak": _hog,
}
AWAITED: dict[str, Callable[[], Awaitable[Any]]] = {
    "task": lambda: asyncio.create_task(_exits()),
    "group": _group,
    "thread": lambda: asyncio.to_thread(sys.exit, 3),
    "cancel": _cancel,
}


def deed_of(ref: str, hook: str, settings: Settings) -> str | None:
    """What is to be done now, if anything."""
    where, deed, *_ = [*ref.split("."), ""]
    if where != hook or (settings.done / ref).exists():
        return None
    if deed != "poison":
        (settings.done / ref).touch()
    return deed


async def do(ref: str, hook: str, settings: Settings) -> Any:
    deed = deed_of(ref, hook, settings)
    if deed in AWAITED:
        await AWAITED[deed]()
    return PLAIN[deed]() if deed in PLAIN else None


def do_now(ref: str, hook: str, settings: Settings) -> Any:
    deed = deed_of(ref, hook, settings)
    return PLAIN[deed]() if deed is not None else None


@hookimpl
def describe() -> Description:
    return Description(
        title="Rogue",
        settings=Settings,
        needs={"webhook": ["secret"]},
        api=lambda s: Api(base_url="http://127.0.0.1:1"),
        acknowledge=lambda s: ["delivered"],
        poll_interval_s=lambda s: 0.2,
    )


@hookimpl
def verify(envelope: Envelope, settings: Settings) -> bool:
    assert settings.secret is not None
    done: Any = do_now(_ref(envelope.body), "verify", settings)
    return acme.sign(settings.secret.reveal(), envelope.body) == envelope.header("X-Acme-Signature") if done is None else done


@hookimpl
def ingest(envelope: Envelope, settings: Settings) -> Sequence[Event]:
    done: Any = do_now(_ref(envelope.body), "ingest", settings)
    if done is not None:
        return [done]
    event = acme.event(envelope.body)
    if event.order_ref.startswith("poll."):
        (settings.done / f"to do {event.order_ref}").touch()
    return [msgspec.structs.replace(event, fetch=True)]


@hookimpl
async def poll(cursor: str | None, since: datetime, now: datetime, client: VendorClient, settings: Settings) -> Page:
    for told in sorted(settings.done.glob("to do poll.*")):
        ref = told.name.removeprefix("to do ")
        told.unlink()
        if ref.startswith("poll.flood"):
            return Page(events=[acme.event(acme.body(f"flood{n}.{ref}")) for n in range(FLOOD)], cursor=ref)
        done: Any = await do(ref, "poll", settings)
        if done is not None:
            return done
    return Page(cursor=cursor)


@hookimpl
async def fetch(event: Event, client: VendorClient, settings: Settings) -> bytes:
    done: Any = await do(event.order_ref, "fetch", settings)
    return (event.document or b"") if done is None else done


@hookimpl
def normalize(event: Event, document: bytes, settings: Settings) -> Order:
    done: Any = do_now(event.order_ref, "normalize", settings)
    return acme.normalize(event, document, acme.Settings()) if done is None else done


@hookimpl
async def acknowledge(receipts: Sequence[Receipt], client: VendorClient, settings: Settings) -> Collection[int]:
    for receipt in receipts:
        done: Any = await do(receipt.order_ref, "acknowledge", settings)
        if done is not None:
            return done
    return [receipt.id for receipt in receipts]


def _ref(body: bytes) -> str:
    return msgspec.json.decode(body, type=acme.Wire).id
