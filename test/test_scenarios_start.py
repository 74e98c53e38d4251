"""What the daemon refuses to start with, and what it sets up before the first quote."""

import asyncio
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode
from core.halt import HaltLatch
from test.daemon import World, in_a_world
from utils.errors import ExchangeError, StartRefused


async def _refusal(world: World, **config: Any) -> str:
    """Return the sentence with which the daemon refuses to start; nothing may have been placed."""
    with pytest.raises(StartRefused) as refusal:
        await world.start(**config)
    assert world.count("orders") == 0
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert ";" in sentence, "a finding and a remedy"
    return sentence


def test_order_size_of_the_first_document_is_refused_with_workable_values(tmp_path: Path) -> None:
    """10 USDT an order with 200 USDT of capital does not work on BTCUSDT; what the sentence suggests does."""

    async def story(world: World) -> None:
        sentence = await _refusal(world, initial_capital=200, order_config={"quantity_per_order_usdt": 10})
        size, capital = (Decimal(part.split()[0].rstrip(";,")) for part in sentence.split("at least ")[1:])
        assert size > 60
        world.start(initial_capital=float(capital), order_config={"quantity_per_order_usdt": float(size)})
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_levels_that_do_not_fit_the_position_limit_are_refused(tmp_path: Path) -> None:
    """A side whose fills could break the limit is refused, with the capital that it would take."""

    async def story(world: World) -> None:
        assert "initial_capital" in await _refusal(world, initial_capital=500)

    in_a_world(tmp_path, story)


def test_unknown_symbol_is_refused_with_known_ones(tmp_path: Path) -> None:
    """A symbol that the exchange does not know is refused with the nearest ones."""

    async def story(world: World) -> None:
        assert "BTCUSDT" in await _refusal(world, symbol="BTCUSD")

    in_a_world(tmp_path, story)


def test_wrong_keys_are_refused(tmp_path: Path) -> None:
    """A key that the exchange does not know, and a wrong secret, are refused before anything is placed."""

    async def story(world: World) -> None:
        for keys in ({"key": "another"}, {"secret": "another"}):
            assert "API key" in await _refusal(world, **keys)

    in_a_world(tmp_path, story)


def test_account_in_hedge_mode_is_refused(tmp_path: Path) -> None:
    """Hedge mode is refused with what to switch, and never switched silently."""

    async def story(world: World) -> None:
        await world.other_client("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")
        assert "one-way" in await _refusal(world)
        mode = await world.other_client("GET", "/fapi/v1/positionSide/dual")
        assert mode == {"dualSidePosition": True}

    in_a_world(tmp_path, story)


def test_account_without_margin_is_refused(tmp_path: Path) -> None:
    """Orders that the wallet cannot carry are refused with the figures."""

    async def story(world: World) -> None:
        assert "margin" in await _refusal(world)

    in_a_world(tmp_path, story, wallet=100)


def test_exchange_that_refuses_closing_orders_is_not_quoted_on(tmp_path: Path) -> None:
    """The kind of order that closes a position has moved elsewhere overnight (-4120): nothing is opened."""

    async def story(world: World) -> None:
        world.strike("error", code=-4120, path="/fapi/v1/order/test", for_s=5)
        async with asyncio.timeout(30):
            assert "would refuse the order that closes a position" in await _refusal(world)
        await asyncio.sleep(6)
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_exchange_out_of_reach_is_a_fault_and_no_refusal(tmp_path: Path) -> None:
    """Neither configuration nor account is to blame when nobody answers."""

    async def story(world: World) -> None:
        world.link.cut()
        with pytest.raises(ExchangeError, match=r"cannot be reached.* \(waited for 9\d\d s\)$"):
            await world.start()

    in_a_world(tmp_path, story, events_per_s=0.5)


def test_leverage_is_set_before_the_first_quote(tmp_path: Path) -> None:
    """The exchange's leverage is the configured one once quotes rest."""

    async def story(world: World) -> None:
        world.start(leverage=7)
        await world.until_quoting()
        config = await world.other_client("GET", "/fapi/v1/symbolConfig", symbol="BTCUSDT")
        assert config[0]["leverage"] == 7
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_dead_man_switch_is_armed_before_the_first_quote_and_disarmed_at_the_end(tmp_path: Path) -> None:
    """The countdown runs while quotes rest, and not after a verified stop."""

    async def story(world: World) -> None:
        instrument = world.exchange._venue.instruments["BTCUSDT"]
        world.start()
        await world.until(lambda: bool(world.ours()), 10)
        assert instrument.countdown_due_ms is not None
        for _ in range(30):
            await asyncio.sleep(1)
            due_in_ms = (instrument.countdown_due_ms or 0) - world.clock.time_ms()
            assert 10_000 < due_in_ms <= 20_000
        assert await world.end() is ExitCode.STOPPED
        assert instrument.countdown_due_ms is None
        armed = [row["value"] for row in world.rows() if row["metric_name"] == "dead_man_armed"]
        assert set(armed[3:-1]) == {"1"}
        assert armed[-1] == "0"
        ages_ms = [float(row["value"]) for row in world.rows() if row["metric_name"] == "dead_man_age"]
        assert 4000 < max(ages_ms) < 6000

    in_a_world(tmp_path, story)


def test_existing_position_is_taken_over(tmp_path: Path) -> None:
    """A position from before the start is in the books with its entry price, and is no fill of this run."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="SELL", quantity="0.004")
        world.start()
        await world.until_quoting()
        assert world.state.position == Decimal("-0.004")
        assert await world.end() is ExitCode.STOPPED
        last = {row["metric_name"]: row["value"] for row in world.rows()}
        assert last["fills"] == "0"
        assert Decimal(last["entry_price"]) > 0

    in_a_world(tmp_path, story)


def test_start_that_a_halt_ends_tells_of_the_position_that_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has opened the books of such a run: what the exchange says of the position is what there is to say."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.02")
        latch = HaltLatch(world.folder / "state", "paper-test", "BTCUSDT")
        latch.engage("loss limit", world.clock.time_ms())
        assert await world.start() is ExitCode.HALTED
        assert world.engine is not None
        assert not world.engine.contexts[0].ledger.is_open

    with caplog.at_level(logging.INFO, "core.status"):
        world = in_a_world(tmp_path, story)
    [result] = [line for line in caplog.messages if "profit after fees" in line]
    assert "0 fills, position 0.020 BTC," in result
    told = [row["value"] for row in world.rows() if row["metric_name"] in ("position", "exchange_position")]
    assert {Decimal(value) for value in told} == {Decimal("0.02")}
