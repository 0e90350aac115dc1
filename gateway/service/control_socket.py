"""Control socket of a running gateway: what the command line asks for, on a file that only its owner and root may open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.api.errors import ConfigError, GatewayError, StoreFailed
from gateway.edge.admission import Admission
from gateway.edge.server import Listener
from gateway.service.command_api import CommandApi
from gateway.service.operations import Operation, Operations
from gateway.store.sqlite.connection import DISK_ERRORS
from gateway.web.admin import Admin

_MAX_BODY_BYTES = 64 * 1024 * 1024


def socket_path(data_dir: Path) -> Path:
    """Return the path of the socket of the gateway that runs on `data_dir`."""
    return data_dir / "control.sock"


class ControlSocket:
    """Listener for operators: the reads of the page, operations, and commands for vendors. Opening the file is the permission."""

    def __init__(self, admin: Admin, operations: Operations, commands: CommandApi, admission: Admission) -> None:
        self._operations = operations
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_post("/control", self._operate)
        admin.add_reads(application)
        commands.add_to(application)
        self.listener = Listener(application, max_connections=16, admission=admission)

    async def open(self, data_dir: Path) -> None:
        """Listen. Raises ConfigError, and StoreFailed where the disk is the reason."""
        path = socket_path(data_dir)
        before = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            await self.listener.start_unix(str(path))
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise StoreFailed(f"{path}: cannot be made: {error.strerror}; look at the disk") from error
            raise ConfigError([f"{path}: cannot be made: {error}; a shorter gateway.data_dir may help"]) from error
        finally:
            os.umask(before)

    async def close(self, data_dir: Path) -> None:
        """Stop listening and remove the file."""
        await self.listener.close(1)
        with suppress(OSError):  # the disk may be read-only by now; the next start replaces the file
            socket_path(data_dir).unlink(missing_ok=True)

    async def _operate(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=Operation)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return web.json_response({"problem": f"not an operation: {error}"}, status=400)
        try:
            return web.json_response({"result": msgspec.to_builtins(await self._operations(asked))})
        except GatewayError as error:
            return web.json_response({"problem": str(error)}, status=400)
