"""WebSockets over real sockets by the library websockets: pure Python, so that it runs everywhere.

Not to be run as a script (see ``utils/http.py``).
"""

from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import broadcast

from utils.errors import Disconnected
from utils.ws import DeliversReceived, WsConnection
from utils.ws_pinned import PinnedTransport, reason_of


class SocketConnection(DeliversReceived):
    """A WebSocket over a real socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> str | bytes:
        """Return the next message; raise Disconnected when the connection has ended."""
        try:
            return await self._connection.recv(decode=False)
        except websockets.ConnectionClosed as error:
            raise Disconnected(_reason_of(error)) from error

    async def send(self, text: str) -> None:
        """Hand a text message to the connection; raise Disconnected when it has ended."""
        try:
            await self._connection.send(text)
        except websockets.ConnectionClosed as error:
            raise Disconnected(f"not sent: {_reason_of(error)}") from error

    def send_now(self, text: str | bytes) -> None:
        """Hand a text message to the connection at once; raise Disconnected when it has ended."""
        if self._connection.state is not websockets.State.OPEN:
            raise Disconnected("not sent: the connection has ended")
        broadcast([self._connection], text, text=True)  # what the library has for sending without waiting

    async def close(self) -> None:
        """End the connection, within a bounded time; at once, and without a farewell, if the caller is cancelled."""
        try:
            await self._connection.close()
        finally:
            self._connection.transport.abort()  # changes nothing where the farewell was said


def _reason_of(error: websockets.ConnectionClosed) -> str:
    """Return why a connection has ended; a farewell that only answers ours is not the other side's."""
    is_answer = error.rcvd_then_sent is False
    received = error.rcvd.code if error.rcvd is not None and not is_answer else None
    return reason_of(received, error.sent.code if error.sent is not None else None)


class _Straight(connect):
    """A connection that follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error: the answer of another place is not the answer of this one."""
        return exc


class SocketTransport(PinnedTransport):
    """WebSockets to one pinned origin, as every ``PinnedTransport``."""

    async def connect(self, target: str) -> WsConnection:
        """Return an open connection to this path and query; raise Disconnected if there is none to be had."""
        url = self.url_of(target)
        secure: dict[str, Any] = {"ssl": self._ssl} if self._ssl is not None else {}
        try:
            connection = await _Straight(
                url,
                ping_interval=self.PING_INTERVAL_S,
                ping_timeout=self.PING_INTERVAL_S,
                open_timeout=self.OPEN_TIMEOUT_S,
                close_timeout=self.CLOSE_TIMEOUT_S,
                max_size=self.MAX_MESSAGE_BYTES,
                compression=None,
                proxy=None,
                family=self._family,
                **secure,
            )
        except websockets.InvalidStatus as error:
            raise Disconnected(f"no connection (HTTP {error.response.status_code})") from error
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            raise Disconnected(f"no connection ({type(error).__name__})") from error
        return SocketConnection(connection)
