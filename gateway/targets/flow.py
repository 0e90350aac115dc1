"""Maintenance windows of a target, in which the gateway sends nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.targets.delivery_settings import Flow

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60


def closed_for_s(flow: Flow, now: datetime) -> float:
    """Seconds until the maintenance window that is open now is over; 0 where there is none. Windows may meet and overlap."""
    at = now
    for _ in range(len(flow.maintenance) + 1):
        ends = [end for text in flow.maintenance if (end := _end(text, at.astimezone(ZoneInfo(flow.time_zone)))) is not None]
        if not ends:
            break
        at = max(ends)
    return (at - now).total_seconds()


def _end(text: str, local: datetime) -> datetime | None:
    """When the window that `local` lies in ends, or None. By the clock on the wall: a day of 23 hours has a shorter night."""
    day, first, last = _parsed(text)
    for back in (0, 1):  # one that goes past midnight began yesterday
        began = local.date() - timedelta(days=back)
        if day is not None and began.weekday() != day:
            continue
        start = datetime.combine(began, datetime.min.time(), local.tzinfo)
        minutes = last if last > first else last + _DAY_MINUTES
        if start + timedelta(minutes=first) <= local < start + timedelta(minutes=minutes):
            return start + timedelta(minutes=minutes)
    return None


def _parsed(text: str) -> tuple[int | None, int, int]:
    *days, hours = text.split(" ")
    first, last = ((int(one[:2]) * 60 + int(one[3:])) for one in hours.split("-"))
    return (_DAYS.index(days[0].lower()) if days else None), first, last
