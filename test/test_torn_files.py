"""Every file that outlives a run, cut off or damaged at every byte: what a crash of the machine may leave of it."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from core.boot_number import earlier_boots, next_boot
from core.crash_count import CrashCount, Ends
from core.day_file import DamagedDay, DayFile, DayRecord
from core.halt import HaltLatch
from core.instance_lock import InstanceLock
from core.journal import JournalFile, JournalLine, journal_paths, read_journal
from core.metrics import Row
from core.metrics_file import Batch, MetricsFile

from .process import read_metrics

NOW_MS = 1_790_000_000_000
DAY = NOW_MS // 86_400_000
ACCOUNT, SYMBOL = "paper-x", "BTCUSDT"


def at_every_byte(path: Path, look: Callable[[bool], None]) -> None:
    """Have ``look`` called for each length of the file, told whether it is whole."""
    whole = path.read_bytes()
    assert whole
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        look(length == len(whole))


def damaged_at_every_byte(path: Path) -> Iterator[int]:
    """Have each byte of the file replaced in turn by one that no text has; yield where."""
    whole = path.read_bytes()
    assert whole
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        yield at


def _record() -> DayRecord:
    return DayRecord(
        account=ACCOUNT,
        symbol=SYMBOL,
        day=DAY,
        date="2026-09-21",
        unrealized_at_start_quote=Decimal("-1.5"),
        result_quote=Decimal("-104.5"),
        whole_quote=Decimal("-104.5"),
        limit_quote=Decimal(100),
        text="realised -103, unrealised -1.5",
        accepted_quote=Decimal(0),
        accepted_ms=0,
        saved_ms=NOW_MS,
    )


def test_torn_halt_is_a_halt(tmp_path: Path) -> None:
    """Whatever is left of it."""
    latch = HaltLatch(tmp_path, ACCOUNT, SYMBOL)
    latch.engage("the position was over its limit", NOW_MS)

    def look(_is_whole: bool) -> None:
        assert latch.read() is not None

    at_every_byte(latch.path, look)


def test_damaged_halt_is_one_whose_close_is_not_finished(tmp_path: Path) -> None:
    """Whichever byte of it is damaged, also one of a key."""
    latch = HaltLatch(tmp_path, ACCOUNT, SYMBOL)
    latch.engage("the position was over its limit", NOW_MS, is_closing=True)
    for _at in damaged_at_every_byte(latch.path):
        halt = latch.read()
        assert halt is not None
        assert halt.is_closing


def test_torn_record_of_a_day_is_known_for_one(tmp_path: Path) -> None:
    """It is never taken for a smaller loss; what an operator accepted, only if it is whole."""
    file = DayFile(tmp_path, ACCOUNT, SYMBOL)
    file.write(_record())
    file.accept(DAY, Decimal("-104.5"), NOW_MS)

    def look(is_whole: bool) -> None:
        if is_whole:
            assert file.read(DAY) == _record()
        else:
            with pytest.raises(DamagedDay):
                file.read(DAY)

    def look_at_acceptance(is_whole: bool) -> None:
        found = file.acceptance(DAY)
        assert (found.accepted_quote if found else None) == (Decimal("-104.5") if is_whole else None)

    _without_end_of_line(file.path)
    _without_end_of_line(file.accepted_path)
    at_every_byte(file.path, look)
    at_every_byte(file.accepted_path, look_at_acceptance)


def test_damaged_record_of_a_day_is_known_for_one(tmp_path: Path) -> None:
    """Whichever byte of it is damaged; a damaged acceptance accepts nothing."""
    file = DayFile(tmp_path, ACCOUNT, SYMBOL)
    file.write(_record())
    file.accept(DAY, Decimal("-104.5"), NOW_MS)
    for _at in damaged_at_every_byte(file.path):
        with pytest.raises(DamagedDay):
            file.read(DAY)
    for _at in damaged_at_every_byte(file.accepted_path):
        assert file.acceptance(DAY) is None


def _without_end_of_line(path: Path) -> None:
    """Leave out the last byte, without which the record is whole all the same."""
    path.write_bytes(path.read_bytes().rstrip(b"\n"))


def test_torn_number_of_the_start_makes_no_id_come_again(tmp_path: Path) -> None:
    """The clock does instead, and the file is whole again afterwards."""
    last = next_boot(tmp_path, ACCOUNT, [SYMBOL], NOW_MS)
    path = tmp_path / f"boot-{ACCOUNT}-{SYMBOL}.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        number = next_boot(tmp_path, ACCOUNT, [SYMBOL], NOW_MS + 1)
        assert number > last
        assert number in earlier_boots(tmp_path, ACCOUNT, [SYMBOL])


def test_damaged_number_of_the_start_makes_no_id_come_again(tmp_path: Path) -> None:
    """Whichever byte of it is damaged."""
    last = next_boot(tmp_path, ACCOUNT, [SYMBOL], NOW_MS)
    for _at in damaged_at_every_byte(tmp_path / f"boot-{ACCOUNT}-{SYMBOL}.json"):
        number = next_boot(tmp_path, ACCOUNT, [SYMBOL], NOW_MS + 1)
        assert number > last
        assert number in earlier_boots(tmp_path, ACCOUNT, [SYMBOL])


def test_torn_count_of_bad_ends_holds_nobody_up(tmp_path: Path) -> None:
    """It counts as none."""
    count = CrashCount(tmp_path, ACCOUNT, [SYMBOL])
    count.end_badly(NOW_MS)

    def look(is_whole: bool) -> None:
        assert count.read() == (Ends([NOW_MS]) if is_whole else Ends())

    at_every_byte(count.path, look)


def test_damaged_count_of_bad_ends_holds_nobody_up(tmp_path: Path) -> None:
    """Whichever byte of it is damaged, no end is counted that was not."""
    count = CrashCount(tmp_path, ACCOUNT, [SYMBOL])
    count.end_badly(NOW_MS)
    for _at in damaged_at_every_byte(count.path):
        assert count.read() in (Ends(), Ends([NOW_MS]))


def test_torn_lock_says_that_the_last_run_did_not_end_well(tmp_path: Path) -> None:
    """As long as there is a byte of it."""
    with InstanceLock(tmp_path, ACCOUNT, SYMBOL) as lock:
        lock.mark_running()
    path = tmp_path / f"lock-{ACCOUNT}-{SYMBOL}"

    def look(_is_whole: bool) -> None:
        with InstanceLock(tmp_path, ACCOUNT, SYMBOL) as lock:
            assert lock.was_left_running is (path.stat().st_size > 0)

    at_every_byte(path, look)


def test_torn_journal_keeps_every_whole_line_and_goes_on(tmp_path: Path) -> None:
    """A later line never joins a torn one."""
    lines = [JournalLine(NOW_MS + number, "ACTIVE", f"qpmm-mm1-1-{number}", SYMBOL) for number in range(3)]
    _written(tmp_path, lines[:2])
    [path] = journal_paths(tmp_path, ACCOUNT)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        _written(tmp_path, lines[2:])
        assert list(read_journal([path])) == lines[: whole[:length].count(b"\n")] + lines[2:]


def test_damaged_line_of_the_journal_is_left_out_and_counted(tmp_path: Path) -> None:
    """Whichever byte of it is damaged, also one of a key; only the end of the line takes the next one along."""
    lines = [JournalLine(NOW_MS + number, "ACTIVE", f"qpmm-mm1-1-{number}", SYMBOL) for number in range(3)]
    _written(tmp_path, lines)
    [path] = journal_paths(tmp_path, ACCOUNT)
    first = path.read_bytes().index(b"\n")
    for at in damaged_at_every_byte(path):
        if at <= first:
            assert list(read_journal([path])) == [None, *(lines[2:] if at == first else lines[1:])]


def _written(folder: Path, lines: list[JournalLine]) -> None:
    file = JournalFile(folder, ACCOUNT, 14)
    file.append(lines)
    file.close()


def test_torn_metrics_keep_every_whole_row_and_one_header(tmp_path: Path) -> None:
    """Also where the header itself was cut."""
    row = ("2026-09-21T12:00:00.000+00:00", [Row("uptime", "1.000", "s", details='a "b", c')])
    _appended(tmp_path, [row, row])
    path = tmp_path / "metrics-20260921.csv"
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        _appended(tmp_path, [row])
        kept = max(whole[:length].count(b"\n") - 1, 0)
        assert len(read_metrics(path)) == kept + 1


def _appended(folder: Path, batches: list[Batch]) -> None:
    file = MetricsFile(folder, "mm1", "paper")
    file.append(file.lines(batches))
    file.close()
