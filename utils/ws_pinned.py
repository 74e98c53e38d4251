"""What every transport over real sockets holds to, whichever library carries it.

Not to be run as a script (see ``utils/http.py``).

Source: RFC 6455 (the codes of farewells).
"""

import socket
import ssl
from urllib.parse import urlsplit

from utils.errors import Disconnected
from utils.tls import tls_context


class PinnedTransport:
    """WebSockets to one pinned origin, for example ``wss://fstream.binance.com``.

    Follows no redirect and no proxy variable; over TLS by IPv4 only (see ``AiohttpTransport``). A ping every 5 s, to
    be answered within 5 s, notices a half-open connection within 10 s; the data's age is watched elsewhere and sooner.
    """

    PING_INTERVAL_S = 5.0
    OPEN_TIMEOUT_S = 3.0
    CLOSE_TIMEOUT_S = 0.5
    MAX_MESSAGE_BYTES = 4 * 2**20

    def __init__(self, origin: str) -> None:
        self._origin = origin.rstrip("/")
        self._pinned = urlsplit(self._origin)
        is_secure = self._pinned.scheme == "wss"
        self._ssl: ssl.SSLContext | None = tls_context() if is_secure else None
        self._family = socket.AF_INET if is_secure else socket.AF_UNSPEC

    def url_of(self, target: str) -> str:
        """Return the address of this path and query; raise Disconnected if it is at another host."""
        asked = urlsplit(self._origin + target)
        if (asked.scheme, asked.netloc) != (self._pinned.scheme, self._pinned.netloc):
            raise Disconnected(f"the connection would go to another host than {self._origin}")
        return self._origin + target

    async def close(self) -> None:
        """Release nothing: each connection is closed by the one who opened it."""


_GIVEN_UP = {
    1002: "a breach of the protocol",
    1009: "a message that is too long",
    1011: "no answer to a ping",
}


def reason_of(received: int | None, sent: int | None) -> str:
    """Return why a connection has ended, by the codes of the farewells, None where there was none."""
    if received is not None:
        return f"closed by the other side or lost (farewell with code {received})"
    if sent is not None:
        return f"given up for {_GIVEN_UP.get(sent, f'code {sent}')}"
    return "closed by the other side or lost (without a farewell)"
