"""WebSockets over real sockets by the library picows: a message is handed on from where the socket was read.

Not to be run as a script (see ``utils/http.py``).

Source: picows core API; RFC 6455 (fragments, farewells).
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSTransport,
    ws_connect,
)

from utils.errors import Disconnected
from utils.ws import WsConnection
from utils.ws_pinned import PinnedTransport, reason_of

MOST_WAITING = 64
"""So many messages may wait for a reader before the socket is read no further."""

_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
# What the library says of its connections is said by Stream, in the words of the daemon.
_SILENT = logging.Logger("picows", logging.CRITICAL + 1)

OnMessage = Callable[[str | bytes], None]
Dial = Callable[[WSParsedURL], Awaitable[socket.socket]]


class PicowsConnection(WSListener):
    """A WebSocket over a real socket; the library calls the ``on_ws_`` methods and those about writing."""

    PONG_GRACE_S = 0.1

    def __init__(self, ping_interval_s: float, close_timeout_s: float, max_message_bytes: int) -> None:
        self._ping_interval_s = ping_interval_s
        self._close_timeout_s = close_timeout_s
        self._max_message_bytes = max_message_bytes
        self._loop = asyncio.get_running_loop()
        self._transport: WSTransport | None = None
        self._on_message: OnMessage | None = None
        self._delivery: asyncio.Future[Exception] | None = None
        self._inbox: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._is_paused = False
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._room: asyncio.Future[None] | None = None
        self._ping: asyncio.TimerHandle | None = None
        self._pings = 0
        self._awaited = b""
        self._ended: str | None = None

    # --- what the daemon asks for -----------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """Return the next message; raise Disconnected when the connection has ended and none is left."""
        while not self._inbox:
            if self._ended is not None:
                raise Disconnected(self._ended)
            self._reader = self._loop.create_future()
            await self._reader
        return self._taken()

    async def deliver(self, on_message: OnMessage) -> NoReturn:
        """Hand each message to ``on_message`` from where the socket is read; raise Disconnected at the end."""
        while self._inbox:
            on_message(self._taken())
        if self._ended is not None:
            raise Disconnected(self._ended)
        self._delivery = self._loop.create_future()
        self._on_message = on_message
        try:
            raise await self._delivery
        finally:
            self._on_message = self._delivery = None

    def redirect(self, on_message: OnMessage) -> None:
        """Have what is delivered handed to another function from the next message on."""
        if self._on_message is not None:
            self._on_message = on_message

    async def send(self, text: str) -> None:
        """Hand a text message to the connection, and wait until it has room again; raise Disconnected at its end."""
        self.send_now(text)
        while self._room is not None and self._ended is None:
            await asyncio.shield(self._room)
        if self._ended is not None:
            raise Disconnected(f"perhaps not sent: {self._ended}")

    def send_now(self, text: str | bytes) -> None:
        """Hand a text message to the connection at once; raise Disconnected when it has ended."""
        if self._ended is not None or self._transport is None:
            raise Disconnected(f"not sent: {self._ended or 'the connection is not open'}")
        if self._transport.is_close_frame_sent:  # by the library, which would swallow the message
            raise Disconnected("not sent: given up for a breach of the protocol")
        self._transport.send(_TEXT, text)

    async def close(self) -> None:
        """End the connection, within a bounded time; at once, and without a farewell, if the caller is cancelled."""
        transport = self._transport
        if transport is None:
            return
        self._end("closed by this side")
        try:
            if not transport.is_close_frame_sent:
                transport.send_close(WSCloseCode.OK)
            with suppress(TimeoutError, WSError):
                async with asyncio.timeout(self._close_timeout_s):
                    await transport.wait_disconnected()
        finally:
            transport.disconnect(graceful=False)  # changes nothing where the farewell was said

    # --- what the library tells -------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin to ping."""
        self._transport = transport
        self._ping = self._loop.call_later(self._ping_interval_s, self._send_ping)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand on a message; look closer at what is not simply one."""
        kind = frame.msg_type
        if transport.is_close_frame_sent:  # also by the library, which goes on reading what it has refused
            if kind is WSMsgType.CLOSE:
                transport.disconnect()
        elif (kind is _TEXT or kind is _BINARY) and frame.fin and not frame.rsv1 and not self._parts:
            on_message = self._on_message
            if on_message is None:
                self._keep(frame.get_payload_as_bytes())
                return
            try:
                on_message(frame.get_payload_as_bytes())
            except Exception as fault:  # noqa: BLE001  # it belongs to whoever awaits the delivery
                self._end_delivery(fault)
        elif kind is WSMsgType.PONG:
            if frame.get_payload_as_bytes() == self._awaited:
                self._awaited = b""
        elif kind is WSMsgType.CLOSE:
            self._say_farewell(transport, frame.get_payload_as_bytes())
        else:
            self._put_together(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the readers that the connection has ended."""
        said: Any = transport.close_handshake  # None if there was none, other than its type says
        self._end(
            reason_of(None, said.sent.code.value if said is not None and said.sent is not None else None)
        )

    def pause_writing(self) -> None:
        """Have those who can wait do so."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Have them go on."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # --- messages ---------------------------------------------------------------------------------------------

    def _hand_on(self, message: bytes) -> None:
        on_message = self._on_message
        if on_message is None:
            self._keep(message)
            return
        try:
            on_message(message)
        except Exception as fault:  # noqa: BLE001  # it belongs to whoever awaits the delivery
            self._end_delivery(fault)

    def _end_delivery(self, fault: Exception) -> None:
        """Deliver no more, since a message could not be handled."""
        self._on_message = None
        if self._delivery is not None and not self._delivery.done():
            self._delivery.set_result(fault)

    def _keep(self, message: bytes) -> None:
        """Keep a message for a reader; those after the end belong to nobody."""
        if self._ended is not None:
            return
        self._inbox.append(message)
        self._wake_reader()
        if len(self._inbox) >= MOST_WAITING and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.underlying_transport.pause_reading()

    def _taken(self) -> bytes:
        message = self._inbox.popleft()
        if self._is_paused and not self._inbox and self._transport is not None:
            self._is_paused = False
            if not self._transport.underlying_transport.is_closing():
                self._transport.underlying_transport.resume_reading()
        return message

    def _put_together(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a part of a message; hand on the whole with its last one."""
        is_first = frame.msg_type is not WSMsgType.CONTINUATION
        if frame.rsv1 or is_first is bool(
            self._parts
        ):  # compressed, which nobody has agreed on, or in disorder
            self._refuse(transport, WSCloseCode.PROTOCOL_ERROR)
            return
        self._part_bytes += frame.payload_size
        if self._part_bytes > self._max_message_bytes:
            self._refuse(transport, WSCloseCode.MESSAGE_TOO_BIG)
            return
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts, self._part_bytes = [], 0
            self._hand_on(whole)

    # --- the end ----------------------------------------------------------------------------------------------

    def _send_ping(self) -> None:
        """Send a ping; the one before it has to be answered by now, but for what waits to be read at this moment."""
        if self._awaited:
            self._ping = self._loop.call_later(self.PONG_GRACE_S, self._give_up_silent)
            return
        self._pings += 1
        self._awaited = str(self._pings).encode()
        if self._transport is not None:
            self._transport.send_ping(self._awaited)
        self._ping = self._loop.call_later(self._ping_interval_s, self._send_ping)

    def _give_up_silent(self) -> None:
        if not self._awaited:
            self._send_ping()
            return
        self._end(reason_of(None, WSCloseCode.INTERNAL_ERROR.value))
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _refuse(self, transport: WSTransport, code: WSCloseCode) -> None:
        """Say what was wrong, and end."""
        self._end(reason_of(None, code.value))
        transport.send_close(code)
        transport.disconnect()

    def _say_farewell(self, transport: WSTransport, payload: bytes) -> None:
        """Answer the other side's farewell, and end."""
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._end(reason_of(code, None))
        transport.send_close(WSCloseCode.OK)
        transport.disconnect()

    def _end(self, reason: str) -> None:
        """Note why it has ended, the first time, and tell those who wait."""
        if self._ended is not None:
            return
        self._ended = reason
        if self._ping is not None:
            self._ping.cancel()
        self._wake_reader()
        self.resume_writing()
        if self._delivery is not None and not self._delivery.done():
            self._delivery.set_result(Disconnected(reason))
        self._on_message = None

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)


class PicowsTransport(PinnedTransport):
    """WebSockets to one pinned origin, as every ``PinnedTransport``."""

    DIAL_TIMEOUT_S = 1.0
    """How long an address is waited for while the host has others: a dead one must not cost the whole opening."""

    async def connect(self, target: str) -> WsConnection:
        """Return an open connection to this path and query; raise Disconnected if there is none to be had."""
        url = self.url_of(target)
        connection = PicowsConnection(self.PING_INTERVAL_S, self.CLOSE_TIMEOUT_S, self.MAX_MESSAGE_BYTES)
        dialled: list[socket.socket] = []

        async def dial(place: WSParsedURL) -> socket.socket:
            dialled.append(await self._dialled(place.host, place.port))
            return dialled[0]

        opening = asyncio.ensure_future(self._opened(url, connection, dial))
        is_handed_over = False
        try:
            async with asyncio.timeout(self.OPEN_TIMEOUT_S):
                await asyncio.shield(opening)
            is_handed_over = True
        except WSInvalidStatusError as error:
            status = int(error.response.status) if error.response is not None else 0
            raise Disconnected(f"no connection (HTTP {status})") from error
        except (OSError, WSError) as error:  # a TimeoutError is an OSError
            raise Disconnected(f"no connection ({type(error).__name__})") from error
        finally:
            if not opening.done():
                await self._give_up(opening, dialled)
            if not is_handed_over:
                await connection.close()  # it may have opened just when nobody wanted it any more
        return connection

    async def _opened(self, url: str, connection: PicowsConnection, dial: Dial) -> None:
        """Open the connection; it knows its transport then."""
        transport, _ = await ws_connect(
            lambda: connection,
            url,
            ssl_context=self._ssl,
            websocket_handshake_timeout=None,  # the whole of the opening has one
            logger_name=_SILENT,
            max_frame_size=self.MAX_MESSAGE_BYTES,
            max_redirects=0,
            proxy=None,
            socket_factory=dial,
        )
        if transport.is_disconnected and transport.response is None:
            raise ConnectionResetError("closed during the handshake")

    async def _dialled(self, host: str, port: int) -> socket.socket:
        """Return a socket that is connected to the first address of the host that takes it.

        Each but the last has to answer within its share of the opening's time; the last has what is left of that.
        """
        loop = asyncio.get_running_loop()
        refusal: OSError = ConnectionRefusedError("the host has no address")
        found = await loop.getaddrinfo(host, port, family=self._family, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(found, start=1):
            dialling = socket.socket(family, kind, protocol)
            dialling.setblocking(False)  # noqa: FBT003 - the name of the method says it
            try:
                async with asyncio.timeout(self.DIAL_TIMEOUT_S if number < len(found) else None):
                    await loop.sock_connect(dialling, address)
            except OSError as error:  # a TimeoutError is an OSError
                dialling.close()
                refusal = error
            except BaseException:
                dialling.close()
                raise
            else:
                return dialling
        raise refusal

    async def _give_up(self, opening: asyncio.Future[None], dialled: list[socket.socket]) -> None:
        """Leave nothing open of an attempt: the library lets go of a socket at its end, not when it is cancelled."""
        if dialled:
            with suppress(OSError):
                dialled[0].shutdown(socket.SHUT_RDWR)
            await asyncio.wait({opening}, timeout=self.CLOSE_TIMEOUT_S)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
