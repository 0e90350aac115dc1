"""Builder of requests: from an order through look-ups, mapping and schema to the bytes. It sends nothing but look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from gateway.api.errors import MappingError
from gateway.clock import Clock
from gateway.targets.expressions import Jsonata, encode_body, evaluate, read_whole
from gateway.targets.functions import Rows, Scope
from gateway.targets.lookups import Lookup
from gateway.targets.request import Context, Refused, Request, Sender, Unknown
from gateway.targets.request_settings import RequestTable
from gateway.targets.schema import violations
from gateway.targets.secrets_in_bodies import marks
from gateway.targets.settings import TargetSettings
from gateway.targets.templates import Unfilled

_JSON = {"Content-Type": "application/json"}


class Made(Struct, frozen=True, kw_only=True):
    """Body, or why it could not be made.

    Attributes:
        missing: Values that the order, a table or the ERP lacks, by line and code.
        wrong: Faults of the mapping's result.
    """

    body: bytes | None
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        return self.missing + self.wrong


class Builder:
    """Builder of one target's requests.

    Args:
        settings: Read for every request, since the files that they name may change.
        sender: For look-ups; None where nothing may be sent (`gateway target map`, examples).
        mapping, schema: Texts in place of the settings'.
    """

    def __init__(
        self, settings: TargetSettings, sender: Sender | None, clock: Clock, *, mapping: str | None = None, schema: str | None = None
    ) -> None:
        self._settings = settings
        self._mapping = mapping
        self._schema = schema
        self.lookups: dict[str, Lookup] = {}
        if sender is not None:
            for name, lookup in settings.lookups.items():
                self.lookups[name] = Lookup(name, lookup, sender, self.render, clock)

    def context(self, body: bytes) -> Context:
        """Return the context of a canonical message; `lookup` is empty until `look_up`."""
        message = read_whole(body)
        return {"order": message["order"], "message": message, **self.without_order(), "_raw": body}

    def without_order(self) -> Context:
        """Return the context of a request without an order, such as `check`."""
        context: Context = {"vars": dict(self._settings.vars), "lookup": {}, "captured": {}}
        if self._settings.secrets:
            context["secret"] = marks(self._settings.secrets)
        return context

    async def look_up(self, context: Context, *, fresh: bool = False) -> Context:
        """Return the context with the ERP's rows for the order's codes.

        Args:
            fresh: Ask again for codes that were unknown the last time; for a message that was tried before.
        Raises:
            Refused: A code is unknown to the ERP (`on_missing = "refuse"`), or a look-up cannot be made. Names all of them.
            Unknown: The same with `on_missing = "hold"`.
            AuthError, TransientError: As `Sender.send`.
        """
        found, asked = dict(context["lookup"]), {}
        refused: list[str] = []
        held: list[str] = []
        for name, lookup in self.lookups.items():
            context = {**context, "lookup": found}
            codes = lookup.codes(context, self.evaluate)
            rows = await lookup.rows(codes, context, fresh=fresh)
            asked[name] = codes
            missing = lookup.missing(codes, rows, context["order"])
            (refused if lookup.settings.on_missing == "refuse" else held).extend(missing)
            found[name] = (rows.get(codes[0]) if codes else None) if lookup.settings.one else rows
            context = {**context, "lookup": found, "_rows": {**context.get("_rows", {}), name: rows}}
        if refused:
            raise Refused(refused + held)
        if held:
            raise Unknown(held)
        return {**context, "_asked": asked}

    async def request(self, context: Context, *, fresh: bool = False) -> Request:
        """Make the request that creates the order, look-ups included. Raises what `look_up` and `create` raise."""
        return self.create(await self.look_up(context, fresh=fresh) if self.lookups else context)

    def create(self, context: Context) -> Request:
        """Make the request that creates the order, from a context with its look-ups.

        Raises:
            Refused: The mapping misses something, its result does not fit the schema, or the address lacks a value.
        """
        made = self.body(context)
        if made.problems:
            raise Refused(made.problems)
        return self.around(made.body, context)

    def around(self, body: bytes | None, context: Context) -> Request:
        """Make the request that carries a body. Raises Refused."""
        return self._rendered(self._settings, self._settings.values, body, context, "")

    def body(self, context: Context) -> Made:
        """Make the body; without a mapping it is the canonical message."""
        body = self._settings.body
        if body is None:
            return Made(body=context["_raw"])
        scope = self._scope(context)
        try:
            result = evaluate(self._mapping or body.mapping.reveal(), self._with_marks(context), scope.functions)
        except MappingError as error:
            return Made(body=None, missing=tuple(scope.problems), wrong=(f"{body.mapping.name}: {error}",))
        if not isinstance(result, (dict, list)) or not result:
            wrong = (f"{body.mapping.name}: makes no body of this order; it must give an object",)
            return Made(body=None, missing=tuple(scope.problems), wrong=wrong)
        made = encode_body(result, body.decimal, omit_null=body.omit_null)
        if scope.problems or body.schema is None:
            return Made(body=made, missing=tuple(scope.problems))
        return Made(body=made, wrong=tuple(f"{body.schema.name}: {one}" for one in violations(made, self._schema or body.schema.reveal())))

    def render(self, table: RequestTable, context: Context, *, where: str = "") -> Request:
        """Make any other request: a look-up, a preflight, a step, a check. Raises Refused."""
        body = None
        if table.body is not None:
            result = self.evaluate(table.body, context, f"{where or 'request'}: body")
            body = encode_body(result, self._settings.body.decimal if self._settings.body else "number")
        return self._rendered(table, {**self._settings.values, **table.values}, body, context, where)

    def _rendered(
        self, table: RequestTable | TargetSettings, expressions: Mapping[str, Jsonata], body: bytes | None, context: Context, where: str
    ) -> Request:
        url, query, headers = table.url, table.query, table.headers
        constants = self._settings.vars
        named = {hole.name.split(".")[0] for template in (url, *query.values(), *headers.values()) for hole in template.holes}
        values = {name: self.evaluate(text, context, f"values.{name}") for name, text in expressions.items() if name in named}
        values |= {name: value for name, value in context.items() if name in named and name != "vars"}
        problems: list[str] = []

        def filled(what: str, fill: Callable[[], str]) -> str:
            try:
                return fill()
            except Unfilled as error:
                problems.append(f"{where + ' ' if where else ''}{what}: {error}")
                return ""

        address = filled("url", lambda: url.fill_url(values, constants))
        given = {name: filled(f"query {name}", lambda t=text: t.fill("query", values, constants)) for name, text in query.items()}  # type: ignore[misc]
        sent = {name: filled(f"header {name}", lambda t=text: t.fill("header", values, constants)) for name, text in headers.items()}  # type: ignore[misc]
        if problems:
            raise Refused(problems)
        if given:
            encoded = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in given.items())
            address += ("&" if "?" in address else "?") + encoded
        return Request(method=table.method, url=address, headers={**(_JSON if body is not None else {}), **sent}, body=body)

    def evaluate(self, text: str, context: Context, what: str = "") -> Any:
        """Evaluate a text of the configuration with all functions. Raises Refused, which begins with `what`."""
        scope = self._scope(context)
        try:
            found, problems = evaluate(text, self._with_marks(context), scope.functions), scope.problems
        except MappingError as error:
            found, problems = None, [*scope.problems, str(error)]
        if problems:
            raise Refused([f"{what}: {problem}" if what else problem for problem in problems])
        return found

    def _with_marks(self, context: Context) -> Context:
        return {**context, "secret": marks(self._settings.secrets)} if self._settings.secrets else context

    def _scope(self, context: Context) -> Scope:
        tables = {name: table.codes for name, table in self._settings.tables.items()}
        rows: dict[str, Rows] = {name: {} for name in self._settings.lookups}
        rows.update(context.get("_rows", {}))
        return Scope(tables, rows, context.get("_asked"), context.get("order"))


def with_rows(context: Context, rows: Mapping[str, Rows], ones: Mapping[str, bool]) -> Context:
    """Return a context as if the ERP had answered look-ups with these rows (examples, `gateway target map`)."""
    found: dict[str, Any] = {}
    for name, known in rows.items():
        found[name] = next(iter(known.values()), None) if ones.get(name) else dict(known)
    return {**context, "lookup": found, "_rows": {name: dict(known) for name, known in rows.items()}}
