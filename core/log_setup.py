"""Logs for a person and for a file; secrets are taken out at the handlers, whoever wrote them."""

import logging
import logging.handlers
import queue
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from core.status import STATUS_LOG

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
MAX_LOG_BYTES = 10 * 2**20
KEPT_LOGS = 5
_LIBRARIES = ("aiohttp", "websockets", "asyncio")
_SIGNED = re.compile(r"((?:signature|listenKey)[\"']?[=:]\s*[\"']?)[0-9A-Za-z%+/=]+", re.IGNORECASE)


class RedactingFormatter(logging.Formatter):
    """Formats a record, tracebacks included, without the secrets and on one line for each message."""

    def __init__(self, format_text: str, secrets: Iterable[str], time_format: str = TIME_FORMAT) -> None:
        super().__init__(format_text, time_format)
        self._secrets = [secret for secret in secrets if len(secret) >= 4]

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record with every secret masked."""
        return self.redact(super().format(record))

    def redact(self, text: str) -> str:
        """Return the text with secrets, signatures and listen keys masked."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SIGNED.sub(r"\1***", text)


class Logs:
    """Logging while the context lasts: to the terminal, or as plain text to stderr, and to a file that is rotated.

    Records are written by a thread of their own. ``secrets`` are masked in everything. A directory that cannot be
    written to costs the log file, not the run.
    """

    def __init__(self, level: str, directory: Path, secrets: Iterable[str]) -> None:
        self._level = level
        self._directory = directory
        self._secrets = tuple(secrets)
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
            handler.close()
        logging.captureWarnings(capture=False)

    def _person(self) -> logging.Handler:
        if sys.stderr.isatty():
            handler = _terminal_handler()
            handler.setFormatter(RedactingFormatter("%(message)s", self._secrets, "%H:%M:%S"))
        else:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(RedactingFormatter(FORMAT, self._secrets))
        return handler

    def _file(self) -> logging.Handler:
        self._directory.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            self._directory / "quant_pmm.log", maxBytes=MAX_LOG_BYTES, backupCount=KEPT_LOGS, encoding="utf-8"
        )
        handler.setFormatter(RedactingFormatter(FORMAT, self._secrets))
        return handler


class _PlainQueueHandler(logging.handlers.QueueHandler):
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

    class TerminalHandler(RichHandler):
        def render_message(self, record: logging.LogRecord, message: str) -> Text:
            style = "bold cyan" if record.name == STATUS_LOG else ""
            return Text(message, style="bold red" if record.levelno >= logging.ERROR else style)

    return TerminalHandler(
        console=Console(stderr=True),
        show_path=False,
        highlighter=NullHighlighter(),
        log_time_format="%H:%M:%S",
        omit_repeated_times=False,
        rich_tracebacks=False,
    )
