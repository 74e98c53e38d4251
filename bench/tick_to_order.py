"""How long it takes from a tick to an order, the daemon with all its parts on: `python bench/tick_to_order.py`.

A tick is a change of best bid and ask that moves the daemon's quotes out of their tolerance. It counts from the moment
at which the venue hands its bytes to the kernel to the moment at which the last byte of the order that it causes has
been read there. Beside the daemon the bare clients of `bench/clients.py` run, one after the other, in the same call, at
the same venue, which is on another core; every figure stands beside that of the barest of them, the floor.
"""

import argparse
import gc
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # run as a file; its own folder has a `requests` that is not the library

from bench.clients import NEEDS
from bench.daemons import AMENDS_PER_SECOND, DAEMONS, follower_config, prepare
from bench.machine import machine, pin, quantile
from bench.one_client import CORES, client
from bench.quiet_venue import QuietVenue, Readings

STACKS = ("floor", "busy floor", "python-binance", "ccxt", "daemon", "busy daemon")
"""A busy one never sleeps: it asks its sockets again and again (``execution.busy_poll``)."""
PER_SECOND = 200
LEVELS = 3
REMEDY = "pip install -r requirements-bench.lock"


@dataclass(frozen=True, slots=True)
class Effort:
    """How many ticks are sent: before anything counts, in the closed loop, paced, and with three levels a side."""

    warm_up: int
    closed: int
    paced: int
    levels: int


FULL = Effort(warm_up=500, closed=3000, paced=2000, levels=600)
QUICK = Effort(warm_up=100, closed=400, paced=300, levels=100)


def missing(stack: str) -> list[str]:
    """Return which packages a stack lacks."""
    return [name for name in NEEDS[stack] if importlib.util.find_spec(name) is None]


def measured(stack: str, effort: Effort, folder: Path) -> dict[str, Any]:
    """Return what a stack does in the closed loop and paced."""
    venue, is_daemon, sleeps = QuietVenue(), stack in DAEMONS, not stack.startswith("busy ")
    orders, least_s = (2, 2 / AMENDS_PER_SECOND) if is_daemon else (1, 0.0)
    if is_daemon:
        prepare(folder, venue.origin, follower_config(levels=1, busy_poll=not sleeps))
    try:
        with client(stack, venue, folder, orders) as pid:
            venue.closed_loop(pid, effort.warm_up, orders, least_s, sleeps=sleeps)
            closed = venue.closed_loop(pid, effort.closed, orders, least_s, sleeps=sleeps)
            venue.serve(lambda: False, 1.0)
            paced = venue.paced(pid, effort.paced, orders, PER_SECOND)
    finally:
        venue.close()
    return {"closed": figures(closed), "paced": figures(paced)}


def measured_levels(effort: Effort, folder: Path) -> dict[str, Any]:
    """Return what six quotes cost that one tick moves."""
    venue, orders = QuietVenue(), 2 * LEVELS
    least_s = orders / AMENDS_PER_SECOND
    prepare(folder, venue.origin, follower_config(LEVELS))
    try:
        with client("daemon", venue, folder, orders) as pid:
            venue.closed_loop(pid, effort.warm_up // 3, orders, least_s)
            found = venue.closed_loop(pid, effort.levels, orders, least_s)
    finally:
        venue.close()
    if not found.first_ns:
        return {"ticks": found.ticks, "unanswered": found.unanswered}
    ratios = [last / first for first, last in zip(found.first_ns, found.last_ns, strict=True)]
    return {
        "ticks": found.ticks,
        "unanswered": found.unanswered,
        "first_us": spread(found.first_ns),
        "last_us": spread(found.last_ns),
        "last / first, median": round(quantile(ratios, 0.5), 2),
    }


def spread(times_ns: Sequence[int]) -> dict[str, float]:
    """Return the quantiles in µs."""
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    return {name: round(quantile(times_ns, share) / 1000, 1) for name, share in shares.items()}


def figures(found: Readings) -> dict[str, Any]:
    """Return the figures of one run."""
    times = spread(found.first_ns) if found.first_ns else {}
    cpu_us = round(found.cpu_ns / found.ticks / 1000, 1)
    return {**times, "cpu_us_a_tick": cpu_us, "ticks": found.ticks, "unanswered": found.unanswered}


def measure(effort: Effort, stacks: Sequence[str]) -> dict[str, Any]:
    """Return all figures, with the ratios to the floor's."""
    found: dict[str, Any] = {}
    for stack in stacks:
        if lacking := missing(stack):
            found[stack] = {"not installed": f"{', '.join(lacking)}: {REMEDY}"}
            continue
        with tempfile.TemporaryDirectory() as folder:
            found[stack] = measured(stack, effort, Path(folder))
    add_ratios(found)
    if "daemon" in stacks and effort.levels:
        with tempfile.TemporaryDirectory() as folder:
            found["daemon"]["three levels a side"] = measured_levels(effort, Path(folder))
    return found


def add_ratios(found: dict[str, Any]) -> None:
    """Put beside each median and p99 how many times the floor's it is; nothing where there is no floor."""
    base = found.get("floor", {})
    for stack in found.values():
        for way in ("closed", "paced"):
            for name in ("median", "p99"):
                if name in stack.get(way, {}) and name in base.get(way, {}):
                    stack[way][f"{name} / floor"] = round(stack[way][name] / base[way][name], 2)


def show(found: dict[str, Any]) -> None:
    """The tables have been printed."""
    titles = {
        "closed": "closed loop, µs from the tick to the first order",
        "paced": f"{PER_SECOND} ticks a second, µs from the tick to the first order",
    }
    columns = (
        "median",
        "p90",
        "p99",
        "p99.9",
        "cpu_us_a_tick",
        "median / floor",
        "p99 / floor",
        "unanswered",
    )
    for way, title in titles.items():
        print(
            f"\n{title}\n{'':16}"
            + "".join(f"{name.replace('cpu_us_a_tick', 'cpu a tick'):>16}" for name in columns)
        )
        for stack, row in found.items():
            if "not installed" in row:
                print(f"{stack:16}  not installed: {row['not installed']}")
                continue
            print(f"{stack:16}" + "".join(f"{row[way].get(name, '–'):>16}" for name in columns))
    levels = found.get("daemon", {}).get("three levels a side")
    if levels is not None and "first_us" in levels:
        print(f"\n{LEVELS} levels a side, one tick moves all {2 * LEVELS} quotes, µs")
        print(f"{'first order':16}{levels['first_us']}\n{'last order':16}{levels['last_us']}")
        print(f"last / first, median: {levels['last / first, median']}; unanswered: {levels['unanswered']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="From a tick to an order, beside bare clients.")
    parser.add_argument("--quick", action="store_true", help="a look, within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    parser.add_argument("--only", metavar="STACK", choices=STACKS, action="append", help="this one only")
    given = parser.parse_args(arguments)
    pin(CORES[0])
    gc.disable()
    started = time.perf_counter()
    found = measure(QUICK if given.quick else FULL, given.only or STACKS)
    report = {**machine(), "seconds": round(time.perf_counter() - started), "stacks": found}
    if given.json:
        print(json.dumps(report))
        return 0
    for name, value in machine().items():
        print(f"{name:<10} {value}")
    show(found)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
