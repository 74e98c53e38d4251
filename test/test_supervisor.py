"""Workers that die are started again, within a budget, with the gate closed meanwhile."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import pairwise

import pytest

from core.events import EngineEvent, EngineKind, EventBus, Fact
from core.gate import Gate
from core.supervisor import Supervisor, WorkerGaveUp
from sim.virtual_time import VirtualClock, run_virtual


class Bench:
    """A supervisor with everything it talks to."""

    def __init__(self, clock: VirtualClock, budget: int = 3, window_s: float = 60) -> None:
        self.clock = clock
        self.gate = Gate()
        self.bus = EventBus()
        self.facts: list[Fact] = []
        self.bus.subscribe(self.facts.append)
        self.supervisor = Supervisor(budget, window_s, clock, self.bus, self.gate)

    def now_s(self) -> float:
        """Seconds since the beginning."""
        return self.clock.monotonic_ns() / 1e9

    def restarts(self) -> list[str]:
        """What was said of each restart."""
        return [
            fact.details
            for fact in self.facts
            if isinstance(fact, EngineEvent) and fact.kind is EngineKind.WORKER_RESTARTED
        ]


class Failing:
    """A worker that works for so long and fails, as often as the list says, and then works on for ever."""

    name = "orders"

    def __init__(self, bench: Bench, works_s: list[float], fail: Callable[[], None] | None = None) -> None:
        self.bench = bench
        self.works_s = works_s
        self.fail = fail or self._raise
        self.started_s: list[float] = []
        self.gate_at_start: list[bool] = []

    @staticmethod
    def _raise() -> None:
        raise ValueError("no such order")

    async def run(self) -> None:
        """Work, then fail."""
        self.started_s.append(self.bench.now_s())
        self.gate_at_start.append(self.bench.gate.is_open)
        if len(self.started_s) > len(self.works_s):
            await asyncio.sleep(10_000)
        await asyncio.sleep(self.works_s[len(self.started_s) - 1])
        self.fail()


async def nothing(bench: Bench) -> None:
    """Watch nothing."""


def supervised(
    works_s: list[float],
    seconds: float,
    *,
    budget: int = 3,
    window_s: float = 60,
    fail: Callable[[], None] | None = None,
    watch: Callable[[Bench], Coroutine[None, None, None]] = nothing,
    guards_quotes: bool = True,
) -> tuple[Bench, Failing, str]:
    """Let a supervisor keep a failing worker for some time; return both, and why it gave up if it did."""

    async def main(clock: VirtualClock) -> tuple[Bench, Failing, str]:
        bench = Bench(clock, budget, window_s)
        worker = Failing(bench, works_s, fail)
        keeping = asyncio.ensure_future(bench.supervisor.keep(worker, guards_quotes=guards_quotes))
        watching = asyncio.ensure_future(watch(bench))
        await asyncio.wait({keeping}, timeout=seconds)
        gave_up = ""
        if keeping.done():
            assert isinstance(keeping.exception(), WorkerGaveUp)
            gave_up = str(keeping.exception())
        for task in (keeping, watching):
            task.cancel()
        await asyncio.gather(keeping, watching, return_exceptions=True)
        return bench, worker, gave_up

    return run_virtual(main)


def test_worker_that_works_is_left_alone() -> None:
    """One start, an open gate, nothing to tell."""
    bench, worker, gave_up = supervised([], 100)
    assert (worker.started_s, bench.facts, gave_up) == ([0], [], "")
    assert bench.gate.is_open


def test_failed_worker_is_restarted_after_growing_waits() -> None:
    """A quarter of a second, then twice as long each time, 4 s at most."""
    _, worker, _ = supervised([0] * 7, 100, budget=7)
    waits_s = [after - before for before, after in pairwise(worker.started_s)]
    assert waits_s == [0.25, 0.5, 1, 2, 4, 4, 4]


def test_restart_is_told_with_its_cause() -> None:
    """One event each."""
    bench, _, _ = supervised([0, 0], 10)
    assert bench.restarts() == ["orders: ValueError: no such order"] * 2


def test_gate_is_closed_from_the_failure_to_the_restart() -> None:
    """No quote may be sent while nobody minds it."""
    seen: list[bool] = []

    async def watch(bench: Bench) -> None:
        for _ in range(5):
            await asyncio.sleep(0.1)
            seen.append(bench.gate.is_open)

    bench, worker, _ = supervised([0.12], 5, watch=watch)
    assert seen == [True, False, False, True, True]
    assert worker.gate_at_start == [True, True]
    assert bench.gate.is_open


def test_worker_that_guards_no_quotes_closes_no_gate() -> None:
    """Metrics that fail are no reason to stop quoting."""
    closed: list[bool] = []

    async def watch(bench: Bench) -> None:
        bench.gate.listen(lambda: closed.append(bench.gate.is_open))

    _, worker, _ = supervised([0, 0], 5, watch=watch, guards_quotes=False)
    assert closed == []
    assert len(worker.started_s) == 3


def test_worker_that_guards_no_quotes_is_restarted_for_ever() -> None:
    """Trading does not end for want of a metric: far over the budget, still at it every 4 s."""
    bench, worker, gave_up = supervised([0] * 1000, 400, budget=2, guards_quotes=False)
    assert gave_up == ""
    assert len(worker.started_s) > 90
    assert bench.gate.is_open


def test_supervisor_gives_up_when_the_budget_is_used_up() -> None:
    """As many restarts as the budget, then an error with the last cause; the gate stays closed."""
    bench, worker, gave_up = supervised([0] * 10, 100, budget=2)
    assert len(worker.started_s) == 3
    assert gave_up == "the orders worker failed 3 times; last: ValueError: no such order"
    assert bench.facts[-1] == EngineEvent(EngineKind.WORKER_GAVE_UP, "orders: ValueError: no such order")
    assert bench.gate.reasons == ("orders worker is being restarted",)


def test_budget_of_zero_allows_no_restart() -> None:
    """The first failure is the end."""
    _, worker, gave_up = supervised([0], 100, budget=0)
    assert worker.started_s == [0]
    assert gave_up != ""


def test_failures_outside_of_the_window_are_forgotten() -> None:
    """A worker that fails once a minute is restarted for ever, and soon."""
    _, worker, gave_up = supervised([61] * 20, 2000, budget=1, window_s=60)
    assert gave_up == ""
    assert len(worker.started_s) == 21
    assert worker.started_s[-1] == 20 * 61.25


def test_worker_that_ends_by_itself_has_failed() -> None:
    """It was to work until cancelled."""
    bench, _, _ = supervised([0], 5, fail=lambda: None)
    assert bench.restarts() == ["orders: ended without being asked to"]


def test_first_cause_in_a_group_of_failures_is_told() -> None:
    """However deep."""

    def fail() -> None:
        raise ExceptionGroup("unhandled", [ExceptionGroup("inner", [KeyError("orderId")]), ValueError("no")])

    bench, _, _ = supervised([0], 5, fail=fail)
    assert bench.restarts() == ["orders: KeyError: 'orderId'"]


def test_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """And with the wait before the restart."""
    with caplog.at_level(logging.ERROR):
        supervised([0], 5)
    assert "Traceback" in caplog.text
    assert "the orders worker failed (ValueError: no such order); restarting it in 0.25 s" in caplog.text


def test_cancelling_the_supervisor_cancels_the_worker() -> None:
    """It is not taken for a failure."""

    async def main(clock: VirtualClock) -> tuple[list[Fact], bool]:
        bench = Bench(clock)
        worker = Failing(bench, [])
        keeping = asyncio.ensure_future(bench.supervisor.keep(worker))
        await asyncio.sleep(1)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        return bench.facts, keeping.cancelled()

    assert run_virtual(main) == ([], True)
