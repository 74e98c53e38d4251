"""A price shock widens the quotes, a larger one pulls them; a full position leaves one side. In virtual time."""

import asyncio
from pathlib import Path

import pytest

from core.exit_code import ExitCode
from core.posture import Posture
from test.daemon import Sent, World, in_a_world
from utils.errors import StartRefused
from utils.http import HttpResponse


def move(world: World, percent: float) -> None:
    """Let the market stand that much higher, or lower, from now on."""
    world.control("POST", "/sim/market", symbol=world.symbol, move_bps=str(int(percent * 100)))


def distance_bps(world: World) -> float:
    """How far our six orders rest from the mid that the daemon knows, on average; 0 while they are not all there."""
    book, ours = world.state.symbols[world.symbol].book, world.ours()
    if book is None or len(ours) != 6:
        return 0.0
    mid = book.mid_half_ticks / 2
    return sum(abs(order.price_ticks - mid) for order in ours) / mid * 10_000 / 6


def posture(world: World) -> Posture:
    """The posture in the latest row of the metrics."""
    rows = [row for row in world.rows() if row["metric_name"] == "posture"]
    return Posture(int(rows[-1]["value"]))


def changes(world: World) -> list[str]:
    """Every change of the posture, as the metrics tell it."""
    return [
        row["details"].split(":")[0]
        for row in world.rows()
        if row["metric_name"] == "risk_event" and row["sub_type"] == "posture"
    ]


@pytest.mark.parametrize("mode", ["amend", "replace"])
@pytest.mark.parametrize("percent", [2, -2], ids=["up", "down"])
def test_half_of_the_allowed_price_change_widens_the_quotes(
    tmp_path: Path, percent: float, mode: str
) -> None:
    """2 of 3 percent: within two seconds every quote is out there twice as far; after a calm time it is back."""

    async def story(world: World) -> None:
        world.start(refresh_config={"refresh_mode": mode})
        await world.until_quoting()
        assert 18 < distance_bps(world) < 22
        move(world, percent)
        await world.until(lambda: 38 < distance_bps(world) < 42, 3)
        await world.until(lambda: 18 < distance_bps(world) < 22, 90)
        assert world.now_s > 65
        assert await world.end() is ExitCode.STOPPED
        assert changes(world) == ["normal -> widen", "widen -> normal"]

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("percent", [4, -4], ids=["up", "down"])
def test_more_than_the_allowed_price_change_pulls_until_it_is_calm(tmp_path: Path, percent: float) -> None:
    """4 of 3 percent: no quote within a second, none for the window of 60 s, and all of them after the calm."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        move(world, percent)
        await world.until(lambda: not world.ours(), 1)
        shocked_s = world.now_s
        await world.watch(60, orders=0)
        await world.until_quoting(20)
        assert world.now_s > shocked_s + 65
        assert await world.end() is ExitCode.STOPPED
        assert posture(world) is Posture.NORMAL
        assert changes(world) == ["normal -> pull", "pull -> normal"]

    in_a_world(tmp_path, story)


def test_move_of_a_part_of_the_allowed_change_changes_nothing(tmp_path: Path) -> None:
    """1 of 3 percent is an ordinary move; a limit of 0 knows no shock at all."""

    async def story(world: World) -> None:
        for limit, percent in ((0.03, 1), (0, 10)):
            world.start(risk={"max_price_change": limit, "max_daily_loss": 0})
            await world.until_quoting()
            move(world, percent)
            await world.until_quoting(10)
            assert await world.end() is ExitCode.STOPPED
        assert changes(world) == []

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("mode", ["amend", "replace"])
def test_position_near_its_limit_leaves_only_quotes_that_reduce(tmp_path: Path, mode: str) -> None:
    """Long 0.029 of about 0.031: no bid rests within two seconds, and the asks stay."""

    async def story(world: World) -> None:
        world.start(refresh_config={"refresh_mode": mode})
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.029")
        await world.until(lambda: {order.is_buy for order in world.ours()} == {False}, 2)
        await world.until(lambda: len(world.ours()) == 3, 7)
        await asyncio.sleep(1.5)  # the limit left the bids out before the next check of the position did
        assert await world.end() is ExitCode.STOPPED
        assert "normal -> one side" in changes(world)

    in_a_world(tmp_path, story)


def test_max_position_of_the_base_asset_is_closed_like_any_other_limit(tmp_path: Path) -> None:
    """0.012 BTC are well within 2000 USDT, and over 0.009 BTC: closed, and halted."""

    async def story(world: World) -> None:
        world.start(risk={"max_position": 0.009})
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.012")
        await world.until(lambda: world.position() == 0 and not world.ours(), 3)
        await world.until(lambda: world.state.strategy_paused and len(changes(world)) == 2, 3)
        assert await world.end() is ExitCode.HALTED
        assert changes(world) == ["normal -> flatten", "flatten -> halt"]

    in_a_world(tmp_path, story)


@pytest.mark.parametrize("mode", ["amend", "replace"])
def test_no_more_orders_rest_than_max_order_count(tmp_path: Path, mode: str) -> None:
    """An order that nobody answers for counts as resting: beside it five of the six levels fit, whatever moves."""

    async def story(world: World) -> None:
        lost: list[str] = []

        async def lose_one(sent: Sent) -> HttpResponse | None:
            if sent.is_order() and not lost:
                lost.append(sent.query)
                await sent.deliver()
                return await sent.hang()
            return None

        world.tamper = lose_one
        world.start(risk={"max_order_count": 6}, refresh_config={"refresh_mode": mode})
        await world.until_quoting()
        assert lost
        await world.watch(30, orders=6)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_max_order_count_below_the_levels_is_refused_at_the_start(tmp_path: Path) -> None:
    """Six orders do not fit into four; the sentence names both ways out."""

    async def story(world: World) -> None:
        with pytest.raises(StartRefused, match=r"set risk\.max_order_count to at least 6"):
            await world.start(risk={"max_order_count": 4})

    in_a_world(tmp_path, story)
