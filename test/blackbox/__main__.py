"""``python -m test.blackbox --kind KIND --times N``: real processes through real trouble; exit code 1 if any fails."""

import argparse
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from test.blackbox.kinds import KINDS
from test.blackbox.scene import BRIEF, FULL, Pace


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what failed, empty if nothing did, and the seconds it measured."""

    kind: str
    seed: int
    failure: str
    figures: dict[str, float] = field(default_factory=dict)


def run_one(kind: str, seed: int, pace: Pace) -> Run:
    """Let one run happen in a folder of its own, and all its processes end."""
    with tempfile.TemporaryDirectory(prefix="blackbox-", ignore_cleanup_errors=True) as folder:
        try:
            return Run(kind, seed, "", KINDS[kind](Path(folder), seed, pace))
        except (AssertionError, OSError, LookupError, ValueError) as error:
            return Run(kind, seed, f"{type(error).__name__}: {error}")


def table(runs: Sequence[Run]) -> list[str]:
    """Return a line for each kind and figure: runs, failures, median and worst, in seconds."""
    lines = [f"{'kind':<18}{'runs':>6}{'failed':>8}  {'seconds to':<10}{'median':>8}{'worst':>8}"]
    for kind in dict.fromkeys(run.kind for run in runs):
        of_kind = [run for run in runs if run.kind == kind]
        head = f"{kind:<18}{len(of_kind):>6}{sum(bool(run.failure) for run in of_kind):>8}"
        for name, values in _figures(of_kind).items():
            lines.append(f"{head}  {name:<10}{statistics.median(values):>8.2f}{max(values):>8.2f}")
            head = " " * len(head)
        if head.strip():
            lines.append(head)
    return lines


def _figures(runs: Sequence[Run]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.figures.items():
            found.setdefault(name, []).append(value)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the runs happen that the command line asks for, some at a time; print a table."""
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(10**9)
    kinds = options.kind or list(KINDS)
    wanted = [(kind, seed + number) for number in range(options.times) for kind in kinds]
    random.Random(seed).shuffle(wanted)
    pace, runs = BRIEF if options.brief else FULL, []
    began_s = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [pool.submit(run_one, *each, pace) for each in wanted]
        try:
            for done in as_completed(pending):
                runs.append(done.result())
                _tell(runs[-1])
        except KeyboardInterrupt:
            print("no more runs are begun; those under way end", file=sys.stderr, flush=True)
            pool.shutdown(cancel_futures=True)
    runs.sort(key=lambda run: (kinds.index(run.kind), run.seed))
    if options.json:
        print(json.dumps([{"kind": r.kind, "seed": r.seed, "failure": r.failure, **r.figures} for r in runs]))
    else:
        print("\n".join(table(runs)))
        print(f"{time.monotonic() - began_s:.0f} s, first seed {seed}")
    return int(any(run.failure for run in runs))


def _tell(run: Run) -> None:
    if run.failure:
        repeat = f"python -m test.blackbox --kind {run.kind} --times 1 --seed {run.seed}"
        print(f"FAILED {run.kind} ({repeat}): {run.failure}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m test.blackbox", description=__doc__)
    add = parser.add_argument
    add("--kind", action="append", choices=list(KINDS), help="may be repeated; all kinds")
    add("--times", type=int, default=1, metavar="N", help="runs of each kind; 1")
    add("--jobs", type=int, default=4, metavar="J", help="runs at the same time; 4")
    add("--seed", type=int, metavar="S", help="of the first run, the next has the next; drawn, and printed")
    add("--brief", action="store_true", help="short trouble and no restart at the end, as CI has it")
    add("--json", action="store_true", help="an object for each run instead of the table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
