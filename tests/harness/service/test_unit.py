"""systemd/order-gateway.service: what systemd says of it, and how it does on a machine that boots it.

The machine is a systemd-nspawn container over this machine's own files (`nspawn.py`), in which the unit stands as it is in
the repository. Where such a container cannot be had, these tests are skipped and say why; where the container works and the
unit does not, they fail.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import acme

from .installed import APICBASE, BACKUP, HOME, ROOT, TIMER, UNIT, binds, can_do_what_the_unit_asks_for, install
from .nspawn import Container, Unavailable, unavailable

COPIES = "/var/backups/order-gateway"
WEBHOOK_SECRET = "canary-webhook-secret"
TOKEN = "canary-erp-token"
CONFIG = """
[http]
listen = "127.0.0.1:8080"
[store]
reserve_bytes = 1048576
[targets.erp]
url = "http://127.0.0.1:9090/orders"
auth = { kind = "bearer", token = { credential = "erp-token" } }
retry = { base_s = 0.1, cap_s = 0.5 }
breaker = { cooldown_s = 0.5 }
[sources.acme]
connector = "acme"
doors = ["webhook"]
settings = { secret = { credential = "acme-webhook" } }
"""


# --- without a machine


@pytest.fixture
def unit(tmp_path: Path) -> str:
    """The unit with a program that is here, as `systemd-analyze` wants it to be."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    text = UNIT.read_text("utf-8")
    assert f"ExecStart={HOME}/bin/gateway serve\n" in text
    for file in (UNIT, BACKUP, TIMER):
        (tmp_path / file.name).write_text(file.read_text("utf-8").replace(f"{HOME}/bin/gateway", "/bin/true"))
    return str(tmp_path / UNIT.name)


@pytest.mark.parametrize("file", [UNIT, BACKUP, TIMER], ids=lambda file: file.name)
def test_systemd_has_nothing_to_say_against_it(unit: str, file: Path) -> None:
    one = str(Path(unit).with_name(file.name))
    done = subprocess.run(["systemd-analyze", "verify", one], capture_output=True, text=True, timeout=60, check=False)
    if "Failed to" in done.stderr and UNIT.name not in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_its_exposure_is_at_most_1_1(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=11", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline (before systemd 250)")
    assert done.returncode == 0, done.stdout + done.stderr


# --- on a machine


class Machine:
    """The container with the gateway installed in it, and an ERP beside it."""

    def __init__(self, container: Container, folder: Path) -> None:
        self.container = container
        self.folder = folder
        self._erp: subprocess.Popen[bytes] | None = None

    def start_erp(self) -> None:
        command = [sys.executable, "-m", "gateway.testing.erp", "--listen", "127.0.0.1:9090", "--log", str(self.folder / "erp.jsonl")]
        environment = {**os.environ, "ERP_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        self._erp = self.container.spawn([*command, "--token-env", "ERP_TOKEN"], stdout=subprocess.PIPE, env=environment)
        assert self._erp.stdout is not None
        assert b"takes orders" in self._erp.stdout.readline()

    def stop_erp(self) -> None:
        if self._erp is not None:
            self._erp.kill()
            self._erp.wait()
            assert self._erp.stdout is not None
            self._erp.stdout.close()
            self._erp = None

    def taken(self) -> list[str]:
        """The keys that the ERP took, in order, repeats included."""
        log = self.folder / "erp.jsonl"
        lines = map(json.loads, log.read_text().splitlines()) if log.exists() else []
        return [line["key"] for line in lines if line["taken"]]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of the machine, as an administrator would write it."""
        self.container.run("mkdir", "-p", os.path.dirname(path))
        done = self.container.run("sh", "-c", f"umask 077; cat > {path} && chmod {mode:o} {path}", stdin=text)
        assert done.returncode == 0, done.stderr

    def systemctl(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return self.container.run("systemctl", *arguments, timeout_s=timeout_s)

    def show(self, *names: str, unit: str = UNIT.name) -> dict[str, str]:
        out = self.systemctl("show", unit, "-p", ",".join(names)).stdout
        return dict(line.split("=", 1) for line in out.splitlines())

    def start(self) -> None:
        done = self.systemctl("restart", UNIT.name)
        assert done.returncode == 0, f"{done.stderr}\n{self.journal()}"

    def journal(self, *arguments: str) -> str:
        return self.container.run("journalctl", "-q", "--no-pager", "-o", "cat", "-u", UNIT.name, *arguments).stdout

    def gateway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command, typed by root."""
        return self.container.run(f"{HOME}/bin/gateway", *arguments)

    def deliver(self, order: str) -> int:
        """One signed webhook of `acme`; the status."""
        body = acme.body(order)
        return self.post("acme", body.decode(), "X-Acme-Signature", acme.sign(WEBHOOK_SECRET, body))

    def post(self, source: str, body: str, header: str, signature: str) -> int:
        """A request from inside the machine; the status, 0 where nobody answers."""
        program = (
            "import sys, urllib.request as u\n"
            "ask = u.Request('http://127.0.0.1:8080/in/' + sys.argv[1], sys.argv[2].encode(), {sys.argv[3]: sys.argv[4]})\n"
            "try: print(u.urlopen(ask, timeout=5).status)\n"
            "except u.HTTPError as error: print(error.code)\n"
            "except OSError: print(0)\n"
        )
        with self.container.spawn([sys.executable, "-c", program, source, body, header, signature], stdout=subprocess.PIPE) as process:
            return int(process.communicate(timeout=20)[0])

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {timeout_s} s\n{self.journal()}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("machine")
    try:
        container = Container(folder, binds())
    except Unavailable as error:
        pytest.skip(str(error))
    machine = Machine(container, folder)
    try:
        install(container.tree, CONFIG, {"erp-token": TOKEN, "acme-webhook": WEBHOOK_SECRET})
        container.boot()
        can_do_what_the_unit_asks_for(container)
        machine.start_erp()
        yield machine
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        machine.stop_erp()
        container.close()


def test_it_starts_and_an_order_goes_through(machine: Machine) -> None:
    machine.start()
    shown = machine.show("ActiveState", "SubState", "StatusText", "NRestarts", "Result", "Type")
    assert shown == {
        "ActiveState": "active",
        "SubState": "running",
        "StatusText": "1 sources, 1 targets",
        "NRestarts": "0",
        "Result": "success",
        "Type": "notify",
    }
    assert machine.deliver("o1") == 200
    machine.until(lambda: machine.taken() == ["acme/o1/1"], "the order at the ERP")


@pytest.mark.long
def test_systemd_has_nothing_to_say_against_the_installed_unit(machine: Machine) -> None:
    done = machine.container.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT.name}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_runs_as_a_user_of_its_own_who_owns_its_data(machine: Machine) -> None:
    machine.start()
    owner = machine.container.run("stat", "-c", "%u %a", "/var/lib/private/order-gateway").stdout.split()
    uid = machine.container.run("stat", "-c", "%u", f"/proc/{machine.show('MainPID')['MainPID']}").stdout.strip()
    assert owner == [uid, "700"]
    assert int(uid) >= 61184
    modes = machine.container.run("find", "/var/lib/private/order-gateway", "-type", "f", "-perm", "/077")
    assert modes.stdout == ""


@pytest.mark.long
def test_root_can_look_and_act_beside_it(machine: Machine) -> None:
    machine.start()
    assert machine.gateway("check").stdout.endswith("1 sources with 1 doors, 1 targets, no problem found\n")
    status = machine.gateway("status", "--json")
    assert (status.returncode, json.loads(status.stdout)["running"]) == (0, True)
    assert machine.gateway("target", "hold", "erp", "--reason", "a test").returncode == 0
    assert machine.gateway("status").returncode == 1
    assert machine.gateway("target", "release", "erp").returncode == 0


@pytest.mark.long
def test_what_root_does_without_it_does_not_keep_it_from_starting(machine: Machine) -> None:
    machine.start()
    machine.systemctl("stop", UNIT.name)
    assert machine.gateway("migrate").returncode == 0
    assert machine.gateway("purge", "--older-than-days", "0").returncode == 0
    assert machine.gateway("inbox").returncode == 0
    machine.start()
    assert machine.deliver("o-root") == 200


@pytest.mark.long
def test_a_copy_is_made_beside_it_and_can_be_put_back(machine: Machine) -> None:
    machine.start()
    assert machine.deliver("o-copied") == 200
    machine.until(lambda: "acme/o-copied/1" in machine.taken(), "the order at the ERP")
    machine.container.run("install", "-d", "-m", "700", COPIES)
    done = machine.systemctl("start", BACKUP.name)
    assert done.returncode == 0, machine.container.run("journalctl", "-q", "-u", BACKUP.name).stdout
    copy = machine.container.run("ls", COPIES).stdout.strip()
    machine.systemctl("stop", UNIT.name)
    put = machine.gateway("restore", f"{COPIES}/{copy}")
    assert put.returncode == 0, put.stderr
    machine.start()
    assert machine.deliver("o-copied") == 200
    assert machine.gateway("restore", "--finish").returncode == 0
    assert machine.deliver("o-new") == 200
    machine.until(lambda: "acme/o-new/1" in machine.taken(), "a new order at the ERP")
    assert machine.taken().count("acme/o-copied/1") == 1


@pytest.mark.long
def test_it_reloads(machine: Machine) -> None:
    machine.start()
    done = machine.systemctl("reload", UNIT.name)
    assert done.returncode == 0, done.stderr
    machine.until(lambda: "config.reloaded" in machine.journal(), "the reload")
    machine.until(lambda: machine.show("ActiveState") == {"ActiveState": "active"}, "active again")
    assert machine.deliver("o-reloaded") == 200


@pytest.mark.long
def test_a_refused_reload_fails_and_is_shown_until_one_is_taken(machine: Machine) -> None:
    machine.start()
    try:
        for broken, said in (
            (CONFIG.replace("cooldown_s", "cooldwon_s"), "cooldwon_s"),
            (CONFIG.replace(":8080", ":8088"), "change only with a restart"),
            (CONFIG + "[gateway\n", "gateway.toml"),
        ):
            machine.write("/etc/order-gateway/gateway.toml", broken)
            assert machine.systemctl("reload", UNIT.name).returncode != 0, said
            assert said in machine.journal()
            machine.write("/etc/order-gateway/gateway.toml", CONFIG)
            machine.until(lambda: "DOWN configuration: " in machine.gateway("status").stdout, "the refusal in status")
            assert machine.show("ActiveState") == {"ActiveState": "active"}
            assert machine.systemctl("reload", UNIT.name).returncode == 0
            assert "DOWN configuration" not in machine.gateway("status").stdout
    finally:
        machine.write("/etc/order-gateway/gateway.toml", CONFIG)
    machine.start()


@pytest.mark.long
def test_it_stops_in_time_and_in_peace(machine: Machine) -> None:
    machine.start()
    began = time.monotonic()
    assert machine.systemctl("stop", UNIT.name).returncode == 0
    assert time.monotonic() - began < 20
    shown = machine.show("ActiveState", "Result", "ExecMainCode", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}


@pytest.mark.long
def test_a_killed_gateway_comes_back_and_delivers(machine: Machine) -> None:
    machine.start()
    machine.stop_erp()
    assert machine.deliver("o-killed") == 200
    machine.systemctl("kill", "-s", "KILL", UNIT.name)
    machine.until(lambda: machine.show("NRestarts")["NRestarts"] == "1", "the restart")
    machine.until(lambda: machine.show("ActiveState")["ActiveState"] == "active", "active again")
    machine.start_erp()
    machine.until(lambda: "acme/o-killed/1" in machine.taken(), "the order at the ERP")
    assert machine.deliver("o-after") == 200


@pytest.mark.long
def test_a_frozen_gateway_is_ended_and_started_again(machine: Machine) -> None:
    """With a shorter watchdog than the unit's; a stopped process cannot even catch the signal that ends it."""
    override = f"/run/systemd/system/{UNIT.name}.d/short.conf"
    machine.write(override, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
    machine.systemctl("daemon-reload")
    try:
        machine.start()
        machine.systemctl("kill", "-s", "STOP", UNIT.name)
        machine.until(lambda: machine.show("NRestarts")["NRestarts"] == "1", "the restart")
        machine.until(lambda: machine.deliver("o-frozen") == 200, "an answer")
    finally:
        machine.container.run("rm", override)
        machine.systemctl("daemon-reload")
    machine.start()
    assert machine.show("WatchdogUSec", "TimeoutAbortUSec") == {"WatchdogUSec": "30s", "TimeoutAbortUSec": "5s"}


@pytest.mark.long
def test_a_wrong_configuration_fails_once_and_says_why(machine: Machine) -> None:
    machine.systemctl("stop", UNIT.name)
    machine.write("/etc/order-gateway/gateway.toml", CONFIG.replace("connector =", "conector ="))
    try:
        assert machine.systemctl("start", UNIT.name).returncode == 1
        shown = machine.show("ActiveState", "Result", "ExecMainStatus", "NRestarts")
        assert shown == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"}
        said = machine.journal("-p", "err")
        assert "/etc/order-gateway/gateway.toml:12: sources.acme.conector: is not a key of this table; did you mean connector?" in said
    finally:
        machine.write("/etc/order-gateway/gateway.toml", CONFIG)
    machine.start()


@pytest.mark.long
@pytest.mark.parametrize("prepare", ["rm /etc/order-gateway/credentials/*", "rm -r /etc/order-gateway/credentials"])
def test_without_credentials_the_gateway_itself_says_what_is_missing(machine: Machine, prepare: str) -> None:
    machine.systemctl("stop", UNIT.name)
    machine.container.run("cp", "-a", "/etc/order-gateway/credentials", "/var/tmp/credentials")
    try:
        assert machine.container.run("sh", "-c", prepare).returncode == 0
        assert machine.systemctl("start", UNIT.name).returncode == 1
        assert machine.show("ExecMainStatus") == {"ExecMainStatus": "2"}
        said = "there is no credential erp-token; put the file into /etc/order-gateway/credentials and restart the service"
        assert f"targets.erp.auth.token: {said}" in machine.journal("-p", "err")
    finally:
        machine.container.run("sh", "-c", "rm -rf /etc/order-gateway/credentials; mv /var/tmp/credentials /etc/order-gateway/")
    machine.start()


@pytest.mark.long
def test_a_new_credential_counts_after_a_restart(machine: Machine) -> None:
    machine.start()
    machine.write("/etc/order-gateway/credentials/acme-webhook", "another\n", 0o600)
    try:
        machine.systemctl("reload", UNIT.name)
        assert machine.deliver("o-old-secret") == 200
        machine.start()
        assert machine.deliver("o-old-secret-2") == 401
    finally:
        machine.write("/etc/order-gateway/credentials/acme-webhook", f"{WEBHOOK_SECRET}\n", 0o600)
    machine.start()


@pytest.mark.long
@pytest.mark.skipif(not APICBASE.is_dir(), reason="plugins/apicbase is not here")
def test_the_example_configuration_takes_an_order_of_apicbase(machine: Machine) -> None:
    """etc/gateway.toml with the lines changed that it tells people to change."""
    text = (ROOT / "etc/gateway.toml").read_text("utf-8")
    for old, new in (
        (r'(?m)^url = ".*"', 'url = "http://127.0.0.1:9090/orders"'),
        (r'(?m)^#(base|token)_url = ".*"', r'\1_url = "http://127.0.0.1:9"'),
    ):
        text, count = re.subn(old, new, text)
        assert count
    machine.write("/etc/order-gateway/gateway.toml", text)
    for name in ("apicbase-webhook", "apicbase-client"):
        machine.write(f"/etc/order-gateway/credentials/{name}", f"{WEBHOOK_SECRET}\n", 0o600)
    package = {"supplier_article_number": "000451-2", "theoretical_price_per_package": "12.3450"}
    line = {"stock_item": {"name": "Crème"}, "supplier_package": package, "quantity_ordered": 4, "total_theoretical_price": "49.38"}
    order: dict[str, Any] = {"id": "5f0c2b7e9d1a", "order_number": "PO-1", "status": "ORDERED", "ordered_on": "2024-03-31T01:58:12.481920Z"}
    order |= {"owned_by": None, "order_remarks": None, "expected_delivery_date": None, "theoretical_price": "49.38"}
    order |= {"supplier_customer_number": "0010023", "packages": [line]}
    body = json.dumps(order, ensure_ascii=False)
    try:
        assert machine.gateway("check").returncode == 0
        machine.start()
        signature = hmac.new(WEBHOOK_SECRET.encode(), body.encode(), "sha256").hexdigest()
        assert machine.post("apicbase", body, "X-APIC-WEBHOOK-SIGNATURE", signature) == 200
        machine.until(lambda: "apicbase/5f0c2b7e9d1a/1" in machine.taken(), "the order at the ERP")
    finally:
        machine.write("/etc/order-gateway/gateway.toml", CONFIG)
    machine.start()


def _probed(machine: Machine, unit: str, text: str) -> dict[str, Any]:
    machine.write(f"/run/systemd/system/{unit}", text)
    machine.systemctl("daemon-reload")
    done = machine.systemctl("start", unit)
    said = machine.container.run("journalctl", "-q", "-o", "cat", "--no-pager", "-u", unit).stdout
    assert done.returncode == 0, said
    found: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return found


_ALLOWED = {"its own folder", "TCP"}


@pytest.mark.long
def test_nothing_can_be_done_from_inside_that_it_need_not_do(machine: Machine) -> None:
    """The unit, word for word, around a program that tries."""
    text = UNIT.read_text("utf-8").replace(f"{HOME}/bin/gateway serve", f"{HOME}/bin/probe")
    for ours, theirs in (("Type=notify", "Type=oneshot"), ("Restart=always", ""), ("WatchdogSec=30", ""), ("=order-gateway\n", "=probe\n")):
        assert ours in text
        text = text.replace(ours, theirs)
    found = _probed(machine, "probe.service", text)
    status = found.pop("status")
    assert {name for name, outcome in found.items() if outcome == "allowed"} == _ALLOWED
    nothing = "0" * 16
    assert status == {"CapEff": nothing, "CapBnd": nothing, "CapPrm": nothing, "NoNewPrivs": "1", "Seccomp": "2"}


@pytest.mark.long
def test_the_probes_succeed_where_nothing_forbids_them(machine: Machine) -> None:
    """The known-bad mutant: without the unit's directives the same program can do it, so that a refusal means something."""
    found = _probed(machine, "bare.service", f"[Service]\nType=oneshot\nStateDirectory=bare\nExecStart={HOME}/bin/probe\n")
    refused = {name for name, outcome in found.items() if outcome == "refused"}
    # A container has no clock of its own to set, perhaps no kernel log, and what is mounted into it is read-only.
    assert refused <= {"clock", "/dev/kmsg", "realtime", "personality"}


@pytest.mark.long
def test_the_journal_holds_no_secret_and_no_order(machine: Machine) -> None:
    said = machine.container.run("journalctl", "--no-pager", "-o", "export").stdout
    assert "delivery.attempted" in said
    for word in (TOKEN, WEBHOOK_SECRET, "article_number", acme.sign(WEBHOOK_SECRET, acme.body("o1"))):
        assert word not in said
