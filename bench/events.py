"""What an event costs on the bus, as a ratio to a bare function call: `python bench/events.py`.

First the bus alone: facts by the ten thousand, to nobody, to functions and to coroutine functions with a queue. Then
the way of a message of the book from the stream through decoding, state and statistics onto the bus and to a coroutine
function that hears it: as fast as it goes, and at a thousand messages a second, where the time from the message to the
end of its handling is measured. Everything is held against a loop of bare function calls in the same run.
"""

import argparse
import asyncio
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a file: `python bench/events.py`

from core.events import BookEvent, EventBus, Fact
from core.gateway import Gateway
from core.market import MarketDataWorker
from core.model import BookTop
from core.settings import MarketDataSettings, settings_from
from test.examples import context
from utils.clock import SystemClock
from utils.config_loader import get_config
from utils.errors import NotSent
from utils.http import BinanceRest
from utils.ws import DeliversReceived, WsConnection

ROUNDS = 5
FACT = BookEvent("BTCUSDT", BookTop(799_999, 4218, 800_001, 6128, 5001, 0, 0))


def heard(_fact: Fact) -> None:
    """Do nothing with a fact."""


async def heard_later(_fact: Fact) -> None:
    """Do nothing with a fact, as a coroutine."""


def best_ns(works: dict[str, Callable[[int], Any]], count: int) -> dict[str, float]:
    """Return the time of one of ``count`` steps of each work in ns.

    They take turns, and the best of some rounds counts: the one that others on the machine disturbed the least.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            started_ns = time.perf_counter_ns()
            work(count)
            found[name].append((time.perf_counter_ns() - started_ns) / count)
    return {name: min(rounds) for name, rounds in found.items()}


def call(count: int) -> None:
    """Call a function so many times."""
    for _ in range(count):
        heard(FACT)


def publish_on(bus: EventBus) -> Callable[[int], None]:
    """Return what publishes so many facts."""

    def work(count: int) -> None:
        for _ in range(count):
            bus.publish(FACT)

    return work


def ask(count: int) -> None:
    """Ask so many times whether anybody wants a fact."""
    bus = EventBus()
    for _ in range(count):
        bus.wants(BookEvent)


def bus_with(subscribers: int) -> EventBus:
    """Return a bus whose handlers are timed."""
    bus = EventBus(SystemClock())
    for _ in range(subscribers):
        bus.subscribe(heard, BookEvent)
    return bus


async def publish_and_drain(count: int) -> None:
    """Publish so many facts to a coroutine function, and wait until it has handled them all."""
    bus = EventBus(SystemClock())
    bus.subscribe_async(heard_later, BookEvent, capacity=count)
    running = asyncio.ensure_future(bus.run())
    publish_on(bus)(count)
    if not await bus.drain(60):
        raise RuntimeError("the bus did not keep up")
    running.cancel()


def measure_bus(count: int) -> dict[str, float]:
    """Return the cost of one fact in ns for each way that it can go."""
    works: dict[str, Callable[[int], Any]] = {
        "bare function call": call,
        "asked whether anybody wants it": ask,
        "published to nobody": publish_on(EventBus()),
        "published to 1 function": publish_on(bus_with(1)),
        "published to 5 functions": publish_on(bus_with(5)),
        "published to 1 queue, and handled": lambda times: asyncio.run(publish_and_drain(times)),
    }
    return best_ns(works, count)


# From the message to the end of its handling


class Feed(DeliversReceived):
    """A stream that holds ready-made messages: all at once, or so many a second. It never ends."""

    def __init__(self, messages: Sequence[bytes], per_second: int) -> None:
        self._messages = iter(messages)
        self._pause_s = 1 / per_second if per_second else 0.0
        self._due_s = 0.0
        self.sent_ns: list[int] = []

    async def connect(self, _target: str) -> WsConnection:
        """Return itself: it is the connection, too."""
        self._due_s = time.perf_counter()
        return self

    async def receive(self) -> str | bytes:
        """Return the next message when it is due."""
        message = next(self._messages, None)
        if message is None:
            await asyncio.Event().wait()
            raise NotSent("never reached")
        if self._pause_s:
            self._due_s += self._pause_s
            await asyncio.sleep(max(self._due_s - time.perf_counter(), 0))
        self.sent_ns.append(time.perf_counter_ns())
        return message

    async def send(self, text: str) -> None:
        """Take nothing."""

    def send_now(self, text: str | bytes) -> None:
        """Take nothing."""

    async def close(self) -> None:
        """Have nothing to close."""


class NoNetwork:
    """A transport for a client that is not used."""

    async def request(self, *_: Any) -> Any:
        """Refuse."""
        raise NotSent("there is no network here")

    async def close(self) -> None:
        """Have nothing to close."""


def book_messages(count: int, now_ms: int) -> list[bytes]:
    """Return so many messages of a book that wanders, each different from the one before."""
    rng, bid = random.Random(1), 799_999
    made = []
    for number in range(count):
        bid += rng.choice((-1, 0, 0, 0, 1))
        data = {
            "e": "bookTicker",
            "u": 1000 + number,
            "E": now_ms,
            "T": now_ms,
            "s": "BTCUSDT",
            "b": f"{bid / 10:.1f}",
            "B": f"{rng.randint(1, 9000) / 1000:.3f}",
            "a": f"{bid / 10 + 0.2:.1f}",
            "A": f"{rng.randint(1, 9000) / 1000:.3f}",
        }
        made.append(json.dumps({"stream": "btcusdt@bookTicker", "data": data}).encode())
    return made


def market_settings() -> MarketDataSettings:
    """Return the shipped settings."""
    return settings_from(get_config("/dev/null", ROOT / "config.yaml")).market_data


async def through_the_worker(count: int, per_second: int) -> tuple[float, list[float]]:
    """Return the seconds that so many messages took, and the ms that each took until it was handled."""
    clock = SystemClock()
    bus, symbol = EventBus(clock), context()
    symbol.state.book = None
    rest = BinanceRest(NoNetwork(), clock)
    feed = Feed(book_messages(count, clock.time_ms()), per_second)
    worker = MarketDataWorker(
        [symbol],
        Gateway(rest, clock),
        feed,
        bus,
        clock,
        random.Random(1),
        60_000,
        market_settings(),
    )
    handled_ns: list[int] = []
    done = asyncio.Event()

    async def note(_event: Fact) -> None:
        handled_ns.append(time.perf_counter_ns())
        if len(handled_ns) == count:
            done.set()

    bus.subscribe_async(note, BookEvent, capacity=count)
    tasks = [asyncio.ensure_future(each) for each in (bus.run(), worker.books.run())]
    started_ns = time.perf_counter_ns()
    await done.wait()
    took_s = (handled_ns[-1] - started_ns) / 1e9
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took_s, [(end - begin) / 1e6 for begin, end in zip(feed.sent_ns, handled_ns, strict=True)]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the others does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def measure(*, quick: bool) -> dict[str, Any]:
    """Return all figures."""
    count = 20_000 if quick else 200_000
    bus_ns = measure_bus(count)
    call_ns = bus_ns["bare function call"]
    flood = 5_000 if quick else 50_000
    took_s, _ = asyncio.run(through_the_worker(flood, 0))
    _, delays_ms = asyncio.run(through_the_worker(1_000 if quick else 10_000, 1_000))
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "bus": {
            name: {"ns": round(ns, 1), "ratio": round(ns / call_ns, 2), "per_second": round(1e9 / ns)}
            for name, ns in bus_ns.items()
        },
        "worker": {
            "messages_per_second": round(flood / took_s),
            "ratio": round(took_s / flood * 1e9 / call_ns, 1),
        },
        "paced": {
            "messages_per_second": 1_000,
            "handling_ms_p50": round(quantile(delays_ms, 0.5), 3),
            "handling_ms_p99": round(quantile(delays_ms, 0.99), 3),
            "handling_ms_max": round(max(delays_ms), 3),
        },
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    print(figures["machine"])
    print(f"\n{'one fact':36} {'ns':>9} {'ratio':>8} {'a second':>12}")
    for name, row in figures["bus"].items():
        print(f"{name:36} {row['ns']:9.1f} {row['ratio']:8.2f} {row['per_second']:12,}")
    worker, paced = figures["worker"], figures["paced"]
    print(
        f"\nbook messages, read, kept, measured, published and handled: {worker['messages_per_second']:,} a second"
    )
    print(f"one of them costs as much as {worker['ratio']} bare function calls")
    print(
        f"at {paced['messages_per_second']:,} a second, from the message to the end of its handling:"
        f" {paced['handling_ms_p50']} ms at 50 %, {paced['handling_ms_p99']} ms at 99 %,"
        f" {paced['handling_ms_max']} ms at most"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a look, in a few seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    options = parser.parse_args(arguments)
    figures = measure(quick=options.quick)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
