"""The journal of orders: a line for each change, whole lines only, by day, and a disk that fails costs lines only."""

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.events import EventBus
from core.gate import Gate
from core.journal import JournalFile, JournalLine, Note, journal_paths, read_journal
from core.journal_worker import JournalWorker
from core.live_order import LiveOrder
from core.model import OrderStatus, Side
from sim.virtual_time import VirtualClock, run_virtual

from .examples import BTC, context, quote, report
from .test_logger import Disk

NOON_MS = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


def line(client_id: str = "qpmm-1", time_ms: int = NOON_MS, state: str = "ACTIVE") -> JournalLine:
    """A buy of level 1."""
    return JournalLine(time_ms, state, client_id, "BTCUSDT", "BUY", 1, "80000.0", "0.003")


def journal(folder: Path, keep_days: int = 3) -> JournalFile:
    """The journal of an account."""
    return JournalFile(folder, "paper-x", keep_days)


# --- the file -----------------------------------------------------------------------------------------------


def test_line_says_what_is_known_of_an_order_and_nothing_else() -> None:
    """Prices and quantities as the exchange writes them."""
    orders = context().orders
    order = orders.register("qpmm-1", quote(Side.SELL, 2, 800_001, 10), 0)
    orders.apply(order, report(client_id="qpmm-1", price_ticks=800_001, executed_lots=4), 0)
    orders.begin_cancel(order, 0)
    order.reason = "timeout"
    assert Note.of(order, BTC, NOON_MS).line() == JournalLine(
        NOON_MS,
        "PARTIALLY_FILLED + cancel",
        "qpmm-1",
        "BTCUSDT",
        "SELL",
        2,
        "80000.1",
        "0.010",
        "0.004",
        "timeout",
    )


def test_lines_are_json_and_come_back_as_they_were(tmp_path: Path) -> None:
    """One object a line; what is not said is left out."""
    lines = [line(), JournalLine(NOON_MS, "STARTED"), line("qpmm-2", state="FILLED")]
    journal(tmp_path).append(lines)
    text = (tmp_path / "orders-paper-x-20261121.jsonl").read_text()
    assert [json.loads(one)["state"] for one in text.splitlines()] == ["ACTIVE", "STARTED", "FILLED"]
    assert json.loads(text.splitlines()[1]) == {"time": NOON_MS, "state": "STARTED"}
    assert list(read_journal(journal_paths(tmp_path, "paper-x"))) == lines


def test_each_line_is_in_the_file_of_its_day_and_old_days_are_deleted(tmp_path: Path) -> None:
    """Three are kept, today included; the journals of other accounts are not touched."""
    other = tmp_path / "orders-paper-x-y-20200101.jsonl"
    other.write_text("")
    file = journal(tmp_path)
    file.append([line(time_ms=NOON_MS + day * DAY_MS) for day in range(3)])
    assert len(journal_paths(tmp_path, "paper-x")) == 3
    file.append([line(time_ms=NOON_MS + 3 * DAY_MS)])
    days = [path.stem[-8:] for path in journal_paths(tmp_path, "paper-x")]
    assert days == ["20261122", "20261123", "20261124"]
    assert other.exists()


def test_clock_that_is_set_weeks_ahead_deletes_no_more_than_one_day(tmp_path: Path) -> None:
    """Nor is the file of today deleted for those of days that have not come."""
    file = journal(tmp_path)
    file.append([line(time_ms=NOON_MS + day * DAY_MS) for day in (0, 1, 2, 40)])
    assert [path.stem[-8:] for path in journal_paths(tmp_path, "paper-x")] == [
        "20261122",
        "20261123",
        "20261231",
    ]
    file.append([line(time_ms=NOON_MS + day * DAY_MS) for day in (41, 42)])
    journal(tmp_path).append([line(time_ms=NOON_MS + 3 * DAY_MS)])
    days = [path.stem[-8:] for path in journal_paths(tmp_path, "paper-x")]
    assert days == ["20261124", "20261231", "20270101", "20270102"]


def test_old_day_that_cannot_be_deleted_costs_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the lines are written once."""
    (tmp_path / "orders-paper-x-20200101.jsonl").mkdir()
    journal(tmp_path, keep_days=1).append([line()])
    path = tmp_path / "orders-paper-x-20261121.jsonl"
    assert len(path.read_text().splitlines()) == 1
    [said] = caplog.messages
    assert said.startswith("orders-paper-x-20200101.jsonl could not be deleted: ")


def test_lines_go_on_in_the_file_of_the_next_day_after_the_clock_was_set_back_over_midnight(
    tmp_path: Path,
) -> None:
    """By the same process and by the one after it: whoever reads the files by their days has the lines in order."""
    midnight_ms = NOON_MS + DAY_MS // 2
    file = journal(tmp_path)
    file.append([line("qpmm-1", midnight_ms - 1)])
    lines = [line(time_ms=midnight_ms + 1), line(time_ms=midnight_ms - 3_600_000, state="FILLED")]
    file.append(lines)
    file.close()
    ended = JournalLine(midnight_ms - 3_500_000, "STOPPED")
    journal(tmp_path).append([ended])
    assert list(read_journal(journal_paths(tmp_path, "paper-x")[1:])) == [*lines, ended]


def test_torn_last_line_of_a_crash_is_cut_off_and_the_next_begins_anew(tmp_path: Path) -> None:
    """Half a line is no line, for writers and for readers."""
    journal(tmp_path).append([line()])
    (path,) = journal_paths(tmp_path, "paper-x")
    with path.open("a") as file:
        file.write('{"time":17')
    assert list(read_journal([path])) == [line()]
    journal(tmp_path).append([line("qpmm-2")])
    assert list(read_journal([path])) == [line(), line("qpmm-2")]


def test_lines_that_cannot_be_read_are_told_and_the_others_read(tmp_path: Path) -> None:
    """A damaged disk does not hide what is there."""
    path = tmp_path / "orders-paper-x-20261121.jsonl"
    path.write_bytes(b'{"time":1,"state":"ACTIVE","id":"a"}\nnonsense\n{"time":"x","state":1}\n\xff\n')
    assert [one and one.id for one in read_journal([path])] == ["a", None, None, None]


# --- the worker ---------------------------------------------------------------------------------------------


class Bench:
    """A journal worker that follows the orders of one symbol, on a virtual clock."""

    def __init__(self, clock: VirtualClock, folder: Path) -> None:
        self.folder = folder
        self.disk = Disk()
        self.symbol = context()
        self.gate = Gate()
        self.worker = JournalWorker(
            [self.symbol], clock, journal(folder), self.disk.run, self.gate, EventBus()
        )

    def states(self) -> list[tuple[str, str]]:
        """What the disk says, as (client id, state)."""
        return [(one.id, one.state) for one in read_journal(journal_paths(self.folder, "paper-x")) if one]

    def placed(self, client_id: str = "qpmm-1") -> LiveOrder:
        """An order that rests."""
        order = self.symbol.orders.register(client_id, quote(lots=10), 0)
        self.symbol.orders.apply(order, report(client_id=client_id), 0)
        return order


def test_every_change_of_an_order_is_written_within_a_second(tmp_path: Path) -> None:
    """From its registration to its end, each once; what changes nothing makes no line."""

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        orders, order = bench.symbol.orders, bench.placed()
        orders.apply(order, report(client_id="qpmm-1"), 0)
        orders.begin_amend(order, 798_000, 12, 0)
        orders.doubt_amend(order, "timeout")
        orders.begin_cancel(order, 0)
        orders.apply(order, report(client_id="qpmm-1", status=OrderStatus.CANCELLED, executed_lots=3), 0)
        orders.count(order, 3, 0)
        bench.worker.started()
        working = asyncio.ensure_future(bench.worker.run())
        await asyncio.sleep(1)
        assert bench.states() == [
            ("qpmm-1", "PENDING_NEW"),
            ("qpmm-1", "ACTIVE"),
            ("qpmm-1", "ACTIVE + amend"),
            ("qpmm-1", "ACTIVE + amend in doubt"),
            ("qpmm-1", "ACTIVE + cancel over amend"),
            ("qpmm-1", "CANCELLED"),
            ("", "STARTED"),
        ]
        assert bench.disk.writes == 1
        await asyncio.sleep(5.2)
        assert bench.states()[7:] == [("", "RUNNING")]
        bench.worker.stopped()
        await asyncio.sleep(20)
        assert bench.states()[8:] == [("", "STOPPED")]
        working.cancel()

    run_virtual(story)


def test_change_of_price_and_a_late_fill_make_lines_too(tmp_path: Path) -> None:
    """Whatever the exchange tells later."""

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        orders, order = bench.symbol.orders, bench.placed()
        orders.apply(order, report(client_id="qpmm-1", price_ticks=798_000, update_ms=NOON_MS), 0)
        orders.apply(order, report(client_id="qpmm-1", status=OrderStatus.CANCELLED), 0)
        orders.count(order, 2, 0)
        await bench.worker.flush()
        lines = [one for one in read_journal(journal_paths(tmp_path, "paper-x")) if one]
        assert [(one.state, one.price, one.executed) for one in lines[2:]] == [
            ("ACTIVE", "79800.0", "0"),
            ("CANCELLED", "79800.0", "0"),
            ("CANCELLED", "79800.0", "0.002"),
        ]

    run_virtual(story)


def test_order_that_takes_is_written_though_it_never_rests(tmp_path: Path) -> None:
    """It closes a position; no slot, no cancel and no echo is expected of it."""

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        orders = bench.symbol.orders
        lost = orders.register_taker("qpmm-1", Side.SELL, 5, 0)
        orders.doubt(lost, "timeout")
        refused = orders.register_taker("qpmm-2", Side.SELL, 5, 0)
        orders.end(refused, OrderStatus.REJECTED, "-2022")
        orders.note_taker(
            report(client_id="qpmm-1", status=OrderStatus.FILLED, price_ticks=0, lots=5, executed_lots=5)
        )
        orders.note_taker(report(client_id="qpmm-stranger", status=OrderStatus.FILLED))
        assert (orders.living(), orders.awaiting_echo, orders.to_ask()) == ([], {}, {})
        assert (orders.uncounted_lots(), orders.uncounted_since_ns()) == (0, None)
        await bench.worker.flush()
        assert bench.states() == [
            ("qpmm-1", "PENDING_NEW"),
            ("qpmm-1", "IN_DOUBT"),
            ("qpmm-2", "PENDING_NEW"),
            ("qpmm-2", "REJECTED + proof"),
            ("qpmm-1", "FILLED"),
        ]

    run_virtual(story)


def test_disk_that_is_full_for_a_while_gets_all_lines_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In their order; said once when it begins, once when it ends."""

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        working = asyncio.ensure_future(bench.worker.run())
        bench.disk.is_full = True
        bench.placed("qpmm-1")
        await asyncio.sleep(2)
        bench.placed("qpmm-2")
        await asyncio.sleep(2)
        bench.disk.is_full = False
        await asyncio.sleep(1)
        assert [name for name, _ in bench.states()] == ["qpmm-1", "qpmm-1", "qpmm-2", "qpmm-2"]
        assert bench.worker.lost == 0
        working.cancel()

    with caplog.at_level(logging.WARNING, "core.journal_worker"):
        run_virtual(story)
    assert [record.message for record in caplog.records] == [
        "the journal of orders is not being written: No space left on device; no orders until it is,"
        " cancels go on",
        "the journal of orders is being written again; 0 lines were lost",
    ]


def test_disk_that_stays_full_costs_the_oldest_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and the loss is counted."""
    monkeypatch.setattr(JournalWorker, "MAX_WAITING", 4)

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        bench.disk.is_full = True
        for number in range(3):
            bench.placed(f"qpmm-{number}")
            await bench.worker.flush()
        bench.disk.is_full = False
        await bench.worker.flush()
        assert [name for name, _ in bench.states()] == ["qpmm-1", "qpmm-1", "qpmm-2", "qpmm-2"]
        assert bench.worker.lost == 2

    run_virtual(story)


def test_many_lines_are_made_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else has to be done comes in between; and an end in between costs no line."""
    monkeypatch.setattr(JournalWorker, "AT_ONCE", 2)

    async def story(clock: VirtualClock) -> None:
        bench = Bench(clock, tmp_path)
        for number in range(3):
            bench.placed(f"qpmm-{number}")
        flushing = asyncio.ensure_future(bench.worker.flush())
        await asyncio.sleep(0)
        bench.placed("qpmm-3")
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        assert bench.disk.writes == 0
        await bench.worker.flush()
        assert bench.disk.writes == 1
        names = [f"qpmm-{number}" for number in range(4)]
        assert bench.states() == [(name, state) for name in names for state in ("PENDING_NEW", "ACTIVE")]

    run_virtual(story)
