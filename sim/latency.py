"""How long a message is on the wire: a constant, or drawn from a distribution with a seed, a direction at a time.

Written ``5`` or ``constant:5``, ``uniform:2-8`` (lowest and highest), ``lognormal:5-40`` (the latency that half of the
messages stay below, and the one that 99 of 100 stay below), all in ms. Two of them with a comma between are the way to
the exchange and the way back.
"""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_LATENCY_MS = 10_000.0
SYNTAX = "MS, uniform:LOW-HIGH or lognormal:P50-P99, with a comma for another one on the way back"

_P99_SIGMAS = 2.3263478740408408
_RANGE = re.compile(r"([0-9.]+)-([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution of latencies; what the two figures mean depends on ``kind``: constant, uniform or lognormal."""

    kind: str
    low_ms: float
    high_ms: float

    @property
    def is_constant(self) -> bool:
        """Tell whether every message takes equally long."""
        return self.kind == "constant"

    def draw_ms(self, rng: random.Random) -> float:
        """Return the latency of one message in ms."""
        if self.kind == "constant":
            return self.low_ms
        if self.kind == "uniform":
            return rng.uniform(self.low_ms, self.high_ms)
        sigma = math.log(self.high_ms / self.low_ms) / _P99_SIGMAS
        return min(rng.lognormvariate(math.log(self.low_ms), sigma), MAX_LATENCY_MS)

    def __str__(self) -> str:
        if self.is_constant:
            return f"{self.low_ms:g} ms"
        words = (
            "from {:g} to {:g} ms" if self.kind == "uniform" else "{:g} ms in the middle, 99 % below {:g} ms"
        )
        return words.format(self.low_ms, self.high_ms)


def constant(ms: float) -> Spread:
    """Return the distribution of a latency that is always the same."""
    return Spread("constant", ms, ms)


def parse_spread(text: str) -> Spread:
    """Return the distribution that ``text`` writes; raises ValueError with a sentence about what is wrong."""
    kind, colon, figures = text.strip().partition(":")
    if not colon:
        kind, figures = "constant", kind
    if kind not in ("constant", "uniform", "lognormal"):
        raise ValueError(f"{text} is no latency: use {SYNTAX}")
    pair = _RANGE.fullmatch(figures)
    low, high = (figures, figures) if kind == "constant" else pair.groups() if pair else ("", "")
    try:
        spread = Spread(kind, float(low), float(high))
    except ValueError:
        raise ValueError(f"{text} is no latency: use {SYNTAX}") from None
    lowest = 0.0 if kind != "lognormal" else math.ulp(0.0)
    if not lowest <= spread.low_ms <= spread.high_ms <= MAX_LATENCY_MS:
        raise ValueError(f"{text} is no latency: use rising figures from 0 to {MAX_LATENCY_MS:.0f} ms")
    return spread


@dataclass(frozen=True, slots=True)
class Latencies:
    """Both directions and the seed: ``up`` leads to the exchange, ``down`` comes from it."""

    up: Spread
    down: Spread
    seed: int = 1

    @property
    def is_constant(self) -> bool:
        """Tell whether nothing is drawn at all."""
        return self.up.is_constant and self.down.is_constant

    def draws(self, direction: str) -> Callable[[], float]:
        """Return the source of latencies in ms of one direction, "up" or "down"."""
        spread, rng = self._spread(direction), random.Random(f"{self.seed}/{direction}")
        return lambda: spread.draw_ms(rng)

    def source(self, direction: str) -> float | Callable[[], float]:
        """Return the latency in ms of a direction that has but one, and the source of latencies of another."""
        spread = self._spread(direction)
        return spread.low_ms if spread.is_constant else self.draws(direction)

    def _spread(self, direction: str) -> Spread:
        return self.up if direction == "up" else self.down

    def __str__(self) -> str:
        if self.up == self.down:
            return f"{self.up} each way"
        return f"{self.up} there, {self.down} back"


def parse_latencies(text: str, seed: int = 1) -> Latencies:
    """Return both directions as ``text`` writes them; raises ValueError with a sentence about what is wrong."""
    there, comma, back = text.partition(",")
    up = parse_spread(there)
    return Latencies(up, parse_spread(back) if comma else up, seed)


def latencies_of(value: "float | Latencies") -> Latencies:
    """Return ``value``, a constant number of ms for both directions made into latencies."""
    return value if isinstance(value, Latencies) else Latencies(constant(value), constant(value))
