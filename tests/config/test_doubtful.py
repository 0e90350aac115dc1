"""What `gateway check` warns of: placeholders, badly copied secrets, certificates that end soon. A gateway starts all the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.api.errors import ConfigError
from gateway.cli.check import online
from gateway.cli.main import main
from gateway.plugin.discovery import Plugin
from gateway.service.assembly import assemble
from gateway.service.config_warnings import SOON
from tests import acme
from tests.raw_server import answer, certificate, peer
from tests.rsa_keys import pair

PLUGINS = {"acme": Plugin(name="acme", distribution="acme", version="1", module=acme, problem=None)}
ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-canary-word"


def warnings(
    folder: Path, *, target: str = 'url = "https://erp.mill.dk/orders"', settings: str = 'secret = { file = "secret" }'
) -> list[str]:
    """What is said of a file, without its places."""
    (folder / "gateway.toml").write_text(
        f'[targets.erp]\n{target}\n[sources.acme]\nconnector = "acme"\n[sources.acme.settings]\n{settings}\n'
    )
    if not (folder / "secret").exists():
        (folder / "secret").write_text(SECRET)
    found = assemble(folder / "gateway.toml", PLUGINS).warnings
    assert SECRET not in "".join(found)
    return [re.sub(r"^.*gateway\.toml:\d+: ", "", one) for one in found]


def test_a_file_that_is_meant_is_not_warned_of(tmp_path: Path) -> None:
    assert warnings(tmp_path) == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ('url = "https://erp.example/orders"', "targets.erp.url: the host erp.example is a placeholder"),
        ('url = "https://erp.example.com/orders"', "targets.erp.url: the host erp.example.com is a placeholder"),
        ('url = "https://erp.invalid./orders"', "targets.erp.url: the host erp.invalid is a placeholder"),
        ('url = "{b}/orders"\nvars = { b = "https://x.example" }', "targets.erp.vars.b: the host x.example is a placeholder"),
        ('url = "https://YOUR-COMPANY.erp.dk/"', "targets.erp.url: looks like a placeholder"),
        ('url = "https://erp.dk/ASK-THEM/orders"', "targets.erp.url: looks like a placeholder"),
        ('url = "https://erp.dk/..."', "targets.erp.url: looks like a placeholder"),
        ('url = "https://erp.dk/"\nheaders = { X-Client = "supplier-1" }', "targets.erp.headers.X-Client: looks like a placeholder"),
        ('url = "https://erp.dk/"\nheaders = { X-Client = "ChangeMe" }', "targets.erp.headers.X-Client: looks like a placeholder"),
    ],
)
def test_a_placeholder_is_warned_of(tmp_path: Path, target: str, said: str) -> None:
    (found,) = warnings(tmp_path, target=target)
    assert found.startswith(said)


BEARER = 'url = "https://erp.mill.dk/"\nauth = { kind = "bearer", token = { file = "token" } }'


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (f"Bearer {SECRET}", 'begins with "Bearer ", which the gateway adds itself (file token)'),
        (f"bearer {SECRET}", 'begins with "bearer "'),
        (f" {SECRET}", "begins with white space, which is part of the secret (file token)"),
        (f'"{SECRET}"', "stands in quotes, which are part of the secret (file token)"),
        ("changeme", "looks like a placeholder (file token)"),
        ("token", "looks like a placeholder (file token)"),
    ],
)
def test_a_badly_copied_secret_is_warned_of(tmp_path: Path, token: str, said: str) -> None:
    (tmp_path / "token").write_text(token)
    (found,) = warnings(tmp_path, target=BEARER)
    assert found.startswith(f"targets.erp.auth.token: {said}")


def test_a_header_may_hold_the_word_bearer(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"Bearer {SECRET}")
    header = 'url = "https://erp.mill.dk/"\nauth = { kind = "header", name = "Authorization", value = { file = "token" } }'
    assert warnings(tmp_path, target=header) == []


@pytest.mark.parametrize(
    ("days", "said"),
    [(-1, "holds a certificate that expired on"), (SOON.days - 1, "holds a certificate that expires on"), (SOON.days + 1, None)],
)
def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path, days: int, said: str | None) -> None:
    until = datetime.now(UTC) + timedelta(days=days)
    made = pair(f"ends {days}", until=until)
    (tmp_path / "ca.pem").write_text(made.certificate)
    (tmp_path / "own.pem").write_text(made.key + made.certificate)
    (tmp_path / "key").write_text(made.key)
    auth = '{ kind = "oauth2", token_url = "https://erp.mill.dk/t", client_id = "us", client_auth = "private_key_jwt"'
    auth += ', private_key = { file = "key" }, certificate = { file = "ca.pem" } }'
    files = 'ca_file = "ca.pem"\nclient_cert = "own.pem"'
    found = warnings(tmp_path, target=f'url = "https://erp.mill.dk/"\n{files}\nauth = {auth}')
    keys = ("ca_file", "client_cert", "auth.certificate") if said else ()
    assert found == [
        f"targets.erp.{key}: {said} {until:%Y-%m-%d}; {'put a new one there' if days < 0 else 'order a new one'}" for key in keys
    ]


def test_warnings_and_problems_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = 'url = "https://erp.example/"\nconcurency = 3'
    with pytest.raises(ConfigError) as refused:
        warnings(tmp_path, target=target)
    assert len(refused.value.problems) == len(refused.value.warnings) == 1
    assert main(["check", "--config", str(tmp_path / "gateway.toml")]) == 2
    out, err = capsys.readouterr()
    assert "WARNING" in out
    assert "erp.example is a placeholder" in out
    assert "concurency" in err


def test_the_shipped_file_tells_what_is_to_be_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gateway.toml").write_text((ROOT / "etc/gateway.toml").read_text("utf-8"))
    (tmp_path / "credentials").mkdir()
    for name in ("erp-token", "apicbase-webhook", "apicbase-client"):
        (tmp_path / "credentials" / name).write_text(SECRET)
    assert main(["check", "--config", str(tmp_path / "gateway.toml")]) == 0
    out, _ = capsys.readouterr()
    marked = [n for n, line in enumerate((tmp_path / "gateway.toml").read_text("utf-8").splitlines(), 1) if line.endswith("# CHANGE")]
    assert [int(n) for n in re.findall(r"WARNING .*gateway\.toml:(\d+):", out)] == marked
    assert f"no problem found, {len(marked)} warnings" in out


async def test_online_tells_a_server_whose_certificate_ends_soon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = certificate(tmp_path, days=2)
    async with peer(answer(), tls=own.serving()) as erp:
        (tmp_path / "secret").write_text(SECRET)
        text = f'[targets.erp]\nurl = "{erp.url}"\nca_file = "2.pem"\n[sources.acme]\nconnector = "acme"\ndoors = ["webhook"]\n'
        (tmp_path / "gateway.toml").write_text(text + '[sources.acme.settings]\nsecret = { file = "secret" }\n')
        assembly = assemble(tmp_path / "gateway.toml", PLUGINS)
        assert await online(assembly) in (0, 1)
    out = capsys.readouterr().out
    assert f"WARNING targets.erp: the certificate of 127.0.0.1 expires on {datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}" in out
