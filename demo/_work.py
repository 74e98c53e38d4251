"""Work that goes on beside what is shown, and ends with it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

from demo._measure import Measure
from utils.clock import ServerClock

LOOK_EVERY_S = 0.05


class Stoppable(Protocol):
    """Whoever may want the demo to end."""

    async def wanted(self) -> None:
        """Wait until the demo shall end."""


async def unless_stopped(stop: Stoppable, work: Coroutine[Any, Any, None]) -> bool:
    """Tell whether the work was done before the demo was to end; what it raises is raised."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wanted())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


@asynccontextmanager
async def looking(measure: Measure, server_clock: ServerClock) -> AsyncIterator[None]:
    """The age of the data is looked at again and again while the context lasts."""

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            measure.look(server_clock.time_ms())

    task = asyncio.ensure_future(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def log_level(name: str, level: int) -> Iterator[None]:
    """The logger of this name, "" for the root, has this level while the context lasts."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
