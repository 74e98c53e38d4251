"""WebSockets over real sockets: what both libraries that can carry them hold to, and which of them does."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers

from commands.loops import new_event_loop
from test.blackbox.proxy import Proxy
from utils.errors import Disconnected
from utils.ws import WsConnection, WsTransport
from utils.ws_picows import MOST_WAITING, PicowsConnection, PicowsTransport
from utils.ws_pinned import PinnedTransport, reason_of
from utils.ws_sockets import socket_transport
from utils.ws_websockets import SocketTransport

Carrier = type[PicowsTransport] | type[SocketTransport]
Talk = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(params=[PicowsTransport, SocketTransport])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Each library."""
    found: Carrier = request.param
    return found


@asynccontextmanager
async def connected(
    carrier: Carrier,
    talk: Talk,
    refuse: Callable[[ServerConnection, Request], Response | None] | None = None,
    target: str = "/ws",
    **options: Any,
) -> AsyncIterator[WsConnection]:
    """A connection to a WebSocket server on loopback."""
    async with serve(talk, "127.0.0.1", 0, process_request=refuse, close_timeout=0.1, **options) as server:
        transport: WsTransport = carrier(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/".rstrip("/"))
        connection = await transport.connect(target)
        try:
            yield connection
        finally:
            await connection.close()
            await transport.close()


async def listen(server: ServerConnection) -> None:
    """Say nothing."""
    await server.wait_closed()


def is_closing(connection: Any) -> bool:
    """Tell whether the socket under a connection is being closed."""
    if isinstance(connection, PicowsConnection):
        assert connection._transport is not None
        return connection._transport.underlying_transport.is_closing()
    closing: bool = connection._connection.transport.is_closing()
    return closing


# --- which library ------------------------------------------------------------------------------------------


def test_faster_library_is_taken_where_it_can_be_imported() -> None:
    """Nobody has to choose."""
    assert type(socket_transport("ws://127.0.0.1:1")) is PicowsTransport


def test_other_library_is_taken_where_the_faster_one_is_not_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is said: the daemon would be slower than it could be."""
    monkeypatch.setitem(sys.modules, "picows", None)
    monkeypatch.delitem(sys.modules, "utils.ws_picows")
    assert type(socket_transport("ws://127.0.0.1:1")) is SocketTransport
    assert "the slower of two libraries" in caplog.text


# --- messages -----------------------------------------------------------------------------------------------


async def test_socket_carries_messages_both_ways_and_the_target(carrier: Carrier) -> None:
    """What is sent arrives, what comes is delivered; path and query are those that were asked for."""
    paths: list[str] = []

    async def talk(server: ServerConnection) -> None:
        assert server.request is not None
        paths.append(server.request.path)
        await server.send(f"you said {await server.recv()!s}")
        await server.wait_closed()

    async with connected(carrier, talk, target="/public/stream?streams=btcusdt@bookTicker") as connection:
        await connection.send("hello")
        assert await connection.receive() == b"you said hello"
    assert paths == ["/public/stream?streams=btcusdt@bookTicker"]


async def test_frames_of_every_kind_and_parts_of_messages_arrive_as_messages(carrier: Carrier) -> None:
    """Text, binary, parts with a ping between them, nothing at all; one as long as is allowed."""
    longest = PinnedTransport.MAX_MESSAGE_BYTES

    async def parts() -> AsyncIterator[str]:
        yield "one "
        pong = await server_side[0].ping()
        yield "two "
        await pong
        yield "three"

    server_side: list[ServerConnection] = []

    async def talk(server: ServerConnection) -> None:
        server_side.append(server)
        await server.send("text")
        await server.send(b"\x00\xff")
        await server.send(parts())
        await server.send("")
        await server.send("x" * longest)

    async with connected(carrier, talk) as connection:
        heard = [await connection.receive() for _ in range(5)]
    assert heard == [b"text", b"\x00\xff", b"one two three", b"", b"x" * longest]


async def test_messages_that_wait_already_are_delivered_before_those_that_come(carrier: Carrier) -> None:
    """None is lost and none overtakes another, whether it came before the delivery began or after."""
    go_on, heard = asyncio.Event(), list[str | bytes]()

    async def talk(server: ServerConnection) -> None:
        for number in range(10):
            await server.send(str(number))
        await go_on.wait()
        await server.send("last")

    async with connected(carrier, talk) as connection:
        assert await connection.receive() == b"0"
        await asyncio.sleep(0.05)
        delivering = asyncio.ensure_future(connection.deliver(heard.append))
        go_on.set()
        with pytest.raises(Disconnected, match="farewell with code 1000"):
            await delivering
    assert heard == [*(str(number).encode() for number in range(1, 10)), b"last"]


async def test_delivery_that_is_broken_off_leaves_what_comes_to_the_next_one(carrier: Carrier) -> None:
    """A successor is read by another task than the one that has waited for its first message."""
    heard: list[str | bytes] = []

    async def talk(server: ServerConnection) -> None:
        await server.send("first")
        async for message in server:
            await server.send(message)

    async with connected(carrier, talk) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.deliver(heard.append)
        connection.send_now("second")
        assert (heard, await connection.receive()) == ([b"first"], b"second")
        delivering = asyncio.ensure_future(connection.deliver(heard.append))
        connection.send_now("third")
        await asyncio.sleep(0.05)
        delivering.cancel()
    assert heard == [b"first", b"third"]


async def test_delivery_that_is_redirected_goes_on_at_the_other_function(carrier: Carrier) -> None:
    """Nothing is lost or told twice; a stream watches so whether its old connection still speaks."""
    before, after = asyncio.Queue[str | bytes](), asyncio.Queue[str | bytes]()

    async def talk(server: ServerConnection) -> None:
        async for message in server:
            await server.send(message)

    async with connected(carrier, talk) as connection, asyncio.timeout(5):
        delivering = asyncio.ensure_future(connection.deliver(before.put_nowait))
        connection.send_now("first")
        assert await before.get() == b"first"
        connection.redirect(after.put_nowait)
        connection.send_now("second")
        assert await after.get() == b"second"
        delivering.cancel()
    assert before.empty()


async def test_what_fails_on_a_message_ends_the_delivery_with_its_own_fault(carrier: Carrier) -> None:
    """The connection is not blamed, and nothing more is handed over."""

    async def talk(server: ServerConnection) -> None:
        await server.send("first")
        await server.send("second")
        await server.wait_closed()

    heard: list[str | bytes] = []

    def fail(message: str | bytes) -> None:
        heard.append(message)
        raise ValueError("cannot read this")

    async with connected(carrier, talk) as connection:
        with pytest.raises(ValueError, match="cannot read this"):
            await connection.deliver(fail)
    assert heard == [b"first"]


async def test_other_side_cannot_fill_the_memory_of_one_who_does_not_read(carrier: Carrier) -> None:
    """The socket is read no further, and read to the end once somebody listens."""
    sent = 0

    async def talk(server: ServerConnection) -> None:
        nonlocal sent
        for _ in range(2000):
            await server.send(b"x" * 10_000)
            sent += 1

    heard: list[str | bytes] = []
    async with connected(carrier, talk, write_limit=10_000) as connection:
        while True:
            before = sent
            await asyncio.sleep(0.1)
            if sent == before:
                break
        assert sent < 2000
        if isinstance(connection, PicowsConnection):
            assert MOST_WAITING <= len(connection._inbox) < 1000
        with pytest.raises(Disconnected, match="1000"):
            await connection.deliver(heard.append)
    assert len(heard) == 2000


async def test_message_sent_now_has_left_before_anything_else_happens(carrier: Carrier) -> None:
    """As text, whatever it is made of, and in the order in which it was handed over; not after the end."""
    heard, there = list[str | bytes](), asyncio.Event()

    async def talk(server: ServerConnection) -> None:
        async for message in server:
            heard.append(message)
            if len(heard) == 3:
                there.set()

    async with connected(carrier, talk) as connection:
        connection.send_now("one")
        connection.send_now(b"two")
        await connection.send("three")
        await there.wait()
        await connection.close()
        with pytest.raises(Disconnected, match="not sent"):
            connection.send_now("four")
    assert heard == ["one", "two", "three"]


async def test_sender_waits_while_the_other_side_takes_nothing(carrier: Carrier) -> None:
    """Memory is bounded on the way out, too; the end of the connection is the end of the wait."""
    go_on = asyncio.Event()

    async def talk(server: ServerConnection) -> None:
        await go_on.wait()
        async for _ in server:
            pass

    async with connected(carrier, talk, max_queue=1) as connection:

        async def send_all() -> None:
            for _ in range(200):
                await connection.send("x" * 100_000)

        sending = asyncio.ensure_future(send_all())
        await asyncio.sleep(0.3)
        assert not sending.done()
        go_on.set()
        async with asyncio.timeout(10):
            await sending
        go_on.clear()


# --- the beginning ------------------------------------------------------------------------------------------


async def test_refused_socket_is_a_disconnect(carrier: Carrier) -> None:
    """Nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Disconnected, match=r"no connection \((ConnectionRefusedError|OSError)\)"):
        await carrier(f"ws://127.0.0.1:{port}").connect("/ws")


async def test_refused_handshake_is_a_disconnect(carrier: Carrier) -> None:
    """A wrong route, or a limit."""

    def refuse(_server: ServerConnection, _request: Request) -> Response:
        return Response(429, "Too Many Requests", Headers(), b"")

    with pytest.raises(Disconnected, match=r"no connection \(HTTP 429\)"):
        async with connected(carrier, listen, refuse):
            pass


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]
)
async def test_what_is_no_websocket_is_a_disconnect(carrier: Carrier, answer: bytes) -> None:
    """A socket that is closed at once, another protocol, a handshake that proves nothing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        with pytest.raises(Disconnected, match="no connection"):
            await carrier(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}").connect("/ws")


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_handshake_without_an_answer_is_given_up_and_leaves_no_socket(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """After its time, or when whoever wanted the connection is cancelled."""
    monkeypatch.setattr(PinnedTransport, "OPEN_TIMEOUT_S", 10.0 if is_cancelled else 0.1)
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        ended.set()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        transport = carrier(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connecting = asyncio.ensure_future(transport.connect("/ws"))
        if is_cancelled:
            await asyncio.sleep(0.05)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        else:
            with pytest.raises(Disconnected, match=r"no connection \(TimeoutError\)"):
                await connecting
        async with asyncio.timeout(1):
            await ended.wait()


async def test_connection_that_opens_in_the_turn_in_which_it_is_given_up_is_closed() -> None:
    """Nobody holds it, so nobody else could; its pings would have it live for a day."""
    connecting: list[asyncio.Future[WsConnection]] = []

    class GivenUp(PicowsTransport):
        async def _opened(self, *opening: Any) -> None:
            await super()._opened(*opening)
            connecting[0].cancel()

    ended = asyncio.Event()

    async def talk(server: ServerConnection) -> None:
        await server.wait_closed()
        ended.set()

    async with serve(talk, "127.0.0.1", 0, close_timeout=0.1) as server:
        transport = GivenUp(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connecting.append(asyncio.ensure_future(transport.connect("/ws")))
        with pytest.raises(asyncio.CancelledError):
            await connecting[0]
        async with asyncio.timeout(1):
            await ended.wait()


async def test_proxy_variables_are_not_used(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads along by setting a variable."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def talk(server: ServerConnection) -> None:
        await server.send("direct")
        await server.wait_closed()

    async with connected(carrier, talk) as connection:
        assert await connection.receive() == b"direct"


@contextmanager
def dead_address() -> Iterator[tuple[str, int]]:
    """An address that answers no connection, as behind a router that drops them: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(16):
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0.1)
            try:
                caller.connect(listening.getsockname())
            except TimeoutError:
                yield listening.getsockname()
                return
        pytest.skip("this system answers for whoever does not accept")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_event_loop])
def test_dead_address_of_a_host_does_not_keep_the_others_from_being_tried(
    monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """However many of them the exchange has, the first would have used up all of the time; no socket of it is left."""
    monkeypatch.setattr(PicowsTransport, "DIAL_TIMEOUT_S", 0.2)
    dialled: list[int] = []

    async def opened(dead: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        dial, look_up = loop.sock_connect, loop.getaddrinfo

        async def noted(dialling: socket.socket, address: Any) -> None:
            dialled.append(dialling.fileno())
            await dial(dialling, address)

        async with serve(listen, "127.0.0.1", 0, close_timeout=0.1) as server:
            live = server.sockets[0].getsockname()

            async def addresses(host: str, *arguments: Any, **options: Any) -> list[Any]:
                if host != "exchange.invalid":  # uvloop looks up what it is to dial, too
                    return await look_up(host, *arguments, **options)
                return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", each) for each in (dead, live)]

            monkeypatch.setattr(loop, "getaddrinfo", addresses)
            monkeypatch.setattr(loop, "sock_connect", noted)
            connection = await PicowsTransport("ws://exchange.invalid").connect("/ws")
            await connection.close()

    with dead_address() as dead, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(opened(dead))
    assert len(dialled) == 2
    assert len(set(dialled)) == 1  # the number of the first was free again


# --- the end ------------------------------------------------------------------------------------------------


async def test_farewell_of_the_other_side_is_a_disconnect(carrier: Carrier) -> None:
    """What was sent before it is still delivered."""

    async def talk(server: ServerConnection) -> None:
        await server.send("last")
        await server.close(4003, "nobody has agreed on this code")

    async with connected(carrier, talk) as connection:
        assert await connection.receive() == b"last"
        for _ in range(2):
            with pytest.raises(
                Disconnected, match=r"closed by the other side or lost \(farewell with code 4003\)"
            ):
                await connection.receive()
        with pytest.raises(Disconnected, match="not sent"):
            await connection.send("anybody there?")
        with pytest.raises(Disconnected, match="4003"):
            await connection.deliver(lambda _message: None)


async def test_torn_socket_is_a_disconnect(carrier: Carrier) -> None:
    """Without a farewell."""

    async def talk(server: ServerConnection) -> None:
        server.transport.abort()

    async with connected(carrier, talk) as connection:
        with pytest.raises(Disconnected, match=r"closed by the other side or lost \(without a farewell\)"):
            await connection.receive()


@pytest.mark.parametrize("is_in_parts", [False, True])
async def test_message_beyond_all_measure_ends_the_connection(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch, is_in_parts: bool
) -> None:
    """Memory is bounded, however many parts the message has."""
    monkeypatch.setattr(PinnedTransport, "MAX_MESSAGE_BYTES", 1000)
    codes: list[int | None] = []

    async def talk(server: ServerConnection) -> None:
        await server.send(["x" * 600, "x" * 401] if is_in_parts else "x" * 1001)
        await server.wait_closed()
        codes.append(server.close_code)

    async with connected(carrier, talk) as connection:
        with pytest.raises(Disconnected, match="given up for a message that is too long"):
            await connection.receive()
    await asyncio.sleep(0.05)
    assert codes == [1009]


FRAMES = {
    "a part that continues nothing": b"\x80\x01x",
    "a new message within another": b"\x01\x01x\x81\x01y",
    "compressed": b"\xc1\x01x",
    "compressed part": b"\x41\x01x",
    "masked": b"\x81\x81\x00\x00\x00\x00x",
    "a control frame in parts": b"\x09\x01x",
    "an unknown kind": b"\x83\x01x",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
async def test_breach_of_the_protocol_ends_the_connection(carrier: Carrier, frame: bytes) -> None:
    """Nothing of it is taken for a message."""

    async def talk(server: ServerConnection) -> None:
        server.transport.write(frame)
        await server.wait_closed()

    async with connected(carrier, talk) as connection:
        with pytest.raises(Disconnected, match="given up for a breach of the protocol"):
            await connection.receive()


async def test_nothing_is_swallowed_between_a_breach_of_the_protocol_and_the_end() -> None:
    """The library says farewell at once and ends the connection a moment later."""

    async def talk(server: ServerConnection) -> None:
        server.transport.write(FRAMES["masked"])
        await server.wait_closed()

    async with connected(PicowsTransport, talk) as connection:
        assert isinstance(connection, PicowsConnection)
        assert connection._transport is not None
        async with asyncio.timeout(1):
            while not connection._transport.is_close_frame_sent:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0)
        with pytest.raises(Disconnected, match="not sent"):
            connection.send_now("cancel everything")


async def test_half_open_connection_is_given_up(carrier: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ping without an answer is enough; those that are answered keep a silent connection open."""
    monkeypatch.setattr(PinnedTransport, "PING_INTERVAL_S", 0.1)
    async with serve(listen, "127.0.0.1", 0, close_timeout=0.1, ping_interval=None) as server:
        with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            connection = await carrier(f"ws://127.0.0.1:{proxy.port}").connect("/ws")
            reading = asyncio.ensure_future(connection.receive())
            await asyncio.sleep(0.5)
            assert not reading.done()
            await asyncio.to_thread(proxy.swallow)
            with pytest.raises(Disconnected, match="given up for no answer to a ping"):
                async with asyncio.timeout(1):
                    await reading
            await connection.close()


async def test_farewell_that_is_broken_off_leaves_no_socket_open(carrier: Carrier) -> None:
    """On a connection that swallows everything, a stop does not wait for the other side's farewell."""
    async with serve(listen, "127.0.0.1", 0, close_timeout=0.1) as server:
        with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            connection = await carrier(f"ws://127.0.0.1:{proxy.port}").connect("/ws")
            await asyncio.to_thread(proxy.swallow)
            closing = asyncio.ensure_future(connection.close())
            await asyncio.sleep(0.05)
            assert not is_closing(connection)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            assert is_closing(connection)


async def test_farewell_without_an_answer_is_bounded(carrier: Carrier) -> None:
    """Half a second, and whoever reads is told."""
    async with serve(listen, "127.0.0.1", 0, close_timeout=0.1) as server:
        with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            connection = await carrier(f"ws://127.0.0.1:{proxy.port}").connect("/ws")
            reading = asyncio.ensure_future(connection.receive())
            await asyncio.to_thread(proxy.swallow)
            async with asyncio.timeout(1.5):
                await connection.close()
            assert is_closing(connection)
            with pytest.raises(Disconnected):
                await reading


def test_reason_names_codes_that_have_no_words_here() -> None:
    """Every end has a reason."""
    assert reason_of(None, 1003) == "given up for code 1003"
