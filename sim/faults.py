"""Faults on demand: a plan that decides what happens to each request, reply, payload and stream.

The plan has no clock and no socket. It is asked with the time, and whoever carries the messages (``sim.server`` over
sockets, ``sim.transport`` in memory) does what it says, so that the same scenario is the same on both. Each fault has
chances of its own, drawn from the seed: adding one to a scenario changes nothing about the others.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import Any, Protocol

from msgspec import Struct, structs

from sim import fault_replies as replies
from sim.errors import status_of
from sim.fault_events import (
    EDITS,
    ONLY_EVENTS,
    REORDER_WITHIN_MS,
    Delivery,
    Draft,
    event_time_ms,
    read_payload,
    route_of,
    subject_of,
)
from sim.fault_rules import Acts, Rule, Script, Subject, Target
from sim.latency import Spread
from sim.messages import Request, Response
from sim.params import Params, decode_json, params_of_object
from sim.streams import Connection

OWN_DOORS = "/sim/"
_KEPT_STRIKES = 1000
_KEPT_ANSWERS = 64
_ASKED_WITHIN_MS = 2_000
"""What a question was answered this much sooner than ``stale-reads`` wants serves, too."""
_KEPT_QUESTIONS = 256
_DEFAULT_REST_MS = 60_000
_MS = 1000


class Outcome(Enum):
    """What a carrier does with a request or its reply."""

    PASS = "pass"  # noqa: S105  not a password
    HANG = "hang"
    RESET = "reset"
    REFUSE = "refuse"


class RequestFate(Struct, frozen=True):
    """What happens to a request: it waits ``delay_ms``, then ``outcome``; ``answer`` replaces the exchange's own.

    With an answer, ``execute`` says whether the exchange executes the request all the same.
    """

    delay_ms: float = 0
    outcome: Outcome = Outcome.PASS
    answer: Response | None = None
    execute: bool = True


class ReplyFate(Struct, frozen=True):
    """What happens to a reply: ``response`` goes out after ``delay_ms``, unless ``outcome`` says otherwise."""

    response: Response
    delay_ms: float = 0
    outcome: Outcome = Outcome.PASS


class Carrier(Protocol):
    """Whoever carries messages between clients and the exchange."""

    def go_down(self, seconds: float) -> None:
        """Every connection is dropped, and new ones are refused for so long."""


class Stage(Protocol):
    """The exchange as faults change it."""

    def check(self, rule: Rule) -> None:
        """Return if this exchange can do what the fault says; raises FaultError."""

    def strike(self, rule: Rule, now_ms: int) -> Callable[[int], None] | None:
        """Do what a fault of time does; return what undoes it at its end."""

    def intervene(self, rule: Rule, params: Params, request: Request, now_ms: int) -> Response | None:
        """Do what a fault of a request does beforehand; return the answer if it replaces the exchange's own."""


class Armed:
    """A rule in force: its times as epoch ms, its chances, and how often it may still strike."""

    __slots__ = ("_left", "_next_ms", "end_ms", "rng", "rule", "start_ms")

    def __init__(self, rule: Rule, rng: random.Random, now_ms: int) -> None:
        self.rule = rule
        self.rng = rng
        self.start_ms = now_ms + rule.from_ms
        self.end_ms = None if rule.until_ms is None else now_ms + rule.until_ms
        self._next_ms = self.start_ms
        self._left = rule.times

    @property
    def spent(self) -> bool:
        """Tell whether it can strike no more."""
        return self._left == 0

    def is_over(self, now_ms: int) -> bool:
        """Tell whether its time has passed."""
        return self.spent or (self.end_ms is not None and now_ms >= self.end_ms)

    def strikes(self, now_ms: int) -> bool:
        """Tell whether it strikes now, and count it."""
        if now_ms < self._next_ms or self.is_over(now_ms):
            return False
        if self.rule.probability < 1 and self.rng.random() >= self.rule.probability:
            return False
        if self._left is not None:
            self._left -= 1
        if self.rule.every_ms is not None:
            self._next_ms = now_ms + self.rule.every_ms
        return True

    def rest_ms(self, now_ms: int) -> int:
        """Return how long it lasts from now on."""
        return _DEFAULT_REST_MS if self.end_ms is None else max(0, self.end_ms - now_ms)

    def draw_ms(self) -> float:
        """Return the latency of this strike."""
        spread = self.rule.values.get("delay_ms")
        return spread.draw_ms(self.rng) if isinstance(spread, Spread) else 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """One time that a fault struck."""

    time_ms: int
    kind: str
    what: str


class Tap:
    """One open connection between the exchange and its carrier, who takes it for the exchange's own end.

    Once it is ``dead`` nothing passes any more, in neither direction.
    """

    __slots__ = ("_inner", "_out", "_plan", "dead", "held", "opened_ms", "route")

    def __init__(self, plan: "FaultPlan", target: str, out: Callable[[str], None]) -> None:
        self._plan = plan
        self._out = out
        self._inner: Connection | None = None
        self.route = route_of(target)
        self.dead = False
        self.held: list[str] = []
        self.opened_ms = 0

    def join(self, inner: Connection) -> None:
        """Stand between the carrier and ``inner`` from now on."""
        self._inner, self.opened_ms = inner, inner.opened_ms

    def deliver(self, text: str) -> None:
        """Hand a payload on, as the plan decides."""
        if self.dead:
            return
        if self._plan.event_faults:
            self._plan.pass_on(self, text)
            return
        self._out(text)
        if self.held:
            self.flush()

    def put(self, text: str) -> None:
        """Hand a payload to the carrier, and behind it those that waited for it."""
        if not self.dead:
            self._out(text)
            if self.held:
                self.flush()

    def flush(self) -> None:
        """Hand out what waited for a next payload."""
        held, self.held = self.held, []
        for text in held if not self.dead else ():
            self._out(text)

    def receive(self, text: str, now_ms: int) -> bool:
        """Take a message; False means that the exchange drops the connection for it."""
        return self.dead or self._inner is None or self._inner.receive(text, now_ms)

    def pinged(self, now_ms: int) -> bool:
        """Take note of a ping or pong; False means that the exchange drops the connection for it."""
        return self.dead or self._inner is None or self._inner.pinged(now_ms)

    def closed(self, now_ms: int) -> None:
        """Forget the connection, once."""
        if not self.dead:
            self.dead = True
            self._plan.taps.pop(self, None)
            if self._inner is not None:
                self._inner.closed(now_ms)

    def hang_up(self) -> None:
        """Let whoever carries the connection close it."""
        if self._inner is not None:
            self._inner.hang_up()


class FaultPlan:
    """The faults of one exchange that opened at ``now_ms``; more can be added while it runs.

    ``wake`` is told whenever something becomes due at an epoch time in ms, so that ``run_due`` is called then.
    """

    def __init__(self, script: Script, now_ms: int, stage: Stage, wake: Callable[[int], None]) -> None:
        self._stage = stage
        self._wake = wake
        self._seed = script.seed
        self._added = count()
        self._order = count()
        self._armed: dict[Acts, list[Armed]] = {acts: [] for acts in Acts}
        self.event_faults = self._armed[Acts.EVENT]
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._answers: dict[str, deque[tuple[int, Response]]] = {}
        self._amended_ms: dict[str, int] = {}
        self._now_ms = now_ms
        self.taps: dict[Tap, None] = {}
        self.carriers: list[Carrier] = []
        self.counts: Counter[str] = Counter()
        self.strikes: deque[Strike] = deque(maxlen=_KEPT_STRIKES)
        for rule in script.rules:
            self.add(rule, now_ms)

    def add(self, rule: Rule, now_ms: int) -> None:
        """Bring a fault into force, its times counted from now; raises FaultError if this exchange cannot do it."""
        self._stage.check(rule)
        armed = Armed(rule, random.Random(f"{self._seed}/{next(self._added)}"), now_ms)
        for acts in rule.kind.acts:
            self._armed[acts].append(armed)
        if Acts.TIME in rule.kind.acts:
            self.at(armed.start_ms, lambda due_ms: self._strike(armed, due_ms))

    # Time

    def next_due_ms(self) -> int | None:
        """Return when ``run_due`` next has something to do."""
        return self._due[0][0] if self._due else None

    def run_due(self, now_ms: int) -> None:
        """Let happen what is due of itself: faults of time, their ends, and late payloads."""
        self._now_ms = max(self._now_ms, now_ms)
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, action = heapq.heappop(self._due)
            action(due_ms)

    def at(self, due_ms: int, action: Callable[[int], None]) -> None:
        """Let ``action`` happen at an epoch time in ms, which it is given."""
        heapq.heappush(self._due, (due_ms, next(self._order), action))
        self._wake(due_ms)

    def _strike(self, armed: Armed, now_ms: int) -> None:
        rule = armed.rule
        if armed.is_over(now_ms):
            return
        if armed.strikes(now_ms):
            self._note(armed, now_ms, rule.target.symbol or rule.target.route)
            if rule.kind.name in _NETWORK:
                _NETWORK[rule.kind.name](self, armed, now_ms)
            elif (undo := self._stage.strike(rule, now_ms)) is not None and armed.end_ms is not None:
                self.at(armed.end_ms, undo)
        if rule.every_ms is not None and not armed.spent:
            self.at(now_ms + rule.every_ms, lambda due_ms: self._strike(armed, due_ms))

    def _note(self, armed: Armed, now_ms: int, what: str) -> None:
        self.counts[armed.rule.kind.name] += 1
        self.strikes.append(Strike(now_ms, armed.rule.kind.name, what))

    # Requests and replies

    @property
    def meets_requests(self) -> bool:
        """Tell whether a fault, now or later, may strike a request or its reply."""
        return bool(self._armed[Acts.REQUEST] or self._armed[Acts.REPLY])

    def on_request(self, request: Request, now_ms: int) -> RequestFate:
        """Decide what happens to a request that has just arrived."""
        armed_here = self._in_force(Acts.REQUEST, now_ms)
        if not armed_here or request.path.startswith(OWN_DOORS):
            return UNHARMED
        params = Params.of_request(request.query, request.body)
        subject, fate = request_subject(request, params), UNHARMED
        for armed in armed_here:
            if not (self._can_strike(armed, subject, params, now_ms) and armed.strikes(now_ms)):
                continue
            self._note(armed, now_ms, f"{request.method} {request.path}")
            fate = self._changed(fate, armed, params, request, now_ms)
        if request.method == "PUT":
            self._remember_amendment(params, now_ms)
        return fate

    def _changed(
        self, fate: RequestFate, armed: Armed, params: Params, request: Request, now_ms: int
    ) -> RequestFate:
        """Return the fate after one more fault; the first outcome and the first answer stand."""
        name, values = armed.rule.kind.name, armed.rule.values
        if name == "delay-request":
            return structs.replace(fate, delay_ms=fate.delay_ms + armed.draw_ms())
        if name in _OUTCOMES:
            outcome = fate.outcome if fate.outcome is not Outcome.PASS else _OUTCOMES[name]
            return structs.replace(fate, outcome=outcome)
        if fate.answer is not None:
            return fate
        if name == "error":
            answer = _error(values, armed.rest_ms(now_ms), now_ms)
            return structs.replace(fate, answer=answer, execute=armed.rng.random() < values["executed"])
        if (answered := self._stage.intervene(armed.rule, params, request, now_ms)) is not None:
            return structs.replace(fate, answer=answered, execute=False)
        return fate

    def on_reply(self, request: Request, response: Response, now_ms: int) -> ReplyFate:
        """Decide what happens to the reply to a request that has just been executed."""
        armed_here = self._in_force(Acts.REPLY, now_ms)
        fate = ReplyFate(response)
        if not armed_here or request.path.startswith(OWN_DOORS):
            return fate
        params = Params.of_request(request.query, request.body)
        subject = request_subject(request, params)
        for armed in armed_here:
            if armed.rule.kind.name == "stale-reads":
                self._remember(request, response, now_ms)
            if self._can_strike(armed, subject, params, now_ms) and armed.strikes(now_ms):
                self._note(armed, now_ms, f"{request.method} {request.path}")
                fate = self._answered(fate, armed, request, now_ms)
        return fate

    def _answered(self, fate: ReplyFate, armed: Armed, request: Request, now_ms: int) -> ReplyFate:
        name = armed.rule.kind.name
        if name == "delay-reply":
            return structs.replace(fate, delay_ms=fate.delay_ms + armed.draw_ms())
        if name in _OUTCOMES:
            outcome = fate.outcome if fate.outcome is not Outcome.PASS else _OUTCOMES[name]
            return structs.replace(fate, outcome=outcome)
        if name == "stale-reads":
            return structs.replace(fate, response=self._stale(armed.rule, request, fate.response, now_ms))
        return structs.replace(fate, response=_reply_edit(armed.rule, request, fate.response, now_ms))

    def _in_force(self, acts: Acts, now_ms: int) -> list[Armed]:
        armed = self._armed[acts]
        if not armed:
            return armed
        if any(each.is_over(now_ms) for each in armed):
            armed[:] = [each for each in armed if not each.is_over(now_ms)]
        return list(armed)

    def _can_strike(self, armed: Armed, subject: Subject, params: Params, now_ms: int) -> bool:
        rule = armed.rule
        allowed = _ONLY_REQUESTS.get(rule.kind.name)
        if allowed is not None and not any(
            subject.method == method and subject.path in paths for method, paths in allowed
        ):
            return False
        if (
            rule.kind.name == "error"
            and rule.values["reply"] == "overload-503"
            and _is_exempt(subject, params)
        ):
            return False
        if rule.kind.name == "pending-amendment" and not self._is_pending(rule, params, now_ms):
            return False
        return _without_rows(rule).hits(subject)

    def _is_pending(self, rule: Rule, params: Params, now_ms: int) -> bool:
        amended_ms = self._amended_ms.get(_order_name(params))
        return amended_ms is not None and now_ms - amended_ms < rule.values["within_ms"]

    def _remember_amendment(self, params: Params, now_ms: int) -> None:
        self._amended_ms.pop(_order_name(params), None)
        self._amended_ms[_order_name(params)] = now_ms
        if len(self._amended_ms) > _KEPT_QUESTIONS:
            del self._amended_ms[next(iter(self._amended_ms))]

    def _remember(self, request: Request, response: Response, now_ms: int) -> None:
        if request.method != "GET" or response.status != 200:
            return
        question = _question(request)
        if question not in self._answers and len(self._answers) >= _KEPT_QUESTIONS:
            del self._answers[next(iter(self._answers))]
        answers = self._answers.setdefault(question, deque(maxlen=_KEPT_ANSWERS))
        answers.append((now_ms, response))

    def _stale(self, rule: Rule, request: Request, response: Response, now_ms: int) -> Response:
        """Return the answer of ``lag_s`` ago; what was answered long before that is no answer of then."""
        latest_ms = now_ms - rule.values["lag_s"] * _MS
        answers = self._answers.get(_question(request), ())
        known = [(time_ms, answer) for time_ms, answer in answers if time_ms >= latest_ms - _ASKED_WITHIN_MS]
        if not known or response.status != 200:
            return response
        old_enough = [answer for time_ms, answer in known if time_ms <= latest_ms]
        return old_enough[-1] if old_enough else known[0][1]

    # Streams

    def on_handshake(self, target: str, now_ms: int) -> int | None:
        """Decide whether a stream can be opened; return the HTTP status that it gets otherwise."""
        subject = Subject(route=route_of(target))
        for armed in self._in_force(Acts.HANDSHAKE, now_ms):
            if armed.rule.target.hits(subject) and armed.strikes(now_ms):
                self._note(armed, now_ms, target.partition("?")[0])
                status: int = armed.rule.values["status"]
                return status
        return None

    def open_tap(self, target: str, out: Callable[[str], None]) -> Tap:
        """Return the way of a new connection's payloads to ``out``."""
        tap = Tap(self, target, out)
        self.taps[tap] = None
        return tap

    def on_event(self, route: str, text: str, now_ms: int) -> list[Delivery]:
        """Decide what becomes of a payload of a stream on that route."""
        content = read_payload(text)
        if content is None:
            return [Delivery(text)]
        now_ms = self._now_ms = max(now_ms, event_time_ms(content, now_ms))
        subject, draft = subject_of(content, route), None
        for armed in self._in_force(Acts.EVENT, now_ms):
            name = armed.rule.kind.name
            if subject.event not in ONLY_EVENTS.get(name, (subject.event,)):
                continue
            if not (armed.rule.target.hits(subject) and armed.strikes(now_ms)):
                continue
            self._note(armed, now_ms, subject.event)
            draft = draft or Draft(text, content)
            EDITS[name](draft, armed.rule.values, armed.draw_ms())
        return draft.deliveries() if draft is not None else [Delivery(text)]

    def pass_on(self, tap: Tap, text: str) -> None:
        """Let a payload take its way."""
        for delivery in self.on_event(tap.route, text, self._now_ms):
            self._send(tap, delivery)

    def _send(self, tap: Tap, delivery: Delivery) -> None:
        if delivery.delay_ms > 0:
            due_ms = self._now_ms + max(1, round(delivery.delay_ms))
            self.at(due_ms, lambda _due_ms: tap.put(delivery.text))
        elif delivery.behind_next:
            tap.held.append(delivery.text)
            self.at(self._now_ms + REORDER_WITHIN_MS, lambda _due_ms: tap.flush())
        else:
            tap.put(delivery.text)

    # What the network does

    def _struck_taps(self, armed: Armed) -> list[Tap]:
        route = armed.rule.target.route
        return [tap for tap in self.taps if route in ("", tap.route)]

    def _close_sockets(self, armed: Armed, now_ms: int) -> None:
        for tap in self._struck_taps(armed):
            tap.closed(now_ms)
            tap.hang_up()

    def _half_open_sockets(self, armed: Armed, now_ms: int) -> None:
        for tap in self._struck_taps(armed):
            tap.closed(now_ms)

    def _outage(self, armed: Armed, now_ms: int) -> None:
        for carrier in self.carriers:
            carrier.go_down(armed.rest_ms(now_ms) / _MS)


UNHARMED = RequestFate()

_NETWORK: Mapping[str, Callable[[FaultPlan, Armed, int], None]] = {
    "close-sockets": FaultPlan._close_sockets,
    "half-open-sockets": FaultPlan._half_open_sockets,
    "outage": FaultPlan._outage,
}

_OUTCOMES = {
    "drop-request": Outcome.HANG,
    "drop-reply": Outcome.HANG,
    "reset-request": Outcome.RESET,
    "reset-reply": Outcome.RESET,
    "refuse-connection": Outcome.REFUSE,
}

_ORDER, _BATCH = "/fapi/v1/order", "/fapi/v1/batchOrders"
SETTERS = (
    "/fapi/v1/leverage",
    "/fapi/v1/marginType",
    "/fapi/v1/positionSide/dual",
    "/fapi/v1/multiAssetsMargin",
)
_ONLY_REQUESTS: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "hide-orders": (("GET", (*replies.ORDER_READS, *replies.ORDER_LISTS)),),
    "hide-trades": (("GET", ("/fapi/v1/userTrades",)),),
    "wrong-server-time": (("GET", ("/fapi/v1/time",)),),
    "short-batch": tuple((method, (_BATCH,)) for method in ("POST", "PUT", "DELETE")),
    "mixed-batch": tuple((method, (_BATCH,)) for method in ("POST", "PUT", "DELETE")),
    "ignore-setter": (("POST", SETTERS),),
    "cancel-all-skips": (("DELETE", ("/fapi/v1/allOpenOrders",)),),
    "fill-first": (("PUT", (_ORDER, _BATCH)), ("DELETE", (_ORDER, _BATCH))),
    "pending-amendment": (("PUT", (_ORDER,)),),
}
"""The requests that a kind can strike; any where it is not listed."""
_ROW_KINDS = ("hide-orders",)


def request_subject(request: Request, params: Params) -> Subject:
    """Return what targets see of a request; one that is a batch has the client ids of all its elements."""
    items = [params, *_elements(params)]
    return Subject(
        symbol=next((item.text("symbol") for item in items if "symbol" in item), ""),
        method=request.method,
        path=request.path,
        client_ids=tuple(
            item.text(name)
            for item in items
            for name in ("newClientOrderId", "origClientOrderId")
            if name in item
        ),
        side=next((item.text("side") for item in items if "side" in item), ""),
    )


def _elements(params: Params) -> list[Params]:
    ids = decode_json(params.text_or("origClientOrderIdList", ""))
    if isinstance(ids, list):
        return [Params({"origClientOrderId": str(each)}) for each in ids]
    batch = decode_json(params.text_or("batchOrders", ""))
    return (
        [params_of_object(item) for item in batch if isinstance(item, dict)]
        if isinstance(batch, list)
        else []
    )


def _is_exempt(subject: Subject, params: Params) -> bool:
    """Tell whether system-level protection spares the request (facts section 5)."""
    return subject.method in ("GET", "DELETE") or params.text_or("reduceOnly", "").lower() == "true"


def _without_rows(rule: Rule) -> Target:
    """Return whom a fault strikes among requests, where part of its target is meant for rows of the reply."""
    if rule.kind.name not in _ROW_KINDS:
        return rule.target
    return replace(rule.target, client_id="", side="")


def _order_name(params: Params) -> str:
    return params.text_or("orderId", "") or params.text_or("origClientOrderId", "")


def _question(request: Request) -> str:
    """Return what a request asks, without the time and the signature."""
    pairs = [
        pair
        for pair in request.query.split("&")
        if not pair.startswith(("timestamp=", "signature=", "recvWindow="))
    ]
    return f"{request.path}?{'&'.join(pairs)}"


def _error(values: Mapping[str, Any], rest_ms: int, now_ms: int) -> Response:
    if values["reply"]:
        return replies.canned_reply(values["reply"], rest_ms, now_ms, values["retry_after_s"])
    status = values["status"] or status_of(values["code"])
    return replies.error_reply(status, values["code"], values["message"], values["retry_after_s"])


def _reply_edit(rule: Rule, request: Request, response: Response, now_ms: int) -> Response:
    name, values = rule.kind.name, rule.values
    if name == "truncate-reply":
        return replies.truncated(response)
    if name == "empty-reply":
        return replies.emptied(response)
    if name == "hide-orders":
        return replies.without_orders(response, request.path, lambda row: _is_hidden(rule, row, now_ms))
    return replies.edited(response, lambda content: _JSON_EDITS[name](content, values, now_ms))


def _is_hidden(rule: Rule, row: Mapping[str, Any], now_ms: int) -> bool:
    if row.get("time", 0) < now_ms - rule.values["younger_than_s"] * _MS:
        return False
    target = Target(client_id=rule.target.client_id, side=rule.target.side)
    return target.hits(Subject(client_ids=(row.get("clientOrderId", ""),), side=row.get("side", "")))


_JSON_EDITS: Mapping[str, Callable[[Any, Mapping[str, Any], int], Any]] = {
    "empty-list": lambda content, _values, _now_ms: replies.emptied_list(content),
    "drop-fields": lambda content, values, _now_ms: replies.without_fields(content, values["fields"]),
    "unknown-fields": lambda content, _values, _now_ms: replies.with_unknown_fields(content),
    "wrong-server-time": lambda content, values, _now_ms: replies.with_time_off(content, values["offset_ms"]),
    "short-batch": lambda content, values, _now_ms: replies.shortened(content, values["missing"]),
    "mixed-batch": lambda content, values, _now_ms: replies.with_failed_last(content, values["code"]),
    "hide-trades": lambda content, values, now_ms: replies.without_trades(
        content, now_ms - values["younger_than_s"] * _MS
    ),
}
