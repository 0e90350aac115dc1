"""Right configurations: defaults, paths, secrets that change, and the file that people start from."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Secret, TextList, Url
from gateway.api.errors import ConfigError
from gateway.api.urls import is_literal, is_loopback
from gateway.config.decode import decode
from gateway.config.report import Report, dotted
from gateway.config.settings import AdminSettings, Config, GatewaySettings, HttpSettings, SourceSettings, StoreSettings, load
from gateway.service.assembly import Assembly, assemble, needs_restart
from gateway.targets.auth_settings import Bearer, NoAuth
from gateway.targets.settings import TargetSettings
from tests import acme
from tests.conftest import plugins
from tests.raw_server import certificate

ROOT = Path(__file__).parents[2]
SMALLEST = """
[targets.erp]
url = "https://erp.example/orders"
[sources.acme]
connector = "acme"
settings = { secret = { file = "secret" } }
"""

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBjjCCATWgAwIBAgIUZmQksIhs/qxVw0MXjFXXQCMHB3owCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRRXhhbXBsZSBhdXRob3JpdHkwIBcNMjYxMTI0MDE0NjAyWhgP
MjEyNjEwMzEwMTQ2MDJaMBwxGjAYBgNVBAMMEUV4YW1wbGUgYXV0aG9yaXR5MFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7IyxAskDyw3vNh49XlSFl0azMozW4oU/
9zMFUtQr/piqtQYHtuXVlEFOZ+FzJnpg5pEpkQeS3Z+mt3R7eQNLoKNTMFEwHQYD
VR0OBBYEFBR2C3dY9FNLUj5Pup1aWj2PEZ2nMB8GA1UdIwQYMBaAFBR2C3dY9FNL
Uj5Pup1aWj2PEZ2nMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIg
e1zxThIx2BfuJg847RysbYyux8D2Vv9eKW25UFtsSTECIBngwoawn+vVs8kDfaCi
pFelp5lu0VWibF7kZ9d2aLOK
-----END CERTIFICATE-----
"""


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def read(folder: Path, text: str = SMALLEST) -> Assembly:
    """Assemble `text` as a file of `folder`, with the connector `acme` installed."""
    (folder / "secret").write_text("a-secret\n")
    (folder / "gateway.toml").write_text(text)
    return assemble(folder / "gateway.toml", plugins(acme=acme))


def config_of(folder: Path, text: str) -> Config:
    config, report = _load(folder, text)
    assert report.problems == []
    return config


def _load(folder: Path, text: str) -> tuple[Config, Report]:
    (folder / "gateway.toml").write_text(text)
    return load(folder / "gateway.toml")


# --- defaults


def test_everything_has_a_default_but_sources_and_targets(tmp_path: Path) -> None:
    assembly = read(tmp_path)
    config = assembly.config
    assert config.gateway.data_dir == Path("/var/lib/order-gateway")
    assert config.database == Path("/var/lib/order-gateway/gateway.db")
    assert config.node == os.uname().nodename
    assert (config.http.address, config.admin.address) == (("127.0.0.1", 8080), ("127.0.0.1", 8081))
    assert config.http.max_body_bytes == 1048576
    assert config.sources["acme"].on_revision == "hold"
    target = assembly.targets["erp"]
    assert (target.method, target.concurrency, target.connect_timeout_s, target.read_timeout_s) == ("POST", 8, 5, 60)
    assert (target.retry.base_s, target.retry.cap_s, target.retry.max_age_s) == (2, 900, 604800)
    assert (target.breaker.failures, target.breaker.cooldown_s) == (5, 30)
    assert target.accepts == ("order.placed", "order.revised", "order.cancelled", "order.status")
    assert isinstance(target.auth, NoAuth)
    assert target.idempotency.strategy == "header"


def test_a_source_uses_every_door_and_every_target_unless_told_otherwise(tmp_path: Path) -> None:
    assembly = read(tmp_path)
    assert assembly.sources["acme"].doors == ("webhook", "poll")
    assert assembly.config.sources["acme"].targets is None
    told = SMALLEST.replace('"acme"\n', '"acme"\ndoors = ["poll"]\ntargets = ["erp"]\n').replace('{ secret = { file = "secret" } }', "{}")
    assembly = read(tmp_path, told)
    assert assembly.sources["acme"].doors == ("poll",)
    assert assembly.config.sources["acme"].targets == ("erp",)


def test_durations_may_be_whole_numbers_or_not(tmp_path: Path) -> None:
    text = SMALLEST.replace('orders"\n', 'orders"\nread_timeout_s = 7\nconnect_timeout_s = 0.25\nretry = { base_s = 1, cap_s = 2.5 }\n')
    target = read(tmp_path, text).targets["erp"]
    assert (target.read_timeout_s, target.connect_timeout_s, target.retry.base_s, target.retry.cap_s) == (7.0, 0.25, 1.0, 2.5)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:65535", ("::1", 65535)), ("localhost:0", ("localhost", 0)), ("gw.local:80", ("gw.local", 80))],
)
def test_an_address_to_listen_on(tmp_path: Path, listen: str, address: tuple[str, int]) -> None:
    config = config_of(tmp_path, SMALLEST + f'[http]\nlisten = "{listen}"\n')
    assert config.http.address == address


def test_both_sides_may_have_a_free_port_each(tmp_path: Path) -> None:
    config_of(tmp_path, SMALLEST + '[http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n')


# --- paths and conf.d


def test_relative_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    (tmp_path / "conf.d/secret").write_text("from-conf.d")
    (tmp_path / "conf.d/erp.toml").write_text(
        '[targets.two]\nurl = "https://two.example"\nca_file = "../ca.pem"\nauth = { kind = "bearer", token = { file = "secret" } }\n'
    )
    assembly = read(tmp_path, '[gateway]\ndata_dir = "data"\n' + SMALLEST)
    assert assembly.config.gateway.data_dir == tmp_path / "data"
    assert assembly.sources["acme"].connector.settings.secret.reveal() == "a-secret"
    two = assembly.targets["two"]
    assert two.ca_file is not None
    assert two.ca_file.resolve() == tmp_path / "ca.pem"
    assert isinstance(two.auth, Bearer)
    assert two.auth.token.reveal() == "from-conf.d"


def test_conf_d_adds_tables_and_keys(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/10-limits.toml").write_text("[targets.erp]\nconcurrency = 3\n[gateway]\nnode = 'gw-7'\n")
    (tmp_path / "conf.d/20-more.toml").write_text("targets.erp.method = 'PUT'\n")
    (tmp_path / "conf.d/notes.txt").write_text("not read")
    (tmp_path / "conf.d/.20-more.toml").write_text("an editor was here")
    assembly = read(tmp_path)
    assert (assembly.targets["erp"].concurrency, assembly.targets["erp"].method, assembly.config.node) == (3, "PUT", "gw-7")


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a-secret\r\n")
    (tmp_path / "gateway.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assembly = assemble(tmp_path / "gateway.toml", plugins(acme=acme))
    assert assembly.sources["acme"].connector.settings.secret.reveal() == "a-secret"


def test_what_a_restart_is_needed_for(tmp_path: Path) -> None:
    first = read(tmp_path).config
    assert not needs_restart(first, read(tmp_path, SMALLEST.replace("erp.example", "other.example")).config)
    assert needs_restart(first, read(tmp_path, SMALLEST + '[http]\nlisten = "127.0.0.1:1"\n').config)
    assert needs_restart(first, read(tmp_path, SMALLEST + '[gateway]\ndata_dir = "x"\n').config)


def test_a_table_with_a_problem_leaves_the_rest_readable(tmp_path: Path) -> None:
    config, report = _load(tmp_path, SMALLEST + '[admin]\nlisten = 1\n[sources.bad]\n[gateway]\nnode = "n"\n')
    assert (config.node, list(config.sources), list(config.targets)) == ("n", ["acme"], ["erp"])
    assert report.tables == {"admin", "sources"}
    assert report.count == 2


# --- secrets


def secret(value: object, base: Path) -> Secret:
    return Secret.from_reference(value, base)


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_TOKEN", "tok")
    found = secret({"env": "A_TOKEN"}, tmp_path)
    assert (found.reveal(), found.refresh(), found.origin) == ("tok", False, "env A_TOKEN")


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("tok", "tok"),
        ("tok\n", "tok"),
        ("tok\r\n", "tok"),
        ("tok\n\n", "tok"),
        ("tok \t\r\n\u00a0\n", "tok"),
        ("\ufefftok\n", "tok"),
        (" t k \n", " t k"),
    ],
)
def test_white_space_at_the_end_is_dropped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stored: str, text: str) -> None:
    (tmp_path / "t").write_bytes(stored.encode())
    found = secret({"file": "t"}, tmp_path)
    assert found.reveal() == text
    (tmp_path / "t").write_bytes(b"x" + stored.removeprefix("\ufeff").encode())
    assert (found.refresh(), found.reveal()) == (True, "x" + text)
    monkeypatch.setenv("A_TOKEN", stored.removeprefix("\ufeff"))
    assert secret({"env": "A_TOKEN"}, tmp_path).reveal() == text


def test_a_list_in_a_file_and_a_mapping_keep_their_text(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a \n\n")
    assert TextList.from_reference({"file": "t"}, tmp_path).reveal() == "a \n"


@pytest.mark.parametrize("name", ["erp-token", "secrets_erp-token"])
def test_a_credential_comes_from_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    for folder, text in (("run", "right"), ("credentials", "wrong")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    assert secret({"credential": "erp-token"}, tmp_path).reveal() == "right"


def test_under_systemd_only_its_credentials_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/erp-token").write_text("not loaded by systemd")
    with pytest.raises(ValueError, match=r"put the file into .*/credentials and restart the service"):
        secret({"credential": "erp-token"}, tmp_path)


@pytest.mark.parametrize("folder", [".", "conf.d"])
def test_without_systemd_credentials_stand_beside_the_configuration(tmp_path: Path, folder: str) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/erp-token").write_text("tok\n")
    assert secret({"credential": "erp-token"}, tmp_path / folder).reveal() == "tok"


def test_a_secret_prints_as_stars(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("canary-word")
    found = secret({"file": "t"}, tmp_path)
    auth = Bearer(token=found)
    for text in (repr(found), str(found), f"{found}", f"{found!r}", repr(auth), repr([auth]), str({"k": found})):
        assert "canary-word" not in text
        assert "***" in text
    with pytest.raises(TypeError):
        msgspec.json.encode(auth)


def test_a_changed_file_is_noticed_however_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("one\n")
    found = secret({"file": "t"}, tmp_path)
    assert not found.refresh()
    path.write_text("two\n")
    assert (found.refresh(), found.reveal()) == (True, "two")
    before = path.stat()
    (tmp_path / "new").write_text("six\n")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").rename(path)
    assert (found.refresh(), found.reveal()) == (True, "six")
    path.unlink()
    (tmp_path / "elsewhere").write_text("ten\n")
    path.symlink_to("elsewhere")
    assert (found.refresh(), found.reveal()) == (True, "ten")
    path.touch()
    assert not found.refresh()


@pytest.mark.parametrize("stored", [None, b"", b"\n", b"\xff\xfe"])
def test_a_file_on_its_way_to_a_new_text_keeps_the_old_one(tmp_path: Path, stored: bytes | None) -> None:
    path = tmp_path / "t"
    path.write_text("one\n")
    found = secret({"file": "t"}, tmp_path)
    path.unlink() if stored is None else path.write_bytes(stored)
    assert (found.refresh(), found.reveal()) == (False, "one")
    path.write_text("two\n")
    assert (found.refresh(), found.reveal()) == (True, "two")


def test_everything_that_lives_in_a_file_is_known_for_rereading(tmp_path: Path) -> None:
    text = SMALLEST.replace('orders"\n', 'orders"\nauth = { kind = "bearer", token = { file = "secret" } }\n')
    assert [part.origin for part in read(tmp_path, text).file_backed] == ["file secret", "file secret"]


# --- lists


def test_a_list_stands_in_the_file_or_in_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "customers.txt").write_text("0010023\n\n  0010024  # the new one\n# none\n")
    inline, of_file = TextList.from_reference(["0010023"], tmp_path), TextList.from_reference({"file": "customers.txt"}, tmp_path)
    assert (set(inline.words), set(of_file.words)) == ({"0010023"}, {"0010023", "0010024"})
    (tmp_path / "customers.txt").write_text("1\n")
    assert (of_file.refresh(), set(of_file.words)) == (True, {"1"})
    (tmp_path / "customers.txt").write_text("")
    assert (of_file.refresh(), len(of_file.words)) == (True, 0)


@pytest.mark.parametrize("value", [[1], ["a", ""], ["a b "], ["a#b"], ["a\nb"], "a", {"files": "x"}, 5])
def test_what_is_no_list(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError):
        TextList.from_reference(value, tmp_path)


# --- addresses


@pytest.mark.parametrize(
    "text",
    [
        "https://erp.example",
        "https://erp.example:8443/a?b=c",
        "http://127.0.0.1:1/",
        "http://localhost/x",
        "http://[::1]:80/",
        "HTTPS://E.example",
    ],
)
def test_an_address_that_may_be_used(text: str) -> None:
    assert not Url.parse(text).is_plain


@pytest.mark.parametrize("text", ["http://erp.example", "http://10.0.0.1/", "http://localhost.example/", "http://[2001:db8::1]/"])
def test_an_address_that_can_be_listened_to(text: str) -> None:
    assert Url.parse(text).is_plain


@pytest.mark.parametrize(
    "text", ["", "erp", "//erp", "https://", "https:///x", "file:///etc", "https://a b/", "https://a/\n", "https://[::1", None]
)
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(ValueError):
        Url.parse(text)


def test_which_hosts_are_this_machine_or_meant_exactly() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "erp")] == [True] * 4 + [False] * 2
    assert [is_literal(host) for host in ("10.0.0.1", "::1", "localhost", "erp.example")] == [True] * 3 + [False]


# --- decode


def test_key_paths_read_as_people_write_them() -> None:
    assert dotted(("sources", "acme", "doors", 0)) == "sources.acme.doors[0]"
    assert dotted(("targets", "erp", "headers", "X Y")) == 'targets.erp.headers."X Y"'


def test_a_struct_is_read_from_its_table_and_from_nothing_else() -> None:
    report = Report({}, Path("/f"))
    assert decode(GatewaySettings, {"node": "n"}, ("gateway",), report) == GatewaySettings(node="n")
    assert decode(GatewaySettings, 5, ("gateway",), report) is None
    assert report.problems == ["/f:1: gateway: must be a table, as in [gateway]"]


# --- etc/gateway.toml


@pytest.fixture
def apicbase(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The connector, whether or not it is installed."""
    folder = ROOT / "plugins/apicbase"
    if not (folder / "gateway_apicbase").is_dir():
        pytest.skip("plugins/apicbase is not here")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("gateway_apicbase")
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "gateway_apicbase":
            del sys.modules[name]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the file that people start from, with credentials as the unit gives them."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    for name in ("erp-token", "apicbase-webhook", "apicbase-client"):
        (tmp_path / "run" / f"secrets_{name}").write_text(name)
    (tmp_path / "erp-ca.pem").write_text(AUTHORITY)
    made = certificate(tmp_path)
    made.pem.rename(tmp_path / "gateway.pem")
    made.key.rename(tmp_path / "gateway.key")
    (tmp_path / "run" / "secrets_gateway-key").write_text("not encrypted")
    (tmp_path / "erp.jsonata").write_text('{"number": order.order_number, "lines": [order.lines.{"sku": article_number}]}')
    (tmp_path / "erp.schema.json").write_text('{"type": "object", "required": ["number", "lines"]}')
    (tmp_path / "order.json").write_text('{"order_number": "1", "lines": [{"line_number": 1, "article_number": "A"}]}')
    copy = tmp_path / "gateway.toml"
    copy.write_text((ROOT / "etc/gateway.toml").read_text("utf-8"))
    return copy


_UNUSED = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def test_the_example_loads_as_it_is(example: Path, apicbase: Any) -> None:
    assembly = assemble(example, plugins(apicbase=apicbase))
    assert assembly.sources["apicbase"].doors == ("webhook", "poll")
    assert isinstance(assembly.targets["erp"].auth, Bearer)


def test_every_unused_line_of_the_example_can_be_used(example: Path, apicbase: Any) -> None:
    text = example.read_text()
    assert len(_UNUSED.findall(text)) > 40
    example.write_text(_UNUSED.sub("", text))
    assert assemble(example, plugins(apicbase=apicbase)).targets["erp"].ca_file == example.parent / "erp-ca.pem"


def test_an_unused_line_of_the_example_shows_the_default(example: Path, apicbase: Any) -> None:
    """Unless the text above it says `for instance`, or says what the default is."""
    text = example.read_text()
    plain = assemble(example, plugins(apicbase=apicbase))
    for paragraph in text.split("\n\n"):
        if _UNUSED.search(paragraph) and not re.search(r"for\s(#\s)?instance|Default: ", paragraph, re.IGNORECASE):
            example.write_text(text.replace(paragraph, _UNUSED.sub("", paragraph)))
            assert _parts(assemble(example, plugins(apicbase=apicbase))) == _parts(plain), paragraph


def _parts(assembly: Assembly) -> list[dict[str, Any]]:
    config = assembly.config
    structs = [config.gateway, config.store, config.http, config.admin, *assembly.targets.values()]
    structs += [source.connector.settings for source in assembly.sources.values()]
    structs += [msgspec.structs.replace(source, settings={}) for source in config.sources.values()]
    return [{name: repr(value) for name, value in msgspec.structs.asdict(struct).items()} for struct in structs]


def test_the_example_shows_every_setting_there_is(example: Path, apicbase: Any) -> None:
    text = _UNUSED.sub("", example.read_text())
    settings = apicbase.describe().settings
    for struct in (GatewaySettings, StoreSettings, HttpSettings, AdminSettings, TargetSettings, SourceSettings, settings):
        for field in msgspec.structs.fields(struct):
            shown = re.search(rf"^{field.encode_name} = |^\[sources\.[a-z]+\.{field.encode_name}\]", text, re.MULTILINE)
            assert shown, f"{struct.__name__}.{field.encode_name} is missing in etc/gateway.toml"


def test_the_example_without_credentials_says_where_they_go(example: Path, apicbase: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError) as caught:
        assemble(example, plugins(apicbase=apicbase))
    assert len(caught.value.problems) == 3
    for problem in caught.value.problems:
        assert f"put the file into {example.parent}/credentials" in problem
