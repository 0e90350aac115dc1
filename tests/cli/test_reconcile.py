"""`gateway target reconcile`: what the ERP has twice, or not at all, or although we do not know of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.api.errors import GatewayError
from gateway.cli import main as cli
from gateway.store.sqlite.reader import SqliteReader
from gateway.targets.reconcile import Report, compare
from gateway.testing.erp import Made
from tests.engine.unkeyed import KEY, LOOKUP, Desk, desk


async def compared(made: Desk, **more: Any) -> Report:
    reader = SqliteReader(made._path)
    await reader.open()
    try:
        return await compare(made.target, reader, made.clock, **{"days": 1, "per_minute": 1000, **more})
    finally:
        await reader.close()


def findings(report: Report) -> dict[str, str]:
    return {finding.key: finding.what for finding in report.findings}


async def test_what_is_as_it_should_be_is_not_mentioned(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        for n in range(3):
            await made.order(f"o{n}")
        await made.run_once()
        report = await compared(made)
        assert (report.looked, report.findings) == (3, [])


async def test_what_is_there_twice_or_not_at_all_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        for n in range(4):
            await made.order(f"o{n}")
        await made.run_once()
        one, two = made.erp.made[1], made.erp.made[2]
        made.erp.made.append(Made(id=99, name=one.name, key="by hand"))
        two.name = "renamed"
        report = await compared(made)
        assert findings(report) == {f"acme/{one.name}/1": "twice", two.key: "missing"}
        assert {finding.what: finding.erp for finding in report.findings} == {"twice": ("2", "99"), "missing": ()}


async def test_what_waits_for_a_person_and_is_there_is_named(tmp_path: Path) -> None:
    async with desk(tmp_path, LOOKUP, retry={"max_age_s": 10.0}, breaker={"failures": 1000}) as made:
        for fault in ("lose_answer", "drop_before"):
            made.erp.arm(fault)
        made.erp.arm("status", status=503, times=2, on="look")
        for n in range(2):
            await made.order(f"o{n}")
        await made.pass_time(60)
        made.erp.arm("status", status=503, times=20, on="look")
        await made.pass_time(60)
        made.erp.disarm()
        assert {row["status"] for row in (await made.rows()).values()} <= {"held", "unknown", "done"}
        report = await compared(made)
        there = {order.key for order in made.erp.made}
        done = {key for key, row in (await made.rows()).items() if row["status"] == "done"}
        assert findings(report) == dict.fromkeys(there - done, "there")


async def test_look_ups_are_at_a_bounded_rate(tmp_path: Path) -> None:

    async with desk(tmp_path) as made:
        for n in range(5):
            await made.order(f"o{n}")
        await made.run_once()
        looks = made.erp.looks
        task = asyncio.create_task(compared(made, per_minute=2))
        for expected in (2, 4, 5):
            for _ in range(50):
                await asyncio.sleep(0.002)
            assert made.erp.looks - looks == expected
            made.clock.advance(60)
        assert (await task).looked == 5


async def test_older_orders_are_left_alone(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("old")
        await made.run_once()
        made.clock.advance(2 * 86400)
        await made.order("new")
        await made.run_once()
        assert (await compared(made)).looked == 1


async def test_an_erp_that_cannot_be_asked_ends_it_with_its_reason(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("o1")
        await made.run_once()
        made.erp.arm("status", status=401, on="look")
        with pytest.raises(GatewayError, match=r"erp cannot be asked, stopped at acme/o1/1: preflight: it answers 401"):
            await compared(made)


async def test_orders_whose_contents_are_erased_are_counted(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await made.order("o1")
        await made.run_once()
        made.clock.advance(10)
        await made.store.redact_bodies(made.clock.now(), 10)
        report = await compared(made)
        assert (report.looked, report.erased) == (0, 1)


def configuration(folder: Path, text: str, url: str) -> Path:
    body = text.replace("URL", url)
    for table in ("preflight", "capture"):
        body = body.replace(f"[{table}]", f"[targets.erp.{table}]")
    path = folder / "gateway.toml"
    path.write_text(
        f'[gateway]\ndata_dir = "."\n[targets.erp]\nurl = "{url}"\n{body}\n[sources.vendor]\nconnector = "apicbase"\ndoors = ["webhook"]\n'
        '[sources.vendor.settings]\ncurrency = "EUR"\nwebhook_secrets = [{ file = "secret" }]\n'
    )
    (folder / "secret").write_text("constructed\n")
    return path


async def test_the_command_prints_and_fails_where_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:

    async with desk(tmp_path) as made:
        path = configuration(tmp_path, LOOKUP, made.erp.url)
        arguments = ["target", "reconcile", "erp", "--config", str(path), "--days", "36500"]
        await made.order("o1")
        await made.run_once()
        assert await asyncio.to_thread(cli.main, arguments) == 0
        assert capsys.readouterr().out == "1 orders of 36500 days looked up at erp: all of them as they should be\n"
        made.erp.made.clear()
        assert await asyncio.to_thread(cli.main, [*arguments, "--json"]) == 1
        (finding,) = json.loads(capsys.readouterr().out)["findings"]
        assert (finding["key"], finding["what"], finding["detail"]) == ("acme/o1/1", "missing", "delivered as SO-000001")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("erb", LOOKUP, "there is no target 'erb'; did you mean erp?"), ("erp", KEY.replace("KIND", "none"), "has no table preflight")],
)
def test_what_cannot_be_compared_is_a_problem_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    path = configuration(tmp_path, text, "http://127.0.0.1:1/orders")
    assert cli.main(["target", "reconcile", name, "--config", str(path)]) == 2
    assert said in capsys.readouterr().err
