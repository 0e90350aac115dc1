"""`[targets.NAME]`: the defaults of CONTRACT section 3, and what is refused with which key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway.config.decode import decode
from gateway.config.report import Report
from gateway.targets.auth_settings import Basic, Bearer, Header, NoAuth
from gateway.targets.settings import TargetSettings
from tests.raw_server import certificate


def read(text: str, folder: Path) -> tuple[TargetSettings | None, list[str]]:
    report = Report({}, folder / "gateway.toml")
    made = decode(TargetSettings, tomllib.loads(text), ("targets", "erp"), report)
    return made, [problem.split(": ", 1)[1] for problem in report.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "lines").write_text("two\nlines\n")
    (tmp_path / "not.pem").write_text("not a certificate")
    return tmp_path


URL = 'url = "https://erp.example/orders"\n'
TOKEN = '{ file = "token" }'


def test_an_address_is_enough(folder: Path) -> None:
    made, problems = read(URL, folder)
    assert problems == []
    assert made is not None
    assert (made.method, made.auth, made.headers, made.concurrency) == ("POST", NoAuth(), {}, 8)
    assert (made.connect_timeout_s, made.read_timeout_s, made.ca_file) == (5, 60, None)
    assert (made.retry.base_s, made.retry.cap_s, made.retry.max_age_s) == (2, 900, 604800)
    assert (made.breaker.failures, made.breaker.cooldown_s, made.idempotency.strategy) == (5, 30, "header")
    assert set(made.accepts) == {"order.placed", "order.revised", "order.cancelled", "order.status"}


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        ('{ kind = "none" }', NoAuth),
        (f'{{ kind = "basic", username = "u", password = {TOKEN} }}', Basic),
        (f'{{ kind = "bearer", token = {TOKEN} }}', Bearer),
        (f'{{ kind = "header", name = "DOLAPIKEY", value = {TOKEN} }}', Header),
        (f'{{ kind = "header", name = "Authorization", value = {TOKEN}, prefix = "token" }}', Header),
    ],
)
def test_every_kind_of_credentials_is_read(folder: Path, auth: str, kind: type) -> None:
    made, problems = read(URL + f"auth = {auth}", folder)
    assert problems == []
    assert made is not None
    assert isinstance(made.auth, kind)
    assert "s3cret" not in repr(made)


def test_a_certificate_to_trust_is_read_relative_to_the_file(folder: Path) -> None:
    certificate(folder)
    made, problems = read(URL + 'ca_file = "2.pem"', folder)
    assert problems == []
    assert made is not None
    assert made.ca_file == folder / "2.pem"


REFUSED: dict[str, tuple[str, str]] = {
    "no address": ("", "targets.erp: "),
    "a plain address": ('url = "http://erp.example/"', "targets.erp.url: would be sent unencrypted"),
    "an address that is none": ('url = "erp.example"', "targets.erp.url: must be an absolute address"),
    "a password in the address": ('url = "https://u:p@erp.example/"', "targets.erp.url: may not hold a user name"),
    "another method": (URL + 'method = "GET"', "targets.erp.method: "),
    "an unknown key": (URL + "timeout = 5", "targets.erp.timeout: "),
    "an unknown kind of credentials": (URL + 'auth = { kind = "digest" }', "targets.erp.auth.kind: must be one of"),
    "a bare token": (URL + 'auth = { kind = "bearer", token = "s3cret" }', "targets.erp.auth.token: a secret may not stand in the file"),
    "a token of two lines": (URL + 'auth = { kind = "bearer", token = { file = "lines" } }', "targets.erp.auth.token: holds a line break"),
    "a header that is none": (URL + f'auth = {{ kind = "header", name = "a b", value = {TOKEN} }}', "targets.erp.auth.name: "),
    "credentials in a header of ours": (
        URL + f'auth = {{ kind = "header", name = "idempotency-key", value = {TOKEN} }}',
        "targets.erp.auth.name: idempotency-key is set by the gateway itself",
    ),
    "a colon in a user name": (URL + f'auth = {{ kind = "basic", username = "a:b", password = {TOKEN} }}', "targets.erp.auth.username: "),
    "a header of ours": (URL + 'headers = { idempotency-KEY = "x" }', "targets.erp.headers: idempotency-KEY is set by the gateway itself"),
    "a CloudEvents header": (URL + 'headers = { ce-id = "x" }', "targets.erp.headers: ce-id is set by the gateway itself"),
    "a credential in a header": (URL + 'headers = { authorization = "Bearer x" }', "targets.erp.headers: authorization would stand"),
    "a header name with a space": (URL + 'headers = { "a b" = "x" }', "targets.erp.headers: 'a b' is not a header"),
    "a header of two lines": (URL + 'headers = { X-A = "a\\nb" }', "targets.erp.headers: 'X-A' is not a header"),
    "nothing accepted": (URL + "accepts = []", "targets.erp.accepts: is empty"),
    "an unknown kind accepted": (URL + 'accepts = ["order.lost"]', "targets.erp.accepts[0]: "),
    "no concurrency": (URL + "concurrency = 0", "targets.erp.concurrency: "),
    "too much concurrency": (URL + "concurrency = 257", "targets.erp.concurrency: "),
    "no time at all": (URL + "read_timeout_s = 0", "targets.erp.read_timeout_s: "),
    "time that runs backwards": (URL + "connect_timeout_s = -1", "targets.erp.connect_timeout_s: "),
    "time without end": (URL + "read_timeout_s = inf", "targets.erp.read_timeout_s: "),
    "time that is no number": (URL + "read_timeout_s = nan", "targets.erp.read_timeout_s: "),
    "a cap below the base": (URL + "retry = { base_s = 10, cap_s = 5 }", "targets.erp.retry.cap_s: must not be below"),
    "a cap above a day": (URL + "retry = { cap_s = 86401 }", "targets.erp.retry.cap_s: must be at most a day"),
    "another strategy": (URL + 'idempotency = { strategy = "sometimes" }', "targets.erp.idempotency.strategy: "),
    "a missing ca_file": (URL + 'ca_file = "missing.pem"', "targets.erp.ca_file: "),
    "a ca_file that is none": (URL + 'ca_file = "not.pem"', "targets.erp.ca_file: "),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_with_its_key(folder: Path, text: str, problem: str) -> None:
    made, problems = read(text, folder)
    assert made is None
    assert [found for found in problems if found.startswith(problem)], problems
    assert not [found for found in problems if "s3cret" in found or "Bearer x" in found]


def test_every_problem_is_said_at_once(folder: Path) -> None:
    _, problems = read(URL + "concurrency = 0\nread_timeout_s = 0\nnonsense = 1\nretry = { base_s = 0 }", folder)
    assert len(problems) == 4


def test_plain_http_is_for_this_machine_or_on_demand(folder: Path) -> None:
    for url, more in (
        ("http://127.0.0.1/", ""),
        ("http://localhost:9/", ""),
        ("http://[::1]/", ""),
        ("http://erp.example/", "allow_plain_http = true"),
    ):
        made, problems = read(f'url = "{url}"\n{more}', folder)
        assert (problems, made is None) == ([], False)
