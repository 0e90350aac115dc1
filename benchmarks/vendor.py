"""The connector that the benchmark goes through: Apicbase's where it is there, else the small one of the tests."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

from msgspec import Struct

from benchmarks.child import ROOT
from benchmarks.orders import SECRET

_GROUP = "gateway.connectors"


class Vendor(Struct, frozen=True, kw_only=True):
    """A connector, the header of its signature, its settings as TOML, and the folders that Python must search for it."""

    connector: str
    header: str
    settings: str
    folders: tuple[Path, ...] = ()

    @property
    def python_path(self) -> str:
        return os.pathsep.join(map(str, self.folders))


def choose(folder: Path, name: str | None = None) -> Vendor:
    """The connector to use. What is not installed gets an entry point in `folder`, where secrets go too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_text(SECRET + "\n")
    secret = f'{{ file = "{folder / "secret"}" }}'
    plugin = ROOT / "plugins" / "apicbase"
    installed = {point.name for point in entry_points(group=_GROUP)}
    has_plugin = (plugin / "gateway_apicbase.py").exists() or (plugin / "gateway_apicbase" / "__init__.py").exists()
    if name != "acme" and (name or "apicbase" in installed or has_plugin):
        if "apicbase" not in installed:
            _entry_point(folder, "apicbase", "gateway_apicbase")
        return Vendor(
            connector="apicbase",
            header="X-APIC-WEBHOOK-SIGNATURE",
            settings=f'webhook_secrets = [{secret}]\ncurrency = "EUR"',
            folders=() if "apicbase" in installed else (folder, plugin),
        )
    _entry_point(folder, "acme", "acme")
    return Vendor(connector="acme", header="X-Acme-Signature", settings=f"secret = {secret}", folders=(folder, ROOT / "tests"))


def _entry_point(folder: Path, name: str, module: str) -> None:
    made = folder / f"bench_{name}-1.dist-info"
    made.mkdir(exist_ok=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bench-{name}\nVersion: 1\n")
    (made / "entry_points.txt").write_text(f"[{_GROUP}]\n{name} = {module}\n")
