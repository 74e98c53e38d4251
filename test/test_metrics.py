"""The rows of the metrics file: every name with its unit, numbers in plain digits, and a document that is true."""

import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.analysis import MarketAnalysis
from core.context import SymbolContext
from core.daily_loss import DayResult
from core.events import (
    ConnectionEvent,
    ConnectionKind,
    EngineEvent,
    EngineKind,
    FillEvent,
    GapEvent,
    OrderEvent,
    OrderKind,
    OrderModifyEvent,
    OrderModifyFailureEvent,
    OrderModifySuccessEvent,
    OrderResetEvent,
    RecordedFact,
    ResetKind,
    RiskEvent,
    RiskKind,
)
from core.metrics import (
    ACCOUNT_METRICS,
    COLUMNS,
    EVENT_METRICS,
    QUOTE_METRICS,
    SYMBOL_METRICS,
    Counters,
    Row,
    event_row,
    usage_values,
)
from core.metrics_rows import SymbolRows, account_series
from core.model import Position, Side
from utils.http import RequestUsage

from .examples import BTC, MARKET_DATA, analysis_of_a_market, context, fill, quote, report

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
LIMIT = Decimal(2000)
NOW_NS = 1_250_000_000


def documented() -> dict[str, list[list[str]]]:
    """Return the tables of the document by their headings: the cells of each row that begins with a name."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        elif line.startswith("| `"):
            tables.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


def order_event(kind: OrderKind = OrderKind.PLACED, level: int = 1, details: str = "") -> OrderEvent:
    """Something that happened to a sell of 0.003 BTC."""
    return OrderEvent(
        symbol="BTCUSDT",
        kind=kind,
        client_id="qpmm-mm1-1-1",
        side=Side.SELL,
        level=level,
        price=Decimal("80100.0"),
        quantity=Decimal("0.003"),
        details=details,
    )


def rows_of(symbol: SymbolContext, counters: Counters | None = None) -> list[Row]:
    """This second's rows of a symbol."""
    return list(SymbolRows(symbol).of_second(counters or Counters({}), LIMIT, NOW_NS))


def values(rows: Iterable[Row]) -> dict[str, str]:
    """The value of each name; of a name that comes more than once, the last."""
    return {row.name: row.value for row in rows}


def holding() -> SymbolContext:
    """0.01 BTC long from 79 000, with two quotes that rest and one in doubt."""
    symbol = context()
    held = Position("BTCUSDT", Decimal("0.01"), Decimal(79_000), Decimal(80_000), Decimal(10), 0)
    symbol.ledger.open(held, 0)
    symbol.state.exchange_position = held
    symbol.state.analysis = analysis_of_a_market()
    symbol.state.book_proven_ns = 1_000_000_000
    for client_id, wanted in (("a", quote()), ("b", quote(Side.SELL, 1, 801_000))):
        order = symbol.orders.register(client_id, wanted, 0)
        symbol.orders.apply(order, report(side=wanted.side, price_ticks=wanted.price_ticks, lots=3), 0)
    symbol.orders.doubt(symbol.orders.register("c", quote(Side.SELL, 2, 802_000), 0), "timeout")
    return symbol


# --- the document -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("Every second, for each symbol", SYMBOL_METRICS),
        ("Every second, for each order that rests or may rest", QUOTE_METRICS),
        ("Every second, for the account and the process", ACCOUNT_METRICS),
    ],
)
def test_document_names_exactly_the_metrics_there_are(
    heading: str, table: dict[str, tuple[str, str]]
) -> None:
    """Names, units and meanings, in the same order."""
    assert documented()[heading] == [[f"`{name}`", f"`{unit}`", text] for name, (unit, text) in table.items()]


def test_document_names_exactly_the_events_there_are() -> None:
    """With every kind that may stand in sub_type."""
    listed = {cells[0]: (cells[1], re.findall(r"`([a-z_]+)`", cells[3])) for cells in documented()["Events"]}
    assert listed == {
        f"`{name}`": (f"`{unit}`", [str(kind) for kind in kinds])
        for name, (unit, kinds) in EVENT_METRICS.items()
    }


def test_document_names_exactly_the_columns_there_are() -> None:
    """In the order of the file."""
    assert [cells[0].strip("`") for cells in documented()["Metrics"]] == list(COLUMNS)


def test_document_has_no_other_table() -> None:
    """Nothing is documented that is not there."""
    assert len(documented()) == 5


# --- every second -------------------------------------------------------------------------------------------


def test_symbol_has_a_row_for_each_of_its_metrics() -> None:
    """Each once, beside those of its orders."""
    symbol = holding()
    symbol.day = DayResult(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
    names = [row.name for row in rows_of(symbol) if row.name not in QUOTE_METRICS]
    assert sorted(names) == sorted(SYMBOL_METRICS)


def test_day_has_a_row_only_while_its_result_is_known() -> None:
    """Not known is not 0; it comes and goes, and says its words each time."""
    symbol = context()
    rows = SymbolRows(symbol)
    found = []
    for result in (None, None, -3, -3, -4, None, None, -4):
        symbol.day = None if result is None else DayResult(Decimal(result), *[Decimal(0)] * 3)
        told = [row for row in rows.of_second(Counters({}), LIMIT, NOW_NS) if row.name == "day_result"]
        assert [row.details for row in told] == ([symbol.day.text] if symbol.day is not None else [])
        found.append([Decimal(row.value) for row in told])
    assert found == [[], [], [-3], [-3], [-4], [], [], [-4]]


def test_units_are_the_assets_of_the_symbol() -> None:
    """No placeholder is left."""
    units = {row.name: row.unit for row in rows_of(holding())}
    assert units["mid_price"] == "usdt"
    assert units["position"] == "btc"
    assert units["quote_size"] == "btc"
    assert set(units.values()) <= {
        "usdt",
        "btc",
        "ms",
        "bps",
        "bps/sqrt(s)",
        "ratio",
        "count",
        "bool",
        "step",
    }


def test_every_value_is_a_number_in_plain_digits() -> None:
    """No exponent, no True, no NaN."""
    rows = [
        *rows_of(holding()),
        *account_series("USDT").rows(usage_values(RequestUsage(last_round_trip_ms=1e-7), 0)),
    ]
    for row in rows:
        assert re.fullmatch(r"-?\d+(\.\d+)?", row.value), row


def test_market_is_described_by_its_book() -> None:
    """Mid, both sides, the spread in bps, and how old all that is."""
    found = values(rows_of(holding()))
    assert Decimal(found["mid_price"]) == 80_000
    assert (Decimal(found["best_bid"]), Decimal(found["best_ask"])) == (
        Decimal("79999.9"),
        Decimal("80000.1"),
    )
    assert Decimal(found["spread_bps"]) == Decimal("0.025")
    assert found["book_age"] == "250.000"


def test_market_is_described_by_its_statistics() -> None:
    """Where the book leans, how much it moves, and what takers do."""
    found = values(rows_of(holding()))
    assert found["microprice"] == "79999.982"
    assert found["touch_imbalance"] == "-0.185"
    assert found["depth_imbalance"] == "0.500"
    assert float(found["volatility_minute"]) == pytest.approx(7.75 * float(found["volatility"]), rel=0.001)
    assert (Decimal(found["flow_bought"]), Decimal(found["flow_sold"])) == (4000, 0)
    assert (found["flow_imbalance"], found["market_trades"], found["significant_trades"]) == (
        "1.000",
        "1",
        "1",
    )


def test_statistics_of_what_has_not_come_are_zero() -> None:
    """No trade, no levels: the rows are there, as documented."""
    symbol = holding()
    symbol.state.analysis = MarketAnalysis(BTC, MARKET_DATA)
    found = values(rows_of(symbol))
    for name in (
        "flow_imbalance",
        "last_trade_price",
        "trade_age",
        "depth_imbalance",
        "depth_age",
        "volatility",
    ):
        assert float(found[name]) == 0
    assert float(found["microprice"]) > 0


def test_exposure_is_the_position_and_everything_that_may_rest_on_a_side() -> None:
    """800 held; 239.7 rest to buy; 240.3 rest and 240.6 may rest to sell."""
    found = values(rows_of(holding()))
    assert Decimal(found["exposure_buy"]) == Decimal("1039.7")
    assert Decimal(found["exposure_sell"]) == Decimal("-319.1")
    assert Decimal(found["position_notional"]) == 800
    assert Decimal(found["position_limit"]) == 2000


def test_books_and_orders_are_counted() -> None:
    """Position, profit, orders, doubts, and what happened so far."""
    symbol, counters = holding(), Counters({})
    symbol.ledger.apply(fill(9, Side.SELL, "0.004", realized_pnl_quote=Decimal("3.6")))
    for kind in (
        OrderKind.PLACED,
        OrderKind.PLACED,
        OrderKind.CANCELLED,
        OrderKind.EXPIRED,
        OrderKind.REJECTED,
    ):
        counters.count(order_event(kind))
    found = values(rows_of(symbol, counters))
    assert (found["live_orders"], found["orders_in_doubt"]) == ("3", "1")
    assert (found["orders_placed"], found["orders_cancelled"], found["orders_rejected"]) == ("2", "2", "1")
    assert (found["fills"], found["fills_maker"]) == ("1", "1")
    assert Decimal(found["position"]) == Decimal("0.006")
    assert Decimal(found["exchange_position"]) == Decimal("0.01")
    assert Decimal(found["net_pnl"]) == Decimal("3.6") + Decimal("0.006") * 1000 - Decimal("0.04794")


def test_books_that_are_not_open_say_nothing_of_the_position() -> None:
    """The exchange's word stands for theirs; before that there is none, and nothing is invented."""
    symbol = context()
    held = {"position", "exchange_position", "position_notional", "exposure_buy", "exposure_sell"}
    assert not held & {row.name for row in rows_of(symbol)}
    symbol.state.exchange_position = Position(
        "BTCUSDT", Decimal("-0.01"), Decimal(79_000), Decimal(80_000), Decimal(10), 0
    )
    found = values(rows_of(symbol))
    assert held <= found.keys()
    assert Decimal(found["position"]) == Decimal("-0.01")
    assert Decimal(found["exposure_sell"]) == 800


def test_closed_gate_shows_with_its_reasons() -> None:
    """In the details of ``quoting``, and nowhere else."""
    symbol = holding()
    symbol.gate.close("book", "the book is stale")
    symbol.gate.close("user", "the account stream is down")
    symbol.state.strategy_paused = True
    rows = rows_of(symbol)
    assert values(rows)["quoting"] == "0"
    assert values(rows)["paused"] == "1"
    assert {row.details for row in rows if row.name == "quoting"} == {
        "the book is stale; the account stream is down"
    }
    assert {row.details for row in rows if row.name != "quoting"} == {""}


def test_each_order_that_may_rest_has_its_price_size_and_distance() -> None:
    """With side, level and status."""
    rows = [row for row in rows_of(holding()) if row.name in QUOTE_METRICS]
    assert len(rows) == 9
    assert rows[:3] == [
        Row("quote_price", "79900.0", "usdt", "BTCUSDT", "buy", "1", "active"),
        Row("quote_size", "0.003", "btc", "BTCUSDT", "buy", "1", "active"),
        Row("quote_distance_bps", "12.500", "bps", "BTCUSDT", "buy", "1", "active"),
    ]
    assert [(row.side, row.level, row.sub_type) for row in rows[6:]] == [("sell", "2", "in_doubt")] * 3


def test_order_without_a_level_has_a_dash_for_it() -> None:
    """One that an earlier run left: levels begin at 1."""
    symbol = context()
    symbol.orders.adopt(report(client_id="qpmm-old"), 0)
    assert {row.level for row in rows_of(symbol) if row.name in QUOTE_METRICS} == {"-"}


def test_market_has_no_rows_before_the_first_book() -> None:
    """Nothing is invented; what rests has no distance to a mid that is not known."""
    symbol = context()
    symbol.state.book = None
    symbol.state.mark_price = Decimal(0)
    symbol.orders.register("a", quote(), 0)
    names = {row.name for row in rows_of(symbol)}
    assert "mid_price" not in names
    assert "book_age" not in names
    assert {"live_orders", "quoting"} <= names
    assert values(rows_of(symbol))["quote_distance_bps"] == "0"


def test_book_that_was_proven_this_moment_has_no_age_below_zero() -> None:
    """The clock was read before the message came."""
    symbol = holding()
    symbol.state.book_proven_ns = NOW_NS + 5
    assert values(rows_of(symbol))["book_age"] == "0.000"


def test_account_rows_are_about_no_symbol() -> None:
    """Money in the quote asset, the rest in its own unit."""
    rows = list(account_series("USDT").rows({"equity": Decimal("5001.5"), "uptime": 12.0, "reconnects": 3}))
    assert rows == [
        Row("equity", "5001.5", "usdt"),
        Row("uptime", "12.000", "s"),
        Row("reconnects", "3", "count"),
    ]


def test_second_after_second_only_what_is_new_is_made_anew() -> None:
    """The next second's rows are those of a look without memory, and what repeats is the same object."""
    symbol, counters = holding(), Counters({})
    resting = symbol.orders.living()[0]
    every_second = SymbolRows(symbol)
    for change in (
        lambda: symbol.gate.close("test", "for a test"),
        lambda: setattr(symbol.state, "refreshes", 9),
        lambda: setattr(resting, "decision", "kept"),
        lambda: symbol.orders.begin_cancel(resting, NOW_NS),
        lambda: setattr(symbol.state, "mark_price", Decimal("81000")),
    ):
        before = list(every_second.of_second(counters, LIMIT, NOW_NS))
        change()
        after = list(every_second.of_second(counters, LIMIT, NOW_NS))
        assert after == rows_of(symbol, counters) != before
        assert all(new is old for old, new in zip(before, after, strict=True) if new == old)
        assert any(new is old for old, new in zip(before, after, strict=True))


def test_use_of_the_limits_is_told_under_its_own_names() -> None:
    """All of them are account metrics."""
    usage = RequestUsage(
        sent=9,
        refused=2,
        unknown=1,
        used_weight_1m=40,
        order_count_10s=6,
        order_count_1m=36,
        counted_ms=dict.fromkeys(("used_weight_1m", "order_count_10s", "order_count_1m"), 120_000),
        last_round_trip_ms=1.5,
        round_trips_ms={"POST /fapi/v1/order": 2.5, "DELETE /fapi/v1/batchOrders": 3.5},
    )
    found = usage_values(usage, 120_000)
    assert set(found) <= set(ACCOUNT_METRICS)
    assert (found["requests_sent"], found["requests_refused"], found["requests_unknown"]) == (9, 2, 1)
    assert (found["order_round_trip"], found["cancel_round_trip"], found["request_round_trip"]) == (
        2.5,
        3.5,
        1.5,
    )
    assert (found["used_weight_1m"], found["order_count_10s"], found["order_count_1m"]) == (40, 6, 36)
    assert usage_values(RequestUsage(), 0)["order_round_trip"] == 0


@pytest.mark.parametrize(
    ("now_ms", "told"),
    [(119_999, (40, 6, 36)), (120_000, (0, 0, 0)), (3_600_000, (0, 0, 0)), (109_999, (40, 0, 36))],
)
def test_count_of_a_window_that_is_over_is_told_no_more(now_ms: int, told: tuple[int, int, int]) -> None:
    """Said at 110 s, of the 10 s and of the minute that end at 120 s; or the clock was wrong then."""
    names = ("used_weight_1m", "order_count_10s", "order_count_1m")
    usage = RequestUsage(
        **dict(zip(names, (40, 6, 36), strict=True)), counted_ms=dict.fromkeys(names, 110_000)
    )
    values = usage_values(usage, now_ms)
    assert tuple(values[name] for name in names) == told


def test_last_cancel_is_the_one_whose_round_trip_is_told() -> None:
    """Whether it was of one order or of several."""
    one, several = "DELETE /fapi/v1/order", "DELETE /fapi/v1/batchOrders"
    for last, other in ((one, several), (several, one)):
        usage = RequestUsage(round_trips_ms={other: 7.0, last: 3.0, "GET /fapi/v1/depth": 1.0})
        assert usage_values(usage, 0)["cancel_round_trip"] == 3.0


# --- events -------------------------------------------------------------------------------------------------

AMENDMENT: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "client_id": "qpmm-mm1-1-1",
    "side": Side.SELL,
    "level": 2,
    "old_price": Decimal("80100.0"),
    "new_price": Decimal("80120.0"),
    "old_quantity": Decimal("0.003"),
    "new_quantity": Decimal("0.004"),
}

FACTS: list[RecordedFact] = [
    *(order_event(kind) for kind in OrderKind),
    FillEvent(fill(), 1),
    FillEvent(fill(is_maker=False), 0),
    OrderModifyEvent(**AMENDMENT),
    OrderModifySuccessEvent(**AMENDMENT),
    OrderModifyFailureEvent(**AMENDMENT, code=-5022),
    OrderModifyFailureEvent(**AMENDMENT, in_doubt=True),
    *(OrderResetEvent(symbol="BTCUSDT", kind=kind, orders=6) for kind in ResetKind),
    *(RiskEvent("BTCUSDT", kind, Decimal(2100), "over") for kind in RiskKind),
    *(ConnectionEvent("market", kind) for kind in ConnectionKind),
    *(EngineEvent(kind) for kind in EngineKind),
    *(GapEvent("BTCUSDT", stream, 7, "3 trades are missing") for stream in ("depth", "trades")),
]


@pytest.mark.parametrize("fact", FACTS, ids=repr)
def test_every_fact_has_a_row_of_a_documented_name_and_kind(fact: RecordedFact) -> None:
    """With its unit; nothing is recorded that the document does not list."""
    row = event_row(fact, {"BTCUSDT": context()})
    unit, kinds = EVENT_METRICS[row.name]
    assert row.sub_type in kinds
    assert row.unit == {"<base>": "btc", "<quote>": "usdt"}.get(unit, unit)
    assert re.fullmatch(r"\d+(\.\d+)?", row.value)


def test_order_event_names_price_id_and_reason() -> None:
    """The quantity is the value."""
    row = event_row(order_event(OrderKind.REJECTED, 2, "would take"), {"BTCUSDT": context()})
    expected = "price=80100.0 id=qpmm-mm1-1-1 would take"
    assert row == Row("order_event", "0.003", "btc", "BTCUSDT", "sell", "2", "rejected", expected)


def test_order_event_without_a_level_or_reason_has_a_dash_and_no_blank() -> None:
    """An order that an earlier run left."""
    row = event_row(order_event(OrderKind.ORPHAN, 0), {"BTCUSDT": context()})
    assert (row.level, row.details) == ("-", "price=80100.0 id=qpmm-mm1-1-1")


def test_amendment_row_tells_old_and_new_and_the_exchanges_answer() -> None:
    """The total quantity asked for is the value."""
    fact = OrderModifyFailureEvent(**AMENDMENT, code=-5022, reason="would take")
    expected = "price=80100.0->80120.0 quantity=0.003->0.004 id=qpmm-mm1-1-1 code=-5022 would take"
    row = event_row(fact, {"BTCUSDT": context()})
    assert row == Row("order_modify", "0.004", "btc", "BTCUSDT", "sell", "2", "refused", expected)


def test_reset_row_tells_how_long_it_took() -> None:
    """Once it is done; at its start there is nothing to tell yet."""
    started = OrderResetEvent(symbol="BTCUSDT", kind=ResetKind.STARTED, reason="timed", orders=6)
    done = replace(started, kind=ResetKind.DONE, duration_ms=812.4)
    rows = [event_row(fact, {"BTCUSDT": context()}) for fact in (started, done)]
    assert [(row.value, row.sub_type, row.details) for row in rows] == [
        ("6", "started", "timed"),
        ("6", "done", "timed took=812 ms"),
    ]


def test_fill_row_holds_everything_the_exchange_said_of_the_trade() -> None:
    """Enough to compare with the exchange's record to the last digit."""
    trade = fill(
        4567, Side.SELL, "0.004", commission=Decimal("0.00000010"), realized_pnl_quote=Decimal("-1.25")
    )
    row = event_row(FillEvent(trade, 3), {"BTCUSDT": context()})
    expected = "price=79900 trade=4567 order=7 id=qpmm-mm1-1-1 fee=0.00000010 USDT realized=-1.25"
    assert row == Row("order_event", "0.004", "btc", "BTCUSDT", "sell", "3", "maker_fill", expected)


def test_fill_by_another_hand_has_no_level() -> None:
    """A manual or forced trade."""
    row = event_row(FillEvent(fill(is_maker=False), 0), {"BTCUSDT": context()})
    assert (row.level, row.sub_type) == ("-", "taker_fill")


def test_units_of_an_event_are_those_of_its_own_symbol() -> None:
    """Two symbols in one file."""
    other = context(rules=replace(BTC, symbol="ETHUSDC", base_asset="ETH", quote_asset="USDC"))
    fact = RiskEvent("ETHUSDC", RiskKind.BREACH, Decimal(5), "over")
    assert event_row(fact, {"BTCUSDT": context(), "ETHUSDC": other}).unit == "usdc"


def test_counters_count_restarts_and_keep_symbols_apart() -> None:
    """Only what is asked for."""
    counters = Counters({})
    counters.count(EngineEvent(EngineKind.WORKER_RESTARTED, "orders: ValueError"))
    counters.count(EngineEvent(EngineKind.STARTED))
    counters.count(order_event(OrderKind.PLACED))
    assert counters.restarts == 1
    assert counters.of("BTCUSDT", OrderKind.PLACED, OrderKind.FILLED) == 1
    assert counters.of("ETHUSDT", OrderKind.PLACED) == 0
