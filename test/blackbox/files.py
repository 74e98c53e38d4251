"""What a daemon has left on disk, read as strictly as nobody else would: a byte out of place is a complaint."""

import csv
import io
import json
from pathlib import Path

from core.metrics import COLUMNS
from test.process import Folder

UNFINISHED = ".tmp"
"""A file that was being written beside the one that it was to replace: nobody reads it."""


def complaints(folder: Folder) -> list[str]:
    """Return what is torn or not as it should be in the metrics, the journal and the state of a daemon that ended."""
    found = [each for path in sorted(folder.logs.glob("metrics-*.csv")) for each in _metrics(path)]
    for path in sorted(folder.state.iterdir()):
        if path.suffix == ".jsonl":
            found += _journal(path)
        elif path.suffix == ".json":
            found += _state(path)
    return found


def _metrics(path: Path) -> list[str]:
    data = path.read_bytes()
    if not data:
        return []  # opened, and no row was written
    if not data.endswith(b"\n"):
        return [f"{path.name}: the last line is torn: {data[-60:]!r}"]
    lines = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    found = [] if tuple(lines[0]) == COLUMNS else [f"{path.name}: the first line is not the header"]
    for number, cells in enumerate(lines[1:], 2):
        if len(cells) != len(COLUMNS) or tuple(cells) == COLUMNS:
            found.append(f"{path.name}:{number}: {cells}")
    return found


def _journal(path: Path) -> list[str]:
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        return [f"{path.name}: the last line is torn: {data[-60:]!r}"]
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not {"time", "state"} <= entry.keys():
            found.append(f"{path.name}:{number}: {line!r}")
    return found


def _state(path: Path) -> list[str]:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return [f"{path.name}: not JSON: {path.read_bytes()[:80]!r}"]
    return []
