"""A second state machine, of commands: whatever happens in whatever order, a command is done once, and what it owes is owed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.store.sqlite import SqliteStore

from .command_world import Handed, Outward
from .reference import Commands, Said
from .vendor import DOES, HANGS, LOOKS
from .world import Cut

T = TypeVar("T")

NUMBERS = ("RX-1", "RX-2", "note")
KEYS = ("k1", "k2", "k3", "k4")
SAID = st.one_of(
    st.builds(Said, st.just("create_order"), st.sampled_from(NUMBERS[:2]), st.integers(1, 2)),
    st.builds(Said, st.just("get_order"), st.sampled_from(NUMBERS[:2]), st.just(1)),
    st.builds(Said, st.just("send_note"), st.just("note"), st.integers(1, 2)),
)
DO = st.fixed_dictionaries({number: st.just("do") | st.sampled_from(DOES) for number in NUMBERS})
ASK = st.fixed_dictionaries({number: st.just("do") | st.sampled_from(LOOKS) for number in NUMBERS})
CAME = st.lists(st.tuples(st.sampled_from(KEYS), SAID), max_size=2)
BOTH = st.fixed_dictionaries({"does": DO, "answers": ASK})
SECONDS = (1, 10, 130, 900, 7200)
JUMPS = (-3600, 2 * 86400)
ACTIONS = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, weight, arguments in (
            ("submit_command", 1, {"key": st.sampled_from(KEYS), "said": SAID}),
            ("work", 4, {"came": CAME, "script": BOTH}),
            ("time_passes", 3, {"seconds": st.sampled_from(SECONDS), "script": BOTH}),
            ("die_while_accepting", 1, {"key": st.sampled_from(KEYS), "said": SAID, "committed": st.booleans()}),
            ("die_at_work", 3, {"came": CAME, "call": st.integers(0, 4), "committed": st.booleans(), "script": BOTH}),
            ("end_in_the_middle", 2, {"came": CAME, "hang": st.sampled_from(HANGS), "how": st.sampled_from(["stop", "die", "die"])}),
            ("something_happens", 2, {"what": st.sampled_from(["stop", "die", *["erase", "forget"] * 2, *JUMPS])}),
            ("somebody_decides", 3, {"what": st.sampled_from(["replay", "release", "drop"]), "n": st.integers(0, 20)}),
        )
        for _ in range(weight)
    )
)
_DROPPABLE = ("held", "dead", "ready", "unknown")
_OPEN = ("ready", "leased", "unknown", "held", "dead")


class CommandMachine(RuleBasedStateMachine):
    """One life of a gateway. A known-bad mutant puts another store in `make`."""

    make: ClassVar[Callable[..., SqliteStore]] = SqliteStore

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reference = Commands()
        self.decisions = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.world = Outward(Path(tempfile.mkdtemp(prefix="model-")), type(self).make)
        self.run(self.world.open())

    @rule(action=ACTIONS)
    def then(self, action: tuple[str, dict[str, Any]]) -> None:
        """One rule for all, as in `machine`."""
        name, arguments = action
        getattr(self, name)(**arguments)

    # --- what callers, vendors and machines do

    def submit_command(self, key: str, said: Said) -> None:
        expected, id_ = self.reference.submit_command(key, said, self._refused())
        status, answer, repeated = self.run(self.world.submit_command(key, *said))
        heard = (status, answer.get("id"), repeated)
        if expected == "stored":
            assert heard == (202, answer["id"], False)
            assert answer["id"] not in self.reference.said
            self.reference.stored(key, said, answer["id"])
        else:
            assert heard == ((202 if expected == "repeat" else 409), id_, expected == "repeat"), f"{expected} was answered {heard}"

    def _refused(self) -> set[str]:
        return {one.id for one in self.run(self.world.handed()).values() if one.status == "dead"}

    def work(self, came: list[tuple[str, Said]], script: dict[str, Any]) -> None:
        """Commands come, and everything that is due is tried."""
        self._hand_in(came)
        self.run(self.world.send(**script))

    def _hand_in(self, came: list[tuple[str, Said]]) -> None:
        for key, said in came:
            self.submit_command(key, said)

    def time_passes(self, seconds: float, script: dict[str, Any]) -> None:
        self.world.clock.advance(seconds)
        self.work([], script)

    def die_while_accepting(self, key: str, said: Said, committed: bool) -> None:
        expected, _ = self.reference.submit_command(key, said, self._refused())
        self.world.mortal.die_at(0, committed)
        with suppress(Cut):
            self.run(self.world.submit_command(key, *said))
        self.run(self.world.die())
        if committed and expected == "stored":
            (id_,) = [one.id for one in self.run(self.world.handed()).values() if one.key == key]
            self.reference.stored(key, said, id_)

    def die_at_work(self, came: list[tuple[str, Said]], call: int, committed: bool, script: dict[str, Any]) -> None:
        """At that call of the store, or after the work where there are fewer."""
        self._hand_in(came)
        self.world.mortal.die_at(call, committed)
        with suppress(Cut):
            self.run(self.world.send(**script))
        self.run(self.world.die())

    def end_in_the_middle(self, came: list[tuple[str, Said]], hang: Any, how: str) -> None:
        """While the vendor has not answered what it may have done."""
        self._hand_in(came)
        self.run(self.world.send(dict.fromkeys(NUMBERS, hang), {}))
        self.run(getattr(self.world, how)())

    def something_happens(self, what: Any) -> None:
        store = self.world.store
        if what == "erase":
            self.run(store.redact_bodies(self.world.clock.now(), 100))
            self.run(store.delete_attempts(self.world.clock.now(), 0, 100))
        elif what == "forget":
            self._forget()
        elif isinstance(what, str):
            self.run(getattr(self.world, what)())
        else:
            self.world.clock.jump(what)
            self.run(store.shift_due(round(what * 1000), 24 * 3600 * 1000))

    def _forget(self) -> None:
        before = self.run(self.world.handed())
        self.run(self.world.store.delete_submissions(self.world.clock.now(), 0, 100))
        after = self.run(self.world.handed())
        for id_ in before.keys() - after.keys():
            assert before[id_].status == "done", f"{before[id_]} was let go of"
            self.reference.forget(id_)

    # --- what people do

    def somebody_decides(self, what: str, n: int) -> None:
        wanted = {"replay": ("dead",), "release": ("held",), "drop": _DROPPABLE}[what]
        rows = [one for one in self.run(self.world.handed()).values() if one.status in wanted]
        if rows:
            self._decide(what, rows[n % len(rows)])

    def _decide(self, what: str, one: Handed) -> None:
        """Who releases what may be at the vendor has asked there; where it is there, it is dropped."""
        said = self.reference.said[one.id]
        if what == "drop" or (what == "release" and self.world.pharmacy.has(one.id, said.number)):
            self._drop(one)
            return
        stands = self.reference.submit_command("another key", said, self._refused())[0] == "taken"
        (decided, *_) = self.run(getattr(self.world.store, what)([one.id], "anna"))
        assert (decided.problem is not None) == (what == "replay" and stands)

    def _drop(self, one: Handed) -> None:
        self.decisions += 1
        (decided,) = self.run(self.world.store.drop([one.row], "anna", f"decision {self.decisions}"))
        assert decided.problem is None, (one, decided)
        self.reference.dropped.add(one.id)

    # --- what must be true all the time

    @invariant()
    def nothing_is_lost_or_done_twice(self) -> None:
        if not hasattr(self, "world"):
            return
        vendor, handed = self.world.pharmacy, self.run(self.world.handed())
        assert not vendor.problems
        assert max(vendor.made.values(), default=0) <= 1, "one command was done twice"
        assert list(handed) == list(self.reference.said), "what was answered 202 is what there is"
        for id_, said in self.reference.said.items():
            self._owed(handed[id_], said)
        vendor.closed |= {id_ for id_, one in handed.items() if one.status == "done"}
        self.run(self._explained())

    def _owed(self, one: Handed, said: Said) -> None:
        if one.status != "done":
            assert one.has_body, f"{one} is erased"
            assert one.id not in self.world.pharmacy.closed, f"{one} was done"
            assert (one.status, one.outcome) != ("dead", "refused") or one.id not in self.world.pharmacy.made, (
                f"{one} was done all the same"
            )
        elif one.id in self.reference.dropped:
            assert one.outcome == "dropped"
        elif said.command == "send_note":
            assert (one.outcome, self.world.pharmacy.made.get(one.id)) == ("submitted", 1), f"{one} is nowhere"
        else:
            assert one.outcome in ("submitted", "found")
            assert said.number in self.world.pharmacy.created, f"{one} is nowhere"

    async def _explained(self) -> None:
        """What a person ended has that person's name and reason; what was created is an event for the ERP, in the same commit."""
        dropped = (
            "SELECT public_id, (SELECT who || ': ' || reason FROM audit WHERE queue = 'submit' AND row_id = submit.id AND action = 'drop')"
        )
        for id_, said in await self.world.rows(f"{dropped} FROM submit WHERE outcome = 'dropped'"):
            assert str(said).startswith("anna: decision "), f"{id_} was dropped, and the audit says {said}"
        untold = "SELECT public_id FROM submit WHERE command = 'create_order' AND outcome IN ('submitted', 'found') AND NOT EXISTS"
        assert await self.world.rows(f"{untold} (SELECT 1 FROM inbox WHERE key = 'created-' || subject)") == []

    # --- how it ends

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                try:
                    self._calm_down()
                finally:
                    self.run(self.world.close())
        finally:
            self.loop.close()

    def _calm_down(self) -> None:
        """Everybody is kind now: what is owed is done, once people have decided what waits for them."""
        for _ in range(4 + 4 * len(self.reference.said)):
            self._work_it_off()
            waiting = [one for one in self.run(self.world.handed()).values() if one.status in ("held", "dead")]
            if not waiting:
                break
            for one in waiting:
                if one.command == "get_order" and one.number not in self.world.pharmacy.created:
                    self._drop(one)  # the vendor has no order of this number
                    continue
                self._decide("release" if one.status == "held" else "replay", one)
                if (now := self.run(self.world.handed())[one.id]).status == "dead":  # another stands for its number
                    self._drop(now)
        self.nothing_is_lost_or_done_twice()
        assert [one for one in self.run(self.world.handed()).values() if one.status in _OPEN] == []
        for id_, said in self.reference.said.items():
            done = said.number in self.world.pharmacy.created or self.world.pharmacy.made.get(id_) == 1
            assert done or id_ in self.reference.dropped

    def _work_it_off(self) -> None:
        for _ in range(100):
            self.world.step.resume()
            if not self.run(self.world.send({}, {})):
                due_s = self.run(self.world.store.next_due_s("submit", "acme"))
                if due_s is None:
                    return
                self.world.clock.advance(max(0.001, due_s))
        raise AssertionError("the work finds no end")
