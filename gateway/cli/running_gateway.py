"""The command line's side of the control socket: is a gateway running, and what it answers."""

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

_LOOK_TIMEOUT_S = 10.0
_WORK_TIMEOUT_S = 60.0


class Heard(Struct, frozen=True, kw_only=True):
    """What the running gateway answers; `said` is decoded."""

    status: int
    headers: Mapping[str, str]
    said: Any


def is_running(config: Config) -> bool:
    """Whether a process has the data directory. Looks only: makes no file, and holds no lock that a start could meet."""
    try:
        descriptor = os.open(config.gateway.data_dir / "gateway.lock", os.O_RDONLY | os.O_CLOEXEC)
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
    """Ask the running gateway; the decoded answer.

    Raises:
        GatewayError: It refuses, with its sentence, or it cannot be asked.
    """
    sent = {} if body is None else {"json": body}
    heard = await _exchange(config, method, path, timeout_s or (_LOOK_TIMEOUT_S if body is None else _WORK_TIMEOUT_S), **sent)
    if heard.status != 200:
        raise GatewayError(heard.said.get("problem", f"the gateway answers {heard.status}"))
    return heard.said


async def send(config: Config, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Heard:
    """Ask it with a body of one's own; whatever it answers. Raises GatewayError where it cannot be asked."""
    return await _exchange(config, method, path, timeout_s, data=body, headers=headers)


async def _exchange(config: Config, method: str, path: str, timeout_s: float, **sent: Any) -> Heard:
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
        return Heard(status=response.status, headers=response.headers, said=msgspec.json.decode(text))
    except msgspec.MsgspecError as error:
        raise GatewayError(f"the gateway failed over it ({response.status}); its log says where") from error
