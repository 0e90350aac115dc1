"""The one place that calls hooks: what it takes for a connector, and what it makes of what hooks do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest

from gateway import (
    Api,
    AuthError,
    Command,
    Customer,
    Description,
    Envelope,
    Event,
    Hold,
    Line,
    Order,
    Page,
    PermanentError,
    RateLimited,
    Receipt,
    Rejected,
    Submission,
    Submitted,
    Subscription,
    TransientError,
    decimal,
    hookimpl,
    is_identity,
)
from gateway.api.errors import ConfigError, GatewayError, LeaseLost, PluginError, StoreBusy
from gateway.plugin.connector import Connector, Unverified
from gateway.plugin.hooks import HOOKS
from gateway.plugin.task_guard import make_task
from gateway.plugin.validation import Misread, checked_event

NOW = datetime(2024, 3, 31, 12, tzinfo=UTC)
ENVELOPE = Envelope(source="s", body=b"{}", received_at=NOW)
EVENT = Event(key="k", order_ref="o", document=b"{}")
RECEIPTS = [Receipt(id=n, reference=str(n), order_ref=str(n), stage="stored") for n in (1, 2)]


class Settings(msgspec.Struct, frozen=True):
    word: str = "w"


def describe() -> Description:
    return Description(title="T", settings=Settings)


def verify(envelope: Envelope) -> bool:
    return True


def ingest(envelope: Envelope) -> Sequence[Event]:
    return [EVENT]


async def poll(cursor: str | None) -> Page:
    return Page()


async def fetch(event: Event) -> bytes:
    return b"{}"


def subscribe(settings: Settings) -> Subscription:
    return Subscription(url="https://hub.example/orders")


def normalize(event: Event, document: bytes) -> Order:
    return Order()


async def acknowledge(receipts: Sequence[Receipt]) -> list[int]:
    return []


HOOK = {f.__name__: f for f in (describe, verify, ingest, poll, subscribe, fetch, normalize, acknowledge)}


def module(**hooks: Callable[..., Any] | None) -> ModuleType:
    """A connector module with `describe`, `poll`, `normalize` and what is given; None leaves a hook out."""
    made = ModuleType("made")
    for name, hook in {**{n: HOOK[n] for n in ("describe", "poll", "normalize")}, **hooks}.items():
        if hook is not None:
            setattr(made, name, hookimpl(hook) if not hasattr(hook, "order-gateway_impl") else hook)
    return made


class Body(msgspec.Struct):
    number: str


def describe_commands() -> Description:
    commands = {"create": Command(title="T", body=Body, needs=["word"]), "other": Command(title="T", body=Body, needs=["missing"])}
    return Description(title="T", settings=Settings, commands=commands)


async def submit(submission: Submission) -> Submitted:
    return Submitted(answer=b"{}", events=[EVENT])


SUBMISSION = Submission(id="s", command="create", body=Body("1"), accepted_at=NOW)


def whole(**hooks: Callable[..., Any] | None) -> Connector:
    return Connector(module(**{**HOOK, **hooks}))


# --- what a connector must look like


def test_a_whole_connector_fits() -> None:
    connector = whole(describe=describe_commands, submit=submit)
    assert connector.hooks == frozenset(HOOKS) == frozenset({*HOOK, "submit"})
    assert connector.doors == ("webhook", "poll", "realtime")
    assert connector.fetches


@pytest.mark.parametrize(
    ("hooks", "doors"),
    [
        ({"verify": verify, "ingest": ingest}, ("webhook", "poll")),
        ({"verify": verify, "ingest": ingest, "poll": None}, ("webhook",)),
        ({}, ("poll",)),
        ({"subscribe": subscribe, "ingest": ingest}, ("poll", "realtime")),
    ],
)
def test_doors_follow_from_hooks(hooks: dict[str, Any], doors: tuple[str, ...]) -> None:
    assert Connector(module(**hooks)).doors == doors


def test_ingest_without_verify_opens_no_door() -> None:
    assert Connector(module(ingest=ingest)).doors == ("poll",)


async def async_verify(envelope: Envelope) -> bool:
    return True


async def async_normalize(event: Event, document: bytes) -> Order:
    return Order()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no describe": ({"describe": None}, "does not implement describe"),
    "no normalize": ({"normalize": None}, "does not implement normalize"),
    "neither": ({"describe": None, "normalize": None}, "does not implement describe and normalize"),
    "no door": ({"poll": None}, "has no door"),
    "no resync": (
        {"poll": None, "verify": verify, "ingest": ingest, "subscribe": subscribe},
        "subscribe without poll: a hub replays nothing",
    ),
    "nobody to read what the hub sends": ({"subscribe": subscribe}, "subscribe without ingest: it reads what the hub sends"),
    "no door but subscribe": ({"poll": None, "ingest": ingest, "subscribe": subscribe}, "subscribe without poll"),
    "no door but ingest": ({"poll": None, "ingest": ingest}, "has no door"),
    "verify without ingest": ({"verify": verify}, "implements verify without ingest"),
    "an unknown hook": ({"normalise": hookimpl(lambda event: None)}, "normalise"),
    "an unknown argument": ({"normalize": lambda event, clock: Order()}, "clock"),
    "an argument of another hook": ({"normalize": lambda envelope: Order()}, "envelope"),
    "a plain poll": ({"poll": lambda cursor: Page()}, "poll must be async def"),
    "a plain fetch": ({"fetch": lambda event: b""}, "fetch must be async def"),
    "a plain acknowledge": ({"acknowledge": lambda receipts: []}, "acknowledge must be async def"),
    "an async normalize": ({"normalize": async_normalize}, "normalize must be a plain def, without async"),
    "an async verify": ({"verify": async_verify, "ingest": ingest}, "verify must be a plain def, without async"),
    "a description that is none": ({"describe": lambda: {"title": "T"}}, "describe returned dict"),
    "a description that fails": ({"describe": lambda: 1 / 0}, "describe failed: ZeroDivisionError"),
    "settings that are no Struct": ({"describe": lambda: Description(title="T", settings=dict)}, "no msgspec Struct"),  # type: ignore[arg-type]
    "settings that are no class": ({"describe": lambda: Description(title="T", settings=Settings())}, "no msgspec Struct"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("hooks", "text"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_by_name(hooks: dict[str, Any], text: str) -> None:
    with pytest.raises(PluginError, match=text):
        Connector(module(**hooks))


@pytest.mark.parametrize("style", ["wrapper", "hookwrapper"])
def test_a_wrapper_is_refused(style: str) -> None:
    def normalize(event: Event, document: bytes) -> Any:
        yield

    with pytest.raises(PluginError, match="normalize is a wrapper"):
        Connector(module(normalize=hookimpl(**{style: True})(normalize)))  # type: ignore[call-overload]


def test_settings_callables_that_fail_are_the_plugins_fault() -> None:
    connector = Connector(module(describe=lambda: Description(title="T", settings=Settings, api=lambda s: Api(base_url=s.nothing))))
    connector.settings = Settings()
    with pytest.raises(PluginError, match="describe failed: AttributeError"):
        connector.api()


def test_without_acknowledge_no_stage_is_acknowledged() -> None:
    connector = Connector(module(describe=lambda: Description(title="T", settings=Settings, acknowledge=lambda s: ["stored"])))
    assert connector.stages() == frozenset()


def test_a_connectors_own_body_limit_counts_where_it_is_lower() -> None:
    for own, limit in ((100, 100), (5000, 1000)):
        made = Connector(module(describe=lambda own=own: Description(title="T", settings=Settings, max_body_bytes=lambda s: own)))
        assert made.max_body_bytes(1000) == limit


def test_each_source_has_a_manager_of_its_own() -> None:
    """No vendor's code answers for, or hears of, another vendor's traffic."""
    heard: list[str] = []

    def listening(name: str) -> Connector:
        def ingest(envelope: Envelope) -> list[Event]:
            heard.append(name)
            return []

        return whole(ingest=ingest)

    first, second = listening("first"), listening("second")
    first.admit(ENVELOPE, NOW)
    assert heard == ["first"]
    second.admit(ENVELOPE, NOW)
    assert heard == ["first", "second"]


def test_one_module_can_serve_two_sources_with_settings_of_their_own() -> None:
    def verify(settings: Settings) -> bool:
        return settings.word == "right"

    made = module(**{**HOOK, "verify": verify})
    right, wrong = Connector(made), Connector(made)
    right.settings, wrong.settings = Settings(word="right"), Settings(word="wrong")
    assert right.admit(ENVELOPE, NOW) == [EVENT]
    with pytest.raises(Unverified):
        wrong.admit(ENVELOPE, NOW)


# --- what becomes of exceptions: the table of gateway/api/errors.py


def raising(error: BaseException) -> Any:
    def hook() -> Any:
        raise error

    return hook


def raising_async(error: BaseException) -> Any:
    async def hook() -> Any:
        raise error

    return hook


OURS: list[GatewayError] = [TransientError("t"), RateLimited("r"), PermanentError("p"), Rejected("j"), AuthError("a"), Hold("h")]
NOT_THEIRS: list[BaseException] = [
    ConfigError(["c"]),
    StoreBusy("b"),
    LeaseLost("l"),
    PluginError("x"),
    ValueError("Jane Doe"),
    KeyError("Jane Doe"),
    OSError(5, "Jane Doe"),
    SystemExit("Jane Doe"),
    KeyboardInterrupt(),
    GeneratorExit(),
    RecursionError(),
    MemoryError(),
    StopIteration(),
    ExceptionGroup("Jane Doe", [ValueError()]),
]


async def call(hook: str, connector: Connector) -> Any:
    match hook:
        case "poll":
            return await connector.poll(None, NOW, NOW, None)
        case "fetch":
            return await connector.fetch(EVENT, None)
        case "acknowledge":
            return await connector.acknowledge(RECEIPTS, None)
        case "ingest":
            return connector.read(ENVELOPE)
    return connector.normalize(EVENT, b"{}")


@pytest.mark.parametrize("hook", ["poll", "fetch", "acknowledge"])
@pytest.mark.parametrize("error", OURS, ids=lambda e: type(e).__name__)
async def test_a_hook_that_waits_may_say_each_of_these(hook: str, error: GatewayError) -> None:
    with pytest.raises(type(error)) as raised:
        await call(hook, whole(**{hook: raising_async(error)}))
    assert raised.value is error
    assert error.__cause__ is None


@pytest.mark.parametrize("hook", ["poll", "fetch", "acknowledge"])
@pytest.mark.parametrize("error", NOT_THEIRS, ids=lambda e: type(e).__name__)
async def test_anything_else_that_it_raises_is_a_plugin_error_without_its_text(hook: str, error: BaseException) -> None:
    with pytest.raises(PluginError) as raised:
        await call(hook, whole(**{hook: raising_async(error)}))
    assert raised.value is not error
    assert raised.value.__cause__ is not None
    assert str(raised.value).startswith(f"{hook} failed: ")
    assert "Jane Doe" not in str(raised.value)


@pytest.mark.parametrize("hook", ["ingest", "normalize"])
@pytest.mark.parametrize(
    "error", [e for e in NOT_THEIRS if not isinstance(e, (ValueError, RecursionError, StopIteration))], ids=lambda e: type(e).__name__
)
async def test_what_a_thinking_hook_should_not_raise_is_a_plugin_error(hook: str, error: BaseException) -> None:
    with pytest.raises(PluginError) as raised:
        await call(hook, whole(**{hook: raising(error)}))
    assert raised.value.__cause__ is error
    assert str(raised.value) == f"{hook} failed: {type(error).__name__}"


@pytest.mark.parametrize("error", [TransientError("t"), RateLimited("r"), AuthError("a")], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("hook", ["ingest", "normalize"])
async def test_a_thinking_hook_has_nothing_to_wait_for(hook: str, error: GatewayError) -> None:
    with pytest.raises(PluginError, match="not its to raise"):
        await call(hook, whole(**{hook: raising(error)}))


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: int("Jane Doe"), "invalid literal for int() with base 10: …"),
        (lambda: int('Jane\'s "Doe"'), "invalid literal for int() with base 10: …"),
        (lambda: datetime.fromisoformat("Jane Doe"), "Invalid isoformat string: …"),
        (lambda: decimal("Jane Doe"), "not a number"),
        (lambda: datetime.fromisoformat("Jane Doe" * 500), "Invalid isoformat string: …"),
        (lambda: b"Jane Doe\xff".decode(), "not utf-8 at byte 8"),
        (lambda: msgspec.convert({"status": "Jane Doe"}, Order), "Invalid enum value …"),
        (lambda: msgspec.convert({"lines": [{}]}, Order), "Object missing required field `line_number` - at `$.lines[0]`"),
        (lambda: msgspec.json.decode(b"Jane Doe"), "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_value_error_means_that_it_cannot_be_read_and_quotes_nobody(read: Any, reason: str) -> None:
    with pytest.raises(Misread) as misread:
        whole(ingest=lambda: read()).read(ENVELOPE)
    with pytest.raises(PermanentError) as permanent:
        whole(normalize=lambda: read()).normalize(EVENT, b"")
    assert str(misread.value).startswith(f"cannot be read: {reason}")
    assert str(permanent.value) == str(misread.value)
    assert "Jane" not in str(misread.value)


def test_deep_nesting_is_misread_by_ingest_and_a_fault_of_normalize() -> None:
    with pytest.raises(Misread, match="nested too deeply"):
        whole(ingest=raising(RecursionError())).read(ENVELOPE)
    with pytest.raises(PluginError):
        whole(normalize=raising(RecursionError())).normalize(EVENT, b"")


def test_ingest_may_reject_and_say_that_it_cannot_read() -> None:
    with pytest.raises(Rejected) as rejected:
        whole(ingest=raising(Rejected("unknown customer"))).read(ENVELOPE)
    assert rejected.value.reason == "unknown customer"
    with pytest.raises(Misread, match="of a later version"):
        whole(ingest=raising(PermanentError("of a later version"))).read(ENVELOPE)


def test_normalize_may_hold_with_an_order_that_is_checked_as_well() -> None:
    with pytest.raises(Hold) as held:
        whole(normalize=raising(Hold("which one?", order=Order(order_number="7")))).normalize(EVENT, b"")
    assert held.value.order == Order(order_number="7")
    with pytest.raises(PluginError, match="normalize returned"):
        whole(normalize=raising(Hold("which one?", order="7"))).normalize(EVENT, b"")  # type: ignore[arg-type]


def test_texts_and_waits_of_a_hook_are_made_fit_to_be_kept() -> None:
    surrogates = "\ud800" + "x" * 5000
    for error in (PermanentError(surrogates), Rejected(surrogates), Hold(surrogates)):
        with pytest.raises(type(error)):
            whole(normalize=raising(error)).normalize(EVENT, b"")
        assert str(error).startswith(r"\ud800xxx")
        assert len(str(error)) <= 1010
        assert getattr(error, "reason", str(error)) == str(error)


def test_nobody_is_an_exceptions_own_cause() -> None:
    """An error chain that bites its tail keeps whoever walks it busy for ever."""
    error = TransientError("t")
    with pytest.raises(PluginError) as raised:
        whole(ingest=raising(error)).read(ENVELOPE)
    assert raised.value.__cause__ is error
    assert error.__cause__ is None


# --- cancellation


@pytest.mark.parametrize("hook", ["poll", "fetch", "acknowledge"])
async def test_our_cancellation_passes(hook: str) -> None:
    begun = asyncio.Event()

    async def hanging() -> Any:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(hook, whole(**{hook: hanging})))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("hook", ["poll", "fetch", "acknowledge"])
async def test_a_cancellation_from_inside_is_a_plugin_error(hook: str) -> None:
    async def cancelling() -> Any:
        inner = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        inner.cancel()
        await inner

    with pytest.raises(PluginError, match="was cancelled from inside"):
        await call(hook, whole(**{hook: cancelling}))


async def test_our_timeout_stays_a_timeout() -> None:
    async def hanging() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call("fetch", whole(fetch=hanging))


# --- what hooks return


async def later() -> bool:
    return True


@pytest.mark.parametrize("verdict", [None, False, 1, "True", [True], object(), NotImplemented])
def test_only_true_admits(verdict: object) -> None:
    with pytest.raises(Unverified) as refused:
        whole(verify=lambda: verdict).admit(ENVELOPE, NOW)
    assert refused.value.cause is None


def test_a_coroutine_for_a_verdict_refuses_and_is_put_away() -> None:
    with pytest.raises(Unverified):
        whole(verify=lambda: later()).admit(ENVELOPE, NOW)  # a coroutine nobody awaited would be a warning, and so an error


def test_verify_gets_what_it_asks_for() -> None:
    seen: list[Any] = []

    def verify(envelope: Envelope, settings: Any, now: datetime) -> bool:
        seen.extend((envelope, settings, now))
        return True

    connector = whole(verify=verify)
    connector.settings = Settings()
    connector.admit(ENVELOPE, NOW)
    assert seen == [ENVELOPE, Settings(), NOW]


def test_no_event_is_an_answer_and_a_generator_is_read_to_its_end() -> None:
    def generator() -> Any:
        yield EVENT
        yield EVENT

    assert whole(ingest=lambda: None).read(ENVELOPE) == []
    assert whole(ingest=lambda: ()).read(ENVELOPE) == []
    assert whole(ingest=generator).read(ENVELOPE) == [EVENT, EVENT]


def test_a_generator_that_fails_on_its_way_is_misread() -> None:
    def generator() -> Any:
        yield EVENT
        raise ValueError("second order")

    with pytest.raises(Misread, match="second order"):
        whole(ingest=generator).read(ENVELOPE)


@pytest.mark.parametrize("answer", [7, [7], "text", [None], [{}]])
def test_ingest_that_returns_no_events_is_a_plugin_error(answer: object) -> None:
    with pytest.raises(PluginError):
        whole(ingest=lambda: answer).read(ENVELOPE)


@pytest.mark.parametrize("field", ["document", "content", "occurred_at", "reference", "ignored", "flagged"])
def test_an_event_with_a_field_of_another_kind_is_a_plugin_error(field: str) -> None:
    odd = msgspec.structs.replace(EVENT, **{field: 7})
    with pytest.raises(PluginError, match=f"whose {field} is int, not "):
        whole(ingest=lambda: [odd]).read(ENVELOPE)
    absent = msgspec.structs.replace(EVENT, **{field: None})
    assert whole(ingest=lambda: [absent]).read(ENVELOPE) == [absent]


def test_hooks_get_their_arguments_in_whatever_order_they_name_them() -> None:
    seen: list[Any] = []

    class Turned:
        @hookimpl
        def describe(self) -> Description:
            return describe()

        @hookimpl
        def verify(self, keys: Any, now: datetime, settings: Any, envelope: Envelope) -> bool:
            seen.append((envelope, settings, now, keys))
            return True

        @hookimpl
        def ingest(self, settings: Any, envelope: Envelope) -> Sequence[Event]:
            seen.append((envelope, settings))
            return [EVENT]

        @hookimpl
        def normalize(self, settings: Any, previous: Any, document: bytes) -> Order:
            seen.append((document, previous, settings))
            return Order()

    connector = Connector(Turned())
    connector.settings = Settings()
    connector.admit(ENVELOPE, NOW, {"k": 1})
    connector.normalize(EVENT, b"{}", Order(order_ref="o"))
    assert seen == [(ENVELOPE, Settings(), NOW, {"k": 1}), (ENVELOPE, Settings()), (b"{}", Order(order_ref="o"), Settings())]


def test_an_event_without_a_document_needs_a_fetch() -> None:
    bare = Event(key="k", order_ref="o")
    assert whole(ingest=lambda: [bare]).read(ENVELOPE) == [bare]
    with pytest.raises(PluginError, match="no fetch"):
        whole(ingest=lambda: [bare], fetch=None).read(ENVELOPE)


async def test_fetch_returns_bytes() -> None:
    async def text() -> Any:
        return "text"

    with pytest.raises(PluginError, match="fetch returned str"):
        await call("fetch", whole(fetch=text))


@pytest.mark.parametrize("answer", [None, 7, [3], ["1"], [[1]]])
async def test_acknowledge_returns_ids_of_its_receipts(answer: Any) -> None:
    async def confirmed() -> Any:
        return answer

    with pytest.raises(PluginError):
        await call("acknowledge", whole(acknowledge=confirmed))


async def test_acknowledge_may_confirm_a_part() -> None:
    async def confirmed() -> Any:
        return (n for n in (2, 2))

    assert await call("acknowledge", whole(acknowledge=confirmed)) == {2}


ORDERS: dict[str, Order] = {
    "a number for a text": Order(order_number=7),  # type: ignore[arg-type]
    "a status of its own": Order(status="shipped"),  # type: ignore[arg-type]
    "lines that are no lines": Order(lines=("A-1",)),  # type: ignore[arg-type]
    "a price as a float": Order(lines=(Line(line_number=1, unit_price=1.5),)),  # type: ignore[arg-type]
    "a line number of nought": Order(lines=(Line(line_number=0),)),
    "flags that are None": Order(flags=None),  # type: ignore[arg-type]
    "a customer that is text": Order(customer="Jane Doe"),  # type: ignore[arg-type]
    "an amount as a float": Order(total=1.5),  # type: ignore[arg-type]
    "an amount that is no number": Order(total=Decimal("NaN")),
    "an endless price": Order(lines=(Line(line_number=1, unit_price=Decimal("Infinity")),)),
    "an amount with an exponent": Order(total=Decimal("1E+2")),
    "an instant without a zone": Order(ordered_at=datetime(2024, 3, 31)),
    "an instant of elsewhere": Order(requested_for=datetime(2024, 3, 31, tzinfo=timezone(timedelta(hours=2)))),
    "a line's instant without a zone": Order(lines=(Line(line_number=1, due_at=datetime(2024, 3, 31)),)),
    "a lone surrogate": Order(notes="\ud800"),
    "two lines of one number": Order(lines=(Line(line_number=1, name="Jane Doe"), Line(line_number=1))),
    "a currency that is no code": Order(currency="Jane Doe"),
    "a currency in small letters": Order(currency="eur"),
    "something JSON has no word for": Order(extra={"x": object()}),
    "a key that is no text": Order(references={None: "x"}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_an_order_that_is_not_what_its_types_say_is_a_plugin_error(order: Order) -> None:
    with pytest.raises(PluginError, match="normalize returned an order") as raised:
        whole(normalize=lambda: order).normalize(EVENT, b"")
    assert "Jane Doe" not in str(raised.value)


@pytest.mark.parametrize("answer", [None, {}, "text", Customer(), [Order()]])
def test_normalize_returns_an_order(answer: object) -> None:
    with pytest.raises(PluginError, match="not an Order"):
        whole(normalize=lambda: answer).normalize(EVENT, b"")


def test_an_order_comes_through_as_it_was_made() -> None:
    order = Order(
        order_number="000451-2",
        ordered_at=NOW,
        total=Decimal("12.3450"),
        lines=(Line(line_number=1, quantity=Decimal("4"), unit_price=Decimal("3.08625"), due_at=NOW),),
        extra={"vendor": {"nested": [1, 2.5, None, "x"]}},
        flags=("likely_new_order",),
    )
    assert whole(normalize=lambda: order).normalize(EVENT, b"") == order


# --- commands


async def test_submit_gives_what_the_vendor_said() -> None:
    connector = whole(describe=describe_commands, submit=submit)
    connector.settings = Settings()
    assert list(connector.commands()) == ["create"]
    assert not connector.is_repeatable("create")
    assert (await connector.submit(SUBMISSION, None)).events == (EVENT,)


@pytest.mark.parametrize(("describing", "submitting"), [(describe_commands, None), (describe, submit)])
def test_submit_and_commands_belong_together(describing: Callable[..., Any], submitting: Callable[..., Any] | None) -> None:
    with pytest.raises(PluginError, match="submit without commands"):
        Connector(module(describe=describing, submit=submitting))


async def test_what_submit_may_not_return_or_raise_is_the_plugins_error() -> None:
    async def nothing(submission: Submission) -> Any:
        return None

    async def ends(submission: Submission) -> Any:
        raise SystemExit

    async def unusable(submission: Submission) -> Any:
        return Submitted(events=[Event(key="", order_ref="o", document=b"{}")])

    for wrong in (nothing, ends, unusable):
        with pytest.raises(PluginError):
            await whole(describe=describe_commands, submit=wrong).submit(SUBMISSION, None)


async def test_a_look_up_is_guarded_like_a_hook() -> None:
    def describing(ask: Callable[..., Any]) -> Callable[[], Description]:
        return lambda: Description(title="T", settings=Settings, commands={"create": Command(title="T", body=Body, look_up=ask)})

    async def only(submission: Submission, **_: object) -> Submitted | None:
        return None

    async def breaks(**_: object) -> Submitted | None:
        raise KeyboardInterrupt

    assert await whole(describe=describing(only), submit=submit).look_up(SUBMISSION, None) is None
    with pytest.raises(PluginError):
        await whole(describe=describing(breaks), submit=submit).look_up(SUBMISSION, None)


async def _ends() -> None:
    raise SystemExit(3)


async def _with_a_group(event: Event) -> bytes:
    async with asyncio.TaskGroup() as group:
        group.create_task(_ends())
        group.create_task(asyncio.sleep(60))
    return b""


async def _with_a_task(event: Event) -> bytes:
    await asyncio.create_task(_ends())
    return b""


async def _with_gather(event: Event) -> bytes:
    await asyncio.gather(asyncio.sleep(0), _ends())
    return b""


@pytest.mark.parametrize("fetch", [_with_a_group, _with_a_task, _with_gather])
def test_an_exit_in_a_task_of_the_connector_ends_in_its_source(fetch: Callable[..., Any]) -> None:
    """asyncio lets SystemExit through to the loop, from whatever task: everything would end."""

    async def main() -> str:
        asyncio.get_running_loop().set_task_factory(make_task)
        with pytest.raises(PluginError, match="fetch failed"):
            await whole(fetch=fetch).fetch(EVENT, None)
        await asyncio.sleep(0)
        return "went on"

    assert asyncio.run(main()) == "went on"


def test_an_exit_of_ours_still_ends_everything() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(make_task)
        await asyncio.create_task(_ends())

    with pytest.raises(SystemExit):
        asyncio.run(main())


async def test_a_cancellation_from_inside_is_seen_as_one_after_a_failed_task_group() -> None:
    """A failed TaskGroup leaves a request to cancel behind (before Python 3.13), which was nobody's."""
    asyncio.get_running_loop().set_task_factory(make_task)

    async def cancelled(event: Event) -> bytes:
        raise asyncio.CancelledError

    for fetch, said in ((_with_a_group, "fetch failed"), (cancelled, "was cancelled from inside")):
        with pytest.raises(PluginError, match=said):
            await whole(fetch=fetch).fetch(EVENT, None)


NOTHINGS = (
    "N/A",
    "#n/a",
    "<null>",
    "[null]",
    "'None'",
    "[object Object]",
    "{}",
    "\\N",
    "DBNull",
    "0.0",
    "{00000000-0000-0000-0000-000000000000}",
    "?",
    "null",
    "None",
    " NULL ",
    "undefined",
    "nil",
    "NaN",
    "(null)",
    "",
    " ",
    "0",
    "-",
    "--",
    "00000000-0000-0000-0000-000000000000",
)


@pytest.mark.parametrize("name", NOTHINGS)
@pytest.mark.parametrize("field", ["key", "order_ref"])
def test_a_word_for_nothing_names_no_event_and_no_order(name: str, field: str) -> None:
    """Two orders whose vendor has lost their names would be versions of one."""
    event = msgspec.structs.replace(EVENT, **{field: name})
    with pytest.raises(Misread):
        checked_event("ingest", event, fetches=False)
    assert not is_identity(name)


@pytest.mark.parametrize("name", ["a", "7", "00-1", "0x", "nobody", "null-1", "nil 2", "nonesuch", "A0"])
def test_what_only_looks_like_nothing_is_a_name(name: str) -> None:
    assert is_identity(name)
    checked_event("ingest", msgspec.structs.replace(EVENT, key=name, order_ref=name), fetches=False)


@pytest.mark.parametrize("how_new", [{"sequence": "7"}, {"sequence": True}, {"as_of": datetime(2024, 1, 1)}, {"as_of": 7}])
def test_how_new_an_event_is_must_be_a_number_or_an_instant(how_new: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=next(iter(how_new))):
        checked_event("poll", msgspec.structs.replace(EVENT, **how_new), fetches=False)


@pytest.mark.parametrize("sequence", [2**63, -(2**63)])
def test_a_vendors_number_that_is_too_large_costs_that_one_order_alone(sequence: int) -> None:
    with pytest.raises(Misread, match="63 bits"):
        checked_event("poll", msgspec.structs.replace(EVENT, sequence=sequence), fetches=False)
