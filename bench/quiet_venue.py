"""The exchange of the benchmarks: the simulated one behind quiet sockets, on a market that moves only when it is told.

Whatever a client asks for is answered by `sim.exchange`, so that a daemon with all its parts on finds a whole exchange.
What is measured is before and after that: a tick is made ready, and the moment is noted at which its bytes are handed
to the kernel; an order's moment is when its last byte was read, before anything is done about it.
"""

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from bench.quiet_socket import Connection, HttpReply, HttpRequest, QuietServer
from sim.auth import sign
from sim.exchange import Exchange, Options, Request, Tap, UnknownRoute
from sim.limits import LimitSizes
from sim.market import BookTicker, MarketEvent, Trade
from sim.rules import MAINNET
from utils.clock import SystemClock

KEY, SECRET = "paper-key", "paper-secret"
SYMBOL = "BTCUSDT"
MID_TICKS = 650_000
AWAY_TICKS = 650
"""So far from the bid is the order of a client that has no strategy: as far as the first level of the daemon's."""
QUANTITY = "0.010"
STEP_TICKS = 60
"""The mid moves by at least that, 0.9 bps, and by at most four times that."""
_STEPS = (-2, -1, 0, 1, 2)
_NO_LIMIT = 10**12
_ORDER_PATHS = ("/fapi/v1/order", "/fapi/v1/batchOrders")
_ANSWER_WITHIN_S = 1.0
_HAS_CORE = len(os.sched_getaffinity(0)) > 1
"""Whether there is a core to spin on beside that of the clients."""
_IDLE_S = 0.0002
_BUSY_IDLE_S = 0.003
_MOST_LOOKS = 100
_SPINS = 100
"""While it spins, the venue looks at the clock seldom: at every fifth of a millisecond, about."""


class StillMarket:
    """A market of like symbols, without any event but those put into it."""

    def __init__(self, symbols: Iterable[str]) -> None:
        shared = replace(MAINNET[SYMBOL], max_amendments=_NO_LIMIT)
        self.rules = {
            symbol: replace(shared, symbol=symbol, base_asset=symbol.removesuffix("USDT"))
            for symbol in symbols
        }
        self.events: deque[MarketEvent] = deque()

    def peek_ms(self) -> int | None:
        """Return the time of the next event, None if there is none."""
        return self.events[0].time_ms if self.events else None

    def take(self) -> MarketEvent:
        """Return the next event."""
        return self.events.popleft()


@dataclass(slots=True)
class Readings:
    """What a run has brought, in ns: from each tick to the first and to the last order that it caused."""

    first_ns: list[int] = field(default_factory=list)
    last_ns: list[int] = field(default_factory=list)
    unanswered: int = 0
    """Ticks without all their orders in time; of those that came in a row, the first one counts the time."""
    ticks: int = 0
    cpu_ns: int = 0


class Pairing:
    """Finds the tick that an order belongs to, where ticks do not wait for orders.

    The first order after some ticks without one counts from the oldest of them; the others of them are unanswered. So
    whoever answers the newest of several ticks is not shown as quick. Orders that go with a first one do not count.
    """

    def __init__(self, found: Readings, orders: int) -> None:
        self._found = found
        self._others = orders - 1
        self._left = 0
        self._open_ns: list[int] = []

    @property
    def waiting(self) -> int:
        """Return how many ticks have no order yet."""
        return len(self._open_ns)

    def sent(self, time_ns: int) -> None:
        """Note a tick."""
        self._open_ns.append(time_ns)

    def received(self, time_ns: int) -> None:
        """Note an order."""
        if self._left:
            self._left -= 1
        elif self._open_ns:
            self._found.first_ns.append(time_ns - self._open_ns[0])
            self._found.unanswered += len(self._open_ns) - 1
            self._open_ns.clear()
            self._left = self._others


def symbols_of(count: int) -> tuple[str, ...]:
    """Return the names of so many symbols, the usual one first."""
    return (SYMBOL, *(f"S{number:02}USDT" for number in range(1, count)))


def cpu_ns(pid: int) -> int:
    """Return the processor time that a process has used so far, all its threads together. Linux only."""
    return time.clock_gettime_ns((~pid << 3) | 2)  # the clock that clock_getcpuclockid(3) names


class QuietVenue:
    """One account at ``origin``; nothing happens but while one of its methods runs.

    ``step_ticks`` is how far the mid moves at least with a tick.
    """

    def __init__(self, symbols: int = 1, step_ticks: int = STEP_TICKS) -> None:
        self.symbols = symbols_of(symbols)
        self._step_ticks = step_ticks
        self._clock = SystemClock()
        self._market = StillMarket(self.symbols)
        now_ms = self._clock.time_ms()
        sizes = LimitSizes(
            weight_per_minute=_NO_LIMIT, orders_per_ten_seconds=_NO_LIMIT, orders_per_minute=_NO_LIMIT
        )
        self.exchange = Exchange(
            self._market,
            api_key=KEY,
            api_secret=SECRET,
            now_ms=now_ms,
            wallet_quote=Decimal(10**6),
            options=Options(limits=sizes),
        )
        self._taps: dict[Connection, Tap] = {}
        self._books: list[Connection] = []
        self._orders: list[int] = []
        self._rng = random.Random(1)
        self._steps = dict.fromkeys(self.symbols, 0)
        self._update_id = 1000
        self._second = 0
        self._server = QuietServer(self)
        self.origin = self._server.origin
        for symbol in self.symbols:
            self.tick(symbol)

    def close(self) -> None:
        """End everything."""
        self._server.close()

    # --- what is behind the sockets -------------------------------------------------------------------------------

    def on_http(self, request: HttpRequest, received_ns: int) -> HttpReply:
        """Return the exchange's reply."""
        path, _, query = request.target.partition("?")
        if path in _ORDER_PATHS and request.method != "GET":
            count = 1 if path == _ORDER_PATHS[0] else (query + request.body).count("symbol%22")
            self._orders.extend([received_ns] * count)
        asked = Request(request.method, path, query, request.headers, request.body)
        reply = self.exchange.handle(asked, self._clock.time_ms())
        return HttpReply(reply.status, reply.headers, reply.body)

    def on_open(self, connection: Connection, target: str) -> bool:
        """Have the exchange open a session."""
        hang_up = connection.close
        try:
            tap = self.exchange.open_session(target, connection.send_text, self._clock.time_ms(), hang_up)
        except UnknownRoute:
            return False
        self._taps[connection] = tap
        if "bookTicker" in target:
            self._books.append(connection)
        return True

    def on_text(self, connection: Connection, text: str, received_ns: int) -> None:
        """Hand a message to its session."""
        if '"order.' in text:
            self._orders.append(received_ns)
        elif "bookTicker" in text:
            self._books.append(connection)
        if not self._taps[connection].receive(text, self._clock.time_ms()):
            connection.close()

    def on_closed(self, connection: Connection) -> None:
        """End a session."""
        if (tap := self._taps.pop(connection, None)) is not None:
            tap.closed(self._clock.time_ms())
        if connection in self._books:
            self._books.remove(connection)

    # --- time -----------------------------------------------------------------------------------------------------

    def serve(self, until: Callable[[], bool], within_s: float, *, spins: bool = False) -> bool:
        """Answer whatever is asked until the condition holds; tell whether it does within so many seconds.

        ``spins`` asks the kernel again and again, so that no wake-up of this process is in what is measured.
        """
        end_ns = time.perf_counter_ns() + int(within_s * 1e9)
        turns = 0
        while not until():
            left_s = (end_ns - time.perf_counter_ns()) / 1e9
            if left_s <= 0:
                return False
            self._server.poll(0.0 if spins and _HAS_CORE else min(left_s, 0.001))
            turns += 1
            if not spins or turns % _SPINS == 0:
                self._let_time_pass()
        return True

    def _let_time_pass(self) -> None:
        due_ms, now_ms = self.exchange.next_due_ms(), self._clock.time_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.exchange.advance(now_ms)
        if now_ms // 1000 != self._second:  # a trade a second keeps the trades' stream alive
            self._second, number = now_ms // 1000, now_ms // 1000
            for symbol in self.symbols:
                self._happen(Trade(now_ms, symbol, number, MID_TICKS, 5, number, number, buyer_is_maker=True))

    def _happen(self, event: MarketEvent) -> None:
        self._market.events.append(event)
        self.exchange.advance(event.time_ms)

    def tick(self, symbol: str = SYMBOL) -> int:
        """Move best bid and ask; return when the bytes of the tick were handed to the kernel."""
        step = self._rng.choice([step for step in _STEPS if step != self._steps[symbol]])
        self._steps[symbol] = step
        self._update_id += 1
        bid_ticks = MID_TICKS + step * self._step_ticks
        lots = 1000 + self._update_id % 977
        self._happen(
            BookTicker(
                self._clock.time_ms(),
                symbol,
                self._update_id,
                bid_ticks,
                lots,
                bid_ticks + 2,
                2000 - lots // 2,
            )
        )
        return self._books[0].sent_ns if self._books else 0

    def stream(self, chunks: Iterable[bytes]) -> None:
        """Write ready-made frames to whoever listens to best bid and ask, as fast as they are read."""
        for chunk in chunks:
            self._books[0].send(chunk)
            self._server.poll(0.0)

    # --- what is measured -----------------------------------------------------------------------------------------

    @property
    def is_heard(self) -> bool:
        """Tell whether somebody listens to best bid and ask."""
        return bool(self._books)

    def resting(self) -> int:
        """Return how many orders rest."""
        return sum(len(self._signed("GET", "openOrders", "", symbol)) for symbol in self.symbols)

    def place(self) -> str:
        """Have an order rest for a client that only amends; return its id."""
        price = MAINNET[SYMBOL].price_text(MID_TICKS - AWAY_TICKS)
        order = self._signed(
            "POST", "order", f"&side=BUY&type=LIMIT&timeInForce=GTX&quantity={QUANTITY}&price={price}"
        )
        return str(order["orderId"])

    def _signed(self, method: str, path: str, more: str, symbol: str = SYMBOL) -> Any:
        query = f"symbol={symbol}{more}&timestamp={self._clock.time_ms()}"
        query += f"&signature={sign(SECRET, query)}"
        request = Request(method, f"/fapi/v1/{path}", query, {"x-mbx-apikey": KEY}, "")
        return json.loads(self.exchange.handle(request, self._clock.time_ms()).body)

    def closed_loop(
        self, pid: int, ticks: int, orders: int, least_s: float, *, sleeps: bool = True
    ) -> Readings:
        """Send so many ticks, each once the client has nothing left to do about the one before.

        That is when all the orders that it was to cause have been answered, and the client has used no processor time
        for a while; and not sooner than ``least_s`` after it. Of one that never ``sleeps`` the latter cannot be
        seen: it gets as much time as others need at most.
        """
        found, began_ns = Readings(ticks=ticks), cpu_ns(pid)
        for _ in range(ticks):
            self._orders.clear()
            sent_ns = self.tick()
            if not self.serve(lambda: len(self._orders) >= orders, _ANSWER_WITHIN_S, spins=True):
                found.unanswered += 1
            else:
                found.first_ns.append(self._orders[0] - sent_ns)
                found.last_ns.append(self._orders[orders - 1] - sent_ns)
            if sleeps:
                self._settle(pid)
            else:
                self.serve(lambda: False, _BUSY_IDLE_S)
            self.serve(lambda: False, least_s - (time.perf_counter_ns() - sent_ns) / 1e9)
        found.cpu_ns = cpu_ns(pid) - began_ns
        return found

    def _settle(self, pid: int) -> None:
        """Serve until the client is idle, at most so long."""
        for _ in range(_MOST_LOOKS):
            used_ns = cpu_ns(pid)
            self.serve(lambda: False, _IDLE_S)
            if cpu_ns(pid) == used_ns:
                return

    def paced(self, pid: int, ticks: int, orders: int, per_second: int) -> Readings:
        """Send so many ticks at a steady pace, whatever comes back; how orders count is said at ``Pairing``."""
        found, began_ns = Readings(ticks=ticks), cpu_ns(pid)
        pairing = Pairing(found, orders)
        self._orders.clear()
        for due_ns in _pace(ticks, per_second):
            pairing.sent(self.tick())
            while (left_ns := due_ns - time.perf_counter_ns()) > 0:
                self.serve(lambda: bool(self._orders), left_ns / 1e9, spins=pairing.waiting > 0)
                for received_ns in self._orders:
                    pairing.received(received_ns)
                self._orders.clear()
        found.unanswered += pairing.waiting
        found.cpu_ns = cpu_ns(pid) - began_ns
        return found

    def flow(self, ticks: int, per_second: int) -> int:
        """Send so many ticks at a steady pace, to the symbols in turn; return how many orders came meanwhile."""
        self._orders.clear()
        for number, due_ns in enumerate(_pace(ticks, per_second)):
            self.tick(self.symbols[number % len(self.symbols)])
            self.serve(lambda: False, (due_ns - time.perf_counter_ns()) / 1e9)
        return len(self._orders)


def _pace(ticks: int, per_second: int) -> Iterator[int]:
    """Yield for each tick when the next one is due; what was late is not made up for."""
    due_ns = time.perf_counter_ns()
    for _ in range(ticks):
        due_ns = max(due_ns + 10**9 // per_second, time.perf_counter_ns())
        yield due_ns
