"""Every kind of fault has its effect on a client that talks to the exchange in memory."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sim.fault_kinds import KINDS
from sim.fault_rules import FaultError
from utils.errors import Disconnected, NotSent, OutcomeUnknown

from .daemon import World, in_a_world
from .fault_client import BID, BOOK, ORDER, SYMBOL, Client, with_faults

Story = Callable[[Client], Awaitable[None]]
CASES: dict[str, tuple[str, Story]] = {}


def case(kind: str, scenario: str) -> Callable[[Story], Story]:
    """Enter a story as the proof of a kind; the scenario is the rest of the fault's line."""

    def enter(story: Story) -> Story:
        CASES[kind] = (f"  - {{fault: {kind}{', ' if scenario else ''}{scenario}}}\n", story)
        return story

    return enter


def test_every_kind_of_fault_has_a_proof() -> None:
    """No kind is written in the table without a client that suffers it here."""
    assert set(CASES) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fault_has_its_effect_on_a_client(kind: str) -> None:
    """The scenario parses, the fault strikes, and the client sees what the table says."""
    scenario, story = CASES[kind]

    async def told(client: Client) -> None:
        await story(client)
        assert client.exchange.faults.counts[kind] > 0

    with_faults(scenario, told)


OVERLAPS = {
    "halt": ("from_s: 1, for_s: 3, status: CLOSE", "from_s: 2, for_s: 4, status: SETTLING"),
    "symbol-rules": ("from_s: 1, for_s: 3, min_notional: 600", "from_s: 2, for_s: 4, min_notional: 700"),
    "funding-rate": ("from_s: 1, for_s: 3, rate: 0.001", "from_s: 2, for_s: 4, rate: 0.002"),
    "hedge-mode": ("from_s: 1, for_s: 3", "from_s: 2, for_s: 4"),
    "multi-assets-mode": ("from_s: 1, for_s: 3", "from_s: 2, for_s: 4"),
    "clock-skew": ("from_s: 1, for_s: 3, offset_ms: 400", "from_s: 2, for_s: 4, offset_ms: 800"),
    "symbol-missing": ("from_s: 1, for_s: 3", "from_s: 2, for_s: 4"),
    "thin-book": ("from_s: 1, for_s: 3, factor: 100", "from_s: 2, for_s: 4, factor: 10"),
    "restrict": ("from_s: 1, for_s: 3, code: -4088", "from_s: 2, for_s: 4, code: -4088"),
    "post-only-expires": ("from_s: 1, for_s: 3", "from_s: 2, for_s: 4"),
}


async def _state(client: Client) -> tuple[Any, ...]:
    """Return everything that a lasting fault may have changed."""
    info = (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"]
    index = (await client.send("GET", "/fapi/v1/premiumIndex")).body
    books = (await client.send("GET", "/fapi/v1/ticker/bookTicker")).body
    sizes = [len(row["bidQty"]) for row in books]
    ahead_ms = (await client.send("GET", "/fapi/v1/time")).body["serverTime"] - client.clock.time_ms()
    modes = [
        (await client.call("GET", path)).body
        for path in ("/fapi/v1/positionSide/dual", "/fapi/v1/multiAssetsMargin")
    ]
    crossing = await client.place("x", price="50050", quantity="0.020")
    rates = [row["lastFundingRate"] for row in index]
    return (
        info,
        rates,
        sizes,
        ahead_ms,
        modes,
        crossing.outcome if crossing.status != 200 else crossing.status,
    )


@pytest.mark.parametrize("kind", sorted(OVERLAPS))
@pytest.mark.parametrize("is_nested", [False, True])
def test_overlapping_faults_end_each_at_its_own_time(kind: str, *, is_nested: bool) -> None:
    """docs/faults.md, "while it lasts": the end of one is not the end of another; the newest in force counts."""
    first, second = OVERLAPS[kind]
    if is_nested:  # the first outlives the second
        first, second = first.replace("for_s: 3", "for_s: 6"), second.replace("for_s: 4", "for_s: 2")

    async def told(client: Client) -> None:
        states = []
        for at_s in (0.5, 1.5, 2.5, 4.5, 7.5):
            await client.until(at_s)
            states.append(await _state(client))
        before, early, both, one_left, after = states
        assert before == after != early
        assert one_left == (early if is_nested else both) != before

    with_faults(f"  - {{fault: {kind}, {first}}}\n  - {{fault: {kind}, {second}}}\n", told)


FILTERS: list[tuple[str, dict[str, str], int]] = [
    ("tick_size: 1", {"price": "49900.50"}, -4014),
    ("step_size: 0.005", {"quantity": "0.021"}, -4023),
    ("min_price: 49950", {"price": "49900"}, -4013),
    ("max_price: 49800", {"price": "49900"}, -4002),
    ("min_qty: 0.05", {"quantity": "0.020"}, -4004),
    ("max_qty: 0.01", {"quantity": "0.020"}, -4005),
    ("min_notional: 5000", {"quantity": "0.020"}, -4164),
    ("multiplier_up: 0.99", {"price": "49900"}, -4016),
    ("multiplier_down: 1.01", {"side": "SELL", "price": "50400"}, -4024),
    ("max_num_orders: 0", {}, -2025),
]


@pytest.mark.parametrize(("rule", "order", "code"), FILTERS)
def test_every_filter_can_be_tightened_while_it_runs(rule: str, order: dict[str, str], code: int) -> None:
    """Facts 3.2: each filter has its code; REJ-02 and REJ-09 want it to change live. exchangeInfo tells of it."""

    async def told(client: Client) -> None:
        before = (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"][0]["filters"]
        assert (await client.place("a", **order)).status == 200
        await client.cancel("a")
        await client.until(1.5)
        assert (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"][0]["filters"] != before
        assert (await client.place("b", **order)).outcome == (400, code)

    with_faults(f"  - {{fault: symbol-rules, at_s: 1, {rule}}}\n", told)


@pytest.mark.parametrize(
    ("rule", "code"),
    [("market_max_qty: 0.01", -4005), ("multiplier_up: 0.99", -4131), ("step_size: 0.015", -4023)],
)
def test_filters_of_market_orders_can_be_tightened_too(rule: str, code: int) -> None:
    """Facts 3.2: MARKET_LOT_SIZE has a maximum of its own, and PERCENT_PRICE a code of its own for MARKET."""

    async def told(client: Client) -> None:
        assert (await client.take(quantity="0.020")).status == 200
        await client.until(1.5)
        assert (await client.take(quantity="0.020")).outcome == (400, code)

    with_faults(f"  - {{fault: symbol-rules, at_s: 1, {rule}}}\n", told)


LOOSER: list[tuple[str, dict[str, str], int]] = [
    ("min_price: 0", {"price": "500"}, -4013),
    ("max_qty: 5000", {"price": "10000", "quantity": "1001"}, -4005),
    ("min_notional: 1", {"quantity": "0.001", "price": "45000"}, -4164),
    ("multiplier_up: 2", {"price": "60000", "timeInForce": "IOC"}, -4016),
]


@pytest.mark.parametrize(("rule", "order", "code"), LOOSER)
def test_filters_can_be_loosened_too(rule: str, order: dict[str, str], code: int) -> None:
    """Facts 3.2, 10 (minimum notional of BTCUSDT went from 100 to 50): a 0 disables a bound."""

    async def told(client: Client) -> None:
        assert (await client.place("a", **order)).outcome == (400, code)
        await client.until(1.5)
        assert (await client.place("b", **order)).body.get("code") != code

    with_faults(f"  - {{fault: symbol-rules, at_s: 1, {rule}}}\n", told)


def test_number_of_amendments_can_be_limited_sooner() -> None:
    """Facts 4.3: -5026 from maxMoveOrderLimit on; LIF-08 wants it lowered, so that a client meets it in time."""

    async def told(client: Client) -> None:
        (symbol,) = (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"]
        assert symbol["maxMoveOrderLimit"] == 2
        await client.place("a")
        replies = [await client.amend("a", price=price) for price in ("49901", "49902", "49903")]
        assert [reply.status for reply in replies] == [200, 200, 400]
        assert replies[2].outcome == (400, -5026)
        assert (await client.query("a")).body["price"] == "49902.00"

    with_faults("  - {fault: symbol-rules, max_amendments: 2}\n", told)


def test_delisting_is_announced_by_the_delivery_date() -> None:
    """Facts 3.2: delisting is announced through deliveryDate, and 6: contractInfo tells of it."""

    async def told(client: Client) -> None:
        ear = await client.listen("/market/ws/!contractInfo")
        await client.until(2.5)
        (symbol,) = (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"]
        assert symbol["deliveryDate"] == client.clock.time_ms() - 1500 + 3_600_000
        assert [each["dt"] for each in ear.of("contractInfo")] == [symbol["deliveryDate"]]

    with_faults("  - {fault: symbol-rules, at_s: 1, delivery_in_s: 3600}\n", told)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "fault: symbol-rules, tick_size: 0.05",
            "line 2: tick_size 0.05 is no multiple of 0.10, in which BTCUSDT counts",
        ),
        ("fault: symbol-rules, step_size: 0.0015", "line 2: step_size 0.0015 is no multiple of 0.001"),
        ("fault: halt, symbol: BTCUSD", "line 2: the exchange has no symbol BTCUSD, only BTCUSDT."),
    ],
)
def test_fault_that_this_exchange_cannot_do_is_refused_before_it_opens(fault: str, sentence: str) -> None:
    """docs/faults.md: one sentence with the line, instead of a failure when its time comes."""

    async def told(_client: Client) -> None:
        raise AssertionError("the exchange has opened")

    with pytest.raises(FaultError, match=re.escape(sentence)):
        with_faults(f"  - {{{fault}}}\n", told)


# --- requests and replies -------------------------------------------------------------------------------------------


@case("error", "reply: unknown-503, executed: true, method: POST, path: /fapi/v1/order")
async def _error(client: Client) -> None:
    reply = await client.place("a")
    assert reply.outcome == (503, -1000)
    assert reply.body["msg"] == "Unknown error, please check your request or try again later."
    assert (await client.query("a")).body["status"] == "NEW"


@case("delay-request", "delay_ms: 700, method: POST")
async def _delay_request(client: Client) -> None:
    started_ms = client.clock.time_ms()
    reply = await client.place("a")
    assert client.clock.time_ms() - started_ms == 700
    assert reply.body["updateTime"] - started_ms == 700


@case("drop-request", "method: POST, client_id: a")
async def _drop_request(client: Client) -> None:
    with pytest.raises(OutcomeUnknown):
        await client.place("a-1")
    assert (await client.place("b-1")).status == 200
    assert (await client.query("a-1")).outcome == (400, -2013)


@case("reset-request", "method: DELETE")
async def _reset_request(client: Client) -> None:
    await client.place("a")
    with pytest.raises(OutcomeUnknown, match="reset"):
        await client.cancel("a")
    assert (await client.query("a")).body["status"] == "NEW"


@case("refuse-connection", "for_s: 5")
async def _refuse_connection(client: Client) -> None:
    with pytest.raises(NotSent):
        await client.place("a")
    await client.until(5)
    assert (await client.place("a")).status == 200


@case("delay-reply", "delay_ms: 900, method: POST, path: /fapi/v1/order")
async def _delay_reply(client: Client) -> None:
    ear = await client.listen_to_user()
    started_ms = client.clock.time_ms()
    await client.place("a")
    assert client.clock.time_ms() - started_ms == 900
    assert ear.executions() == [("a", "NEW")]
    assert ear.times_ms[-1] - started_ms < 100


@case("drop-reply", "method: PUT")
async def _drop_reply(client: Client) -> None:
    await client.place("a")
    with pytest.raises(OutcomeUnknown):
        await client.amend("a", price="49800")
    assert (await client.query("a")).body["price"] == "49800.00"


@case("reset-reply", "method: DELETE")
async def _reset_reply(client: Client) -> None:
    await client.place("a")
    with pytest.raises(OutcomeUnknown, match="reset"):
        await client.cancel("a")
    assert (await client.query("a")).body["status"] == "CANCELED"


@case("truncate-reply", "path: /fapi/v1/exchangeInfo")
async def _truncate_reply(client: Client) -> None:
    reply = await client.send("GET", "/fapi/v1/exchangeInfo")
    assert isinstance(reply.body, bytes)
    assert reply.body.startswith(b'{"timezone"')


@case("empty-reply", "path: /fapi/v1/time")
async def _empty_reply(client: Client) -> None:
    reply = await client.send("GET", "/fapi/v1/time")
    assert (reply.status, reply.body) == (200, b"")


@case("empty-list", "path: '*positionRisk'")
async def _empty_list(client: Client) -> None:
    await client.take()
    assert (await client.call("GET", "/fapi/v3/positionRisk")).body == []


@case("drop-fields", "path: /fapi/v1/order, fields: [executedQty, updateTime]")
async def _drop_fields(client: Client) -> None:
    reply = await client.place("a")
    assert "executedQty" not in reply.body
    assert "updateTime" not in reply.body
    assert reply.body["clientOrderId"] == "a"


@case("hide-orders", "client_id: a, younger_than_s: 10")
async def _hide_orders(client: Client) -> None:
    await client.place("a-1")
    await client.place("b-1", price="49800")
    assert (await client.query("a-1")).outcome == (400, -2013)
    assert (await client.query("b-1")).status == 200
    rows = (await client.call("GET", "/fapi/v1/openOrders", symbol=SYMBOL)).body
    assert [row["clientOrderId"] for row in rows] == ["b-1"]
    await client.until(11)
    assert (await client.query("a-1")).body["status"] == "NEW"


@case("hide-trades", "younger_than_s: 5")
async def _hide_trades(client: Client) -> None:
    await client.take()
    assert (await client.call("GET", "/fapi/v1/userTrades", symbol=SYMBOL)).body == []
    await client.until(6)
    assert len((await client.call("GET", "/fapi/v1/userTrades", symbol=SYMBOL)).body) == 1


@case("stale-reads", "lag_s: 2, path: '*openOrders'")
async def _stale_reads(client: Client) -> None:
    async def ids() -> list[str]:
        rows = (await client.call("GET", "/fapi/v1/openOrders", symbol=SYMBOL)).body
        return [row["clientOrderId"] for row in rows]

    assert await ids() == []
    await client.place("a")
    await client.until(1)
    assert await ids() == []
    await client.until(3.5)
    assert await ids() == ["a"]
    await client.place("b")
    await client.until(60)
    assert await ids() == ["a", "b"], "what was answered a minute ago is not the answer of two seconds ago"


@case("wrong-server-time", "offset_ms: -7000")
async def _wrong_server_time(client: Client) -> None:
    believed_ms = (await client.send("GET", "/fapi/v1/time")).body["serverTime"]
    assert believed_ms == client.clock.time_ms() - 7000
    reply = await client.send("GET", "/fapi/v3/balance", f"timestamp={believed_ms}&signature=x")
    assert reply.outcome == (400, -1021)


@case("short-batch", "missing: 2")
async def _short_batch(client: Client) -> None:
    assert len((await client.batch("a", "b", "c")).body) == 1
    assert await client.resting() == ["a", "b", "c"]


@case("mixed-batch", "code: -1007")
async def _mixed_batch(client: Client) -> None:
    rows = (await client.batch("a", "b")).body
    assert [row.get("clientOrderId", row.get("code")) for row in rows] == ["a", -1007]
    assert await client.resting() == ["a", "b"]


@case("ignore-setter", "path: /fapi/v1/leverage")
async def _ignore_setter(client: Client) -> None:
    reply = await client.call("POST", "/fapi/v1/leverage", symbol=SYMBOL, leverage=7)
    assert (reply.status, reply.body["leverage"]) == (200, 7)
    config = (await client.call("GET", "/fapi/v1/symbolConfig", symbol=SYMBOL)).body
    assert config[0]["leverage"] != 7


@case("cancel-all-skips", "orders: 2")
async def _cancel_all_skips(client: Client) -> None:
    await client.batch("a", "b", "c")
    reply = await client.call("DELETE", "/fapi/v1/allOpenOrders", symbol=SYMBOL)
    assert (reply.status, reply.body["code"]) == (200, 200)
    assert await client.resting() == ["b", "c"]


@case("fill-first", "method: DELETE, fraction: 1")
async def _fill_first(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.place("a")
    assert (await client.cancel("a")).outcome == (400, -2011)
    assert ear.executions() == [("a", "NEW"), ("a", "TRADE")]
    assert await client.position() == Decimal("0.010")


@case("pending-amendment", "within_ms: 500")
async def _pending_amendment(client: Client) -> None:
    await client.place("a")
    assert (await client.amend("a", price="49901")).status == 200
    assert (await client.amend("a", price="49902")).outcome == (400, -5043)
    await client.until(1)
    assert (await client.amend("a", price="49902")).status == 200


# --- stream payloads ------------------------------------------------------------------------------------------------


@case("silence", "stream: bookTicker, from_s: 1, for_s: 2")
async def _silence(client: Client) -> None:
    ear = await client.listen()
    await client.until(4)
    gaps = [later - earlier for earlier, later in pairwise(ear.times_ms)]
    assert max(gaps) == 2100 - 100 + 100
    assert ear.ended == ""


@case("drop-events", "event: ORDER_TRADE_UPDATE, execution: TRADE")
async def _drop_events(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.take()
    await asyncio.sleep(1)
    assert [execution for _, execution in ear.executions()] == ["NEW"]
    assert len(ear.of("ACCOUNT_UPDATE")) == 1


@case("delay-events", "event: ORDER_TRADE_UPDATE, execution: TRADE, delay_ms: 1500")
async def _delay_events(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.take()
    started_ms = client.clock.time_ms()
    await asyncio.sleep(3)
    assert [each["e"] for each in ear.heard][-2:] == ["ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    assert ear.times_ms[-1] - started_ms == 1500


@case("duplicate-events", "event: ORDER_TRADE_UPDATE, after_ms: 300")
async def _duplicate_events(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.place("a")
    await asyncio.sleep(1)
    assert ear.executions() == [("a", "NEW"), ("a", "NEW")]
    assert ear.times_ms[1] - ear.times_ms[0] == 300


@case("reorder-events", "event: TRADE_LITE")
async def _reorder_events(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.take()
    await asyncio.sleep(2)
    names = [each["e"] for each in ear.heard if each["e"] != "ACCOUNT_UPDATE"]
    assert names == ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "TRADE_LITE"]


@case("depth-gap", "times: 1, from_s: 2")
async def _depth_gap(client: Client) -> None:
    ear = await client.listen("/public/ws/btcusdt@depth@100ms")
    await client.until(5)
    breaks = [(one["u"], two["pu"]) for one, two in pairwise(ear.of("depthUpdate")) if one["u"] != two["pu"]]
    assert len(breaks) == 1


@case("sequence-reset", "stream: bookTicker, by: 1000000, from_s: 1")
async def _sequence_reset(client: Client) -> None:
    ear = await client.listen()
    await client.until(2)
    ids = [each["u"] for each in ear.heard]
    assert ids[0] > 0 > ids[-1]


@case("partial-account-update", "without: positions")
async def _partial_account_update(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.take()
    await asyncio.sleep(1)
    (update,) = ear.of("ACCOUNT_UPDATE")
    assert "P" not in update["a"]
    assert update["a"]["B"]


@case("corrupt-prices", "to: crossed, stream: bookTicker")
async def _corrupt_prices(client: Client) -> None:
    ear = await client.listen()
    await client.until(1)
    assert Decimal(ear.heard[0]["b"]) > Decimal(ear.heard[0]["a"]) == Decimal(BID)


@case("unknown-fields", "")
async def _unknown_fields(client: Client) -> None:
    ear = await client.listen()
    await client.until(1)
    assert "zz" in ear.heard[0]
    assert "zz" in (await client.send("GET", "/fapi/v1/time")).body


@case("unknown-status", "")
async def _unknown_status(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.place("a")
    await asyncio.sleep(1)
    assert ear.heard[0]["o"]["X"] == "PENDING_REVIEW"


@case("unknown-event", "stream: userData")
async def _unknown_event(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.place("a")
    await asyncio.sleep(1)
    assert [each["e"] for each in ear.heard] == ["NEWLY_INVENTED", "ORDER_TRADE_UPDATE"]


@case("truncate-events", "stream: bookTicker, times: 1")
async def _truncate_events(client: Client) -> None:
    ear = await client.listen()
    await client.until(1)
    assert len(ear.raw) == len(ear.heard) + 1
    assert ear.raw[0].startswith('{"e":"bookTicker"')


@case("flood", "stream: bookTicker, copies: 500, at_s: 1")
async def _flood(client: Client) -> None:
    ear = await client.listen()
    await client.until(2)
    assert len(ear.heard) > 500
    assert ear.ended == ""


# --- sockets and network --------------------------------------------------------------------------------------------


@case("refuse-handshakes", "route: public, status: 429, for_s: 3")
async def _refuse_handshakes(client: Client) -> None:
    with pytest.raises(Disconnected, match="429"):
        await client.listen(BOOK)
    assert (await client.listen_to_user()).ended == ""
    await client.until(3)
    assert (await client.listen(BOOK)).ended == ""


@case("close-sockets", "route: public, at_s: 2")
async def _close_sockets(client: Client) -> None:
    book, user = await client.listen(), await client.listen_to_user()
    await client.until(2.5)
    assert "closed by the exchange" in book.ended
    assert user.ended == ""
    assert (await client.listen()).ended == ""


@case("half-open-sockets", "at_s: 2")
async def _half_open_sockets(client: Client) -> None:
    ear = await client.listen()
    await client.until(1.5)
    count = len(ear.heard)
    await client.until(6)
    assert len(ear.heard) <= count + 6
    assert ear.ended == ""
    fresh = await client.listen()
    await client.until(7)
    assert len(fresh.heard) > 5


@case("outage", "at_s: 2, for_s: 5")
async def _outage(client: Client) -> None:
    ear = await client.listen()
    await client.until(2.5)
    assert "reset" in ear.ended
    with pytest.raises(NotSent):
        await client.place("a")
    await client.until(7.1)
    assert (await client.place("a")).status == 200


# --- the exchange itself --------------------------------------------------------------------------------------------


@case("halt", "at_s: 2, for_s: 5")
async def _halt(client: Client) -> None:
    ear = await client.listen()
    await client.place("a")
    await client.until(2.5)
    info = (await client.send("GET", "/fapi/v1/exchangeInfo")).body
    assert info["symbols"][0]["status"] == "TRADING_HALT"
    assert (await client.place("b")).outcome == (400, -4140)
    assert (await client.amend("a")).outcome == (400, -5024)
    assert (await client.cancel("a")).status == 200
    await client.until(7.5)
    assert (await client.place("b")).status == 200
    gaps = [later - earlier for earlier, later in pairwise(ear.times_ms)]
    assert 4900 <= max(gaps) <= 5200


@case("wipe-account", "at_s: 2, wallet: 123")
async def _wipe_account(client: Client) -> None:
    first = (await client.place("a")).body["orderId"]
    await client.take()
    ear = await client.listen_to_user()
    await client.until(2.5)
    assert ear.heard == []
    assert await client.position() == 0
    assert (await client.query("a")).outcome == (400, -2013)
    rows = (await client.call("GET", "/fapi/v3/balance")).body
    assert {Decimal(row["balance"]) for row in rows if row["asset"] == "USDT"} == {Decimal(123)}
    assert (await client.place("c")).body["orderId"] == first


@case("expire-listen-key", "at_s: 2, notice: false")
async def _expire_listen_key(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(2.5)
    await client.place("a")
    await asyncio.sleep(1)
    assert (ear.heard, ear.ended) == ([], "")
    assert (await client.send("PUT", "/fapi/v1/listenKey")).outcome == (400, -1125)


@case("foreign-order", "at_s: 1, side: SELL, quantity: 0.02, new_client_id: web_x")
async def _foreign_order(client: Client) -> None:
    await client.until(1.5)
    (row,) = (await client.call("GET", "/fapi/v1/openOrders", symbol=SYMBOL)).body
    assert row["clientOrderId"].startswith("web_x-")
    assert (row["side"], row["origQty"]) == ("SELL", "0.020")


@case("foreign-fill", "at_s: 1, side: SELL, quantity: 0.02")
async def _foreign_fill(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(1.5)
    assert await client.position() == Decimal("-0.02")
    assert ear.executions()[-1][1] == "TRADE"


@case("adl", "at_s: 1, fraction: 0.5")
async def _adl(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.take(quantity="0.020")
    await client.until(1.5)
    assert await client.position() == Decimal("0.010")
    assert ear.executions()[-1] == ("adl_autoclose", "TRADE")


@case("symbol-rules", "at_s: 1, for_s: 4, tick_size: 0.5, min_notional: 600")
async def _symbol_rules(client: Client) -> None:
    await client.until(1.5)
    info = (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"][0]
    filters = {each["filterType"]: each for each in info["filters"]}
    assert Decimal(filters["PRICE_FILTER"]["tickSize"]) == Decimal("0.5")
    assert (await client.place("a", price="49900.1", quantity="0.020")).outcome == (400, -4014)
    assert (await client.place("a", price="49900.5")).outcome == (400, -4164)
    assert (await client.place("a", price="49900.5", quantity="0.020")).status == 200
    await client.until(5.5)
    assert (await client.place("b", price="49900.1")).status == 200


@case("symbol-missing", "at_s: 1, for_s: 2")
async def _symbol_missing(client: Client) -> None:
    ear = await client.listen()
    await client.until(1.5)
    assert (await client.send("GET", "/fapi/v1/exchangeInfo")).body["symbols"] == []
    assert (await client.place("a")).outcome == (400, -1121)
    await client.until(3.5)
    assert (await client.place("a")).status == 200
    assert max(later - earlier for earlier, later in pairwise(ear.times_ms)) >= 1900


@case("restrict", "at_s: 1, for_s: 2, code: -4400")
async def _restrict(client: Client) -> None:
    await client.take(quantity="0.020")
    await client.until(1.5)
    assert (await client.place("a")).outcome == (400, -4400)
    assert (await client.place("b", side="SELL", price="50100", reduceOnly="true")).status == 200
    await client.until(3.5)
    assert (await client.place("a")).status == 200


@case("mark-offset", "at_s: 1, for_s: 40, bps: -300")
async def _mark_offset(client: Client) -> None:
    async def mark() -> Decimal:
        row = (await client.send("GET", "/fapi/v1/premiumIndex", f"symbol={SYMBOL}")).body
        return Decimal(row["markPrice"])

    assert abs(await mark() - 50_000) < 1
    await client.until(40.5)
    assert abs(await mark() - 48_500) < 5
    book = (await client.send("GET", "/fapi/v1/ticker/bookTicker", f"symbol={SYMBOL}")).body
    assert book["bidPrice"] == BID
    assert (await client.take()).status == 200
    await client.until(80)
    assert abs(await mark() - 50_000) < 5


@case("thin-book", "at_s: 1, for_s: 2, factor: 1000")
async def _thin_book(client: Client) -> None:
    async def sizes() -> list[Decimal]:
        book = (await client.send("GET", "/fapi/v1/depth", f"symbol={SYMBOL}&limit=5")).body
        return [Decimal(quantity) for _, quantity in [*book["bids"], *book["asks"]]]

    assert min(await sizes()) >= 10
    await client.until(2.55)
    assert set(await sizes()) == {Decimal("0.010")}
    reply = await client.take(quantity="0.025")
    order = (await client.call("GET", ORDER, symbol=SYMBOL, orderId=reply.body["orderId"])).body
    assert Decimal(order["avgPrice"]) > Decimal("50000.1")
    await client.until(4.5)
    assert min(await sizes()) >= 10


@case("transfer", "at_s: 1, amount: -1000")
async def _transfer(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(1.5)
    (update,) = ear.of("ACCOUNT_UPDATE")
    assert (update["a"]["m"], update["a"]["B"][0]["bc"]) == ("WITHDRAW", "-1000")
    rows = (await client.call("GET", "/fapi/v1/income", incomeType="TRANSFER")).body
    assert [Decimal(row["income"]) for row in rows] == [Decimal(-1000)]


@case("leverage", "at_s: 1, leverage: 3")
async def _leverage(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(1.5)
    assert ear.of("ACCOUNT_CONFIG_UPDATE")[0]["ac"] == {"s": SYMBOL, "l": 3}
    config = (await client.call("GET", "/fapi/v1/symbolConfig", symbol=SYMBOL)).body
    assert config[0]["leverage"] == 3


@case("margin-type", "at_s: 1")
async def _margin_type(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(1.5)
    assert ear.of("ACCOUNT_UPDATE")[0]["a"]["m"] == "MARGIN_TYPE_CHANGE"
    config = (await client.call("GET", "/fapi/v1/symbolConfig", symbol=SYMBOL)).body
    assert config[0]["marginType"] == "ISOLATED"


@case("hedge-mode", "at_s: 1, for_s: 2")
async def _hedge_mode(client: Client) -> None:
    await client.until(1.5)
    assert (await client.place("a")).outcome == (400, -4061)
    await client.until(3.5)
    assert (await client.place("a")).status == 200


@case("post-only-expires", "at_s: 1, for_s: 2")
async def _post_only_expires(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.until(1.5)
    reply = await client.place("a", price="50100")
    assert (reply.status, reply.body["status"]) == (200, "NEW")
    assert ear.executions() == [("a", "NEW"), ("a", "EXPIRED")]
    await client.until(3.5)
    assert (await client.place("b", price="50100")).outcome == (400, -5022)


@case("multi-assets-mode", "at_s: 1, for_s: 2")
async def _multi_assets_mode(client: Client) -> None:
    await client.until(1.5)
    assert (await client.call("GET", "/fapi/v1/accountConfig")).body["multiAssetsMargin"] is True
    await client.until(3.5)
    assert (await client.call("GET", "/fapi/v1/accountConfig")).body["multiAssetsMargin"] is False


@case("clock-skew", "at_s: 1, for_s: 3, offset_ms: 20000")
async def _clock_skew(client: Client) -> None:
    await client.until(1.5)
    assert (await client.place("a")).outcome == (400, -1021)
    assert (await client.send("GET", "/fapi/v1/time")).body["serverTime"] == client.clock.time_ms() + 20_000
    await client.until(4.5)
    assert (await client.place("a")).status == 200


@pytest.mark.parametrize("offset_ms", [-20_000, 20_000])
def test_skewed_clock_is_that_of_the_engine_too(offset_ms: int) -> None:
    """A client that stamps by /time is on time at the door and at the engine, one order or a batch of them."""

    async def told(client: Client) -> None:
        await client.until(1.5)
        order = {"symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.010"}
        server_ms = (await client.send("GET", "/fapi/v1/time")).body["serverTime"]
        reply = await client.call("POST", ORDER, **order, price="49900", timestamp=server_ms)
        assert reply.status == 200
        row = json.dumps([{**order, "price": "49901"}], separators=(",", ":"))
        reply = await client.call("POST", "/fapi/v1/batchOrders", batchOrders=row, timestamp=server_ms)
        assert reply.body[0]["status"] == "NEW"

    with_faults(f"  - {{fault: clock-skew, at_s: 1, for_s: 3, offset_ms: {offset_ms}}}\n", told)


@case("move-market", "at_s: 1, bps: -100")
async def _move_market(client: Client) -> None:
    ear = await client.listen()
    await client.place("a", price="49600")
    await client.until(2)
    assert Decimal(ear.heard[-1]["b"]) == Decimal(BID) - 500
    assert (await client.query("a")).body["status"] == "FILLED"


@case("funding-rate", "at_s: 1, rate: 0.005")
async def _funding_rate(client: Client) -> None:
    await client.until(1.5)
    body = (await client.send("GET", "/fapi/v1/premiumIndex", f"symbol={SYMBOL}")).body
    assert Decimal(body["lastFundingRate"]) == Decimal("0.005")


@case("used-weight", "at_s: 1, weight: 2000")
async def _used_weight(client: Client) -> None:
    await client.until(1.5)
    reply = await client.send("GET", "/fapi/v1/time")
    assert int(reply.headers["x-mbx-used-weight-1m"]) > 2000


@case("used-orders", "at_s: 1, orders: 300")
async def _used_orders(client: Client) -> None:
    await client.until(1.5)
    assert (await client.place("a")).outcome == (429, -1015)


@case("expire-orders", "at_s: 1")
async def _expire_orders(client: Client) -> None:
    ear = await client.listen_to_user()
    await client.place("a")
    await client.until(1.5)
    event = ear.of("ORDER_TRADE_UPDATE")[-1]["o"]
    assert (event["x"], event["X"]) == ("EXPIRED", "EXPIRED_IN_MATCH")


# --- the wordings and the chances -----------------------------------------------------------------------------------

WORDINGS: list[tuple[str, int, int | None, str]] = [
    ("unknown-503", 503, -1000, "Unknown error, please check your request or try again later."),
    ("unavailable-503", 503, 0, "Service Unavailable."),
    ("internal-503", 503, -1001, "Internal error; unable to process your request. Please try again."),
    ("overload-503", 503, -1008, "Request throttled by system-level protection."),
    ("timeout-408", 408, -1007, "Timeout waiting for response from backend server."),
    ("bus-500", 500, -1006, "An unexpected response was received from the message bus."),
    ("unknown-500", 500, -1000, "Request occur unknown error."),
    ("limit-429", 429, -1003, "Too many requests; current limit of IP is 2400 requests per minute."),
    ("ban-418", 418, -1003, "Way too many requests; IP(127.0.0.1) banned until "),
    ("orders-429", 429, -1015, "Too many new orders; current limit is 300 orders per 10 SECOND."),
    ("geo-451", 451, 0, "Service unavailable from a restricted location."),
    ("html-403", 403, None, "403 Forbidden"),
    ("html-500", 500, None, "500 Internal Server Error"),
    ("html-502", 502, None, "502 Bad Gateway"),
    ("html-504", 504, None, "504 Gateway Time-out"),
]


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize(("name", "status", "code", "text"), WORDINGS)
def test_error_has_its_wording_with_and_without_execution(
    name: str, status: int, code: int | None, text: str, executed: bool
) -> None:
    """Facts section 5: what a reply says is not what has happened; only a look at the order tells."""

    async def story(client: Client) -> None:
        reply = await client.place("a")
        assert reply.status == status
        if code is None:
            assert reply.headers["content-type"] == "text/html"
            assert text.encode() in reply.body
        else:
            assert reply.outcome == (status, code)
            assert reply.body["msg"].startswith(text)
        assert (await client.resting() == ["a"]) is executed

    with_faults(
        f"  - {{fault: error, reply: {name}, method: POST, executed: {str(executed).lower()}}}\n", story
    )


def test_limits_say_how_long_they_last() -> None:
    """Facts section 5: Retry-After counts the seconds, a ban names its end; here both end with the fault."""

    async def story(client: Client) -> None:
        await client.until(2)
        ban = await client.send("GET", "/fapi/v1/time")
        assert ban.headers["retry-after"] == "18"
        assert f"banned until {client.clock.time_ms() + 18_000}." in ban.body["msg"]
        await client.until(20)
        assert (await client.send("GET", "/fapi/v1/time")).status == 200

    with_faults("  - {fault: error, reply: ban-418, for_s: 20}\n", story)


def test_overload_spares_cancels_and_reduce_only_orders() -> None:
    """Facts section 5 and 4.5: -1008 does not meet what lowers the risk."""

    async def story(client: Client) -> None:
        await client.place("a")
        await client.take()
        await client.until(2)
        assert (await client.place("b")).outcome == (503, -1008)
        assert (await client.cancel("a")).status == 200
        assert (await client.take(side="SELL", reduceOnly="true")).status == 200

    with_faults("  - {fault: error, reply: overload-503, from_s: 1}\n", story)


def test_error_can_have_any_code() -> None:
    """A code that the exchange knows has its usual text; others have the text that the scenario gives."""

    async def story(client: Client) -> None:
        reply = await client.place("a")
        assert reply.outcome == (400, -2019)
        assert reply.body["msg"] == "Margin is insufficient."
        reply = await client.send("GET", "/fapi/v1/time")
        assert (reply.outcome, reply.body["msg"]) == ((401, -9000), "No.")

    with_faults(
        "  - {fault: error, code: -2019, method: POST}\n"
        "  - {fault: error, code: -9000, status: 401, message: No., path: /fapi/v1/time}\n",
        story,
    )


def _struck(scenario: str, requests: int = 200) -> list[int]:
    """Return which of so many requests, ten a second, a fault on them strikes."""

    async def story(client: Client) -> list[int]:
        struck = []
        for number in range(requests):
            await client.until(number / 10)
            if (await client.send("GET", "/fapi/v1/ping")).status != 200:
                struck.append(number)
        return struck

    found: list[int] = with_faults(scenario, story)
    return found


def test_probability_and_seed_decide_who_is_struck() -> None:
    """The same seed strikes the same requests, another one others; the share is that of the scenario."""
    line = "faults:\n  - {fault: error, reply: html-502, probability: 0.25}\n"
    first = _struck(f"seed: 1\n{line}")
    assert 30 <= len(first) <= 70
    assert first == _struck(f"seed: 1\n{line}")
    assert first != _struck(f"seed: 2\n{line}")


def test_chances_of_a_fault_do_not_depend_on_the_faults_beside_it() -> None:
    """A scenario can grow at its end without changing what it did before."""
    line = "  - {fault: error, reply: html-502, probability: 0.25}\n"
    more = "  - {fault: delay-reply, delay_ms: 1, probability: 0.5}\n"
    assert _struck(line) == _struck(line + more)


def test_times_windows_and_intervals_limit_the_strikes() -> None:
    """at_s strikes once, from then on; a window only within; every_s at most so often; times at most so many."""
    fault = "fault: error, reply: html-502"
    assert _struck(f"  - {{{fault}, at_s: 3.05}}\n") == [31]
    assert _struck(f"  - {{{fault}, from_s: 2, for_s: 1}}\n") == list(range(20, 30))
    assert _struck(f"  - {{{fault}, from_s: 2, until_s: 3}}\n") == list(range(20, 30))
    assert _struck(f"  - {{{fault}, every_s: 5}}\n") == [0, 50, 100, 150]
    assert _struck(f"  - {{{fault}, from_s: 1, times: 3}}\n") == [10, 11, 12]


def test_targets_choose_by_client_id_side_and_path() -> None:
    """A fault strikes whom it names and nobody else."""

    async def story(client: Client) -> None:
        assert (await client.place("qpmm-1")).status == 502
        assert (await client.place("other-1")).status == 200
        assert (await client.place("x", price="50100", side="SELL")).status == 504
        assert (await client.batch("other-2", "qpmm-2")).status == 502

    with_faults(
        "  - {fault: error, reply: html-502, client_id: qpmm-, side: BUY}\n"
        f"  - {{fault: error, reply: html-504, path: {ORDER}, side: SELL}}\n",
        story,
    )


def test_own_doors_are_spared() -> None:
    """Whoever watches the exchange through /sim sees it in any trouble."""

    async def story(client: Client) -> Any:
        assert (await client.send("GET", "/fapi/v1/time")).status == 502
        return (await client.send("GET", "/sim/record")).status

    assert with_faults("  - {fault: error, reply: html-502}\n", story) == 200


def _trace(seed: int) -> list[object]:
    """Return all that a client sees of a stormy minute."""

    async def story(client: Client) -> list[object]:
        book, user = await client.listen(), await client.listen_to_user()
        seen: list[object] = []
        for number in range(100):
            await client.until(number / 2)
            try:
                seen.append((await client.place(f"a-{number}", timeout_s=0.4)).body)
            except (OutcomeUnknown, NotSent) as error:
                seen.append(str(error))
        return [seen, book.raw, book.times_ms, user.raw, user.times_ms]

    trace: list[object] = with_faults(
        f"""seed: {seed}
faults:
  - {{fault: drop-reply, probability: 0.1, path: {ORDER}}}
  - {{fault: error, reply: unknown-503, executed: sometimes, probability: 0.1, path: {ORDER}}}
  - {{fault: delay-request, delay_ms: "lognormal:20-300", path: {ORDER}}}
  - {{fault: delay-events, delay_ms: 120, probability: 0.3}}
  - {{fault: duplicate-events, after_ms: 50, probability: 0.2, stream: userData}}
""",
        story,
    )
    return trace


def test_storm_is_the_same_to_the_last_byte_with_the_same_seed() -> None:
    """In memory a scenario can be repeated: replies, payloads and their times."""
    assert _trace(5) == _trace(5)
    assert _trace(5) != _trace(6)


def test_orders_of_others_within_one_millisecond_have_ids_of_their_own(tmp_path: Path) -> None:
    """Also where one of them has gone meanwhile, or the name that they are to begin with is as long as an id."""

    async def story(world: World) -> None:
        instrument = world.exchange._venue.instruments[world.symbol]
        world.start()
        await world.until_quoting()
        for prefix in ("web_x", "x" * 36):
            for side in ("BUY", "SELL"):
                world.strike("foreign-order", side=side, away_bps=200, quantity=0.01, new_client_id=prefix)
            gone, _ = (order for order in world.open_orders() if order.client_order_id.startswith(prefix[:9]))
            instrument.drop(gone)
            world.strike("foreign-order", side="BUY", away_bps=200, quantity=0.01, new_client_id=prefix)
            assert len(instrument.by_client) == len(instrument.open)
        assert all(len(each) <= 36 for each in instrument.by_client)
        await world.end()

    in_a_world(tmp_path, story)
