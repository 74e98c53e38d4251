"""What a service manager hears, on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.systemd import Heartbeat, notify_socket


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket on which a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    """Everything that has come, in order."""
    found: list[str] = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


class SetClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        """What was set."""
        return self.now_ns

    def time_ms(self) -> int:
        """The same in ms."""
        return self.now_ns // 1_000_000


def test_nobody_is_told_where_no_manager_is() -> None:
    """No variable, an empty one, and one that names no socket."""
    assert [notify_socket(each) for each in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "tcp:1"})] == [
        None
    ] * 3


def test_no_secret_reaches_the_manager(manager: socket.socket) -> None:
    """Its status line is kept in the journal of the system, and shown to everybody who may ask for it."""
    found = notify_socket({"NOTIFY_SOCKET": manager.getsockname()})
    assert found is not None
    secret = "canary0123456789" * 4
    found.tell(f"STATUS=waiting: GET /fapi/v1/order?signature={secret}: no answer")
    assert heard(manager) == ["STATUS=waiting: GET /fapi/v1/order?signature=***: no answer"]
    found.close()


def test_socket_by_path_and_by_abstract_name(manager: socket.socket) -> None:
    """A manager that has gone is no error, nor is one that does not read."""
    found = notify_socket({"NOTIFY_SOCKET": manager.getsockname()})
    assert found is not None
    found.tell("READY=1\nSTATUS=¡quoting!")
    assert heard(manager) == ["READY=1\nSTATUS=¡quoting!"]
    for _ in range(2000):
        found.tell("WATCHDOG=1")
    os.unlink(manager.getsockname())
    found.tell("WATCHDOG=1")
    found.close()
    name = f"quant-pmm-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("\0" + name)
        abstract.settimeout(1)
        found = notify_socket({"NOTIFY_SOCKET": f"@{name}"})
        assert found is not None
        found.tell("STOPPING=1")
        assert abstract.recv(100) == b"STOPPING=1"
        found.close()


def test_watchdog_is_fed_by_progress_alone(manager: socket.socket) -> None:
    """Ready at the first opening and never again; two control loops, of which one hangs, feed nothing."""
    found = notify_socket({"NOTIFY_SOCKET": manager.getsockname()})
    assert found is not None
    clock, progress, is_open = SetClock(), [1, 1], [False]
    beating = Heartbeat(found.tell, clock, lambda: list(progress), lambda: is_open[0], lambda: "fine")

    def seconds(count: int, *, step: tuple[int, int]) -> list[str]:
        for _ in range(count * 4):
            clock.now_ns += 250_000_000
            beating.beat()
            progress[0] += step[0]
            progress[1] += step[1]
        return heard(manager)

    assert seconds(4, step=(1, 1)) == ["EXTEND_TIMEOUT_USEC=120000000\nWATCHDOG=1\nSTATUS=fine"] * 2
    is_open[0] = True
    assert seconds(4, step=(1, 1)) == ["READY=1\nSTATUS=quoting", *["WATCHDOG=1\nSTATUS=fine"] * 2]
    assert len(seconds(60, step=(1, 0))) <= 1  # what had grown before
    is_open[0] = False
    assert seconds(4, step=(1, 1)) == ["WATCHDOG=1\nSTATUS=fine"] * 2
    beating.stopping("SIGTERM received")
    assert heard(manager) == ["STOPPING=1\nSTATUS=stopping: SIGTERM received"]
    found.close()
