"""The benchmark of the exchange runs as its users run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).resolve().parents[1]


def test_quick_run_gives_every_ratio() -> None:
    """`python bench/exchange.py --quick --json` ends with 0, and its ratios are ratios."""
    command = [sys.executable, "bench/exchange.py", "--quick", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    found = json.loads(run.stdout)
    assert 0 < found["orders"]["throughput, exchange / echo"] < 2
    assert found["orders"]["round trip p50, exchange / echo"] > 0
    assert found["replay"]["synthetic"]["exchange / json.loads"] > 0
    assert found["replay"]["synthetic"]["orders placed"] >= 6
