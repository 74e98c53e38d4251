"""What became of every order: the journal's account against the exchange's, and what does not fit."""

import asyncio
import fcntl
import json
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core import gateway as gateway_module
from core.append_file import AppendFile, is_being_written
from core.gateway import Gateway, PlacedOrder
from core.instance_lock import InstanceLock, is_held
from core.journal import STARTED, STOPPED, JournalFile, JournalLine
from core.journal_account import JournalAccount, state_of
from core.model import OrderStatus
from core.order_audit import (
    Accounted,
    Audit,
    OrderAudit,
    Standing,
    account_for,
    as_json,
    as_text,
)
from core.order_life import STATES
from sim.exchange import Options
from sim.limits import LimitSizes
from sim.transport import InMemoryHttp, Link
from sim.virtual_time import VirtualClock, run_virtual
from utils.http import BinanceRest

from .sim_factory import KEY, SECRET, START_MS, Rig

NOW_MS = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
ACTIVE, FILLED, CANCELLED = OrderStatus.ACTIVE, OrderStatus.FILLED, OrderStatus.CANCELLED


def line(state: str, executed: str = "0", age_ms: int = 60_000, client_id: str = "qpmm-1") -> JournalLine:
    """A change of a buy of 0.003."""
    return JournalLine(NOW_MS - age_ms, state, client_id, "BTCUSDT", "BUY", 1, "80000.0", "0.003", executed)


def told(state: str, age_ms: int = 60_000) -> JournalLine:
    """What became of the daemon."""
    return JournalLine(NOW_MS - age_ms, state)


def placed(
    status: OrderStatus, executed: str = "0", age_ms: int = 60_000, client_id: str = "qpmm-1"
) -> dict[str, PlacedOrder]:
    """The exchange's account of that order alone."""
    order = PlacedOrder(
        client_id, "BTCUSDT", "BUY", status, Decimal("0.003"), Decimal(executed), NOW_MS - age_ms
    )
    return {client_id: order}


def only(
    lines: Sequence[JournalLine], theirs: dict[str, PlacedOrder] | None, *, is_running: bool = False
) -> Accounted:
    """What became of the one order there is."""
    running = {"BTCUSDT"} if is_running else set()
    (found,) = account_for(JournalAccount.of(lines), theirs, running=running, now_ms=NOW_MS)
    return found


# --- the journal alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES, ids=str)
def test_every_state_that_is_written_is_read_as_the_same(state: object) -> None:
    """The journal loses nothing."""
    assert state_of(str(state)) == state


def test_state_of_a_later_version_is_in_doubt() -> None:
    """What cannot be read is not taken for an end."""
    assert state_of("SUSPENDED + amend").rest is OrderStatus.IN_DOUBT
    assert state_of("FILLED + something").rest is OrderStatus.IN_DOUBT


@pytest.mark.parametrize(
    ("states", "state", "standing", "problem"),
    [
        (["PENDING_NEW", "ACTIVE", "FILLED"], "FILLED", Standing.ENDED, ""),
        (["PENDING_NEW", "REJECTED + proof"], "REJECTED", Standing.ENDED, ""),
        (["PENDING_NEW", "REJECTED + proof", "ACTIVE", "CANCELLED"], "CANCELLED", Standing.ENDED, ""),
        (["ACTIVE", "CANCELLED", "CANCELLED"], "CANCELLED", Standing.ENDED, ""),
        (
            ["ACTIVE", "ACTIVE + amend"],
            "ACTIVE + amend",
            Standing.UNKNOWN,
            "it was ACTIVE + amend when the journal broke off",
        ),
        (
            ["FILLED", "CANCELLED"],
            "CANCELLED",
            Standing.ENDED,
            "it has two final states: FILLED and CANCELLED",
        ),
        (["FILLED", "ACTIVE"], "ACTIVE", Standing.ENDED, "it is ACTIVE after it was FILLED"),
    ],
)
def test_journal_alone_tells_the_one_final_state_of_an_order(
    states: list[str], state: str, standing: Standing, problem: str
) -> None:
    """A conclusion of ours gives way to the exchange's word; two words of the exchange are a problem."""
    found = only([line(one) for one in states], None)
    assert (found.state, found.standing, found.problem) == (state, standing, problem)


def test_living_order_of_a_running_daemon_is_open_and_no_problem() -> None:
    """It has no final state yet."""
    found = only([line("ACTIVE")], None, is_running=True)
    assert (found.standing, found.problem) == (Standing.OPEN, "")


def test_order_of_a_symbol_that_no_daemon_trades_is_not_open() -> None:
    """Each symbol may have a daemon of its own."""
    (found,) = account_for(JournalAccount.of([line("ACTIVE")]), None, running={"ETHUSDT"}, now_ms=NOW_MS)
    assert found.standing is Standing.UNKNOWN


def test_breaks_of_a_journal_are_between_a_last_line_and_the_next_start() -> None:
    """A daemon that ended in order leaves none."""
    lines = [
        told(STARTED, 100),
        line("ACTIVE", age_ms=90),
        told(STARTED, 50),
        told(STOPPED, 40),
        told(STARTED, 30),
        line("ACTIVE", age_ms=20),
    ]
    assert JournalAccount.of(lines).breaks == [(NOW_MS - 90, NOW_MS - 50), (NOW_MS - 20, None)]
    assert JournalAccount.of([]).breaks == []


def test_oldest_line_is_not_the_first_where_the_clock_was_set_back() -> None:
    """The exchange is asked from the one on; what is missing counts from the other on."""
    journal = JournalAccount.of([told(STARTED, 50), None, line("ACTIVE", age_ms=90), told(STOPPED, 80)])
    assert (journal.first_ms, journal.oldest_ms, journal.unreadable) == (NOW_MS - 50, NOW_MS - 90, 1)
    assert JournalAccount.of([]).oldest_ms is None


# --- against the exchange -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "state", "source"),
    [
        (line("FILLED", "0.003"), placed(FILLED, "0.003"), "FILLED", "both"),
        (line("ACTIVE"), placed(CANCELLED, "0.001"), "CANCELLED", "exchange"),
        (line("CANCELLED + proof"), placed(OrderStatus.EXPIRED), "EXPIRED", "exchange"),
        (line("REJECTED + proof"), None, "REJECTED", "journal"),
        (line("CANCELLED + proof"), None, "CANCELLED", "journal"),
        (line("PENDING_NEW"), None, "REJECTED", "exchange"),
        (line("IN_DOUBT"), None, "REJECTED", "exchange"),
        (line("CANCELLED", age_ms=4 * DAY_MS), None, "CANCELLED", "journal"),
        (line("ACTIVE", age_ms=4 * DAY_MS), None, "CANCELLED", "exchange"),
    ],
)
def test_order_of_which_both_accounts_agree_is_accounted_for(
    ours: JournalLine, theirs: dict[str, PlacedOrder] | None, state: str, source: str
) -> None:
    """Also where only the exchange knows the end, or has forgotten an old one without fills."""
    found = only([ours], theirs or {})
    assert (found.problem, found.standing) == ("", Standing.ENDED)
    assert (found.state, found.source) == (state, source)


@pytest.mark.parametrize(
    ("ours", "theirs", "problem"),
    [
        (line("CANCELLED"), placed(FILLED), "it is FILLED at the exchange, CANCELLED in the journal"),
        (
            line("FILLED", "0.003"),
            placed(FILLED, "0.002"),
            "0.002 of it was executed by the exchange's account, 0.003 by the journal's",
        ),
        (
            line("CANCELLED"),
            placed(ACTIVE),
            "it rests at the exchange (ACTIVE), and was believed to have ended",
        ),
        (
            line("REJECTED + proof"),
            placed(CANCELLED),
            "it is CANCELLED at the exchange, REJECTED in the journal",
        ),
        (line("ACTIVE"), placed(ACTIVE), "it rests at the exchange, and no daemon runs"),
        (line("ACTIVE"), {}, "it is not at the exchange"),
        (line("FILLED", "0.003"), {}, "it is not at the exchange"),
        (line("FILLED", "0.003", age_ms=9 * DAY_MS), {}, "it is not at the exchange"),
    ],
)
def test_order_of_which_the_accounts_differ_is_a_problem(
    ours: JournalLine, theirs: dict[str, PlacedOrder], problem: str
) -> None:
    """Said in one sentence each."""
    assert only([ours], theirs).problem == problem


def test_order_that_rests_for_a_running_daemon_is_open() -> None:
    """Here as there; one that was just sent may not be there yet."""
    for ours, theirs in ((line("ACTIVE"), placed(ACTIVE)), (line("PENDING_NEW"), {})):
        found = only([ours], theirs, is_running=True)
        assert (found.standing, found.problem) == (Standing.OPEN, "")


def test_order_that_rested_for_three_days_is_forgotten_with_its_end() -> None:
    """The exchange counts from when it was placed, the journal ends with when it was cancelled."""
    ours = [line("ACTIVE", age_ms=3 * DAY_MS + 1000), line("CANCELLED", age_ms=1000)]
    assert only(ours, {}).problem == ""
    ours = [line("ACTIVE", age_ms=3 * DAY_MS - 3_600_000), line("CANCELLED", age_ms=1000)]
    assert only(ours, {}).problem == "it is not at the exchange"


def test_two_final_states_stay_a_problem_whatever_the_exchange_says() -> None:
    """The journal contradicts itself."""
    found = only([line("FILLED"), line("CANCELLED")], placed(CANCELLED))
    assert found.problem == "it has two final states: FILLED and CANCELLED"


@pytest.mark.parametrize(
    ("status", "age_ms", "problem"),
    [
        (CANCELLED, 49_000, ""),
        (FILLED, 21_000, ""),
        (ACTIVE, 49_000, "the exchange has it, the journal does not"),
        (CANCELLED, 5_000, "the exchange has it, the journal does not"),
    ],
    ids=["in a break", "at its end", "still resting", "outside of any break"],
)
def test_order_that_only_the_exchange_has_is_explained_by_a_break_of_the_journal_only(
    status: OrderStatus, age_ms: int, problem: str
) -> None:
    """A killed daemon takes its last lines along; what then rests is a problem all the same."""
    lines = [told(STARTED, 60_000), told(STARTED, 20_000), told(STOPPED, 1_000)]
    lines[0:1] = [told(STARTED, 60_000), line("FILLED", "0.003", 50_000, "qpmm-0")]
    theirs = placed(status, age_ms=age_ms, client_id="qpmm-9") | placed(FILLED, "0.003", client_id="qpmm-0")
    found = account_for(JournalAccount.of(lines), theirs, running=set(), now_ms=NOW_MS)
    assert {one.client_id: one.problem for one in found} == {"qpmm-0": "", "qpmm-9": problem}


def test_order_from_before_the_journal_is_no_matter_of_it_unless_it_rests() -> None:
    """Old days are deleted, and their orders with them; what rests counts always."""
    lines = [told(STARTED, 60_000), told(STOPPED, 50_000)]
    assert (
        account_for(JournalAccount.of(lines), placed(FILLED, age_ms=70_000), running=set(), now_ms=NOW_MS)
        == []
    )
    assert only(lines, placed(ACTIVE, age_ms=70_000)).problem
    assert only([], placed(ACTIVE)).problem


# --- the whole ----------------------------------------------------------------------------------------------


def exchange_of(clock: VirtualClock, options: Options | None = None) -> tuple[Rig, Gateway]:
    """A simulated exchange whose time is the virtual one, and a way to it."""
    rig = Rig(options=options)
    link = Link(rig.exchange, clock, latency_ms=1)
    return rig, Gateway(BinanceRest(InMemoryHttp(link), clock, api_key=KEY, api_secret=SECRET), clock)


def test_exchange_lists_all_orders_of_ours_over_pages_and_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of others are left out; what rests is there whenever it was placed."""
    monkeypatch.setattr(gateway_module, "ORDERS_PAGE", 2)
    monkeypatch.setattr(gateway_module, "ORDERS_SPAN_MS", 1000)

    async def story(clock: VirtualClock) -> None:
        rig, gateway = exchange_of(clock)
        names = [f"qpmm-{number}" for number in range(7)]
        for name in names:
            rig.place("BUY", "49999.0", "0.002", newClientOrderId=name)
            rig.wait(300)
        rig.place("BUY", "49999.0", "0.002", newClientOrderId="web-1")
        for name in names[1:5]:
            rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=name)
        await asyncio.sleep(rig.now_ms / 1000 - START_MS / 1000)
        rules = (await gateway.exchange_info()).rules["BTCUSDT"]
        since_ms, until_ms = START_MS + 200, rig.now_ms + 1
        found = await gateway.all_orders(rules, since_ms, until_ms, lambda name: name.startswith("qpmm-"))
        assert {order.client_id: order.status for order in found} == {
            "qpmm-0": ACTIVE,
            **dict.fromkeys(names[1:5], CANCELLED),
            "qpmm-5": ACTIVE,
            "qpmm-6": ACTIVE,
        }
        assert found[0].quantity == Decimal("0.002")

    run_virtual(story, epoch_ms=START_MS)


@pytest.mark.parametrize(
    ("fault", "compared", "least_s", "most_s"),
    [("", True, 100, 101), ("drop-reply", False, 9, 10)],
    ids=["answers", "does not"],
)
def test_audit_waits_for_its_share_of_the_weight_and_no_longer_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, compared: bool, least_s: int, most_s: int
) -> None:
    """16 pages of five where questions may use 36 a minute; a page that is not answered is asked for thrice."""
    monkeypatch.setattr(gateway_module, "ORDERS_PAGE", 2)
    JournalFile(tmp_path, "paper", 14).append(
        [JournalLine(START_MS, STARTED), JournalLine(START_MS, STOPPED)]
    )

    async def story(clock: VirtualClock) -> None:
        options = Options(limits=LimitSizes(weight_per_minute=60))
        rig, gateway = exchange_of(clock, options)
        for number in range(30):
            name = f"qpmm-{number}"
            rig.place("BUY", "49999.0", "0.002", newClientOrderId=name)
            rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=name)
        rig.wait(60_000)
        await asyncio.sleep(60)
        if fault:
            rig.send("POST", "/sim/fault", f"fault={fault}&path=/fapi/v1/allOrders&for_s=60")
        began_ms = clock.time_ms()
        found = await OrderAudit(tmp_path, "paper", ["BTCUSDT"], gateway, clock.time_ms).run()
        assert (found.compared, len(found.orders)) == (compared, 30 if compared else 0)
        assert least_s <= (clock.time_ms() - began_ms) / 1000 <= most_s

    run_virtual(story, epoch_ms=START_MS)


def test_audit_reads_again_while_a_daemon_runs_and_counts_what_lasts(tmp_path: Path) -> None:
    """Between the two readings an order was cancelled and written down: no problem; another never is: one."""
    journal = JournalFile(tmp_path, "paper", 14)
    journal.append([told(STARTED), line("ACTIVE"), line("ACTIVE", client_id="qpmm-2")])

    async def story(clock: VirtualClock) -> None:
        _, gateway = exchange_of(clock)
        audit = OrderAudit(tmp_path, "paper", ["BTCUSDT"], gateway, clock.time_ms)
        with InstanceLock(tmp_path, "paper", "BTCUSDT"):
            asyncio.get_running_loop().call_later(
                1, journal.append, [line("CANCELLED + proof"), told(STOPPED)]
            )
            found = await audit.run()
        assert found.is_running
        assert found.problems == ["qpmm-2: it is not at the exchange"]

    run_virtual(story, epoch_ms=START_MS)


def test_file_that_is_looked_at_just_when_it_is_opened_is_marked_with_the_next_line(tmp_path: Path) -> None:
    """Else every later audit would take the daemon for one that has died."""
    path = tmp_path / "orders-paper-20260101.jsonl"
    path.touch()
    file = AppendFile()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        file.open(path)
    assert not is_being_written(path)
    file.open(path)
    assert is_being_written(path)
    file.close()
    assert not is_being_written(path)


def test_audit_without_an_exchange_says_why(tmp_path: Path) -> None:
    """And judges by the journal."""
    JournalFile(tmp_path, "paper", 14).append([told(STARTED), line("FILLED", "0.003"), told(STOPPED)])
    audit = OrderAudit(tmp_path, "paper", ["BTCUSDT"], None, lambda: NOW_MS)
    found = asyncio.run(audit.run("there are no API keys"))
    assert (found.compared, found.note, found.is_accounted) == (False, "there are no API keys", True)


def test_daemon_without_a_lock_runs_for_as_long_as_it_has_the_journal_open(tmp_path: Path) -> None:
    """The embedded exchange's: its account belongs to its process alone."""
    journal = JournalFile(tmp_path, "paper", 14)
    audit = OrderAudit(tmp_path, "paper", ["BTCUSDT"], None, lambda: NOW_MS, by_lock=False)
    assert not asyncio.run(audit.run()).is_running
    journal.append([told(STARTED), line("ACTIVE")])
    found = asyncio.run(audit.run())
    assert (found.is_running, found.problems) == (True, [])
    journal.append([line("CANCELLED")])
    journal.close()
    found = asyncio.run(audit.run())
    assert (found.is_running, found.problems) == (False, [])


def test_lines_that_cannot_be_read_are_a_problem(tmp_path: Path) -> None:
    """Who knows what they said."""
    (tmp_path / "orders-paper-20261121.jsonl").write_text("nonsense\n")
    audit = OrderAudit(tmp_path, "paper", ["BTCUSDT"], None, lambda: NOW_MS)
    assert asyncio.run(audit.run()).problems == ["1 line of the journal cannot be read"]


def test_reading_holds_the_orders_of_a_journal_and_not_its_lines(tmp_path: Path) -> None:
    """Fourteen days of a busy account are millions of lines, read on the machine that trades."""
    changes = [msgspec.json.encode(line("ACTIVE", client_id=f"qpmm-{number}")) for number in range(10)]
    ends = [msgspec.json.encode(line("FILLED", "0.003", client_id=f"qpmm-{number}")) for number in range(10)]
    (tmp_path / "orders-paper-20261121.jsonl").write_bytes(b"\n".join([*changes * 20_000, *ends, b""]))
    audit = OrderAudit(tmp_path, "paper", ["BTCUSDT"], None, lambda: NOW_MS)
    tracemalloc.start()
    try:
        found = asyncio.run(audit.run())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(one.state, one.executed) for one in found.orders] == [("FILLED", Decimal("0.003"))] * 10
    assert peak < 20_000_000


def test_text_lists_each_order_with_its_end_and_sums_up() -> None:
    """A line for each, the problems, the sum."""
    orders = [only([line("FILLED", "0.003")], None), only([line("ACTIVE", client_id="qpmm-2")], None)]
    audit = Audit(
        account="paper",
        orders=tuple(orders),
        unreadable_lines=0,
        is_running=False,
        compared=False,
        note="as asked",
    )
    first, second, problem, summary = as_text(audit)
    assert first.split() == [
        "qpmm-1",
        "BTCUSDT",
        "buy",
        "1",
        "FILLED",
        "0.003/0.003",
        "2026-11-21T11:59:00.000+00:00",
        "journal",
    ]
    assert "unknown: ACTIVE" in second
    assert problem == "PROBLEM  qpmm-2: it was ACTIVE when the journal broke off"
    assert summary == "paper: 2 orders by the journal alone (as asked): 1 FILLED, 1 unknown; 1 problem"
    found = json.loads(as_json(audit))
    assert (found["accounted"], found["problems"]) == (False, [problem.removeprefix("PROBLEM  ")])
    assert found["orders"][0]["executed"] == "0.003"


def test_lock_is_seen_by_others_only_while_it_is_held(tmp_path: Path) -> None:
    """Whoever looks does not take it."""
    assert not is_held(tmp_path, "paper", "BTCUSDT")
    with InstanceLock(tmp_path, "paper", "BTCUSDT"):
        assert is_held(tmp_path, "paper", "BTCUSDT")
        assert not is_held(tmp_path, "paper", "ETHUSDT")
    assert not is_held(tmp_path, "paper", "BTCUSDT")
