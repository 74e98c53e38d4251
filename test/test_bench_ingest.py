"""The benchmark of ingestion counts what the daemon keeps against what was sent."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ingest
from bench.ingest import CHUNK_BYTES, FIRST_ID, add_shares, book_frames

pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).resolve().parents[1]


def test_worker_keeps_every_message_that_is_sent() -> None:
    """`python bench/ingest.py --quick --only daemon --json` ends with 0, and nothing is left out."""
    command = [sys.executable, "bench/ingest.py", "--quick", "--only", "daemon", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    found = json.loads(run.stdout)["stacks"]["daemon"]
    assert (found["sent"], found["left_out"]) == (20_000, 0)
    assert found["per_second"] > 1000
    assert found["cpu_us_a_message"] > 0


def test_sender_writes_every_message_once_and_in_large_pieces() -> None:
    """Update ids follow one another, and no size is zero: the worker would rightly not take such a book."""
    chunks = book_frames(3000, 1)
    texts = [b"{" + part for part in b"".join(chunks).split(b'{"stream"')[1:]]
    payloads = [json.loads(b'{"stream"' + text[1:].split(b"}}")[0] + b"}}")["data"] for text in texts]
    assert [data["u"] for data in payloads] == list(range(FIRST_ID, FIRST_ID + 3000))
    assert all(
        float(data["B"]) > 0 < float(data["A"]) and float(data["b"]) < float(data["a"]) for data in payloads
    )
    assert all(len(chunk) >= CHUNK_BYTES for chunk in chunks[:-1])


def test_shares_are_those_of_the_floor() -> None:
    """A third of its speed for three times its processor time."""
    found = {
        "floor": {"per_second": 900, "cpu_us_a_message": 1.0},
        "daemon": {"per_second": 300, "cpu_us_a_message": 3.0},
    }
    add_shares(found)
    assert found["daemon"]["share of floor"] == found["daemon"]["the same by cpu"] == 0.333


def test_stack_that_fails_leaves_the_figures_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a sentence in its row, is not waited for again, and has the command end with 1."""
    asked = []

    def measured(stack: str, count: int) -> dict[str, float]:
        asked.append(stack)
        if stack == "floor":
            raise ingest.StackFailed("floor has left out messages: the last one never came")
        return {"kept": count, "seconds": 2.0, "cpu_seconds": 1.0}

    monkeypatch.setattr(ingest, "measured", measured)
    monkeypatch.setattr(ingest, "pin", lambda _core: None)
    monkeypatch.setattr(ingest.gc, "disable", lambda: None)
    assert ingest.main(["--only", "floor", "--only", "daemon"]) == 1
    assert asked == ["floor", "daemon", "daemon", "daemon"]
    told = capsys.readouterr().out.splitlines()
    assert told[-2] == f"{'floor':16}  failed: floor has left out messages: the last one never came"
    assert told[-1].split()[:2] == ["daemon", "50,000"]


async def test_client_that_waits_for_more_after_the_last_message_is_ended() -> None:
    """What it keeps is counted to the end, and what it fails with before is raised."""
    counted, more = ingest.Count(2), asyncio.Event()

    async def take() -> None:
        counted.note(FIRST_ID)
        counted.note(FIRST_ID + 1)
        await more.wait()

    async def fail() -> None:
        raise ConnectionError("gone")

    async with asyncio.timeout(5):
        await ingest._until_done(counted, take())
        assert counted.report["kept"] == 2
        with pytest.raises(ConnectionError, match="gone"):
            await ingest._until_done(ingest.Count(2), fail())
