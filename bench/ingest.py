"""How many messages of best bid and ask a second one core takes: `python bench/ingest.py`.

A sender on another core writes ready-made frames, 64 KiB at a time, as fast as they are read. Each message has to end
as an updated best bid and ask; of the daemon's market data worker, as the engine builds it, in the shared state and on
the bus, where one function hears of it. Nothing may be left out: what was kept is counted against what was sent.
"""

import argparse
import asyncio
import gc
import importlib.util
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # run as a file; its own folder has a `requests` that is not the library

from bench.clients import BOOK_STREAM, ccxt_client
from bench.machine import machine, pin, two_cores
from bench.quiet_socket import frame
from bench.quiet_venue import KEY, MID_TICKS, SECRET, SYMBOL, QuietVenue, symbols_of
from commands.loops import new_event_loop
from commands.wiring import wired
from core.context import SymbolContext
from core.events import BookEvent, EventBus
from core.gate import Gate
from core.gateway import Gateway
from core.market import MarketDataWorker
from core.settings import Settings, settings_from
from core.state import SharedState
from core.wiring import Wiring
from utils.config_loader import get_config
from utils.ws_governor import ConnectionGovernor, GovernedTransport

CORES = two_cores()
REMEDY = "pip install -r requirements-bench.lock"
READY_WITHIN_S = 30.0
DONE_WITHIN_S = 120.0
CHUNK_BYTES = 1 << 16
FIRST_ID = 10_000
STACKS = ("bytes only", "floor", "daemon", "python-binance", "ccxt")
NEEDS = {"floor": ("picows", "uvloop"), "python-binance": ("binance",), "ccxt": ("ccxt",)}
SLOW = 5
"""The floor and the sender get so many times the messages of the others, or they would be done at once."""


def book_frames(count: int, now_ms: int, symbols: Sequence[str] = (SYMBOL,)) -> list[bytes]:
    """Return so many messages of books that wander, in chunks of frames as a combined stream has them.

    The symbols have them in turn.
    """
    rng, bids = random.Random(1), dict.fromkeys(symbols, MID_TICKS)
    chunks, chunk = [], bytearray()
    for number in range(count):
        symbol = symbols[number % len(symbols)]
        bid = bids[symbol] = bids[symbol] + rng.choice((-1, 0, 0, 0, 1))
        ask, lots = bid + 2, rng.randint(1, 9000)
        text = (
            f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{FIRST_ID + number},'
            f'"E":{now_ms},"T":{now_ms},"s":"{symbol}","b":"{bid // 10}.{bid % 10}",'
            f'"B":"{lots // 1000}.{lots % 1000:03}",'
            f'"a":"{ask // 10}.{ask % 10}","A":"{1 + lots % 7}.{lots % 997:03}"}}}}'
        )
        chunk += frame(text.encode())
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]


# The clients


class Count:
    """Counts what was kept; ``done`` is set after the last message, which is known by its update id.

    That is a turn of the loop later: of what came together, the books of one symbol are told of before another's.
    """

    def __init__(self, count: int) -> None:
        self.kept = 0
        self.best: tuple[Any, Any] = ("", "")
        self._last_id = FIRST_ID + count - 1
        self._began_ns = self._began_cpu_ns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.report: dict[str, Any] = {}

    def note(self, update_id: int) -> None:
        """Note that best bid and ask are those of this message."""
        if update_id < FIRST_ID:
            return
        if not self.kept:
            self._began_ns, self._began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        self.kept += 1
        if update_id == self._last_id:
            self.done.get_loop().call_soon(self._finish)

    def _finish(self) -> None:
        self.report = {
            "kept": self.kept,
            "seconds": (time.perf_counter_ns() - self._began_ns) / 1e9,
            "cpu_seconds": (time.process_time_ns() - self._began_cpu_ns) / 1e9,
        }
        self.done.set_result(None)


async def _until_done(counted: Count, work: Coroutine[Any, Any, None]) -> None:
    """Have ``work`` go on until the last message has been counted; raise what it fails with before."""
    working = asyncio.ensure_future(work)
    await asyncio.wait({working, counted.done}, return_when=asyncio.FIRST_COMPLETED)
    if not counted.done.done():
        await working
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def floor(origin: str, count: int) -> dict[str, Any]:
    """Bare picows on uvloop, decoded by msgspec."""
    import msgspec
    from picows import WSFrame, WSListener, WSTransport, ws_connect

    class Data(msgspec.Struct):
        u: int
        b: str
        a: str

    class Message(msgspec.Struct):
        data: Data

    decode, counted = msgspec.json.Decoder(Message).decode, Count(count)

    class Book(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
            data = decode(frame.get_payload_as_memoryview()).data
            counted.best = data.b, data.a
            counted.note(data.u)

    url = f"{origin.replace('http', 'ws', 1)}/public/stream?streams={BOOK_STREAM}"
    await ws_connect(Book, url)
    await counted.done
    return counted.report


async def bytes_only(origin: str, count: int) -> dict[str, Any]:
    """Read the socket and count bytes: what the sender can do."""
    host, port = origin.removeprefix("http://").split(":")
    plain = socket.create_connection((host, int(port)))
    head = f"GET /public/stream?streams={BOOK_STREAM} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
    plain.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    tail, counted = b"", Count(count)
    mark = f'"u":{FIRST_ID + count - 1},'.encode()
    started_ns = 0
    while mark not in tail:
        data = plain.recv(CHUNK_BYTES)
        started_ns = started_ns or (time.perf_counter_ns() if b'"u":' in data else 0)
        tail = tail[-200:] + data
    seconds = (time.perf_counter_ns() - started_ns) / 1e9
    return {**counted.report, "kept": count, "seconds": seconds, "cpu_seconds": 0.0}


async def daemon(origin: str, count: int, symbols: int = 1) -> dict[str, Any]:
    """The daemon's market data worker, wired as `main.py` does it, with a function that hears of each book."""
    config = get_config("/dev/null", ROOT / "config.yaml")
    settings, counted = replace(settings_from(config), paper_url=origin), Count(count)
    async with wired(settings, config, SharedState(), live_confirmed=False) as wiring:
        bus = EventBus(wiring.clock)
        worker = await market_worker(settings, wiring, bus, symbols_of(symbols))
        bus.subscribe(lambda fact: counted.note(fact.book.update_id), BookEvent)
        gc.collect()
        gc.freeze()  # as a start ends
        await _until_done(counted, worker.run())
        books = [wiring.state.of(symbol).book for symbol in symbols_of(symbols)]
        if max(book.update_id for book in books if book is not None) != FIRST_ID + count - 1:
            raise RuntimeError("the shared state has another book than the last one that was told of")
    return counted.report


async def market_worker(
    settings: Settings, wiring: Wiring, bus: EventBus, symbols: Sequence[str]
) -> MarketDataWorker:
    """Return the worker as the engine builds it; a message that waits for its turn is not stale to it."""
    gateway = Gateway(wiring.rest, wiring.clock)
    rules = await gateway.symbol_rules(symbols)
    contexts = [
        SymbolContext(
            settings=replace(settings.quotes[0], symbol=symbol),
            rules=rules[symbol],
            state=wiring.state.add(symbol),
            gate=Gate(),
            limits=settings.risk,
        )
        for symbol in symbols
    ]
    return MarketDataWorker(
        contexts,
        gateway,
        GovernedTransport(wiring.streams, ConnectionGovernor(), wiring.clock),
        bus,
        wiring.clock,
        wiring.rng,
        int(DONE_WITHIN_S * 1000),
        settings.market_data,
    )


async def by_python_binance(origin: str, count: int) -> dict[str, Any]:
    """python-binance's socket manager, with a queue that holds everything."""
    from binance import AsyncClient
    from binance.ws.streams import BinanceSocketManager

    BinanceSocketManager.FSTREAM_URL = f"{origin.replace('http', 'ws', 1)}/"
    client, counted = AsyncClient(KEY, SECRET), Count(count)
    manager = BinanceSocketManager(client, max_queue_size=2 * count)
    async with manager.symbol_ticker_futures_socket(SYMBOL) as stream:

        async def take() -> None:
            while True:
                data = (await stream.recv())["data"]
                counted.best = data["b"], data["a"]
                counted.note(data["u"])

        await _until_done(counted, take())
    await client.close_connection()
    return counted.report


async def by_ccxt(origin: str, count: int) -> dict[str, Any]:
    """ccxt's watch_bids_asks; counted where a message goes into its table, for its caller gets the newest only."""
    client, counted = ccxt_client(origin), Count(count)
    handle = client.handle_bids_asks

    def noting(socket: Any, message: Any) -> None:
        handle(socket, message)
        counted.note(message["u"])

    async def watch() -> None:
        while True:
            await client.watch_bids_asks(["BTC/USDT:USDT"])

    client.handle_bids_asks = noting
    try:
        await client.load_markets()
        await _until_done(counted, watch())
    finally:
        await client.close()
    return counted.report


CLIENTS: dict[str, Callable[[str, int], Awaitable[dict[str, Any]]]] = {
    "bytes only": bytes_only,
    "floor": floor,
    "python-binance": by_python_binance,
    "ccxt": by_ccxt,
}


def serve(given: argparse.Namespace) -> int:
    """Be a client, on the core of clients; what it has kept is on stdout, as JSON."""
    pin(CORES[1] if given.core < 0 else given.core)

    async def work() -> dict[str, Any]:
        if given.serve == "daemon":
            return await daemon(given.origin, given.count, given.symbols)
        return await CLIENTS[given.serve](given.origin, given.count)

    loop = new_event_loop if given.serve in ("floor", "daemon") else None
    with asyncio.Runner(loop_factory=loop) as runner:
        print(json.dumps(runner.run(work())))
    return 0


# What is measured


@dataclass(frozen=True, slots=True)
class Effort:
    """How many messages are sent to whom is slow, and how often everything is done."""

    messages: int
    rounds: int


class StackFailed(SystemExit):
    """A stack did not keep the last message, in time or at all; the text says what is known of it."""


_FIGURES = {"per_second": 0, "sent": 0, "left_out": 0}

FULL, QUICK = Effort(100_000, 3), Effort(20_000, 1)


def measured(stack: str, count: int, symbols: int = 1) -> dict[str, Any]:
    """Return what one stack has kept of so many messages, and how fast; only the daemon takes several symbols."""
    venue = QuietVenue(symbols)
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", stack, "--origin", venue.origin]
    command += ["--count", str(count), "--core", str(CORES[1]), "--symbols", str(symbols)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        if not venue.serve(lambda: venue.is_heard or process.poll() is not None, READY_WITHIN_S):
            raise StackFailed(f"{stack} was not ready within {READY_WITHIN_S:.0f} s")
        venue.serve(lambda: False, 0.3)
        now_ms = time.time_ns() // 1_000_000  # noqa: TID251 - what the messages hold
        venue.stream(book_frames(count, now_ms, venue.symbols))
        if not venue.serve(lambda: process.poll() is not None, DONE_WITHIN_S):
            raise StackFailed(f"{stack} has left out messages: the last one never came")
        said, complaint = process.communicate()
    finally:
        process.kill()
        process.wait()
        venue.close()
    if process.returncode:
        raise StackFailed(f"{stack} has ended: {complaint[-2000:]}")
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def measure(effort: Effort, stacks: Sequence[str]) -> dict[str, Any]:
    """Return the figures of each stack: the best of some rounds, in which they take turns.

    One that fails has a sentence instead, and is not asked again.
    """
    found: dict[str, Any] = {}
    for stack in stacks:
        if lacking := [name for name in NEEDS.get(stack, ()) if importlib.util.find_spec(name) is None]:
            found[stack] = {"not installed": f"{', '.join(lacking)}: {REMEDY}"}
    for _ in range(effort.rounds):
        for stack in stacks:
            if "per_second" not in found.get(stack, _FIGURES):
                continue
            count = effort.messages * (SLOW if stack in ("bytes only", "floor") else 1)
            try:
                row = measured(stack, count)
            except StackFailed as failure:
                found[stack] = {"failed": str(failure)}
                continue
            best = found.setdefault(stack, dict(_FIGURES))
            best["per_second"] = max(best["per_second"], round(count / row["seconds"]))
            best["sent"] += count
            best["left_out"] += count - row["kept"]
            best["cpu_us_a_message"] = min(
                best.get("cpu_us_a_message", 1e9), round(row["cpu_seconds"] / count * 1e6, 2)
            )
    add_shares(found)
    return found


def add_shares(found: dict[str, Any]) -> None:
    """Put beside each speed which share of the floor's it is: by the clock, and by processor time.

    The latter is what a busy machine distorts least, and says the same as the former on a quiet one.
    """
    base = found.get("floor", {})
    for row in found.values():
        if "per_second" in row and "per_second" in base:
            row["share of floor"] = round(row["per_second"] / base["per_second"], 3)
            if row["cpu_us_a_message"]:
                row["the same by cpu"] = round(base["cpu_us_a_message"] / row["cpu_us_a_message"], 3)


def show(found: dict[str, Any]) -> None:
    """The table has been printed."""
    columns = ("per_second", "share of floor", "the same by cpu", "cpu_us_a_message", "sent", "left_out")
    print(f"\n{'':16}" + "".join(f"{name.replace('_', ' '):>18}" for name in columns))
    for stack, row in found.items():
        if "per_second" not in row:
            print(f"{stack:16}  {'; '.join(f'{what}: {text}' for what, text in row.items())}")
        else:
            cells = (f"{row[name]:,}" if name in row else "–" for name in columns)
            print(f"{stack:16}" + "".join(f"{cell:>18}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Messages of best bid and ask a second on one core.")
    parser.add_argument("--quick", action="store_true", help="a look, within half a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--only", metavar="STACK", choices=STACKS, action="append", help="this one only")
    for hidden in ("--serve", "--origin"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    for hidden in ("--core", "--count", "--symbols"):
        parser.add_argument(hidden, type=int, default=-1, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        return serve(given)
    pin(CORES[0])
    gc.disable()
    found = measure(QUICK if given.quick else FULL, given.only or STACKS)
    if given.json:
        print(json.dumps({**machine(), "stacks": found}))
    else:
        for name, value in machine().items():
            print(f"{name:<10} {value}")
        show(found)
    return int(any("failed" in row for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
