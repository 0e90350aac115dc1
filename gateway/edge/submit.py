"""Command API: authenticate, authorise, check, commit, answer `POST /out/{source}/{command}` (CONTRACT section 6).

The handler answers after the commit; a caller without an answer sends the same again under the same key. The wait for the vendor
(`Prefer: wait`) begins after the commit, so a caller that disconnects takes nothing back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway.api.errors import PluginError, Rejected, StoreError, TransientError
from gateway.clock import Clock
from gateway.codes import drawing
from gateway.config.settings import HttpSettings
from gateway.edge.admission import Admission, Over
from gateway.edge.callers import Caller, Callers
from gateway.edge.openapi import CODE_IMAGES, openapi
from gateway.edge.request_headers import accepts_as_json, idempotency_key, wanted_wait_s
from gateway.edge.request_limits import COMMIT_TIMEOUT_S, BodyError, LogThrottle, path_of, read_body
from gateway.edge.server import NAME
from gateway.edge.tasks import wait_for_first
from gateway.metrics import Metrics, Received
from gateway.plugin.command_body import InvalidBody, meaning
from gateway.plugin.source import Source
from gateway.rate_limit import RateCounter
from gateway.store.base import Store
from gateway.store.submissions import NewSubmission, SubmissionState

log = logging.getLogger("gateway.submit")

_HEADERS = {
    "Server": NAME,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_JSON = {**_HEADERS, "Content-Type": "application/json"}
_ENDED = ("done", "dead")


class _Refused(Exception):
    """Refusal of a request, with its answer."""

    def __init__(
        self, status: int, problem: str | None, headers: Mapping[str, str] | None = None, *, close: bool = False, **fields: object
    ) -> None:
        super().__init__(problem)
        self.answer = _answer(status, fields if problem is None else {"problem": problem, **fields}, headers)
        if close:
            self.answer.force_close()


class SubmitDoor:
    """Command API for the callers of all sources."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock, *, admission: Admission | None = None) -> None:
        self._admission = admission or Admission("submit", metrics, clock, HttpSettings())
        self._body_timeout_s = self._admission.settings.body_timeout_s
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._sources: Mapping[str, Source] = {}
        self._broken: Collection[str] = ()
        self._callers = Callers({})
        self._max_body_bytes = 0
        self._document = b""
        self._closing = asyncio.Event()
        self._rate = RateCounter(clock.monotonic)
        self._refusals = LogThrottle(clock.monotonic)

    def serve(self, sources: Mapping[str, Source], callers: Callers, max_body_bytes: int, broken: Collection[str] = ()) -> None:
        """Use this configuration from now on; `broken` are sources whose plugin is broken."""
        self._broken = broken
        self._sources, self._callers, self._max_body_bytes = sources, callers, max_body_bytes
        self._document = openapi({name: source.connector.commands() for name, source in sources.items()}, max_body_bytes)

    def close(self) -> None:
        """Accept nothing more, and answer callers that wait for a vendor."""
        self._closing.set()

    async def receive(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of the network. It authenticates first, and tells an unknown caller nothing else."""
        peer = self._admission.peer_of(request)
        if (over := self._admission.refusals.exceeded(peer)) is not None:
            return await self._no_room(request, over)
        caller = self._callers.of(request.headers.getall("Authorization", []))
        if caller is None:
            self._admission.count("unproven", peer)
            if (count := self._refusals.since_last("")) is not None:
                log.warning("submit.refused", extra={"status": 401, "since_last_line": count})
            return _answer(401, {"problem": "send a known token as Authorization: Bearer"}, {"WWW-Authenticate": "Bearer"})
        self._admission.refusals.record_genuine(peer)
        if caller.most_per_second is not None and not self._rate.allows(caller.name, caller.most_per_second):
            return _answer(429, {"problem": f"more than {caller.most_per_second} requests a second"}, {"Retry-After": "1"})
        return (await self.answer(request, caller))[0]

    async def _no_room(self, request: web.BaseRequest, over: Over) -> web.Response:
        """Refuse at the end of the second, as at the webhook."""
        await self._admission.pause(request, over)
        status = 429 if over == "address_rate" else 503
        return _Refused(status, "too many requests without a known token", {"Retry-After": "1"}, close=True).answer

    async def answer(self, request: web.BaseRequest, caller: Caller) -> tuple[web.Response, str | None]:
        """Answer a request of a known caller. Return the answer, and the id of the command if one was stored."""
        try:
            match path_of(request).split("/")[1:]:
                case ["openapi.json"]:
                    _only(request, "GET", "HEAD")
                    return web.Response(body=self._document, headers=_JSON), None
                case ["out", id]:
                    _only(request, "GET", "HEAD")
                    return _answer(200, _full(await self._state(caller, id))), None
                case ["out", id, image] if image in CODE_IMAGES:
                    _only(request, "GET", "HEAD")
                    return await self._image(await self._state(caller, id), image), None
                case ["out", name, command] if name in self._sources and command in self._sources[name].connector.commands():
                    _only(request, "POST")
                    if not caller.may(name, command):
                        raise _Refused(403, f"this token may not submit {name}/{command}")
                    return await self._submit(request, caller, self._sources[name], command)
                case ["out", name, command] if name in self._broken and caller.may(name, command):
                    raise _Refused(503, f"the plugin of {name} cannot be used now; send it again under the same key", {"Retry-After": "60"})
            raise _Refused(404, "unknown address; /openapi.json lists the known ones")
        except _Refused as no:
            return no.answer, None

    # --- submitting

    async def _submit(self, request: web.BaseRequest, caller: Caller, source: Source, command: str) -> tuple[web.Response, str | None]:
        if self._closing.is_set():
            raise self._busy(source, "shutting down", 5)
        try:
            key = idempotency_key(request.headers)
        except ValueError as error:
            raise _Refused(400, str(error)) from None
        if not accepts_as_json(request.headers):
            raise _Refused(415, "the body must be JSON in UTF-8, sent as Content-Type: application/json and without a Content-Encoding")
        new = await self._checked(await self._body(request), caller, key, source, command)
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                accepted = await self._store.accept_submission(new)
        except (StoreError, TimeoutError) as error:
            raise self._busy(source, str(error) or "the store is slow", getattr(error, "retry_after_s", 5.0)) from error
        state = accepted.state
        if accepted.outcome == "conflict":
            raise self._conflict("this Idempotency-Key belongs to another command", state.id)
        if accepted.outcome == "taken":
            raise await self._taken(caller, state.id)
        self._count(source, accepted.outcome)
        headers = {"Location": f"/out/{state.id}"}
        if accepted.outcome == "repeat":
            headers["Idempotent-Replayed"] = "true"
        stored = state.id if accepted.outcome == "stored" else None
        log.info(
            "submit.accepted",
            extra={"source": source.name, "command": command, "caller": caller.name, "key": state.id, "outcome": accepted.outcome},
        )
        wait_s = wanted_wait_s(request.headers)
        if wait_s is None:
            return _answer(202, _short(state), headers), stored
        headers["Preference-Applied"] = f"wait={wait_s}"
        state = await self._ended(caller, state, wait_s)
        return _answer(200 if state.state in _ENDED else 202, _short(state), headers), stored

    async def _body(self, request: web.BaseRequest) -> bytes:
        try:
            return await read_body(request, self._max_body_bytes, self._body_timeout_s)
        except BodyError as error:
            if error.kind == "slow_body":
                log.warning("submit.slow_body")
            problem = {
                "too_long": f"the body is longer than {self._max_body_bytes} bytes",
                "unfinished_bodies": "the gateway receives too much at once; send it again under the same key",
                "slow_body": "the body comes too slowly",
                "broken_body": "the body breaks off",
            }[error.kind]
            retry = {"Retry-After": "5"} if error.status == 503 else None
            raise _Refused(error.status, problem, retry, close=True) from None

    async def _checked(self, body: bytes, caller: Caller, key: str, source: Source, command: str) -> NewSubmission:
        connector, now = source.connector, self._clock.now()
        try:
            subject = await source.hook_runner.run("check", lambda: connector.check_command(command, body, now))
        except InvalidBody as no:
            self._count(source, "rejected")
            raise _problems(no.problems) from None
        except TransientError as error:
            raise self._busy(source, str(error), error.retry_after_s or 30) from error
        except PluginError as error:  # a repeat would fail as well
            self._count(source, "rejected")
            log.error("plugin.failed", exc_info=error, extra={"source": source.name, "command": command})
            raise _problems([("$", "the connector failed to check it; see the gateway's log")]) from None
        meant = b"\0".join((source.name.encode(), command.encode(), meaning(body)))
        return NewSubmission(
            id=secrets.token_hex(16),
            caller=caller.name,
            key=key,
            source=source.name,
            command=command,
            subject=subject,
            unique=connector.description.commands[command].unique,
            body=body,
            sha256=hashlib.sha256(meant).digest(),
        )

    async def _ended(self, caller: Caller, state: SubmissionState, wait_s: int) -> SubmissionState:
        """Wait for the end of a command, at most `wait_s`; return its state."""
        if wait_s == 0 or state.state in _ENDED:
            return state
        asked = asyncio.create_task(self._store.submission_ended(caller.name, state.id, wait_s), name=f"wait for {state.id}")
        closing = asyncio.create_task(self._closing.wait(), name="closing")
        await wait_for_first((asked, closing))
        try:
            return (None if asked.cancelled() else asked.result()) or state
        except StoreError as error:
            log.warning("submit.not_awaited", extra={"key": state.id, "reason": str(error)})
            return state

    # --- reading

    async def _state(self, caller: Caller, id: str) -> SubmissionState:
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                state = await self._store.submission(caller.name, id)
        except (StoreError, TimeoutError) as error:
            raise _Refused(503, "the gateway cannot read the command now; ask again later", {"Retry-After": "5"}) from error
        if state is None:
            raise _Refused(404, "you have submitted no command with this id")
        return state

    async def _image(self, state: SubmissionState, image: str) -> web.Response:
        try:
            made = None if state.codes is None else await asyncio.to_thread(drawing, state.codes, image)
        except Rejected as error:
            log.warning("submit.not_drawn", extra={"key": state.id, "reason": error.reason})
            raise _Refused(404, error.reason) from None
        if made is None:
            raise _Refused(404, "there is no such code: the vendor has not given one yet, or it has been erased")
        return web.Response(body=made[0], headers={**_HEADERS, "Content-Type": made[1]})

    # --- refusing

    def _busy(self, source: Source, reason: str, retry_after_s: float) -> _Refused:
        self._count(source, "busy")
        log.warning("submit.busy", extra={"source": source.name, "reason": reason})
        return _Refused(
            503,
            "the gateway cannot take the command now; send it again under the same key",
            {"Retry-After": str(max(1, round(retry_after_s)))},
        )

    async def _taken(self, caller: Caller, id: str) -> _Refused:
        """Refuse a second command for one number; only its own caller learns the id of the first."""
        try:
            await self._state(caller, id)
        except _Refused:
            return self._conflict("another caller has submitted a command for this number")
        return self._conflict("there is a command for this number already", id)

    def _conflict(self, problem: str, id: str | None = None) -> _Refused:
        return _Refused(409, problem) if id is None else _Refused(409, problem, {"Location": f"/out/{id}"}, id=id)

    def _count(self, source: Source, outcome: Received) -> None:
        self._metrics.commands.labels(source.name, outcome).inc()


def _only(request: web.BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise _Refused(405, f"send a {methods[0]}", {"Allow": ", ".join(methods)})


def _problems(found: Any) -> _Refused:
    return _Refused(422, None, problems=[{"path": path, "problem": problem} for path, problem in found])


def _answer(status: int, fields: Mapping[str, Any], more: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(fields), headers={**_JSON, **(more or {})})


def _short(state: SubmissionState) -> dict[str, Any]:
    """Return the answer to a submission."""
    fields: dict[str, Any] = {"id": state.id, "state": state.state}
    if state.state == "done":
        fields["answer"] = _as_json(state.answer)
    elif state.error is not None:
        fields["error"] = state.error
    return fields


def _full(state: SubmissionState) -> dict[str, Any]:
    names = ("id", "source", "command", "state", "attempts")
    return {**{name: getattr(state, name) for name in names}, "answer": _as_json(state.answer), "error": state.error}


def _as_json(answer: bytes | None) -> Any:
    """Return the vendor's answer byte by byte if it is JSON, else as text."""
    if answer is None:
        return None
    try:
        msgspec.json.decode(answer)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return answer.decode("utf-8", "replace")
    return msgspec.Raw(answer)
