"""The way back to quoting: each step by name, account and rules as they have to be, the stream proven."""

import asyncio
import errno
import logging
import os
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.append_file import is_being_written
from core.crash_count import CrashCount
from core.exit_code import ExitCode
from core.gate import STOPPING
from core.halt import HaltLatch
from core.instance_lock import InstanceLock
from core.rate_budget import Cost, Lane
from core.restarts import Restarts
from core.rules_watch import RulesWatch
from core.settings import Settings
from core.status import status_line
from core.systemd import Heartbeat
from sim.fault_file import parse_script
from sim.fault_rules import Script
from test.daemon import Sent, World, in_a_world, json_reply, untouched
from utils.errors import DiskRefused, NotSent, OutcomeUnknown, StartRefused
from utils.http import HttpResponse


def script(*faults: str) -> Script:
    """The script of these faults."""
    return parse_script("seed: 1\nfaults:\n" + "".join(f"  - {{fault: {fault}}}\n" for fault in faults))


def reasons(world: World) -> str:
    """Why the daemon does not quote, in words."""
    assert world.engine is not None
    [context] = world.engine.contexts
    return "; ".join(context.gate.reasons)


async def until_reason(world: World, text: str, within_s: float = 15.0) -> None:
    """Wait until this is a part of why it does not quote."""
    await world.until(lambda: world.engine is not None and text in reasons(world), within_s, text)


# --- named steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/fapi/v1/listenKey", "recovering: waiting for the account stream"),
        ("/fapi/v1/accountConfig", "recovering: reading the account's modes"),
        ("/fapi/v1/openOrders", "recovering: reading open orders"),
        ("/fapi/v1/userTrades", "recovering: reading trades"),
        ("/fapi/v1/countdownCancelAll", "dead-man switch"),
    ],
)
def test_step_that_does_not_succeed_is_the_reason_that_the_status_tells(
    tmp_path: Path, path: str, named: str
) -> None:
    """After a cut one question gets no answer: the status names it, with the seconds; then quotes come back."""

    async def story(world: World) -> None:
        async def mute(sent: Sent) -> HttpResponse | None:
            return await sent.hang() if sent.path == path else None

        world.start()
        await world.until_quoting()
        world.tamper = mute
        world.link.cut()
        await asyncio.sleep(21)
        world.link.restore()
        await until_reason(world, named, 20)
        if named.startswith("recovering"):
            await until_reason(world, f"{named} (", 20)
        assert world.ours() == []
        world.tamper = nothing
        assert await world.until_quoting(20) < 20
        assert reasons(world) == ""
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_limit_that_holds_a_recovery_up_is_a_part_of_the_reason_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program has used up what the address may ask; the log does not repeat it every second."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("used-weight", weight=2400)
        world.strike("close-sockets")
        await until_reason(world, "the exchange takes no requests for another ", 20)
        await world.until(lambda: not world.ours(), 25, "the dead-man switch")
        await world.until_quoting(75)
        assert await world.end() is ExitCode.STOPPED

    with caplog.at_level(logging.WARNING, "core.dead_man"):
        in_a_world(tmp_path, story)
    said = [each.message for each in caplog.records if "could not be refreshed" in each.message]
    assert len(said) == 1, said


def test_limits_that_others_have_used_up_are_named_while_they_hold_quotes_up(tmp_path: Path) -> None:
    """No refusal has come, and none is waited for: what is left is kept for cancels. It ends with the minute."""

    def shown(world: World) -> str:
        assert world.engine is not None
        return status_line(world.engine.contexts[0], Decimal(0), world.clock.monotonic_ns())

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("used-weight", weight=2300)
        await world.until(lambda: "the request limits leave no room for another " in shown(world), 5)
        await until_reason(world, "position cannot be confirmed")
        await world.until(lambda: not world.ours(), 21, "the dead-man switch")
        await asyncio.sleep(40 - world.now_s)
        await world.until_quoting(5)
        assert "request limits" not in shown(world)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_full_minute_of_others_ends_for_a_clock_that_was_set_forward_in_its_last_second(
    tmp_path: Path,
) -> None:
    """What was told in it says nothing of the next one: the exchange's time, cancels and quotes leave at once."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(39.1 - world.now_s)  # the exchange's minute ends at 40 s
        world.strike("used-weight", weight=2400)
        world.daemon_clock.skew_ms = 1200
        assert world.engine is not None
        rest = world.engine._gateway.rest
        await world.until(lambda: rest.limited_for_s > 0, 0.8, "a refusal")
        await asyncio.sleep(40.2 - world.now_s)
        world.daemon_clock.skew_ms = 0
        await world.until(lambda: rest.time_is_known, 2, "the exchange's time")
        assert world.engine._gateway.lanes.no_room_s() == 0
        await world.until_quoting(5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_limit_that_others_use_up_is_kept_while_the_exchange_does_not_tell_its_time(tmp_path: Path) -> None:
    """The clock was set by a little, and no question for the time is answered: what replies say is used counts."""
    statuses: Counter[int] = Counter()

    async def timeless(sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v1/time":
            raise OutcomeUnknown("lost")
        reply = await sent.deliver()
        statuses[reply.status] += 1
        return reply

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(25 - world.now_s)
        world.tamper = timeless
        world.daemon_clock.skew_ms = 150
        assert world.engine is not None
        for minute in range(2):
            await asyncio.sleep(41 + 60 * minute - world.now_s)  # the exchange's minutes begin at 40 s
            world.strike("used-weight", weight=2200)
        await asyncio.sleep(155 - world.now_s)
        assert not world.engine._gateway.rest.time_is_known
        world.tamper = untouched
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
    assert statuses[200] > 50
    assert not statuses.keys() & {418, 429}


def test_orders_that_are_gone_without_a_word_are_missed_and_placed_again_within_15_s(tmp_path: Path) -> None:
    """An account that was reset: no event, no trade, and no amendment that would find it out."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(60)
        before = {order.client_order_id for order in world.ours()}
        world.strike("wipe-account", wallet=20_000)
        assert await world.until_quoting(15) < 15
        assert not before & {order.client_order_id for order in world.ours()}
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_trades_under_ids_that_were_given_before_a_reset_are_counted(tmp_path: Path) -> None:
    """What the quotes trade after the account was reset moves the position, and nobody is asked to look for it."""

    async def story(world: World) -> None:
        for side in ("BUY", "SELL"):
            world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity="0.010")
        world.start()
        await world.until_quoting()
        await asyncio.sleep(12)
        world.strike("wipe-account", wallet=20_000)
        await asyncio.sleep(15)
        await world.until_quoting(5)
        world.control("POST", "/sim/market", symbol=world.symbol, move_bps="40")
        await world.until(lambda: world.position() < 0, 2)
        await world.until(lambda: world.state.position == world.position(), 0.2)
        await world.watch(5)
        assert await world.end() is ExitCode.STOPPED
        assert "position_adopted" not in world.events("risk_event")

    in_a_world(tmp_path, story)


def test_trades_under_ids_below_the_checkpoint_are_found_before_a_position_is_called_unexplained(
    tmp_path: Path,
) -> None:
    """After a reset no stream tells of what the quotes trade: the lists of trades do, and nobody is asked to look."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        for side in ("BUY", "SELL", "BUY", "SELL"):
            world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity="0.010")
        await asyncio.sleep(16)  # the checkpoint is the last of them
        world.strike("wipe-account", wallet=20_000)
        await asyncio.sleep(15)
        await world.until_quoting(5)
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", execution="TRADE", for_s=3)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        await world.until(lambda: world.state.position == world.position(), 8)
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED
        assert "position_adopted" not in world.events("risk_event")

    in_a_world(tmp_path, story)


def test_trades_are_found_while_something_has_been_unexplained_for_more_than_a_week(tmp_path: Path) -> None:
    """The exchange lists seven days from where it is asked to begin: from then on, none would be of today."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        recovery, [context] = world.engine.recovery, world.engine.contexts
        ledger, days_ago_ms = context.ledger, world.clock.time_ms() - 8 * 24 * 3600 * 1000
        recovery.reconciler._opened_ms[world.symbol] = ledger.unexplained_since_ms = days_ago_ms
        ledger.unexplained_quantity = Decimal("0.001")
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", for_s=1)
        for side in ("BUY", "SELL"):
            world.control("POST", "/sim/fill", symbol=world.symbol, side=side, quantity="0.010")
        assert len(await recovery.reconciler.count_missed_trades(context)) == 2

    in_a_world(tmp_path, story)


def test_liquidation_under_the_number_of_an_old_order_of_ours_is_one(tmp_path: Path) -> None:
    """After a reset numbers begin anew; where only the list of trades tells of it, it halts all the same."""

    async def story(world: World) -> None:
        world.start()
        for _ in range(3):
            await world.until_quoting(10)
            world.strike("expire-orders")
        await world.until_quoting(10)
        world.strike("wipe-account", wallet=20_000)
        await asyncio.sleep(15)
        await world.until_quoting(5)
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.010")
        await world.until(lambda: world.state.position == world.position(), 1)
        world.strike("drop-events", event="ORDER_TRADE_UPDATE", for_s=20)
        world.strike("adl", reason="liquidation")
        await world.until(lambda: world.state.strategy_paused, 20)
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)


async def nothing(_sent: Sent) -> HttpResponse | None:
    """Every request goes through."""
    return None


# --- the account stream proven ------------------------------------------------------------------------------


def test_first_quote_goes_alone_until_the_account_stream_has_told_of_it(tmp_path: Path) -> None:
    """A stream that is open and says nothing has one order at stake, the farthest, and not six."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/silence", stream="userData", seconds=8)
        world.start()
        await world.until(lambda: bool(world.ours()), 5)
        [first] = world.ours()
        await world.watch(8 - world.now_s, orders=1)
        await world.until_quoting(15)
        levels = {order.level for order in world.books.living()}
        assert levels == {1, 2, 3}
        assert await world.end() is ExitCode.STOPPED
        name = first.client_order_id
        [placed] = [row for row in world.rows() if row["sub_type"] == "placed" and name in row["details"]]
        assert placed["level"] == "3"

    in_a_world(tmp_path, story)


# --- account ------------------------------------------------------------------------------------------------


def test_no_second_quote_asks_while_it_is_unknown_whether_the_first_was_taken(tmp_path: Path) -> None:
    """The first one of a start gets no answer and is not found: the next leaves once the exchange cannot take it."""

    async def story(world: World) -> None:
        async def lost(sent: Sent) -> HttpResponse | None:
            if sent.method != "POST" or not sent.is_order():
                return None
            sent_s.append(world.clock.monotonic_ns() / 1e9)
            assert world.engine is not None
            [context] = world.engine.contexts
            living.append(len(context.orders.living()))
            if len(sent_s) > 1:
                return None
            await sent.hang()

        sent_s: list[float] = []
        living: list[int] = []
        world.tamper = lost
        world.order_transport = "ws"  # given up after 3 s, taken for 5
        world.start()
        await world.until(lambda: "in_doubt" in world.events("order_event"), 6, "a doubt")
        assert world.engine is not None
        [context] = world.engine.contexts
        context.on_posture(context)  # something calls for a look at the quotes
        await world.until_quoting(40)
        assert living[:2] == [1, 1]
        assert sent_s[1] - sent_s[0] > 5.0
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("hedge-mode, at_s: 12, for_s: 20", "the account is in hedge mode: switch it back to one-way mode"),
        ("multi-assets-mode, at_s: 12, for_s: 20", "the account is in multi-assets mode: switch it back"),
    ],
)
def test_account_of_another_kind_after_a_cut_is_not_quoted_on(tmp_path: Path, fault: str, named: str) -> None:
    """No event tells of it; the recovery reads it, says what to do, and quotes once it is put right."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(13 - world.now_s)
        world.link.cut()
        await asyncio.sleep(1)
        world.link.restore()
        await until_reason(world, named)
        await world.until(lambda: not world.ours(), 5)
        await world.watch(31 - world.now_s, orders=0)
        assert await world.until_quoting(15) < 15
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("account") == 2

    in_a_world(tmp_path, story, faults=script(fault))


def test_leverage_that_somebody_changes_pauses_until_it_is_set_back(tmp_path: Path) -> None:
    """The event closes the gate at once; set back by hand, quotes return by themselves."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await world.other_client("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=3)
        await world.until(lambda: not world.ours(), 1)
        await until_reason(world, "the leverage of BTCUSDT was changed to 3: set it back to 5")
        await world.watch(20, orders=0)
        await world.other_client("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)
        assert await world.until_quoting(10) < 10
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


# --- rules --------------------------------------------------------------------------------------------------


def test_symbol_that_stops_trading_is_named_and_quoted_again_when_it_trades(tmp_path: Path) -> None:
    """A market that stands still has the status read: out, by name, without a loop of refused orders."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await until_reason(world, "BTCUSDT is SETTLING", 75)
        await world.until(lambda: not world.ours(), 5)
        refused = len(world.record()["rejected"])
        await asyncio.sleep(101 - world.now_s)
        assert len(world.record()["rejected"]) == refused
        await world.until_quoting(12)
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("rules") == 2

    in_a_world(tmp_path, story, faults=script("halt, status: SETTLING, at_s: 12, for_s: 90"))


def test_other_bounds_are_kept_from_the_first_refusal_on(tmp_path: Path) -> None:
    """A smallest notional above our size: after the first refusal no order is sent that cannot be taken.

    Nobody tells that it is lowered again; all quotes are back within 45 s of that.
    """

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        await asyncio.sleep(13 - world.now_s)
        assert world.engine is not None
        [context] = world.engine.contexts
        await world.until(lambda: context.rules.min_notional_quote == 10_000, 30)
        await asyncio.sleep(11)
        refused = len(world.record()["rejected"])
        await asyncio.sleep(10)
        assert len(world.record()["rejected"]) == refused
        await asyncio.sleep(72 - world.now_s)
        await world.until_quoting(45)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, faults=script("symbol-rules, min_notional: 10000, at_s: 12, for_s: 60"))


def test_another_tick_begins_a_new_run_with_quotes_on_the_new_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old run ends in order, nothing of it rests; the new one counts in the new units, and back again."""
    monkeypatch.setattr(RulesWatch, "EVERY_S", 20.0)
    ends: list[str] = []
    monkeypatch.setattr(Heartbeat, "stopping", lambda _self, why: ends.append(why))

    async def story(world: World) -> None:
        world.start(refresh_config={"refresh_mode": "replace"})
        await world.until_quoting()
        first = world.engine
        await world.until(lambda: world.engine is not first, 40, "a new run")
        await world.until_quoting(20)
        assert world.engine is not None
        [context] = world.engine.contexts
        assert context.rules.tick_size == Decimal("0.5")
        assert all(
            world.exchange._venue.instruments["BTCUSDT"].rules.price(order.price_ticks) % Decimal("0.5") == 0
            for order in world.ours()
        )
        second = world.engine
        await world.until(lambda: world.engine is not second, 60, "the old tick again")
        await world.until_quoting(20)
        assert world.disagreements() == []
        assert ends == []  # nobody waits for the process to end
        assert await world.end() is ExitCode.STOPPED
        assert len(ends) == 1

    in_a_world(tmp_path, story, faults=script("symbol-rules, tick_size: 0.5, at_s: 12, for_s: 40"))


@pytest.mark.parametrize("held", ["0.013", "0"])
def test_position_that_no_run_watches_because_the_new_rules_allow_none_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, held: str
) -> None:
    """Another step makes the orders too small: a refusal, and with a position a fault, which is tried again."""

    async def story(world: World) -> None:
        running = world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None
        if Decimal(held):
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=held)
        await asyncio.sleep(15 - world.now_s)
        world.strike("symbol-rules", symbol=world.symbol, step_size="0.01", min_qty="0.01", for_s=600)
        first.recovery.rules.look_soon()
        for run in (running, None):
            refusal = NotSent if Decimal(held) else StartRefused
            with pytest.raises(refusal, match="order size: 250 USDT an order"):
                await (run or world.start())
        assert world.position() == Decimal(held)
        assert not world.ours()

    in_a_world(tmp_path, story)
    told = [line for line in caplog.messages if "NOT WATCHED" in line]
    if Decimal(held):
        line, later = told
        assert "a position of 0.013 BTC is kept" in line
        assert "run `python main.py flatten`" in line
        assert "a position of BTCUSDT is kept" in later
    else:
        assert told == []


@pytest.mark.parametrize("held", ["0.013", "0"])
def test_full_disk_ends_no_run_with_two_that_begins_anew_with_a_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, held: str
) -> None:
    """Nor the start after it, and the first one with room quotes; without a position both are refused."""

    async def story(world: World) -> None:
        running = world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None
        if Decimal(held):
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=held)
        await asyncio.sleep(15 - world.now_s)
        full = world.folder / "state" / "boot-paper-test-BTCUSDT.tmp"
        full.mkdir()
        world.strike("symbol-rules", symbol=world.symbol, tick_size="0.5", for_s=600)
        first.recovery.rules.look_soon()
        for run in (running, None):
            with pytest.raises(NotSent if Decimal(held) else DiskRefused, match="make room on the disk"):
                await (run or world.start())
        full.rmdir()
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert (world.folder / "state" / "lock-paper-test-BTCUSDT").read_bytes() == b""

    in_a_world(tmp_path, story)
    assert len([line for line in caplog.messages if "NOT WATCHED" in line]) == (2 if Decimal(held) else 0)


@pytest.mark.parametrize("held", ["0.013", "0"])
@pytest.mark.parametrize("when", ["while the first one ends", "before the second one begins"])
def test_position_that_no_run_watches_because_a_halt_came_between_two_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, when: str, held: str
) -> None:
    """By each start that the halt ends, until one can begin, or the position is gone."""

    async def story(world: World) -> None:
        running = world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None
        if Decimal(held):
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=held)
        await asyncio.sleep(15 - world.now_s)
        halt, real = world.folder / "state" / "HALT", runs.next_boot

        def halted_meanwhile(*arguments: Any, **named: Any) -> int:
            halt.touch()
            return real(*arguments, **named)

        if when == "before the second one begins":
            monkeypatch.setattr(runs, "next_boot", halted_meanwhile)
        first._begin_anew("the exchange changed tick or step")
        if when == "while the first one ends":
            await world.until(lambda: STOPPING in first.gate.closed_by, 5)
            first._switch.throw("a signal")
        assert await running is ExitCode.HALTED
        assert await world.start() is ExitCode.HALTED
        monkeypatch.undo()
        halt.unlink(missing_ok=True)
        HaltLatch(world.folder / "state", "paper-test", world.symbol).clear()
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert world.position() == Decimal(held)
        assert (world.folder / "state" / "lock-paper-test-BTCUSDT").read_bytes() == b""

    in_a_world(tmp_path, story)
    told = [line for line in caplog.messages if "NOT WATCHED" in line]
    assert len(told) == (2 if Decimal(held) else 0)
    assert all("a position of 0.013 BTC is kept" in line for line in told)


@pytest.mark.parametrize("held", ["0.013", "0"])
@pytest.mark.parametrize("can_verify", [True, False], ids=["verified", "not verified"])
def test_start_that_a_halt_ends_says_that_nobody_watches_the_position(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, held: str, *, can_verify: bool
) -> None:
    """The run that was halted watched it for as long as it lived: killed, it has left nobody who does."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        if Decimal(held):
            world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=held)
        await asyncio.sleep(1)
        (world.folder / "state" / "HALT").touch()
        await world.until(lambda: world.state.strategy_paused and not world.ours(), 5)
        await world.vanish()
        if not can_verify:
            world.lose = lambda method, path: "request" if path.endswith("/openOrders") else ""
        assert await world.start() is (ExitCode.HALTED if can_verify else ExitCode.NOT_VERIFIED)
        mark = (world.folder / "state" / "lock-paper-test-BTCUSDT").read_bytes()
        assert mark == (b"runkept\n" if not can_verify else b"kept   \n" if Decimal(held) else b"")

    in_a_world(tmp_path, story)
    told = [line for line in caplog.messages if "NOT WATCHED" in line]
    what = "a position of 0.013 BTC" if can_verify else "an unknown position of BTCUSDT"
    assert [f"{what} is kept" in line for line in told] == [True] * (Decimal(held) != 0 or not can_verify)


def test_run_that_begins_anew_leaves_no_file_of_the_one_before_open(tmp_path: Path) -> None:
    """Else a day that is over would look written to, and not be removed, for as long as the process lives."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None
        await asyncio.sleep(15 - world.now_s)
        first._begin_anew("the exchange changed tick or step")
        await world.until(lambda: world.engine is not first, 15, "another run")
        await world.until_quoting()
        second = world.engine
        assert second is not None
        assert await world.end() is ExitCode.STOPPED
        paths = [*(world.folder / "logs").glob("*.csv"), *(world.folder / "state").glob("*.jsonl")]
        assert [is_being_written(path) for path in paths] == [True, True]
        second.metrics._file.close()
        second.journal._file.close()
        assert not any(is_being_written(path) for path in paths)

    in_a_world(tmp_path, story)


def test_symbol_without_room_for_its_mark_leaves_the_kept_position_of_another_one_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes the mark of the one in its place and not that of the other, whose file is empty."""
    real = os.pwrite

    def without_room(descriptor: int, data: bytes, offset: int) -> int:
        if os.fstat(descriptor).st_size < offset + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    async def story(world: World) -> None:
        one = world.settings

        def two(**config: Any) -> Settings:
            settings = one(**config)
            return replace(settings, quotes=(*settings.quotes, replace(settings.quotes[0], symbol="ETHUSDT")))

        monkeypatch.setattr(world, "settings", two)
        with InstanceLock(world.folder / "state", "paper-test", "BTCUSDT") as lock:
            lock.leave_kept("a position of 0.013 BTC")
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", without_room)
            for _ in range(2):
                with pytest.raises(NotSent, match="make room on the disk"):
                    await world.start()
        world.start()
        await world.until_quoting()
        assert (world.folder / "state" / "lock-paper-test-BTCUSDT").read_bytes() == b"running\n"
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, symbols=("BTCUSDT", "ETHUSDT"))
    told = [line for line in caplog.messages if "NOT WATCHED" in line]
    assert ["a position of BTCUSDT is kept" in line for line in told] == [True, True]


def test_kept_position_is_said_where_the_disk_does_not_even_count_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is tried then, and the end is no refusal, after which nobody tries again."""

    async def story(world: World) -> None:
        count = CrashCount(world.folder / "state", "paper-test", (world.symbol,))
        world.restarts = Restarts(count, [], world.clock, 5)
        with InstanceLock(world.folder / "state", "paper-test", world.symbol) as lock:
            lock.leave_kept("a position of 0.013 BTC")
        count.path.with_suffix(".tmp").mkdir()
        with pytest.raises(NotSent, match="make room on the disk"):
            await world.start()

    in_a_world(tmp_path, story)
    [told] = [line for line in caplog.messages if "NOT WATCHED" in line]
    assert "a position of BTCUSDT is kept" in told


def test_disarming_of_the_old_run_that_comes_late_takes_no_switch_from_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on its way for 1.5 s, by when a new run would have armed the switch and quoted."""
    monkeypatch.setattr(RulesWatch, "EVERY_S", 20.0)

    async def story(world: World) -> None:
        late: list[asyncio.Task[None]] = []

        async def deliver(sent: Sent) -> None:
            await asyncio.sleep(1.5)
            await sent.deliver()

        async def straggle(sent: Sent) -> HttpResponse | None:
            if "countdownTime=0" not in sent.query or late:
                return None
            late.append(asyncio.ensure_future(deliver(sent)))
            return await sent.hang()

        world.start()
        await world.until_quoting()
        world.tamper, first = straggle, world.engine
        await world.until(lambda: world.engine is not first, 40, "a new run")
        instrument = world.exchange._venue.instruments["BTCUSDT"]
        await world.until(lambda: late[0].done() and len(world.ours()) == 6, 30, "quotes of the new run")
        assert instrument.countdown_due_ms is not None
        for _ in range(60):
            assert instrument.countdown_due_ms is not None or not world.ours()
            await asyncio.sleep(0.1)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, faults=script("symbol-rules, tick_size: 0.5, at_s: 12, for_s: 40"))


def test_stop_that_is_hurried_while_a_new_run_waits_is_verified_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancels were confirmed; what is waited for is a disarming that nobody has answered."""
    monkeypatch.setattr(RulesWatch, "EVERY_S", 20.0)

    async def story(world: World) -> None:
        disarmed = asyncio.Event()

        async def lose(sent: Sent) -> HttpResponse | None:
            if "countdownTime=0" not in sent.query:
                return None
            disarmed.set()
            return await sent.hang()

        world.start()
        await world.until_quoting()
        world.tamper = lose
        async with asyncio.timeout(40):
            await disarmed.wait()
        await asyncio.sleep(0.3)
        world.stop.ask("SIGINT received")
        world.stop.ask("SIGINT received")
        assert world.running is not None
        async with asyncio.timeout(5):
            assert await world.running is ExitCode.STOPPED

    in_a_world(tmp_path, story, faults=script("symbol-rules, tick_size: 0.5, at_s: 12, for_s: 40"))


def test_new_run_keeps_the_share_of_the_cancels_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run before it had used that for the last of its questions."""
    monkeypatch.setattr(RulesWatch, "EVERY_S", 20.0)

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        first = world.engine
        await world.until(lambda: world.engine is not first, 40, "a new run")
        await world.until_quoting(20)
        assert world.engine is not None
        budget, now_ms = world.engine.execution._gateway.lanes.budget, world.clock.time_ms()
        budget.weight.take(budget.weight.limit * 96 // 100 - budget.weight.used(now_ms), now_ms)
        assert budget.wait_ms(Lane.VERIFY, Cost(), now_ms) > 0
        assert budget.wait_ms(Lane.CANCEL, Cost(), now_ms) == 0

    in_a_world(tmp_path, story, faults=script("symbol-rules, tick_size: 0.5, at_s: 12, for_s: 300"))


def test_position_that_is_kept_goes_on_to_be_held_to_its_limits_under_another_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A halt from outside has its position kept; a run that ended for the new tick would leave nobody to guard it."""
    monkeypatch.setattr(RulesWatch, "EVERY_S", 5.0)

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.002")
        await asyncio.sleep(2)
        (world.folder / "state" / "HALT").touch()
        await world.until(lambda: not world.ours(), 5, "quotes that are out")
        world.strike("symbol-rules", symbol="BTCUSDT", tick_size="0.5", for_s=300)
        assert world.engine is not None
        checks = world.engine.risk.checks["BTCUSDT"]
        await asyncio.sleep(20)
        assert world.running is not None
        assert not world.running.done()
        assert world.engine.risk.checks["BTCUSDT"] > checks + 5
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.080")
        await world.until(lambda: world.position() == 0, 10, "a position that is closed")

    in_a_world(tmp_path, story)


def test_another_tick_that_is_learned_during_a_close_ends_the_run_soon_after_it(tmp_path: Path) -> None:
    """The close goes on under the run that began it, and the halt stays for the next one."""

    async def story(world: World) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            return (
                json_reply(400, {"code": -4105, "msg": "no"})
                if sent.is_close() and world.now_s < 25
                else None
            )

        running = world.start()
        await world.until_quoting()
        first = world.engine
        assert first is not None
        await asyncio.sleep(15 - world.now_s)
        world.strike("symbol-rules", tick_size="0.5", for_s=600)
        world.tamper = refuse
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.05")
        await world.until(lambda: first.risk.is_closing, 3, "the close")
        first.recovery.rules.look_soon()
        await world.until(lambda: world.position() == 0, 30, "closed")
        assert world.engine is first
        assert any("beginning anew" in reason for reason in first.contexts[0].gate.reasons)
        await world.until(running.done, 8, "the end of the run")
        assert running.result() is ExitCode.HALTED

    in_a_world(tmp_path, story)


# --- positions ----------------------------------------------------------------------------------------------


def test_trades_of_somebody_else_are_on_record_and_a_fifth_one_pauses(tmp_path: Path) -> None:
    """Before, after and why; one by hand is lived with, beside another program no quote rests until it is calm."""

    async def by_hand(world: World, side: str) -> None:
        await world.other_client(
            "POST",
            "/fapi/v1/order",
            symbol="BTCUSDT",
            side=side,
            type="MARKET",
            quantity="0.002",
            newClientOrderId=f"by-hand-{world.now_s:.0f}",
        )
        await asyncio.sleep(1)

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        for side in ("BUY", "SELL", "BUY", "SELL"):
            await by_hand(world, side)
        assert reasons(world) == ""
        await by_hand(world, "BUY")
        await until_reason(world, "somebody else trades BTCUSDT on this account", 1)
        await world.until(lambda: not world.ours(), 3)
        assert await world.until_quoting(40) > 15
        assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED
        lines = [row["details"] for row in world.rows() if row["sub_type"] == "foreign_trade"]
        assert len(lines) == 5
        assert lines[0].startswith("position 0 -> 0.002 by a trade that is not ours: buy 0.002 at ")
        assert " by-hand-" in lines[0]

    in_a_world(tmp_path, story)


def test_position_that_no_trade_explains_pauses_until_one_does(tmp_path: Path) -> None:
    """A fill that neither stream nor trades tell of: the figure is taken, quotes stay out, the reason is named."""

    async def story(world: World) -> None:
        async def hide_trades(sent: Sent) -> HttpResponse | None:
            if sent.path != "/fapi/v1/userTrades":
                return None
            return HttpResponse(200, {}, b"[]")

        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="userData", seconds=20)
        world.tamper = hide_trades
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        await until_reason(world, "no trade explains 0.005 of the position", 20)
        await world.watch(25, orders=0)
        assert world.state.position == world.position()
        world.tamper = nothing
        await world.until_quoting(45)
        assert await world.end() is ExitCode.STOPPED
        assert world.events("risk_event").count("position_adopted") == 1

    in_a_world(tmp_path, story)


def test_liquidation_in_a_gap_of_the_stream_halts_all_the_same(tmp_path: Path) -> None:
    """The trade is found over REST, which does not say whose it is: its order is asked for."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.004")
        await asyncio.sleep(20)
        world.control("POST", "/sim/silence", stream="userData", seconds=10)
        world.control("POST", "/sim/adl", symbol="BTCUSDT", quantity="0.002")
        await world.until(lambda: world.state.strategy_paused, 30)
        assert await world.end() is ExitCode.HALTED
        details = [row["details"] for row in world.rows() if row["sub_type"] == "breach"]
        assert "adl_autoclose" in details[0]

    in_a_world(tmp_path, story)


def test_question_without_an_answer_lets_no_other_quote_out_while_all_are_refused(tmp_path: Path) -> None:
    """Quotes are braked under a restriction; the one that asks is lost on its way, which says nothing of the others."""
    orders: list[str] = []

    async def count(sent: Sent) -> HttpResponse | None:
        if (sent.method, sent.path) != ("POST", "/fapi/v1/order"):
            return None
        orders.append(sent.query)
        return await sent.hang() if len(orders) == 1 else None

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.strike("restrict", code=-4400, for_s=120)
        world.strike("expire-orders")
        assert world.engine is not None
        [context] = world.engine.contexts
        await world.until(lambda: bool(context.refusal), 30, "the brake")
        world.tamper = count
        await world.until(lambda: len(orders) > 0, 15, "a question")
        await asyncio.sleep(8)
        assert len(orders) <= 3  # and not all six
        await world.end()

    in_a_world(tmp_path, story)
