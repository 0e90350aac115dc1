"""Operations that change something, for operators: through a running gateway's control socket, or on the locked store without one."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.api.errors import GatewayError
from gateway.clock import Clock
from gateway.service.runtime import Runtime
from gateway.store.base import Store
from gateway.store.decisions import Choice
from gateway.store.row_names import Status
from gateway.store.targets import Moved

_ERASE_AT_ONCE = 500
_MOST_DAYS = 36500


class Operation(Struct, forbid_unknown_fields=True):
    """Operator's request, as the control socket takes it; the fields from `status` on are those of `Choice`."""

    action: str
    who: Annotated[str, Meta(pattern=r"\S", max_length=200)]
    keys: Annotated[list[str], Meta(max_length=100_000)] = []
    reason: Annotated[str, Meta(max_length=2000)] = ""
    name: str = ""
    to: str = ""
    same_erp: bool = False
    days: float = 0
    status: Status | None = None
    source: str | None = None
    target: str | None = None
    older_than_s: Annotated[float, Meta(ge=0, le=3.2e9)] | None = None
    after: str | None = None
    yes: bool = False
    dry_run: bool = False


class Operations:
    """Operations of one gateway or one store.

    Args:
        runtime: None if no gateway runs.
        targets: The configured targets if no gateway runs, with the kinds that each accepts.
        reload: Reads the configuration again and returns the problems for which it is refused.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        runtime: Runtime | None,
        targets: Mapping[str, Collection[str]] | None = None,
        *,
        reload: Callable[[], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        self._configured = targets or {}
        self._store = store
        self._clock = clock
        self.runtime = runtime
        self._reload = reload

    async def __call__(self, asked: Operation) -> Any:
        """Carry out one operation. Raises GatewayError with a sentence for the operator."""
        match asked.action:
            case "replay":
                return await self._store.replay(asked.keys, asked.who, choice=_choice(asked, "dead"))
            case "release":
                return await self._store.release(asked.keys, asked.who, choice=_choice(asked, "held"))
            case "drop":
                choice = _choice(asked, "held", "dead", "ready", "unknown", always=True)
                return await self._store.drop(asked.keys, asked.who, _reason(asked), choice=choice)
            case "resend":
                return await self._store.resend(asked.keys, asked.who, _reason(asked), choice=_choice(asked))
            case "resume":
                return await self._resume(asked)
            case "target-release" | "target-hold":
                return await self._target(asked)
            case "target-move":
                return await self._move(asked)
            case "finish-restore":
                return await self._store.finish_restore(asked.who)
            case "confirm-clock":
                return await self._store.confirm_clock(asked.who)
            case "reload":
                return await self._reloaded()
            case "purge":
                return await self.purge(asked.days, asked.who)
        raise GatewayError(f"unknown action {asked.action!r}")

    async def _reloaded(self) -> None:
        if self._reload is None:
            raise GatewayError("the gateway does not run; it reads its configuration when it starts")
        if problems := await self._reload():
            raise GatewayError("\n".join(problems))

    async def purge(self, days: float, who: str) -> int:
        """Erase the bodies of rows that were finished more than `days` ago; returns the number of rows."""
        if not 0 <= days <= _MOST_DAYS:
            raise GatewayError(f"days must be a number from 0 to {_MOST_DAYS}")
        now = self._store.retention_time()
        if now is None:
            raise GatewayError(f"nothing is erased: {self._store.clock_doubt()}")
        before, erased = now - timedelta(days=days), 0
        while (gone := await self._store.redact_bodies(before, _ERASE_AT_ONCE)) > 0:
            erased += gone
        if erased:
            await self._store.note(who, "purge", f"{erased} rows", f"older than {days:g} days")
        return erased

    async def _resume(self, asked: Operation) -> str:
        runtime = self._running()
        if asked.name not in (known := runtime.doors()):
            raise GatewayError(f"there is no source {asked.name!r}; there is {', '.join(known)}")
        await self._store.note(asked.who, "resume", asked.name)
        connector = runtime.assembly.config.sources[asked.name].connector
        runtime.assembly.crash_record.reset(asked.name, f"plugin {connector}")
        if asked.name in runtime.broken:
            await self._load_again(asked.name)
        else:
            runtime.resume(asked.name)
        return asked.name

    async def _load_again(self, source: str) -> None:
        """Load a source whose plugin could not be used again, with a reload."""
        await self._reloaded()
        if (still := self._running().broken.get(source)) is not None:
            raise GatewayError(f"{source}: {still.reason}; after a repair, restart the gateway")

    async def _target(self, asked: Operation) -> str:
        name, targets = asked.name, self._targets()
        if name not in targets and (asked.action == "target-hold" or await self._store.paused_target(name) is None):
            raise GatewayError(f"there is no target {name!r}; there is {', '.join(targets)}")
        deliver = self.runtime.deliver.get(name) if self.runtime else None
        if asked.action == "target-hold":
            paused = await self._store.pause_target(name, asked.who, asked.reason or None)
            if deliver is not None:
                deliver.health.pause(paused)
            return name
        await self._store.release_target(name, asked.who)
        if deliver is not None:
            deliver.release(person=True)
        return name

    async def _move(self, asked: Operation) -> Sequence[Moved]:
        """Give the messages for a target that is no longer configured to one that is."""
        old, new, targets = asked.name, asked.to, self._targets()
        if new not in targets:
            raise GatewayError(f"there is no target {new!r}; there is {', '.join(targets)}")
        if old in targets:
            raise GatewayError(f"{old} is configured, and delivers itself; remove it from the configuration first, then reload")
        return await self._store.move_target(old, new, asked.who, accepts=targets[new], same_erp=asked.same_erp, dry_run=asked.dry_run)

    def _targets(self) -> Mapping[str, Collection[str]]:
        """Return the configured targets and the kinds that each accepts."""
        return {name: one.accepts for name, one in self.runtime.assembly.targets.items()} if self.runtime else self._configured

    def _running(self) -> Runtime:
        if self.runtime is None:
            raise GatewayError("the gateway does not run; it starts with every door open")
        return self.runtime


def _reason(asked: Operation) -> str:
    if not asked.reason.strip():
        raise GatewayError(f"a {asked.action} needs a reason: --reason TEXT")
    return asked.reason


def _choice(asked: Operation, *statuses: Status, always: bool = False) -> Choice:
    """Return the filters of an operation and check them; with `always`, a filter needs a status."""
    choice = Choice(
        status=asked.status,
        source=asked.source,
        target=asked.target,
        older_than_s=asked.older_than_s,
        after=asked.after,
        yes=asked.yes,
        dry_run=asked.dry_run,
    )
    if choice.filters and not statuses:
        raise GatewayError(f"{asked.action} takes only names, no --status, --source, --target or --older-than")
    if choice.filters and asked.keys:
        raise GatewayError(f"{asked.action}: give either names or filters (--status, --source, --target, --older-than)")
    if not choice.filters and not asked.keys:
        raise GatewayError(f"{asked.action}: give names" + (f", or --status {statuses[0]} and the like" if statuses else ""))
    if choice.filters and always and choice.status is None:
        raise GatewayError(f"{asked.action}: --status is required: {', '.join(statuses)}")
    if choice.status not in (None, *statuses):
        raise GatewayError(f"{asked.action} is for what is {' or '.join(statuses)}, not for what is {choice.status}")
    return choice


def operator_name() -> str:
    """Return the name of the person behind this process: the user who called sudo, where there is one."""
    with suppress(KeyError, OSError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"uid {os.getuid()}"
