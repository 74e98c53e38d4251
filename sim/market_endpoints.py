"""Market data over REST: what anybody may ask.

Source: facts section 3.1, 3.2.
"""

from sim import payloads
from sim.auth import Security
from sim.errors import refusal
from sim.params import Params
from sim.payloads import Json
from sim.rest import Endpoint, Routes
from sim.venue import Venue

_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
_DEFAULT_DEPTH = 500


class MarketEndpoints:
    """Answers ping, time, exchangeInfo, depth, bookTicker and premiumIndex."""

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
        rules = [instrument.rules for instrument in self._venue.instruments.values()]
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
                for instrument in self._venue.instruments.values()
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


def _premium_weight(params: Params) -> int:
    return 1 if "symbol" in params else 10
