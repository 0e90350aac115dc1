"""A state machine of the whole engine: whatever happens in whatever order, the gateway still owes what the reference says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.store.sqlite import SqliteStore

from .erp import ANSWERS, LATE, STALLS, Answer
from .reference import Reference
from .world import QUEUES, Cut, Fate, World

T = TypeVar("T")

REFS = ("o1", "o2")
STEPS = ("prepare", "send", "acknowledge")
MANY = st.fixed_dictionaries({ref: st.just("ok") | st.sampled_from(ANSWERS) for ref in REFS})
SECONDS = (10, 130, 900, 7200)
JUMPS = (-3600, 2 * 86400)
CONTENTS = st.integers(1, 3)
CAME = st.lists(st.tuples(st.sampled_from(REFS), CONTENTS), max_size=2)
ACTIONS = st.one_of(
    *(
        st.tuples(st.just(name), st.fixed_dictionaries(arguments))
        for name, weight, arguments in (
            ("work", 4, {"came": CAME, "answers": MANY}),
            ("time_passes", 2, {"seconds": st.sampled_from(SECONDS), "answers": MANY}),
            ("a_late_answer_comes", 1, {"answer": st.sampled_from(LATE)}),
            ("workers_overlap", 1, {"came": CAME, "stall": st.sampled_from(STALLS), "answers": MANY, "late": st.sampled_from(LATE)}),
            ("acknowledge", 1, {"confirms": st.sets(st.sampled_from(REFS))}),
            ("die_while_accepting", 1, {"ref": st.sampled_from(REFS), "content": CONTENTS, "committed": st.booleans()}),
            ("die_at_work", 2, {"step": st.sampled_from(STEPS), "call": st.integers(0, 3), "committed": st.booleans(), "answers": MANY}),
            ("something_happens", 1, {"what": st.sampled_from(["reload", "die", "erase", *JUMPS])}),
            ("somebody_resends", 1, {"n": st.integers(0, 20)}),
            ("somebody_decides", 3, {"what": st.sampled_from(["replay", "release", "drop", "tell"]), "n": st.integers(0, 20)}),
        )
        for _ in range(weight)
    )
)
_DROPPABLE = ("held", "dead", "ready", "unknown")


class Engine(RuleBasedStateMachine):
    """One life of a gateway. A known-bad mutant puts another store in `make`."""

    make: ClassVar[Callable[..., SqliteStore]] = SqliteStore

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reference = Reference()
        self.decisions = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(policy=st.sampled_from(["hold", "replace", "send"]), strategy=st.sampled_from(["header", "lookup"]))
    def start(self, policy: str, strategy: Any) -> None:
        self.policy = policy
        self.world = World(Path(tempfile.mkdtemp(prefix="model-")), policy, strategy, type(self).make)
        self.run(self.world.open())

    @rule(action=ACTIONS)
    def then(self, action: tuple[str, dict[str, Any]]) -> None:
        """One rule for all: hypothesis leaves rules out at random, and a life without work, or without deaths, shows little."""
        name, arguments = action
        getattr(self, name)(**arguments)

    # --- what senders, workers and machines do

    def work(self, came: list[tuple[str, int]], answers: dict[str, Answer]) -> None:
        """Orders come, and everything that is due is tried."""
        for ref, content in came:
            assert self.run(self.world.accept(ref, content)) == self.reference.accept(ref, content)
        self.run(self.world.prepare())
        self.run(self.world.send(answers))

    def die_while_accepting(self, ref: str, content: int, committed: bool) -> None:
        self.world.mortal.die_at(0, committed)
        with suppress(Cut):
            self.run(self.world.accept(ref, content))
        if committed:
            self.reference.accept(ref, content)
        self.run(self.world.die())

    def die_at_work(self, step: str, call: int, committed: bool, answers: dict[str, Answer]) -> None:
        """At that call of the store, or after the work where there are fewer."""
        if step == "send":
            self.run(self.world.prepare())
        self.world.mortal.die_at(call, committed)
        with suppress(Cut):
            self.run(self._step(step, answers))
        self.run(self.world.die())

    async def _step(self, step: str, answers: dict[str, Answer]) -> None:
        await (self.world.send(answers, 1) if step == "send" else getattr(self.world, step)())

    def acknowledge(self, confirms: set[str]) -> None:
        self.run(self.world.acknowledge(lambda receipt: receipt.order_ref in confirms))

    def time_passes(self, seconds: float, answers: dict[str, Answer]) -> None:
        """And whatever comes due is tried; a target that was held is released."""
        self.run(self.world.released())
        self.world.clock.advance(seconds)
        self.run(self.world.send(answers))
        self.run(self.world.acknowledge())

    def a_late_answer_comes(self, answer: Answer) -> None:
        self.run(self.world.late(answer))

    def workers_overlap(self, came: list[tuple[str, int]], stall: Answer, answers: dict[str, Answer], late: Answer) -> None:
        """New workers take over and do what they can; then what the old ones asked is answered."""
        self.work(came, dict.fromkeys(REFS, stall))
        self.run(self.world.reload())
        self.run(self.world.send(answers))
        self.nothing_is_lost()
        self.run(self.world.late(late))

    def something_happens(self, what: Any) -> None:
        if what == "reload":
            self.run(self.world.reload())
        elif what == "die":
            self.run(self.world.die())
        elif what == "erase":
            self.run(self._let_go())
        else:
            self.world.clock.jump(what)
            self.run(self.world.store.shift_due(round(what * 1000), 24 * 3600 * 1000))

    async def _let_go(self) -> None:
        """Of everything that is settled, but for what tells a repeat."""
        store, now = self.world.store, self.world.clock.now()
        await store.redact_bodies(now, 100)
        await store.delete_attempts(now, 0, 100)
        await store.prune_orders(now, datetime(1970, 1, 1, tzinfo=UTC), 0, 100)

    # --- what people do

    def somebody_decides(self, what: str, n: int) -> None:
        if what == "drop":
            self._drop(n)
        elif what == "tell":
            self._tell(n)
        else:
            decide = getattr(self.world.store, what)
            rows = self.run(self.world.waiting("dead" if what == "replay" else "held"))
            if rows:
                (decided, *_) = self.run(decide([rows[n % len(rows)]], "anna"))
                assert decided.problem is None

    def _drop(self, n: int) -> None:
        rows = self.run(self.world.waiting(*_DROPPABLE))
        if not rows:
            return
        row, before = rows[n % len(rows)], self.run(self.world.fates())
        self.decisions += 1
        self.run(self.world.store.drop([row], "anna", f"decision {self.decisions}"))
        for (ref, version), fate in before.items():
            last = fate.message or fate
            if row in (fate.row, last.row) and last.status in _DROPPABLE:
                self.reference.end(ref, version)

    def somebody_resends(self, n: int) -> None:
        """A delivered message goes once more; where it would overtake, or its body is gone, it does not."""
        found = self.run(self.world.rows("SELECT id, key FROM outbox WHERE outcome IN ('delivered', 'duplicate') AND status = 'done'"))
        if found:
            row_id, key = found[n % len(found)]
            (decided,) = self.run(self.world.store.resend([f"outbox:{row_id}"], "anna", "the ERP was put back"))
            if decided.problem is None:
                self.world.erp.closed.discard(key)

    def _tell(self, n: int) -> None:
        """The sender of a refused order hears that it is refused."""
        refused = [at for at, fate in self.run(self.world.fates()).items() if _is_refused(fate)]
        if refused:
            ref, version = refused[n % len(refused)]
            key = ref if version == 1 else f"{ref}@{version}"
            assert self.run(self.world.store.reject("acme", key, "no"))
            self.reference.end(ref, version, told=True)

    # --- what must be true all the time

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "world"):
            fates = self.run(self.world.fates())
            for ref, version, content in self.reference.owed():
                self._owed(ref, version, content, fates.get((ref, version)))
            self._closed_for_good(fates)
            self.run(self._explained())
            assert not self.world.erp.problems
            assert max(self.world.erp.made.values(), default=0) <= 1, "one message became two orders"

    def _owed(self, ref: str, version: int, content: int, fate: Fate | None) -> None:
        assert fate is not None, f"version {version} of {ref} was accepted and is gone"
        last = fate.message or fate
        if last.status != "done":
            return
        if fate.message is not None and last.outcome in ("delivered", "duplicate"):
            came = self.world.erp.taken.get(last.key or "")
            assert came is not None, f"{last.key} counts as {last.outcome} and never reached the target"
            assert (came.ref, came.version, came.content) == (ref, version, content)
            return
        let_go = fate.message is None and last.outcome == "prepared"
        if let_go and (ref, version) in {(one.ref, one.version) for one in self.world.erp.taken.values()}:
            return
        superseded = last.outcome == "superseded" or let_go
        replaced = self.policy == "replace" and superseded and version < len(self.reference.versions[ref])
        assert replaced, f"version {version} of {ref} ended as {last.outcome} ({last.reason}), and nobody decided that"

    def _closed_for_good(self, fates: dict[tuple[str, int], Fate]) -> None:
        messages = {fate.message.key or "": fate.message for fate in fates.values() if fate.message is not None}
        for key in self.world.erp.closed & messages.keys():
            assert messages[key].status == "done", f"{key} was done and is {messages[key].status} again"
        self.world.erp.closed |= {key for key, message in messages.items() if message.status == "done"}

    async def _explained(self) -> None:
        """Whatever left without delivery has a person, a reason and an audit row; nobody hears `delivered` of what was not."""
        for queue in QUEUES[:2]:
            for (row_id,) in await self.world.rows(f"SELECT id FROM {queue} WHERE outcome = 'dropped'"):
                audit = "SELECT who, reason FROM audit WHERE queue = ? AND row_id = ? AND action = 'drop'"
                said = [(who, str(reason)[:9]) for who, reason in await self.world.rows(audit, queue, row_id)]
                assert said == [("anna", "decision ")], f"{queue}:{row_id} was dropped, and the audit says {said}"
        told = "SELECT key, version FROM inbox JOIN acknowledgements ON inbox_id = inbox.id WHERE stage = 'delivered'"
        taken = {(one.ref, one.version) for one in self.world.erp.taken.values()}
        for at in await self.world.rows(told):
            assert tuple(at) in taken, f"{at} is acknowledged as delivered and never was"

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
        """Everybody is kind now: what is owed reaches the ERP, once people have let go what waits for them."""
        self.run(self.world.late("lost"))
        self.run(self.world.reload())
        for _ in range(8 + 2 * sum(map(len, self.reference.versions.values()))):
            self._work_it_off()
            keys = self.run(self.world.waiting("dead")), self.run(self.world.waiting("held"))
            if not any(keys):
                break
            self.run(self.world.store.replay(keys[0], "anna"))
            self.run(self.world.store.release(keys[1], "anna"))
        self.nothing_is_lost()
        assert self.run(self.world.waiting("ready", "leased", "unknown", "held", "dead")) == []
        taken = {(one.ref, one.version) for one in self.world.erp.taken.values()}
        later = {ref: len(versions) for ref, versions in self.reference.versions.items()}
        for ref, version, _ in self.reference.owed():
            assert (ref, version) in taken or (self.policy == "replace" and version < later[ref])

    def _work_it_off(self) -> None:
        for _ in range(60):
            self.run(self.world.released())
            busy = [self.run(self.world.prepare()), self.run(self.world.send({})), self.run(self.world.acknowledge())]
            if not any(busy):
                names = ("acme", "erp", "acme")
                waits = [self.run(self.world.store.next_due_s(queue, name)) for queue, name in zip(QUEUES, names, strict=True)]
                if all(due_s is None for due_s in waits):
                    return
                self.world.clock.advance(max(0.001, min(due_s for due_s in waits if due_s is not None)))
        raise AssertionError("the work finds no end")


def _is_refused(fate: Fate) -> bool:
    return fate.message is not None and (fate.message.status, fate.message.outcome) == ("dead", "refused")
