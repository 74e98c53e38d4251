"""Each planted mutant against its scenario, or with ``--by simulation`` against the storms of the simulation.

``python -m test.mutants`` copies the project, makes the patch of each mutant in a copy of its own, and sees whether
it is found out. The last line says of how many.
"""

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from test.mutants.catalogue import Mutant, load
from test.mutants.trials import (
    SCENARIO_TIMEOUT_S,
    Hunt,
    Result,
    Verdict,
    examine,
    examine_by_simulation,
    pytest_arguments,
)
from test.mutants.workshop import Workshop, run_python

_CHUNK = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every mutant was killed by all that was asked for."""
    options = _parser().parse_args(arguments)
    mutants = [each for each in load() if not options.only or each.id in options.only]
    if unknown := set(options.only or ()) - {each.id for each in mutants}:
        print(f"there is no mutant {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    hunt = None
    if options.by == "simulation":
        hunt = Hunt(options.seeds, options.hours, options.seconds)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workshop = Workshop(Path(folder))
        complaint = "" if options.skip_control or hunt is not None else _control(workshop, mutants)
        if complaint:
            print(complaint, file=sys.stderr)
            return 2
        results = _examine_all(workshop, mutants, hunt, options.jobs, quiet=options.json)
    if options.json:
        print(json.dumps([_as_json(result) for result in results], indent=1))
    else:
        print("\n".join(table(results)))
    return 0 if all(result.is_killed for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m test.mutants", description=__doc__)
    parser.add_argument("--by", choices=("scenario", "simulation"), default="scenario")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these modes only")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--seeds", type=int, default=200, help="of the simulation, for each mutant")
    parser.add_argument("--hours", type=float, default=1 / 12, help="of each seed")
    parser.add_argument("--seconds", type=float, default=300, help="for the seeds of each mutant at most")
    parser.add_argument(
        "--skip-control", action="store_true", help="do not run the scenarios without a patch first"
    )
    parser.add_argument("--json", action="store_true", help="the figures, for machines")
    return parser


def _control(workshop: Workshop, mutants: Sequence[Mutant]) -> str:
    """Return why the scenarios prove nothing: one fails on the untouched copy; empty if all pass."""
    nodes = sorted({mutant.scenario for mutant in mutants})
    for begin in range(0, len(nodes), _CHUNK):
        some = nodes[begin : begin + _CHUNK]
        run = run_python(workshop.untouched, pytest_arguments(*some), SCENARIO_TIMEOUT_S * len(some))
        if run.code != 0:
            return f"a scenario fails without any mutant:\n{run.output[-4000:]}"
    return ""


def _examine_all(
    workshop: Workshop, mutants: Sequence[Mutant], hunt: Hunt | None, jobs: int, *, quiet: bool
) -> list[Result]:
    telling = threading.Lock()

    def one(mutant: Mutant) -> Result:
        result = examine(workshop, mutant) if hunt is None else examine_by_simulation(workshop, mutant, hunt)
        if not quiet:
            with telling:
                print(line(result), file=sys.stderr, flush=True)
        return result

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(one, mutants))


def line(result: Result) -> str:
    """Return what was found about one mutant, in one line."""
    text = f"{result.mutant.id:<7}  {result.mutant.title[:46]:<46}"
    if not result.fair.killed:
        return f"{text}  {_told(result.fair)}"
    if result.scenario is not None:
        text += f"  scenario: {_told(result.scenario)}"
    if result.simulation is not None:
        seed = (
            f"seed {result.simulation.seed}: {result.simulation.seen[:110]}"
            if result.simulation.killed
            else ""
        )
        text += f"  simulation: {_told(result.simulation)}  {seed}"
    return text.rstrip()


def _told(verdict: Verdict) -> str:
    return f"{verdict.how} ({verdict.seconds:.0f} s)"


def table(results: Iterable[Result]) -> list[str]:
    """Return the lines of the table; the last says how many of them all were killed."""
    results = list(results)
    killed = sum(result.is_killed for result in results)
    return [*(line(result) for result in results), f"{killed} of {len(results)}"]


def _as_json(result: Result) -> dict[str, Any]:
    found = {"fair": result.fair, "scenario": result.scenario, "simulation": result.simulation}
    return {
        "id": result.mutant.id,
        "killed": result.is_killed,
        **{
            name: {
                "killed": verdict.killed,
                "how": verdict.how,
                "seconds": round(verdict.seconds, 1),
                "seed": verdict.seed,
                "seen": verdict.seen,
            }
            for name, verdict in found.items()
            if verdict is not None
        },
    }


if __name__ == "__main__":
    sys.exit(main())
