"""The gateway as a process: signals, what it tells systemd, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from gateway.store.sqlite.connection import APPLICATION_ID, migrations
from gateway.testing import ErpSimulator
from tests import acme
from tests.ports import free_ports

from .serving import COMMAND, SECRET, Installation

# Serves with little patience for what is in flight.
HASTY = """
import sys
from gateway.service import gateway as app
app.DRAIN_S = 1.0
from gateway.cli.main import main
sys.exit(main(sys.argv[1:]))
"""

# Serves with a store whose writing thread stands still while a file exists.
HANGING = """
import os, sys, time
from gateway.store.sqlite.writer import Writer
run = Writer._run_group
def slow(self, db, group):
    while os.path.exists(os.environ["HANG"]):
        time.sleep(0.01)
    run(self, db, group)
Writer._run_group = slow
from gateway.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


# --- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_when_asked_to(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, number: signal.Signals
) -> None:
    async with installation.serve() as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
        await erp.wait_for(1)
        began = time.monotonic()
        serving.signal(number)
        assert await serving.ended() == 0
        assert time.monotonic() - began < 9  # not the 10 s that it gives what is in flight
        assert serving.notified.heard[-1] == "STOPPING=1"
    assert [e["event"] for e in serving.events("gateway.stopped")] == ["gateway.stopped"]
    assert not (installation.folder / "data/control.sock").exists()
    assert not (installation.folder / "data/gateway.db-wal").exists()


@pytest.mark.parametrize(("program", "within_s"), [(HASTY, 11), pytest.param("", 20, marks=pytest.mark.long)], ids=["hasty", "as it is"])
async def test_it_stops_in_time_although_nobody_lets_go(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, program: str, within_s: float
) -> None:
    """The ERP hangs over three orders, a vendor sends half a body; the orders are handed back and leave after the next start."""
    for _ in range(3):
        erp.arm("slow", delay_s=60)
    body = acme.body("half")
    head = f"POST /in/acme HTTP/1.1\r\nHost: gw\r\nX-Acme-Signature: {acme.sign(SECRET, body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with installation.serve_as(program) if program else installation.serve() as serving:
        _, vendor = await asyncio.open_connection("127.0.0.1", installation.port)
        vendor.write(head.encode() + body[:5])
        assert [await serving.deliver(session, acme.body(f"o{n}")) for n in range(3)] == [200] * 3
        await serving.until(lambda: len(erp._armed) == 0)
        began = time.monotonic()
        serving.signal(signal.SIGTERM)
        serving.signal(signal.SIGTERM)
        assert await serving.ended(within_s) == 0
        assert time.monotonic() - began < within_s
        vendor.close()
    erp.disarm()
    assert erp.orders == {}
    async with installation.serve():
        await erp.wait_for(3)
    assert sorted(erp.sequence) == ["acme/o0/1", "acme/o1/1", "acme/o2/1"]


async def test_a_webhook_that_is_being_answered_is_answered(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator
) -> None:
    """Stopping in the middle of a stream: what was answered 200 is delivered, by this process or by the next one."""
    taken: list[str] = []

    async def send() -> None:
        for n in range(10_000):
            try:
                if await serving.deliver(session, acme.body(f"o{n}")) != 200:
                    return
            except aiohttp.ClientError:
                return
            taken.append(f"acme/o{n}/1")

    async with installation.serve() as serving:
        sender = asyncio.create_task(send())
        await erp.wait_for(20)
        serving.signal(signal.SIGTERM)
        await sender
        assert await serving.ended() == 0
    async with installation.serve():
        await erp.wait_for(len(taken))
    assert len(taken) >= 20
    assert set(taken) <= set(erp.sequence)


# --- reloading


async def test_a_reload_loses_no_webhook_and_counts(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, other: ErpSimulator
) -> None:
    statuses: list[int] = []
    reloaded = asyncio.Event()

    async def send() -> None:
        n = 0
        while not reloaded.is_set() or n % 10:
            statuses.append(await serving.deliver(session, acme.body(f"o{n}")))
            n += 1

    async with installation.serve() as serving:
        sender = asyncio.create_task(send())
        await erp.wait_for(10)
        installation.erp_url = other.url
        installation.write()
        serving.signal(signal.SIGHUP)
        await serving.until(lambda: bool(serving.events("config.reloaded")))
        await serving.until(lambda: not serving.is_reloading)
        await other.wait_for(10)
        reloaded.set()
        await sender
        before = len(erp.heard)
        assert await serving.deliver(session, acme.body("last")) == 200
        await other.wait_for(len(statuses) - len(erp.orders) + 1)
        assert len(erp.heard) == before
    assert set(statuses) == {200}
    assert not set(erp.orders) & set(other.orders)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": "concurrency = 0"}, "gateway.toml:11: targets.erp.concurrency: must be at least 1"),
        ({"more": "= what"}, "not TOML"),
        ({"port": 1}, "change only with a restart"),
        ({"more": '[sources.two]\nconnector = "acme"'}, "sources.two.settings: needs the key secret"),
    ],
)
async def test_a_reload_of_a_broken_file_changes_nothing(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, change: dict[str, object], said: str
) -> None:
    async with installation.serve() as serving:
        port = installation.port
        for name, value in change.items():
            setattr(installation, name, value)
        installation.write()
        installation.port = port
        serving.signal(signal.SIGHUP)
        await serving.until(lambda: bool(serving.events("config.refused")) and serving.notified.count("READY=1") == 2)
        assert said in serving.events("config.refused")[0]["problem"]
        assert await serving.deliver(session, acme.body("o1")) == 200
        await erp.wait_for(1)
        assert not serving.events("config.reloaded")


async def test_the_command_that_reloads_says_what_came_of_it(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, other: ErpSimulator
) -> None:
    """Every problem and exit 1; shown by status, readyz and the page until a reload is taken; a problem shows no secret."""
    stopped, _, said = await installation.command("reload")
    assert (stopped, "no gateway runs" in said) == (1, True)
    admin = f"http://127.0.0.1:{installation.admin_port}"
    async with installation.serve() as serving:
        for more, problem in (("colour = 1", "colour"), ("[[[", "gateway.toml"), ("# [http]", "change only with a restart")):
            installation.more, kept = more, installation.port
            installation.port += more == "# [http]"
            installation.write()
            installation.port = kept
            installation.environment["MAINPID"] = str(serving.process.pid)
            code, _, said = await installation.command("reload")
            assert (code, problem in said, "nothing was reloaded" in said) == (1, True, True), said
            installation.more, installation.erp_url = "", other.url
            installation.write()
            await serving.until(lambda: bool(serving.events("config.refused")))
            if more == "[[[":
                code, out, _ = await installation.command("status")
                assert (code, "DOWN configuration: " in out, "the previous configuration is in force" in out) == (1, True, True), out
            async with session.get(f"{admin}/readyz") as answer:
                assert answer.status == 503
                assert problem in (await answer.json())["reasons"][0]["reason"]
            async with session.get(admin) as page:
                assert "The configuration was refused" in await page.text()
            assert (await installation.command("reload"))[:2] == (0, "reloaded\n")
            async with session.get(f"{admin}/readyz") as answer:
                assert answer.status == 200
        assert await serving.deliver(session, acme.body("o1")) == 200
        await other.wait_for(1)
        assert SECRET not in serving.said()


async def test_reloads_in_a_hurry_end_with_the_last_one(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator, other: ErpSimulator
) -> None:
    async with installation.serve() as serving:
        for url in (other.url, erp.url) * 5 + (other.url,):
            installation.erp_url = url
            installation.write()
            serving.signal(signal.SIGHUP)
            await asyncio.sleep(0.005)
        await serving.until(lambda: bool(serving.events("config.reloaded")) and not serving.is_reloading)
        assert await serving.deliver(session, acme.body("o1")) == 200
        await other.wait_for(1)
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0
    assert erp.orders == {}
    assert not [line for line in serving.said().splitlines() if '"level":"critical"' in line or '"level":"error"' in line]


async def test_it_stops_in_the_middle_of_a_reload(installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator) -> None:
    """The old configuration is still draining towards an ERP that hangs when SIGTERM comes."""
    erp.arm("slow", delay_s=60)
    async with installation.serve_as(HASTY) as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
        await serving.until(lambda: len(erp._armed) == 0)
        serving.signal(signal.SIGHUP)
        await serving.until(lambda: "RELOADING=1" in serving.notified.heard)
        serving.signal(signal.SIGTERM)
        assert await serving.ended(20) == 0
        assert serving.notified.heard[-1] == "STOPPING=1"
    assert not [line for line in serving.said().splitlines() if '"level":"critical"' in line or '"level":"error"' in line]
    erp.disarm()
    async with installation.serve():
        await erp.wait_for(1)


# --- secrets


async def test_a_changed_secret_is_used_within_5_s(installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator) -> None:
    async with installation.serve() as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
        (installation.folder / "secret.new").write_text("another-secret\n")
        (installation.folder / "secret.new").rename(installation.folder / "secret")
        async with asyncio.timeout(15):  # 5, on a machine that is busy
            while await serving.deliver(session, acme.body("o2"), "another-secret") != 200:
                await asyncio.sleep(0.02)
        assert await serving.deliver(session, acme.body("o3")) == 401
        assert serving.events("config.file_changed")[0]["files"] == "file secret"
    assert "another-secret" not in serving.said()


async def test_a_token_that_was_refused_is_followed_by_the_new_one(
    installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator
) -> None:
    erp.token = "new-token"
    (installation.folder / "token").write_text("old-token")
    installation.target = 'auth = { kind = "bearer", token = { file = "token" } }'
    installation.write()
    async with installation.serve() as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
        await serving.until(lambda: bool(serving.events("target.paused")))
        (installation.folder / "token").write_text("new-token")
        await erp.wait_for(1, timeout_s=15)


# --- what systemd hears


async def test_the_watchdog_hears_nothing_while_the_writing_thread_hangs(installation: Installation) -> None:
    hang = installation.folder / "hang"
    installation.environment["HANG"] = str(hang)
    async with installation.serve_as(HANGING) as serving:
        assert serving.notified.heard[0] == "READY=1"
        await serving.until(lambda: serving.notified.count("WATCHDOG=1") >= 1)
        hang.touch()
        await asyncio.sleep(1.5)  # what was on its way may still come; one second is the pace
        before = serving.notified.count("WATCHDOG=1")
        await asyncio.sleep(2)
        assert serving.notified.count("WATCHDOG=1") == before
        hang.unlink()
        await serving.until(lambda: serving.notified.count("WATCHDOG=1") > before)


async def test_a_full_notify_socket_does_not_stop_it(installation: Installation, session: aiohttp.ClientSession, erp: ErpSimulator) -> None:
    async with installation.serve() as serving:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as flood:
            with pytest.raises(BlockingIOError):
                while True:
                    flood.sendto(b"X=1", str(installation.folder / "notify"))
            await asyncio.sleep(1.2)  # a ping is due meanwhile
            assert await serving.deliver(session, acme.body("o1")) == 200
            await erp.wait_for(1)


# --- signals during a start

# Says "slow" when it begins something that takes a second, before the store is there or before it listens.
SLOW = """
import os, sys, time
from gateway.service import gateway as app
from gateway.store.sqlite import SqliteStore
assemble, opened = app.assemble, SqliteStore._open_once
def say():
    open(os.environ["SLOW"], "w").close()
    time.sleep(1)
def slow_assemble(path, **more):
    if os.environ["WHERE"] == "assemble":
        say()
    return assemble(path, **more)
def slow_open(self):
    if os.environ["WHERE"] == "open":
        say()
    return opened(self)
app.assemble, SqliteStore._open_once = slow_assemble, slow_open
from gateway.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("where", ["assemble", "open"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_a_start_kills_nothing(
    installation: Installation, session: aiohttp.ClientSession, where: str, number: signal.Signals
) -> None:
    slow = installation.folder / "slow"
    installation.environment |= {"SLOW": str(slow), "WHERE": where}

    async def signals() -> None:
        while not slow.exists():
            await asyncio.sleep(0.01)
        pid = int((installation.folder / "pid").read_text())
        os.kill(pid, number)
        os.kill(pid, number)

    program = f"import os\nopen({str(installation.folder / 'pid')!r}, 'w').write(str(os.getpid()))\n{SLOW}"
    sending = asyncio.create_task(signals())
    if number == signal.SIGHUP:
        async with installation.serve_as(program) as serving:
            await sending
            assert await serving.deliver(session, acme.body("o1")) == 200
            await serving.until(lambda: bool(serving.events("config.reloaded")))  # noted, and carried out once it is up
    else:
        (installation.folder / "program.py").write_text(program)
        command = (sys.executable, str(installation.folder / "program.py"), "serve", "--config", str(installation.config))
        process = await asyncio.create_subprocess_exec(*command, env=installation.environment, stderr=asyncio.subprocess.DEVNULL)
        assert await asyncio.wait_for(process.wait(), 15) == 0
        await sending
    async with installation.serve() as again:
        assert await again.deliver(session, acme.body("o2")) == 200


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_the_end_changes_no_exit_code(installation: Installation, number: signal.Signals) -> None:
    """Until the process is gone: what the interpreter does after the last line of the log takes its time."""
    at_exit = "import atexit, os\natexit.register(lambda: [os.kill(os.getpid(), {}) for _ in range(3)])\n"
    program = f"import sys\n{at_exit.format(int(number))}from gateway.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    async with installation.serve_as(program) as serving:
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0


async def test_a_store_that_another_program_writes_to_is_waited_for_at_a_start(
    installation: Installation, session: aiohttp.ClientSession
) -> None:
    async with installation.serve() as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
    with closing(sqlite3.connect(installation.folder / "data/gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        async def ends_once_it_is_waited_for() -> None:
            while "store.waited_for" not in (installation.folder / "log.jsonl").read_text():
                await asyncio.sleep(0.05)
            other.execute("ROLLBACK")

        ending = asyncio.create_task(ends_once_it_is_waited_for())
        async with installation.serve() as serving:
            await ending
            assert await serving.deliver(session, acme.body("o2")) == 200


# --- what it cannot start with


async def test_a_second_gateway_on_the_same_data_is_refused(installation: Installation) -> None:
    async with installation.serve():
        installation.port, installation.admin_port = free_ports(2)
        installation.write()
        code, _, said = await installation.command("serve")
    assert code == 1, "not 2, after which systemd would leave it down"
    assert said == f"gateway: {installation.folder}/data: another gateway process has this data directory\n"


async def test_a_lost_database_is_begun_anew_only_by_a_person(installation: Installation, session: aiohttp.ClientSession) -> None:
    async with installation.serve() as serving:
        assert await serving.deliver(session, acme.body("o1")) == 200
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0
    database = installation.folder / "data/gateway.db"
    lost = database.rename(installation.folder / "lost.db")
    code, _, said = await installation.command("serve")
    assert code == 2, "which systemd does not start again, so that a monitor sees it"
    assert f"{database} is missing, and its folder was in use before" in said
    code, _, said = await installation.command("drop", "o1", "--reason", "x")
    assert (code, "was in use before" in said) == (1, True)
    assert not database.exists()
    program = "import sys\nfrom gateway.cli.main import main\nsys.exit(main([*sys.argv[1:], '--new-store']))"
    async with installation.serve_as(program) as serving:
        assert await serving.deliver(session, acme.body("o2")) == 200
        serving.signal(signal.SIGTERM)
        assert await serving.ended() == 0
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT action FROM audit").fetchall() == [("new-store",)]
    code, _, said = await installation.command("serve", "--new-store")
    assert (code, "is there and not empty" in said) == (2, True)
    assert lost.exists()


@pytest.mark.parametrize("key", ["http.listen", "admin.listen"])
async def test_an_address_in_use_is_named(installation: Installation, key: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.port if key == "http.listen" else installation.admin_port))
        other.listen()
        code, _, said = await installation.command("serve")
        assert code == 2
        assert f"{key}: cannot listen on 127.0.0.1:{other.getsockname()[1]}: Address already in use" in said
    assert not (installation.folder / "data/gateway.db-wal").exists()


async def test_an_address_of_another_machine_is_named(installation: Installation) -> None:
    text = installation.config.read_text().replace(f"127.0.0.1:{installation.port}", "192.0.2.1:80")
    installation.config.write_text(text)
    code, _, said = await installation.command("serve")
    assert (code, "http.listen: cannot listen on 192.0.2.1:80: Cannot assign requested address" in said) == (2, True)


async def test_a_host_name_that_is_nobodys_is_named(installation: Installation) -> None:
    text = installation.config.read_text().replace(f"127.0.0.1:{installation.port}", "no-such-host.invalid:80")
    installation.config.write_text(text)
    code, _, said = await installation.command("serve")
    assert code == 2
    assert "http.listen: cannot listen on no-such-host.invalid:80: " in said
    assert "Unknown error" not in said


async def test_a_folder_that_cannot_be_written_is_named(installation: Installation) -> None:
    mount = installation.folder / "ro"
    mount.mkdir()
    if os.geteuid() != 0:
        mount.chmod(0o500)
    elif shutil.which("mount") is None or os.system(f"mount -t tmpfs -o ro tmpfs {mount} 2>/dev/null"):
        pytest.skip("root cannot mount here, and no mode keeps root from writing")
    try:
        installation.data_dir = "ro"
        installation.write()
        code, _, said = await installation.command("serve")
    finally:
        if os.geteuid() == 0:
            os.system(f"umount {mount}")
    as_root = os.geteuid() == 0  # a read-only disk may be writable again, so that systemd tries on; a wrong owner may not
    assert code == (1 if as_root else 2)
    assert f"{mount}: cannot be written: " in said
    assert ("whether it is mounted read-only" if as_root else "check gateway.data_dir") in said


async def test_no_folder_to_make_the_data_in_is_named(installation: Installation) -> None:
    installation.data_dir = "no/such/folder"
    installation.write()
    code, _, said = await installation.command("serve")
    assert code == 2
    assert said.startswith(f"{installation.folder}/no/such/folder: cannot be written: No such file or directory")


async def test_another_programs_database_is_left_alone(installation: Installation) -> None:
    path = database(installation)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
    before = path.read_bytes()
    code, _, said = await installation.command("serve")
    assert code == 1
    assert said == f"gateway: {path} is another program's database; choose another gateway.data_dir or store.url\n"
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_left_alone(installation: Installation) -> None:
    path = database(installation)
    path.write_bytes(b"not a database at all " * 500)
    code, _, said = await installation.command("serve")
    assert code == 1
    assert said.startswith(
        f"gateway: {path} is damaged (file is not a database). Do not delete it: copy the whole data directory away first"
    )
    assert path.read_bytes() == b"not a database at all " * 500


async def test_a_damaged_database_is_said_to_be_one(installation: Installation, session: aiohttp.ClientSession) -> None:
    async with installation.serve() as serving:
        await serving.deliver(session, acme.body("o1"))
        serving.signal(signal.SIGTERM)
        await serving.ended()
    path = database(installation)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 4096 * 4)
    code, _, said = await installation.command("serve")
    assert code == 1
    assert said.startswith(f"gateway: {path} is damaged ")
    assert "restore the last good copy" in said
    assert "Traceback" not in said


async def test_a_database_of_a_newer_gateway_is_left_alone(installation: Installation) -> None:
    newest = migrations()[-1][0]
    path = database(installation)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={newest + 1}")
        db.execute("CREATE TABLE newer (x)")
        db.commit()
    code, _, said = await installation.command("serve")
    assert code == 1
    assert said.startswith(
        f"gateway: {path} was written by a newer gateway (schema {newest + 1}, this one knows {newest}); install that version"
    )


def database(installation: Installation) -> Path:
    folder = installation.folder / "data"
    folder.mkdir(exist_ok=True)
    return folder / "gateway.db"


# --- commands beside it


async def test_commands_see_whether_it_runs(installation: Installation) -> None:
    code, out, _ = await installation.command("check")
    assert (code, "1 sources with 1 doors, 1 targets, no problem found" in out) == (0, True)
    code, out, said = await installation.command("status")
    assert (code, out, not (installation.folder / "data").exists()) == (1, "", True)
    assert "it is made when the gateway is first started" in said
    async with installation.serve() as serving:
        installation.more = "[sources.half-written]"
        installation.write()
        code, out, said = await installation.command("status")
        assert (code, out.splitlines()[0].startswith("running since "), said) == (0, True, "")
        installation.more = ""
        installation.write()
        serving.signal(signal.SIGTERM)
        await serving.ended()
    code, out, _ = await installation.command("status")
    assert (code, out.splitlines()[0]) == (0, "not running")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_who_may_not_look_hears_who_may(installation: Installation) -> None:
    """As a user who can read the program and the configuration, and not the data."""
    async with installation.serve():
        (installation.folder / "data").chmod(0o700)
        code = f"""
import os, sys
from gateway.cli.main import main
from gateway.cli import status  # noqa: F401
os.setuid(65534)
sys.exit(main(["status", "--config", {str(installation.config)!r}]))
"""
        for folder in [installation.folder, *installation.folder.parents]:
            if folder.stat().st_mode & 0o005 != 0o005:
                if "pytest-of-" not in str(folder):
                    pytest.skip(f"{folder} is closed to others on this machine")
                folder.chmod(folder.stat().st_mode | 0o055)
        process = await asyncio.create_subprocess_exec(
            COMMAND[0], "-c", code, env=installation.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode() == f"gateway: {installation.folder}/data: Permission denied; run this as root (sudo) or as the service's user\n"
