"""How far the price has moved within a window of time. Pure; the time comes with each price."""

from collections import deque
from decimal import Decimal


class PriceWindow:
    """The highest and the lowest price that were in force within the last ``window_s`` seconds.

    A price is in force from the moment it is added until the next one replaces it, so a market that was quiet for
    longer than the window and then jumps has moved within the window. Prices are whole half ticks, so that a mid is
    exact. Adding costs O(1) on average, and memory holds no more than two entries for each price between the extremes.
    """

    __slots__ = (
        "_highs",
        "_last",
        "_lows",
        "_window_ns",
        "highest_half_ticks",
        "lowest_half_ticks",
        "settled_until_ns",
    )

    def __init__(self, window_s: float) -> None:
        if not window_s > 0:
            raise ValueError(f"a window lasts longer than 0 s, not {window_s}")
        self._window_ns = round(window_s * 1e9)
        self._highs: deque[list[int]] = (
            deque()
        )  # each [price, until_ns], prices falling; the last is in force
        self._lows: deque[list[int]] = deque()  # the same with prices rising
        self._last = 0
        self.settled_until_ns = 0
        """Until then nothing leaves the window: as long as the price is the same, highest and lowest are."""
        self.highest_half_ticks = self.lowest_half_ticks = 0
        """The highest and the lowest price of the window in half ticks, 0 before the first one."""

    def add(self, now_ns: int, mid_half_ticks: int) -> None:
        """The mid is this from now on; what ended before the window began is forgotten. Times must not fall."""
        if mid_half_ticks <= 0:
            raise ValueError(f"a price is above 0 half ticks, not {mid_half_ticks}")
        highs, lows = self._highs, self._lows
        if mid_half_ticks != self._last:
            if highs:
                highs[-1][1] = lows[-1][1] = now_ns
            while highs and highs[-1][0] <= mid_half_ticks:
                highs.pop()
            while lows and lows[-1][0] >= mid_half_ticks:
                lows.pop()
            highs.append([mid_half_ticks, now_ns])
            lows.append([mid_half_ticks, now_ns])
            self._last = mid_half_ticks
        if now_ns >= self.settled_until_ns:  # what has come since ends later than what was there
            self._forget(now_ns)
        self.highest_half_ticks, self.lowest_half_ticks = highs[0][0], lows[0][0]

    def _forget(self, now_ns: int) -> None:
        """Forget what ended before the window began."""
        begin_ns = now_ns - self._window_ns
        first_ns = now_ns
        for extremes in (self._highs, self._lows):
            while len(extremes) > 1 and extremes[0][1] <= begin_ns:
                extremes.popleft()
            if len(extremes) > 1:
                first_ns = min(first_ns, extremes[0][1])
        self.settled_until_ns = first_ns + self._window_ns

    def clear(self) -> None:
        """The window has seen no price; after a gap in the data, for example, or a halt that was looked at."""
        self._highs.clear()
        self._lows.clear()
        self._last = self.settled_until_ns = 0
        self.highest_half_ticks = self.lowest_half_ticks = 0

    @property
    def change_fraction(self) -> Decimal:
        """The highest less the lowest as a fraction of the lowest: no move within the window was greater."""
        return self._fraction(self.highest_half_ticks, self.lowest_half_ticks)

    @property
    def rise_fraction(self) -> Decimal:
        """How far the present price is above the lowest, as a fraction of the lowest."""
        return self._fraction(self._last, self.lowest_half_ticks)

    @property
    def fall_fraction(self) -> Decimal:
        """How far the present price is below the highest, as a fraction of the present one."""
        return self._fraction(self.highest_half_ticks, self._last)

    @staticmethod
    def _fraction(high: int, low: int) -> Decimal:
        return Decimal(high - low) / low if low else Decimal(0)
