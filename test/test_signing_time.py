"""From when on the exchange executes a lost request no more: that counts from its signature, however long it waited."""

import asyncio
from decimal import Decimal
from urllib.parse import parse_qsl

import pytest

from core.client_ids import ClientIds
from core.events import EventBus
from core.execution import ExecutionEngine
from core.gateway import Gateway
from core.live_order import LiveOrder
from core.model import BookTop, OrderStatus, Quote, Side
from core.state import SymbolState
from sim.transport import InMemoryHttp, Link
from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import OutcomeUnknown
from utils.http import BinanceRest, HttpResponse

from .daemon import Sent, SkewedClock, TamperedHttp, json_reply
from .examples import context
from .sim_factory import KEY, SECRET, START_MS, Rig

QUOTES = [Quote(Side.BUY, level, 499_950 - level, 4) for level in (1, 2)]
BUSY = json_reply(503, {"code": -1008, "msg": "Server is currently overloaded"})


class Bench:
    """What sends orders, on a line that loses what changes something once ``loses`` is set."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = SkewedClock(clock, 0)
        rest = BinanceRest(
            TamperedHttp(InMemoryHttp(Link(Rig().exchange, clock, latency_ms=5)), self._tamper),
            *(self.clock,),
            api_key=KEY,
            api_secret=SECRET,
        )
        self.gateway = Gateway(rest, self.clock)
        self.execution = ExecutionEngine(
            *(self.gateway, self.clock, EventBus(self.clock), ClientIds("mm1", START_MS)),
            recv_window_ms=5000,
            max_book_age_ms=10**9,
        )
        self.book = BookTop(500_000, 100, 500_001, 100, 1, START_MS, clock.monotonic_ns())
        self.context = context(
            state=SymbolState(symbol="BTCUSDT", mark_price=Decimal(50_000), book=self.book)
        )
        self.orders: list[LiveOrder] = []
        self.loses = False
        self.is_busy = False
        self.signed_ms = 0

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if sent.path == "/fapi/v1/time":
            await asyncio.sleep(0.15)
            reply = await sent.deliver()
            await asyncio.sleep(0.15)
            return reply
        if not self.loses or sent.method not in ("POST", "PUT"):
            return None
        if self.is_busy:
            self.is_busy = False
            return BUSY
        self.signed_ms = int(dict(parse_qsl(sent.query))["timestamp"])
        raise OutcomeUnknown("lost")

    async def wait_for(self, hindrance: str) -> None:
        """Have what is sent next be held up by this for some tenths of a second."""
        self.loses = True
        if hindrance == "clock":
            self.clock.skew_ms += 60_000
        elif hindrance == "busy":
            self.is_busy = True
        else:
            passages = [self.gateway.lanes.try_enter("GET", "/fapi/v1/time", {}) for _ in range(32)]
            for passage in passages:
                assert passage is not None
                asyncio.get_running_loop().call_later(0.3, passage.__exit__, None, None, None)

    async def send(self, what: str) -> int:
        """Have this be sent; return since when it counts as sent, in ms."""
        if what == "place":
            orders = await self.execution.place(self.context, [Quote(Side.BUY, 3, 499_900, 4)], self.book)
            assert orders[0].status is OrderStatus.IN_DOUBT
            return orders[0].sent_ns // 1_000_000
        if what == "close":
            order = self.execution.begin_close(self.context, Side.SELL, 4, 499_000)
            with pytest.raises(OutcomeUnknown):
                await self.execution.close(self.context, order)
            return order.sent_ns // 1_000_000
        number = 1 if what == "amend" else 2
        changes = [
            (order, Quote(Side.BUY, order.level, order.price_ticks - 10, 4), "test")
            for order in self.orders[:number]
        ]
        await self.execution.amend(self.context, changes, self.book)
        assert all(order.amend_in_doubt for order, *_ in changes)
        return min(order.amend_sent_ns for order, *_ in changes) // 1_000_000


@pytest.mark.parametrize(
    ("what", "hindrance"),
    [
        *((what, hindrance) for what in ("place", "amend", "amend two") for hindrance in ("limits", "clock")),
        *(("close", hindrance) for hindrance in ("limits", "clock", "busy")),
    ],
)
def test_request_that_waited_before_it_was_signed_counts_as_sent_from_its_signature(
    what: str, hindrance: str
) -> None:
    """The exchange may execute it for a receive window after that: that it is not found proves nothing before."""

    async def main(clock: VirtualClock) -> None:
        bench = Bench(clock)
        bench.orders = await bench.execution.place(bench.context, QUOTES, bench.book)
        began_ms = clock.monotonic_ns() // 1_000_000
        exchange_ahead_ms = clock.time_ms() - began_ms
        await bench.wait_for(hindrance)
        sent_ms = await bench.send(what)
        assert sent_ms > began_ms + 150
        assert abs(sent_ms + exchange_ahead_ms - bench.signed_ms) < 50

    run_virtual(main, epoch_ms=START_MS)
