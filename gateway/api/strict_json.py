"""Strict JSON: one meaning per document, and every number an exact decimal text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from gateway.api.order import decimal

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64

_BOM = b"\xef\xbb\xbf"
# A text without an end is one token: tried from each of its quotation marks, it would hold Python's lock for hours.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(document: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a document as objects, lists, texts, booleans and None; a number is the text of a plain decimal, as in "12.50".

    A byte order mark is dropped. `1e3` is written out; other numbers stay as they are written, to the digit.

    Raises:
        ValueError: Not UTF-8, not JSON, NaN or Infinity, a key twice in one object, half of a surrogate pair, nested more
            than 64 deep, or more than `max_bytes`. The text says where, and quotes only keys.
    """
    if len(document) > max_bytes:
        raise ValueError(f"a document of {len(document)} bytes; {max_bytes} are allowed")
    value = parsed(document, _decoder)
    if _HALF.search(document):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text with half of a surrogate pair") from None
    return value


def parsed(document: bytes, decoder: json.JSONDecoder) -> Any:
    """Decode UTF-8 text without its byte order mark. Raises ValueError as `read_json` does."""
    try:
        value = decoder.decode(document.removeprefix(_BOM).decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_shape(value)
    return value


def list_apart(body: bytes, key: str) -> tuple[bytes, list[bytes]]:
    """Split the list at `key` of an answer that is no JSON as a whole, so that one bad element (NaN, half a surrogate pair) costs no other.

    It reads strings and brackets only, not the inside of an element.

    Returns:
        The object with an empty list at its `key`, and the bytes of each element; both empty if there is no such list.
    """
    elements: list[bytes] = []
    depth, here, opened, begin = 0, b"", -1, 0
    for found in _TOKEN.finditer(body):
        token, start, end = found.group(), found.start(), found.end()
        if token in (b"[", b"{"):
            depth += 1
            if depth == 2 and token == b"[" and here == b'"%b"' % key.encode():
                opened, begin = start, end
        elif token in (b"]", b"}"):
            depth -= 1
            if opened >= 0 and depth == 1:
                elements += filter(None, [body[begin:start].strip()])
                return body[:opened] + b"[]" + body[end:], elements
        elif token == b",":
            if opened >= 0 and depth == 2:
                elements.append(body[begin:start].strip())
                begin = end
        elif depth == 1:
            here = token
    return b"", []


def check_shape(value: Any, max_items: int | None = None) -> None:
    """Raise ValueError if lists and objects are nested more than 64 deep, or one has more than `max_items`."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        if max_items is not None and any(len(one) > max_items for one in level):
            raise ValueError(f"a list or an object with more than {max_items} entries")
        level = [v for one in level for v in (one.values() if isinstance(one, dict) else one) if isinstance(v, (dict, list))]
    if level:
        raise ValueError("nested too deeply")


def number_text(written: str) -> str:
    """Write a JSON number as a plain decimal; one beyond the bounds of `decimal` stays as it is."""
    if "e" not in written and "E" not in written:
        return written
    try:
        return format(decimal(written), "f")
    except ValueError:
        return written


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {ascii(twice[:40])[1:-1]} twice in one object")
    return made


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant}, which is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=number_text, parse_constant=_refuse)
