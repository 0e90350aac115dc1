"""A gateway installed in a container as the manual says: the unit, the program where the unit looks for it, credentials."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path

from gateway.plugin.discovery import GROUP

from .nspawn import TARGET, Container, Unavailable
from .serving import declare, install_acme

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "systemd/order-gateway.service"
BACKUP = ROOT / "systemd/order-gateway-backup.service"
TIMER = ROOT / "systemd/order-gateway-backup.timer"
APICBASE = ROOT / "plugins/apicbase/gateway_apicbase"
HOME = "/opt/order-gateway"


def binds() -> dict[Path, str]:
    """This test's interpreter and packages, at places that a service without a home may read."""
    binds = {
        Path(sysconfig.get_path("purelib")): f"{HOME}/site",
        ROOT / "gateway": f"{HOME}/lib/gateway",
    }
    if APICBASE.is_dir():
        binds[APICBASE] = f"{HOME}/lib/{APICBASE.name}"
    if not sys.base_prefix.startswith("/usr"):
        binds[Path(sys.base_prefix)] = f"{HOME}/python"
    for path in binds:
        if path.stat().st_mode & 0o005 != 0o005:
            raise Unavailable(f"{path} is closed to others, so no service may use it")
    return binds


def install(tree: Path, config: str, secrets: dict[str, str]) -> None:
    """The unit as it is, the program where the unit looks for it, a configuration and its credentials."""
    home = tree / HOME.lstrip("/")
    (home / "bin").mkdir(parents=True)
    install_acme(home / "lib")
    if "apicbase" not in entry_points(group=GROUP).names:
        declare(home / "lib", "apicbase", APICBASE.name)
    prefix = sys.base_prefix if sys.base_prefix.startswith("/usr") else f"{HOME}/python"
    python = f"LD_LIBRARY_PATH={prefix}/lib exec {prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    start = f"import sys; sys.path[:0] = ['{HOME}/lib', '{HOME}/site']; from gateway.cli.main import main; sys.exit(main())"
    (home / "bin/gateway").write_text(f'#!/bin/sh\n{python} -c "{start}" "$@"\n')
    (home / "bin/probe").write_text(f"#!/bin/sh\n{python} {HOME}/lib/probe.py\n")
    shutil.copy(ROOT / "tests/harness/service/probe.py", home / "lib")
    units = tree / "etc/systemd/system"
    for file in (UNIT, BACKUP, TIMER):
        shutil.copy(file, units)
    (units / f"{TARGET}.d").mkdir()  # so that systemd does not forget how the unit ended
    (units / f"{TARGET}.d/keep.conf").write_text(f"[Unit]\nAfter={UNIT.name}\n")
    etc = tree / "etc/order-gateway"
    (etc / "credentials").mkdir(parents=True)
    (etc / "credentials").chmod(0o700)
    (etc / "gateway.toml").write_text(config)
    for name, secret in secrets.items():
        (etc / "credentials" / name).write_text(f"{secret}\n")
        (etc / "credentials" / name).chmod(0o600)
    for path in (home, home / "bin", home / "bin/gateway", home / "bin/probe", home / "lib", etc):
        path.chmod(0o755)


def can_do_what_the_unit_asks_for(container: Container) -> None:
    """A unit that is not ours, with the demanding half of our directives."""
    asked: tuple[str, ...] = (
        "DynamicUser=yes",
        "PrivateUsers=yes",
        "ProtectSystem=strict",
        "StateDirectory=canary",
        "ProtectProc=invisible",
    )
    asked += ("LoadCredential=passwd:/etc/passwd", "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", "PrivateMounts=yes")
    options = [word for directive in asked for word in ("-p", directive)]
    done = container.run("systemd-run", "--wait", "-q", *options, "/bin/true")
    if done.returncode:
        raise Unavailable(f"a sandbox cannot be had in a container on this machine: {done.stderr.strip()}")
    done = container.run(
        "systemd-run", "--wait", "-q", "--pipe", "-p", "DynamicUser=yes", "-p", "ProtectHome=yes", f"{HOME}/bin/gateway", "--version"
    )
    if done.returncode:
        raise Unavailable(f"the interpreter of this test does not run in a container: {done.stderr.strip()}")
