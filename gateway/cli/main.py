"""Command `gateway` (CONTRACT section 8). Exit codes: 0 done, 1 failed, 2 wrong configuration or usage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.api.errors import ConfigError, GatewayError
from gateway.cli import backup, check, decide, map, plugins, queues, serve, show, sources, status, store, submit, target
from gateway.cli.arguments import Commands
from gateway.config.settings import DEFAULT_PATH
from gateway.service.systemd import logs_to_journal

_FILES = (serve, check, status, sources, plugins, queues, show, decide, submit, map, target, store, backup)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    options.config = options.config.absolute()
    try:
        return int(options.run(options))
    except ConfigError as error:
        _complain(*error.problems)
        return 2
    except GatewayError as error:
        _complain(f"gateway: {error}")
        return 1
    except PermissionError as error:
        _complain(f"gateway: {error.filename}: permission denied; run this as root (sudo) or as the service's user")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(*problems: str) -> None:
    mark = "<3>" if logs_to_journal() else ""
    for problem in problems:
        print(mark + problem.replace("\n", f"\n{mark}"), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Receive orders from vendors' clouds and deliver each to the ERP at least once.",
        epilog="`gateway COMMAND --help` explains one command.",
    )
    parser.add_argument("--version", action="version", version=f"order-gateway {__version__}")
    parser.set_defaults(config=DEFAULT_PATH)
    commands = Commands(parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))
    for file in _FILES:
        file.register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
