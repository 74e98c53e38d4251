"""What can go wrong on the way to the exchange and back, by what the caller must do about it.

::

    BotError
    ├── StartRefused            the configuration or account does not allow to start: tell the user, exit code 2
    │   └── DiskRefused         only a disk that takes nothing is in the way
    └── ExchangeError           a request or a stream did not end as wished
        ├── Disconnected        a stream ended: reconnect and reconcile
        ├── NotSent             certainly not executed: nothing reached the exchange; may be sent again
        ├── OutcomeUnknown      may or may not have been executed: ask by client id, never send it again blindly
        └── Refused             certainly not executed: the exchange said no (code, message, HTTP status)
            ├── RateLimited     send nothing until ``retry_after_s`` has passed
            ├── Overloaded      not executed, the exchange is busy: back off, then it may be sent again
            ├── ClockSkew       measure the clock offset again, then it may be sent once more
            └── AuthFailed      keys are wrong, lack a right, or are blocked: stop

The exchange answers one question that no exception class can hold: what a *refusal* means for the order it was about
(``-2011`` on a cancel mostly means that the order was filled). That is decided in ``core.order``.
"""

from pathlib import Path
from typing import Self


class BotError(Exception):
    """Root of everything this program raises on purpose."""


class StartRefused(BotError):
    """The program must not start trading like this; ``str()`` is one sentence with the remedy."""


class DiskRefused(StartRefused):
    """Nothing but a disk that takes nothing is in the way."""

    @classmethod
    def of(cls, folder: Path, error: OSError) -> Self:
        """Return the refusal for a folder that the state cannot be written to."""
        return cls(
            f"state: {folder} cannot be written to ({error.strerror});"
            " make room on the disk, or set state_directory in config.yaml to a folder that can"
        )


class ExchangeError(BotError):
    """A request or a stream did not end as wished."""


class Disconnected(ExchangeError):
    """The stream has ended, by either side or by the network in between."""


class NotSent(ExchangeError):
    """The request never reached the exchange and was certainly not executed."""


class OutcomeUnknown(ExchangeError):
    """The request may have been executed; only the exchange's records can tell."""


class Refused(ExchangeError):
    """The exchange answered that it did not execute the request.

    ``code`` is Binance's negative error code (0 where the answer had none), ``status`` the HTTP status.
    """

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} (code {self.code}, HTTP {self.status})"


class RateLimited(Refused):
    """A limit was reached; nothing may be sent for ``retry_after_s`` seconds. ``banned`` tells HTTP 418 from 429."""

    def __init__(self, code: int, message: str, status: int, *, retry_after_s: float, banned: bool) -> None:
        super().__init__(code, message, status)
        self.retry_after_s = retry_after_s
        self.banned = banned


class Overloaded(Refused):
    """The exchange shed the request without executing it (503 with a documented "not executed" body)."""


class ClockSkew(Refused):
    """The timestamp of the request was outside of the exchange's window (-1021, -5028)."""


class AuthFailed(Refused):
    """The key, its signature or its rights were not accepted."""
