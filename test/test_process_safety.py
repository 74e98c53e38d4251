"""Trouble, and what the daemon does about it: a position over the limit, a silent stream, an exchange cut off."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from commands.wiring import paper_account
from core.halt import Halt, HaltLatch
from core.instance_lock import InstanceLock
from test.process import Exchange, Folder, Stage, eventually

pytestmark = pytest.mark.no_cover

FLAT_WITHIN_S = 2.0
BACK_WITHIN_S = 10.0
TROUBLE_S = 6.0
PATIENCE_S = 60.0
"""For what has to come, and of which no test says how soon: the machine may be busy with the other tests."""


def position(exchange: Exchange) -> Decimal:
    """Return the account's position at the exchange."""
    return sum((Decimal(each["positionAmt"]) for each in exchange.record()["positions"]), Decimal(0))


def test_position_over_the_limit_is_closed_and_quoting_paused_for_good(tmp_path: Path) -> None:
    """Flat within two seconds; then halted: through the stop, and through a restart, until an operator resumes."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, refresh_config={"orderbook_refresh_interval": 1})
        daemon = stage.quoting(exchange, folder)
        began_s = time.monotonic()
        exchange.fill("BUY", "0.05")
        assert position(exchange) != 0
        eventually(lambda: position(exchange) == 0, FLAT_WITHIN_S, "the position was not closed")
        eventually(lambda: _is_paused(folder) and not exchange.open_orders(), FLAT_WITHIN_S, "no pause")
        assert time.monotonic() - began_s < FLAT_WITHIN_S + 1  # the metrics are up to a second old
        orders = len(exchange.record()["orders"])

        time.sleep(1.5)  # more than a refresh
        assert len(exchange.record()["orders"]) == orders
        assert daemon.end(signal.SIGTERM) == 4

        assert stage.daemon(folder).wait(30) == 4  # by itself
        assert len(exchange.record()["orders"]) == orders
        resume = stage.daemon(folder, "resume")
        assert (resume.wait(30), resume.err) == (0, "")
        assert "BTCUSDT: halt cleared (position" in resume.out

        assert stage.quoting(exchange, folder).end(signal.SIGTERM) == 0
        _assert_closing_was_reduce_only(exchange, "SELL")
        steps = [row["sub_type"] for row in folder.rows("risk_event")]
        # a refresh may come between the fill and the look at it
        besides = ("posture", "day", "foreign_trade", "quotes_trimmed")
        assert [step for step in steps if step not in besides][:3] == ["limits", "breach", "flat"]


def _is_paused(folder: Folder) -> bool:
    return folder.last("paused") == "1" and folder.last("quoting") == "0"


def _assert_closing_was_reduce_only(exchange: Exchange, side: str) -> None:
    ours = [order for order in exchange.record()["orders"] if order["clientOrderId"].startswith("qpmm-")]
    [closing] = [order for order in ours if order["reduceOnly"]]
    assert closing["timeInForce"] == "IOC"
    assert (closing["side"], closing["executedQty"]) == (side, "0.050")


def test_resume_while_the_daemon_runs_lets_it_quote_again(tmp_path: Path) -> None:
    """The operator has looked, and clears the halt from another shell."""
    with Stage(tmp_path) as stage:
        exchange = stage.exchange()
        folder = stage.folder(exchange, refresh_config={"orderbook_refresh_interval": 1})
        daemon = stage.quoting(exchange, folder)
        exchange.fill("SELL", "0.05")
        eventually(
            lambda: position(exchange) == 0 and not exchange.open_orders(), PATIENCE_S, "it is not flat"
        )
        eventually(lambda: "the position is closed" in daemon.err, PATIENCE_S, "it did not say so")
        assert stage.daemon(folder, "resume").wait(30) == 0
        eventually(lambda: len(exchange.open_orders()) == 6, PATIENCE_S, "it does not quote again")
        assert daemon.end(signal.SIGTERM, PATIENCE_S) == 0
        _assert_closing_was_reduce_only(exchange, "BUY")


def test_keys_are_nowhere_to_be_seen(tmp_path: Path) -> None:
    """Not in log, metrics, output or process list, in the most talkative mode, with errors in between."""
    key, secret = "canary-key-7f3a9c", "canary-secret-e81b64"
    with Stage(tmp_path) as stage:
        exchange = stage.exchange("--api-key", key, "--api-secret", secret)
        folder = stage.folder(
            exchange, logging={"log_level": "DEBUG"}, refresh_config={"orderbook_refresh_interval": 1}
        )
        with (folder.path / ".env").open("a") as file:
            file.write(f"BINANCE_API_KEY={key}\nBINANCE_SECRET_KEY={secret}\n")
        daemon = stage.quoting(exchange, folder)
        command_line = Path(f"/proc/{daemon.pid}/cmdline").read_text()
        exchange.outage(1)
        connected = "account stream connected"
        eventually(lambda: daemon.err.count(connected) == 2, PATIENCE_S, "it did not reconnect")
        check = stage.daemon(folder, "check")
        assert check.wait(PATIENCE_S) == 0
        assert daemon.end(signal.SIGTERM, PATIENCE_S) == 0
        metrics = "".join(path.read_text() for path in folder.logs.glob("*.csv"))
        for text in (command_line, folder.log, metrics, daemon.out, daemon.err, check.out, check.err):
            assert "canary" not in text
            assert "signature=" not in text.replace("signature=***", "")
        assert "python" in command_line


@dataclass(frozen=True)
class Trouble:
    """A run that went through one trouble; times are seconds since the epoch."""

    folder: Folder
    code: int
    began_s: float
    ended_s: float
    pulled_s: float
    back_s: float


@pytest.fixture(scope="module", autouse=True)
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Trouble]]]:
    """Two runs beside the other tests: a stream that goes silent, and an exchange that cannot be reached."""
    with Stage(tmp_path_factory.mktemp("safety")) as stage, ThreadPoolExecutor(2) as pool:
        yield {
            "silence": pool.submit(
                _trouble, stage, lambda exchange: exchange.silence("bookTicker", TROUBLE_S)
            ),
            "outage": pool.submit(_trouble, stage, lambda exchange: exchange.outage(TROUBLE_S)),
        }


@pytest.fixture(scope="module")
def troubles(beside: dict[str, Future[Trouble]]) -> dict[str, Trouble]:
    """Both runs, once they have ended."""
    return {name: run.result() for name, run in beside.items()}


def _trouble(stage: Stage, make: Callable[[Exchange], None]) -> Trouble:
    exchange = stage.exchange()
    safety = {"dead_man_window_s": 5, "dead_man_refresh_s": 1, "max_book_age_ms": 1500}
    folder = stage.folder(exchange, safety=safety, refresh_config={"orderbook_refresh_interval": 1})
    daemon = stage.quoting(exchange, folder)
    began_s = time.time()
    make(exchange)
    eventually(lambda: folder.last("quoting") == "0", TROUBLE_S, "the gate never closed")
    pulled_s = eventually(lambda: _time_of_no_orders(exchange), BACK_WITHIN_S + 2, "the quotes never went")
    time.sleep(max(began_s + TROUBLE_S - time.time(), 0))
    eventually(lambda: len(exchange.open_orders()) == 6, BACK_WITHIN_S, "it is not back")
    back_s = time.time()
    eventually(lambda: folder.last("live_orders") == "6", 3, "the metrics do not know that it is back")
    return Trouble(folder, daemon.end(signal.SIGTERM), began_s, began_s + TROUBLE_S, pulled_s, back_s)


def _time_of_no_orders(exchange: Exchange) -> float:
    """Return when the last of the first orders ended, once all have; also if the exchange cannot be asked now."""
    try:
        orders = exchange.record()["orders"]
    except OSError:
        return 0.0
    if any(order["status"] == "NEW" for order in orders[:6]):
        return 0.0
    return float(max(order["updateTime"] for order in orders)) / 1000


@pytest.fixture(params=["silence", "outage"])
def trouble(troubles: dict[str, Trouble], request: pytest.FixtureRequest) -> Trouble:
    """Each of the troubles."""
    return troubles[request.param]


def test_daemon_is_back_by_itself_within_ten_seconds(trouble: Trouble) -> None:
    """Six quotes rest again, and the run ends as any other."""
    assert trouble.back_s - trouble.ended_s < BACK_WITHIN_S
    assert trouble.code == 0


def test_quotes_are_pulled_while_the_stream_is_silent(troubles: dict[str, Trouble]) -> None:
    """Soon after the book was too old, while the exchange could be reached, and long before the trouble was over."""
    silence = troubles["silence"]
    gone = [
        _time(row)
        for row in silence.folder.rows("order_event", "cancelled")
        if _time(row) > silence.began_s + 1.4
    ]
    assert gone[0] - silence.began_s < 4
    assert not [
        row
        for row in silence.folder.rows("order_event", "placed")
        if silence.began_s + 3 < _time(row) < silence.ended_s
    ]


def test_trouble_is_visible_in_the_metrics(troubles: dict[str, Trouble]) -> None:
    """What happened, for how long nothing was quoted and why, and that it ended."""
    silence, outage = troubles["silence"].folder, troubles["outage"].folder
    assert silence.rows("connection_event", "stale")
    assert len(silence.rows("connection_event", "fresh")) == 2
    assert [row["details"].split()[0] for row in outage.rows("connection_event", "down")]
    # book and account; the mark price may still wait for its turn when the quotes are back
    assert int(outage.last("reconnects")) >= 2
    for folder in (silence, outage):
        closed = [row for row in folder.rows("quoting") if row["value"] == "0"]
        assert closed
        assert all(row["details"] for row in closed)
        kinds = [row["sub_type"] for row in folder.rows("engine_event")]
        assert kinds.count("gate_open") == 2
        assert kinds[-1] == "stopped"
        ages = [float(row["value"]) for row in folder.rows("book_age")]
        assert max(ages) > 3000
        assert ages[-1] < 1500


def test_metrics_have_a_row_each_second_all_through_the_trouble(trouble: Trouble) -> None:
    """Whatever the exchange does, the record of the run has no hole."""
    times = [_time(row) for row in trouble.folder.rows("uptime")][:-1]  # the last one is written at the stop
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) >= 5
    assert max(gaps) < 2


def _time(row: dict[str, str]) -> float:
    return datetime.fromisoformat(row["timestamp"]).timestamp()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_resume_that_waits_for_a_close_can_be_broken_off(tmp_path: Path, number: signal.Signals) -> None:
    """At once, with one line, and the halt stands as it stood."""
    with Stage(tmp_path) as stage:
        folder, url = stage.folder(), "http://127.0.0.1:9"
        (folder.path / ".env").write_text(f"PAPER_URL={url}\n")
        latch = HaltLatch(folder.state, paper_account(url), "BTCUSDT")
        latch.engage("position over the limit", 5, is_closing=True)
        with InstanceLock(folder.state, paper_account(url), "BTCUSDT"):
            resume = stage.daemon(folder, "resume")
            time.sleep(2)
            assert resume.end(number, within_s=5) == 1
        assert (resume.out, resume.err) == ("", "resume: broken off, nothing was cleared\n")
        assert latch.read() == Halt("BTCUSDT", "position over the limit", 5, is_closing=True)
