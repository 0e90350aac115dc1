"""Assembly of a configuration: connectors and targets with their checked settings. Touches no network."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from msgspec import Struct, field, structs

from gateway.api.errors import ConfigError, PluginError
from gateway.api.messages import Door
from gateway.api.secrets import FileBacked
from gateway.api.vendor_client import Api, OAuth2
from gateway.config.decode import decode_known
from gateway.config.report import Report
from gateway.config.settings import Config, SourceSettings, load
from gateway.did_you_mean import nearest
from gateway.plugin.connector import Connector
from gateway.plugin.crash_record import CrashRecord
from gateway.plugin.discovery import Plugin, installed
from gateway.service.config_warnings import warn_of_doubtful
from gateway.targets.examples import body_problems, watch
from gateway.targets.settings import TargetSettings

T = TypeVar("T")


class CheckedSource(Struct, kw_only=True):
    """Source with checked settings."""

    settings: SourceSettings
    connector: Connector
    doors: tuple[Door, ...]
    api: Api | None


class BrokenSource(Struct, frozen=True, kw_only=True):
    """Source whose plugin cannot be used: it is down, and the others run.

    Attributes:
        doors: The doors that would be open; all doors if the plugin cannot tell which it has.
        missing: No plugin of this name is installed. For a source that never ran, that is a mistake in the file.
        trace: Traceback of the plugin.
    """

    doors: tuple[Door, ...]
    reason: str
    missing: bool = False
    trace: str | None = None


class Assembly(Struct, kw_only=True):
    """Configuration without mistakes, and its parts.

    Attributes:
        file_backed: Parts that are read again when their file changes.
        broken: Sources that cannot run because of their plugin.
        problems: One line of `gateway check` for each of those.
        warnings: Settings that work and are probably a mistake.
    """

    config: Config
    sources: dict[str, CheckedSource]
    targets: dict[str, TargetSettings]
    file_backed: list[FileBacked]
    broken: dict[str, BrokenSource] = {}
    problems: list[str] = []
    warnings: list[str] = []
    crash_record: CrashRecord = field(default_factory=CrashRecord)


def assemble(path: Path, plugins: Mapping[str, Plugin] | None = None, crash_record: CrashRecord | None = None) -> Assembly:
    """Load and check a configuration.

    A mistake in the file refuses the whole file. A fault of a plugin (it cannot be imported, does not fit its hooks, fails while its
    source is built) takes down only its own sources.

    Args:
        crash_record: Record of the plugins during which the process ended before; for a gateway that runs.
    Raises:
        ConfigError: With every problem at once, those of the plugins too.
    """
    config, report = load(path)
    if crash_record is None:
        crash_record = CrashRecord()
    else:
        crash_record.open(config.gateway.data_dir)
    plugins = installed(load=_used(config), crash_record=crash_record) if plugins is None else plugins
    broken: dict[str, BrokenSource] = {}
    targets: dict[str, TargetSettings] = {}
    sources: dict[str, CheckedSource] = {}
    for name, table in config.targets.items():
        target = _target(name, table, report)
        if target is not None:
            targets[name] = target
    for name, source in {**config.sources, **config.half}.items():
        part = _contained(name, source, plugins, report, crash_record)
        if isinstance(part, CheckedSource):
            sources[name] = part
        elif part is not None:
            broken[name] = part
    _callers(config, sources, report)
    warn_of_doubtful(config, targets, report)
    refused = report.count > 0
    for name, one in broken.items():
        report.add(("sources", name, "connector"), one.reason)
    if refused:
        raise ConfigError(report.problems, report.warnings)
    return Assembly(
        config=config,
        sources=sources,
        targets=targets,
        file_backed=report.file_backed,
        broken=broken,
        problems=report.problems,
        warnings=report.warnings,
        crash_record=crash_record,
    )


def _used(config: Config) -> frozenset[str]:
    return frozenset(source.connector for source in (*config.sources.values(), *config.half.values()))


def assemble_connector(path: Path, name: str, plugins: Mapping[str, Plugin] | None = None) -> Connector:
    """Return one source's connector with its settings, in spite of problems elsewhere in the file. Raises ConfigError."""
    config, report = load(path)
    source = _named(config.sources, "source", name, path, report)
    before = frozenset(report.problems)
    part = _contained(name, source, installed(load={source.connector}) if plugins is None else plugins, report, CrashRecord())
    if isinstance(part, BrokenSource):
        report.add(("sources", name, "connector"), part.reason)
    if not isinstance(part, CheckedSource):
        raise ConfigError([problem for problem in report.problems if problem not in before])
    return part.connector


def assemble_target(path: Path, name: str) -> TargetSettings:
    """Return one target's settings, in spite of problems elsewhere in the file. Raises ConfigError."""
    config, report = load(path)
    table = _named(config.targets, "target", name, path, report)
    before = frozenset(report.problems)
    target = _target(name, table, report)
    if target is None:
        raise ConfigError([problem for problem in report.problems if problem not in before])
    return target


def _named(tables: Mapping[str, T], kind: str, name: str, path: Path, report: Report) -> T:
    if name not in tables:
        raise ConfigError(report.problems or [f"{path}: there is no {kind} {name!r}{nearest(name, tables)}"])
    return tables[name]


def _target(name: str, table: object, report: Report) -> TargetSettings | None:
    """Decode a target and render a body of each of its examples; None if there is a problem."""
    at = ("targets", name)
    before = report.count
    target = decode_known(TargetSettings, table, at, report)
    if target is None:
        return None
    for key, text in body_problems(target):
        report.add((*at, *key), text)
    if report.count > before:
        return None
    watch(target)
    return target


def _contained(
    name: str, source: SourceSettings, plugins: Mapping[str, Plugin], report: Report, crash_record: CrashRecord
) -> CheckedSource | BrokenSource | None:
    """Return the source, or why its plugin cannot be used, or None for a problem of the file, which is then in `report`."""
    plugin = plugins.get(source.connector)
    doors = source.doors or get_args(Door)
    if plugin is None:
        reason = f"no connector {source.connector!r} is installed{nearest(source.connector, plugins)}"
        return BrokenSource(doors=doors, reason=reason, missing=True)
    prefix = f"the plugin {plugin.distribution} {plugin.version} cannot be used: "
    if plugin.problem is not None or plugin.module is None:
        return BrokenSource(doors=doors, reason=f"{prefix}{plugin.problem or 'it was not loaded'}", trace=plugin.trace)
    if (why := crash_record.down(name)) is not None:
        return BrokenSource(doors=doors, reason=prefix + why)
    try:
        connector = Connector(plugin.module, name, crash_record)
        doors = source.doors or connector.doors
        return _source(name, source, connector, report)
    except BaseException as error:  # a fault of a plugin ends in its own sources
        what = str(error) if isinstance(error, PluginError) else f"{type(error).__name__} while its settings are read"
        return BrokenSource(doors=doors, reason=prefix + what, trace=traceback.format_exc())


def _source(name: str, source: SourceSettings, connector: Connector, report: Report) -> CheckedSource | None:
    at = ("sources", name)
    settings = decode_known(connector.description.settings, source.settings, (*at, "settings"), report)
    doors = source.doors if source.doors is not None else _usual_doors(connector, settings)
    for n, door in enumerate(doors):
        if door not in connector.doors:
            report.add((*at, "doors", n), f"{source.connector} has no door {door}; it has {', '.join(connector.doors)}")
    doors = tuple(door for door in doors if door in connector.doors)
    if "realtime" in doors and "poll" not in doors:
        report.add((*at, "doors"), "realtime needs poll beside it: a hub replays nothing, a poll brings what was missed")
    before = report.count
    for door in doors:
        for key in connector.description.needs.get(door, ()):
            given = source.settings.get(key) if settings is None else getattr(settings, key, None)
            told = (*at, "settings", key) in report.keys or _is_misspelt(key, connector.description.settings, source.settings)
            if not given and not told:
                without = ", or leave the door out of `doors`" if len(connector.doors) > 1 else ""
                report.add((*at, "settings"), f"needs the key {key} for the door {door}{without}")
    if settings is None:
        return None
    connector.settings = settings
    api = connector.api() if _calls(connector, doors) else None
    connector.stages()
    connector.jwks_url()
    connector.fetch_retry()
    connector.commands()
    if "poll" in doors and connector.poll_interval_s() <= 0:
        report.add((*at, "settings"), "the poll interval must be more than 0 s")
    if "realtime" in doors and report.count == before:
        connector.subscribe()
    for key, text in api.auth.problems() if api is not None and isinstance(api.auth, OAuth2) else ():
        report.add((*at, "settings", key) if hasattr(settings, key) else (*at, "settings"), text)
    return CheckedSource(settings=source, connector=connector, doors=doors, api=api)


def _is_misspelt(key: str, kind: type[Struct], given: Mapping[str, Any]) -> bool:
    """Tell whether a needed key is there with a typing error, which is reported already."""
    known = [field.encode_name for field in structs.fields(kind)]
    return any(nearest(other, known).endswith(f" {key}?") for other in given if other not in known)


def _callers(config: Config, sources: Mapping[str, CheckedSource], report: Report) -> None:
    """Report each command of a caller that no source takes."""
    for name, caller in config.submit.callers.items():
        for n, pattern in enumerate(caller.commands):
            source, _, command = pattern.partition("/")
            if source not in sources or not command or "/" in command:  # reported already
                continue
            at, connector = ("submit", "callers", name, "commands", n), sources[source].connector
            there, all_there_are = connector.commands(), connector.description.commands
            if command == "*" and not there:
                report.add(at, f"the source {source} takes no command" + (", with the settings that it has" if all_there_are else ""))
            elif command != "*" and command in all_there_are and command not in there:
                missing = [key for key in all_there_are[command].needs if not getattr(connector.settings, key, None)]
                report.add(at, f"is there only with the key {' and '.join(missing)} in [sources.{source}.settings]")
            elif command != "*" and command not in there:
                report.add(at, f"the source {source} takes no command {command!r}{nearest(command, there)}")


def _usual_doors(connector: Connector, settings: Struct | None) -> tuple[Door, ...]:
    """Return every door except those whose opening setting is missing."""
    keys = connector.description.opened_by
    return tuple(door for door in connector.doors if door not in keys or getattr(settings, keys[door], None))


def _calls(connector: Connector, doors: tuple[Door, ...]) -> bool:
    """Tell whether this source ever calls its vendor."""
    return "poll" in doors or connector.fetches or bool(connector.stages()) or bool(connector.commands())


def needs_restart(one: Config, other: Config) -> bool:
    """Tell whether the change needs a restart: data directory, store and listeners do, callers do not."""
    return any(
        structs.asdict(a) != structs.asdict(b)
        for a, b in (
            (one.gateway, other.gateway),
            (one.store, other.store),
            (one.http, other.http),
            (one.admin, other.admin),
            (structs.replace(one.submit, callers={}), structs.replace(other.submit, callers={})),
        )
    )
