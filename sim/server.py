"""The simulated exchange on sockets: a thin HTTP and WebSocket shell on loopback around `sim.exchange`.

It carries bytes and knows nothing of trading. Paths, queries and bodies reach the exchange as they came,
because signatures are made over the raw text.
"""

import asyncio
import contextlib
import json
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import WSMsgType, web
from aiohttp.http import HttpProcessingError

from sim.delay import DelayLine
from sim.exchange import Exchange, RefusedHandshake, Request, Response, Tap, UnknownRoute
from sim.faults import Outcome
from sim.latency import Latencies, latencies_of
from sim.market import MarketError
from sim.plain_http import PlainServer
from utils.clock import Clock

log = logging.getLogger(__name__)

LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
PING_EVERY_S = 180.0
PONG_WITHIN_S = 600.0
# About a quarter of an hour of one busy stream; a reader that far behind is not going to catch up.
MAX_QUEUED_CHARACTERS = 8_000_000
MAX_OUTAGE_S = 3600.0
_CLOSE_WITHIN_S = 1.0
_LONGEST_WAIT_S = 3600.0
_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008

AnyRequest = web.BaseRequest
Reply = web.StreamResponse


class ServerRefused(Exception):
    """The server cannot be started like this; the text is one sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class _Wire:
    """Where the latencies of both directions come from, in ms."""

    up: float | Callable[[], float]
    down: float | Callable[[], float]

    @property
    def is_instant(self) -> bool:
        """Tell whether nothing takes any time, in either direction."""
        return self.up == 0 and self.down == 0

    async def cross_up(self) -> None:
        """The latency of a request has passed."""
        await _cross(self.up)

    async def cross_down(self) -> None:
        """The latency of a reply has passed."""
        await _cross(self.down)


class RunningServer:
    """A simulated exchange that listens at `url` until `close`."""

    def __init__(self, exchange: Exchange, clock: Clock, latency_ms: float | Latencies) -> None:
        self._exchange = exchange
        self._clock = clock
        latencies = latencies_of(latency_ms)
        self._wire = _Wire(latencies.source("up"), latencies.source("down"))
        exchange.faults.carriers.append(self)
        self._sockets: dict[_StreamSocket, None] = {}
        self._runner = web.ServerRunner(
            PlainServer(
                self._answer, self._answer_at_once, clock.time_ms, access_log=None, logger=_doorkeeper()
            ),
            shutdown_timeout=_CLOSE_WITHIN_S,
        )
        self._reservation: socket.socket | None = None
        self._site: web.SockSite | None = None
        self._outage: asyncio.Task[None] | None = None
        self._address = ("", 0)
        self.url = ""

    async def listen(self, host: str, port: int) -> None:
        """Connections are accepted at `host`, which is loopback, and at `port` (0 for any free one).

        Raises:
            ServerRefused: the host is not loopback, or the port is taken.
        """
        address = LOOPBACK.get(host)
        if address is None:
            raise ServerRefused(
                f"The simulated exchange listens on loopback only, not on {host}: use --host 127.0.0.1."
            )
        try:
            self._reservation = _bound_socket(address, port)
            port = self._reservation.getsockname()[1]
            self._address = (address, port)
            self.url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
            await self._runner.setup()
            await self._accept()
        except OSError as error:
            await self.close()
            raise ServerRefused(
                f"Port {port} on {host} cannot be used ({error.strerror}): choose another one, or --port 0."
            ) from error

    async def _accept(self) -> None:
        self._site = web.SockSite(self._runner, _bound_socket(*self._address))
        await self._site.start()

    async def close(self) -> None:
        """Every connection has been closed and the port is free again."""
        if self in self._exchange.faults.carriers:
            self._exchange.faults.carriers.remove(self)
        if self._outage is not None:
            self._outage.cancel()
        for stream in list(self._sockets):
            await stream.close()
        await self._runner.cleanup()
        if self._reservation is not None:
            self._reservation.close()

    def go_down(self, seconds: float) -> None:
        """Every connection is dropped, and new ones are refused for `seconds` from now."""
        self.start_outage(seconds)

    def start_outage(self, seconds: float) -> None:
        """Every connection is dropped, and new ones are refused for `seconds` from now."""
        if self._outage is not None:
            self._outage.cancel()
        self._outage = asyncio.get_running_loop().create_task(self._be_out(seconds), name="sim outage")

    async def _be_out(self, seconds: float) -> None:
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
        self._drop_connections()
        await asyncio.sleep(seconds)
        await self._accept()

    def _drop_connections(self) -> None:
        server = self._runner.server
        for connection in server.connections if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()

    def _answer_at_once(self, asked: Request) -> Response | None:
        """Return the reply to a plain request, if nothing on the way takes time or goes wrong."""
        exchange = self._exchange
        if not self._wire.is_instant or exchange.faults.meets_requests or asked.path.startswith("/sim/"):
            return None
        try:
            return exchange.handle(asked, self._clock.time_ms())
        except MarketError:
            return None

    async def _answer(self, request: AnyRequest) -> Reply:
        path, _, query = request.raw_path.partition("?")
        if path.startswith("/sim/"):
            if (refusal := _control_refusal(request)) is not None:
                return refusal
            if path == "/sim/outage":
                return await self._answer_outage(request, query)
        await self._wire.cross_up()
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._answer_socket(request)
        return await self._answer_rest(request, path, query)

    async def _answer_rest(self, request: AnyRequest, path: str, query: str) -> Reply:
        body = (await request.read()).decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, path, query, headers, body)
        try:
            fate = self._exchange.arriving(asked, self._clock.time_ms())
            await _pause(fate.delay_ms)
            if fate.outcome is not Outcome.PASS:
                return await _give_up(request, fate.outcome)
            response = fate.answer
            if response is None or fate.execute:
                executed = self._exchange.handle(asked, self._clock.time_ms())
                response = executed if response is None else response
            leaving = self._exchange.leaving(asked, response)
        except MarketError as error:
            return _json({"code": -1000, "msg": str(error)}, 500)
        await _pause(leaving.delay_ms)
        if leaving.outcome is not Outcome.PASS:
            return await _give_up(request, leaving.outcome)
        response = leaving.response
        await self._wire.cross_down()
        return web.Response(status=response.status, headers=response.headers, body=response.body)

    async def _answer_outage(self, request: AnyRequest, query: str) -> Reply:
        seconds = _outage_seconds(request.method, query)
        if seconds is None:
            return _json({"code": -1102, "msg": f"POST with seconds=1 to {MAX_OUTAGE_S:.0f}."}, 400)
        reply = _json({"seconds": seconds})
        await reply.prepare(request)
        await reply.write_eof()
        self.start_outage(seconds)
        return reply

    async def _answer_socket(self, request: AnyRequest) -> Reply:
        stream = _StreamSocket(request, self._clock, self._wire)
        try:
            stream.session = self._exchange.open_session(
                request.raw_path,
                stream.outgoing.put,
                self._clock.time_ms(),
                partial(stream.outgoing.put, _GOING_AWAY),
            )
        except RefusedHandshake as error:
            return _json({"code": -1000, "msg": str(error)}, error.status)
        except (UnknownRoute, MarketError) as error:
            return _json({"code": -1000, "msg": str(error)}, 404 if isinstance(error, UnknownRoute) else 500)
        self._sockets[stream] = None
        try:
            return await stream.run()
        finally:
            self._sockets.pop(stream, None)
            stream.session.closed(self._clock.time_ms())


class _StreamSocket:
    """One WebSocket: one writer sends in order what the exchange delivers; what comes in reaches the session."""

    session: Tap

    def __init__(self, request: AnyRequest, clock: Clock, wire: _Wire) -> None:
        self._request = request
        self._clock = clock
        self._socket = web.WebSocketResponse(autoping=False, compress=False, timeout=_CLOSE_WITHIN_S)
        self._outbox: deque[str | int] = deque()
        self._queued_characters = 0
        self._wake = asyncio.Event()
        self._ponged_s = asyncio.get_running_loop().time()
        self._unanswered_pings = 0
        self.outgoing: DelayLine[str | int] = DelayLine(wire.down, self._post)
        self._incoming: DelayLine[str] = DelayLine(wire.up, self._tell_session)

    async def run(self) -> Reply:
        """The handshake has been made and the socket has ended."""
        await self._socket.prepare(self._request)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(work()) for work in (self._write, self._ping)]
            try:
                await self._read()
            finally:
                self.outgoing.clear()
                self._incoming.clear()
                for helper in helpers:
                    helper.cancel()
        return self._socket

    async def close(self) -> None:
        """The client has been told that the exchange goes away; the socket is closed."""
        await self._socket.close(code=_GOING_AWAY, message=b"the simulated exchange is stopping")

    def _post(self, text: str | int) -> None:
        """`text` will be written behind all before it; a number ends the socket there, with this code."""
        self._queued_characters += len(text) if isinstance(text, str) else 0
        if self._queued_characters > MAX_QUEUED_CHARACTERS:
            self._abort("it reads too slowly")
            return
        self._outbox.append(text)
        self._wake.set()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                while self._outbox:
                    text = self._outbox.popleft()
                    if isinstance(text, int):
                        await self._socket.close(code=text)
                        return
                    await self._socket.send_str(text)
                    self._queued_characters -= len(text)
                self._wake.clear()
                await self._wake.wait()

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionError):
            while asyncio.get_running_loop().time() - self._ponged_s < PONG_WITHIN_S:
                await asyncio.sleep(PING_EVERY_S)
                self._unanswered_pings += 1
                await self._socket.ping()
            self._abort("it answered no ping")

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._incoming.put(message.data)
            elif self.session.dead:
                continue  # a half-open connection answers no ping either
            elif message.type is WSMsgType.PING:
                self._count_frame()
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._take_pong()

    def _take_pong(self) -> None:
        self._ponged_s = asyncio.get_running_loop().time()
        if self._unanswered_pings:
            self._unanswered_pings -= 1
        else:
            self._count_frame()

    def _count_frame(self) -> None:
        """A ping, or a pong that nobody has asked for, counts like a message."""
        if not self.session.pinged(self._clock.time_ms()):
            self.outgoing.put(_POLICY_VIOLATION)

    def _tell_session(self, text: str) -> None:
        if not self.session.receive(text, self._clock.time_ms()):
            self.outgoing.put(_POLICY_VIOLATION)

    def _abort(self, reason: str) -> None:
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            log.warning("dropping the WebSocket %s: %s", self._request.raw_path.partition("?")[0], reason)
            transport.abort()


async def start_server(
    exchange: Exchange,
    clock: Clock,
    host: str = "127.0.0.1",
    port: int = 0,
    latency_ms: float | Latencies = 0,
) -> RunningServer:
    """The exchange answers at the returned server's `url`; `latency_ms` is added each way.

    The server does not make time pass for the exchange: run `sim.clockwork.drive` beside it.

    Raises:
        ServerRefused: the host is not loopback, or the port is taken.
    """
    server = RunningServer(exchange, clock, latency_ms)
    await server.listen(host, port)
    return server


def _doorkeeper() -> logging.Logger:
    """Return the log of requests that are not HTTP: a sentence each, since a traceback is for faults of our own."""
    keeper = logging.getLogger(f"{__name__}.door")
    keeper.addFilter(_shorten)
    return keeper


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
        record.msg, record.args = "a request was not HTTP: %s", (" ".join(error.message.split())[:200],)
    return True


async def _pause(delay_ms: float) -> None:
    if delay_ms > 0:
        await asyncio.sleep(delay_ms / 1000)


async def _give_up(request: AnyRequest, outcome: Outcome) -> Reply:
    """The client has got no reply: its connection is reset, or it has waited for longer than anybody does."""
    if outcome is Outcome.HANG:
        await asyncio.sleep(_LONGEST_WAIT_S)
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _cross(latency_ms: float | Callable[[], float]) -> None:
    await _pause(latency_ms() if callable(latency_ms) else latency_ms)


def _bound_socket(address: str, port: int) -> socket.socket:
    """A socket bound to the port, which stays ours while one such socket is open, even if none listens."""
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _control_refusal(request: AnyRequest) -> Reply | None:
    """A refusal for a control request that a foreign page in a browser could have caused; None for any other.

    The exchange's own page may ask: its origin is the very address that it asks at.
    """
    host = request.headers.get("Host", "")
    origins = request.headers.getall("Origin", [])
    if urlsplit(f"//{host}").hostname in LOOPBACK and origins in ([], [f"http://{host}"]):
        return None
    return _json({"code": -2015, "msg": "Control requests from web pages are refused."}, 403)


def _outage_seconds(method: str, query: str) -> float | None:
    try:
        seconds = float(dict(parse_qsl(query)).get("seconds", ""))
    except ValueError:
        return None
    return seconds if method == "POST" and 0 < seconds <= MAX_OUTAGE_S else None


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(value).encode(), content_type="application/json")
