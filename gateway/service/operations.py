"""What an operator can do, once: beside a running gateway through its control socket, without one on the locked store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from gateway.api.errors import GatewayError
from gateway.clock import Clock
from gateway.service.runtime import Runtime
from gateway.store.base import Store
from gateway.store.decisions import Choice
from gateway.store.row_names import Status
from gateway.store.targets import Moved
from gateway.web.admin import Command

_ERASE_AT_ONCE = 500
_MOST_DAYS = 36500


class Operations:
    """Carries out commands.

    Args:
        runtime: None where the gateway does not run.
        targets: The configured ones where it does not, and the kinds that each accepts.
        reload: Reads the configuration anew; the problems for which it was refused.
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

    async def __call__(self, command: Command) -> Any:
        """Do it; raises GatewayError with a sentence for the operator where it cannot be done."""
        match command.action:
            case "replay":
                return await self._store.replay(command.keys, command.who, choice=_choice(command, "dead"))
            case "release":
                return await self._store.release(command.keys, command.who, choice=_choice(command, "held"))
            case "drop":
                choice = _choice(command, "held", "dead", "ready", "unknown", always=True)
                return await self._store.drop(command.keys, command.who, _reason(command), choice=choice)
            case "resend":
                return await self._store.resend(command.keys, command.who, _reason(command), choice=_choice(command))
            case "resume":
                return await self._resume(command)
            case "target-release" | "target-hold":
                return await self._target(command)
            case "target-move":
                return await self._move(command)
            case "finish-restore":
                return await self._store.finish_restore(command.who)
            case "confirm-clock":
                return await self._store.confirm_clock(command.who)
            case "reload":
                return await self._reloaded()
            case "purge":
                return await self.purge(command.days, command.who)
        raise GatewayError(f"unknown action {command.action!r}")

    async def _reloaded(self) -> None:
        if self._reload is None:
            raise GatewayError("the gateway does not run; it reads its configuration when it starts")
        if problems := await self._reload():
            raise GatewayError("\n".join(problems))

    async def purge(self, days: float, who: str) -> int:
        """Erase the bodies of what was settled more than `days` ago; how many rows."""
        if not 0 <= days <= _MOST_DAYS:
            raise GatewayError(f"days must be a number from 0 to {_MOST_DAYS}")
        now = self._store.time_to_let_go()
        if now is None:
            raise GatewayError(f"nothing is erased: {self._store.clock_doubt()}")
        before, erased = now - timedelta(days=days), 0
        while (gone := await self._store.erase_bodies(before, _ERASE_AT_ONCE)) > 0:
            erased += gone
        if erased:
            await self._store.note(who, "purge", f"{erased} rows", f"older than {days:g} days")
        return erased

    async def _resume(self, command: Command) -> str:
        runtime = self._running()
        if command.name not in (known := runtime.doors()):
            raise GatewayError(f"there is no source {command.name!r}; there is {', '.join(known)}")
        await self._store.note(command.who, "resume", command.name)
        connector = runtime.assembly.config.sources[command.name].connector
        runtime.assembly.suspects.forgive(command.name, f"plugin {connector}")
        if command.name in runtime.broken:
            await self._load_anew(command.name)
        else:
            runtime.resume(command.name)
        return command.name

    async def _load_anew(self, source: str) -> None:
        """A source whose plugin could not be used: a reload tries to load it once more."""
        if self._reload is not None and (problems := await self._reload()):
            raise GatewayError("\n".join(problems))
        if (still := self._running().broken.get(source)) is not None:
            raise GatewayError(f"{source}: {still.reason}; where it has been mended, restart the gateway")

    async def _target(self, command: Command) -> str:
        name, targets = command.name, self._targets()
        if name not in targets and (command.action == "target-hold" or await self._store.held_target(name) is None):
            raise GatewayError(f"there is no target {name!r}; there is {', '.join(targets)}")
        deliver = self.runtime.deliver.get(name) if self.runtime else None
        if command.action == "target-hold":
            held = await self._store.hold_target(name, command.who, command.reason or None)
            if deliver is not None:
                deliver.held(held)
            return name
        await self._store.release_target(name, command.who)
        if deliver is not None:
            deliver.release(person=True)
        return name

    async def _move(self, command: Command) -> Sequence[Moved]:
        """Give what waits for a target that is configured no more to one that is."""
        old, new, targets = command.name, command.to, self._targets()
        if new not in targets:
            raise GatewayError(f"there is no target {new!r}; there is {', '.join(targets)}")
        if old in targets:
            raise GatewayError(f"{old} is configured, and delivers itself; take it out of the configuration first, then reload")
        return await self._store.move_target(
            old, new, command.who, accepts=targets[new], same_erp=command.same_erp, dry_run=command.dry_run
        )

    def _targets(self) -> Mapping[str, Collection[str]]:
        """The configured targets, and the kinds that each accepts."""
        return {name: one.accepts for name, one in self.runtime.assembly.targets.items()} if self.runtime else self._configured

    def _running(self) -> Runtime:
        if self.runtime is None:
            raise GatewayError("the gateway does not run; it starts with every door open")
        return self.runtime


def _reason(command: Command) -> str:
    if not command.reason.strip():
        raise GatewayError(f"a {command.action} needs a reason: --reason TEXT")
    return command.reason


def _choice(command: Command, *statuses: Status, always: bool = False) -> Choice:
    """What a command says of rows that it does not name. With `always`, it must say their status."""
    choice = Choice(
        status=command.status,
        source=command.source,
        target=command.target,
        older_than_s=command.older_than_s,
        after=command.after,
        yes=command.yes,
        dry_run=command.dry_run,
    )
    if choice.filters and not statuses:
        raise GatewayError(f"{command.action} takes names alone, not --status, --source, --target or --older-than")
    if choice.filters and command.keys:
        raise GatewayError(f"{command.action}: give names, or --status, --source, --target and --older-than, not both")
    if not choice.filters and not command.keys:
        raise GatewayError(f"{command.action}: give names" + (f", or --status {statuses[0]} and the like" if statuses else ""))
    if choice.filters and always and choice.status is None:
        raise GatewayError(f"{command.action}: say of what status: --status {', '.join(statuses)}")
    if choice.status not in (None, *statuses):
        raise GatewayError(f"{command.action} is for what is {' or '.join(statuses)}, not for what is {choice.status}")
    return choice
