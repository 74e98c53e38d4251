"""The event between the turns of a worker: in time, at once, too late, and left alone by a cancel."""

import asyncio

import pytest

from core.wake import Wake
from sim.virtual_time import VirtualClock, run_virtual


def test_worker_goes_on_when_it_is_woken_or_its_time_is_over() -> None:
    """At the very moment of either; what was set before needs no waiting, until it is cleared."""

    async def story(clock: VirtualClock) -> None:
        wake, loop = Wake(), asyncio.get_running_loop()
        assert not await wake.comes(0.5)
        assert clock.monotonic_ns() == 500_000_000
        loop.call_later(0.2, wake.set)
        assert await wake.comes(0.5)
        assert clock.monotonic_ns() == 700_000_000
        assert await wake.comes(0.5)
        assert wake.is_set()
        wake.clear()
        assert not await wake.comes(-1.0)
        assert clock.monotonic_ns() == 700_000_000

    run_virtual(story)


def test_worker_that_is_cancelled_leaves_nothing_behind() -> None:
    """Neither is the cancel taken for a wake, nor does a later wake find anybody, nor does a timer stay."""

    async def story(clock: VirtualClock) -> None:
        wake = Wake()
        worker = asyncio.ensure_future(wake.comes(5.0))
        await asyncio.sleep(0.1)
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        wake.set()
        assert await wake.comes(1.0)
        assert clock.monotonic_ns() == 100_000_000

    run_virtual(story)
