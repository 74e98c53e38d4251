"""The whole daemon against the simulated exchange, in memory and in virtual time: what the scenario tests share."""

import asyncio
import csv
import errno
import json
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar
from urllib.parse import urlencode

import msgspec

from core.engine import Engine
from core.exit_code import ExitCode
from core.gateway import Gateway
from core.live_order import LiveOrder
from core.model import OrderStatus
from core.order import LiveOrders
from core.order_audit import Audit, OrderAudit
from core.order_transport import METHODS
from core.restarts import Restarts
from core.runs import run_engine
from core.settings import Settings, settings_from
from core.shutdown import StopRequest
from core.state import SharedState
from core.systemd import Notify, to_nobody
from core.wiring import Wiring
from sim.clockwork import drive
from sim.exchange import Exchange, Request
from sim.fault_rules import Script
from sim.feeds import FeedSettings, open_market
from sim.market import Market
from sim.orders import Order
from sim.transport import InMemoryHttp, InMemoryWs, Link
from sim.venue import Options
from sim.virtual_time import DEFAULT_EPOCH_MS, VirtualClock, run_virtual
from utils.background import RunBlocking
from utils.clock import Clock, ServerClock
from utils.config_loader import get_config
from utils.errors import Disconnected, ExchangeError, OutcomeUnknown
from utils.http import BinanceRest, HttpResponse, HttpTransport
from utils.machine import Machine
from utils.query import query_text
from utils.ws import DeliversReceived, WsConnection, WsTransport

if TYPE_CHECKING:  # a storm takes a fifth of a second less to begin without it
    import pytest

T = TypeVar("T")
KEY, SECRET = "paper-key", "paper-secret"

MODES = ("amend", "replace")
"""What a refresh may do: change what rests, or cancel it and place anew."""

REPLACING = {"refresh_mode": "replace"}
"""The refresh configuration of a story about cancels or placements: each refresh has six of both."""


class LossyHttp:
    """A transport that loses what it is told to lose: ``lose(method, path)`` returns "request", "reply" or "".

    A lost request never reaches the exchange, a lost reply comes from one that was executed; the caller sees the same.
    """

    def __init__(self, inner: HttpTransport, lose: Callable[[str, str], str]) -> None:
        self._inner = inner
        self.lose = lose

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply, unless it or the request is lost."""
        lost = self.lose(method, path)
        if lost != "request":
            reply = await self._inner.request(method, path, query, headers, timeout_s)
            if not lost:
                return reply
        await asyncio.sleep(timeout_s)
        raise OutcomeUnknown(f"{method} {path}: no answer")

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


class Sent(msgspec.Struct, frozen=True):
    """A request that has left the daemon; ``deliver`` brings it to the exchange and returns the reply."""

    method: str
    path: str
    query: str
    timeout_s: float
    deliver: Callable[[], Awaitable[HttpResponse]]

    def is_order(self) -> bool:
        """Tell whether this places a quote."""
        return self.method == "POST" and self.path == "/fapi/v1/order" and "timeInForce=GTX" in self.query

    def is_close(self) -> bool:
        """Tell whether this closes a position, or a part of it."""
        return self.method == "POST" and self.path == "/fapi/v1/order" and "reduceOnly=true" in self.query

    async def hang(self) -> NoReturn:
        """Never answer."""
        await asyncio.sleep(self.timeout_s)
        raise OutcomeUnknown(f"{self.method} {self.path}: no answer")


def read_only_locks(monkeypatch: "pytest.MonkeyPatch") -> None:
    """Have no lock file be opened for writing, as on a file system that is mounted read-only."""
    real = os.open

    def opened(path: str | Path, flags: int, *rest: int) -> int:
        if Path(path).name.startswith("lock-") and flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", opened)


RESTING = frozenset({OrderStatus.ACTIVE, OrderStatus.PARTIALLY_FILLED})

Tamper = Callable[[Sent], Awaitable[HttpResponse | None]]
"""What becomes of a request: another reply, an error, or None if nothing is the matter."""


class TamperedHttp:
    """A transport on which ``tamper`` decides what becomes of each request."""

    def __init__(self, inner: HttpTransport, tamper: Tamper) -> None:
        self._inner = inner
        self._tamper = tamper

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply that the request gets in the end."""
        deliver = partial(self._inner.request, method, path, query, headers, timeout_s)
        return await self._tamper(Sent(method, path, query, timeout_s, deliver)) or await deliver()

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


async def untouched(_sent: Sent) -> None:
    """Leave a request as it is."""


def json_reply(status: int, body: Any) -> HttpResponse:
    """Return a reply with this body."""
    return HttpResponse(status, {}, json.dumps(body).encode())


class Inbox(Generic[T]):
    """What has come for one reader: an `asyncio.Queue` in fewer calls, and as many turns of the loop."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        """Have it come."""
        self._items.append(item)
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def get(self) -> T:
        """Return what has come, once something has."""
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._items.popleft()


class SlowWs:
    """Streams on which each message comes late by as many seconds as ``late_s(message)``, each by itself."""

    def __init__(self, inner: WsTransport, late_s: Callable[[str], float]) -> None:
        self._inner = inner
        self._late_s = late_s

    async def connect(self, target: str) -> "SlowConnection":
        """Open a connection."""
        return SlowConnection(await self._inner.connect(target), self._late_s)

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


class SlowConnection(DeliversReceived):
    """A connection whose messages come late."""

    def __init__(self, inner: WsConnection, late_s: Callable[[str], float]) -> None:
        self._inner = inner
        self._late_s = late_s
        self._inbox: Inbox[str | bytes | Disconnected] = Inbox()
        self._taking: asyncio.Future[None] | None = None
        """From the first late message on: others may come before it."""

    async def _take(self) -> None:
        try:
            while True:
                message = await self._inner.receive()
                self._put(message, self._late_s(str(message)))
        except Disconnected as ended:
            self._inbox.put(ended)

    def _put(self, message: str | bytes, late_s: float) -> None:
        if late_s > 0:
            asyncio.get_running_loop().call_later(late_s, self._inbox.put, message)
        else:
            self._inbox.put(message)

    async def receive(self) -> str | bytes:
        """Return the next message that has come; raises Disconnected at the end."""
        while self._taking is None:
            message = await self._inner.receive()
            late_s = self._late_s(str(message))
            if late_s <= 0:
                return message
            self._put(message, late_s)
            self._taking = asyncio.ensure_future(self._take())
        brought = await self._inbox.get()
        if isinstance(brought, Disconnected):
            raise brought
        return brought

    async def send(self, text: str) -> None:
        """Send at once."""
        await self._inner.send(text)

    def send_now(self, text: str | bytes) -> None:
        """Send at once."""
        self._inner.send_now(text)

    async def close(self) -> None:
        """Close; what is still on its way is lost."""
        if self._taking is not None:
            self._taking.cancel()
        await self._inner.close()


class TamperedApi:
    """The WebSocket API with requests and replies lost and tampered with as ``LossyHttp`` and ``TamperedHttp`` do it.

    A request that would fail to be sent over REST is lost here: a socket that is up takes every message.
    """

    def __init__(self, inner: WsTransport, lose: Callable[[str, str], str], tamper: Tamper) -> None:
        self._inner = inner
        self._lose = lose
        self._tamper = tamper

    async def connect(self, target: str) -> WsConnection:
        """Open a connection."""
        return TamperedSocket(await self._inner.connect(target), self._lose, self._tamper)

    async def close(self) -> None:
        """Close the transport underneath."""
        await self._inner.close()


class TamperedSocket(DeliversReceived):
    """A connection to the WebSocket API; each request goes its way in a task of its own."""

    REPLY_WITHIN_S = 60.0

    def __init__(self, inner: WsConnection, lose: Callable[[str, str], str], tamper: Tamper) -> None:
        self._inner = inner
        self._lose = lose
        self._tamper = tamper
        self._inbox: Inbox[str | Disconnected] = Inbox()
        self._replies: dict[object, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Future[None]] = {asyncio.ensure_future(self._take())}

    async def _take(self) -> None:
        try:
            while True:
                reply = msgspec.json.decode(await self._inner.receive())
                waiting = self._replies.pop(reply["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except Disconnected as ended:
            self._inbox.put(ended)

    async def receive(self) -> str:
        """Return the next reply; raises Disconnected at the end."""
        message = await self._inbox.get()
        if isinstance(message, Disconnected):
            raise message
        return message

    async def send(self, text: str) -> None:
        """Let a request go its way."""
        self.send_now(text)

    def send_now(self, text: str | bytes) -> None:
        """Let a request go its way; it leaves in the next turn of the loop."""
        self._tasks.add(asyncio.ensure_future(self._carry(text)))

    async def _carry(self, text: str | bytes) -> None:
        request = msgspec.json.decode(text)
        method, path = _ENDPOINTS[request["method"]]
        limits: list[Any] = []

        async def deliver() -> HttpResponse:
            lost = self._lose(method, path)
            if lost == "request":
                raise OutcomeUnknown("lost")
            waiting = self._replies[request["id"]] = asyncio.get_running_loop().create_future()
            await self._inner.send(text if isinstance(text, str) else text.decode())
            async with asyncio.timeout(self.REPLY_WITHIN_S):
                reply = await waiting
            if lost:
                raise OutcomeUnknown("lost")
            limits.extend(reply.get("rateLimits", []))
            return HttpResponse(
                reply["status"], {}, msgspec.json.encode(reply.get("result", reply.get("error")))
            )

        sent = Sent(method, path, query_text(request["params"]), self.REPLY_WITHIN_S, deliver)
        try:
            response = await self._tamper(sent) or await deliver()
        except (ExchangeError, TimeoutError):
            return
        kind = "result" if response.status == 200 else "error"
        head = (
            f'{{"id":{json.dumps(request["id"])},"status":{response.status},"rateLimits":{json.dumps(limits)}'
        )
        self._inbox.put(f'{head},"{kind}":{response.body.decode()}}}')

    async def close(self) -> None:
        """Close; what is still on its way is lost."""
        for task in self._tasks:
            task.cancel()
        await self._inner.close()


_ENDPOINTS = {name: endpoint for endpoint, name in METHODS.items()}


class SkewedClock:
    """A clock whose wall time is wrong by ``skew_ms``."""

    def __init__(self, clock: Clock, skew_ms: int) -> None:
        self._clock = clock
        self.skew_ms = skew_ms
        self.monotonic_ns = clock.monotonic_ns
        """The right monotonic time."""

    def time_ms(self) -> int:
        """Return the wrong wall time."""
        return self._clock.time_ms() + self.skew_ms


class World:
    """One simulated exchange and the daemons that run on it, one after the other."""

    def __init__(self, exchange: Exchange, clock: VirtualClock, folder: Path, symbol: str) -> None:
        self.exchange = exchange
        self.clock = clock
        self.link = Link(exchange, clock, latency_ms=2)
        self.folder = folder
        self.symbol = symbol
        self.lose: Callable[[str, str], str] = lambda _method, _path: ""
        self.tamper: Tamper = untouched
        self.late_s: Callable[[str], float] = lambda _message: 0.0
        self.has_plain_streams = False
        """No message is ever to come late: the bare streams of the link are used, which is faster."""
        self.run_blocking: RunBlocking = asyncio.to_thread
        self.skew_ms = 0
        self.daemon_clock = SkewedClock(clock, 0)
        """The wall clock of the daemon that was started last."""
        self.has_wallet = False
        self.machine: Machine | None = None
        self.restarts: Restarts | None = None
        self.waits: list[str] = []
        """What the starts have told that they wait for, "" for each that waits no more."""
        self.notify: Notify = to_nobody
        """What tells the service manager of the next daemon."""
        self.order_transport = os.environ.get("QUANT_PMM_ORDER_TRANSPORT", "rest")
        self.state = SharedState()
        self.engine: Engine | None = None
        """The inside of the daemon that was started last, to look at, once its preflight has passed."""
        self.defaults: dict[str, Any] = {}
        """Configuration keys of every daemon that is started without them."""
        self._watch: Callable[[Engine], None] | None = None
        self._engines: list[Engine] = []
        self.stop = StopRequest()
        self.running: asyncio.Task[ExitCode] | None = None

    # --- the daemon -------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        key: str = KEY,
        secret: str = SECRET,
        watch: Callable[[Engine], None] | None = None,
        **config: Any,
    ) -> "asyncio.Task[ExitCode]":
        """Start a daemon with these keys of the configuration; return its task. ``watch`` is given its engine first."""
        settings = self.settings(**config)
        self.state, self.engine, self.stop = SharedState(), None, StopRequest()
        clock = self.daemon_clock = SkewedClock(self.clock, self.skew_ms)
        server_clock = ServerClock(clock)
        clients = [
            BinanceRest(
                self._http(),
                clock,
                api_key=key,
                api_secret=secret,
                timeout_s=settings.safety.request_timeout_s,
                server_clock=server_clock,
            )
            for _ in range(2)
        ]
        wiring = Wiring(
            state=self.state,
            rest=clients[0],
            wallet=clients[1] if self.has_wallet else None,
            streams=self._streams(),
            clock=clock,
            rng=random.Random(7),
            run_blocking=self.run_blocking,
            account="paper-test",
            is_shared=True,
            has_keys=True,
            live_confirmed=False,
            order_api=self._order_api(),
            machine=self.machine,
            restarts=self.restarts,
            notify=self.notify,
            on_wait=self.waits.append,
        )
        self._watch = watch
        self.running = asyncio.get_running_loop().create_task(
            run_engine(settings, wiring, self.stop, self._look_inside)
        )
        return self.running

    def _look_inside(self, engine: Engine) -> None:
        self.engine = engine
        self._engines.append(engine)
        if self._watch is not None:
            self._watch(engine)

    @property
    def books(self) -> LiveOrders:
        """Return the daemon's own books of its orders; empty before its preflight has passed."""
        if self.engine is None:
            return LiveOrders()
        [context] = [each for each in self.engine.contexts if each.symbol == self.symbol]
        return context.orders

    @property
    def refreshes(self) -> int:
        """Return how many refreshes of the symbol have been done."""
        return self.state.of(self.symbol).refreshes if self.engine is not None else 0

    def disagreements(self) -> list[str]:
        """Return in what the daemon's books of its orders differ from the exchange's, each client id first."""
        there = {order.client_order_id: order for order in self.ours()}
        here = {order.client_id: order for order in self.books.living()}
        units = self._units()
        return [
            f"{name} {what}"
            for name in sorted(there.keys() | here.keys())
            if (what := _disagreement(here.get(name), there.get(name), units))
        ]

    def _units(self) -> tuple[Decimal, Decimal] | None:
        """Return how many ticks and steps of the exchange's are in one of those that the daemon has read last.

        None where they are the same.
        """
        rules = self.exchange._venue.instruments[self.symbol].rules
        if self.engine is None:
            return None
        [known] = [each.rules for each in self.engine.contexts if each.symbol == self.symbol]
        if (known.tick_size, known.step_size) == (rules.tick_size, rules.step_size):
            return None
        return known.tick_size / rules.tick_size, known.step_size / rules.step_size

    def _http(self) -> HttpTransport:
        lossy = LossyHttp(InMemoryHttp(self.link), lambda method, path: self.lose(method, path))
        return TamperedHttp(lossy, lambda sent: self.tamper(sent))

    def _streams(self) -> WsTransport:
        plain = InMemoryWs(self.link)
        return plain if self.has_plain_streams else SlowWs(plain, lambda message: self.late_s(message))

    def _order_api(self) -> WsTransport:
        """Return the way to the WebSocket API, on which the same is lost and tampered with as over REST."""
        return TamperedApi(
            InMemoryWs(self.link),
            lambda method, path: self.lose(method, path),
            lambda sent: self.tamper(sent),
        )

    def settings(self, **config: Any) -> Settings:
        """Return settings made of the shipped defaults, these keys, and this world's folder."""
        given = {
            "symbol": self.symbol,
            "state_directory": str(self.folder / "state"),
            **self.defaults,
            **config,
        }
        given["execution"] = {"order_transport": self.order_transport, **config.get("execution", {})}
        logs = {"log_directory": str(self.folder / "logs"), "max_metrics_mb": 0}  # all of a week is read
        given["logging"] = {**logs, **config.get("logging", {})}
        path = self.folder / "config.yaml"
        path.write_text(json.dumps(given), encoding="utf-8")
        environment = self.folder / "empty.env"
        environment.touch()
        return settings_from(get_config(environment, path))

    async def end(self, within_s: float = 5.0) -> ExitCode:
        """Ask the daemon to stop; return its exit code, which must be there in time."""
        assert self.running is not None
        self.stop.ask("the test is over")
        async with asyncio.timeout(within_s):
            return await self.running

    async def audit(self) -> Audit:
        """Return what became of every order of ours, by the journal and by the exchange."""
        rest = BinanceRest(InMemoryHttp(self.link), self.clock, api_key=KEY, api_secret=SECRET)
        gateway = Gateway(rest, self.clock)
        state = self.folder / "state"
        return await OrderAudit(state, "paper-test", [self.symbol], gateway, self.clock.time_ms).run()

    async def vanish(self) -> None:
        """End the daemon as ``kill -9`` does: its sockets close, and nothing more is sent."""
        assert self.running is not None
        self.link.cut()
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.link.restore()

    def close_files(self) -> None:
        """Close the files of all daemons that ran here: many worlds in one process would run out of descriptors."""
        for engine in self._engines:
            engine.journal._file.close()
            if engine.metrics._file is not None:
                engine.metrics._file.close()

    async def until(self, condition: Callable[[], bool], within_s: float, what: str = "") -> float:
        """Wait until the condition holds; return the seconds it took. Fails when it takes too long."""
        started_ns = self.clock.monotonic_ns()
        while not condition():
            waited_s = (self.clock.monotonic_ns() - started_ns) / 1e9
            assert waited_s < within_s, f"{what or 'the condition'} did not come within {within_s} s"
            if self.running is not None and self.running.done():
                self.running.result()
            await asyncio.sleep(0.02)
        return (self.clock.monotonic_ns() - started_ns) / 1e9

    async def until_quoting(self, within_s: float = 10.0, orders: int = 6) -> float:
        """Wait until that many orders of ours rest; return the seconds it took."""
        return await self.until(lambda: len(self.ours()) == orders, within_s, f"{orders} orders")

    # --- the exchange -----------------------------------------------------------------------------------------

    def control(self, method: str, path: str, **params: str | int) -> Any:
        """Return what one of the exchange's own doors answers."""
        request = Request(method, path, urlencode(params), {}, "")
        response = self.exchange.handle(request, self.clock.time_ms())
        assert response.status == 200, response.body
        return json.loads(response.body)

    def strike(self, kind: str, **values: str | int | float) -> None:
        """Have a fault of this kind strike from now on, with these keys of scenario files."""
        query = urlencode({"fault": kind, **values})
        response = self.exchange.handle(Request("POST", "/sim/fault", query, {}, ""), self.clock.time_ms())
        assert response.status == 200, response.body

    def record(self, symbol: str = "") -> dict[str, Any]:
        """Return the exchange's own record of everything."""
        found: dict[str, Any] = self.control("GET", "/sim/record", symbol=symbol or self.symbol)
        return found

    def open_orders(self, symbol: str = "") -> list[Order]:
        """Return the orders that rest at the exchange, whoever placed them: a look inside, which costs nothing."""
        instrument = self.exchange._venue.instruments[symbol or self.symbol]
        return list(instrument.open.values())

    def mid_half_ticks(self, symbol: str = "") -> int:
        """Return the exchange's mid of this moment in half ticks, 0 before its first quote."""
        quote = self.exchange._venue.instruments[symbol or self.symbol].quote
        return quote.bid_ticks + quote.ask_ticks if quote is not None else 0

    @property
    def now_s(self) -> float:
        """Return the seconds since this world began."""
        return self.clock.monotonic_ns() / 1e9

    async def watch(self, seconds: float, *, orders: int = 6) -> None:
        """Let so many seconds pass; fail as soon as more than ``orders`` of ours rest."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            assert len(self.ours()) <= orders, f"{len(self.ours())} orders at {self.now_s:.2f} s"
            await asyncio.sleep(0.05)

    def forgotten(self, older_than_s: float) -> list[str]:
        """Return our orders that have rested for longer than that: nobody replaces them."""
        before_ms = self.clock.time_ms() - older_than_s * 1000
        return [order.client_order_id for order in self.ours() if order.time_ms < before_ms]

    def worst_case_quote(self) -> Decimal:
        """Return what the position would be worth if all orders of the worse side were filled now."""
        instrument = self.exchange._venue.instruments[self.symbol]
        rules, mark = instrument.rules, instrument.mark.mark
        held = rules.quantity(self.exchange._venue.account.positions[self.symbol].lots)
        bids, asks = (
            sum(
                (
                    rules.price(order.price_ticks) * rules.quantity(order.remaining_lots)
                    for order in self.ours()
                    if order.is_buy is is_buy
                ),
                Decimal(0),
            )
            for is_buy in (True, False)
        )
        return max(held * mark + bids, -held * mark + asks)

    def ours(self, symbol: str = "") -> list[Order]:
        """Return the daemon's orders that rest at the exchange."""
        return [order for order in self.open_orders(symbol) if order.client_order_id.startswith("qpmm-")]

    def count(self, what: str) -> int:
        """Return how many "orders" or "fills" the exchange has recorded."""
        ledger = self.exchange._venue.ledger
        return len(ledger.fills) if what == "fills" else sum(1 for _ in ledger.orders())

    def position(self, symbol: str = "") -> Decimal:
        """Return the position at the exchange: a look inside, as cheap after a week as on the first day."""
        venue = self.exchange._venue
        rules = venue.instruments[symbol or self.symbol].rules
        return rules.quantity(venue.account.positions[symbol or self.symbol].lots)

    async def other_client(self, method: str, path: str, **params: str | int) -> Any:
        """Return the answer to a request of another program with the same account."""
        from utils.http import Security

        rest = BinanceRest(InMemoryHttp(self.link), self.clock, api_key=KEY, api_secret=SECRET)
        return await rest.call(method, path, params, Security.SIGNED)

    # --- what the daemon wrote --------------------------------------------------------------------------------

    def metrics_files(self) -> list[Path]:
        """Return all metrics files, in the order of their days."""
        return sorted((self.folder / "logs").glob("metrics-*.csv"))

    def rows(self) -> list[dict[str, str]]:
        """Return all rows of all metrics files."""
        return list(self.each_row())

    def each_row(self) -> Iterator[dict[str, str]]:
        """Yield the rows of all metrics files, one at a time: those of a week do not fit into memory."""
        for path in self.metrics_files():
            with path.open(newline="", encoding="utf-8") as file:
                yield from csv.DictReader(file, strict=True)

    def events(self, name: str) -> list[str]:
        """Return the sub types of all rows of an event metric, in order."""
        return [row["sub_type"] for row in self.each_row() if row["metric_name"] == name]


def _disagreement(known: LiveOrder | None, true: Order | None, units: tuple[Decimal, Decimal] | None) -> str:
    """Return in what the daemon is wrong, or not sure, about an order; ``units`` are those of its prices and lots.

    What lies between two of those, the daemon has to take for the larger one, and what is executed for the smaller one.
    """
    if known is None:
        return "rests, and the daemon knows nothing of it"
    if true is None:
        return f"does not rest, but stands at {known.state}"
    if known.change is not None or known.status not in RESTING:
        return f"rests, and stands at {known.state}"
    ours = (known.price_ticks, known.lots, known.executed_lots)
    if units is None:
        theirs = (true.price_ticks, true.lots, true.executed_lots)
    else:
        tick, lot = units
        theirs = (ceil(true.price_ticks / tick), ceil(true.lots / lot), int(true.executed_lots / lot))
    return f"rests at {theirs} (price, lots, executed), and not at {ours}" if ours != theirs else ""


def in_a_world(
    folder: Path,
    story: Callable[[World], Awaitable[None]],
    *,
    symbol: str = "BTCUSDT",
    symbols: tuple[str, ...] = (),
    recording: Path | None = None,
    speed: int = 1,
    seed: int = 1,
    events_per_s: float | None = None,
    wallet: int = 5000,
    faults: Script | None = None,
    events: Path | None = None,
    epoch_ms: int = DEFAULT_EPOCH_MS,
    options: Options | None = None,
    market: Callable[[int], Market] | None = None,
) -> World:
    """Let a story happen on an exchange of its own, in virtual time; return the world as it was left.

    ``market`` makes another market than the usual ones, from the epoch time in ms at which it begins.
    """

    async def play(clock: VirtualClock) -> World:
        feed = FeedSettings(
            kind="recording" if recording is not None else "synthetic",
            symbols=symbols or (symbol,),
            recording=recording,
            speed=Fraction(speed),
            seed=seed,
            events_per_s=events_per_s,
            events=events,
        )
        exchange = Exchange(
            market(clock.time_ms()) if market is not None else open_market(feed, clock.time_ms()),
            api_key=KEY,
            api_secret=SECRET,
            now_ms=clock.time_ms(),
            wallet_quote=Decimal(wallet),
            faults=faults,
            options=options,
        )
        world = World(exchange, clock, folder, symbol)
        driving = asyncio.get_running_loop().create_task(drive(exchange, clock, max_nap_ms=1000))
        try:
            await story(world)
        finally:
            for task in (driving, world.running):
                if task is not None:
                    task.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            if world.running is not None:
                await asyncio.gather(world.running, return_exceptions=True)
            world.close_files()
        return world

    return run_virtual(play, epoch_ms=epoch_ms)
