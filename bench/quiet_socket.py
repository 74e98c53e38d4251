"""Sockets for benchmarks: HTTP and WebSockets on loopback just well enough, by one thread and `epoll`.

There is no event loop between the kernel and the moment that is noted, and nothing is sent later than it is handed
over. What a client may send is what the clients of the benchmarks do send: whole requests with a length, masked frames
that are not fragmented, no compression.
"""

import base64
import hashlib
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names are in lower case, ``target`` is as it was sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Listener(Protocol):
    """Whoever is behind the sockets. ``received_ns`` is when the last byte was read, by ``time.perf_counter_ns``."""

    def on_http(self, request: HttpRequest, received_ns: int) -> HttpReply:
        """Return the reply to a request."""

    def on_open(self, connection: "Connection", target: str) -> bool:
        """Return whether a WebSocket may be opened at this path and query."""

    def on_text(self, connection: "Connection", text: str, received_ns: int) -> None:
        """Take a message of a WebSocket."""

    def on_closed(self, connection: "Connection") -> None:
        """Forget a WebSocket."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one unmasked frame, as servers send them."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Return what a client has masked."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


class Connection:
    """One connection: HTTP until it is upgraded, a WebSocket from then on."""

    def __init__(self, server: "QuietServer", plain: socket.socket, listener: Listener) -> None:
        self.sent_ns = 0
        """When the last message was handed to the kernel, by ``time.perf_counter_ns``."""
        self._server = server
        self._socket = plain
        self._listener = listener
        self._buffer = b""
        self._is_upgraded = False
        self._is_open = True

    def send_text(self, text: str) -> None:
        """Send a message at once."""
        self.send(frame(text.encode()))

    def send(self, raw: bytes) -> None:
        """Hand bytes to the kernel at once, all of them."""
        if not self._is_open:
            return
        left = memoryview(raw)
        self.sent_ns = time.perf_counter_ns()
        try:
            while left:
                try:
                    left = left[self._socket.send(left) :]
                except BlockingIOError:
                    select.select((), (self._socket,), (), 5.0)
        except OSError:
            self.close()

    def readable(self) -> None:
        """Take what has arrived."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        received_ns = time.perf_counter_ns()
        if not data:
            self.close()
            return
        self._buffer += data
        while self._is_open and (self._take_frame if self._is_upgraded else self._take_request)(received_ns):
            pass

    def close(self) -> None:
        """End the connection."""
        if self._is_open:
            self._is_open = False
            self._server.forget(self._socket)
            self._socket.close()
            if self._is_upgraded:
                self._listener.on_closed(self)

    # --- HTTP ---------------------------------------------------------------------------------------------------

    def _take_request(self, received_ns: int) -> bool:
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return False
        start, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return False
        self._buffer = rest[size:]
        if headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(target, headers["sec-websocket-key"])
        else:
            body = rest[:size].decode("utf-8", "replace")
            self._reply(self._listener.on_http(HttpRequest(method, target, headers, body), received_ns))
        return bool(self._buffer)

    def _reply(self, reply: HttpReply) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        phrase = _PHRASES.get(reply.status, "Status")
        head = f"HTTP/1.1 {reply.status} {phrase}\r\n{lines}Content-Length: {len(reply.body)}\r\n\r\n"
        self.send(head.encode() + reply.body)

    def _upgrade(self, target: str, key: str) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())  # noqa: S324 - as RFC 6455 asks
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.send(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self._is_upgraded = True
        if not self._listener.on_open(self, target):
            self.close()

    # --- WebSocket ----------------------------------------------------------------------------------------------

    def _take_frame(self, received_ns: int) -> bool:
        buffer = self._buffer
        if len(buffer) < 6:
            return False
        size, start = buffer[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(buffer[2:10], "big"), 10
        end = start + 4 + size
        if len(buffer) < end:
            return False
        payload = unmasked(buffer[start + 4 : end], buffer[start : start + 4])
        self._buffer = buffer[end:]
        self._take(buffer[0] & 15, payload, received_ns)
        return bool(self._buffer)

    def _take(self, opcode: int, payload: bytes, received_ns: int) -> None:
        if opcode in (TEXT, BINARY):
            self._listener.on_text(self, payload.decode(), received_ns)
        elif opcode == PING:
            self.send(frame(payload, PONG))
        elif opcode == CLOSE:
            self.send(frame(payload, CLOSE))
            self.close()


class QuietServer:
    """Listens on a free port of 127.0.0.1; nothing happens but within ``poll``."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._epoll = select.epoll()
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(0)
        self._connections: dict[int, Connection] = {}
        self._epoll.register(self._door, select.EPOLLIN)
        self.origin = f"http://127.0.0.1:{self._door.getsockname()[1]}"

    def poll(self, within_s: float) -> None:
        """Take what has arrived, having waited for it at most so long."""
        if within_s > 0:
            select.select((self._epoll,), (), (), within_s)  # epoll by itself sleeps for whole milliseconds
        for number, _ in self._epoll.poll(0):
            if number == self._door.fileno():
                self._accept()
            elif (connection := self._connections.get(number)) is not None:
                connection.readable()

    def _accept(self) -> None:
        plain, _ = self._door.accept()
        plain.settimeout(0)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[plain.fileno()] = Connection(self, plain, self._listener)
        self._epoll.register(plain, select.EPOLLIN)

    def forget(self, plain: socket.socket) -> None:
        """Listen to a connection no more."""
        self._epoll.unregister(plain)
        self._connections.pop(plain.fileno(), None)

    def close(self) -> None:
        """End everything."""
        for connection in list(self._connections.values()):
            connection.close()
        self._door.close()
        self._epoll.close()
