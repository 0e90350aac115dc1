"""Why the vendor refuses a command, fit for the caller, a log and a page: without what the order says of a person.

What errors look like is not documented. Read are the fields of a .NET problem document (`title`, `detail`, `errors`) and a plain
`message` or `error`; of any other answer nothing but its status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway import read_json
from gateway_pickup_cloud.bodies import texts

_LONGEST = 400
_SHORTEST_WORD = 3
_CODE = re.compile(r"\b(?:customer|pickup)_[0-9A-Za-z]{8,}")
_MAIL = re.compile(r"[^\s'\"<>]+@[^\s'\"<>]+")
_QUOTED = re.compile(r"""(['"]).*?\1""", re.DOTALL)
_PUBLIC = ("orderNumber",)


def reason(status: int, body: bytes, request: Any) -> str:
    """One sentence: the status, and what the vendor says of it.

    Args:
        request: The command's body as plain values; whatever text of it the vendor repeats is left out, but for the number.
    """
    try:
        said = " ".join(" ".join(_said(read_json(body))).split())
    except ValueError:
        said = ""
    for text in sorted(_private(request), key=len, reverse=True):
        said = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", said, flags=re.IGNORECASE)
    for form in (_CODE, _MAIL, _QUOTED):
        said = form.sub("…", said)
    return f"Pickup Cloud refuses it ({status}){': ' if said else ''}{said[:_LONGEST]}"


def _said(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for name in ("title", "detail", "message", "error", "errors"):
            found = document.get(name)
            if isinstance(found, dict):
                for where, what in found.items():
                    yield f"{where}: {' '.join(texts(what))}"
            else:
                yield from texts(found)


def _private(request: Any) -> Iterator[str]:
    """The texts of a request, and their words."""
    for name, value in request.items():
        if name in _PUBLIC:
            continue
        for text in texts(value):
            yield from (one for one in {text.strip(), *text.split()} if len(one) >= _SHORTEST_WORD)
