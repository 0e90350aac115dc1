"""Client of a running gateway's control socket."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from gateway.api.errors import GatewayError
from gateway.config.settings import Config
from gateway.service.control_socket import socket_path
from gateway.store.sqlite.connection import LOCK_FILE

_LOOK_TIMEOUT_S = 10.0
_WORK_TIMEOUT_S = 60.0


class Reply(Struct, frozen=True, kw_only=True):
    """Reply of the running gateway; `body` is decoded."""

    status: int
    headers: Mapping[str, str]
    body: Any


def is_running(config: Config) -> bool:
    """Tell whether a process has the data directory. Makes no file and keeps no lock that could stop a gateway from starting."""
    try:
        descriptor = os.open(config.gateway.data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise GatewayError(f"{config.gateway.data_dir}: {error.strerror}; run this as root (sudo) or as the service's user") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


async def ask(config: Config, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
    """Return the decoded answer of the running gateway.

    Raises:
        GatewayError: The gateway refuses, with its reason, or does not answer.
    """
    sent = {} if body is None else {"json": body}
    reply = await _exchange(config, method, path, timeout_s or (_LOOK_TIMEOUT_S if body is None else _WORK_TIMEOUT_S), **sent)
    if reply.status != 200:
        raise GatewayError(reply.body.get("problem", f"the gateway answers {reply.status}"))
    return reply.body


async def send(config: Config, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Reply:
    """Send a request as it is and return the reply, whatever its status. Raises GatewayError if the gateway does not answer."""
    return await _exchange(config, method, path, timeout_s, data=body, headers=headers)


async def _exchange(config: Config, method: str, path: str, timeout_s: float, **sent: Any) -> Reply:
    connector = aiohttp.UnixConnector(path=str(socket_path(config.gateway.data_dir)))
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            async with session.request(method, f"http://gateway{path}", **sent) as response:
                text = await response.read()
    except TimeoutError as error:
        raise GatewayError(f"the gateway runs and does not answer within {timeout_s:g} s; look at its log and at the disk") from error
    except (aiohttp.ClientError, OSError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it hung up"
        raise GatewayError(
            f"the gateway runs, and its control socket {socket_path(config.gateway.data_dir)} cannot be used ({reason}); "
            "run this as root (sudo) or as the service's user, or wait until it has started"
        ) from error
    try:
        return Reply(status=response.status, headers=response.headers, body=msgspec.json.decode(text))
    except msgspec.MsgspecError as error:
        raise GatewayError(f"the gateway failed ({response.status}); its log says where") from error
