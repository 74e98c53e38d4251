"""The gateway and orders, against the simulated exchange: each order of a batch is answered for itself."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec
import pytest

from core.gateway import MAX_ORDER_BATCH, Amend, Gateway
from core.live_order import LiveOrder
from core.model import OrderReport, OrderStatus, Quote, Side, SymbolRules
from core.order import LiveOrders
from sim.exchange import Request
from test.sim_factory import KEY, SECRET, Rig
from utils.errors import ClockSkew, NotSent, OutcomeUnknown, Overloaded, RateLimited, Refused
from utils.http import BinanceRest, HttpResponse, refusal_of_entry

TICK_BUY = 500_000
"""The touch, with ten coins ahead."""


class RigLine:
    """The shortest way to the exchange in the hand; also its clock. ``altered`` are bodies that come instead."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.requests: list[str] = []
        self.altered: list[bytes] = []

    def time_ms(self) -> int:
        """Return the exchange's time."""
        return self.rig.now_ms

    def monotonic_ns(self) -> int:
        """Return the same, in ns."""
        return self.rig.now_ms * 1_000_000

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the exchange's answer at once."""
        del timeout_s
        self.requests.append(f"{method} {path}")
        lower = {name.lower(): value for name, value in headers.items()}
        reply = self.rig.exchange.handle(Request(method, path, query, lower, ""), self.rig.now_ms)
        body = self.altered.pop(0) if self.altered else reply.body
        return HttpResponse(reply.status, reply.headers, body)

    async def close(self) -> None:
        """Nothing is held open."""


class Bench:
    """A gateway to an exchange at 50000.00 / 50000.10, with the orders that were placed through it."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.line = RigLine(self.rig)
        rest = BinanceRest(self.line, self.line, api_key=KEY, api_secret=SECRET)
        self.gateway = Gateway(rest, self.line)
        self.orders = LiveOrders()
        self.rules: SymbolRules = self.run(self.gateway.exchange_info()).rules["BTCUSDT"]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a call."""
        return asyncio.run(work)

    def place(self, *client_ids: str) -> list[LiveOrder]:
        """Place buys of 0.010 from the touch down, one tick after the other."""
        quotes = [(name, quote(TICK_BUY - at, level=at)) for at, name in enumerate(client_ids)]
        orders = []
        for name, wanted in quotes:
            report = self.run(self.gateway.place_post_only(self.rules, name, wanted))
            order = self.orders.register(name, wanted, self.line.monotonic_ns(), 0)
            self.orders.apply(order, report, self.line.monotonic_ns())
            orders.append(order)
        return orders

    def amend(self, *amends: Amend) -> Any:
        """Return what the exchange says of amendments."""
        return self.run(self.gateway.amend(self.rules, amends))


def quote(price_ticks: int, lots: int = 10, level: int = 0, side: Side = Side.BUY) -> Quote:
    """Return a quote."""
    return Quote(side, level, price_ticks, lots)


def kinds(answers: list[Any]) -> list[type]:
    """Return what kind each answer is of."""
    return [type(answer) for answer in answers]


def test_one_amendment_goes_by_itself() -> None:
    """A batch of one would cost five slots of the order limit instead of one."""
    bench = Bench()
    (order,) = bench.place("a")
    before = len(bench.line.requests)
    (report,) = bench.amend(Amend(order, TICK_BUY - 7, 20))
    assert bench.line.requests[before:] == ["PUT /fapi/v1/order"]
    assert (report.client_id, report.price_ticks, report.lots) == ("a", TICK_BUY - 7, 20)
    assert bench.rig.order("a")["price"] == "49999.30"


def test_a_single_refused_amendment_raises() -> None:
    """The refusal of a request that holds nothing else is the refusal of the request."""
    bench = Bench()
    (order,) = bench.place("a")
    with pytest.raises(Refused) as caught:
        bench.amend(Amend(order, order.price_ticks, order.lots))
    assert caught.value.code == -5027


def test_several_amendments_go_in_one_request_and_answer_each_for_itself() -> None:
    """One with nothing to change and one of an order that is gone leave the third as it was meant."""
    bench = Bench()
    same, gone, moved = bench.place("same", "gone", "moved")
    bench.run(bench.gateway.cancel(bench.rules, [gone]))
    before = len(bench.line.requests)
    answers = bench.amend(
        Amend(same, same.price_ticks, same.lots),
        Amend(gone, TICK_BUY - 20, 10),
        Amend(moved, TICK_BUY - 21, 11),
    )
    assert bench.line.requests[before:] == ["PUT /fapi/v1/batchOrders"]
    assert kinds(answers) == [Refused, Refused, OrderReport]
    assert [answer.code for answer in answers[:2]] == [-5027, -2013]
    assert (answers[2].price_ticks, answers[2].lots) == (TICK_BUY - 21, 11)


def test_an_amended_quantity_is_the_whole_with_what_is_executed() -> None:
    """After a fill of four lots, a total of ten leaves six resting."""
    bench = Bench()
    (order,) = bench.place("a")
    bench.rig.trade("50000.0", "10.004")
    (report,) = bench.amend(Amend(order, TICK_BUY - 3, 10))
    assert (report.executed_lots, report.lots) == (4, 10)
    assert report.status is OrderStatus.PARTIALLY_FILLED


def test_an_entry_with_an_unknown_outcome_leaves_the_others_known() -> None:
    """A timeout inside of a batch is about one order."""
    bench = Bench()
    one, two = bench.place("one", "two")
    unknown = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
    known = bench.rig.order("two")
    bench.line.altered = [msgspec.json.encode([unknown, known])]
    answers = bench.amend(Amend(one, TICK_BUY - 20, 10), Amend(two, TICK_BUY - 21, 10))
    assert kinds(answers) == [OutcomeUnknown, OrderReport]


@pytest.mark.parametrize("entry", [{}, 7, None, [], {"code": "x"}, {"orderId": 1}])
def test_an_entry_that_cannot_be_read_has_an_unknown_outcome(entry: object) -> None:
    """Whatever came instead of an order, it was executed for all we know."""
    bench = Bench()
    one, two = bench.place("one", "two")
    bench.line.altered = [msgspec.json.encode([bench.rig.order("one"), entry])]
    answers = bench.amend(Amend(one, TICK_BUY - 20, 10), Amend(two, TICK_BUY - 21, 10))
    assert kinds(answers) == [OrderReport, OutcomeUnknown]


@pytest.mark.parametrize("body", [b"[]", b"{}", b"[{}]", b'{"code": 200}'])
def test_a_reply_that_does_not_match_its_batch_leaves_all_in_doubt(body: bytes) -> None:
    """Answers that cannot be told apart answer nothing."""
    bench = Bench()
    one, two = bench.place("one", "two")
    bench.line.altered = [body]
    with pytest.raises(OutcomeUnknown):
        bench.amend(Amend(one, TICK_BUY - 20, 10), Amend(two, TICK_BUY - 21, 10))


def test_a_batch_of_six_is_a_fault_of_the_caller() -> None:
    """The exchange would refuse all of it."""
    bench = Bench()
    orders = bench.place(*(f"o{at}" for at in range(MAX_ORDER_BATCH + 1)))
    with pytest.raises(ValueError, match="6 orders"):
        bench.amend(*(Amend(order, TICK_BUY - 20, 10) for order in orders))


def test_an_entry_about_another_order_leaves_its_own_in_doubt() -> None:
    """Entries are told apart by their places; a name that does not fit says that those are not to be trusted."""
    bench = Bench()
    one, two = bench.place("one", "two")
    bench.line.altered = [msgspec.json.encode([bench.rig.order("two"), bench.rig.order("one")])]
    answers = bench.amend(Amend(one, TICK_BUY - 20, 10), Amend(two, TICK_BUY - 21, 10))
    assert kinds(answers) == [OutcomeUnknown, OutcomeUnknown]


def test_a_reply_to_cancels_that_names_other_orders_leaves_all_in_doubt() -> None:
    """Neither order is taken for cancelled on the word about the other."""
    bench = Bench()
    one, two = bench.place("one", "two")
    bench.line.altered = [msgspec.json.encode([bench.rig.order("two"), bench.rig.order("one")])]
    with pytest.raises(OutcomeUnknown, match="another order"):
        bench.run(bench.gateway.cancel(bench.rules, [one, two]))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-1000, OutcomeUnknown),
        (-1001, OutcomeUnknown),
        (-1006, OutcomeUnknown),
        (-1007, OutcomeUnknown),
        (-1003, RateLimited),
        (-1015, RateLimited),
        (-1008, Overloaded),
        (-1021, ClockSkew),
        (-5028, ClockSkew),
        (-2011, Refused),
        (-2013, Refused),
        (-5022, Refused),
        (-5027, Refused),
    ],
)
def test_the_code_of_an_entry_tells_what_became_of_its_order(code: int, kind: type[Exception]) -> None:
    """Only what proves that nothing was executed counts as refused."""
    assert type(refusal_of_entry(code, "no")) is kind


def test_no_entry_is_ever_called_not_sent() -> None:
    """A reply has come, so the request was there."""
    assert not any(isinstance(refusal_of_entry(-code, ""), NotSent) for code in range(1000, 6000))
