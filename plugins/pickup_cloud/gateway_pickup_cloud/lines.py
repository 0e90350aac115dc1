"""Which lines an order has, and which of them an article's notification is about (vendors/pickup_cloud.md section 4, cases 6 and 11).

A line keeps its number from message to message. `ArticleId` is matched with `scanCode`, which no document states to be the same;
where that names no single line (the article stands on two of them, or a substitute was dispensed), the state stays with the
order. Another due date of an article is another line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from gateway import Line
from gateway_pickup_cloud.state import Occurrence
from gateway_pickup_cloud.wire import Article, filled, number

_LONGEST_INTERVAL = 9999
_replace = msgspec.structs.replace


class Lines:
    """An order's lines while a message is made of it.

    Args:
        before: Those of the last message.
        gone: Numbers of those that are over for good.
        articles: As the answer lists them; none where it lists none.
    Raises:
        ValueError: A quantity or an interval that is none.
    """

    def __init__(self, before: Sequence[Line], gone: set[int | None], articles: Sequence[Article]) -> None:
        self._last = max((line.line_number for line in before), default=0)
        self._lines = {line.line_number: line for line in before if line.line_number not in gone}
        self._listed = Counter(filled(article.scan_code) for article in articles)
        there = list(self._lines.values())
        seen: Counter[str | None] = Counter()
        for article in articles:
            code = filled(article.scan_code)
            same = [line for line in there if (line.scan_code or line.article_number) == code]
            mine = same if self._listed[code] == 1 else same[seen[code] : seen[code] + 1]
            seen[code] += 1
            for line in mine or [self._new()]:
                self._put(_as_listed(line, article))

    @property
    def all(self) -> tuple[Line, ...]:
        return tuple(self._lines.values())

    def placed(self, occurrences: Sequence[Occurrence]) -> tuple[Occurrence, ...]:
        """Return the occurrences with the number of their line, whose state and due date they now own."""
        made = []
        taken = {one.line_number for one in occurrences}
        for one in occurrences:
            line = self._lines.get(one.line_number or 0) or self._line_for(one, taken)
            if line is not None:
                taken.add(line.line_number)
                self._put(_replace(line, due_at=one.due_at, status=one.status, article_number=one.article_id))
            made.append(_replace(one, line_number=line and line.line_number))
        return tuple(made)

    def _line_for(self, one: Occurrence, taken: set[int | None]) -> Line | None:
        mates = [line for line in self._lines.values() if one.article_id in (line.scan_code, line.article_number)]
        free = [line for line in mates if line.line_number not in taken]
        if len(free) > 1:
            return None
        if free:
            return free[0]
        if mates:
            return _replace(mates[-1], line_number=self._new().line_number)
        return None if self._listed else _replace(self._new(), quantity=one.quantity)

    def _new(self) -> Line:
        self._last += 1
        return Line(line_number=self._last)

    def _put(self, line: Line) -> None:
        self._lines[line.line_number] = line


def _as_listed(line: Line, article: Article) -> Line:
    interval = number(article.interval)
    if interval is not None and not 0 < interval <= _LONGEST_INTERVAL:
        raise ValueError("an interval beyond all bounds")
    return _replace(
        line,
        scan_code=filled(article.scan_code),
        name=filled(article.name),
        quantity=number(article.quantity_ordered),
        interval_days=line.interval_days if interval is None else int(interval),
    )
