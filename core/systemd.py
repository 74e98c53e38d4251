"""What a service manager is told: ready, alive, stopping, and how it goes.

The protocol is one datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names.
Source: sd_notify(3), systemd.service(5) (Type=notify, WatchdogSec).
"""

import socket
from collections.abc import Callable, Mapping, Sequence

from utils.clock import Clock
from utils.redaction import redact

Notify = Callable[[str], None]
"""Tells the service manager some lines; never fails."""


def to_nobody(_lines: str) -> None:
    """There is no service manager."""


class NotifySocket:
    """Sends datagrams to ``address``, a path, or a name behind an ``@`` that is not in the file system.

    A manager that does not listen is none: what cannot be sent is left out.
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(0)

    def tell(self, lines: str) -> None:
        """Send some lines, without waiting, and without the secrets in them."""
        try:
            self._socket.sendto(redact(lines).encode(), self._address)
        except OSError:
            pass

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()


def notify_socket(environment: Mapping[str, str]) -> NotifySocket | None:
    """Return the way to the service manager that started this process, None if none did."""
    address = environment.get("NOTIFY_SOCKET", "")
    return NotifySocket(address) if address[:1] in ("/", "@") and len(address) > 1 else None


class Heartbeat:
    """Says that the daemon is ready when the gate first opens, and that it is alive when its control loops prove it.

    ``progress`` returns numbers that grow only while each control loop works, ``is_open`` tells whether quotes may
    leave, ``status`` says in a line how it goes. Nothing is told that no progress stands behind: until it is ready the
    manager is asked for more time, too, from then on its watchdog alone is fed.
    """

    EVERY_S = 2.0
    START_MORE_S = 120
    """How long a start may go on without another sign."""

    def __init__(
        self,
        notify: Notify,
        clock: Clock,
        progress: Callable[[], Sequence[int]],
        is_open: Callable[[], bool],
        status: Callable[[], str],
    ) -> None:
        self._notify = notify
        self._clock = clock
        self._progress = progress
        self._is_open = is_open
        self._status = status
        self._is_ready = False
        self._fed_ns = -(10**18)
        self._fed_at: Sequence[int] = ()

    def beat(self) -> None:
        """Tell what there is to tell; called again and again by whoever has turns to give."""
        if not self._is_ready and self._is_open():
            self._is_ready = True
            self._notify("READY=1\nSTATUS=quoting")
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._fed_ns < self.EVERY_S * 1e9:
            return
        progress = tuple(self._progress())
        if self._fed_at and not all(now > before for now, before in zip(progress, self._fed_at, strict=True)):
            return
        self._fed_ns, self._fed_at = now_ns, progress
        alive = "WATCHDOG=1" if self._is_ready else more_time(self.START_MORE_S)
        self._notify(f"{alive}\nSTATUS={self._status()}")

    def stopping(self, why: str) -> None:
        """Tell that the end has begun."""
        self._notify(f"STOPPING=1\nSTATUS=stopping: {why}")


def more_time(seconds: float) -> str:
    """Return the lines that ask for so much time for the start, from now on.

    They feed the watchdog, too: it runs where a run before was ready, and more time for the start is nothing to it.
    """
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}\nWATCHDOG=1"
