"""Orders in the quote of a recording, placed through the exchange's front door, beside what the files alone allow.

The reference reads the CSV files by itself and knows nothing of queues: a buy order may have been filled by what
sellers traded at its price or below since it was placed, or once the other side was quoted at its price; never before,
never more.
"""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from sim.exchange import Exchange, Options
from sim.limits import LimitSizes
from sim.recording import RecordedMarket
from sim.rules import MAINNET

from .sim_factory import KEY, SECRET, START_MS, Rig

PLENTY = 10**9
LIMITS = LimitSizes(weight_per_minute=PLENTY, orders_per_ten_seconds=PLENTY, orders_per_minute=PLENTY)
EVERY_MS = 2000
PROBES = 60


@dataclass(frozen=True)
class Row:
    """A line of a file: a trade, or a quote, at its time since the first quote of the recording."""

    time_ms: int
    kind: str
    bid: Decimal
    ask: Decimal
    qty: Decimal = Decimal(0)
    sold: bool = False


def lines(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the lines of a file as dictionaries."""
    path = next(folder.glob(f"*{name}*.csv.gz"))
    with gzip.open(path, "rt", newline="") as text:
        yield from csv.DictReader(text)


def rows_of(folder: Path, symbol: str) -> list[Row]:
    """Return trades and quotes in the order of their times."""
    rows = [
        Row(
            int(line["transaction_time"]),
            "quote",
            Decimal(line["best_bid_price"]),
            Decimal(line["best_ask_price"]),
        )
        for line in lines(folder, f"{symbol}-bookTicker")
    ]
    for line in lines(folder, f"{symbol}-aggTrades"):
        price = Decimal(line["price"])
        sold = line["is_buyer_maker"].lower() == "true"
        rows.append(Row(int(line["transact_time"]), "trade", price, price, Decimal(line["quantity"]), sold))
    return sorted(rows, key=lambda row: row.time_ms)


def allowed(rows: list[Row], price: Decimal, is_buy: bool, from_ms: int, to_ms: int) -> Decimal:
    """Return the most that an order at `price` can have been filled by `to_ms`."""
    total = Decimal(0)
    for row in rows:
        if not from_ms <= row.time_ms <= to_ms:
            continue
        if row.kind == "trade" and row.sold is is_buy and (row.bid <= price if is_buy else row.bid >= price):
            total += row.qty
        if row.kind == "quote" and (row.ask <= price if is_buy else row.bid >= price):
            return Decimal("Infinity")
    return total


@pytest.mark.parametrize(
    ("day", "symbol"),
    [("usdm-2023-04-04", "BTCUSDT"), ("usdm-2024-07-18", "BTCUSDT"), ("usdm-2024-07-18", "ETHUSDT")],
)
def test_no_order_in_the_quote_is_filled_before_the_files_allow_it(
    data_dir: Path, day: str, symbol: str
) -> None:
    """Both sides are quoted every two seconds; each fill, at its time, is covered by trades or quotes of the files."""
    rules = {symbol: MAINNET[symbol]}
    rows = rows_of(data_dir / day, symbol)
    first_ms = min(row.time_ms for row in rows if row.kind == "quote")
    rig = Rig(symbol, quoted=False)
    market = RecordedMarket(data_dir / day, rules, START_MS, loop=False)
    rig.exchange = Exchange(
        market,
        api_key=KEY,
        api_secret=SECRET,
        now_ms=START_MS,
        wallet_quote=Decimal(10**7),
        options=Options(limits=LIMITS),
    )
    placed: dict[str, int] = {}
    for number in range(PROBES):
        rig.wait(EVERY_MS)
        rig.call("DELETE", "/fapi/v1/allOpenOrders", symbol=symbol)
        touch = rig.send("GET", "/fapi/v1/ticker/bookTicker", f"symbol={symbol}").body
        for side, price in (("BUY", touch["bidPrice"]), ("SELL", touch["askPrice"])):
            name = f"{side}{number}"
            reply = rig.place(side, price, "0.05", symbol=symbol, newClientOrderId=name)
            if reply.status == 200:
                placed[name] = rig.now_ms
    rig.wait(EVERY_MS)
    record = rig.send("GET", "/sim/record", f"symbol={symbol}").body
    orders = {row["orderId"]: row for row in record["orders"]}
    filled: dict[int, Decimal] = {}
    for fill in record["fills"]:
        order = orders[fill["orderId"]]
        filled[fill["orderId"]] = filled.get(fill["orderId"], Decimal(0)) + Decimal(fill["qty"])
        since_ms = placed[order["clientOrderId"]] - START_MS + first_ms
        until_ms = fill["time"] - START_MS + first_ms
        most = allowed(rows, Decimal(order["price"]), order["side"] == "BUY", since_ms, until_ms)
        assert filled[fill["orderId"]] <= most, (order, fill)
        assert fill["maker"]
    assert len(placed) > PROBES
    assert filled
