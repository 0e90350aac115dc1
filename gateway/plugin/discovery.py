"""Which connectors are installed: entry points of the group `gateway.connectors`, each loaded by itself.

A plugin is code of ours as soon as it is imported, so only what a source uses is imported, and by nothing that only looks.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Collection, Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from msgspec import Struct

from gateway.api.errors import PluginError
from gateway.api.messages import Door
from gateway.plugin.connector import Connector
from gateway.plugin.crash_record import CrashRecord

GROUP = "gateway.connectors"


class Plugin(Struct, frozen=True, kw_only=True):
    """One installed connector; `problem` says why it cannot be used, `trace` where it failed. One that was not loaded has neither
    a module nor a problem."""

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
    """Every installed connector by name. One that is broken is in it with its problem, and keeps no other from loading.

    Args:
        load: The names of those to import; default: all.
        crash_record: Where it is noted that one is being imported; one in whose import the process ended again and again is left alone.
    """
    found: dict[str, Plugin] = {}
    for point in sorted(points if points is not None else entry_points(group=GROUP), key=lambda p: p.name):
        if point.name in found:
            first = found[point.name]
            several = f"{first.distribution} and {_distribution(point)[0]}"
            problem = f"{several} provide it; uninstall all but one"
            found[point.name] = Plugin(name=point.name, distribution=several, version=first.version, problem=problem)
        elif load is None or point.name in load:
            found[point.name] = _load(point, crash_record or CrashRecord())
        else:
            distribution, version = _distribution(point)
            found[point.name] = Plugin(name=point.name, distribution=distribution, version=version)
    return found


def _load(point: EntryPoint, crash_record: CrashRecord) -> Plugin:
    distribution, version = _distribution(point)
    noted_as = f"plugin {point.name}"
    if (why := crash_record.down(noted_as)) is not None:
        return Plugin(name=point.name, distribution=distribution, version=version, problem=why)
    before = crash_record.enter(noted_as, "import")
    importlib.invalidate_caches()  # it may have been installed, or mended, since the process began
    try:
        module = point.load()
        connector = Connector(module)
    except BaseException as error:
        reason = str(error) if isinstance(error, PluginError) else f"cannot be imported: {type(error).__name__}: {error}"
        trace = None if isinstance(error, PluginError) and error.__cause__ is None else traceback.format_exc()
        _forget(point)
        return Plugin(name=point.name, distribution=distribution, version=version, problem=reason, trace=trace)
    finally:
        crash_record.leave(before)
    return Plugin(
        name=point.name,
        distribution=distribution,
        version=version,
        title=connector.description.title,
        doors=connector.doors,
        hooks=tuple(sorted(connector.hooks)),
        module=module,
    )


def _forget(point: EntryPoint) -> None:
    """Let a broken plugin be imported anew: a reload then finds what was mended. What else it imported stays as it is."""
    for name in [name for name in sys.modules if name == point.module or name.startswith(f"{point.module}.")]:
        del sys.modules[name]


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
