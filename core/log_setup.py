"""Logs for a person and for a file; secrets are taken out at the handlers, whoever wrote them, and of last words."""

import logging
import logging.handlers
import queue
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from core.status import STATUS_LOG
from utils.redaction import redact

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
MAX_LOG_BYTES = 10 * 2**20
KEPT_LOGS = 5
_LIBRARIES = ("aiohttp", "aiofastnet", "picows", "websockets", "asyncio")


class RedactingFormatter(logging.Formatter):
    """Formats a record without the secrets, its traceback included, and with no control character in it.

    What came from outside can neither end a line, and so forge the next one, nor give orders to a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record with every secret masked; only a traceback has further lines."""
        return harmless(redact(super().format(record)))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of logging
        """Return the line of the message, which stays one line."""
        return super().formatMessage(record).replace("\n", "\\n")


def harmless(text: str) -> str:
    """Return the text with every character escaped that is not to be seen, but for the ends of lines."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in text
    )


class Logs:
    """Logging while the context lasts: to the terminal, or as plain text to stderr, and to a file that is rotated.

    Records are written by a thread of their own. What ``utils.redaction`` knows to be secret is masked in everything.
    A directory that cannot be written to costs the log file, not the run.
    """

    def __init__(self, level: str, directory: Path) -> None:
        self._level = level
        self._directory = directory
        self._listener: logging.handlers.QueueListener | None = None
        self._queue_handler: logging.Handler | None = None

    def __enter__(self) -> Self:
        handlers, complaint = [self._person()], ""
        try:
            handlers.append(self._file())
        except OSError as error:
            complaint = f"no log file: {self._directory} cannot be written to ({error.strerror})"
        records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._queue_handler = _PlainQueueHandler(records)
        self._listener = logging.handlers.QueueListener(records, *handlers, respect_handler_level=True)
        root = logging.getLogger()
        root.addHandler(self._queue_handler)
        root.setLevel(self._level)
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)
        logging.captureWarnings(capture=True)
        self._listener.start()
        if complaint:
            root.warning(complaint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is None or self._queue_handler is None:
            return
        logging.getLogger().removeHandler(self._queue_handler)
        self._listener.stop()
        for handler in self._listener.handlers:
            try:
                handler.close()
            except OSError:
                pass  # a full disk does not take the last lines; how the run ended does not depend on that
        logging.captureWarnings(capture=False)

    def _person(self) -> logging.Handler:
        if sys.stderr.isatty():
            handler = _terminal_handler()
            handler.setFormatter(RedactingFormatter("%(message)s", "%H:%M:%S"))
        else:
            handler = _PlainHandler(sys.stderr)
            handler.setFormatter(RedactingFormatter(FORMAT, TIME_FORMAT))
        return handler

    def _file(self) -> logging.Handler:
        self._directory.mkdir(parents=True, exist_ok=True)
        handler = _FileHandler(
            self._directory / "quant_pmm.log", maxBytes=MAX_LOG_BYTES, backupCount=KEPT_LOGS, encoding="utf-8"
        )
        handler.setFormatter(RedactingFormatter(FORMAT, TIME_FORMAT))
        return handler


class _Discreet(logging.Handler):
    """Says once that it failed, and why; logging's own way would print the record as it is, secrets included."""

    _has_complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name of logging
        """Tell the person, unless they were told already."""
        del record
        if not self._has_complained:
            self._has_complained = True
            error = sys.exc_info()[1]
            _say(f"a line of the log could not be written ({type(error).__name__}: {error})")


class _PlainHandler(_Discreet, logging.StreamHandler[TextIO]):
    """Writes to a stream."""


class _FileHandler(_Discreet, logging.handlers.RotatingFileHandler):
    """Writes to the file that is rotated."""


class _PlainQueueHandler(_Discreet, logging.handlers.QueueHandler):
    """Hands records over as they are: both ends are in this process, so that tracebacks need no early formatting."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage()
        record.msg, record.args = record.message, None
        return record


def _terminal_handler() -> logging.Handler:
    """Return a handler that is pleasant to watch: colours, aligned times, status lines set apart."""
    from rich.console import Console  # only a terminal pays for the import
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler
    from rich.text import Text

    class TerminalHandler(_Discreet, RichHandler):
        def render_message(self, record: logging.LogRecord, message: str) -> Text:
            style = "bold cyan" if record.name == STATUS_LOG else ""
            return Text(message, style="bold red" if record.levelno >= logging.ERROR else style)

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name of logging
            super().handleError(record)
            # a console keeps what it could not write, and makes all of it again for each further line
            self.console.quiet = True
            self.console.print()
            self.console.quiet = False

    return TerminalHandler(
        console=Console(stderr=True),
        show_path=False,
        highlighter=NullHighlighter(),
        log_time_format="%H:%M:%S",
        omit_repeated_times=False,
        rich_tracebacks=False,
    )


# --- last words -------------------------------------------------------------------------------------------------


def guard_last_words() -> None:
    """Have whatever escapes the program masked on its way to stderr, of any thread and at any time."""
    sys.excepthook = _tell
    sys.unraisablehook = lambda raised: _tell(raised.exc_type, raised.exc_value, raised.exc_traceback)
    threading.excepthook = lambda raised: _tell(raised.exc_type, raised.exc_value, raised.exc_traceback)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(RedactingFormatter("%(message)s"))


def _tell(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    _say("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _say(text: str) -> None:
    """Print to stderr without secrets; there may be none any more."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(harmless(redact(text)) + "\n")
        except (OSError, ValueError):
            pass  # nobody is left who could be told
