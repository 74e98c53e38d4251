"""The lanes: at once while there is budget, by importance when not, and never for longer than it makes sense."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from core.lanes import CONNECTIONS, QUOTE_PATIENCE_S, Lanes
from core.metrics import ACCOUNT_METRICS, lane_values
from core.rate_budget import Cost, Lane, RateBudget, Sizes
from core.request_costs import lane_and_cost
from sim.virtual_time import VirtualClock, run_virtual
from test.sim_factory import Rig
from utils.errors import NotSent, RateLimited
from utils.http import TOO_MANY_ORDERS, TOO_MANY_REQUESTS, no_objection

MINUTE = 1_790_000_040_000
NEAR_THE_END = MINUTE + 59_800
"""200 ms before a new minute."""

ONE, FULL = Cost(1), Cost(100)


def virtually(work: Callable[[Lanes], Coroutine[Any, Any, None]], start_ms: int = NEAR_THE_END) -> None:
    """Run with lanes over a budget of 100 of each, from this time on."""

    async def main(clock: VirtualClock) -> None:
        await work(Lanes(RateBudget(Sizes(100, 100, 100)), clock.time_ms, clock.monotonic_ns))

    run_virtual(main, epoch_ms=start_ms)


async def noted(lanes: Lanes, lane: Lane, name: str, passed: list[str], cost: Cost = ONE) -> None:
    """Wait for a passage, note the name, and leave."""
    with await lanes.take(lane, cost, 10.0, no_objection):
        passed.append(name)


async def dropped(entering: Awaitable[object]) -> str:
    """Return the words with which a request is dropped."""
    with pytest.raises(NotSent) as caught:
        await entering
    return str(caught.value)


def test_a_request_with_budget_leaves_without_a_pause() -> None:
    """Not even the event loop gets a turn in between."""

    async def work(lanes: Lanes) -> None:
        entering = lanes.enter("GET", "/fapi/v1/premiumIndex", {}, 3.0, no_objection)
        with pytest.raises(StopIteration):
            entering.send(None)
        assert lanes.counts.sent[Lane.QUERY] == 1
        assert lanes.counts.waits == 0

    virtually(work)


def test_higher_lanes_overtake_those_that_wait() -> None:
    """All that could not leave leaves by importance, in its order within a lane."""

    async def work(lanes: Lanes) -> None:
        passed: list[str] = []
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        names = ("query 1", "place", "cancel 1", "amend", "query 2", "verify", "cancel 2")
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(noted(lanes, Lane[name.split()[0].upper()], name, passed))
            await asyncio.sleep(0.1)
            assert lanes.waiting == len(names)
            assert not passed
        assert passed == ["cancel 1", "cancel 2", "verify", "amend", "place", "query 1", "query 2"]
        assert lanes.waiting == 0

    virtually(work)


def test_a_cancel_leaves_at_once_while_quotes_wait() -> None:
    """The share that is reserved for it is free."""

    async def work(lanes: Lanes) -> None:
        passed: list[str] = []
        lanes.budget.try_take(Lane.CANCEL, Cost(80), NEAR_THE_END)
        async with asyncio.TaskGroup() as group:
            group.create_task(noted(lanes, Lane.PLACE, "place", passed))
            await asyncio.sleep(0.05)
            group.create_task(noted(lanes, Lane.CANCEL, "cancel", passed))
            await asyncio.sleep(0)
            assert passed == ["cancel"]
        assert passed == ["cancel", "place"]

    virtually(work)


def test_a_request_that_would_wait_too_long_is_dropped_at_once() -> None:
    """Nobody is held up for a minute only to hear no."""

    async def work(lanes: Lanes) -> None:
        lanes.budget.try_take(Lane.CANCEL, FULL, MINUTE)
        text = await dropped(lanes.take(Lane.QUERY, Cost(1), 3.0, no_objection))
        assert text == "the request limits leave no room for 60.0 s"
        assert lanes.counts.dropped == 1
        assert lanes.waiting == 0

    virtually(work, MINUTE)


def test_a_quote_waits_for_half_a_second_at_most() -> None:
    """Whatever the timeout of its request is: afterwards it would be about another market."""

    async def work(lanes: Lanes) -> None:
        lanes.budget.try_take(Lane.CANCEL, Cost(100, 100, 100), NEAR_THE_END - 500)
        params = {"type": "LIMIT"}
        await dropped(lanes.enter("POST", "/fapi/v1/order", params, 3.0, no_objection))
        await dropped(lanes.enter("PUT", "/fapi/v1/order", {}, 3.0, no_objection))
        with await lanes.enter("GET", "/fapi/v1/premiumIndex", {}, 3.0, no_objection):
            assert lanes.counts.longest_wait_ms == 700

    virtually(work, NEAR_THE_END - 500)
    assert QUOTE_PATIENCE_S == 0.5


def test_a_request_is_dropped_when_no_room_comes_in_time() -> None:
    """The window turned, but those before it have used the new one up."""

    async def work(lanes: Lanes) -> None:
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        passed: list[str] = []
        async with asyncio.TaskGroup() as group:
            late = group.create_task(dropped(lanes.take(Lane.QUERY, Cost(1), 0.4, no_objection)))
            group.create_task(noted(lanes, Lane.CANCEL, "cancel", passed, FULL))
        assert late.result() == "the request limits left no room in time"
        assert passed == ["cancel"]
        assert lanes.waiting == 0

    virtually(work)


def test_a_closed_gate_drops_those_that_wait_and_spares_the_others() -> None:
    """The objection is asked when the gate closes, and once more before the request leaves."""

    async def work(lanes: Lanes) -> None:
        objections = {"a": "", "b": ""}
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        a = asyncio.ensure_future(dropped(lanes.take(Lane.PLACE, Cost(1), 1.0, lambda: objections["a"])))
        b = asyncio.ensure_future(lanes.take(Lane.PLACE, Cost(1), 1.0, lambda: objections["b"]))
        await asyncio.sleep(0.01)
        objections["a"] = "the gate is closed"
        lanes.recheck()
        assert await a == "the gate is closed"
        assert not b.done()
        with await b:
            assert lanes.counts.dropped == 1

    virtually(work)


def test_a_request_that_became_unwelcome_while_it_waited_does_not_leave() -> None:
    """Also if nobody said so; and what it would have used is given back."""

    async def work(lanes: Lanes) -> None:
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        text = await dropped(lanes.take(Lane.PLACE, Cost(1), 1.0, lambda: "the book is stale"))
        assert text == "the book is stale"
        assert lanes.budget.weight.used(MINUTE + 60_000) == 0

    virtually(work)


def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Its place goes to the next one."""

    async def work(lanes: Lanes) -> None:
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        passed: list[str] = []
        first = asyncio.ensure_future(noted(lanes, Lane.QUERY, "first", passed))
        second = asyncio.ensure_future(noted(lanes, Lane.QUERY, "second", passed))
        await asyncio.sleep(0.01)
        first.cancel()
        await second
        assert passed == ["second"]
        assert lanes.waiting == 0

    virtually(work)


def test_connections_are_kept_free_for_cancels() -> None:
    """Forty quotes at once leave eight connections; a cancel need not queue for one."""

    async def work(lanes: Lanes) -> None:
        under_way = [await lanes.take(Lane.PLACE, Cost(0), 1.0, no_objection) for _ in range(CONNECTIONS - 8)]
        waiting = asyncio.ensure_future(lanes.take(Lane.PLACE, Cost(0), 1.0, no_objection))
        await asyncio.sleep(0)
        assert lanes.waiting == 1
        with await lanes.take(Lane.CANCEL, Cost(1), 1.0, no_objection):
            assert not waiting.done()
        with under_way.pop():
            pass
        with await waiting:
            assert lanes.waiting == 0
        for passage in under_way:
            with passage:
                pass

    virtually(work)


def test_the_headers_of_an_answer_slow_the_next_request_down() -> None:
    """Somebody else at this address has used nearly everything."""

    async def work(lanes: Lanes) -> None:
        with await lanes.enter("GET", "/fapi/v1/premiumIndex", {}, 3.0, no_objection) as passage:
            passage.answered({"x-mbx-used-weight-1m": "96", "x-mbx-order-count-10s": "-1"})
        assert "no room" in await dropped(lanes.enter("GET", "/fapi/v1/premiumIndex", {}, 0.1, no_objection))
        assert lanes.budget.orders_10s.used(NEAR_THE_END) == 0
        with await lanes.enter("DELETE", "/fapi/v1/batchOrders", {}, 0.1, no_objection):
            assert lanes.counts.sent[Lane.CANCEL] == 1

    virtually(work)


async def unconnected(lanes: Lanes) -> None:
    """Let a request through and fail to make its connection."""
    with await lanes.enter("GET", "/fapi/v3/balance", {}, 3.0, no_objection):
        assert lanes.budget.weight.used(NEAR_THE_END) == 5
        raise NotSent("no connection")


def test_a_request_that_was_not_sent_is_not_counted() -> None:
    """The connection could not be made."""

    async def work(lanes: Lanes) -> None:
        await dropped(unconnected(lanes))
        assert lanes.budget.weight.used(NEAR_THE_END) == 0

    virtually(work)


@pytest.mark.parametrize(("code", "cancels"), [(TOO_MANY_REQUESTS, False), (TOO_MANY_ORDERS, True)])
def test_the_exchange_s_limit_holds_the_lanes_that_it_is_about(code: int, cancels: bool) -> None:
    """Too many orders leave cancels free, too many requests leave nothing."""

    async def work(lanes: Lanes) -> None:
        lanes.limited(RateLimited(code, "no", 429, retry_after_s=60.0, banned=False))
        await dropped(lanes.enter("PUT", "/fapi/v1/order", {}, 3.0, no_objection))
        cancelling = lanes.enter("DELETE", "/fapi/v1/batchOrders", {}, 3.0, no_objection)
        if cancels:
            with await cancelling:
                pass
        else:
            await dropped(cancelling)

    virtually(work)


@pytest.mark.parametrize("step_ms", [-30_000, -3_600_000, 20_000])
@pytest.mark.parametrize("code", [TOO_MANY_REQUESTS, TOO_MANY_ORDERS])
def test_a_hold_is_as_long_as_it_was_whatever_becomes_of_the_exchange_s_clock(
    code: int, step_ms: int
) -> None:
    """One that was over came back with a clock that was set back; one set forward ended it too early."""
    steps = [0]

    async def main(clock: VirtualClock) -> None:
        lanes = Lanes(RateBudget(), lambda: clock.time_ms() + steps[-1], clock.monotonic_ns)
        room_s = []
        lanes.limited(RateLimited(code, "no", 429, retry_after_s=40.0, banned=False))
        for step_ms_now in (step_ms, 0, step_ms):
            await asyncio.sleep(15)
            steps.append(step_ms_now)
            lanes.clock_changed()
            room_s.append(lanes.no_room_s())
        assert room_s == [25.0, 10.0, 0.0]

    run_virtual(main, epoch_ms=NEAR_THE_END)


def test_window_is_full_for_as_long_as_the_exchange_says_whatever_time_it_is_taken_to_be() -> None:
    """By a clock that is 30 s behind the minute had only begun: for so long not even the time could be asked for."""

    async def main(clock: VirtualClock) -> None:
        lanes = Lanes(RateBudget(Sizes(100, 100, 100)), lambda: clock.time_ms() - 30_000, clock.monotonic_ns)
        with await lanes.take(Lane.CANCEL, FULL, 1.0, no_objection):
            pass
        lanes.limited(RateLimited(TOO_MANY_REQUESTS, "no", 429, retry_after_s=2.0, banned=False))
        await dropped(lanes.enter("GET", "/fapi/v1/time", {}, 1.0, no_objection))
        assert lanes.no_room_s() > 30.0
        await asyncio.sleep(2.0)
        assert lanes.no_room_s() == 0.0
        with await lanes.enter("GET", "/fapi/v1/time", {}, 1.0, no_objection):
            pass

    run_virtual(main, epoch_ms=NEAR_THE_END)


def test_longest_wait_is_as_long_as_it_was_whatever_becomes_of_the_exchange_s_clock() -> None:
    """An hour that the clock is set forward by while a request waits is no wait, and would be told for ever."""

    async def main(clock: VirtualClock) -> None:
        steps = [0]
        lanes = Lanes(
            RateBudget(Sizes(100, 100, 100)), lambda: clock.time_ms() + steps[-1], clock.monotonic_ns
        )
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        entering = asyncio.ensure_future(noted(lanes, Lane.QUERY, "query", []))
        await asyncio.sleep(0.1)
        steps.append(3_600_000)
        lanes.clock_changed()
        await entering
        assert 100 <= lanes.counts.longest_wait_ms <= 300

    run_virtual(main, epoch_ms=NEAR_THE_END)


def test_the_gate_tells_what_it_has_done_under_its_own_names() -> None:
    """Sent by lane, used by limit, waited and dropped."""

    async def work(lanes: Lanes) -> None:
        with await lanes.enter("POST", "/fapi/v1/order", {"type": "LIMIT"}, 3.0, no_objection):
            pass
        lanes.budget.try_take(Lane.CANCEL, FULL, NEAR_THE_END)
        await dropped(lanes.take(Lane.QUERY, ONE, 0.1, no_objection))
        with await lanes.take(Lane.QUERY, ONE, 3.0, no_objection):
            values = lane_values(lanes)
        assert values.keys() <= ACCOUNT_METRICS.keys()
        assert (values["requests_place"], values["requests_query"], values["requests_cancel"]) == (1, 1, 0)
        assert (values["budget_waits"], values["budget_wait_max"], values["budget_dropped"]) == (1, 200, 1)
        assert (values["budget_weight_1m"], values["budget_orders_1m"], values["budget_queue"]) == (1, 0, 0)

    virtually(work)


# --- what a request costs -----------------------------------------------------------------------------------

FLATTEN = {"type": "MARKET", "reduceOnly": "true"}


@pytest.mark.parametrize(
    ("method", "path", "params", "lane"),
    [
        ("POST", "/fapi/v1/order", {"type": "LIMIT"}, Lane.PLACE),
        ("POST", "/fapi/v1/batchOrders", {}, Lane.PLACE),
        ("PUT", "/fapi/v1/order", {}, Lane.AMEND),
        ("PUT", "/fapi/v1/batchOrders", {}, Lane.AMEND),
        ("POST", "/fapi/v1/order", FLATTEN, Lane.CANCEL),
        ("DELETE", "/fapi/v1/batchOrders", {}, Lane.CANCEL),
        ("POST", "/fapi/v1/countdownCancelAll", {}, Lane.CANCEL),
        ("GET", "/fapi/v1/openOrders", {"symbol": "BTCUSDT"}, Lane.VERIFY),
        ("GET", "/fapi/v1/order", {}, Lane.VERIFY),
        ("GET", "/fapi/v3/positionRisk", {}, Lane.VERIFY),
        ("GET", "/fapi/v1/exchangeInfo", {}, Lane.VERIFY),
        ("GET", "/fapi/v1/accountConfig", {}, Lane.VERIFY),
        ("GET", "/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 5}, Lane.VERIFY),
        ("GET", "/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 1000}, Lane.QUERY),
        ("GET", "/fapi/v1/income", {}, Lane.QUERY),
        ("PUT", "/fapi/v1/listenKey", {}, Lane.VERIFY),
        ("GET", "/fapi/v1/time", {}, Lane.CANCEL),
    ],
)
def test_each_request_goes_in_the_lane_of_its_purpose(
    method: str, path: str, params: dict[str, str | int], lane: Lane
) -> None:
    """What makes us safe comes first."""
    assert lane_and_cost(method, path, params)[0] is lane


USED = [
    ("GET", "/fapi/v1/time", {}),
    ("GET", "/fapi/v1/exchangeInfo", {}),
    ("GET", "/fapi/v1/ticker/bookTicker", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/premiumIndex", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 1000}),
    ("GET", "/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 20}),
    ("GET", "/fapi/v1/depth", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/accountConfig", {}),
    ("GET", "/fapi/v3/balance", {}),
    ("GET", "/fapi/v1/symbolConfig", {"symbol": "BTCUSDT"}),
    ("POST", "/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": 5}),
    ("GET", "/fapi/v3/positionRisk", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/userTrades", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/openOrders", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/openOrders", {}),
    ("GET", "/fapi/v1/order", {"symbol": "BTCUSDT", "origClientOrderId": "x"}),
    ("POST", "/fapi/v1/order", {"symbol": "BTCUSDT"}),
    ("PUT", "/fapi/v1/order", {"symbol": "BTCUSDT"}),
    ("DELETE", "/fapi/v1/order", {"symbol": "BTCUSDT"}),
    ("POST", "/fapi/v1/batchOrders", {"batchOrders": "[]"}),
    ("PUT", "/fapi/v1/batchOrders", {"batchOrders": "[]"}),
    ("DELETE", "/fapi/v1/batchOrders", {"symbol": "BTCUSDT"}),
    ("DELETE", "/fapi/v1/allOpenOrders", {"symbol": "BTCUSDT"}),
    ("POST", "/fapi/v1/countdownCancelAll", {"symbol": "BTCUSDT", "countdownTime": 1000}),
    ("POST", "/fapi/v1/listenKey", {}),
    ("PUT", "/fapi/v1/listenKey", {}),
    ("GET", "/fapi/v1/allOrders", {"symbol": "BTCUSDT"}),
    ("GET", "/fapi/v1/income", {}),
    ("GET", "/fapi/v1/commissionRate", {"symbol": "BTCUSDT"}),
]


def used(rig: Rig) -> tuple[int, int, int]:
    """What the exchange says is used; to ask costs one of each."""
    weight = rig.call("GET", "/fapi/v1/time").headers["x-mbx-used-weight-1m"]
    quote = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTX", "price": "49000", "quantity": "0.010"}
    orders = rig.call("POST", "/fapi/v1/order/test", symbol="BTCUSDT", **quote).headers
    return int(weight), int(orders["x-mbx-order-count-10s"]), int(orders["x-mbx-order-count-1m"])


@pytest.mark.parametrize(("method", "path", "params"), USED)
def test_a_request_costs_what_the_exchange_counts_for_it(
    method: str, path: str, params: dict[str, str | int]
) -> None:
    """Weight and both order counters of the simulated exchange grow by exactly what the table says."""
    rig = Rig()
    before = used(rig)
    rig.call(method, path, **params)
    after = used(rig)
    cost = lane_and_cost(method, path, params)[1]
    spent = tuple(late - early for early, late in zip(before, after, strict=True))
    assert spent == (cost.weight + 1, cost.orders_10s + 1, cost.orders_1m + 1)
