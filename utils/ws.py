"""Streams: what a connection is, and a stream that comes back by itself. Real ones are made in ``utils/ws_sockets.py``.

Not to be run as a script (see ``utils/http.py``).

Source: binance-futures websocket market streams (connection rules), user data streams.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol

from utils.clock import Clock
from utils.errors import Disconnected, ExchangeError

log = logging.getLogger(__name__)


class WsConnection(Protocol):
    """One open WebSocket."""

    async def receive(self) -> str | bytes:
        """Return the next message; raise Disconnected when the connection has ended."""

    async def deliver(self, on_message: Callable[[str | bytes], None]) -> NoReturn:
        """Hand each message to ``on_message`` as it comes, those that wait already first, until there are no more.

        A connection may call it from where it reads its socket, with nothing scheduled in between. Raises Disconnected
        with the reason when the connection has ended; what ``on_message`` raises ends the delivery, and is raised here.
        Not to be used at the same time as ``receive``.
        """

    def redirect(self, on_message: Callable[[str | bytes], None]) -> None:
        """Have what ``deliver`` delivers handed to another function from the next message on."""

    async def send(self, text: str) -> None:
        """Hand a text message to the connection; raise Disconnected when it has ended."""

    def send_now(self, text: str | bytes) -> None:
        """Hand a text message to the connection before anything else happens, however much it holds already.

        Raises Disconnected when it has ended before: then nothing of the message has left.
        """

    async def close(self) -> None:
        """End the connection, within a bounded time."""


class WsTransport(Protocol):
    """Opens WebSockets to one fixed origin. Behind it are sockets, or the simulated exchange in memory."""

    async def connect(self, target: str) -> WsConnection:
        """Return an open connection to this path and query; raise Disconnected if there is none to be had."""

    async def close(self) -> None:
        """Release what the transport holds; connections are closed by those who opened them."""


class DeliversReceived:
    """A connection that delivers by receiving one message after the other."""

    _on_message: Callable[[str | bytes], None]

    async def receive(self) -> str | bytes:
        """Return the next message."""
        raise NotImplementedError

    async def deliver(self, on_message: Callable[[str | bytes], None]) -> NoReturn:
        """Hand on each message that is received; raise what receiving, or the function, raises in the end."""
        self._on_message = on_message
        while True:
            message = await self.receive()
            self._on_message(message)

    def redirect(self, on_message: Callable[[str | bytes], None]) -> None:
        """Have another function called from the next message on."""
        self._on_message = on_message


class Backoff:
    """Waiting times between attempts: doubling up to a cap, each drawn between half and the whole of it."""

    def __init__(self, rng: random.Random, *, first_s: float = 0.25, cap_s: float = 4.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._cap_s = cap_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next waiting time in s."""
        ceiling = self._next_s
        self._next_s = min(ceiling * 2, self._cap_s)
        return ceiling * (0.5 + 0.5 * self._rng.random())

    def reset(self) -> None:
        """Start again at the shortest wait."""
        self._next_s = self._first_s


ROTATE_AFTER_S = (21 * 3600.0, 23 * 3600.0)
"""The exchange cuts a connection after 24 h; each is replaced at a moment of its own before that."""


def rotation_age_s(rng: random.Random) -> float:
    """Return after how long a connection is to be replaced, drawn so that several are not replaced at once."""
    return rng.uniform(*ROTATE_AFTER_S)


def _nothing() -> None:
    """Nobody wants to know."""


class Stream:
    """A subscription that is reconnected for ever, with jittered backoff, and says when it is up and when it is down.

    ``target`` is asked before each attempt for the path and query (the user stream makes a listen key there).
    ``on_message`` gets each payload and must not block. ``on_up`` is called once a connection is open, ``on_down`` with
    the reason when it has ended, except by cancelling ``run``. Every connection is a fresh one.

    After ``max_age_s`` a connection is replaced, before the exchange's own 24 h cut. With ``overlaps``, both are open
    until the new one has brought a payload: nothing is missed, some payloads come twice, and the stream is up all the
    time; ``on_rotated`` is called when it is done, and the old one is closed. A new one that says nothing while the old
    one speaks is not taken.
    """

    HEALTHY_AFTER_S = 10.0
    OVERLAP_S = 60.0
    GRACE_S = 2.0
    ROTATE_AGAIN_S = 300.0

    def __init__(
        self,
        name: str,
        transport: WsTransport,
        clock: Clock,
        backoff: Backoff,
        *,
        target: Callable[[], Awaitable[str]],
        on_message: Callable[[str | bytes], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        on_rotated: Callable[[], None] = _nothing,
        max_age_s: float = ROTATE_AFTER_S[1],
        overlaps: bool = True,
    ) -> None:
        self.name = name
        self.is_up = False
        self.connects = 0
        self._transport = transport
        self._clock = clock
        self._backoff = backoff
        self._target = target
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down
        self._on_rotated = on_rotated
        self._max_age_s = max_age_s
        self._overlaps = overlaps
        self._connection: WsConnection | None = None
        self._dropped: asyncio.Event = asyncio.Event()
        self._drop_reason = ""

    def drop(self, reason: str) -> None:
        """Give up the present connection; ``run`` opens a new one."""
        self._drop_reason = reason
        self._dropped.set()

    async def send(self, text: str) -> None:
        """Hand a text message to the present connection; raise Disconnected when there is none, or it has ended."""
        if self._connection is None:
            raise Disconnected("there is no connection")
        await self._connection.send(text)

    def send_now(self, text: str | bytes) -> None:
        """Hand a text message to the present connection at once; raise Disconnected as ``send`` does."""
        if self._connection is None:
            raise Disconnected("there is no connection")
        self._connection.send_now(text)

    async def run(self) -> None:
        """Keep the stream connected until cancelled."""
        while True:
            opened_ns = self._clock.monotonic_ns()
            reason = await self._one_connection()
            if (self._clock.monotonic_ns() - opened_ns) / 1e9 >= self.HEALTHY_AFTER_S:
                self._backoff.reset()
            wait_s = self._backoff.next_s()
            log.warning("%s stream ended: %s; reconnecting in %.1f s", self.name, reason, wait_s)
            await asyncio.sleep(wait_s)

    async def _one_connection(self) -> str:
        """Open a connection, deliver what it and its successors bring, and return why the last of them ended."""
        try:
            connection = await self._open()
        except ExchangeError as error:
            return str(error)
        self._dropped.clear()
        self.connects += 1
        self.is_up, self._connection = True, connection
        reason = "its reader failed"
        try:
            self._on_up()
            reason = await self._until_ended(connection)
        except asyncio.CancelledError:
            self.is_up = False  # whoever cancels knows that the stream is down
            raise
        finally:
            if self._connection is not None:
                connection = self._connection  # it may have been replaced meanwhile
            self._connection = None
            if self.is_up:
                self.is_up = False
                self._on_down(reason)
            await connection.close()
        return reason

    async def _until_ended(self, connection: WsConnection) -> str:
        reading = asyncio.ensure_future(self._read(connection))
        dropping = asyncio.ensure_future(self._dropped.wait())
        tasks: list[asyncio.Future[Any]] = [reading, dropping]
        age_s = self._max_age_s
        try:
            while True:
                await asyncio.wait({reading, dropping}, timeout=age_s, return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    return reading.result()
                if dropping.done():
                    return self._drop_reason
                if not self._overlaps:
                    return "connection is old, making a new one"
                successor = await self._successor(tasks)
                age_s = self._max_age_s if successor is not None else self.ROTATE_AGAIN_S
                if successor is not None:
                    old, reading = reading, asyncio.ensure_future(self._read_on(*successor))
                    tasks.append(reading)
                    await self._hand_over(successor[1], old)
                    tasks.remove(old)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _successor(
        self, watched: "list[asyncio.Future[Any]]"
    ) -> "tuple[asyncio.Future[str | bytes], WsConnection] | None":
        """Return a connection that may replace the present one, with its first message; None if none is to be had.

        It has to speak, unless the present one is silent, too. If that one ends meanwhile (one of ``watched`` is done),
        there is a gap, and everything begins anew.
        """
        connection = await self._opened_beside(watched)
        if connection is None:
            return None
        first = asyncio.ensure_future(connection.receive())
        present, deliver, heard = self._connection, self._on_message, False
        assert present is not None  # noqa: S101 - for the type checker; it is read all the while

        def note(message: str | bytes) -> None:
            nonlocal heard
            heard = True
            deliver(message)

        self._on_message = note
        present.redirect(note)
        is_fit = False
        try:
            await asyncio.wait({first, *watched}, timeout=self.OVERLAP_S, return_when=asyncio.FIRST_COMPLETED)
            is_silent = not heard and not first.done()
            speaks = first.done() and first.exception() is None
            is_fit = (speaks or is_silent) and not any(task.done() for task in watched)
        finally:
            self._on_message = deliver
            present.redirect(deliver)
            if not is_fit:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                await connection.close()
        if is_fit:
            return first, connection
        log.warning("%s stream: the new connection brought nothing; keeping the old one", self.name)
        return None

    async def _opened_beside(self, watched: "list[asyncio.Future[Any]]") -> WsConnection | None:
        """Return another connection; None if there is none to be had before one of ``watched`` is done."""
        opening = asyncio.ensure_future(self._open())
        connection = None
        try:
            await asyncio.wait({opening, *watched}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                connection = opening.result()
        except ExchangeError as error:
            log.warning("%s stream: no new connection yet: %s", self.name, error)
        finally:
            if connection is None:
                opening.cancel()
                [made] = await asyncio.gather(opening, return_exceptions=True)
                if not isinstance(made, BaseException):  # just when this was cancelled
                    await made.close()
        return connection

    async def _open(self) -> WsConnection:
        return await self._transport.connect(await self._target())

    async def _hand_over(self, connection: WsConnection, old_reading: "asyncio.Future[str]") -> None:
        """Go on with a new connection; the old one is read a little longer, for what was on its way on it."""
        old, self._connection = self._connection, connection
        self.connects += 1
        try:
            await asyncio.wait({old_reading}, timeout=self.GRACE_S)
            old_reading.cancel()
            await asyncio.gather(old_reading, return_exceptions=True)
            self._on_rotated()  # not before: until now the old one may have spoken for the new one
        finally:
            old_reading.cancel()
            await asyncio.gather(old_reading, return_exceptions=True)
            if old is not None:
                await old.close()

    async def _read_on(self, first: "asyncio.Future[str | bytes]", connection: WsConnection) -> str:
        """Read a connection of which the first message is being waited for already."""
        try:
            self._on_message(await first)
        except Disconnected as error:
            return str(error)
        return await self._read(connection)

    async def _read(self, connection: WsConnection) -> str:
        try:
            await connection.deliver(self._on_message)
        except Disconnected as error:
            return str(error)
