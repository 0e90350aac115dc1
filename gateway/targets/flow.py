"""When a target may be asked: a rate for all its requests, and windows in which it is left alone."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.targets.delivery_settings import Flow, Rate

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60


class Pace:
    """At most so many calls in any stretch of time; first come, first served."""

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._calls: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Return when one more call fits."""
        rate = self._rate
        if rate is None:
            return
        async with self._turn:
            while True:
                now = self._clock.monotonic()
                while self._calls and self._calls[0] <= now - rate.per_s:
                    self._calls.popleft()
                if len(self._calls) < rate.calls:
                    break
                await self._clock.sleep(max(self._calls[0] + rate.per_s - now, 0.001))
            self._calls.append(self._clock.monotonic())


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
