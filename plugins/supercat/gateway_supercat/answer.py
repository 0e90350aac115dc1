"""SuperCat's answers: an envelope whose `status` tells success from failure, whatever the HTTP status (seed, Downloading Orders).

    {"status": "success", "error": null, "data": [{...}, {...}]}

The list is also documented as a bare array. Any other answer is a failed call, and none of it is used: another status, a missing
key, a sign-in page, a redirect, a truncated answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Raw, Struct

from gateway import AuthError, PermanentError, Response, TransientError, VendorClient, without_input
from gateway_supercat.settings import Settings

_REDIRECTS = (301, 302, 303, 307, 308)
_WITH_REASON = (400, 404, 409, 422, 500)  # statuses whose body may have a reason
_SIGN_IN = re.compile(r"log[-_]?[io]n|sign[-_]?[io]n|session|password", re.IGNORECASE)
_PASSWORD_FIELD = re.compile(rb"""type\s*=\s*["']?password""", re.IGNORECASE)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*("?)|[\[\]{},]', re.DOTALL)
_CREDENTIALS = "check org, username and password, and whether the account is locked"
_LONGEST = 200
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)  # invalid UTF-8 is a ValueError


class _Envelope(Struct):
    status: Any = UNSET
    error: Any = UNSET
    data: Raw = Raw(b"")


async def call(client: VendorClient, method: str, path: str, settings: Settings, *, json: Any = None) -> Response:
    """Send a request that is answered with JSON.

    Raises:
        AuthError: 401, 403 or a sign-in page.
        TransientError, PermanentError: Another failure; the text says which.
    """
    answer = await client.request(method, path, json=json, headers=settings.headers, accept=(*_REDIRECTS, *_WITH_REASON))
    if answer.status in _REDIRECTS:
        raise _redirect(answer)
    if _is_page(answer):
        raise _page(answer)
    if answer.status in _WITH_REASON:
        said = f"SuperCat answers {answer.status}{_reason(answer.body)}"
        raise TransientError(said) if answer.status >= 500 else PermanentError(said)
    return answer


def records(body: bytes) -> list[bytes]:
    """Return the order records of a list, byte for byte.

    Raises:
        TransientError: SuperCat reports a failure.
        PermanentError: The answer does not have the documented form.
    """
    body = _bare(body)
    try:
        data = body if body.startswith(b"[") else _data(body)
        return [bytes(record) for record in _list.decode(data) or ()]
    except _UNREADABLE as error:
        return _cut(body, error)


def results(body: bytes) -> dict[str, Any]:
    """Return the result of each order number of a mark request. Raises as `records` does."""
    try:
        return _object.decode(_data(_bare(body)))
    except _UNREADABLE as error:
        raise _no_json(error) from error


def _data(body: bytes) -> bytes:
    envelope = _envelope.decode(body)
    missing = [name for name in ("status", "error", "data") if getattr(envelope, name) in (UNSET, Raw(b""))]
    if missing:
        raise PermanentError(f"SuperCat's answer lacks {' and '.join(missing)}")
    if not isinstance(envelope.status, str) or envelope.status.strip().lower() != "success":
        raise TransientError(f"SuperCat says {_words(envelope.status)}: {_words(envelope.error)}")
    return bytes(envelope.data)


def _bare(body: bytes) -> bytes:
    return body.removeprefix(b"\xef\xbb\xbf").strip()


def _no_json(error: Exception) -> PermanentError:
    return PermanentError(f"SuperCat's answer breaks off, or is not the JSON that it documents: {without_input(error)}")


def _redirect(answer: Response) -> Exception:
    try:
        target = urlsplit(answer.headers.get("location", ""))
    except ValueError:
        target = urlsplit("")
    said = f"SuperCat redirects ({answer.status}) to {_words((target.hostname or '') + target.path)}, which is not followed"
    if _SIGN_IN.search(target.path):
        return AuthError(f"{said}; {_CREDENTIALS}")
    return PermanentError(f"{said}; check base_url, org and list_path")


def _is_page(answer: Response) -> bool:
    return "html" in answer.headers.get("content-type", "") or _bare(answer.body[:100]).startswith(b"<")


def _page(answer: Response) -> Exception:
    if _PASSWORD_FIELD.search(answer.body):
        return AuthError(f"SuperCat answers with a sign-in page; {_CREDENTIALS}")
    return TransientError(f"SuperCat answers {answer.status} with a page for people: maintenance? Else check base_url, org and list_path")


def _reason(body: bytes) -> str:
    try:
        envelope = _envelope.decode(_bare(body))
    except _UNREADABLE:
        return ""
    return f": {_words(envelope.error)}"


def _words(said: Any) -> str:
    """Make one short line of a text of SuperCat."""
    text = " ".join(said.split()) if isinstance(said, str) else ""
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST] or "nothing"


def _cut(body: bytes, error: Exception) -> list[bytes]:
    """Cut out the records of an answer that is invalid JSON as a whole, so that one bad record becomes a dead letter of its own.

    A record is bad if it has NaN, half of a surrogate pair or endless nesting. Raises PermanentError if the answer is truncated.
    """
    depth = 0 if body.startswith(b"[") else 1
    found: list[bytes] = []
    key, opened, begin, level = b"", -1, 0, 0
    for token, start, end in _tokens(body):
        if token in (b"[", b"{"):
            level += 1
            if level == depth + 1 and token == b"[" and (depth == 0 or key == b'"data"'):
                opened, begin = start, end
        elif token in (b"]", b"}"):
            level -= 1
            if opened >= 0 and level == depth and token == b"]":
                found += filter(None, [body[begin:start].strip()])
                return _whole(body[:opened] + b"[]" + body[end:], found, error)
        elif token == b",":
            if opened >= 0 and level == depth + 1:
                found.append(body[begin:start].strip())
                begin = end
        elif level == depth:
            key = token
    raise _no_json(error) from error


def _whole(rest: bytes, found: list[bytes], error: Exception) -> list[bytes]:
    """Return the records if the rest of the answer is valid."""
    try:
        if _any.decode(rest) != []:
            _data(rest)
    except _UNREADABLE:
        raise _no_json(error) from error
    return found


def _tokens(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    for token in _TOKEN.finditer(body):
        if token[1] == b"":  # the text has no end, and brackets after its begin may be part of it
            return
        yield token[0], token.start(), token.end()


_envelope = msgspec.json.Decoder(_Envelope)
_list = msgspec.json.Decoder(list[Raw] | None)
_object = msgspec.json.Decoder(dict[str, Any])
_any = msgspec.json.Decoder()
