"""A client of a benchmark in a process of its own, on the core of clients, at a quiet venue."""

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.clients import run
from bench.daemons import DAEMONS
from bench.machine import pin, two_cores
from bench.quiet_venue import QuietVenue

ROOT = Path(__file__).resolve().parents[1]
CORES = two_cores()
READY_WITHIN_S = 40.0
STOP_WITHIN_S = 10.0


@contextmanager
def client(stack: str, venue: QuietVenue, folder: Path, resting: int = 1) -> Iterator[int]:
    """Have a client work at the venue, ready for ticks with so many orders at rest; give its process id.

    The configuration of a daemon is in the folder; a bare client gets the order that it is to amend.
    """
    order_id = "" if stack in DAEMONS else venue.place()
    command = [sys.executable, "-m", "bench.one_client", stack, "--origin", venue.origin, "--order", order_id]
    command += ["--folder", str(folder), "--symbols", str(len(venue.symbols)), "--core", str(CORES[1])]
    said = folder / "said.txt"
    with said.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
    try:

        def is_ready() -> bool:
            if process.poll() is not None:
                raise SystemExit(f"{stack} has ended: {said.read_text()[-2000:]}")
            return venue.is_heard and venue.resting() == resting

        if not venue.serve(is_ready, READY_WITHIN_S):
            raise SystemExit(
                f"{stack} was not ready within {READY_WITHIN_S:.0f} s: {said.read_text()[-2000:]}"
            )
        venue.serve(lambda: False, 1.0)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        venue.serve(lambda: process.poll() is not None, STOP_WITHIN_S)
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a client until ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_client", description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("--origin", required=True)
    parser.add_argument("--order", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--symbols", type=int, required=True)
    parser.add_argument("--core", type=int, required=True)
    given = parser.parse_args(arguments)
    pin(given.core)
    if given.stack in DAEMONS:
        return DAEMONS[given.stack](given)
    run(given.stack, given.origin, given.order)
    return 0


if __name__ == "__main__":
    sys.exit(main())
