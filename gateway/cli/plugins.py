"""`gateway plugins`. Plugins are not imported to be listed; `--load` imports each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.api.errors import ConfigError
from gateway.cli.arguments import Commands, Options
from gateway.cli.output import print_json, print_table
from gateway.config.settings import load
from gateway.plugin.discovery import Plugin, installed

_LOAD_TIMEOUT_S = 60.0


def register(commands: Commands) -> None:
    listed = commands.add("plugins", "list the installed connectors and the sources that use them", plugins)
    listed.add_argument("--load", action="store_true", help="import each in a process of its own, and show its doors or its error")


def plugins(options: Options) -> int:
    """List connectors; 1 if one is broken."""
    users = _users(options)
    found = [_loaded(one) if options.load and not one.problem else one for one in installed(load=()).values()]
    if options.json:
        print_json([_row(one, users, loaded=options.load) for one in found])
    elif options.load:
        print_table(
            ("connector", "distribution", "version", "used by", "doors", "title or problem"),
            [(*_facts(p, users), " ".join(p.doors), f"BROKEN: {p.problem}" if p.problem else p.title) for p in found],
        )
        for plugin in found:
            if plugin.trace:
                print(f"\n{plugin.name}:\n{plugin.trace}")
    else:
        print_table(("connector", "distribution", "version", "used by", "problem"), [(*_facts(p, users), p.problem) for p in found])
    return 1 if any(p.problem for p in found) else 0


def _facts(plugin: Plugin, users: dict[str, list[str]]) -> tuple[str, str, str, str]:
    return plugin.name, plugin.distribution, plugin.version, " ".join(users.get(plugin.name, ())) or "-"


def _row(plugin: Plugin, users: dict[str, list[str]], *, loaded: bool) -> dict[str, Any]:
    known = msgspec.structs.asdict(plugin)
    names = ("name", "distribution", "version", "problem", *(("title", "doors", "hooks", "trace") if loaded else ()))
    return {**{name: known[name] for name in names}, "sources": users.get(plugin.name, [])}


def _users(options: Options) -> dict[str, list[str]]:
    """Map each connector to its sources, as far as the configuration can be read."""
    users: dict[str, list[str]] = {}
    try:
        config, _ = load(options.config)
    except ConfigError:
        return users
    for name, source in config.sources.items():
        users.setdefault(source.connector, []).append(name)
    return users


def _loaded(plugin: Plugin) -> Plugin:
    """Import the plugin in a child process. It is broken if the child ends or hangs."""
    child = [sys.executable, "-m", "gateway.cli.plugins", plugin.name]
    try:
        ended = subprocess.run(child, capture_output=True, timeout=_LOAD_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
        return msgspec.structs.replace(msgspec.json.decode(ended.stdout.rpartition(b"\n\0")[2], type=Plugin), module=None)
    except subprocess.TimeoutExpired:
        problem = f"it is not imported within {_LOAD_TIMEOUT_S:.0f} s"
    except msgspec.MsgspecError:
        problem = f"the process ended with {ended.returncode} while it was imported"
    return msgspec.structs.replace(plugin, problem=problem)


def main(arguments: Sequence[str]) -> int:
    """Import one plugin and print the result after whatever the plugin printed."""
    found = msgspec.structs.replace(installed(load=arguments)[arguments[0]], module=None)
    sys.stdout.buffer.write(b"\n\0" + msgspec.json.encode(found))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
