"""What each request costs and which lane it goes in, by method and path. Pure.

Source: binance-futures, the weight that each endpoint states.
"""

from collections.abc import Mapping

from core.rate_budget import Cost, Lane

Params = Mapping[str, str | int]

ONE_ORDER = Cost(weight=0, orders_10s=1, orders_1m=1)
ORDER_BATCH = Cost(weight=5, orders_10s=5, orders_1m=1)
LIGHT, MIDDLE = Cost(1), Cost(5)
UNCOUNTED = Cost(0)
TIME = ("GET", "/fapi/v1/time")
SHORTEST_DEPTH = 5
"""Levels a side; source: binance-futures order book, the limits that are allowed."""

_BY_ENDPOINT: Mapping[tuple[str, str], tuple[Lane, Cost]] = {
    ("POST", "/fapi/v1/order"): (Lane.PLACE, ONE_ORDER),
    ("POST", "/fapi/v1/order/test"): (Lane.QUERY, ONE_ORDER),
    ("PUT", "/fapi/v1/order"): (Lane.AMEND, ONE_ORDER),
    ("DELETE", "/fapi/v1/order"): (Lane.CANCEL, LIGHT),
    ("GET", "/fapi/v1/order"): (Lane.VERIFY, LIGHT),
    ("POST", "/fapi/v1/batchOrders"): (Lane.PLACE, ORDER_BATCH),
    ("PUT", "/fapi/v1/batchOrders"): (Lane.AMEND, ORDER_BATCH),
    ("DELETE", "/fapi/v1/batchOrders"): (Lane.CANCEL, LIGHT),
    ("DELETE", "/fapi/v1/allOpenOrders"): (Lane.CANCEL, LIGHT),
    ("POST", "/fapi/v1/countdownCancelAll"): (Lane.CANCEL, Cost(10)),
    TIME: (Lane.CANCEL, LIGHT),  # no cancel is taken with a wrong timestamp
    ("POST", "/fapi/v1/listenKey"): (Lane.VERIFY, LIGHT),
    ("PUT", "/fapi/v1/listenKey"): (Lane.VERIFY, LIGHT),
    ("GET", "/fapi/v1/openOrders"): (Lane.VERIFY, LIGHT),
    ("GET", "/fapi/v3/positionRisk"): (Lane.VERIFY, MIDDLE),
    ("GET", "/fapi/v3/account"): (Lane.VERIFY, MIDDLE),
    ("GET", "/fapi/v1/userTrades"): (Lane.VERIFY, MIDDLE),
    ("GET", "/fapi/v1/allOrders"): (Lane.QUERY, MIDDLE),
    ("GET", "/fapi/v1/ticker/bookTicker"): (Lane.QUERY, Cost(2)),
    ("GET", "/fapi/v1/accountConfig"): (Lane.VERIFY, MIDDLE),
    ("GET", "/fapi/v1/exchangeInfo"): (Lane.VERIFY, LIGHT),
    ("GET", "/fapi/v3/balance"): (Lane.QUERY, MIDDLE),
    ("GET", "/fapi/v1/symbolConfig"): (Lane.VERIFY, MIDDLE),
    ("GET", "/fapi/v1/income"): (Lane.QUERY, Cost(30)),
    ("GET", "/fapi/v1/commissionRate"): (Lane.QUERY, Cost(20)),
}
_DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
_ALL_OPEN_ORDERS = Cost(40)


def lane_and_cost(method: str, path: str, params: Params) -> tuple[Lane, Cost]:
    """Return the lane and the cost of a request; one that is not in the table is a light question."""
    lane, cost = _BY_ENDPOINT.get((method, path), (Lane.QUERY, LIGHT))
    if lane is Lane.PLACE and params.get("reduceOnly") == "true":
        return Lane.CANCEL, cost  # it closes a position: quotes are never reduce-only
    if path == "/fapi/v1/openOrders" and "symbol" not in params:
        return lane, _ALL_OPEN_ORDERS
    if path == "/fapi/v1/depth":
        limit = int(
            params.get("limit", 500)
        )  # the shortest one proves the book, all others make a copy of it
        return Lane.VERIFY if limit == SHORTEST_DEPTH else lane, Cost(_depth_weight(limit))
    return lane, cost


def _depth_weight(limit: int) -> int:
    return next((weight for most, weight in _DEPTH_WEIGHTS if limit <= most), 20)
