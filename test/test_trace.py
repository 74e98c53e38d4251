"""The same seed gives the same run, to the last bit, in every process."""

import json
import os
import subprocess
import sys
from typing import Any

from test.conftest import ROOT


def _run(hash_seed: str, seed: int) -> dict[str, Any]:
    """Return the figures of a short simulation in a process of its own."""
    done = subprocess.run(
        [sys.executable, "bench/simulation.py", "--hours", "0.02", "--seed", str(seed), "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_same_seed_leaves_the_same_trace_in_two_processes() -> None:
    """Exchange record and metrics are equal whatever the hash seed of the process; another seed differs."""
    first, second, other = _run("1", 5), _run("2", 5), _run("1", 6)
    assert first["orders"] > 0
    assert first["trace"] == second["trace"]
    assert first["trace"] != other["trace"]
