"""Arguments of commands: how a command file registers its commands, and the types that several of them use."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.config.settings import DEFAULT_PATH

Options = argparse.Namespace

KEYS = "inbox:17, outbox:17, submit:17, ack:17, message:KEY, event:SOURCE/KEY, order:SOURCE/ORDER_REF, number:PO-1, or a text for any"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Commands:
    """Register of commands. Each gets `--config`, and `--json` where it prints data.

    Args:
        inherits: The commands stand below another one, which has `--config` already.
    """

    def __init__(self, sub: Any, *, inherits: bool = False) -> None:
        self._sub = sub
        self._default = argparse.SUPPRESS if inherits else DEFAULT_PATH

    def add(
        self, name: str, summary: str, run: Callable[[Options], int], *, example: str = "", json: bool = True
    ) -> argparse.ArgumentParser:
        """Add a command that calls `run`; its exit code is what that returns."""
        description = f"{summary[0].upper()}{summary[1:]}."
        made: argparse.ArgumentParser = self._sub.add_parser(
            name, help=summary, description=description, epilog=f"Example: {example}" if example else None
        )
        made.add_argument("--config", type=Path, default=self._default, metavar="FILE", help=f"configuration file; default {DEFAULT_PATH}")
        if json:
            made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=run)
        return made


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000")
    return int(text)


def utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8 text") from None
    return text


def age_s(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number with its unit, as 2d, 3h, 90m or 30s")
    return int(found[1]) * _UNITS[found[2]]


def days(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 36500:
        raise argparse.ArgumentTypeError("must be a number of days from 0 to 36500")
    return number
