"""Blocking work in a thread that nobody waits for at the end: a disk that hangs must not hang the process."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

RunBlocking = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a blocking function off the event loop."""


async def in_daemon_thread(work: Callable[[], None]) -> None:
    """Run blocking work off the event loop; return when it is done, or raise what it raised.

    If this is cancelled the work goes on by itself, and ends with the process at the latest.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: Exception | None = None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the work
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name="blocking work", daemon=True).start()
    await done
