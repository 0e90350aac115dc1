"""`[submit]`: who may submit which commands, and what `gateway check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api.errors import ConfigError
from gateway.service.assembly import Assembly, assemble, needs_restart
from tests import acme, pharma
from tests.conftest import plugins

ONE, TWO = "1a" * 32, "2B" * 32
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def read(folder: Path, submit: str = "", settings: str = "") -> Assembly:
    (folder / "gateway.toml").write_text(f"""
[http]
listen = "127.0.0.1:8080"
[targets.erp]
url = "https://erp.example/orders"
[sources.pharmacy]
connector = "pharma"
[sources.pharmacy.settings]
{settings}
[sources.shop]
connector = "acme"
doors = ["poll"]
{submit}
""")
    return assemble(folder / "gateway.toml", plugins(pharma=pharma, acme=acme))


def caller(name: str = "erp", sha256: str = ONE, commands: str = '["pharmacy/*"]', more: str = "") -> str:
    return f'[submit.callers.{name}]\ntoken_sha256 = "{sha256}"\ncommands = {commands}\n{more}\n'


def problems(folder: Path, submit: str, settings: str = "") -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, submit, settings)
    return [problem.split(": ", 1)[1] for problem in refused.value.problems]


def test_without_a_caller_there_is_nothing_to_listen_for(tmp_path: Path) -> None:
    submit = read(tmp_path).config.submit
    assert (submit.address, submit.max_body_bytes, submit.callers) == (("127.0.0.1", 8082), 262144, {})


def test_callers_and_what_they_may_hand_in(tmp_path: Path) -> None:
    text = caller() + caller("shop-till", TWO, '["pharmacy/create_order", "pharmacy/publish_event"]', "max_requests_per_second = 3")
    callers = read(tmp_path, text, 'event_url = "https://x.example"').config.submit.callers
    assert callers["erp"].commands == ("pharmacy/*",)
    assert (callers["shop-till"].token_sha256, callers["shop-till"].max_requests_per_second) == (TWO, 3)


CASES = {
    "no hash": (caller(sha256="secret"), "submit.callers.erp.token_sha256: must be 64 of the characters 0-9 and a-f; `gateway token`"),
    "a short hash": (caller(sha256=ONE[1:]), "submit.callers.erp.token_sha256: must be 64"),
    "the hash of nothing": (caller(sha256=NOBODY), "submit.callers.erp.token_sha256: is the hash of an empty text"),
    "no commands": (caller(commands="[]"), "submit.callers.erp.commands: is empty, so the caller may do nothing"),
    "a pattern of one word": (caller(commands='["pharmacy"]'), 'submit.callers.erp.commands[0]: must be "SOURCE/COMMAND"'),
    "a pattern of three": (caller(commands='["pharmacy/a/b"]'), 'submit.callers.erp.commands[0]: must be "SOURCE/COMMAND"'),
    "everything": (caller(commands='["*/*"]'), "submit.callers.erp.commands[0]: there is no [sources.*]; there is pharmacy, shop"),
    "no such source": (
        caller(commands='["pharmacy/*", "farmacy/*"]'),
        "submit.callers.erp.commands[1]: there is no [sources.farmacy]; did you mean pharmacy?",
    ),
    "no such command": (
        caller(commands='["pharmacy/creat_order"]'),
        "submit.callers.erp.commands[0]: the source pharmacy takes no command 'creat_order'; did you mean create_order?",
    ),
    "a command that is not switched on": (
        caller(commands='["pharmacy/publish_event"]'),
        "submit.callers.erp.commands[0]: is there only with the key event_url in [sources.pharmacy.settings]",
    ),
    "a source without commands": (caller(commands='["shop/*"]'), "submit.callers.erp.commands[0]: the source shop takes no command"),
    "a pattern twice": (
        caller(commands='["pharmacy/*", "pharmacy/*"]'),
        "submit.callers.erp.commands[1]: pharmacy/* appears twice; keep one of them",
    ),
    "a bad name": (caller('"the ERP"'), 'submit.callers."the ERP": a name has a-z, 0-9'),
    "the operator": (caller("operator"), "submit.callers.operator: is the name under which `gateway submit`"),
    "the network": ('[submit]\nlisten = "0.0.0.0:8082"', "submit.listen: opens the command API to the network; set allow_remote = true"),
    "the address of the vendors' side": (
        '[submit]\nlisten = "127.0.0.1:8080"\n' + caller(),
        "submit.listen: is the address of http.listen (127.0.0.1:8080) too; give it another port",
    ),
    "the address of the operators' side": (
        '[submit]\nlisten = "127.0.0.1:8081"\n' + caller(),
        "submit.listen: is the address of admin.listen (127.0.0.1:8081) too; give it another port",
    ),
    "a body limit of nothing": ("[submit]\nmax_body_bytes = 10", "submit.max_body_bytes: must be at least 1024"),
    "an unknown key": (caller(more="token = 1"), "submit.callers.erp.token: is not a key of this table"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_caller_is_told_what_to_do(tmp_path: Path, name: str) -> None:
    text, said = CASES[name]
    (problem,) = problems(tmp_path, text)
    assert said in problem


def test_two_callers_may_not_have_one_token(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, caller("one", TWO) + caller("two", TWO.lower()))
    assert problem.startswith("submit.callers.two.token_sha256: is the token of [submit.callers.one] too")


def test_a_source_with_a_problem_of_its_own_is_reported_once(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, caller(), "base_urll = 1")
    assert problem.startswith("sources.pharmacy.settings.base_urll: is not a key")


def test_an_address_that_nobody_listens_on_collides_with_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, '[submit]\nlisten = "127.0.0.1:8080"').config.submit.callers == {}


def test_callers_change_with_a_reload_and_the_listener_with_a_restart(tmp_path: Path) -> None:
    before = read(tmp_path, caller()).config
    assert not needs_restart(before, read(tmp_path, caller("other", TWO)).config)
    assert not needs_restart(before, read(tmp_path).config)
    for change in ('listen = "127.0.0.1:8083"', "max_body_bytes = 2048", "max_connections = 7"):
        assert needs_restart(before, read(tmp_path, f"[submit]\n{change}\n" + caller()).config)
