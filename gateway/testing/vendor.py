"""The real vendor client against a simulator on loopback, for connector tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.api.vendor_client import Api
from gateway.clock import Clock, SystemClock
from gateway.outbound.session import any_unicast, open_session
from gateway.outbound.vendor import HttpVendorClient


@asynccontextmanager
async def vendor_client(api: Api, clock: Clock | None = None) -> AsyncIterator[HttpVendorClient]:
    """Open the client that a source with this API gets."""
    session = open_session(allowed=any_unicast, connections=4, connect_timeout_s=5)
    try:
        yield HttpVendorClient(api, session, clock or SystemClock())
    finally:
        await session.close()
