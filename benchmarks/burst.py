"""A hub that pushes as fast as it can: events on disk a second, over a client that only decodes them."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.contestants import Gateway, free_port
from benchmarks.measures import spread
from benchmarks.report import Entry, Section, Verdict
from benchmarks.rounds import Wrong
from benchmarks.vendor import Vendor

_PATIENCE_S = 120.0
_LOOK_S = 0.002
_TARGET = "OrderStateChanged"


class Hub:
    """`python -m gateway.testing.hub` on a free port."""

    def __init__(self, per_frame: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hub"
        self._per_frame = per_frame
        self._child = Child(["-m", "gateway.testing.hub", "--port", str(self.port)])
        self._until(lambda: self._command("GET", "connections"), "the hub does not listen")

    def kill(self) -> None:
        """End it."""
        self._child.kill()

    def wait_for_a_listener(self) -> None:
        """Return when one is connected."""
        self._until(lambda: self._command("GET", "connections")["live"], "nobody connects to the hub")

    def burst(self, prefix: str, count: int) -> float:
        """Push; when it began. Returns after the last one was written."""
        began = time.monotonic()
        arguments = [prefix + "-{n}", "customer_0", "READYFORINPUT", "2024-03-31T08:15:00+02:00", None]
        self._command("POST", f"burst?count={count}&per_frame={self._per_frame}", {"target": _TARGET, "arguments": arguments})
        return began

    @staticmethod
    def _until(condition: Callable[[], object], problem: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(problem)

    def _command(self, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/control/{what}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            said = answer.read()
        return json.loads(said) if said else None


def measure(folder: Path, count: int, rounds: int, per_frame: int = 1) -> Section:
    """Alternating rounds against one hub each; every event must be stored, in the order in which it was pushed."""
    rates: dict[str, list[float]] = {"bare client": [], "gateway": []}
    peak = 0.0
    with _hub(per_frame) as for_bare, _hub(per_frame) as for_gateway:
        bare = Child(["-m", "benchmarks.listener", for_bare.url, "--count", str(count)])
        with bare, _gateway(folder / "burst", for_gateway.url) as gateway:
            for_bare.wait_for_a_listener()
            gateway.start()
            for_gateway.wait_for_a_listener()
            for n in range(rounds + 1):
                measured = {"bare client": _decoded(bare, for_bare, n, count), "gateway": _stored(gateway, for_gateway, n, count)}
                if n:  # the first round warms up
                    for name, rate in measured.items():
                        rates[name].append(rate)
            peak = gateway.child.memory_mb()["peak"]
            gateway.stop()
    ratio = spread([ours / theirs for ours, theirs in zip(rates["gateway"], rates["bare client"], strict=True)])
    figures = {name: spread(of) for name, of in rates.items()}
    return Section(
        name="burst",
        what=f"{count} events pushed by a hub at once, {per_frame} a frame; each on disk, in order, over each decoded",
        entries=[Entry(name=name, figures={"events/s": of}) for name, of in figures.items()],
        verdicts=[
            Verdict(name="gateway / bare client", value=ratio, aim=0.5),
            Verdict(name="peak memory", value=spread([peak]), unit=" MB"),
        ],
    )


@contextmanager
def _hub(per_frame: int) -> Iterator[Hub]:
    hub = Hub(per_frame)
    try:
        yield hub
    finally:
        hub.kill()


def _gateway(folder: Path, hub: str) -> Gateway:
    """Nothing answers what is fetched meanwhile: what is measured ends in the inbox."""
    folder.mkdir(parents=True)
    (folder / "key").write_text("test-key\n")
    settings = f"""
base_url = "http://127.0.0.1:9"
hub_url = "{hub}"
api_key = {{ file = "key" }}
time_zone = "Europe/Berlin"
calls_per_minute = 30
"""
    vendor = Vendor(connector="pickup_cloud", header="", settings=settings)
    return Gateway("gateway", folder, vendor, erp="http://127.0.0.1:9/", doors='["poll", "realtime"]')


def _decoded(bare: Child, hub: Hub, n: int, count: int) -> float:
    began = hub.burst(f"b{n}", count)
    return count / (float(bare.hear(_PATIENCE_S)["last_at"]) - began)


def _stored(gateway: Gateway, hub: Hub, n: int, count: int) -> float:
    with closing(sqlite3.connect(f"file:{gateway.database}?mode=ro", uri=True)) as db:
        before = _newest(db)
        began = hub.burst(f"g{n}", count)
        while _newest(db) < before + count:
            if time.monotonic() > began + _PATIENCE_S:
                raise Wrong(f"{before + count - _newest(db)} of {count} events are not stored")
            time.sleep(_LOOK_S)
        last_at = time.monotonic()
        refs = [ref for (ref,) in db.execute(_REFS, (before,))]
    if refs != [f"g{n}-{k}" for k in range(count)]:
        raise Wrong("events are stored in another order than they were pushed in")
    return count / (last_at - began)


_REFS = "SELECT order_ref FROM inbox JOIN orders ON orders.id = order_id WHERE inbox.id > ? ORDER BY inbox.id"


def _newest(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(id), 0) FROM inbox").fetchone()[0])
