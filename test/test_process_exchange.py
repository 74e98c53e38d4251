"""The daemon on a simulated exchange of its own process: what the exchange's record says of it."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import pytest

from test.process import Daemon, Exchange, Folder, Json, Stage, eventually

pytestmark = pytest.mark.no_cover

MARKETS = ("recording", "synthetic", "fills")


@dataclass(frozen=True)
class Audit:
    """A run that has ended, and what its exchange knows of it."""

    symbol: str
    folder: Folder
    daemon: Daemon
    code: int
    record: Json
    filters: dict[str, Json]

    def exact(self, name: str) -> Decimal:
        """Return the last value of a metric, digit by digit."""
        return Decimal(self.folder.last(name))

    @property
    def offset(self) -> Decimal:
        """Return the distance of a level as a part of the mid."""
        return Decimal(str(self.folder.config["order_config"]["price_offset_percent"])) / 100


@pytest.fixture(scope="module")
def audits(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Audit]]:
    """Three runs at the same time: a recording, a synthetic market, and a day in minutes that brings fills."""
    with Stage(tmp_path_factory.mktemp("exchange")) as stage, ThreadPoolExecutor(3) as pool:
        recording = ("--market", "recording", "--recording", str(data_dir / "usdm-2024-07-18"))
        day = ("--recording", str(data_dir / "spot-2024-07-23"), "--symbol", "NEXOUSDT", "--speed", "120")
        runs = {
            "recording": pool.submit(_audit, stage, "BTCUSDT", *recording, "--symbol", "BTCUSDT"),
            "synthetic": pool.submit(_audit, stage, "BTCUSDT", "--market", "synthetic", "--seed", "7"),
            "fills": pool.submit(_audit, stage, "NEXOUSDT", "--market", "recording", *day),
        }
        yield {name: run.result() for name, run in runs.items()}


def _audit(stage: Stage, symbol: str, *arguments: str) -> Audit:
    exchange = stage.exchange(*arguments, "--latency-ms", "3")
    folder = stage.folder(
        exchange,
        symbol=symbol,
        order_config={"price_offset_percent": 0.1, "quantity_per_order_usdt": 250},
        refresh_config={"refresh_mode": "replace", "orderbook_refresh_interval": 1},
    )
    daemon = stage.daemon(folder)
    # The day is thin: it takes a while until somebody trades with us, on one side and then on the other.
    eventually(lambda: _has_seen_enough(exchange, symbol), 20, f"{symbol}: too little happened")
    code = daemon.end(signal.SIGINT)
    return Audit(symbol, folder, daemon, code, exchange.record(symbol), exchange.filters(symbol))


def _has_seen_enough(exchange: Exchange, symbol: str) -> bool:
    record = exchange.record(symbol)
    sides = {fill["side"] for fill in record["fills"]}
    return len(record["orders"]) > 36 and (symbol != "NEXOUSDT" or sides == {"BUY", "SELL"})


@pytest.fixture(params=MARKETS)
def audit(audits: dict[str, Audit], request: pytest.FixtureRequest) -> Audit:
    """Each of the runs."""
    return audits[request.param]


def test_run_ends_with_zero_and_no_order_left(audit: Audit) -> None:
    """The exchange itself says that nothing rests."""
    assert audit.code == 0, audit.daemon.err
    assert {order["status"] for order in audit.record["orders"]} <= {"CANCELED", "FILLED", "EXPIRED"}


def test_every_order_is_a_post_only_limit_on_tick_and_step(audit: Audit) -> None:
    """Nothing but GTX limit orders on the symbol's grid and of its minimum value, none larger than configured."""
    tick = Decimal(audit.filters["PRICE_FILTER"]["tickSize"])
    step = Decimal(audit.filters["LOT_SIZE"]["stepSize"])
    minimum = Decimal(audit.filters["MIN_NOTIONAL"]["notional"])
    assert len(audit.record["orders"]) >= 36
    for order in audit.record["orders"]:
        assert (order["type"], order["timeInForce"], order["reduceOnly"]) == ("LIMIT", "GTX", False)
        price, quantity = Decimal(order["price"]), Decimal(order["origQty"])
        assert (price % tick, quantity % step) == (0, 0)
        assert minimum <= price * quantity <= 250
        assert order["clientOrderId"].startswith("qpmm-mm1-")


def test_no_order_would_have_crossed(audit: Audit) -> None:
    """Each rests on its side of the book as that was when the order came; no fill ever took.

    A busy machine holds up the loop, and then two parts of the daemon may cancel the same orders: that harms nobody.
    """
    if audit.symbol == "BTCUSDT":  # two minutes of market a second outrun everybody; then post-only refuses
        assert not any(order["wouldCross"] for order in audit.record["orders"])
        assert [row for row in audit.record["rejected"] if not row["endpoint"].startswith("DELETE ")] == []
    for order in audit.record["orders"]:
        if not order["wouldCross"]:
            bids = order["side"] == "BUY"
            assert (
                Decimal(order["price"]) < Decimal(order["ask"])
                if bids
                else Decimal(order["price"]) > Decimal(order["bid"])
            )
    assert all(fill["maker"] for fill in audit.record["fills"])


def test_every_level_is_within_a_tick_of_its_distance_from_the_mid(audit: Audit) -> None:
    """As the mid was at the order's refresh: the daemon says which, and the exchange had one like it."""
    tick = Decimal(audit.filters["PRICE_FILTER"]["tickSize"])
    placed = {_field(row, "id"): row for row in audit.folder.rows("order_event", "placed")}
    accepted = [order for order in audit.record["orders"] if order["status"] != "EXPIRED"]
    assert {order["clientOrderId"] for order in accepted} <= placed.keys()
    for order in accepted:
        row = placed[order["clientOrderId"]]
        mid, level = Decimal(_field(row, "mid")), int(row["level"])
        sign = -1 if order["side"] == "BUY" else 1
        assert abs(Decimal(order["price"]) - mid * (1 + sign * level * audit.offset)) < tick
        if audit.symbol == "BTCUSDT":
            assert abs(Decimal(order["mid"]) - mid) / mid < Decimal("0.0005")


def _field(row: dict[str, str], name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", row["details"])
    assert found is not None, row
    return found[1]


def test_position_fills_and_fees_equal_the_record_to_the_last_digit(audit: Audit) -> None:
    """Three books, ours, the exchange's account and its trades, and no difference between them."""
    record, [position] = audit.record, audit.record["positions"] or [{"positionAmt": "0"}]
    fills = record["fills"]
    changes = [Decimal(each["qty"]) * (1 if each["side"] == "BUY" else -1) for each in fills]
    held = list(accumulate(changes, initial=Decimal(0)))
    assert audit.exact("position") == Decimal(position["positionAmt"]) == held[-1]
    assert (
        audit.exact("exchange_position") in held
    )  # as last asked for, which was before the last fill perhaps
    assert audit.exact("fills") == len(fills)
    assert audit.exact("fees") == Decimal(record["feesTotal"]) == sum(Decimal(each["fee"]) for each in fills)
    assert audit.exact("realized_pnl") == sum(Decimal(each["realizedPnl"]) for each in fills)
    assert audit.exact("traded_volume") == sum(
        Decimal(each["price"]) * Decimal(each["qty"]) for each in fills
    )


def test_every_fill_of_the_record_is_a_row_of_the_metrics(audit: Audit) -> None:
    """Trade by trade: id, order, price, quantity, side, fee, and who made it."""
    ours = {
        (
            _field(row, "trade"),
            _field(row, "id"),
            row["side"],
            Decimal(_field(row, "price")),
            Decimal(row["value"]),
            Decimal(_field(row, "fee")),
            row["sub_type"].removesuffix("_fill"),
        )
        for row in _fill_rows(audit)
    }
    theirs = {
        (
            str(fill["id"]),
            fill["clientOrderId"],
            fill["side"].lower(),
            Decimal(fill["price"]),
            Decimal(fill["qty"]),
            Decimal(fill["fee"]),
            "maker" if fill["maker"] else "taker",
        )
        for fill in audit.record["fills"]
    }
    assert ours == theirs
    assert len(_fill_rows(audit)) == len(theirs)


def _fill_rows(audit: Audit) -> list[dict[str, str]]:
    return [row for row in audit.folder.rows("order_event") if row["sub_type"].endswith("_fill")]


def test_day_in_minutes_brings_fills_on_both_sides(audits: dict[str, Audit]) -> None:
    """So that the books above were compared where there is something to compare."""
    sides = [fill["side"] for fill in audits["fills"].record["fills"]]
    assert {"BUY", "SELL"} == set(sides)


def test_quotes_never_exceed_the_position_limit(audit: Audit) -> None:
    """Worst case: all that rests on a side, and the position, at once."""
    limit = audit.exact("position_limit")
    for side in ("buy", "sell"):
        assert all(Decimal(row["value"]) <= limit for row in audit.folder.rows(f"exposure_{side}"))


def test_metrics_count_what_the_exchange_counts(audit: Audit) -> None:
    """Orders placed and cancelled, as the record has them."""
    orders = audit.record["orders"]
    accepted = [order for order in orders if order["status"] != "EXPIRED"]
    assert audit.exact("orders_placed") == len(accepted)
    cancelled = [order for order in orders if order["status"] == "CANCELED"]
    assert audit.exact("orders_cancelled") == len(cancelled)
    assert audit.exact("live_orders") == 0
    assert audit.exact("orders_in_doubt") == 0
