"""What is measured: each section starts its contestants, lets them take turns, and makes ratios within each round."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct, structs

from benchmarks import backlog, burst, cloned, growth, mapped
from benchmarks.alternative import KINDS, MISSING, Kind
from benchmarks.contestants import Alternative, Gateway, Plain
from benchmarks.measures import Spread, spread
from benchmarks.report import Entry, Section, Verdict
from benchmarks.rounds import Ground, Round

PACE = 200


class Size(Struct, frozen=True, kw_only=True):
    """How much: orders in a round, events in a burst, rounds, waiting orders, starts, seconds of the paced load, simulated days.

    `delivered`: orders that are in the file beside those that wait; with them, it is made by benchmarks/cloned.py.
    `kinds`: how many of the alternatives, from the first.
    `settle_s`: between ready and looking at the memory. `patience_s`: how long to wait, in all, until nobody else uses the machine.
    """

    accept: int
    through: int
    alternatives: int
    kinds: int
    burst: int
    rounds: int
    waiting: int
    delivered: int
    starts: int
    paced_s: float
    settle_s: float
    patience_s: float
    days: int
    orders_a_day: int


FULL = Size(
    accept=2000,
    through=1500,
    alternatives=600,
    kinds=len(KINDS),
    burst=10_000,
    rounds=9,
    waiting=100_000,
    delivered=0,
    starts=4,
    paced_s=8,
    settle_s=2,
    patience_s=60,
    days=30,
    orders_a_day=50_000,
)
QUICK = Size(
    accept=800,
    through=600,
    alternatives=400,
    kinds=1,
    burst=10_000,
    rounds=3,
    waiting=100_000,
    delivered=0,
    starts=2,
    paced_s=2,
    settle_s=0.5,
    patience_s=5,
    days=6,
    orders_a_day=1000,
)
TINY = Size(
    accept=200,
    through=200,
    alternatives=100,
    kinds=2,
    burst=500,
    rounds=1,
    waiting=400,
    delivered=0,
    starts=1,
    paced_s=0.5,
    settle_s=0.1,
    patience_s=0,
    days=2,
    orders_a_day=50,
)

LARGE = 10  # times as many wait, and ten times as many as that are delivered

Contestant = Gateway | Plain


class Course:
    """The sections, over one ground."""

    def __init__(self, ground: Ground, folder: Path, size: Size) -> None:
        self._ground = ground
        self._folder = folder
        self._size = size
        self._seeded: Path | None = None

    def accept(self) -> Section:
        """Durable accepts over the answers of a bare handler."""
        count = self._size.accept
        with self._bare() as bare, self._gateway("gateway") as gateway:
            rounds = self._turns([bare, gateway], lambda one: self._ground.accept(one, count))
        return Section(
            name="accept",
            what=f"{count} signed webhooks a round over {self._ground.connections} connections; the gateway's target is held meanwhile",
            entries=_entries(rounds),
            verdicts=[_ratio("gateway / bare", rounds[1], rounds[0], 0.65)],
        )

    def through(self) -> Section:
        """Orders at the ERP over those of a relay that keeps nothing."""
        count = self._size.through
        with self._relay() as relay, self._gateway("gateway") as gateway:
            rounds = self._turns([relay, gateway], lambda one: self._ground.through(one, count))
        return Section(
            name="end-to-end",
            what=f"{count} signed webhooks a round, {self._ground.connections} connections each way; until the last one is at the ERP",
            entries=_entries(rounds),
            verdicts=[_ratio("gateway / relay", rounds[1], rounds[0], 0.75)],
        )

    def alternatives(self) -> Section:
        """The same over what could be run instead, each of which stores an order before it answers and then delivers it."""
        count, kinds = self._size.alternatives, KINDS[: self._size.kinds]
        with ExitStack() as stack:
            others = [stack.enter_context(self._alternative(kind)) for kind in kinds if kind.installed]
            gateway = stack.enter_context(self._gateway("gateway"))
            *rounds, ours = self._turns([*others, gateway], lambda one: self._ground.through(one, count), most=5)
        entries = [Entry(name=name, figures=_figures(measured) | {"answers/s": _answers(measured)}) for name, measured in (*rounds, ours)]
        entries += [Entry(name=f"{kind.name}: {MISSING}", figures={}) for kind in kinds if not kind.installed]
        verdicts = []
        for other, (_, measured) in zip(others, rounds, strict=True):
            name = f"gateway / {other.kind.name}"
            verdicts.append(Verdict(name=f"end to end, {name}", value=_over(ours[1], measured), aim=other.kind.aim))
            verdicts.append(Verdict(name=f"answers meanwhile, {name}", value=_over(ours[1], measured, "answers")))
        return Section(
            name="alternatives",
            what=f"{count} signed webhooks a round, {self._ground.connections} connections; until the last one is at the ERP",
            entries=entries,
            verdicts=verdicts,
        )

    def waiting(self) -> Section:
        """The same two with many orders waiting, over none."""
        size = self._size
        with self._gateway("empty") as empty, self._gateway("waiting", waiting=True) as full:
            accepts = self._turns([empty, full], lambda one: self._ground.accept(one, size.accept))
            throughs = self._turns([empty, full], lambda one: self._ground.through(one, size.through))
        return Section(
            name="backlog",
            what=f"the same with {_orders(size)} in the file, over none",
            entries=_entries(accepts, "accept, ") + _entries(throughs, "end-to-end, "),
            verdicts=[
                _ratio("accept, waiting / empty", accepts[1], accepts[0], 0.95),
                _ratio("end-to-end, waiting / empty", throughs[1], throughs[0], 0.95),
            ],
        )

    def footprint(self) -> Section:
        """Memory, and how soon it is ready after a kill."""
        entries, verdicts, size = [], [], self._size
        made = [self._made("idle"), self._made("idle-waiting", waiting=True)]
        seconds: list[list[float]] = [[], []]
        resident: list[list[float]] = [[], []]
        for _ in range(self._size.starts):
            for n, gateway in enumerate(made):
                with gateway:
                    seconds[n].append(gateway.start())
                    time.sleep(self._size.settle_s)
                    resident[n].append(gateway.child.memory_mb()["resident"])
        worked = []
        for gateway in made:
            with gateway:
                gateway.start()
                self._ground.through(gateway, self._size.through)
                worked.append(gateway.child.memory_mb()["peak"])
        for n, (gateway, aim) in enumerate(zip(made, (80, 200 if size.delivered else 150), strict=True)):
            figures: dict[str, Spread | float] = {
                "ready s": spread(seconds[n]),
                "resident MB": spread(resident[n]),
                "peak MB under load": worked[n],
            }
            entries.append(Entry(name=gateway.name, figures=figures))
            verdicts.append(Verdict(name=f"resident, {gateway.name}", value=spread(resident[n]), unit=" MB", aim=aim, at_least=False))
        verdicts.append(Verdict(name="ready, idle-waiting", value=spread(seconds[1]), unit=" s", aim=3, at_least=False))
        return Section(
            name="footprint",
            what=f"{self._size.settle_s:g} s after READY=1, which follows a kill -9; without and with {_orders(size)}",
            entries=entries,
            verdicts=verdicts,
        )

    def paced(self) -> Section:
        """How long a sender waits when nothing is at its limit."""
        with self._bare() as bare, self._gateway("gateway") as gateway:
            rounds = self._turns([bare, gateway], lambda one: self._ground.paced(one, PACE, self._size.paced_s), most=3)
        tail = spread([one.p99_ms for one in rounds[1][1]])
        return Section(
            name="latency",
            what=f"webhook to answer at {PACE} a second, delivery included in what the gateway does meanwhile",
            entries=_entries(rounds),
            verdicts=[
                Verdict(name="p50, gateway / bare", value=_over(rounds[1][1], rounds[0][1], "p50_ms")),
                Verdict(name="p99, gateway", value=tail, unit=" ms", aim=50, at_least=False),
            ],
        )

    def burst(self) -> Section:
        """A hub's events on disk, over a client that only decodes them."""
        return burst.measure(self._folder, self._size.burst, min(self._size.rounds, 5))

    def mapping(self) -> Section:
        """What a mapping adds to an order's way."""
        with self._gateway("unmapped") as gateway:
            self._ground.warm(gateway)
            measured = self._ground.through(gateway, self._size.through)
        return mapped.measure(self._size.paced_s / 4, min(self._size.rounds, 5), measured.each["loop_us"])

    def growth(self) -> Section:
        """How large the file becomes."""
        return growth.measure(self._folder, self._size.days, self._size.orders_a_day)

    def _turns(
        self, contestants: Sequence[Contestant], go: Callable[[Contestant], Round], *, most: int = 99
    ) -> list[tuple[str, list[Round]]]:
        """Rounds in alternating order, so that no contestant always comes first."""
        for one in contestants:
            self._ground.warm(one)
        rounds: dict[str, list[Round]] = {one.name: [] for one in contestants}
        for n in range(min(self._size.rounds, most)):
            for one in contestants if n % 2 == 0 else reversed(contestants):
                self._ground.quiet()
                rounds[one.name].append(go(one))
        return list(rounds.items())

    def _bare(self) -> Plain:
        return Plain("bare")

    def _relay(self) -> Plain:
        return Plain("relay", erp=self._ground.erp_url, connections=self._ground.connections)

    def _alternative(self, kind: Kind) -> Alternative:
        folder, ground = self._folder / kind.name, self._ground
        shutil.rmtree(folder, ignore_errors=True)
        return Alternative(kind, folder, ground.vendor, erp=ground.erp_url, connections=ground.connections)

    @contextmanager
    def _gateway(self, name: str, *, waiting: bool = False) -> Iterator[Gateway]:
        with ExitStack() as stack:
            gateway = stack.enter_context(self._made(name, waiting=waiting))
            gateway.start()
            yield gateway
            gateway.stop()

    def _made(self, name: str, *, waiting: bool = False) -> Gateway:
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        ground = self._ground
        gateway = Gateway(name, folder, ground.vendor, erp=ground.erp_url, concurrency=ground.connections, down=waiting)
        if waiting:
            gateway.database.parent.mkdir(mode=0o700)
            self._hand_over(gateway.database)
        return gateway

    def _hand_over(self, database: Path) -> None:
        """Make the file with waiting orders at the first call, and move it on at the others: there is disk for one of them."""
        if self._seeded is None:
            if self._size.delivered:
                cloned.seed(database, self._size.waiting, self._size.delivered)
            else:
                backlog.seed(database, self._size.waiting)
        else:
            for part in self._seeded.parent.glob(f"{self._seeded.name}*"):
                part.rename(database.parent / part.name)
        self._seeded = database


def large(size: Size) -> Size:
    """The same with a file of many orders."""
    waiting = size.waiting * LARGE
    return structs.replace(size, waiting=waiting, delivered=waiting * LARGE)


def _orders(size: Size) -> str:
    return f"{size.waiting} waiting orders" + (f" and {size.delivered} delivered ones" if size.delivered else "")


def _entries(rounds: Sequence[tuple[str, list[Round]]], prefix: str = "") -> list[Entry]:
    return [Entry(name=prefix + name, figures=_figures(measured)) for name, measured in rounds]


def _figures(measured: Sequence[Round]) -> dict[str, Spread | float]:
    figures: dict[str, Spread | float] = {
        "orders/s": spread([one.rate for one in measured]),
        "p50 ms": spread([one.p50_ms for one in measured]).median,
        "p99 ms": spread([one.p99_ms for one in measured]).median,
    }
    names = {"loop_us": "loop us", "others_us": "others us", "loop_queued_us": "queued us", "commits": "commits"}
    for name, column in names.items():
        values = [one.each[name] for one in measured if name in one.each]
        if values:
            figures[column] = spread(values).median
    prepared = [one.prepared for one in measured if one.prepared is not None]
    if prepared:
        figures["prepared"] = spread(prepared).median
    figures["load cpu"] = spread([one.load_share for one in measured]).median
    figures["elsewhere"] = spread([one.elsewhere for one in measured]).median
    return figures


def _answers(measured: Sequence[Round]) -> Spread:
    return spread([one.answers for one in measured])


def _over(one: Sequence[Round], other: Sequence[Round], field: str = "rate") -> Spread:
    return spread([getattr(a, field) / getattr(b, field) for a, b in zip(one, other, strict=True)])


def _ratio(name: str, one: tuple[str, list[Round]], other: tuple[str, list[Round]], aim: float) -> Verdict:
    return Verdict(name=name, value=_over(one[1], other[1]), aim=aim)
