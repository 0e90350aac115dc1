"""The command API: what a caller says in headers and bodies, what a vendor answers to a command, and the codes that it gives."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import gateway_scalepoint
import msgspec
from msgspec.structs import replace
from multidict import CIMultiDict

from gateway import Codes, Hold, Mapping, Rejected, Submission, Url
from gateway.codes import drawing
from gateway.config.settings import CallerSettings
from gateway.edge.callers import Callers
from gateway.edge.openapi import CODE_IMAGES
from gateway.edge.request_headers import LONGEST_KEY, LONGEST_WAIT_S, accepts_as_json, idempotency_key, wanted_wait_s
from gateway.edge.submit import SubmitDoor
from gateway.metrics import Metrics
from gateway.plugin.command_body import InvalidBody, meaning
from gateway.plugin.hook_runner import HookRunner
from gateway.store.submissions import NewSubmission, SubmissionAccepted, SubmissionState
from gateway.testing import ManualClock
from tests.direct_request import Asked

from .target import finish, parts, target, text
from .vendors import ASKING, AT, Answers, Failed, connectors, no_plugin_error

TOKEN = "constructed"
KNOWN = (200, 202, 400, 401, 403, 404, 405, 409, 413, 415, 422)
CREATE = b'{"orderNumber":"RX-1","sendCustomerPickupMail":false,"customerSelfRegistration":true,\
"articles":[{"scanCode":"5948912001188","name":"Tablets","quantityOrdered":1}]}'
RECURRENT = CREATE.replace(b'"quantityOrdered":1', b'"quantityOrdered":1,"interval":28').replace(
    b'"articles"', b'"startDate":"2024-04-01T00:00:00","endDate":"2099-04-01T00:00:00","articles"'
)
EVENT = b'{"eventType":"order_shipped","orderToken":"abc","attributes":{"status":"sent","quantity":"2"}}'
COMMANDS = {
    b"pickup_cloud/create_order": CREATE,
    b"pickup_cloud/create_recurrent_order": RECURRENT,
    b"pickup_cloud/create_order_on_behalf_of": CREATE.replace(b"{", b'{"origin":"x","originOrderNumber":"7",', 1),
    b"pickup_cloud/get_order": b'{"orderNumber":"RX-1"}',
    b"scalepoint/publish_event": EVENT,
}
HEAD = (
    b"Authorization: Bearer constructed\nIdempotency-Key: k1\nContent-Type: application/json; charset=utf-8\nPrefer: respond-async, wait=0"
)
ANSWERS = [
    b'{"orderNumber":"RX-1","state":"Created","creationDate":"2024-03-31T12:00:00","pickup_code":"P","storageCode":"S",\
"articles":[{"scanCode":"5948912001188","quantityOrdered":1}]}',
    b'{"ok":true}',
    b"[]",
]


@cache
def sources() -> dict[str, Any]:
    """The connectors that take commands, with settings for all of them; as much of a `Source` as the door looks at."""
    pickup, claims = connectors()["pickup_cloud"], connectors()["scalepoint"]
    examples = Path(str(files(gateway_scalepoint).joinpath("examples")))
    pickup.settings = replace(pickup.settings, on_behalf_of_path="/api/{api_version}/orders/on-behalf-of")
    claims.settings = replace(
        claims.settings,
        publish_url=Url("https://vendor.example/{country}/{tenant}/send"),
        publish_country="dk",
        publish_tenant="us",
        publish_type_header="X-Event",
        publish_payload=Mapping.from_reference("publish.jsonata", examples),
        token_url=Url("https://vendor.example/token"),
        client_id="us",
    )
    return {name: _Source(name, connector) for name, connector in (("pickup_cloud", pickup), ("scalepoint", claims))}


class _Source:
    def __init__(self, name: str, connector: Any) -> None:
        self.name, self.connector, self.hook_runner = name, connector, HookRunner()


class Shelf:
    """What a caller has submitted."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes, SubmissionState]] = {}

    def clear(self) -> None:
        self._kept.clear()

    async def accept_submission(self, new: NewSubmission) -> SubmissionAccepted:
        state = SubmissionState(id=new.id, caller=new.caller, source=new.source, command=new.command, state="ready", attempts=0)
        sha256, kept = self._kept.setdefault(new.key, (new.sha256, state))
        return SubmissionAccepted(outcome="stored" if kept is state else "repeat" if sha256 == new.sha256 else "conflict", state=kept)

    async def submission(self, _: str, id: str) -> SubmissionState | None:
        return next((state for _, state in self._kept.values() if state.id == id), None)

    async def submission_ended(self, caller: str, id: str, _: float) -> SubmissionState | None:
        return await self.submission(caller, id)


@contextmanager
def silence() -> Iterator[None]:
    """A line for each of a million refusals is nobody's to read."""
    log = logging.getLogger("gateway.submit")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


@cache
def callers() -> Callers:
    settings = CallerSettings(
        token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest(),
        commands=("pickup_cloud/*", "scalepoint/publish_event"),
        max_requests_per_second=10**9,
    )
    return Callers({"erp": settings})


def headers(lines: bytes) -> CIMultiDict[str]:
    """One a line, as often as it comes, without what the parser of HTTP would have refused."""
    found: CIMultiDict[str] = CIMultiDict()
    for line in lines.split(b"\n"):
        name, _, value = line.partition(b":")
        found.add(text(name).strip(), text(value).strip(" \t\r"))
    return found


@cache
def door() -> tuple[SubmitDoor, Shelf]:
    shelf, clock = Shelf(), ManualClock()
    made = SubmitDoor(shelf, Metrics(clock), clock)  # type: ignore[arg-type]
    made.serve(sources(), callers(), 4096)
    return made, shelf


@target(
    "submit.headers",
    lambda: [HEAD, HEAD.replace(b"wait=0", b'wait="60"; x=y, wait=1'), b"Prefer: wait = 99999999999\nContent-Encoding: gzip"],
)
def submit_headers(data: bytes) -> None:
    given = headers(data)
    with suppress(ValueError):
        key = idempotency_key(given)
        assert 1 <= len(key) <= LONGEST_KEY
        assert key.isascii()
    assert accepts_as_json(given) in (True, False)
    assert 0 <= (wanted_wait_s(given) or 0) <= LONGEST_WAIT_S
    said = given.getall("Authorization", [])
    assert callers().of(said) is None or TOKEN in said[0]


@target("submit.body", lambda: [name + b"\0" + body for name, body in COMMANDS.items()], InvalidBody)
def submit_body(data: bytes) -> None:
    """What is taken can be read by the submit step, and says the same however often it is spelled anew."""
    named, body = parts(data, 2)
    source, _, command = (named if named in COMMANDS else next(iter(COMMANDS))).decode().partition("/")
    connector = sources()[source].connector
    try:
        subject = connector.check_command(command, body, AT)
    except InvalidBody as no:
        msgspec.json.encode([list(problem) for problem in no.problems])
        raise
    assert subject
    msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"), type=connector.commands()[command].body)
    assert meaning(meaning(body)) == meaning(body)


@target("submit.door", lambda: [b"POST /out/" + name + b"\0" + HEAD + b"\0" + body for name, body in COMMANDS.items()])
def submit_door(data: bytes) -> None:
    """Every request has an answer that the documents know, twice the same one, and nothing of it is of our own making."""
    line, lines, body = parts(data, 3)
    method, _, path = text(line).partition(" ")
    opened, shelf = door()
    shelf.clear()
    said = []
    for _ in range(2):
        with silence():
            answer: Any = finish(opened.receive(Asked(method, path, headers(lines), body)))  # type: ignore[arg-type]
        assert answer.status in KNOWN, f"{answer.status}: {answer.body!r}"
        msgspec.json.decode(answer.body)
        said.append((answer.status, answer.headers.get("Location")))
    assert said[0] == said[1]


@target("submit.answer", lambda: [name + b"\0" + answer for name in COMMANDS for answer in ANSWERS])
def submit_answer(data: bytes) -> None:
    """What a vendor answers to a command, or to the question what became of it."""
    named, body = parts(data, 2)
    named = named if named in COMMANDS else next(iter(COMMANDS))
    source, _, name = named.decode().partition("/")
    connector = sources()[source].connector
    command = connector.commands()[name]
    submission = Submission(id="s1", command=name, body=msgspec.json.decode(COMMANDS[named], type=command.body), accepted_at=AT)
    for ask in (connector.submit, connector.look_up) if command.look_up else (connector.submit,):
        try:
            made = finish(ask(submission, Answers(body)))
        except (*ASKING, Hold) as error:
            no_plugin_error(error)
            continue
        if made is None:
            continue
        for event in made.events:
            if event.order_ref != "RX-1":
                raise Failed(f"an answer about {event.order_ref!r} ends the submission of another order")


@target("submit.codes", lambda: [b"RX-1\0P-1\0S-1", "WEB/2026 00042#ä\0http://x/?ł\0".encode() + b"9" * 60], Rejected)
def submit_codes(data: bytes) -> None:
    number, pickup, storage = (text(part) for part in parts(data, 3))
    for image in CODE_IMAGES:
        drawn = drawing(Codes(number=number, pickup=pickup or None, storage=storage or None), image)
        assert drawn is None or drawn[0]
