"""The server on real loopback sockets: raw bytes, streams in order, outages, slow readers, loopback only."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from yarl import URL

from sim import server as server_module
from sim.auth import sign
from sim.clockwork import drive
from sim.exchange import Exchange
from sim.limits import LimitSizes
from sim.recording import RecordedMarket
from sim.rules import MAINNET
from sim.server import RunningServer, ServerRefused, start_server
from sim.streams import StreamOptions
from sim.synthetic import SyntheticMarket
from sim.transport import InMemoryHttp, InMemoryWs, Link
from utils.clock import SystemClock
from utils.errors import NotSent
from utils.http import AiohttpTransport

from .test_sim_recording import write_day

KEY, SECRET = "key", "secret"
CLOCK = SystemClock()


class Running:
    """A served exchange and the means to reach it."""

    def __init__(self, exchange: Exchange, server: RunningServer, client: aiohttp.ClientSession) -> None:
        self.exchange = exchange
        self.server = server
        self.client = client

    def stream(self, target: str) -> connect:
        """A WebSocket to the server, whose client does not wait long for the closing handshake."""
        return connect(f"{self.server.url.replace('http', 'ws')}{target}", proxy=None, close_timeout=0.1)

    async def get(self, path: str) -> Any:
        """The JSON at a path."""
        async with self.client.get(f"{self.server.url}{path}") as reply:
            return await reply.json()


@asynccontextmanager
async def served(latency_ms: float = 0, host: str = "127.0.0.1") -> AsyncIterator[Running]:
    """An exchange on a synthetic market is served, and its time passes."""
    now_ms = CLOCK.time_ms()
    market = SyntheticMarket({"BTCUSDT": MAINNET["BTCUSDT"]}, now_ms, seed=1)
    exchange = Exchange(market, api_key=KEY, api_secret=SECRET, now_ms=now_ms)
    server = await start_server(exchange, CLOCK, host, 0, latency_ms)
    driving = asyncio.ensure_future(drive(exchange, CLOCK))
    try:
        async with aiohttp.ClientSession() as client:
            yield Running(exchange, server, client)
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await server.close()


def signed(text: str) -> str:
    """A query with the time and a signature over exactly these bytes."""
    stamped = f"{text}&timestamp={CLOCK.time_ms()}"
    return f"{stamped}&signature={sign(SECRET, stamped)}"


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what it waits for is inside the server
            await asyncio.sleep(0.01)


async def test_query_and_body_reach_the_exchange_as_they_were_sent() -> None:
    """Signatures over percent-encoded text hold, in the query and in the body."""
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTX&quantity=0.002&price=60000&newClientOrderId=a%3Ab%2f1"
    async with served() as running:
        for at in ("query", "body"):
            text = signed(order.replace("b%2f1", f"b%2f{at}"))
            url = URL(f"{running.server.url}/fapi/v1/order{'' if at == 'body' else f'?{text}'}", encoded=True)
            headers = {"X-MBX-APIKEY": KEY, "Content-Type": "application/x-www-form-urlencoded"}
            async with running.client.post(
                url, data=text if at == "body" else None, headers=headers
            ) as reply:
                body = await reply.json()
            assert (reply.status, body.get("clientOrderId")) == (200, f"a:b/{at}"), body


async def test_replies_are_the_same_bytes_over_sockets_and_in_memory() -> None:
    """Status, headers and body do not depend on the way; sockets add only what HTTP itself needs."""
    async with served() as running:
        sockets = AiohttpTransport(running.server.url)
        memory = InMemoryHttp(Link(running.exchange, CLOCK))
        for path, query in (
            ("/fapi/v1/exchangeInfo", ""),
            ("/fapi/v1/order", "symbol=BTCUSDT"),
            ("/nowhere", "a=1"),
        ):
            over_sockets = await sockets.request("GET", path, query, {}, 5)
            in_memory = await memory.request("GET", path, query, {}, 5)
            volatile = {"x-mbx-used-weight-1m"}
            assert over_sockets.status == in_memory.status
            if path != "/fapi/v1/exchangeInfo":
                assert over_sockets.body == in_memory.body
            else:
                assert len(over_sockets.body) == len(in_memory.body) > 1_000
            assert set(over_sockets.headers) - set(in_memory.headers) == {"content-length", "date", "server"}
            for name in set(in_memory.headers) - volatile:
                assert over_sockets.headers[name] == in_memory.headers[name]
        await sockets.close()


async def test_streams_bring_the_same_payloads_over_sockets_and_in_memory() -> None:
    """One subscriber of each kind hears the same texts in the same order."""
    async with served() as running:
        memory = await InMemoryWs(Link(running.exchange, CLOCK)).connect("/public/ws/btcusdt@bookTicker")
        async with running.stream("/public/ws/btcusdt@bookTicker") as socket:
            running.exchange.advance(CLOCK.time_ms() + 60_000)
            heard = [await socket.recv() for _ in range(100)]
        texts = [await memory.receive()]
        while texts[-1] != heard[-1]:
            texts.append(await memory.receive())
        assert texts[-100:] == heard
        updates = [json.loads(text)["u"] for text in heard]
        assert all(before < after for before, after in pairwise(updates))


async def test_subscriptions_are_made_over_the_socket_and_answered() -> None:
    """Control messages are acknowledged in order; combined streams are wrapped."""
    async with served() as running, running.stream("/market/stream") as socket:
        await socket.send('{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}')
        assert json.loads(await socket.recv()) == {"result": None, "id": 1}
        running.exchange.advance(CLOCK.time_ms() + 10_000)
        payload = json.loads(await socket.recv())
        assert (payload["stream"], payload["data"]["e"]) == ("btcusdt@aggTrade", "aggTrade")


@pytest.mark.parametrize("target", ["/nowhere", "/public", "/public/ws/", "/ws-fapi/v2"])
async def test_a_socket_to_an_unknown_route_is_refused_with_404(target: str) -> None:
    """The handshake fails, as it does at the exchange."""
    async with served() as running:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await running.stream(target)
        assert caught.value.response.status_code == 404


async def test_latency_is_added_each_way() -> None:
    """A request takes twice the latency at least; so does a ping through the stream's control messages."""
    async with served(latency_ms=30) as running:
        started_s = time.perf_counter()
        await running.get("/fapi/v1/time")
        assert time.perf_counter() - started_s >= 0.06
        async with running.stream("/public/ws") as socket:
            started_s = time.perf_counter()
            await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert json.loads(await socket.recv()) == {"result": [], "id": 1}
            assert time.perf_counter() - started_s >= 0.06


async def test_an_outage_drops_every_connection_refuses_new_ones_and_ends() -> None:
    """Sockets are cut, connecting fails as if nobody were there, and after it the same address answers again."""
    async with served() as running:
        transport = AiohttpTransport(running.server.url)
        async with running.stream("/public/ws/btcusdt@bookTicker") as socket:
            await socket.recv()
            async with running.client.post(f"{running.server.url}/sim/outage?seconds=0.6") as reply:
                assert await reply.json() == {"seconds": 0.6}
            with pytest.raises(websockets.ConnectionClosed):
                await read_until_closed(socket)
        with pytest.raises(NotSent):
            await transport.request("GET", "/fapi/v1/ping", "", {}, 5)
        with pytest.raises(OSError, match=r"[Cc]onnect"):
            await running.stream("/public/ws")
        await asyncio.sleep(0.7)
        assert (await transport.request("GET", "/fapi/v1/ping", "", {}, 5)).status == 200
        await transport.close()


async def read_until_closed(socket: ClientConnection) -> None:
    """Read for ever."""
    async with asyncio.timeout(5):
        while True:
            await socket.recv()


async def test_a_second_outage_replaces_the_first() -> None:
    """Outages do not add up, and closing during one leaves nothing behind."""
    async with served() as running:
        running.server.start_outage(60)
        await asyncio.sleep(0.05)
        running.server.start_outage(0.05)
        await asyncio.sleep(0.2)
        assert await running.get("/fapi/v1/ping") == {}
        running.server.start_outage(60)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "query", ["", "?seconds=", "?seconds=x", "?seconds=0", "?seconds=-1", "?seconds=1e9"]
)
async def test_an_outage_of_no_sensible_length_is_refused(query: str) -> None:
    """The reply says what is wanted, and nothing is dropped."""
    async with served() as running:
        async with running.client.post(f"{running.server.url}/sim/outage{query}") as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, -1102)
        assert await running.get("/fapi/v1/ping") == {}


@pytest.mark.parametrize("headers", [{"Host": "example.com"}, {"Host": ""}, {"Origin": "http://example.com"}])
async def test_control_requests_from_web_pages_are_refused(headers: dict[str, str]) -> None:
    """A page in a browser on this machine cannot reach the controls, under whatever name it found the port."""
    async with served() as running:
        for path in ("/sim/record", "/sim/outage?seconds=1"):
            async with running.client.post(f"{running.server.url}{path}", headers=headers) as reply:
                assert reply.status == 403
        async with running.client.get(f"{running.server.url}/fapi/v1/ping", headers=headers) as reply:
            assert reply.status == 200


async def test_control_requests_from_this_machine_are_answered() -> None:
    """The exchange's record is there for whoever runs it."""
    async with served() as running:
        assert (await running.get("/sim/record?symbol=BTCUSDT"))["orders"] == []


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", ""])  # noqa: S104  # that it refuses these
async def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    """The exchange is for this machine only."""
    with pytest.raises(ServerRefused, match="listens on loopback only"):
        async with served(host=host):
            raise AssertionError("it must not start")


async def test_the_name_localhost_is_the_loopback_address() -> None:
    """Without asking any resolver."""
    async with served(host="localhost") as running:
        assert running.server.url.startswith("http://127.0.0.1:")


async def test_a_port_that_is_taken_is_refused() -> None:
    """One sentence with the remedy."""
    async with served() as running:
        port = int(running.server.url.rpartition(":")[2])
        with pytest.raises(
            ServerRefused, match=rf"Port {port} on 127.0.0.1 cannot be used \(.*\): choose another"
        ):
            await start_server(running.exchange, CLOCK, "127.0.0.1", port)


async def test_a_reader_that_does_not_read_is_dropped_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for one socket is bounded."""
    monkeypatch.setattr(server_module, "MAX_QUEUED_CHARACTERS", 100_000)
    async with served() as running, running.stream("/market/ws") as other:
        async with running.stream("/public/ws/btcusdt@bookTicker") as slow:
            running.exchange.advance(CLOCK.time_ms() + 60_000)
            with pytest.raises(websockets.ConnectionClosed):
                await read_until_closed(slow)
        await other.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert json.loads(await other.recv())["id"] == 1


async def test_a_burst_within_the_limit_arrives_whole_and_in_order() -> None:
    """A minute of quotes in one go reaches a reader that reads."""
    async with served() as running, running.stream("/public/ws/btcusdt@bookTicker") as socket:
        running.exchange.advance(CLOCK.time_ms() + 60_000)
        updates = [json.loads(await socket.recv())["u"] for _ in range(500)]
        assert all(before < after for before, after in pairwise(updates))


async def test_a_client_that_answers_no_ping_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings go out regularly; one that answers stays, one that does not is dropped."""
    monkeypatch.setattr(server_module, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(server_module, "PONG_WITHIN_S", 0.3)
    async with (
        served() as running,
        running.client.ws_connect(f"{running.server.url}/market/ws", autoping=False) as mute,
        running.stream("/market/ws") as alive,
    ):
        pings = 0
        async with asyncio.timeout(5):
            async for message in mute:
                pings += message.type is aiohttp.WSMsgType.PING
        assert pings >= 2
        await asyncio.sleep(0.4)
        await alive.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        assert json.loads(await alive.recv())["id"] == 1


async def test_a_ping_of_the_client_is_answered() -> None:
    """Clients that watch their connection get their pong."""
    async with served() as running, running.stream("/market/ws") as socket:
        async with asyncio.timeout(5):
            await (await socket.ping())


async def test_too_many_control_messages_end_the_connection() -> None:
    """The exchange's decision to drop a client reaches it as a close, after the answers to what was in order."""
    async with served() as running, running.stream("/public/ws") as socket:
        for number in range(12):
            await socket.send(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await read_until_closed(socket)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


async def test_orders_are_placed_over_the_websocket_api() -> None:
    """The WebSocket API is carried like a stream: requests in, replies out, on /ws-fapi/v1 (facts 1, 8)."""
    async with served() as running, running.stream("/ws-fapi/v1") as socket:
        values = {"apiKey": KEY, "timestamp": CLOCK.time_ms()}
        signature = sign(SECRET, f"apiKey={KEY}&timestamp={values['timestamp']}")
        request = {"id": "a", "method": "v2/account.balance", "params": {**values, "signature": signature}}
        await socket.send(json.dumps(request))
        async with asyncio.timeout(5):
            reply = json.loads(await socket.recv())
        assert (reply["id"], reply["status"], reply["result"][0]["asset"]) == ("a", 200, "USDT")


async def test_handshake_without_weight_left_is_refused_with_429() -> None:
    """A handshake of the WebSocket API costs weight (facts 8); over the limit it gets the status of REST."""
    async with served() as running:
        running.exchange._api.weights.sizes = LimitSizes(weight_per_minute=4)
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with running.stream("/ws-fapi/v1"):
                pass
        assert caught.value.response.status_code == 429


async def test_unasked_pongs_count_like_messages() -> None:
    """Ping and pong frames fall under the ten messages a second (facts 6)."""
    async with served() as running, running.stream("/market/ws") as socket:
        for _ in range(12):
            await socket.pong()
        with pytest.raises(websockets.ConnectionClosed):
            await read_until_closed(socket)


async def test_a_connection_that_has_lived_its_time_is_closed() -> None:
    """The 24 hours of a connection, shortened, end with a close that is no reproach (facts 6)."""
    async with served() as running:
        running.exchange._venue.hub.options = StreamOptions(session_life_ms=200)
        async with running.stream("/public/ws/btcusdt@bookTicker") as socket:
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await read_until_closed(socket)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001


async def test_flood_of_messages_ends_with_the_code_of_misbehaviour() -> None:
    """Twelve at once, where ten a second are allowed (facts 6)."""
    async with served() as running, running.stream("/market/ws") as socket:
        for _ in range(12):
            await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await read_until_closed(socket)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


async def test_closing_the_server_ends_its_sockets_with_a_reason() -> None:
    """Clients are told that the exchange goes away, and its sessions are gone."""
    async with served() as running:
        socket = await running.stream("/public/ws/btcusdt@bookTicker")
        await running.server.close()
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await read_until_closed(socket)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1001,
            "the simulated exchange is stopping",
        )


async def test_a_client_that_goes_away_is_forgotten() -> None:
    """No session stays behind, whether the client closed politely or vanished."""
    async with served() as running:
        sessions = running.exchange._venue.hub.sessions
        async with running.stream("/public/ws/btcusdt@bookTicker") as polite:
            await polite.recv()
            vanishing = await running.stream("/public/ws/btcusdt@bookTicker")
            assert len(sessions) == 2
            vanishing.transport.abort()
        await eventually(lambda: not sessions)


async def test_a_market_that_breaks_is_told_to_whoever_asks(tmp_path: Path) -> None:
    """Requests and handshakes get a server error with the sentence, not a traceback."""
    write_day(
        tmp_path, quotes=["10,64000.00,1,64000.10,1,1000,1", "11,64000.05,1,64000.10,1,1001,1"], trades=[]
    )
    now_ms = CLOCK.time_ms()
    market = RecordedMarket(tmp_path, {"BTCUSDT": MAINNET["BTCUSDT"]}, now_ms)
    exchange = Exchange(market, api_key=KEY, api_secret=SECRET, now_ms=now_ms)
    server = await start_server(exchange, CLOCK)
    async with aiohttp.ClientSession() as client:
        for path, headers in (("/fapi/v1/ping", {}), ("/ws", {"Upgrade": "websocket"})):
            async with client.get(f"{server.url}{path}", headers=headers) as reply:
                assert reply.status == 500
                assert "csv:3: price 64000.05 is not a multiple" in (await reply.json())["msg"]
    await server.close()


async def test_a_body_that_is_no_text_is_refused_like_any_other_bad_request() -> None:
    """Bytes that are not UTF-8 cannot break the server."""
    async with served() as running:
        headers = {"X-MBX-APIKEY": KEY}
        async with running.client.post(
            f"{running.server.url}/fapi/v1/order", data=b"symbol=\xff\xfe", headers=headers
        ) as reply:
            assert reply.status == 400
            assert (await reply.json())["code"] < 0
