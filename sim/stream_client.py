"""Public market streams of an exchange that speaks Binance's protocol: sockets that come back by themselves.

No key is needed or sent. The only host outside this machine is pinned here.

Source: websocket market streams (routes, connection rules: 24 h, pings).
"""

import asyncio
import ipaddress
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from utils.clock import Clock

log = logging.getLogger(__name__)

MAINNET_STREAMS = "wss://fstream.binance.com"

CONNECT_WITHIN_S = 5.0
PING_EVERY_S = 10.0
# A socket that is up and brings nothing for so long is given up; busy symbols have several messages a second.
SILENT_AFTER_S = 60.0
# Before the exchange's own cut at 24 h.
MAX_AGE_S = 23 * 3600.0
HEALTHY_AFTER_S = 10.0
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 30.0
_MAX_MESSAGE_BYTES = 4 * 2**20

Message = dict[str, Any]


class UnknownHost(Exception):
    """The URL is neither mainnet's nor on this machine; the text is one sentence."""


def stream_origin(url: str) -> str:
    """The WebSocket origin of mainnet or of a simulated exchange at a loopback URL is returned.

    Raises:
        UnknownHost: any other URL.
    """
    if url in ("", MAINNET_STREAMS):
        return MAINNET_STREAMS
    parts = urlsplit(url)
    if parts.scheme in ("http", "ws") and _is_loopback(parts.hostname or "") and parts.path in ("", "/"):
        return f"ws://{parts.netloc}"
    raise UnknownHost(f"{url} is not on this machine: use http://127.0.0.1:PORT or {MAINNET_STREAMS}.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def quote_target(symbols: Sequence[str]) -> str:
    """The path of the symbols' quotes is returned; they have a route of their own."""
    return "/public/stream?streams=" + "/".join(f"{symbol.lower()}@bookTicker" for symbol in symbols)


def trade_target(symbols: Sequence[str]) -> str:
    """The path of the symbols' trades is returned, with mark prices, which come every second even if nobody trades."""
    streams = (f"{symbol.lower()}@{kind}" for symbol in symbols for kind in ("aggTrade", "markPrice@1s"))
    return "/market/stream?streams=" + "/".join(streams)


class Subscription:
    """One combined stream that is reconnected for ever, with jittered backoff.

    `on_message` gets each decoded message, `on_up` and `on_down` the state of the socket.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        rng: random.Random,
        *,
        on_message: Callable[[Message], None],
        on_up: Callable[[], None],
        on_down: Callable[[], None],
    ) -> None:
        self._url = url
        self._clock = clock
        self._rng = rng
        self._on_message = on_message
        self._on_up = on_up
        self._on_down = on_down

    async def run(self) -> None:
        """The socket has been kept up until cancelled."""
        wait_s = FIRST_WAIT_S
        async with aiohttp.ClientSession() as session:
            while True:
                opened_ns = self._clock.monotonic_ns()
                reason = await self._one_connection(session)
                if (self._clock.monotonic_ns() - opened_ns) / 1e9 >= HEALTHY_AFTER_S:
                    wait_s = FIRST_WAIT_S
                pause_s = wait_s * (0.5 + 0.5 * self._rng.random())
                log.warning("market stream ended: %s; again in %.1f s (%s)", reason, pause_s, self._url)
                await asyncio.sleep(pause_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _one_connection(self, session: aiohttp.ClientSession) -> str:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                socket = await session.ws_connect(
                    self._url, heartbeat=PING_EVERY_S, max_msg_size=_MAX_MESSAGE_BYTES
                )
        except TimeoutError:
            return f"no connection within {CONNECT_WITHIN_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"no connection ({type(error).__name__})"
        self._on_up()
        try:
            async with asyncio.timeout(MAX_AGE_S):
                return await self._read(socket)
        except TimeoutError:
            return "the connection is old, a new one is made"
        finally:
            self._on_down()
            await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        while True:
            try:
                message = await socket.receive(timeout=SILENT_AFTER_S)
            except TimeoutError:
                return f"nothing came for {SILENT_AFTER_S:g} s"
            if message.type is not aiohttp.WSMsgType.TEXT:
                return "closed by the other side or lost"
            try:
                decoded = json.loads(message.data)
            except ValueError:
                return "a message was no JSON"
            if isinstance(decoded, dict) and isinstance(decoded.get("data"), dict):
                self._on_message(decoded["data"])


@asynccontextmanager
async def kept_up(
    subscriptions: Sequence[Subscription], on_failure: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """The subscriptions run while the context lasts; `on_failure` is told if one ends by an error."""
    tasks = [asyncio.ensure_future(each.run()) for each in subscriptions]

    def tell(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(error)

    for task in tasks:
        task.add_done_callback(tell)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
