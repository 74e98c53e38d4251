"""The tape of one symbol: its newest trades, for aggTrades, trades and the last quantity of the 24 h ticker.

The markets bring aggregated trades only. The list of single trades therefore shows each aggregate as one trade, under
the id of its last part; ids jump over the parts before it.

Source: facts section 3.1.
"""

from collections import deque
from collections.abc import Iterable

from sim.errors import ApiError, refusal
from sim.market import Trade
from sim.money import product
from sim.params import Params
from sim.rules import SymbolRules, plain

KEPT = 10_000
_DEFAULT, _MOST = 500, 1000
_HOUR_MS = 3600 * 1000


class Tape:
    """The newest ``KEPT`` trades, oldest first."""

    __slots__ = ("_trades",)

    def __init__(self) -> None:
        self._trades: deque[Trade] = deque(maxlen=KEPT)

    def add(self, trade: Trade) -> None:
        """Keep a trade."""
        self._trades.append(trade)

    @property
    def last(self) -> Trade | None:
        """Return the newest trade."""
        return self._trades[-1] if self._trades else None

    def newest(self, limit: int) -> list[Trade]:
        """Return the newest ``limit`` trades, oldest first."""
        return list(self._trades)[-limit:]

    def page(self, params: Params) -> list[Trade]:
        """Return what fromId, startTime, endTime and limit select; raises -1130, -1023 or -1127."""
        limit = read_limit(params)
        from_id, start_ms, end_ms = (
            params.optional_integer(name) for name in ("fromId", "startTime", "endTime")
        )
        _check_times(start_ms, end_ms)
        found: Iterable[Trade] = self._trades
        if start_ms is not None:
            found = [trade for trade in found if trade.time_ms >= start_ms]
        if end_ms is not None:
            found = [trade for trade in found if trade.time_ms <= end_ms]
        if from_id is not None:
            found = [trade for trade in found if trade.trade_id >= from_id]
        rows = list(found)
        return rows[-limit:] if from_id is None and start_ms is None else rows[:limit]


def read_limit(params: Params) -> int:
    """Return ``limit``, 500 without it; raises -1130 over 1000."""
    limit = params.integer_or("limit", _DEFAULT)
    if not 0 < limit <= _MOST:
        raise refusal(-1130, "limit")
    return limit


def _check_times(start_ms: int | None, end_ms: int | None) -> None:
    if start_ms is None or end_ms is None:
        return
    if start_ms > end_ms:
        raise refusal(-1023)
    if end_ms - start_ms > _HOUR_MS:
        raise ApiError(-1127, "Lookup interval is too big. More than 1 hours between startTime and endTime.")


def agg_trade(trade: Trade, rules: SymbolRules) -> dict[str, object]:
    """Return an element of GET aggTrades."""
    quantity = rules.quantity_text(trade.lots)
    return {
        "a": trade.trade_id,
        "p": rules.price_text(trade.price_ticks),
        "q": quantity,
        "nq": quantity,
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.time_ms,
        "m": trade.buyer_is_maker,
    }


def single_trade(trade: Trade, rules: SymbolRules) -> dict[str, object]:
    """Return an element of GET trades."""
    return {
        "id": trade.last_id,
        "price": rules.price_text(trade.price_ticks),
        "qty": rules.quantity_text(trade.lots),
        "quoteQty": plain(product(trade.price_ticks, rules.tick_size, trade.lots, rules.step_size)),
        "time": trade.time_ms,
        "isBuyerMaker": trade.buyer_is_maker,
        "isRPITrade": False,
    }
