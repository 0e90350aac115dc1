"""One round of one contestant: the load, the figures, and whether every order that was promised has arrived."""

from __future__ import annotations

import time
from typing import Any, Self

from msgspec import Struct

from benchmarks.child import Child, machine_cpu_s
from benchmarks.contestants import SOURCE, Gateway, Plain
from benchmarks.orders import order_id
from benchmarks.vendor import Vendor

ARRIVE_S = 180.0
_SETTLE_S = 0.2
_LOOK_S = 0.2
_QUIET = 0.2
WARM = 300


class Wrong(Exception):
    """Something was lost, doubled or refused: there is nothing to measure."""


class Round(Struct, frozen=True, kw_only=True):
    """What one round gave.

    Attributes:
        rate: Orders a second.
        answers: Of them, answered a second.
        load_share: Of one processor, what the load generator used.
        elsewhere: Of one processor, what everything else on this machine used meanwhile: near 0, or the round is disturbed.
        each: For each order: microseconds and switches by thread, commits.
        prepared: Of the orders, the share that was prepared when the last one was answered; gateway only.
    """

    rate: float
    answers: float
    p50_ms: float
    p99_ms: float
    load_share: float
    elsewhere: float
    each: dict[str, float]
    prepared: float | None = None


class Ground:
    """The load generator and the ERP, which serve every contestant in turn.

    Args:
        connections: Open to the contestant, one request at a time on each; as many as a relay or target has to the ERP.
        patience_s: How long, in all, to wait for others to leave the machine alone.
    """

    def __init__(self, vendor: Vendor, connections: int, patience_s: float = 0.0) -> None:
        self.vendor = vendor
        self.connections = connections
        self._patience_s = patience_s
        self._load = Child(["-m", "benchmarks.load"])
        self._erp = Child(["-m", "benchmarks.erp"])
        self.erp_url = f"http://127.0.0.1:{self._erp.hear()['port']}/orders"
        self._rounds = 0
        self._prefix = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._load.kill()
        self._erp.kill()

    def quiet(self) -> None:
        """Wait until nobody else uses the machine, while there is patience left."""
        while self._patience_s > 0:
            began, cpu_s = time.monotonic(), machine_cpu_s()
            time.sleep(_LOOK_S)
            spent_s = time.monotonic() - began
            if machine_cpu_s() - cpu_s < _QUIET * spent_s:
                return
            self._patience_s -= spent_s

    def warm(self, contestant: Gateway | Plain, count: int = WARM) -> None:
        """Let every branch be taken once before something is measured."""
        if contestant.name == "bare":
            self.accept(contestant, count)
        else:
            self.through(contestant, count)

    def accept(self, contestant: Gateway | Plain, count: int) -> Round:
        """Webhooks answered 200 a second. A gateway's target is held meanwhile; afterwards everything is delivered and compared."""
        if isinstance(contestant, Plain):
            return self.answered(contestant, count)
        contestant.target("hold")
        measured = self.answered(contestant, count)
        contestant.target("release")
        self._arrived(contestant, count)
        return measured

    def answered(self, contestant: Gateway | Plain, count: int) -> Round:
        """The first half of `accept`: until the last answer."""
        before = self._build(contestant, count)
        said = self._run(contestant, count)
        each = before.until_now(count)
        prepared = None
        if isinstance(contestant, Gateway):
            rows = contestant.metrics()
            prepared = 1 - sum(rows[f'gateway_rows{{queue="inbox",status="{status}"}}'] for status in ("ready", "leased")) / count
        return _round(said, each, prepared=prepared)

    def through(self, contestant: Gateway | Plain, count: int) -> Round:
        """Orders that arrived at the ERP a second, from the first request sent to the last new order at the ERP."""
        before = self._build(contestant, count)
        said = self._run(contestant, count)
        last_at = self._arrived(contestant, count)
        time.sleep(_SETTLE_S)
        return _round(said, before.until_now(count), rate=count / (last_at - said["began_at"]))

    def paced(self, contestant: Gateway | Plain, rate: int, seconds: float) -> Round:
        """How long an answer takes at so many requests a second."""
        count = max(1, round(rate * seconds))
        before = self._build(contestant, count)
        said = self._run(contestant, count, float(rate))
        if contestant.name != "bare":
            self._arrived(contestant, count)
            time.sleep(_SETTLE_S)
        return _round(said, before.until_now(count))

    def _build(self, contestant: Gateway | Plain, count: int) -> _Used:
        self._rounds += 1
        self._prefix = f"{self._rounds:04x}"
        self._load.ask(
            "build",
            prefix=self._prefix,
            count=count,
            host="127.0.0.1",
            port=contestant.port,
            path=f"/in/{SOURCE}",
            header=self.vendor.header,
        )
        self._erp.ask("reset")
        return _Used(contestant)

    def _run(self, contestant: Gateway | Plain, count: int, rate: float | None = None) -> dict[str, Any]:
        ours = (*contestant.children, self._load, self._erp)
        cpu_s, own_s = machine_cpu_s(), sum(one.threads().cpu_s for one in ours)
        said = self._load.ask("run", timeout_s=600, connections=self.connections, rate=rate)
        own_s = sum(one.threads().cpu_s for one in ours) - own_s
        said["elsewhere"] = (machine_cpu_s() - cpu_s - own_s) / said["seconds"]
        if said["refused"]:
            raise Wrong(f"{contestant.name} refused {len(said['refused'])} of {count} orders: {said['statuses']}")
        return said

    def _arrived(self, contestant: Gateway | Plain, count: int) -> float:
        """When the last order came. Raises Wrong unless exactly those that were accepted are there, each once."""
        said: dict[str, Any] = self._erp.ask("wait", timeout_s=ARRIVE_S + 10, count=count, at_most_s=ARRIVE_S)
        names = (order_id(self._prefix, n) for n in range(count))
        wanted = {f"{SOURCE}/{name}/1" for name in names} if isinstance(contestant, Gateway) else set(names)
        came = set(said["keys"])
        if came != wanted:
            lost, strange = sorted(wanted - came), sorted(came - wanted)
            raise Wrong(f"{contestant.name}: {len(lost)} of {count} orders are lost ({lost[:3]}), {len(strange)} strange ({strange[:3]})")
        if said["repeats"]:
            raise Wrong(f"{contestant.name}: {said['repeats']} orders came again, and nothing had failed")
        return float(said["last_at"])


class _Used:
    """What a contestant uses from now on: processor time and switches by thread, commits. To ask for the commits is work of
    the contestant's too, on a thread of its own; it is left out."""

    def __init__(self, contestant: Gateway | Plain) -> None:
        self._contestant = contestant
        self._commits = self._commits_now()
        self._threads = contestant.child.threads()

    def until_now(self, orders: int) -> dict[str, float]:
        """The same for each order."""
        each = self._contestant.child.threads().since(self._threads, orders)
        commits = self._commits_now()
        return each if commits is None or self._commits is None else each | {"commits": (commits - self._commits) / orders}

    def _commits_now(self) -> float | None:
        return self._contestant.metrics()["gateway_commit_seconds_count"] if isinstance(self._contestant, Gateway) else None


def _round(said: dict[str, Any], each: dict[str, float], *, rate: float | None = None, prepared: float | None = None) -> Round:
    return Round(
        rate=rate or said["count"] / said["seconds"],
        answers=said["count"] / said["seconds"],
        p50_ms=said["p50_ms"],
        p99_ms=said["p99_ms"],
        load_share=said["cpu_share"],
        elsewhere=max(0.0, said["elsewhere"]),
        each=each,
        prepared=prepared,
    )
