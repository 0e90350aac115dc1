"""Conversion of vendors' dates to ISO 8601 by formats such as `m/d/yy`, `dd.mm.yyyy HH:MM`, `mmm d, yyyy`."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PARTS = {
    "yyyy": r"(?P<year>[0-9]{4})",
    "yy": r"(?P<short_year>[0-9]{2})",
    "mmm": r"(?P<month_name>[A-Za-z]{3})",
    "mm": r"(?P<month>[0-9]{2})",
    "m": r"(?P<month>[0-9]{1,2})",
    "dd": r"(?P<day>[0-9]{2})",
    "d": r"(?P<day>[0-9]{1,2})",
    "HH": r"(?P<hour>[0-9]{2})",
    "H": r"(?P<hour>[0-9]{1,2})",
    "hh": r"(?P<half_hour>[0-9]{2})",
    "h": r"(?P<half_hour>[0-9]{1,2})",
    "MM": r"(?P<minute>[0-9]{2})",
    "SS": r"(?P<second>[0-9]{2})",
    "am": r"(?P<am>[AaPp])\.?[Mm]\.?",
}
_TOKEN = re.compile("|".join(_PARTS))


class BadFormat(ValueError):
    """A date format that is invalid or incomplete."""


def to_iso(text: str, form: str) -> str | None:
    """Convert a date to `2024-04-02`, or `2024-04-02T13:45:00` if the format has hours; None if the text does not fit.

    The format `iso` accepts ISO 8601 unchanged.

    Raises:
        BadFormat: The format names something twice, or lacks year, month or day.
    """
    if form == "iso":
        return text if _is_iso(text) else None
    found = _compiled(form).match(text)
    if found is None:
        return None
    parts = {name: value for name, value in found.groupdict().items() if value is not None}
    year = int(parts["year"]) if "year" in parts else 2000 + int(parts["short_year"])
    name = parts.get("month_name", "").lower()
    if name and name not in _MONTHS:
        return None
    month = _MONTHS.index(name) + 1 if name else int(parts["month"])
    hour = int(parts.get("hour", 0))
    if "half_hour" in parts:
        if not 1 <= int(parts["half_hour"]) <= 12:
            return None
        hour = int(parts["half_hour"]) % 12 + (12 if parts["am"] in "Pp" else 0)
    try:
        made = datetime(year, month, int(parts["day"]), hour, int(parts.get("minute", 0)), int(parts.get("second", 0)))  # noqa: DTZ001
    except ValueError:
        return None
    return made.isoformat() if "hour" in parts or "half_hour" in parts else made.date().isoformat()


@lru_cache(maxsize=256)
def _compiled(form: str) -> re.Pattern[str]:
    if len(form) > 60:
        raise BadFormat("a date format of more than 60 characters")
    pattern, at = "", 0
    for token in _TOKEN.finditer(form):
        pattern += re.escape(form[at : token.start()]) + _PARTS[token[0]]
        at = token.end()
    try:
        made = re.compile(pattern + re.escape(form[at:]) + r"\Z")
    except re.error:
        raise BadFormat(f"the date format {form} has something twice") from None
    names = set(made.groupindex)
    if not (names & {"year", "short_year"} and names & {"month", "month_name"} and "day" in names):
        raise BadFormat(f"the date format {form} lacks year (yy, yyyy), month (m, mm, mmm) or day (d, dd)")
    if ("half_hour" in names) != ("am" in names):
        raise BadFormat(f"the date format {form} needs h and am together; H counts to 23")
    return made


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
