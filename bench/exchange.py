"""How fast the simulated exchange is, as ratios to something simpler that runs beside it: `python bench/exchange.py`.

Orders over loopback stand beside a bare aiohttp server that sends back what it got, in the same run and with the same
requests; a market replayed in memory, with six orders of ours resting, stands beside `json.loads` of the same events.
Absolute times say something about a machine, ratios about the program.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a file: `python bench/exchange.py`

from aiohttp import web

from bench.machine import machine
from sim import payloads
from sim.auth import sign
from sim.clockwork import drive
from sim.exchange import Exchange, Options, Request
from sim.limits import LimitSizes
from sim.market import BookTicker, Market, MarketEvent, Trade
from sim.recording import RecordedMarket
from sim.rules import MAINNET
from sim.server import start_server
from sim.synthetic import SyntheticMarket
from utils.clock import SystemClock

KEY, SECRET = "paper-key", "paper-secret"  # the keys of an exchange made of paper
SYMBOL = "BTCUSDT"
CONNECTIONS = 8
ROUNDS = 5
STEP = 500
"""So many events pass in a replay between two looks at the six orders."""
_NO_LIMIT = 10**12


# Orders over loopback


async def serve_exchange() -> str:
    """An exchange with a synthetic market and without limits runs in this process; its URL is returned."""
    clock = SystemClock()
    now_ms = clock.time_ms()
    market = SyntheticMarket({SYMBOL: MAINNET[SYMBOL]}, now_ms, seed=1)
    limits = LimitSizes(
        weight_per_minute=_NO_LIMIT, orders_per_ten_seconds=_NO_LIMIT, orders_per_minute=_NO_LIMIT
    )
    exchange = Exchange(
        market,
        api_key=KEY,
        api_secret=SECRET,
        now_ms=now_ms,
        wallet_quote=Decimal(10**6),
        options=Options(limits=limits),
    )
    server = await start_server(exchange, clock)
    _KEPT.append(asyncio.ensure_future(drive(exchange, clock)))
    return server.url


async def serve_echo() -> str:
    """A bare aiohttp server sends back the query that it gets; its URL is returned."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        body = request.raw_path.partition("?")[2].encode()
        return web.Response(body=body, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _KEPT.append(runner)
    port = runner.addresses[0][1]
    return f"http://127.0.0.1:{port}"


_KEPT: list[object] = []


async def serve(kind: str) -> None:
    """The server runs, its port on stdout, until it is ended."""
    url = await (serve_exchange() if kind == "exchange" else serve_echo())
    print(url.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


def order_requests(worker: str, count: int) -> list[bytes]:
    """Return signed requests, ready to be sent: place far from the market, amend twice, cancel, and again."""
    clock = SystemClock()
    found = []
    for number in range(count):
        turn, step = divmod(number, 4)
        name = f"{worker}-{turn}"
        price = f"price={MAINNET[SYMBOL].min_price + 20_000 + step}&quantity=0.010"
        method, text = (
            ("POST", f"side=BUY&type=LIMIT&timeInForce=GTX&{price}&newClientOrderId={name}"),
            ("PUT", f"side=BUY&{price}&origClientOrderId={name}"),
            ("PUT", f"side=BUY&{price}&origClientOrderId={name}"),
            ("DELETE", f"origClientOrderId={name}"),
        )[step]
        query = f"symbol={SYMBOL}&{text}&recvWindow=60000&timestamp={clock.time_ms()}"
        head = f"{method} /fapi/v1/order?{query}&signature={sign(SECRET, query)} HTTP/1.1"
        found.append(
            f"{head}\r\nHost: 127.0.0.1\r\nX-MBX-APIKEY: {KEY}\r\nContent-Length: 0\r\n\r\n".encode()
        )
    return found


async def send_all(port: int, requests: Sequence[bytes]) -> list[float]:
    """Each request has been answered with 200, one after the other; the seconds that each took are returned."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took = []
    for request in requests:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        took.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a request was refused: {body.decode()}")
    writer.close()
    return took


async def throughput(port: int, name: str, count: int) -> float:
    """Return requests a second over several connections."""
    batches = [order_requests(f"{name}{worker}", count) for worker in range(CONNECTIONS)]
    started = time.perf_counter()
    await asyncio.gather(*(send_all(port, batch) for batch in batches))
    return CONNECTIONS * count / (time.perf_counter() - started)


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str) -> None:
        arguments = [sys.executable, str(Path(__file__).resolve()), "--serve", kind]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ourselves
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """The process has ended."""
        self._process.kill()
        self._process.communicate()


async def measure_orders(count: int) -> dict[str, float]:
    """Return throughput and round trips of both servers; they take turns, and medians of the turns count."""
    servers = {kind: Server(kind) for kind in ("echo", "exchange")}
    rates: dict[str, list[float]] = {kind: [] for kind in servers}
    trips: dict[str, list[float]] = {kind: [] for kind in servers}
    try:
        for turn in range(ROUNDS + 1):
            for kind, server in servers.items():
                rate = await throughput(server.port, f"t{turn}", count)
                trip = await send_all(server.port, order_requests(f"r{turn}", count))
                if turn:  # the first turn warms up
                    rates[kind].append(rate)
                    trips[kind] += trip
    finally:
        for server in servers.values():
            server.stop()
    found: dict[str, float] = {}
    for kind in servers:
        found[f"{kind} requests/s"] = statistics.median(rates[kind])
        found[f"{kind} round trip p50 ms"] = statistics.median(trips[kind]) * 1000
        found[f"{kind} round trip p99 ms"] = statistics.quantiles(trips[kind], n=100)[98] * 1000
    found["throughput, exchange / echo"] = found["exchange requests/s"] / found["echo requests/s"]
    for part in ("p50", "p99"):
        name = f"round trip {part}"
        found[f"{name}, exchange / echo"] = found[f"exchange {name} ms"] / found[f"echo {name} ms"]
    return found


# A market replayed in memory


class Replay:
    """A market of events that are in memory already."""

    def __init__(self, events: Sequence[MarketEvent]) -> None:
        self.rules = {SYMBOL: MAINNET[SYMBOL]}
        self._events = events
        self._next = 0

    def peek_ms(self) -> int | None:
        """Return the time of the next event, None at the end."""
        return self._events[self._next].time_ms if self._next < len(self._events) else None

    def take(self) -> MarketEvent:
        """Return the next event."""
        event = self._events[self._next]
        self._next += 1
        return event


def first_events(market: Market, count: int) -> list[MarketEvent]:
    """Return that many events of a market."""
    return [market.take() for _ in range(count)]


def as_json(events: Iterable[MarketEvent]) -> list[str]:
    """Return the events as the streams carry them."""
    rules = MAINNET[SYMBOL]
    return [
        payloads.book_event(event, rules, 0)
        if isinstance(event, BookTicker)
        else payloads.trade_event(event, rules, event.time_ms)
        for event in events
        if isinstance(event, BookTicker | Trade)
    ]


class Quoter:
    """Keeps six post-only orders resting, three a side from the touch on; replaces what has been filled."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._placed = 0
        self._resting: dict[str, str] = {}

    def look(self, quote: BookTicker, now_ms: int) -> None:
        """Six orders rest again, near the touch of `quote`."""
        asked = self._call("GET", "openOrders", "", now_ms)
        open_names = {row["clientOrderId"] for row in asked}
        rules = MAINNET[SYMBOL]
        for level in range(3):
            for side, ticks in (("BUY", quote.bid_ticks - level), ("SELL", quote.ask_ticks + level)):
                slot = f"{side}{level}"
                if self._resting.get(slot) in open_names:
                    continue
                self._placed += 1
                self._resting[slot] = name = f"q{self._placed}"
                more = f"&side={side}&type=LIMIT&timeInForce=GTX&quantity=0.002&newClientOrderId={name}"
                self._call("POST", "order", f"{more}&price={rules.price_text(ticks)}", now_ms)

    @property
    def placed(self) -> int:
        """Return how many orders it took."""
        return self._placed

    def _call(self, method: str, path: str, more: str, now_ms: int) -> Any:
        query = f"symbol={SYMBOL}{more}&timestamp={now_ms}"
        query += f"&signature={sign(SECRET, query)}"
        request = Request(method, f"/fapi/v1/{path}", query, {"x-mbx-apikey": KEY}, "")
        return json.loads(self._exchange.handle(request, now_ms).body)


def replay_seconds(events: Sequence[MarketEvent]) -> tuple[float, int]:
    """Return how long the exchange takes for the events, its quoter's requests included, and the orders placed."""
    start_ms = events[0].time_ms
    limits = LimitSizes(
        weight_per_minute=_NO_LIMIT, orders_per_ten_seconds=_NO_LIMIT, orders_per_minute=_NO_LIMIT
    )
    exchange = Exchange(
        Replay(events),
        api_key=KEY,
        api_secret=SECRET,
        now_ms=start_ms,
        wallet_quote=Decimal(10**6),
        options=Options(limits=limits),
    )
    quoter = Quoter(exchange)
    started = time.perf_counter()
    for number in range(0, len(events), STEP):
        last = events[min(number + STEP, len(events)) - 1]
        exchange.advance(last.time_ms)
        quotes = [event for event in events[number : number + STEP] if isinstance(event, BookTicker)]
        if quotes:
            quoter.look(quotes[-1], last.time_ms)
    return time.perf_counter() - started, quoter.placed


def measure_replay(market: Market, count: int) -> dict[str, float]:
    """Return events a second of the exchange and of `json.loads`, and of the market alone."""
    started = time.perf_counter()
    events = first_events(market, count)
    made = time.perf_counter() - started
    texts = as_json(events)
    runs = [replay_seconds(events) for _ in range(3)]
    parsed = []
    for _ in range(3):
        started = time.perf_counter()
        for text in texts:
            json.loads(text)
        parsed.append(time.perf_counter() - started)
    replayed = statistics.median(seconds for seconds, _ in runs)
    return {
        "events": count,
        "orders placed": runs[0][1],
        "market alone, events/s": count / made,
        "exchange, events/s": count / replayed,
        "market and exchange, events/s": count / (made + replayed),
        "json.loads, events/s": len(texts) / statistics.median(parsed),
        "exchange / json.loads": statistics.median(parsed) / replayed,
    }


def markets(recording: str | None) -> dict[str, Market]:
    """Return the markets to replay: a recording, if there is one, and a synthetic one."""
    now_ms, rules = 1_700_000_000_000, {SYMBOL: MAINNET[SYMBOL]}
    found: dict[str, Market] = {"synthetic": SyntheticMarket(rules, now_ms, seed=1)}
    if recording is not None:
        found["recording"] = RecordedMarket(Path(recording), rules, now_ms)
    return found


# What is shown


def show(title: str, rows: Mapping[str, float]) -> None:
    """A table has been printed."""
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<36} {value:>12,.0f}" if value >= 100 else f"  {name:<36} {value:>12.3f}")


def main() -> None:
    """The tables, or one JSON object, are on stdout."""
    parser = argparse.ArgumentParser(description="How fast the simulated exchange is.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--recording", metavar="DIR", help="a folder or capture of BTCUSDT to replay too")
    parser.add_argument("--serve", choices=("exchange", "echo"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return
    requests, events = (80, 20_000) if given.quick else (400, 200_000)
    orders = asyncio.run(measure_orders(requests))
    replays = {name: measure_replay(market, events) for name, market in markets(given.recording).items()}
    if given.json:
        print(json.dumps({**machine(), "orders": orders, "replay": replays}))
        return
    for name, value in machine().items():
        print(f"{name:<10} {value}")
    show(f"Orders over loopback: place, amend, amend, cancel, {CONNECTIONS} connections", orders)
    for name, figures in replays.items():
        show(f"Replay in memory with six orders resting: {name}", figures)


if __name__ == "__main__":
    main()
