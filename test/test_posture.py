"""Steps with hysteresis: what each reading calls for, and when it is calm again."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core.context import SymbolContext
from core.events import EventBus, Fact, RiskEvent, RiskKind
from core.model import Position, Quote, Side
from core.posture import LADDERS, LOSS, POSITION, PRICE, WORST_CASE, Posture, Reading, Staircase, Stance
from core.posture_keeper import POSTURE_KEY, PostureKeeper
from core.price_watch import PriceWatch
from core.risk import allowed, last_objection

from .examples import BOOK, MARK, RISK, context, quote

SECOND = 1_000_000_000
STEPS = {
    PRICE: (("0.5", Posture.NORMAL), ("0.501", Posture.WIDEN), ("1", Posture.WIDEN), ("1.001", Posture.PULL)),
    POSITION: (("0.9", Posture.NORMAL), ("0.901", Posture.ONE_SIDE), ("2", Posture.ONE_SIDE)),
    WORST_CASE: (("1", Posture.NORMAL), ("1.001", Posture.ONE_SIDE)),
    LOSS: (("0.799", Posture.NORMAL), ("0.8", Posture.ONE_SIDE), ("1", Posture.FLATTEN)),
}


class HandClock:
    """A clock that moves by hand."""

    def __init__(self) -> None:
        self.now_ns = 0

    def time_ms(self) -> int:
        """Return the time in ms."""
        return self.now_ns // 1_000_000

    def monotonic_ns(self) -> int:
        """Return the time in ns."""
        return self.now_ns


def stand(stairs: Staircase, name: str, share: str, now_s: float) -> Stance:
    """Where the stairs stand after this reading at this time."""
    return stairs.update([Reading(name, Decimal(share), f"{name} at {share}")], int(now_s * SECOND))


@pytest.mark.parametrize(
    ("name", "share", "posture"), [(name, *step) for name, steps in STEPS.items() for step in steps]
)
def test_share_calls_for_its_step(name: str, share: str, posture: Posture) -> None:
    """Each reading has its own ladder; a loss steps up at a share, the others above it."""
    stance = stand(Staircase(), name, share, 0)
    assert stance.posture is posture
    assert stance.reason == ("" if posture is Posture.NORMAL else f"{name} at {share}")


def test_step_is_kept_until_the_reading_has_been_calm_for_its_time() -> None:
    """From pulled, neither 0.7 nor nine seconds of calm are enough; ten are, and not a step in between."""
    stairs = Staircase()
    assert stand(stairs, PRICE, "1.2", 0).posture is Posture.PULL
    assert stand(stairs, PRICE, "0.7", 1).posture is Posture.PULL
    assert stand(stairs, PRICE, "0.5", 2).posture is Posture.PULL
    assert stand(stairs, PRICE, "0.5", 11.9).posture is Posture.PULL
    assert stand(stairs, PRICE, "0.5", 12).posture is Posture.NORMAL


def test_calm_begins_anew_after_each_disturbance() -> None:
    """Nine seconds of calm, a moment without, and ten seconds are needed again."""
    stairs = Staircase()
    stand(stairs, PRICE, "0.6", 0)
    stand(stairs, PRICE, "0.1", 1)
    stand(stairs, PRICE, "0.51", 10)
    assert stand(stairs, PRICE, "0.1", 11).posture is Posture.WIDEN
    assert stand(stairs, PRICE, "0.1", 20.9).posture is Posture.WIDEN
    assert stand(stairs, PRICE, "0.1", 21).posture is Posture.NORMAL


def test_posture_is_the_highest_that_any_reading_calls_for() -> None:
    """Widen by the price and one side by the loss are one side; the reason is the loss alone."""
    stairs = Staircase()
    stand(stairs, PRICE, "0.6", 0)
    assert stand(stairs, LOSS, "0.85", 1) == Stance(Posture.ONE_SIDE, "daily loss at 0.85")
    assert stand(stairs, PRICE, "1.1", 2).posture is Posture.PULL


def test_loss_that_was_accepted_does_not_linger() -> None:
    """What keeps a halt is the latch on disk: the stairs follow a reading down from there at once."""
    stairs = Staircase()
    assert stand(stairs, LOSS, "1.3", 0).posture is Posture.FLATTEN
    assert stand(stairs, LOSS, "0", 1).posture is Posture.NORMAL


def test_forgotten_reading_stands_nowhere() -> None:
    """A new day ends what was said of the old one."""
    stairs = Staircase()
    stand(stairs, LOSS, "0.9", 0)
    stairs.forget(LOSS)
    assert stand(stairs, LOSS, "0.75", 1).posture is Posture.NORMAL


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(LADDERS)), st.decimals(0, 2, places=2), st.integers(0, 15)),
        max_size=40,
    )
)
def test_posture_is_never_below_what_the_readings_call_for(
    moves: list[tuple[str, Decimal, int]],
) -> None:
    """Hysteresis holds a step longer, and never takes it later."""
    stairs, latest, now_s = Staircase(), dict.fromkeys(LADDERS, Decimal(0)), 0
    for name, share, pause_s in moves:
        now_s += pause_s
        latest[name] = share
        stance = stand(stairs, name, str(share), now_s)
        assert stance.posture >= max(LADDERS[each].posture(latest[each]) for each in LADDERS)


# --- the price watch ------------------------------------------------------------------------------------------


def test_price_watch_tells_of_each_step_up_once() -> None:
    """Half of 3 percent, then all of it, up or down; what stays there is not told again."""
    for sign in (1, -1):
        told: list[Decimal] = []
        watch = PriceWatch(Decimal("0.03"), 60)

        def note(watch: PriceWatch = watch, told: list[Decimal] = told) -> None:
            told.append(watch.reading().share)

        watch.on_step = note
        for second, percent in enumerate((0, 1, 2, 2, 4, 4)):
            watch.add(second * SECOND, 1_600_000 + sign * percent * 16_000)
        assert [share > 1 for share in told] == [False, True]
        assert told[0] > Decimal("0.5")


def test_price_watch_forgets_what_is_older_than_its_window() -> None:
    """The move of the first second is out of the window after sixty more, though nothing has moved since."""
    watch = PriceWatch(Decimal("0.03"), 60)
    watch.add(0, 1_600_000)
    watch.add(SECOND, 1_664_000)
    assert watch.reading().text == "the mid has moved 4.00 % within 60 s (limit 3 %)"
    watch.add(62 * SECOND, 1_664_000)
    assert watch.reading().share == 0


def test_price_watch_without_a_limit_watches_nothing() -> None:
    """0 is no limit."""
    watch = PriceWatch(Decimal(0), 60)
    watch.add(0, 1_600_000)
    watch.add(1, 3_200_000)
    assert watch.reading().share == 0
    assert watch.change_bps == 0


# --- the keeper -----------------------------------------------------------------------------------------------


class Kept:
    """One symbol with its keeper, a loss and an own stance to set, and what was published."""

    def __init__(self, **limits: Any) -> None:
        self.clock = HandClock()
        self.context: SymbolContext = context(
            limits=replace(RISK, **{"max_price_change": Decimal("0.03"), **limits})
        )
        self.own = Stance()
        self.loss: Reading | None = None
        self.told: list[RiskEvent] = []
        self.changes = 0
        bus = EventBus(self.clock)
        bus.subscribe(self._note)
        self.context.on_posture = self._changed
        self.keeper = PostureKeeper(
            [self.context], bus, self.clock, own=lambda _context: self.own, loss=lambda: self.loss
        )

    def _note(self, fact: Fact) -> None:
        if isinstance(fact, RiskEvent):
            self.told.append(fact)

    def _changed(self, _context: SymbolContext) -> None:
        self.changes += 1

    def posture(self) -> Posture:
        """The posture that the symbol has taken."""
        return self.context.posture

    def move_to(self, percent: int, after_s: float = 0.0) -> None:
        """The mid is so many percent above 80 000 from now on."""
        self.clock.now_ns += int(after_s * SECOND)
        ticks = percent * 8_000
        book = structs.replace(BOOK, bid_ticks=BOOK.bid_ticks + ticks, ask_ticks=BOOK.ask_ticks + ticks)
        self.context.state.book = book
        self.context.prices.add(self.clock.now_ns, book.mid_half_ticks)

    def hold(self, quantity: str) -> None:
        """The books have this position."""
        self.context.ledger.open(Position("BTCUSDT", Decimal(quantity), MARK, MARK, Decimal(0), 0), 0)


def test_price_leap_closes_the_gate_in_the_same_turn() -> None:
    """The very book that leaps pulls the quotes; each step is told once, with its numbers."""
    kept = Kept()
    kept.move_to(0)
    kept.move_to(2, 1)
    assert kept.posture() is Posture.WIDEN
    assert kept.context.gate.is_open
    kept.move_to(4, 1)
    assert kept.posture() is Posture.PULL
    assert kept.context.gate.reasons == ("the mid has moved 4.00 % within 60 s (limit 3 %)",)
    assert [(fact.kind, fact.details) for fact in kept.told] == [
        (RiskKind.POSTURE, "normal -> widen: the mid has moved 2.00 % within 60 s (limit 3 %)"),
        (RiskKind.POSTURE, "widen -> pull: the mid has moved 4.00 % within 60 s (limit 3 %)"),
    ]
    assert kept.changes == 2


def test_gate_opens_once_the_price_has_calmed() -> None:
    """The window of 60 s has to pass, then ten seconds of calm."""
    kept = Kept()
    kept.move_to(0)
    kept.move_to(4, 1)
    kept.clock.now_ns += 60 * SECOND
    kept.keeper.look(kept.context)
    assert kept.posture() is Posture.PULL
    moved = "the mid has moved 0.00 % within 60 s (limit 3 %)"
    assert kept.context.gate.reasons == (
        f"{moved}; held until it has been at 50% of its limit or less for 10 s",
    )
    kept.clock.now_ns += 10 * SECOND
    kept.keeper.look(kept.context)
    assert kept.posture() is Posture.NORMAL
    assert not kept.context.gate.open(POSTURE_KEY)
    assert kept.told[-1].details == "pull -> normal: calm again"


def test_book_that_came_late_has_not_moved_the_price_of_now() -> None:
    """It is known, but only of the past: a move that is seen late is none of the last minute."""
    kept = Kept()
    kept.move_to(0)
    moved = structs.replace(BOOK, bid_ticks=BOOK.bid_ticks - 40_000, ask_ticks=BOOK.ask_ticks - 40_000)
    kept.context.state.book = moved
    kept.clock.now_ns += SECOND
    kept.keeper.look(kept.context)
    assert kept.posture() is Posture.NORMAL
    assert kept.context.prices.change_bps == 0


def test_quotes_widen_by_the_stated_factor() -> None:
    """0.1 percent from the mid become 0.2, and nothing else about them changes."""
    kept = Kept()
    assert kept.context.quoting is kept.context.settings
    kept.context.posture = Posture.WIDEN
    assert kept.context.quoting == replace(kept.context.settings, offset_percent=Decimal("0.2"))


def test_position_near_its_limit_leaves_one_side() -> None:
    """1840 of 2000 long: no bid is left, of the asks all that fit into the position, uncut."""
    kept = Kept()
    kept.hold("0.023")
    assert kept.keeper.look(kept.context).posture is Posture.ONE_SIDE
    wanted = [quote(side, level, 800_000, 3) for level in (1, 2) for side in Side]
    trimmed = allowed(kept.context, wanted)
    assert trimmed.kept == (quote(Side.SELL, 1, 800_000, 3), quote(Side.SELL, 2, 800_000, 3))
    assert trimmed.reasons == ("only what reduces the position",) * 2
    assert last_objection(kept.context, quote(), BOOK).endswith("only what reduces the position")


def test_loss_near_its_limit_leaves_quotes_no_larger_than_the_position() -> None:
    """4 lots short: the first bid of 3 is kept, the second cut to 1, the third and all asks left out."""
    kept = Kept()
    kept.hold("-0.004")
    kept.loss = Reading(LOSS, Decimal("0.85"), "85 of 100 lost")
    assert kept.keeper.look(kept.context) == Stance(Posture.ONE_SIDE, "85 of 100 lost")
    wanted = [quote(side, level, 800_000, 3) for level in (1, 2, 3) for side in Side]
    kept_quotes = allowed(kept.context, wanted).kept
    assert kept_quotes == (quote(Side.BUY, 1, 800_000, 3), quote(Side.BUY, 2, 800_000, 1))


def test_flat_book_on_one_side_has_no_quotes() -> None:
    """Nothing is held, so nothing reduces."""
    kept = Kept()
    kept.context.posture = Posture.ONE_SIDE
    assert allowed(kept.context, [quote(side) for side in Side]).kept == ()


def test_orders_that_could_carry_over_the_limit_leave_one_side() -> None:
    """1000 held by another's trade and 1200 that rest are over 2000 together."""
    kept = Kept()
    for level in range(1, 6):
        kept.context.orders.register(f"qpmm-{level}", quote(level=level, price_ticks=800_000), 0)
    assert kept.keeper.look(kept.context).posture is Posture.NORMAL
    kept.hold("0.0125")
    stance = kept.keeper.look(kept.context)
    assert stance == Stance(Posture.ONE_SIDE, "position and orders together are at 110% of the limit")


def test_halt_is_above_everything_that_the_readings_say() -> None:
    """A position being closed, and a halt, show as such; the gate is theirs to close."""
    kept = Kept()
    for posture in (Posture.FLATTEN, Posture.HALT):
        kept.own = Stance(posture, "over the limit")
        assert kept.keeper.look(kept.context).posture is Posture.NORMAL
        assert (kept.context.posture, kept.context.posture_reason) == (posture, "over the limit")
    kept.own = Stance()
    kept.keeper.look(kept.context)
    assert kept.context.posture is Posture.NORMAL


@given(
    wanted=st.lists(
        st.builds(
            Quote, st.sampled_from(Side), st.integers(1, 6), st.integers(700_000, 900_000), st.integers(1, 9)
        ),
        max_size=8,
        unique_by=lambda each: each.slot,
    ),
    held=st.integers(-25, 25),
    posture=st.sampled_from(Posture),
)
def test_posture_only_subtracts(wanted: list[Quote], held: int, posture: Posture) -> None:
    """Whatever it is, no quote is added or enlarged; on one side the kept ones cannot turn the position."""
    where = context(posture=posture)
    where.ledger.open(Position("BTCUSDT", Decimal(held) / 1000, MARK, MARK, Decimal(0), 0), 0)
    kept = allowed(where, wanted).kept
    sizes = {each.slot: each for each in wanted}
    for each in kept:
        assert structs.replace(each, lots=0) == structs.replace(sizes[each.slot], lots=0)
        assert each.lots <= sizes[each.slot].lots
    if posture >= Posture.ONE_SIDE:
        assert all(each.side.sign * held < 0 for each in kept)
        assert sum(each.lots for each in kept) <= abs(held)
