"""The daemon as the benchmarks run it, in a process of its own: by `main.py`, with all its parts on."""

import argparse
import asyncio
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.quiet_venue import SYMBOL, symbols_of

AMENDS_PER_SECOND = 900.0
"""The daemon's bound on amendments, which the configuration allows up to 100, is lifted to that for the closed loop."""


def follower_config(levels: int) -> dict[str, Any]:
    """Return the keys in which a daemon that follows each tick differs from the shipped configuration."""
    return {
        "order_config": {"levels": levels},
        "refresh_config": {"on_move": True, "min_requote_interval_ms": 0},
        "order_management": {"patience_bps_s": 0, "max_pending_modifications": 100},
        "execution": {"modify_worker_count": 16, "modify_rate_limit": 100, "order_transport": "ws"},
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
    "daemon of many": lambda given: quote_many(given.folder, given.symbols),
}
