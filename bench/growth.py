"""How the daemon's cost grows with its levels and its symbols: `python bench/growth.py`.

Three tables, each with the ratios to its first row: the whole daemon with 1, 10 and 50 levels a side, of which each
tick moves all quotes; the market data worker with the streams of 1, 10 and 50 symbols on one connection, a message
after the other as fast as it takes them; and one engine that quotes so many symbols, at rest and under ticks.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # run as a file; its own folder has a `requests` that is not the library

from bench.daemons import AMENDS_PER_SECOND, follower_config, prepare
from bench.ingest import measured as ingested
from bench.machine import machine, pin, quantile
from bench.one_client import CORES, client
from bench.quiet_venue import QuietVenue, cpu_ns

NUMBERS = (1, 10, 50)
SYMBOL_LEVELS = 3
PER_SECOND = 500
"""Ticks a second at the engine of many symbols, all of them together."""
STILL_TICKS = 1
"""By so little the mid moves there that no quote follows: what is measured is what a tick costs, not the amendments."""
ROOM = {"initial_capital": 100_000, "risk": {"max_order_count": 1000}}
"""For 50 levels within the position limit; and so near to each other that all are within the exchange's band."""
OFFSET_PERCENT = 0.05

SLACK = 1.5
"""Ticks are so much rarer than the bound on amendments asks for, so that it never makes one wait."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How many orders, messages and seconds each row takes, and how often it is done: the least of it counts."""

    orders: int
    most_ticks: int
    messages: int
    seconds: int
    rounds: int


FULL = Effort(orders=10_000, most_ticks=500, messages=100_000, seconds=10, rounds=2)
QUICK = Effort(orders=600, most_ticks=60, messages=10_000, seconds=2, rounds=1)


def by_levels(levels: int, effort: Effort) -> dict[str, Any]:
    """Return what a tick costs that moves so many quotes on each side."""
    venue, orders = QuietVenue(), 2 * levels
    ticks = min(effort.orders // orders, effort.most_ticks)
    least_s = SLACK * orders / AMENDS_PER_SECOND
    order_config = {"levels": levels, "price_offset_percent": OFFSET_PERCENT}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, venue.origin, {**follower_config(levels), **ROOM, "order_config": order_config})
            with client("daemon", venue, folder, orders) as pid:
                venue.closed_loop(pid, ticks // 5, orders, least_s)
                found = venue.closed_loop(pid, ticks, orders, least_s)
    finally:
        venue.close()
    row: dict[str, Any] = {"ticks": ticks, "unanswered": found.unanswered}
    if found.first_ns:
        row["first order, µs"] = round(quantile(found.first_ns, 0.5) / 1000, 1)
        row["last order, µs"] = round(quantile(found.last_ns, 0.5) / 1000, 1)
    cpu_us = found.cpu_ns / ticks / 1000
    return {**row, "processor a tick, µs": round(cpu_us, 1), "an order, µs": round(cpu_us / orders, 1)}


def by_streams(symbols: int, effort: Effort) -> dict[str, Any]:
    """Return what a message costs the market data worker that has the streams of so many symbols."""
    row = ingested("daemon", effort.messages, symbols)
    return {
        "processor a message, µs": round(row["cpu_seconds"] / effort.messages * 1e6, 2),
        "left out": effort.messages - row["kept"],
    }


def by_symbols(symbols: int, effort: Effort) -> dict[str, Any]:
    """Return what one engine that quotes so many symbols costs at rest, and what a tick costs beside that."""
    venue = QuietVenue(symbols, STILL_TICKS)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, venue.origin, {"order_config": {"levels": SYMBOL_LEVELS}})
            with client("daemon of many", venue, folder, 2 * SYMBOL_LEVELS * symbols) as pid:
                marks = [cpu_ns(pid)]
                venue.serve(lambda: False, effort.seconds)
                marks.append(cpu_ns(pid))
                began_ns = time.perf_counter_ns()
                venue.flow(effort.seconds * PER_SECOND, PER_SECOND)
                took_s = (time.perf_counter_ns() - began_ns) / 1e9
                marks.append(cpu_ns(pid))
    finally:
        venue.close()
    rest_ns_a_s = (marks[1] - marks[0]) / effort.seconds
    ticks_ns = marks[2] - marks[1] - rest_ns_a_s * took_s
    return {
        "at rest, ms a second": round(rest_ns_a_s / 1e6, 1),
        "a symbol, ms": round(rest_ns_a_s / symbols / 1e6, 2),
        "a tick beside that, µs": round(ticks_ns / (effort.seconds * PER_SECOND) / 1000, 1),
    }


TABLES: dict[str, tuple[str, Callable[[int, Effort], dict[str, Any]]]] = {
    "levels": ("levels a side, one tick moves all quotes", by_levels),
    "streams": ("symbols' streams at the market data worker", by_streams),
    "symbols": (f"symbols quoted by one engine, {SYMBOL_LEVELS} levels a side", by_symbols),
}
COUNTS = ("ticks", "unanswered", "left out")
"""What has no ratio."""


def measure(effort: Effort, tables: Sequence[str], numbers: Sequence[int] = NUMBERS) -> dict[str, Any]:
    """Return the rows of each table by their number: of each time the least that any round took, with its ratio."""
    found: dict[str, Any] = {}
    for table in tables:
        rounds = [
            {number: TABLES[table][1](number, effort) for number in numbers} for _ in range(effort.rounds)
        ]
        rows = {number: least([each[number] for each in rounds]) for number in numbers}
        add_ratios(rows)
        found[table] = rows
    return found


def least(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the least of each time, which others on the machine disturbed the least, and the sum of each count."""
    return {
        name: (sum if name in COUNTS else min)(each[name] for each in rounds if name in each)
        for name in dict.fromkeys(name for each in rounds for name in each)
    }


def add_ratios(rows: dict[int, dict[str, Any]]) -> None:
    """Put beside each time how many times that of the first row it is."""
    base, *_ = rows.values()
    times = {name: value for name, value in base.items() if name not in COUNTS and value}
    for row in rows.values():
        row["ratios"] = {name: round(row[name] / value, 2) for name, value in times.items() if name in row}


def show(found: dict[str, Any]) -> None:
    """The tables have been printed."""
    for table, rows in found.items():
        title, _ = TABLES[table]
        columns = [name for name in next(iter(rows.values())) if name != "ratios"]
        print(f"\n{title}\n{'':6}" + "".join(f"{name:>32}" for name in columns))
        for number, row in rows.items():
            cells = (
                f"{row.get(name, '–')}"
                + (f"  ({row['ratios'][name]} times)" if name in row["ratios"] else "")
                for name in columns
            )
            print(f"{number:6}" + "".join(f"{cell:>32}" for cell in cells))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What levels and symbols cost, as ratios to one of them.")
    parser.add_argument("--quick", action="store_true", help="a look, within a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    parser.add_argument(
        "--only", metavar="TABLE", choices=tuple(TABLES), action="append", help="this one only"
    )
    given = parser.parse_args(arguments)
    pin(CORES[0])
    gc.disable()
    found = measure(QUICK if given.quick else FULL, given.only or tuple(TABLES))
    if given.json:
        print(json.dumps({**machine(), "tables": found}))
        return 0
    for name, value in machine().items():
        print(f"{name:<10} {value}")
    show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
