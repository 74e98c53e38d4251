"""The benchmark of events runs as its users run it, and holds what the documents claim."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).resolve().parents[1]


def test_quick_run_holds_the_claims() -> None:
    """More than 1,000 events a second, handled within 50 ms; a fact for nobody is the cheapest."""
    command = [sys.executable, "bench/events.py", "--quick", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    found = json.loads(run.stdout)
    assert found["worker"]["messages_per_second"] > 1000
    assert found["paced"]["handling_ms_p50"] < 50
    assert found["bus"]["published to 1 queue, and handled"]["per_second"] > 1000
    nobody, somebody = found["bus"]["published to nobody"], found["bus"]["published to 1 function"]
    assert nobody["ratio"] < somebody["ratio"]
