"""What network, exchange and program do to each other: quotes are pulled where they must be, and come back."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from core.dead_man import DeadManSwitch
from core.execution import ExecutionEngine
from core.exit_code import ExitCode
from core.logger import LoggerWorker
from core.market import MarketDataWorker
from core.metrics_file import MetricsFile
from core.refresh import Refresher
from core.risk_controller import RiskController
from core.supervisor import Supervisor
from test.daemon import Sent, World, in_a_world, untouched
from utils.errors import RateLimited

pytestmark = pytest.mark.usefixtures("_each_order_transport")


def test_quotes_are_pulled_and_back_after_a_cut_of_twenty_seconds(tmp_path: Path) -> None:
    """With the exchange cut off for 20 s nothing rests at the end of it; quotes are back within 10 s."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.cut()
        await asyncio.sleep(20.5)
        assert world.ours() == []
        world.link.restore()
        assert await world.until_quoting() < 10
        assert await world.end() is ExitCode.STOPPED
        assert {"up", "down", "stale", "fresh", "reconciled"} <= set(world.events("connection_event"))
        assert {"gate_open", "gate_closed"} <= set(world.events("engine_event"))

    in_a_world(tmp_path, story)


def test_half_open_connections_are_noticed_and_replaced(tmp_path: Path) -> None:
    """When every byte is swallowed without a word, quotes go by the dead-man switch and come back by themselves."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.link.half_open()
        await asyncio.sleep(20.5)
        assert world.ours() == []
        world.link.restore()
        assert await world.until_quoting(20) < 20
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_silent_book_stream_pulls_the_quotes_while_it_lasts(tmp_path: Path) -> None:
    """The socket open and the stream silent for 20 s: out within 5 s, no flapping, back within 10 s."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="bookTicker", seconds=20)
        assert await world.until(lambda: not world.ours(), 5) < 5
        placed = world.count("orders")
        await asyncio.sleep(14)
        assert world.count("orders") == placed
        assert await world.until_quoting(14) < 14
        assert await world.end() is ExitCode.STOPPED
        assert {"stale", "fresh"} <= set(world.events("connection_event"))

    in_a_world(tmp_path, story)


def test_quiet_market_is_not_taken_for_a_silent_stream(tmp_path: Path, data_dir: Path) -> None:
    """On a thin market with gaps of minutes the quotes stay: the book is compared with the exchange's."""

    async def story(world: World) -> None:
        world.start(order_config={"price_offset_percent": 0.4, "quantity_per_order_usdt": 30})
        await world.until_quoting()
        await asyncio.sleep(180)
        assert await world.end() is ExitCode.STOPPED
        assert "stale" not in world.events("connection_event")

    in_a_world(tmp_path, story, symbol="NEXOUSDT", recording=data_dir / "spot-2024-07-23")


def test_silent_account_stream_is_noticed_by_our_own_orders(tmp_path: Path) -> None:
    """A user stream that says nothing of accepted orders is replaced, and its fills are counted over REST."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        world.control("POST", "/sim/silence", stream="userData", seconds=15)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.005")
        await asyncio.sleep(20)
        await world.until_quoting(15)
        assert world.state.position == world.position()
        assert await world.end() is ExitCode.STOPPED
        assert "down" in world.events("connection_event")

    in_a_world(tmp_path, story)


async def _raise(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


def _raise_now(*_: object, **__: object) -> None:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("worker", "method", "replacement"),
    [
        (MarketDataWorker, "_take", _raise_now),
        (Refresher, "requote", _raise_now),
        (Refresher, "_plan", _raise_now),
        (ExecutionEngine, "amend_now", _raise_now),
        (RiskController, "check", _raise),
        (DeadManSwitch, "_arm", _raise),
        (LoggerWorker, "collect", _raise_now),
    ],
)
def test_worker_that_raises_is_restarted_and_quoting_resumes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worker: type,
    method: str,
    replacement: Callable[..., object],
) -> None:
    """Whichever worker fails once, quotes rest again within 10 s, and the CSV tells of the restart."""
    original = getattr(worker, method)
    failures: list[str] = []

    def fail_once(*arguments: object, **named: object) -> object:
        if failures:
            return original(*arguments, **named)
        failures.append(method)
        return replacement(*arguments, **named)

    async def story(world: World) -> None:
        if method == "amend_now":
            world.order_transport = "ws"  # over REST nothing leaves at once
        world.start()
        await world.until_quoting()
        monkeypatch.setattr(worker, method, fail_once)
        await asyncio.sleep(10)
        assert failures
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED
        assert "worker_restarted" in world.events("engine_event")

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("pull_fails", [False, True])
def test_quotes_of_an_orders_worker_that_failed_are_out_while_it_is_down_or_right_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pull_fails: bool
) -> None:
    """Out within a second of the failure; where that fails, too, the next run takes them out before anything else.

    There is an order to be asked about then, and the exchange takes its time over that.
    """

    def fail_once(owner: type, method: str) -> None:
        original = getattr(owner, method)

        async def failing(*arguments: object, **named: object) -> None:
            monkeypatch.setattr(owner, method, original)
            await _raise()

        monkeypatch.setattr(owner, method, failing)

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        assert world.engine is not None
        monkeypatch.setattr(Supervisor, "FIRST_WAIT_S", 4.0)
        monkeypatch.setattr(Refresher, "requote", lambda *_, **__: False)
        fail_once(Refresher, "refresh")
        if pull_fails:
            fail_once(ExecutionEngine, "withdraw")
        before = {order.client_order_id for order in world.ours()}
        await world.until(lambda: "worker orders" in world.engine.gate.closed_by, 10)
        await asyncio.sleep(1)
        assert bool(world.ours()) is pull_fails

        async def slowly(sent: Sent) -> None:
            if (sent.method, sent.path) == ("GET", "/fapi/v1/order"):
                await asyncio.sleep(2)

        [context] = world.engine.contexts
        for order in context.orders.living():
            context.orders.wonder(order, "it is part of the test")
        world.tamper = slowly
        await asyncio.sleep(3.5)
        world.tamper = untouched
        assert before.isdisjoint(order.client_order_id for order in world.ours())
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED
        assert world.events("engine_event").count("worker_restarted") == 1

    in_a_world(tmp_path, story)


def test_full_disk_costs_metrics_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk takes nothing, quotes are refreshed all the same; the rows that wait are written later."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        original = MetricsFile.append

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(MetricsFile, "append", full)
        refreshes = world.refreshes
        await asyncio.sleep(15)
        assert world.refreshes >= refreshes + 2
        monkeypatch.setattr(MetricsFile, "append", original)
        await asyncio.sleep(2)
        assert await world.end() is ExitCode.STOPPED
        uptimes = [float(row["value"]) for row in world.rows() if row["metric_name"] == "uptime"]
        gaps = [later - earlier for earlier, later in pairwise(uptimes)]
        assert max(gaps) < 1.5

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_unknown_placements_are_looked_up_and_never_doubled(tmp_path: Path, lost: str) -> None:
    """Half of the placements get no answer: at no time do two orders rest in a slot, and all is known at the end."""

    async def story(world: World) -> None:
        counted = {"n": 0}

        def lose(method: str, path: str) -> str:
            if method == "POST" and path == "/fapi/v1/order":
                counted["n"] += 1
                return lost if counted["n"] % 2 else ""
            return ""

        world.lose = lose
        world.start()
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert len(world.ours()) <= 6
            slots = [(order.side, order.price_ticks) for order in world.ours()]
            assert len(slots) == len(set(slots))
        world.lose = lambda _method, _path: ""
        await world.until_quoting(20)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []
        kinds = set(world.events("order_event"))
        # a lost reply is made good by the account stream before anybody doubts
        assert ("in_doubt" in kinds) == ("never_existed" in kinds) == (lost == "request")

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_lost_cancels_leave_no_order_behind(tmp_path: Path, lost: str) -> None:
    """Every third cancel gets no answer: slots are not filled twice, and nothing rests at the end."""

    async def story(world: World) -> None:
        counted = {"n": 0}

        def lose(method: str, path: str) -> str:
            if method == "DELETE":
                counted["n"] += 1
                return lost if counted["n"] % 3 == 0 else ""
            return ""

        world.lose = lose
        world.start()
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert len(world.ours()) <= 6
        world.lose = lambda _method, _path: ""
        await world.until_quoting(20)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("skew_ms", [-40_000, -1500, 900, 30_000])
def test_wrong_local_clock_is_corrected_before_the_first_signed_request(tmp_path: Path, skew_ms: int) -> None:
    """However wrong this machine's clock is, timestamps are the exchange's."""

    async def story(world: World) -> None:
        world.skew_ms = skew_ms
        world.start()
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED
        assert [row for row in world.record()["rejected"] if row["code"] == -1021] == []

    in_a_world(tmp_path, story)


async def _use_up_the_weight(world: World) -> RateLimited:
    """Return the refusal that ends a flood of requests from the same address."""
    try:
        for _ in range(80):
            await world.other_client("GET", "/fapi/v1/openOrders")
    except RateLimited as limited:
        return limited
    raise AssertionError("the exchange knows no limit")


def test_nothing_is_sent_while_a_rate_limit_lasts(tmp_path: Path) -> None:
    """After a 429 no request leaves until its time is up; the dead-man switch cancels; then quotes are back."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        limited = await _use_up_the_weight(world)
        await asyncio.sleep(1.5)  # the daemon meets the limit, too
        sent = sum(world.record()["requests"].values())
        await asyncio.sleep(min(limited.retry_after_s, 25) - 2)
        assert sum(world.record()["requests"].values()) == sent + 1  # the question before this one
        await world.until(lambda: not world.ours(), 20)
        await world.until_quoting(90)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_account_stream_of_nonsense_does_not_have_quotes_go_in_and_out_without_end(tmp_path: Path) -> None:
    """Each message that cannot be read has the exchange asked; one after the other does so ever more seldom."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        placed = world.count("orders")
        world.strike("truncate-events", stream="userData", for_s=60)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.001")
        await asyncio.sleep(61)
        assert 1 <= world.count("orders") - placed < 60
        assert await world.until_quoting(15) < 15
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
