"""Demo of `gateway demo`: the gateway with simulated vendors and a simulated ERP on loopback.

The gateway is a process of its own, started as an administrator starts it, so that it can be killed. The simulators and the ERP live in
this process; they know what was sent and what arrived, and `--once` compares the two. If a vendor takes orders, the ERP creates some
through the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gateway.api.errors import GatewayError
from gateway.plugin.discovery import installed
from gateway.testing.compare import Row, compare, print_table, torn_keys
from gateway.testing.erp import ErpSimulator
from gateway.testing.simulator import GROUP, Sent, Simulator
from gateway.testing.toml import to_toml
from gateway.testing.wishes import Orderable, Wish, submit_command

_READY_S = 20.0
_ARRIVE_S = 150.0
_BETWEEN_S = (0.4, 1.6)
_TOKEN = "demo-token-of-the-erp"
_SHARE_CREATED = 0.2


def simulators() -> dict[str, Simulator]:
    """Make a simulator for each installed connector that has one. Raises GatewayError if there is none."""
    works = {plugin.name for plugin in installed().values() if plugin.problem is None}
    found: dict[str, Simulator] = {point.name: point.load()() for point in entry_points(group=GROUP) if point.name in works}
    if not found:
        raise GatewayError("no vendor plugin with a simulator is installed; in a checkout, run `make demo`")
    return found


class Demo:
    """Gateway process, simulators and ERP of one demo.

    Args:
        usual_ports: Use the ports of the documents if they are free. Another program may take them after a kill.
    """

    def __init__(self, folder: Path, vendors: dict[str, Simulator], *, usual_ports: bool = True) -> None:
        self._folder = folder
        self.vendors = vendors
        self.erp = ErpSimulator(token="demo-token")
        self._config = folder / "gateway.toml"
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None
        self.http_port, self.admin_port, self.out_port = _ports(8080, 8081, 8082) if usual_ports else _ports(0, 0, 0)

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def orderable(self) -> dict[str, Orderable]:
        """Vendors at which the ERP creates orders."""
        return {name: simulator for name, simulator in self.vendors.items() if isinstance(simulator, Orderable)}

    async def create(self, source: str, wish: Wish) -> Sent:
        """Create an order at a vendor, as the ERP; returns the order that the vendor should have."""
        status = await submit_command(f"http://127.0.0.1:{self.out_port}", _TOKEN, source, wish)
        say("ERP", f"creates {wish.sent.order_number} at {source}, {wish.command}: {status or 'no answer'}")
        return wish.sent

    async def start(self) -> None:
        """Start the ERP, the vendors and the gateway."""
        await self.erp.start()
        for simulator in self.vendors.values():
            await simulator.start()
        self._config.write_text(self._configuration())
        await self._start_gateway()
        self._watch = asyncio.create_task(self._revive())
        print(f"  pages for operators  http://127.0.0.1:{self.admin_port}/")
        print(f"  vendors send to      {self.gateway_url}/in/...")
        if self.orderable:
            print(f"  the ERP submits at  http://127.0.0.1:{self.out_port}/out/...  (what there is: /openapi.json)")
        print(f"  simulated ERP        {self.erp.url}")
        for name, simulator in self.vendors.items():
            print(f"  simulated vendor     {simulator.address}  {simulator.title} ({name})")
        print(f"  configuration        {self._config}")
        print(f"  gateway process      {self._pid()}; try kill -9 {self._pid()} and watch\n", flush=True)

    async def stop(self) -> int:
        """Stop everything as systemd does; returns the gateway's exit code."""
        self._stopping = True
        if self._watch:
            self._watch.cancel()
        code = 0
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signal.SIGTERM)
            code = await self._child.wait()
        for simulator in self.vendors.values():
            await simulator.stop()
        await self.erp.stop()
        return code

    def kill(self) -> None:
        """Kill the gateway with SIGKILL; it is started again at once."""
        if self._child is not None:
            self._child.kill()

    async def status(self) -> dict[str, Any]:
        """Return the output of `gateway status --json`."""
        command = [sys.executable, "-m", "gateway.cli.main", "status", "--json", "--config", str(self._config)]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        said: dict[str, Any] = json.loads(out)
        return said

    def _configuration(self) -> str:
        (self._folder / "erp-token").write_text("demo-token\n")
        secrets = self._folder / "secrets"
        secrets.mkdir(mode=0o700)
        tables: dict[str, Any] = {
            "gateway": {"data_dir": "data"},
            "store": {"reserve_bytes": 1 << 20},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
            "submit": {"listen": f"127.0.0.1:{self.out_port}", "callers": self._callers()},
            "targets": {
                "erp": {
                    "url": self.erp.url,
                    "auth": {"kind": "bearer", "token": {"file": "erp-token"}},
                    "retry": {"base_s": 0.2, "cap_s": 5},
                    "breaker": {"failures": 5, "cooldown_s": 1},
                }
            },
            "sources": {name: simulator.source(secrets) for name, simulator in self.vendors.items()},
        }
        return "# made by `gateway demo`; every key is in etc/gateway.toml\n" + to_toml(tables)

    def _callers(self) -> dict[str, Any]:
        commands = [f"{name}/*" for name in self.orderable]
        return {"erp": {"token_sha256": hashlib.sha256(_TOKEN.encode()).hexdigest(), "commands": commands}} if commands else {}

    async def _start_gateway(self) -> None:
        log = (self._folder / "gateway.log").open("ab")
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "--log", "json", "--config", str(self._config)]
        self._child = await asyncio.create_subprocess_exec(*command, stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
        log.close()
        try:
            async with asyncio.timeout(_READY_S):
                while not await _listens(self.http_port):
                    if self._child.returncode is not None:
                        raise GatewayError(f"the gateway did not start:\n{(self._folder / 'gateway.log').read_text()[-2000:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise GatewayError(f"the gateway was not ready after {_READY_S:.0f} s; see {self._folder / 'gateway.log'}") from None

    async def _revive(self) -> None:
        while True:
            assert self._child is not None
            code = await self._child.wait()
            if self._stopping:
                return
            say("gateway", f"ended ({f'signal {-code}' if code < 0 else f'exit code {code}'}); started again")
            await self._start_gateway()
            say("gateway", f"ready, process {self._pid()}")

    def _pid(self) -> int:
        return self._child.pid if self._child else 0


async def once(demo: Demo) -> int:
    """Send a fixed set of orders through every door and from the ERP, kill the gateway in between, and compare."""
    demo.erp.arm("slow", times=2, delay_s=0.5)
    demo.erp.arm("lose_answer", times=2)
    demo.erp.arm("status", times=2, status=503)
    sent: list[tuple[str, Sent]] = []
    for name, vendor in demo.orderable.items():
        sent += [(name, await demo.create(name, wish)) for wish in vendor.wishes(unkind=True)]
    for number, (name, simulator) in enumerate(demo.vendors.items()):
        script = asyncio.create_task(simulator.script(demo.gateway_url, name))
        for order in await script:
            sent.append((name, order))
        if number == 0:
            say("demo", "kill -9, in the middle of it")
            demo.kill()
    rows = await _arrival(demo, sent)
    held = (await demo.status())["inbox"]["held"]
    wanted = sum(order.expected == "held" for _, order in sent)
    print_table(rows)
    doubled = [f"{name} {number}" for name, vendor in demo.orderable.items() for number in vendor.doubled()]
    differences = list(judged(rows, held, wanted, doubled))
    print("".join(f"\n{text}" for text in differences))
    verdict = "NOT AGREED" if differences else "agreed"
    print(f"{len(rows)} orders sent, {len(demo.erp.orders)} messages in the ERP, {held} wait for a person: {verdict}")
    return 1 if differences else 0


def judged(rows: Sequence[Row], held: int, wanted: int, doubled: Sequence[str]) -> Iterator[str]:
    """Yield what differs from the expected result."""
    if wrong := sum(row.verdict != "ok" for row in rows):
        yield f"{wrong} orders are not in the ERP as they were sent"
    if held != wanted:
        yield f"{held} orders wait for a person, {wanted} should"
    if doubled:
        yield f"created twice: {', '.join(doubled)}"


async def live(demo: Demo) -> int:
    """Send random orders until Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    show = asyncio.create_task(_show_arrivals(demo))
    placed = 0
    while not stop.is_set():
        placed += 1
        if demo.orderable and random.random() < _SHARE_CREATED:
            name, vendor = random.choice(list(demo.orderable.items()))
            await demo.create(name, random.choice(vendor.wishes()))
        else:
            name, simulator = random.choice(list(demo.vendors.items()))
            order = await simulator.place(demo.gateway_url, name)
            say(name, f"{order.order_number} through {order.door}: {order.answer}" + (f"  ({order.note})" if order.note else ""))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(*_BETWEEN_S)):
                await stop.wait()
    print("\nstopping ...", flush=True)
    show.cancel()
    code = await demo.stop()
    print(f"{placed} orders placed, {len(demo.erp.orders)} messages in the ERP; the gateway ended with exit code {code}")
    return code


async def _show_arrivals(demo: Demo) -> None:
    shown = 0
    while True:
        await demo.erp.wait_for(shown + 1, timeout_s=10**9)
        for message in demo.erp.messages()[shown:]:
            order = message["order"]
            flags = "  " + " ".join(order["flags"]) if order["flags"] else ""
            say("ERP", f"{message['key']}  {message['kind']}  {len(order['lines'])} lines  {order['total']} {order['currency']}{flags}")
            shown += 1


async def _arrival(demo: Demo, sent: Sequence[tuple[str, Sent]]) -> list[Row]:
    """Wait until every order has arrived and no row is open; returns the comparison."""

    def rows() -> list[Row]:
        return compare(sent, demo.erp.messages(), torn_keys(demo.erp))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ARRIVE_S):
            while any(row.verdict != "ok" for row in rows()):
                await asyncio.sleep(0.2)
    async with asyncio.timeout(_ARRIVE_S):
        while _under_way(await demo.status()):
            await asyncio.sleep(0.2)
    return rows()


def _under_way(status: dict[str, Any]) -> bool:
    waiting = [(queue, word) for queue in ("inbox", "outbox", "submit") for word in ("ready", "leased", "unknown")]
    return any(status[queue].get(word) for queue, word in waiting)


def say(who: str, what: str) -> None:
    """Print a line with the time."""
    print(f"{datetime.now().astimezone():%H:%M:%S}  {who:<12} {what}", flush=True)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _ports(*wanted: int) -> list[int]:
    """Return the wanted ports where they are free, else others, all different."""
    with contextlib.ExitStack() as taken:
        return [_port(one, taken) for one in wanted]


def _port(wanted: int, taken: contextlib.ExitStack) -> int:
    for port in (wanted, 0):
        probe = taken.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise GatewayError("no free port on this machine")


async def _run(is_once: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="order-gateway-demo-") as name:
        demo = Demo(Path(name), simulators(), usual_ports=not is_once)
        try:
            await demo.start()
            return await (once(demo) if is_once else live(demo))
        finally:
            await demo.stop()


def main(*, once: bool) -> int:
    """Run the demo and return its exit code."""
    return asyncio.run(_run(once))
