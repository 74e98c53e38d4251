"""How old data is when it comes and while it is used, and what getting it costs. Pure; times come with each call."""

import statistics
from collections import deque
from collections.abc import Mapping

KEPT = 20_000


class Samples:
    """Numbers of one kind; quantiles are those of the last 20 000."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self._kept: deque[float] = deque(maxlen=KEPT)

    def add(self, value: float) -> None:
        """Take one more."""
        self.count += 1
        self.last = value
        self._kept.append(value)

    @property
    def mean(self) -> float:
        """The mean, 0 before the first."""
        return statistics.fmean(self._kept) if self._kept else 0.0

    def quantile(self, percent: int) -> float:
        """Return the number below which so many percent are (1 to 99), 0 before the first."""
        if len(self._kept) < 2:
            return self.last
        return statistics.quantiles(self._kept, n=100, method="inclusive")[percent - 1]

    def __str__(self) -> str:
        if not self.count:
            return "-"
        return f"p50 {self.quantile(50):.0f} ms, p95 {self.quantile(95):.0f} ms"


class Measure:
    """What one way of getting the market has brought so far.

    A *delay* is from the exchange's time of a quote or trade to its being known here. An *age* is how long ago the
    exchange made the newest quote that is known, looked at again and again: it is what a decision of that moment would
    rest on. Both are on the exchange's clock.
    """

    def __init__(self, now_ns: int, cpu_s: float) -> None:
        self.quote_delays_ms = Samples()
        self.trade_delays_ms = Samples()
        self.ages_ms = Samples()
        self.messages = 0
        self.requests = 0
        self.quote_ms = 0
        """The exchange's time of the newest quote."""
        self._began_ns = now_ns
        self._began_cpu_s = cpu_s

    def quote(self, exchange_ms: int, received_ms: int) -> None:
        """Note a quote that was not known before; 0 for one whose time the exchange does not say."""
        if exchange_ms > self.quote_ms:
            self.quote_ms = exchange_ms
            self.quote_delays_ms.add(received_ms - exchange_ms)

    def trade(self, exchange_ms: int, received_ms: int) -> None:
        """Note a trade that was not known before."""
        self.trade_delays_ms.add(received_ms - exchange_ms)

    def look(self, now_ms: int) -> None:
        """Note how old the newest quote is at this moment."""
        if self.quote_ms:
            self.ages_ms.add(now_ms - self.quote_ms)

    def elapsed_s(self, now_ns: int) -> float:
        """Return the time since the beginning."""
        return (now_ns - self._began_ns) / 1e9

    def cpu_percent(self, now_ns: int, cpu_s: float) -> float:
        """Return how much of one processor was used since the beginning."""
        elapsed_s = self.elapsed_s(now_ns)
        return 100 * (cpu_s - self._began_cpu_s) / elapsed_s if elapsed_s > 0 else 0.0

    def figures(self, now_ns: int, cpu_s: float) -> Mapping[str, float]:
        """Return all of it as numbers."""
        elapsed_s = self.elapsed_s(now_ns)
        return {
            "elapsed_s": round(elapsed_s, 3),
            "quotes": self.quote_delays_ms.count,
            "trades": self.trade_delays_ms.count,
            "quote_delay_p50_ms": self.quote_delays_ms.quantile(50),
            "quote_delay_p95_ms": self.quote_delays_ms.quantile(95),
            "trade_delay_p50_ms": self.trade_delays_ms.quantile(50),
            "trade_delay_p95_ms": self.trade_delays_ms.quantile(95),
            "age_mean_ms": self.ages_ms.mean,
            "age_p95_ms": self.ages_ms.quantile(95),
            "messages": self.messages,
            "requests": self.requests,
            "requests_per_minute": 60 * self.requests / elapsed_s if elapsed_s > 0 else 0.0,
            "cpu_s": round(cpu_s - self._began_cpu_s, 3),
            "cpu_percent": round(self.cpu_percent(now_ns, cpu_s), 2),
        }
