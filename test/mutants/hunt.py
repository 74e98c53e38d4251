"""Seeds of the simulation, one after the other, until an invariant is violated; a line of JSON for each.

It runs inside of a copy of the project, so that the simulation there meets the mutant there. With ``--calm-first`` the
mutant has to start and quote in calm weather before: one that cannot is no test of anything.
"""

import argparse
import gc
import json
import logging
import sys
from collections.abc import Sequence

from test.mutants import calm
from test.simulation.run import run_seed

NOT_FAIR = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when no seed had a violation, 1 after the first that had one, 3 for what does not quote in calm."""
    parser = argparse.ArgumentParser(prog="python -m test.mutants.hunt", description=__doc__)
    parser.add_argument("--kinds", required=True, help="names of faults, with commas in between")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--hours", type=float, default=0.1)
    parser.add_argument("--faults-per-hour", type=float, default=600)
    parser.add_argument("--calm-first", action="store_true")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # of hundreds of storms nobody reads it
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    if options.calm_first:
        try:
            calm.main()
        except Exception as error:  # noqa: BLE001 - whatever it is: it is no mutant
            print(f"{type(error).__name__}: {error}")
            return NOT_FAIR
    for seed in range(options.first, options.first + options.seeds):
        outcome = run_seed(
            seed,
            hours=options.hours,
            faults_per_hour=options.faults_per_hour,
            kinds=tuple(filter(None, options.kinds.split(","))),
        )
        print(
            json.dumps({"seed": seed, "violations": [str(each) for each in outcome.violations]}), flush=True
        )
        if outcome.violations:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
