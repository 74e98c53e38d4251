"""The wire in memory: requests and streams reach the exchange without sockets, with latency and failures.

The bytes, statuses and headers are those that `sim.server` would put on a socket. On a virtual-time loop
everything here is deterministic.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from operator import call
from typing import Any, NoReturn

from sim.delay import DelayLine
from sim.exchange import Exchange, RefusedHandshake, Request, Response, Tap, UnknownRoute
from sim.faults import UNHARMED, Outcome, RequestFate
from sim.latency import Latencies, latencies_of
from utils.clock import Clock
from utils.errors import Disconnected, NotSent, OutcomeUnknown
from utils.http import HttpResponse

# A reader that lets this many messages pile up loses its connection, as it would at the real exchange.
MAX_QUEUED_MESSAGES = 20_000
# What WebSocket clients usually allow for the opening handshake.
HANDSHAKE_TIMEOUT_S = 10.0


class LinkState(Enum):
    """Whether messages pass, and whether the ends notice if not."""

    UP = "up"
    CUT = "cut"
    HALF_OPEN = "half-open"


Lane = DelayLine[Callable[[], None]]


class Link:
    """The network between clients and the exchange, `latency_ms` long each way; either way keeps the order.

    With `Latencies` that are drawn, each socket keeps its own order, as a TCP connection does, and requests may
    overtake each other. What was sent before a failure may have been executed; what was on its way back is lost.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        latency_ms: float | Latencies = 0,
        *,
        max_queued_messages: int = MAX_QUEUED_MESSAGES,
    ) -> None:
        self.exchange = exchange
        self.clock = clock
        self.max_queued_messages = max_queued_messages
        self.state = LinkState.UP
        """Up, cut or half-open; changed by the methods below."""
        latencies = latencies_of(latency_ms)
        self._shared = latencies.is_constant
        self._up_ms, self._down_ms = latencies.source("up"), latencies.source("down")
        self._lanes: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._uplink = self._new_lane(latencies.up.low_ms)
        self._downlink = self._new_lane(latencies.down.low_ms)
        exchange.faults.carriers.append(self)
        self._awaited: dict[asyncio.Future[Any], str] = {}
        self._sockets: dict[InMemoryConnection, None] = {}

    def cut(self) -> None:
        """Every connection is reset and new ones are refused until `restore`."""
        self._fail(LinkState.CUT)
        for reply, what in self._awaited.items():
            if not reply.done():
                reply.set_exception(OutcomeUnknown(f"{what}: connection reset"))
        for socket in list(self._sockets):
            socket.drop("connection reset")

    def half_open(self) -> None:
        """Nothing passes any more and nobody is told: requests run into their timeouts, sockets are silent.

        Sockets that are open now stay silent for good, as their other end is gone; after `restore` new ones
        work.
        """
        self._fail(LinkState.HALF_OPEN)
        for socket in list(self._sockets):
            socket.lose()

    def restore(self) -> None:
        """New requests and new sockets get through again."""
        self.state = LinkState.UP

    def _fail(self, state: LinkState) -> None:
        self.state = state
        for lane in list(self._lanes):
            lane.clear()

    def lanes(self) -> tuple[Lane, Lane]:
        """The ways to the exchange and back are returned that one socket, or one request, shall use."""
        if self._shared:
            return self._uplink, self._downlink
        return self._new_lane(self._up_ms), self._new_lane(self._down_ms)

    def _new_lane(self, latency_ms: float | Callable[[], float]) -> Lane:
        lane: Lane = DelayLine(latency_ms, call)
        self._lanes.add(lane)
        return lane

    def send(self, lane: Lane, action: Callable[[], None]) -> None:
        """`action` happens at the other end of the lane a latency later, unless the link fails before."""
        if self.state is LinkState.UP:
            lane.put(action)

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        """`action` happens at the exchange after so long, whatever the link does meanwhile."""
        if delay_ms > 0:
            asyncio.get_running_loop().call_later(delay_ms / 1000, action)
        else:
            action()

    def go_down(self, seconds: float) -> None:
        """The link is cut, and restored after so long."""
        self.cut()
        asyncio.get_running_loop().call_later(seconds, self.restore)

    def expect(self, what: str) -> asyncio.Future[Any]:
        """A future is returned that the other end will settle, and a cut of the link will break until `forget`."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited[reply] = what
        return reply

    def forget(self, reply: asyncio.Future[Any]) -> None:
        """Nobody waits for the future any more."""
        self._awaited.pop(reply, None)

    def attach(self, socket: "InMemoryConnection") -> None:
        """`socket` fails when the link does."""
        self._sockets[socket] = None

    def detach(self, socket: "InMemoryConnection") -> None:
        """`socket` has no more to do with the link."""
        self._sockets.pop(socket, None)


class InMemoryHttp:
    """Requests that cross a `Link`; an `HttpTransport`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """The exchange has executed the request and its reply is returned.

        Raises:
            NotSent: the link is cut.
            OutcomeUnknown: no reply within `timeout_s`, or the link was cut after sending.
        """
        what = f"{method} {path}"
        if self._link.state is LinkState.CUT:
            raise NotSent(f"{what}: connection refused")
        reply = self._link.expect(what)
        lower_case = {name.lower(): value for name, value in headers.items()}
        request = Request(method, path, query, lower_case, "")
        up, down = self._link.lanes()
        self._link.send(up, partial(self._execute, request, reply, down))
        timer = asyncio.get_running_loop().call_later(timeout_s, _settle, reply, TimeoutError())
        try:
            await asyncio.sleep(0)  # like a socket, let others run even if the reply is there already
            response: Response = await reply
        except TimeoutError as error:
            raise OutcomeUnknown(f"{what}: no reply within {timeout_s:g} s") from error
        finally:
            timer.cancel()
            self._link.forget(reply)
        return HttpResponse(response.status, dict(response.headers), response.body)

    def _execute(self, request: Request, reply: asyncio.Future[Response], down: Lane) -> None:
        try:
            fate = self._link.exchange.arriving(request, self._link.clock.time_ms())
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the reply
            _settle(reply, error)
            return
        if fate is UNHARMED:
            self._serve(request, fate, reply, down)
        else:
            self._link.later(fate.delay_ms, partial(self._serve, request, fate, reply, down))

    def _serve(
        self, request: Request, fate: RequestFate, reply: asyncio.Future[Response], down: Lane
    ) -> None:
        """The request meets its fate, in the end a reply on its way back, or none."""
        if fate.outcome is not Outcome.PASS:
            self._end(request, fate.outcome, reply, down)
            return
        exchange, response = self._link.exchange, fate.answer
        try:
            if response is None or fate.execute:
                executed = exchange.handle(request, self._link.clock.time_ms())
                response = executed if response is None else response
        except Exception as error:  # noqa: BLE001  # it belongs to whoever awaits the reply
            _settle(reply, error)
            return
        leaving = exchange.leaving(request, response)
        if leaving.outcome is not Outcome.PASS:
            self._end(request, leaving.outcome, reply, down)
            return
        send = partial(self._link.send, down, partial(_settle, reply, leaving.response))
        self._link.later(leaving.delay_ms, send)

    def _end(self, request: Request, outcome: Outcome, reply: asyncio.Future[Response], down: Lane) -> None:
        """The client learns what becomes of a request that gets no reply: late, or not at all."""
        what = f"{request.method} {request.path}"
        if outcome is Outcome.RESET:
            self._link.send(down, partial(_settle, reply, OutcomeUnknown(f"{what}: connection reset")))
        elif outcome is Outcome.REFUSE:
            self._link.send(down, partial(_settle, reply, NotSent(f"{what}: connection refused")))

    async def close(self) -> None:
        """Nothing is left open: requests in memory hold no connection."""


class InMemoryWs:
    """Streams that cross a `Link`; a `WsTransport`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def connect(self, target: str) -> "InMemoryConnection":
        """The socket for `target` (path and query) is open.

        Raises:
            Disconnected: the link is down, or the exchange has no such route.
        """
        if self._link.state is LinkState.CUT:
            raise Disconnected(f"{target}: connection refused")
        connection = InMemoryConnection(self._link, target)
        handshake = self._link.expect(target)
        self._link.send(connection.up, partial(connection.open_at_exchange, handshake))
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await asyncio.sleep(0)
                await handshake
        except TimeoutError as error:
            connection.drop("handshake failed")
            raise Disconnected(f"{target}: no handshake within {HANDSHAKE_TIMEOUT_S:g} s") from error
        except BaseException as error:
            connection.drop("handshake failed")
            if isinstance(error, OutcomeUnknown):
                raise Disconnected(str(error)) from error
            raise
        finally:
            self._link.forget(handshake)
        return connection

    async def close(self) -> None:
        """Nothing is left to release: each connection is closed by the one who opened it."""


class InMemoryConnection:
    """The client's end of one socket; a `WsConnection`. Messages arrive in the order in which they were sent."""

    def __init__(self, link: Link, target: str) -> None:
        self._link = link
        self._target = target
        self.up, self._down = link.lanes()
        self._inbox: deque[str] = deque()
        self._on_message: Callable[[str | bytes], None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._queued = 0
        self._session: Tap | None = None
        self._lost = False
        self._ended: str | None = None

    @property
    def closed(self) -> bool:
        """Whether either end, or the network, has ended it."""
        return self._ended is not None

    def open_at_exchange(self, handshake: asyncio.Future[None]) -> None:
        """The exchange has opened its session and its answer is on the way, unless the client has given up."""
        if self.closed:
            return
        try:
            self._session = self._link.exchange.open_session(
                self._target, self._push, self._link.clock.time_ms(), self._hang_up
            )
        except (UnknownRoute, RefusedHandshake) as error:
            status = error.status if isinstance(error, RefusedHandshake) else 404
            self._link.send(
                self._down,
                partial(_settle, handshake, Disconnected(f"{self._target}: HTTP {status} {error}")),
            )
            return
        self._link.attach(self)
        self._link.send(self._down, partial(_settle, handshake, None))

    def _push(self, text: str) -> None:
        if self._lost or self._ended is not None:
            return
        self._queued += 1
        if self._queued > self._link.max_queued_messages:
            self.drop("dropped by the exchange: messages were not read fast enough")
            return
        if self._link.state is LinkState.UP:
            self._down.put(partial(self._receive, text))

    def _receive(self, text: str) -> None:
        self._inbox.append(text)
        if self._reader is not None:
            self._wake_reader()

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def receive(self) -> str | bytes:
        """The next message is returned, also after the end as long as one is left.

        Raises:
            Disconnected: the socket has ended.
        """
        inbox = self._inbox
        while not inbox:
            if self._ended is not None:
                raise Disconnected(f"{self._target}: {self._ended}")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        self._queued -= 1
        return inbox.popleft()

    async def deliver(self, on_message: Callable[[str | bytes], None]) -> NoReturn:
        """Each message has been handed to `on_message`, also after the end as long as one is left.

        Raises:
            Disconnected: the socket has ended.
        """
        self._on_message = on_message
        while True:
            message = await self.receive()
            self._on_message(message)

    def redirect(self, on_message: Callable[[str | bytes], None]) -> None:
        """What `deliver` delivers goes to another function from the next message on."""
        self._on_message = on_message

    async def send(self, text: str) -> None:
        """`text` is on its way to the exchange.

        Raises:
            Disconnected: the socket has ended.
        """
        self.send_now(text)
        await asyncio.sleep(0)

    def send_now(self, text: str | bytes) -> None:
        """`text` is on its way to the exchange, and nothing else has happened meanwhile.

        Raises:
            Disconnected: the socket has ended.
        """
        if self._ended is not None:
            raise Disconnected(f"{self._target}: {self._ended}")
        if not self._lost:
            plain = text if isinstance(text, str) else text.decode()
            self._link.send(self.up, partial(self._tell_session, plain))

    def _tell_session(self, text: str) -> None:
        if self._session is not None and not self._session.receive(text, self._link.clock.time_ms()):
            self._hang_up()

    def _hang_up(self) -> None:
        self._close_session()
        self._link.send(self._down, partial(self._end, "closed by the exchange"))

    async def close(self) -> None:
        """The socket has ended; the exchange learns of it a latency later."""
        if self._ended is None:
            self._end("closed by the client")
            self._link.send(self.up, self._close_session)

    def drop(self, reason: str) -> None:
        """The socket has ended at both sides, at once."""
        self._end(reason)
        self._close_session()

    def lose(self) -> None:
        """The exchange's end is gone and this end does not know."""
        self._lost = True
        self._link.detach(self)
        self._close_session()

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._link.detach(self)
        self._wake_reader()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.closed(self._link.clock.time_ms())


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
