"""The stream aggTrade: the market's trades, told some time after they happened.

Source: facts section 6 (aggTrade every 100 ms, bookTicker at once): the book shows a trade before the tape does.
"""

from collections.abc import Callable

from sim import payloads
from sim.instrument import Instrument
from sim.market import Trade
from sim.streams import Hub


class PrintStream:
    """One symbol's aggTrade: what has been traded is told at the next multiple of its interval, all of it then.

    ``expect`` is called when something is to be told at ``due_ms``, ``rest`` when nothing is any more.
    """

    __slots__ = ("_channel", "_expect", "_hub", "_instrument", "_rest", "_waiting", "due_ms")

    def __init__(
        self,
        hub: Hub,
        instrument: Instrument,
        expect: Callable[["PrintStream"], None],
        rest: Callable[["PrintStream"], None],
    ) -> None:
        self._hub = hub
        self._channel = instrument.trade_channel
        self._instrument = instrument
        self._expect = expect
        self._rest = rest
        self._waiting: list[Trade] = []
        self.due_ms = 0

    def note(self, trade: Trade) -> None:
        """Have a trade be told in its time, if anybody listens."""
        if not self._channel.sessions:
            return
        period_ms = self._hub.options.agg_trade_ms
        if not period_ms:
            self._tell(trade, trade.time_ms)
            return
        is_first = not self._waiting
        self._waiting.append(trade)
        if is_first:
            self.due_ms = trade.time_ms - trade.time_ms % period_ms + period_ms
            self._expect(self)

    def joined(self) -> None:
        """A new listener hears what is told from now on."""

    def left(self) -> None:
        """Forget what nobody will hear."""
        if not self._channel.sessions and self._waiting:
            self._waiting.clear()
            self._rest(self)

    def beat(self, now_ms: int) -> None:
        """Tell what has been traded."""
        trades, self._waiting = self._waiting, []
        self._rest(self)
        for trade in trades:
            self._tell(trade, now_ms)

    def _tell(self, trade: Trade, now_ms: int) -> None:
        self._hub.publish(self._channel, payloads.trade_event(trade, self._instrument.rules, now_ms), now_ms)
