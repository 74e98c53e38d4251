"""The kinds of trouble: each is one run from a daemon that quotes to one that quotes again, with what it measured."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from test.blackbox.disk import Disk, SizeLimit, SmallDisk, can_mount
from test.blackbox.files import complaints
from test.blackbox.proxy import Proxy
from test.blackbox.scene import (
    ELSEWHERE,
    START_WITHIN_S,
    STOP_WITHIN_S,
    SYMBOL,
    Pace,
    Scene,
    market,
    scene,
    until,
)
from test.process import Daemon, Exchange

Figures = dict[str, float]
Kind = Callable[[Path, int, Pace], Figures]

TIMER_S = 1.0
"""How late a timer of the venue may be."""
STOPPED_WHILE_FULL = 0.4
"""The share of the runs on a full disk that end while it is full."""
WRITES_AGAIN_WITHIN_S = 5.0
LEVERAGE_IS_WRONG = "was changed to 20: set it back to 5"


def sigkill(path: Path, seed: int, pace: Pace) -> Figures:
    """Murdered while it quotes: the venue's dead-man switch has every order out in time."""
    with scene(path, seed, pace, stranger_on=ELSEWHERE) as found:
        daemon = found.quoting()
        found.wait_for_a_moment()
        daemon.send(signal.SIGKILL)
        killed_s = time.time()
        daemon.wait(STOP_WITHIN_S)
        assert complaints(found.folder) == []
        time.sleep(pace.window_s - pace.refresh_s - 1)
        until(lambda: not found.ours(), pace.refresh_s + 5, "the dead-man switch did not cancel")
        found.figures["zero"] = max(found.zero_since_s() - killed_s, 0.0)
        assert found.figures["zero"] <= pace.window_s + TIMER_S, (
            f"zero only after {found.figures['zero']:.2f} s"
        )
        found.finish(None)
        return found.figures


def sigterm(path: Path, seed: int, pace: Pace) -> Figures:
    """Asked to stop at any moment: zero orders, verified, exit code 0."""
    with scene(path, seed, pace) as found:
        daemon = found.quoting()
        found.wait_for_a_moment()
        asked_s = time.time()
        found.stop(daemon)
        assert "no order of ours rests: verified" in daemon.err
        found.figures["zero"] = max(found.zero_since_s() - asked_s, 0.0)
        found.finish(None)
        return found.figures


def sigstop(path: Path, seed: int, pace: Pace) -> Figures:
    """Stopped for a while, as a machine that sleeps: everything it knew is old when it goes on."""
    with scene(path, seed, pace, stranger_on=ELSEWHERE) as found:
        daemon = found.quoting()
        found.wait_for_a_moment()
        asleep_s = found.drawn_trouble_s()
        daemon.send(signal.SIGSTOP)
        time.sleep(asleep_s)
        if asleep_s > pace.window_s + TIMER_S:
            assert found.ours() == [], "the dead-man switch did not cancel"
        daemon.send(signal.SIGCONT)
        found.figures["back"] = found.until_back(daemon)
        found.finish(daemon)
        return found.figures


def disk_full(path: Path, seed: int, pace: Pace) -> Figures:
    """The disk is full for a while: nothing is torn, and the daemon goes on, or stops well when it is asked to."""
    if not (can_mount() and seed % 2):
        with scene(path, seed, pace) as found:
            daemon = found.quoting()
            return _disk_full(found, daemon, SizeLimit(daemon.pid, found.folder.path, found.rng))
    with scene(path, seed, pace) as found, SmallDisk(path / "disk") as disk:
        found.folder.move_to(path / "disk")
        return _disk_full(found, found.quoting(), disk)


def _disk_full(found: Scene, daemon: Daemon, disk: Disk) -> Figures:
    found.wait_for_a_moment()
    disk.fill()
    time.sleep(found.drawn_trouble_s(8))
    assert daemon.is_running, f"it ended with {daemon.wait(0)}: {daemon.err[-3000:]}"
    if found.rng.random() < STOPPED_WHILE_FULL:
        found.stop(daemon)
        disk.free()
        found.finish(None)
    else:
        disk.free()
        found.figures["back"] = found.until_back(daemon)
        rows = len(found.folder.rows("uptime"))
        until(lambda: len(found.folder.rows("uptime")) > rows, WRITES_AGAIN_WITHIN_S, "no row is written")
        found.finish(daemon)
    return found.figures


def reset(path: Path, seed: int, pace: Pace) -> Figures:
    """Every connection is reset, again and again: no order is doubled or lost."""
    with scene(path, seed, pace) as found, Proxy(_port(found.exchange)) as proxy:
        found.go_through(proxy.port)
        daemon = found.quoting()
        found.wait_for_a_moment()
        until_s = time.monotonic() + found.drawn_trouble_s(8)
        while time.monotonic() < until_s:
            proxy.reset()
            time.sleep(found.rng.uniform(0, 1.5))
        proxy.reset()
        found.figures["back"] = found.until_back(daemon)
        found.finish(daemon)
        return found.figures


def half_open(path: Path, seed: int, pace: Pace) -> Figures:
    """Nothing gets through any more, and no connection says so; after a while new ones work."""
    with scene(path, seed, pace, stranger_on=ELSEWHERE) as found, Proxy(_port(found.exchange)) as proxy:
        found.go_through(proxy.port)
        daemon = found.quoting()
        found.wait_for_a_moment()
        proxy.swallow()
        time.sleep(found.drawn_trouble_s())
        proxy.heal()
        found.figures["back"] = found.until_back(daemon)
        found.finish(daemon)
        return found.figures


def exchange_restart(path: Path, seed: int, pace: Pace) -> Figures:
    """The venue dies and comes again with nothing of what it knew: no order, no fill, numbers from 1.

    Nor does it know the leverage. The daemon says so and pauses, until a person has set it back.
    """
    with scene(path, seed, pace) as found:
        daemon = found.quoting()
        found.wait_for_a_moment()
        port = str(_port(found.exchange))
        found.exchange.kill()
        time.sleep(found.rng.uniform(0, 3))
        found.exchange = found.stage.exchange(*market(seed), "--port", port)
        found.place_stranger(SYMBOL)
        found.is_dropped = True
        until(
            lambda: LEVERAGE_IS_WRONG in daemon.err,
            START_WITHIN_S,
            f"no cause was named: {daemon.err[-3000:]}",
        )
        found.exchange.ask_signed("POST", "/fapi/v1/leverage", symbol=SYMBOL, leverage="5")
        found.figures["back"] = found.until_back(daemon)
        found.finish(daemon)
        return found.figures


def two_daemons(path: Path, seed: int, pace: Pace) -> Figures:
    """A second daemon on the same account and symbol is refused, by the lock or by the orders of the first.

    In every other run it knows nothing of the first, as if on another machine, and may take out what it finds, once.
    """
    with scene(path, seed, pace) as found:
        daemon = found.quoting()
        found.wait_for_a_moment()
        is_elsewhere = bool(seed % 2)
        folder = found.elsewhere() if is_elsewhere else found.folder
        second = found.stage.daemon(folder)
        assert second.wait(START_WITHIN_S) == 2, second.err
        assert is_elsewhere or "another daemon is already trading" in second.err
        assert "first quote rests" not in second.err
        found.figures["back"] = found.until_back(daemon)
        found.finish(daemon)
        assert complaints(folder) == []
        return found.figures


def _port(exchange: Exchange) -> int:
    port = urlsplit(exchange.url).port
    assert port is not None
    return port


KINDS: dict[str, Kind] = {
    "sigkill": sigkill,
    "sigterm": sigterm,
    "sigstop": sigstop,
    "disk-full": disk_full,
    "reset": reset,
    "half-open": half_open,
    "exchange-restart": exchange_restart,
    "two-daemons": two_daemons,
}
