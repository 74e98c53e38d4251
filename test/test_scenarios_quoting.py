"""The daemon makes a market: what rests, where, and how the books compare with the exchange's own."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.exit_code import ExitCode
from test.daemon import MODES, World, in_a_world

pytestmark = pytest.mark.usefixtures("_each_order_transport")

PERCENT = Decimal(100)


def _quotes(world: World) -> list[dict[str, Any]]:
    return [order for order in world.record()["orders"] if order["type"] == "LIMIT"]


def _assert_quotes_are_right(world: World, tick: Decimal, step: Decimal, offset_percent: Decimal) -> None:
    """Every quote is post-only, on tick and step, not crossing, and within a tick of its place at its refresh."""
    decided = _mids_of_refreshes(world)
    for order in _quotes(world):
        price, quantity = Decimal(order["price"]), Decimal(order["origQty"])
        assert order["timeInForce"] == "GTX"
        assert price % tick == 0
        assert quantity % step == 0
        assert not order["wouldCross"]
        side = 1 if order["side"] == "BUY" else -1
        level, mid = decided[order["clientOrderId"]]
        exact = mid * (1 - side * level * offset_percent / PERCENT)
        assert 0 <= side * (exact - price) < tick


def _mids_of_refreshes(world: World) -> dict[str, tuple[int, Decimal]]:
    """Return the level of each order, and the mid on which its price was decided last, as the CSV tells them."""
    found = {}
    for row in world.rows():
        if row["metric_name"] == "order_event" and row["sub_type"] in ("placed", "amended"):
            details = dict(part.split("=", 1) for part in row["details"].split() if "=" in part)
            found[details["id"]] = (int(row["level"]), Decimal(details["mid"]))
    return found


def _assert_books_equal(world: World) -> None:
    """Position, fills, fees and realised profit in the last rows of the CSV equal the exchange's to the last digit."""
    record = world.record()
    last = {row["metric_name"]: row["value"] for row in world.rows() if row["symbol"] in (world.symbol, "-")}
    fills = record["fills"]
    assert Decimal(last["position"]) == world.position()
    assert int(last["fills"]) == len(fills)
    assert Decimal(last["fees"]) == sum(Decimal(fill["commission"]) for fill in fills)
    assert Decimal(last["realized_pnl"]) == sum(Decimal(fill["realizedPnl"]) for fill in fills)
    counted = sorted(
        row["details"].split("trade=")[1].split()[0]
        for row in world.rows()
        if row["sub_type"].endswith("_fill")
    )
    assert counted == sorted(str(fill["id"]) for fill in fills)


def test_six_orders_rest_within_two_seconds(tmp_path: Path) -> None:
    """Three post-only orders a side rest soon after the start."""

    async def story(world: World) -> None:
        world.start()
        assert await world.until_quoting() < 2
        assert sorted(order.side.value for order in world.ours()) == ["BUY"] * 3 + ["SELL"] * 3
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("folder", "symbol", "tick", "step"),
    [
        ("usdm-2024-07-18", "BTCUSDT", "0.1", "0.001"),
        ("usdm-2024-07-18", "ETHUSDT", "0.01", "0.001"),
    ],
)
def test_quotes_follow_a_recording(
    tmp_path: Path, data_dir: Path, folder: str, symbol: str, tick: str, step: str, mode: str
) -> None:
    """Over five recorded minutes every quote is where it belongs, and nothing rests at the end."""

    async def story(world: World) -> None:
        running = world.start(refresh_config={"refresh_mode": mode})
        await world.until(lambda: world.refreshes >= 50, 300, "50 refreshes")
        assert not running.done()
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []
        _assert_quotes_are_right(world, Decimal(tick), Decimal(step), Decimal("0.1"))
        _assert_books_equal(world)
        assert (world.count("orders") >= 6 * 50) is (mode == "replace")

    in_a_world(tmp_path, story, symbol=symbol, recording=data_dir / folder)


THRESHOLD = Decimal("0.0001")
FOLLOWS_WITHIN_S = 1.5
"""The least time between two refreshes on moves, and the way of two requests."""


def _strays(world: World, offset_percent: Decimal) -> set[str]:
    """Return the orders that are farther from their target than the threshold, and two ticks of rounding."""
    half_ticks = Decimal(world.mid_half_ticks())
    strays = set()
    for order in world.books.living():
        target = half_ticks / 2 * (1 - order.side.sign * order.level * offset_percent / PERCENT)
        if abs(order.price_ticks - target) > half_ticks / 2 * THRESHOLD + 2:
            strays.add(order.client_id)
    return strays


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_amended_quotes_leave_their_threshold_for_moments_only(
    tmp_path: Path, data_dir: Path, symbol: str
) -> None:
    """Over three recorded minutes each is brought back at once, and the exchange has what the daemon thinks it has."""

    async def story(world: World) -> None:
        world.start(order_management={"modify_threshold": float(THRESHOLD), "patience_bps_s": 0})
        await world.until_quoting()
        since_s: dict[str, float] = {}
        for _ in range(900):
            await asyncio.sleep(0.2)
            strays = _strays(world, Decimal("0.1"))
            since_s = {name: since_s.get(name, world.now_s) for name in strays}
            assert all(world.now_s - each <= FOLLOWS_WITHIN_S for each in since_s.values()), since_s
        await world.until(lambda: world.disagreements() == [], 2)
        assert world.refreshes > 30
        assert await world.end() is ExitCode.STOPPED
        _assert_books_equal(world)

    in_a_world(tmp_path, story, symbol=symbol, recording=data_dir / "usdm-2024-07-18")


@pytest.mark.parametrize("mode", MODES)
def test_books_equal_the_exchanges_after_real_fills(tmp_path: Path, data_dir: Path, mode: str) -> None:
    """On a thin recording with many fills, position, fills and fees equal the exchange's to the last digit."""

    async def story(world: World) -> None:
        world.start(
            order_config={"price_offset_percent": 0.05, "quantity_per_order_usdt": 30},
            refresh_config={"refresh_mode": mode},
        )
        await world.until_quoting()
        await world.until(lambda: world.count("fills") >= 10, 900, "ten fills")
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders() == []
        _assert_quotes_are_right(world, Decimal("0.001"), Decimal("0.01"), Decimal("0.05"))
        _assert_books_equal(world)

    in_a_world(tmp_path, story, symbol="NEXOUSDT", recording=data_dir / "spot-2024-07-23", speed=60)


def test_two_symbols_are_quoted_side_by_side(tmp_path: Path) -> None:
    """Nothing but the configuration assumes one symbol: a run with two keeps both."""

    async def story(world: World) -> None:
        from dataclasses import replace

        one = world.settings
        world.settings = lambda **config: (  # type: ignore[method-assign]
            lambda settings: replace(
                settings,
                quotes=(settings.quotes[0], replace(settings.quotes[0], symbol="ETHUSDT")),
            )
        )(one(**config))
        world.start()
        await world.until(lambda: len(world.ours("BTCUSDT")) == len(world.ours("ETHUSDT")) == 6, 10)
        assert await world.end() is ExitCode.STOPPED
        assert world.open_orders("BTCUSDT") == world.open_orders("ETHUSDT") == []

    in_a_world(tmp_path, story, symbols=("BTCUSDT", "ETHUSDT"))


@pytest.mark.parametrize("mode", MODES)
def test_orders_of_others_are_never_touched(tmp_path: Path, mode: str) -> None:
    """An order that another program placed on the account rests through start, refreshes and stop."""

    async def story(world: World) -> None:
        await world.other_client(
            "POST",
            "/fapi/v1/order",
            symbol="BTCUSDT",
            side="BUY",
            type="LIMIT",
            timeInForce="GTC",
            quantity="0.002",
            price="60000",
            newClientOrderId="mine",
        )
        world.start(refresh_config={"refresh_mode": mode})
        await world.until_quoting()
        await world.until(lambda: world.refreshes >= 3, 15)
        assert await world.end() is ExitCode.STOPPED
        assert [order.client_order_id for order in world.open_orders()] == ["mine"]

    in_a_world(tmp_path, story)


def test_quotes_that_could_break_the_limit_are_left_out(tmp_path: Path) -> None:
    """With a long position near the limit only the sell side is quoted in full."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.027")
        world.start()
        await world.until_quoting(orders=4)
        assert sorted(order.side.value for order in world.ours()) == ["BUY"] + ["SELL"] * 3
        assert await world.end() is ExitCode.STOPPED
        assert "quotes_trimmed" in world.events("risk_event")

    in_a_world(tmp_path, story)


def test_quote_that_is_left_out_for_another_reason_is_told_of_again(tmp_path: Path) -> None:
    """First the limit leaves no room for a buy; with a lot more only what reduces is allowed, and no buy either."""

    async def story(world: World) -> None:
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.028")
        world.start()
        await world.until_quoting(orders=3)
        world.control("POST", "/sim/fill", symbol="BTCUSDT", side="BUY", quantity="0.001")
        await asyncio.sleep(20)
        assert await world.end() is ExitCode.STOPPED
        told = [row["details"] for row in world.rows() if row["sub_type"] == "quotes_trimmed"]
        reasons = [{line.split(": ")[1] for line in each.split("; ")} for each in told]
        assert reasons == [{"position limit"}, {"only what reduces the position"}]

    in_a_world(tmp_path, story)
