"""Every file of `etc/targets/`, through a real gateway into that ERP's simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.order import Customer
from gateway.testing import ErpSimulator, erps
from gateway.testing.erps import ErpServer
from tests.erps.conftest import lines_of
from tests.erps.shop import TARGETS, Shop, installed, line, order


class Case(Struct, frozen=True):
    """One file and its simulator.

    Attributes:
        variables: What stands in `vars` instead, of the simulator's address.
        secrets: What each credential of the file holds.
        state: The ERP's word for an order that is done as the file says.
    """

    make: Callable[[], ErpServer]
    variables: Callable[[Any], dict[str, str]]
    secrets: Callable[[Any], dict[str, str]]
    state: str


def _odoo(kind: type[Any]) -> Callable[[], ErpServer]:
    def make() -> ErpServer:
        erp = kind()
        erp.price_digits, erp.quantity_digits = 4, 3
        return erp

    return make


def _netsuite(erp: Any) -> dict[str, str]:
    names = ("netsuite-consumer-key", "netsuite-consumer-secret", "netsuite-token", "netsuite-token-secret")
    return dict(zip(names, (*erp.consumer, *erp.token), strict=True))


def _central(erp: Any) -> dict[str, str]:
    return {"base": erp.address, "token_url": f"{erp.address}/{erp.tenant}/oauth2/v2.0/token", "client_id": erp.client_id}


S4 = "/sap/opu/odata/sap/API_SALES_ORDER_SRV"
CASES: dict[str, Case] = {
    "business-central": Case(erps.BusinessCentral, _central, lambda e: {"bc-secret": e.client_secret}, "Draft"),
    "business-one": Case(erps.BusinessOne, lambda e: {"base": f"{e.address}/b1s/v2"}, lambda e: {"b1-password": e.password}, "bost_Open"),
    "dolibarr": Case(erps.Dolibarr, lambda e: {"base": f"{e.address}/api/index.php"}, lambda e: {"dolibarr-key": e.key}, "validated"),
    "erpnext": Case(erps.ErpNext, lambda e: {"base": e.address}, lambda e: {"erpnext-key-secret": f"{e.key}:{e.secret}"}, "draft"),
    "netsuite": Case(erps.NetSuite, lambda e: {"base": e.address}, _netsuite, "Pending Fulfillment"),
    "odoo18": Case(_odoo(erps.Odoo18), lambda e: {"base": e.address}, lambda e: {"odoo-key": e.key}, "draft"),
    "odoo19": Case(_odoo(erps.Odoo19), lambda e: {"base": e.address}, lambda e: {"odoo-key": e.key}, "draft"),
    "s4hana": Case(erps.S4Hana, lambda e: {"base": e.address + S4}, lambda e: {"s4-password": e.password}, ""),
    "tryton": Case(erps.Tryton, lambda e: {"base": f"{e.address}/erp/rest/model"}, lambda e: {"tryton-key": e.key}, "quotation"),
}


class Bench:
    """A file, its ERP, and a gateway between a shop and it."""

    shop: Shop

    def __init__(self, name: str, case: Case, erp: Any, credentials: Path) -> None:
        self.looks_up = "[targets.erp.lookups.products]" in (TARGETS / f"{name}.toml").read_text("utf-8")
        self.case = case
        self.erp = erp
        self._credentials = credentials

    def put_right(self) -> None:
        """Write the credentials that the ERP knows."""
        for name, secret in self.case.secrets(self.erp).items():
            (self._credentials / name).write_text(secret + "\n")

    async def one(self, given: Any) -> dict[str, Any]:
        """Place an order; its row in the end."""
        await self.shop.place(given)
        return (await self.shop.settled(1))[0]


@asynccontextmanager
async def opened(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, options: bool = False, wrong: bool = False) -> Any:
    """A bench for one file.

    Args:
        options: With what stands behind `#:` in it.
        wrong: With credentials that the ERP does not know; `bench.put_right()` writes those that it does.
    """
    case = CASES[name]
    erp = case.make()
    await erp.start()
    credentials = folder / "credentials"
    credentials.mkdir()
    for secret in case.secrets(erp):
        (credentials / secret).write_text("wrong\n")
    made = Bench(name, case, erp, credentials)
    if not wrong:
        made.put_right()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    async with Shop(installed(folder, name, case.variables(erp), options=options)) as made.shop:
        yield made
    await erp.stop()


@pytest.fixture(params=CASES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with opened(request.param, tmp_path, monkeypatch) as made:
        yield made


def test_every_file_is_tried() -> None:
    assert {file.stem for file in TARGETS.glob("*.toml")} == set(CASES) | {"home-grown"}


async def test_an_order_of_one_line(bench: Bench) -> None:
    row = await bench.one(order("PO-1"))
    assert (row["status"], row["outcome"]) == ("done", "delivered"), row
    (held,) = bench.erp.held()
    assert (held.reference, held.customer, held.state) == ("PO-1", "C-100", bench.case.state)
    assert lines_of(bench.erp) == [[("SKU-1", Decimal(2), Decimal("0.35"))]]


async def test_two_lines_four_decimals_and_an_eighth_of_a_kilogram(bench: Bench) -> None:
    row = await bench.one(order("PO-2", line(), line(2, "KG-1", "0.125", "12.3456")))
    assert row["outcome"] == "delivered", row
    assert lines_of(bench.erp) == [[("SKU-1", Decimal(2), Decimal("0.35")), ("KG-1", Decimal("0.125"), Decimal("12.3456"))]]


@pytest.mark.parametrize("number", ["PO'1", 'PO "1" \\ 2', "PO/1&x=2#3?%41", "PO-😀-é", "'; DROP TABLE x --"])
async def test_an_order_number_cannot_break_out(bench: Bench, number: str) -> None:
    """Placed twice under one number, as after a restore: found, and not made again."""
    await bench.shop.place(order(number, notes='say "hello" \\ 😀'))
    assert (await bench.shop.settled(1))[0]["outcome"] == "delivered"
    assert [held.reference for held in bench.erp.held()] == [number]
    await bench.shop.place(replace(order(number, notes='say "hello" \\ 😀'), order_ref="another"))
    rows = await bench.shop.settled(2)
    assert len(bench.erp.made) == 1
    assert rows[1]["status"] == "held"
    assert "another order under the same name" in rows[1]["reason"]


async def test_an_unknown_article_is_refused_by_its_number_and_goes_once_it_is_known(bench: Bench) -> None:
    row = await bench.one(order("PO-3", line(), line(2, "NEW-1")))
    assert row["status"] == "dead"
    words = await bench.shop.words(row["row"])
    assert "NEW-1" in words
    assert "line 2" in words or not bench.looks_up  # where we look up we know the line, else the ERP may say it
    assert bench.erp.made == []
    bench.erp.articles["NEW-1"] = erps.Article(id=99, code="NEW-1", name="New")
    await bench.shop.replay(row["key"])
    await bench.shop.settled(1)
    assert lines_of(bench.erp) == [[("SKU-1", Decimal(2), Decimal("0.35")), ("NEW-1", Decimal(2), Decimal("0.35"))]]


async def test_an_unknown_customer_is_refused_by_its_number(bench: Bench) -> None:
    row = await bench.one(order("PO-4", customer=Customer(number="C-999")))
    assert (row["status"], "C-999" in await bench.shop.words(row["row"])) == ("dead", True), row
    assert bench.erp.made == []


@pytest.mark.parametrize("fault", ["lose_answer", "reset", "half_answer"])
async def test_a_lost_answer_makes_no_second_order(bench: Bench, fault: Any) -> None:
    bench.erp.arm(fault)
    row = await bench.one(order("PO-5"))
    assert row["status"] == "done", row
    assert [held.state for held in bench.erp.held()] == [bench.case.state]


async def test_a_dropped_request_is_sent_again(bench: Bench) -> None:
    bench.erp.arm("drop_before")
    assert (await bench.one(order("PO-6")))["outcome"] == "delivered"
    assert len(bench.erp.made) == 1


async def test_one_that_answers_too_late_makes_no_second_order(bench: Bench) -> None:
    bench.erp.arm("slow", delay_s=2.0)
    row = await bench.one(order("PO-7"))
    assert row["status"] == "done", row
    assert len(bench.erp.made) == 1


async def test_too_many_requests_cost_nothing(bench: Bench) -> None:
    bench.erp.arm("status", status=429, headers={"Retry-After": "0"}, times=2)
    assert (await bench.one(order("PO-8")))["outcome"] == "delivered"
    assert len(bench.erp.made) == 1


async def test_an_erp_that_is_away_gets_everything_when_it_is_back(bench: Bench) -> None:
    await bench.erp.stop()
    await bench.shop.place(*(order(f"PO-9-{n}") for n in range(5)))
    await bench.erp.start()
    await bench.shop.settled(5)
    assert sorted(held.reference for held in bench.erp.held()) == [f"PO-9-{n}" for n in range(5)]


async def test_a_change_of_an_order_that_is_there_waits_for_a_person(bench: Bench) -> None:
    await bench.one(order("PO-10"))
    await bench.shop.place(order("PO-10", line(quantity="3"), revision=2))
    rows = await bench.shop.settled(2)
    assert rows[1]["status"] == "held", rows[1]
    assert len(bench.erp.made) == 1


@pytest.mark.parametrize("name", CASES)
async def test_a_wrong_password_is_tried_twice_and_then_waits_for_the_right_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(name, tmp_path, monkeypatch, wrong=True) as bench:
        await bench.shop.place(*(order(f"PO-11-{n}") for n in range(4)))
        await bench.shop.until_down()
        await asyncio.sleep(0.5)
        tries = len(bench.erp.asked)
        assert 1 <= tries <= 2, [asked.path for asked in bench.erp.asked]
        assert bench.erp.made == []
        bench.put_right()
        await bench.shop.settled(4)
        assert sorted(held.reference for held in bench.erp.held()) == [f"PO-11-{n}" for n in range(4)]


@pytest.mark.parametrize(("name", "expire"), [("business-central", "tokens"), ("business-one", "sessions"), ("s4hana", "tokens")])
async def test_what_has_run_out_is_renewed_once(name: str, expire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(name, tmp_path, monkeypatch) as bench:
        await bench.one(order("PO-12"))
        getattr(bench.erp, f"expire_{expire}")()
        await bench.shop.place(*(order(f"PO-12-{n}") for n in range(6)))
        rows = await bench.shop.settled(7)
        assert {row["outcome"] for row in rows} == {"delivered"}
        assert len(bench.erp.made) == 7
        assert bench.erp.count("token") == 2


async def test_business_one_gets_its_session_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("business-one", tmp_path, monkeypatch) as bench:
        await bench.one(order("PO-13"))
        erp = bench.erp
        await bench.shop.stop()
        assert (erp.logins, erp.logouts) == (1, 1)


@pytest.mark.parametrize("fault", ["lose_answer", "drop_before", "slow"])
@pytest.mark.parametrize("on", ["line", "step"])
async def test_dolibarr_goes_on_where_it_stopped(on: str, fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("dolibarr", tmp_path, monkeypatch) as bench:
        bench.erp.arm(fault, on=on, delay_s=2.0)
        row = await bench.one(order("PO-14", line(), line(2, "SKU-2", "3", "1.25"), line(3, "KG-1", "0.125", "8")))
        assert row["status"] == "done", row
        (held,) = bench.erp.held()
        assert (held.state, [one.article for one in held.lines]) == ("validated", ["SKU-1", "SKU-2", "KG-1"])


@pytest.mark.parametrize("fault", ["lose_answer", "drop_before", "slow"])
async def test_tryton_quotes_whatever_happens_on_the_way(fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("tryton", tmp_path, monkeypatch) as bench:
        bench.erp.arm(fault, on="step", delay_s=2.0)
        row = await bench.one(order("PO-20"))
        assert row["status"] == "done", row
        assert [held.state for held in bench.erp.held()] == ["quotation"]


@pytest.mark.parametrize("fault", [None, "lose_answer", "drop_before"])
async def test_odoo_confirms_where_it_is_told_to(fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("odoo19", tmp_path, monkeypatch, options=True) as bench:
        if fault is not None:
            bench.erp.arm(fault, on="step")
        row = await bench.one(order("PO-15"))
        assert row["status"] == "done", row
        assert [held.state for held in bench.erp.held()] == ["sale"]


async def test_odoo_18_says_no_in_a_200(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("odoo18", tmp_path, monkeypatch) as bench:
        bench.erp.arm("status", status=409)
        assert (await bench.one(order("PO-16")))["outcome"] == "delivered"
        bench.erp.arm("status", status=422)
        await bench.shop.place(order("PO-17", notes="***key***"))
        rows = await bench.shop.settled(2)
        said = "the target answers 200: refused by its classify rule: an error on demand"
        assert (rows[1]["status"], await bench.shop.words(rows[1]["row"])) == ("dead", said)
        assert "on demand" not in str(rows)
        assert len(bench.erp.made) == 1


async def test_the_key_is_in_the_body_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened("odoo18", tmp_path, monkeypatch) as bench:
        await bench.one(order("PO-18", notes='***key*** secret.key "'))
        assert bench.erp.made[0]["note"] == '***key*** secret.key "'
        assert all(bench.erp.key.encode() in asked.body for asked in bench.erp.asked)
        for file in (tmp_path / "data").iterdir():
            if file.is_file():
                assert bench.erp.key.encode() not in file.read_bytes()


async def test_an_endpoint_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erp = ErpSimulator(token="constructed-token")
    await erp.start()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "erp-token").write_text("constructed-token\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    async with Shop(installed(tmp_path, "home-grown", {"url": erp.url})) as shop:
        erp.arm("lose_answer")
        await shop.place(order("PO'19"))
        await shop.settled(1)
    assert [message["order"]["order_number"] for message in erp.messages()] == ["PO'19"]
    assert len(erp.heard) == 2
    await erp.stop()
