"""What stands in the log, and what never does: canary words in every field, header and secret of orders that go wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from gateway import AuthError, Event, Page, Unreadable
from gateway.log import formatter, set_up
from tests import acme
from tests.log_lines import log_lines
from tests.raw_http import post, wire

# --- the lines


def record(
    event: str = "delivery.attempted",
    *,
    name: str = "gateway.deliver",
    level: int = logging.INFO,
    error: BaseException | None = None,
    **extra: Any,
) -> logging.LogRecord:
    made = logging.LogRecord(name, level, "", 0, event, None, (type(error), error, error.__traceback__) if error else None)
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = formatter("json").format(made)
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_json_line_has_time_level_event_and_fields() -> None:
    said = as_json(record(source="acme", attempt=3, duration_s=0.25, status=None))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("at"))
    assert said == {"level": "info", "event": "delivery.attempted", "source": "acme", "attempt": 3, "duration_s": 0.25}


def test_a_plain_line_is_for_people() -> None:
    line = formatter("plain").format(record(level=logging.WARNING, source="acme", reason="no answer in time", key=""))
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} warning  delivery.attempted source=acme reason="no answer in time" key=""', line)


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)]
)
@pytest.mark.parametrize("form", ["json", "plain"])
def test_the_journal_is_told_the_priority(form: Any, level: int, priority: int) -> None:
    assert formatter(form, journal=True).format(record(level=level)).startswith(f"<{priority}>")


@pytest.mark.parametrize(
    "value", ['x\n{"level":"info","event":"forged"}', "x\r\n<2>forged", "x\x1b[2J", "x\u2028y", "\ud800", 'a "quoted" word', "\0"]
)
def test_no_value_makes_a_line_of_its_own_or_steers_a_terminal(value: str) -> None:
    for form in ("json", "plain"):
        line = formatter(form).format(record(reason=value))
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        line.encode()
    assert as_json(record(reason=value))["reason"] == value


def test_a_value_that_json_has_no_word_for_is_written_as_text(tmp_path: Path) -> None:
    assert as_json(record(path=tmp_path, error=ValueError("x"), kinds={"a"}))["path"] == str(tmp_path)


def failing() -> BaseException:
    def inner(name: str) -> NoReturn:
        raise KeyError(name)

    try:
        try:
            inner("Jane Doe")
        except KeyError as error:
            raise RuntimeError(f"no customer {error}") from error
    except RuntimeError as error:
        return error


def test_a_trace_says_where_and_not_what() -> None:
    for form in ("json", "plain"):
        line = formatter(form).format(record("plugin.failed", error=failing()))
        assert re.search(r"RuntimeError at \S*test_log\.py:\d+ failing; caused by KeyError at \S*test_log\.py:\d+ inner < ", line)
        assert "Jane" not in line
        assert "customer" not in line


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert as_json(record(error=error))["trace"].count("ValueError") == 5


def test_of_what_others_log_only_the_first_line_is_kept() -> None:
    text = "Task exception was never retrieved\nfuture: <Task finished exception=ValueError('Jane Doe')>"
    assert as_json(record(text, name="asyncio", level=logging.ERROR))["event"] == "Task exception was never retrieved"


@pytest.fixture
def untouched() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gateway")
    before = (root.handlers[:], root.level, ours.level)
    globals_before = {name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile")}
    yield
    root.handlers[:], root.level, ours.level = before
    logging.captureWarnings(False)
    for name, value in globals_before.items():
        setattr(logging, name, value)


def test_set_up_writes_to_standard_error_and_keeps_others_quiet(
    untouched: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up("json")
    logging.getLogger("gateway.x").info("ours")
    logging.getLogger("gateway.x").debug("too much")
    logging.getLogger("aiohttp.server").info("theirs")
    logging.getLogger("aiohttp.server").warning("their warning")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["ours", "their warning"]
    assert sys.stderr is not sys.stdout


# --- canaries


class Canaries:
    """Words that stand for what is private; each has a place where it was put."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        return self.words.setdefault(where, f"canary{len(self.words):03}{where.title().replace(' ', '')}")

    def found(self, text: str | bytes) -> list[str]:
        text = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return [where for where, word in self.words.items() if word in text]


class Trip:
    """A gateway that is sent canaries, and everything that came back from it."""

    def __init__(self, running: Any, canary: Canaries) -> None:
        self.running = running
        self.canary = canary
        self.answers: list[str] = []

    async def send(self, order: str, **fields: Any) -> int:
        """A signed order with canaries in its body, its headers and its query."""
        body = msgspec.json.encode({"id": order, "customer": self.canary(f"customer {order}"), **fields})
        return await self.raw(body)

    async def raw(self, body: bytes, *, signature: str | None = None) -> int:
        secret = (self.running.folder / "secret").read_text().strip()
        signature = signature or acme.sign(secret, body)
        self.canary.words.setdefault(f"signature {signature[:8]}", signature)
        headers = "".join(
            f"{name}: {self.canary(name)}\r\n" for name in ("Authorization", "Cookie", "User-Agent", "X-Forwarded-For", "Content-Type")
        )
        async with wire(self.running.gateway.vendors.port) as line:
            await line.send(post(body, path=f"/in/acme?token={self.canary('query')}", signature=signature, headers=headers))
            reply = await line.reply()
        assert reply is not None
        self.answers.append(repr(reply))
        return reply.status


def raising(error: BaseException) -> Any:
    def hook(*_: Any, **__: Any) -> Any:
        raise error

    return hook


async def rows(running: Any, queue: str, status: str, count: int) -> bool:
    return len(await running.rows(queue, status=status)) == count


async def go_wrong(trip: Trip, erp: Any) -> None:
    """Everything that can go wrong with an order, one after the other."""
    running, canary = trip.running, trip.canary
    assert await trip.send("good") == 200
    await erp.wait_for(1)
    # the doors
    assert await trip.raw(acme.body("wrong"), signature=canary("signature")) == 401
    assert await trip.raw(f'{{"id": "broken", "name": "{canary("malformed")}"'.encode()) == 400
    assert await trip.raw(f'{{"id": 7, "name": "{canary("unreadable")}"}}'.encode()) == 400
    assert await trip.raw(f'{{"id": "{canary("identifier")}\\u0000"}}'.encode()) == 400
    assert await trip.send("rejected", qty=0) == 422
    for hook, said in (("verify", 401), ("ingest", 400)):
        acme.faults[hook] = raising(KeyError(canary(f"raised in {hook}")))
        assert await trip.send(f"crash-in-{hook}") == said
        acme.faults[hook] = raising(ValueError(f"no such customer: {canary(f'value in {hook}')!r}"))
        assert await trip.send(f"value-in-{hook}") == said
        acme.faults.clear()
    # on the way
    assert await trip.send("no-number", price=canary("price")) == 200
    acme.faults["normalize"] = raising(LookupError(canary("raised in normalize")))
    assert await trip.send("crash-in-normalize") == 200
    await running.until(lambda: rows(running, "inbox", "dead", 7))
    acme.faults.clear()
    # the ERP
    for status, wanted in ((422, "dead"), (500, "ready")):
        erp.arm("status", status=status, body=f"{canary(f'answer {status}')} is not known here")
        assert await trip.send(f"refused-{status}") == 200
        await running.until(lambda wanted=wanted: rows(running, "outbox", wanted, 1))
    erp.arm("half_answer")
    assert await trip.send("lost-answer") == 200
    await running.until(lambda: rows(running, "outbox", "ready", 2))
    # the vendor
    for answer in (
        KeyError(canary("raised in poll")),
        Page(events=[Unreadable(document=canary("polled").encode(), reason="no id")], cursor=canary("cursor")),
        Page(events=[Event(key="", order_ref="", document=canary("nameless").encode())]),
        Page(events=[Event(key="x", order_ref="x", document=canary("wrong type"))]),  # type: ignore[arg-type]
        AuthError("the vendor answers 401"),
    ):
        await polled(running, answer)
    acme.faults["acknowledge"] = raising(KeyError(canary("raised in acknowledge")))


async def polled(running: Any, answer: Any) -> None:
    done = asyncio.Event()

    async def poll(**_: Any) -> Any:
        done.set()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    acme.faults["poll"] = poll
    running.gateway._runtime.pollers["acme"].resume()
    async with asyncio.timeout(5):
        await done.wait()
    await running.gateway._store.cursor("acme", "poll")


async def test_no_word_of_an_order_is_in_the_log_the_answers_the_metrics_or_on_the_page(start, erp, tmp_path: Path) -> None:
    canary = Canaries()
    (tmp_path / "erp-token").write_text(canary("erp token") + "\n")
    with log_lines(level=logging.DEBUG) as lines, log_lines("plain", level=logging.DEBUG) as plain:
        running = await start(
            erp.url,
            target='auth = { kind = "bearer", token = { file = "erp-token" } }\nretry = { base_s = 900 }',
            settings='acknowledge = ["stored"]',
        )
        canary.words["webhook secret"] = (tmp_path / "secret").read_text().strip()
        trip = Trip(running, canary)
        await go_wrong(trip, erp)
        seen = {"the answers": "\n".join(trip.answers)}
        for path in (
            "/",
            "/metrics",
            "/api/status",
            "/readyz",
            "/api/inbox?limit=1000",
            "/api/outbox",
            "/api/acknowledgements",
            "/api/orders",
        ):
            status, said = await running.get(path)
            assert status in (200, 503)
            seen[path] = said if isinstance(said, str) else json.dumps(said)
        shown = [
            await running.gateway._reader.show(row["row"])
            for queue in ("inbox", "outbox")
            for row in await running.rows(queue, limit="1000")
        ]
        await running.stop()
    seen |= {"the log": "\n".join(lines), "the plain log": "\n".join(plain)}
    assert {place: found for place, text in seen.items() if (found := canary.found(text))} == {}

    # It was all there: the log tells of each failure, and whoever may look at an order sees it.
    for event in (
        "webhook.unreadable",
        "webhook.rejected",
        "webhook.verify_failed",
        "plugin.failed",
        "prepare.attempted",
        "delivery.attempted",
        "door.down",
        "poll.page",
    ):
        assert event in seen["the log"], event
    kept = canary.found(repr(shown))
    for where in ("customer good", "malformed", "unreadable", "identifier", "price", "answer 422", "answer 500", "polled", "nameless"):
        assert where in kept, where
    assert erp.heard[0].headers["authorization"] == f"Bearer {canary('erp token')}"


async def test_what_was_erased_is_in_no_file(start, erp, tmp_path: Path) -> None:
    canary = Canaries()
    running = await start(erp.url)
    trip = Trip(running, canary)
    for n in range(20):
        await trip.send(f"o{n}")
    await erp.wait_for(20)
    await running.until(lambda: rows(running, "outbox", "done", 20))
    files = [file for file in (tmp_path / "data").iterdir() if file.is_file()]
    await running.gateway._store.checkpoint(truncate=True)
    assert canary.found(b"".join(file.read_bytes() for file in files))
    while await running.gateway._store.redact_bodies(running.gateway._clock.now().replace(year=9999), 500):
        pass
    await running.stop()
    assert canary.found(b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir() if file.is_file())) == []
