"""The lock on a symbol's orders: one at a time, and at once only where nobody else wants it."""

import asyncio

from core.change_lock import ChangeLock


async def test_lock_that_nobody_wants_is_had_at_once() -> None:
    """And not a second time, until it is released."""
    lock = ChangeLock()
    assert lock.take()
    assert lock.locked()
    assert not lock.take()
    lock.release()
    assert not lock.locked()
    assert lock.take()


async def test_whoever_waits_goes_before_whoever_cannot() -> None:
    """Released, it belongs to the one that waits, also before that one has had its turn."""
    lock, order = ChangeLock(), list[str]()
    assert lock.take()

    async def wait() -> None:
        async with lock:
            order.append("waited")
            assert not lock.take()

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        await asyncio.sleep(0)
        lock.release()
        assert not lock.take()
    assert order == ["waited"]
    assert lock.take()


async def test_one_that_gives_up_waiting_is_in_nobodys_way() -> None:
    """A wait that is cancelled leaves nothing behind."""
    lock = ChangeLock()
    assert lock.take()
    waiting = asyncio.ensure_future(lock.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    lock.release()
    assert lock.take()
