"""The queue of amendments, against the simulated exchange: few requests, newest targets, one change at a time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.amend_queue import PATIENCE_S, AmendQueue, Rate
from core.gateway import Amend, Answer, Gateway
from core.live_order import LiveOrder
from core.metrics import ACCOUNT_METRICS, amend_values
from core.model import OrderReport, Quote, Side
from sim.transport import InMemoryHttp, Link
from sim.virtual_time import VirtualClock, run_virtual
from test.examples import BTC, context
from test.sim_factory import KEY, SECRET, START_MS, Rig
from utils.errors import NotSent, OutcomeUnknown, RateLimited, Refused
from utils.http import TOO_MANY_ORDERS, BinanceRest

TOUCH = 500_000
LATENCY_MS = 20


class Desk:
    """A queue in front of an exchange 40 ms away, and what was noted of every wish: what, whose, when."""

    def __init__(self, clock: VirtualClock, **sizes: Any) -> None:
        self.clock = clock
        self.rig = Rig()
        self.link = Link(self.rig.exchange, clock, LATENCY_MS)
        rest = BinanceRest(InMemoryHttp(self.link), clock, api_key=KEY, api_secret=SECRET)
        self.gateway = Gateway(rest, clock)
        self.queue = AmendQueue(self.gateway.amend, clock, **sizes)
        self.context = context()
        self.objections: dict[str, str] = {}
        self.asked = 0
        self.log: list[tuple[str, str, Any]] = []
        self.began_ms: dict[str, list[int]] = {}
        self.once_begun: dict[str, Callable[[], None]] = {}
        self.answers: dict[str, Answer | NotSent] = {}
        self.opened_ms = clock.time_ms()

    async def place(self, count: int) -> list[LiveOrder]:
        """Place buys named a, b, c... of 0.010, from the touch down."""
        names = [chr(ord("a") + at) for at in range(count)]
        quotes = [(name, Quote(Side.BUY, at, TOUCH + 1 - at, 10)) for at, name in enumerate(names, 1)]
        for name, quote in quotes:
            await self.gateway.place_post_only(BTC, name, quote)
        self.opened_ms = self.clock.time_ms()
        now_ns = self.clock.monotonic_ns()
        return [self.context.orders.register(name, quote, now_ns, 0) for name, quote in quotes]

    async def amend(self, *targets: tuple[LiveOrder, int]) -> None:
        """Ask the queue for new prices."""
        await self.queue.amend(self.context, [Wanted(self, order, ticks) for order, ticks in targets])

    def elapsed_ms(self) -> int:
        """Return the time since the orders were placed."""
        return self.clock.time_ms() - self.opened_ms

    def price(self, name: str) -> str:
        """Return the price at which an order rests at the exchange."""
        rows = self.rig.record()["orders"]
        return next(str(row["price"]) for row in rows if row["clientOrderId"] == name)

    def requests(self, method: str) -> int:
        """Return how many requests of amendments came to the exchange."""
        counts = self.rig.record()["requests"]
        return int(counts.get(f"{method} /fapi/v1/order", 0)) + int(
            counts.get(f"{method} /fapi/v1/batchOrders", 0)
        )

    def noted(self, what: str) -> list[str]:
        """Return the names of the orders of which this was noted."""
        return [name for kind, name, _ in self.log if kind == what]


def nothing() -> None:
    """Happen not at all."""


class Wanted:
    """A wish for a price, which notes all that happens to it."""

    def __init__(self, desk: Desk, order: LiveOrder, price_ticks: int) -> None:
        self.order = order
        self._desk = desk
        self._price_ticks = price_ticks

    def objection(self) -> str:
        """Return what the test objects."""
        self._desk.asked += 1
        return self._desk.objections.get(self.order.client_id, "")

    def begin(self) -> Amend:
        """Note the time."""
        self._desk.once_begun.get(self.order.client_id, nothing)()
        self._desk.log.append(("begin", self.order.client_id, self._price_ticks))
        self._desk.began_ms.setdefault(self.order.client_id, []).append(self._desk.elapsed_ms())
        return Amend(self.order, self._price_ticks, self.order.lots)

    def tell(self) -> None:
        """Tell nobody."""

    def hindrance(self) -> str:
        """Return whether the gate is closed."""
        gate = self._desk.context.gate
        return "" if gate.is_open else f"quoting is closed ({'; '.join(gate.reasons)})"

    def settle(self, answer: Answer | NotSent) -> None:
        """Note the answer."""
        self._desk.log.append(("settle", self.order.client_id, type(answer)))
        self._desk.answers[self.order.client_id] = answer

    def forgo(self, reason: str) -> None:
        """Note the reason."""
        self._desk.log.append(("forgo", self.order.client_id, reason))


def at_desk(work: Callable[[Desk], Coroutine[Any, Any, None]], **sizes: Any) -> None:
    """Run with a queue of these sizes, in virtual time."""

    async def main(clock: VirtualClock) -> None:
        await work(Desk(clock, **sizes))

    run_virtual(main, epoch_ms=START_MS + 10_000)


def test_each_wish_is_asked_for_objections_only_when_its_turn_comes() -> None:
    """Twice each, however many wait; asking all of them for each request would cost their number squared."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(26)
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert len(desk.answers) == 26
        assert desk.asked == 2 * 26

    at_desk(work)


def test_amendments_of_a_symbol_leave_in_batches_of_five() -> None:
    """Seven amendments are two requests, at once."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(7)
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert desk.requests("PUT") == 2
        assert desk.elapsed_ms() == 2 * LATENCY_MS
        assert [type(answer) for answer in desk.answers.values()] == [OrderReport] * 7
        assert desk.price("g") == "49994.40"
        values = amend_values(desk.queue)
        assert values.keys() <= ACCOUNT_METRICS.keys()
        assert (values["amend_batch_mean"], values["amend_queue"], values["amends_dropped"]) == (3.5, 0, 0)

    at_desk(work)


def test_no_more_requests_are_under_way_than_there_are_workers() -> None:
    """With one worker the second batch leaves when the first has been answered."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(7)
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert [times[0] for times in desk.began_ms.values()] == [0] * 5 + [2 * LATENCY_MS] * 2

    at_desk(work, workers=1)


def test_no_more_requests_leave_in_a_second_than_the_rate_allows() -> None:
    """With two a second the third batch waits for the first to be a second old."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(5)
        for at, order in enumerate(orders[:4]):
            await desk.amend((order, order.price_ticks - 50 - at))
        assert [times[0] for times in desk.began_ms.values()] == [0, 40, 1000, 1040]

    at_desk(work, per_second=2)


def test_what_does_not_get_its_turn_in_time_is_not_sent() -> None:
    """The next refresh has a newer target: half a request a second would be too old."""

    async def work(desk: Desk) -> None:
        one, two = await desk.place(2)
        await desk.amend((one, TOUCH - 50))
        await desk.amend((two, TOUCH - 51))
        assert desk.log[-1] == ("forgo", "b", "its turn did not come in time")
        assert desk.elapsed_ms() == 40 + PATIENCE_S * 1000
        assert desk.price("b") == "49999.90"
        assert desk.queue.waiting == 0

    at_desk(work, per_second=0.5)


def test_the_newest_target_takes_the_place_of_one_that_has_not_left() -> None:
    """The first target is under way; of the two that follow, only the later one is ever sent, after its answer."""

    async def work(desk: Desk) -> None:
        (order,) = await desk.place(1)
        async with asyncio.TaskGroup() as group:
            for price_ticks in (TOUCH - 50, TOUCH - 60, TOUCH - 70):
                group.create_task(desk.amend((order, price_ticks)))
                await asyncio.sleep(0.001)
        assert [entry for entry in desk.log if entry[0] != "settle"] == [
            ("begin", "a", TOUCH - 50),
            ("forgo", "a", "a newer target takes its place"),
            ("begin", "a", TOUCH - 70),
        ]
        assert desk.price("a") == "49993.00"
        assert desk.queue.counts.replaced == 1

    at_desk(work)


def test_at_most_one_change_of_an_order_is_under_way() -> None:
    """Two workers are free, but the second change of the same order waits for the answer to the first."""

    async def work(desk: Desk) -> None:
        (order,) = await desk.place(1)
        await asyncio.gather(desk.amend((order, TOUCH - 50)), delayed(desk, order, TOUCH - 60))
        assert desk.began_ms["a"] == [0, 2 * LATENCY_MS]
        assert [kind for kind, _, _ in desk.log] == ["begin", "settle", "begin", "settle"]

    at_desk(work)


def test_without_batches_amendments_leave_one_by_one_while_the_rate_allows() -> None:
    """Three fit into the rate of three a second; four are too many for that and go together, a second later."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(7)
        await desk.amend(*((order, order.price_ticks - 50) for order in orders[:3]))
        assert desk.requests("PUT") == 3
        await desk.amend(*((order, order.price_ticks - 50) for order in orders[3:]))
        assert desk.requests("PUT") == 4
        assert desk.began_ms["d"] == desk.began_ms["g"] == [1000]

    at_desk(work, per_second=3, workers=3, prefers_singles=lambda: True)


@settings(max_examples=60)
@example(
    steps=[("amend", {0}, 0), ("amend", set(range(6)), 0), ("cut", set(), 1), ("amend", {0, 1, 2, 3}, 0)],
    workers=1,
    max_pending=1,
    singly=False,
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["amend", "amend", "amend", "drop", "close", "open", "cut", "restore", "pass"]),
            st.sets(st.integers(0, 5), max_size=6),
            st.sampled_from([0, 1, 15, 40, 300, 1500]),
        ),
        max_size=25,
    ),
    workers=st.integers(1, 3),
    max_pending=st.integers(1, 8),
    singly=st.booleans(),
)
def test_every_wish_has_exactly_one_end(
    steps: list[tuple[str, set[int], int]], workers: int, max_pending: int, singly: bool
) -> None:
    """Whatever comes in which order: forgone, or begun and settled; one change of an order at once; nobody waits on."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(6)
        desk.context.gate.listen(desk.queue.recheck)
        amending, price_ticks = [], TOUCH - 100
        for what, which, pause_ms in steps:
            chosen = [orders[at] for at in sorted(which)]
            if what == "amend":
                price_ticks -= 10
                targets = [(order, price_ticks - order.level) for order in chosen]
                amending.append(asyncio.ensure_future(desk.amend(*targets)))
            elif what == "drop":
                desk.queue.drop(chosen, "it is being cancelled")
            else:
                happen(desk, what)
            await asyncio.sleep(pause_ms / 1000)
        happen(desk, "restore")
        async with asyncio.timeout(30):
            await asyncio.gather(*amending)
        assert desk.queue.waiting == 0
        await asyncio.sleep(10)  # what is under way when patience is over goes on until its own time is
        wishes = sum(len(which) for what, which, _ in steps if what == "amend")
        assert_each_wish_ended_once(desk, wishes)

    at_desk(work, workers=workers, max_pending=max_pending, prefers_singles=lambda: singly)


def happen(desk: Desk, what: str) -> None:
    """Let something happen around the queue."""
    match what:
        case "close":
            desk.objections = dict.fromkeys("abcdef", "quoting is closed")
            desk.context.gate.close("test", "closed")
        case "open":
            desk.objections = {}
            desk.context.gate.open("test")
        case "cut":
            desk.link.cut()
        case "restore":
            desk.link.restore()


def assert_each_wish_ended_once(desk: Desk, wishes: int) -> None:
    """Begun and settled alternate for each order, and with those forgone they are all there are."""
    for name in "abcdef":
        kinds = [kind for kind, whose, _ in desk.log if whose == name and kind != "forgo"]
        assert kinds == ["begin", "settle"] * (len(kinds) // 2)
    assert len(desk.noted("forgo")) + len(desk.noted("settle")) == wishes


async def delayed(desk: Desk, order: LiveOrder, price_ticks: int) -> None:
    """Ask for a price while the first request is on its way."""
    await asyncio.sleep(0.01)
    await desk.amend((order, price_ticks))


def test_only_so_many_amendments_are_without_an_answer() -> None:
    """With room for three, the others wait until those have been answered."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(5)
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert [times[0] for times in desk.began_ms.values()] == [0, 0, 0, 40, 40]

    at_desk(work, max_pending=3)


def test_amendments_in_doubt_count_as_without_an_answer() -> None:
    """Two nobody knows the outcome of leave no room for a third, which is not sent, and nobody waits for it."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(3)
        now_ns = desk.clock.monotonic_ns()
        for order in orders[:2]:
            desk.context.orders.apply(order, accepted(order), now_ns)
            desk.context.orders.begin_amend(order, TOUCH - 90, 10, now_ns)
            desk.context.orders.doubt_amend(order, "no answer")
        await desk.amend((orders[2], TOUCH - 50))
        assert desk.log == [("forgo", "c", "too many amendments have no answer yet")]
        assert desk.elapsed_ms() == 0

    at_desk(work, max_pending=2)


def accepted(order: LiveOrder) -> OrderReport:
    """Return the report that an order rests."""
    return OrderReport(
        symbol="BTCUSDT",
        client_id=order.client_id,
        order_id=1 + order.level,
        side=order.side,
        status=order.status.ACTIVE,
        price_ticks=order.price_ticks,
        lots=order.lots,
        executed_lots=0,
        reduce_only=False,
        time_in_force="GTX",
        update_ms=START_MS,
    )


def test_what_waits_is_dropped_when_the_gate_closes() -> None:
    """At once, as not sent; what is under way gets its answer."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(6)
        desk.context.gate.listen(desk.queue.recheck)
        amending = asyncio.ensure_future(desk.amend(*((order, order.price_ticks - 50) for order in orders)))
        await asyncio.sleep(0.005)
        desk.objections = {order.client_id: "quoting is closed" for order in orders}
        desk.context.gate.close("test", "pulled")
        assert desk.log[-1] == ("forgo", "f", "quoting is closed")
        await amending
        assert desk.noted("settle") == ["a", "b", "c", "d", "e"]
        assert desk.requests("PUT") == 1

    at_desk(work, workers=1)


def test_what_waits_is_dropped_when_its_order_is_to_be_cancelled() -> None:
    """Its batch goes on without it."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(7)
        amending = asyncio.ensure_future(desk.amend(*((order, order.price_ticks - 50) for order in orders)))
        await asyncio.sleep(0.005)
        desk.queue.drop([orders[0], orders[5]], "it is being cancelled")
        await amending
        assert desk.noted("forgo") == ["f"]
        assert desk.noted("settle") == ["a", "b", "c", "d", "e", "g"]

    at_desk(work, workers=1)


def test_an_objection_is_asked_at_the_moment_of_leaving() -> None:
    """What nobody wants any more does not leave, and does not keep the others."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(2)
        desk.objections["a"] = "the book is stale"
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert desk.log[0] == ("forgo", "a", "the book is stale")
        assert desk.noted("settle") == ["b"]

    at_desk(work)


def test_a_request_that_waits_for_budget_does_not_leave_through_a_closed_gate() -> None:
    """Then it counts as not sent, and what rested rests."""

    async def work(desk: Desk) -> None:
        (order,) = await desk.place(1)
        desk.gateway.lanes.limited(RateLimited(TOO_MANY_ORDERS, "no", 429, retry_after_s=0.3, banned=False))
        desk.context.gate.listen(desk.gateway.lanes.recheck)
        amending = asyncio.ensure_future(desk.amend((order, TOUCH - 50)))
        await asyncio.sleep(0.1)
        desk.context.gate.close("test", "pulled")
        await amending
        assert desk.elapsed_ms() == 100
        assert str(desk.answers["a"]) == "quoting is closed (pulled)"
        assert type(desk.answers["a"]) is NotSent
        assert desk.requests("PUT") == 0

    at_desk(work)


def test_a_lost_reply_leaves_the_whole_batch_in_doubt() -> None:
    """The connection was cut after the request had left: each of its orders may have been amended."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(3)
        amending = asyncio.ensure_future(desk.amend(*((order, order.price_ticks - 50) for order in orders)))
        await asyncio.sleep(0.03)
        desk.link.cut()
        await amending
        assert [type(answer) for answer in desk.answers.values()] == [OutcomeUnknown] * 3
        assert desk.price("a") == "49995.00"

    at_desk(work)


def test_a_batch_that_cannot_be_sent_is_not_sent_for_each() -> None:
    """There is no connection."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(3)
        desk.link.cut()
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert [type(answer) for answer in desk.answers.values()] == [NotSent] * 3

    at_desk(work)


def test_a_refused_batch_is_refused_for_each() -> None:
    """The limit of orders is reached; the refusal goes to every order of the request."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(2)
        for _ in range(296):
            desk.rig.now_ms = desk.clock.time_ms()
            desk.rig.call("POST", "/fapi/v1/order", symbol="BTCUSDT")
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert [type(answer) for answer in desk.answers.values()] == [RateLimited] * 2
        assert desk.price("a") == "50000.00"

    at_desk(work)


def test_each_order_of_a_batch_gets_its_own_answer() -> None:
    """One of three has nothing to change."""

    async def work(desk: Desk) -> None:
        one, two, three = await desk.place(3)
        await desk.amend((one, TOUCH - 50), (two, two.price_ticks), (three, TOUCH - 51))
        assert [type(desk.answers[name]) for name in "abc"] == [OrderReport, Refused, OrderReport]

    at_desk(work)


def test_a_refresh_that_is_broken_off_leaves_what_is_under_way_to_its_answer() -> None:
    """What waits is forgone; the outcome of the request is noted although nobody waits for it any more."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(6)
        amending = asyncio.ensure_future(desk.amend(*((order, order.price_ticks - 50) for order in orders)))
        await asyncio.sleep(0.01)
        amending.cancel()
        await asyncio.gather(amending, return_exceptions=True)
        assert desk.log[-1] == ("forgo", "f", "the refresh was broken off")
        await asyncio.sleep(0.05)
        assert desk.noted("settle") == ["a", "b", "c", "d", "e"]

    at_desk(work, workers=1)


def test_a_fault_of_this_program_reaches_whoever_waits() -> None:
    """It is not swallowed, the orders are in doubt, and the queue goes on."""

    async def work(desk: Desk) -> None:
        (order,) = await desk.place(1)
        sending, desk.queue._send = desk.queue._send, broken
        with pytest.raises(ZeroDivisionError):
            await desk.amend((order, TOUCH - 50))
        assert type(desk.answers["a"]) is OutcomeUnknown
        desk.queue._send = sending
        await desk.amend((order, TOUCH - 60))
        assert desk.price("a") == "49994.00"

    at_desk(work)


def test_what_one_amendment_takes_up_is_seen_by_the_next_of_its_batch() -> None:
    """The objection is asked one by one, each after those before it have begun."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(3)
        desk.once_begun["a"] = lambda: desk.objections.update(b="no room beside the others")
        await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        assert desk.noted("begin") == ["a", "c"]
        assert ("forgo", "b", "no room beside the others") in desk.log
        assert desk.noted("settle") == ["a", "c"]

    at_desk(work)


def test_a_fault_before_leaving_reaches_whoever_waits_and_spares_the_others() -> None:
    """Its order was not amended; the rest of the batch was."""

    async def work(desk: Desk) -> None:
        orders = await desk.place(2)
        desk.once_begun["a"] = fail
        with pytest.raises(ZeroDivisionError):
            await desk.amend(*((order, order.price_ticks - 50) for order in orders))
        await asyncio.sleep(0.05)
        assert desk.noted("settle") == ["b"]
        assert desk.price("a") == "50000.00"
        assert desk.price("b") == "49994.90"

    at_desk(work)


def fail() -> None:
    """Fail."""
    raise ZeroDivisionError


def test_the_end_of_the_program_leaves_what_is_under_way_in_doubt() -> None:
    """The request may have been executed; whoever is still there learns so."""

    async def work(desk: Desk) -> None:
        (order,) = await desk.place(1)
        amending = asyncio.ensure_future(desk.amend((order, TOUCH - 50)))
        await asyncio.sleep(0.01)
        for task in desk.queue._requests:
            task.cancel()
        await amending
        assert type(desk.answers["a"]) is OutcomeUnknown

    at_desk(work)


async def broken(_rules: object, _amends: Sequence[Amend], _objection: object) -> list[Answer]:
    """Fail."""
    raise ZeroDivisionError


@given(st.floats(0.1, 50), st.lists(st.integers(0, 2_000_000_000), max_size=60))
def test_the_rate_is_kept_over_every_second(per_second: float, pauses_ns: list[int]) -> None:
    """Whenever somebody asks, so many at most went within any second, or the span of a slower rate."""
    rate, now_ns, taken = Rate(per_second), 0, []
    for pause_ns in pauses_ns:
        now_ns += pause_ns
        now_ns += rate.wait_ns(now_ns)
        assert rate.wait_ns(now_ns) == 0
        rate.take(now_ns)
        taken.append(now_ns)
    count = max(int(per_second), 1)
    span_ns = int(count / per_second * 1e9)
    for first, beyond in zip(taken, taken[count:], strict=False):
        assert beyond - first >= span_ns
