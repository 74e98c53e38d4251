"""One short run of each kind of trouble on real processes; ``python -m test.blackbox`` makes as many as one wants."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from core.metrics import COLUMNS
from test.blackbox.__main__ import Run, run_one, table
from test.blackbox.files import complaints
from test.blackbox.kinds import KINDS
from test.blackbox.scene import BRIEF
from test.process import ROOT, Folder, eventually

pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[dict[str, Future[Run]]]:
    """All kinds beside each other, because most of their time is waiting."""
    with ThreadPoolExecutor(4) as pool:
        yield {kind: pool.submit(run_one, kind, number, BRIEF) for number, kind in enumerate(KINDS)}


@pytest.mark.parametrize("kind", KINDS)
def test_daemon_comes_through(beside: dict[str, Future[Run]], kind: str) -> None:
    """Nothing torn, no stranger touched, no order left, and quotes or a stop as the kind has it."""
    assert beside[kind].result().failure == ""


def test_processes_end_with_a_black_box_that_is_killed(tmp_path: Path) -> None:
    """The simulated exchange and a daemon that stands still, though nobody ends them."""
    script = (
        "import pathlib, signal, sys, time\n"
        "from test.process import Stage, eventually\n"
        "with Stage(pathlib.Path(sys.argv[1])) as stage:\n"
        "    exchange = stage.exchange()\n"
        "    daemon = stage.daemon(stage.folder(exchange))\n"
        "    eventually(lambda: daemon.catches(signal.SIGTERM), 30)\n"
        "    daemon.send(signal.SIGSTOP)\n"
        "    print(exchange.pid, daemon.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        owner.kill()
        owner.wait()
    eventually(lambda: not any(map(is_alive, pids)), 10, "a process was left")


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process, other than one that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_table_has_a_line_for_each_kind_and_figure() -> None:
    """Failures count, and only what was measured has a median."""
    runs = [Run("sigterm", 1, "", {"zero": 0.5}), Run("sigterm", 2, "it hung"), Run("reset", 1, "", {})]
    _, sigterm, resets = table(runs)
    assert sigterm.split() == ["sigterm", "2", "1", "zero", "0.50", "0.50"]
    assert resets.split() == ["reset", "1", "0"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("logs/metrics-20260101.csv", ",".join(COLUMNS) + "\n2026"),
        ("logs/metrics-20260101.csv", ",".join(COLUMNS) + "\n1,2,3\n"),
        ("logs/metrics-20260101.csv", "1,2,3\n"),
        ("state/orders-a-20260101.jsonl", '{"time":1,"state":"ACTIVE"}\n{"time'),
        ("state/orders-a-20260101.jsonl", '{"time":1,"state":"ACTIVE"}\n{}{}\n'),
        ("state/day-a-BTCUSDT.json", '{"day": 1'),
    ],
)
def test_torn_file_is_found(tmp_path: Path, name: str, text: str) -> None:
    """Whichever it is, and wherever it is torn."""
    folder = Folder(tmp_path / "daemon", {}, {})
    folder.logs.mkdir()
    folder.state.mkdir()
    assert complaints(folder) == []
    (folder.path / name).write_text(text)
    assert complaints(folder) != []
