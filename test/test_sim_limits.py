"""Limits count in fixed windows, refuse with 429, and ban who does not stop."""

import pytest

from sim.errors import ApiError
from sim.limits import DAY_MS, ONE_BATCH, ONE_ORDER, Ban, Limits, LimitSizes, Window

MINUTE_START_MS = 1_700_000_040_000  # a multiple of 60 s


def refused(limits: Limits, weight: int, now_ms: int) -> ApiError:
    """Return the refusal that the weight earns."""
    with pytest.raises(ApiError) as caught:
        limits.charge_weight(weight, now_ms)
    return caught.value


def test_window_starts_again_at_the_full_minute() -> None:
    """Windows are aligned to the minute, not to the first request (facts 5)."""
    window = Window(60_000)
    assert window.add(5, MINUTE_START_MS + 59_999) == 5
    assert window.rest_s(MINUTE_START_MS + 59_999) == 1
    assert window.add(1, MINUTE_START_MS + 60_000) == 1
    assert window.rest_s(MINUTE_START_MS + 60_000) == 60


def test_weight_over_the_limit_is_refused_until_the_window_ends() -> None:
    """429 with -1003 and the seconds to wait; the next minute is free again (facts 5)."""
    limits = Limits(LimitSizes(weight_per_minute=10))
    limits.charge_weight(10, MINUTE_START_MS + 30_000)
    error = refused(limits, 1, MINUTE_START_MS + 30_000)
    assert (error.status, error.code, error.retry_after_s) == (429, -1003, 30)
    limits.charge_weight(10, MINUTE_START_MS + 60_000)


def test_client_that_goes_on_is_banned() -> None:
    """After the patience is used up: 418 with the end of the ban, which then holds for every request (facts 5)."""
    limits = Limits(LimitSizes(weight_per_minute=1, patience=2))
    limits.charge_weight(1, MINUTE_START_MS)
    statuses = [refused(limits, 1, MINUTE_START_MS + second * 1000).status for second in range(4)]
    assert statuses == [429, 429, 418, 418]
    error = refused(limits, 0, MINUTE_START_MS + 100_000)
    assert (error.status, error.retry_after_s) == (418, 22)
    assert str(MINUTE_START_MS + 122_000) in error.message
    limits.charge_weight(1, MINUTE_START_MS + 122_000)


def test_client_that_goes_on_sending_orders_is_banned() -> None:
    """A refusal for too many orders is a 429 as well, and new orders cost no weight (facts 5)."""
    limits = Limits(LimitSizes(orders_per_ten_seconds=1, patience=2))
    limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
    found = []
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
        found.append((caught.value.status, caught.value.code))
    assert found == [(429, -1015), (429, -1015), (418, -1003)]
    assert refused(limits, 0, MINUTE_START_MS + 119_999).status == 418
    limits.charge_orders(ONE_ORDER, MINUTE_START_MS + 120_000)


def test_each_ban_of_a_day_is_twice_as_long_as_the_one_before() -> None:
    """Two minutes, four, eight, and three days at most; after a day without one it begins anew (facts 5)."""
    ban, now_ms, found = Ban(), MINUTE_START_MS, []
    for _ in range(14):
        ban.begin(now_ms, 120_000)
        found.append((ban.until_ms - now_ms) // 60_000)
        now_ms = ban.until_ms + DAY_MS - 1
    assert found[:4] == [2, 4, 8, 16]
    assert found[-2:] == [3 * 24 * 60] * 2
    ban.begin(ban.until_ms + DAY_MS, 120_000)
    assert ban.until_ms - now_ms == 120_001


def test_orders_are_counted_in_both_windows() -> None:
    """An order takes one slot of each; a batch five of the 10 s window and one of the minute (facts 3.3)."""
    limits = Limits(LimitSizes())
    limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
    limits.charge_orders(ONE_BATCH, MINUTE_START_MS)
    assert limits.order_headers(MINUTE_START_MS) == {
        "x-mbx-order-count-10s": "6",
        "x-mbx-order-count-1m": "2",
    }
    assert limits.order_headers(MINUTE_START_MS + 10_000) == {
        "x-mbx-order-count-10s": "0",
        "x-mbx-order-count-1m": "2",
    }


def test_too_many_orders_are_refused_with_the_limit_they_broke() -> None:
    """429 with -1015, which names the limit; the wait is the longer window's if both are broken."""
    limits = Limits(LimitSizes(orders_per_ten_seconds=1, orders_per_minute=2))
    limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
    with pytest.raises(ApiError, match="1 orders per 10 SECOND") as first:
        limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
    assert (first.value.code, first.value.status, first.value.retry_after_s) == (-1015, 429, 10)
    with pytest.raises(ApiError, match="2 orders per 1 MINUTE") as second:
        limits.charge_orders(ONE_ORDER, MINUTE_START_MS)
    assert second.value.retry_after_s == 60


def test_limits_are_published_as_they_are_kept() -> None:
    """exchangeInfo carries the sizes (facts 3.2)."""
    rows = Limits(LimitSizes()).as_exchange_info()
    assert [(row["rateLimitType"], row["interval"], row["intervalNum"], row["limit"]) for row in rows] == [
        ("REQUEST_WEIGHT", "MINUTE", 1, 2400),
        ("ORDERS", "MINUTE", 1, 1200),
        ("ORDERS", "SECOND", 10, 300),
    ]
