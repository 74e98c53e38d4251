"""What the streams of trades and prices say: klines, mark prices, tickers, liquidations, changes of status.

Klines and tickers speak when there is news, and once to a new listener. Where one stream is of all symbols, its
payloads are an array of those that have news; ``!bookTicker`` and ``!contractInfo`` send them one by one.

Source: facts section 6. The fields of the tickers, and their intervals of one and two seconds, are those of Binance's
pages on market streams.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sim import payloads
from sim.instrument import Instrument
from sim.klines import kline_event
from sim.orders import Order, OrderType
from sim.payloads import Json, encode
from sim.record import FillRecord, Ledger
from sim.rules import plain
from sim.tickers import day_ticker


class Feed(Protocol):
    """What one stream says. ``start`` is called before the first listener, ``stop`` after the last."""

    def start(self) -> None:
        """Look at the market as it is now."""

    def stop(self) -> None:
        """Look no more."""

    def greet(self) -> None:
        """Speak at the next interval even if nothing will have changed: there is a new listener."""

    def speak(self, now_ms: int) -> list[str]:
        """Return the payloads of this interval."""


class Steady:
    """A feed that keeps nothing about its listeners."""

    def start(self) -> None:
        """Nothing is to be looked at beforehand."""

    def stop(self) -> None:
        """Nothing is kept."""

    def greet(self) -> None:
        """A new listener changes nothing."""


class Klines:
    """The open candle whenever it has changed, and each candle once more when it has ended.

    ``continuous`` chooses the form of continuousKline.
    """

    def __init__(self, instrument: Instrument, interval: str, *, continuous: bool = False) -> None:
        self._instrument = instrument
        self._interval = interval
        self._continuous = continuous
        self._open_ms: int | None = None
        self._trades = 0

    def start(self) -> None:
        """Begin with the open candle."""
        self._open_ms = None

    def stop(self) -> None:
        """Nothing is kept of the listeners."""

    def greet(self) -> None:
        """Tell the open candle once more."""
        self._trades = -1

    def speak(self, now_ms: int) -> list[str]:
        """Return the candles that have ended since, and the open one if it has traded."""
        instrument, interval = self._instrument, self._interval
        candles = instrument.candles
        candles.roll(now_ms)
        current = candles.current(interval)
        if current is None:
            return []
        ended = []
        for candle in candles.closed(interval):
            if self._open_ms is None or candle.open_ms < self._open_ms:
                break
            ended.append(kline_event(candle, interval, instrument.rules, now_ms, closed=True))
        told = ended[::-1]
        if ended:
            self._trades = 0
        if current.trades != self._trades:
            told.append(kline_event(current, interval, instrument.rules, now_ms, closed=False))
        self._open_ms, self._trades = current.open_ms, current.trades
        return [encode(_as_continuous(event) if self._continuous else event) for event in told]


def _as_continuous(event: dict[str, Any]) -> dict[str, object]:
    """Return the same candle as continuousKline tells it: of a pair and a contract type rather than of a symbol."""
    candle = {name: value for name, value in event["k"].items() if name != "s"}
    head = {"e": "continuous_kline", "E": event["E"], "ps": event["s"], "ct": "PERPETUAL"}
    return {**head, "k": candle, "st": event["st"]}


class Mark(Steady):
    """The mark price, at every interval."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def speak(self, now_ms: int) -> list[str]:
        """Return the mark price, once the symbol has been quoted."""
        instrument = self._instrument
        return [payloads.mark_event(instrument, now_ms)] if instrument.quote else []


class DayTicker(Steady):
    """The last 24 hours, whenever there has been a trade; ``form`` makes the payload."""

    def __init__(self, instrument: Instrument, form: Callable[[Instrument, int], Json]) -> None:
        self._instrument = instrument
        self._form = form
        self._told_id: int | None = None

    def greet(self) -> None:
        """Tell the ticker once more."""
        self._told_id = None

    def speak(self, now_ms: int) -> list[str]:
        """Return the ticker if there is news."""
        last = self._instrument.tape.last
        if last is None or last.trade_id == self._told_id:
            return []
        self._told_id = last.trade_id
        return [encode(self._form(self._instrument, now_ms))]


class Quote(Steady):
    """The best bid and ask, if they have changed since."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._told_id = 0

    def speak(self, now_ms: int) -> list[str]:  # noqa: ARG002  all feeds are asked alike
        """Return the quote if it has changed."""
        instrument, quote = self._instrument, self._instrument.quote
        if quote is None or quote.update_id == self._told_id:
            return []
        self._told_id = quote.update_id
        return [payloads.book_event(quote, instrument.rules, instrument.shown.raised)]


class Status(Steady):
    """The symbol's status and the date of its delivery, whenever one of them has changed."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._told = self._state()

    def start(self) -> None:
        """Begin with the present state."""
        self._told = self._state()

    def speak(self, now_ms: int) -> list[str]:
        """Return the contract's state if it has changed."""
        state = self._state()
        if state == self._told:
            return []
        self._told = state
        return [encode(contract_event(self._instrument, now_ms))]

    def _state(self) -> tuple[str, int]:
        regime = self._instrument.regime
        return regime.status, regime.posted.delivery_ms


class Liquidations(Steady):
    """The largest liquidation of the symbol within the interval: of the one account that there is."""

    def __init__(self, instrument: Instrument, ledger: Ledger) -> None:
        self._instrument = instrument
        self._ledger = ledger
        self._seen: FillRecord | None = None

    def start(self) -> None:
        """Begin with what happens from now on."""
        self._seen = self._newest()

    def speak(self, now_ms: int) -> list[str]:
        """Return the largest liquidation since."""
        orders: dict[int, Order] = {}
        for fill in reversed(self._ledger.fills):
            if fill is self._seen:
                break
            order = self._ledger.find(self._instrument.symbol, fill.order_id, "")
            if order is not None and order.type is OrderType.LIQUIDATION:
                orders[order.order_id] = order
        self._seen = self._newest()
        largest = max(orders.values(), key=lambda order: order.traded_tick_lots, default=None)
        return [encode(force_order_event(largest, self._instrument, now_ms))] if largest else []

    def _newest(self) -> FillRecord | None:
        return self._ledger.fills[-1] if self._ledger.fills else None


class Together:
    """Several feeds as one; with ``array`` their payloads make one array."""

    def __init__(self, feeds: Sequence[Feed], *, array: bool) -> None:
        self._feeds = feeds
        self._array = array

    def start(self) -> None:
        """Let all look at the market."""
        for feed in self._feeds:
            feed.start()

    def stop(self) -> None:
        """Let none look any more."""
        for feed in self._feeds:
            feed.stop()

    def greet(self) -> None:
        """Let all speak to a new listener."""
        for feed in self._feeds:
            feed.greet()

    def speak(self, now_ms: int) -> list[str]:
        """Return what all say."""
        said = [payload for feed in self._feeds for payload in feed.speak(now_ms)]
        return [f"[{','.join(said)}]"] if said and self._array else said


def day_event(instrument: Instrument, now_ms: int) -> Json:
    """Return the payload of a ticker stream: GET ticker/24hr under short names."""
    day = day_ticker(instrument, now_ms)
    return {
        "e": "24hrTicker",
        "E": now_ms,
        **{short: day[name] for short, name in _DAY_NAMES.items()},
        "st": 1,
    }


def mini_day_event(instrument: Instrument, now_ms: int) -> Json:
    """Return the payload of a miniTicker stream."""
    day = day_ticker(instrument, now_ms)
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        **{short: day[_DAY_NAMES[short]] for short in "scohlvq"},
        "st": 1,
    }


_DAY_NAMES = {
    "s": "symbol",
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}


def contract_event(instrument: Instrument, now_ms: int) -> Json:
    """Return the payload of contractInfo; brackets are listed only where they change, which they do not here."""
    info = instrument.regime.posted.as_exchange_info()
    return {
        "e": "contractInfo",
        "E": now_ms,
        "s": instrument.symbol,
        "ps": info["pair"],
        "ct": info["contractType"],
        "dt": info["deliveryDate"],
        "ot": info["onboardDate"],
        "cs": instrument.regime.status,
        "bks": [],
        "st": 1,
    }


def force_order_event(order: Order, instrument: Instrument, now_ms: int) -> Json:
    """Return the payload of forceOrder; the order's price is shown as its average one."""
    rules, average = instrument.rules, plain(payloads.average_price(order, instrument.rules))
    quantity, filled = rules.quantity_text(order.lots), rules.quantity_text(order.executed_lots)
    body = {
        "s": order.symbol,
        "S": order.side.value,
        "o": "LIMIT",
        "f": order.time_in_force.value,
        "q": quantity,
        "p": average,
        "ap": average,
        "X": order.status.value,
        "l": filled,
        "z": filled,
        "T": order.update_ms,
    }
    return {"e": "forceOrder", "E": now_ms, "o": body, "st": 1}
