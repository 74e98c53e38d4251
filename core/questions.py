"""Questions to the exchange for whose answers nobody waits: the position has to be checked meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from utils.errors import ExchangeError

log = logging.getLogger(__name__)


class Questions:
    """At most one of each kind and symbol is under way; an answer is kept until it is taken."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], asyncio.Task[object]] = {}

    def ask(self, what: str, symbol: str, question: Callable[[], Awaitable[object]]) -> None:
        """Have this asked, unless it is under way."""

        async def answer() -> object:
            try:
                return await question()
            except ExchangeError as error:
                log.warning("%s: %s could not be compared: %s", symbol, what, error)
                return None

        if (what, symbol) not in self._asked:
            self._asked[what, symbol] = asyncio.ensure_future(answer())

    def answer(self, what: str, symbol: str) -> Any:
        """Return the answer to what was asked, once; None if there is none, or not yet."""
        asked = self._asked.get((what, symbol))
        if asked is None or not asked.done():
            return None
        return self._asked.pop((what, symbol)).result()

    def forget(self, symbol: str) -> None:
        """Take no answers any more to what was asked."""
        for key in [key for key in self._asked if key[1] == symbol]:
            self._asked.pop(key).cancel()
