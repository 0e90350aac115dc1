"""A whole gateway in the process of a test, with one source: every part as `gateway serve` starts it, on free ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.plugin.discovery import Plugin
from gateway.service.assembly import assemble
from gateway.service.gateway import Gateway
from gateway.testing.toml import to_toml

_TARGET = {"retry": {"base_s": 0.01, "cap_s": 0.05}, "breaker": {"failures": 1000}}


@asynccontextmanager
async def running_gateway(
    module: ModuleType, source: Mapping[str, Any], folder: Path, erp_url: str, *, name: str = "vendor", **tables: Any
) -> AsyncIterator[Gateway]:
    """Start one, wait until it is ready, and end it; `gateway.vendors.port` and `gateway.pages.port` are where it listens.

    Args:
        module: The plugin; it need not be installed.
        source: The source's table, as `Simulator.source` gives it.
        folder: For the configuration and the data; relative paths in `source` start here.
        name: The source's.
        tables: Further tables of the configuration, or others in place of these.
    Raises:
        GatewayError: The configuration is wrong, or it does not start.
        AssertionError: It did not end with 0.
    """
    written = {
        "gateway": {"data_dir": "data"},
        "store": {"reserve_bytes": 0},
        "http": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "targets": {"erp": {"url": erp_url} | _TARGET},
        "sources": {name: source},
    } | tables
    config = folder / "gateway.toml"
    config.write_text(to_toml(written))
    plugin = Plugin(name=str(source["connector"]), distribution=module.__name__, version="0", module=module)
    gateway = Gateway(config, assemble(config, {plugin.name: plugin}))
    task = asyncio.create_task(gateway.run())
    ready = asyncio.create_task(gateway.ready.wait())
    await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        yield gateway
    finally:
        gateway.end()
        code = await task
        assert code == 0, f"the gateway ended with {code}"
