"""What must hold of requests: at the moment at which they leave the daemon, and of the exchange's answers to them."""

import json
from collections import Counter, deque
from typing import Any

from core.brake import OF_ALL_QUOTES
from core.gate import Gate
from sim.messages import Request, Response
from sim.params import Params
from test.daemon import Sent
from test.simulation.facts import Facts
from utils.http import HttpResponse

MAX_BOOK_AGE_S = 3.0
TRUE_WITHIN_S = 8.0
_FILTERS = frozenset(
    {
        -1111,
        -1013,
        -4000,
        -4001,
        -4002,
        -4003,
        -4004,
        -4005,
        -4014,
        -4016,
        -4023,
        -4024,
        -4025,
        -4131,
        -4164,
        -2010,
    }
)
_PRECISION = -1111
_TIMESTAMPS = frozenset({-1021, -5028})
_TAKEN_ALREADY = -4116
_LIMITS = frozenset({-1003, -1015})
_CHANGED_RULES = (
    "symbol-rules",
    "symbol-missing",
    "halt",
    "mark-offset",
    "move-market",
    "jump",
    "flash_crash",
)
_CHANGED_CLOCKS = (
    "clock-skew",
    "clock-step",
    "wrong-server-time",
    "stale-reads",
    "stall",
    "delay-request",
    "straggle",
    "latency",
)
_CHANGED_BOOKS = ("sequence-reset", "corrupt-prices", "stall", "clock-skew", "symbol-missing", "halt")
_FIREWALL_S, _LIMIT_S = 120.0, 10.0
"""For how long nothing is to be sent after a refusal that does not say it."""
_KEPT_REFUSALS = 300
_KEPT_TOUCHES = 200
_NOTICED_S = 8.0
_CLOCK_KNOWN_S = 90.0
"""After so long, free to ask, the daemon knows the time."""
_REFUSALS_A_MINUTE = 5
"""Three, the first one that asks 10 s later, and one whose answer was lost with a socket that closed over it."""
_PROBES_A_MINUTE = 10
"""Three, and one every 9 s."""
_CANCELS_A_MINUTE = 100


class SendingRules:
    """INV-06, -07, -08, -09, -20, -26 and -29."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._closed_s: float | None = 0.0
        self._gate: Gate | None = None
        self._banned_until_s = 0.0
        self._touches: dict[tuple[int, int], float] = {}
        self._refused: dict[tuple[Any, ...], deque[float]] = {}
        self._unheard: Counter[tuple[Any, ...]] = Counter()
        self._stale: deque[tuple[float, str]] = deque(maxlen=50)
        self._asked_clock_s = 0.0
        self.codes: Counter[int] = Counter()
        """How often the exchange itself has refused, by code."""

    def follow(self, gate: Gate) -> None:
        """Follow the gate of a daemon that has just been started."""
        self._gate = gate
        self._closed_s = self._facts.now_s if gate.reasons else None
        gate.listen(lambda: self._note_gate(gate))

    def _note_gate(self, gate: Gate) -> None:
        if gate is self._gate:
            if not gate.reasons:  # whatever it says of being open
                self._closed_s = None
            elif self._closed_s is None:
                self._closed_s = self._facts.now_s

    # --- at the moment of sending -----------------------------------------------------------------------------

    def sending(self, sent: Sent) -> None:
        """Look at a request that leaves the daemon now."""
        if sent.path == "/fapi/v1/time":
            self._asked_clock_s = self._facts.now_s
        self.inv_08_nothing_within_a_ban(sent)
        self.inv_20_orders_of_others_are_left_alone(sent)
        if self._opens_or_changes_quotes(sent):
            self.inv_09_gate_is_open(sent)
            self.inv_09_journal_can_be_written(sent)
            self.inv_06_book_is_fresh(sent)
            self.inv_06_book_is_the_exchanges("a quote left")

    def look(self) -> None:
        """Remember what best bid and ask the exchange has, every half second.

        Those of the stream, and those of the book over REST, where what we have taken is taken until the next quote.
        """
        instrument = self._facts.instrument
        quote = instrument.quote
        if quote is not None:
            self._touches[quote.bid_ticks, quote.ask_ticks] = self._facts.now_s
            left = instrument.touch(is_buy=False), instrument.touch(is_buy=True)
            self._touches[left] = self._facts.now_s
        if len(self._touches) > _KEPT_TOUCHES:
            self._touches = {
                each: at_s
                for each, at_s in self._touches.items()
                if self._facts.now_s - at_s <= TRUE_WITHIN_S
            }
        context = self._facts.context
        if context is not None and context.gate.is_open:
            self.inv_06_book_is_the_exchanges("the gate is open")

    @staticmethod
    def _opens_or_changes_quotes(sent: Sent) -> bool:
        if sent.path not in ("/fapi/v1/order", "/fapi/v1/batchOrders"):
            return False
        return sent.method == "PUT" or (sent.method == "POST" and "reduceOnly=true" not in sent.query)

    def inv_09_gate_is_open(self, sent: Sent) -> None:
        """INV-09: no quote is sent or amended while the gate is closed, except in the very turn of its closing."""
        closed_s = self._closed_s
        if closed_s is not None and closed_s < self._facts.now_s:
            context = self._facts.context
            reasons = "; ".join(context.gate.reasons) if context is not None else "no daemon"
            self._facts.violated("INV-09", f"{sent.method} {sent.path} while the gate is closed: {reasons}")

    def inv_06_book_is_fresh(self, sent: Sent) -> None:
        """INV-06: the book at the moment of sending is not crossed, and was proven within the configured 3 s."""
        context = self._facts.context
        if context is None:
            return
        book, state = context.state.book, context.state
        age_s = self._facts.now_s - state.book_proven_ns / 1e9
        if book is None or book.bid_ticks >= book.ask_ticks:
            self._facts.violated("INV-06", f"{sent.method} {sent.path} on the book {book}")
        elif age_s > MAX_BOOK_AGE_S:
            self._facts.violated("INV-06", f"{sent.method} {sent.path} on a book of {age_s:.2f} s ago")

    def inv_06_book_is_the_exchanges(self, what: str) -> None:
        """INV-06: quotes leave, and the gate is open, only on a book that was the exchange's own within 8 s.

        That is asked whatever the daemon holds for proof of it.

        Within them are the 3 s of the proof, as many for one that came late, and what passes between two looks.
        """
        facts, context = self._facts, self._facts.context
        if context is None or context.state.book is None or facts.struck(30.0, *_CHANGED_BOOKS):
            return
        if context.rules.tick_size != facts.instrument.rules.tick_size:
            return  # counted in other ticks
        book = context.state.book
        age_s = facts.world.clock.time_ms() / 1000 - book.exchange_ms / 1000
        true_s = self._touches.get((book.bid_ticks, book.ask_ticks), 0.0)
        if age_s > TRUE_WITHIN_S and facts.now_s - true_s > TRUE_WITHIN_S:
            facts.violated("INV-06", f"{what} on a book that was true {age_s:.1f} s ago")

    def inv_09_journal_can_be_written(self, sent: Sent) -> None:
        """INV-09: no order is placed 8 s after the disk began to take nothing at all, because nobody could note it."""
        broken_s = self._facts.nemesis.disk_takes_nothing_since_s()
        if sent.method == "POST" and broken_s is not None and self._facts.now_s - broken_s > _NOTICED_S:
            self._facts.violated("INV-09", "an order was placed that no journal can hold")

    def inv_20_orders_of_others_are_left_alone(self, sent: Sent) -> None:
        """INV-20: no order without our prefix is amended or cancelled, and nothing cancels all orders at once."""
        if sent.method not in ("PUT", "DELETE") or "rder" not in sent.path:
            return
        if sent.path == "/fapi/v1/allOpenOrders":
            self._facts.violated(
                "INV-20", "all open orders of the symbol were cancelled, those of others too"
            )
            return
        for order_id in _order_ids(Params.of_request(sent.query, "")):
            order = self._facts.instrument.by_client.get(order_id) or next(
                (each for each in self._facts.instrument.open.values() if str(each.order_id) == order_id),
                None,
            )
            if order is not None and not order.client_order_id.startswith("qpmm-"):
                self._facts.violated("INV-20", f"{sent.method} of {order.client_order_id}, which is not ours")

    def inv_08_nothing_within_a_ban(self, sent: Sent) -> None:
        """INV-08: nothing is sent until a ban or a limit on weight is over of which the daemon has been told.

        Times are sums of fractions here: less than a microsecond is no time.
        """
        left_s = self._banned_until_s - self._facts.now_s
        if left_s > 1e-6:
            self._facts.violated("INV-08", f"{sent.method} {sent.path} with {left_s:.1f} s of a ban left")

    def replied(self, sent: Sent, reply: HttpResponse) -> None:
        """Look at a reply that the daemon is about to get."""
        code = _code_of(reply.body) if reply.status == 400 else 0
        if code in _TIMESTAMPS:
            self.inv_29_timestamps_are_repaired(sent)
        if self._unheard:
            cause = self._cause(sent.method, sent.path, sent.query, "", code)
            if self._unheard.pop(cause, 0):
                self.inv_26_refused_requests_are_not_repeated(sent, cause)
        now_s = self._facts.now_s
        if reply.status == 418 or (reply.status == 429 and b"-1015" not in reply.body):
            rest_s = float(reply.headers.get("retry-after", 0))
            self._banned_until_s = max(self._banned_until_s, now_s + rest_s)
        if reply.status in (403, 418, 429):
            rest_s = float(reply.headers.get("retry-after", _FIREWALL_S if reply.status == 403 else _LIMIT_S))
            self._facts.be_silent(rest_s)

    def restarted(self) -> None:
        """Note that a new process knows nothing of a ban yet, nor of what was refused."""
        self._banned_until_s = 0.0
        self._facts.forget_silence()
        self._refused.clear()

    # --- at the exchange --------------------------------------------------------------------------------------

    def answered(self, request: Request, response: Response) -> None:
        """Look at what the exchange itself has answered."""
        if response.status == 200 and request.method != "GET" and self._refused:
            self._forgive(request)
        if response.status == 200 or request.path.startswith("/sim/"):
            return
        code = _code_of(response.body)
        self.codes[code] += 1
        if code in _LIMITS:
            self.inv_08_limits_are_kept(request, code)
        elif request.method in ("POST", "PUT") and code in _FILTERS:
            self.inv_07_filters_are_kept(request, response, code)
        if request.method != "GET" and response.status == 400 and code not in _TIMESTAMPS | {_TAKEN_ALREADY}:
            self._unheard[self._cause(request.method, request.path, request.query, request.body, code)] += 1

    def _forgive(self, request: Request) -> None:
        """Have refusals count no more of a request that was accepted now, and not only because nothing else rests."""
        if len(self._facts.world.ours()) > 1:
            taken = self._cause(request.method, request.path, request.query, request.body, 0)
            same = [each for each in self._refused if each[:2] + each[3:-1] == taken[:2] + taken[3:-1]]
            for cause in same:
                del self._refused[cause]

    def _cause(self, method: str, path: str, query: str, body: str, code: int) -> tuple[Any, ...]:
        """Return what makes a refused request the same as one before.

        The last of it is the level of a new quote: another one that has come to want the same price does not repeat it.
        """
        params, context = Params.of_request(query, body), self._facts.context
        order = context.orders.find(params.text_or("newClientOrderId", "")) if context is not None else None
        level = order.level if order is not None else 0
        return (method, path, code, *(params.text_or(name, "") for name in _INTENT), level)

    def inv_07_filters_are_kept(self, request: Request, response: Response, code: int) -> None:
        """INV-07: no order is refused for tick, step, band or size, unless rules or prices have just changed.

        Of closing orders only the digits are looked at: they take any price that the band allows.
        """
        may_be_old = "reduceOnly=true" in request.query and code != _PRECISION
        if not may_be_old and not self._facts.struck(90.0, *_CHANGED_RULES):
            self._facts.violated("INV-07", f"{request.method} {request.query}: {response.body.decode()}")

    def inv_08_limits_are_kept(self, request: Request, code: int) -> None:
        """INV-08: the exchange's limits are never hit, unless another program has used them up in this window."""
        if not self._facts.struck(61.0, "used-weight", "used-orders"):
            self._facts.violated("INV-08", f"{request.method} {request.path} got {code}")

    def inv_29_timestamps_are_repaired(self, request: Sent) -> None:
        """INV-29: timestamps are in the exchange's window, or refused and repaired.

        At most 30 of which the daemon hears in a minute while clocks are being changed or requests delayed, more only
        while it asks for the time and does not get it; otherwise none at all. No clock is being changed any more once
        the daemon was free to ask for 90 s: in the silence that a firewall wants it hears of no change. No verdict
        while the exchange's own time is told wrongly: who believes it is refused for as long.
        """
        if self._facts.struck(65.0, "wrong-server-time", "stale-reads"):
            return
        now_s = self._facts.now_s
        self._stale.append((now_s, f"{request.method} {request.path}"))
        lately = Counter(what for at_s, what in self._stale if now_s - at_s < 60)
        changed_s = self._facts.struck_last_s(*_CHANGED_CLOCKS, "used-weight")
        if self._facts.could_ask_s(changed_s) > _CLOCK_KNOWN_S:
            self._facts.violated("INV-29", f"{request.method} {request.path} was refused for its timestamp")
        elif lately.total() > 30 and now_s - self._asked_clock_s > 5:
            self._facts.violated(
                "INV-29", f"{lately.total()} timestamps refused within a minute: {dict(lately)}"
            )

    def inv_26_refused_requests_are_not_repeated(self, request: Sent, cause: tuple[Any, ...]) -> None:
        """INV-26: a request that was refused definitively three times is not sent more than once a minute, unchanged.

        Only what the exchange itself has refused counts, and only if the daemon hears of it. That it has an order of
        this id already is no refusal: a request has arrived twice, and its order was accepted. Each level may ask three
        times, also for a price at which another one was refused before the market moved. A cancel has to be tried
        until nothing rests, the dead-man switch until it is armed, a closing order until the position is flat, whatever
        the answer: for those 100 a minute are the bound on attempts. One that was taken beside others in between begins
        anew. What is refused for all quotes passes for all at once, and one of them asks about it every 9 s: where only
        one is wanted, it is always that one.
        """
        times = self._refused.setdefault(cause, deque(maxlen=64))
        now_s = self._facts.now_s
        while times and now_s - times[0] > 60:
            times.popleft()
        times.append(now_s)
        for kept in (self._refused, self._unheard):
            if len(kept) > _KEPT_REFUSALS:
                del kept[next(iter(kept))]  # type: ignore[attr-defined]
        keeps_safe = request.method == "DELETE" or request.path == "/fapi/v1/countdownCancelAll"
        keeps_safe = keeps_safe or request.is_close()
        most = _PROBES_A_MINUTE if cause[2] in OF_ALL_QUOTES else _REFUSALS_A_MINUTE
        if len(times) > (_CANCELS_A_MINUTE if keeps_safe else most):
            self._facts.violated("INV-26", f"{cause} was refused {len(times)} times within a minute")


_INTENT = (
    "side",
    "price",
    "quantity",
    "origClientOrderId",
    "orderId",
    "leverage",
    "batchOrders",
    "origClientOrderIdList",
)


def _code_of(body: bytes) -> int:
    try:
        return int(json.loads(body)["code"])
    except (ValueError, KeyError, TypeError):
        return 0


def _order_ids(params: Params) -> list[str]:
    ids = [params.text_or(name, "") for name in ("origClientOrderId", "orderId")]
    for name in ("origClientOrderIdList", "orderIdList"):
        if text := params.text_or(name, ""):
            ids += [str(each) for each in json.loads(text)]
    if text := params.text_or("batchOrders", ""):
        ids += [str(each.get("origClientOrderId", each.get("orderId", ""))) for each in json.loads(text)]
    return [each for each in ids if each]
