"""Status page of `[admin]` and the read-only API behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import jinja2
from aiohttp import web

from gateway import __version__
from gateway.api.urls import is_loopback
from gateway.store.reader import Reader
from gateway.store.row_names import Queue, Status, statuses_of
from gateway.store.waiting import Sides
from gateway.web.status import room

_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_QUEUES: tuple[Queue, ...] = ("inbox", "outbox", "acknowledgements", "submit")
_MOST_ROWS = 1000
_SHOWN_ROWS = 50

StatusOf = Callable[[], Awaitable[dict[str, Any]]]


class Admin:
    """Pages and read-only API.

    Args:
        status: Returns the answer of `gateway.web.status`.
        sides: Returns the states of targets and sources, for the reasons of rows.
        allow_remote: Accept every host name; else only loopback names, against DNS rebinding.
    """

    def __init__(self, reader: Reader, status: StatusOf, sides: Callable[[], Sides], *, allow_remote: bool) -> None:
        self._reader = reader
        self._status = status
        self._sides = sides
        self._allow_remote = allow_remote
        loader = jinja2.PackageLoader("gateway.web")
        self._pages = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._pages.filters["when"] = _when
        self._pages.filters["room"] = room

    def application(self) -> web.Application:
        """Build the aiohttp application of `[admin]`."""
        application = web.Application(middlewares=[self._guard])
        application.on_response_prepare.append(_protect)
        application.router.add_get("/", self.page)
        application.router.add_get("/glossary", self.glossary)
        application.router.add_get("/style.css", self.style)
        application.router.add_get("/icon.svg", self.icon)
        self.add_reads(application)
        return application

    def add_reads(self, application: web.Application) -> None:
        """Add the routes that only read."""
        application.router.add_get("/api/status", self.api_status)
        application.router.add_get("/api/orders", self.api_orders)
        application.router.add_get("/api/{queue:inbox|outbox|acknowledgements|submit}", self.api_rows)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if not self._allow_remote and not _names_this_machine(request.headers.get("Host")):
            return web.Response(status=421, text="open this page as localhost, for instance through ssh -L 8081:127.0.0.1:8081")
        return await handler(request)

    async def page(self, _: web.Request) -> web.Response:
        """Answer with the status page: problems, rows that wait for a person, sources, targets, queues."""
        status = await self._status()
        words: tuple[Status, ...] = ("dead", "held")
        asked = [(queue, word) for queue in _QUEUES for word in words]
        waiting = [row for queue, word in asked for row in await self._reader.rows(queue, status=word, limit=_SHOWN_ROWS)]
        text = self._pages.get_template("index.html").render(
            status=status,
            waiting=waiting,
            standing=[one for one in status["waiting"] if one["on"] != "person"],
            count=sum(status[queue][word] for queue in _QUEUES for word in words),
            queues=_QUEUES,
            version=__version__,
        )
        return web.Response(text=text, content_type="text/html")

    async def glossary(self, _: web.Request) -> web.Response:
        """Answer with the words that the page uses."""
        return web.Response(text=self._pages.get_template("glossary.html").render(), content_type="text/html")

    async def style(self, _: web.Request) -> web.Response:
        """Answer with the style sheet."""
        return web.Response(text=self._pages.get_template("style.css").render(), content_type="text/css")

    async def icon(self, _: web.Request) -> web.Response:
        """Answer with the icon."""
        return web.Response(text=self._pages.get_template("icon.svg").render(), content_type="image/svg+xml")

    async def api_status(self, _: web.Request) -> web.Response:
        """Answer as `gateway status --json` does."""
        return web.json_response(await self._status())

    async def api_rows(self, request: web.Request) -> web.Response:
        """Answer with rows of a queue: `?status=dead&name=SOURCE_OR_TARGET&limit=50`."""
        return web.json_response(await self._rows(request.match_info["queue"], request.query))  # type: ignore[arg-type]

    async def api_orders(self, request: web.Request) -> web.Response:
        """Answer with orders: `?source=NAME&limit=50`."""
        asked = request.query
        return web.json_response(await self._reader.orders(source=asked.get("source"), limit=_limit(asked), sides=self._sides()))

    async def _rows(self, queue: Queue, query: Mapping[str, str]) -> Sequence[dict[str, Any]]:
        status = query.get("status")
        if status is not None and status not in statuses_of(queue):
            raise web.HTTPBadRequest(text=f"status must be one of {', '.join(statuses_of(queue))}")
        return await self._reader.rows(queue, status=status, name=query.get("name"), limit=_limit(query), sides=self._sides())


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", "50")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= _MOST_ROWS):
        raise web.HTTPBadRequest(text=f"limit must be a number from 1 to {_MOST_ROWS}")
    return int(text)


def _names_this_machine(host: str | None) -> bool:
    """Tell whether a Host header names only this machine; every browser sends one."""
    try:
        return host is None or is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


async def _protect(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_HEADERS)


def _when(instant: str | None) -> str:
    """Shorten an instant for people; the page says once that times are UTC."""
    return instant[:19].replace("T", " ") if instant else ""
