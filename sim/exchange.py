"""The simulated exchange: requests and sessions in, replies and payloads out, time passed in from outside.

Nothing here reads a clock, opens a socket or waits. ``advance`` brings the exchange to a time: the market's
events happen in order, and so does what is due of its own (mark price every second, funding, dead-man
countdowns, the end of the listen key).
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

from sim import payloads
from sim.account_endpoints import AccountEndpoints
from sim.auth import ApiKey, Gatekeeper
from sim.control import ControlEndpoints
from sim.deployment import deployed
from sim.doors import Doors
from sim.errors import RefusedHandshake, UnknownRoute
from sim.fault_effects import VenueStage
from sim.fault_rules import Rule, Script
from sim.faults import UNHARMED, FaultPlan, ReplyFate, RequestFate, Tap
from sim.limits import Limits
from sim.market import BookTicker, DepthChange, FundingTerms, Market, MarketEvent
from sim.market_endpoints import MarketEndpoints
from sim.market_streams import MarketStreams
from sim.messages import Request, Response
from sim.order_endpoints import OrderEndpoints
from sim.rest import Router
from sim.streams import Connection, Deliver, HangUp, parse_target
from sim.upkeep import Upkeep
from sim.venue import Options, Venue
from sim.witness import Witness
from sim.ws_api import ApiDoor, is_api

__all__ = [
    "ApiKey",
    "Exchange",
    "Options",
    "RefusedHandshake",
    "Request",
    "Response",
    "Tap",
    "UnknownRoute",
]

_SECOND_MS = 1000


def _nobody() -> None:
    """Nobody waits for what is due."""


class Exchange:
    """One account on one market.

    ``market`` brings the symbols and their events, ``now_ms`` is the epoch time at which the exchange opens. Time
    that steps back is read as no time having passed. ``keys`` are further keys of the account, beside the HMAC pair.
    ``faults`` is a scenario of what goes wrong; whoever carries messages asks ``arriving`` and ``leaving`` about each.
    """

    def __init__(
        self,
        market: Market,
        *,
        api_key: str,
        api_secret: str,
        now_ms: int,
        wallet_quote: Decimal = Decimal(5000),
        options: Options | None = None,
        keys: Sequence[ApiKey] = (),
        faults: Script | None = None,
    ) -> None:
        options = options or Options()
        market = deployed(market, options.deployment)
        self.on_sooner: Callable[[], None] = _nobody
        """Is called whenever something has become due earlier than `next_due_ms` has said."""
        self._market = market
        self._now_ms = now_ms
        self._venue = Venue(market.rules, wallet_quote, options, f"{api_secret}/{now_ms}", now_ms)
        self._second_ms = now_ms - now_ms % _SECOND_MS + _SECOND_MS
        self._timer_ms = self._second_ms
        venue = self._venue
        gatekeeper = Gatekeeper([ApiKey(api_key, api_secret), *keys])
        stage = VenueStage(venue, gatekeeper, self._happen)
        self.faults = FaultPlan(faults or Script(), now_ms, stage, self._wake)
        self._upkeep = Upkeep(venue)
        self._streams = MarketStreams(self._venue, lambda: self._now_ms, self._set_timer)
        routes = {
            **MarketEndpoints(venue).routes(),
            **OrderEndpoints(venue).routes(),
            **AccountEndpoints(venue).routes(),
            **ControlEndpoints(venue).routes(),
            **Doors(stage, self.faults).routes(),
        }
        self._router = Router(routes, gatekeeper, venue.limits, venue.ledger)
        shares = options.streams.api_shares_weight
        self._api = ApiDoor(
            routes=routes,
            gatekeeper=gatekeeper,
            weights=venue.limits if shares else Limits(venue.limits.sizes, venue.limits.ban),
            limits=venue.limits,
            ledger=venue.ledger,
            hub=venue.hub,
            desk=venue.desk,
            faults=self.faults,
            enter=self._enter,
            leave=self._set_timer,
        )

    def handle(self, request: Request, now_ms: int) -> Response:
        """Return the reply to ``request``, after everything due up to ``now_ms`` has happened."""
        self.advance(now_ms)
        response = self._router.respond(request, self._now_ms)
        if (witness := self._venue.desk.witness) is not None:
            witness.answered(request, response, self._now_ms)
        self._set_timer()
        return response

    def arriving(self, request: Request, now_ms: int) -> RequestFate:
        """Return what happens to a request on its arrival, after everything due up to ``now_ms`` has happened."""
        self.advance(now_ms)
        fate = self.faults.on_request(request, self._now_ms)
        if fate is not UNHARMED:
            self._set_timer()
        return fate

    def leaving(self, request: Request, response: Response) -> ReplyFate:
        """Return what happens to the reply that ``request`` has just got."""
        return self.faults.on_reply(request, response, self._now_ms)

    def attend(self, witness: Witness) -> None:
        """Tell a witness of everything that becomes of orders and requests from now on."""
        self._venue.desk.witness = witness

    def inject(self, rule: Rule, now_ms: int) -> None:
        """Bring one more fault into force, its times counted from now."""
        self.advance(now_ms)
        self.faults.add(rule, self._now_ms)
        self._set_timer()

    def open_session(self, target: str, deliver: Deliver, now_ms: int, hang_up: HangUp = lambda: None) -> Tap:
        """Return the session of a connection to ``target``; what it says goes to ``deliver``.

        ``hang_up`` is called when the exchange ends the connection of itself, after 24 hours.
        Raises UnknownRoute if no endpoint lives there, and RefusedHandshake where a fault will not have it or, for
        the WebSocket API, no weight is left.
        """
        self.advance(now_ms)
        if (status := self.faults.on_handshake(target, self._now_ms)) is not None:
            raise RefusedHandshake(status)
        tap = self.faults.open_tap(target, deliver)
        try:
            tap.join(self._open(target, tap.deliver, hang_up))
        except (UnknownRoute, RefusedHandshake):
            tap.closed(self._now_ms)
            raise
        self._set_timer()
        return tap

    def _open(self, target: str, deliver: Deliver, hang_up: HangUp) -> Connection:
        if is_api(target):
            return self._api.open(target, deliver, hang_up, self._now_ms)
        return self._venue.hub.open(parse_target(target), deliver, hang_up, self._now_ms)

    def _enter(self, now_ms: int) -> int:
        self.advance(now_ms)
        return self._now_ms

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due up to ``now_ms``, in the order of its times."""
        if now_ms < self._now_ms:
            return
        peek, take = self._market.peek_ms, self._market.take
        while True:
            event_ms = peek()
            if event_ms is not None and event_ms <= now_ms and event_ms <= self._timer_ms:
                self._happen(take())
            elif self._timer_ms <= now_ms:
                self._run_timers(self._timer_ms)
            else:
                break
        self._now_ms = now_ms

    def next_due_ms(self) -> int | None:
        """Return when ``advance`` next has something to do: never a time before the one it has reached.

        A market that was opened before the exchange has events from before the exchange's first moment.
        """
        event_ms = self._market.peek_ms()
        due_ms = self._timer_ms if event_ms is None else min(event_ms, self._timer_ms)
        return max(due_ms, self._now_ms)

    def _happen(self, event: MarketEvent) -> None:
        venue = self._venue
        instrument = venue.instruments[event.symbol]
        if not instrument.regime.is_usual:
            moved = instrument.regime.moved(event)
            if moved is None:
                return
            event = moved
        if isinstance(event, BookTicker):
            first = instrument.quote is None
            venue.desk.on_quote(instrument, event)
            instrument.shown.quote_raised = instrument.shown.raised
            if first:
                instrument.mark.sample(instrument.mid)
            if instrument.shown.chains:
                instrument.shown.note(event.update_id)
            if instrument.book_channel.sessions:
                payload = payloads.book_event(event, instrument.rules, instrument.shown.raised)
                venue.hub.publish(instrument.book_channel, payload, event.time_ms)
            return
        if isinstance(event, DepthChange):
            instrument.matcher.on_depth(event.bids, event.asks, snapshot=event.snapshot)
            instrument.shown.note_depth(event.last_id)
            return
        if isinstance(event, FundingTerms):
            instrument.funding.change(event)
            return
        venue.desk.on_trade(instrument, event)
        instrument.candles.add(event)
        instrument.tape.add(event)
        self._streams.prints[instrument.symbol].note(event)
        if instrument.single_trade_channel.sessions:
            payload = payloads.single_trade_event(event, instrument.rules)
            venue.hub.publish(instrument.single_trade_channel, payload, event.time_ms)

    def _run_timers(self, now_ms: int) -> None:
        venue = self._venue
        for instrument in venue.instruments.values():
            due_ms = instrument.countdown_due_ms
            if due_ms is not None and due_ms <= now_ms:
                instrument.countdown_due_ms = None
                venue.desk.cancel_all(instrument, now_ms)
        venue.user.expire(now_ms)
        if self._second_ms <= now_ms:
            self._tick(self._second_ms)
            self._second_ms += _SECOND_MS
        self._streams.run(now_ms)
        venue.hub.cut_old(now_ms)
        self.faults.run_due(now_ms)
        self._set_timer()

    def _tick(self, now_ms: int) -> None:
        """Do what is due at whole seconds: funding at the mark in force, then new marks."""
        venue = self._venue
        for instrument in venue.instruments.values():
            if instrument.funding.settles(now_ms):
                venue.desk.settle_funding(instrument, now_ms)
            if instrument.quote is not None:
                instrument.mark.sample(instrument.mid)
                instrument.shown.settle()
        self._upkeep.run(now_ms)

    def _wake(self, due_ms: int) -> None:
        if due_ms < self._timer_ms:
            self._timer_ms = due_ms
            self.on_sooner()

    def _set_timer(self) -> None:
        venue, due_ms = self._venue, self._second_ms
        for instrument in venue.instruments.values():
            if instrument.countdown_due_ms is not None and instrument.countdown_due_ms < due_ms:
                due_ms = instrument.countdown_due_ms
        for other_ms in (
            venue.user.expires_ms,
            self._streams.due_ms,
            venue.hub.cut_ms,
            self.faults.next_due_ms(),
        ):
            if other_ms is not None and other_ms < due_ms:
                due_ms = other_ms
        is_sooner, self._timer_ms = due_ms < self._timer_ms, due_ms
        if is_sooner:
            self.on_sooner()
