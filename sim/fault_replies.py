"""Replies of an exchange in trouble: the canned ones, and what becomes of a real one.

Source: facts section 5 (the wordings of 503 and whether they mean execution), section 9 (codes).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from sim.errors import refusal, usual_text
from sim.messages import Response

_JSON = {"content-type": "application/json"}
_HTML = {"content-type": "text/html"}
_PAGE = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"

ORDER_READS = ("/fapi/v1/order", "/fapi/v1/openOrder")
ORDER_LISTS = ("/fapi/v1/openOrders", "/fapi/v1/allOrders")


@dataclass(frozen=True, slots=True)
class Canned:
    """A reply that is always the same; ``limits`` says that it tells how long to stay away."""

    status: int
    code: int | None
    message: str
    limits: bool = False


REPLIES: Mapping[str, Canned] = {
    "unknown-503": Canned(503, -1000, "Unknown error, please check your request or try again later."),
    "unavailable-503": Canned(503, 0, "Service Unavailable."),
    "internal-503": Canned(503, -1001, "Internal error; unable to process your request. Please try again."),
    "overload-503": Canned(
        503,
        -1008,
        "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. "
        "Please try again.",
    ),
    "timeout-408": Canned(
        408,
        -1007,
        "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    ),
    "bus-500": Canned(
        500, -1006, "An unexpected response was received from the message bus. Execution status unknown."
    ),
    "unknown-500": Canned(500, -1000, "Request occur unknown error."),
    "limit-429": Canned(
        429,
        -1003,
        "Too many requests; current limit of IP is 2400 requests per minute. "
        "Please use the websocket for live updates to avoid polling the API.",
        limits=True,
    ),
    "ban-418": Canned(
        418,
        -1003,
        "Way too many requests; IP(127.0.0.1) banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans.",
        limits=True,
    ),
    "orders-429": Canned(
        429, -1015, "Too many new orders; current limit is 300 orders per 10 SECOND.", limits=True
    ),
    "geo-451": Canned(451, 0, "Service unavailable from a restricted location."),
    "html-403": Canned(403, None, "403 Forbidden"),
    "html-500": Canned(500, None, "500 Internal Server Error"),
    "html-502": Canned(502, None, "502 Bad Gateway"),
    "html-504": Canned(504, None, "504 Gateway Time-out"),
}
"""The replies of ``error`` by name."""


def canned_reply(name: str, rest_ms: int, now_ms: int, retry_after_s: int = -1) -> Response:
    """Return the named reply; limits last ``retry_after_s`` or, with -1, the ``rest_ms`` of the fault."""
    canned = REPLIES[name]
    if canned.code is None:
        return Response(canned.status, _HTML, _PAGE.format(canned.message).encode())
    if not canned.limits:
        return error_reply(canned.status, canned.code, canned.message)
    wait_s = retry_after_s if retry_after_s >= 0 else max(1, -(-rest_ms // 1000))
    text = canned.message.format(until_ms=now_ms + wait_s * 1000)
    return error_reply(canned.status, canned.code, text, wait_s)


def error_reply(status: int, code: int, message: str, retry_after_s: int = -1) -> Response:
    """Return an error in Binance's form; without a ``message`` it is the usual one of the code."""
    text = message or usual_text(code)
    headers = _JSON if retry_after_s < 0 else {**_JSON, "retry-after": str(retry_after_s)}
    return Response(status, headers, _encode({"code": code, "msg": text}))


def json_reply(content: object) -> Response:
    """Return a successful reply."""
    return Response(200, _JSON, _encode(content))


def refused_order() -> Response:
    """Return what a query for an unknown order gets."""
    error = refusal(-2013)
    return error_reply(error.status, error.code, error.message)


def truncated(response: Response) -> Response:
    """Return the reply with half of its body."""
    return structs.replace(response, body=response.body[: len(response.body) // 2])


def emptied(response: Response) -> Response:
    """Return the reply without its body."""
    return structs.replace(response, body=b"")


def edited(response: Response, edit: Callable[[Any], Any]) -> Response:
    """Return a successful reply with its JSON changed by ``edit``; any other reply as it is."""
    if response.status != 200:
        return response
    try:
        content = json.loads(response.body)
    except ValueError:
        return response
    return structs.replace(response, body=_encode(edit(content)))


def without_fields(content: Any, names: Iterable[str]) -> Any:
    """Return JSON without the named fields, at any depth."""
    gone = frozenset(names)
    if isinstance(content, dict):
        return {name: without_fields(value, gone) for name, value in content.items() if name not in gone}
    return [without_fields(item, gone) for item in content] if isinstance(content, list) else content


def with_unknown_fields(content: Any) -> Any:
    """Return JSON whose objects have two fields more."""
    if isinstance(content, list):
        return [with_unknown_fields(item) for item in content]
    return {**content, "zz": {"new": ["field"]}, "qx": None} if isinstance(content, dict) else content


def emptied_list(content: Any) -> Any:
    """Return an empty list in place of a list."""
    return [] if isinstance(content, list) else content


def shortened(content: Any, missing: int) -> Any:
    """Return a list without its last elements."""
    return content[: max(0, len(content) - missing)] if isinstance(content, list) else content


def with_failed_last(content: Any, code: int) -> Any:
    """Return a list whose last element is an error."""
    if not isinstance(content, list) or not content:
        return content
    return [*content[:-1], {"code": code, "msg": usual_text(code)}]


def with_time_off(content: Any, offset_ms: int) -> Any:
    """Return the exchange's time wrong by so much."""
    return {**content, "serverTime": content["serverTime"] + offset_ms}


def without_trades(content: Any, since_ms: float) -> Any:
    """Return a list without what is as young as ``since_ms``."""
    return [row for row in content if row.get("time", 0) < since_ms] if isinstance(content, list) else content


def without_orders(response: Response, path: str, hidden: Callable[[Mapping[str, Any]], bool]) -> Response:
    """Return the reply of an order query as if the orders that are ``hidden`` did not exist."""
    if response.status != 200:
        return response
    content = json.loads(response.body)
    if path in ORDER_LISTS and isinstance(content, list):
        return structs.replace(response, body=_encode([row for row in content if not hidden(row)]))
    if path in ORDER_READS and isinstance(content, dict) and hidden(content):
        return refused_order()
    return response


def _encode(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
