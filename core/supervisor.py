"""Workers that die are started again, a bounded number of times."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from core.events import EngineEvent, EngineKind, EventBus
from core.gate import Gate
from utils.clock import Clock

log = logging.getLogger(__name__)


class Worker(Protocol):
    """Something that works until it is cancelled; if ``run`` ends otherwise, it has failed."""

    name: str

    def run(self) -> Awaitable[None]:
        """Work until cancelled."""


class WorkerGaveUp(Exception):
    """A worker failed more often than its budget allows."""


class Supervisor:
    """Runs workers and restarts those that fail, with growing waits, up to ``budget`` times in ``window_s``.

    While a worker is down, ``gate`` is closed in its name; the worker opens what it closed itself.
    """

    FIRST_WAIT_S = 0.25
    LONGEST_WAIT_S = 4.0

    def __init__(self, budget: int, window_s: float, clock: Clock, bus: EventBus, gate: Gate) -> None:
        self._budget = budget
        self._window_ns = int(window_s * 1e9)
        self._clock = clock
        self._bus = bus
        self._gate = gate

    async def keep(self, worker: Worker, *, guards_quotes: bool = True) -> None:
        """Run a worker until cancelled; raise WorkerGaveUp when its budget is used up.

        ``guards_quotes``: no quote may rest while this worker is down. One that guards nothing has no budget either:
        trading does not end for want of a metric.
        """
        failures: deque[int] = deque()
        while True:
            self._gate.open(f"worker {worker.name}")
            reason = await self._until_failure(worker.run)
            if guards_quotes:
                self._gate.close(f"worker {worker.name}", f"{worker.name} worker is being restarted")
            now_ns = self._clock.monotonic_ns()
            failures.append(now_ns)
            while failures and now_ns - failures[0] > self._window_ns:
                failures.popleft()
            if guards_quotes and len(failures) > self._budget:
                self._bus.publish(EngineEvent(EngineKind.WORKER_GAVE_UP, f"{worker.name}: {reason}"))
                raise WorkerGaveUp(f"the {worker.name} worker failed {len(failures)} times; last: {reason}")
            await self._wait(worker.name, reason, len(failures))

    async def _until_failure(self, run: Callable[[], Awaitable[None]]) -> str:
        try:
            await run()
        except Exception as error:
            cause = _first_cause(error)
            log.error("a worker failed", exc_info=error)
            return f"{type(cause).__name__}: {cause}"
        return "ended without being asked to"

    async def _wait(self, name: str, reason: str, failures: int) -> None:
        wait_s = min(self.FIRST_WAIT_S * 2 ** min(failures - 1, 10), self.LONGEST_WAIT_S)
        log.error("the %s worker failed (%s); restarting it in %.2f s", name, reason, wait_s)
        await asyncio.sleep(wait_s)
        self._bus.publish(EngineEvent(EngineKind.WORKER_RESTARTED, f"{name}: {reason}"))


def _first_cause(error: BaseException) -> BaseException:
    """Return the first single exception in a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
