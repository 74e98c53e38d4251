"""A close never turns a position, never sends more than is held, costs no more than agreed, and comes to an end."""

from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.flatten import (
    LADDER,
    SAME_AGAIN,
    Ask,
    Clear,
    Close,
    Done,
    Efforts,
    Relearn,
    Scene,
    Step,
    Terms,
    Wait,
    next_step,
)
from core.model import Side

from .examples import BTC, MARK

TERMS = Terms(Decimal(50), 5.0)
PAUSE_S = 0.2

FATES = (
    "filled",
    "part",
    "nothing",
    "unknown",
    "unread",
    "resting",
    -2022,
    -4118,
    -4131,
    -4016,
    -1111,
    -1008,
)


def scene(quantity: str | None = "0.040", **changes: object) -> Scene:
    """A long position, nothing in the way."""
    plain = Scene(
        quantity=None if quantity is None else Decimal(quantity),
        resting=0,
        in_flight=False,
        touch=(799_999, 800_001),
        mark_price=MARK,
        elapsed_s=0.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def step(at: Scene, efforts: Efforts | None = None, terms: Terms = TERMS) -> Step:
    """The next step by the rules of BTCUSDT."""
    return next_step(at, efforts or Efforts(), BTC, terms)


def after(*refusals: int) -> Efforts:
    """What has been tried once these closing orders were refused."""
    efforts = Efforts()
    for code in refusals:
        close = step(scene(), efforts)
        assert isinstance(close, Close)
        efforts.sent(close, scene())
        efforts.refused(code, 0.0)
    return efforts


@dataclass(slots=True)
class Venue:
    """An exchange on which each closing order meets the fate that is its turn, and is filled once there is none."""

    lots: int
    fates: list[object]
    now_s: float = 0.0
    in_flight: int = 0
    resting: int = 0
    unread: int = 0

    def look(self) -> Scene:
        """What a reading shows now."""
        self.unread -= 1
        return scene(
            None if self.unread > 0 else f"{BTC.quantity(self.lots):f}",
            resting=self.resting,
            in_flight=self.in_flight != 0,
            elapsed_s=self.now_s,
            touch=(799_999 + int(self.now_s * 10), 800_001 + int(self.now_s * 10)),
        )

    def take(self, close: Close, efforts: Efforts) -> None:
        """Let a closing order meet its fate."""
        reduced = min(close.lots, abs(self.lots))
        fate = self.fates.pop() if self.fates else "filled"
        if not isinstance(fate, int):
            efforts.taken()
        match fate:
            case int(code):
                efforts.refused(code, self.now_s)
            case "nothing":
                pass
            case "part":
                self.lots += close.side.sign * (reduced // 2)
            case "unknown":
                self.in_flight = close.side.sign * reduced
            case "unread":
                self.unread = 3
            case "resting":
                self.resting = 2
            case _:
                self.lots += close.side.sign * reduced


@given(
    lots=st.integers(-300_000, 300_000),
    fates=st.lists(st.sampled_from(FATES), max_size=12),
    executes=st.booleans(),
)
def test_close_never_turns_and_always_ends(lots: int, fates: list[object], executes: bool) -> None:
    """Whatever becomes of up to twelve closing orders, each one only reduces, and in the end nothing is held."""
    venue, efforts = Venue(lots, fates), Efforts()
    for _ in range(500):
        at = venue.look()
        now = step(at, efforts)
        if isinstance(now, Done):
            break
        match now:
            case Close():
                assert not venue.in_flight, "two closing orders at a time"
                assert 0 < now.lots <= abs(venue.lots)
                assert now.side.sign * venue.lots < 0
                efforts.sent(now, at)
                venue.take(now, efforts)
            case Ask():
                venue.lots += venue.in_flight * executes
                venue.in_flight = 0
            case Clear():
                efforts.clears += 1
                venue.resting -= 1
            case Relearn():
                efforts.has_relearned = True
        venue.now_s += PAUSE_S
    assert venue.lots == 0
    assert now == Done()


@given(quantity=st.sampled_from(["0.040", "-0.040"]), orders=st.integers(0, 20))
def test_price_is_bounded_and_widens_to_the_whole_slippage(quantity: str, orders: int) -> None:
    """Before the deadline no closing order is worse than the touch by more than 50 bps, and never better than it."""
    close = step(scene(quantity), Efforts(orders=orders))
    assert isinstance(close, Close)
    assert close.price_ticks is not None
    best = 799_999 if close.side is Side.SELL else 800_001
    slip_bps = close.side.sign * Decimal(close.price_ticks - best) / best * 10_000
    allowed = Decimal(50) * min(orders + 1, LADDER) / LADDER
    assert allowed - Decimal("0.02") < slip_bps <= allowed


def test_deadline_takes_any_price_and_zero_does_so_at_once() -> None:
    """A market order is the last resort; after one that the band refuses a limited one is tried."""
    assert step(scene(elapsed_s=4.9)) == Close(Side.SELL, 40, 799_000)
    assert step(scene(elapsed_s=5.0)) == Close(Side.SELL, 40, None)
    assert step(scene(), terms=Terms(Decimal(50), 0)) == Close(Side.SELL, 40, None)
    late = scene(elapsed_s=6.0)
    efforts = Efforts()
    efforts.sent(Close(Side.SELL, 40, None), late)
    efforts.refused(-4131, 6.0)
    assert step(late, efforts) == Close(Side.SELL, 40, 798_000)


def test_price_stays_inside_of_the_band() -> None:
    """With the mark price 5 percent above the bid nobody may sell to it; without a touch the mark price is taken."""
    assert step(scene(mark_price=MARK * Decimal("1.06"))) == Wait("nobody trades inside of the price band")
    near = step(scene(mark_price=MARK * Decimal("1.051")))
    assert near == Close(
        Side.SELL, 40, 799_559
    )  # 0.95 x 1.001 of the mark price, and not 12.5 bps below the bid
    assert step(scene(touch=None)) == Close(Side.SELL, 40, 799_000)
    assert step(scene(), after(-4016)) == Close(Side.SELL, 40, 799_999)


def test_no_reading_is_never_flat() -> None:
    """A position that could not be read is read again, whatever else is known."""
    assert isinstance(step(scene(None)), Wait)
    assert isinstance(step(scene(None, elapsed_s=100.0)), Wait)
    assert step(scene("0")) == Done()


def test_nothing_is_sent_while_one_order_is_in_doubt_or_orders_rest() -> None:
    """First it is asked, and what rests is cancelled, though not for ever."""
    assert step(scene(in_flight=True, resting=2)) == Ask()
    assert step(scene(resting=2)) == Clear()
    assert step(scene(resting=2), Efforts(clears=SAME_AGAIN)) == Close(Side.SELL, 40, 799_000)


def test_a_list_of_orders_that_does_not_come_holds_up_no_close() -> None:
    """Cancels were sent before; a reduce-only order does no harm beside what may still rest."""
    assert step(scene(resting=None)) == Close(Side.SELL, 40, 799_000)


def test_same_order_is_not_repeated_for_ever_after_a_refusal() -> None:
    """Three times, then every 10 s; at another price or for another size after a pause."""
    late = scene(elapsed_s=6.0)
    efforts = Efforts()
    for _ in range(SAME_AGAIN):
        close = step(late, efforts)
        assert close == Close(Side.SELL, 40, None)
        efforts.sent(Close(Side.SELL, 40, None), late)
        efforts.refused(-2022, 6.0)
    assert isinstance(step(late, efforts), Wait)
    assert isinstance(step(scene("0.039", elapsed_s=6.3), efforts), Wait)
    assert isinstance(step(scene("0.039", elapsed_s=6.4), efforts), Close)
    assert isinstance(step(scene(elapsed_s=6.4, touch=(1, 2)), efforts), Close)
    assert isinstance(step(scene(elapsed_s=15.9), efforts), Wait)
    assert isinstance(step(scene(elapsed_s=16.1), efforts), Close)


@pytest.mark.parametrize("code", [-1111, -4164])
def test_refused_size_has_the_rules_read_again(code: int) -> None:
    """And only what the exchange takes no order for is dust: a raised step, or a remainder below the minimum."""
    efforts = after(code)
    assert step(scene(), efforts) == Relearn()
    efforts.has_relearned = True
    assert isinstance(step(scene(), efforts), Close), "0.040 are worth 3200: that is no dust"
    coarse = replace(BTC, step_size=Decimal("0.1"), min_lots=1)
    dust = next_step(scene(), efforts, coarse, TERMS)
    assert dust == Done("DUST: 0.040 BTC stay: less than the smallest order")


def test_remainder_below_the_minimum_is_dust_only_if_it_is_refused() -> None:
    """Reduce-only orders are exempt from the smallest notional, so it is tried first."""
    tiny = replace(BTC, min_notional_quote=Decimal(5000))
    assert next_step(scene(), Efforts(), tiny, TERMS) == Close(Side.SELL, 40, 799_000)
    efforts = after(-4164)
    efforts.has_relearned = True
    done = next_step(scene(), efforts, tiny, TERMS)
    assert done == Done("DUST: 0.040 BTC stay: worth less than the exchange takes orders for")


def test_one_order_is_no_larger_than_the_exchange_takes() -> None:
    """Market orders have a limit of their own."""
    assert step(scene("1500")) == Close(Side.SELL, 1_000_000, 799_000)
    assert step(scene("-1500", elapsed_s=9.0)) == Close(Side.BUY, 120_000, None)
