"""The exchange's REST interface as typed calls: our values in, our values out.

Each call raises as ``utils.http.BinanceRest.call`` does. Reading calls are tried again where that is harmless. Calls
that change something are sent once, but for those that make us safe: they are tried again if the exchange was too busy
and did certainly not execute them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from core import wire
from core.account_rules import AccountModes, SymbolSetup
from core.cash import CashEntry
from core.lanes import Lanes
from core.live_order import LiveOrder
from core.model import BookTop, Fill, OrderReport, OrderStatus, Position, Quote, Side, SymbolRules
from core.rate_budget import RateBudget
from core.request_costs import SHORTEST_DEPTH
from utils.clock import Clock
from utils.errors import ExchangeError, NotSent, OutcomeUnknown, Refused
from utils.http import (
    NOT_EXECUTED,
    BinanceRest,
    Objection,
    Security,
    no_objection,
    refusal_of_entry,
    unnoted,
    with_retries,
)
from utils.redaction import redactor

ORDER_DOES_NOT_EXIST = -2013
UNKNOWN_ORDER = -2011
MAX_CANCEL_BATCH = 10
MAX_ORDER_BATCH = 5
"""Orders that one request may place or amend."""
TRADES_PAGE = 1000
INCOME_PAGES = 20
ORDERS_PAGE = 1000
ORDERS_PATIENCE_S = 70.0
"""How long a page of orders waits for its share of the request weight: there are hundreds, and it is a minute's."""
ROUNDING_QUOTE = Decimal("0.00000001")
ORDERS_SPAN_MS = 6 * 86_400_000
"""The exchange lists the orders of less than seven days at a time."""


_NOT_NEEDED = {
    "enableWithdrawals": "withdraw",
    "enableInternalTransfer": "transfer to other accounts",
    "permitsUniversalTransfer": "transfer between wallets",
    "enableSpotAndMarginTrading": "trade spot",
    "enableMargin": "borrow",
    "enableVanillaOptions": "trade options",
    "enablePortfolioMarginTrading": "trade on portfolio margin",
    "enableFixApiTrade": "trade by FIX",
}
"""The rights of a key that are refused, by their names in the answer. Source: wallet API, API key permission."""


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What an API key may do beside reading."""

    futures: bool
    ip_restricted: bool
    beyond_futures: tuple[str, ...]
    """What it may do that nobody needs who trades futures, in words."""


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """The rules of every symbol that can be read, and how many orders the account may send in a window."""

    rules: dict[str, SymbolRules]
    orders_per_10s: int
    orders_per_minute: int


class Amend(msgspec.Struct, frozen=True):
    """What an order is to become; ``total_lots`` is the whole quantity, what is executed already included."""

    order: LiveOrder
    price_ticks: int
    total_lots: int


Answer = OrderReport | Refused | OutcomeUnknown
"""What the exchange says of one order of a batch."""


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order as the exchange's own list has it, also one that is none of our kind, such as a market order."""

    client_id: str
    symbol: str
    side: str
    status: OrderStatus
    quantity: Decimal
    executed: Decimal
    created_ms: int


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Have a reply that is not of the documented shape end as OutcomeUnknown, not as a fault of this program."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise OutcomeUnknown(f"the reply about {what} could not be read ({type(error).__name__})") from error


def _entries(reply: Any, what: str) -> list[Any]:
    """Return the reply if it is a list: anything else would be taken for an empty one."""
    if not isinstance(reply, list):
        raise OutcomeUnknown(f"the reply about {what} is not a list")
    return reply


class Gateway:
    """Typed access to one account on one exchange.

    From now on every request of ``rest`` goes through ``lanes``, whose budget takes over the limits that the exchange
    states.
    """

    EXCHANGE_INFO_TIMEOUT_S = 8.0
    """The list of all symbols is a megabyte and more."""

    def __init__(self, rest: BinanceRest, clock: Clock) -> None:
        self.rest = rest
        self.lanes = rest.pace = Lanes(
            RateBudget(), rest.server_clock.time_ms, clock.monotonic_ns, lambda: rest.time_is_known
        )
        self._clock = clock

    async def _read(
        self,
        path: str,
        params: dict[str, str | int] | None = None,
        security: Security = Security.SIGNED,
        attempts: int = 3,
        timeout_s: float | None = None,
        patience_s: float | None = None,
    ) -> Any:
        return await with_retries(
            lambda: self.rest.call("GET", path, params, security, timeout_s, patience_s=patience_s),
            attempts=attempts,
        )

    async def _insist(
        self,
        method: str,
        path: str,
        params: dict[str, str | int],
        timeout_s: float | None = None,
        on_signing: Callable[[], None] = unnoted,
        attempts: int = 3,
    ) -> Any:
        """Send what makes us safe, again if it was not executed because the exchange was busy."""
        return await with_retries(
            lambda: self.rest.call(method, path, params, Security.SIGNED, timeout_s, on_signing=on_signing),
            after=NOT_EXECUTED,
            attempts=attempts,
        )

    # --- market -----------------------------------------------------------------------------------------------

    async def exchange_info(self) -> ExchangeInfo:
        """Return the rules of all symbols and the limits; the exchange ignores a ``symbol`` parameter here."""
        reply = await self._read(
            "/fapi/v1/exchangeInfo", security=Security.NONE, timeout_s=self.EXCHANGE_INFO_TIMEOUT_S
        )
        with readable("the exchange's rules"):
            sizes = wire.limit_sizes(reply["rateLimits"])
            self.lanes.budget.resize(sizes)
            return ExchangeInfo(
                rules=dict(_rules_of(reply["symbols"])),
                orders_per_10s=sizes.orders_10s,
                orders_per_minute=sizes.orders_1m,
            )

    async def symbol_rules(self, symbols: Collection[str]) -> dict[str, SymbolRules]:
        """Return the rules of these symbols; one that the exchange does not list is left out."""
        reply = await self._read(
            "/fapi/v1/exchangeInfo", security=Security.NONE, timeout_s=self.EXCHANGE_INFO_TIMEOUT_S
        )
        with readable("the exchange's rules"):
            wanted = [entry for entry in reply["symbols"] if entry["symbol"] in symbols]
            return {entry["symbol"]: wire.symbol_rules(entry) for entry in wanted}

    async def book_top(
        self,
        rules: SymbolRules,
        *,
        attempts: int = 3,
        timeout_s: float | None = None,
        max_age_ms: int | None = None,
    ) -> BookTop:
        """Return best bid and ask. Raises OutcomeUnknown for a reply made more than ``max_age_ms`` ago.

        They are asked of ``depth``, for it says when the reply was made: in a quiet market the time of the last change
        does not tell a book that still stands from one out of a cache. Source: binance-futures order book, ``E``.
        """
        reply = await self._read(
            "/fapi/v1/depth",
            {"symbol": rules.symbol, "limit": SHORTEST_DEPTH},
            Security.NONE,
            attempts,
            timeout_s,
        )
        with readable("the book"):
            age_ms = self.rest.server_clock.time_ms() - reply["E"]
            book = wire.rest_book_top(reply, rules, self._clock.monotonic_ns())
        if max_age_ms is not None and age_ms > max_age_ms:
            raise OutcomeUnknown(f"the reply about the book is {age_ms / 1000:.1f} s old")
        return book

    async def mark_price(
        self,
        symbol: str,
        *,
        attempts: int = 3,
        timeout_s: float | None = None,
        max_age_ms: int | None = None,
    ) -> Decimal:
        """Return the mark price. Raises OutcomeUnknown for one of more than ``max_age_ms`` ago."""
        reply = await self._read(
            "/fapi/v1/premiumIndex", {"symbol": symbol}, Security.NONE, attempts, timeout_s
        )
        with readable("the mark price"):
            price = wire.finite(reply["markPrice"])
            age_ms = 0 if max_age_ms is None else self.rest.server_clock.time_ms() - reply["time"]
        if max_age_ms is not None and age_ms > max_age_ms:
            raise OutcomeUnknown(f"the mark price is {age_ms / 1000:.1f} s old")
        return price

    async def price_at(self, symbol: str, time_ms: int) -> Decimal | None:
        """Return the first price of the minute that begins at this time, None if the exchange does not know it."""
        reply = await self._read(
            "/fapi/v1/klines",
            {"symbol": symbol, "interval": "1m", "startTime": time_ms, "limit": 1},
            Security.NONE,
        )
        candles = _entries(reply, "a candle")
        with readable("a candle"):
            return wire.finite(candles[0][1]) if candles and int(candles[0][0]) == time_ms else None

    # --- account ----------------------------------------------------------------------------------------------

    async def account_modes(self) -> AccountModes:
        """Return how the account is set up."""
        reply = await self._read("/fapi/v1/accountConfig")
        with readable("the account's modes"):
            return AccountModes(reply["canTrade"], reply["dualSidePosition"], reply["multiAssetsMargin"])

    async def available_quote(self, asset: str) -> tuple[Decimal, Decimal]:
        """Return the wallet balance and the available balance in an asset; zeros if the account does not have it."""
        entries = _entries(await self._read("/fapi/v3/balance"), "the balance")
        with readable("the balance"):
            for entry in entries:
                if entry["asset"] == asset:
                    return wire.finite(entry["balance"]), wire.finite(entry["availableBalance"])
            return Decimal(0), Decimal(0)

    async def held_margin_quote(self, symbol: str) -> Decimal:
        """Return the initial margin that the position and the open orders on a symbol hold."""
        entries = _entries(await self._read("/fapi/v3/positionRisk", {"symbol": symbol}), "the position")
        with readable("the position"):
            held = [wire.finite(entry["initialMargin"]) for entry in entries if entry["symbol"] == symbol]
            return sum(held, Decimal(0))

    async def symbol_setup(self, symbol: str) -> SymbolSetup:
        """Return how the account trades a symbol."""
        entries = await self._read("/fapi/v1/symbolConfig", {"symbol": symbol})
        with readable("the leverage"):
            found = {entry["symbol"]: entry for entry in entries}[symbol]
            return SymbolSetup(int(found["leverage"]), str(found.get("marginType", "")))

    async def leverage(self, symbol: str) -> int:
        """Return the leverage that is set for a symbol."""
        return (await self.symbol_setup(symbol)).leverage

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        """Set the leverage of a symbol."""
        await self.rest.call(
            "POST", "/fapi/v1/leverage", {"symbol": symbol, "leverage": leverage}, Security.SIGNED
        )

    async def position(self, symbol: str) -> Position:
        """Return the position; an entry that is absent from a successful reply means flat (only in this version).

        Asked once: those who need it ask again at their own pace, and must know soon that there is no answer.
        """
        return await self._stated_position(symbol) or Position.flat(symbol)

    async def _stated_position(self, symbol: str) -> Position | None:
        reply = await self._read("/fapi/v3/positionRisk", {"symbol": symbol}, attempts=1)
        entries = _entries(reply, "the position")
        with readable("the position"):
            for entry in entries:
                if entry["symbol"] != symbol:
                    continue
                if entry["positionSide"] != "BOTH":
                    raise OutcomeUnknown("the account is in hedge mode: its position is not one number")
                return wire.position(entry)
            return None

    async def witnessed_position(self, symbol: str) -> Position:
        """Return the position like ``position``, but believe an absent entry only if the account's totals bear it out.

        Raises OutcomeUnknown where they do not: the margin that the account has to keep is more than that of the
        positions that it lists, so one is missing. Source: binance-futures account information v3.
        """
        stated = await self._stated_position(symbol)
        if stated is not None:
            return stated
        account = await self._read("/fapi/v3/account", attempts=1)
        with readable("the account"):
            listed = [entry for entry in account["positions"] if Decimal(entry["positionAmt"]) != 0]
            kept = sum((Decimal(entry["maintMargin"]) for entry in listed), Decimal(0))
            is_missing = Decimal(account["totalMaintMargin"]) > kept + ROUNDING_QUOTE * (len(listed) + 1)
            if is_missing or any(entry["symbol"] == symbol for entry in listed):
                raise OutcomeUnknown(
                    "one reading says that nothing is held, and another one that something is"
                )
        return Position.flat(symbol)

    async def key_rights(self, wallet: BinanceRest) -> KeyRights:
        """Return what the key may do; the wallet host is another one than that of the futures."""
        reply = await with_retries(
            lambda: wallet.call("GET", "/sapi/v1/account/apiRestrictions", None, Security.SIGNED)
        )
        with readable("the key's rights"):
            rights = {
                **reply,
                "enableWithdrawals": reply["enableWithdrawals"],
            }  # without this it is no answer
            return KeyRights(
                futures=bool(reply["enableFutures"]),
                ip_restricted=bool(reply["ipRestrict"]),
                beyond_futures=tuple(word for name, word in _NOT_NEEDED.items() if rights.get(name)),
            )

    async def user_trades(self, symbol: str, after_id: int, since_ms: int) -> list[dict[str, Any]]:
        """Return all trades of the account on a symbol with an id above ``after_id``, oldest first.

        With no such id, those since ``since_ms`` (at most 7 days ago): from the first id on would be all history.
        """
        trades: list[dict[str, Any]] = []
        while True:
            page = await self.trades_page(symbol, after_id, since_ms)
            trades.extend(page)
            if len(page) < TRADES_PAGE:
                return trades
            after_id = page[-1]["id"]

    async def trades_page(self, symbol: str, after_id: int, since_ms: int) -> list[dict[str, Any]]:
        """Return the first of ``user_trades``: if they are fewer than TRADES_PAGE, there are no more."""
        start = {"fromId": after_id + 1} if after_id else {"startTime": since_ms}
        reply = await self._read("/fapi/v1/userTrades", {"symbol": symbol, **start, "limit": TRADES_PAGE})
        page = _entries(reply, "the trades")
        with readable("the trades"):
            return [
                {**trade, **{name: int(trade[name]) for name in ("id", "orderId", "time")}} for trade in page
            ]

    async def last_trade(self, symbol: str) -> tuple[int, int]:
        """Return id and time in ms of the account's last trade on a symbol, zeros if none was in the last 7 days."""
        reply = await self._read("/fapi/v1/userTrades", {"symbol": symbol, "limit": TRADES_PAGE})
        recent = _entries(reply, "the trades")
        with readable("the trades"):
            return max(((int(trade["id"]), int(trade["time"])) for trade in recent), default=(0, 0))

    async def funding_since(self, symbol: str, since_ms: int, asset: str) -> Decimal:
        """Return the funding received on a symbol since then, below zero when paid; at most 7 days, 1000 payments."""
        reply = await self._read(
            "/fapi/v1/income",
            {"symbol": symbol, "incomeType": "FUNDING_FEE", "startTime": since_ms, "limit": 1000},
        )
        rows = _entries(reply, "the funding")
        with readable("the funding"):
            return sum((wire.finite(row["income"]) for row in rows if row["asset"] == asset), Decimal(0))

    async def cash_since(self, since_ms: int, traded: Collection[str]) -> list[CashEntry]:
        """Return what has moved the wallet since then, oldest first, without the trades on the symbols ``traded``."""
        found: list[CashEntry] = []
        for page in range(1, INCOME_PAGES + 1):
            reply = await self._read(
                "/fapi/v1/income", {"startTime": since_ms, "limit": TRADES_PAGE, "page": page}
            )
            rows = _entries(reply, "the wallet's movements")
            with readable("the wallet's movements"):
                found.extend(
                    wire.cash_entry(row)
                    for row in rows
                    if row["incomeType"] not in ("REALIZED_PNL", "COMMISSION") or row["symbol"] not in traded
                )
            if len(rows) < TRADES_PAGE:
                break
        return found

    def fill(self, trade: dict[str, Any], client_id: str) -> Fill:
        """Return a trade of ``user_trades`` as a fill."""
        with readable("a trade"):
            return wire.user_trade_fill(trade, client_id)

    # --- orders -----------------------------------------------------------------------------------------------

    async def open_orders(self, rules: SymbolRules, is_wanted: Callable[[str], bool]) -> list[OrderReport]:
        """Return the open orders on a symbol whose client id is wanted; others are not even read."""
        entries = _entries(await self._read("/fapi/v1/openOrders", {"symbol": rules.symbol}), "open orders")
        with readable("open orders"):
            return [wire.order_report(entry, rules) for entry in entries if is_wanted(entry["clientOrderId"])]

    async def all_orders(
        self, rules: SymbolRules, since_ms: int, until_ms: int, is_wanted: Callable[[str], bool]
    ) -> list[PlacedOrder]:
        """Return the orders on a symbol whose client id is wanted: those placed in this time, and all that rest.

        The exchange shows no order that ended without a fill more than three days ago. Where they take more of the
        request weight than questions may use in a minute, the next pages wait for the next minute.
        """
        resting = _entries(await self._read("/fapi/v1/openOrders", {"symbol": rules.symbol}), "open orders")
        with readable("open orders"):
            found = {entry["orderId"]: _placed_order(entry) for entry in resting}
        for start_ms in range(since_ms, until_ms + 1, ORDERS_SPAN_MS):
            span = {"startTime": start_ms, "endTime": min(start_ms + ORDERS_SPAN_MS - 1, until_ms)}
            params: dict[str, str | int] = {"symbol": rules.symbol, "limit": ORDERS_PAGE, **span}
            while True:
                reply = await self._read("/fapi/v1/allOrders", params, patience_s=ORDERS_PATIENCE_S)
                page = _entries(reply, "the orders")
                with readable("the orders"):
                    found.update((entry["orderId"], _placed_order(entry)) for entry in page)
                    if len(page) < ORDERS_PAGE or page[-1]["time"] > span["endTime"]:
                        break
                    params = {
                        "symbol": rules.symbol,
                        "limit": ORDERS_PAGE,
                        "orderId": page[-1]["orderId"] + 1,
                    }
        return [order for order in found.values() if is_wanted(order.client_id)]

    async def find_order(self, rules: SymbolRules, client_id: str) -> OrderReport | None:
        """Return the order, or None if the exchange does not find it, which may be because it lags. Asked once."""
        try:
            reply = await self._read(
                "/fapi/v1/order", {"symbol": rules.symbol, "origClientOrderId": client_id}, attempts=1
            )
        except Refused as refusal:
            if refusal.code == ORDER_DOES_NOT_EXIST:
                return None
            raise
        with readable("an order"):
            return wire.order_report(reply, rules)

    async def client_id_of(self, symbol: str, order_id: int) -> str:
        """Return under which client id an order was placed, "" if the exchange does not find it."""
        try:
            reply = await self._read("/fapi/v1/order", {"symbol": symbol, "orderId": order_id}, attempts=1)
        except Refused as refusal:
            if refusal.code == ORDER_DOES_NOT_EXIST:
                return ""
            raise
        with readable("an order"):
            return str(reply["clientOrderId"])

    async def place_post_only(
        self,
        rules: SymbolRules,
        client_id: str,
        quote: Quote,
        objection: Objection = no_objection,
        on_signing: Callable[[], None] = unnoted,
    ) -> OrderReport:
        """Place a quote that is refused rather than executed at once; ``objection`` is asked if it has to wait.

        ``on_signing`` is called at the moment from which on the exchange counts its receive window.
        """
        params = _post_only_params(rules, client_id, quote)
        reply = await self.rest.call(
            *("POST", "/fapi/v1/order", params, Security.SIGNED), objection=objection, on_signing=on_signing
        )
        with readable("a new order"):
            return wire.order_report(reply, rules)

    async def amend(
        self, rules: SymbolRules, amends: Sequence[Amend], objection: Objection = no_objection
    ) -> list[Answer]:
        """Amend up to five orders by client id; return what became of each. ``objection`` is asked if it has to wait.

        A single one is sent by itself, which costs a fifth of a batch; its refusal is raised. A report may show that
        the order has ended by its amendment. The orders are told when it was signed.
        """

        def note() -> None:
            for amend in amends:
                amend.order.amend_sent_ns = self._clock.monotonic_ns()

        changes = [_amend_params(rules, amend) for amend in amends]
        if len(changes) != 1:
            return await self._amend_batch(changes, rules, objection, note)
        reply = await self.rest.call(
            *("PUT", "/fapi/v1/order", changes[0], Security.SIGNED), objection=objection, on_signing=note
        )
        with readable("an amendment"):
            return [wire.order_report(reply, rules)]

    def start_amend(
        self, rules: SymbolRules, begin: Callable[[], Amend], on_end: Callable[[Answer | NotSent], None]
    ) -> bool:
        """Send one amendment at once, if there is a way that needs no waiting; return whether that was done.

        Then, and only then, ``begin`` is called for what it is, and ``on_end`` once with what became of it.
        """

        def ended(reply: Any) -> None:
            if not isinstance(reply, ExchangeError):
                try:
                    with readable("an amendment"):
                        reply = wire.order_report(reply, rules)
                except OutcomeUnknown as unknown:
                    reply = unknown
            on_end(reply)

        return self.rest.start("PUT", "/fapi/v1/order", lambda: _amend_params(rules, begin()), ended)

    def rehearse_amend(self, rules: SymbolRules, amend: Amend) -> None:
        """Sign an amendment that is not sent."""
        self.rest.signed_for_socket(_amend_params(rules, amend))

    async def _amend_batch(
        self,
        changes: Sequence[dict[str, str | int]],
        rules: SymbolRules,
        objection: Objection,
        on_signing: Callable[[], None],
    ) -> list[Answer]:
        if len(changes) > MAX_ORDER_BATCH:
            raise ValueError(f"{len(changes)} orders in one request; the exchange takes {MAX_ORDER_BATCH}")
        params: dict[str, str | int] = {"batchOrders": msgspec.json.encode(changes).decode()}
        reply = await self.rest.call(
            *("PUT", "/fapi/v1/batchOrders", params, Security.SIGNED),
            objection=objection,
            on_signing=on_signing,
        )
        if not isinstance(reply, list) or len(reply) != len(changes):
            raise OutcomeUnknown("the reply to a batch of amendments does not match the batch")
        return [
            _answer(entry, rules, str(change["origClientOrderId"]))
            for entry, change in zip(reply, changes, strict=True)
        ]

    async def reduce_position(
        self,
        rules: SymbolRules,
        client_id: str,
        side: Side,
        lots: int,
        price_ticks: int | None,
        on_signing: Callable[[], None] = unnoted,
    ) -> OrderReport:
        """Reduce the position by an order that can never enlarge or turn it, and never rests.

        It takes up to ``price_ticks``, at any price with None. ``on_signing`` is called for each attempt.
        """
        params = _closing_params(rules, client_id, side, lots, price_ticks)
        reply = await self._insist("POST", "/fapi/v1/order", params, on_signing=on_signing)
        with readable("a new order"):
            return wire.order_report(reply, rules)

    async def probe_close(
        self, rules: SymbolRules, client_id: str, side: Side, lots: int, price_ticks: int
    ) -> None:
        """Have the exchange check an order of ``reduce_position`` without placing it. Raises Refused if it refuses."""
        params = _closing_params(rules, client_id, side, lots, price_ticks)
        await self.rest.call("POST", "/fapi/v1/order/test", params, Security.SIGNED)

    async def cancel(
        self,
        rules: SymbolRules,
        orders: Sequence[LiveOrder],
        timeout_s: float | None = None,
        *,
        avoids_socket: bool = False,
        attempts: int = 3,
    ) -> list[OrderReport | Refused]:
        """Cancel up to ten orders by client id; return, in their order, what the exchange says of each.

        A single one goes by the way that is not REST if there is one, unless it ``avoids_socket``. ``attempts`` is how
        often it is sent at most while the exchange is too busy.
        """
        if len(orders) == 1 and not avoids_socket and self.can_cancel_singly():
            return [await self._cancel_one(rules, orders[0], timeout_s, attempts)]
        client_ids = [order.client_id for order in orders]
        reply = await self._insist(
            "DELETE",
            "/fapi/v1/batchOrders",
            {"symbol": rules.symbol, "origClientOrderIdList": msgspec.json.encode(client_ids).decode()},
            timeout_s,
            attempts=attempts,
        )
        if not isinstance(reply, list) or len(reply) != len(client_ids):
            raise OutcomeUnknown("the reply to a batch of cancels does not match the batch")
        with readable("a batch of cancels"):
            results = [_cancel_result(entry, rules) for entry in reply]
        for client_id, result in zip(client_ids, results, strict=True):
            if isinstance(result, OrderReport) and result.client_id != client_id:
                raise OutcomeUnknown(f"the answer about {client_id} is about another order")
        return results

    async def _cancel_one(
        self, rules: SymbolRules, order: LiveOrder, timeout_s: float | None, attempts: int
    ) -> OrderReport | Refused:
        """Cancel an order by itself; a refusal that is about more than the order is raised."""
        params: dict[str, str | int] = {"symbol": rules.symbol, "origClientOrderId": order.client_id}
        try:
            reply = await self._insist("DELETE", "/fapi/v1/order", params, timeout_s, attempts=attempts)
        except Refused as refusal:
            if type(refusal) is Refused:
                return refusal
            raise
        with readable("a cancel"):
            return wire.order_report(reply, rules)

    def amends_singly(self) -> bool:
        """Tell whether amendments are better sent one by one now: there is a way to the exchange without batches."""
        return self.rest.goes_by_shortcut("PUT", "/fapi/v1/order")

    def can_cancel_singly(self) -> bool:
        """Tell whether single cancels can go now by another way than REST, by which batches of them go."""
        return self.rest.goes_by_shortcut("DELETE", "/fapi/v1/order")

    # --- safety and streams -----------------------------------------------------------------------------------

    async def arm_dead_man(self, symbol: str, window_ms: int) -> None:
        """Have the exchange cancel all orders on the symbol unless called again within the window; 0 disarms."""
        await self._insist(
            "POST", "/fapi/v1/countdownCancelAll", {"symbol": symbol, "countdownTime": window_ms}
        )

    async def create_listen_key(self) -> str:
        """Return the account's listen key, valid for 60 minutes from now."""
        reply = await self.rest.call("POST", "/fapi/v1/listenKey", None, Security.KEY)
        with readable("the listen key"):
            listen_key = str(reply["listenKey"])
        redactor.learn_minted(listen_key)
        return listen_key

    async def keep_listen_key(self) -> None:
        """Have the listen key live for 60 minutes from now; Refused with -1125 if it is gone."""
        await self.rest.call("PUT", "/fapi/v1/listenKey", None, Security.KEY)


_SIDE_WORDS = {side: side.value for side in Side}


def _post_only_params(rules: SymbolRules, client_id: str, quote: Quote) -> dict[str, str | int]:
    return {
        "symbol": rules.symbol,
        "side": _SIDE_WORDS[quote.side],
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": rules.quantity_text(quote.lots),
        "price": rules.price_text(quote.price_ticks),
        "newClientOrderId": client_id,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }


def _amend_params(rules: SymbolRules, amend: Amend) -> dict[str, str | int]:
    """Return the parameters of an amendment, by client id: the exchange's own id may not be known yet."""
    return {
        "symbol": rules.symbol,
        "side": _SIDE_WORDS[amend.order.side],
        "quantity": rules.quantity_text(amend.total_lots),
        "price": rules.price_text(amend.price_ticks),
        "origClientOrderId": amend.order.client_id,
    }


def _answer(entry: Any, rules: SymbolRules, client_id: str) -> Answer:
    """Return what one entry of a batch says of this order.

    An entry that cannot be read, or that is about another order, leaves only its own order in doubt.
    """
    try:
        with readable("an order of a batch"):
            if "code" in entry and "orderId" not in entry:
                return refusal_of_entry(int(entry["code"]), str(entry.get("msg", "")))
            report = wire.order_report(entry, rules)
    except OutcomeUnknown as unknown:
        return unknown
    if report.client_id != client_id:
        return OutcomeUnknown(f"the answer about {client_id} is about another order")
    return report


def _placed_order(entry: dict[str, Any]) -> PlacedOrder:
    return PlacedOrder(
        entry["clientOrderId"],
        entry["symbol"],
        entry["side"],
        wire.order_status(entry["status"]),
        Decimal(entry["origQty"]),
        Decimal(entry["executedQty"]),
        entry["time"],
    )


def _closing_params(
    rules: SymbolRules, client_id: str, side: Side, lots: int, price_ticks: int | None
) -> dict[str, str | int]:
    limit: dict[str, str | int] = {"type": "MARKET"}
    if price_ticks is not None:
        limit = {"type": "LIMIT", "timeInForce": "IOC", "price": rules.price_text(price_ticks)}
    return {
        "symbol": rules.symbol,
        "side": side.value,
        **limit,
        "quantity": rules.quantity_text(lots),
        "reduceOnly": "true",
        "newClientOrderId": client_id,
        "newOrderRespType": "RESULT",
    }


def _cancel_result(entry: dict[str, Any], rules: SymbolRules) -> OrderReport | Refused:
    if "code" in entry and "orderId" not in entry:
        return Refused(int(entry["code"]), str(entry.get("msg", "")), 200)
    return wire.order_report(entry, rules)


def _rules_of(symbols: Sequence[dict[str, Any]]) -> Iterator[tuple[str, SymbolRules]]:
    for entry in symbols:
        try:
            yield entry["symbol"], wire.symbol_rules(entry)
        except (KeyError, ValueError, ArithmeticError):
            continue  # a symbol of a kind we do not trade, with filters of its own
