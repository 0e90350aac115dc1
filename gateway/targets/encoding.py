"""A mapping's result as the bytes that leave, every exact number as it was written, to the digit."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway.mapping.functions import Exact

Decimals = Literal["number", "string", "tagged"]


def encode_body(value: Any, decimals: Decimals, *, omit_null: bool = False) -> bytes:
    """JSON. `Exact` becomes a number, a text, or Tryton's tagged object; a text that only looks like a number stays a text."""
    return msgspec.json.encode(_written(value, decimals, omit_null))


def _written(value: Any, decimals: Decimals, omit_null: bool) -> Any:
    if isinstance(value, Exact):
        if decimals == "number":
            return msgspec.Raw(value.encode())
        return str(value) if decimals == "string" else {"__class__": "Decimal", "decimal": str(value)}
    if isinstance(value, dict):
        return {key: _written(one, decimals, omit_null) for key, one in value.items() if not (omit_null and one is None)}
    if isinstance(value, list):
        return [_written(one, decimals, omit_null) for one in value]
    return value
