"""The daemon as a process of its machine: halted from outside, stopped and continued."""

import signal
import time
from pathlib import Path

from test.process import Stage, eventually

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
        assert halted.wait(5) == 4
        assert "is halted (SIGUSR1 received)" in halted.err

        file = folder.path / "state" / "HALT"
        file.touch()
        resume = stage.daemon(folder, "resume")
        assert (resume.wait(5), resume.err) == (0, "")
        assert f"{file} removed" in resume.out
        assert not file.exists()

        daemon = stage.quoting(exchange, folder)
        file.touch()
        eventually(lambda: not exchange.open_orders(), OUT_WITHIN_S, "the quotes stayed")
        assert daemon.end(signal.SIGTERM) == 4


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
