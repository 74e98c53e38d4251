"""Every way in which an amendment can end, for every state in which its order can be: the right thing follows.

The order is really placed on the simulated exchange, and amended by the program's own execution; what the network or
the market does meanwhile happens between the arrival of the request and the arrival of its answer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from core import wire
from core.brake import UNREADABLE
from core.client_ids import ClientIds
from core.context import SymbolContext
from core.events import EventBus
from core.execution import ExecutionEngine
from core.gateway import Gateway
from core.live_order import MAX_AMENDS, LiveOrder
from core.model import BookTop, OrderStatus, Quote, Side
from core.state import SymbolState
from sim.transport import InMemoryHttp, Link
from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import OutcomeUnknown
from utils.http import BinanceRest, HttpResponse

from .daemon import Sent, TamperedHttp, json_reply
from .examples import BTC, context
from .sim_factory import KEY, SECRET, START_MS, Rig

PRICE, TARGET, CROSSING = 499_950, 499_960, 500_020
"""In ticks: where the order rests, where it is to go, and where it would take; the touch is 500 000 / 500 001."""
LOTS = 4
RECV_WINDOW_MS = 5000
SETTLED_S = RECV_WINDOW_MS / 1000 + 1.1
LIVING = (OrderStatus.ACTIVE, OrderStatus.PARTIALLY_FILLED)


class Bench:
    """One order on the exchange, and what happens to the next amendment of it on its way."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.rig = Rig()
        link = Link(self.rig.exchange, clock, latency_ms=5)
        rest = BinanceRest(
            TamperedHttp(InMemoryHttp(link), self._tamper), clock, api_key=KEY, api_secret=SECRET
        )
        self.execution = ExecutionEngine(
            Gateway(rest, clock),
            clock,
            EventBus(clock),
            ClientIds("mm1", START_MS),
            recv_window_ms=RECV_WINDOW_MS,
            max_book_age_ms=10**9,
        )
        self.book = BookTop(500_000, 100, 500_001, 100, 1, START_MS, clock.monotonic_ns())
        state = SymbolState(symbol="BTCUSDT", mark_price=Decimal(50_000), book=self.book)
        self.context: SymbolContext = context(state=state)
        self.order: LiveOrder = None  # type: ignore[assignment]
        self.target = TARGET
        self.lots = LOTS
        self.amends = 0
        self.before: Callable[[], object] = lambda: None
        """Happens when the amendment arrives at the exchange, before it is looked at."""
        self.after: Callable[[], object] = lambda: None
        """Happens when the exchange is done with it, before its answer is here."""
        self.fate: Callable[[Sent], Coroutine[Any, Any, HttpResponse | None]] = self._as_it_comes

    async def _as_it_comes(self, sent: Sent) -> HttpResponse | None:
        reply = await sent.deliver()
        self.after()
        return reply

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if sent.method != "PUT":
            return None
        self.amends += 1
        self.before()
        return await self.fate(sent)

    @property
    def at_exchange(self) -> Rig:
        """The exchange at this moment, to let things happen there."""
        self.rig.now_ms = max(self.rig.now_ms, self.clock.time_ms())
        return self.rig

    def truth(self) -> Any:
        """The order as the exchange's own record has it."""
        orders = {one["clientOrderId"]: one for one in self.rig.record()["orders"]}
        found = orders.get(self.order.client_id)
        return wire.order_report(found, BTC) if found is not None else None

    async def place(self) -> None:
        """Have the order rest."""
        (self.order,) = await self.execution.place(self.context, [Quote(Side.BUY, 1, PRICE, LOTS)], self.book)
        assert self.order.status is OrderStatus.ACTIVE

    def fill(self, lots: int) -> None:
        """Let the market sell so much into it, a lot at a time, and come back."""
        until = self.truth().executed_lots + lots
        self.at_exchange.quote("49995.00", "49995.10", bid_qty="0.001")
        while self.truth().executed_lots < until:
            self.at_exchange.trade("49995.00", "0.001")
        self.at_exchange.quote("50000.00", "50000.10")

    def hear(self) -> None:
        """Let the account stream tell of the order as it is."""
        self.execution.report(self.context, self.order, self.truth())

    async def amend(self) -> None:
        """Amend it to so many lots more than are executed, as the refresh does."""
        quote = Quote(Side.BUY, 1, self.target, self.lots)
        await self.execution.amend(self.context, [(self.order, quote, "test")], self.book)

    def assert_counts(self) -> None:
        """What may rest counts for no less than what does."""
        truth = self.truth()
        if truth is not None and truth.status in LIVING:
            rests = truth.price_ticks * (truth.lots - truth.executed_lots)
            assert self.order.worst_price_ticks * self.order.worst_remaining_lots >= rests

    async def settle(self) -> None:
        """Ask until nothing is left to ask, as the order manager does, over the receive window and more."""
        for _ in range(4):
            self.assert_counts()
            await self.execution.ask(self.context)
            await asyncio.sleep(SETTLED_S)
        assert self.context.orders.to_ask() == {}

    def assert_equal(self) -> None:
        """What is known is what the exchange has, and nothing is under way."""
        truth = self.truth()
        assert truth is not None
        assert (self.order.status, self.order.executed_lots) == (truth.status, truth.executed_lots)
        if truth.status in LIVING:
            assert (self.order.price_ticks, self.order.lots) == (truth.price_ticks, truth.lots)
            assert self.order.change is None
        living = [self.order] if truth.status in LIVING else []
        assert self.context.orders.living() == living


# --- the outcomes: what is to happen, and what must be so afterwards ------------------------------------------


def refused_with(code: int) -> Callable[[Bench], None]:
    """The exchange refuses with this code and changes nothing."""

    async def refuse(_sent: Sent) -> HttpResponse:
        return json_reply(400, {"code": code, "msg": "no"})

    def arm(bench: Bench) -> None:
        async def fate(sent: Sent) -> HttpResponse:
            reply = await refuse(sent)
            bench.after()
            return reply

        bench.fate = fate

    return arm


def done(_bench: Bench) -> None:
    """Nothing is the matter."""


def nothing_to_change(bench: Bench) -> None:
    """Another hand has made of the order just what it is to become."""

    def stranger() -> None:
        executed = bench.truth().executed_lots
        text = BTC.quantity_text(executed + bench.lots)
        reply = bench.at_exchange.amend(bench.order.client_id, "BUY", BTC.price_text(TARGET), text)
        assert reply.status == 200

    bench.before = stranger


def crossed(bench: Bench) -> None:
    """The market has come to the target meanwhile: post-only, the order is ended by its amendment."""
    bench.before = lambda: bench.at_exchange.quote("49995.50", "49995.60")


def below_executed(bench: Bench) -> None:
    """Filled meanwhile up to the new total: the exchange cancels what would be nothing."""
    bench.lots = 2
    bench.before = lambda: bench.fill(2)


def lost_after(bench: Bench) -> None:
    """Executed; the answer is lost."""

    async def fate(sent: Sent) -> HttpResponse:
        await sent.deliver()
        bench.after()
        raise OutcomeUnknown("the answer was lost")

    bench.fate = fate


def lost_before(bench: Bench) -> None:
    """The request never arrived; nobody here can know."""

    async def fate(_sent: Sent) -> HttpResponse:
        bench.after()
        raise OutcomeUnknown("the request was lost")

    bench.fate = fate


def gone(bench: Bench) -> None:
    """Cancelled by another hand meanwhile."""
    bench.before = lambda: bench.at_exchange.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")


def filled(bench: Bench) -> None:
    """Filled as a whole meanwhile."""
    bench.before = lambda: bench.at_exchange.trade("49990.00", "1")


OUTCOMES: dict[str, Callable[[Bench], None]] = {
    "done": done,
    "nothing to change": nothing_to_change,
    "crossed": crossed,
    "below executed": below_executed,
    "pending modification": refused_with(-5043),
    "executed, answer lost": lost_after,
    "request lost": lost_before,
    "gone": gone,
    "filled meanwhile": filled,
    "refused by a filter": refused_with(-4014),
    "ten thousand amends": refused_with(-5026),
}
UNCHANGED = {"pending modification", "request lost", "refused by a filter", "ten thousand amends"}
ENDS = {
    "crossed": OrderStatus.EXPIRED,
    "below executed": OrderStatus.CANCELLED,
    "gone": OrderStatus.CANCELLED,
    "filled meanwhile": OrderStatus.FILLED,
}


def assert_outcome(bench: Bench, outcome: str, executed: int) -> None:
    """The order stands where this outcome puts it; ``executed`` is what was executed before."""
    order = bench.order
    if outcome in ENDS:
        assert order.status is ENDS[outcome]
        assert order.worst_remaining_lots == 0
        return
    rests = (PRICE, LOTS) if outcome in UNCHANGED else (TARGET, executed + LOTS)
    assert (order.price_ticks, order.lots) == rests
    assert order.is_amendable is (outcome != "ten thousand amends")
    assert (order.amends == MAX_AMENDS) is (outcome == "ten thousand amends")
    assert (order.amend_refused_code == -4014) is (outcome == "refused by a filter")


def play(story: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run a story in virtual time."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock)
        bench.context.state.book_proven_ns = clock.monotonic_ns()
        await story(bench)

    run_virtual(main, epoch_ms=START_MS + 10_000)


# --- an order that rests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("executed", [0, 1], ids=["ACTIVE", "PARTIALLY_FILLED"])
def test_amendment_of_a_resting_order_ends_as_the_exchange_has_it(executed: int, outcome: str) -> None:
    """Whatever becomes of it: known in the end, counted at the worse until then."""

    async def story(bench: Bench) -> None:
        await bench.place()
        if executed:
            bench.fill(executed)
            bench.hear()
        assert bench.order.executed_lots == executed
        OUTCOMES[outcome](bench)
        await bench.amend()
        assert bench.amends == 1
        bench.assert_counts()
        await bench.settle()
        bench.assert_equal()
        assert_outcome(bench, outcome, executed)

    play(story)


@pytest.mark.parametrize(
    ("status", "body", "counts"),
    [(451, b"", True), (503, b'{"code":0,"msg":"Service Unavailable."}', False)],
    ids=["not for this country", "busy"],
)
def test_amendment_that_is_refused_without_a_code_three_times_is_for_good(
    status: int, body: bytes, counts: bool
) -> None:
    """Unless the exchange says that it is busy: that passes."""

    async def story(bench: Bench) -> None:
        await bench.place()

        async def refuse(_sent: Sent) -> HttpResponse:
            return HttpResponse(status, {}, body)

        bench.fate = refuse
        for _ in range(3):
            assert bench.order.amend_refused_code == 0
            bench.target -= 1
            await bench.amend()
        assert bench.order.amend_refused_code == (UNREADABLE if counts else 0)

    play(story)


def test_refusal_that_may_pass_is_for_good_the_third_time_in_a_row() -> None:
    """A symbol that is halted for a moment costs no place in the queue, an order that is never taken no requests."""

    async def story(bench: Bench) -> None:
        await bench.place()
        refused_with(-5024)(bench)
        await bench.amend()
        await bench.amend()
        assert bench.order.amend_refused_code == 0
        refusing, bench.fate = bench.fate, bench._as_it_comes
        await bench.amend()  # it is taken: what was before is forgotten
        bench.fate = refusing
        for code in (0, 0, -5024):
            bench.target -= 1
            await bench.amend()
            assert bench.order.amend_refused_code == code

    play(story)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_answer_that_comes_after_the_word_of_the_stream_changes_nothing_more(outcome: str) -> None:
    """PENDING_MODIFY, and the account stream is faster than the answer."""

    async def story(bench: Bench) -> None:
        await bench.place()
        OUTCOMES[outcome](bench)
        bench.after = bench.hear
        await bench.amend()
        bench.assert_counts()
        await bench.settle()
        bench.assert_equal()
        assert_outcome(bench, outcome, 0)

    play(story)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_cancel_that_overtakes_the_answer_gets_the_order_out(outcome: str) -> None:
    """PENDING_CANCEL over an amendment: whatever its outcome, nothing rests in the end, and all of it is known."""

    async def story(bench: Bench) -> None:
        await bench.place()
        OUTCOMES[outcome](bench)
        cancelling: list[asyncio.Future[None]] = []

        def cancel() -> None:
            cancelling.append(asyncio.ensure_future(bench.execution.cancel(bench.context, [bench.order])))

        bench.after = cancel
        await bench.amend()
        await asyncio.gather(*cancelling)
        await bench.settle()
        assert bench.truth().status not in LIVING
        bench.assert_equal()

    play(story)


# --- an order that cannot be amended ------------------------------------------------------------------------


async def sent_and_unanswered(bench: Bench) -> None:
    """PENDING_NEW."""
    bench.order = bench.context.orders.register("qpmm-mm1-1-1", Quote(Side.BUY, 1, PRICE, LOTS), 0)


async def placed_without_answer(bench: Bench) -> None:
    """IN_DOUBT."""
    await sent_and_unanswered(bench)
    bench.context.orders.doubt(bench.order, "no answer")


async def being_amended(bench: Bench) -> None:
    """PENDING_MODIFY."""
    await bench.place()
    bench.context.orders.begin_amend(bench.order, PRICE - 10, LOTS, bench.clock.monotonic_ns())


async def amended_without_answer(bench: Bench) -> None:
    """IN_DOUBT, at two prices."""
    await being_amended(bench)
    bench.context.orders.doubt_amend(bench.order, "no answer")


async def being_cancelled(bench: Bench) -> None:
    """PENDING_CANCEL."""
    await bench.place()
    bench.context.orders.begin_cancel(bench.order, bench.clock.monotonic_ns())


async def cancelled_over_an_amend(bench: Bench) -> None:
    """PENDING_CANCEL, at two prices."""
    await being_amended(bench)
    bench.context.orders.begin_cancel(bench.order, bench.clock.monotonic_ns())


async def cancelled(bench: Bench) -> None:
    """CANCELLED."""
    await bench.place()
    await bench.execution.cancel(bench.context, [bench.order])


async def entirely_filled(bench: Bench) -> None:
    """FILLED."""
    await bench.place()
    bench.at_exchange.trade("49990.00", "1")
    bench.hear()


async def refused(bench: Bench) -> None:
    """REJECTED, as we conclude."""
    await sent_and_unanswered(bench)
    bench.context.orders.end(bench.order, OrderStatus.REJECTED, "no")


NOT_AMENDABLE = (
    sent_and_unanswered,
    placed_without_answer,
    being_amended,
    amended_without_answer,
    being_cancelled,
    cancelled_over_an_amend,
    cancelled,
    entirely_filled,
    refused,
)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("state", NOT_AMENDABLE, ids=lambda state: state.__name__)
def test_order_that_cannot_be_amended_is_left_as_it_is(
    state: Callable[[Bench], Coroutine[Any, Any, None]], outcome: str
) -> None:
    """No request leaves, so that no outcome can come of it."""

    async def story(bench: Bench) -> None:
        await state(bench)
        OUTCOMES[outcome](bench)
        before = (bench.order.state, bench.order.change, bench.order.price_ticks, bench.order.lots)
        await bench.amend()
        assert bench.amends == 0
        assert (bench.order.state, bench.order.change, bench.order.price_ticks, bench.order.lots) == before
        bench.assert_counts()

    play(story)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_late_outcome_of_an_amendment_undoes_no_end(outcome: str) -> None:
    """The order was cancelled while its amendment was under way, and everybody knows it before the answer comes."""

    async def story(bench: Bench) -> None:
        await bench.place()
        OUTCOMES[outcome](bench)

        def stranger() -> None:
            bench.at_exchange.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
            bench.hear()

        bench.after = stranger
        await bench.amend()
        end = bench.order.status
        assert end.is_terminal
        await bench.settle()
        assert bench.order.status is end
        bench.assert_equal()

    play(story)


def test_amendments_in_one_request_share_the_room_within_the_limit() -> None:
    """Two orders are to grow, and there is room for one: what the first may become counts against the second."""

    async def story(bench: Bench) -> None:
        nearer, farther = await bench.execution.place(
            bench.context, [Quote(Side.BUY, level, PRICE - level, 2) for level in (1, 2)], bench.book
        )
        bench.context.limits = replace(bench.context.limits, max_net_position_ratio=Decimal("0.035"))
        changes = [(each, Quote(Side.BUY, each.level, PRICE, 4), "test") for each in (nearer, farther)]
        await bench.execution.amend(bench.context, changes, bench.book)
        assert (nearer.lots, farther.lots) == (4, 2)

    play(story)
