"""A command on its way to the vendor, the process killed right after every commit point: one order there, whatever happens.

A kill between the vendor's deed and our commit is made at the vendor: it does what it is asked, and no answer ever comes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ordering import Registry

from gateway.clock import SystemClock
from gateway.store.sqlite import SqliteStore
from gateway.store.submissions import NewSubmission, SubmissionState
from gateway.testing import ErpSimulator

from .process import Process, driven
from .test_commit_points import wait_until

# What happens to a command between its acceptance and its end; and the request to the vendor, between two of them.
COMMIT_POINTS = ["lease_submissions:1", "submitting:1", "settle_submission:1", "lease_inbox:1", "settle_outbox:1"]
BODY = b'{"number":"RX-1"}'


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    registry = Registry()
    await registry.start()
    yield registry
    await registry.stop()


def configuration(erp: ErpSimulator, registry: Registry) -> str:
    return f"""
[targets.erp]
url = "{erp.url}"
[sources.shop]
connector = "ordering"
[sources.shop.settings]
base_url = "{registry.url}"
"""


async def handed_in(folder: Path, command: str = "create_order", key: str = "k1") -> SubmissionState:
    """Commit a command, or hear what has become of it: beside a gateway that is not running."""
    store = SqliteStore(folder / "data" / "gateway.db", clock=SystemClock())
    await store.open()
    new = NewSubmission(
        id=f"id-{key}",
        caller="erp",
        key=key,
        source="shop",
        command=command,
        subject="RX-1",
        unique=True,
        body=BODY,
        sha256=hashlib.sha256(BODY).digest(),
    )
    accepted = await store.accept_submission(new)
    await store.close()
    return accepted.state


async def arrived(gateway: Process, erp: ErpSimulator) -> None:
    await erp.wait_for(1)
    await gateway.kill(15)


@pytest.mark.parametrize("point", COMMIT_POINTS)
async def test_one_order_at_the_vendor_and_at_the_erp_after_a_kill_at(
    tmp_path: Path, erp: ErpSimulator, registry: Registry, point: str
) -> None:
    assert (await handed_in(tmp_path)).state == "ready"
    async with driven(tmp_path, configuration(erp, registry), "--die-after", point) as gateway:
        await gateway.start("dying")
        await gateway.gone()
        await gateway.start()
        await arrived(gateway, erp)
    assert (registry.created, list(erp.orders)) == (["RX-1"], ["shop/RX-1/1"])
    state = await handed_in(tmp_path)  # the same key again
    assert (state.state, state.codes and state.codes.pickup) == ("done", "P-secret-RX-1")


async def killed_before_the_answer(gateway: Process, registry: Registry) -> None:
    registry.behaviours = ["do, hang"]
    await gateway.start()
    await wait_until(lambda: registry.created)
    await gateway.kill()
    registry.let_go.set()
    await gateway.start()


async def test_a_create_answer_lost_by_a_kill_is_found_by_number(tmp_path: Path, erp: ErpSimulator, registry: Registry) -> None:
    await handed_in(tmp_path)
    async with driven(tmp_path, configuration(erp, registry)) as gateway:
        await killed_before_the_answer(gateway, registry)
        await arrived(gateway, erp)
    assert (registry.seen, registry.created, registry.asked) == (1, ["RX-1"], ["RX-1"])
    assert (await handed_in(tmp_path)).state == "done"


async def test_the_twin_that_repeats_blindly_creates_it_twice(tmp_path: Path, erp: ErpSimulator, registry: Registry) -> None:
    await handed_in(tmp_path, "create_blindly")
    async with driven(tmp_path, configuration(erp, registry)) as gateway:
        await killed_before_the_answer(gateway, registry)
        await arrived(gateway, erp)
    assert registry.created == ["RX-1", "RX-1"]


@pytest.mark.parametrize("number", [15, 1])
async def test_a_shutdown_and_a_reload_leave_one_order(tmp_path: Path, erp: ErpSimulator, registry: Registry, number: int) -> None:
    """SIGTERM and SIGHUP while the vendor is thinking: both wait for it, and note what it says."""
    await handed_in(tmp_path)
    registry.behaviours = ["do, hang"]
    async with driven(tmp_path, configuration(erp, registry)) as gateway:
        await gateway.start()
        await wait_until(lambda: registry.created)
        if number == 15:
            await gateway.kill(number)
            await gateway.start()
        else:
            os.kill(gateway.pid, number)
        await arrived(gateway, erp)
    assert (registry.seen, registry.created) == (1, ["RX-1"])
