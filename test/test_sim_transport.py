"""The wire in memory: latency, order, cuts, half-open links and slow readers, on virtual time."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from sim.clockwork import drive
from sim.delay import DelayLine
from sim.exchange import Exchange
from sim.rules import MAINNET
from sim.streams import StreamOptions
from sim.synthetic import SyntheticMarket
from sim.transport import HANDSHAKE_TIMEOUT_S, InMemoryHttp, InMemoryWs, Link, LinkState
from sim.virtual_time import VirtualClock, run_virtual
from utils.errors import Disconnected, NotSent, OutcomeUnknown
from utils.http import HttpResponse
from utils.ws import WsConnection

BOOK = "/public/ws/btcusdt@bookTicker"


class Wire:
    """A link to an exchange whose time passes, and both kinds of client on it."""

    def __init__(self, clock: VirtualClock, latency_ms: float, **limits: int) -> None:
        market = SyntheticMarket({"BTCUSDT": MAINNET["BTCUSDT"]}, clock.time_ms(), seed=1)
        self.clock = clock
        self.exchange = Exchange(market, api_key="key", api_secret="secret", now_ms=clock.time_ms())
        self.link = Link(self.exchange, clock, latency_ms, **limits)
        self.http = InMemoryHttp(self.link)
        self.ws = InMemoryWs(self.link)

    async def get(self, path: str, query: str = "", timeout_s: float = 5) -> HttpResponse:
        """One request without a key."""
        return await self.http.request("GET", path, query, {}, timeout_s)

    async def connections(self) -> int:
        """How many requests to the time endpoint the exchange has counted."""
        record = await self.get("/sim/record")
        return int(json.loads(record.body)["requests"].get("GET /fapi/v1/time", 0))


def on_wire(
    scenario: Callable[[Wire], Coroutine[Any, Any, Any]], latency_ms: float = 5, **limits: int
) -> Any:
    """Run a scenario on virtual time, with the exchange's time passing beside it."""

    async def main(clock: VirtualClock) -> Any:
        wire = Wire(clock, latency_ms, **limits)
        driving = asyncio.ensure_future(drive(wire.exchange, clock))
        try:
            async with asyncio.timeout(3_600):
                return await scenario(wire)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)

    return run_virtual(main)


async def read_to_the_end(connection: WsConnection) -> tuple[int, str]:
    """How many messages came until the connection ended, and why it did."""
    read = 0
    while True:
        try:
            await connection.receive()
        except Disconnected as error:
            return read, str(error)
        read += 1


async def outcome(request: Awaitable[HttpResponse]) -> str:
    """What became of a request."""
    try:
        return str((await request).status)
    except (NotSent, OutcomeUnknown) as error:
        return f"{type(error).__name__}: {error}"


def test_a_request_takes_the_latency_twice() -> None:
    """Once there and once back; the exchange's time is that of the arrival."""

    async def scenario(wire: Wire) -> tuple[int, int]:
        sent_ms = wire.clock.time_ms()
        reply = await wire.get("/fapi/v1/time")
        return json.loads(reply.body)["serverTime"] - sent_ms, wire.clock.time_ms() - sent_ms

    assert on_wire(scenario, latency_ms=5) == (5, 10)


def test_without_latency_a_request_takes_no_time_and_lets_others_run() -> None:
    """A loop of requests cannot starve the others."""

    async def scenario(wire: Wire) -> tuple[int, int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count_turns())
        before_ms = wire.clock.time_ms()
        for _ in range(20):
            await wire.get("/fapi/v1/time")
        counting.cancel()
        return turns, wire.clock.time_ms() - before_ms

    turns, passed_ms = on_wire(scenario, latency_ms=0)
    assert turns >= 20
    assert passed_ms == 0


def test_header_names_reach_the_exchange_in_lower_case() -> None:
    """As over sockets, the case of a header's name does not matter."""

    async def scenario(wire: Wire) -> tuple[int, int]:
        known = await wire.http.request("POST", "/fapi/v1/listenKey", "", {"X-MBX-APIKEY": "key"}, 5)
        unknown = await wire.http.request("POST", "/fapi/v1/listenKey", "", {"X-MBX-APIKEY": "other"}, 5)
        return known.status, unknown.status

    assert on_wire(scenario) == (200, 401)


def test_payloads_arrive_in_order_and_a_latency_after_they_were_sent() -> None:
    """Update ids only grow, and no payload is older or younger than the latency by more than the clockwork's step."""

    async def scenario(wire: Wire) -> list[tuple[int, int]]:
        connection = await wire.ws.connect(BOOK)
        seen: list[tuple[int, int]] = []
        for _ in range(500):
            payload = json.loads(await connection.receive())
            seen.append((payload["u"], wire.clock.time_ms() - payload["E"]))
        return seen

    seen = on_wire(scenario, latency_ms=20)
    assert all(before[0] < after[0] for before, after in pairwise(seen))
    assert {delay_ms for _, delay_ms in seen} <= {20, 21}


def test_the_same_run_gives_the_same_payloads_at_the_same_times() -> None:
    """In memory and on virtual time a run is repeatable to the bit."""

    async def scenario(wire: Wire) -> list[tuple[int, str | bytes]]:
        connection = await wire.ws.connect(BOOK)
        seen: list[tuple[int, str | bytes]] = []
        for _ in range(300):
            seen.append((wire.clock.monotonic_ns(), await connection.receive()))
            if len(seen) % 50 == 0:
                await wire.get("/fapi/v1/depth", "symbol=BTCUSDT&limit=5")
        return seen

    assert on_wire(scenario) == on_wire(scenario)


def test_control_messages_reach_the_session() -> None:
    """A subscription is acknowledged, and then heard."""

    async def scenario(wire: Wire) -> tuple[Any, Any]:
        connection = await wire.ws.connect("/public/ws")
        await connection.send('{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":7}')
        return json.loads(await connection.receive()), json.loads(await connection.receive())["e"]

    assert on_wire(scenario) == ({"result": None, "id": 7}, "bookTicker")


def test_a_connection_to_an_unknown_route_is_refused() -> None:
    """There are no streams at other paths."""

    async def scenario(wire: Wire) -> None:
        await wire.ws.connect("/nowhere/ws")

    with pytest.raises(Disconnected, match=r"/nowhere/ws: HTTP 404"):
        on_wire(scenario)


def test_a_cut_link_refuses_requests_and_connections() -> None:
    """Nothing was sent, and both say so."""

    async def scenario(wire: Wire) -> tuple[str, LinkState]:
        wire.link.cut()
        with pytest.raises(Disconnected, match="connection refused"):
            await wire.ws.connect(BOOK)
        return await outcome(wire.get("/fapi/v1/time")), wire.link.state

    assert on_wire(scenario) == ("NotSent: GET /fapi/v1/time: connection refused", LinkState.CUT)


@pytest.mark.parametrize(("cut_after_ms", "executed"), [(3, 0), (7, 1)])
def test_a_cut_leaves_the_outcome_of_a_sent_request_unknown(cut_after_ms: int, executed: int) -> None:
    """Cut on the way there it was not executed, cut on the way back it was; the client cannot tell."""

    async def scenario(wire: Wire) -> tuple[str, int]:
        asking = asyncio.ensure_future(outcome(wire.get("/fapi/v1/time")))
        await asyncio.sleep(cut_after_ms / 1000)
        wire.link.cut()
        said = await asking
        wire.link.restore()
        return said, await wire.connections()

    assert on_wire(scenario) == ("OutcomeUnknown: GET /fapi/v1/time: connection reset", executed)


def test_a_cut_ends_sockets_which_still_hand_out_what_had_arrived() -> None:
    """The client reads what it has and then learns of the end; the exchange has forgotten the session."""

    async def scenario(wire: Wire) -> tuple[int, str]:
        connection = await wire.ws.connect(BOOK)
        await asyncio.sleep(2)
        wire.link.cut()
        wire.link.restore()
        with pytest.raises(Disconnected):
            await connection.send("{}")
        return await read_to_the_end(connection)

    read, said = on_wire(scenario)
    assert read > 20
    assert said == f"{BOOK}: connection reset"


def test_a_cut_during_the_handshake_ends_it() -> None:
    """Whoever connects just then is told."""

    async def scenario(wire: Wire) -> str:
        connecting = asyncio.ensure_future(wire.ws.connect(BOOK))
        await asyncio.sleep(0.007)
        wire.link.cut()
        with pytest.raises(Disconnected) as caught:
            await connecting
        return str(caught.value)

    assert on_wire(scenario) == f"{BOOK}: connection reset"


def test_a_half_open_link_lets_requests_run_into_their_timeouts() -> None:
    """Nobody answers, and nobody says that nobody will; afterwards new requests get through."""

    async def scenario(wire: Wire) -> tuple[str, int, str]:
        wire.link.half_open()
        before_ms = wire.clock.time_ms()
        said = await outcome(wire.get("/fapi/v1/time", timeout_s=3))
        passed_ms = wire.clock.time_ms() - before_ms
        wire.link.restore()
        return said, passed_ms, await outcome(wire.get("/fapi/v1/time"))

    expected = ("OutcomeUnknown: GET /fapi/v1/time: no reply within 3 s", 3_000, "200")
    assert on_wire(scenario) == expected


def test_sockets_of_a_half_open_link_are_silent_for_good() -> None:
    """Their other end is gone: nothing arrives, sending goes nowhere, and only closing ends them."""

    async def scenario(wire: Wire) -> tuple[int, int]:
        connection = await wire.ws.connect(BOOK)
        await connection.receive()
        wire.link.half_open()
        await connection.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        wire.link.restore()
        reading = asyncio.ensure_future(read_to_the_end(connection))
        await asyncio.sleep(60)
        assert not reading.done()
        await connection.close()
        already, _ = await reading
        fresh = await wire.ws.connect(BOOK)
        return already, len(json.loads(await fresh.receive()))

    already, fields = on_wire(scenario)
    assert already < 100
    assert fields > 5


def test_connecting_over_a_half_open_link_times_out() -> None:
    """The handshake has a limit of its own."""

    async def scenario(wire: Wire) -> int:
        wire.link.half_open()
        before_ms = wire.clock.time_ms()
        with pytest.raises(Disconnected, match="no handshake within 10 s"):
            await wire.ws.connect(BOOK)
        return wire.clock.time_ms() - before_ms

    assert on_wire(scenario) == HANDSHAKE_TIMEOUT_S * 1000


@pytest.mark.parametrize("given_up_after_ms", [3, 7])
def test_giving_up_a_handshake_leaves_no_session_behind(given_up_after_ms: int) -> None:
    """A client that is cancelled while it connects, before or after the exchange heard of it, is forgotten there."""

    async def scenario(wire: Wire) -> int:
        connecting = asyncio.ensure_future(wire.ws.connect(BOOK))
        await asyncio.sleep(given_up_after_ms / 1000)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await asyncio.sleep(1)
        return len(wire.exchange._venue.hub.sessions)

    assert on_wire(scenario) == 0


def test_closing_wakes_the_reader_and_is_final() -> None:
    """A reader that waits learns of the end; closing twice does no harm."""

    async def scenario(wire: Wire) -> tuple[str, bool]:
        connection = await wire.ws.connect("/market/ws")
        reading = asyncio.ensure_future(read_to_the_end(connection))
        await asyncio.sleep(1)
        await connection.close()
        await connection.close()
        await wire.ws.close()
        await wire.http.close()
        return (await reading)[1], connection.closed

    assert on_wire(scenario) == ("/market/ws: closed by the client", True)


def test_a_reader_that_does_not_read_is_dropped() -> None:
    """What piles up for one socket is bounded; the others do not notice."""

    async def scenario(wire: Wire) -> tuple[str, bool]:
        slow = await wire.ws.connect(BOOK)
        quick = await wire.ws.connect(BOOK)
        reading = asyncio.ensure_future(read_to_the_end(quick))
        await asyncio.sleep(20)
        alive = not reading.done()
        await quick.close()
        await reading
        return (await read_to_the_end(slow))[1], alive

    said, alive = on_wire(scenario, max_queued_messages=200)
    assert said.endswith("messages were not read fast enough")
    assert alive


def test_too_many_control_messages_make_the_exchange_close_the_socket() -> None:
    """More than ten messages in a second end a connection, after the answers to those before."""

    async def scenario(wire: Wire) -> tuple[int, str]:
        connection = await wire.ws.connect("/public/ws")
        for number in range(12):
            await connection.send(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
        return await read_to_the_end(connection)

    assert on_wire(scenario) == (10, "/public/ws: closed by the exchange")


def test_the_exchange_cuts_a_connection_that_has_lived_its_time() -> None:
    """The 24 hours of a connection, shortened: it ends after what was sent before."""

    async def scenario(wire: Wire) -> tuple[int, str]:
        wire.exchange._venue.hub.options = StreamOptions(session_life_ms=1000)
        opened_ms = wire.clock.time_ms()
        connection = await wire.ws.connect(BOOK)
        read, reason = await read_to_the_end(connection)
        assert read
        return wire.clock.time_ms() - opened_ms, reason

    assert on_wire(scenario) == (1010, f"{BOOK}: closed by the exchange")


def test_a_fault_inside_the_exchange_reaches_the_one_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a market is not swallowed on the wire."""

    async def scenario(wire: Wire) -> None:
        def break_down(_now_ms: int) -> None:
            raise ArithmeticError("the market broke")

        monkeypatch.setattr(wire.exchange, "advance", break_down)
        await wire.get("/fapi/v1/time")

    with pytest.raises(ArithmeticError, match="the market broke"):
        on_wire(scenario, latency_ms=0)


def test_a_delay_line_keeps_the_order_of_items_put_at_the_same_time() -> None:
    """Equal due times do not change places."""

    async def main(clock: VirtualClock) -> list[tuple[int, int]]:
        arrived: list[tuple[int, int]] = []
        line: DelayLine[int] = DelayLine(3, lambda item: arrived.append((clock.time_ms(), item)))
        start_ms = clock.time_ms()
        for item in range(50):
            line.put(item)
        assert len(line) == 50
        await asyncio.sleep(0.001)
        line.put(50)
        await asyncio.sleep(1)
        return [(at_ms - start_ms, item) for at_ms, item in arrived]

    assert run_virtual(main) == [(3, item) for item in range(50)] + [(4, 50)]


def test_a_delay_line_loses_what_is_cleared_and_goes_on_afterwards() -> None:
    """Clearing an empty line or one in use leaves it ready."""

    async def main(_clock: VirtualClock) -> list[str]:
        arrived: list[str] = []
        line: DelayLine[str] = DelayLine(10, arrived.append)
        line.clear()
        line.put("lost")
        line.clear()
        line.put("kept")
        await asyncio.sleep(1)
        return arrived

    assert run_virtual(main) == ["kept"]


def test_a_delay_line_goes_on_after_an_item_whose_delivery_failed() -> None:
    """One failure does not hold up what comes after it."""

    async def main(_clock: VirtualClock) -> tuple[list[str], list[str]]:
        arrived: list[str] = []
        failures: list[str] = []

        def deliver(item: str) -> None:
            if item == "bad":
                raise ValueError(item)
            arrived.append(item)

        asyncio.get_running_loop().set_exception_handler(
            lambda _, told: failures.append(str(told["exception"]))
        )
        line: DelayLine[str] = DelayLine(10, deliver)
        for item in ("bad", "good"):
            line.put(item)
        await asyncio.sleep(1)
        return arrived, failures

    assert run_virtual(main) == (["good"], ["bad"])
