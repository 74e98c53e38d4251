"""Pages of history: the parameters that userTrades, allOrders and income share, and what they select.

Source: facts section 3.3 (allOrders), 3.4 (userTrades, income).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sim.errors import refusal
from sim.params import Params

WEEK_MS = 7 * 24 * 3600 * 1000

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Span:
    """Rows wanted: from an id on, or within times; the oldest ``limit`` of them, or the newest if no start is given."""

    from_id: int | None
    start_ms: int | None
    end_ms: int | None
    limit: int

    @classmethod
    def of(cls, params: Params, id_name: str, now_ms: int, *, default: int, most: int) -> "Span":
        """Return the span that the parameters ask for; raises -1130 (limit) or -1128 (ids with times, over 7 days)."""
        from_id = params.optional_integer(id_name) if id_name else None
        start_ms, end_ms = params.optional_integer("startTime"), params.optional_integer("endTime")
        limit = params.integer_or("limit", default)
        if not 0 < limit <= most:
            raise refusal(-1130, "limit")
        if from_id is not None and (start_ms, end_ms) != (None, None):
            raise refusal(-1128)
        if start_ms is not None and end_ms is not None and not 0 <= end_ms - start_ms <= WEEK_MS:
            raise refusal(-1128)
        if from_id is None and start_ms is None:
            return cls(None, None, min(end_ms or now_ms, now_ms), limit)
        return cls(from_id, start_ms, end_ms, limit)


def page(
    span: Span, rows: Iterable[Row], id_of: Callable[[Row], int], time_of: Callable[[Row], int]
) -> list[Row]:
    """Return the rows of ``span``, oldest first; ``rows`` come oldest first."""
    if span.from_id is not None:
        return [row for row in rows if id_of(row) >= span.from_id][: span.limit]
    if span.start_ms is not None:
        end_ms = span.end_ms if span.end_ms is not None else span.start_ms + WEEK_MS
        return [row for row in rows if span.start_ms <= time_of(row) <= end_ms][: span.limit]
    end_ms = span.end_ms or 0
    return [row for row in rows if end_ms - WEEK_MS <= time_of(row) <= end_ms][-span.limit :]
