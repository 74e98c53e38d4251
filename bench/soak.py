"""Whether the daemon stays as quick and as small as it is: `python bench/soak.py`.

First in real time: `main.py` as it is shipped, the CSV on, under a thousand ticks a second of a venue on another core.
How late its loop is, is measured within it by a timer that is due every 5 ms, and on the same core so is a loop that
does nothing else: what the machine adds. Memory, descriptors and processor time are read from outside; what the
daemon has taken is counted against what was sent. Then on virtual time: days of the daemon and its exchange with
shocks, halts, resets and cut streams (`test/soak.py`), memory and descriptors at the end of each.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # run as a file; its own folder has a `requests` that is not the library

from bench.bare_loop import bare_loop
from bench.daemons import LEVELS, prepare, report_of
from bench.machine import machine, open_descriptors, pin, resident_mib, waited_ns
from bench.one_client import CORES, client
from bench.quiet_venue import QuietVenue, cpu_ns

PER_SECOND = 1_000
PARTS = 10
SETTLE_S = 0.5
DAYS_WITHIN_S = 7200


def size_of(pid: int) -> dict[str, float]:
    """Return what a process holds now."""
    return {"MiB": round(resident_mib(pid), 1), "descriptors": open_descriptors(pid)}


def under_ticks(minutes: float) -> dict[str, Any]:
    """Return how the daemon has lived through so many minutes, looked at after each tenth of them."""
    venue, ticks_a_part = QuietVenue(), max(round(minutes * 60 * PER_SECOND / PARTS), 1)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, venue.origin, {})
            with client("shipped daemon", venue, folder, 2 * LEVELS) as pid, bare_loop(CORES[1]) as bare:
                sizes, began_ns = [size_of(pid)], time.perf_counter_ns()
                began_cpu_ns, began_waited_ns = cpu_ns(pid), waited_ns(pid)
                os.kill(pid, signal.SIGUSR2)
                orders = 0
                for _ in range(PARTS):
                    orders += venue.flow(ticks_a_part, PER_SECOND)
                    sizes.append(size_of(pid))
                took_ns = time.perf_counter_ns() - began_ns
                used_ns, held_up_ns = cpu_ns(pid) - began_cpu_ns, waited_ns(pid) - began_waited_ns
                venue.serve(lambda: False, SETTLE_S)
                os.kill(pid, signal.SIGUSR2)
                venue.serve(lambda: False, SETTLE_S)
            report = report_of(folder)
    finally:
        venue.close()
    sent = PARTS * ticks_a_part
    return {
        "minutes": round(took_ns / 6e10, 2),
        "ticks sent": sent,
        "ticks a second": round(sent / took_ns * 1e9),
        "left out": sent - report["books"],
        "orders": orders,
        "share of a core": round(used_ns / took_ns, 3),
        "share that others held it": round(held_up_ns / took_ns, 3),
        "processor a tick, µs": round(used_ns / sent / 1000, 1),
        "lag, ms": report["lag, ms"],
        "lag of a bare loop, ms": bare["lag, ms"],
        "looks at the loop": report["looks"],
        "MiB": [size["MiB"] for size in sizes],
        "descriptors": [size["descriptors"] for size in sizes],
    }


def over_days(days: int, hours: float) -> dict[str, Any]:
    """Return how days of so many virtual hours went, in a process of their own."""
    command = [sys.executable, "-m", "test.soak", "--days", str(days), "--hours", str(hours), "--json"]
    run = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, timeout=DAYS_WITHIN_S, check=False
    )
    try:
        found: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise SystemExit(f"the days did not end: {run.stderr[-2000:]}") from None
    return {"hours a day": hours, **found}


def show(found: dict[str, Any]) -> None:
    """The table has been printed."""
    for title, figures in found.items():
        print(f"\n{title}")
        for name, value in figures.items():
            if isinstance(value, dict):
                value = ", ".join(f"{number:g} {what}" for what, number in value.items())
            elif isinstance(value, list):
                value = " ".join(map(str, value)) or "none"
            print(f"  {name:26} {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a tick was left out, or a day went wrong."""
    parser = argparse.ArgumentParser(description="How quick and how small the daemon stays.")
    parser.add_argument("--minutes", type=float, default=10.0, help="in real time (default: 10)")
    parser.add_argument("--days", type=int, default=7, help="on virtual time (default: 7; 0: none)")
    parser.add_argument("--hours", type=float, default=1.0, help="how long such a day is (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a look, within a minute, without such days")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args(arguments)
    if given.quick:
        given.minutes, given.days = min(given.minutes, 0.4), 0
    pin(CORES[0])
    found = {f"{PER_SECOND} ticks a second": under_ticks(given.minutes)}
    if given.days:
        found[f"{given.days} days on virtual time"] = over_days(given.days, given.hours)
    if given.json:
        print(json.dumps({**machine(), "runs": found}))
    else:
        for name, value in machine().items():
            print(f"{name:<10} {value}")
        show(found)
    return int(any(run.get("left out") or run.get("violations") for run in found.values()))


if __name__ == "__main__":
    sys.exit(main())
