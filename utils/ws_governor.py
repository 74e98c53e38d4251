"""All connections that a process opens, held to one rate: the exchange counts attempts by address.

Not to be run as a script (see ``utils/http.py``). Source: binance-futures websocket connection rules (300 attempts in
5 min for each address).
"""

import asyncio

from utils.clock import Clock
from utils.ws import WsConnection, WsTransport


class ConnectionGovernor:
    """Says how long an attempt has to wait so that no 5 min see more than ``BURST + 300 * RATE_PER_S`` of them.

    That is less than what the exchange allows: other programs may share the address. Attempts have no other limit, and
    an outage of a minute meets none.
    """

    BURST = 100
    RATE_PER_S = 0.5

    def __init__(self) -> None:
        self._free = float(self.BURST)
        self._seen_ns = 0

    def wait_s(self, now_ns: int) -> float:
        """Note an attempt; return after how many s it may be made. They are made in the order of asking."""
        elapsed_s = max(now_ns - self._seen_ns, 0) / 1e9 if self._seen_ns else 0.0
        self._seen_ns = now_ns
        self._free = min(self._free + elapsed_s * self.RATE_PER_S, float(self.BURST)) - 1.0
        return max(-self._free / self.RATE_PER_S, 0.0)


class GovernedTransport:
    """A transport whose attempts to connect wait for a governor, which several transports may share."""

    def __init__(self, inner: WsTransport, governor: ConnectionGovernor, clock: Clock) -> None:
        self._inner = inner
        self._governor = governor
        self._clock = clock

    async def connect(self, target: str) -> WsConnection:
        """Return an open connection, once it may be tried; raise Disconnected if there is none to be had."""
        wait_s = self._governor.wait_s(self._clock.monotonic_ns())
        if wait_s:
            await asyncio.sleep(wait_s)
        return await self._inner.connect(target)

    async def close(self) -> None:
        """Release what the transport underneath holds."""
        await self._inner.close()
