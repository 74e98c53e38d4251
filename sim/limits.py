"""Request limits: fixed windows that count weight and orders, refusals, and the ban of a client that does not stop.

Source: facts section 5 (pools, fixed windows, headers, 429 and 418).
"""

from dataclasses import dataclass

from sim.errors import ApiError, refusal

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
DAY_MS = 86_400_000
LONGEST_BAN_MS = 3 * DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSizes:
    """How much each pool holds.

    ``patience`` is the number of 429 replies in a minute, -1003 and -1015 alike, before a ban. The first one takes
    ``ban_ms``, and each further one twice as long as the one before, as long as that ended within a day.
    """

    weight_per_minute: int = 2400
    orders_per_ten_seconds: int = 300
    orders_per_minute: int = 1200
    patience: int = 20
    ban_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class OrderCost:
    """Slots of the two ORDERS counters."""

    ten_seconds: int
    minute: int


ONE_ORDER = OrderCost(1, 1)
ONE_BATCH = OrderCost(5, 1)


class Window:
    """A counter that starts again at each multiple of its length."""

    __slots__ = ("length_ms", "start_ms", "used")

    def __init__(self, length_ms: int) -> None:
        self.length_ms = length_ms
        self.start_ms = 0
        self.used = 0

    def add(self, amount: int, now_ms: int) -> int:
        """Count ``amount`` and return the total of the window that ``now_ms`` lies in."""
        start_ms = now_ms - now_ms % self.length_ms
        if start_ms != self.start_ms:
            self.start_ms, self.used = start_ms, 0
        self.used += amount
        return self.used

    def rest_s(self, now_ms: int) -> int:
        """Return the whole seconds until the window ends, at least one."""
        return max(1, -((now_ms - self.start_ms - self.length_ms) // 1000))


class Ban:
    """Until when the address of the one client is banned, by whichever way it comes; bans grow (facts 5)."""

    __slots__ = ("_length_ms", "until_ms")

    def __init__(self) -> None:
        self.until_ms = 0
        self._length_ms = 0

    def begin(self, now_ms: int, first_ms: int) -> None:
        """Ban from now on: for ``first_ms``, or for twice as long as the last time if that was within a day."""
        is_again = self._length_ms and now_ms - self.until_ms < DAY_MS
        self._length_ms = min(2 * self._length_ms, max(LONGEST_BAN_MS, first_ms)) if is_again else first_ms
        self.until_ms = now_ms + self._length_ms


class Limits:
    """The pools of the one client that the simulated exchange serves; those with one ``ban`` share what it says."""

    __slots__ = ("_refused", "ban", "orders_1m", "orders_10s", "sizes", "weight")

    def __init__(self, sizes: LimitSizes, ban: Ban | None = None) -> None:
        self.sizes = sizes
        self.ban = ban or Ban()
        self.weight = Window(MINUTE_MS)
        self.orders_10s = Window(TEN_SECONDS_MS)
        self.orders_1m = Window(MINUTE_MS)
        self._refused = Window(MINUTE_MS)

    def charge_weight(self, weight: int, now_ms: int) -> None:
        """Count a request; raises ApiError 429 over the limit, and 418 while banned."""
        if now_ms < self.ban.until_ms:
            raise self._banned(now_ms)
        if self.weight.add(weight, now_ms) <= self.sizes.weight_per_minute:
            return
        self._lose_patience(now_ms)
        text = (
            f"Too many requests; current limit of IP is {self.sizes.weight_per_minute} requests per minute. "
            "Please use the websocket for live updates to avoid polling the API."
        )
        raise ApiError(-1003, text, 429, self.weight.rest_s(now_ms))

    def charge_orders(self, cost: OrderCost, now_ms: int) -> None:
        """Count new or amended orders; raises ApiError 429 (-1015) over either limit, and 418 who does not stop."""
        sizes = self.sizes
        in_ten_seconds = self.orders_10s.add(cost.ten_seconds, now_ms)
        if self.orders_1m.add(cost.minute, now_ms) > sizes.orders_per_minute:
            self._lose_patience(now_ms)
            raise _too_many(self.orders_1m, sizes.orders_per_minute, "1 MINUTE", now_ms)
        if in_ten_seconds > sizes.orders_per_ten_seconds:
            self._lose_patience(now_ms)
            raise _too_many(self.orders_10s, sizes.orders_per_ten_seconds, "10 SECOND", now_ms)

    def weight_header(self, now_ms: int) -> str:
        """Return the weight used in this minute as its header says it."""
        return str(self.weight.add(0, now_ms))

    def order_headers(self, now_ms: int) -> dict[str, str]:
        """Return the order counts as their headers say them."""
        return {
            "x-mbx-order-count-10s": str(self.orders_10s.add(0, now_ms)),
            "x-mbx-order-count-1m": str(self.orders_1m.add(0, now_ms)),
        }

    def as_exchange_info(self) -> list[dict[str, object]]:
        """Return ``rateLimits`` of exchangeInfo."""
        sizes = self.sizes
        return [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, sizes.weight_per_minute),
            _limit("ORDERS", "MINUTE", 1, sizes.orders_per_minute),
            _limit("ORDERS", "SECOND", 10, sizes.orders_per_ten_seconds),
        ]

    def _lose_patience(self, now_ms: int) -> None:
        """Count a reply of 429; raises ApiError 418 instead if there were too many in this minute."""
        if self._refused.add(1, now_ms) > self.sizes.patience:
            self.ban.begin(now_ms, self.sizes.ban_ms)
            raise self._banned(now_ms)

    def _banned(self, now_ms: int) -> ApiError:
        until_ms = self.ban.until_ms
        text = (
            f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. "
            "Please use the websocket for live updates to avoid bans."
        )
        return ApiError(-1003, text, 418, -((now_ms - until_ms) // 1000))


def _too_many(window: Window, limit: int, span: str, now_ms: int) -> ApiError:
    error = refusal(-1015, limit, span)
    error.retry_after_s = window.rest_s(now_ms)
    return error


def _limit(kind: str, interval: str, count: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": limit}
