"""Orders over the WebSocket API, against the simulated exchange: the outcomes of REST, and nothing is sent twice."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn

import pytest

from core.events import ConnectionEvent, ConnectionKind, EventBus
from core.gateway import Amend, Gateway
from core.live_order import LiveOrder
from core.model import OrderReport, OrderStatus, Quote, Side
from core.order import LiveOrders
from core.order_transport import OrderSocket
from sim.server import start_server
from sim.transport import InMemoryConnection, InMemoryHttp, InMemoryWs, Link
from sim.virtual_time import VirtualClock, run_virtual
from test.examples import BTC
from test.sim_factory import KEY, SECRET, START_MS, Rig
from utils.clock import SystemClock
from utils.errors import Disconnected, NotSent, OutcomeUnknown, RateLimited, Refused
from utils.http import AiohttpTransport, BinanceRest, HttpResponse
from utils.ws import Backoff, DeliversReceived, WsConnection
from utils.ws_api import WsApi
from utils.ws_sockets import socket_transport

TOUCH = 500_000
LATENCY_MS = 20
ROUND_TRIP_MS = 2 * LATENCY_MS


class Desk:
    """An account on an exchange 40 ms away whose orders go by the socket, while it is up."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.rig = Rig()
        self.link = Link(self.rig.exchange, clock, LATENCY_MS)
        self.rest = BinanceRest(InMemoryHttp(self.link), clock, api_key=KEY, api_secret=SECRET)
        self.gateway = Gateway(self.rest, clock)
        self.bus = EventBus(clock)
        self.facts: list[object] = []
        self.bus.subscribe(self.facts.append, ConnectionEvent, name="test")
        self.socket = OrderSocket(
            self.rest, self.gateway.lanes, InMemoryWs(self.link), self.bus, clock, random.Random(1)
        )
        self.orders = LiveOrders()
        self.running: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Start the socket and wait until it is up."""
        self.running = asyncio.ensure_future(self.socket.run())
        await self.until_up()

    async def until_up(self) -> None:
        """Wait until the socket is up."""
        async with asyncio.timeout(60):
            await ready(self.socket)

    async def place(self, name: str = "a", price_ticks: int = TOUCH) -> OrderReport:
        """Place a buy of 0.010."""
        return await self.gateway.place_post_only(BTC, name, Quote(Side.BUY, 1, price_ticks, 10))

    def order(self, name: str = "a", price_ticks: int = TOUCH) -> LiveOrder:
        """Return the order as it is known here."""
        return self.orders.register(name, Quote(Side.BUY, 1, price_ticks, 10), 0, 0)

    def requests(self) -> dict[str, int]:
        """Return how often what was requested."""
        counts: Mapping[str, int] = self.rig.record()["requests"]
        return {name: number for name, number in counts.items() if "order" in name.lower()}


BEGIN_MS = START_MS + 12_000
"""Not at the turn of a limit's window, where counts are not believed."""


async def ready(socket: OrderSocket) -> None:
    """Wait until the socket takes requests."""
    while not socket.api.is_ready:  # noqa: ASYNC110  # nothing is told of it in time for the test
        await asyncio.sleep(0.01)


def at_desk(work: Callable[[Desk], Coroutine[Any, Any, None]], *, connected: bool = True) -> None:
    """Run in virtual time, with the socket up."""

    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock)
        if connected:
            await desk.connect()
        await work(desk)

    run_virtual(main, epoch_ms=BEGIN_MS)


# --- requests and answers -----------------------------------------------------------------------------------


def test_an_order_lives_its_life_over_the_socket() -> None:
    """Placed, amended, looked up and cancelled; REST is not asked once."""

    async def work(desk: Desk) -> None:
        placed = await desk.place()
        (amended,) = await desk.gateway.amend(BTC, [Amend(desk.order(), TOUCH - 50, 20)])
        found = await desk.gateway.find_order(BTC, "a")
        (cancelled,) = await desk.gateway.cancel(BTC, [known(desk)])
        assert (placed.status, placed.price_ticks) == (OrderStatus.ACTIVE, TOUCH)
        assert isinstance(amended, OrderReport)
        assert (amended.price_ticks, amended.lots) == (TOUCH - 50, 20)
        assert found is not None
        assert found.price_ticks == TOUCH - 50
        assert isinstance(cancelled, OrderReport)
        assert cancelled.status is OrderStatus.CANCELLED
        assert desk.requests() == {
            "ws order.place": 1,
            "ws order.modify": 1,
            "ws order.status": 1,
            "ws order.cancel": 1,
        }
        assert (desk.rest.usage.sent, desk.rest.usage.by_shortcut) == (4, 4)

    at_desk(work)


def known(desk: Desk, name: str = "a") -> LiveOrder:
    """Return an order that was registered before."""
    order = desk.orders.find(name)
    assert order is not None
    return order


def test_signature_is_that_of_the_documentation() -> None:
    """The sorted parameters with the key among them, not percent-encoded."""
    params = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "1",
        "price": "9000",
        "timeInForce": "GTC",
    }
    rest = BinanceRest(
        InMemoryHttp(Link(Rig().exchange, Documented())),
        Documented(),
        api_key="dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
        api_secret="2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
        recv_window_ms=5000,
    )
    signed = rest.signed_for_socket(params)
    assert signed["signature"] == "5b8fe2b962b8e1b2b82fb40e548d56147c2a8f835b5f1393ae4b4b90c38b527f"
    assert signed["timestamp"] == 1591702613943


class Documented:
    """The clock of the documentation's example."""

    def time_ms(self) -> int:
        """Return its moment."""
        return 1591702613943

    def monotonic_ns(self) -> int:
        """Return anything."""
        return 0


def test_requests_do_not_wait_for_each_other() -> None:
    """Ten orders take one round trip, and each gets its own answer."""

    async def work(desk: Desk) -> None:
        began_ms = desk.clock.time_ms()
        reports = await asyncio.gather(*(desk.place(f"o{at}", TOUCH - at) for at in range(10)))
        assert desk.clock.time_ms() - began_ms == ROUND_TRIP_MS
        assert [report.client_id for report in reports] == [f"o{at}" for at in range(10)]

    at_desk(work)


@pytest.mark.parametrize(("price_ticks", "code"), [(TOUCH + 1, -5022), (TOUCH * 2, -4016)])
def test_a_refusal_is_that_of_rest(price_ticks: int, code: int) -> None:
    """Code and message come through."""

    async def work(desk: Desk) -> None:
        with pytest.raises(Refused) as caught:
            await desk.place(price_ticks=price_ticks)
        assert (caught.value.code, caught.value.status) == (code, 400)
        assert desk.rest.usage.refused == 1

    at_desk(work)


def test_a_cancel_of_an_unknown_order_is_an_answer_about_that_order() -> None:
    """As in a batch: -2011 belongs to the order, it does not end the call."""

    async def work(desk: Desk) -> None:
        (answer,) = await desk.gateway.cancel(BTC, [desk.order("nobody")])
        assert isinstance(answer, Refused)
        assert answer.code == -2011

    at_desk(work)


def test_a_look_up_of_an_unknown_order_finds_nothing() -> None:
    """-2013 means the same over either way."""

    async def work(desk: Desk) -> None:
        assert await desk.gateway.find_order(BTC, "nobody") is None

    at_desk(work)


def test_several_cancels_go_in_one_request_of_rest() -> None:
    """One request does for all of them; the socket would need one each."""

    async def work(desk: Desk) -> None:
        await asyncio.gather(desk.place("a", TOUCH), desk.place("b", TOUCH - 1))
        answers = await desk.gateway.cancel(BTC, [desk.order("a"), desk.order("b")])
        assert [type(answer) for answer in answers] == [OrderReport] * 2
        assert desk.requests()["DELETE /fapi/v1/batchOrders"] == 1

    at_desk(work)


def test_limits_of_the_answers_reach_the_budget() -> None:
    """The exchange counts the orders of both ways together."""

    async def work(desk: Desk) -> None:
        await desk.place()
        usage, budget, now_ms = desk.rest.usage, desk.gateway.lanes.budget, desk.clock.time_ms()
        assert (usage.order_count_10s, usage.order_count_1m) == (1, 1)
        assert budget.orders_1m.used(now_ms) == 1
        desk.rig.now_ms = now_ms
        for _ in range(99):
            desk.rig.call("POST", "/fapi/v1/order", symbol="BTCUSDT")
        await desk.place("b", TOUCH - 1)
        assert budget.orders_10s.used(now_ms) == 101

    at_desk(work)


def test_too_many_requests_are_a_limit_with_its_time() -> None:
    """The time until which to wait comes as a moment, and everything waits for it, REST too."""

    async def work(desk: Desk) -> None:
        desk.rig.exchange._api.weights.weight.add(2400, desk.clock.time_ms())
        with pytest.raises(RateLimited) as caught:
            await desk.gateway.find_order(BTC, "a")
        assert caught.value.status == 429
        left_s = 60 - BEGIN_MS // 1000 % 60
        assert left_s - 1 <= caught.value.retry_after_s <= left_s
        with pytest.raises(RateLimited, match="not sent"):
            await desk.gateway.find_order(BTC, "a")

    at_desk(work)


# --- connection ---------------------------------------------------------------------------------------------


def test_without_a_connection_orders_go_by_rest() -> None:
    """Nothing has to wait for the socket to come."""

    async def work(desk: Desk) -> None:
        await desk.place()
        assert desk.requests() == {"POST /fapi/v1/order": 1}

    at_desk(work, connected=False)


def test_a_connection_that_ends_leaves_the_requests_under_way_unknown() -> None:
    """The order rests, and was not sent again by REST; the socket comes back by itself."""

    async def work(desk: Desk) -> None:
        placing = asyncio.ensure_future(desk.place())
        await asyncio.sleep(0.03)
        desk.link.cut()
        with pytest.raises(OutcomeUnknown):
            await placing
        desk.link.restore()
        assert desk.requests() == {"ws order.place": 1}
        assert desk.rest.usage.unknown == 1
        await desk.until_up()
        assert (await desk.place("b", TOUCH - 1)).status is OrderStatus.ACTIVE
        assert desk.requests() == {"ws order.place": 2}
        kinds = [fact.kind for fact in desk.facts if isinstance(fact, ConnectionEvent)]
        assert kinds == [ConnectionKind.UP, ConnectionKind.DOWN, ConnectionKind.UP]

    at_desk(work)


def test_request_in_the_turn_in_which_the_connection_ends_goes_by_rest() -> None:
    """Nothing of it was written: it is not in doubt, and a cancel need not wait for the next attempt."""

    async def work(desk: Desk) -> None:
        await desk.place()
        connection = desk.socket.api.stream._connection
        assert isinstance(connection, InMemoryConnection)
        connection.drop("torn")
        assert desk.socket.api.is_ready
        (answer,) = await desk.gateway.cancel(BTC, [desk.order()])
        assert isinstance(answer, OrderReport)
        assert desk.requests() == {"ws order.place": 1, "DELETE /fapi/v1/order": 1}
        assert (desk.rest.usage.unknown, desk.socket.api.pending) == (0, 0)
        assert desk.gateway.lanes._connections == 0
        await desk.until_up()
        connection = desk.socket.api.stream._connection
        assert isinstance(connection, InMemoryConnection)
        connection.drop("torn again")
        ends: list[object] = []
        order = desk.orders.register("b", Quote(Side.BUY, 1, TOUCH, 10), 0, 0)
        assert desk.gateway.start_amend(BTC, lambda: Amend(order, TOUCH - 50, 20), ends.append)
        assert [type(end) for end in ends] == [NotSent]
        assert desk.gateway.lanes._connections == 0

    at_desk(work)


def test_while_the_connection_is_away_orders_go_by_rest() -> None:
    """Not one is lost to the wait for the next attempt."""

    async def work(desk: Desk) -> None:
        desk.link.cut()
        desk.link.restore()
        await asyncio.sleep(0.01)
        assert not desk.socket.api.is_ready
        await desk.place()
        assert desk.requests() == {"POST /fapi/v1/order": 1}

    at_desk(work)


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown() -> None:
    """The connection may be dead without saying so: what follows goes by REST until there is a new one."""

    async def work(desk: Desk) -> None:
        desk.rest._timeout_s = 0.03
        with pytest.raises(OutcomeUnknown, match=r"order\.place: no answer within 0\.03 s"):
            await desk.place()
        desk.rest._timeout_s = 3.0
        assert not desk.socket.api.is_ready
        assert (await desk.place("b", TOUCH - 1)).client_id == "b"
        assert desk.requests() == {"ws order.place": 1, "POST /fapi/v1/order": 1}
        assert desk.socket.api.pending == 0
        await desk.until_up()

    at_desk(work)


def test_what_follows_a_request_that_was_given_up_goes_by_rest() -> None:
    """A deadline shorter than the time for an answer must not have the next cancel wait on the same dead connection."""

    async def work(desk: Desk) -> None:
        await desk.place()
        order = desk.order()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(ROUND_TRIP_MS / 4000):
                await desk.gateway.cancel(BTC, [order])
        assert not desk.socket.api.is_ready
        await desk.gateway.cancel(BTC, [order])
        assert desk.requests() == {
            "ws order.place": 1,
            "ws order.cancel": 1,
            "DELETE /fapi/v1/batchOrders": 1,
        }
        await desk.until_up()

    at_desk(work)


def test_an_old_connection_is_renewed_between_two_requests() -> None:
    """After 23 hours the socket takes no more requests; the one under way gets its answer first."""

    async def work(desk: Desk) -> None:
        await asyncio.sleep(23 * 3600 - 0.025)
        first = asyncio.ensure_future(desk.place("a"))
        await asyncio.sleep(0.03)
        assert not desk.socket.api.is_ready
        assert desk.socket.api.pending == 1
        await desk.place("b", TOUCH - 1)
        assert (await first).status is OrderStatus.ACTIVE
        assert desk.requests() == {"ws order.place": 1, "POST /fapi/v1/order": 1}
        await desk.until_up()
        await desk.place("c", TOUCH - 2)
        assert desk.requests()["ws order.place"] == 2

    at_desk(work)


def test_an_exchange_with_no_weight_left_is_not_asked_for_a_connection() -> None:
    """The handshake costs five; the socket waits for the next minute, orders go by REST."""

    async def work(desk: Desk) -> None:
        budget = desk.gateway.lanes.budget
        budget.weight.take(2000, desk.clock.time_ms())
        desk.running = asyncio.ensure_future(desk.socket.run())
        await asyncio.sleep(5)
        assert not desk.socket.api.is_ready
        assert (await desk.place()).status is OrderStatus.ACTIVE
        await desk.until_up()
        assert desk.clock.time_ms() % 60_000 < 31_000

    at_desk(work, connected=False)


def test_a_cancelled_socket_leaves_nobody_waiting() -> None:
    """The end of the daemon: what is under way is unknown, what comes after goes by REST."""

    async def work(desk: Desk) -> None:
        placing = asyncio.ensure_future(desk.place())
        await asyncio.sleep(0.01)
        assert desk.running is not None
        desk.running.cancel()
        with pytest.raises(OutcomeUnknown, match="closed"):
            await placing
        await desk.place("b", TOUCH - 1)
        assert desk.requests()["POST /fapi/v1/order"] == 1

    at_desk(work)


# --- what makes no sense ------------------------------------------------------------------------------------


class Odd(DeliversReceived):
    """A socket whose other side answers each request with the texts given, ``{id}`` filled in."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.sent: list[dict[str, Any]] = []
        self._inbox: asyncio.Queue[str] = asyncio.Queue()

    async def connect(self, target: str) -> WsConnection:
        """Return itself."""
        assert target == "/ws-fapi/v1"
        return self

    async def receive(self) -> str:
        """Return the next answer."""
        return await self._inbox.get()

    async def send(self, text: str) -> None:
        """Answer."""
        self.send_now(text)

    def send_now(self, text: str | bytes) -> None:
        """Answer."""
        self.sent.append(json.loads(text))
        for answer in self.texts:
            self._inbox.put_nowait(answer.replace("{id}", str(self.sent[-1]["id"])))

    async def close(self) -> None:
        """Nothing is held."""


async def asked(odd: Odd, clock: VirtualClock) -> HttpResponse:
    """Return what a request gets on such a socket."""

    async def nothing() -> None:
        """Cost nothing."""

    api = WsApi(
        odd,
        clock,
        Backoff(random.Random(1)),
        before_connecting=nothing,
        on_up=lambda: None,
        on_down=lambda _reason: None,
    )
    running = asyncio.ensure_future(api.run())
    await asyncio.sleep(0.001)
    try:
        return await api.request("order.place", {"symbol": "BTCUSDT"}, 1.0)
    finally:
        running.cancel()


GOOD = '{"id":{id},"status":200,"result":{"orderId":7}}'


@pytest.mark.parametrize(
    "noise",
    [
        "not json",
        "[]",
        "{}",
        '{"id":99,"status":200,"result":{}}',
        '{"id":"x","status":200}',
        '{"status":"?"}',
        "\ud800",
    ],
)
def test_noise_on_the_socket_does_not_harm_the_answer(noise: str) -> None:
    """What cannot be read, or is for nobody, is passed over."""
    response = run_virtual(lambda clock: asked(Odd(noise, GOOD), clock))
    assert (response.status, response.body) == (200, b'{"orderId":7}')


@pytest.mark.parametrize(
    "noise", ["not json", '{"id":99,"status":200,"result":{}}', '{"id":null,"status":401}']
)
def test_a_socket_with_nothing_but_noise_leaves_the_outcome_unknown(noise: str) -> None:
    """Nobody takes an answer that is not his."""
    with pytest.raises(OutcomeUnknown):
        run_virtual(lambda clock: asked(Odd(noise), clock))


class Direct(Odd):
    """A socket that hands on what it reads at once: the test is the other side."""

    def __init__(self) -> None:
        super().__init__()
        self.hand_on: Callable[[str | bytes], None] = lambda _message: None

    async def deliver(self, on_message: Callable[[str | bytes], None]) -> NoReturn:
        """Have the test hand on the answers."""
        self.hand_on = on_message
        await super().deliver(on_message)


def test_an_answer_in_the_turn_in_which_its_asker_is_cancelled_harms_nobody() -> None:
    """Nobody waits for it any more; the others on the socket get theirs."""

    async def work(desk: Desk) -> None:
        socket = Direct()
        api = desk.socket.api
        api.stream._transport = socket
        await desk.connect()
        given_up = asyncio.ensure_future(api.request("order.cancel", {}, 1.0))
        other = asyncio.ensure_future(api.request("order.place", {}, 1.0))
        await asyncio.sleep(0.01)
        given_up.cancel()
        socket.hand_on('{"id":1,"status":200,"result":{}}')
        socket.hand_on('{"id":2,"status":200,"result":{"orderId":7}}')
        assert (await other).body == b'{"orderId":7}'
        assert given_up.cancelled()

    at_desk(work, connected=False)


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    """The second is for nobody."""
    assert run_virtual(lambda clock: asked(Odd(GOOD, GOOD), clock)).status == 200


def test_the_time_of_a_limit_becomes_that_of_rest() -> None:
    """Rounded up to whole seconds."""
    data = '{"serverTime":1000,"retryAfter":3500}'
    error = f'{{"code":-1003,"msg":"Way too much","data":{data}}}'
    text = f'{{"id":{{id}},"status":418,"error":{error}}}'
    assert run_virtual(lambda clock: asked(Odd(text), clock)).headers == {"retry-after": "3"}
    plain = '{"id":{id},"status":429,"error":{"code":-1003,"msg":"no"}}'
    assert run_virtual(lambda clock: asked(Odd(plain), clock)).headers == {}


def test_without_a_connection_a_request_is_certainly_not_sent() -> None:
    """Whoever asks may use another way."""

    async def main(clock: VirtualClock) -> None:
        api = WsApi(
            Odd(),
            clock,
            Backoff(random.Random(1)),
            before_connecting=refuse,
            on_up=lambda: None,
            on_down=lambda _reason: None,
        )
        running = asyncio.ensure_future(api.run())
        await asyncio.sleep(0.001)
        with pytest.raises(NotSent):
            await api.request("order.place", {}, 1.0)
        running.cancel()

    run_virtual(main)


async def refuse() -> None:
    """Have no connection made."""
    raise Disconnected("not now")


# --- sockets ------------------------------------------------------------------------------------------------


class Shifted:
    """A clock that goes on from where the exchange begins."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._began_ns = self._clock.monotonic_ns()

    def time_ms(self) -> int:
        """Return the exchange's time."""
        return START_MS + 1000 + (self._clock.monotonic_ns() - self._began_ns) // 1_000_000

    def monotonic_ns(self) -> int:
        """Return the machine's."""
        return self._clock.monotonic_ns()


async def test_orders_go_over_a_real_socket() -> None:
    """Signed, answered and counted as in memory."""
    rig, clock = Rig(), Shifted()
    server = await start_server(rig.exchange, clock, "127.0.0.1", 0)
    transport = AiohttpTransport(server.url)
    rest = BinanceRest(transport, clock, api_key=KEY, api_secret=SECRET)
    gateway = Gateway(rest, clock)
    sockets = socket_transport(server.url.replace("http://", "ws://"))
    socket = OrderSocket(rest, gateway.lanes, sockets, EventBus(clock), clock, random.Random(1))
    running = asyncio.ensure_future(socket.run())
    try:
        async with asyncio.timeout(10):
            await ready(socket)
        report = await gateway.place_post_only(BTC, "a", Quote(Side.BUY, 1, TOUCH, 10))
        assert report.status is OrderStatus.ACTIVE
        assert rest.usage.by_shortcut == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await transport.close()
        await server.close()
