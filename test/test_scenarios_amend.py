"""Every pair of where an order stands when it is amended, and what becomes of the amendment: the right thing happens.

The rows are ``WAYS``: what is true of the order, and what happens to it while the amendment is on its way. The columns
are ``OUTCOMES``: what the exchange makes of the amendment. The pairs that cannot be are those in which no amendment can
leave: ``test_no_amendment_leaves_for_an_order_that_stands_elsewhere`` names them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from core.context import SymbolContext
from core.exit_code import ExitCode
from core.live_order import LiveOrder
from core.model import OrderStatus, Quote
from core.model import Side as OurSide
from core.order_life import STATES, Open, State, Trigger, after
from sim.orders import Order
from sim.venue import Options
from test.daemon import Sent, World, in_a_world, json_reply
from utils.http import HttpResponse

SETTLES_WITHIN_S = 20.0
"""The receive window, the requests in which what came of it is found out, and a refresh or two."""
MOST_REQUESTS = 60
"""That change or look up orders, in the whole story of about 25 s: nobody insists without end."""
ASKED_FOR = "the test asks for it"


@dataclass(slots=True)
class Case:
    """One order that is amended, in its world."""

    world: World
    order: LiveOrder
    wish: Quote
    requests: int = 0
    in_flight: dict[str, int] = field(default_factory=dict)

    @property
    def context(self) -> SymbolContext:
        """Return what the daemon knows of the symbol."""
        assert self.world.engine is not None
        return self.world.engine.contexts[0]

    @property
    def true(self) -> Order:
        """Return the order as the exchange has it, resting or ended."""
        orders = self.world.exchange._venue.ledger.orders()
        return next(each for each in orders if each.client_order_id == self.order.client_id)

    def fill(self, lots: int) -> None:
        """Have so many lots of it trade."""
        venue = self.world.exchange._venue
        venue.desk.fill_resting(
            venue.instruments[self.world.symbol], self.true, lots, self.world.clock.time_ms()
        )

    async def amend(self, wish: Quote) -> None:
        """Have the daemon amend it, as a refresh would."""
        book = self.context.state.book
        assert book is not None
        assert self.world.engine is not None
        await self.world.engine.execution.amend(self.context, [(self.order, wish, ASKED_FOR)], book)


def refusal(sent: Sent, status: int, code: int) -> HttpResponse:
    """Return the reply that refuses everything in the request: one by one in a batch, if it is not a limit."""
    error = {"code": code, "msg": "refused by the test"}
    if "batchOrders" in sent.query and status == 400:
        return json_reply(200, [error] * len(json.loads(parse_qs(sent.query)["batchOrders"][0])))
    return json_reply(status, error)


# --- what the exchange makes of the amendment ---------------------------------------------------------------

Play = Callable[[Case, Sent], Awaitable[HttpResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``told`` is what OrderModify* says of it if the answer is heard; ``stays`` whether the order rests on after it.

    ``stays`` is None where both are right: what the exchange has made of it is not what the answer says.
    """

    play: Play
    told: str
    code: int = 0
    stays: bool | None = True
    options: Options = field(default_factory=Options)
    lowers_size: bool = False
    would_cross: bool = False


def says(status: int, code: int, *, executed: bool = False) -> Play:
    """Return an exchange that answers with this error, having executed the amendment or not."""

    async def play(_case: Case, sent: Sent) -> HttpResponse:
        if executed:
            await sent.deliver()
        return refusal(sent, status, code)

    return play


async def _done(_case: Case, sent: Sent) -> HttpResponse:
    return await sent.deliver()


async def _twice(_case: Case, sent: Sent) -> HttpResponse:
    """It is on the exchange already when it comes: an earlier copy of it was first."""
    await sent.deliver()
    return await sent.deliver()


async def _crossed(case: Case, sent: Sent) -> HttpResponse:
    """The market comes down to the new price while the request is under way."""
    matcher = case.world.exchange._venue.instruments[case.world.symbol].matcher
    for _ in range(100):
        if matcher.would_take(case.wish.price_ticks, is_buy=True):
            break
        case.world.control("POST", "/sim/market", symbol=case.world.symbol, move_bps="-0.2")
        await asyncio.sleep(0.05)
    return await sent.deliver()


async def _overtaken_by_fills(case: Case, sent: Sent) -> HttpResponse:
    """As much is executed when it comes as it asks for in all: nothing remains, the exchange cancels the order."""
    case.fill(case.true.lots - 1 - case.true.executed_lots)
    return await sent.deliver()


async def _partly_filled(case: Case, sent: Sent) -> HttpResponse:
    case.fill(1)
    return await sent.deliver()


async def _filled(case: Case, sent: Sent) -> HttpResponse:
    case.fill(case.true.remaining_lots)
    return await sent.deliver()


async def _cancelled_by_a_person(case: Case, sent: Sent) -> HttpResponse:
    params: dict[str, str | int] = {
        "symbol": case.world.symbol,
        "origClientOrderId": case.order.client_id,
    }
    await case.world.other_client("DELETE", "/fapi/v1/order", **params)
    return await sent.deliver()


async def _lost_request(_case: Case, sent: Sent) -> HttpResponse:
    await sent.hang()


async def _lost_reply(_case: Case, sent: Sent) -> HttpResponse:
    await sent.deliver()
    await sent.hang()


OUTCOMES = {
    "done": Outcome(play=_done, told="done"),
    "nothing to change": Outcome(play=_twice, told="refused", code=-5027),
    "crossed, told as expired": Outcome(play=_crossed, told="refused", stays=False, would_cross=True),
    "crossed, told as refused": Outcome(
        play=_crossed,
        told="refused",
        code=-5022,
        stays=False,
        would_cross=True,
        options=Options(amend_refuses_crossing=True),
    ),
    "not above what is executed": Outcome(
        play=_overtaken_by_fills, told="refused", stays=False, lowers_size=True
    ),
    "pending modification": Outcome(play=says(400, -5043), told="unknown", code=-5043),
    "pending modification, that is this one": Outcome(
        play=says(400, -5043, executed=True), told="unknown", code=-5043
    ),
    "unknown: lost request": Outcome(play=_lost_request, told="unknown"),
    "unknown: lost reply": Outcome(play=_lost_reply, told="unknown"),
    "unknown: -1007, executed": Outcome(play=says(408, -1007, executed=True), told="unknown"),
    "unknown: -1007, not executed": Outcome(play=says(408, -1007), told="unknown"),
    "unknown: 503, executed": Outcome(play=says(503, -1000, executed=True), told="unknown"),
    "unknown: 503, not executed": Outcome(play=says(503, -1000), told="unknown"),
    "gone: -2013": Outcome(play=_cancelled_by_a_person, told="refused", code=-2013, stays=False),
    "gone: -2011": Outcome(
        play=_cancelled_by_a_person,
        told="refused",
        code=-2011,
        stays=False,
        options=Options(amend_of_ended_code=-2011),
    ),
    "gone, says one that is wrong": Outcome(play=says(400, -2013), stays=False, told="refused", code=-2013),
    "filled meanwhile": Outcome(play=_filled, told="refused", code=-2013, stays=False),
    "partly filled meanwhile": Outcome(play=_partly_filled, told="done"),
    "refused by filter: -4014": Outcome(play=says(400, -4014), told="refused", code=-4014, stays=False),
    "refused by filter: -1111": Outcome(play=says(400, -1111), told="refused", code=-1111, stays=False),
    "refused by filter: -5029": Outcome(play=says(400, -5029), told="refused", code=-5029, stays=False),
    "10,000 amendments": Outcome(play=says(400, -5026), told="refused", code=-5026, stays=False),
    "limited: -1015": Outcome(play=says(429, -1015), told="refused", code=-1015),
    "limited: -1003": Outcome(play=says(429, -1003), told="refused", code=-1003, stays=None),
    "busy: -1008": Outcome(play=says(503, -1008), told="refused", code=-1008),
}


# --- how the order stands, and what happens meanwhile -------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What is true of the order when the amendment leaves, and what happens before the daemon hears of it.

    ``pauses`` says when quoting is paused, so that a cancel is under way besides: "before" the exchange has the
    amendment, "after" it, or in "doubt" about it. ``is_silent``: the account stream says nothing of it all.
    """

    has_fills: bool = False
    is_heard: bool = True
    pauses: str = ""
    asks_again: bool = False
    is_silent: bool = False


WAYS = {
    "ACTIVE": Way(),
    "PARTIALLY_FILLED": Way(has_fills=True),
    "ACTIVE, another amend is wanted": Way(asks_again=True),
    "PARTIALLY_FILLED, another amend is wanted": Way(asks_again=True, has_fills=True),
    "ACTIVE, a cancel overtakes the answer": Way(pauses="after"),
    "ACTIVE, a cancel overtakes the amend": Way(pauses="before"),
    "PARTIALLY_FILLED, a cancel overtakes the answer": Way(pauses="after", has_fills=True),
    "ACTIVE, the account stream is silent": Way(is_silent=True),
    "ACTIVE, amend in doubt": Way(is_heard=False),
    "PARTIALLY_FILLED, amend in doubt": Way(is_heard=False, has_fills=True),
    "ACTIVE, a cancel over an amend in doubt": Way(is_heard=False, pauses="doubt"),
}


class Exchange:
    """The way to the exchange: the first amendment becomes what the outcome says, on the way that the way says."""

    HOLDS_S = 0.6

    def __init__(self, case: Case, way: Way, outcome: Outcome) -> None:
        self._case = case
        self._way = way
        self._outcome = outcome
        self._is_first = True

    async def tamper(self, sent: Sent) -> HttpResponse | None:
        """Count, look that only one change of an order is under way, and let the first amendment have its outcome."""
        case = self._case
        if "rder" in sent.path and sent.path != "/fapi/v1/openOrders":
            case.requests += 1
        if sent.method != "PUT" or "rder" not in sent.path:
            return None
        name = case.order.client_id if case.order.client_id in sent.query else ""
        case.in_flight[name] = case.in_flight.get(name, 0) + 1
        assert not name or case.in_flight[name] == 1, "two amendments of one order are under way"
        try:
            if not name or not self._is_first:
                return await sent.deliver()
            self._is_first = False
            return await self._play(sent)
        finally:
            case.in_flight[name] -= 1

    async def _play(self, sent: Sent) -> HttpResponse:
        case, way = self._case, self._way
        if way.pauses == "before":
            case.world.state.strategy_paused = True
            await asyncio.sleep(self.HOLDS_S + 1)
        if not way.is_heard or way.is_silent:
            case.world.control("POST", "/sim/silence", stream="userData", seconds=4)
        try:
            reply = await self._outcome.play(case, sent)
        finally:  # also when no answer comes
            if way.pauses == "after":
                case.world.state.strategy_paused = True
        if way.pauses == "after" or way.asks_again:
            await asyncio.sleep(self.HOLDS_S + 1)
        if not way.is_heard:
            await sent.hang()
        return reply


def _assert_sound(case: Case) -> None:
    """Never two orders in a slot, and the daemon counts at least what rests at the exchange."""
    world, context = case.world, case.context
    for side in OurSide:
        resting = [order for order in world.ours() if order.side.value == side.value]
        assert len(resting) <= 1, f"two orders in a slot: {resting}"
        real = sum(context.rules.notional_quote(each.price_ticks, each.remaining_lots) for each in resting)
        assert context.orders.resting_notional_quote(side, context.rules) >= real


async def _watch(case: Case, until: Callable[[], bool], within_s: float, what: str) -> None:
    until_s = case.world.now_s + within_s
    while not until():
        _assert_sound(case)
        assert case.world.now_s < until_s, f"{what} after {within_s} s: {case.world.disagreements()}"
        await asyncio.sleep(0.02)


def _wish(world: World, order: LiveOrder, outcome: Outcome) -> Quote:
    """Return what the order is to become: two basis points nearer, or next to the other side of the book."""
    assert world.engine is not None
    book = world.engine.contexts[0].state.book
    assert book is not None
    price_ticks = book.ask_ticks - 1 if outcome.would_cross else order.price_ticks * 10_002 // 10_000
    return Quote(order.side, order.level, price_ticks, order.remaining_lots - outcome.lowers_size)


async def _prepare(world: World, way: Way, outcome: Outcome) -> Case:
    world.start(
        order_config={"levels": 1},
        order_management={"reset_interval": 0, "modify_threshold": 0.0003, "patience_bps_s": 0},
    )
    await world.until_quoting(orders=2)
    await world.until(lambda: world.disagreements() == [], 2)
    order = next(each for each in world.books.living() if each.side is OurSide.BUY)
    case = Case(world, order, _wish(world, order, outcome))
    if way.has_fills:
        case.fill(1)
        await world.until(lambda: order.status is OrderStatus.PARTIALLY_FILLED, 2)
        case.wish = _wish(world, order, outcome)
    return case


async def _let_it_happen(case: Case, way: Way, outcome: Outcome) -> None:
    """Amend the order; where the way says so, ask for another amendment while the first has no answer."""
    amending = [asyncio.create_task(case.amend(case.wish))]
    await _watch(case, lambda: case.order.amends > 0, 1, "no amendment has left")
    if way.asks_again:
        further = Quote(OurSide.BUY, 1, case.wish.price_ticks - 3, case.wish.lots)
        amending.append(asyncio.create_task(case.amend(further)))
    if way.pauses == "doubt":
        await _watch(case, lambda: case.order.amend_in_doubt or amending[0].done(), 5, "not in doubt")
        case.world.state.strategy_paused = True
    await _watch(case, lambda: all(task.done() for task in amending), 10, "the amendment has no end")
    for task in amending:
        task.result()
    if way.is_silent and outcome.told != "unknown":
        name = case.order.client_id
        await _watch(
            case,
            lambda: not any(name in line for line in case.world.disagreements()),
            0.5,
            "it was not asked about",
        )


async def _settle(case: Case, way: Way) -> None:
    """Wait until books and exchange agree; where quoting was paused nothing may rest, until it goes on."""
    world = case.world
    if way.pauses:
        await _watch(
            case, lambda: not world.ours() and not world.books.living(), SETTLES_WITHIN_S, "an order rests"
        )
        world.state.strategy_paused = False
    await _watch(
        case,
        lambda: len(world.ours()) == 2 and world.disagreements() == [],
        SETTLES_WITHIN_S,
        "the books differ",
    )


def _told(world: World, case: Case) -> list[tuple[str, str]]:
    """Return what OrderModify* events said of the amendments that the test asked for, as the CSV has them."""
    return [
        (row["sub_type"], row["details"])
        for row in world.rows()
        if row["metric_name"] == "order_modify" and f"id={case.order.client_id} " in row["details"]
    ]


def _assert_told(told: list[tuple[str, str]], way: Way, outcome: Outcome) -> None:
    """Sent with our reason, and then exactly what became of it, with the exchange's code."""
    assert told[0][0] == "sent"
    assert ASKED_FOR in told[0][1]
    kind, details = next(each for each in told[1:] if each[0] != "sent" and "not sent" not in each[1])
    if not way.is_heard:
        assert kind == "unknown"
    elif not way.pauses:
        assert kind == outcome.told, details
        assert not outcome.code or f"code={outcome.code}" in details
        if way.asks_again:
            assert told[1][0] != "sent", "the second left before the first had its answer"


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("stands", WAYS)
def test_amendment_ends_right_wherever_the_order_stands(tmp_path: Path, stands: str, name: str) -> None:
    """Books equal at rest, one order a slot, exposure at the worst, kept or replaced, told, and nobody insists."""
    way, outcome = WAYS[stands], OUTCOMES[name]

    async def story(world: World) -> None:
        case = await _prepare(world, way, outcome)
        world.tamper = Exchange(case, way, outcome).tamper
        await _let_it_happen(case, way, outcome)
        await _settle(case, way)
        await _watch_for(case, 6)
        if not way.pauses:
            _assert_stays(case, way, outcome)
        assert case.requests <= MOST_REQUESTS
        assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []
        _assert_told(_told(world, case), way, outcome)
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story, options=outcome.options)


async def _watch_for(case: Case, seconds: float) -> None:
    """Let a refresh come, and look all the time."""
    until_s = case.world.now_s + seconds
    await _watch(case, lambda: case.world.now_s >= until_s, seconds + 1, "time")
    await _watch(case, lambda: case.world.disagreements() == [], 5, "the books differ")


def _assert_stays(case: Case, way: Way, outcome: Outcome) -> None:
    """The order rests on where nothing speaks against it, amended to its target; else another has its place."""
    rests = case.order.client_id in {order.client_order_id for order in case.world.ours()}
    # a stream that is silent about our orders is replaced, and the quotes are out meanwhile
    if outcome.stays is True and way.is_heard and not (way.asks_again or way.is_silent):
        assert rests
    if outcome.stays is False and way.is_heard:
        assert not rests
        assert case.order.status.is_terminal


AMENDABLE = {State(OrderStatus.ACTIVE, Open.NOTHING), State(OrderStatus.PARTIALLY_FILLED, Open.NOTHING)}


@pytest.mark.parametrize("state", [each for each in STATES if each not in AMENDABLE], ids=str)
def test_no_amendment_leaves_for_an_order_that_stands_elsewhere(state: State) -> None:
    """So these pairs cannot be: what is not known to rest cannot be amended, nor what has a change under way."""
    assert after(state, Trigger.AMEND_SENT) is None


def test_every_open_amendment_of_the_table_is_a_row() -> None:
    """An answer can only come to an order whose amendment is under way, in doubt, or has a cancel over it."""
    waiting = {each.open for each in STATES if after(each, Trigger.AMEND_SETTLED) not in (None, each)}
    assert waiting == {Open.AMEND, Open.AMEND_IN_DOUBT, Open.CANCEL_OVER_AMEND}
