"""One source's connector: the only code that calls a hook.

Each source has a plugin manager of its own holding one connector, so no vendor's code sees another vendor's traffic. What
a hook raises ends in its guard (`hook_guard.py`) as one of `gateway.api.errors`.
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
from gateway.plugin.hook_guard import Guard
from gateway.plugin.hooks import Hooks, checked_description
from gateway.plugin.suspects import Suspects
from gateway.plugin.validation import Misread, checked_event, checked_order, is_storable

T = TypeVar("T")

_NO_STAGES: Collection[Stage] = ()
NO_KEYS: Mapping[str, Any] = MappingProxyType({})
_CURSOR_LIMIT = 64 * 1024
_SUBJECT_LIMIT = 200


class Unverified(Exception):
    """`verify` did not return True; `cause` is what it raised, if it did."""

    def __init__(self, cause: BaseException | None = None) -> None:
        super().__init__("not verified")
        self.cause = cause


class Connector:
    """A module's hooks, checked and called.

    Args:
        module: What the entry point names.
        source: The source it serves; for error texts and notes.
        suspects: Where the steps of its hooks are noted.
    Raises:
        PluginError: It does not fit the hook specifications; the text says where.
    """

    def __init__(self, module: ModuleType | object, source: str = "", suspects: Suspects | None = None) -> None:
        self.source, self._suspects = source, suspects or Suspects()
        self._guard = Guard(source, self._suspects)
        self._hooks = Hooks(module)
        self.hooks, self.doors, self.takes = self._hooks.names, self._hooks.doors, self._hooks.takes
        self._verify, self._ingest, self._normalize = (self._hooks.direct(hook) for hook in ("verify", "ingest", "normalize"))
        self.description = checked_description(self._call("describe"), submits="submit" in self.hooks)
        self.settings: Any = None

    @property
    def fetches(self) -> bool:
        return "fetch" in self.hooks

    def api(self) -> Api | None:
        """The vendor's API as the settings describe it."""
        return self._setting(self.description.api, None)

    def stages(self) -> frozenset[Stage]:
        """The stages to acknowledge; none where the connector has no `acknowledge`."""
        if "acknowledge" not in self.hooks:
            return frozenset()
        return frozenset(self._setting(self.description.acknowledge, _NO_STAGES))

    def poll_interval_s(self) -> float:
        return float(self._setting(self.description.poll_interval_s, 300.0))

    def fetch_retry(self) -> FetchRetry | None:
        """When `fetch` is tried again; None for the gateway's own schedule."""
        return self._setting(self.description.fetch_retry, None)

    def is_open(self, order: Order) -> bool:
        """Whether an order may still change at the vendor. Raises PluginError."""
        check = self.description.is_open
        return check is not None and bool(self._guard.call("describe", lambda: check(order)))

    def max_body_bytes(self, general: int) -> int:
        """The limit for webhook bodies: the source's own, where it is below the general one."""
        return min(general, self._setting(self.description.max_body_bytes, general))

    def jwks_url(self) -> str | None:
        """Where the keys are that `verify` wants."""
        return self._setting(self.description.jwks_url, None)

    def _setting(self, make: Callable[[Any], T] | None, default: T) -> T:
        return default if make is None else self._guard.call("describe", lambda: make(self.settings))

    def subscribe(self) -> Subscription:
        """Where to listen. Raises PluginError."""
        found = self._call("subscribe", settings=self.settings)
        if not isinstance(found, Subscription):
            raise PluginError(f"subscribe returned {type(found).__name__}, not a Subscription")
        for problem in found.problems():
            raise PluginError(f"subscribe returned a Subscription that cannot be used: {problem}")
        return found

    def admit(self, envelope: Envelope, now: datetime, keys: Mapping[str, Any] = NO_KEYS) -> Sequence[Event | Unreadable]:
        """Verify and read a webhook; no other road takes one to `ingest`.

        Raises:
            UnknownKey: Signed with a key that is not among `keys`; a newer set may hold it.
            Unverified: It does not come from the vendor.
            Rejected: The sender should hear why.
            Misread: It is genuine, and cannot be read.
            PluginError: The connector failed over it.
            TransientError: `verify` is not asked any more, since the process ended over it.
        """
        before = self._suspects.enter(self.source, "verify", envelope.body, otherwise=TransientError)
        try:
            verdict = self._verify(envelope, self.settings, now, keys)
        except UnknownKey:
            raise
        except BaseException as error:
            raise Unverified(error) from error
        finally:
            self._suspects.leave(before)
        if verdict is not True:
            if inspect.iscoroutine(verdict):
                verdict.close()
            raise Unverified
        return self.read(envelope)

    def read(self, envelope: Envelope) -> Sequence[Event | Unreadable]:
        """Read an envelope that was verified before. Of several events, one that cannot be used is a dead letter of its own.

        Raises as `admit` does.
        """
        try:
            events = self._guard.call("ingest", lambda: list(self._ingest(envelope, self.settings) or ()), envelope.body)
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
        """Ask the vendor. Raises TransientError, AuthError, PermanentError or PluginError."""
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
        """One unusable element is a dead letter of its own; the rest of the page, or of the request, goes on."""
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
        """The vendor's full order. Raises TransientError, AuthError, PermanentError, Hold or PluginError."""
        document = await self._await("fetch", event.key, event=event, client=client, settings=self.settings)
        if not isinstance(document, bytes):
            raise PluginError(f"fetch returned {type(document).__name__}, not bytes")
        return document

    def normalize(self, event: Event, document: bytes, previous: Order | None = None) -> Order:
        """The canonical order. Raises PermanentError, Hold, Ignore or PluginError."""
        try:
            order = self._guard.call("normalize", lambda: self._normalize(event, document, previous, self.settings), document)
        except (TransientError, AuthError) as error:
            raise PluginError(f"normalize raised {type(error).__name__}, which is not its to raise") from error
        except Hold as hold:
            hold.order = None if hold.order is None else checked_order(hold.order)
            raise
        return checked_order(order)

    async def acknowledge(self, receipts: Sequence[Receipt], client: VendorClient | None) -> Collection[int]:
        """The ids that the vendor confirmed. Raises TransientError, AuthError, PermanentError or PluginError."""
        confirmed = await self._await("acknowledge", receipts=receipts, client=client, settings=self.settings)
        ids = self._guard.call("acknowledge", lambda: frozenset(confirmed))
        if not ids <= {receipt.id for receipt in receipts}:
            raise PluginError("acknowledge returned something else than ids of its receipts")
        return ids

    def commands(self) -> dict[str, Command]:
        """What can be said to the vendor with the settings of now, by name."""
        given = self.description.commands.items()
        return {name: one for name, one in given if all(getattr(self.settings, need, None) for need in one.needs)}

    def checked(self, name: str, body: bytes, now: datetime) -> str | None:
        """Check a caller's body against a command; the number of what it is about.

        Raises:
            InvalidBody: With everything that is wrong with it.
            PluginError: The connector failed over it.
        """
        command = self.description.commands[name]
        made = check_body(command.body, body)
        if (check := command.check) is not None:
            found = self._guard.call("describe", lambda: list(islice(check(made, self.settings, now), MOST_BODY_PROBLEMS)))
            if found:
                raise InvalidBody([(bounded(path), bounded(text)) for path, text in found])
        if (about := command.subject) is None:
            return None
        subject = self._guard.call("describe", lambda: about(made))
        if not (isinstance(subject, str) and subject and is_storable(subject) and len(subject) <= _SUBJECT_LIMIT):
            raise PluginError(f"the subject of {name} is no text of 1 to {_SUBJECT_LIMIT} characters")
        return subject

    def is_repeatable(self, command: str) -> bool:
        """Whether doing it twice does no harm. Raises PluginError."""
        return bool(self._setting(self.description.commands[command].repeatable, False))

    async def submit(self, submission: Submission, client: VendorClient | None) -> Submitted:
        """What the vendor says. Raises TransientError, AuthError, PermanentError, Hold or PluginError."""
        return self._submitted(await self._await("submit", submission.id, submission=submission, client=client, settings=self.settings))

    async def look_up(self, submission: Submission, client: VendorClient | None) -> Submitted | None:
        """What became of an attempt; None where surely nothing did. Only for commands that have a `look_up`. Raises as `submit` does."""
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

    def _call(self, hook: str, **arguments: Any) -> Any:
        return self._guard.call(hook, lambda: self._hooks.call(hook, **arguments))

    async def _await(self, hook: str, about: str = "", **arguments: Any) -> Any:
        return await self._guard.wait(hook, lambda: self._hooks.call(hook, **arguments), about)
