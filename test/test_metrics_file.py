"""The metrics file: one a day, one header, whole lines only, whatever the disk, the clock or a kill does."""

import csv
import io
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import metrics_store
from core.append_file import AppendFile, is_being_written
from core.metrics import COLUMNS, Row
from core.metrics_file import HEADER, Batch, Lines, MetricsFile, csv_line
from utils.redaction import Redactor

ROOT = Path(__file__).resolve().parents[1]
NOON = "2026-11-21T12:00:00.000+00:00"
DAY = "2026-11-21"
NEXT_DAY = "2026-11-22T00:00:00.000+00:00"
LINE = f"{NOON},mm1,paper,uptime,1,s,-,-,-,-,\n"


def row(value: str = "1", details: str = "") -> Row:
    """A row of the process."""
    return Row("uptime", value, "s", details=details)


def metrics_file(directory: Path) -> MetricsFile:
    """The file as every run makes it."""
    return MetricsFile(directory, "mm1", "paper")


def append(file: MetricsFile, batches: Sequence[Batch]) -> None:
    """Write rows as the worker does."""
    file.append(file.lines(batches))


def text_of(directory: Path, day: str = "20261121") -> str:
    """What is on the disk."""
    return (directory / f"metrics-{day}.csv").read_text("utf-8")


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes; a write that would, ends in part or not at all."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- cells --------------------------------------------------------------------------------------------------

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(list("\n\r\t\0,\"'=+-@ \x1b\x85\u2028\u2029\ufeff\ud800")),
    ),
    max_size=30,
)


@given(st.lists(HOSTILE, min_size=1, max_size=11))
def test_any_cells_are_one_line_that_a_reader_takes_apart_again(cells: list[str]) -> None:
    """No cell breaks the line, by any reader's idea of a line, and the line can be encoded."""
    line = csv_line(cells)
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    line.encode("utf-8")
    assert [len(found) for found in csv.reader(io.StringIO(line))] == [len(cells)]


@given(
    st.lists(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20), min_size=2, max_size=11)
)
def test_harmless_cells_come_back_as_they_went(cells: list[str]) -> None:
    """Except that a text which a spreadsheet would run has a quote before it."""
    (found,) = csv.reader(io.StringIO(csv_line(cells)))
    assert [cell.removeprefix("'") for cell in found] == [cell.removeprefix("'") for cell in cells]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-cmd", "'-cmd"),
        ("-1.50", "-1.50"),
        ("+3", "+3"),
        ("-", "-"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_text_that_a_spreadsheet_would_run_is_made_harmless(cell: str, written: str) -> None:
    """Numbers and the dash stay as they are."""
    (found,) = csv.reader(io.StringIO(csv_line([cell, "x"])))
    assert found == [written, "x"]


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\0", "\u2028", "\x85", "\x1b"])
def test_control_characters_become_blanks(break_: str) -> None:
    """One blank for each, so that the length says what was there."""
    assert csv_line([f"a{break_}b", "c"]) == f"a{' ' * len(break_)}b,c\n"


@given(
    st.lists(st.one_of(HOSTILE, st.sampled_from(["-", "-1.50", "1", "0.0", "usdt"])), min_size=8, max_size=8)
)
def test_a_line_of_the_file_is_what_its_cells_alone_would_be(texts: list[str]) -> None:
    """However its parts are kept ready, and the second time as well."""
    file, written = MetricsFile(Path("logs"), "=mm,1", "paper"), Row(*texts)
    name, *others = texts
    line = csv_line([NOON, "=mm,1", "paper", name, *others])
    assert file.lines([(NOON, [written, written]), (NOON, [written])]) == [Lines(DAY, 3 * line, 3)]


@given(st.lists(st.tuples(st.sampled_from([NOON, NEXT_DAY]), st.integers(0, 5))))
def test_lines_are_of_one_day_each_and_know_their_number(moments: list[tuple[str, int]]) -> None:
    """In their order; and the first can be left out."""
    file = MetricsFile(Path("logs"), "mm1", "paper")
    made = file.lines([(timestamp, [row(str(number))] * number) for timestamp, number in moments])
    assert "".join(lines.text for lines in made) == "".join(
        csv_line([timestamp, "mm1", "paper", "uptime", str(number), "s", "-", "-", "-", "-", ""]) * number
        for timestamp, number in moments
    )
    for lines in made:
        split = lines.text.splitlines(keepends=True)
        assert all(line.startswith(lines.day) for line in split)
        assert lines.count == len(split)
        for left_out in range(lines.count + 1):
            assert lines.without_first(left_out) == Lines(
                lines.day, "".join(split[left_out:]), len(split) - left_out
            )


def test_text_of_rows_that_is_kept_has_a_bound() -> None:
    """However many rows a disk that takes none has left to be written at once."""
    file = MetricsFile(Path("logs"), "mm1", "paper")
    for details in ("", "longer than six"):
        file.lines([(NOON, [row(str(number), details) for number in range(15_000)])])
        file.forget(15_000)
        assert len(file._tails) + len(file._masked) <= 20_000


# --- header, days, torn lines -------------------------------------------------------------------------------


def test_first_rows_come_after_the_header(tmp_path: Path) -> None:
    """The columns of the contract, then the row; the folder is made."""
    file = metrics_file(tmp_path / "new" / "logs")
    append(file, [(NOON, [row()])])
    file.close()
    assert csv_line(COLUMNS) == HEADER
    assert HEADER.rstrip("\n").split(",") == list(COLUMNS)
    assert text_of(tmp_path / "new" / "logs") == HEADER + LINE


def test_header_is_written_once_over_many_batches_and_restarts(tmp_path: Path) -> None:
    """A second run of the day goes on below the first."""
    for _ in range(2):
        file = metrics_file(tmp_path)
        append(file, [(NOON, [row()])])
        append(file, [(NOON, [row()])])
        file.close()
    assert text_of(tmp_path) == HEADER + 4 * LINE


def test_rows_go_to_the_file_of_their_own_day(tmp_path: Path) -> None:
    """A batch over midnight is parted, each file with its header."""
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row("1")]), (NOON, [row("2")]), (NEXT_DAY, [row("3")])])
    append(file, [(NEXT_DAY, [row("4")])])
    file.close()
    assert [line.split(",")[4] for line in text_of(tmp_path).splitlines()] == ["value", "1", "2"]
    assert [line.split(",")[4] for line in text_of(tmp_path, "20261122").splitlines()] == ["value", "3", "4"]


def test_clock_set_back_over_midnight_goes_on_in_the_old_file(tmp_path: Path) -> None:
    """Without a second header."""
    file = metrics_file(tmp_path)
    for timestamp in (NOON, NEXT_DAY, NOON):
        append(file, [(timestamp, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + 2 * LINE


@pytest.mark.parametrize("torn", ["2026-11-21T", "x" * 5000, "x" * 4096, "\ufffd" * 3000])
def test_torn_last_line_of_a_crash_is_cut_off(tmp_path: Path, torn: str) -> None:
    """However long it is, what was whole stays."""
    (tmp_path / "metrics-20261121.csv").write_text(HEADER + LINE + torn, "utf-8")
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + 2 * LINE


@pytest.mark.parametrize("torn", [HEADER[:10], HEADER[:-1], "x" * 9000])
def test_torn_header_is_written_anew(tmp_path: Path, torn: str) -> None:
    """A file without one whole line is as good as none."""
    (tmp_path / "metrics-20261121.csv").write_text(torn, "utf-8")
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + LINE


def test_nothing_to_write_makes_no_file(tmp_path: Path) -> None:
    """And closing what was never opened is no fault."""
    file = metrics_file(tmp_path)
    append(file, [])
    file.close()
    file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("aside", ["", "metrics-20261121.csv.old"])
def test_file_that_somebody_removes_or_renames_is_begun_anew(
    tmp_path: Path, aside: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a header; no row goes to a file that nobody can find, and none of its space is held."""
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    path = tmp_path / "metrics-20261121.csv"
    if aside:
        path.rename(tmp_path / aside)
    else:
        path.unlink()
    append(file, [(NOON, [row()])])
    append(file, [(NOON, [row()])])
    assert text_of(tmp_path) == HEADER + 2 * LINE
    assert not aside or (tmp_path / aside).read_text("utf-8") == HEADER + LINE
    assert caplog.text.count("metrics-20261121.csv was removed or renamed; a new one is begun") == 1
    assert is_being_written(path)
    held = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert [name for name in held if name.startswith(str(tmp_path))] == [str(path)]
    file.close()


# --- full disk ----------------------------------------------------------------------------------------------


def test_batch_that_fits_in_part_is_taken_back_whole(tmp_path: Path) -> None:
    """The caller learns of it, the file holds whole lines, and goes on when there is room again."""
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    room = len(HEADER) + 3 * len(LINE) + 7
    with full_disk(room), pytest.raises(OSError, match=r"no space left|File too large"):
        append(file, [(NOON, [row()])] * 10)
    assert text_of(tmp_path) == HEADER + LINE
    append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + 2 * LINE


def test_disk_that_takes_nothing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Not one byte more."""
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    with full_disk(len(HEADER) + len(LINE)), pytest.raises(OSError, match="File too large"):
        append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + LINE


def test_header_that_does_not_fit_is_tried_again(tmp_path: Path) -> None:
    """The first batch of a day on a full disk leaves an empty file, not half a header."""
    file = metrics_file(tmp_path)
    with full_disk(20), pytest.raises(OSError, match=r"no space left|File too large"):
        append(file, [(NOON, [row()])])
    assert text_of(tmp_path) == ""
    append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path) == HEADER + LINE


def test_device_without_room_is_an_error(tmp_path: Path) -> None:
    """What the system says of a full device reaches the caller as OSError."""
    (tmp_path / "metrics-20261121.csv").symlink_to("/dev/full")
    file = metrics_file(tmp_path)
    with pytest.raises(OSError, match=r"No space left|Invalid argument"):
        append(file, [(NOON, [row()])])
    file.close()


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in its place, for example."""
    (tmp_path / "logs").write_text("not a folder")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        append(metrics_file(tmp_path / "logs"), [(NOON, [row()])])


def test_file_whose_torn_line_cannot_be_cut_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its descriptor is given back."""
    (tmp_path / "metrics-20261121.csv").write_text(HEADER + "torn", "utf-8")

    def refuse(descriptor: int, length: int) -> None:
        raise OSError(5, "Input/output error")

    open_before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            append(metrics_file(tmp_path), [(NOON, [row()])])
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert text_of(tmp_path) == HEADER + "torn"


# --- how much is kept ---------------------------------------------------------------------------------------


def stored(folder: Path, day: str, size: int) -> Path:
    """Return the metrics file of a day, of this size."""
    path = folder / f"metrics-{day}.csv"
    path.write_bytes(b"x" * (size - 1) + b"\n")
    return path


def test_oldest_days_go_when_all_outgrow_the_bound_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not today's, not one that another daemon has open, no link, and no file of any other name."""
    days = [stored(tmp_path, f"202611{day}", 400_000) for day in (16, 17, 18, 19)]
    others = [
        tmp_path / name
        for name in (
            "metrics-2026.csv",
            "metrics-20261101.csv.gz",
            "my-metrics-20261101.csv",
            "quant_pmm.log",
        )
    ]
    for path in others:
        path.write_bytes(b"x" * 2_000_000)
    link = tmp_path / "metrics-20261101.csv"
    link.symlink_to(others[0])
    held = AppendFile()
    held.open(days[1])
    file = MetricsFile(tmp_path, "mm1", "paper", 1)
    append(file, [(NOON, [row()])])
    assert [path.exists() for path in days] == [False, True, False, True]
    assert all(path.exists() for path in (*others, link))
    assert "metrics-20261116.csv (0 MB) was removed: the metrics may hold 1 MB" in caplog.text
    held.close()
    monkeypatch.setattr(MetricsFile, "LOOK_EVERY_BYTES", 300_000)
    append(file, [(NOON, [row()])] * (250_000 // len(LINE)))  # not yet
    assert days[1].exists()
    append(file, [(NOON, [row()])] * 1500)
    assert [path.exists() for path in days] == [False, False, False, True]
    assert text_of(tmp_path).startswith(HEADER)
    file.close()


def test_days_that_cannot_be_removed_cost_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was written is written: an error here would have it written twice."""
    old = stored(tmp_path, "20200101", 3_000_000)

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    file = MetricsFile(tmp_path, "mm1", "paper", 1)
    append(file, [(NOON, [row()])])
    file.close()
    assert text_of(tmp_path).count("\n") == 2
    assert old.exists()
    assert "old metrics could not be removed: Operation not permitted" in caplog.text


def test_nothing_is_removed_without_a_bound(tmp_path: Path) -> None:
    """0 keeps all days."""
    old = stored(tmp_path, "20200101", 3_000_000)
    append(MetricsFile(tmp_path, "mm1", "paper", 0), [(NOON, [row()])])
    assert old.exists()


def test_finished_days_go_while_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest first, and no more than is missing; though all together are within their bound."""
    monkeypatch.setattr(metrics_store, "LOW_FREE_MB", 2)
    days = [stored(tmp_path, f"202611{day}", 400_000) for day in (16, 17, 18, 19)]
    file = MetricsFile(tmp_path, "mm1", "paper", 5000, lambda _: 1.3)
    monkeypatch.setattr(file, "LEFT_MB", 1)
    append(file, [(NOON, [row()])])
    assert [path.exists() for path in days] == [False, False, True, True]
    assert "metrics-20261117.csv (0 MB) was removed: less than 2 MB were free on its disk" in caplog.text
    file.close()


@pytest.mark.parametrize("is_one_old", [True, False])
def test_last_of_the_disk_is_left_to_the_journal(tmp_path: Path, *, is_one_old: bool) -> None:
    """Rows are refused like by a full disk, unless a finished day can be removed; they come when there is room."""
    free_mb, old = 49.0, tmp_path / "metrics-20261101.csv"
    if is_one_old:
        stored(tmp_path, "20261101", 3_000_000)

    def left_mb(_: Path) -> float:
        return free_mb + 3 * (is_one_old and not old.exists())

    file = MetricsFile(tmp_path, "mm1", "paper", 5000, left_mb)
    if is_one_old:
        append(file, [(NOON, [row()])])
    else:
        for _ in range(2):
            with pytest.raises(OSError, match="last of the disk is left"):
                append(file, [(NOON, [row()])])
        assert list(tmp_path.iterdir()) == []
        free_mb = 50.0
        append(file, [(NOON, [row()])])
    assert text_of(tmp_path) == HEADER + LINE
    file.close()


def test_small_disk_takes_rows_up_to_its_last_twentieth(tmp_path: Path) -> None:
    """On one of eight megabytes there never were 50 to leave, and no row would ever have been written."""
    free_mb = 0.4
    file = MetricsFile(tmp_path, "mm1", "paper", 5000, lambda _: free_mb, lambda _: 8.0)
    append(file, [(NOON, [row()])])
    free_mb = 0.39
    with pytest.raises(OSError, match="last of the disk is left"):
        append(file, [(NOON, [row()])])
    file.close()


def test_day_that_has_ended_makes_room_although_this_process_has_written_it(tmp_path: Path) -> None:
    """The disk was full when it ended: nobody had let go of it, and it would have stayed, and no other begun."""
    free_mb = 100.0
    file = MetricsFile(tmp_path, "mm1", "paper", 5000, lambda _: free_mb)
    append(file, [(NOON, [row()])])
    [ended] = tmp_path.iterdir()
    free_mb = 49.0
    with pytest.raises(OSError, match="last of the disk is left"):
        append(file, [(NOON, [row()])])
    assert ended.exists()
    with pytest.raises(OSError, match="last of the disk is left"):
        append(file, [(NOON.replace("-21T", "-22T"), [row()])])
    assert not ended.exists()
    file.close()


# --- kill ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from core.metrics import Row
from core.metrics_file import MetricsFile
file = MetricsFile(Path(sys.argv[1]), "mm1", "paper")
rows = [Row("uptime", str(n), "s", details="x" * 20) for n in range(40)]
while True:
    file.append(file.lines([("2026-11-21T12:00:00.000+00:00", rows)]))
    print("batch", flush=True)
"""


@pytest.mark.parametrize("batches", [1, 20, 60])
def test_killed_process_leaves_whole_lines(tmp_path: Path, batches: int) -> None:
    """kill -9 in the middle of writing, even within a write: the next run goes on below whole rows of eleven cells."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(batches):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=10)
    file = metrics_file(tmp_path)
    append(file, [(NOON, [row()])])
    file.close()
    text = text_of(tmp_path)
    assert text.endswith(f"\n{LINE}")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == list(COLUMNS)
    assert {len(found) for found in rows} == {11}
    assert len(rows) > 40 * batches


def test_row_that_comes_again_is_masked_once_its_secret_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of rows is kept, but of none whose details may hold a secret that is learned later."""
    redactor = Redactor()
    monkeypatch.setattr("core.metrics_file.redact", redactor.redact)
    file, again = metrics_file(tmp_path), row(details="for mallory.42")
    append(file, [(NOON, [again, again])])
    redactor.learn("mallory.42")
    append(file, [(NOON, [again])])
    assert [line.rpartition(",")[2] for line in text_of(tmp_path).splitlines()[1:]] == [
        "for mallory.42",
        "for mallory.42",
        "for ***",
    ]
