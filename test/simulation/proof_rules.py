"""What has to be proven before a quote leaves, and what the daemon has to have learned from what it was told."""

import json
from collections import deque
from decimal import Decimal
from typing import Any

from core.brake import STRIKES
from core.engine import Engine
from core.flatten import REDUCE_ONLY_COVERED, REDUCE_ONLY_REJECTED
from core.gate import Gate
from core.gateway import UNKNOWN_ORDER
from core.live_order import LiveOrder
from core.model import OrderStatus
from core.posture import Posture
from sim.messages import Request, Response
from sim.orders import Order
from sim.params import Params
from sim.regime import TRADING
from test.daemon import Sent
from test.simulation.facts import HELD_UP, LEVELS, LYING_READS, SIZE_QUOTE, Facts
from utils.http import HttpResponse

READ_WITHIN_S = 10.0
LEARNED_WITHIN_S = 30.0
HEARD_WITHIN_S = 15.0
CLEAN_S = 4.5
STOOD_STILL_S = 2.0
_KEY_CODES = frozenset({-2014, -2015})
_UNITS = frozenset({-1111, -4003, -4004, -4005, -4014, -4023, -4164})
_PASSING = frozenset({0, -1001, -1003, -1008, -1015, -1021, -4116, -5022, -5028})
"""Refusals that say nothing of the next attempt; with -4116 the order was accepted, and its request came twice."""
_HEDGE = -4061
_COUNTDOWN = "/fapi/v1/countdownCancelAll"
_PROBE = "/fapi/v1/order/test"
_ORDER_PATHS = ("/fapi/v1/order", "/fapi/v1/batchOrders")
_AT_ONCE_S = 0.3
_KEPT = 500
_A_MINUTE = 2 * LEVELS * (STRIKES + 4)


def changes_quotes(sent: Sent) -> bool:
    """Tell whether a request places quotes or amends them."""
    if sent.path not in _ORDER_PATHS:
        return False
    return sent.method == "PUT" or (sent.method == "POST" and "reduceOnly=true" not in sent.query)


class ProofRules:
    """INV-06 of the account stream, INV-09, -19, -26, -30, -34 and -37, at the moment of sending."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._engine: Engine | None = None
        self._started_s = 0.0
        self._position_s = 0.0
        self._key_refused_s = -1e9
        self._probe = ""
        self._unheard_s: float | None = None
        self._unheard_order_s: float | None = None
        self._told: dict[str, tuple[float, object]] = {}
        self._gone: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._refusals: dict[int, deque[float]] = {}
        self._unheard_refusals: dict[tuple[str, str], int] = {}
        self._feeding = self._fed_at = -1
        self._closed_s: float | None = None
        self._cancelled_s = -1e9
        self._waits_for: list[str] = []

    def follow(self, engine: Engine) -> None:
        """Follow a daemon that has just been started: it has been told nothing yet, but has passed its preflight."""
        self._engine, self._started_s = engine, self._facts.now_s
        self._position_s = self._facts.now_s
        self._told.clear()
        self._refusals.clear()
        self._closed_s = None
        self._fed_at = -1
        gate = engine.contexts[0].gate
        gate.listen(lambda: self._gate_changed(engine, gate))

    # --- what passes ------------------------------------------------------------------------------------------

    def sending(self, sent: Sent) -> None:
        """Look at a request that leaves the daemon."""
        if sent.method == "DELETE":
            self._cancelled_s = self._facts.now_s
        if sent.method == "GET" and sent.path == "/fapi/v1/order":
            client_id = sent.query.partition("origClientOrderId=")[2].partition("&")[0]
            self._asked.pop(client_id, None)
            self._asked[client_id] = self._facts.now_s
        if sent.path == _COUNTDOWN and "countdownTime=0&" not in sent.query:
            self.inv_14_only_progress_feeds_the_timer()
        if not changes_quotes(sent) or self._engine is None:
            return
        self.inv_19_position_was_read(sent)
        self.inv_09_loop_is_in_time(sent)
        self.inv_09_key_is_accepted(sent)
        self.inv_30_closing_orders_are_taken(sent)
        self.inv_06_account_stream_is_heard(sent)
        self.inv_26_cause_was_looked_into(sent)
        if sent.method == "PUT":
            self.inv_37_amendment_keeps_what_was_executed(sent)

    def replied(self, sent: Sent, reply: HttpResponse) -> None:
        """Note what the daemon is told."""
        if sent.path == "/fapi/v3/positionRisk" and _is_position(reply):
            self._position_s = self._facts.now_s
        if reply.status == 200:
            if sent.path == _PROBE:
                self._probe = "taken"
            elif sent.path == _COUNTDOWN and reply.body.endswith(b"}"):
                self._fed_at = self._feeding
            return
        code = _code_of(reply.body)
        if sent.path == _PROBE:
            self._probe = "taken" if code in (REDUCE_ONLY_REJECTED, REDUCE_ONLY_COVERED) else f"code {code}"
        if code in _KEY_CODES:
            self._key_refused_s = self._facts.now_s
        if self._unheard_refusals.pop((sent.method, _order_of(sent.query)), None) == code:
            self._refused(sent.method, code)

    def answered(self, request: Request, response: Response) -> None:
        """Note a refusal of a quote by the exchange itself, of which the daemon may hear."""
        if request.path in _ORDER_PATHS and request.method == "DELETE":
            self.inv_26_gone_orders_are_asked_about(request, response)
        if (
            request.path not in _ORDER_PATHS
            or request.method not in ("POST", "PUT")
            or response.status != 400
            or "reduceOnly=true" in request.query
        ):
            return
        self._unheard_refusals[request.method, _order_of(request.query)] = _code_of(response.body)
        if len(self._unheard_refusals) > _KEPT:
            del self._unheard_refusals[next(iter(self._unheard_refusals))]

    def _refused(self, method: str, code: int) -> None:
        """Note a refusal of which the daemon hears, and which says something of account or symbol.

        One whose answer is lost or damaged teaches nothing: all it shows is that there is no such order.
        """
        regime = self._facts.instrument.regime
        if code not in _PASSING and method == "POST":
            self.inv_26_refusals_grow_seldom(code)
        if regime.status != TRADING:
            self._told.setdefault("status", (self._facts.now_s, regime.status))
        elif code == _HEDGE and self._facts.world.exchange._venue.hedge_mode:
            self._told.setdefault("hedge", (self._facts.now_s, True))
        elif code in _UNITS:
            since_s, posted = self._told.setdefault("units", (self._facts.now_s, regime.posted))
            if posted != regime.posted:
                self._told["units"] = (self._facts.now_s, regime.posted)
            else:
                self.inv_26_rules_were_learned(since_s, code)

    def order_changed(self, order: Order, execution: str) -> None:
        """Note a quote that was accepted or amended while nobody hears the account stream."""
        is_unheard = self._unheard_s is not None and self._unheard_order_s is None
        if is_unheard and execution in ("NEW", "AMENDMENT") and not order.reduce_only:
            self._unheard_order_s = self._facts.now_s

    def look(self) -> None:
        """Look at time passing."""
        self._listen()
        self._forget_what_is_over()
        self.inv_34_cancels_leave_at_once()

    def _forget_what_is_over(self) -> None:
        """Forget why the exchange refused, where it would not any more; the same rules may come back to be learned."""
        regime = self._facts.instrument.regime
        if regime.status == TRADING:
            self._told.pop("status", None)
        if not self._facts.world.exchange._venue.hedge_mode:
            self._told.pop("hedge", None)
        if self._told.get("units", (0.0, regime.posted))[1] != regime.posted:
            del self._told["units"]

    def _listen(self) -> None:
        """Note since when no socket hears the account's events."""
        if self._facts.world.exchange._venue.user.is_heard:
            self._unheard_s = self._unheard_order_s = None
        elif self._unheard_s is None:
            self._unheard_s = self._facts.now_s

    # --- the rules --------------------------------------------------------------------------------------------

    def inv_19_position_was_read(self, sent: Sent) -> None:
        """INV-19: no quote leaves unless the exchange has told of the position within 10 s.

        It is read every second, and the gate closes 3 s after the last answer; the rest is for attempts that take their
        time. No answer is not "flat".
        """
        age_s = self._facts.now_s - self._position_s
        if age_s > READ_WITHIN_S:
            self._facts.violated("INV-19", f"{sent.method} {sent.path} with a position of {age_s:.1f} s ago")

    def inv_09_loop_is_in_time(self, sent: Sent) -> None:
        """INV-09: for 4.5 s after a standstill of 2 s or more no quote leaves: what was known before is old.

        Not for a daemon that was started since, which has asked for everything anew.
        """
        end_s, stood_s = self._facts.nemesis.standstill
        if stood_s < STOOD_STILL_S or self._started_s > end_s - stood_s:
            return
        if end_s <= self._facts.now_s < end_s + CLEAN_S:
            self._facts.violated(
                "INV-09", f"{sent.method} {sent.path} {self._facts.now_s - end_s:.2f} s after a standstill"
            )

    def inv_09_key_is_accepted(self, sent: Sent) -> None:
        """INV-09: for 4.5 s after the exchange has refused the key no quote leaves: it is asked again after 5 s.

        What left in the same turn as that refusal came is passed over.
        """
        since_s = self._facts.now_s - self._key_refused_s
        if 0 < since_s < CLEAN_S and self._key_refused_s > self._started_s:
            self._facts.violated(
                "INV-09", f"{sent.method} {sent.path} {since_s:.2f} s after the key was refused"
            )

    def inv_30_closing_orders_are_taken(self, sent: Sent) -> None:
        """INV-30: no quote leaves unless the start has proven that the exchange takes the order that closes it."""
        if self._probe != "taken":
            self._facts.violated(
                "INV-30",
                f"{sent.method} {sent.path} after a closing order was answered: {self._probe or 'never'}",
            )

    def inv_06_account_stream_is_heard(self, sent: Sent) -> None:
        """INV-06: no quote leaves 15 s after a quote of ours was accepted that no socket could tell of.

        The daemon waits 5 s for the echo. An answer that was lost delays its knowledge of the order, so that there are
        10 s more. The echo of a closing order is not waited for: that goes on whoever hears of it. One quote alone may
        leave as a question while the present connection has not told of any.
        """
        self._listen()
        context = self._facts.context
        if context is not None and not context.stream_is_proven and len(context.orders.living()) <= 1:
            return
        order_s = self._unheard_order_s
        if order_s is not None and self._facts.now_s - max(order_s, self._started_s) > HEARD_WITHIN_S:
            self._facts.violated(
                "INV-06",
                f"{sent.method} {sent.path} {self._facts.now_s - order_s:.1f} s after an order that nobody heard of",
            )

    def inv_14_only_progress_feeds_the_timer(self) -> None:
        """INV-14: the dead-man timer is fed again only if the control loop has got further, without exception.

        One that was not acknowledged may be tried again.
        """
        if self._engine is None:
            return
        self._feeding = self._engine.orders.progress[self._facts.world.symbol]
        if self._feeding == self._fed_at:
            self._facts.violated("INV-14", f"fed twice at turn {self._fed_at} of the control loop")

    def inv_26_gone_orders_are_asked_about(self, request: Request, response: Response) -> None:
        """INV-26: after a cancel that found no order, that order is asked about before it is cancelled again.

        Two cancels may have been under way at once: those within 0.3 s count as one. No verdict while answers are held
        up, in a minute whose weight is used up, or while readings lie about what has become of it.
        """
        if b"-2011" not in response.body:
            return
        now_s = self._facts.now_s
        no_verdict = self._facts.struck(20.0, *HELD_UP, *LYING_READS) or self._facts.struck(
            61.0, "used-weight"
        )
        for client_id in _gone(request, response):
            before_s = self._gone.pop(client_id, None)
            self._gone[client_id] = now_s
            if before_s is None or now_s - before_s < _AT_ONCE_S or no_verdict:
                continue
            if self._asked.get(client_id, -1e9) < before_s:
                self._facts.violated(
                    "INV-26",
                    f"{client_id} was gone, and is cancelled again {now_s - before_s:.2f} s later unasked",
                )
        for kept in (self._gone, self._asked):
            if len(kept) > _KEPT:
                del kept[next(iter(kept))]

    def inv_26_cause_was_looked_into(self, sent: Sent) -> None:
        """INV-26: 30 s after a refusal because of the symbol's status or of hedge mode, no quote leaves while it lasts.

        The exchange is asked for its rules at most every 10 s. No verdict while answers are held up.
        """
        if self._facts.struck(LEARNED_WITHIN_S, *HELD_UP):
            return
        self._forget_what_is_over()
        for what in ("status", "hedge"):
            since_s, seen = self._told.get(what, (1e12, None))
            if self._facts.now_s - max(since_s, self._started_s) > LEARNED_WITHIN_S:
                self._facts.violated(
                    "INV-26",
                    f"{sent.method} {sent.path} {LEARNED_WITHIN_S:.0f} s after a refusal: {what} {seen}",
                )

    def inv_26_rules_were_learned(self, since_s: float, code: int) -> None:
        """INV-26: 30 s after a first refusal because of tick, step or size none more comes for the same rules.

        No verdict while answers are held up, or for a daemon that has started since.
        """
        if self._facts.struck(LEARNED_WITHIN_S, *HELD_UP) or since_s < self._started_s:
            return
        if self._facts.now_s - since_s > LEARNED_WITHIN_S:
            self._facts.violated(
                "INV-26",
                f"refused with {code}, {self._facts.now_s - since_s:.0f} s after the first such refusal",
            )

    def inv_26_refusals_grow_seldom(self, code: int) -> None:
        """INV-26: a slot is refused three times with one code, then tried seldom: at most 42 refusals a minute in all.

        That is seven for each of six slots, and three more for each restriction after the first that began meanwhile:
        what was taken between two of them has forgiven the refusals. Without a brake there are six at every refresh.
        """
        times, now_s = self._refusals.setdefault(code, deque(maxlen=100)), self._facts.now_s
        while times and now_s - times[0] > 60:
            times.popleft()
        times.append(now_s)
        again = max(self._facts.nemesis.began_within(60, "restrict") - 1, 0)
        if len(times) > _A_MINUTE + again * 2 * LEVELS * STRIKES:
            self._facts.violated("INV-26", f"{len(times)} quotes were refused with {code} within a minute")

    def inv_37_amendment_keeps_what_was_executed(self, sent: Sent) -> None:
        """INV-37: an amendment leaves the configured size to be filled, beside what the daemon knows to be executed.

        Less is right for a quote that may only reduce the position, where it is cut to what is left of that.
        """
        context = self._facts.context
        if context is None or context.posture >= Posture.ONE_SIDE:
            return
        for item in _elements(sent.query):
            order = context.orders.find(str(item.get("origClientOrderId", "")))
            if order is None or order.status.is_terminal:
                continue
            price, total = context.rules.floor_ticks(_decimal(item["price"])), _decimal(item["quantity"])
            wanted = context.rules.floor_lots(SIZE_QUOTE / context.rules.price(price))
            left = context.rules.floor_lots(total) - order.executed_lots
            if left < wanted:
                self._facts.violated(
                    "INV-37",
                    f"{order.client_id} is amended to {left} lots that remain of {wanted}:"
                    f" {order.executed_lots} are executed",
                )

    # --- cancels ----------------------------------------------------------------------------------------------

    def _gate_changed(self, engine: Engine, gate: Gate) -> None:
        if engine is not self._engine:
            return
        if not gate.reasons:
            self._closed_s = None
        elif self._closed_s is None:
            self._closed_s = self._facts.now_s
            self._waits_for = [
                order.client_id for order in engine.contexts[0].orders.living() if _rests(order)
            ]

    def inv_34_cancels_leave_at_once(self) -> None:
        """INV-34, INV-17: a cancel leaves within 2 s after the gate has closed on quotes that are known to rest.

        Nothing may leave in a minute whose weight is used up, nor while the clock is measured, and nothing arrives
        of what the network holds up: no verdict then. Nor for as long as the exchange or its firewall has asked for
        silence: until the dead-man timer takes quotes out, a request would make that longer; 4 s after it one leaves.
        """
        facts, context = self._facts, self._facts.context
        if self._closed_s is None or context is None:
            return
        if facts.now_s - max(self._closed_s, facts.silent_until_s + 2.0) < 2.0:
            return
        if self._cancelled_s >= self._closed_s or facts.struck(10.0, *HELD_UP, *LYING_READS):
            return
        if facts.struck(61.0, "used-weight"):
            return
        resting = {order.client_order_id for order in facts.world.ours()}
        waiting = [each for each in self._waits_for if each in resting]
        if waiting:
            reasons = "; ".join(context.gate.reasons)
            facts.violated("INV-34", f"no cancel of {waiting[0]} left within 2 s: {reasons}")


def _rests(order: LiveOrder) -> bool:
    return order.change is None and order.status in (OrderStatus.ACTIVE, OrderStatus.PARTIALLY_FILLED)


def _is_position(reply: HttpResponse) -> bool:
    """Tell whether an answer tells of the position; an empty list is one, too."""
    body = reply.body.strip()
    return reply.status == 200 and body.endswith(b"]") and (b'"positionAmt"' in body or body == b"[]")


def _order_of(query: str) -> str:
    """Return the client id of the order that a request is about."""
    return query.partition("lientOrderId=")[2].partition("&")[0]


def _code_of(body: bytes) -> int:
    try:
        return int(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return 0


def _gone(request: Request, response: Response) -> list[str]:
    """Return the orders of a cancel that the exchange does not have (any more), by client id or id."""
    params = Params.of_request(request.query, request.body)
    for name in ("origClientOrderIdList", "orderIdList"):
        if text := params.text_or(name, ""):
            answers = json.loads(response.body)
            return [
                str(each)
                for each, answer in zip(json.loads(text), answers, strict=False)
                if isinstance(answer, dict) and answer.get("code") == UNKNOWN_ORDER
            ]
    if _code_of(response.body) != UNKNOWN_ORDER:
        return []
    return [params.text_or("origClientOrderId", "") or params.text_or("orderId", "")]


def _decimal(value: object) -> Decimal:
    return Decimal(str(value))


def _elements(query: str) -> list[dict[str, Any]]:
    """Return the orders that a request names: those of its batch, or the one that it is about."""
    params = Params.of_request(query, "")
    if text := params.text_or("batchOrders", ""):
        return [each for each in json.loads(text) if isinstance(each, dict)]
    return [{name: params.text_or(name, "") for name in ("origClientOrderId", "price", "quantity")}]
