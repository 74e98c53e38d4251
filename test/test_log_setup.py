"""Logs: readable, on a terminal and in a file, and never with a secret in them, whoever wrote the line."""

import asyncio
import io
import logging
import os
import select
import sys
import threading
import tty
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from core import log_setup
from core.log_setup import Logs, guard_last_words
from core.status import STATUS_LOG
from utils.redaction import redactor

from .process import eventually

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
SIGNATURE = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"

log = logging.getLogger("test.log_setup")


class Stderr:
    """What a person sees who redirects the output into a file."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._seen = ""

    def getvalue(self) -> str:
        """Everything so far."""
        self._seen += self._capsys.readouterr().err
        return self._seen


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    """The standard error of a test."""
    return Stderr(capsys)


@pytest.fixture(autouse=True)
def _known_secrets() -> Iterator[None]:
    """The key and the secret are known, and known no more afterwards."""
    for secret in (KEY, SECRET):
        redactor.learn(secret)
    yield
    redactor.forget()


@pytest.fixture(autouse=True)
def _level_of_the_root() -> Iterator[None]:
    """The root logger is as before, for the other tests."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    assert root.handlers == handlers


def logs(directory: Path, level: str = "INFO") -> Logs:
    """Logging as the daemon sets it up."""
    return Logs(level, directory)


def written(directory: Path) -> str:
    """What the log file holds."""
    return (directory / "quant_pmm.log").read_text("utf-8")


def test_record_goes_to_the_person_and_to_the_file_as_plain_text(tmp_path: Path, stderr: Stderr) -> None:
    """Time, level and message; the folder is made; no escape codes."""
    with logs(tmp_path / "new" / "logs"):
        log.info("quoting %s", "BTCUSDT")
    assert stderr.getvalue() == written(tmp_path / "new" / "logs")
    assert stderr.getvalue().endswith(" INFO    quoting BTCUSDT\n")
    assert "\x1b" not in stderr.getvalue()


def test_records_below_the_level_are_not_written(tmp_path: Path, stderr: Stderr) -> None:
    """The level of the configuration holds for the whole program."""
    with logs(tmp_path, "WARNING"):
        log.info("fine")
        log.warning("not fine")
    assert "not fine" in stderr.getvalue()
    assert " fine" not in stderr.getvalue().replace("not fine", "")


@pytest.mark.parametrize("library", ["aiohttp", "aiofastnet", "picows", "websockets", "asyncio"])
def test_libraries_only_speak_of_trouble(tmp_path: Path, stderr: Stderr, library: str) -> None:
    """Also when we debug: their lines would drown ours."""
    with logs(tmp_path, "DEBUG"):
        logging.getLogger(library).debug("GET / HTTP/1.1")
        logging.getLogger(library).warning("trouble")
    assert stderr.getvalue().count("\n") == 1


def test_secret_in_a_message_is_masked_in_both_places(tmp_path: Path, stderr: Stderr) -> None:
    """In the text, in its arguments, and inside of other text."""
    with logs(tmp_path):
        log.info("key %s", KEY)
        log.info(f"secret={SECRET}&x=1")
        log.info("%r", {"X-MBX-APIKEY": KEY})
    for text in (stderr.getvalue(), written(tmp_path)):
        assert KEY not in text
        assert SECRET not in text
        assert text.count("***") == 3


def test_secret_in_a_traceback_is_masked(tmp_path: Path, stderr: Stderr) -> None:
    """In the message of an exception, in its cause, and in a chained one."""
    with logs(tmp_path):
        try:
            try:
                raise ValueError(f"bad key {KEY}")
            except ValueError as error:
                raise RuntimeError(f"GET /fapi/v3/balance?signature={SIGNATURE} with {SECRET}") from error
        except RuntimeError:
            log.exception("a request failed")
    for text in (stderr.getvalue(), written(tmp_path)):
        assert "Traceback" in text
        assert "bad key ***" in text
        assert not any(canary in text for canary in (KEY, SECRET, SIGNATURE))


@pytest.mark.parametrize(
    "hostile",
    [
        "a\r\n2026-01-01 00:00:00.000 INFO    no order rests",
        "\x1b[2J\x1b]0;owned\x07",
        "\u202egnikat",
        "a\x00b",
    ],
)
def test_message_of_a_stranger_is_one_line_without_orders_to_the_terminal(
    tmp_path: Path, stderr: Stderr, hostile: str
) -> None:
    """Whatever a name or an error text holds, it forges no line and moves no cursor."""
    with logs(tmp_path):
        log.warning("refused: %s", hostile)
    for text in (stderr.getvalue(), written(tmp_path)):
        assert text.count("\n") == 1
        assert text.rstrip("\n").isprintable()


def test_line_that_cannot_be_written_is_told_once_without_what_it_held(
    tmp_path: Path, stderr: Stderr
) -> None:
    """Python's own way would print the arguments as they are."""
    with logs(tmp_path):
        ours = logging.getLogger().handlers[-1]
        for _ in range(3):
            ours.handle(logging.makeLogRecord({"msg": "%d", "args": (KEY,)}))
    assert stderr.getvalue().count("a line of the log could not be written (TypeError") == 1
    assert KEY not in stderr.getvalue()


def _fault(secret: str) -> None:
    raise RuntimeError(f"GET /fapi/v1/order?signature={SIGNATURE} with {secret}")


@pytest.mark.parametrize("escapes", ["main", "thread", "unraisable", "no handler", "task"])
def test_last_words_hold_no_secret(
    escapes: str, stderr: Stderr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the program, of a thread, of a finaliser, of a line that nobody handles, of a task that nobody awaits."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    assert logging.lastResort is not None
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    guard_last_words()
    if escapes == "thread":
        thread = threading.Thread(target=_fault, args=(KEY,))
        thread.start()
        thread.join()
    elif escapes == "no handler":
        logging.lastResort.handle(logging.makeLogRecord({"msg": f"signature={SIGNATURE} of {KEY}"}))
    elif escapes == "task":
        with logs(tmp_path):
            loop = asyncio.new_event_loop()
            loop.call_exception_handler({"message": f"lost {KEY}", "exception": RuntimeError(SIGNATURE)})
            loop.close()
    else:
        try:
            _fault(KEY)
        except RuntimeError as error:
            if escapes == "main":
                sys.excepthook(RuntimeError, error, error.__traceback__)
            else:
                raised = SimpleNamespace(
                    exc_type=RuntimeError, exc_value=error, exc_traceback=error.__traceback__
                )
                sys.unraisablehook(raised)  # type: ignore[arg-type]
    text = stderr.getvalue()
    assert "***" in text
    assert not any(canary in text for canary in (KEY, SIGNATURE))


def test_folder_that_cannot_be_written_to_costs_the_file_and_not_the_run(
    tmp_path: Path, stderr: Stderr
) -> None:
    """One line says so, and the person still reads the rest."""
    (tmp_path / "logs").write_text("not a folder")
    with logs(tmp_path / "logs"):
        log.info("quoting")
    first, second = stderr.getvalue().splitlines()
    assert f"WARNING no log file: {tmp_path / 'logs'} cannot be written to (" in first
    assert second.endswith("quoting")


def test_full_disk_costs_the_file_and_not_the_end(tmp_path: Path, stderr: Stderr) -> None:
    """The last lines find no space when the file is closed; the run ends as if they had."""
    (tmp_path / "quant_pmm.log").symlink_to("/dev/full")
    with logs(tmp_path):
        log.info("quoting")
    assert stderr.getvalue().splitlines()[0].endswith("quoting")


def test_warnings_of_the_program_are_logged(tmp_path: Path, stderr: Stderr) -> None:
    """And only while the context lasts."""
    with logs(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("this will go away", DeprecationWarning, stacklevel=1)
    assert "this will go away" in written(tmp_path)


def test_full_log_file_is_rotated(tmp_path: Path, stderr: Stderr, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are kept and no more."""
    monkeypatch.setattr(log_setup, "MAX_LOG_BYTES", 200)
    monkeypatch.setattr(log_setup, "KEPT_LOGS", 2)
    with logs(tmp_path):
        for number in range(20):
            log.info("line %d of a long run", number)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "quant_pmm.log",
        "quant_pmm.log.1",
        "quant_pmm.log.2",
    ]
    assert "line 19" in written(tmp_path)


def test_everything_logged_before_the_end_is_written(tmp_path: Path, stderr: Stderr) -> None:
    """Leaving the context waits for the writing thread."""
    with logs(tmp_path):
        for number in range(1000):
            log.info("line %d", number)
    assert written(tmp_path).count("\n") == 1000


def test_nothing_is_written_after_the_end(tmp_path: Path, stderr: Stderr) -> None:
    """The handlers are gone."""
    with logs(tmp_path):
        log.info("inside")
    log.info("outside")
    assert "outside" not in stderr.getvalue() + written(tmp_path)


def test_leaving_what_was_never_entered_is_no_fault(tmp_path: Path) -> None:
    """There is nothing to take down."""
    logs(tmp_path).__exit__(None, None, None)


def _shown(screen: io.FileIO) -> str:
    """Return what a terminal shows, once nothing more comes: the kernel hands it over in pieces."""
    seen, waiting = b"", select.poll()
    waiting.register(screen, select.POLLIN)
    while waiting.poll(1000):
        seen += screen.read(100_000) or b""
    return seen.decode()


def test_terminal_shows_colours_without_secrets_and_the_file_stays_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status lines stand out, errors are red, tracebacks are masked here too."""
    master, slave = os.openpty()
    tty.setraw(slave)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stderr", terminal)
        with logs(tmp_path):
            logging.getLogger(STATUS_LOG).info("BTCUSDT mid 80000")
            try:
                raise ValueError(f"bad key {KEY}")
            except ValueError:
                log.exception("a request failed")
        seen = _shown(screen)
    assert "BTCUSDT mid 80000" in seen
    assert "\x1b[1;36m" in seen
    assert "\x1b[1;31m" in seen
    assert "bad key" in seen.replace("\n", "")
    assert KEY[:30] not in seen
    assert "\x1b" not in written(tmp_path)
    assert "bad key ***" in written(tmp_path)


class Terminal(io.StringIO):
    """One that takes nothing while it is gone."""

    is_gone = True

    def isatty(self) -> bool:
        """Tell that it is one."""
        return True

    def write(self, text: str) -> int:
        """Take the text."""
        if self.is_gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_lines_that_a_terminal_did_not_take_are_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They neither pile up nor are made again for each further line; the file has them all."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with logs(tmp_path):
        for number in range(3):
            log.warning("missed %d", number)
        eventually(lambda: "missed 2" in written(tmp_path), 5)
        terminal.is_gone = False
        log.warning("back again")
    assert "back again" in terminal.getvalue()
    assert "missed" not in terminal.getvalue()
    assert written(tmp_path).count("missed") == 3
