"""How far the mid has moved within the window, as a share of ``risk.max_price_change``. Pure."""

from collections.abc import Callable
from decimal import Decimal

from core.posture import LADDERS, PRICE, Posture, Reading
from core.price_window import PriceWindow

_ZERO = Decimal(0)


def _nobody() -> None:
    """Nobody wants to know."""


class PriceWatch:
    """Looks at every mid; ``on_step`` is called in the same turn in which a move calls for a higher posture.

    A limit of 0 is none: nothing is watched.
    """

    def __init__(self, max_price_change: Decimal, window_s: float) -> None:
        self._limit = max_price_change
        self._is_on = bool(max_price_change)
        self._window_s = window_s
        self._window = PriceWindow(window_s)
        self._mid_half_ticks = 0
        self._highest = self._lowest = 0
        self._called = Posture.NORMAL
        self.on_step: Callable[[], None] = _nobody

    def add(self, now_ns: int, mid_half_ticks: int) -> None:
        """Have the mid be this from now on."""
        window = self._window
        if (mid_half_ticks == self._mid_half_ticks and now_ns < window.settled_until_ns) or not self._is_on:
            return
        self._mid_half_ticks = mid_half_ticks
        window.add(now_ns, mid_half_ticks)
        highest, lowest = window.highest_half_ticks, window.lowest_half_ticks
        if highest == self._highest and lowest == self._lowest:
            return
        self._highest, self._lowest = highest, lowest
        called, before = LADDERS[PRICE].posture(self._share()), self._called
        self._called = called
        if called > before:
            self.on_step()

    def wait(self, now_ns: int) -> None:
        """The mid has stayed what it was until now: what is older than the window leaves it."""
        if self._mid_half_ticks:
            self.add(now_ns, self._mid_half_ticks)

    def _share(self) -> Decimal:
        return self._window.change_fraction / self._limit if self._limit else _ZERO

    @property
    def change_bps(self) -> Decimal:
        """Return the highest less the lowest mid of the window, relative to the lowest."""
        return (self._window.change_fraction * 10_000).quantize(Decimal("0.001"))

    def reading(self) -> Reading:
        """Return how far the mid has moved, as a share of the limit."""
        return Reading(PRICE, self._share(), self._in_words)

    def _in_words(self) -> str:
        change, limit = self._window.change_fraction * 100, self._limit * 100
        return f"the mid has moved {change:.2f} % within {self._window_s:g} s (limit {limit.normalize():f} %)"
