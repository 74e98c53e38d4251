"""Every kind of fault that a storm may bring, and how its values are drawn: those of the exchange, and our own.

The exchange's kinds are those of ``sim.fault_kinds``; each is drawn with the keys of its own schema. Ours are what no
exchange can do: the network in between, the process, its disk and clock, other people.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

from sim.fault_replies import REPLIES

Values = dict[str, Any]
Draw = Callable[[random.Random], Values]

OURS = "qpmm-"
_LONG = ("ban-418", "limit-429", "orders-429", "geo-451")


def _seconds(rng: random.Random, *choices: float) -> float:
    return round(rng.choice(choices) * (0.5 + rng.random()), 3)


def _target(rng: random.Random) -> Values:
    """Return whom a fault of requests strikes: anybody, or requests of one method or endpoint."""
    return dict(
        rng.choice(
            (
                {},
                {"method": "GET"},
                {"method": "POST"},
                {"method": "DELETE"},
                {"method": "PUT"},
                {"method": "POST", "path": "/fapi/v1/order"},
                {"method": "PUT", "path": "/fapi/v1/order"},
                {"method": "PUT", "path": "/fapi/v1/batchOrders"},
                {"method": "DELETE", "path": "/fapi/v1/batchOrders"},
                {"method": "GET", "path": "/fapi/v1/openOrders"},
                {"method": "GET", "path": "/fapi/v1/order"},
                {"method": "GET", "path": "/fapi/v1/userTrades"},
                {"method": "GET", "path": "/fapi/v3/positionRisk"},
                {"path": "/fapi/v1/listenKey"},
                {"path": "/fapi/v1/countdownCancelAll"},
            )
        )
    )


def _requests(rng: random.Random) -> Values:
    return {
        **_target(rng),
        "for_s": _seconds(rng, 0.3, 1, 3, 7, 15),
        "probability": rng.choice((0.1, 0.3, 0.6, 1.0)),
    }


def _delayed(rng: random.Random) -> Values:
    return {**_requests(rng), "delay_ms": rng.choice(("uniform:10-900", "lognormal:100-3000", "4500", "800"))}


_CODES = (
    *(-1000, -1001, -1006, -1007, -1008, -2010, -2011, -2013, -4116, -5022),
    *(-2014, -2015, -2022, -4118, -4120),
)
_ONLY: Mapping[int, Values] = {
    -4116: {"method": "POST", "path": "/fapi/v1/order"},
    -2022: {"method": "POST", "path": "/fapi/v1/order"},
    -4118: {"method": "POST", "path": "/fapi/v1/order"},
    -4120: {"method": "POST", "path": "/fapi/v1/order/test", "for_s": 30.0},
}
"""What strikes only whom it says something of: the id that is there already, the closing order, its kind."""


def _error(rng: random.Random) -> Values:
    values = _requests(rng)
    if rng.random() < 0.75:
        values["reply"] = reply = rng.choice(sorted(REPLIES))
        if reply in _LONG:
            values |= {"for_s": _seconds(rng, 0.3, 1), "probability": 0.3, "retry_after_s": rng.randint(1, 8)}
    else:
        values["code"] = code = rng.choice(_CODES)
        values |= _ONLY.get(code, {})
        if code in (-4116, -4120):
            return values | {"executed": "sometimes" if code == -4116 else "false", "probability": 1.0}
    values["executed"] = rng.choice(("true", "false", "sometimes")) if "reply" in values else "false"
    if values.get("reply") in ("unavailable-503", "internal-503", "overload-503", "html-403", *_LONG):
        values["executed"] = "false"  # these promise that nothing was done
    return values


def _events(rng: random.Random) -> Values:
    values: Values = {
        "for_s": _seconds(rng, 1, 4, 10, 20),
        "probability": rng.choice((0.1, 0.3, 0.6, 1.0)),
    }
    return values | rng.choice(
        (
            {"stream": "userData"},
            {"stream": "userData"},
            {"event": "ORDER_TRADE_UPDATE"},
            {"event": "ACCOUNT_UPDATE"},
            {"event": "TRADE_LITE"},
            {"stream": "bookTicker"},
            {"stream": "markPrice"},
            {"stream": "aggTrade"},
        )
    )


def _book_events(rng: random.Random) -> Values:
    return {"for_s": _seconds(rng, 1, 4, 10), "probability": rng.choice((0.05, 0.3, 1.0))}


def _lasting(rng: random.Random) -> Values:
    return {"for_s": _seconds(rng, 1, 4, 10, 25)}


def _long(rng: random.Random) -> Values:
    return {"for_s": _seconds(rng, 1, 10, 40, 80)}


def _rules(rng: random.Random) -> Values:
    """Return other filters for a while; a tick or a step is there for long, so that it is met."""
    return rng.choice(
        (
            _lasting(rng) | {"min_notional": rng.choice((50, 90)), "max_num_orders": rng.choice((4, 200))},
            _long(rng) | {"tick_size": rng.choice(("0.5", "1"))},
            _long(rng) | {"step_size": "0.002"},
        )
    )


def _fixed(**values: Any) -> Draw:
    return lambda _rng: dict(values)


def _and(draw: Draw, **choices: tuple[Any, ...]) -> Draw:
    """Return a draw that adds one of some choices to each of these keys."""
    return lambda rng: draw(rng) | {name: rng.choice(options) for name, options in choices.items()}


def _sided(rng: random.Random) -> Values:
    return {"side": rng.choice(("BUY", "SELL"))}


_YOUNG = (0.5, 2, 5, 3600)
_SIZES = ("0.001", "0.002", "0.004", "0.01")
_RESTRICTIONS = ("-4400", "-4401", "-1122", "-4105", "-2023", "-4088")

EXCHANGE: Mapping[str, Draw] = {
    "error": _error,
    "delay-request": _delayed,
    "drop-request": _requests,
    "reset-request": _requests,
    "refuse-connection": _requests,
    "delay-reply": _delayed,
    "drop-reply": _requests,
    "reset-reply": _requests,
    "truncate-reply": _requests,
    "empty-reply": _requests,
    "empty-list": _and(_requests, method=("GET",)),
    "drop-fields": _and(
        _requests,
        fields=(["orderId"], ["status"], ["executedQty"], ["positionAmt"], ["clientOrderId"], ["time"]),
    ),
    "hide-orders": _and(_lasting, probability=(0.3, 1.0), client_id=(OURS,), younger_than_s=_YOUNG),
    "hide-trades": _and(_lasting, probability=(0.3, 1.0), younger_than_s=_YOUNG),
    "stale-reads": _and(_lasting, probability=(0.3, 1.0), method=("GET",), lag_s=(0.3, 1.5, 4, 6)),
    "wrong-server-time": _and(_lasting, offset_ms=(-60_000, -3000, 1500, 20_000)),
    "short-batch": _and(_lasting, missing=(1, 2, 10)),
    "mixed-batch": _and(_lasting, code=(-1006, -1007, -2011)),
    "ignore-setter": _lasting,
    "cancel-all-skips": _and(_lasting, orders=(1, 3)),
    "fill-first": _and(
        _lasting, method=("PUT", "DELETE"), client_id=(OURS,), fraction=(0.3, 0.5, 1.0), every_s=(2, 9)
    ),
    "pending-amendment": _and(_lasting, within_ms=(500, 3000, 20_000)),
    "silence": _events,
    "drop-events": _events,
    "delay-events": _and(_events, delay_ms=("uniform:10-900", "uniform:100-4000", "8000")),
    "duplicate-events": _and(_events, after_ms=(0, 100, 2500, 8000)),
    "reorder-events": _events,
    "depth-gap": _lasting,
    "sequence-reset": _and(_book_events, by=(10**6, 10**9)),
    "partial-account-update": _and(_lasting, without=("positions", "balances"), probability=(0.5, 1.0)),
    "corrupt-prices": _and(_book_events, to=("crossed", "zero", "null")),
    "unknown-fields": _and(_lasting, probability=(0.3, 1.0)),
    "unknown-status": _and(_lasting, probability=(0.1, 0.5)),
    "unknown-event": _and(_events, probability=(0.1, 0.5)),
    "truncate-events": _events,
    "flood": _and(_lasting, copies=(20, 200), probability=(0.05,)),
    "refuse-handshakes": _and(_lasting, status=(403, 404, 429, 500, 503)),
    "close-sockets": lambda rng: {"route": route} if (route := rng.choice(("", "public", "private"))) else {},
    "half-open-sockets": lambda rng: (
        {"route": route} if (route := rng.choice(("", "public", "private"))) else {}
    ),
    "outage": _lasting,
    "halt": _and(_long, status=("TRADING_HALT", "PENDING_TRADING")),
    "wipe-account": _fixed(wallet=20_000),
    "expire-listen-key": _and(_fixed(), notice=("true", "false")),
    "foreign-order": _and(_sided, quantity=("0.001", "0.002"), away_bps=(50, 100, 300)),
    "foreign-fill": _and(_sided, quantity=(*_SIZES, "0.04")),
    "adl": _and(_fixed(), fraction=(0.3, 1.0), reason=("adl", "liquidation")),
    "symbol-rules": _rules,
    "symbol-missing": _lasting,
    "restrict": _and(_long, code=_RESTRICTIONS),
    "transfer": _and(_fixed(), amount=("100", "-100", "-2500")),
    "leverage": _and(_fixed(), leverage=(1, 20, 50)),
    "margin-type": _and(_fixed(), margin_type=("ISOLATED", "CROSSED")),
    "hedge-mode": _long,
    "multi-assets-mode": _lasting,
    "clock-skew": _and(_lasting, offset_ms=(-30_000, -2500, 1200, 20_000)),
    "move-market": _and(_fixed(), bps=(-400, -120, -40, -10, 10, 40, 120, 400)),
    "mark-offset": _and(_lasting, bps=(-200, -50, 50, 200)),
    "thin-book": _and(_lasting, factor=(10, 1000)),
    "funding-rate": _and(_lasting, rate=("0.003", "-0.003")),
    "used-weight": _and(_fixed(), weight=(300, 1500)),
    "used-orders": _and(_fixed(), orders=(50, 250)),
    "expire-orders": _fixed(),
    "post-only-expires": _lasting,
}
"""The exchange's kinds: how the keys of a scenario file are drawn; ``for_s`` is cut off at the end of the storm."""

DAEMON: Mapping[str, Draw] = {
    "cut": _lasting,
    "half-open": _lasting,
    "vanish": _and(_fixed(), for_s=(0.0, 0.01, 0.5, 3.0, 15.0, 30.0)),
    "stop": _and(_fixed(), for_s=(0.5, 3.0, 15.0)),
    "stall": _and(_fixed(), seconds=(0.5, 2.0, 6.0, 25.0, 60.0)),
    "clock-step": _and(_lasting, by_ms=(-3_600_000, -20_000, -3000, 1200, 20_000)),
    "disk-full": _and(_lasting, probability=(0.3, 1.0)),
    "disk-broken": _and(_lasting, probability=(0.3, 1.0)),
    "latency": _and(_lasting, ms=(20, 100, 300, 700)),
    "fall-behind": _and(_long, share=(0.3, 0.6)),
    "straggle": _and(_requests, late_ms=(200, 1500, 4000)),
    "twice": _requests,
    "echo": _requests,
    "refuse-close": _and(_lasting, code=(-2022, -4118), probability=(0.5, 1.0)),
    "second-daemon": _fixed(),
    "wrong-host": _and(
        _fixed(), url=("https://fapi.binance.com", "https://demo-fapi.binance.com", "http://192.0.2.7")
    ),
    "person-trades": _and(_sided, quantity=_SIZES),
    "person-order": _and(_sided, quantity=("0.001",)),
    "jump": _and(_fixed(), bps=(-300, -80, -20, 20, 80, 300)),
    "flash_crash": _and(_fixed(), bps=(-350, -150, 150), fall_s=(0, 3), stay_s=(0, 10), recover_s=(5, 20)),
    "drought": _and(_lasting, factor=(5, 50)),
    "quiet-market": _lasting,
}
"""Kinds of our own: the network, the process, its host, other people, and the market's own shocks."""

AIMED: Mapping[str, Draw] = {
    "killed-close": _and(
        _sided, quantity=("0.04", "0.06"), after_s=(0.0, 0.0, 0.004, 0.02, 0.3), for_s=(0.0, 2.0, 20.0)
    ),
}
"""What chance would hardly ever bring about: a limit is broken, and the daemon killed in the middle of the close."""

MARKET = frozenset({"jump", "flash_crash", "drought", "quiet-market"})
"""Kinds that are part of the market from the beginning of a run."""

ALL: Mapping[str, Draw] = {**EXCHANGE, **DAEMON}

RARE = frozenset(
    {
        "wipe-account",
        "symbol-missing",
        "hedge-mode",
        "multi-assets-mode",
        "halt",
        "stall",
        "vanish",
        "stop",
        "outage",
        "wrong-host",
    }
)
"""Kinds after which most others have nothing to strike for a while: they come a fifth as often."""
