"""The benchmark of long runs counts what the daemon takes against what was sent, and reads its size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import quantiles_of_counts

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).resolve().parents[1]


def test_shipped_daemon_takes_every_tick_and_its_loop_is_looked_at() -> None:
    """`python bench/soak.py --quick --json` ends with 0: nothing is left out, and its size is read eleven times."""
    command = [sys.executable, "bench/soak.py", "--quick", "--minutes", "0.05", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    (found,) = json.loads(run.stdout)["runs"].values()
    assert (found["ticks sent"], found["left out"]) == (3000, 0)
    assert found["looks at the loop"] > 100
    assert 0 <= found["lag, ms"]["median"] <= found["lag, ms"]["p99.9"] <= found["lag, ms"]["max"]
    assert found["lag of a bare loop, ms"]["max"] > 0
    assert len(found["MiB"]) == len(found["descriptors"]) == 11
    assert min(found["MiB"]) > 20
    assert 0 < found["share of a core"] < 2


def test_quantiles_of_counts_are_those_of_what_was_counted() -> None:
    """Of ten, seven in the first place, two in the third, one in the last."""
    assert quantiles_of_counts([7, 0, 2, 0, 1], [0.5, 0.9, 0.99, 1.0]) == [0, 2, 4, 4]
