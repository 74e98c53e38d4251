"""The wallet adds up: what the stream has kept to itself is found in the record, what nothing explains is said."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from core.cash_keeper import CashKeeper
from core.engine import Engine
from core.exit_code import ExitCode
from sim.fault_file import parse_script
from test.daemon import World, in_a_world


def last(world: World, name: str) -> Decimal:
    """The last value of a metric."""
    return Decimal([row["value"] for row in world.rows() if row["metric_name"] == name][-1])


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CashKeeper, "EVERY_S", 15.0)
    monkeypatch.setattr(CashKeeper, "SOON_S", 3.0)


def trade(world: World, side: str) -> None:
    """A trade on our position, so that there is profit, and fees."""
    world.control("POST", "/sim/fill", symbol="BTCUSDT", side=side, quantity="0.004")


@pytest.mark.parametrize("is_silent", [False, True])
def test_transfers_are_no_profit_and_found_when_the_stream_kept_silent(
    tmp_path: Path, *, is_silent: bool
) -> None:
    """Paid in and out while trades go on: equity is the exchange's, the result is without them."""

    async def story(world: World) -> None:
        world.start(risk={"max_daily_loss": 50})
        await world.until_quoting()
        await asyncio.sleep(8)
        if is_silent:
            world.control("POST", "/sim/silence", stream="ACCOUNT_UPDATE", seconds=12)
        trade(world, "BUY")
        await asyncio.sleep(10)
        trade(world, "SELL")
        await asyncio.sleep(20)
        assert await world.end() is ExitCode.STOPPED
        assert last(world, "transfers") == Decimal("-300.5")
        assert last(world, "other_income") == 0
        assert last(world, "equity") == Decimal(world.record()["equity"])
        assert abs(last(world, "net_pnl")) < 5
        assert abs(last(world, "day_result")) < 5
        assert not {"equity_adopted", "breach"} & set(world.events("risk_event"))

    faults = "faults:\n  - {fault: transfer, amount: 100, at_s: 13}\n  - {fault: transfer, amount: -400.5, at_s: 16}\n"
    in_a_world(tmp_path, story, faults=parse_script(f"seed: 1\n{faults}"))


def test_trade_between_the_preflight_and_the_books_is_in_the_equity(tmp_path: Path) -> None:
    """Its fees are none of this run's, but the wallet is without them."""

    def trade_there_and_back(_engine: Engine) -> None:
        trade(world, "BUY")
        trade(world, "SELL")

    async def story(in_it: World) -> None:
        nonlocal world
        world = in_it
        world.start(watch=trade_there_and_back)
        await world.until_quoting()
        await asyncio.sleep(20)
        assert await world.end() is ExitCode.STOPPED
        assert Decimal(world.record()["equity"]) < 5000
        assert last(world, "equity") == Decimal(world.record()["equity"])
        assert last(world, "net_pnl") == 0

    world: World
    in_a_world(tmp_path, story)


def test_funding_that_the_stream_did_not_tell_of_is_found_in_the_record(tmp_path: Path) -> None:
    """A position is held over the time of funding, the stream says nothing of it: it is in the books within seconds."""
    just_before_ms = 1_790_006_400_000 - 20_000  # 16:00 UTC less 20 s

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        trade(world, "BUY")
        await asyncio.sleep(5)
        world.control("POST", "/sim/silence", stream="ACCOUNT_UPDATE", seconds=30)
        await asyncio.sleep(40)
        assert await world.end() is ExitCode.STOPPED
        paid = [row for row in world.exchange._venue.ledger.cash if row.kind == "FUNDING_FEE"]
        assert len(paid) == 1
        assert last(world, "funding") == paid[0].amount != 0
        assert abs(last(world, "equity") - Decimal(world.record()["equity"])) < Decimal("0.00000001")

    in_a_world(tmp_path, story, epoch_ms=just_before_ms)


def test_wallet_that_nothing_explains_is_taken_over_with_a_line(tmp_path: Path) -> None:
    """Money appears without a movement: said once, with the figures, and never taken for profit."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(5)
        world.exchange._venue.account.wallet += Decimal("7.25")
        await asyncio.sleep(30)
        assert len(world.ours()) == 6
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("equity_adopted") == 1
        assert last(world, "other_income") == Decimal("7.25")
        assert last(world, "net_pnl") == 0

    in_a_world(tmp_path, story)
