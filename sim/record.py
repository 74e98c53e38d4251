"""The exchange's own record: every order, fill, cash movement and refusal, for queries and for whoever audits a client.

All of it is bounded: the newest ``HISTORY`` closed orders, fills and cash movements are kept, and the newest
``REFUSALS`` refused requests; open orders are always kept. Of a closed order the newest ``AMENDMENTS`` amendments are
kept, as many as one reply has. Closed orders that no query finds any more go as others close, so that an exchange of
weeks holds three days of what was never filled.

Source: facts section 3.3 (GET order: how long orders are found).
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile

from sim.orders import Order, OrderStatus, Side

HISTORY = 100_000
_DAY_MS = 24 * 3600 * 1000
REFUSALS = 10_000
AMENDMENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRecord:
    """One fill of one of our orders; ``fee`` positive is a cost, ``realised`` is before it.

    ``fee_asset`` is empty for the quote asset.
    """

    trade_id: int
    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    price_ticks: int
    lots: int
    fee: Decimal
    fee_asset: str
    realised: Decimal
    maker: bool
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CashRecord:
    """One movement of the wallet, of the quote asset where ``asset`` is empty: a row of ``GET /fapi/v1/income``."""

    transaction_id: int
    symbol: str
    kind: str
    amount: Decimal
    time_ms: int
    trade_id: str
    asset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One request that was refused."""

    time_ms: int
    endpoint: str
    symbol: str
    client_order_id: str
    code: int
    message: str


def is_forgotten(order: Order, now_ms: int) -> bool:
    """Tell whether queries no longer find the order: ended without a fill and 3 days old, or 90 days old."""
    return now_ms - order.time_ms > (3 if _is_unfilled(order) else 90) * _DAY_MS


def _is_unfilled(order: Order) -> bool:
    return order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and not order.executed_lots


class Ledger:
    """Keeps the records and finds orders in them."""

    def __init__(self, history: int = HISTORY) -> None:
        self._history = history
        self._orders: dict[int, Order] = {}
        self._unfilled: deque[Order] = deque()
        self._others: deque[Order] = deque()
        self._by_client: dict[tuple[str, str], Order] = {}
        self.fills: deque[FillRecord] = deque(maxlen=history)
        self.cash: deque[CashRecord] = deque(maxlen=history)
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS)
        self.requests: Counter[str] = Counter()
        self._cash_count = 0

    def forget(self) -> None:
        """Drop all orders, fills and cash movements, as an exchange does that is set up anew."""
        for kept in (self._orders, self._unfilled, self._others, self._by_client, self.fills, self.cash):
            kept.clear()

    def add(self, order: Order) -> None:
        """Keep a new order; its client id now names it."""
        self._orders[order.order_id] = order
        self._by_client[order.symbol, order.client_order_id] = order

    def close(self, order: Order) -> None:
        """Note that the order has ended; the oldest closed orders give way that are forgotten, or too many."""
        order.keep_amendments(AMENDMENTS)
        (self._unfilled if _is_unfilled(order) else self._others).append(order)
        for closed in (self._unfilled, self._others):
            while closed and is_forgotten(closed[0], order.update_ms):
                self._drop(closed.popleft())
        if len(self._unfilled) + len(self._others) > self._history:
            oldest = min(filter(None, (self._unfilled, self._others)), key=lambda closed: closed[0].update_ms)
            self._drop(oldest.popleft())

    def _drop(self, old: Order) -> None:
        del self._orders[old.order_id]
        if self._by_client.get((old.symbol, old.client_order_id)) is old:
            del self._by_client[old.symbol, old.client_order_id]

    def find(self, symbol: str, order_id: int | None, client_order_id: str) -> Order | None:
        """Return the order by its id, or without one by its client id; None if it is not known."""
        if order_id is None:
            return self._by_client.get((symbol, client_order_id))
        order = self._orders.get(order_id)
        return order if order and order.symbol == symbol else None

    def orders(self, symbol: str = "") -> Iterator[Order]:
        """Yield the orders of a symbol (of all if it is empty), oldest first."""
        return (order for order in self._orders.values() if symbol in ("", order.symbol))

    def newest_since(self, since_ms: int) -> Iterator[Order]:
        """Yield the orders placed after ``since_ms``, newest first."""
        return takewhile(lambda order: order.time_ms > since_ms, reversed(self._orders.values()))

    def add_cash(
        self, symbol: str, kind: str, amount: Decimal, time_ms: int, trade_id: str = "", asset: str = ""
    ) -> None:
        """Keep a movement of the wallet."""
        self._cash_count += 1
        self.cash.append(
            CashRecord(
                transaction_id=self._cash_count,
                symbol=symbol,
                kind=kind,
                amount=amount,
                time_ms=time_ms,
                trade_id=trade_id,
                asset=asset,
            )
        )
