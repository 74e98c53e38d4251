"""The account's events: orders and fills applied once, the unreadable never fatal, the unknown asked about.

The payloads are those of the documentation (user data streams), field for field.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cash_keeper import CashKeeper
from core.client_ids import ClientIds
from core.context import SymbolContext
from core.events import EventBus, Fact, FillEvent, OrderEvent, OrderKind
from core.execution import ExecutionEngine
from core.gateway import Gateway
from core.model import OrderStatus, Position, Side
from core.user_stream import FillBook, UserEvents
from utils.clock import SystemClock
from utils.http import BinanceRest, HttpResponse

from .examples import BTC, context, fill, quote, report
from .test_wire import TRADE_EVENT

OURS = "qpmm-mm1-1-1"


class NoNetwork:
    """Reading events asks nobody."""

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Never called."""
        raise AssertionError(f"{method} {path}")

    async def close(self) -> None:
        """Nothing is held."""


async def _find_nothing(_context: SymbolContext) -> None:
    """No trade was missed."""


class Bench:
    """Everything that an event can move."""

    def __init__(self, *contexts: SymbolContext) -> None:
        self.contexts = {one.symbol: one for one in contexts or (context(),)}
        self.btc = next(iter(self.contexts.values()))
        self.facts: list[Fact] = []
        self.doubts: list[str] = []
        self.filled: list[str] = []
        self.forced: list[tuple[str, str]] = []
        self.expired = 0
        self.changes: list[str] = []
        self.foreign: list[int] = []
        bus, clock = EventBus(), SystemClock()
        bus.subscribe(self.facts.append)
        self.fills = FillBook(
            bus, clock, self.filled.append, lambda _, order_id: self.foreign.append(order_id)
        )
        gateway = Gateway(BinanceRest(NoNetwork(), clock), clock)
        execution = ExecutionEngine(
            gateway,
            clock,
            bus,
            ClientIds("mm1", 1),
            recv_window_ms=2000,
            max_book_age_ms=3000,
        )
        self.events = UserEvents(
            self.contexts,
            execution,
            self.fills,
            on_doubt=self.doubts.append,
            on_trade=lambda _fill: None,
            on_forced=lambda symbol, reason, _time_ms: self.forced.append((symbol, reason)),
            on_key_expired=self._key_expired,
            on_config=self.changes.append,
            on_cash=CashKeeper(list(self.contexts.values()), gateway, bus, _find_nothing).told,
        )
        for one in self.contexts.values():
            one.ledger.open(Position.flat(one.symbol), 0)

    def _key_expired(self) -> None:
        self.expired += 1

    def receive(self, event: Any) -> None:
        """Let an event arrive as JSON."""
        self.events.receive(msgspec.json.encode(event))

    def kinds(self) -> list[OrderKind]:
        """What was told of orders."""
        return [fact.kind for fact in self.facts if isinstance(fact, OrderEvent)]


def update(**changes: Any) -> dict[str, Any]:
    """An ORDER_TRADE_UPDATE: our sell of 0.010 at 80 100 was accepted, unless changed."""
    accepted = {
        **TRADE_EVENT,
        "x": "NEW",
        "X": "NEW",
        "l": "0",
        "z": "0",
        "L": "0",
        "t": 0,
        "rp": "0",
        "m": False,
    }
    del accepted["n"], accepted["N"]
    return {
        "e": "ORDER_TRADE_UPDATE",
        "E": 1790000000501,
        "T": 1790000000500,
        "o": {**accepted, **changes},
    }


def trade(**changes: Any) -> dict[str, Any]:
    """An ORDER_TRADE_UPDATE of a trade: 0.004 of our sell, 0.006 in all."""
    return {
        "e": "ORDER_TRADE_UPDATE",
        "E": 1790000000501,
        "T": 1790000000500,
        "o": {**TRADE_EVENT, **changes},
    }


def funding(amount: str = "-0.12345678", **changes: Any) -> dict[str, Any]:
    """An ACCOUNT_UPDATE of a funding fee, as cross margin sends it: without a position."""
    account = {
        "m": "FUNDING_FEE",
        "B": [{"a": "USDT", "wb": "4999.5", "cw": "4999.5", "bc": amount}],
        "P": [],
    }
    return {"e": "ACCOUNT_UPDATE", "E": 1790000000001, "T": 1790000000000, "a": {**account, **changes}}


def selling(bench: Bench) -> None:
    """Our order of the events is on its way."""
    bench.btc.orders.register(OURS, quote(Side.SELL, 2, 801_000, 10), 0)


# --- orders and fills ---------------------------------------------------------------------------------------


def test_event_of_a_new_order_makes_it_active() -> None:
    """Also before the reply to its placement; the stream has proven that it speaks."""
    bench = Bench()
    selling(bench)
    bench.receive(update())
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert (order.status, order.order_id, order.echoed) == (OrderStatus.ACTIVE, 8886774, True)
    assert bench.kinds() == [OrderKind.PLACED]
    assert bench.doubts == []


def test_event_of_a_trade_is_counted_in_books_and_position() -> None:
    """To the last digit, and told with the order's level."""
    bench = Bench()
    selling(bench)
    bench.receive(update())
    bench.receive(trade())
    assert bench.btc.ledger.position_quantity == bench.btc.state.position == Decimal("-0.004")
    assert bench.btc.ledger.fees_in("USDT") == Decimal("0.06408")
    assert bench.btc.ledger.realized_pnl_quote == Decimal("-1.25")
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert (order.status, order.executed_lots) == (OrderStatus.PARTIALLY_FILLED, 6)
    (told,) = [fact for fact in bench.facts if isinstance(fact, FillEvent)]
    assert (told.level, told.fill.trade_id, told.fill.price) == (2, 4567, Decimal(80100))
    assert bench.filled == ["BTCUSDT"]


def test_event_that_comes_twice_counts_once() -> None:
    """After a reconnect the exchange may repeat itself."""
    bench = Bench()
    selling(bench)
    for event in (update(), trade(), trade(), update()):
        bench.receive(event)
    assert bench.btc.ledger.fill_count == 1
    assert bench.kinds() == [OrderKind.PLACED, OrderKind.PARTIALLY_FILLED]
    assert bench.filled == ["BTCUSDT"]


def test_trade_of_a_stranger_under_a_number_of_ours_is_the_strangers() -> None:
    """After a reset of the exchange numbers begin anew; the name tells whose it is."""
    bench = Bench()
    selling(bench)
    bench.receive(update())
    bench.receive(trade(c="of-a-person", q="0.050", l="0.050", z="0.050", X="FILLED"))
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert (order.status, order.executed_lots) == (OrderStatus.ACTIVE, 0)
    assert bench.btc.ledger.position_quantity == Decimal("-0.050")
    assert bench.foreign == [8886774]


def test_lite_event_of_a_trade_is_left_to_the_full_one() -> None:
    """TRADE_LITE has no fee: the same trade comes as ORDER_TRADE_UPDATE."""
    bench = Bench()
    selling(bench)
    bench.receive(
        {
            "e": "TRADE_LITE",
            "E": 1790000000501,
            "T": 1790000000500,
            "s": "BTCUSDT",
            "q": "0.010",
            "p": "80100.00",
            "m": True,
            "c": OURS,
            "S": "SELL",
            "L": "80100.00",
            "l": "0.004",
            "t": 4567,
            "i": 8886774,
        }
    )
    assert (bench.facts, bench.doubts, bench.btc.ledger.fill_count) == ([], [], 0)


@pytest.mark.parametrize(
    ("execution", "status", "ended", "kind"),
    [
        ("CANCELED", "CANCELED", OrderStatus.CANCELLED, OrderKind.CANCELLED),
        ("EXPIRED", "EXPIRED", OrderStatus.EXPIRED, OrderKind.EXPIRED),
        ("EXPIRED", "EXPIRED_IN_MATCH", OrderStatus.EXPIRED_IN_MATCH, OrderKind.EXPIRED),
    ],
)
def test_event_of_an_end_ends_the_order(
    execution: str, status: str, ended: OrderStatus, kind: OrderKind
) -> None:
    """Whoever ended it."""
    bench = Bench()
    selling(bench)
    bench.receive(update())
    bench.receive(update(x=execution, X=status))
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert order.status is ended
    assert bench.kinds() == [OrderKind.PLACED, kind]


def test_amendment_moves_the_order() -> None:
    """New price, new total, the executed part kept."""
    bench = Bench()
    selling(bench)
    bench.receive(trade())
    bench.receive(
        update(
            x="AMENDMENT", X="PARTIALLY_FILLED", p="80200.00", q="0.012", z="0.006", T=1790000000900, M="3"
        )
    )
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert (order.price_ticks, order.lots, order.executed_lots) == (802_000, 12, 6)
    assert bench.kinds()[-2] is OrderKind.AMENDED


def test_fill_of_an_order_known_by_its_number_only_has_its_level() -> None:
    """userTrades names no client id, so that the order is found by the exchange's number."""
    bench = Bench()
    selling(bench)
    bench.receive(update())
    assert bench.fills.count(bench.btc, fill(9, order_id=8886774, client_id=""))
    (told,) = [fact for fact in bench.facts if isinstance(fact, FillEvent)]
    assert told.level == 2


def test_fill_by_another_hand_moves_the_position_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """A manual order."""
    bench = Bench()
    with caplog.at_level(logging.INFO):
        bench.receive(trade(c="web_1234567890", o="MARKET", f="IOC", S="BUY", m=False))
    assert bench.btc.ledger.position_quantity == Decimal("0.004")
    assert bench.btc.orders.living() == []
    assert (bench.doubts, bench.forced) == ([], [])
    assert "not a quote of ours: web_1234567890" in caplog.text


@pytest.mark.parametrize(
    "client_id", ["autoclose-1234567890", "adl_autoclose", "adl_autoclose-1", "settlement_autoclose-1"]
)
def test_trade_that_the_exchange_made_itself_is_counted_and_told(client_id: str) -> None:
    """Liquidation, auto-deleveraging, settlement: whoever minds the risk must know."""
    bench = Bench()
    bench.receive(trade(c=client_id, o="LIQUIDATION", f="IOC", S="BUY", m=False))
    assert bench.btc.ledger.position_quantity == Decimal("0.004")
    assert bench.forced == [("BTCUSDT", f"the exchange itself traded the position ({client_id})")]
    assert bench.doubts == []


def test_fill_of_our_order_is_counted_with_its_order() -> None:
    """What its status says be executed, and what its trades brought, are compared from then on."""
    bench = Bench()
    selling(bench)
    bench.receive(update(x="TRADE", X="PARTIALLY_FILLED", z="0.006"))
    order = bench.btc.orders.find(OURS)
    assert order is not None
    assert (order.executed_lots, order.counted_lots, bench.btc.orders.uncounted_lots()) == (6, 0, -6)
    bench.receive(trade())
    assert (order.executed_lots, order.counted_lots, bench.btc.orders.uncounted_lots()) == (6, 4, -2)


def test_order_believed_not_to_exist_that_the_stream_tells_of_is_asked_about() -> None:
    """It is taken up at once, and nothing is quoted until it is out."""
    bench = Bench()
    selling(bench)
    order = bench.btc.orders.find(OURS)
    assert order is not None
    bench.btc.orders.end(order, OrderStatus.REJECTED, "never reached the exchange")
    bench.receive(update())
    assert bench.btc.orders.living() == [order]
    assert bench.doubts == [f"BTCUSDT: order {OURS} was believed not to exist, but rests"]


def test_fill_before_the_books_are_open_is_kept_for_them() -> None:
    """It is neither told nor lost."""
    symbol = context()
    bench = Bench()
    bench.contexts["BTCUSDT"] = symbol
    bench.receive(trade())
    assert [fact for fact in bench.facts if isinstance(fact, FillEvent)] == []
    assert [one.trade_id for one in symbol.ledger.open(Position.flat("BTCUSDT"), 0)] == [4567]


def test_trade_of_an_order_that_was_taken_up_counts_by_its_time() -> None:
    """The list of trades tells of it before any report says that more is executed: nothing is missing afterwards."""
    bench = Bench()
    old = report(client_id="qpmm-old", status=OrderStatus.PARTIALLY_FILLED, executed_lots=5)
    order = bench.btc.orders.adopt(old, 9)
    assert bench.fills.count(bench.btc, fill(client_id="qpmm-old", time_ms=old.update_ms + 7))
    bench.btc.orders.apply(order, replace(old, executed_lots=8, update_ms=old.update_ms + 9), 20)
    assert (order.executed_lots, order.counted_lots) == (8, 8)
    assert bench.btc.orders.uncounted_since_ns() is None


def test_order_with_our_prefix_that_is_not_known_is_asked_about() -> None:
    """An earlier run, or another instance with our name, is at work."""
    bench = Bench()
    bench.receive(update(c="qpmm-mm1-old-1"))
    assert bench.doubts == ["BTCUSDT: order qpmm-mm1-old-1 carries our prefix but is not known here"]


@pytest.mark.parametrize(
    "change",
    [{"c": "web_1"}, {"c": "qpmm-old", "R": True}, {"c": "qpmm-old", "X": "CANCELED"}],
    ids=["of another", "our flatten", "ended"],
)
def test_order_that_cannot_rest_beside_ours_is_not_asked_about(change: dict[str, Any]) -> None:
    """Orders of others, our own market orders, and what has ended."""
    bench = Bench()
    bench.receive(update(**change))
    assert bench.doubts == []


def test_events_of_other_symbols_are_left_alone() -> None:
    """The account may trade more than we do."""
    bench = Bench()
    bench.receive(trade(s="ETHUSDT", p="not even a price"))
    assert (bench.facts, bench.doubts) == ([], [])


def test_symbols_are_kept_apart() -> None:
    """Each event moves its own symbol only."""
    eth = context(rules=replace(BTC, symbol="ETHUSDT", base_asset="ETH"))
    bench = Bench(context(), eth)
    bench.receive(trade(s="ETHUSDT", c="web_1"))
    assert eth.ledger.fill_count == 1
    assert bench.btc.ledger.fill_count == 0
    assert bench.filled == ["ETHUSDT"]


# --- funding and the account --------------------------------------------------------------------------------


def test_funding_is_booked_to_the_symbol_it_names() -> None:
    """Paid below zero, received above, to the last digit."""
    eth = context(rules=replace(BTC, symbol="ETHUSDT", base_asset="ETH"))
    bench = Bench(context(), eth)
    bench.receive(funding("-0.12345678", S="ETHUSDT"))
    bench.receive(funding("0.00000001", S="ETHUSDT"))
    assert eth.ledger.funding_quote == Decimal("-0.12345677")
    assert bench.btc.ledger.funding_quote == 0


def test_funding_without_a_symbol_is_that_of_the_only_one() -> None:
    """Older servers do not say which."""
    bench = Bench()
    bench.receive(funding())
    assert bench.btc.ledger.funding_quote == Decimal("-0.12345678")


def test_funding_of_a_symbol_that_we_do_not_trade_is_not_ours() -> None:
    """A position of another hand on the same account."""
    bench = Bench()
    bench.receive(funding(S="ETHUSDT"))
    assert bench.btc.ledger.funding_quote == 0
    assert bench.doubts == []


def test_funding_without_a_symbol_among_several_is_booked_nowhere() -> None:
    """Nothing is guessed."""
    eth = context(rules=replace(BTC, symbol="ETHUSDT", base_asset="ETH"))
    bench = Bench(context(), eth)
    bench.receive(funding())
    assert (bench.btc.ledger.funding_quote, eth.ledger.funding_quote) == (0, 0)


def test_funding_in_another_asset_is_not_money_of_ours() -> None:
    """Only the quote asset counts."""
    bench = Bench()
    bench.receive(funding(B=[{"a": "BNB", "wb": "1", "cw": "1", "bc": "-0.5"}]))
    assert bench.btc.ledger.funding_quote == 0


def test_account_update_of_an_order_changes_nothing() -> None:
    """Position and fees come from the trades; the update is partial and may come before or after."""
    bench = Bench()
    bench.receive(
        {
            "e": "ACCOUNT_UPDATE",
            "E": 1790000000501,
            "T": 1790000000500,
            "a": {
                "m": "ORDER",
                "B": [{"a": "USDT", "wb": "5000", "cw": "5000", "bc": "0"}],
                "P": [
                    {
                        "s": "BTCUSDT",
                        "pa": "-0.004",
                        "ep": "80100.0",
                        "bep": "80080",
                        "cr": "0",
                        "up": "0.4",
                        "mt": "cross",
                        "iw": "0",
                        "ps": "BOTH",
                    }
                ],
            },
        }
    )
    assert (bench.btc.ledger.position_quantity, bench.facts, bench.doubts) == (0, [], [])


def test_margin_call_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A person has to read it."""
    bench = Bench()
    position = {"s": "BTCUSDT", "ps": "BOTH", "pa": "1"}
    with caplog.at_level(logging.WARNING):
        bench.receive({"e": "MARGIN_CALL", "E": 1, "cw": "3.1", "p": [position]})
    assert "the exchange sent a margin call: reduce the position or add margin" in caplog.text
    assert bench.doubts == []


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ({"ac": {"s": "BTCUSDT", "l": 25}}, "leverage of BTCUSDT 25"),
        ({"ai": {"j": True}}, "multi-assets mode on"),
        ({"ai": {"j": False}}, "multi-assets mode off"),
    ],
)
def test_what_others_change_of_the_account_is_passed_on(event: dict[str, Any], change: str) -> None:
    """Leverage and asset mode are all that the stream tells of."""
    bench = Bench()
    bench.receive({"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, **event})
    assert (bench.changes, bench.doubts) == ([change], [])


def test_change_of_the_margin_type_is_passed_on() -> None:
    """It comes as an update of the account, and moves no money."""
    bench = Bench()
    bench.receive(funding("0", m="MARGIN_TYPE_CHANGE"))
    assert (bench.changes, bench.doubts, bench.btc.ledger.funding_quote) == (["margin type"], [], 0)


def test_expired_listen_key_is_told_at_once() -> None:
    """The socket stays open and silent."""
    bench = Bench()
    bench.receive({"e": "listenKeyExpired", "E": 1790000000000, "listenKey": "pqia91ma19a5s61cv6a81va65"})
    assert bench.expired == 1


def test_event_in_a_combined_stream_is_the_same_event() -> None:
    """Wrapped or not."""
    bench = Bench()
    bench.receive({"stream": "listenkey", "data": funding()})
    assert bench.btc.ledger.funding_quote == Decimal("-0.12345678")


NAMES = st.sampled_from(["e", "o", "a", "data", "s", "c", "m", "B", "S"]) | st.text(max_size=3)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["ORDER_TRADE_UPDATE", "BTCUSDT", "FUNDING_FEE"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
)


# --- what cannot be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {"e": "ALGO_UPDATE", "E": 1, "T": 1, "o": {"X": "NEW"}},
        {"e": "STRATEGY_UPDATE"},
        {"e": "SOMETHING_OF_NEXT_YEAR", "o": {}},
        {"result": None, "id": 1},
        {},
    ],
)
def test_event_that_we_do_not_know_is_passed_over(event: dict[str, Any]) -> None:
    """New kinds appear without notice."""
    bench = Bench()
    bench.receive(event)
    assert (bench.facts, bench.doubts) == ([], [])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"7",
        b"[1,2]",
        b'"text"',
        b'{"data":null}',
        b'{"e":["ORDER_TRADE_UPDATE"]}',
        b'{"e":"ORDER_TRADE_UPDATE"}',
        b'{"e":"ORDER_TRADE_UPDATE","o":null}',
        b'{"e":"ORDER_TRADE_UPDATE","o":{"s":"BTCUSDT"}}',
        b'{"e":"ACCOUNT_UPDATE","a":{"m":"FUNDING_FEE"}}',
        b'{"e":"ACCOUNT_UPDATE","a":{"m":"FUNDING_FEE","B":[{"a":"USDT","bc":"much"}]}}',
        b'{"e":"ACCOUNT_UPDATE","a":{"m":"FUNDING_FEE","B":[{"a":"USDT","bc":"NaN"}]}}',
        b'{"e":"ACCOUNT_UPDATE","a":{"m":"FUNDING_FEE","B":[{"a":"USDT","bc":NaN}]}}',
        b"[" * 100_000,
    ],
    ids=lambda message: repr(message[:40]),
)
def test_message_that_cannot_be_read_leads_to_asking_the_exchange(message: bytes) -> None:
    """It is never fatal, and never taken for nothing."""
    bench = Bench()
    bench.events.receive(message)
    assert bench.doubts == ["an account message could not be read"]


@pytest.mark.parametrize("key", ["s", "c", "i", "S", "X", "p", "q", "z", "l", "L", "m", "T"])
def test_trade_without_a_field_that_decides_leads_to_asking(key: str) -> None:
    """What was understood of it stays true; the rest is asked for."""
    bench = Bench()
    selling(bench)
    event = trade()
    del event["o"][key]
    bench.receive(event)
    assert bench.doubts == ["an account message could not be read"]
    assert bench.btc.ledger.fill_count == 0


@pytest.mark.parametrize(
    "change",
    [
        {"p": "NaN"},
        {"q": "Infinity"},
        {"S": "HOLD"},
        {"L": "NaN"},
        {"l": "Infinity"},
        {"n": "NaN"},
        {"rp": "-Infinity"},
        {"l": "x"},
        {"p": None},
        {"z": "1E+999999"},
    ],
)
def test_trade_with_a_value_that_cannot_be_leads_to_asking(change: dict[str, Any]) -> None:
    """No side, no number, or none that an order can have."""
    bench = Bench()
    selling(bench)
    bench.receive(trade(**change))
    assert bench.doubts == ["an account message could not be read"]
    assert bench.btc.ledger.fill_count == 0


@given(ANY_JSON)
def test_no_message_is_fatal(event: Any) -> None:
    """Any JSON at all."""
    bench = Bench()
    bench.receive(event)
    assert bench.facts == []
