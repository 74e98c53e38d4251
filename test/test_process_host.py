"""The daemon as a process of its machine: halted from outside, stopped and continued."""

import signal
import socket
import time
from pathlib import Path

import pytest

from core.crash_count import CrashCount
from test.process import Stage, eventually

pytestmark = pytest.mark.no_cover

OUT_WITHIN_S = 2.0


def test_signal_and_file_halt_until_resume(tmp_path: Path) -> None:
    """Quotes out at once and the daemon goes on, halted; it ends with 4, as does each start until ``resume``."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange)
        daemon = stage.quoting(exchange, folder)
        daemon.send(signal.SIGUSR1)
        eventually(lambda: not exchange.open_orders(), OUT_WITHIN_S, "the quotes stayed")
        eventually(lambda: "HALT: SIGUSR1 received" in daemon.err, OUT_WITHIN_S, "nothing was said")
        assert daemon.end(signal.SIGTERM) == 4
        halted = stage.daemon(folder)
        assert halted.wait(30) == 4
        assert "is halted (SIGUSR1 received)" in halted.err

        file = folder.path / "state" / "HALT"
        file.touch()
        resume = stage.daemon(folder, "resume")
        assert (resume.wait(30), resume.err) == (0, "")
        assert f"{file} removed" in resume.out
        assert not file.exists()

        daemon = stage.quoting(exchange, folder)
        file.touch()
        eventually(lambda: not exchange.open_orders(), OUT_WITHIN_S, "the quotes stayed")
        assert daemon.end(signal.SIGTERM) == 4


def test_signal_to_halt_before_a_run_begins_outlives_the_process(tmp_path: Path) -> None:
    """It comes in the wait after bad ends; then the process is killed, and the next start ends with 4."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange)
        account = "paper-" + exchange.url.removeprefix("http://").replace(":", "-")
        ends = CrashCount(folder.state, account, ["BTCUSDT"])
        for _ in range(3):
            ends.end_badly(int(time.time() * 1000))
        waiting = stage.daemon(folder)
        eventually(lambda: "waiting for 5 s before this one begins" in waiting.err, 10, "it did not wait")
        waiting.send(signal.SIGUSR1)
        eventually(lambda: "HALT: SIGUSR1 received" in waiting.err, OUT_WITHIN_S, "nothing was said")
        halt = folder.state / f"halt-{account}-BTCUSDT.json"
        eventually(halt.exists, OUT_WITHIN_S, "no halt stands on disk")
        waiting.kill()
        ends.clear()
        assert stage.daemon(folder).wait(30) == 4
        assert exchange.open_orders() == []


def test_stopped_and_continued_process_quotes_again_in_order(tmp_path: Path) -> None:
    """SIGSTOP for 3 s: it says so, has its quotes out, reconciles, and quotes again with clean books."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, refresh_config={"orderbook_refresh_interval": 0.5})
        daemon = stage.quoting(exchange, folder)
        daemon.send(signal.SIGSTOP)
        time.sleep(3)
        daemon.send(signal.SIGCONT)
        eventually(lambda: "the event loop stood still for" in daemon.err, OUT_WITHIN_S, "it did not notice")
        eventually(lambda: not exchange.open_orders(), OUT_WITHIN_S, "the quotes stayed")
        eventually(lambda: len(exchange.open_orders()) == 6, 15, "it did not quote again")
        assert daemon.end(signal.SIGTERM) == 0
        assert len(folder.rows("engine_event", "loop_late")) == 1


def test_service_manager_hears_of_start_progress_and_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready only once quotes may leave; then fed, until the stop is announced."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Stage(tmp_path) as stage:
        manager.bind(str(address))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        exchange = stage.exchange()
        daemon = stage.daemon(stage.folder(exchange))
        heard = [manager.recv(4096).decode()]
        while not heard[-1].startswith("WATCHDOG=1\n"):
            heard.append(manager.recv(4096).decode())
        assert [each for each in heard if each.startswith("READY=1")] == ["READY=1\nSTATUS=quoting"]
        assert heard[-2].startswith("READY=1")
        assert all(each.startswith("EXTEND_TIMEOUT_USEC=") for each in heard[:-2])
        assert "BTCUSDT mid" in heard[-1]
        daemon.send(signal.SIGTERM)
        while not heard[-1].startswith("STOPPING=1\n"):
            heard.append(manager.recv(4096).decode())
        assert daemon.wait(30) == 0


def test_daemon_that_is_killed_again_and_again_waits_before_it_starts(tmp_path: Path) -> None:
    """From the third time on; until ``resume``."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange)
        for _ in range(3):
            daemon = stage.daemon(folder)
            eventually(lambda: list((folder.path / "state").glob("boot-*")), 10, "it did not start")
            eventually(lambda: "passive_market_maker on paper" in daemon.err, 10, "it did not start")  # noqa: B023
            daemon.kill()
        waiting = stage.daemon(folder)
        eventually(lambda: "waiting for 5 s before this one begins" in waiting.err, 10, "it did not wait")
        assert waiting.end(signal.SIGTERM) == 3  # nobody has looked what the last run left
        assert stage.daemon(folder, "resume").wait(30) == 0
        again = stage.daemon(folder)
        eventually(lambda: "passive_market_maker on paper" in again.err, 4, "it waited")
        again.send(signal.SIGTERM)
        again.wait(30)
