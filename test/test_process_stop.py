"""A stop that can be trusted: signals at every moment of a run, and kills that nobody can catch."""

import random
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise

import pytest

from test.process import Daemon, Exchange, Json, Stage, eventually

pytestmark = pytest.mark.no_cover

STOP_WITHIN_S = 5.0
BUSY = {"orderbook_refresh_interval": 0.5}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A place for the processes of this module."""
    with Stage(tmp_path_factory.mktemp("stop")) as stage:
        yield stage


@contextmanager
def hanging_up(disposition: signal.Handlers) -> Iterator[None]:
    """What is started meanwhile is ended by the end of its terminal, or not, as by ``nohup``; whatever holds for us."""
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def exchange(stage: Stage) -> Exchange:
    """One exchange for all that leave it as they found it: without orders."""
    return stage.exchange("--latency-ms", "10")


@pytest.fixture(scope="module", autouse=True)
def beside(stage: Stage) -> Iterator[dict[str, Future[None]]]:
    """The stories that take long run beside the other tests; their own tests, at the end, wait for how they end."""
    instants = random.Random(secrets.randbits(32))
    with ThreadPoolExecutor(3) as pool:
        yield {
            "restarts": pool.submit(_kill_and_restart, stage, [instants.uniform(0.2, 1.2) for _ in range(5)]),
            "refreshes": pool.submit(
                _stop_amid_refreshes, stage, [instants.uniform(0.2, 0.8) for _ in range(4)]
            ),
            "dead man": pool.submit(_kill_and_leave, stage),
        }


def run_of(order: Json) -> str:
    """Return what all orders of one run have in common in their client ids."""
    stem: str = order["clientOrderId"].rpartition("-")[0]
    return stem


@pytest.mark.parametrize("after_ms", [0, 20, 50, 100, 200, 400, 800])
def test_sigterm_during_the_start_ends_with_zero(stage: Stage, exchange: Exchange, after_ms: int) -> None:
    """Whenever it comes after main.py's first lines; before these no program can know of it, and nothing was sent."""
    daemon = stage.daemon(stage.folder(exchange))
    time.sleep(after_ms / 1000)
    is_caught = daemon.catches(signal.SIGTERM)
    code = daemon.end(signal.SIGTERM, STOP_WITHIN_S)
    assert code == 0 or (code == -signal.SIGTERM and not is_caught), daemon.err
    assert exchange.open_orders() == []
    assert "Traceback" not in daemon.err


def test_sigterm_counts_from_the_first_lines_of_the_program(stage: Stage, exchange: Exchange) -> None:
    """The signal is caught before anything is imported that takes time: long before a log line or a request."""
    daemon = stage.daemon(stage.folder(exchange))
    eventually(lambda: daemon.catches(signal.SIGTERM), 5, "SIGTERM was never caught")
    assert daemon.err == ""
    assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0
    assert "no order was sent" in daemon.err


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name
)
def test_signal_while_quoting_ends_with_zero_and_no_order(
    stage: Stage, exchange: Exchange, number: signal.Signals
) -> None:
    """Six orders rest, then none; and the daemon says so."""
    with hanging_up(signal.SIG_DFL):
        daemon = stage.quoting(exchange, stage.folder(exchange))
    assert daemon.end(number, STOP_WITHIN_S) == 0
    assert exchange.open_orders() == []
    assert f"stopping: {number.name} received" in daemon.err
    assert daemon.folder.torn == ""


def test_terminal_that_is_closed_is_told_of_twice_and_hurries_nothing(
    stage: Stage, exchange: Exchange
) -> None:
    """By the kernel, and by the shell: the stop waits for the exchange as after one signal."""
    with hanging_up(signal.SIG_DFL):
        daemon = stage.quoting(exchange, stage.folder(exchange))
    exchange.outage(2)
    daemon.send(signal.SIGHUP)
    daemon.send(signal.SIGHUP)
    assert daemon.end(signal.SIGHUP, STOP_WITHIN_S) == 0, daemon.err
    assert exchange.open_orders() == []


def test_daemon_that_was_begun_with_nohup_outlives_its_terminal(stage: Stage, exchange: Exchange) -> None:
    """It quotes on; a signal to stop stops it."""
    with hanging_up(signal.SIG_IGN):
        daemon = stage.quoting(exchange, stage.folder(exchange))
    daemon.send(signal.SIGHUP)
    time.sleep(0.5)
    assert daemon.is_running
    assert len(exchange.open_orders()) == 6
    assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0
    assert "SIGHUP" not in daemon.err


def test_sigterm_while_reconnecting_waits_for_the_exchange(stage: Stage, exchange: Exchange) -> None:
    """The exchange cannot be reached for two seconds; the stop goes on until it has confirmed that nothing rests."""
    daemon = stage.quoting(exchange, stage.folder(exchange))
    exchange.outage(2)
    time.sleep(0.5)
    assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0, daemon.err
    assert exchange.open_orders() == []


def test_stop_that_cannot_verify_says_so_and_a_second_signal_hurries(stage: Stage) -> None:
    """Exit code 3 and a warning; the second Ctrl-C cuts a long stop down to about a second."""
    exchange = stage.exchange()
    daemon = stage.quoting(exchange, stage.folder(exchange, safety={"stop_timeout_s": 30}))
    exchange.outage(20)
    daemon.send(signal.SIGINT)
    time.sleep(0.7)
    assert daemon.is_running
    began_s = time.monotonic()
    assert daemon.end(signal.SIGINT, STOP_WITHIN_S) == 3
    assert time.monotonic() - began_s < 2.5
    assert "could not verify that no order of ours rests" in daemon.err


def test_signals_without_end_change_nothing_about_the_end(stage: Stage, exchange: Exchange) -> None:
    """Somebody who leans on Ctrl-C gets the same verified stop, also while Python is going down."""
    daemon = stage.quoting(exchange, stage.folder(exchange))
    while daemon.is_running:
        daemon.send(signal.SIGINT)
        daemon.send(signal.SIGTERM)
        time.sleep(0.002)
    assert daemon.wait(0) == 0, daemon.err
    assert exchange.open_orders() == []
    assert "Traceback" not in daemon.err


def test_restart_leaves_the_orders_of_others_alone(stage: Stage) -> None:
    """An order by hand rests before, during and after a run that ends well."""
    exchange = stage.exchange()
    price = Decimal(exchange.ask("GET", "/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"]) - 500
    by_hand = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    placed = exchange.ask_signed(
        "POST", "/fapi/v1/order", **by_hand, quantity="0.002", price=str(price), newClientOrderId="by-hand"
    )
    assert placed["status"] == "NEW", placed
    daemon = stage.quoting(exchange, stage.folder(exchange), orders=7)
    assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0
    assert [order["clientOrderId"] for order in exchange.open_orders()] == ["by-hand"]


def test_kill_before_the_first_quote_leaves_nothing(stage: Stage, exchange: Exchange) -> None:
    """A run that was killed while it started needs no cleaning up by the next."""
    daemon: Daemon = stage.daemon(stage.folder(exchange))
    time.sleep(0.3)
    daemon.kill()
    assert stage.quoting(exchange, stage.folder(exchange)).end(signal.SIGTERM) == 0
    assert exchange.open_orders() == []


def test_sigterm_amid_refreshes_leaves_no_order(beside: dict[str, Future[None]]) -> None:
    """At any instant of the half second between two refreshes, while cancels and new orders are under way."""
    beside["refreshes"].result()


def _stop_amid_refreshes(stage: Stage, instants_s: list[float]) -> None:
    exchange = stage.exchange("--latency-ms", "10")
    for instant_s in instants_s:
        daemon = stage.quoting(exchange, stage.folder(exchange, refresh_config=BUSY))
        time.sleep(instant_s)
        assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0, f"after {instant_s} s: {daemon.err}"
        assert exchange.open_orders() == [], f"after {instant_s} s"


def test_kill_without_restart_leaves_the_orders_to_the_dead_man_switch(
    beside: dict[str, Future[None]],
) -> None:
    """The exchange cancels all of them when it has heard nothing for the window."""
    beside["dead man"].result()


def _kill_and_leave(stage: Stage) -> None:
    exchange, window_s = stage.exchange(), 5
    safety = {"dead_man_window_s": window_s, "dead_man_refresh_s": 1}
    daemon = stage.quoting(exchange, stage.folder(exchange, safety=safety))
    time.sleep(1.5)  # the switch has been fed again by now
    daemon.kill()
    assert len(exchange.open_orders()) == 6
    eventually(lambda: not exchange.open_orders(), window_s + 0.5, "the dead-man switch did not cancel")


def test_restart_after_a_kill_clears_the_orphans_before_the_first_quote(
    beside: dict[str, Future[None]],
) -> None:
    """Five times at any instant; no line of the metrics is torn."""
    beside["restarts"].result()


def _kill_and_restart(stage: Stage, instants_s: list[float]) -> None:
    exchange = stage.exchange("--latency-ms", "10")
    folder = stage.folder(exchange, refresh_config=BUSY)
    for instant_s in instants_s:
        daemon = stage.quoting(exchange, folder)
        time.sleep(instant_s)
        daemon.kill()
        assert folder.torn == "", f"after {instant_s} s"
    daemon = stage.quoting(exchange, folder)
    assert daemon.end(signal.SIGTERM, STOP_WITHIN_S) == 0
    _assert_runs_do_not_overlap(exchange.record()["orders"])
    assert exchange.open_orders() == []


def _assert_runs_do_not_overlap(orders: list[Json]) -> None:
    """Every order of a run had ended when the first order of the next run came."""
    runs = list(dict.fromkeys(run_of(order) for order in orders))
    assert len(runs) == 6
    for earlier, later in pairwise(runs):
        last_end = max(order["updateTime"] for order in orders if run_of(order) == earlier)
        first_start = min(order["time"] for order in orders if run_of(order) == later)
        assert last_end <= first_start
