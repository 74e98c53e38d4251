"""What the exchange may change without a word is read again: at an interval, soon if asked to, until it works."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from utils.errors import ExchangeError

log = logging.getLogger(__name__)


def _at_once() -> float:
    """Nothing has to pass before."""
    return 0.0


async def read_again(
    what: str,
    check: Callable[[], Awaitable[object]],
    wanted: asyncio.Event,
    again_s: float,
    is_due: Callable[[], bool],
    spacing_s: Callable[[], float] = _at_once,
) -> None:
    """Have ``check`` done whenever it is wanted or due, until cancelled; again soon where the exchange gave no answer.

    ``wanted`` is cleared by ``check``. What is wanted waits for ``spacing_s()``; whether it is due is asked, and what
    failed is tried again, every ``again_s``.
    """
    while True:
        try:
            async with asyncio.timeout(again_s):
                await wanted.wait()
            if (wait_s := spacing_s()) > 0:
                await asyncio.sleep(wait_s)
        except TimeoutError:
            if not is_due():
                continue
        try:
            await check()
        except ExchangeError as error:
            log.warning("%s could not be read: %s", what, error)
            await asyncio.sleep(again_s)
            wanted.set()
