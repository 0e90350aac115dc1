"""Why a vendor refuses a command, fit for the caller, a log and a page: without what the command says of a person.

Few vendors document their errors. Read are the fields of a problem document (RFC 9457, and what .NET makes of it: `title`, `detail`,
`errors`) and a plain `message` or `error`; of any other answer nothing but its status.
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
# Each looks at a word from its beginning only: from every letter, a word of a megabyte would take hours.
_MAIL = re.compile(r"(?<![^\s'\"<>])[^\s'\"<>]+@[^\s'\"<>]+")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{24,}")
_QUOTED = re.compile(r"""(['"]).*?\1""", re.DOTALL)


def refused(vendor: str, answer: Response, request: Mapping[str, Any], *, public: Collection[str] = ()) -> str:
    """One sentence: the status, and what the vendor says of it.

    Args:
        vendor: Its name, for people.
        request: What was sent, as plain values. Whatever text of it the answer repeats is left out, word by word, and so is
            anything in quotes, any mail address and what looks like a code.
        public: Fields of the request that may be repeated.
    """
    try:
        said = " ".join(_said(read_json(answer.body)))
    except ValueError:
        said = ""
    said = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    private = {text for name, value in request.items() if name not in public for text in _words(value)}
    for text in sorted(private, key=len, reverse=True):
        said = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", said, flags=re.IGNORECASE)
    for form in (_MAIL, _TOKEN, _QUOTED):
        said = form.sub("…", said)
    return f"{vendor} refuses it ({answer.status}){': ' if said else ''}{said[:_LONGEST]}"


def _said(document: Any) -> Iterator[str]:
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
