"""Doors for whoever plays with the exchange: move its market, halt it, inject a fault, look at it as text or page.

Changes are POST only. They ask for no key and cost no weight; the server lets nobody in but programs on this machine
and the exchange's own page.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from sim.auth import Security
from sim.errors import ApiError, refusal
from sim.fault_effects import VenueStage, shift_market
from sim.fault_file import parse_fault
from sim.fault_rules import FaultError, Rule
from sim.faults import FaultPlan
from sim.instrument import Instrument
from sim.messages import Response
from sim.page import HEADERS, page_html
from sim.params import Params
from sim.payloads import Json
from sim.rest import Endpoint, Routes
from sim.rules import plain
from sim.venue import Venue
from sim.view import view_text

_TEXT = {
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
_FAULT_REFUSED = -1130
_MOST_BPS = 5000


class Doors:
    """Answers /sim/, /sim/view, /sim/faults, /sim/market, /sim/halt, /sim/fault and the doors of keys."""

    def __init__(self, stage: VenueStage, plan: FaultPlan) -> None:
        self._stage = stage
        self._plan = plan

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        doors: dict[tuple[str, str], Callable[[Params, int], object]] = {
            ("GET", "/sim/"): self.page,
            ("GET", "/sim/view"): self.view,
            ("GET", "/sim/faults"): self.faults,
            ("POST", "/sim/market"): self.market,
            ("POST", "/sim/halt"): self.halt,
            ("POST", "/sim/fault"): self.fault,
            ("POST", "/sim/expire-listen-key"): self.expire_listen_key,
            ("POST", "/sim/revoke-key"): self.revoke_key,
        }
        return {door: Endpoint(handle, Security.NONE, 0) for door, handle in doors.items()}

    @property
    def _venue(self) -> Venue:
        return self._stage.venue

    def page(self, params: Params, now_ms: int) -> Response:  # noqa: ARG002  all handlers are called alike
        """Return the control page."""
        instrument = next(iter(self._venue.instruments.values()))
        html = page_html(instrument.symbol, plain(_usual_quantity(instrument)))
        return Response(200, HEADERS, html.encode())

    def view(self, params: Params, now_ms: int) -> Response:  # noqa: ARG002
        """Return book, orders, position and last trades as plain text."""
        return Response(200, _TEXT, view_text(self._venue, self._plan, now_ms).encode())

    def faults(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return how often each kind of fault has struck, and the newest strikes."""
        newest = [
            {"time": each.time_ms, "fault": each.kind, "what": each.what} for each in self._plan.strikes
        ]
        return {"time": now_ms, "counts": dict(sorted(self._plan.counts.items())), "strikes": newest}

    def market(self, params: Params, now_ms: int) -> Json:
        """Let the market of a symbol, or of all, stand ``move_bps`` higher from now on (with a minus sign lower)."""
        bps = _signed(params, "move_bps")
        moved = self._venue.chosen(params)
        for instrument in moved:
            shift_market(self._stage, instrument, float(bps), now_ms)
        return {"move_bps": plain(bps), "markets": [_quote(instrument) for instrument in moved]}

    def halt(self, params: Params, now_ms: int) -> Json:
        """Let trading of a symbol, or of all, stop for ``seconds``; ``status`` is what it is called then."""
        values = {"fault": "halt", "for_s": params.text("seconds")}
        values |= {name: params.text(name) for name in ("symbol", "status") if name in params}
        for instrument in self._venue.chosen(params):
            self._inject(values | {"symbol": instrument.symbol}, now_ms)
        return {"status": params.text_or("status", "TRADING_HALT"), "until": now_ms + _ms(params, "seconds")}

    def fault(self, params: Params, now_ms: int) -> Json:
        """Inject one fault: ``fault`` names its kind, the rest are the keys of scenario files; times count from now."""
        rule = self._inject(params.as_texts(), now_ms)
        until_ms = None if rule.until_ms is None else now_ms + rule.until_ms
        return {"fault": rule.kind.name, "from": now_ms + rule.from_ms, "until": until_ms}

    def expire_listen_key(self, params: Params, now_ms: int) -> Json:
        """Let the listen key end; with ``notice=false`` its sockets are not told."""
        notice = params.flag_or("notice", default=True)
        self._inject({"fault": "expire-listen-key", "notice": str(notice).lower()}, now_ms)
        return {"notice": notice}

    def revoke_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Let an API key be known no more: everything that it signs gets -2015, and sessions logged on by it end."""
        self._stage.gatekeeper.revoke(params.text("apiKey"))
        return {"apiKey": params.text("apiKey")}

    def _inject(self, values: dict[str, str], now_ms: int) -> Rule:
        try:
            rule = parse_fault(values)
            if rule.target.symbol and rule.target.symbol not in self._venue.instruments:
                raise refusal(-1121)
            self._plan.add(replace(rule, where="/sim/fault"), now_ms)
        except FaultError as error:
            raise ApiError(_FAULT_REFUSED, str(error)) from None
        self._plan.run_due(now_ms)
        return rule


def _usual_quantity(instrument: Instrument) -> Decimal:
    """Return a small quantity of the symbol that may be traded: twice what the minimum notional asks for."""
    rules, mark = instrument.rules, instrument.mark.mark
    lots = 2 * rules.min_notional // (mark * rules.step_size) if mark else Decimal(0)
    return rules.quantity(max(int(lots), rules.lots(rules.min_qty)))


def _signed(params: Params, name: str) -> Decimal:
    """Return a decimal parameter that may have a sign; -1130 if it is beyond ±5000."""
    text = params.text(name)
    bps = Params({name: text.removeprefix("-").removeprefix("+")}).decimal(name)
    if bps > _MOST_BPS:
        raise refusal(-1130, name)
    return -bps if text.startswith("-") else bps


def _ms(params: Params, name: str) -> int:
    return int(params.decimal(name) * 1000)


def _quote(instrument: Instrument) -> Json:
    quote, rules = instrument.quote, instrument.rules
    if quote is None:
        return {"symbol": instrument.symbol}
    return {
        "symbol": instrument.symbol,
        "bid": rules.price_text(quote.bid_ticks),
        "ask": rules.price_text(quote.ask_ticks),
    }
