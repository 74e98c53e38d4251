"""What is in the way of a start and passes by itself: it is waited for, by name; a mistake is not."""

import asyncio
import json
import logging
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from core.crash_count import CrashCount, crashes
from core.exit_code import ExitCode
from core.restarts import Restarts
from core.start import PATIENCE_S
from core.status_board import StatusBoard, as_text
from test.daemon import Sent, World, in_a_world, json_reply
from utils.errors import NotSent, StartRefused
from utils.http import HttpResponse


def test_restart_on_a_halted_symbol_waits_by_name_and_quotes_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent that could rest; the log says it once, the status for how long, a stop ends it at once."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("halt", status="SETTLING", for_s=60)
        await world.vanish()
        placed = world.count("orders")
        world.start()
        await asyncio.sleep(30)
        board = StatusBoard(world.settings(), "paper-test", world.clock, "build")
        board.waits_for(world.waits[-1])
        assert any("NOT QUOTING: the start waits for" in line for line in as_text(board.snapshot()))
        assert world.waits[-1].startswith("symbol: BTCUSDT is SETTLING; wait until it trades")
        assert world.count("orders") == placed
        assert await world.end(within_s=0.1) is ExitCode.NOT_VERIFIED  # what the killed run has left
        world.start()
        await world.until_quoting(within_s=50)
        assert world.waits[-1] == ""
        board.waits_for("")
        assert "start" not in board.snapshot()
        assert await world.end() is ExitCode.STOPPED

    with caplog.at_level(logging.WARNING, "core.start"):
        in_a_world(tmp_path, story)
    said = [record.getMessage() for record in caplog.records if "the start waits" in record.getMessage()]
    assert said == ["the start waits: symbol: BTCUSDT is SETTLING; " + said[0].split("; ", 1)[1]] * 2


def test_book_with_one_side_and_an_exchange_out_of_reach_are_waited_for(tmp_path: Path) -> None:
    """One after the other, each by its name."""

    async def story(world: World) -> None:
        async def one_sided(sent: Sent) -> HttpResponse | None:
            if not sent.path.endswith("/depth") or world.now_s > 60:
                return None
            whole = json.loads((await sent.deliver()).body)
            return HttpResponse(200, {}, json.dumps({**whole, "bids": []}).encode())

        world.tamper = one_sided
        world.link.cut()
        world.start()
        await asyncio.sleep(20)
        assert "cannot be reached" in world.waits[-1]
        world.link.restore()
        await asyncio.sleep(30)
        assert world.waits[-1].startswith("book: that of BTCUSDT is empty, has one side only")
        await world.until_quoting(within_s=30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_market_far_from_its_mark_price_is_waited_for(tmp_path: Path) -> None:
    """A restart in a flash move: every quote of a side would be refused, and no configuration is to blame."""

    async def story(world: World) -> None:
        world.strike("mark-offset", bps=-900, for_s=60)
        await asyncio.sleep(12)
        world.start()
        await asyncio.sleep(20)
        assert world.waits[-1].startswith("price band: buy 1: price ")
        assert "wait until the market is nearer to its mark price" in world.waits[-1]
        assert world.count("orders") == 0
        await world.until_quoting(within_s=60)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_watchdog_is_fed_while_a_run_that_begins_anew_waits(tmp_path: Path) -> None:
    """The manager has been told READY, so more time for the start is nothing to it: it would kill who only waits."""

    async def story(world: World) -> None:
        told: list[tuple[float, list[str]]] = []
        world.notify = lambda lines: told.append((world.now_s, lines.splitlines()))
        world.start()
        await world.until_quoting()
        await asyncio.sleep(5)
        first = world.engine
        assert first is not None
        world.strike("halt", status="SETTLING", for_s=400)
        first._begin_anew("the exchange changed tick or step")
        await asyncio.sleep(390)
        assert world.waits[-1].startswith("symbol: BTCUSDT is SETTLING")
        assert world.engine is first
        await world.until_quoting(60)
        assert await world.end() is ExitCode.STOPPED
        fed_s = [at_s for at_s, lines in told if "WATCHDOG=1" in lines]
        [ready_s, *_] = [at_s for at_s, lines in told if "READY=1" in lines]
        assert max(later - before for before, later in pairwise([ready_s, *fed_s, world.now_s])) < 15

    in_a_world(tmp_path, story, events_per_s=0.5)


def test_ban_is_sat_out_without_a_request_however_long_it_is(tmp_path: Path) -> None:
    """A process that ended and began anew would not know of it, ask again, and make it longer."""

    async def story(world: World) -> None:
        asked_s: list[float] = []
        until_s = 2 * PATIENCE_S

        async def ban(sent: Sent) -> HttpResponse | None:
            asked_s.append(world.now_s)
            if world.now_s >= until_s:
                return None
            until_ms = world.clock.time_ms() + int((until_s - world.now_s) * 1000)
            return json_reply(
                418, {"code": -1003, "msg": f"Way too many requests; IP banned until {until_ms}."}
            )

        world.tamper = ban
        world.start()
        await asyncio.sleep(until_s - 5)
        assert len(asked_s) <= 2
        assert "IP banned" in world.waits[0]
        assert "takes no requests for now" in world.waits[0]
        assert "a rate limit is in force" in world.waits[-1]
        await world.until_quoting(within_s=30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.5)


def test_wait_has_an_end_that_a_service_manager_starts_again(tmp_path: Path) -> None:
    """NotSent is exit code 1, and counted as an exchange that was not there, which never makes a halt."""

    async def story(world: World) -> None:
        world.strike("halt", status="TRADING_HALT", for_s=2 * PATIENCE_S)
        began_s = world.now_s
        with pytest.raises(NotSent, match=r"^symbol: BTCUSDT is TRADING_HALT; .* \(waited for 9\d\d s\)$"):
            await world.start()
        assert PATIENCE_S <= world.now_s - began_s < PATIENCE_S + 20

    in_a_world(tmp_path, story, events_per_s=0.5)


def test_stop_of_a_start_that_waits_after_bad_ends_is_not_called_verified(tmp_path: Path) -> None:
    """It has asked nothing yet, and what the last run has left rests; the next one looks for it."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        count = CrashCount(world.settings().state_directory, "paper-test", [world.symbol])
        for _ in range(5):
            count.end_badly(world.clock.time_ms())
        world.restarts = Restarts(count, [], world.clock, 10)
        for _ in range(2):
            world.start()
            await asyncio.sleep(1)
            assert (world.engine, len(world.ours())) == (None, 6)
            assert await world.end(within_s=0.1) is ExitCode.NOT_VERIFIED
        world.restarts = None
        world.start()
        await world.until(lambda: not world.ours(), 5)
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_stops_of_starts_after_a_crash_are_no_crashes(tmp_path: Path) -> None:
    """An operator stops one start after the other while the exchange does not answer; no halt comes of it."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.vanish()
        count = CrashCount(world.settings().state_directory, "paper-test", [world.symbol])
        world.restarts = Restarts(count, [], world.clock, 10)
        world.link.cut()
        for _ in range(4):
            world.start()
            await asyncio.sleep(1)
            assert await world.end() is ExitCode.NOT_VERIFIED
        assert crashes(count.read(), world.clock.time_ms()) == 0
        world.link.restore()
        world.start()
        await world.until(lambda: not world.ours(), 15)
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_mistake_is_no_matter_of_patience(tmp_path: Path) -> None:
    """The account is asked though the symbol is halted; a symbol that has ended is a mistake itself."""

    async def story(world: World) -> None:
        await world.other_client("POST", "/fapi/v1/positionSide/dual", dualSidePosition="true")
        world.strike("halt", status="SETTLING", for_s=20)
        with pytest.raises(StartRefused, match="position mode: hedge mode"):
            await world.start()
        await asyncio.sleep(20)
        world.strike("halt", status="DELIVERED", for_s=20)
        with pytest.raises(StartRefused, match="symbol: BTCUSDT is DELIVERED; choose"):
            await world.start()
        assert world.waits == []

    in_a_world(tmp_path, story)


def test_restart_with_a_position_counts_the_margin_that_it_holds(tmp_path: Path) -> None:
    """400 of wallet hold a position on 260 of margin, and 140 are left of the 150 that the quotes need."""

    async def story(world: World) -> None:
        await world.other_client("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)
        await world.other_client(
            "POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.020"
        )
        [balance] = [
            each for each in await world.other_client("GET", "/fapi/v3/balance") if each["asset"] == "USDT"
        ]
        assert Decimal(balance["availableBalance"]) < 150
        world.start()
        await world.until(lambda: bool(world.ours()), 10, "a quote")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, wallet=400)
