"""The metrics worker: every second a row for each metric, and a disk that fails costs metrics and nothing else."""

import asyncio
import csv
import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from core.amend_queue import AmendQueue
from core.daily_loss import DayResult
from core.events import ConnectionEvent, ConnectionKind, EngineEvent, EngineKind, EventBus
from core.gateway import Gateway
from core.logger import LoggerWorker
from core.metrics import ACCOUNT_METRICS, SYMBOL_METRICS
from core.metrics_file import MetricsFile
from core.model import Position
from sim.virtual_time import VirtualClock, run_virtual
from utils.http import BinanceRest

from .examples import MARK, analysis_of_a_market, context
from .test_user_stream import NoNetwork


class Disk:
    """Runs what is to be written, in no other thread; or fails, as long as it is full."""

    def __init__(self) -> None:
        self.is_full = False
        self.writes = 0

    async def run(self, write: Callable[[], None]) -> None:
        """Write, or fail."""
        self.writes += 1
        if self.is_full:
            raise OSError(28, "No space left on device")
        write()


class Bench:
    """A metrics worker on a virtual clock."""

    def __init__(self, clock: VirtualClock, folder: Path, *, writes: bool = True) -> None:
        self.folder = folder
        self.bus, self.disk = EventBus(), Disk()
        self.symbol = context()
        self.symbol.state.analysis = analysis_of_a_market()
        flat = Position("BTCUSDT", Decimal(0), MARK, MARK, Decimal(0), 0)
        self.symbol.state.exchange_position = flat
        self.symbol.ledger.open(flat, 0)
        self.symbol.day = DayResult(*[Decimal(0)] * 4)
        gateway = Gateway(BinanceRest(NoNetwork(), clock), clock)
        self.worker = LoggerWorker(
            [self.symbol],
            gateway,
            self.bus,
            clock,
            MetricsFile(folder, "mm1", "paper") if writes else None,
            self.disk.run,
            amend_queue=AmendQueue(gateway.amend, clock),
            limit_quote=Decimal(2000),
            wallet_quote=Decimal(5000),
        )

    async def run(self, seconds: float) -> None:
        """Let it work for so long."""
        working = asyncio.ensure_future(self.worker.run())
        await asyncio.sleep(seconds)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    def rows(self) -> list[dict[str, str]]:
        """What the files hold."""
        found: list[dict[str, str]] = []
        for path in sorted(self.folder.glob("metrics-*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                found += csv.DictReader(file)
        return found


def bench(folder: Path, scene: Callable[[Bench], Awaitable[None]], *, writes: bool = True) -> Bench:
    """Play a scene on virtual time; return what is left of it."""

    async def main(clock: VirtualClock) -> Bench:
        made = Bench(clock, folder, writes=writes)
        await scene(made)
        return made

    return run_virtual(main)


def test_every_second_has_a_row_for_each_metric(tmp_path: Path) -> None:
    """Of the symbol and of the account, each once a second, with the time of that second."""
    played = bench(tmp_path, lambda made: made.run(3.5))
    names = [row["metric_name"] for row in played.rows()]
    assert {name: names.count(name) for name in names} == dict.fromkeys(
        [*SYMBOL_METRICS, *ACCOUNT_METRICS], 3
    )
    times = sorted({row["timestamp"] for row in played.rows()})
    assert len(times) == 3
    assert all(len(time) == len("2026-11-21T12:00:00.000+00:00") for time in times)
    assert {(row["instance_id"], row["env"]) for row in played.rows()} == {("mm1", "paper")}


def test_event_has_a_row_of_its_own(tmp_path: Path) -> None:
    """With the time at which it happened."""

    async def scene(made: Bench) -> None:
        made.bus.publish(EngineEvent(EngineKind.STARTED, "paper"))
        await made.run(1.5)

    (row,) = [row for row in bench(tmp_path, scene).rows() if row["metric_name"] == "engine_event"]
    assert (row["sub_type"], row["details"], row["symbol"]) == ("started", "paper", "-")


def test_equity_is_the_wallet_and_what_was_earned_since(tmp_path: Path) -> None:
    """5000 and 7 realised."""

    async def scene(made: Bench) -> None:
        made.symbol.ledger.realized_pnl_quote = Decimal(7)
        await made.run(1.5)

    values = {row["metric_name"]: row["value"] for row in bench(tmp_path, scene).rows()}
    assert Decimal(values["equity"]) == 5007
    assert values["uptime"] == "1.000"
    assert values["loop_lag"] == "0.000"


def test_connections_after_the_first_are_reconnects(tmp_path: Path) -> None:
    """Each stream's first does not count."""

    async def scene(made: Bench) -> None:
        for name in ("market", "account", "market", "market"):
            made.bus.publish(ConnectionEvent(name, ConnectionKind.UP))
        made.bus.publish(ConnectionEvent("market", ConnectionKind.DOWN))

    assert bench(tmp_path, scene).worker.counters.reconnects == 2


def test_rows_wait_for_a_full_disk_and_are_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """None is lost, and each of the two turns is said once."""

    async def scene(made: Bench) -> None:
        made.disk.is_full = True
        await made.run(3.5)
        assert made.rows() == []
        made.disk.is_full = False
        await made.run(1.5)

    with caplog.at_level(logging.WARNING):
        played = bench(tmp_path, scene)
    assert [row["metric_name"] for row in played.rows()].count("uptime") == 4
    assert played.worker.dropped == 0
    assert caplog.text.count("metrics are not being written: No space left on device") == 1
    assert caplog.text.count("metrics are being written again; 0 rows were lost") == 1


def test_rows_that_wait_too_long_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first: memory is bounded."""
    monkeypatch.setattr(LoggerWorker, "MAX_WAITING", 60)

    async def scene(made: Bench) -> None:
        made.disk.is_full = True
        await made.run(3.5)
        made.disk.is_full = False
        await made.worker.flush()

    played = bench(tmp_path, scene)
    kept = len(played.rows())
    assert kept == 60
    # the rows of three seconds, and the one that tells of the disk
    assert played.worker.dropped == 3 * len([*SYMBOL_METRICS, *ACCOUNT_METRICS]) + 1 - kept


def test_rows_that_come_while_the_disk_is_busy_are_kept_in_order(tmp_path: Path) -> None:
    """A batch that fails goes back before them."""

    async def scene(made: Bench) -> None:
        async def busy(write: Callable[[], None]) -> None:
            made.bus.publish(EngineEvent(EngineKind.STOPPING))
            raise OSError(5, "Input/output error")

        made.bus.publish(EngineEvent(EngineKind.STARTED))
        made.worker._run_blocking = busy
        await made.worker.flush()
        made.worker._run_blocking = made.disk.run
        await made.worker.flush()

    assert [row["sub_type"] for row in bench(tmp_path, scene).rows()] == [
        "started",
        "stopping",
        "disk_trouble",
    ]


def test_a_tick_waits_for_a_few_lines_and_not_for_those_of_a_second(tmp_path: Path) -> None:
    """A thousand events: other work has its turn between every 24 lines of them, and none is written twice."""
    turns = 0

    async def scene(made: Bench) -> None:
        nonlocal turns
        for _ in range(1000):
            made.bus.publish(EngineEvent(EngineKind.STARTED))
        writing = asyncio.ensure_future(made.worker.flush())
        while not writing.done():
            turns += 1
            await asyncio.sleep(0)

    played = bench(tmp_path, scene)
    assert turns >= 1000 / LoggerWorker.AT_ONCE
    assert len(played.rows()) == 1000
    assert played.disk.writes == 1


def test_lines_that_the_disk_did_not_take_are_not_made_again(tmp_path: Path) -> None:
    """A thousand rows wait for it: the next attempts make lines of what has come since, and write all in the end."""

    async def scene(made: Bench) -> None:
        file = made.worker._file
        assert file is not None
        make = file.lines
        file.lines = lambda batches: counted.append(len(batches)) or make(batches)  # type: ignore[method-assign, func-returns-value]
        made.disk.is_full = True
        for _ in range(1000):
            made.bus.publish(EngineEvent(EngineKind.STARTED))
        for _ in range(5):
            await made.worker.flush()
        made.disk.is_full = False
        await made.worker.flush()

    counted: list[int] = []
    played = bench(tmp_path, scene)
    assert sum(counted) == 1001  # with the one that tells of the disk
    assert len(played.rows()) == 1001


@pytest.mark.parametrize("turns", range(1, 5))
def test_rows_whose_lines_were_being_made_at_the_end_are_written_by_the_last_flush(
    tmp_path: Path, turns: int
) -> None:
    """The worker is cancelled in the middle: each row is there once, in order, with what came since."""

    async def scene(made: Bench) -> None:
        for number in range(100):
            made.bus.publish(EngineEvent(EngineKind.STARTED, str(number)))
        writing = asyncio.ensure_future(made.worker.flush())
        for _ in range(turns):
            await asyncio.sleep(0)
        made.bus.publish(EngineEvent(EngineKind.STARTED, "100"))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await made.worker.flush()

    assert [row["details"] for row in bench(tmp_path, scene).rows()] == [str(number) for number in range(101)]


def test_without_a_file_nothing_is_kept_or_written(tmp_path: Path) -> None:
    """log_to_csv: false still counts what the status lines need."""

    async def scene(made: Bench) -> None:
        made.bus.publish(EngineEvent(EngineKind.WORKER_RESTARTED))
        await made.run(2.5)

    played = bench(tmp_path, scene, writes=False)
    assert (played.disk.writes, played.worker.dropped, played.worker.counters.restarts) == (0, 0, 1)
    assert list(tmp_path.iterdir()) == []
