"""How much the price moves: a plain standard deviation of the last returns, and one that forgets with time. Pure.

What exactly is computed stands in docs/market-data.md.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import dist, exp, expm1, fsum, log, sqrt

BPS = 10_000.0


class ReturnDeviation:
    """The standard deviation of the last ``samples`` returns, each from one price to the next.

    A return is the change as a fraction of the price before. All count the same, however far apart in time they are,
    and the squares are divided by their number (the population's deviation, as ``numpy.std`` does). Adding costs O(1),
    reading O(samples).
    """

    __slots__ = ("_bps", "_prices")

    def __init__(self, samples: int) -> None:
        if samples < 2:
            raise ValueError(f"a deviation needs at least 2 returns, not {samples}")
        self._prices: deque[int] = deque(maxlen=samples + 1)
        self._bps: float | None = 0.0
        """What was read last, None when a price has been added since."""

    def add(self, price: int) -> None:
        """The price is this now; in whole units of any size, above 0."""
        self._prices.append(price)
        self._bps = None

    def add_all(self, prices: Sequence[int]) -> None:
        """Add some prices, one after the other."""
        self._prices.extend(prices)
        self._bps = None

    def __len__(self) -> int:
        return max(len(self._prices) - 1, 0)

    @property
    def bps(self) -> float:
        """The deviation in basis points of the price, 0 before the second return."""
        if self._bps is None:
            self._bps = self._read()
        return self._bps

    def _read(self) -> float:
        returns = tuple(price / before - 1 for before, price in pairwise(self._prices))
        count = len(returns)
        if count < 2:
            return 0.0
        mean = fsum(returns) / count
        return BPS * dist(returns, (mean,) * count) / sqrt(count)


class EwmaVolatility:
    """The volatility of the price with a memory that halves every ``half_life_s`` seconds.

    It is the square root of the variance per second: of the sum of the squared log returns, each weighted by
    ``2 ** (-age / half_life)``, over the sum of the weights of all seconds since the first price. So a market that has
    not moved for an hour has calmed down, though no price came, and a young estimate is not too low. The mean return
    is taken as 0, which it is over seconds. Adding and reading cost O(1).
    """

    __slots__ = ("_decay_per_ns", "_first_ns", "_last", "_last_ns", "_sum")

    def __init__(self, half_life_s: float) -> None:
        if not half_life_s > 0:
            raise ValueError(f"a half-life lasts longer than 0 s, not {half_life_s}")
        self._decay_per_ns = log(2) / (half_life_s * 1e9)
        self._first_ns = 0
        self._last_ns = 0
        self._last = 0
        self._sum = 0.0

    def add(self, now_ns: int, price: int) -> None:
        """The price is this now; in whole units of any size, above 0. Times must not fall."""
        self.add_all((now_ns,), (price,))

    def add_all(self, times_ns: Sequence[int], prices: Sequence[int]) -> None:
        """Add some prices, one after the other, each with its time."""
        last, last_ns, total, decay_per_ns = self._last, self._last_ns, self._sum, self._decay_per_ns
        for now_ns, price in zip(times_ns, prices, strict=True):
            if not last:
                self._first_ns = last_ns = now_ns
            elif price != last:
                log_return = log(price / last)
                total = total * exp(decay_per_ns * (last_ns - now_ns)) + log_return * log_return
                last_ns = now_ns
            last = price
        self._last, self._last_ns, self._sum = last, last_ns, total

    def _faded(self, now_ns: int) -> float:
        return exp(-self._decay_per_ns * (now_ns - self._last_ns))

    def bps_per_sqrt_s(self, now_ns: int) -> float:
        """Return the volatility over one second in basis points; 0 in the first moment and while nothing moves."""
        weights_s = -expm1(-self._decay_per_ns * (now_ns - self._first_ns)) / (self._decay_per_ns * 1e9)
        return BPS * sqrt(self._sum * self._faded(now_ns) / weights_s) if weights_s > 0 else 0.0

    def bps_per_minute(self, now_ns: int) -> float:
        """Return the volatility over one minute in basis points: that of a second times the square root of 60."""
        return sqrt(60) * self.bps_per_sqrt_s(now_ns)
