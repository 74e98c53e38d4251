"""A market that nobody recorded: random, but with the rates, spreads, volatility and sizes of real ones.

Each symbol lives through bursts of quote updates. Within a burst sizes at the touch grow and shrink, takers
trade against the touch, and now and then a large taker (or a run of cancellations) clears several levels; the
other side follows within a millisecond or two, so that the spread is one tick nearly always. Two slow random
processes modulate it: activity (bursts are denser and moves likelier for a second or so) and mood (the
direction in which large takers trade, for ten seconds or so).
"""

import heapq
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter

from sim.market import BookTicker, MarketEvent, StreamMarket, Trade
from sim.profiles import PROFILES, Profile, paced
from sim.rules import SymbolRules

_FIRST_ID = 1_000_000_000
_ID_JUMP = 600
_MAX_BURST = 500
_MAX_LEVELS = 400
_MAX_MOVE_SHARE = 0.2
_QUIET = 0.6
_MAX_HEAT = 16.0
# How many of the levels that a sweep passes hold orders.
_FILLED_LEVELS = 0.25
# Rate of the exponential number of single trades beyond the first in an aggregate one.
_MORE_SINGLES = 1.0


class SyntheticMarket(StreamMarket):
    """A random market of the symbols in `rules`, whose first events happen at `start_ms`. It never ends.

    The same seed, symbols and start give the same market to the last bit. `speed` divides the gaps; with
    `events_per_s` each symbol has about so many quotes and trades a second, and goes as far in a minute.
    """

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        start_ms: int,
        *,
        seed: int,
        speed: Fraction = Fraction(1),
        events_per_s: float | None = None,
        profiles: Mapping[str, Profile] = PROFILES,
    ) -> None:
        if events_per_s is not None:
            profiles = {symbol: paced(profiles[symbol], events_per_s) for symbol in rules}
        streams = [
            _SymbolTape(rules[symbol], profiles[symbol], random.Random(f"{seed}/{symbol}")).events(
                start_ms, speed
            )
            for symbol in rules
        ]
        super().__init__(rules, heapq.merge(*streams, key=attrgetter("time_ms")))


@dataclass(slots=True)
class _Touch:
    """The best level of one side; `outward` is the direction away from the other side."""

    ticks: int
    outward: int
    lots: int = 1
    goal_lots: float = 1.0


class _SymbolTape:
    """The events of one symbol, made burst by burst. Time is kept in ms since the start."""

    def __init__(self, rules: SymbolRules, profile: Profile, rng: random.Random) -> None:
        self._symbol = rules.symbol
        self._profile = profile
        self._rng = rng
        self._lots_per_base = float(1 / rules.step_size)
        bid_ticks = int(Decimal(profile.start_price) / rules.tick_size)
        self._bid = _Touch(bid_ticks, -1)
        self._ask = _Touch(bid_ticks + 1, +1)
        for touch in (self._bid, self._ask):
            self._settle(touch, touch.ticks, profile.fresh_base, profile.fresh_sigma)
        self._now_ms = 0.0
        self._activity = 0.0
        self._mood = 0.0
        self._taker_buys = True
        self._update_id = _FIRST_ID
        self._trade_id = _FIRST_ID
        self._single_id = _FIRST_ID
        self._made: list[MarketEvent] = []
        self._start_ms = 0
        self._slowness = 1.0

    def events(self, start_ms: int, speed: Fraction) -> Iterator[MarketEvent]:
        """The events are made as they are asked for, without end."""
        self._start_ms = start_ms
        self._slowness = 1 / float(speed)
        self._quote()
        while True:
            yield from self._made
            self._made.clear()
            self._wait()
            self._burst()

    def _wait(self) -> None:
        """Time goes on to the next burst; activity and mood drift meanwhile."""
        profile = self._profile
        gap_ms = self._rng.expovariate(1.0) * profile.burst_gap_ms / math.sqrt(self._heat())
        self._now_ms += gap_ms
        self._activity = self._relax(self._activity, gap_ms / profile.activity_ms, profile.activity_sigma)
        self._mood = self._relax(self._mood, gap_ms / profile.mood_ms, 1.0)

    def _heat(self) -> float:
        """How many times the median activity it is; quiet times are less quiet than busy ones are busy."""
        return min(_MAX_HEAT, math.exp(self._activity if self._activity > 0 else _QUIET * self._activity))

    def _relax(self, value: float, relaxation_times: float, sigma: float) -> float:
        kept = math.exp(-relaxation_times)
        return kept * value + sigma * math.sqrt(1 - kept * kept) * self._rng.gauss(0.0, 1.0)

    def _burst(self) -> None:
        profile, rng = self._profile, self._rng
        heat = self._heat()
        eagerness = heat**profile.move_power
        order_below = profile.order_share
        sweep_below = order_below + min(_MAX_MOVE_SHARE, profile.sweep_share * eagerness)
        cancel_below = sweep_below + min(_MAX_MOVE_SHARE, profile.cancel_share * eagerness)
        pull_below = cancel_below + profile.pull_share
        mean_length = profile.burst_length * math.sqrt(heat)
        for _ in range(1 + min(_MAX_BURST, int(rng.expovariate(1.0) * mean_length))):
            if rng.random() >= profile.same_ms:
                self._now_ms += 1 + rng.expovariate(1.0) * profile.step_ms
            draw = rng.random()
            if draw < order_below:
                self._order()
            elif draw < sweep_below:
                self._sweep(self._taken_touch())
            elif draw < cancel_below:
                self._move(self._taken_touch())
            elif draw < pull_below:
                self._thin_out(self._bid if rng.random() < 0.5 else self._ask)
            elif self._ask.ticks - self._bid.ticks > 1:
                self._close_spread()
            else:
                self._change_size()

    def _taken_touch(self) -> _Touch:
        """The side that the next taker takes, by habit or by mood."""
        rng = self._rng
        if rng.random() >= self._profile.same_side:
            self._taker_buys = rng.random() < 0.5 + 0.5 * math.tanh(self._profile.mood_gain * self._mood)
        return self._ask if self._taker_buys else self._bid

    def _order(self) -> None:
        """A taker's order is filled at the touch, or clears it if it is larger."""
        touch = self._taken_touch()
        lots = self._draw_order()
        if lots >= touch.lots:
            self._sweep(touch)
            return
        self._print(touch, touch.ticks, lots)
        touch.lots -= lots
        self._quote()

    def _sweep(self, touch: _Touch) -> None:
        """A taker takes the whole touch, thinned by fleeing makers, and some of the levels behind it."""
        levels = self._draw_levels()
        self._thin_out(touch)
        self._print(touch, touch.ticks, touch.lots)
        for level in range(1, levels):
            if self._rng.random() < _FILLED_LEVELS:
                self._print(touch, touch.ticks + touch.outward * level, self._draw_order())
        self._move(touch, levels)

    def _thin_out(self, touch: _Touch) -> None:
        left = self._draw_order()
        if left < touch.lots:
            touch.lots = left
            self._quote()

    def _move(self, touch: _Touch, levels: int = 0) -> None:
        """The touch has moved outward by `levels`, random if 0; then the spread closes, from either side."""
        profile, rng = self._profile, self._rng
        came_from = touch.ticks
        moved_to = came_from + touch.outward * (levels or self._draw_levels())
        if moved_to < 1:
            return
        self._settle(touch, moved_to, profile.deep_base, profile.deep_sigma)
        self._quote()
        if rng.random() < profile.refill_share:
            self._settle(touch, came_from, profile.fresh_base, profile.fresh_sigma)
            self._quote()
        elif rng.random() >= profile.lazy_share:
            self._close_spread(self._other(touch))

    def _close_spread(self, follower: _Touch | None = None) -> None:
        """The spread is one tick again: the follower, by chance if not given, has come up to the other side."""
        follower = follower or (self._bid if self._rng.random() < 0.5 else self._ask)
        target = self._other(follower).ticks + follower.outward
        self._settle(follower, target, self._profile.fresh_base, self._profile.fresh_sigma)
        self._quote()

    def _other(self, touch: _Touch) -> _Touch:
        return self._ask if touch is self._bid else self._bid

    def _settle(self, touch: _Touch, ticks: int, base: float, sigma: float) -> None:
        touch.ticks = ticks
        touch.lots = self._draw_lots(base, sigma)
        touch.goal_lots = self._lots_per_base * self._rng.lognormvariate(
            math.log(self._profile.goal_base), self._profile.goal_sigma
        )

    def _change_size(self) -> None:
        """Makers have added to a touch or taken from it, more likely towards its goal than away."""
        rng = self._rng
        touch = self._bid if rng.random() < 0.5 else self._ask
        change = self._draw_lots(self._profile.change_base, self._profile.change_sigma)
        growth = 0.5 + 0.3 * (1 - touch.lots / touch.goal_lots)
        if change >= touch.lots or rng.random() < growth:
            touch.lots += change
        else:
            touch.lots -= change
        self._quote()

    def _draw_lots(self, base: float, sigma: float) -> int:
        return max(1, round(base * self._lots_per_base * math.exp(sigma * self._rng.gauss(0.0, 1.0))))

    def _draw_order(self) -> int:
        return self._draw_lots(self._profile.order_base, self._profile.order_sigma)

    def _draw_levels(self) -> int:
        profile = self._profile
        return 1 + min(
            _MAX_LEVELS, int(profile.move_ticks * math.exp(profile.move_sigma * self._rng.gauss(0.0, 1.0)))
        )

    def _quote(self) -> None:
        self._update_id += 1 + int(self._rng.random() * _ID_JUMP)
        self._made.append(
            BookTicker(
                self._start_ms + int(self._now_ms * self._slowness),
                self._symbol,
                self._update_id,
                self._bid.ticks,
                self._bid.lots,
                self._ask.ticks,
                self._ask.lots,
            )
        )

    def _print(self, touch: _Touch, ticks: int, lots: int) -> None:
        self._trade_id += 1
        first_id = self._single_id + 1
        self._single_id += min(lots, 1 + int(self._rng.expovariate(_MORE_SINGLES)))
        buyer_is_maker = touch is self._bid
        self._made.append(
            Trade(
                self._start_ms + int(self._now_ms * self._slowness),
                self._symbol,
                self._trade_id,
                ticks,
                lots,
                first_id,
                self._single_id,
                buyer_is_maker,
            )
        )
