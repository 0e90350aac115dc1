"""`gateway backup` and `gateway restore`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.commands import RESTORED, Options, config_of, operate
from gateway.cli.output import print_json
from gateway.cli.running_gateway import is_running
from gateway.clock import SystemClock
from gateway.service.operations import Operation, operator_name
from gateway.store.sqlite.backup import Contents, put_back, verify, write_copy
from gateway.store.sqlite.connection import DirectoryLock

_NAME = "gateway-%Y%m%dT%H%M%SZ.db"
_NAMES = "gateway-*T*Z.db"


def backup(options: Options) -> int:
    """Copy the database of a running or stopped gateway; 1 where no copy was made."""
    config, clock = config_of(options), SystemClock()
    to: Path = options.to.absolute()
    if options.keep is not None and not to.is_dir():
        raise ConfigError([f"gateway backup: --keep goes with a folder, and {to} is none"])
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
    """Put a copy back into the data directory of a stopped gateway, or say that the gap after it is closed."""
    if options.finish == (options.copy is not None):
        raise ConfigError(["gateway restore: give the copy to put back, or --finish"])
    if options.finish:
        was_open = operate(options, Operation(action="finish-restore", who=operator_name()))
        print("finished: events from before are like others again" if was_open else "nothing is being restored")
        return 0
    config = config_of(options)
    copy = options.copy.absolute()
    if is_running(config):
        raise GatewayError("the gateway is running; stop it first: a database is not exchanged under it")
    contents = verify(copy)
    lock = DirectoryLock(config.gateway.data_dir)
    if not lock.take():
        raise GatewayError("another process has the data directory; stop it first")
    try:
        aside = put_back(copy, config.database, who=operator_name(), now_ms=SystemClock().now_ms())
    finally:
        lock.free()
    kept = f"\nthe database from before is {aside}" if aside else ""
    _tell(options, copy, contents, f"{config.database}: put back, {_words(contents)}{kept}\nstart the gateway; {RESTORED}")
    return 0


def _oldest(newest: Path, keep: int) -> list[Path]:
    """What is beyond the newest so many; a name from a clock that was ahead is older than the copy just made, whatever it says."""
    return sorted(newest.parent.glob(_NAMES), key=lambda copy: (copy.name <= newest.name, copy.name))[:-keep]


def _words(made: Contents) -> str:
    at = f"copied at {made.copied_at:%Y-%m-%d %H:%M:%S} UTC" if made.copied_at else "no copy of `gateway backup`"
    return f"{at}, {made.events} events, {made.open_events} of them open, {made.open_deliveries} open deliveries"


def _tell(options: Options, file: Path, made: Contents, text: str) -> None:
    if options.json:
        print_json({"file": str(file), **msgspec.to_builtins(made)})
    else:
        print(text)
