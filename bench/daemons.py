"""The daemon as the benchmarks run it, in a process of its own: by `main.py`, with all its parts on."""

import argparse
import asyncio
import importlib
import json
import signal
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.machine import quantiles_of_counts
from bench.quiet_venue import SYMBOL, symbols_of

AMENDS_PER_SECOND = 900.0
"""The daemon's bound on amendments, which the configuration allows up to 100, is lifted to that for the closed loop."""
LAG_EVERY_S = 0.005
_LAG_STEP_NS = 10_000
_LAG_STEPS = 100_000
_REPORT = "report.json"
LEVELS = 3
"""A side, as shipped."""


def follower_config(levels: int, *, busy_poll: bool = False) -> dict[str, Any]:
    """Return the keys in which a daemon that follows each tick differs from the shipped configuration."""
    return {
        "order_config": {"levels": levels},
        "refresh_config": {"on_move": True, "min_requote_interval_ms": 0},
        "order_management": {"patience_bps_s": 0, "max_pending_modifications": 100},
        "execution": {
            "modify_worker_count": 16,
            "modify_rate_limit": 100,
            "order_transport": "ws",
            "busy_poll": busy_poll,
        },
    }


def prepare(folder: Path, origin: str, config: Mapping[str, Any]) -> None:
    """The daemon's configuration is in the folder, as will be what it writes; it trades at the venue at ``origin``."""
    places = {
        "symbol": SYMBOL,
        "state_directory": str(folder / "state"),
        "logging": {"log_to_csv": True, "log_directory": str(folder / "logs")},
    }
    (folder / "config.yaml").write_text(json.dumps({**places, **config}), encoding="utf-8")
    (folder / "env").write_text(f"EXCHANGE_ENV=paper\nPAPER_URL={origin}\n", encoding="utf-8")


def _main(folder: Path) -> int:
    code: int = importlib.import_module("main").main(
        ["--config", str(folder / "config.yaml"), "--env", str(folder / "env")]
    )
    return code


def follow(folder: Path) -> int:
    """Run `main.py`, its bound on amendments lifted, until a signal comes; return its exit code."""
    entry: Any = importlib.import_module("main")
    shipped = entry.settings_from

    def lifted(config: Any) -> Any:
        settings = shipped(config)
        return replace(settings, execution=replace(settings.execution, modify_rate_limit=AMENDS_PER_SECOND))

    entry.settings_from = lifted
    return _main(folder)


# As it is shipped, for a long time


class Probe:
    """Measures within the daemon how late its loop is, and counts the books that are told of; its size is fixed.

    Each 5 ms a timer of the loop is due; how much later it runs is how long a message would have had to wait.
    """

    def __init__(self) -> None:
        self.books = 0
        self._late = array("L", bytes(array("L").itemsize * (_LAG_STEPS + 1)))
        self._most_ns = 0
        self._is_on = False

    def begin(self) -> None:
        """Measure from now on."""
        self._is_on = True
        self._later(asyncio.get_running_loop())

    def end(self) -> None:
        """Measure no more."""
        self._is_on = False

    def hear(self, _fact: object) -> None:
        """Count a book that came while it measures."""
        self.books += self._is_on

    def _later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(LAG_EVERY_S, self._look, loop, time.perf_counter_ns() + int(LAG_EVERY_S * 1e9))

    def _look(self, loop: asyncio.AbstractEventLoop, due_ns: int) -> None:
        if not self._is_on:
            return
        late_ns = max(time.perf_counter_ns() - due_ns, 0)
        self._late[min(late_ns // _LAG_STEP_NS, _LAG_STEPS)] += 1
        self._most_ns = max(self._most_ns, late_ns)
        self._later(loop)

    def report(self) -> dict[str, Any]:
        """Return what was found; times in ms."""
        shares = {"median": 0.5, "p99": 0.99, "p99.9": 0.999}
        lag = {
            name: round(step * _LAG_STEP_NS / 1e6, 2)
            for name, step in zip(shares, quantiles_of_counts(self._late, shares.values()), strict=True)
        }
        lag["max"] = round(self._most_ns / 1e6, 2)
        return {"books": self.books, "looks": sum(self._late), "lag, ms": lag}


def endure(folder: Path) -> int:
    """Run `main.py` as it is shipped, with a probe in it that writes its report when that has ended.

    SIGUSR2 begins what is measured, and a second one ends it.
    """
    running: Any = importlib.import_module("commands.run")
    events: Any = importlib.import_module("core.events")
    shipped, probe = running.run_engine, Probe()

    async def probed(settings: Any, wiring: Any, stop: Any, on_engine: Callable[[Any], None]) -> Any:
        loop, steps = asyncio.get_running_loop(), iter((probe.begin, probe.end))

        def seen(engine: Any) -> None:
            on_engine(engine)
            engine.bus.subscribe(probe.hear, events.BookEvent)

        signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(next(steps, probe.end)))
        return await shipped(settings, wiring, stop, seen)

    running.run_engine = probed
    try:
        return _main(folder)
    finally:
        (folder / _REPORT).write_text(json.dumps(probe.report()), encoding="utf-8")


def report_of(folder: Path) -> dict[str, Any]:
    """Return what the probe of a daemon that has ended has written."""
    found: dict[str, Any] = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
    return found


# On many symbols


def quote_many(folder: Path, symbols: int) -> int:
    """Run one engine on so many symbols until a signal comes; return its exit code.

    The configuration has one symbol, the engine a list of them: it is wired as `main.py` does it.
    """
    from commands.loops import new_event_loop
    from commands.signals import signals_go_to
    from commands.wiring import wired
    from core.runs import run_engine
    from core.settings import settings_from
    from core.shutdown import StopRequest
    from core.state import SharedState
    from utils.config_loader import get_config

    config = get_config(str(folder / "env"), str(folder / "config.yaml"))
    settings = settings_from(config)
    quotes = tuple(replace(settings.quotes[0], symbol=symbol) for symbol in symbols_of(symbols))
    settings = replace(settings, quotes=quotes)

    async def work() -> int:
        stop = StopRequest()
        with signals_go_to(stop.ask):
            async with wired(settings, config, SharedState(), live_confirmed=False) as wiring:
                return await run_engine(settings, wiring, stop)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work())


DAEMONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "daemon": lambda given: follow(given.folder),
    "busy daemon": lambda given: follow(given.folder),
    "shipped daemon": lambda given: endure(given.folder),
    "daemon of many": lambda given: quote_many(given.folder, given.symbols),
}
