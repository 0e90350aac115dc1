"""Connector of one source: the only code that calls hooks. It checks what they return.

Each source has a connector of its own, so that no vendor's code sees another vendor's traffic. The guard (`hook_guard.py`)
turns what a hook raises into one of `gateway.api.errors`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

import msgspec

from gateway.api.commands import Command, Submission, Submitted
from gateway.api.description import FetchRetry
from gateway.api.errors import AuthError, Hold, Ignore, PermanentError, PluginError, Rejected, TransientError, UnknownKey, bounded
from gateway.api.messages import Envelope, Event, OpenOrder, Page, Receipt, Stage, Unreadable
from gateway.api.order import Order
from gateway.api.subscription import Subscription
from gateway.api.vendor_client import Api, VendorClient
from gateway.config.report import MOST_BODY_PROBLEMS
from gateway.plugin.command_body import InvalidBody, check_body
from gateway.plugin.crash_record import CrashRecord
from gateway.plugin.hook_guard import Guard
from gateway.plugin.hooks import Hooks, checked_description
from gateway.plugin.validation import Misread, checked_event, checked_order, is_storable

T = TypeVar("T")

_NO_STAGES: Collection[Stage] = ()
_NO_KEYS: Mapping[str, Any] = MappingProxyType({})
_CURSOR_LIMIT = 64 * 1024
_SUBJECT_LIMIT = 200


class Unverified(Exception):
    """`verify` did not return True; `cause` is what it raised, if anything."""

    def __init__(self, cause: BaseException | None = None) -> None:
        super().__init__("not verified")
        self.cause = cause


class Connector:
    """Connector of one source.

    Args:
        module: The plugin's module, as its entry point names it.
        source: Name of the source.
        crash_record: Record of the hooks that are running.
    Raises:
        PluginError: The module does not fit the hook specifications; the text says where.
    """

    def __init__(self, module: ModuleType | object, source: str = "", crash_record: CrashRecord | None = None) -> None:
        self.source, self._crash_record = source, crash_record or CrashRecord()
        self._guard = Guard(source, self._crash_record)
        self._hooks = Hooks(module)
        self.hooks, self.doors, self.takes = self._hooks.names, self._hooks.doors, self._hooks.takes
        self.description = checked_description(self._call("describe"), submits="submit" in self.hooks)
        self.settings: Any = None

    @property
    def fetches(self) -> bool:
        return "fetch" in self.hooks

    def api(self) -> Api | None:
        """Return the vendor's API that the settings describe."""
        return self._setting(self.description.api, None)

    def stages(self) -> frozenset[Stage]:
        """Return the stages to acknowledge; none without an `acknowledge` hook."""
        if "acknowledge" not in self.hooks:
            return frozenset()
        return frozenset(self._setting(self.description.acknowledge, _NO_STAGES))

    def poll_interval_s(self) -> float:
        return float(self._setting(self.description.poll_interval_s, 300.0))

    def fetch_retry(self) -> FetchRetry | None:
        """Return the schedule of retries of `fetch`; None for the gateway's own."""
        return self._setting(self.description.fetch_retry, None)

    def is_open(self, order: Order) -> bool:
        """Tell whether an order may still change at the vendor. Raises PluginError."""
        check = self.description.is_open
        return check is not None and bool(self._guard.call("describe", lambda: check(order)))

    def max_body_bytes(self, general: int) -> int:
        """Return the limit of webhook bodies: the smaller of the general one and the source's own."""
        return min(general, self._setting(self.description.max_body_bytes, general))

    def jwks_url(self) -> str | None:
        """Return the URL of the keys that `verify` needs."""
        return self._setting(self.description.jwks_url, None)

    def _setting(self, make: Callable[[Any], T] | None, default: T) -> T:
        return default if make is None else self._guard.call("describe", lambda: make(self.settings))

    def subscribe(self) -> Subscription:
        """Return the hub to listen to. Raises PluginError."""
        found = self._call("subscribe", settings=self.settings)
        if not isinstance(found, Subscription):
            raise PluginError(f"subscribe returned {type(found).__name__}, not a Subscription")
        for problem in found.problems():
            raise PluginError(f"subscribe returned a Subscription that cannot be used: {problem}")
        return found

    def admit(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any] = _NO_KEYS) -> Sequence[Event | Unreadable]:
        """Verify and read a webhook. No other way leads a webhook to `ingest`.

        Raises:
            UnknownKey: It is signed with a key that is not among `keys`; a newer set may hold it.
            Unverified: It does not come from the vendor.
            Rejected: The sender gets the reason.
            Misread: It is authentic and cannot be read.
            PluginError: The connector failed.
            TransientError: `verify` is no longer called with it, because the process crashed on it.
        """
        before = self._crash_record.enter(self.source, "verify", envelope.body, otherwise=TransientError)
        try:
            verdict = self._hooks.call("verify", envelope=envelope, settings=self.settings, now=now, keys=keys)
        except UnknownKey:
            raise
        except BaseException as error:
            raise Unverified(error) from error
        finally:
            self._crash_record.leave(before)
        if verdict is not True:
            if inspect.iscoroutine(verdict):
                verdict.close()
            raise Unverified
        return self.read(envelope)

    def read(self, envelope: Envelope) -> Sequence[Event | Unreadable]:
        """Read a verified envelope. Of several events, an unusable one becomes a dead letter of its own. Raises as `admit` does."""
        try:
            events = self._guard.call(
                "ingest", lambda: list(self._hooks.call("ingest", envelope=envelope, settings=self.settings) or ()), envelope.body
            )
        except Rejected:
            raise
        except PermanentError as error:
            raise Misread(str(error)) from error
        except (TransientError, AuthError, Hold, Ignore) as error:
            raise PluginError(f"ingest raised {type(error).__name__}, which is not its to raise") from error
        if len(events) > 1:
            return [self._of_several("ingest", event) for event in events]
        for event in events:
            if isinstance(event, Unreadable):
                raise Misread(bounded(event.reason))
            checked_event("ingest", event, fetches=self.fetches)
        return events

    async def poll(
        self,
        cursor: str | None,
        since: datetime,
        now: datetime,
        client: VendorClient | None,
        open_orders: Sequence[OpenOrder] = (),
    ) -> Page:
        """Ask the vendor for a page of events. Raises TransientError, AuthError, PermanentError or PluginError."""
        page = await self._await(
            "poll", cursor=cursor, since=since, now=now, open_orders=open_orders, client=client, settings=self.settings
        )
        if not isinstance(page, Page):
            raise PluginError(f"poll returned {type(page).__name__}, not a Page")
        if page.cursor is not None and not (
            isinstance(page.cursor, str) and is_storable(page.cursor) and len(page.cursor) <= _CURSOR_LIMIT
        ):
            raise PluginError("poll returned a cursor that is no text, or longer than 64 KiB")
        events = self._guard.call("poll", lambda: list(page.events))
        return Page(events=[self._of_several("poll", event) for event in events], cursor=page.cursor, more=bool(page.more))

    def _of_several(self, hook: str, event: object) -> Event | Unreadable:
        """Check one of several events. An unusable one becomes a dead letter of its own, and the others go on."""
        if isinstance(event, Unreadable):
            if not isinstance(event.document, bytes):
                raise PluginError(f"{hook} returned an Unreadable whose document is {type(event.document).__name__}, not bytes")
            return Unreadable(document=event.document, reason=bounded(event.reason))
        try:
            return checked_event(hook, event, fetches=self.fetches)
        except Misread as error:
            assert isinstance(event, Event)
            if event.document is None:
                raise PluginError(f"{hook} returned {error}") from error
            return Unreadable(document=event.document, reason=str(error))

    async def fetch(self, event: Event, client: VendorClient | None) -> bytes:
        """Fetch the vendor's full order. Raises TransientError, AuthError, PermanentError, Hold or PluginError."""
        document = await self._await("fetch", event.key, event=event, client=client, settings=self.settings)
        if not isinstance(document, bytes):
            raise PluginError(f"fetch returned {type(document).__name__}, not bytes")
        return document

    def normalize(self, event: Event, document: bytes, previous: Order | None = None) -> Order:
        """Make the canonical order. Raises PermanentError, Hold, Ignore or PluginError."""
        try:
            order = self._call("normalize", document, event=event, document=document, previous=previous, settings=self.settings)
        except (TransientError, AuthError) as error:
            raise PluginError(f"normalize raised {type(error).__name__}, which is not its to raise") from error
        except Hold as hold:
            hold.order = None if hold.order is None else checked_order(hold.order)
            raise
        return checked_order(order)

    async def acknowledge(self, receipts: Sequence[Receipt], client: VendorClient | None) -> Collection[int]:
        """Acknowledge to the vendor; return the ids that it confirmed. Raises TransientError, AuthError, PermanentError or PluginError."""
        confirmed = await self._await("acknowledge", receipts=receipts, client=client, settings=self.settings)
        ids = self._guard.call("acknowledge", lambda: frozenset(confirmed))
        if not ids <= {receipt.id for receipt in receipts}:
            raise PluginError("acknowledge returned something else than ids of its receipts")
        return ids

    def commands(self) -> dict[str, Command]:
        """Return the commands that the current settings allow, by name."""
        given = self.description.commands.items()
        return {name: one for name, one in given if all(getattr(self.settings, need, None) for need in one.needs)}

    def check_command(self, name: str, body: bytes, now: datetime) -> str | None:
        """Check the body of a command, and return the identifier of its subject, if it has one.

        Raises:
            InvalidBody: With every problem.
            PluginError: The connector failed.
        """
        command = self.description.commands[name]
        made = check_body(command.body, body)
        if (check := command.check) is not None:
            found = self._guard.call("describe", lambda: list(islice(check(made, self.settings, now), MOST_BODY_PROBLEMS)))
            if found:
                raise InvalidBody([(bounded(path), bounded(text)) for path, text in found])
        if (subject_of := command.subject) is None:
            return None
        subject = self._guard.call("describe", lambda: subject_of(made))
        if not (isinstance(subject, str) and subject and is_storable(subject) and len(subject) <= _SUBJECT_LIMIT):
            raise PluginError(f"the subject of {name} is no text of 1 to {_SUBJECT_LIMIT} characters")
        return subject

    def is_repeatable(self, command: str) -> bool:
        """Tell whether the vendor may get a command twice. Raises PluginError."""
        return bool(self._setting(self.description.commands[command].repeatable, False))

    async def submit(self, submission: Submission, client: VendorClient | None) -> Submitted:
        """Send a command to the vendor; return its answer. Raises TransientError, AuthError, PermanentError, Hold or PluginError."""
        return self._submitted(await self._await("submit", submission.id, submission=submission, client=client, settings=self.settings))

    async def look_up(self, submission: Submission, client: VendorClient | None) -> Submitted | None:
        """Look up the result of an attempt; None if it surely had none. The command must have a `look_up`. Raises as `submit` does."""
        ask = self.description.commands[submission.command].look_up
        assert ask is not None
        found = await self._guard.wait("submit", lambda: ask(submission=submission, client=client, settings=self.settings))
        return None if found is None else self._submitted(found)

    def _submitted(self, made: object) -> Submitted:
        if not isinstance(made, Submitted):
            raise PluginError(f"submit returned {type(made).__name__}, not a Submitted")
        try:
            events = [checked_event("submit", event, fetches=self.fetches) for event in made.events]
        except Misread as error:
            raise PluginError(f"submit returned {error}") from error
        return msgspec.structs.replace(made, events=tuple(events))

    def _call(self, hook: str, body: bytes | None = None, **arguments: Any) -> Any:
        return self._guard.call(hook, lambda: self._hooks.call(hook, **arguments), body)

    async def _await(self, hook: str, subject: str = "", **arguments: Any) -> Any:
        return await self._guard.wait(hook, lambda: self._hooks.call(hook, **arguments), subject)
