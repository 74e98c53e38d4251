"""The loss limit of a day: in both directions, by price, fees and funding, over restarts, kills and midnight."""

import asyncio
import errno
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.cash import CashEntry
from core.cash_keeper import CashKeeper
from core.context import SymbolContext
from core.daily_loss import day_of, start_ms_of
from core.day_file import DayFile
from core.day_keeper import DayKeeper
from core.exit_code import ExitCode
from core.halt import HaltLatch
from test.daemon import Sent, World, in_a_world, json_reply, untouched
from utils.http import HttpResponse

LIMIT: dict[str, Any] = {"risk": {"max_daily_loss": 20, "max_price_change": 0}}
MIDNIGHT_MS = 1_700_006_400_000
"""2023-11-15 00:00 UTC."""


def latch(world: World) -> HaltLatch:
    """The latch of the world's daemon."""
    return HaltLatch(world.folder / "state", "paper-test", world.symbol)


def day_file(world: World) -> DayFile:
    """The record of the day of the world's daemon."""
    return DayFile(world.folder / "state", "paper-test", world.symbol)


def take(world: World, side: str = "BUY", quantity: str = "0.020") -> None:
    """Let the account trade elsewhere, at the touch."""
    world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity=quantity)


def move(world: World, bps: int) -> None:
    """Let the market stand that much higher, or lower, from now on."""
    world.control("POST", "/sim/market", symbol=world.symbol, move_bps=str(bps))


async def lose(world: World, at_least: Decimal) -> None:
    """Trade there and back, until fees have cost that much."""
    for _ in range(80):
        take(world, "BUY")
        take(world, "SELL")
        if Decimal(world.record()["feesTotal"]) >= at_least:
            return
    raise AssertionError(f"less than {at_least} was lost")


def is_halted(world: World) -> bool:
    """Tell whether everything is closed, out and paused, and the latch is on disk."""
    flat = world.position() == 0 and not world.ours()
    return flat and world.state.strategy_paused and latch(world).read() is not None


def lost_today(world: World) -> Decimal:
    """The exchange's own account of it: its wallet began with 5000."""
    return 5000 - Decimal(world.record()["equity"])


def days_told(world: World) -> list[str]:
    """What was told of the day, oldest first."""
    rows = world.rows()
    return [r["details"] for r in rows if (r["metric_name"], r["sub_type"]) == ("risk_event", "day")]


@pytest.mark.parametrize(("side", "bps"), [("BUY", -200), ("SELL", 200)], ids=["long", "short"])
def test_unrealised_loss_closes_everything_and_halts(tmp_path: Path, side: str, bps: int) -> None:
    """2 percent against 1280 USDT are over a limit of 20: closed and halted as soon as the mark price has followed."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world, side)
        await world.until(lambda: world.state.position != 0, 2)
        move(world, bps)
        await world.until(lambda: is_halted(world), 40)
        halt = latch(world).read()
        assert halt is not None
        assert halt.reason.startswith("today's result is -")
        assert halt.reason.endswith("of the allowed loss of 20")
        await world.watch(2)
        assert await world.end() is ExitCode.HALTED
        assert {"breach", "flat", "posture", "day"} <= set(world.events("risk_event"))

    in_a_world(tmp_path, story)


def test_realised_loss_and_fees_halt_although_nothing_is_held(tmp_path: Path) -> None:
    """Trades there and back leave no position, and 20 USDT of fees."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert record.is_over
        assert abs(record.result_quote + lost_today(world)) < Decimal("0.01")

    in_a_world(tmp_path, story)


def test_funding_counts_towards_the_loss(tmp_path: Path) -> None:
    """3 percent of 1280 USDT, paid by the long: 38 at once, over a limit of 20."""
    events = tmp_path / "events.yaml"
    events.write_text("[{at_s: 15, event: funding, rate: 0.03, due_in_s: 5}]", encoding="utf-8")

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.now_s > 18, 20)
        assert not world.state.strategy_paused
        await world.until(lambda: is_halted(world), 6)
        assert Decimal(world.record()["fundingTotal"]) < -30
        assert await world.end() is ExitCode.HALTED
        halt = latch(world).read()
        assert halt is not None
        assert "funding -3" in halt.reason

    in_a_world(tmp_path, story, events=events)


@pytest.mark.parametrize("is_heard", [True, False], ids=["by the wallet", "by nobody"])
def test_funding_that_the_stream_kept_to_itself_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_heard: bool
) -> None:
    """10 paid, of a limit of 20: the books of the wallet find it first, else the day takes it of the record itself."""
    monkeypatch.setattr(DayKeeper, "FUNDING_EVERY_S", 40.0)
    events = tmp_path / "events.yaml"
    events.write_text("[{at_s: 15, event: funding, rate: 0.008, due_in_s: 5}]", encoding="utf-8")

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.now_s > 18, 20)
        world.strike("drop-events", event="ACCOUNT_UPDATE", for_s=6)
        context = world.engine.contexts[0]
        if not is_heard:
            monkeypatch.setattr(world.engine.recovery.cash, "told", lambda _entry: None)
        await world.until(lambda: context.day.funding_quote != 0, 120)
        assert (context.ledger.funding_quote != 0) is is_heard
        found_s = world.now_s
        while world.now_s < found_s + 90:
            assert -12 < context.day.funding_quote < -9
            await world.watch(1)
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED

    monkeypatch.setattr(CashKeeper, "EVERY_S", 60.0)
    in_a_world(tmp_path, story, events=events)


def test_funding_that_both_have_counted_is_taken_back_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wallet's books hear of it only after the day has taken it of the record: two minutes later it counts once."""
    events = tmp_path / "events.yaml"
    events.write_text("[{at_s: 15, event: funding, rate: 0.004, due_in_s: 5}]", encoding="utf-8")

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.now_s > 18, 20)
        world.strike("drop-events", event="ACCOUNT_UPDATE", for_s=6)
        context, cash = world.engine.contexts[0], world.engine.recovery.cash
        untold: list[CashEntry] = []
        with monkeypatch.context() as patch:
            patch.setattr(cash, "told", untold.append)
            await world.until(lambda: context.day.funding_quote != 0, 120)
            paid = context.day.funding_quote
        for entry in untold:
            cash.told(entry)
        await world.until(lambda: context.day.funding_quote == 2 * paid, 3)
        await world.until(lambda: context.day.funding_quote == paid, 2 * DayKeeper.FUNDING_AGAIN_S + 3)
        assert await world.end() is ExitCode.STOPPED

    monkeypatch.setattr(DayKeeper, "FUNDING_EVERY_S", 40.0)
    monkeypatch.setattr(CashKeeper, "EVERY_S", 60.0)
    in_a_world(tmp_path, story, events=events)


@pytest.mark.parametrize("price", ["600.00", ""], ids=["a price", "no price"])
def test_fees_in_bnb_count_at_the_price_of_bnb(
    tmp_path: Path, price: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is one; else they are left out, and said once."""

    async def answer(sent: Sent) -> HttpResponse | None:
        asks = sent.path == "/fapi/v1/premiumIndex" and "BNBUSDT" in sent.query
        return json_reply(200, {"symbol": "BNBUSDT", "markPrice": price}) if asks and price else None

    async def story(world: World) -> None:
        fees = world.exchange._venue.account.fees
        fees.burns_bnb, fees.bnb = True, Decimal(10)
        world.tamper = answer
        world.start(**LIMIT)
        await world.until_quoting()
        for _ in range(11):
            take(world, "BUY")
            take(world, "SELL")
        await world.watch(3)
        rows = [row for row in world.rows() if row["metric_name"] == "day_result"]
        counted = Decimal(rows[-1]["value"]) < -11
        assert counted is bool(price)
        said = [message for message in caplog.messages if "no price of BNB is known" in message]
        assert len(said) == (not price)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_position_is_checked_while_the_price_of_bnb_is_asked_for(tmp_path: Path) -> None:
    """A price without an answer holds up nothing: the checks go on each second, and the last price counts."""
    asked_s: list[float] = []

    async def answer(sent: Sent) -> HttpResponse | None:
        if sent.path != "/fapi/v1/premiumIndex" or "BNBUSDT" not in sent.query:
            return None
        asked_s.append(asyncio.get_running_loop().time())
        if len(asked_s) > 1:
            await sent.hang()
        return json_reply(200, {"symbol": "BNBUSDT", "markPrice": "600.00"})

    async def story(world: World) -> None:
        fees = world.exchange._venue.account.fees
        fees.burns_bnb, fees.bnb = True, Decimal(10)
        world.tamper = answer
        world.start(**LIMIT, safety={"request_timeout_s": 14})
        await world.until_quoting()
        take(world, "BUY")
        take(world, "SELL")
        await world.until(lambda: len(asked_s) == 2, 70)
        checks = world.engine.risk.checks[world.symbol]
        await world.watch(10)
        assert world.engine.risk.checks[world.symbol] >= checks + 9
        assert world.engine.contexts[0].day.fees_quote > 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_near_the_limit_only_quotes_that_reduce_are_left(tmp_path: Path) -> None:
    """83 percent of the limit are lost and 0.020 are held: asks alone rest, no more of them than are held."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal("16.3"))
        await world.until(lambda: not world.ours(), 3)  # nothing is held, so nothing reduces
        take(world)
        await world.until(lambda: bool(world.ours()), 30)  # so many trades of others have paused it, too
        for _ in range(20):
            assert not any(order.is_buy for order in world.ours())
            assert sum(order.remaining_lots for order in world.ours()) <= 20
            await world.watch(0.2)
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED
        told = [
            r["details"]
            for r in world.rows()
            if r["sub_type"] == "posture" and r["metric_name"] == "risk_event"
        ]
        assert told[0].startswith("normal -> one side: today's result is -1")

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_loss_of_the_day_survives(tmp_path: Path, how: str) -> None:
    """12 of 20 are lost before the daemon ends; of the 20 that it may lose again, 8 are left."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await world.watch(2)
        if how == "stop":
            assert await world.end() is ExitCode.STOPPED
        else:
            await world.vanish()
        lost = lost_today(world)
        world.start(**LIMIT)
        await world.watch(10)
        await world.until_quoting(10)
        assert f"of today so far: -{lost:.2f}" in days_told(world)[-1]
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_trades_while_no_daemon_ran_count_too(tmp_path: Path) -> None:
    """What was lost between a kill and the next start is on the exchange's record: not one quote is sent."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await world.vanish()
        await world.watch(25)
        await lose(world, Decimal(21))
        placed = world.count("orders")
        world.start(**LIMIT)
        await world.until(lambda: is_halted(world), 20)
        assert await world.end() is ExitCode.HALTED
        assert world.count("orders") == placed

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("damage", ["torn", "foreign", "gone"])
def test_damaged_record_is_never_taken_for_no_loss(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Torn, another symbol's, or gone: the day is counted from the exchange's trades, and the halt comes again."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED
        path = day_file(world).path
        whole = path.read_bytes()
        path.write_bytes(whole[:40] if damage == "torn" else whole.replace(b"BTCUSDT", b"ETHUSDT"))
        if damage == "gone":
            path.unlink()
        latch(world).clear()
        placed = world.count("orders")
        world.start(**LIMIT)
        await world.until(lambda: is_halted(world), 10)
        assert world.count("orders") == placed
        assert await world.end() is ExitCode.HALTED
        said = [message for message in caplog.messages if "cannot be used" in message]
        assert len(said) == (damage != "gone")
        assert path.with_suffix(".damaged").exists() is (damage != "gone")

    in_a_world(tmp_path, story)


def test_cleared_halt_comes_back_at_once_while_the_loss_stands(tmp_path: Path) -> None:
    """Resumed without accepting: not one quote in between. Accepted: it quotes, and may lose as much again."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        placed = world.count("orders")
        latch(world).clear()
        await world.until(lambda: latch(world).read() is not None, 3)
        assert world.count("orders") == placed
        today = day_of(world.clock.time_ms())
        day_file(world).accept(today, Decimal(-21), world.clock.time_ms())
        latch(world).clear()
        await world.until_quoting(25)  # so many trades of others have paused it, too
        await lose(world, Decimal(30))
        await world.watch(5)
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("loss_accepted") == 1

        world.start(**LIMIT)  # what was accepted stays accepted
        await world.until_quoting(10)
        await lose(world, Decimal(44))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_disk_that_cannot_be_read_costs_no_worker_when_a_halt_is_cleared(tmp_path: Path) -> None:
    """Whether the loss was accepted is not known then, so the halt comes back, and is on disk once that is well."""

    async def broken(_work: Callable[[], object]) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def story(world: World) -> None:
        world.run_blocking = lambda work: (broken if world.now_s < until_s else asyncio.to_thread)(work)
        until_s = 0.0
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        await asyncio.sleep(2)
        until_s = world.now_s + 5
        day_file(world).accept(day_of(world.clock.time_ms()), Decimal(-21), world.clock.time_ms())
        latch(world).clear()
        await world.watch(10, orders=0)
        assert is_halted(world)
        assert await world.end() is ExitCode.HALTED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, story)


def test_record_that_cannot_be_read_is_waited_for(tmp_path: Path) -> None:
    """Nothing is quoted, nor written in its place, until it can: the exchange forgets what was lost just then."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await asyncio.sleep(12)
        assert await world.end() is ExitCode.STOPPED
        path = day_file(world).path
        kept = path.rename(path.with_suffix(".kept"))
        path.symlink_to(path)
        world.strike("empty-list", path="/fapi/v1/userTrades", for_s=10)
        world.start(**LIMIT)
        await world.watch(8, orders=0)
        assert world.engine is not None
        assert world.engine.contexts[0].gate.reasons == (
            "today's result is not known yet: its record, day-paper-test-BTCUSDT.json, cannot be read"
            " (Too many levels of symbolic links)",
        )
        assert path.is_symlink()
        kept.replace(path)
        await world.until_quoting(15)
        await lose(world, Decimal(22))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_record_on_a_disk_that_hangs_is_asked_for_once(tmp_path: Path) -> None:
    """Each question has a thread until it is answered. The position is looked at all the time, and the end is seen."""
    asked: list[asyncio.Event] = []

    async def story(world: World) -> None:
        async def hang(work: Callable[[], None]) -> None:
            asked.append(asyncio.Event())
            await asked[-1].wait()
            work()

        world.start(**LIMIT)
        await world.until(lambda: world.engine is not None, 1)
        assert world.engine is not None
        world.engine.risk._days._run_blocking = hang
        await asyncio.sleep(10)
        checks = world.engine.risk.checks["BTCUSDT"]
        await asyncio.sleep(20)
        assert len(asked) == 1
        assert world.engine.risk.checks["BTCUSDT"] - checks >= 19
        assert world.ours() == []
        world.engine.risk._days._run_blocking = asyncio.to_thread
        asked[0].set()
        await world.until_quoting(15)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_limit_holds_while_the_record_cannot_be_read(tmp_path: Path) -> None:
    """Held against what the exchange's trades make: what is held by hand meanwhile is closed over it."""

    async def story(world: World) -> None:
        path = day_file(world).path
        path.parent.mkdir(parents=True)
        path.symlink_to(path)
        world.start(**LIMIT)
        await world.watch(3, orders=0)
        await lose(world, Decimal(21))
        take(world)
        await world.until(lambda: is_halted(world), 4)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_list_of_trades_that_is_empty_at_a_start_lets_no_loss_be_forgotten(tmp_path: Path) -> None:
    """It is asked for again: what was lost before, up to the last moment, counts together with what is lost then."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(6))
        await asyncio.sleep(12)  # the record of the day is written now and then
        await lose(world, Decimal(12))
        assert await world.end() is ExitCode.STOPPED
        world.strike("empty-list", path="/fapi/v1/userTrades", for_s=4)
        world.start(**LIMIT)
        assert await world.until_quoting(40) > 3
        await lose(world, Decimal(22))
        await world.until(lambda: is_halted(world), 5)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("is_accepted", [False, True])
def test_loss_that_nobody_knew_of_and_the_list_hid_at_a_start_counts_soon(
    tmp_path: Path, *, is_accepted: bool
) -> None:
    """A run that was killed in its first minute has left no record of it. What is accepted meanwhile is all of it."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await world.watch(2)
        await asyncio.sleep(15)
        assert await world.end() is ExitCode.STOPPED
        day_file(world).remove()
        lost, now_ms = lost_today(world), world.clock.time_ms()
        world.strike("hide-trades", for_s=20)
        world.start(**LIMIT)
        await world.until_quoting(20)
        context = world.engine.contexts[0]
        assert context.day.whole_quote == 0
        if is_accepted:
            day_file(world).accept(day_of(now_ms), Decimal(0), now_ms)
        await world.until(lambda: context.day.whole_quote == -lost, 70)
        assert context.day.quote == (0 if is_accepted else -lost)
        await lose(world, Decimal(33 if is_accepted else 21))
        await world.until(lambda: is_halted(world), 5)
        assert await world.end() is ExitCode.HALTED
        assert f"with -{lost:.2f} of trades that were not listed at first" in " ".join(days_told(world))

    in_a_world(tmp_path, story)


def test_trade_that_comes_while_the_list_is_read_once_more_changes_nothing_of_how_the_day_began(
    tmp_path: Path,
) -> None:
    """The position with it, and the list without it, would make it one that was held at 00:00 UTC."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await asyncio.sleep(15)
        assert await world.end() is ExitCode.STOPPED
        day_file(world).remove()
        world.strike("hide-trades", for_s=20)
        world.start(**LIMIT)
        await world.until_quoting(20)
        context, looks = world.engine.contexts[0], 0
        day_ms = start_ms_of(day_of(world.clock.time_ms()))

        async def tamper(sent: Sent) -> HttpResponse | None:
            nonlocal looks
            if sent.path != "/fapi/v1/userTrades" or f"startTime={day_ms}&" not in sent.query:
                return None
            reply = await sent.deliver()
            if not looks:
                looks += 1
                take(world, "BUY")
            return reply

        await asyncio.sleep(40)
        world.tamper = tamper
        await world.until(lambda: looks == 1, 30)
        await asyncio.sleep(3)
        take(world, "SELL")
        await world.until(lambda: context.day.whole_quote == -lost_today(world), 30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("is_accepted", [False, True])
def test_loss_that_the_list_of_trades_hides_for_long_counts_once_it_is_listed_again(
    tmp_path: Path, is_accepted: bool
) -> None:
    """Quotes do not wait for ever: an account that was reset has fewer for good. What was accepted stays so."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await world.watch(2)
        assert await world.end() is ExitCode.STOPPED
        lost, now_ms = lost_today(world), world.clock.time_ms()
        if is_accepted:
            day_file(world).accept(day_of(now_ms), -lost, now_ms)
        world.strike("hide-trades", for_s=40)
        world.start(**LIMIT)
        assert 20 < await world.until_quoting(40) < 38
        record, context = day_file(world).read(day_of(now_ms)), world.engine.contexts[0]
        assert record is not None
        assert (context.day.whole_quote, record.whole_quote) == (0, -lost)
        await world.until(lambda: context.day.whole_quote == -lost, 30)
        assert context.day.quote == (0 if is_accepted else -lost)
        await lose(world, Decimal(33 if is_accepted else 21))
        await world.until(lambda: is_halted(world), 5)
        assert await world.end() is ExitCode.HALTED
        assert f"with -{lost:.2f} of trades that the exchange lists again" in " ".join(days_told(world))

    in_a_world(tmp_path, story)


def test_position_is_checked_while_the_question_for_todays_trades_has_no_answer(tmp_path: Path) -> None:
    """It is asked beside the checks, as three attempts take ten seconds."""
    asked_s: list[float] = []

    async def story(world: World) -> None:
        async def hang(sent: Sent) -> HttpResponse | None:
            if sent.path == "/fapi/v1/userTrades" and "startTime" in sent.query:
                asked_s.append(world.now_s)
                await sent.hang()
            return None

        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(2))
        await world.watch(2)
        assert await world.end() is ExitCode.STOPPED
        world.strike("wipe-account", wallet=5000)
        world.start(**LIMIT)
        await world.until_quoting(40)
        world.tamper = hang
        await world.until(lambda: len(asked_s) == 3, 25)
        checks = world.engine.risk.checks[world.symbol]
        await world.watch(5)
        assert world.engine.risk.checks[world.symbol] >= checks + 4
        assert asked_s[2] - asked_s[0] < 8
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_loss_after_an_acceptance_counts_over_a_restart_on_an_account_that_was_reset(tmp_path: Path) -> None:
    """The record of the day stays as it was, as its trades may be listed again; what was accepted is added to it."""

    def lose_some(world: World) -> None:
        take(world, "BUY", "0.200")
        take(world, "SELL", "0.200")

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        await world.watch(2)
        assert await world.end() is ExitCode.STOPPED
        world.strike("wipe-account", wallet=5000)
        world.start(**LIMIT)
        await world.until_quoting(40)
        lose_some(world)
        await world.watch(2)
        accepted, now_ms, context = lost_today(world), world.clock.time_ms(), world.engine.contexts[0]
        day_file(world).accept(day_of(now_ms), -accepted, now_ms)
        await world.engine.risk._days.take_acceptance(context, context.state.mark_price)
        lose_some(world)
        await world.watch(2)
        assert await world.end() is ExitCode.STOPPED
        world.start(**LIMIT)
        await world.until_quoting(40)
        lost = lost_today(world)
        assert lost - accepted > 12
        assert world.engine.contexts[0].day.quote == accepted - lost
        record = day_file(world).read(day_of(now_ms))
        assert record is not None
        assert (record.trades, record.accepted_quote) == (20, -accepted)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_trade_that_the_list_tells_of_before_the_stream_counts_once_in_the_day(tmp_path: Path) -> None:
    """It counts from the moment in which the day is opened; what the ledger counts of it later is not added."""

    async def story(world: World) -> None:
        world.strike("error", path="/fapi/v1/income", probability=1, reply="internal-503", for_s=2)
        world.start(**LIMIT)
        await world.until(lambda: world.engine is not None and world.engine.contexts[0].ledger.is_open, 5)
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", for_s=2)
        take(world, "BUY")
        take(world, "SELL")
        lost = lost_today(world)
        await world.until_quoting(10)
        day, ledger = world.engine.contexts[0].day, world.engine.contexts[0].ledger
        assert (day.whole_quote, ledger.fill_count) == (-lost, 0)
        await world.until(lambda: ledger.fill_count == 2, 20)
        await world.watch(2)
        assert world.engine.contexts[0].day.whole_quote == -lost
        assert await world.end() is ExitCode.STOPPED
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert (record.trades, record.whole_quote) == (2, -lost)

    in_a_world(tmp_path, story)


def test_loss_accepted_while_no_daemon_runs_lets_the_next_one_quote(tmp_path: Path) -> None:
    """The halt cleared and the loss accepted between two runs."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED
        day_file(world).accept(day_of(world.clock.time_ms()), Decimal(-21), world.clock.time_ms())
        latch(world).clear()
        world.start(**LIMIT)
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_new_day_begins_with_nothing_lost(tmp_path: Path) -> None:
    """12 lost before midnight with a position held; after it only what the position loses from there on counts."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 3000, 120)
        assert "of 2023-11-14, which has ended at 00:00 UTC: -1" in days_told(world)[-1]
        await lose(world, Decimal(22))
        await world.watch(3)
        assert not world.state.strategy_paused
        await lose(world, Decimal(36))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 30_000)


def unreadable_position(world: World) -> None:
    """Have no question for the position be answered from now on."""
    world.lose = lambda _method, path: "request" if path.endswith("/positionRisk") else ""


@pytest.mark.parametrize("is_lost", [False, True], ids=["before", "after"])
def test_day_that_begins_late_knows_what_was_lost_since_midnight(tmp_path: Path, is_lost: bool) -> None:
    """No position can be read for a minute around it: 20 lost before it are yesterday's, after it they halt at once."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 8000, 40)
        unreadable_position(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - (-1000 if is_lost else 6000), 20)
        move(world, -200)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 60_000, 80)
        placed = world.count("orders")
        world.lose = lambda _method, _path: ""
        if is_lost:
            await world.until(lambda: is_halted(world), 5)
            assert world.count("orders") == placed + 1  # the one that closes
            assert await world.end() is ExitCode.HALTED
            return
        await world.until(lambda: bool(world.ours()), 75)  # the funding of 00:00 UTC is read twice
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 40_000)


@pytest.mark.parametrize(
    ("rate", "is_heard"), [("0.02", True), ("0.01", False)], ids=["too much", "not heard of"]
)
def test_day_that_begins_late_counts_the_funding_since_midnight_once(
    tmp_path: Path, rate: str, *, is_heard: bool
) -> None:
    """25 paid at 00:00:15, of a limit of 20, halt before any quote; 13 that only the record tells of do not."""
    events = tmp_path / "events.yaml"
    events.write_text(f"[{{at_s: 50, event: funding, rate: {rate}, due_in_s: 5}}]", encoding="utf-8")

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 8000, 40)
        unreadable_position(world)
        if not is_heard:
            world.strike("drop-events", event="ACCOUNT_UPDATE", for_s=40)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 25_000, 60)
        context = world.engine.contexts[0]
        assert (context.ledger.funding_quote < -10) is is_heard
        placed = world.count("orders")
        world.lose = lambda _method, _path: ""
        if is_heard:
            await world.until(lambda: is_halted(world), 90)
            assert world.count("orders") == placed + 1  # the one that closes
            assert await world.end() is ExitCode.HALTED
            return
        await world.until(lambda: bool(world.ours()), 150)
        assert -15 < context.day.funding_quote < -11
        await world.watch(90)
        assert -15 < context.day.funding_quote < -11
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events=events, epoch_ms=MIDNIGHT_MS - 40_000)


def test_day_that_begins_late_waits_for_a_record_of_funding_that_lags(tmp_path: Path) -> None:
    """25 paid at 00:00:05, of a limit of 20, and not on record before 00:00:40: they halt, and no quote is sent."""
    events = tmp_path / "events.yaml"
    events.write_text("[{at_s: 40, event: funding, rate: 0.02, due_in_s: 5}]", encoding="utf-8")

    async def story(world: World) -> None:
        async def lag(sent: Sent) -> HttpResponse | None:
            lacks = sent.path.endswith("/income") and world.clock.time_ms() < MIDNIGHT_MS + 40_000
            return json_reply(200, []) if lacks else None

        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 8000, 40)
        unreadable_position(world)
        world.tamper = lag
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 8000, 30)
        assert world.engine.contexts[0].ledger.funding_quote < -20
        placed = world.count("orders")
        world.lose = lambda _method, _path: ""
        await world.until(lambda: is_halted(world), 130)
        assert world.count("orders") == placed + 1  # the one that closes
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story, events=events, epoch_ms=MIDNIGHT_MS - 40_000)


def test_funding_that_was_read_before_a_late_day_is_counted_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record tells of 13 before the price of 00:00 UTC comes: the wallet's books may still hear of them first."""
    events = tmp_path / "events.yaml"
    events.write_text("[{at_s: 50, event: funding, rate: 0.01, due_in_s: 5}]", encoding="utf-8")

    async def late_price(sent: Sent) -> None:
        if sent.path.endswith("/klines"):
            await asyncio.sleep(6)

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 8000, 40)
        unreadable_position(world)
        world.strike("drop-events", event="ACCOUNT_UPDATE", for_s=40)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 25_000, 60)
        context = world.engine.contexts[0]
        world.tamper = late_price
        world.lose = lambda _method, _path: ""
        for _ in range(150):
            await world.watch(1)
            assert -15 < context.day.funding_quote <= 0
        assert context.day.funding_quote < -11
        assert world.ours()
        assert await world.end() is ExitCode.STOPPED

    monkeypatch.setattr(DayKeeper, "FUNDING_EVERY_S", 20.0)
    in_a_world(tmp_path, story, events=events, epoch_ms=MIDNIGHT_MS - 40_000)


@pytest.mark.parametrize("late_s", [0, 25], ids=["in the first second", "before the day could begin"])
def test_restart_counts_a_position_that_was_closed_just_after_midnight_as_the_day_did(
    tmp_path: Path, late_s: int
) -> None:
    """Down 10 since yesterday, and closed by hand: its loss is yesterday's, before and after the restart."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.state.position != 0, 2)
        move(world, -70)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 3000, 60)
        if late_s:
            unreadable_position(world)
        await world.until(lambda: world.clock.time_ms() >= MIDNIGHT_MS, 5)
        before = lost_today(world)
        assert before > 8
        take(world, "SELL", f"{world.position():f}")
        await world.watch(late_s)
        world.lose = lambda _method, _path: ""
        await world.watch(5)
        assert world.engine.contexts[0].day.quote > -2
        await world.watch(10 if not late_s else 75)  # the funding of 00:00 UTC is read twice
        assert await world.end() is ExitCode.STOPPED
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert record.day == day_of(MIDNIGHT_MS)
        assert abs(record.unrealized_at_start_quote + before) < 1.5  # the fees are not in it
        world.start(**LIMIT)
        await world.until_quoting(10)
        assert abs(world.engine.contexts[0].day.quote + lost_today(world) - before) < 1
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 60_000)


def test_ordinary_midnight_asks_for_nothing_and_closes_nothing(tmp_path: Path) -> None:
    """A position that is held, no trade in the first second: the day begins with what it is worth then."""
    asked: list[str] = []

    async def note(sent: Sent) -> None:
        if f"startTime={MIDNIGHT_MS}" in sent.query:
            asked.append(sent.path)

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 500, 40)
        world.tamper = note
        await world.until(lambda: len(days_told(world)) > 1, 4)
        await world.watch(3)
        assert asked == []
        assert len(world.ours()) >= 3
        assert await world.end() is ExitCode.STOPPED
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert record.day == day_of(MIDNIGHT_MS)

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 30_000)


def test_day_that_begins_late_waits_for_a_list_that_lags(tmp_path: Path) -> None:
    """A trade of today that the list hides for a while: no quote until it is known, and yesterday's loss is none."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(17))
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 3000, 60)
        unreadable_position(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 1000, 10)
        lost = lost_today(world)
        take(world, "BUY")
        take(world, "SELL")
        world.strike("hide-trades", for_s=30)
        await world.watch(15)
        world.lose = lambda _method, _path: ""
        await world.watch(10, orders=0)
        assert world.engine.contexts[0].gate.reasons == (
            "today's result is not known yet: what was made since 00:00 UTC is asked for",
        )
        assert day_file(world).read(day_of(world.clock.time_ms())).day < day_of(MIDNIGHT_MS)
        await world.until_quoting(40)  # the funding is not believed before 00:01
        assert world.engine.contexts[0].day.whole_quote == lost - lost_today(world) < 0
        assert not world.state.strategy_paused
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 60_000)


def test_day_does_not_end_by_a_clock_that_was_set_an_hour_ahead(tmp_path: Path) -> None:
    """Just then an answer about the position comes: what was lost before counts on, and no day ends."""

    async def story(world: World) -> None:
        async def setting_the_clock(sent: Sent) -> HttpResponse | None:
            if not sent.path.endswith("/positionRisk"):
                return None
            answer = await sent.deliver()
            world.daemon_clock.skew_ms = 3_600_000
            world.tamper = untouched
            return answer

        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(12))
        take(world)
        world.tamper = setting_the_clock
        await asyncio.sleep(10)
        assert world.daemon_clock.skew_ms
        assert "which has ended" not in " ".join(days_told(world))
        await lose(world, Decimal(26))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 600_000)


def test_trade_of_yesterday_that_is_told_of_after_midnight_is_none_that_a_restart_waits_for(
    tmp_path: Path,
) -> None:
    """The exchange's list of today's trades never has it."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS - 60, 40)
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", for_s=2)
        take(world, "BUY")
        take(world, "SELL")
        assert world.clock.time_ms() < MIDNIGHT_MS
        ledger = world.engine.contexts[0].ledger
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 2000, 5)
        assert ledger.fill_count == 0
        await world.until(lambda: ledger.fill_count == 2, 15)
        take(world, "BUY")
        await world.until(lambda: ledger.fill_count == 3, 2)
        assert await world.end() is ExitCode.STOPPED
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert record.trades == 1
        world.start(**LIMIT)
        assert await world.until_quoting() < 5
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 37_000)


def test_loss_of_yesterday_is_none_of_a_day_that_is_first_known_after_midnight(tmp_path: Path) -> None:
    """The books are open before midnight, the exchange tells of today's funding only after it."""

    async def story(world: World) -> None:
        world.strike("error", path="/fapi/v1/income", probability=1, reply="internal-503", for_s=20)
        world.start(**LIMIT)
        await world.until(lambda: world.engine is not None and world.engine.contexts[0].ledger.is_open, 5)
        await world.watch(2, orders=0)
        await lose(world, Decimal(21))
        lost = lost_today(world)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 1000, 15)
        take(world, "BUY")
        take(world, "SELL")
        await world.until_quoting(60)
        assert world.engine.contexts[0].day.whole_quote == lost - lost_today(world)
        await lose(world, Decimal(38))
        await world.watch(2)
        assert world.engine.contexts[0].day.whole_quote == lost - lost_today(world)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 10_000)


def test_halt_of_yesterday_is_cleared_for_good_today(tmp_path: Path) -> None:
    """The latch stands over midnight, for an operator to look; once cleared, the new day has its own limit."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        await world.until(lambda: world.clock.time_ms() > MIDNIGHT_MS + 3000, 120)
        assert is_halted(world)
        latch(world).clear()
        await world.until_quoting(5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 30_000)


def test_position_carried_over_midnight_without_a_daemon_is_valued_at_midnight(tmp_path: Path) -> None:
    """Killed before midnight with a position, down 2 percent by then and 1 more after: today's loss is the 1 alone."""

    async def story(world: World) -> None:
        world.start(**LIMIT | {"safety": {"dead_man_window_s": 5, "dead_man_refresh_s": 1}})
        await world.until_quoting()
        take(world)
        await world.watch(2)
        await world.vanish()
        await world.watch(6)
        move(world, -200)
        await world.watch(60)
        move(world, -100)
        await world.watch(40)
        assert world.clock.time_ms() > MIDNIGHT_MS + 40_000
        world.start(**LIMIT)
        await world.until(lambda: bool(world.ours()), 20)
        await world.watch(2)
        result = Decimal(days_told(world)[-1].split("so far: ")[1].split(" ")[0])
        assert Decimal(-16) < result < Decimal(-9)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 60_000)


@pytest.mark.parametrize("left", ["the record", "the price of midnight", "neither"])
def test_restart_knows_with_what_a_carried_position_began_the_day(
    tmp_path: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Held over midnight, then down 1 percent, then killed: by its record or by the price the loss is the same.

    With neither, what was not realised counts from the restart on, and a warning says so.
    """

    async def forget(sent: Sent) -> HttpResponse | None:
        return json_reply(200, []) if sent.path == "/fapi/v1/klines" and left == "neither" else None

    async def story(world: World) -> None:
        world.tamper = forget
        world.start(**LIMIT)
        await world.until_quoting()
        take(world)
        await world.until(lambda: world.clock.time_ms() >= MIDNIGHT_MS, 40)
        before = lost_today(world)
        await world.watch(5)
        move(world, -100)
        await world.watch(65)
        assert world.clock.time_ms() > MIDNIGHT_MS + 60_000
        await world.vanish()
        if left != "the record":
            day_file(world).path.unlink()
        world.start(**LIMIT)
        await world.watch(10)
        lost_since = lost_today(world) - before
        assert lost_since > 8
        result = Decimal(days_told(world)[-1].split("so far: ")[1].split(" ")[0])
        if left == "neither":
            assert Decimal(-5) < result < Decimal(3)
        else:
            assert abs(result + lost_since) < 1
        warned = any("counts from now on" in message for message in caplog.messages)
        assert warned is (left == "neither")
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, epoch_ms=MIDNIGHT_MS - 30_000)


def test_no_quote_is_sent_while_the_day_is_not_known(tmp_path: Path) -> None:
    """An income endpoint that fails keeps the gate closed, with a sentence; once it answers, quoting begins."""

    async def story(world: World) -> None:
        world.lose = lambda _method, path: "request" if path == "/fapi/v1/income" else ""
        world.start(**LIMIT)
        await world.watch(15, orders=0)
        assert world.engine is not None
        why = list(world.engine.contexts[0].gate.reasons)
        world.lose = lambda _method, _path: ""
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED
        reasons = {row["details"] for row in world.rows() if row["metric_name"] == "quoting"}
        assert "today's result is not known yet" in reasons
        assert why == ["today's result is not known yet: GET /fapi/v1/income: no answer"], why

    in_a_world(tmp_path, story)


def test_without_a_limit_nothing_is_counted_nor_asked(tmp_path: Path) -> None:
    """0 is no limit: no request for the day, no file, no halt."""

    async def story(world: World) -> None:
        world.start(risk={"max_daily_loss": 0, "max_price_change": 0})
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.watch(5)
        assert await world.end() is ExitCode.STOPPED
        assert "GET /fapi/v1/income" not in world.record()["requests"]
        assert not day_file(world).path.exists()

    in_a_world(tmp_path, story)


def test_disk_that_takes_no_record_costs_nothing_else(tmp_path: Path) -> None:
    """It is said once; the day goes on to be counted, and the limit holds."""

    async def story(world: World) -> None:
        day_file(world).path.with_suffix(".tmp").mkdir(parents=True)
        world.start(**LIMIT)
        await world.until_quoting()
        await lose(world, Decimal(21))
        await world.until(lambda: is_halted(world), 3)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


def test_halt_does_not_depend_on_what_is_told_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot even be made, while the position is over its limit: closed, out, paused and latched."""

    async def story(world: World) -> None:
        world.start(**LIMIT)
        await world.until_quoting()
        await world.watch(2)

        def fail(_keeper: DayKeeper, _context: SymbolContext) -> None:
            raise RuntimeError("nothing can be saved")

        monkeypatch.setattr(DayKeeper, "save", fail)
        take(world, quantity="0.040")
        await world.until(lambda: is_halted(world), 3)
        monkeypatch.undo()
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


EVERYTHING = """
- {at_s: 60, event: flash_crash, bps: -600, fall_s: 4, stay_s: 3, recover_s: 20, recovered_percent: 90}
- {at_s: 240, event: jump, bps: 200}
- {at_s: 330, event: funding, rate: -0.01, due_in_s: 10}
- {at_s: 420, event: jump, bps: -400}
- {at_s: 540, event: drought, seconds: 30, factor: 20}
"""


@pytest.mark.no_cover
def test_quarter_of_an_hour_of_everything_ends_with_books_equal_to_the_exchanges(tmp_path: Path) -> None:
    """A flash crash, jumps, funding, resets, a loss halt that is accepted and resumed, a kill: every cent is known."""
    events = tmp_path / "events.yaml"
    events.write_text(EVERYTHING, encoding="utf-8")
    config: dict[str, Any] = {
        "risk": {"max_daily_loss": 60},
        "refresh_config": {"refresh_mode": "amend"},
        "order_management": {"reset_interval": 45},
    }

    async def resume_if_halted(world: World) -> int:
        if not is_halted(world):
            return 0
        day_file(world).accept(day_of(world.clock.time_ms()), Decimal(0), world.clock.time_ms())
        latch(world).clear()
        await world.until(lambda: not world.state.strategy_paused, 5)
        return 1

    async def story(world: World) -> None:
        world.start(**config)
        await world.until_quoting()
        halts = 0
        while world.now_s < 640:
            await world.watch(5)
            halts += await resume_if_halted(world)
        await lose(world, Decimal(world.record()["feesTotal"]) + 61)
        await world.until(lambda: is_halted(world), 4)
        assert await resume_if_halted(world)
        await world.watch(30)
        await world.vanish()
        world.start(**config)
        while world.now_s < 900:
            await world.watch(5)
            halts += await resume_if_halted(world)
        assert world.state.position == world.position()
        assert await world.end() in (ExitCode.STOPPED, ExitCode.HALTED)
        assert not world.ours()
        record = day_file(world).read(day_of(world.clock.time_ms()))
        assert record is not None
        assert abs(record.whole_quote + lost_today(world)) < 1
        told = {row["details"].split(":")[0] for row in world.rows() if row["sub_type"] == "posture"}
        assert {"normal -> widen", "flatten -> halt"} <= told
        assert any(step.endswith("-> pull") for step in told)
        assert halts < 5

    in_a_world(tmp_path, story, events=events)
