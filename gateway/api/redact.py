"""A vendor's reason for refusing a command, without personal data, for the caller, the log and pages.

Few vendors document their errors. The reason comes from the fields of a problem document (RFC 9457, and .NET's form of it: `title`,
`detail`, `errors`) and from a plain `message` or `error`; of any other answer only the status is used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gateway.api.strict_json import read_json
from gateway.api.vendor_client import Response

_LONGEST = 400
_SHORTEST_WORD = 3
_FIELDS = ("title", "detail", "message", "error", "error_description", "errors")
# Each begins at the start of a word: tried from every letter, a word of a megabyte would take hours.
_MAIL = re.compile(r"(?<![^\s'\"<>])[^\s'\"<>]+@[^\s'\"<>]+")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{24,}")
_QUOTED = re.compile(r"""(['"]).*?\1""", re.DOTALL)


def refused(vendor: str, answer: Response, request: Mapping[str, Any], *, public: Collection[str] = ()) -> str:
    """Return one sentence: the status and the vendor's reason.

    Args:
        vendor: Its name, for people.
        request: The values that were sent. Words of them are removed from the reason, as are quotations, mail addresses and codes.
        public: Fields of the request that may be repeated.
    """
    try:
        reason = " ".join(_reasons(read_json(answer.body)))
    except ValueError:
        reason = ""
    reason = " ".join("".join(one if one.isprintable() else " " for one in reason).split())
    private = {text for name, value in request.items() if name not in public for text in _words(value)}
    for text in sorted(private, key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", reason, flags=re.IGNORECASE)
    for form in (_MAIL, _TOKEN, _QUOTED):
        reason = form.sub("…", reason)
    return f"{vendor} refuses it ({answer.status}){': ' if reason else ''}{reason[:_LONGEST]}"


def _reasons(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    for name in _FIELDS if isinstance(document, dict) else ():
        found = document.get(name)
        if isinstance(found, dict):
            for where, what in found.items():
                yield f"{where}: {' '.join(_texts(what))}"
        else:
            yield from _texts(found)


def _words(value: Any) -> Iterator[str]:
    for text in _texts(value):
        yield from (one for one in {text.strip(), *text.split()} if len(one) >= _SHORTEST_WORD)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)
