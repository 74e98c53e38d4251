"""Who trades, and how much: what takers bought against what they sold, and the trades worth telling. Pure."""

from collections import deque
from dataclasses import dataclass

from core.market_model import MarketTrade

STEPS = 100
"""The window moves on in so many steps; what is older than it goes a step at a time."""


@dataclass(frozen=True, slots=True)
class FlowSums:
    """What takers have bought and sold, in ticks times lots, and in how many trades."""

    bought: int = 0
    sold: int = 0
    trades: int = 0

    @property
    def imbalance(self) -> float:
        """Bought less sold over both: 1 when all was bought, -1 when all was sold, 0 without a trade."""
        total = self.bought + self.sold
        return (self.bought - self.sold) / total if total else 0.0


class TradeFlow:
    """What takers have bought and sold within the last ``window_s`` seconds.

    Sums are whole numbers, so nothing drifts. The window moves in hundredths of its length: it covers that, or up to a
    hundredth less. Adding and reading cost O(1) on average, whatever the market trades.
    """

    __slots__ = ("_bought", "_sold", "_step_ns", "_steps", "_trades")

    def __init__(self, window_s: float) -> None:
        if not window_s > 0:
            raise ValueError(f"a window lasts longer than 0 s, not {window_s}")
        self._step_ns = max(round(window_s * 1e9) // STEPS, 1)
        self._steps: deque[list[int]] = deque()  # each [number of the step, bought, sold, trades]
        self._bought = self._sold = self._trades = 0

    def add(self, now_ns: int, trade: MarketTrade) -> None:
        """Count a trade. Times must not fall."""
        step = self._forget(now_ns)
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append([step, 0, 0, 0])
        newest, units = self._steps[-1], trade.notional_units
        if trade.is_buy:
            newest[1] += units
            self._bought += units
        else:
            newest[2] += units
            self._sold += units
        newest[3] += 1
        self._trades += 1

    def _forget(self, now_ns: int) -> int:
        """Take off what has left the window; return the number of the present step."""
        step = now_ns // self._step_ns
        while self._steps and self._steps[0][0] <= step - STEPS:
            _, bought, sold, trades = self._steps.popleft()
            self._bought -= bought
            self._sold -= sold
            self._trades -= trades
        return step

    def sums(self, now_ns: int) -> FlowSums:
        """Return what was bought and sold in the window that ends now."""
        self._forget(now_ns)
        return FlowSums(self._bought, self._sold, self._trades)


class SignificantTrades:
    """Chooses the trades worth telling: large ones, and one now and then, so that a quiet market is heard of, too."""

    __slots__ = ("_interval_ns", "_last_ns", "_least_units")

    def __init__(self, least_units: int, interval_s: float) -> None:
        """Large is a trade of at least ``least_units`` ticks times lots; an interval of 0 s leaves large ones only."""
        self._least_units = least_units
        self._interval_ns = round(interval_s * 1e9)
        self._last_ns: int | None = None

    def why(self, now_ns: int, trade: MarketTrade) -> str:
        """Return why the trade is worth telling: "size", "interval" (none was for so long), or "" when it is not."""
        if trade.notional_units >= self._least_units:
            reason = "size"
        elif self._interval_ns and (self._last_ns is None or now_ns - self._last_ns >= self._interval_ns):
            reason = "interval"
        else:
            return ""
        self._last_ns = now_ns
        return reason
