"""Look-ups of codes in the ERP: one request for all codes of an order; found rows are cached long, misses briefly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.api.errors import AuthError, MappingError, TransientError
from gateway.clock import Clock
from gateway.mapping.functions import is_nothing
from gateway.outbound.answer import Answer, raise_if_busy
from gateway.outbound.session import TooLong, Unanswered
from gateway.targets.body_settings import LookupSettings
from gateway.targets.expressions import answer_document
from gateway.targets.functions import lines_with, shown
from gateway.targets.request import Context, Refused, Request, Sender

_MOST_REMEMBERED = 50_000
_MOST_CODES = 10_000

Render = Callable[[LookupSettings, Context], Request]
Row = dict[str, Any]


class _Known(Struct):
    """Cached answer for a code; without a row, `refused` holds the keys of the messages refused for it."""

    until: float
    row: Row | None
    refused: set[str]


class Lookup:
    """Look-up of one target.

    Args:
        render: Makes the request from the settings and a context that has `codes`.
    """

    def __init__(self, name: str, settings: LookupSettings, sender: Sender, render: Render, clock: Clock) -> None:
        self.name = name
        self.settings = settings
        self._sender = sender
        self._render = render
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._turn = asyncio.Lock()

    def codes(self, context: Context, evaluate: Callable[[str, Context], Any]) -> list[str]:
        """Return the codes that an order needs, each once. Raises Refused."""
        try:
            found = evaluate(self.settings.codes, context)
        except (MappingError, Refused) as error:
            raise Refused([f"the look-up {self.name}: codes: {one}" for one in error.problems]) from error
        items = found if isinstance(found, list) else [found]
        if any(not isinstance(item, (str, int)) or isinstance(item, bool) for item in items if not is_nothing(item)):
            raise Refused([f"the look-up {self.name}: codes must give a text, or a list of texts"])
        codes = list(dict.fromkeys(str(item) for item in items if not is_nothing(item)))
        if len(codes) > _MOST_CODES:
            raise Refused([f"{self.name}: {len(codes)} codes in one order; {_MOST_CODES} are looked up"])
        return codes

    async def rows(self, codes: Sequence[str], context: Context, *, fresh: bool = False) -> dict[str, Row]:
        """Return the ERP's rows by code; unknown codes are left out.

        Args:
            fresh: Ask again for codes that were missing the last time; without it, only for a message refused for them.
        Raises:
            Refused: The ERP refuses the look-up, or has a code twice.
            AuthError, TransientError: As `Sender.send`; nothing was changed at the ERP.
        """
        async with self._turn:  # of ten orders with the same article, one asks and the others find it cached
            found: dict[str, Row] = {}
            wanted: list[str] = []
            for code in codes:
                known = self._remembered(code, context["message"]["key"], fresh=fresh)
                if known is None:
                    wanted.append(code)
                elif known.row is not None:
                    found[code] = known.row
            for at in range(0, len(wanted), self.settings.batch):
                found |= await self._ask(wanted[at : at + self.settings.batch], context)
            return found

    def missing(self, codes: Sequence[str], rows: Mapping[str, Row], order: Mapping[str, Any]) -> list[str]:
        """Return a reason for each code that the ERP does not know, with the lines that name it."""
        return [f"{lines_with(order, code)}{self.name}: the ERP has no {shown(code, order)}" for code in codes if code not in rows]

    def _remembered(self, code: str, key: str, *, fresh: bool) -> _Known | None:
        """Return what is cached for a code. A message refused for it asks anew when it is replayed."""
        known = self._known.get(code)
        if known is None or known.until <= self._clock.monotonic():
            return None
        if known.row is None:
            if fresh or key in known.refused:
                return None
            known.refused.add(key)
        return known

    async def _ask(self, codes: list[str], context: Context) -> dict[str, Row]:
        request = self._render(self.settings, {**context, "codes": codes})
        answer = await self._answer(request)
        rows = self._read(answer, frozenset(codes), context["order"]) if answer is not None else {}
        now = self._clock.monotonic()
        for code in codes:
            ttl_s = self.settings.cache_ttl_s if code in rows else self.settings.negative_ttl_s
            self._known.pop(code, None)
            if ttl_s > 0:
                refused = set() if code in rows else {context["message"]["key"]}
                self._known[code] = _Known(until=now + ttl_s, row=rows.get(code), refused=refused)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return rows

    async def _answer(self, request: Request) -> Answer | None:
        """Return a 2xx answer, or None for 404."""
        try:
            answer = await self._sender.send(request)
        except TooLong as error:
            raise Refused([f"{self.name}: {error}; ask for fewer fields, or lower `batch`"]) from error
        except Unanswered as error:  # nothing can have been done by asking
            raise TransientError(f"the look-up {self.name}: {error}") from error
        status = answer.status
        if 200 <= status < 300:
            return answer
        if status == 404:
            return None
        raise_if_busy(f"the look-up {self.name}: the ERP", answer, self._clock.now(), also=423, pause_s=None)
        said = f"the look-up {self.name}: the ERP answers {status}"
        if status in (401, 403) or status < 400:
            raise AuthError(f"{said}; check the credentials, what they may read, and the look-up's url", refused=status in (401, 403))
        raise Refused([f"{said}; check its url and query with `gateway target check`"])

    def _read(self, answer: Answer, codes: frozenset[str], order: object) -> dict[str, Row]:
        document = answer_document(answer)
        if document["body"] is None and document["text"].strip() not in ("", "null"):
            said = f"the look-up {self.name}: the ERP answers with something that is not JSON; a login page, or another url?"
            raise AuthError(said, refused=False)
        if isinstance(document["body"], dict) and document["body"].get("error"):
            raise Refused([f"the look-up {self.name}: the ERP answers with an error; try it with `gateway target check`"])
        try:
            found = self.settings.rows.evaluate(document)
        except MappingError as error:
            raise Refused([f"the look-up {self.name}: rows: {error}"]) from error
        items = [] if found is None else found if isinstance(found, list) else [found]
        rows: dict[str, Row] = {}
        for item in items:
            if not isinstance(item, dict):
                raise Refused([f"the look-up {self.name}: rows must give objects; the ERP's answer has none there"])
            code = item.get(self.settings.code)
            if code is None and self.settings.one and len(codes) == len(items) == 1:
                code = next(iter(codes))  # asked for one, answered with one
            if str(code) not in codes:
                continue
            if str(code) in rows:
                raise Refused([f"{self.name}: the ERP has {shown(code, order)} more than once; which one is meant must be clear to it"])
            rows[str(code)] = item
        return rows
