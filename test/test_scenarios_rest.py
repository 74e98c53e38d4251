"""Answers that are wrong, orders and trades of others, two daemons at once: what else comes over REST."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode
from sim.orders import Side
from test.daemon import REPLACING, Sent, World, in_a_world, json_reply
from utils.errors import ExchangeError, StartRefused
from utils.http import HttpResponse

pytestmark = pytest.mark.usefixtures("_each_order_transport")

GARBAGE: tuple[Any, ...] = ({}, [], [{}], "text", 7, {"code": 0}, [None], [[]])
"""Valid JSON with a status of 200, and nothing that anybody asked for."""

READ_ALL_ALONG = (
    "GET /fapi/v1/openOrders",
    "GET /fapi/v1/order",
    "GET /fapi/v1/depth",
    "GET /fapi/v1/time",
    "GET /fapi/v1/userTrades",
    "GET /fapi/v3/positionRisk",
    "POST /fapi/v1/order",
    "PUT /fapi/v1/order",
    "PUT /fapi/v1/batchOrders",
    "POST /fapi/v1/listenKey",
    "DELETE /fapi/v1/batchOrders",
)
READ_AT_THE_START = (
    "GET /fapi/v1/accountConfig",
    "GET /fapi/v1/exchangeInfo",
    "GET /fapi/v1/premiumIndex",
    "GET /fapi/v1/symbolConfig",
    "GET /fapi/v1/depth",
    "GET /fapi/v1/time",
    "GET /fapi/v3/balance",
    "GET /sapi/v1/account/apiRestrictions",
)


# --- answers that make no sense -----------------------------------------------------------------------------


@pytest.mark.parametrize("only", [None, [{}]], ids=json.dumps)
@pytest.mark.parametrize("what", READ_ALL_ALONG)
def test_answers_that_make_no_sense_are_taken_for_none(tmp_path: Path, what: str, only: Any) -> None:
    """No worker falls over them, no order is doubled or left, and quotes are back once answers can be read.

    ``only`` is what comes every time, None lets one kind of nonsense follow the other.
    """

    async def story(world: World) -> None:
        bodies = itertools.cycle(GARBAGE if only is None else [only])

        async def garble(sent: Sent) -> HttpResponse | None:
            if f"{sent.method} {sent.path}" != what:
                return None
            await sent.deliver()
            return json_reply(200, next(bodies))

        world.start(refresh_config={} if what.startswith("PUT") else REPLACING)
        await world.until_quoting()
        world.tamper = garble
        world.control("POST", "/sim/silence", stream="userData", seconds=12)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.002")
        await world.watch(15)
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=5)
        await world.watch(10)
        world.tamper = _untouched
        await asyncio.sleep(5)
        await world.until_quoting(40)
        await world.until(lambda: world.state.position == world.position(), 70)
        assert world.forgotten(15) == []
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


async def _untouched(_sent: Sent) -> None:
    """Leave a request as it is."""


@pytest.mark.parametrize("body", GARBAGE, ids=json.dumps)
@pytest.mark.parametrize("what", READ_AT_THE_START)
def test_start_on_answers_that_make_no_sense_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, body: Any
) -> None:
    """A fault of the exchange or a refusal, never one of the program; nothing is placed."""
    monkeypatch.setattr("core.start.PATIENCE_S", 5.0)

    async def story(world: World) -> None:
        async def garble(sent: Sent) -> HttpResponse | None:
            return json_reply(200, body) if f"{sent.method} {sent.path}" == what else None

        world.has_wallet = True
        world.tamper = garble
        with pytest.raises((ExchangeError, StartRefused)) as ended:
            await world.start()
        assert "\n" not in str(ended.value)
        assert world.count("orders") == 0

    in_a_world(tmp_path, story)


def test_garbled_position_is_not_taken_for_flat(tmp_path: Path) -> None:
    """Quotes go out while the position cannot be read, and come back with it."""

    async def story(world: World) -> None:
        async def garble(sent: Sent) -> HttpResponse | None:
            entry = {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": None}
            return json_reply(200, [entry]) if sent.path == "/fapi/v3/positionRisk" else None

        world.start()
        await world.until_quoting()
        world.tamper = garble
        await world.until(lambda: not world.ours(), 7)
        await world.watch(30, orders=0)
        world.tamper = _untouched
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_cancel_that_is_answered_without_a_time_is_asked_about(tmp_path: Path) -> None:
    """The reply is not of the documented shape: what became of the orders is looked up."""

    async def story(world: World) -> None:
        async def strip(sent: Sent) -> HttpResponse | None:
            if sent.method != "DELETE":
                return None
            entries = json.loads((await sent.deliver()).body)
            return json_reply(200, [{k: v for k, v in each.items() if k != "updateTime"} for each in entries])

        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.tamper = strip
        placed = world.count("orders")
        await world.watch(30)
        assert world.count("orders") >= placed + 12
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


# --- clocks and rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_ms", [0, -5000, 30_000])
def test_wallet_host_is_asked_on_the_clock_of_the_exchange(tmp_path: Path, skew_ms: int) -> None:
    """The rights of the key are read with the time that was measured, however wrong this machine's clock is."""

    async def story(world: World) -> None:
        world.has_wallet, world.skew_ms = True, skew_ms
        world.start()
        await world.until_quoting()
        assert world.record()["requests"]["GET /sapi/v1/account/apiRestrictions"] == 1
        assert [row for row in world.record()["rejected"] if row["code"] == -1021] == []
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_order_rate_that_the_exchange_would_not_take_is_refused(tmp_path: Path) -> None:
    """Forty orders a second: the start says which settings to change."""

    async def story(world: World) -> None:
        with pytest.raises(StartRefused, match=r"order rate: .*orderbook_refresh_interval longer"):
            await world.start(
                initial_capital=20_000,
                order_config={"levels": 20, "quantity_per_order_usdt": 80, "price_offset_percent": 0.02},
                refresh_config={"orderbook_refresh_interval": 1},
            )
        assert world.count("orders") == 0

    in_a_world(tmp_path, story, wallet=50_000)


# --- others on the account ----------------------------------------------------------------------------------


def test_order_of_another_off_the_tick_blinds_nobody(tmp_path: Path) -> None:
    """An order that our rules cannot express, placed before they changed, is not even read."""
    odd = {"symbol": "BTCUSDT", "clientOrderId": "of-a-person", "price": "100.05", "status": "NEW"}

    async def story(world: World) -> None:
        async def add(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v1/openOrders":
                return None
            return json_reply(200, [*json.loads((await sent.deliver()).body), odd])

        world.tamper = add
        world.start()
        await world.until_quoting()
        await world.watch(15)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("client_id", ["autoclose-1234567890", "adl_autoclose", "settlement_autoclose-1"])
def test_trade_that_the_exchange_makes_itself_halts_the_symbol(tmp_path: Path, client_id: str) -> None:
    """Liquidated, deleveraged or settled: flat, no quotes, and none until an operator has looked."""

    async def story(world: World) -> None:
        venue = world.exchange._venue
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.006")
        await asyncio.sleep(2)
        instrument = venue.instruments["BTCUSDT"]
        venue.desk.foreign_fill(instrument, Side.SELL, 4, world.clock.time_ms(), client_id)
        await world.until(lambda: world.state.strategy_paused, 2)
        await world.until(lambda: world.position() == 0 and not world.ours(), 3)
        await world.watch(20, orders=0)
        assert await world.end() is ExitCode.HALTED
        assert await world.start() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_second_daemon_on_the_same_account_and_symbol_is_refused(tmp_path: Path) -> None:
    """Whatever its name; the first one is not disturbed, and once it has gone another may come."""

    async def story(world: World) -> None:
        first = world.start()
        await world.until_quoting()
        first_stop = world.stop
        with pytest.raises(
            StartRefused, match="another daemon is already trading BTCUSDT on this account; stop"
        ):
            async with asyncio.timeout(30):
                await world.start(instance_id="mm2")
        world.running, world.stop = first, first_stop
        await world.watch(15)
        assert {order.client_order_id[:8] for order in world.ours()} == {"qpmm-mm1"}
        assert await world.end() is ExitCode.STOPPED
        world.start(instance_id="mm2")
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
