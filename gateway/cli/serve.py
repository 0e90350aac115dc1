"""`gateway serve`, `reload` and `demo`: run the gateway, have it read its configuration again, show it with simulated vendors."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from gateway.api.errors import ConfigError, GatewayError
from gateway.cli.access import config_of, operate
from gateway.cli.arguments import Commands, Options
from gateway.cli.running_gateway import is_running
from gateway.log import Form, set_up
from gateway.service.operations import Operation, operator_name
from gateway.service.systemd import logs_to_journal

_NOT_RELOADED = "nothing was reloaded: a gateway that runs keeps its configuration from before"


def register(commands: Commands) -> None:
    run = commands.add("serve", "run the gateway until SIGTERM", serve, json=False)
    run.add_argument("--new-store", action="store_true", help="begin with an empty database where the data directory has lost its own")
    run.add_argument("--log", choices=["json", "plain"], help="default: plain at a terminal, else json")
    run.add_argument("--log-level", choices=["debug", "info", "warning"], default="info", help="default: info")
    commands.add("reload", "make the running gateway read its configuration again; exit 1 if it refuses the file", reload, json=False)
    shown = commands.add("demo", "run the gateway with simulated vendors and a simulated ERP on this machine", demo, json=False)
    shown.add_argument("--once", action="store_true", help="send a fixed set of orders, compare what the ERP got, and exit")


def serve(options: Options) -> int:
    """Run the gateway; the exit code is its own."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is no configuration yet to read again
    from gateway.service.gateway import serve

    form: Form = options.log or ("plain" if sys.stderr.isatty() else "json")
    set_up(form, options.log_level, journal=logs_to_journal())
    return asyncio.run(serve(options.config, new_store=options.new_store))


def reload(options: Options) -> int:
    """Reload the running gateway and wait for the outcome; 1 if it is refused."""
    try:
        if not is_running(config_of(options)):
            _signal_main()
            raise GatewayError("no gateway runs on gateway.data_dir; it reads its configuration when it starts")
        operate(options, Operation(action="reload", who=operator_name()))
    except ConfigError as error:  # the file does not say where the gateway is: the gateway finds the same, and reports it from then on
        _signal_main()
        raise GatewayError("\n".join((*error.problems, _NOT_RELOADED))) from error
    except GatewayError as error:
        raise GatewayError(f"{error}\n{_NOT_RELOADED}") from error
    print("reloaded")
    return 0


def _signal_main() -> None:
    """Send SIGHUP to the process for which systemd runs ExecReload."""
    main = os.environ.get("MAINPID", "")
    if main.isdigit() and int(main) > 1:
        os.kill(int(main), signal.SIGHUP)


def demo(options: Options) -> int:
    try:
        from gateway.testing.demo import main
    except ImportError as error:
        raise GatewayError(f"the demo needs its extra packages: {error}") from error
    return main(once=options.once)
