"""`gateway backup` and `gateway restore`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.access import config_of, operate
from gateway.cli.arguments import Commands, Options, count
from gateway.cli.output import print_json
from gateway.cli.running_gateway import is_running
from gateway.clock import SystemClock
from gateway.service.operations import Operation, operator_name
from gateway.store.sqlite.backup import Contents, put_back, verify, write_copy
from gateway.store.sqlite.connection import DirectoryLock

_NAME = "gateway-%Y%m%dT%H%M%SZ.db"
_NAMES = "gateway-*T*Z.db"
RESTORED = "orders from before are looked up, or held for you, before they are sent; when that is done: gateway restore --finish"


def register(commands: Commands) -> None:
    made = commands.add(
        "backup", "copy the database, also while the gateway runs, and verify the copy", backup, example="gateway backup /backup --keep 14"
    )
    made.add_argument("to", type=Path, metavar="TO", help="a new file, or a folder, in which the file is named after the time")
    made.add_argument("--keep", type=count, default=None, metavar="COUNT", help="with a folder: keep only so many copies, the newest")
    put = commands.add(
        "restore", "put a copy of the database back; orders that may have been delivered since are looked up or held", restore
    )
    put.add_argument("copy", nargs="?", type=Path, metavar="FILE", help="a copy made by `gateway backup`")
    put.add_argument("--finish", action="store_true", help="end the precautions of a restore: older messages are sent like others again")


def backup(options: Options) -> int:
    """Copy the database of a running or stopped gateway."""
    config, clock = config_of(options), SystemClock()
    to: Path = options.to.absolute()
    if options.keep is not None and not to.is_dir():
        raise ConfigError([f"gateway backup: --keep needs a folder, and {to} is not one"])
    folder = to if to.is_dir() else None
    if folder is not None:
        to = folder / clock.now().strftime(_NAME)
    made = write_copy(config.database, to, who=operator_name(), now_ms=clock.now_ms())
    gone = _oldest(to, options.keep) if folder is not None and options.keep is not None else []
    for old in gone:
        old.unlink()
    _tell(options, to, made, f"{to}: {_words(made)}; verified" + (f"; {len(gone)} older copies removed" if gone else ""))
    return 0


def restore(options: Options) -> int:
    """Put a copy back into the data directory of a stopped gateway, or end the precautions of a restore."""
    if options.finish == (options.copy is not None):
        raise ConfigError(["gateway restore: give the copy to put back, or --finish"])
    if options.finish:
        was_open = operate(options, Operation(action="finish-restore", who=operator_name()))
        print(
            "finished: messages from before the restore are sent like others again"
            if was_open
            else "nothing to finish: no copy was put back"
        )
        return 0
    config = config_of(options)
    copy = options.copy.absolute()
    if is_running(config):
        raise GatewayError("the gateway is running; stop it first: its database cannot be replaced while it runs")
    contents = verify(copy)
    lock = DirectoryLock(config.gateway.data_dir)
    if not lock.acquire():
        raise GatewayError("another process has the data directory; stop it first")
    try:
        aside = put_back(copy, config.database, who=operator_name(), now_ms=SystemClock().now_ms())
    finally:
        lock.release()
    kept = f"\nthe database from before is {aside}" if aside else ""
    _tell(options, copy, contents, f"{config.database}: put back, {_words(contents)}{kept}\nstart the gateway; {RESTORED}")
    return 0


def _oldest(newest: Path, keep: int) -> list[Path]:
    """Return all but the newest `keep` copies. A name that is later than the newest copy comes from a wrong clock and counts as older."""
    return sorted(newest.parent.glob(_NAMES), key=lambda copy: (copy.name <= newest.name, copy.name))[:-keep]


def _words(made: Contents) -> str:
    at = f"copied at {made.copied_at:%Y-%m-%d %H:%M:%S} UTC" if made.copied_at else "not made by `gateway backup`"
    return f"{at}, {made.events} events, {made.open_events} of them open, {made.open_deliveries} open deliveries"


def _tell(options: Options, file: Path, made: Contents, text: str) -> None:
    if options.json:
        print_json({"file": str(file), **msgspec.to_builtins(made)})
    else:
        print(text)
