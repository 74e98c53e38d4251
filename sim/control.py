"""The simulated exchange's own doors, beside Binance's: its record, forced fills, and silence on streams.

They ask for no key and cost no weight; they are for the tests and people on this machine.
"""

import re

from sim import payloads
from sim.auth import Security
from sim.errors import refusal
from sim.filters import check_quantity
from sim.instrument import Instrument
from sim.orders import Order, OrderType, Side, Sighting
from sim.params import Params
from sim.payloads import Json
from sim.rest import Endpoint, Routes
from sim.rules import plain
from sim.standing import Restriction
from sim.venue import Venue

_CODE = re.compile(r"-[0-9]{4}\Z")


class ControlEndpoints:
    """Answers /sim/record, /sim/fill and /sim/silence."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        none = Security.NONE
        return {
            ("GET", "/sim/record"): Endpoint(self.record, none, 0),
            ("POST", "/sim/fill"): Endpoint(self.fill, none, 0),
            ("POST", "/sim/adl"): Endpoint(self.deleverage, none, 0),
            ("POST", "/sim/restrict"): Endpoint(self.restrict, none, 0),
            ("POST", "/sim/silence"): Endpoint(self.silence, none, 0),
        }

    def record(self, params: Params, now_ms: int) -> Json:
        """Return what the exchange knows of one symbol (of all without ``symbol``) and of the account.

        ``since`` leaves out orders, fills and refusals that last changed before that epoch time in ms.
        """
        since_ms = params.integer_or("since", 0)
        venue = self._venue
        account, ledger, instruments = venue.account, venue.ledger, venue.chosen(params)
        symbols = {instrument.symbol for instrument in instruments}
        return {
            "time": now_ms,
            "orders": [
                _recorded_order(order, venue.instruments[order.symbol])
                for order in ledger.orders()
                if order.symbol in symbols and order.update_ms >= since_ms
            ],
            "fills": [
                payloads.user_trade(fill, venue.instruments[fill.symbol])
                | {"clientOrderId": fill.client_order_id, "fee": plain(fill.fee)}
                for fill in ledger.fills
                if fill.symbol in symbols and fill.time_ms >= since_ms
            ],
            "rejected": [
                {
                    "time": row.time_ms,
                    "endpoint": row.endpoint,
                    "symbol": row.symbol,
                    "clientOrderId": row.client_order_id,
                    "code": row.code,
                    "msg": row.message,
                }
                for row in ledger.refusals
                if row.time_ms >= since_ms and (row.symbol in symbols or not row.symbol)
            ],
            "positions": [payloads.position_risk(account, each, venue.desk.marks) for each in instruments],
            "wallet": plain(account.wallet),
            "equity": plain(account.equity(venue.desk.marks)),
            "feesTotal": plain(account.fees_paid),
            "fundingTotal": plain(account.funding_received),
            "requests": dict(ledger.requests),
        }

    def fill(self, params: Params, now_ms: int) -> Json:
        """Let a taker fill from elsewhere happen to the account, at the touch; -4131 while there is no quote."""
        side = params.choice("side", Side, -1117)
        quantity = params.decimal("quantity")
        instrument = self._venue.instrument(params)
        lots = check_quantity(instrument.rules, quantity, OrderType.LIMIT)
        if not instrument.touch(is_buy=side is Side.BUY):
            raise refusal(-4131)
        order = self._venue.desk.foreign_fill(instrument, side, lots, now_ms)
        return payloads.order_query(order, instrument)

    def deleverage(self, params: Params, now_ms: int) -> Json:
        """Let the position be reduced by auto-deleveraging, in whole or by ``quantity``; -2022 if there is none.

        It comes as a fill at the touch under the client id ``adl_autoclose``.
        """
        instrument = self._venue.instrument(params)
        held = self._venue.account.positions[instrument.symbol].lots
        lots = abs(held)
        if "quantity" in params:
            wanted = check_quantity(instrument.rules, params.decimal("quantity"), OrderType.LIMIT)
            lots = min(lots, wanted)
        if not lots:
            raise refusal(-2022)
        side = Side.SELL if held > 0 else Side.BUY
        if not instrument.touch(is_buy=side is Side.BUY):
            raise refusal(-4131)
        order = self._venue.desk.foreign_fill(instrument, side, lots, now_ms, "adl_autoclose")
        return payloads.order_query(order, instrument)

    def restrict(self, params: Params, now_ms: int) -> Json:
        """Let orders be refused with ``code`` for ``seconds`` (0 lifts it), of one ``symbol`` or without it of all."""
        code = int(params.text("code")) if _CODE.match(params.text("code")) else 0
        symbol = self._venue.instrument(params).symbol if "symbol" in params else ""
        until_ms = now_ms + int(params.decimal("seconds") * 1000)
        try:
            self._venue.standing.restrict(Restriction(code, symbol, until_ms))
        except ValueError:
            raise refusal(-1130, "code") from None
        return {"code": code, "symbol": symbol, "until": until_ms}

    def silence(self, params: Params, now_ms: int) -> Json:
        """Withhold the payloads of a stream for some seconds: a kind (bookTicker), a user event, or userData."""
        stream, seconds = params.text("stream"), params.decimal("seconds")
        until_ms = now_ms + int(seconds * 1000)
        kind = stream.split("@")[1] if "@" in stream else stream
        self._venue.hub.silence(kind, until_ms, now_ms)
        return {"stream": stream, "until": until_ms}


def _recorded_order(order: Order, instrument: Instrument) -> Json:
    ahead_lots = instrument.matcher.ahead_lots(order.order_id) if order.is_open else None
    arrival = _seen(order.arrival, instrument)
    return payloads.order_query(order, instrument) | {
        "bid": arrival["bid"],
        "ask": arrival["ask"],
        "mid": arrival["mid"],
        "arrival": arrival,
        "amendments": [_seen(seen, instrument) for seen in order.amendments],
        "wouldCross": order.would_have_crossed,
        "queueAhead": None if ahead_lots is None else instrument.rules.quantity_text(ahead_lots),
    }


def _seen(seen: Sighting, instrument: Instrument) -> Json:
    rules = instrument.rules
    return {
        "time": seen.time_ms,
        "price": rules.price_text(seen.price_ticks),
        "origQty": rules.quantity_text(seen.lots),
        "bid": rules.price_text(seen.bid_ticks),
        "ask": rules.price_text(seen.ask_ticks),
        "mid": plain(rules.price(seen.bid_ticks + seen.ask_ticks) / 2),
        "wouldCross": seen.would_cross,
    }
