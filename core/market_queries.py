"""What is asked of the exchange's market over REST beside best bid and ask. Each is asked once, with no retry.

Each raises as ``utils.http.BinanceRest.call`` does.
"""

from core.gateway import readable
from core.market_model import DepthSnapshot
from core.market_wire import depth_snapshot
from core.model import SymbolRules
from utils.http import BinanceRest, Security

SNAPSHOT_LEVELS = 1000
"""Weight 20."""


async def book_snapshot(rest: BinanceRest, rules: SymbolRules, timeout_s: float) -> DepthSnapshot:
    """Return the best thousand levels of each side."""
    params: dict[str, str | int] = {"symbol": rules.symbol, "limit": SNAPSHOT_LEVELS}
    reply = await rest.call("GET", "/fapi/v1/depth", params, Security.NONE, timeout_s)
    with readable("the levels of the book"):
        return depth_snapshot(reply, rules)


async def newest_trade_id(rest: BinanceRest, symbol: str, timeout_s: float) -> int:
    """Return the id of the market's last aggregate trade, 0 if there was none."""
    params: dict[str, str | int] = {"symbol": symbol, "limit": 1}
    reply = await rest.call("GET", "/fapi/v1/aggTrades", params, Security.NONE, timeout_s)
    with readable("the market's trades"):
        return int(reply[-1]["a"]) if reply else 0
