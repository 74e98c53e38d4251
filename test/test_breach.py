"""When a position is over its limit: the mark price says so at once, our own book only when it goes on saying so."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from core.breach import PERSISTS_S, BreachWatch
from core.exit_code import ExitCode
from test.daemon import World, in_a_world
from test.examples import RISK

LIMIT = replace(
    RISK, capital_quote=Decimal(2000), leverage=1, max_net_position_ratio=Decimal(1), max_position=Decimal(0)
)
HELD = Decimal("0.03")
"""Over the limit from 66,666.67 on."""
LOW, HIGH = Decimal(64_000), Decimal(67_000)
S = 1_000_000_000


def test_mark_price_over_the_limit_counts_at_once() -> None:
    """Long or short, and whatever the book says."""
    assert BreachWatch(LIMIT).price_of_breach(HELD, HIGH, LOW, 0) == HIGH
    assert BreachWatch(LIMIT).price_of_breach(-HELD, HIGH, None, 0) == HIGH


def test_book_alone_counts_once_it_has_said_so_for_seconds() -> None:
    """One check within the limit, or without a fresh book, and it begins anew."""
    watch = BreachWatch(LIMIT)
    last_ns = int(PERSISTS_S * S)
    for at_ns in range(0, last_ns, S):
        assert watch.price_of_breach(HELD, LOW, HIGH, at_ns) is None
    assert watch.price_of_breach(HELD, LOW, HIGH, last_ns - 1) is None
    assert watch.price_of_breach(HELD, LOW, HIGH, last_ns) == HIGH
    for harmless in (LOW, None):
        assert watch.price_of_breach(HELD, LOW, harmless, last_ns + S) is None
        assert watch.price_of_breach(HELD, LOW, HIGH, last_ns + 2 * S) is None


def test_time_without_a_check_says_nothing_of_the_book() -> None:
    """A swept book, readings that fail for longer than it has to last, one more look: it begins anew."""
    for interval_s, gap_s in ((1.0, 6), (10.0, 21)):
        watch = BreachWatch(replace(LIMIT, check_interval_s=interval_s))
        assert watch.price_of_breach(HELD, LOW, HIGH, 0) is None
        assert watch.price_of_breach(HELD, LOW, HIGH, gap_s * S) is None
        assert watch.price_of_breach(HELD, LOW, HIGH, int((gap_s + interval_s) * S)) == (
            HIGH if interval_s > PERSISTS_S else None
        )


def test_without_a_mark_price_the_book_has_to_do() -> None:
    """Before the exchange has told of one, and in no other case."""
    assert BreachWatch(LIMIT).price_of_breach(HELD, Decimal(0), HIGH, 0) == HIGH
    assert BreachWatch(LIMIT).price_of_breach(HELD, Decimal(0), None, 0) is None


def test_max_position_needs_no_price() -> None:
    """A limit in the base asset is broken at any price, and without one."""
    watch = BreachWatch(replace(LIMIT, max_position=Decimal("0.02")))
    assert watch.price_of_breach(HELD, Decimal(0), None, 0) is not None


def test_swept_book_closes_only_if_it_lasts(tmp_path: Path) -> None:
    """Book 6 percent above the mark price for 3 s: the position is kept; for longer: closed after 5 s."""

    async def story(world: World) -> None:
        world.start(risk={"max_daily_loss": 0, "max_price_change": 0})
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=f"{HELD}")
        await world.until(lambda: world.state.position == HELD, 5)
        await world.until(
            lambda: not any(order.is_buy for order in world.ours()), 5, "one side, so near the limit"
        )
        world.state.strategy_paused = True  # or the sweep would fill the other one
        await world.watch(2)
        for_s = {"for a while": 3, "for good": 60}
        for name, seconds in for_s.items():
            world.strike("mark-offset", bps=-566, for_s=seconds)  # the mark price stays where it is
            world.strike("move-market", bps=600)
            moved_s = world.now_s
            await world.watch(3)
            assert world.position() == HELD, name
            if name == "for a while":
                world.strike("move-market", bps=-566)
                await world.watch(10)
        await world.until(lambda: world.position() == 0, 5)
        assert PERSISTS_S <= world.now_s - moved_s < PERSISTS_S + 3
        assert await world.end() is ExitCode.HALTED

    in_a_world(tmp_path, story)
