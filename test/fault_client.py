"""A client of an exchange in trouble: requests and streams in memory, on virtual time, on a quiet market."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sim.auth import sign
from sim.clockwork import drive
from sim.exchange import Exchange
from sim.fault_file import parse_script
from sim.latency import Latencies
from sim.market import BookTicker, MarketEvent, StreamMarket, Trade
from sim.rules import MAINNET
from sim.transport import InMemoryHttp, InMemoryWs, Link
from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import Disconnected
from utils.ws import WsConnection

KEY, SECRET = "paper-key", "paper-secret"
SYMBOL = "BTCUSDT"
BID = "50000.00"
BOOK = "/public/ws/btcusdt@bookTicker"
ORDER = "/fapi/v1/order"


@dataclass(frozen=True)
class Reply:
    """What came back: ``body`` is decoded, or the raw bytes where that is not possible."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def outcome(self) -> tuple[int, int]:
        """Return HTTP status and error code."""
        return self.status, self.body["code"]


class Ear:
    """A stream that somebody reads: payloads in the order of arrival, with their times, and how it ended."""

    def __init__(self, socket: WsConnection, clock: VirtualClock) -> None:
        self.socket = socket
        self.heard: list[Any] = []
        self.raw: list[str] = []
        self.times_ms: list[int] = []
        self.ended = ""
        self._clock = clock

    async def listen(self) -> None:
        """Read until the end."""
        try:
            while True:
                text = str(await self.socket.receive())
                self.raw.append(text)
                self.times_ms.append(self._clock.time_ms())
                with suppress(ValueError):
                    self.heard.append(json.loads(text))
        except Disconnected as error:
            self.ended = str(error)

    def of(self, event: str) -> list[Any]:
        """Return the payloads of one type."""
        return [each for each in self.heard if each.get("e") == event]

    def executions(self) -> list[tuple[str, str]]:
        """Return client id and execution type of the order events."""
        return [(each["o"]["c"], each["o"]["x"]) for each in self.of("ORDER_TRADE_UPDATE")]


class Client:
    """One account's client, behind a link to its exchange."""

    def __init__(self, exchange: Exchange, clock: VirtualClock, latency_ms: float | Latencies = 0) -> None:
        self.exchange = exchange
        self.clock = clock
        self.link = Link(exchange, clock, latency_ms)
        self.http = InMemoryHttp(self.link)
        self._started_ms = clock.time_ms()
        self._readers: list[asyncio.Task[None]] = []

    async def until(self, seconds: float) -> None:
        """Wait until so long after the beginning."""
        await asyncio.sleep((self._started_ms - self.clock.time_ms()) / 1000 + seconds)

    async def call(self, method: str, path: str, timeout_s: float = 3, **params: object) -> Reply:
        """Return the reply to a signed request, stamped with the present time unless it brings a stamp."""
        query = urlencode({"timestamp": self.clock.time_ms(), **params})
        return await self.send(method, path, f"{query}&signature={sign(SECRET, query)}", timeout_s)

    async def send(self, method: str, path: str, query: str = "", timeout_s: float = 3) -> Reply:
        """Return the reply to a request as it is."""
        reply = await self.http.request(method, path, query, {"X-MBX-APIKEY": KEY}, timeout_s)
        try:
            body = json.loads(reply.body)
        except ValueError:
            body = reply.body
        return Reply(reply.status, reply.headers, body)

    async def place(
        self, client_id: str, price: str = "49900", quantity: str = "0.010", **more: object
    ) -> Reply:
        """Place a post-only buy order."""
        return await self.call(
            "POST",
            ORDER,
            **{
                "symbol": SYMBOL,
                "side": "BUY",
                "type": "LIMIT",
                "timeInForce": "GTX",
                "price": price,
                "quantity": quantity,
                "newClientOrderId": client_id,
                **more,
            },
        )

    async def amend(self, client_id: str, price: str = "49901", quantity: str = "0.010") -> Reply:
        """Amend a buy order."""
        return await self.call(
            "PUT",
            ORDER,
            symbol=SYMBOL,
            side="BUY",
            origClientOrderId=client_id,
            price=price,
            quantity=quantity,
        )

    async def cancel(self, client_id: str) -> Reply:
        """Cancel an order."""
        return await self.call("DELETE", ORDER, symbol=SYMBOL, origClientOrderId=client_id)

    async def query(self, client_id: str) -> Reply:
        """Look an order up."""
        return await self.call("GET", ORDER, symbol=SYMBOL, origClientOrderId=client_id)

    async def take(self, side: str = "BUY", quantity: str = "0.010", **more: object) -> Reply:
        """Place a market order."""
        return await self.call(
            "POST", ORDER, symbol=SYMBOL, side=side, type="MARKET", quantity=quantity, **more
        )

    async def batch(self, *client_ids: str) -> Reply:
        """Place several orders at once."""
        orders = [
            {
                "symbol": SYMBOL,
                "side": "BUY",
                "type": "LIMIT",
                "timeInForce": "GTX",
                "price": "49900",
                "quantity": "0.010",
                "newClientOrderId": client_id,
            }
            for client_id in client_ids
        ]
        return await self.call(
            "POST", "/fapi/v1/batchOrders", batchOrders=json.dumps(orders, separators=(",", ":"))
        )

    async def position(self) -> Decimal:
        """Return the position."""
        rows = (await self.call("GET", "/fapi/v3/positionRisk", symbol=SYMBOL)).body
        return Decimal(rows[0]["positionAmt"]) if rows else Decimal(0)

    async def resting(self) -> list[str]:
        """Return the client ids of what rests at the exchange, by its own record."""
        record = (await self.send("GET", "/sim/record", f"symbol={SYMBOL}")).body
        return [
            row["clientOrderId"] for row in record["orders"] if row["status"] in ("NEW", "PARTIALLY_FILLED")
        ]

    async def listen(self, target: str = BOOK) -> Ear:
        """Open a stream and read it from now on."""
        ear = Ear(await InMemoryWs(self.link).connect(target), self.clock)
        self._readers.append(asyncio.ensure_future(ear.listen()))
        return ear

    async def listen_to_user(self) -> Ear:
        """Open the account's stream and read it from now on."""
        key = (await self.send("POST", "/fapi/v1/listenKey")).body["listenKey"]
        return await self.listen(f"/private/ws?listenKey={key}")

    async def close(self) -> None:
        """Stop reading."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)


def steady_market(start_ms: int) -> StreamMarket:
    """Return a market that quotes 50000.00 / 50000.10 every 100 ms, in changing sizes, and trades once a second."""

    def events() -> Iterator[MarketEvent]:
        for number in range(1, 36_000):
            now_ms, lots = start_ms + number * 100 - 100, 10_000 + number % 2
            yield BookTicker(now_ms, SYMBOL, number, 500_000, lots, 500_001, lots)
            if number % 10 == 0:
                yield Trade(now_ms, SYMBOL, number, 500_001, 5, number, number, False)

    return StreamMarket({SYMBOL: MAINNET[SYMBOL]}, events())


def with_faults(
    scenario: str, story: Callable[[Client], Awaitable[Any]], latency_ms: float | Latencies = 0
) -> Any:
    """Let a story happen to a client of an exchange with these faults (the list below ``faults:``, or all YAML)."""
    text = scenario if scenario.startswith(("seed", "faults")) else f"faults:\n{scenario}"

    async def play(clock: VirtualClock) -> Any:
        exchange = Exchange(
            steady_market(clock.time_ms()),
            api_key=KEY,
            api_secret=SECRET,
            now_ms=clock.time_ms(),
            faults=parse_script(text),
        )
        client = Client(exchange, clock, latency_ms)
        driving = asyncio.ensure_future(drive(exchange, clock))
        try:
            async with asyncio.timeout(3600):
                return await story(client)
        finally:
            await client.close()
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    return run_virtual(play)
