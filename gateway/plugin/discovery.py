"""Discovery of installed connectors: entry points of the group `gateway.connectors`, each loaded by itself.

An imported plugin runs its code in our process, so only the plugins that sources use are imported, and only by commands that need them.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Collection, Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.errors import PluginError
from gateway.api.messages import Door
from gateway.plugin.connector import Connector
from gateway.plugin.crash_record import CrashRecord

GROUP = "gateway.connectors"


class Plugin(Struct, frozen=True, kw_only=True):
    """Installed connector. One that was not loaded has neither a module nor a problem.

    Attributes:
        problem: Why it cannot be used.
        trace: Where it failed.
    """

    name: str
    distribution: str
    version: str
    title: str = ""
    doors: tuple[Door, ...] = ()
    hooks: tuple[str, ...] = ()
    problem: str | None = None
    trace: str | None = None
    module: ModuleType | None = None


def installed(
    points: Iterable[EntryPoint] | None = None, *, load: Collection[str] | None = None, crash_record: CrashRecord | None = None
) -> dict[str, Plugin]:
    """Return every installed connector by name, a broken one with its problem.

    Args:
        load: Names of the connectors to import; default: all.
        crash_record: Record of the imports. A connector whose import crashed the process several times is not imported.
    """
    found: dict[str, Plugin] = {}
    for point in sorted(points if points is not None else entry_points(group=GROUP), key=lambda p: p.name):
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
        plugin = Plugin(name=point.name, distribution=distribution, version=version)
        if point.name in found:
            first = found[point.name]
            several = f"{first.distribution} and {distribution}"
            problem = f"{several} provide it; uninstall all but one"
            plugin = Plugin(name=point.name, distribution=several, version=first.version, problem=problem)
        elif load is None or point.name in load:
            plugin = _load(plugin, point, crash_record or CrashRecord())
        found[point.name] = plugin
    return found


def _load(plugin: Plugin, point: EntryPoint, crash_record: CrashRecord) -> Plugin:
    noted_as = f"plugin {point.name}"
    if (why := crash_record.down(noted_as)) is not None:
        return replace(plugin, problem=why)
    before = crash_record.enter(noted_as, "import")
    importlib.invalidate_caches()  # it may have been installed or corrected since the process began
    try:
        module = point.load()
        connector = Connector(module)
    except BaseException as error:
        reason = str(error) if isinstance(error, PluginError) else f"cannot be imported: {type(error).__name__}: {error}"
        trace = None if isinstance(error, PluginError) and error.__cause__ is None else traceback.format_exc()
        _forget(point)
        return replace(plugin, problem=reason, trace=trace)
    finally:
        crash_record.leave(before)
    title, hooks = connector.description.title, tuple(sorted(connector.hooks))
    return replace(plugin, title=title, doors=connector.doors, hooks=hooks, module=module)


def _forget(point: EntryPoint) -> None:
    """Remove a broken plugin's modules, so that a reload imports the corrected ones."""
    for name in [name for name in sys.modules if name == point.module or name.startswith(f"{point.module}.")]:
        del sys.modules[name]
