"""`[targets.NAME.flow]`: the rate of a target, and its maintenance windows, in which the gateway sends nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.config.settings import Positive, PositiveInt
from gateway.targets.request_settings import Table

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_WINDOW = re.compile(r"(?:(mon|tue|wed|thu|fri|sat|sun) )?([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])\Z", re.IGNORECASE)


class Rate(Table, frozen=True, kw_only=True):
    """At most so many requests in any `per_s` seconds."""

    calls: PositiveInt
    per_s: Positive = 60.0


class Flow(Table, frozen=True, kw_only=True):
    """Limits of what the ERP takes.

    Attributes:
        maintenance: `"Sun 02:00-04:00"`, or every day without the day; in `time_zone`.
    """

    rate: Rate | None = None
    maintenance: tuple[str, ...] = ()
    time_zone: str = "UTC"

    def check(self) -> Iterable[tuple[str, str]]:
        if not _is_zone(self.time_zone):
            yield "time_zone", f'{self.time_zone!r} is no time zone of this machine; write it as in "Europe/Berlin"'
        for text in self.maintenance:
            found = _WINDOW.match(text)
            if not found or (found[4] == "24" and found[5] != "00") or found[2] + found[3] == found[4] + found[5]:
                yield "maintenance", f'{text!r} must be "Sun 02:00-04:00", or "02:00-04:00" for every day'

    def closed_for_s(self, now: datetime) -> float:
        """Return the seconds until the open maintenance window ends; 0 without one. Windows may meet and overlap."""
        if not self.maintenance:
            return 0.0
        at, zone = now, ZoneInfo(self.time_zone)
        for _ in range(len(self.maintenance) + 1):
            ends = [end for text in self.maintenance if (end := _end(text, at.astimezone(zone))) is not None]
            if not ends:
                break
            at = max(ends)
        return (at - now).total_seconds()


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _end(text: str, local: datetime) -> datetime | None:
    """Return when the window that holds `local` ends, or None. Wall clock times: a day of 23 hours has a shorter night."""
    found = _WINDOW.match(text)
    assert found is not None
    day = _DAYS.index(found[1].lower()) if found[1] else None
    first, last = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    for back in (0, 1):  # one that goes past midnight began yesterday
        began = local.date() - timedelta(days=back)
        if day is not None and began.weekday() != day:
            continue
        start = datetime.combine(began, datetime.min.time(), local.tzinfo)
        minutes = last if last > first else last + _DAY_MINUTES
        if start + timedelta(minutes=first) <= local < start + timedelta(minutes=minutes):
            return start + timedelta(minutes=minutes)
    return None
