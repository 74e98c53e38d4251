"""The short way of plain requests: the same bytes as the long way, and a handover wherever a request is not plain."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sim.exchange import Exchange, Request, Response
from sim.rules import MAINNET
from sim.server import start_server
from sim.synthetic import SyntheticMarket
from utils.clock import SystemClock

CLOCK = SystemClock()
HEAD = "Host: localhost\r\nX-MBX-APIKEY: key\r\n"
DATE = re.compile(rb"\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")
READS = (
    "/fapi/v1/ping",
    "/fapi/v1/nowhere",
    "/fapi/v1/depth?symbol=NONE",
    "/fapi/v1/openOrders?symbol=BTCUSDT",
)


class Counted(Exchange):
    """An exchange that knows how many requests it was asked about on their arrival, which only the long way does."""

    long_ways = 0

    def arriving(self, request: Request, now_ms: int) -> object:  # type: ignore[override]  # passed on as it is
        """Count, and go on as usual."""
        self.long_ways += 1
        return super().arriving(request, now_ms)


class Line:
    """One connection, raw."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, text: str | bytes) -> None:
        """The bytes are on their way."""
        self._writer.write(text.encode("latin-1") if isinstance(text, str) else text)
        await self._writer.drain()

    async def receive(self) -> bytes:
        """One reply, its date taken out after a look at it."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length is not None
        assert len(DATE.findall(head)) == 1
        return DATE.sub(b"\r\n", head) + await self._reader.readexactly(int(length[1]))

    async def ask(self, text: str | bytes) -> bytes:
        """The reply to a request."""
        await self.send(text)
        return await self.receive()

    async def close(self) -> None:
        """The connection has ended."""
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Counted, Line]]:
    """An exchange is served on which no time passes but by requests, and a connection to it is open."""
    now_ms = CLOCK.time_ms()
    market = SyntheticMarket(MAINNET, now_ms, seed=1)
    exchange = Counted(market, api_key="key", api_secret="secret", now_ms=now_ms)
    server = await start_server(exchange, CLOCK)
    try:
        line = Line(*await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2])))
        yield exchange, line
        await line.close()
    finally:
        await server.close()


def without_weight(reply: bytes) -> bytes:
    """The reply without the header that counts the requests before it."""
    return re.sub(rb"x-mbx-used-weight-1m: \d+\r\n", b"", reply)


@pytest.mark.parametrize("path", READS)
async def test_a_plain_request_gets_the_same_bytes_as_one_that_goes_the_long_way(path: str) -> None:
    """A header that is no ASCII is all that sends the second request the long way."""
    async with served() as (exchange, line):
        short = await line.ask(f"GET {path} HTTP/1.1\r\n{HEAD}\r\n")
        assert exchange.long_ways == 0
        long = await line.ask(f"GET {path} HTTP/1.1\r\n{HEAD}X-Word: caf\xe9\r\n\r\n")
        assert exchange.long_ways == 1
        assert without_weight(short) == without_weight(long)


async def test_a_body_is_read_on_the_short_way() -> None:
    """Parameters may come in the body, which has arrived with its head."""
    async with served() as (exchange, line):
        body = "symbol=BTCUSDT&side=BUY"
        sized = f"{HEAD}Content-Length: {len(body)}\r\n"
        reply = await line.ask(f"POST /fapi/v1/order HTTP/1.1\r\n{sized}\r\n{body}")
        assert (exchange.long_ways, reply.endswith(b'"}')) == (0, True)
        assert b"'timestamp'" in reply, "the key was accepted, the parameters were looked at"
        assert exchange._venue.ledger.refusals[-1].symbol == "BTCUSDT"


async def test_a_change_of_headers_on_a_connection_is_seen() -> None:
    """What is remembered of the headers of one request is not taken for those of the next."""
    async with served() as (exchange, line):
        ask = "GET /fapi/v1/openOrders?symbol=BTCUSDT HTTP/1.1\r\nHost: localhost\r\n"
        assert b"-1102" in await line.ask(f"{ask}X-MBX-APIKEY: key\r\n\r\n")
        assert b"-2015" in await line.ask(f"{ask}X-MBX-APIKEY: kez\r\n\r\n")
        assert b"-2014" in await line.ask(f"{ask}\r\n")
        assert exchange.long_ways == 0


@pytest.mark.parametrize(
    "more",
    [
        "Connection: close",
        "Host: localhost",
        "Transfer-Encoding: identity",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Bad Name: 1",
        "Empty:",
    ],
)
async def test_headers_with_a_meaning_are_left_to_the_long_way(more: str) -> None:
    """Whatever is said of the connection, or twice, or not as HTTP says it, is not judged by the short way."""
    async with served() as (exchange, line):
        await line.send(f"GET /fapi/v1/ping HTTP/1.1\r\n{HEAD}{more}\r\n\r\n")
        await line.receive()
        assert exchange._venue.ledger.requests["GET /fapi/v1/ping"] == exchange.long_ways


async def test_a_request_in_pieces_is_answered_when_it_is_whole() -> None:
    """It goes the long way, and so do those behind it on its connection."""
    async with served() as (exchange, line):
        whole = f"GET /fapi/v1/ping HTTP/1.1\r\n{HEAD}\r\n"
        assert (await line.ask(whole)).endswith(b"{}")
        await line.send(whole[:20])
        await asyncio.sleep(0.01)
        assert (await line.ask(whole[20:])).endswith(b"{}")
        assert (await line.ask(whole)).endswith(b"{}")
        assert exchange.long_ways == 2


async def test_a_pipeline_is_answered_in_order() -> None:
    """Several requests in one go are no plain request; every one of them is answered."""
    async with served() as (_, line):
        one = f"GET /fapi/v1/ping HTTP/1.1\r\n{HEAD}\r\n"
        other = f"GET /fapi/v1/nowhere HTTP/1.1\r\n{HEAD}\r\n"
        await line.send(one + other + one)
        assert [(await line.receive())[:12] for _ in range(3)] == [
            b"HTTP/1.1 200",
            b"HTTP/1.1 404",
            b"HTTP/1.1 200",
        ]


async def test_a_client_that_does_not_read_is_answered_no_further_until_it_does() -> None:
    """What waits for it is bounded, and nothing is lost."""
    async with served() as (exchange, line):
        count = 1200
        asked = f"GET /fapi/v1/exchangeInfo HTTP/1.1\r\n{HEAD}\r\n".encode()
        sending = asyncio.ensure_future(_send_one_by_one(line, asked, count))
        answered = -1
        while answered != exchange._venue.ledger.requests["GET /fapi/v1/exchangeInfo"]:
            answered = exchange._venue.ledger.requests["GET /fapi/v1/exchangeInfo"]
            await asyncio.sleep(0.2)
        assert 0 < answered < count, "the rest waits at the client"
        assert [(await line.receive())[:12] for _ in range(count)].count(b"HTTP/1.1 200") == count
        await sending


async def _send_one_by_one(line: Line, request: bytes, count: int) -> None:
    for _ in range(count):
        await line.send(request)
        await asyncio.sleep(0)


def test_the_reply_of_an_unusual_status_has_its_reason() -> None:
    """A ban is a teapot, as on the long way."""
    from sim.plain_http import _ReplyWriter

    text = _ReplyWriter(lambda: 0).as_bytes(Response(418, {"retry-after": "9"}, b"{}"))
    assert text.startswith(
        b"HTTP/1.1 418 I'm a Teapot\r\nretry-after: 9\r\nContent-Length: 2\r\nDate: Thu, 01 Jan 1970"
    )
