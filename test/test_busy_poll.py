"""An event loop that never sleeps, and the daemon on it."""

import asyncio
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from commands.busy_poll import LEAST_REST_NS, REST, Awake, awake_if, never_asleep
from commands.loops import new_event_loop
from core.context import SymbolContext
from core.gateway import Amend, Gateway
from core.model import SymbolRules
from core.order_manager import OrderManager
from test.process import START_WITHIN_S, Process, Stage, eventually
from test.simulation.run import run_plan
from test.simulation.swarm import draw_plan

BUSY = {"busy_poll": True}
LOOK_S = 0.5


class _Selector(selectors.DefaultSelector):
    """Keeps how long each look at the sockets might have lasted."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waits.append(timeout)
        return super().select(timeout)


def test_loop_asks_its_sockets_without_waiting_while_it_is_not_to_sleep_and_sleeps_again_afterwards() -> None:
    """The first turn in the block and the last one before its end are those that are looked at."""
    selector = _Selector()

    async def work() -> tuple[list[float | None], list[float | None]]:
        with never_asleep():
            await asyncio.sleep(0.01)
            within = selector.waits[1:]
        await asyncio.sleep(0)  # the turn that finds that it may sleep again
        selector.waits.clear()
        await asyncio.sleep(0.01)
        return within, list(selector.waits)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        within, after = runner.run(work())
    assert len(within) > 10
    assert set(within) == {0}
    assert any(wait is None or wait > 0 for wait in after)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_event_loop])
def test_timers_threads_sockets_and_signals_of_a_loop_that_never_sleeps_have_their_turn(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A thread gets the interpreter although the loop always has something to do."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    async def work() -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        before = signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(heard.set))
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        try:
            with never_asleep():
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
                writer.write(b"tick")
                assert await reader.readexactly(4) == b"tick"
                writer.close()
                assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
                os.kill(os.getpid(), signal.SIGUSR2)
                await heard.wait()
        finally:
            server.close()
            signal.signal(signal.SIGUSR2, before)

    async def bounded() -> None:
        await asyncio.wait_for(work(), 30.0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(bounded())


@pytest.mark.no_cover
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_daemon_that_polls_is_always_at_work_or_waiting_for_a_core_and_quotes_and_stops_as_ever(
    tmp_path: Path,
) -> None:
    """How much of a core it gets is the machine's affair: asked is whether it wants one all the time."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange("--latency-ms", "1")
        daemon = stage.program(stage.folder(exchange, execution=BUSY), "main.py")
        eventually(lambda: len(exchange.open_orders()) == 6, START_WITHIN_S, "no six orders rest")
        assert "execution.busy_poll: a core of this machine is busy from now on" in daemon.err
        if Path("/proc/self/schedstat").exists():
            assert _wanted_a_core(daemon) > 0.8
        assert daemon.end(signal.SIGTERM) == 0
        assert "no order of ours rests: verified" in daemon.err
        assert exchange.open_orders() == []


def _wanted_a_core(daemon: Process) -> float:
    """Return the share of half a second in which its main thread ran or waited for its turn."""

    def wanted_ns() -> int:
        ran, waited, _ = Path(f"/proc/{daemon.pid}/schedstat").read_text(encoding="ascii").split()
        return int(ran) + int(waited)

    began_ns, before_ns = time.monotonic_ns(), wanted_ns()
    threading.Event().wait(LOOK_S)
    return (wanted_ns() - before_ns) / (time.monotonic_ns() - began_ns)


def test_rehearsal_that_fails_is_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but speed depends on it."""
    calls = 0

    def fails() -> None:
        nonlocal calls
        calls += 1
        raise LookupError("a book that is no book")

    times = iter(range(0, 10**9, LEAST_REST_NS))
    awake = Awake(None, times.__next__)
    awake.begin(fails)
    for _ in range(20):
        awake.turn()
    assert calls == 1
    assert "it is left off" in caplog.text


@pytest.mark.parametrize("takes_ns", [10_000, 1_000_000])
def test_rehearsals_leave_most_of_the_time_to_messages(takes_ns: int) -> None:
    """However long one takes, with fifty levels for example; a message that comes during one has to wait."""
    now_ns, calls = 0, 0

    def takes_long() -> None:
        nonlocal now_ns, calls
        now_ns += takes_ns
        calls += 1

    awake = Awake(None, lambda: now_ns)
    awake.begin(takes_long)
    for _ in range(100_000):
        awake.turn()
        now_ns += 3_000
    assert calls > 10
    assert calls * takes_ns <= now_ns / REST


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_rehearsals_leave_a_storm_as_it_is_to_the_last_request(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is made at each change of the book, before the orders follow it."""
    plan = draw_plan(seed, hours=1 / 12, faults_per_hour=120, events_per_second=20)
    plan = replace(plan, mode="amend", transport="ws")
    plain, rehearsed = run_plan(plan), 0
    follows, signs = OrderManager._on_book, Gateway.rehearse_amend

    def rehearses(manager: OrderManager, context: SymbolContext, mid_half_ticks: int) -> None:
        manager.rehearse()
        follows(manager, context, mid_half_ticks)

    def counts(gateway: Gateway, rules: SymbolRules, amend: Amend) -> None:
        nonlocal rehearsed
        rehearsed += 1
        signs(gateway, rules, amend)

    monkeypatch.setattr(OrderManager, "_on_book", rehearses)
    monkeypatch.setattr(Gateway, "rehearse_amend", counts)
    assert run_plan(plan).trace == plain.trace
    assert rehearsed > 10


def test_machine_with_one_core_keeps_it_for_others_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that never slept would take half of the time of whatever else runs there."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with awake_if(is_asked=True, monotonic_ns=time.monotonic_ns) as awake:
        awake.begin(lambda: None)  # outside of a loop: it would fail if it did anything
    assert "it is left off" in caplog.text
