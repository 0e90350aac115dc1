"""The files in etc/sources: copied into conf.d as they say, they are a configuration without a problem."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.api.errors import ConfigError
from gateway.plugin.discovery import installed
from gateway.service.assembly import assemble

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "etc" / "sources").glob("*.toml"))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key and its certificate, as an admin makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    folder = tmp_path_factory.mktemp("pair")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=constructed"]
    subprocess.run([*command, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    return {"scalepoint-key": (folder / "key").read_text(), "scalepoint-cert": (folder / "cert").read_text()}


def test_every_vendor_but_the_one_in_gateway_toml_has_a_file() -> None:
    assert [file.stem for file in FILES] == sorted({*installed()} - {"apicbase"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_copy_in_conf_d_is_a_source(file: Path, tmp_path: Path, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    for folder in ("run", "conf.d"):
        (tmp_path / folder).mkdir()
    for name in ("scalepoint-webhook", "supercat", "pickup-cloud", "scalepoint-key", "scalepoint-cert"):
        (tmp_path / "run" / name).write_text(pair.get(name, "constructed"))
    (tmp_path / "gateway.toml").write_text('[targets.erp]\nurl = "http://127.0.0.1:1/"\n')
    shutil.copy(file, tmp_path / "conf.d")
    for mapping in (ROOT / "plugins" / file.stem).glob("gateway_*/examples/*.jsonata"):
        shutil.copy(mapping, tmp_path / "conf.d")
    (source,) = assemble(tmp_path / "gateway.toml").sources.values()
    assert source.settings.connector == file.stem
    assert source.doors


def test_a_mistake_beside_the_settings_hides_none_in_them(tmp_path: Path) -> None:
    """The plugin of a source that is half readable is imported as well: it knows its settings."""
    (tmp_path / "gateway.toml").write_text(
        '[targets.erp]\nurl = "http://127.0.0.1:1/"\n[sources.reps]\nconnector = "supercat"\non_revision = "maybe"\n'
        '[sources.reps.settings]\nbase_url = "https://supercat.supercatsolutions.com"\nmapping = "missing.jsonata"\npasword = "bare"\n'
    )
    with pytest.raises(ConfigError) as refused:
        assemble(tmp_path / "gateway.toml")
    said = "\n".join(refused.value.problems)
    assert "was not loaded" not in said
    for one in ("on_revision: must be one of", "settings.org: is needed", "settings.pasword: is not a key", "missing.jsonata"):
        assert one in said
