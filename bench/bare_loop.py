"""A loop that does nothing but look how late it is: what the machine itself adds to the lag of any other.

Run as `python -m bench.bare_loop --core N`; after SIGTERM its report is on stdout, as JSON.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.daemons import Probe
from bench.machine import pin
from commands.loops import new_event_loop

ROOT = Path(__file__).resolve().parents[1]
STOP_WITHIN_S = 10.0


@contextmanager
def bare_loop(core: int) -> Iterator[dict[str, Any]]:
    """Have a bare loop look at itself on a core; what it found is in the dictionary afterwards."""
    command = [sys.executable, "-m", "bench.bare_loop", "--core", str(core)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603
    found: dict[str, Any] = {}
    try:
        yield found
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=STOP_WITHIN_S)
        found.update(json.loads(said))
    finally:
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Look until ended, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_loop", description=__doc__)
    parser.add_argument("--core", type=int, required=True)
    pin(parser.parse_args(arguments).core)
    loop, probe = new_event_loop(), Probe()
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    loop.call_soon(probe.begin)
    try:
        loop.run_forever()
    finally:
        loop.close()
    print(json.dumps(probe.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
