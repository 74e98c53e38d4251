"""Malformed requests and frames, raw bytes on sockets, 200 connections: the exchange goes on, and does not grow."""

import asyncio
import gc
import json
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection, connect

from sim import record
from sim.auth import sign
from sim.exchange import Exchange, Options, Request
from sim.limits import LimitSizes

from .served import Served, served
from .sim_factory import KEY, SECRET, START_MS, Rig

_PLENTY = 10**9
LIMITS = LimitSizes(
    weight_per_minute=_PLENTY, orders_per_ten_seconds=_PLENTY, orders_per_minute=_PLENTY, patience=_PLENTY
)
NAME_WORDS = (
    "symbol side type timeInForce price quantity reduceOnly newClientOrderId origClientOrderId orderId batchOrders "
    "limit startTime endTime fromId leverage marginType amount countdownTime dualSidePosition interval recvWindow "
    "timestamp"
)
VALUE_WORDS = (
    "BTCUSDT BUY SELL LIMIT MARKET GTX GTC FOK 1 0.010 50000 -1 1e9 NaN Infinity null true 0x10 [] {} [{}]"
)
ODD = (
    "",
    " ",
    "\x00",
    "\u202e",
    "\U0001f4a5",
    "'; DROP",
    "%",
    "9" * 400,
    f"0.{'0' * 300}1",
    "[{",
    "A" * 5000,
)
NAMES, VALUES = NAME_WORDS.split(), (*VALUE_WORDS.split(), *ODD)
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "", "get")
FRAMES = (
    *("", "{", "[]", "null", "1", '"x"', "{}", '{"id":[]}', '{"method":1}', "\x00", "[" * 2000),
    '{"method":"SUBSCRIBE"}',
    '{"method":"SUBSCRIBE","params":"btcusdt@bookTicker","id":1}',
    '{"method":"SUBSCRIBE","params":[1,null,{}],"id":-1}',
    '{"id":1,"method":"order.place"}',
    '{"id":{},"method":"order.place","params":[]}',
    '{"id":"x","method":"no.such"}',
    '{"id":1,"method":"order.place","params":{"symbol":{},"apiKey":1,"signature":[],"timestamp":true}}',
    '{"id":1e400,"method":"session.logon","params":{"apiKey":"paper-key","timestamp":9999999999999999999}}',
)
TARGETS = ("/public/ws", "/market/stream", "/private/ws", "/ws", "/ws-fapi/v1")


def binances_routes(exchange: Exchange) -> list[tuple[str, str]]:
    """Return methods and paths, without those by which a user makes things happen."""
    return sorted(route for route in exchange._router._routes if not route[1].startswith("/sim/"))


def requests(dice: random.Random, routes: list[tuple[str, str]], count: int) -> Iterator[Request]:
    """Yield requests that are wrong in method, path, parameters, signature or all of them."""
    for _ in range(count):
        method, path = dice.choice(routes)
        if dice.random() < 0.15:
            method = dice.choice(METHODS)
        if dice.random() < 0.15:
            cut = dice.randrange(len(path))
            path = (
                path[:cut] + dice.choice(("", "/", "%00", "..", "é", "?")) + path[cut + dice.randrange(2) :]
            )
        pairs = [(dice.choice(NAMES), dice.choice(VALUES)) for _ in range(dice.randrange(9))]
        text = "&".join(f"{name}={quote(value) if dice.random() < 0.7 else value}" for name, value in pairs)
        if dice.random() < 0.7:
            text += f"&timestamp={START_MS}"
            text += f"&signature={sign(SECRET, text)}"
        headers = {"x-mbx-apikey": dice.choice((KEY, KEY, KEY, "", "\x00", "x" * 300))}
        in_body = dice.random() < 0.3
        yield Request(method, path, "" if in_body else text, headers, text if in_body else "")


def storm(rig: Rig, dice: random.Random, count: int) -> int:
    """Let `count` requests, and as many frames as a fifth of that, hit the exchange; return how many were refused."""
    exchange, refused = rig.exchange, 0
    routes = binances_routes(exchange)
    for request in requests(dice, routes, count):
        reply = exchange.handle(request, START_MS + 1)
        if reply.status != 200:
            body = json.loads(reply.body)
            assert set(body) == {"code", "msg"}, body
            assert body["code"] < 0
            assert body["msg"]
            assert 400 <= reply.status < 500, (request, body)
            refused += 1
    for _ in range(count // 5):
        heard: list[str] = []
        session = exchange.open_session(dice.choice(TARGETS), heard.append, START_MS + 1)
        for _ in range(3):
            frame = dice.choice(FRAMES)
            cut = dice.randrange(len(frame) + 1) if dice.random() < 0.2 else len(frame)
            if not session.receive(frame[:cut], START_MS + 1):
                break
        session.closed(START_MS + 1)
        assert all(isinstance(json.loads(text), dict) for text in heard)
    return refused


def still_trades(rig: Rig) -> None:
    """A sound order is placed and cancelled as if nothing had been."""
    name = {"newClientOrderId": "sound"}
    rig.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    rig.call("POST", "/fapi/v1/positionSide/dual", dualSidePosition="false")
    assert rig.place("BUY", "49900", "0.010", **name).status == 200
    assert rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="sound").status == 200


def test_ten_thousand_malformed_requests_get_a_clear_error_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever is wrong, the reply is a 4xx with Binance's code and text; memory stays flat once records are full."""
    monkeypatch.setattr(record, "REFUSALS", 50)
    rig = Rig(options=Options(limits=LIMITS, history=50))
    dice = random.Random(seed)
    assert storm(rig, dice, 5000) > 3000
    still_trades(rig)
    gc.collect()
    tracemalloc.start()
    try:
        storm(rig, dice, 1000)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        storm(rig, dice, 4000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000
    assert not rig.exchange._venue.hub.sessions
    still_trades(rig)


RAW = (
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x00\xff\xfe\r\n\r\n",
    b"GET /fapi/v1/ping HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"POST /fapi/v1/order HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /fapi/v1/order HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /fapi/v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/fapi/v1/time HTTP/1.1\r\nHost: x\r\n\r\n",
)


async def thrown(exchange: Served, raw: bytes) -> bytes:
    """Return what comes back for raw bytes, after which the client goes away."""
    port = int(exchange.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        async with asyncio.timeout(0.2):
            return await reader.read(4096)
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()


async def ping(exchange: Served) -> bytes:
    """Return the answer to a sound request on a connection of its own."""
    return await thrown(exchange, b"GET /fapi/v1/ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


async def test_raw_bytes_on_sockets_do_not_stop_it(caplog: pytest.LogCaptureFixture, seed: int) -> None:
    """Broken HTTP gets an HTTP error or a closed connection; three hundred of them leave the next client unharmed."""
    dice = random.Random(seed)
    async with served() as exchange:
        for _ in range(10):
            shots = [dice.choice(RAW) for _ in range(30)]
            answers = await asyncio.gather(*(thrown(exchange, shot) for shot in shots))
            assert all(answer == b"" or answer.startswith(b"HTTP/1.") for answer in answers)
            assert not any(b" 500 " in answer.partition(b"\r\n")[0] for answer in answers)
        assert (await ping(exchange)).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in caplog.text


async def test_two_hundred_connections_of_which_half_do_not_read_are_served() -> None:
    """Every reader hears the quotes, requests are answered meanwhile, and nothing is left when all have gone."""
    async with served() as exchange, AsyncExitStack() as stack:
        url = f"{exchange.ws_url}/public/ws/btcusdt@bookTicker"
        sockets: list[ClientConnection] = [
            await stack.enter_async_context(connect(url, proxy=None, close_timeout=0.1, compression=None))
            for _ in range(200)
        ]
        for step in range(100):
            exchange.quote(f"{50_001 + step}.00", f"{50_001 + step}.10")
        assert (await ping(exchange)).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(20):
            for socket in sockets[::2]:
                heard = [json.loads(await socket.recv()) for _ in range(100)]
                assert [row["b"] for row in heard] == [f"{50_001 + step}.00" for step in range(100)]
        for socket in sockets[1::2]:
            socket.transport.abort()
        for socket in sockets[::2]:
            await socket.close()
        sessions: Any = exchange.exchange._venue.hub.sessions
        async with asyncio.timeout(5):
            while sessions:  # noqa: ASYNC110  # what it waits for is inside the server
                await asyncio.sleep(0.01)
        assert (await ping(exchange)).startswith(b"HTTP/1.1 200")


def test_fuzzer_reaches_the_exchange_and_not_only_its_door() -> None:
    """Many different refusals come back, so that the storm is not all of one kind."""
    rig, codes = Rig(options=Options(limits=LIMITS)), set()
    for request in requests(random.Random(1), binances_routes(rig.exchange), 4000):
        reply = rig.exchange.handle(request, START_MS + 1)
        if reply.status != 200:
            codes.add(json.loads(reply.body)["code"])
    assert len(codes) > 10
