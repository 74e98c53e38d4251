"""A cable that can be cut: a TCP relay on loopback whose connections are reset, or swallow what is sent, at will."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_ANSWERS_WITHIN_S = 10.0
_CHUNK_BYTES = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Wire:
    """One connection through the relay: the client's end, and the end at the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        self.swallows = False

    def reset(self) -> None:
        """Have both ends told that the connection is gone."""
        for end in self.ends:
            if end.transport.is_closing():
                continue
            held: socket.socket = end.get_extra_info("socket")
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()


class Proxy:
    """Relays to ``port`` on loopback from a port of its own, in a thread; ends with the context.

    A connection that has swallowed once stays dead for ever, as one whose other end has lost its power.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._wires: set[_Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallows = False
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self.port = self._do(self._open())
        return self

    def __exit__(self, *_what: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWERS_WITHIN_S)
        self._loop.close()

    def reset(self) -> int:
        """Reset every connection; return how many there were."""
        return self._do(self._reset())

    def swallow(self) -> None:
        """From now on nothing gets through either way, on any connection, and no end is told of it."""
        self._do(self._set(swallows=True))

    def heal(self) -> None:
        """New connections work again; those that have swallowed stay as dead as they are."""
        self._do(self._set(swallows=False))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWERS_WITHIN_S)

    async def _open(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self._wires:
            wire.reset()

    async def _reset(self) -> int:
        count = len(self._wires)
        for wire in self._wires:
            wire.reset()
        return count

    async def _set(self, *, swallows: bool) -> None:
        self._swallows = swallows
        for wire in self._wires:
            wire.swallows = wire.swallows or swallows

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire(writer, to_server)
        wire.swallows = self._swallows
        self._wires.add(wire)
        try:
            await asyncio.gather(_pump(wire, reader, to_server), _pump(wire, from_server, writer))
        except OSError:
            pass  # one end has reset it; so does the relay
        finally:
            self._wires.discard(wire)
            wire.reset()


async def _pump(wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what is read until its end, which is passed on, too, unless the connection swallows."""
    while chunk := await reader.read(_CHUNK_BYTES):
        if not wire.swallows:
            writer.write(chunk)
            await writer.drain()
    if not wire.swallows:
        writer.write_eof()
