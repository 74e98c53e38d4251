"""The daemon on its embedded exchange, as somebody without keys and without network starts it."""

import csv
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.metrics import (
    ACCOUNT_METRICS,
    BASE,
    COLUMNS,
    EVENT_METRICS,
    QUOTE,
    QUOTE_METRICS,
    SYMBOL_METRICS,
)
from test.process import LOG_LINE, START_WITHIN_S, Daemon, Folder, Stage, eventually

UNITS = {BASE: "btc", QUOTE: "usdt"}


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Folder
    daemon: Daemon
    code: int
    kept_waiting_s: float
    """For how long other programs on the machine had kept it waiting when its first quotes rested."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run on the shipped settings, from a folder that is not the project's, stopped by Ctrl-C after some seconds."""
    path = tmp_path_factory.mktemp("paper")
    elsewhere = path / "elsewhere"
    elsewhere.mkdir()
    with Stage(path) as stage:
        folder = stage.folder(refresh_config={"orderbook_refresh_interval": 2}, status_interval=1)
        daemon = stage.daemon(folder, cwd=elsewhere)
        eventually(lambda: len(folder.rows("order_event", "placed")) >= 6, 60, "no six orders were placed")
        kept_waiting_s = daemon.kept_waiting_s
        eventually(
            lambda: "mid" in daemon.err and _full_seconds(folder) >= 4, 20, "it did not quote for long"
        )
        yield Run(folder, daemon, daemon.end(signal.SIGINT), kept_waiting_s)


def _full_seconds(folder: Folder) -> int:
    return sum(row["value"] == "6" for row in folder.rows("live_orders"))


def test_run_without_keys_ends_with_zero_on_ctrl_c(run: Run) -> None:
    """SIGINT is a stop like any other."""
    assert run.code == 0
    assert "no order of ours rests: verified" in run.daemon.err


def test_six_orders_rest_within_five_seconds_of_the_start(run: Run) -> None:
    """Three a side, from the start of the process to the exchange's word for the sixth, as on a machine of its own.

    For how long a busy machine gave it no processor is left out: on an idle one that is next to nothing.
    """
    placed = run.folder.rows("order_event", "placed")[:6]
    taken_s = max(datetime.fromisoformat(row["timestamp"]).timestamp() for row in placed)
    assert taken_s - run.daemon.started_s - run.kept_waiting_s < 5
    slots = {(row["side"], row["level"]) for row in placed}
    assert slots == {(side, level) for side in ("buy", "sell") for level in "123"}
    assert [row["value"] for row in run.folder.rows("live_orders")][-2] == "6"


def test_quotes_in_the_metrics_lie_around_the_mid(run: Run) -> None:
    """Bids below and asks above, one price for each level, at the distance that is configured."""
    rows = run.folder.rows()
    first = next(place for place, row in enumerate(rows) if row["metric_name"] == "quote_price")
    mid = float([row["value"] for row in rows[:first] if row["metric_name"] == "mid_price"][-1])
    quotes = [row for row in rows[first:] if row["metric_name"] == "quote_price"][:6]
    prices = {(row["side"], int(row["level"])): float(row["value"]) for row in quotes}
    assert len(prices) == 6
    for (side, level), price in prices.items():
        away = (mid - price if side == "buy" else price - mid) / mid
        assert away == pytest.approx(level * 0.001, abs=0.0002)


def test_output_of_a_run_is_plain_readable_lines(run: Run) -> None:
    """One line a message with time and level, no colours, no traceback, and nothing on stdout."""
    assert run.daemon.out == ""
    assert all(LOG_LINE.fullmatch(line) for line in run.daemon.err.splitlines())
    assert "\x1b" not in run.daemon.err
    assert "Traceback" not in run.daemon.err
    for said in ("on paper", "BTCUSDT: tick 0.1", "position limit 2000", str(run.folder.logs), " | PnL "):
        assert said in run.daemon.err


def test_log_file_holds_what_was_said(run: Run) -> None:
    """The folder that was configured has the log, line for line, wherever the program was started."""
    assert run.folder.log == run.daemon.err
    assert list((run.folder.path.parent / "elsewhere").iterdir()) == []


def test_metrics_are_csv_of_the_contracts_columns_with_one_header(run: Run) -> None:
    """A strict reader finds every line whole, and the header once."""
    [path] = run.folder.logs.glob("metrics-*.csv")
    assert run.folder.torn == ""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file, strict=True))
    assert ",".join(lines[0]) == (
        "timestamp,instance_id,env,metric_name,value,unit,symbol,side,level,sub_type,details"
    )
    assert {len(line) for line in lines} == {len(COLUMNS)}
    assert lines.count(lines[0]) == 1
    for line in lines[1:]:
        row = SimpleNamespace(**dict(zip(COLUMNS, line, strict=True)))
        assert datetime.fromisoformat(row.timestamp).utcoffset() is not None
        assert (row.instance_id, row.env) == ("mm1", "paper")
        float(row.value)


def test_metrics_of_every_documented_name_are_there_each_second(run: Run) -> None:
    """Every name has its unit, the symbol where it belongs to one, and a row for each second of the run."""
    rows = run.folder.rows()
    seconds = len(run.folder.rows("uptime"))
    assert seconds >= 4
    for name, (unit, _) in (SYMBOL_METRICS | ACCOUNT_METRICS).items():
        mine = [row for row in rows if row["metric_name"] == name]
        assert seconds - 1 <= len(mine) <= seconds, name
        expected = (UNITS.get(unit, unit), "BTCUSDT" if name in SYMBOL_METRICS else "-")
        assert {(row["unit"], row["symbol"]) for row in mine} == {expected}, name
    for name in QUOTE_METRICS:
        assert len([row for row in rows if row["metric_name"] == name]) >= 6 * 4, name
    known = SYMBOL_METRICS.keys() | ACCOUNT_METRICS.keys() | QUOTE_METRICS.keys() | EVENT_METRICS.keys()
    assert {row["metric_name"] for row in rows} <= known


def test_metrics_tell_the_story_of_the_run(run: Run) -> None:
    """Start, limits, connections, reconciliation, quotes and stop are events, of the kinds that are documented."""
    events = [
        (row["metric_name"], row["sub_type"])
        for row in run.folder.rows()
        if row["metric_name"] in EVENT_METRICS
    ]
    assert all(kind in EVENT_METRICS[name][1] for name, kind in events)
    story = [
        ("engine_event", "started"),
        ("risk_event", "limits"),
        ("connection_event", "up"),
        ("connection_event", "reconciled"),
        ("engine_event", "gate_open"),
        ("order_event", "placed"),
        ("engine_event", "stopping"),
        ("order_event", "cancelled"),
        ("engine_event", "stopped"),
    ]
    places = [events.index(event) for event in story]
    assert places[0] == 0
    assert places[-1] == len(events) - 1
    assert places == sorted(places)


def test_duration_ends_the_run_by_itself(tmp_path: Path) -> None:
    """After --duration the daemon stops as if asked to, with exit code 0; on a busy machine perhaps in its start."""
    with Stage(tmp_path) as stage:
        for duration in ("2.5", "20.5"):
            folder = stage.folder()
            daemon = stage.daemon(folder, "--duration", duration)
            assert daemon.wait(float(duration) + 20) == 0
            assert f"{duration} s have passed" in daemon.err
            if folder.rows("order_event", "placed"):
                break
        assert folder.last("live_orders") == "0"


def test_halt_on_the_embedded_exchange_ends_with_its_own_process_only(tmp_path: Path) -> None:
    """Neither ``check`` nor a second daemon clears it for one that runs; a start after that one has a new account."""
    with Stage(tmp_path) as stage:
        folder = stage.folder()
        daemon = stage.daemon(folder)
        eventually(lambda: "first quote rests" in daemon.err, START_WITHIN_S, "no quote ever rested")
        daemon.send(signal.SIGUSR1)
        halt = folder.state / "halt-paper-embedded-BTCUSDT.json"
        eventually(halt.exists, 10, "no halt stands on disk")
        assert stage.daemon(folder, "check").wait(20) == 0
        assert halt.exists()
        second = stage.daemon(folder, "--duration", "30")
        assert second.wait(20) == 4
        assert "another daemon on an embedded exchange runs" in second.err
        time.sleep(1.5)  # the halt is looked at each second
        assert halt.exists()
        assert daemon.err.count("BTCUSDT: quoting") == 1
        assert daemon.end(signal.SIGTERM) == 4
        assert stage.daemon(folder, "--duration", "1").wait(20) == 0
        assert not halt.exists()


def test_embedded_exchange_replays_a_recording(data_dir: Path, tmp_path: Path) -> None:
    """The embedded market may be a recording, too, of any symbol that it holds."""
    paper = {"market": "recording", "recording": str(data_dir / "usdm-2024-07-18")}
    with Stage(tmp_path) as stage:
        folder = stage.folder(symbol="ETHUSDT", paper=paper)
        daemon = stage.daemon(folder)
        eventually(lambda: folder.rows("quote_price"), 8, "no quotes were seen")
        assert daemon.end(signal.SIGINT) == 0
        assert len(folder.rows("order_event", "placed")) == 6
        assert 3000 < float(folder.last("mid_price")) < 4000
