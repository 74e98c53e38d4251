"""The quantitative rules: how the account behaves, counted by the exchange a symbol over the last ten minutes.

- UFR, unfilled: 1 - executed quantity / quantity of all orders.
- GCR, fast cancels: orders cancelled within seconds and without a fill / orders that rest (GTC, GTX, GTD).
- IFER: IOC and FOK orders that expired / IOC and FOK orders.
- DR, dust: orders worth less than 50 / all orders.

A ratio counts from a number of orders on. If the rules are enforced (a switch), every full ten minutes each symbol is
judged; where a ratio has reached its trigger, the symbol is locked to reduce-only orders (-4400) for a while.

Source: facts section 3.4 (apiTradingStatus), 9 (-4400); Binance FAQ "Futures Trading Quantitative Rules" (definitions
of 2024-08; the numbers of orders from its older table; triggers from the example of the API page).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sim.errors import refusal
from sim.instrument import Instrument
from sim.money import EXACT
from sim.orders import Order, OrderStatus, TimeInForce
from sim.record import Ledger
from sim.rules import plain
from sim.standing import Restriction, Standing

LOCKED = -4400
_RESTING = (TimeInForce.GTC, TimeInForce.GTX, TimeInForce.GTD)
_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)
_PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConductRules:
    """The thresholds; ``enforced`` chooses whether they lock anything. ``triggers`` and ``counts_from`` are by name."""

    enforced: bool = False
    window_ms: int = 600_000
    fast_ms: int = 5_000
    dust_quote: Decimal = Decimal(50)
    lock_ms: int = 600_000
    triggers: tuple[tuple[str, str], ...] = (
        ("UFR", "0.995"),
        ("IFER", "0.99"),
        ("GCR", "0.99"),
        ("DR", "0.99"),
    )
    counts_from: tuple[tuple[str, int], ...] = (
        ("UFR", 10_000),
        ("IFER", 5_000),
        ("GCR", 5_000),
        ("DR", 10_000),
    )

    def __post_init__(self) -> None:
        if self.window_ms < 1000 or self.lock_ms < 0:
            raise ValueError("window_ms is at least 1000, lock_ms is not negative")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One indicator: its value, and of how many orders."""

    name: str
    value: Decimal
    orders: int


class Conduct:
    """Counts, judges, and tells of it."""

    def __init__(self, rules: ConductRules, ledger: Ledger, standing: Standing) -> None:
        self._rules = rules
        self._ledger = ledger
        self._standing = standing

    def judge(self, instrument: Instrument, now_ms: int) -> None:
        """Lock the symbol if the rules are enforced, a cycle ends now, and a ratio has reached its trigger."""
        rules = self._rules
        if not rules.enforced or now_ms % rules.window_ms:
            return
        triggers, least = dict(rules.triggers), dict(rules.counts_from)
        for ratio in self.ratios(instrument, now_ms):
            if ratio.orders >= least[ratio.name] and ratio.value >= Decimal(triggers[ratio.name]):
                until_ms = now_ms + rules.lock_ms
                self._standing.restrict(Restriction(LOCKED, instrument.symbol, until_ms))

    def ratios(self, instrument: Instrument, now_ms: int) -> list[Ratio]:
        """Return the indicators of the symbol in the order in which Binance lists them."""
        since_ms = now_ms - self._rules.window_ms
        orders = [order for order in self._ledger.newest_since(since_ms) if order.symbol == instrument.symbol]
        resting = [order for order in orders if order.time_in_force in _RESTING and order.price_ticks]
        at_once = [order for order in orders if order.time_in_force in _AT_ONCE]
        return [
            _unfilled(orders),
            _share("IFER", [order for order in at_once if order.status is OrderStatus.EXPIRED], at_once),
            _share("GCR", [order for order in resting if self._is_fast(order)], resting),
            _share("DR", [order for order in orders if self._is_dust(order, instrument)], orders),
        ]

    def indicator_rows(self, instrument: Instrument, now_ms: int) -> str:
        """Return the symbol's element of apiTradingStatus as JSON text; ratios are JSON numbers."""
        until_ms = self._standing.until_ms(LOCKED, instrument.symbol, now_ms)
        locked = "false" if until_ms is None else "true"
        triggers = dict(self._rules.triggers)
        rows = ",".join(
            f'{{"isLocked":{locked},"plannedRecoverTime":{until_ms or 0},"indicator":"{ratio.name}",'
            f'"value":{plain(ratio.value)},"triggerValue":{triggers[ratio.name]}}}'
            for ratio in self.ratios(instrument, now_ms)
        )
        return f'"{instrument.symbol}":[{rows}]'

    def _is_fast(self, order: Order) -> bool:
        lived_ms = order.update_ms - order.time_ms
        cancelled = order.status is OrderStatus.CANCELED and not order.executed_lots
        return cancelled and lived_ms < self._rules.fast_ms

    def _is_dust(self, order: Order, instrument: Instrument) -> bool:
        price_ticks = order.price_ticks or order.arrival.price_ticks
        return instrument.value(price_ticks * order.lots) < self._rules.dust_quote


def check_order(
    standing: Standing, symbol: str, now_ms: int, *, reduce_only: bool, liquidating: bool
) -> None:
    """Return if the account may place or amend an order of the symbol; raises -2023 or a restriction's code."""
    if liquidating:
        raise refusal(-2023)
    standing.check(symbol, now_ms, reduce_only=reduce_only)


def _unfilled(orders: Sequence[Order]) -> Ratio:
    total = sum(order.lots for order in orders)
    executed = sum(order.executed_lots for order in orders)
    return Ratio("UFR", _rounded(total - executed, total), len(orders))


def _share(name: str, some: Sequence[Order], of: Sequence[Order]) -> Ratio:
    return Ratio(name, _rounded(len(some), len(of)), len(of))


def _rounded(part: int, whole: int) -> Decimal:
    return EXACT.quantize(Decimal(part) / Decimal(whole), _PLACES) if whole else Decimal(0)
