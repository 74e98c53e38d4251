"""Pages of history: the parameters that userTrades, allOrders and income share, and what they select.

Source: facts section 3.3 (allOrders), 3.4 (userTrades, income).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sim.errors import refusal
from sim.params import Params

WEEK_MS = 7 * 24 * 3600 * 1000

KEPT_MS = 90 * 24 * 3600 * 1000
"""How far back fills and movements of the wallet are shown: three months."""

Row = TypeVar("Row")


class Dated(Protocol):
    """Whatever happened at a time."""

    @property
    def time_ms(self) -> int:
        """Return when it happened."""


Event = TypeVar("Event", bound=Dated)


@dataclass(frozen=True, slots=True)
class Span:
    """Rows wanted: from an id on, or within times; the oldest ``limit`` of them, or the newest if no start is given.

    ``is_bounded`` says that no more than seven days are to be had at once.
    """

    from_id: int | None
    start_ms: int | None
    end_ms: int | None
    limit: int
    is_bounded: bool = True

    @classmethod
    def of(
        cls,
        params: Params,
        id_name: str,
        now_ms: int,
        *,
        default: int,
        most: int,
        id_or_times: bool = True,
        is_bounded: bool = True,
    ) -> "Span":
        """Return the span that the parameters ask for; an id counts more than times where both may be sent.

        Raises -1130 (limit), -1128 (ids with times), -1023 (start after end) or -4165 (over 7 days, if bounded).
        """
        from_id = params.optional_integer(id_name) if id_name else None
        start_ms, end_ms = params.optional_integer("startTime"), params.optional_integer("endTime")
        limit = params.integer_or("limit", default)
        if not 0 < limit <= most:
            raise refusal(-1130, "limit")
        if id_or_times and from_id is not None and (start_ms, end_ms) != (None, None):
            raise refusal(-1128)
        if start_ms is not None and end_ms is not None:
            _check_times(start_ms, end_ms, is_bounded=is_bounded)
        if from_id is None and start_ms is None:
            return cls(None, None, min(end_ms or now_ms, now_ms), limit)
        return cls(from_id, start_ms, end_ms, limit, is_bounded)


def page(
    span: Span,
    rows: Iterable[Row],
    id_of: Callable[[Row], int],
    time_of: Callable[[Row], int],
    number: int | None = None,
) -> list[Row]:
    """Return the rows of ``span``, oldest first; ``rows`` come oldest first. ``number`` asks for one page of them."""
    found = list(_within(span, rows, id_of, time_of))
    if number is not None:
        return found[(number - 1) * span.limit : number * span.limit]
    newest = span.from_id is None and span.start_ms is None
    return found[-span.limit :] if newest else found[: span.limit]


def recent(events: Iterable[Event], now_ms: int) -> Iterator[Event]:
    """Yield what is still shown of ``events``."""
    return (event for event in events if now_ms - event.time_ms <= KEPT_MS)


def _within(
    span: Span, rows: Iterable[Row], id_of: Callable[[Row], int], time_of: Callable[[Row], int]
) -> Iterator[Row]:
    if span.from_id is not None:
        return (row for row in rows if id_of(row) >= span.from_id)
    if span.start_ms is not None:
        start_ms, end_ms = span.start_ms, span.end_ms
        last_ms = end_ms if end_ms is not None else start_ms + (WEEK_MS if span.is_bounded else KEPT_MS)
        return (row for row in rows if start_ms <= time_of(row) <= last_ms)
    end_ms = span.end_ms or 0
    return (row for row in rows if end_ms - WEEK_MS <= time_of(row) <= end_ms)


def _check_times(start_ms: int, end_ms: int, *, is_bounded: bool) -> None:
    if start_ms > end_ms:
        raise refusal(-1023)
    if is_bounded and end_ms - start_ms > WEEK_MS:
        raise refusal(-4165, 7)
