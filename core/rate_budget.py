"""How much of the exchange's limits is used, and which request may go on what is left. Pure.

The limits are fixed windows on the exchange's clock. What is used is the larger of what we counted ourselves and what
the exchange last said plus what has not been answered since: others may use the same address and account. Less
important requests stop well before the limit, so that there is always room to cancel.

Source: binance-futures general info (limits, ``X-MBX-USED-WEIGHT``, ``X-MBX-ORDER-COUNT``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
TURN_MS = 100
"""How far the exchange's time may be from what we take it for without anybody noticing: less is no step of a clock."""


class Lane(IntEnum):
    """What a request is for, most important first."""

    CANCEL = 0
    """Cancels, the order that closes a position, and the dead-man switch: what makes us safe."""
    VERIFY = 1
    """Questions about what rests and what is held: a withdrawal is not over before they are answered."""
    AMEND = 2
    PLACE = 3
    QUERY = 4


SHARE_PERCENT: Mapping[Lane, int] = {
    Lane.CANCEL: 100,
    Lane.VERIFY: 95,
    Lane.AMEND: 85,
    Lane.PLACE: 75,
    Lane.QUERY: 60,
}
"""Up to how much of a limit each lane may go. What is above is reserved for the lanes before it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request uses: weight, slots of both order limits, and connections while it is under way."""

    weight: int = 1
    orders_10s: int = 0
    orders_1m: int = 0
    connections: int = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the limits are; the defaults are those of the real exchange in 2026."""

    weight_1m: int = 2400
    orders_10s: int = 300
    orders_1m: int = 1200


class Counts(Struct, frozen=True):
    """What the exchange says is used; None where it did not say."""

    weight_1m: int | None = None
    orders_10s: int | None = None
    orders_1m: int | None = None


class Window:
    """One limit: a counter that starts again at each multiple of its length."""

    __slots__ = ("_said", "_start_ms", "_under_way", "_used", "doubted", "length_ms", "limit")

    def __init__(self, length_ms: int, limit: int) -> None:
        self.length_ms = length_ms
        self.limit = limit
        self._start_ms = 0
        self._used = 0
        self._said = 0
        self._under_way = 0
        self.doubted: int | None = None
        """The last count of a time that was not known, until it is; nobody could tell its window."""

    def used(self, now_ms: int) -> int:
        """Return how much of the present window is used, a count of a time that was not known included."""
        self._turn(now_ms)
        doubted = self.doubted
        return self._used if doubted is None else max(self._used, doubted + self._under_way)

    def wait_ms(self, amount: int, percent: int, now_ms: int) -> int:
        """Return how long to wait before ``amount`` may be used by one who may go up to ``percent``; 0 for not at all.

        An empty window lets anything through, or what is larger than a share would wait for ever.
        """
        if amount == 0:
            return 0
        if now_ms - now_ms % self.length_ms != self._start_ms:
            self._turn(now_ms)
        used = self._used if self.doubted is None else self.used(now_ms)
        if used == 0 or (used + amount) * 100 <= self.limit * percent:
            return 0
        return self._start_ms + self.length_ms - now_ms

    def take(self, amount: int, now_ms: int) -> None:
        """Count what is about to be used."""
        if amount == 0:
            return
        if now_ms - now_ms % self.length_ms != self._start_ms:
            self._turn(now_ms)
        self._used += amount
        self._under_way += amount

    def settle(
        self, amount: int, taken_ms: int, now_ms: int, counted: int | None, *, time_is_known: bool
    ) -> None:
        """Note the answer to what was taken; ``counted`` is the exchange's own count, if the answer held it.

        A count from the turn of the window is not believed: nobody can tell which side of it that is from. One of a
        time that is not known goes until the next one, or until the time is known: a full window that was taken for
        the next one would else let nothing through for all of that.
        """
        if amount == 0 and counted is None:
            return
        self._under_way -= amount
        self._turn(now_ms)
        if counted is None or taken_ms < self._start_ms + TURN_MS:
            return
        self._said = counted
        self.doubted = None if time_is_known else counted
        if time_is_known:
            self._used = max(self._used, counted + self._under_way)

    def give_back(self, amount: int, taken_ms: int, now_ms: int) -> None:
        """Undo a ``take``: the request never left."""
        self._under_way -= amount
        self._turn(now_ms)
        if taken_ms >= self._start_ms:
            self._used -= amount

    def recount(self, now_ms: int) -> None:
        """Go by the exchange's last count alone: the clock was wrong by which all others were put into windows."""
        self._start_ms = now_ms - now_ms % self.length_ms
        self._used = self._said + self._under_way
        self.doubted = None

    def begin_anew(self) -> None:
        """Count from nothing: by the exchange's word the window is over that was full, whatever the time is."""
        self._used, self._said, self.doubted = self._under_way, 0, None

    def forget_doubted(self) -> None:
        """The exchange's time is known: what was counted while it was not may be of any window."""
        self.doubted = None

    def _turn(self, now_ms: int) -> None:
        start_ms = now_ms - now_ms % self.length_ms
        if start_ms != self._start_ms:
            self._start_ms, self._used, self._said, self.doubted = start_ms, 0, 0, None


class RateBudget:
    """The three limits of one account at one address; all times are the exchange's."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        sizes = sizes or Sizes()
        self.weight = Window(MINUTE_MS, sizes.weight_1m)
        self.orders_10s = Window(TEN_SECONDS_MS, sizes.orders_10s)
        self.orders_1m = Window(MINUTE_MS, sizes.orders_1m)
        self._share_percent = SHARE_PERCENT

    def release_reserve(self) -> None:
        """Let questions use the whole of each limit: for the last ones of a run, with its cancels out."""
        self._share_percent = {**SHARE_PERCENT, Lane.VERIFY: SHARE_PERCENT[Lane.CANCEL]}

    def keep_reserve(self) -> None:
        """Have each lane stop at its share, as from the beginning: for a run that follows another one."""
        self._share_percent = SHARE_PERCENT

    def resize(self, sizes: Sizes) -> None:
        """Take over the limits that the exchange states; what is counted stays counted."""
        self.weight.limit = sizes.weight_1m
        self.orders_10s.limit = sizes.orders_10s
        self.orders_1m.limit = sizes.orders_1m

    @property
    def is_doubted(self) -> bool:
        """Whether anything goes by a count of a time that was not known."""
        return (
            self.weight.doubted is not None
            or self.orders_10s.doubted is not None
            or self.orders_1m.doubted is not None
        )

    def forget_doubted(self) -> None:
        """Go by no such count any more: the time is known."""
        for window in (self.weight, self.orders_10s, self.orders_1m):
            window.forget_doubted()

    def try_take(self, lane: Lane, cost: Cost, now_ms: int) -> int:
        """Count a request of this cost and return 0, or return for how many ms it has to wait and count nothing."""
        wait_ms = self.wait_ms(lane, cost, now_ms)
        if wait_ms == 0:
            if cost.weight:
                self.weight.take(cost.weight, now_ms)
            if cost.orders_1m:
                self.orders_10s.take(cost.orders_10s, now_ms)
                self.orders_1m.take(cost.orders_1m, now_ms)
        return wait_ms

    def wait_ms(self, lane: Lane, cost: Cost, now_ms: int) -> int:
        """Return for how many ms a request of this cost has to wait.

        No limit on orders holds back the order that closes a position: whether it is one too many, the exchange says.
        """
        percent = self._share_percent[lane]
        wait_ms = self.weight.wait_ms(cost.weight, percent, now_ms) if cost.weight else 0
        if cost.orders_1m == 0 or lane is Lane.CANCEL:
            return wait_ms
        short_ms = self.orders_10s.wait_ms(cost.orders_10s, percent, now_ms)
        long_ms = self.orders_1m.wait_ms(cost.orders_1m, percent, now_ms)
        if short_ms > wait_ms:
            wait_ms = short_ms
        return long_ms if long_ms > wait_ms else wait_ms

    def settle(
        self, cost: Cost, taken_ms: int, now_ms: int, counts: Counts, *, time_is_known: bool = True
    ) -> None:
        """Note that a request has been answered, or never will be, and what the exchange said is used."""
        self.weight.settle(cost.weight, taken_ms, now_ms, counts.weight_1m, time_is_known=time_is_known)
        self.orders_10s.settle(
            cost.orders_10s, taken_ms, now_ms, counts.orders_10s, time_is_known=time_is_known
        )
        self.orders_1m.settle(cost.orders_1m, taken_ms, now_ms, counts.orders_1m, time_is_known=time_is_known)

    def give_back(self, cost: Cost, taken_ms: int, now_ms: int) -> None:
        """Count a request no more: it certainly was not sent."""
        self.weight.give_back(cost.weight, taken_ms, now_ms)
        self.orders_10s.give_back(cost.orders_10s, taken_ms, now_ms)
        self.orders_1m.give_back(cost.orders_1m, taken_ms, now_ms)

    def recount(self, now_ms: int) -> None:
        """Note that the exchange's clock turned out to be another: what was counted may be of other windows."""
        for window in (self.weight, self.orders_10s, self.orders_1m):
            window.recount(now_ms)
