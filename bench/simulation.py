"""How much time the whole daemon and its exchange live through in a second: `python bench/simulation.py`.

Both run in memory and on virtual time, on a recording at its own tick rate (looped) or on the synthetic market. The
line ends with a hash of everything that happened, as the exchange recorded it and as the metrics tell it: the same
seed gives the same hash in every process.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a file: `python bench/simulation.py`

from core.exit_code import ExitCode
from test.daemon import World, in_a_world


def trace_hash(world: World) -> str:
    """Return a hash of the exchange's record and of all metrics that the daemon wrote."""
    digest = hashlib.sha256(json.dumps(world.record(), sort_keys=True).encode())
    for path in world.metrics_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def simulate(
    seconds: float, *, recording: Path | None, symbol: str, seed: int, events_per_s: float | None = None
) -> tuple[World, str]:
    """Return the world after a run of so many virtual seconds, and the hash of its trace."""
    found: list[str] = []

    async def story(world: World) -> None:
        world.has_plain_streams = True
        world.start()
        await asyncio.sleep(seconds)
        if await world.end() is not ExitCode.STOPPED:
            raise RuntimeError("the daemon did not stop well")
        found.append(trace_hash(world))

    with tempfile.TemporaryDirectory() as folder:
        world = in_a_world(
            Path(folder), story, symbol=symbol, recording=recording, seed=seed, events_per_s=events_per_s
        )
    return world, found[0]


def collect_garbage_seldom() -> None:
    """Have the collector look at young objects seldom and at what is imported never: a sixth of the time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def main() -> int:
    """Run once and print one line, or one JSON object with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=1.0, help="virtual hours; 1")
    parser.add_argument("--quick", action="store_true", help="five virtual minutes")
    parser.add_argument(
        "--recording", type=Path, help="folder with Binance's public data files; synthetic without"
    )
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--events-per-second",
        type=float,
        metavar="N",
        help="quotes and trades a second of a synthetic market",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds = 300.0 if options.quick else options.hours * 3600
    collect_garbage_seldom()
    started, started_cpu = time.perf_counter(), time.process_time()
    world, trace = simulate(
        seconds,
        recording=options.recording,
        symbol=options.symbol,
        seed=options.seed,
        events_per_s=options.events_per_second,
    )
    took_s = time.perf_counter() - started
    figures = {
        "virtual_s": seconds,
        "took_s": round(took_s, 2),
        "cpu_s": round(time.process_time() - started_cpu, 2),
        "virtual_hours_a_minute": round(seconds / 60 / took_s, 2),
        "orders": world.count("orders"),
        "fills": world.count("fills"),
        "trace": trace,
    }
    print(
        json.dumps(figures)
        if options.json
        else "  ".join(f"{name}={value}" for name, value in figures.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
