"""Binance's public data files: quotes and trades of a symbol, day by day, read line by line and exactly.

File names are `SYMBOL-bookTicker-DAY.csv` and `SYMBOL-aggTrades-DAY.csv`, plain or with `.gz` or `.zip`
behind. A header line names the columns; older files have none and the columns in the usual order. (Source:
data.binance.vision and the repository binance-public-data.)
"""

import gzip
import heapq
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TypeVar

from sim.market import BookTicker, MarketError, MarketEvent, Trade
from sim.rules import SymbolRules

QUOTES = "bookTicker"
TRADES = "aggTrades"
_COLUMNS = {
    QUOTES: (
        "update_id",
        "best_bid_price",
        "best_bid_qty",
        "best_ask_price",
        "best_ask_qty",
        "transaction_time",
    ),
    TRADES: (
        "agg_trade_id",
        "price",
        "quantity",
        "first_trade_id",
        "last_trade_id",
        "transact_time",
        "is_buyer_maker",
    ),
}
HEADERS = {QUOTES: (*_COLUMNS[QUOTES], "event_time"), TRADES: _COLUMNS[TRADES]}
"""All columns as Binance names them; the event time of quotes is written and not read."""
_ENDINGS = (".csv", ".csv.gz", ".csv.zip", ".zip")
_TRUE_FALSE = {"true": True, "false": False}
_FIRST_MICROSECOND_TIME = 10**14
_CACHED_TEXTS = 1 << 16

Cells = Sequence[str]
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class SymbolDays:
    """The files of one symbol, in the order of their days; quotes and trades cover the same days."""

    quotes: tuple[Path, ...]
    trades: tuple[Path, ...]


def file_endings() -> tuple[str, ...]:
    """The endings that a file may have are returned, in the order in which they are looked for."""
    return _ENDINGS


def find_days(folder: Path, symbol: str) -> SymbolDays:
    """The files that `folder` has for `symbol` are returned.

    Raises:
        MarketError: no such folder, no file of the symbol, or days with quotes but no trades or the reverse.
    """
    if not folder.is_dir():
        raise MarketError(
            f"There is no folder {folder}: name one that holds {symbol}-{QUOTES}-DAY.csv files."
        )
    days = {kind: _files_by_day(folder, symbol, kind) for kind in (QUOTES, TRADES)}
    for kind, files in days.items():
        if not files:
            raise MarketError(f"{folder} has no file {symbol}-{kind}-DAY.csv (or .csv.gz, .zip): add it.")
    if unpaired := sorted(days[QUOTES].keys() ^ days[TRADES].keys()):
        raise MarketError(
            f"{folder} has {symbol} quotes or trades, but not both, for {', '.join(unpaired)}: "
            "add the missing files."
        )
    return SymbolDays(tuple(days[QUOTES].values()), tuple(days[TRADES].values()))


def _files_by_day(folder: Path, symbol: str, kind: str) -> dict[str, Path]:
    start = f"{symbol}-{kind}-"
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        for ending in _ENDINGS:
            if path.name.startswith(start) and path.name.endswith(ending) and path.is_file():
                found.setdefault(path.name[len(start) : -len(ending)], path)
                break
    return dict(sorted(found.items()))


def read_tape(days: Mapping[str, SymbolDays], rules: Mapping[str, SymbolRules]) -> Iterator[MarketEvent]:
    """The recorded events of all symbols come in the order of their recorded exchange times.

    At an equal time trades come before quotes: a quote of the same millisecond mostly shows what the trade
    has left. On the recordings at hand 99.8 % and more of the futures trades agree with the quote before them
    that way, and 72 % to 93 % the other way round.
    """
    streams: list[Iterator[MarketEvent]] = []
    for symbol, files in days.items():
        trades = in_order(_read_trades(files.trades, rules[symbol]))
        quotes = in_order(_read_quotes(files.quotes, rules[symbol]))
        streams.append(_trades_first(trades, quotes))
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=attrgetter("time_ms"))


def _trades_first(trades: Iterator[MarketEvent], quotes: Iterator[MarketEvent]) -> Iterator[MarketEvent]:
    """Two streams in one, by time."""
    trade = next(trades, None)
    for quote in quotes:
        while trade is not None and trade.time_ms <= quote.time_ms:
            yield trade
            trade = next(trades, None)
        yield quote
    if trade is not None:
        yield trade
        yield from trades


def in_order(events: Iterable[MarketEvent]) -> Iterator[MarketEvent]:
    """The events come without those whose time goes back."""
    latest_ms = 0
    for event in events:
        if event.time_ms >= latest_ms:
            latest_ms = event.time_ms
            yield event


def _read_quotes(paths: Iterable[Path], rules: SymbolRules) -> Iterator[BookTicker]:
    ticks, lots = Units(rules.price_ticks, rules.tick_size), Units(rules.lots, rules.step_size)
    symbol = rules.symbol

    def quote(cells: Cells) -> BookTicker:
        update_id, bid, bid_quantity, ask, ask_quantity, time = cells
        time_ms, bid_ticks, ask_ticks = int(time), ticks[bid], ticks[ask]
        if time_ms >= _FIRST_MICROSECOND_TIME:
            time_ms //= 1000
        if not 0 < bid_ticks < ask_ticks:
            raise ValueError(f"bid {bid} and ask {ask} are no market")
        return BookTicker(
            time_ms, symbol, int(update_id), bid_ticks, lots[bid_quantity], ask_ticks, lots[ask_quantity]
        )

    return _parsed(paths, QUOTES, quote)


def _read_trades(paths: Iterable[Path], rules: SymbolRules) -> Iterator[Trade]:
    ticks, lots = Units(rules.price_ticks, rules.tick_size), Units(rules.lots, rules.step_size)

    def trade(cells: Cells) -> Trade:
        trade_id, price, quantity, first_id, last_id, time, buyer_is_maker = cells
        return Trade(
            _time_ms(time),
            rules.symbol,
            int(trade_id),
            ticks[price],
            lots[quantity],
            int(first_id),
            int(last_id),
            _TRUE_FALSE[buyer_is_maker.lower()],
        )

    # One of nothing was against invisible orders alone, and fills nobody.
    return (each for each in _parsed(paths, TRADES, trade) if each.lots)


class Units(dict[str, int]):
    """Decimal texts by the ticks or lots of size `unit` that they are; each text is converted once.

    `convert` says the same of a Decimal; plain texts go without, where the unit is a power of ten.
    """

    def __init__(self, convert: Callable[[Decimal], int], unit: Decimal) -> None:
        super().__init__()
        self._convert = convert
        _, digits, exponent = unit.normalize().as_tuple()
        self._decimals = -exponent if digits == (1,) and isinstance(exponent, int) and exponent <= 0 else None

    def __missing__(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"{text} is a number and no text")
        if len(self) >= _CACHED_TEXTS:
            self.clear()
        units = self._plain(text)
        if units is None:
            units = self._convert(Decimal(text))
        if units < 0:
            raise ValueError(f"{text} is negative")
        self[text] = units
        return units

    def _plain(self, text: str) -> int | None:
        """The units of digits with at most one point, None for any other text and where there is a rest."""
        whole, _, part = text.partition(".")
        decimals = self._decimals
        if (
            decimals is None
            or not (whole + part).isdecimal()
            or not text.isascii()
            or part[decimals:].strip("0")
        ):
            return None
        return int(whole + part[:decimals].ljust(decimals, "0"))


def _time_ms(text: str) -> int:
    """Milliseconds since the epoch; some newer files have microseconds."""
    time = int(text)
    return time if time < _FIRST_MICROSECOND_TIME else time // 1000


def _parsed(paths: Iterable[Path], kind: str, parse: Callable[[Cells], E]) -> Iterator[E]:
    for path in paths:
        try:
            yield from _parsed_file(path, _COLUMNS[kind], parse)
        except (OSError, EOFError, UnicodeDecodeError, zlib.error, zipfile.BadZipFile) as error:
            raise MarketError(f"{path} cannot be read ({error}): download it again.") from error


def _parsed_file(path: Path, columns: tuple[str, ...], parse: Callable[[Cells], E]) -> Iterator[E]:
    picked = itemgetter(*range(len(columns)))
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\r\n").split(",")
            try:
                if number == 1 and not cells[0].isdigit() and cells != [""]:
                    picked = itemgetter(*_places(cells, columns))
                    continue
                event = parse(picked(cells))
            except (ValueError, LookupError, InvalidOperation) as error:
                if cells == [""]:
                    continue
                raise MarketError(f"{path.name}:{number}: {_reason(error)}.") from error
            yield event


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    return "there are too few columns" if isinstance(error, IndexError) else "a value cannot be read"


def _places(header: Cells, columns: tuple[str, ...]) -> list[int]:
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(f"the header has no column {missing[0]}")
    return [header.index(column) for column in columns]


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[str]]:
    if path.name.endswith(".gz"):
        with gzip.open(path, "rt", encoding="ascii") as lines:
            yield lines
    elif path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
            yield io.TextIOWrapper(raw, encoding="ascii")
    else:
        with path.open(encoding="ascii") as lines:
            yield lines
