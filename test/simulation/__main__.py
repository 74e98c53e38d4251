"""``python -m test.simulation``: lets the storms of many seeds happen in virtual time, and says what came of them."""

import argparse
import gc
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from test.simulation.plan import Plan, load_plan, write_plan
from test.simulation.report import figures, merged, table
from test.simulation.run import Outcome, run_seed
from test.simulation.shrink import Shrinker
from test.simulation.swarm import draw_plan

REGRESSIONS = Path(__file__).parent / "regressions"
MOST_SEEDS = 100_000
"""However many minutes there are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return 1 if a rule was broken."""
    options = _parser().parse_args(arguments)
    if options.merge:
        return _told(merged([json.loads(path.read_text()) for path in options.merge]), options)
    if options.twice:
        return _twice(options)
    if options.shrink:
        return _shrink(options)
    outcomes = []
    for outcome in _outcomes(options):
        outcomes.append(outcome)
        if not options.json:
            print(*_lines(outcome, log=options.log), sep="\n", flush=True)
    return _told(figures(outcomes), options)


def _told(found: dict[str, Any], options: argparse.Namespace) -> int:
    """Print the figures; return the exit code that they call for."""
    print(json.dumps(found) if options.json else "\n" + table(found))
    return 1 if found["violations"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m test.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds (default: 10)")
    parser.add_argument(
        "--minutes", type=float, help="as many seeds as begin within these minutes, however many that are"
    )
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--seed", type=int, help="this seed alone, with what happened if it fails")
    parser.add_argument("--hours", type=float, default=1.0, help="virtual hours of each (default: 1)")
    parser.add_argument("--faults-per-hour", type=float, default=600.0, help="default: 600")
    parser.add_argument("--kinds", nargs="+", help="only these kinds of fault; a quarter of all without")
    parser.add_argument("--events-per-second", type=float, default=20.0, help="of the market (default: 20)")
    parser.add_argument("--script", type=Path, help="a scenario file instead of seeds")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--go-on", action="store_true", help="do not end a run at its first violation")
    parser.add_argument(
        "--shrink", metavar="NAME", help="shorten the first seed that fails; keep it as NAME.yaml"
    )
    parser.add_argument("--twice", action="store_true", help="each seed in two processes: equal traces")
    parser.add_argument("--log", action="store_true", help="show what happened in runs that failed")
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="no run: the figures of these --json outputs as one",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    first = options.first if options.seed is None else options.seed
    count = 1 if options.seed is not None or options.script is not None else options.seeds
    options.log = options.log or options.seed is not None
    one = partial(_quietly, logs=options.log, **_how(options))
    if options.minutes is not None and options.seed is None and options.script is None:
        count = MOST_SEEDS
    seeds = _within(options.minutes, range(first, first + count))
    if options.jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {pool.submit(one, seed) for seed in islice(seeds, options.jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
            running |= {pool.submit(one, seed) for seed in islice(seeds, len(done))}


def _within(minutes: float | None, seeds: Iterable[int]) -> Iterator[int]:
    """Yield seeds until so many minutes have passed; all of them without a bound."""
    until_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
    return takewhile(lambda _seed: time.monotonic() < until_s, seeds)


def _quietly(seed: int, *, logs: bool, **how: object) -> Outcome:
    """Run a seed with log lines kept or not made, and with a garbage collector that seldom looks at what lives on."""
    logging.disable(logging.NOTSET if logs else logging.CRITICAL)
    core = logging.getLogger("core")
    core.propagate = False
    core.setLevel(logging.INFO)
    logging.getLogger().addHandler(logging.NullHandler())  # else warnings of other parts go to stderr as well
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    return run_seed(seed, **how)  # type: ignore[arg-type]  # they are its own keywords, from the parser


def _lines(outcome: Outcome, *, log: bool) -> Iterator[str]:
    """Yield the line of a run, and if it failed what was broken and, with ``log``, what happened."""
    yield _line(outcome)
    yield from (f"        {each}" for each in outcome.violations)
    if log and outcome.violations:
        yield from (f"        {each}" for each in outcome.log)


def _line(outcome: Outcome) -> str:
    verdict = "FAILED" if outcome.violations else "ok"
    recovered = max(outcome.recovered_s, default=0.0)
    return (
        f"{outcome.seed:>8}  {verdict:<6}  {outcome.seconds / 3600:6.2f} h  {outcome.requests:>7} requests"
        f"  {sum(outcome.faults.values()):>6} strikes  quoted {outcome.quoted_share:4.0%}"
        f"  back after {recovered:5.1f} s at most  {outcome.cpu_s:5.1f} s  {outcome.trace}"
    )


def _shrink(options: argparse.Namespace) -> int:
    """Shorten the first plan that fails to a scenario file of its own; return 1 if none fails."""
    for seed in (
        range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    ):
        outcome = _quietly(seed, logs=False, **_how(options))
        if not outcome.violations:
            continue
        rule = outcome.violations[0].rule
        print(f"seed {seed}: {outcome.violations[0]}", flush=True)
        shrinker = Shrinker(rule, told=lambda text: print(text, flush=True))
        plan = shrinker.shrink(load_plan(options.script) if options.script else _plan(seed, options))
        path = REGRESSIONS / f"{options.shrink}.yaml"
        path.write_text(write_plan(replace(plan, note=f"breaks {rule}; from seed {seed}")), encoding="utf-8")
        print(f"{len(plan.faults)} faults: {path}")
        return 0
    print("no seed fails")
    return 1


def _plan(seed: int, options: argparse.Namespace) -> Plan:
    return draw_plan(
        seed,
        hours=options.hours,
        faults_per_hour=options.faults_per_hour,
        kinds=options.kinds,
        events_per_second=options.events_per_second,
    )


def _how(options: argparse.Namespace) -> dict[str, Any]:
    names = ("hours", "faults_per_hour", "kinds", "script", "events_per_second", "go_on")
    return {name: getattr(options, name) for name in names}


def _twice(options: argparse.Namespace) -> int:
    """Run all seeds in two processes that hash differently; return 1 if a trace differs."""
    command = [sys.executable, "-m", "test.simulation", "--json"]
    for name in ("seeds", "first", "hours", "faults_per_hour", "events_per_second"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    both = []
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number}
        both.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    traces = [json.loads(each.communicate()[0])["traces"] for each in both]
    first, second = traces
    differing = [seed for seed, trace in first.items() if second.get(seed) != trace]
    print(f"{len(first)} seeds in two processes each: {len(differing)} differ {' '.join(differing)}".rstrip())
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
