"""The daemon as a process with the fast libraries, and where neither of them can be imported."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
import uvloop

from commands.loops import new_event_loop
from test.process import START_WITHIN_S, Process, Stage, eventually

FAST = ("uvloop", "picows")
WITHOUT = f"""
import runpy, sys
sys.modules |= dict.fromkeys({FAST!r})
runpy.run_path("main.py", run_name="__main__")
"""
"""Starts the daemon where neither can be imported."""


def test_loop_is_that_of_uvloop_where_it_is_there_and_python_s_own_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else depends on it."""
    loop = new_event_loop()
    loop.close()
    assert isinstance(loop, uvloop.Loop)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.delitem(sys.modules, "commands.uv_loop")
    loop = new_event_loop()
    loop.close()
    assert isinstance(loop, asyncio.SelectorEventLoop)


@pytest.mark.no_cover
@pytest.mark.parametrize("are_there", [True, False])
def test_daemon_quotes_and_stops_with_and_without_the_fast_libraries(tmp_path: Path, are_there: bool) -> None:
    """On another platform it is slower and otherwise the same; its log says so."""
    start = ("main.py",) if are_there else ("-c", WITHOUT)
    with Stage(tmp_path) as stage:
        exchange = stage.exchange("--latency-ms", "1")
        daemon = stage.program(stage.folder(exchange), *start)
        eventually(lambda: len(exchange.open_orders()) == 6, START_WITHIN_S, "no six orders rest")
        if Path("/proc/self/maps").exists():
            assert {name for name in FAST if _has_loaded(daemon, name)} == (set(FAST) if are_there else set())
        assert ("WebSockets go by the slower of two libraries" in daemon.err) is not are_there
        assert daemon.end(signal.SIGTERM) == 0
        assert "no order of ours rests: verified" in daemon.err
        assert exchange.open_orders() == []


def _has_loaded(daemon: Process, name: str) -> bool:
    return f"/site-packages/{name}/" in Path(f"/proc/{daemon.pid}/maps").read_text()
