"""Every kind of fault that a scenario can write: what it does, its parameters, and the failures that it causes.

The failures are those of ``docs/faults.md``. Source of the behaviours: facts section 5 (statuses and texts), 7
(events), 11 (traps), 12 (faults worth having).
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from sim.fault_replies import REPLIES
from sim.fault_rules import REQUIRED, Acts, Kind, Parameter
from sim.latency import SYNTAX, Spread, parse_spread
from sim.orders import Side
from sim.standing import NO_MODE_CHANGE, NO_ORDERS, REDUCE_ONLY

DAY_S = 86_400.0
_LONGEST_TEXT = 200


def number(low: float, high: float, default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is a number within bounds."""
    return Parameter(f"a number from {low:g} to {high:g}", lambda value: _within(value, low, high), default)


def whole(low: int, high: int, default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is a whole number within bounds."""
    return Parameter(f"a whole number from {low} to {high}", lambda value: _whole(value, low, high), default)


def amount(default: Any = REQUIRED, *, signed: bool = False, zero: bool = False) -> Parameter:
    """Return a parameter that is an exact decimal number."""
    wants = "a number" if signed else "a number of at least 0" if zero else "a number above 0"
    return Parameter(wants, lambda value: _amount(value, signed=signed, zero=zero), default)


def choice(*names: str, default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is one of ``names``."""
    return Parameter(f"one of {', '.join(names)}", lambda value: _choice(value, names), default)


def flag(*, default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is true or false."""
    return Parameter("true or false", _flag, default)


def text(default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is a short text."""
    return Parameter(f"a text of 1 to {_LONGEST_TEXT} characters", _text, default)


def names(default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is a list of names."""
    return Parameter("a list of names", _names, default)


def delay(default: Any = REQUIRED) -> Parameter:
    """Return a parameter that is a latency, drawn anew for each message."""
    return Parameter(SYNTAX.partition(",")[0] + ", uniform:LOW-HIGH or lognormal:P50-P99", _delay, default)


def _within(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError
    return float(value)


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError
    return value


def _amount(value: Any, *, signed: bool, zero: bool) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError  # noqa: TRY004  every reader refuses in the same way
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError from None
    if not found.is_finite() or abs(found) > 10**12 or (not signed and (found < 0 or not (found or zero))):
        raise ValueError
    return found


def _choice(value: Any, allowed: tuple[str, ...]) -> str:
    if str(value) not in allowed:
        raise ValueError
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004  every reader refuses in the same way
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or not value.isprintable():
        raise ValueError
    return value


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(_text(item) for item in value)


def _delay(value: Any) -> Spread:
    return parse_spread(str(value))


def _side(value: Any) -> Side:
    return Side(value)


_SIDE = Parameter("BUY or SELL", _side)
_EXECUTED = Parameter("true, false or sometimes", lambda value: _executed(value), default=False)


def _executed(value: Any) -> float:
    if value == "sometimes":
        return 0.5
    return float(_flag(value))


TIMES: Mapping[str, Parameter] = {
    "at_s": number(0, DAY_S * 366),
    "from_s": number(0, DAY_S * 366),
    "until_s": number(0, DAY_S * 366),
    "for_s": number(0.001, DAY_S * 366),
    "every_s": number(0.001, DAY_S * 366),
    "times": whole(1, 1_000_000_000),
    "probability": number(0, 1),
}
"""The keys that say when a fault strikes."""

TARGETS: Mapping[str, Parameter] = {
    "symbol": text(),
    "method": choice("GET", "POST", "PUT", "DELETE"),
    "path": text(),
    "stream": text(),
    "event": text(),
    "execution": text(),
    "route": choice("public", "market", "private", "unrouted", "ws-fapi"),
    "client_id": text(),
    "side": choice("BUY", "SELL"),
}
"""The keys that say whom it strikes."""

_OF_REQUESTS = frozenset({"symbol", "method", "path", "client_id", "side"})
TARGETS_OF: Mapping[Acts, frozenset[str]] = {
    Acts.REQUEST: _OF_REQUESTS,
    Acts.REPLY: _OF_REQUESTS,
    Acts.EVENT: frozenset({"symbol", "stream", "event", "execution", "route", "client_id", "side"}),
    Acts.HANDSHAKE: frozenset({"route"}),
    Acts.TIME: frozenset({"symbol", "route"}),
}


def _kind(
    name: str, acts: Acts | tuple[Acts, ...], says: str, failures: str = "", **parameters: Parameter
) -> Kind:
    waits_for = frozenset(acts if isinstance(acts, tuple) else (acts,))
    return Kind(name, waits_for, says, tuple(failures.split()), parameters)


_REQ, _REP, _EVE, _TIME = Acts.REQUEST, Acts.REPLY, Acts.EVENT, Acts.TIME

_ALL = (
    # requests and replies
    _kind(
        "error",
        _REQ,
        "The request is answered with an error: `reply` names one, or `code` and `message` make one; `executed` "
        "says whether it has been executed all the same.",
        "ORD-02 ORD-03 ORD-06 ORD-08 LIF-08 POS-02 POS-04 POS-12 REJ-01 REJ-03 REJ-04 REJ-05 REJ-06 "
        "REJ-08 REJ-09 LIM-01 LIM-02 LIM-05 LIM-06 LIM-07 NET-05 NET-06 ACC-03 ACC-05 ACC-07 VEN-02 VEN-03",
        reply=choice(*REPLIES, default=""),
        code=whole(-9999, -1, 0),
        status=whole(400, 599, 0),
        message=text(""),
        retry_after_s=whole(0, 259_200, -1),
        executed=_EXECUTED,
    ),
    _kind(
        "delay-request",
        _REQ,
        "The request reaches the exchange later.",
        "ORD-07 ORD-08 ORD-09 LIF-07 REJ-03 LIM-04 NET-08",
        delay_ms=delay(),
    ),
    _kind(
        "drop-request",
        _REQ,
        "The request is lost: never executed, never answered.",
        "ORD-01 ORD-11 ORD-12 NET-07 PRC-13",
    ),
    _kind("reset-request", _REQ, "The connection is reset before the request is executed.", "ORD-01 NET-02"),
    _kind("refuse-connection", _REQ, "No connection can be made.", "NET-01 NET-04 NET-07"),
    _kind(
        "delay-reply",
        _REP,
        "The request is executed at once and answered later, so that events come first.",
        "ORD-01 LIF-01 LIF-13 NET-08",
        delay_ms=delay(),
    ),
    _kind("drop-reply", _REP, "The request is executed and never answered.", "ORD-01 ORD-11 ORD-12 POS-03"),
    _kind("reset-reply", _REP, "The connection is reset after the request was executed.", "ORD-01 NET-02"),
    _kind("truncate-reply", _REP, "Half of the body is missing.", "REJ-08 NET-09"),
    _kind("empty-reply", _REP, "The body is empty.", "REJ-08"),
    _kind("empty-list", _REP, "A list is answered as an empty one.", "POS-02 ORD-05"),
    _kind(
        "drop-fields",
        _REP,
        "The named fields are missing, at whatever depth.",
        "VEN-05",
        fields=names(),
    ),
    _kind(
        "hide-orders",
        _REP,
        "Queries do not know the orders: -2013, or left out of lists; with `younger_than_s`, the young ones only.",
        "ORD-04 ORD-05 VEN-07",
        younger_than_s=number(0, DAY_S, DAY_S * 366),
    ),
    _kind(
        "hide-trades",
        _REP,
        "userTrades leaves out the fills; with `younger_than_s`, the young ones only.",
        "LIF-02 POS-01",
        younger_than_s=number(0, DAY_S, DAY_S * 366),
    ),
    _kind(
        "stale-reads",
        _REP,
        "A question that was asked before gets the answer of `lag_s` ago.",
        "STR-11 STR-14 POS-09 VEN-07",
        lag_s=number(0, 3600),
    ),
    _kind(
        "wrong-server-time",
        _REP,
        "GET /fapi/v1/time is wrong by so much, and whoever believes it gets -1021.",
        "NET-03",
        offset_ms=whole(-86_400_000, 86_400_000),
    ),
    _kind(
        "short-batch",
        _REP,
        "The reply to a batch lacks its last elements.",
        "ORD-10",
        missing=whole(1, 10, 1),
    ),
    _kind(
        "mixed-batch",
        _REP,
        "The last element of a batch is answered with an error although it was executed.",
        "ORD-10",
        code=whole(-9999, -1, -1006),
    ),
    _kind(
        "ignore-setter",
        _REQ,
        "A change of leverage, margin type or mode is answered with success and not made.",
        "ACC-06",
    ),
    _kind(
        "cancel-all-skips",
        _REQ,
        "DELETE allOpenOrders says that all is done and leaves the last `orders` open.",
        "LIF-05",
        orders=whole(1, 10_000, 1),
    ),
    _kind(
        "fill-first",
        _REQ,
        "Before an order is cancelled or amended, so much of what remains of it fills.",
        "LIF-04 LIF-06",
        fraction=number(0.0001, 1, 1.0),
    ),
    _kind(
        "pending-amendment",
        _REQ,
        "An amendment that comes so soon after the last one of its order is refused with -5043.",
        "LIF-13",
        within_ms=whole(1, 600_000, 1000),
    ),
    # stream payloads
    _kind(
        "silence",
        _EVE,
        "Payloads are withheld while the sockets stay open and answer pings.",
        "STR-01 STR-02 STR-08 POS-14",
    ),
    _kind("drop-events", _EVE, "Payloads are lost.", "STR-07 POS-01 STR-06"),
    _kind(
        "delay-events",
        _EVE,
        "Payloads come later; others overtake them.",
        "LIF-02 LIF-10 LIF-11 STR-15",
        delay_ms=Parameter(
            "a number of ms from 0 to 3600000, or a latency", lambda value: _long_delay(value)
        ),
    ),
    _kind(
        "duplicate-events",
        _EVE,
        "Payloads come a second time, so much later.",
        "LIF-03 LIF-09 STR-07",
        after_ms=whole(0, 3_600_000, 0),
    ),
    _kind("reorder-events", _EVE, "A payload changes places with the next one.", "LIF-03 STR-07 STR-15"),
    _kind(
        "depth-gap", _EVE, "A diff-depth payload is missing, so that the next `pu` fits nothing.", "STR-07"
    ),
    _kind(
        "sequence-reset",
        _EVE,
        "The update ids of book payloads are smaller by so much.",
        "VEN-09",
        by=whole(1, 10**15, 10**9),
    ),
    _kind(
        "partial-account-update",
        _EVE,
        "ACCOUNT_UPDATE comes without its positions, or without its balances.",
        "POS-01 POS-02",
        without=choice("positions", "balances", default="positions"),
    ),
    _kind(
        "corrupt-prices",
        _EVE,
        "The prices of book payloads are crossed, zero or null.",
        "STR-12 VEN-02",
        to=choice("crossed", "zero", "null", default="crossed"),
    ),
    _kind(
        "unknown-fields",
        (_REP, _EVE),
        "There are fields that no documentation knows.",
        "STR-13",
    ),
    _kind("unknown-status", _EVE, "An order event carries a status that nobody knows.", "STR-13"),
    _kind("unknown-event", _EVE, "A payload of an unknown type comes before the real one.", "STR-13"),
    _kind("truncate-events", _EVE, "Half of a payload is missing.", "NET-09"),
    _kind("flood", _EVE, "A payload comes so many times more.", "STR-09", copies=whole(1, 10_000, 1000)),
    # sockets and network
    _kind(
        "refuse-handshakes",
        Acts.HANDSHAKE,
        "Streams cannot be opened: the handshake gets this HTTP status.",
        "STR-10 LIM-08 VEN-04 NET-07",
        status=whole(400, 599, 503),
    ),
    _kind("close-sockets", _TIME, "The open streams are closed.", "STR-05 STR-06 NET-02"),
    _kind(
        "half-open-sockets",
        _TIME,
        "The open streams stay open for their clients, and nothing passes on them any more, not even a ping.",
        "STR-03 STR-10",
    ),
    _kind(
        "outage",
        _TIME,
        "Every connection is dropped and new ones are refused while it lasts.",
        "STR-06 NET-04 NET-07 PRC-11",
    ),
    # the exchange itself
    _kind(
        "halt",
        _TIME,
        "The symbol has this status while it lasts: quotes and trades stop, orders and amendments are refused.",
        "VEN-01",
        status=choice(
            "TRADING_HALT",
            "PENDING_TRADING",
            "PRE_SETTLE",
            "SETTLING",
            "PRE_DELIVERING",
            "DELIVERING",
            "DELIVERED",
            "CLOSE",
            default="TRADING_HALT",
        ),
    ),
    _kind(
        "wipe-account",
        _TIME,
        "Orders, positions and history are gone without an event, ids begin anew, and the wallet holds this.",
        "VEN-06",
        wallet=amount(Decimal(5000)),
    ),
    _kind(
        "expire-listen-key",
        _TIME,
        "The listen key ends, with or without listenKeyExpired.",
        "STR-04 STR-05 STR-16",
        notice=flag(default=True),
    ),
    _kind(
        "foreign-order",
        _TIME,
        "An order of another program rests on the account, so far away from the touch.",
        "POS-10 PRC-09 PRC-10 POS-04",
        side=_SIDE,
        quantity=amount(),
        away_bps=number(1, 400, 100.0),
        new_client_id=text("sim-foreign"),
        reduce_only=flag(default=False),
    ),
    _kind(
        "foreign-fill",
        _TIME,
        "A market order of another program fills on the account.",
        "POS-10 POS-01 STR-05 STR-06 POS-11",
        side=_SIDE,
        quantity=amount(),
    ),
    _kind(
        "adl",
        _TIME,
        "The exchange closes so much of the position under a client id of its own.",
        "POS-07",
        fraction=number(0.0001, 1, 1.0),
        reason=choice("adl", "liquidation", "settlement", default="adl"),
    ),
    _kind(
        "symbol-rules",
        _TIME,
        "The symbol's filters are these while it lasts; a tick or step must be a multiple of the real one. "
        "`delivery_in_s` announces that it is going to be delisted.",
        "REJ-02 LIF-08 POS-06 REJ-09 VEN-01",
        tick_size=amount(None),
        step_size=amount(None),
        min_price=amount(None, zero=True),
        max_price=amount(None, zero=True),
        min_qty=amount(None, zero=True),
        max_qty=amount(None),
        market_max_qty=amount(None),
        min_notional=amount(None, zero=True),
        multiplier_up=amount(None),
        multiplier_down=amount(None),
        max_num_orders=whole(0, 100_000, None),
        max_amendments=whole(0, 10_000, None),
        delivery_in_s=number(0, DAY_S * 366, None),
    ),
    _kind(
        "symbol-missing",
        _TIME,
        "The symbol is not listed while it lasts: exchangeInfo leaves it out, requests for it get -1121, and its "
        "market is silent.",
        "VEN-01 VEN-06",
    ),
    _kind(
        "restrict",
        _TIME,
        "Orders of the symbol, or of all, are refused with this code while it lasts: a restriction by risk control, "
        "conduct, region or status; some leave reduce-only orders alone.",
        "LIM-05 VEN-01",
        code=choice(*map(str, sorted(REDUCE_ONLY | NO_ORDERS | NO_MODE_CHANGE, reverse=True))),
    ),
    _kind(
        "transfer",
        _TIME,
        "So much is paid into the wallet, or with a minus sign out of it.",
        "ACC-09 POS-09 REJ-05",
        amount=amount(signed=True),
    ),
    _kind(
        "leverage",
        _TIME,
        "Somebody else sets this leverage.",
        "ACC-08 REJ-06",
        leverage=whole(1, 125),
    ),
    _kind(
        "margin-type",
        _TIME,
        "Somebody else sets this margin type, unless there are open orders or a position.",
        "ACC-08",
        margin_type=choice("ISOLATED", "CROSSED", default="ISOLATED"),
    ),
    _kind("hedge-mode", _TIME, "The account is in hedge mode while it lasts.", "ACC-01"),
    _kind("multi-assets-mode", _TIME, "The account is in multi-assets mode while it lasts.", "ACC-02"),
    _kind(
        "clock-skew",
        _TIME,
        "The exchange's clock for /time and signatures is off by so much while it lasts.",
        "NET-03 ORD-08",
        offset_ms=whole(-86_400_000, 86_400_000),
    ),
    _kind(
        "move-market",
        _TIME,
        "The market stands higher by so much from now on.",
        "POS-11 LIF-07 REJ-09",
        bps=number(-5000, 5000),
    ),
    _kind(
        "mark-offset",
        _TIME,
        "The index stands so far off the market while it lasts, and the mark price follows it there.",
        "POS-14 REJ-09",
        bps=number(-5000, 5000),
    ),
    _kind(
        "thin-book",
        _TIME,
        "The book shows so many times smaller sizes while it lasts, from the next quote on; the trades stay as "
        "they are.",
        "POS-12 VEN-06",
        factor=whole(1, 1_000_000),
    ),
    _kind(
        "funding-rate",
        _TIME,
        "Funding is at this rate while it lasts, whatever the market names.",
        "POS-13 VEN-10",
        rate=amount(signed=True),
    ),
    _kind(
        "used-weight",
        _TIME,
        "Another program at the same address uses so much weight.",
        "LIM-03",
        weight=whole(1, 100_000),
    ),
    _kind(
        "used-orders",
        _TIME,
        "Another program on the same account uses so many order slots.",
        "LIM-02 LIM-04",
        orders=whole(1, 100_000),
    ),
    _kind(
        "expire-orders",
        _TIME,
        "The exchange ends the open orders as EXPIRED_IN_MATCH.",
        "VEN-08",
    ),
    _kind(
        "post-only-expires",
        _TIME,
        "A post-only order that would take is accepted, and expires at once on the stream, instead of getting -5022.",
        "LIF-12",
    ),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""Every kind by name."""


def _long_delay(value: Any) -> Spread:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Spread("constant", _within(value, 0, 3_600_000), float(value))
    return parse_spread(str(value))
