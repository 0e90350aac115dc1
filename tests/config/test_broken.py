"""Wrong configurations: `gateway check` names file, line and key of every problem and what to do, and exits with 2.

The line that a problem belongs to carries the comment `#!` in the case; the expectations stand in the order of the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from gateway.cli.main import main
from gateway.plugin.discovery import Plugin
from gateway.service import assembly
from tests import acme

SECRET = "s3cr3t-canary-word"
Check = Callable[[], tuple[int, list[str]]]

PARTS = {
    "gateway": '[gateway]\ndata_dir = "data"',
    "store": "[store]\nreserve_bytes = 0",
    "http": '[http]\nlisten = "127.0.0.1:0"',
    "admin": '[admin]\nlisten = "127.0.0.1:0"',
    "target": '[targets.erp]\nurl = "https://erp.example/orders"',
    "source": '[sources.acme]\nconnector = "acme"',
    "settings": '[sources.acme.settings]\nsecret = { file = "secret" }',
}


class Case(NamedTuple):
    """Parts of the file to replace, and `key: words` of each problem; words are joined by ` ... `."""

    parts: dict[str, str]
    problems: tuple[str, ...]


def case(*problems: str, **parts: str) -> Case:
    return Case(parts, problems)


CASES = {
    # what is missing altogether
    "no source": case("sources: there is none ... [sources.NAME]", source="", settings=""),
    "no target": case("targets: there is none ... [targets.NAME]", target=""),
    "target without url": case("targets.erp: needs the key url", target='[targets.erp] #!\nmethod = "POST"'),
    "source without connector": case("sources.acme: needs the key connector", source='[sources.acme] #!\non_revision = "send"'),
    "bearer without token": case(
        "targets.erp.auth: needs the key token", target='[targets.erp]\nurl = "https://erp.example"\nauth = { kind = "bearer" } #!'
    ),
    # unknown keys
    "unknown table": case("sourcs: is not a table ... did you mean sources?", gateway="[sourcs.x] #!"),
    "unknown key": case("http.lissten: is not a key ... did you mean listen?", http='[http]\nlissten = "127.0.0.1:0" #!'),
    "unknown key far from any": case("gateway.xyzzy: is not a key ... there is data_dir, node", gateway="[gateway]\nxyzzy = 1 #!"),
    "unknown key of a target": case(
        "targets.erp.read_timeout: is not a key ... did you mean read_timeout_s?",
        target='[targets.erp]\nurl = "https://erp.example"\nread_timeout = 5 #!',
    ),
    "unknown key of a connector": case(
        "sources.acme.settings.secrets: is not a key ... did you mean secret?",
        "sources.acme.settings.poll_interval: is not a key ... did you mean poll_interval_s?",
        settings='[sources.acme.settings]\nsecrets = { file = "secret" } #!\npoll_interval = 5 #!',
    ),
    "unknown key in an inline table": case(
        "targets.erp.retry.base: is not a key ... did you mean base_s?",
        target='[targets.erp]\nurl = "https://erp.example"\n\nretry = { base = 2 } #!',
    ),
    "table in the wrong place": case("acme: is not a table ... there is admin, gateway", gateway='[acme.settings] #!\nsecret = "x"'),
    # names
    "bad source name": case(
        'sources."Acme Shop": a name has a-z, 0-9',
        source='[sources."Acme Shop"] #!\nconnector = "acme"\nsettings = { secret = { file = "secret" } }',
        settings="",
    ),
    "bad target name": case("targets.ERP: a name has a-z", target='[targets.ERP] #!\nurl = "https://erp.example"'),
    "unknown connector": case(
        "sources.acme.connector: no connector 'acne' is installed; did you mean acme?", source='[sources.acme]\nconnector = "acne" #!'
    ),
    "unknown target": case(
        "sources.acme.targets[1]: there is no [targets.erb]; did you mean erp?",
        source='[sources.acme]\nconnector = "acme"\ntargets = [\n  "erp",\n  "erb", #!\n]',
    ),
    "target twice": case(
        "sources.acme.targets[1]: erp appears twice", source='[sources.acme]\nconnector = "acme"\ntargets = ["erp", "erp"] #!'
    ),
    "no target of all": case(
        "sources.acme.targets: is empty ... leave it out", source='[sources.acme]\nconnector = "acme"\ntargets = [] #!'
    ),
    # doors
    "no door of all": case("sources.acme.doors: is empty ... leave it out", source='[sources.acme]\nconnector = "acme"\ndoors = [] #!'),
    "unknown door": case(
        "sources.acme.doors[0]: must be one of webhook, poll, realtime; did you mean webhook?",
        source='[sources.acme]\nconnector = "acme"\ndoors = ["web-hook"] #!',
    ),
    "door that the connector lacks": case(
        "sources.acme.doors[1]: acme has no door realtime; it has webhook, poll",
        source='[sources.acme]\nconnector = "acme"\ndoors = ["poll", "realtime"] #!',
    ),
    "door without its settings": case(
        "sources.acme.settings: needs the key secret for the door webhook, or leave the door out of `doors`",
        settings="[sources.acme.settings] #!\npoll_interval_s = 60",
    ),
    "door without any settings": case(
        "sources.acme.settings: needs the key secret for the door webhook", source='[sources.acme] #!\nconnector = "acme"', settings=""
    ),
    # addresses
    "not an address": case("targets.erp.url: must be an absolute address, as in", target='[targets.erp]\nurl = "erp.example/orders" #!'),
    "another scheme": case("targets.erp.url: must be an absolute address", target='[targets.erp]\nurl = "ftp://erp.example" #!'),
    "address with a bad port": case(
        "targets.erp.url: is not an address: its host or port", target='[targets.erp]\nurl = "https://erp.example:80x80/" #!'
    ),
    "address with a password": case(
        "targets.erp.url: may not hold a user name or password; use the auth settings",
        target=f'[targets.erp]\nurl = "https://me:{SECRET}@erp.example/" #!',
    ),
    "address with a space": case(
        "targets.erp.url: must be an absolute address", target='[targets.erp]\nurl = "https://erp.example/a b" #!'
    ),
    "address that is no text": case("targets.erp.url: must be a text, as in", target="[targets.erp]\nurl = 8080 #!"),
    "plain http": case(
        "targets.erp.url: would be sent unencrypted; use https, or set allow_plain_http = true next to it",
        target='[targets.erp]\nurl = "http://erp.example/orders" #!',
    ),
    "plain http to the vendor": case(
        "sources.acme.settings.base_url: would be sent unencrypted; use https, or set allow_plain_http = true",
        settings='[sources.acme.settings]\nsecret = { file = "secret" }\nbase_url = "http://192.0.2.1/" #!',
    ),
    "plain http to what only looks like loopback": case(
        "targets.erp.url: would be sent unencrypted", target='[targets.erp]\nurl = "http://127.0.0.1.example/" #!'
    ),
    # listening
    "listen without a port": case('http.listen: must be "address:port", as in', http='[http]\nlisten = "127.0.0.1" #!'),
    "listen on no such port": case('http.listen: must be "address:port"', http='[http]\nlisten = "127.0.0.1:99999" #!'),
    "listen with a number": case('http.listen: must be a text, as in "text"', http="[http]\nlisten = 8080 #!"),
    "pages open to the network": case(
        "admin.listen: opens the operators' side to the network; set allow_remote = true", admin='[admin]\nlisten = "0.0.0.0:8081" #!'
    ),
    "both sides on one address": case(
        "admin.listen: is the address of http.listen (0.0.0.0:8080) too; give it another port",
        http='[http]\nlisten = "0.0.0.0:8080"',
        admin='[admin]\nlisten = "127.0.0.1:8080" #!',
    ),
    "a proxy that is no address": case(
        "http.trusted_proxies: must be addresses or networks, as in", http='[http]\ntrusted_proxies = ["proxy.example"] #!'
    ),
    "a network with bits behind its mask": case("http.trusted_proxies: must be", http='[http]\ntrusted_proxies = ["10.0.0.1/8"] #!'),
    "less room than a body needs": case(
        "http.max_unfinished_bytes: must be at least twice max_body_bytes", http="[http]\nmax_unfinished_bytes = 1048576 #!"
    ),
    "no time at all to read an answer": case("http.write_timeout_s: must be", http="[http]\nwrite_timeout_s = 0 #!"),
    # numbers and kinds
    "negative duration": case(
        "targets.erp.connect_timeout_s: must be more than 0", target='[targets.erp]\nurl = "https://e.example"\nconnect_timeout_s = -1 #!'
    ),
    "no duration at all": case(
        "targets.erp.read_timeout_s: must be more than 0", target='[targets.erp]\nurl = "https://e.example"\nread_timeout_s = 0 #!'
    ),
    "endless duration": case(
        "targets.erp.read_timeout_s: must be a finite number", target='[targets.erp]\nurl = "https://e.example"\nread_timeout_s = inf #!'
    ),
    "absurd duration": case(
        "targets.erp.read_timeout_s: must be at most 315360000",
        target='[targets.erp]\nurl = "https://e.example"\nread_timeout_s = 1e300 #!',
    ),
    "duration as a text": case(
        "targets.erp.read_timeout_s: must be a number, as in 1.5",
        target='[targets.erp]\nurl = "https://e.example"\nread_timeout_s = "60" #!',
    ),
    "half a request at a time": case(
        "targets.erp.concurrency: must be a whole number, as in 10", target='[targets.erp]\nurl = "https://e.example"\nconcurrency = 0.5 #!'
    ),
    "too many requests at a time": case(
        "targets.erp.concurrency: must be at most 256", target='[targets.erp]\nurl = "https://e.example"\nconcurrency = 1000 #!'
    ),
    "tiny bodies": case("http.max_body_bytes: must be at least 1024", http='[http]\nlisten = "127.0.0.1:0"\nmax_body_bytes = 0 #!'),
    "bodies kept for ever": case("store.keep_bodies_days: must be at most 36500", store="[store]\nkeep_bodies_days = 99999999999 #!"),
    "negative reserve": case("store.reserve_bytes: must be at least 0", store="[store]\nreserve_bytes = -5 #!"),
    "a text for yes or no": case(
        "targets.erp.allow_plain_http: must be true or false",
        target='[targets.erp]\nurl = "https://e.example"\nallow_plain_http = "yes" #!',
    ),
    "one name where a list belongs": case(
        "sources.acme.targets: must be a list", source='[sources.acme]\nconnector = "acme"\ntargets = "erp" #!'
    ),
    "a value where a table belongs": case("gateway: must be a table, as in [gateway]", gateway='gateway = "gw-1" #!'),
    "a value where named tables belong": case("targets: must be tables, as in [targets.NAME]", gateway='targets = "erp" #!', target=""),
    "a list of sources": case("sources: must be tables, as in [sources.NAME]", source='[[sources]] #!\nconnector = "acme"', settings=""),
    "a value where a source belongs": case(
        "sources.acme: must be a table, as in [sources.acme]", source='[sources]\nacme = "acme" #!', settings=""
    ),
    "a value where a target belongs": case(
        "targets.erp: must be a table, as in [targets.erp]", target='[targets]\nerp = "https://erp.example" #!'
    ),
    "a header that is a number": case(
        "targets.erp.headers.X-Company: must be a text", target='[targets.erp]\nurl = "https://e.example"\nheaders = { X-Company = 1 } #!'
    ),
    "another word": case(
        "sources.acme.on_revision: must be one of hold, replace, send; did you mean replace?",
        source='[sources.acme]\nconnector = "acme"\non_revision = "replaces" #!',
    ),
    "another kind of message": case(
        "targets.erp.accepts[0]: must be one of order.placed, order.revised, order.cancelled, order.status; did you mean order.placed?",
        target='[targets.erp]\nurl = "https://e.example"\naccepts = ["order.place"] #!',
    ),
    "no kind of message": case(
        "targets.erp.accepts: is empty ... leave it out", target='[targets.erp]\nurl = "https://e.example"\naccepts = [] #!'
    ),
    "another strategy": case(
        "targets.erp.idempotency.strategy: must be one of header",
        target='[targets.erp]\nurl = "https://e.example"\nidempotency = { strategy = "sometimes" } #!',
    ),
    "cap below base": case(
        "targets.erp.retry.cap_s: must not be below base_s (10)",
        target='[targets.erp]\nurl = "https://e.example"\nretry = { base_s = 10, cap_s = 5 } #!',
    ),
    # the store
    "another store": case(
        'store.url: must be "sqlite:FILE" ... this version has no other store', store='[store]\nurl = "postgresql://u@h/db" #!'
    ),
    "store elsewhere": case(
        "store.url: must name a file in gateway.data_dir, without a folder", store='[store]\nurl = "sqlite:/srv/gateway.db" #!'
    ),
    "data_dir is no path": case('gateway.data_dir: must be a path, as in "/', gateway="[gateway]\ndata_dir = 5 #!"),
    # authentication
    "unknown kind of authentication": case(
        "targets.erp.auth.kind: must be one of none, basic, bearer, header, oauth2, oauth1, session; did you mean bearer?",
        target='[targets.erp]\nurl = "https://e.example"\nauth = { kind = "barer", token = { file = "secret" } } #!',
    ),
    "authentication without a kind": case(
        "targets.erp.auth.kind: must be one of none, basic, bearer, header",
        target='[targets.erp]\nurl = "https://e.example"\nauth = { token = { file = "secret" } } #!',
    ),
    "authentication as a text": case(
        "targets.erp.auth: must be a table", target='[targets.erp]\nurl = "https://e.example"\nauth = "bearer" #!'
    ),
    "a token among the headers": case(
        "targets.erp.headers: Authorization would stand in the file for all to read; use auth",
        target=f'[targets.erp]\nurl = "https://e.example"\nheaders = {{ Authorization = "Bearer {SECRET}" }} #!',
    ),
    "a header of our own": case(
        "targets.erp.headers: Idempotency-Key is set by the gateway itself",
        target='[targets.erp]\nurl = "https://e.example"\nheaders = { Idempotency-Key = "1" } #!',
    ),
    "a header that breaks the line": case(
        "targets.erp.headers: 'X' is not a header that HTTP can carry",
        target='[targets.erp]\nurl = "https://e.example"\nheaders = { X = "a\\r\\nb" } #!',
    ),
    "no such authority": case(
        "targets.erp.ca_file: ... /ca.pem is no PEM file ... export it as PEM",
        target='[targets.erp]\nurl = "https://e.example"\nca_file = "ca.pem" #!',
    ),
    "an authority that is none": case(
        "targets.erp.ca_file: ... /secret is no PEM file", target='[targets.erp]\nurl = "https://e.example"\nca_file = "secret" #!'
    ),
    # secrets
    "a bare secret": case(
        'sources.acme.settings.secret: a secret may not stand in the file itself; refer to it: { env = "NAME" }',
        settings=f'[sources.acme.settings]\nsecret = "{SECRET}" #!',
    ),
    "a secret of another kind": case(
        'sources.acme.settings.secret: must be a reference: { env = "NAME" }, { file = "/path" } or { credential = "name" }',
        settings='[sources.acme.settings]\nsecret = { vault = "x" } #!',
    ),
    "a secret of two kinds": case(
        "sources.acme.settings.secret: must be a reference",
        settings='[sources.acme.settings]\nsecret = { env = "A", file = "secret" } #!',
    ),
    "a secret without a name": case(
        "sources.acme.settings.secret: env must be a name", settings="[sources.acme.settings]\nsecret = { env = 5 } #!"
    ),
    "no such variable": case(
        "sources.acme.settings.secret: the environment has no variable NO_SUCH",
        settings='[sources.acme.settings]\nsecret = { env = "NO_SUCH" } #!',
    ),
    "an empty variable": case(
        "sources.acme.settings.secret: the secret is empty: env EMPTY", settings='[sources.acme.settings]\nsecret = { env = "EMPTY" } #!'
    ),
    "no such secret file": case(
        "sources.acme.settings.secret: cannot read ... /gone: No such file",
        settings='[sources.acme.settings]\nsecret = { file = "gone" } #!',
    ),
    "a folder for a secret": case(
        "sources.acme.settings.secret: cannot read ... Is a directory", settings='[sources.acme.settings]\nsecret = { file = "." } #!'
    ),
    "an empty secret file": case(
        "sources.acme.settings.secret: the secret is empty: file empty", settings='[sources.acme.settings]\nsecret = { file = "empty" } #!'
    ),
    "a binary secret file": case(
        "sources.acme.settings.secret: cannot read ... binary: not UTF-8 text",
        settings='[sources.acme.settings]\nsecret = { file = "binary" } #!',
    ),
    "no such credential": case(
        "sources.acme.settings.secret: there is no credential acme-secret; put the file into ... /credentials",
        settings='[sources.acme.settings]\nsecret = { credential = "acme-secret" } #!',
    ),
    "a credential that is a path": case(
        "sources.acme.settings.secret: credential '../secret' must be the name of a file",
        settings='[sources.acme.settings]\nsecret = { credential = "../secret" } #!',
    ),
    "a token of two lines": case(
        "targets.erp.auth.token: holds a line break ... (file two-lines)",
        target='[targets.erp]\nurl = "https://e.example"\nauth = { kind = "bearer", token = { file = "two-lines" } } #!',
    ),
    "the user name of a basic login": case(
        "targets.erp.auth.username: may not hold a colon",
        target='[targets.erp]\nurl = "https://e.example"\nauth = { kind = "basic", username = "a:b", password = { file = "secret" } } #!',
    ),
    # a wrong key hides no other
    "a wrong key of a source and one of its settings": case(
        "sources.acme.on_revison: is not a key ... did you mean on_revision?",
        "sources.acme.settings.poll_interval_s: must be more than 0",
        source='[sources.acme]\nconnector = "acme"\non_revison = "hold" #!',
        settings='[sources.acme.settings]\nsecret = { file = "secret" }\npoll_interval_s = 0 #!',
    ),
    "a wrong value of a source and what a door needs": case(
        "sources.acme.answer_wait_s: must be at most 60",
        "sources.acme.settings: needs the key secret for the door webhook",
        source='[sources.acme]\nconnector = "acme"\nanswer_wait_s = 99 #!',
        settings="[sources.acme.settings] #!\npolls = true",
    ),
    "a wrong key of a connector and what a door needs": case(
        "sources.acme.settings: needs the key secret for the door webhook",
        "sources.acme.settings.currency: is not a key",
        settings="[sources.acme.settings] #!\ncurrency = 1 #!",
    ),
    "a wrong key of a target and what several keys say together": case(
        "targets.erp.read_timeout: is not a key",
        "targets.erp.idempotency: ... preflight",
        target='[targets.erp]\nurl = "https://e.example"\nread_timeout = 5 #!\nidempotency = { strategy = "lookup" } #!',
    ),
    "a wrong value of a target and what others say together": case(
        "targets.erp.concurrency: must be",
        "targets.erp.ca_file: ... is no PEM file",
        "targets.erp.auth.username: may not hold a colon",
        target='[targets.erp]\nurl = "https://e.example"\nconcurrency = 0 #!\nca_file = "secret" #!\n'
        'auth = { kind = "basic", username = "a:b", password = { file = "secret" } } #!',
    ),
    "what cannot be used, and what only speaks of it": case(
        "targets.erp.client_key: must be the path of a PEM file",
        target='[targets.erp]\nurl = "https://e.example"\nclient_key = 1 #!',
    ),
    # several at once
    "problems everywhere": case(
        "gateway.node: must be a text",
        "store.url: must be",
        "http.listen: must be",
        "admin.listne: is not a key ... did you mean listen?",
        "targets.erp.url: would be sent unencrypted",
        "targets.erp.auth.token: there is no credential",
        "sources.acme.doors[0]: acme has no door realtime",
        "sources.acme.settings.secret: a secret may not stand in the file itself",
        gateway="[gateway]\nnode = 1 #!",
        store='[store]\nurl = "mysql:x" #!',
        http='[http]\nlisten = "nowhere" #!',
        admin="[admin]\nlistne = 1 #!",
        target='[targets.erp]\nurl = "http://e.example" #!\nauth = { kind = "bearer", token = { credential = "x" } } #!',
        source='[sources.acme]\nconnector = "acme"\ndoors = ["realtime"] #!',
        settings='[sources.acme.settings]\nsecret = "x" #!',
    ),
}


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """`gateway check` on the file in `tmp_path`: exit code and what it says, line by line."""
    files: dict[str, str | bytes] = {"secret": SECRET, "empty": "\n", "binary": b"\xff\xfe\x00", "two-lines": f"{SECRET}\nand more\n"}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    install(monkeypatch, acme)

    def run() -> tuple[int, list[str]]:
        code = main(["check", "--config", str(tmp_path / "gateway.toml")])
        out, err = capsys.readouterr()
        assert [line for line in out.splitlines() if not line.startswith("WARNING")] == [] or code != 2
        assert "Traceback" not in err
        assert SECRET not in err
        return code, err.splitlines()

    return run


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None, problem: str | None = None) -> None:
    """Let the connector `acme` be the only installed one."""
    plugin = Plugin(name="acme", distribution="acme-plugin", version="1.2", module=module, problem=problem)
    monkeypatch.setattr(assembly, "installed", lambda **_: {"acme": plugin})


def write(folder: Path, parts: dict[str, str]) -> str:
    """The file of a case, every part separated by a blank line."""
    text = "\n\n".join({**PARTS, **parts}.values()) + "\n"
    (folder / "gateway.toml").write_text(text)
    return text


def test_the_file_that_the_cases_break_is_right(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    assert check() == (0, [])


@pytest.mark.parametrize("name", CASES)
def test_a_broken_configuration(name: str, check: Check, tmp_path: Path) -> None:
    broken = CASES[name]
    text = write(tmp_path, broken.parts)
    marked = [n for n, line in enumerate(text.splitlines(), 1) if "#!" in line]
    code, said = check()
    assert code == 2
    assert len(said) == len(broken.problems), said
    for n, (line, problem) in enumerate(zip(said, broken.problems, strict=True)):
        found = re.match(rf"{re.escape(str(tmp_path))}/gateway\.toml:(\d+): (.*)\Z", line)
        assert found, line
        assert int(found[1]) == (marked[n] if marked else 1), line
        key, words = problem.split(": ", 1)
        assert found[2].startswith(f"{key}: "), line
        at = 0
        for part in words.removeprefix("... ").split(" ... "):
            at = found[2].find(part, at)
            assert at >= 0, f"{part!r} is missing in {line!r}"


def test_a_connector_that_cannot_be_used_says_why(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None, "cannot be imported: ImportError: no module named nothing")
    write(tmp_path, {})
    code, said = check()
    assert code == 2
    assert "sources.acme.connector: the plugin acme-plugin 1.2 cannot be used: cannot be imported" in said[0]


def test_without_any_connector_it_says_so(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "installed", lambda **_: {})
    write(tmp_path, {})
    code, said = check()
    assert code == 2
    assert "no connector 'acme' is installed; there is none" in said[0]


# --- the file itself


def test_a_missing_file(check: Check, tmp_path: Path) -> None:
    assert check() == (2, [f"{tmp_path}/gateway.toml: cannot be read: No such file or directory; give another one with --config FILE"])


def test_a_folder_instead_of_a_file(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").mkdir()
    code, said = check()
    assert (code, said) == (2, [f"{tmp_path}/gateway.toml: cannot be read: Is a directory"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    (tmp_path / "gateway.toml").chmod(0)
    code, said = check()
    assert (code, said) == (2, [f"{tmp_path}/gateway.toml: cannot be read: Permission denied"])


def test_an_empty_file_says_what_to_add(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("")
    code, said = check()
    assert code == 2
    assert sorted(line.split(": ", 1)[1] for line in said) == [
        "sources: there is none, so nothing can come in; add a table [sources.NAME]",
        "targets: there is none, so nothing can go out; add a table [targets.NAME]",
    ]


def test_not_toml(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[gateway]\n\ndata_dir = "data\n')
    code, said = check()
    assert code == 2
    assert said[0].startswith(f"{tmp_path}/gateway.toml:3: not TOML: ")
    assert "a quote is missing" in said[0]


def test_a_key_twice_in_one_file(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[gateway]\nnode = "a"\nnode = "b"\n')
    code, said = check()
    assert code == 2
    assert said[0].startswith(f"{tmp_path}/gateway.toml:3: not TOML: ")
    assert "this key appears twice, keep one of them" in said[0]


def test_not_utf_8(check: Check, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_bytes('[gateway]\nnode = "Küche"\n'.encode("latin-1"))
    assert check() == (2, [f"{tmp_path}/gateway.toml:2: not UTF-8 text; save the file as UTF-8"])


def test_problems_of_a_file_with_windows_lines_are_on_the_right_line(check: Check, tmp_path: Path) -> None:
    text = write(tmp_path, {"http": "[http]\nlisten = 1 #!"})
    (tmp_path / "gateway.toml").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    code, said = check()
    assert code == 2
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "#!" in line)
    assert said == [f'{tmp_path}/gateway.toml:{line}: http.listen: must be a text, as in "text"']


# --- conf.d


def test_a_problem_in_conf_d_names_that_file(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    more(tmp_path, "20-erp.toml", "\n[targets.erp]\nread_timeout_s = -1\n")
    assert check() == (2, [f"{tmp_path}/conf.d/20-erp.toml:3: targets.erp.read_timeout_s: must be more than 0"])


def test_a_key_in_two_files_names_both(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    more(tmp_path, "20-erp.toml", '[targets.erp]\n\nurl = "https://other.example"\n')
    line = (tmp_path / "gateway.toml").read_text().splitlines().index('url = "https://erp.example/orders"') + 1
    assert check() == (
        2,
        [
            f"{tmp_path}/conf.d/20-erp.toml:3: targets.erp.url: is already in {tmp_path}/gateway.toml:{line}; keep one of them",
        ],
    )


def test_a_key_in_two_files_of_conf_d_names_both(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    more(tmp_path, "10.toml", '[gateway]\nnode = "a"\n')
    more(tmp_path, "20.toml", '[gateway]\nnode = "a"\n')
    code, said = check()
    assert code == 2
    assert said == [f"{tmp_path}/conf.d/20.toml:2: gateway.node: is already in {tmp_path}/conf.d/10.toml:2; keep one of them"]


def test_a_table_and_a_value_of_one_name_in_two_files(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    more(tmp_path, "20.toml", 'sources = "acme"\n')
    code, said = check()
    assert code == 2
    assert "conf.d/20.toml:1: sources: is already in" in said[0]


def test_a_file_of_conf_d_that_is_not_toml(check: Check, tmp_path: Path) -> None:
    write(tmp_path, {})
    more(tmp_path, "20.toml", "\n[gateway\n")
    code, said = check()
    assert code == 2
    assert said[0].startswith(f"{tmp_path}/conf.d/20.toml:2: not TOML: ")


def more(folder: Path, name: str, text: str) -> None:
    """A file of `conf.d`."""
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "conf.d" / name).write_text(text)
