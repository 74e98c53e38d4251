"""Market data over REST: what anybody may ask.

Source: facts section 3.1, 3.2.
"""

from sim import payloads
from sim.auth import Security
from sim.errors import refusal
from sim.klines import INTERVALS, kline_row
from sim.params import Params
from sim.payloads import Json
from sim.rest import Endpoint, Routes
from sim.tape import agg_trade, read_limit, single_trade
from sim.tickers import day_ticker, price_ticker
from sim.venue import Venue

_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_DEFAULT_DEPTH = 500
_KLINE_WEIGHTS = ((100, 1), (500, 2), (1001, 5))
_DEFAULT_KLINES, _MOST_KLINES = 500, 1500


class MarketEndpoints:
    """Answers ping, time, exchangeInfo, depth, the tickers, premiumIndex, klines and the lists of trades."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        none = Security.NONE
        return {
            ("GET", "/fapi/v1/ping"): Endpoint(self.ping, none),
            ("GET", "/fapi/v1/time"): Endpoint(self.time, none),
            ("GET", "/fapi/v1/exchangeInfo"): Endpoint(self.exchange_info, none),
            ("GET", "/fapi/v1/depth"): Endpoint(self.depth, none, _depth_weight),
            ("GET", "/fapi/v1/ticker/bookTicker"): Endpoint(self.book_ticker, none, _book_weight),
            ("GET", "/fapi/v1/ticker/price"): Endpoint(self.price_ticker, none, _price_weight),
            ("GET", "/fapi/v2/ticker/price"): Endpoint(self.price_ticker, none, _price_weight),
            ("GET", "/fapi/v1/ticker/24hr"): Endpoint(self.day_ticker, none, _day_weight),
            ("GET", "/fapi/v1/klines"): Endpoint(self.klines, none, _kline_weight),
            ("GET", "/fapi/v1/aggTrades"): Endpoint(self.agg_trades, none, 20),
            ("GET", "/fapi/v1/trades"): Endpoint(self.trades, none, 5),
            ("GET", "/fapi/v1/premiumIndex"): Endpoint(self.premium_index, none, _premium_weight),
        }

    def ping(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002  all handlers are called alike
        """Answer that the exchange is there."""
        return {}

    def time(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Answer with the exchange's time."""
        return {"serverTime": now_ms + self._venue.skew_ms}

    def exchange_info(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Answer with the rules of all symbols; ``symbol`` is ignored, as by Binance."""
        rules = [instrument.rules for instrument in self._venue.listed()]
        assets = dict.fromkeys(rule.quote_asset for rule in rules)
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": self._venue.limits.as_exchange_info(),
            "exchangeFilters": [],
            "assets": [
                {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"} for asset in assets
            ],
            "symbols": [
                instrument.regime.posted.as_exchange_info() | {"status": instrument.regime.status}
                for instrument in self._venue.listed()
            ],
        }

    def depth(self, params: Params, now_ms: int) -> Json:
        """Answer with the book; raises -4021 for a limit that is no depth, -1130 above 1000."""
        limit = params.integer_or("limit", _DEFAULT_DEPTH)
        if limit > 1000:
            raise refusal(-1130, "limit")
        if limit not in _DEPTH_WEIGHTS:
            raise refusal(-4021, limit)
        return payloads.depth(self._venue.instrument(params), limit, now_ms)

    def book_ticker(self, params: Params, now_ms: int) -> Json | list[Json]:  # noqa: ARG002
        """Answer with the best bid and ask, of all symbols if none is named."""
        found = [payloads.book_ticker(instrument) for instrument in self._venue.chosen(params)]
        return found[0] if "symbol" in params else found

    def price_ticker(self, params: Params, now_ms: int) -> Json | list[Json]:
        """Answer with the price of the last trade, of all symbols if none is named."""
        found = [price_ticker(instrument, now_ms) for instrument in self._venue.chosen(params)]
        return found[0] if "symbol" in params else found

    def day_ticker(self, params: Params, now_ms: int) -> Json | list[Json]:
        """Answer with the last 24 hours, of all symbols if none is named."""
        found = [day_ticker(instrument, now_ms) for instrument in self._venue.chosen(params)]
        return found[0] if "symbol" in params else found

    def klines(self, params: Params, now_ms: int) -> list[list[object]]:
        """Answer with candles, the last of which is still open; raises -1120 for an interval that there is not."""
        instrument, interval = self._venue.instrument(params), params.text("interval")
        if interval not in INTERVALS:
            raise refusal(-1120)
        limit = params.integer_or("limit", _DEFAULT_KLINES)
        if not 0 < limit <= _MOST_KLINES:
            raise refusal(-1130, "limit")
        start_ms, end_ms = params.optional_integer("startTime"), params.optional_integer("endTime")
        if start_ms is not None and end_ms is not None and start_ms > end_ms:
            raise refusal(-1023)
        instrument.candles.roll(now_ms)
        found = instrument.candles.rows(interval, limit=limit, start_ms=start_ms, end_ms=end_ms)
        return [kline_row(candle, instrument.rules) for candle in found]

    def agg_trades(self, params: Params, now_ms: int) -> list[dict[str, object]]:  # noqa: ARG002
        """Answer with aggregated trades, oldest first."""
        instrument = self._venue.instrument(params)
        return [agg_trade(trade, instrument.rules) for trade in instrument.tape.page(params)]

    def trades(self, params: Params, now_ms: int) -> list[dict[str, object]]:  # noqa: ARG002
        """Answer with the newest trades, oldest first."""
        instrument = self._venue.instrument(params)
        return [single_trade(trade, instrument.rules) for trade in instrument.tape.newest(read_limit(params))]

    def premium_index(self, params: Params, now_ms: int) -> Json | list[Json]:
        """Answer with mark price and funding, of all symbols if none is named."""
        found = [payloads.premium_index(instrument, now_ms) for instrument in self._venue.chosen(params)]
        return found[0] if "symbol" in params else found


def _depth_weight(params: Params) -> int:
    return _DEPTH_WEIGHTS.get(_number(params.text_or("limit", str(_DEFAULT_DEPTH))), 2)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _book_weight(params: Params) -> int:
    return 2 if "symbol" in params else 5


def _price_weight(params: Params) -> int:
    return 1 if "symbol" in params else 2


def _day_weight(params: Params) -> int:
    return 1 if "symbol" in params else 40


def _kline_weight(params: Params) -> int:
    limit = _number(params.text_or("limit", str(_DEFAULT_KLINES)))
    return next((weight for below, weight in _KLINE_WEIGHTS if limit < below), 10)


def _premium_weight(params: Params) -> int:
    return 1 if "symbol" in params else 10
