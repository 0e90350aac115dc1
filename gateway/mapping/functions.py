"""Functions for mappings beside JSONata's own: exact decimals, dates, and `$req` for values that must not be missing.

A number is a text ("12.50") or a whole number. Every function returns nothing if one of its arguments is nothing (missing, null, blank), so
that its key is left out of the result. Errors name the function, never a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any

from gateway.api.order import decimal
from gateway.mapping.dates import BadFormat, to_iso
from gateway.mapping.library import NULL

MAX_TEXT = 1024 * 1024
_MOST_DIGITS = 18
# Wide enough for every product of two amounts; a result that is not exact is an error.
_EXACT = Context(prec=100, traps=[InvalidOperation, Overflow, Inexact])
_ROUNDS = Context(prec=100, traps=[InvalidOperation, Overflow], rounding=ROUND_HALF_UP)
_GROUPED = {
    ",": re.compile(r"[+-]?[0-9]{1,3}(?:[. '\u00a0\u202f][0-9]{3})+(?:,[0-9]+)?\Z"),
    ".": re.compile(r"[+-]?[0-9]{1,3}(?:[, '\u00a0\u202f][0-9]{3})+(?:\.[0-9]+)?\Z"),
}


class Refusal(Exception):
    """A function refuses its arguments; the text is for the operator."""


class Exact(str):
    """Text of a number that a function made; targets that write numbers in another form recognise it by its type."""

    __slots__ = ()


def dec(value: Any, mark: Any = None) -> str | None:
    """`$dec(value)`: an exact number; `$dec("1.234,50", ",")` reads a decimal comma, and groups of three digits."""
    if is_nothing(value):
        return None
    if mark is None:
        return _written(_number("$dec", value))
    if mark not in _GROUPED or not isinstance(value, str):
        raise Refusal('$dec: its second argument is the decimal mark, "," or ".", of a text')
    text = value.strip()
    if _GROUPED[mark].match(text):
        text = re.sub(r"[^0-9+,.-]", "", text.replace("." if mark == "," else ",", ""))
    elif mark == "," and "." in text:
        raise Refusal("$dec: not a number with a decimal comma")
    return _written(_number("$dec", text.replace(mark, ".")))


def add(first: Any, second: Any, *others: Any) -> str | None:
    """`$add(a, b, ...)`, exactly."""
    return _fold("$add", _EXACT.add, [first, second, *others])


def sub(first: Any, second: Any, *others: Any) -> str | None:
    """`$sub(a, b, ...)`, exactly."""
    return _fold("$sub", _EXACT.subtract, [first, second, *others])


def mul(first: Any, second: Any, *others: Any) -> str | None:
    """`$mul(a, b, ...)`, exactly."""
    return _fold("$mul", _EXACT.multiply, [first, second, *others])


def div(value: Any, by: Any, digits: Any) -> str | None:
    """`$div(a, b, digits)`: rounded to `digits` after the point; a half is rounded away from zero."""
    if is_nothing(value) or is_nothing(by):
        return None
    divisor = _number("$div", by)
    if not divisor:
        raise Refusal("$div: division by zero")
    return _rounded("$div", _ROUNDS.divide(_number("$div", value), divisor), digits)


def round_(value: Any, digits: Any = 0) -> str | None:
    """`$round(x, digits)`: rounded to `digits` after the point; a half is rounded away from zero, as on an invoice."""
    return None if is_nothing(value) else _rounded("$round", _number("$round", value), digits)


def sum_(values: Any) -> str | None:
    """`$sum(list)`, exactly; missing values are left out."""
    if is_nothing(values):
        return None
    total = Decimal(0)
    for value in _present(values):
        total = _EXACT.add(total, _number("$sum", value))
    return _written(total)


def max_(values: Any) -> str | None:
    """`$max(list)`, by value and not by spelling."""
    return _extreme("$max", max, values)


def min_(values: Any) -> str | None:
    """`$min(list)`, by value and not by spelling."""
    return _extreme("$min", min, values)


def compare(one: Any, other: Any) -> int | None:
    """`$compare(a, b)`: -1, 0 or 1. JSONata's own `<` compares two texts letter by letter, and "10" comes before "9"."""
    if is_nothing(one) or is_nothing(other):
        return None
    a, b = _number("$compare", one), _number("$compare", other)
    return (a > b) - (a < b)


def number(value: Any) -> int | None:
    """`$number(x)`: a whole number, to count or index with; anything else stays a text, exact."""
    if is_nothing(value):
        return None
    if isinstance(value, bool):
        return int(value)
    found = _number("$number", value)
    if found != found.to_integral_value() or abs(found) >= 2**53:
        raise Refusal("$number: not a whole number; amounts stay texts, see $dec, $mul, $round and $compare")
    return int(found)


def req(value: Any, name: Any = "") -> Any:
    """`$req(value, "what it is")`: the value, or a refusal that says what is missing."""
    if is_nothing(value) or value == []:
        raise Refusal(f"$req: there is no {name if isinstance(name, str) and name else 'value'}")
    return value


def date(text: Any, *formats: Any) -> str | None:
    """`$date(text, format, ...)`: a vendor's date in ISO form, by the first format that fits.

    The formats are `iso` and what `dates.py` understands, as in `m/d/yy`, `dd.mm.yyyy HH:MM`, `mmm d, yyyy h:MM am`.
    """
    if is_nothing(text):
        return None
    if not isinstance(text, str) or not formats or not all(isinstance(one, str) for one in formats):
        raise Refusal('$date: takes a text and formats, as in $date(x, "iso", "m/d/yy")')
    try:
        for one in formats:
            found = to_iso(text.strip(), one)
            if found is not None:
                return found
    except BadFormat as error:
        raise Refusal(f"$date: {error}") from None
    raise Refusal(f"$date: a date in none of the formats {', '.join(formats)}"[:200])


def pad(text: Any, width: Any, fill: Any = " ") -> str | None:
    """`$pad` as in JSONata, up to the longest text."""
    if _is_null(text):
        return None
    of_texts = isinstance(text, str) and isinstance(fill, str)
    if not of_texts or isinstance(width, bool) or not isinstance(width, int) or abs(width) > MAX_TEXT:
        raise Refusal("$pad: takes a text, a width and a text to fill with")
    filling = ((fill or " ") * (abs(width) // len(fill or " ") + 1))[: max(0, abs(width) - len(text))]
    return f"{text}{filling}" if width > 0 else f"{filling}{text}"


def join(values: Any, between: Any = "") -> str | None:
    """`$join` as in JSONata, up to the longest text."""
    if _is_null(values):
        return None
    texts = values if isinstance(values, list) else [values]
    if not isinstance(between, str) or not all(isinstance(text, str) for text in texts):
        raise Refusal("$join: takes a list of texts, and a text to put between them")
    if sum(map(len, texts)) + len(texts) * len(between) > MAX_TEXT:
        raise Refusal("$join: too long a text")
    return between.join(texts)


def replace(text: Any, what: Any, by: Any, limit: Any = -1) -> str | None:
    """`$replace(text, what, by, limit)` for texts; `what` is a plain text."""
    if _is_null(text):
        return None
    if not all(isinstance(one, str) for one in (text, what, by)) or not what or isinstance(limit, bool) or not isinstance(limit, int):
        raise Refusal("$replace: takes a text, a text to replace, and a text to put there")
    if text.count(what) * len(by) > MAX_TEXT:
        raise Refusal("$replace: too long a text")
    return str(text).replace(what, by, limit)


def distinct(values: Any) -> Any:
    """`$distinct(list)`: each value once, in order."""
    if not isinstance(values, list):
        return values
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True, default=lambda _: None), value)
    return list(found.values())


def is_nothing(value: Any) -> bool:
    """Return True for a missing value, null, or a blank text."""
    return _is_null(value) or (isinstance(value, str) and not value.strip())


def _is_null(value: Any) -> bool:
    return value is None or value is NULL


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dec": dec, "add": add, "sub": sub, "mul": mul, "div": div, "round": round_, "sum": sum_, "max": max_, "min": min_,
    "compare": compare, "number": number, "req": req, "date": date,
    "pad": pad, "join": join, "replace": replace, "distinct": distinct,
}  # fmt: skip


def _number(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Refusal(f"{name}: takes numbers and texts of numbers")
    try:
        return decimal(value)
    except ValueError:
        raise Refusal(f'{name}: not a plain decimal number; a decimal comma is read by $dec(x, ",")') from None


def _fold(name: str, with_: Callable[[Decimal, Decimal], Decimal], values: Sequence[Any]) -> str | None:
    if any(is_nothing(value) for value in values):
        return None
    result = _number(name, values[0])
    try:
        for value in values[1:]:
            result = with_(result, _number(name, value))
    except (Inexact, Overflow):
        raise Refusal(f"{name}: too long a number") from None
    return _written(result)


def _rounded(name: str, value: Decimal, digits: Any) -> Exact:
    if isinstance(digits, str) and digits.isascii() and digits.isdigit():
        digits = int(digits[:3])
    if isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= _MOST_DIGITS:
        raise Refusal(f"{name}: the digits after the point are a whole number from 0 to {_MOST_DIGITS}")
    return _written(value.quantize(Decimal(1).scaleb(-digits), context=_ROUNDS))


def _extreme(name: str, of: Callable[..., Any], values: Any) -> str | None:
    found = [] if is_nothing(values) else [_number(name, value) for value in _present(values)]
    return _written(of(found)) if found else None


def _present(values: Any) -> list[Any]:
    return [value for value in (values if isinstance(values, list) else [values]) if not is_nothing(value)]


def _written(value: Decimal) -> Exact:
    return Exact(format(value, "f"))
