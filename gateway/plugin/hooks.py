"""Hooks that a connector's module implements, checked against the hook specifications."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from gateway.api import hookspecs
from gateway.api.description import Description
from gateway.api.errors import PluginError, bounded
from gateway.api.messages import Door

HOOKS = ("describe", "verify", "ingest", "poll", "subscribe", "fetch", "normalize", "acknowledge", "submit")
_REQUIRED = ("describe", "normalize")
_DOOR_HOOKS: dict[str, Door] = {"verify": "webhook", "poll": "poll", "subscribe": "realtime"}
_WHY = {"poll": "a hub replays nothing, a poll brings what was missed", "ingest": "it reads what the hub sends"}
_COMMAND = re.compile(r"[a-z][a-z0-9_]{0,49}\Z")


class Hooks:
    """Hooks of one module, in a plugin manager of their own.

    Attributes:
        names: Names of the implemented hooks.
        doors: Doors that these hooks open.
    Raises:
        PluginError: The module does not fit the hook specifications; the text says where.
    """

    def __init__(self, module: ModuleType | object) -> None:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(module, name="connector")
            manager.check_pending()
        except Exception as error:
            raise PluginError(f"does not fit the hooks of this gateway: {error}") from error
        self._callers: dict[str, pluggy.HookCaller] = {name: getattr(manager.hook, name) for name in HOOKS}
        self.names = frozenset(name for name, caller in self._callers.items() if caller.get_hookimpls())
        self.doors = tuple(door for hook, door in _DOOR_HOOKS.items() if hook in self.names)
        self._check()

    def _check(self) -> None:
        missing = [name for name in _REQUIRED if name not in self.names]
        if missing:
            raise PluginError(f"does not implement {' and '.join(missing)}")
        for name in self.names:
            wanted = inspect.iscoroutinefunction(getattr(hookspecs, name))
            for implementation in self._callers[name].get_hookimpls():
                if implementation.hookwrapper or implementation.wrapper:
                    raise PluginError(f"{name} is a wrapper; a connector implements hooks, it does not wrap them")
                if inspect.iscoroutinefunction(implementation.function) != wanted:
                    raise PluginError(f"{name} must be {'async def' if wanted else 'a plain def, without async'}")
        if "verify" in self.names and "ingest" not in self.names:
            raise PluginError("implements verify without ingest")
        for needed in ("poll", "ingest"):
            if "subscribe" in self.names and needed not in self.names:
                raise PluginError(f"implements subscribe without {needed}: {_WHY[needed]}")
        if not self.doors:
            raise PluginError("has no door: it implements neither verify with ingest nor poll")

    def takes(self, hook: str, argument: str) -> bool:
        """Tell whether the module's `hook` has this argument, which costs something to give."""
        return hook in self.names and argument in self._callers[hook].get_hookimpls()[0].argnames

    def call(self, hook: str, **arguments: Any) -> Any:
        """Call a hook through pluggy."""
        return self._callers[hook](**arguments)


def checked_description(found: object, *, submits: bool) -> Description:
    """Return what `describe` returned, if it is a usable Description. Raises PluginError."""
    if not isinstance(found, Description):
        raise PluginError(f"describe returned {type(found).__name__}, not a Description")
    if not (isinstance(found.settings, type) and issubclass(found.settings, msgspec.Struct)):
        raise PluginError("the settings of its description are no msgspec Struct")
    if bool(found.commands) != submits:
        raise PluginError("implements submit without commands in its description, or the other way round")
    for name, command in found.commands.items():
        if not _COMMAND.match(name) or not issubclass(command.body, msgspec.Struct):
            raise PluginError(f"its command {name!r} has no usable name, or a body that is no msgspec Struct")
        try:
            msgspec.json.schema(command.body)
        except Exception as error:
            raise PluginError(f"the body of its command {name!r} has no JSON schema: {bounded(error)}") from error
    return found
