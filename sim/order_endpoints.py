"""Orders over REST: place, amend, cancel, in batches too, the dead-man switch, and what is known of them.

Source: facts section 3.3, 4.3.
"""

from collections.abc import Callable, Iterable

from sim import payloads
from sim.auth import DEFAULT_WINDOW_MS, Security
from sim.errors import ApiError, refusal
from sim.instrument import Instrument
from sim.limits import ONE_BATCH, ONE_ORDER
from sim.order_entry import find_order, read_amendment, read_new_order
from sim.orders import Order, OrderSpec, OrderStatus, OrderType, Sighting
from sim.params import Params, params_of_object
from sim.payloads import Json
from sim.queries import Span, page
from sim.record import is_forgotten
from sim.rest import Endpoint, Routes, note_refusal
from sim.venue import Venue

_MAX_BATCH = 5
_MAX_CANCELS = 10
# ccxt spells them in lower case, and its users' batches are cancelled.
_ID_LISTS = {
    "orderIdList": "orderId",
    "orderidlist": "orderId",
    "origClientOrderIdList": "origClientOrderId",
    "origclientorderidlist": "origClientOrderId",
}


class OrderEndpoints:
    """Answers everything under order, batchOrders, openOrders, allOrders and countdownCancelAll."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        signed, trade = Security.SIGNED, Security.TRADE
        order, batch = "/fapi/v1/order", "/fapi/v1/batchOrders"
        return {
            ("POST", order): Endpoint(self.place, trade, 0, ONE_ORDER, is_order=True),
            ("POST", f"{order}/test"): Endpoint(self.place_nothing, trade, 0, ONE_ORDER, is_order=True),
            ("PUT", order): Endpoint(self.amend, trade, 0, ONE_ORDER, is_order=True),
            ("DELETE", order): Endpoint(self.cancel, trade, is_order=True),
            ("GET", order): Endpoint(self.query, signed),
            ("GET", "/fapi/v1/orderAmendment"): Endpoint(self.amendments, signed),
            ("GET", "/fapi/v1/openOrder"): Endpoint(self.query_open, signed),
            ("POST", batch): Endpoint(self.place_batch, trade, 5, ONE_BATCH, is_order=True),
            ("PUT", batch): Endpoint(self.amend_batch, trade, 5, ONE_BATCH, is_order=True),
            ("DELETE", batch): Endpoint(self.cancel_batch, trade, is_order=True),
            ("GET", "/fapi/v1/openOrders"): Endpoint(self.open_orders, signed, _open_orders_weight),
            ("GET", "/fapi/v1/allOrders"): Endpoint(self.all_orders, signed, 5),
            ("DELETE", "/fapi/v1/allOpenOrders"): Endpoint(self.cancel_all, trade, is_order=True),
            ("GET", "/fapi/v1/openAlgoOrders"): Endpoint(self.open_conditional, signed, _open_orders_weight),
            ("DELETE", "/fapi/v1/algoOpenOrders"): Endpoint(self.cancel_all_conditional, trade),
            ("POST", "/fapi/v1/countdownCancelAll"): Endpoint(self.countdown, trade, 10),
        }

    def place(self, params: Params, now_ms: int) -> str:
        """Place an order; ACK replies show it as accepted, RESULT replies as it stands after matching."""
        instrument, spec = read_new_order(self._venue, params, now_ms)
        shown = _reply_kind(params)
        self._check_engine_window(params, now_ms)
        placed = self._venue.desk.place(instrument, spec, now_ms)
        return payloads.order_reply(placed.order if shown == "RESULT" else placed.accepted, instrument.rules)

    def place_nothing(self, params: Params, now_ms: int) -> str:
        """Check an order as far as parameters and filters go, and show it as accepted under the order id 0."""
        instrument, spec = read_new_order(self._venue, params, now_ms)
        _reply_kind(params)
        return payloads.order_reply(_imagined(instrument.symbol, spec), instrument.rules)

    def amend(self, params: Params, now_ms: int) -> str:
        """Amend an open order; the reply shows it as it stands, which may be ended (facts 4.3)."""
        instrument = self._venue.instrument(params)
        order = find_order(self._venue, instrument, params)
        if order is None:
            raise refusal(-2013)
        if order.type is not OrderType.LIMIT:
            raise refusal(-5025)
        if not order.is_open:
            raise refusal(self._venue.options.amend_of_ended_code)
        change = read_amendment(self._venue, instrument, order, params, now_ms)
        self._check_engine_window(params, now_ms)
        self._venue.desk.amend(instrument, order, change, now_ms)
        if order.status is OrderStatus.EXPIRED and self._venue.options.amend_refuses_crossing:
            raise refusal(-5022)
        more = f',"pair":"{instrument.symbol}"'
        if change.modify_id:
            more += f',"modifyId":{int(change.modify_id)}'
        return payloads.order_reply(order, instrument.rules, more)

    def amendments(self, params: Params, now_ms: int) -> list[Json]:
        """Return the amendments of an order, oldest first; -2013 if it is unknown."""
        instrument = self._venue.instrument(params)
        order = find_order(self._venue, instrument, params)
        if order is None or is_forgotten(order, now_ms):
            raise refusal(-2013)
        span = Span.of(params, "", now_ms, default=50, most=100, is_bounded=False)
        numbers = range(order.first_kept_amendment, order.modify_count + 1)
        found = page(span, numbers, int, lambda number: order.amendment(number).time_ms)
        return [payloads.order_amendment(order, instrument.rules, number) for number in found]

    def cancel(self, params: Params, now_ms: int) -> str:
        """Cancel an open order; -2011 if it is unknown or has ended."""
        instrument = self._venue.instrument(params)
        return self._cancel(instrument, find_order(self._venue, instrument, params), now_ms)

    def query(self, params: Params, now_ms: int) -> Json:
        """Return an order; -2013 if it is unknown, or forgotten as Binance forgets."""
        instrument = self._venue.instrument(params)
        order = find_order(self._venue, instrument, params)
        if order is None or is_forgotten(order, now_ms):
            raise refusal(-2013)
        return payloads.order_query(order, instrument)

    def query_open(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002  all handlers are called alike
        """Return an open order; -2013 if there is none."""
        instrument = self._venue.instrument(params)
        order = find_order(self._venue, instrument, params)
        if order is None or not order.is_open:
            raise refusal(-2013)
        return payloads.order_query(order, instrument)

    def place_batch(self, params: Params, now_ms: int) -> str:
        """Place up to five orders; each answers for itself."""
        return self._each("POST", self.place, self._batch(params), now_ms)

    def amend_batch(self, params: Params, now_ms: int) -> str:
        """Amend up to five orders; each answers for itself."""
        return self._each("PUT", self.amend, self._batch(params), now_ms)

    def cancel_batch(self, params: Params, now_ms: int) -> str:
        """Cancel up to ten orders of a symbol; each answers for itself."""
        symbol = self._venue.instrument(params).symbol
        name = next((name for name in _ID_LISTS if name in params), "origClientOrderIdList")
        key = _ID_LISTS[name]
        ids = params.json_list(name)
        if len(ids) > _MAX_CANCELS:
            raise refusal(-4032)
        each = [Params({"symbol": symbol, key: str(item)}) for item in ids]
        return self._each("DELETE", self.cancel, each, now_ms)

    def cancel_all(self, params: Params, now_ms: int) -> Json:
        """Cancel all open orders of a symbol."""
        self._venue.desk.cancel_all(self._venue.instrument(params), now_ms)
        return _all_cancelled()

    def open_conditional(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return the open conditional orders of a symbol, or of all: none, for they cannot be placed here."""
        list(self._venue.chosen(params))
        return []

    def cancel_all_conditional(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Cancel all conditional orders of a symbol, of which there are none."""
        self._venue.instrument(params)
        return _all_cancelled()

    def open_orders(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return the open orders of a symbol, or of all."""
        return [
            payloads.order_query(order, instrument)
            for instrument in self._venue.chosen(params)
            for order in instrument.open.values()
        ]

    def all_orders(self, params: Params, now_ms: int) -> list[Json]:
        """Return orders of a symbol, or of all, oldest first."""
        symbols = {instrument.symbol for instrument in self._venue.chosen(params)}
        span = Span.of(params, "orderId", now_ms, default=500, most=1000, id_or_times=False)
        orders = (
            order
            for order in self._venue.ledger.orders()
            if order.symbol in symbols and not is_forgotten(order, now_ms)
        )
        found = page(span, orders, lambda order: order.order_id, lambda order: order.time_ms)
        return [payloads.order_query(order, self._venue.instruments[order.symbol]) for order in found]

    def countdown(self, params: Params, now_ms: int) -> Json:
        """Cancel all orders of a symbol after ``countdownTime`` ms unless asked again before; 0 disarms."""
        instrument = self._venue.instrument(params)
        countdown_ms = params.integer("countdownTime")
        instrument.countdown_due_ms = now_ms + countdown_ms if countdown_ms else None
        return {"symbol": instrument.symbol, "countdownTime": str(countdown_ms)}

    def _check_engine_window(self, params: Params, now_ms: int) -> None:
        """Return if the request reaches the matching engine within recvWindow; raises -5028."""
        arrival_ms = now_ms + self._venue.skew_ms + self._venue.options.engine_ms
        window_ms = params.integer_or("recvWindow", DEFAULT_WINDOW_MS)
        if arrival_ms - params.integer_or("timestamp", arrival_ms) > window_ms:
            raise refusal(-5028)

    def _cancel(self, instrument: Instrument, order: Order | None, now_ms: int) -> str:
        if order is None or not order.is_open:
            raise refusal(-2011)
        self._venue.desk.cancel(instrument, order, now_ms)
        return payloads.order_reply(order, instrument.rules)

    def _batch(self, params: Params) -> list[Params]:
        """Return the orders of a batch, each within the receive window of them all."""
        items = params.json_list("batchOrders")
        if not 0 < len(items) <= _MAX_BATCH:
            raise refusal(-4082)
        window = {name: params.text(name) for name in ("timestamp", "recvWindow") if name in params}
        return [Params({**params_of_object(item).as_texts(), **window}) for item in items]

    def _each(
        self, method: str, handle: Callable[[Params, int], str], batch: Iterable[Params], now_ms: int
    ) -> str:
        replies: list[str] = []
        for params in batch:
            try:
                replies.append(handle(params, now_ms))
            except ApiError as error:
                note_refusal(self._venue.ledger, f"{method} /fapi/v1/batchOrders", params, error, now_ms)
                replies.append(payloads.encode({"code": error.code, "msg": error.message}))
        return f"[{','.join(replies)}]"


def _reply_kind(params: Params) -> str:
    kind = params.text_or("newOrderRespType", "ACK")
    if kind not in ("ACK", "RESULT"):
        raise refusal(-1136)
    return kind


def _imagined(symbol: str, spec: OrderSpec) -> Order:
    """Return the order that ``spec`` would become, at no time and in front of no market."""
    price_ticks = spec.price_ticks or 0
    nothing = Sighting(
        time_ms=0, price_ticks=price_ticks, lots=spec.lots, bid_ticks=0, ask_ticks=0, would_cross=False
    )
    return Order(
        order_id=0,
        client_order_id=spec.client_order_id,
        symbol=symbol,
        side=spec.side,
        type=spec.type,
        time_in_force=spec.time_in_force,
        price_ticks=price_ticks,
        lots=spec.lots,
        reduce_only=spec.reduce_only,
        stp=spec.stp,
        time_ms=0,
        update_ms=0,
        arrival=nothing,
        price_match=spec.price_match,
        good_till_ms=spec.good_till_ms,
    )


def _all_cancelled() -> Json:
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def _open_orders_weight(params: Params) -> int:
    return 1 if "symbol" in params else 40
