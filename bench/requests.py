"""What it costs to keep quotes in place: `python bench/requests.py`.

The same market twice, once with `refresh_mode: replace` and once with `amend`, the whole daemon against the simulated
exchange in memory and on virtual time: requests about orders, their weight and order-count slots, and how far the
quotes were from their targets meanwhile. A target is where a level would be placed on the mid of that very moment; the
quotes are looked at every 100 ms, as the exchange has them.

Markets: the recordings in --recording (each symbol that is there, its whole length), and a synthetic one.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a file: `python bench/requests.py`

from core.exit_code import ExitCode
from core.settings import QuoteSettings
from sim.orders import Order
from test.daemon import World, in_a_world

SAMPLE_EVERY_S = 0.1

COSTS = {
    "POST /fapi/v1/order": (0, 1, 1),
    "PUT /fapi/v1/order": (0, 1, 1),
    "DELETE /fapi/v1/order": (1, 0, 0),
    "GET /fapi/v1/order": (1, 0, 0),
    "GET /fapi/v1/openOrders": (1, 0, 0),
    "POST /fapi/v1/batchOrders": (5, 5, 1),
    "PUT /fapi/v1/batchOrders": (5, 5, 1),
    "DELETE /fapi/v1/batchOrders": (1, 0, 0),
}
"""Requests about orders: weight, slots of the 10 s window, slots of the 1 min window (Binance's general info)."""


@dataclass
class Distances:
    """How far the quotes were from their targets, in basis points of the mid, over all looks at them."""

    slots: int = 0
    seen: int = 0
    total_bps: float = 0.0
    worst_bps: float = 0.0

    def add(self, distance_bps: float) -> None:
        """Count one quote."""
        self.seen += 1
        self.total_bps += distance_bps
        self.worst_bps = max(self.worst_bps, distance_bps)

    @property
    def mean_bps(self) -> float:
        """Return the mean over quotes and time."""
        return self.total_bps / self.seen if self.seen else 0.0

    @property
    def presence(self) -> float:
        """Return the share of the wanted quotes that rested."""
        return self.seen / self.slots if self.slots else 0.0


@dataclass
class Run:
    """One market under one mode."""

    market: str
    mode: str
    virtual_s: float
    requests: int
    all_requests: int
    weight: int
    slots_10s: int
    slots_1m: int
    fills: int
    mean_bps: float
    worst_bps: float
    presence: float
    by_request: dict[str, int] = field(default_factory=dict)


def distances_now(orders: Iterable[Order], mid_half_ticks: int, settings: QuoteSettings) -> Iterator[float]:
    """Yield how far each order is from the target of its level; the nearest order of a side is level 1."""
    offset = float(settings.offset_percent) / 100
    for is_buy in (True, False):
        sign = 1 if is_buy else -1
        prices = sorted((order.price_ticks for order in orders if order.is_buy is is_buy), reverse=is_buy)
        for level, price in enumerate(prices, start=1):
            target = mid_half_ticks / 2 * (1 - sign * level * offset)
            yield abs(price - target) / (mid_half_ticks / 2) * 10_000


async def watch(world: World, settings: QuoteSettings, found: Distances) -> None:
    """Look at the quotes until cancelled, from the moment all of them rest for the first time."""
    await world.until_quoting(orders=2 * settings.levels)
    while True:
        found.slots += 2 * settings.levels
        for distance in distances_now(world.ours(), world.mid_half_ticks(), settings):
            found.add(distance)
        await asyncio.sleep(SAMPLE_EVERY_S)


def measure(market: str, mode: str, seconds: float, *, symbol: str, recording: Path | None, seed: int) -> Run:
    """Return what a run of so many virtual seconds cost."""
    found = Distances()

    async def story(world: World) -> None:
        world.has_plain_streams = True
        config: dict[str, Any] = {"refresh_config": {"refresh_mode": mode}, "symbol": symbol}
        settings = world.settings(**config).quotes[0]
        world.start(**config)
        watching = asyncio.get_running_loop().create_task(watch(world, settings, found))
        await asyncio.sleep(seconds)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        if await world.end() is not ExitCode.STOPPED:
            raise RuntimeError("the daemon did not stop well")

    with tempfile.TemporaryDirectory() as folder:
        world = in_a_world(Path(folder), story, symbol=symbol, recording=recording, seed=seed)
    counts: dict[str, int] = world.record()["requests"]
    ours = {name: count for name, count in counts.items() if name in COSTS}
    weight, slots_10s, slots_1m = (
        sum(COSTS[name][at] * count for name, count in ours.items()) for at in range(3)
    )
    return Run(
        market,
        mode,
        seconds,
        requests=sum(ours.values()),
        all_requests=sum(count for name, count in counts.items() if "/sim/" not in name),
        weight=weight,
        slots_10s=slots_10s,
        slots_1m=slots_1m,
        fills=world.count("fills"),
        mean_bps=found.mean_bps,
        worst_bps=found.worst_bps,
        presence=found.presence,
        by_request=ours,
    )


def markets(options: argparse.Namespace) -> Iterator[tuple[str, float, str, Path | None]]:
    """Yield name, virtual seconds, symbol and recording of each market."""
    if options.recording is not None:
        for symbol in options.symbols.split(","):
            yield f"{symbol}, {options.recording.name}", options.recorded_s, symbol, options.recording
    yield "BTCUSDT, synthetic", options.hours * 3600, "BTCUSDT", None


def table(runs: list[Run]) -> str:
    """Return the runs as a table of Markdown, a market's two modes under one another, and what amending saves."""
    lines = [
        "| market | mode | requests an hour | weight an hour | slots 10 s | slots 1 min | mean distance"
        " | worst | quotes resting | fills |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for replaced, amended in zip(runs[::2], runs[1::2], strict=True):
        for run in (replaced, amended):
            hour = 3600 / run.virtual_s
            lines.append(
                f"| {run.market}, {run.virtual_s / 60:.0f} min | {run.mode} | {run.requests * hour:.0f} |"
                f" {run.weight * hour:.0f} | {run.slots_10s * hour:.0f} | {run.slots_1m * hour:.0f} |"
                f" {run.mean_bps:.3f} bps | {run.worst_bps:.2f} bps | {run.presence:.2%} | {run.fills} |"
            )
        saved = [1 - getattr(amended, name) / getattr(replaced, name) for name in SAVINGS]
        lines.append(f"| | saved | {' | '.join(f'{share:.1%}' for share in saved)} | | | | |")
    return "\n".join(lines)


SAVINGS = ("requests", "weight", "slots_10s", "slots_1m")


def main() -> int:
    """Run every market under both modes and print one table, or one JSON object with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recording", type=Path, help="folder with Binance's public data files")
    parser.add_argument(
        "--symbols", default="BTCUSDT,ETHUSDT", help="those of the recording; BTCUSDT,ETHUSDT"
    )
    parser.add_argument("--recorded-s", type=float, default=470, help="seconds of the recording; 470")
    parser.add_argument("--hours", type=float, default=2.0, help="virtual hours of the synthetic market; 2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two minutes of each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.recorded_s, options.hours = 120.0, 1 / 30
    started = time.perf_counter()
    runs = [
        measure(name, mode, seconds, symbol=symbol, recording=recording, seed=options.seed)
        for name, seconds, symbol, recording in markets(options)
        for mode in ("replace", "amend")
    ]
    took_s = time.perf_counter() - started
    if options.json:
        print(json.dumps({"runs": [asdict(run) for run in runs], "took_s": round(took_s, 1)}))
    else:
        print(f"{table(runs)}\n\ntook {took_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
