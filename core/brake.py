"""A request that was refused is not sent again and again: the brakes on repeating oneself. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from core.model import Side
from utils.errors import Overloaded, RateLimited, Refused

POST_ONLY_WOULD_TAKE = -5022
UNREADABLE = -1
"""Stands for the code of a refusal that could not be read."""
STRIKES = 3
PROBE_EVERY_S = 60.0
PROBES_APART_S = 9.0
"""Slots that were refused together are tried one after the other, so that the end of their cause is soon noticed.

It is a little less than two intervals of the refresh, whose turns come when the answer of an earlier one is in.
"""

_PASSING = frozenset({0, POST_ONLY_WOULD_TAKE, -1001, -1003, -1008, -1015, -1021, -5028})
"""Refusals that say nothing of the next attempt: nothing was sent, the market had moved, the exchange was busy, a limit
was reached, the clock was off."""

OF_ALL_QUOTES = frozenset(
    {-1122, -2023, -4087, -4088, -4105, -4106, -4107, -4108, -4109}
    | {-4140, -4141, -4189, -4192, -4400, -4401, -4402, -4403}
)
"""Refusals of whatever would open, for the account or the symbol: where one of them has passed, all have."""

MAX_OPEN_ORDERS = -2025
"""Refusal of one order too many: each counts, also one that reduces."""
BESIDE_OTHERS = frozenset({-2018, -2019, MAX_OPEN_ORDERS, -2027})
"""Refusals for want of room beside what rests (margin, number of orders, position): an order that is taken while no
other one rests does not tell that they have passed."""
MOST_A_MINUTE = 5
"""So often a slot is refused for want of room within a minute, however often it is taken alone in between."""


def told_code(refusal: Refused) -> int:
    """Return the code of a refusal, 0 of one that will pass by itself, UNREADABLE of another one that had none."""
    is_passing = isinstance(refusal, Overloaded | RateLimited)  # told by text or status, whatever the code
    return 0 if is_passing else refusal.code or UNREADABLE


@dataclass(slots=True)
class _Strikes:
    code: int
    count: int = 0
    reason: str = ""
    refused_ns: int = 0
    """When that reason was given."""
    probe_ns: int = 0
    was_hurried: bool = False
    was_of_all: bool = False
    """Some refusal of these spoke of all quotes, the last one perhaps of something else."""
    was_of_another: bool = False
    """While it held the slot back, a refusal gave another reason than those before it."""
    lately_ns: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_A_MINUTE))
    """When it was refused for want of room, whatever of it was forgiven since."""

    def forgive(self) -> None:
        """Have it been refused for nothing, but for how often it was lately."""
        self.count = 0
        self.was_of_all = self.was_of_another = self.was_hurried = False

    def not_before_ns(self) -> int:
        """Return until when as many refusals as a minute may have hold it back, 0 if there were fewer."""
        return self.lately_ns[0] + int(PROBE_EVERY_S * 1e9) if len(self.lately_ns) == MOST_A_MINUTE else 0


class RefusalBrake:
    """After three refusals in a row with the same code a slot is tried once a minute only.

    The first such try comes 9 s after the third refusal, or 9 s after that of a slot that was braked before it; slots
    that are held for what holds all quotes go on like that, in turns, however few they are. Where such a try is refused
    for another reason, nothing says that this one lasts: the next comes after 9 s, too, once. One that is accepted
    releases all slots that were refused with the same code, or with any that speaks of all quotes; one that reduces
    what is held, only those of its side, unless that code speaks of all quotes or of their number: what reduces needs
    no margin. One that is accepted where nothing was refused lets those that were held for all quotes be tried at once,
    but only once: it may be that what opens is refused, and what reduces is not.

    Where there is room for some of the quotes, which of them are refused depends on what rests before them. So one that
    is accepted alone forgives no refusal for want of room that does not hold its slot back yet; and what is released
    has these counted on, until it is taken beside others.
    """

    def __init__(self) -> None:
        self._by_slot: dict[tuple[Side, int], _Strikes] = {}

    def refused(self, slot: tuple[Side, int], code: int, now_ns: int, reason: str = "") -> bool:
        """Note a refusal, with the exchange's reason; return whether the brake has just gripped."""
        if code in _PASSING:
            return False
        strikes = self._by_slot.get(slot)
        if strikes is None or (strikes.code != code and strikes.count < STRIKES):
            lately_ns = strikes.lately_ns if strikes is not None else deque(maxlen=MOST_A_MINUTE)
            strikes = self._by_slot[slot] = _Strikes(code, lately_ns=lately_ns)
        is_other = code not in (strikes.code, UNREADABLE)
        is_first_other = is_other and strikes.code != UNREADABLE and not strikes.was_of_another
        if code != UNREADABLE:  # which tells of no other reason than the one before
            strikes.code = code  # where it grips, another answer is a refusal more
        if code == strikes.code:
            strikes.reason, strikes.refused_ns = reason, now_ns
        strikes.was_of_all |= code in OF_ALL_QUOTES
        before, strikes.count = strikes.count, strikes.count + 1
        if code in BESIDE_OTHERS:
            strikes.lately_ns.append(now_ns)
            if strikes.not_before_ns() > now_ns:
                strikes.count = max(strikes.count, STRIKES)
        if strikes.count >= STRIKES:
            in_turn = is_first_other or (is_other and strikes.was_of_all)  # perhaps only a damaged request
            strikes.was_of_another |= is_first_other
            next_ns = self._next_probe_ns(strikes, now_ns, in_turn=in_turn)
            strikes.probe_ns = max(next_ns, strikes.not_before_ns())
        return before < STRIKES <= strikes.count

    def _next_probe_ns(self, strikes: _Strikes, now_ns: int, *, in_turn: bool) -> int:
        latest_ns = now_ns + int(PROBE_EVERY_S * 1e9)
        if strikes.count > STRIKES:
            in_turn |= strikes.code in OF_ALL_QUOTES
            return min(latest_ns, self._next_turn_ns(strikes, now_ns)) if in_turn else latest_ns
        others_ns = [
            each.probe_ns for each in self._by_slot.values() if each.count >= STRIKES and each is not strikes
        ]
        return min(max([now_ns, *others_ns]) + int(PROBES_APART_S * 1e9), latest_ns)

    def _next_turn_ns(self, strikes: _Strikes, now_ns: int) -> int:
        """Return when it is its turn again among those that are tried for all: some may be wanted no more."""
        before_ns = now_ns - 2 * int(PROBES_APART_S * 1e9)
        others = [
            each
            for each in self._by_slot.values()
            if each.count >= STRIKES and each.code in OF_ALL_QUOTES and each is not strikes
        ]
        turns = 1 + sum(each.probe_ns > before_ns for each in others)
        return now_ns + turns * int(PROBES_APART_S * 1e9)

    def accepted(
        self, slot: tuple[Side, int], now_ns: int, *, reduces: bool = False, alone: bool = False
    ) -> bool:
        """Note that the exchange took an order in this slot; return whether others may be tried now because of that.

        ``alone`` says that no other one rested.
        """
        was = self._by_slot.pop(slot, None)
        if was is None:
            return self._hurry()
        is_of_all, was_held, was_refused = was.was_of_all, was.count >= STRIKES, was.count > 0
        if alone and was.code in BESIDE_OTHERS:
            if was_held:
                was.forgive()
            self._by_slot[slot] = was
        if not was_refused:
            return self._hurry()
        if not was_held and not is_of_all:
            return False
        sides = {slot[0]} if reduces and was.code != MAX_OPEN_ORDERS else set(Side)
        released = [
            other
            for other, each in self._by_slot.items()
            if each.count
            and ((is_of_all and each.was_of_all) or (each.code == was.code and other[0] in sides))
        ]
        for other in released:
            self._release(other, now_ns)
        return bool(released)

    def _release(self, slot: tuple[Side, int], now_ns: int) -> None:
        """Let a slot be tried again, but no more often in a minute than it may be refused for want of room."""
        strikes = self._by_slot[slot]
        if not strikes.lately_ns:
            del self._by_slot[slot]
        elif strikes.not_before_ns() > now_ns:
            strikes.probe_ns = strikes.not_before_ns()
        else:
            strikes.forgive()

    def _hurry(self) -> bool:
        """Let those be tried now that are held for what should hold all, once; return whether there is any."""
        held = [
            each
            for each in self._by_slot.values()
            if each.count >= STRIKES and each.code in OF_ALL_QUOTES and not each.was_hurried
        ]
        for each in held:
            each.probe_ns, each.was_hurried = 0, True
        return bool(held)

    def allows(self, slot: tuple[Side, int], now_ns: int) -> bool:
        """Tell whether the slot may be tried now."""
        strikes = self._by_slot.get(slot)
        if strikes is None or strikes.count < STRIKES:
            return True
        return now_ns >= strikes.probe_ns

    def reason(self, slots: Iterable[tuple[Side, int]]) -> str:
        """Return why the one of these slots that was refused last is held back, "" if none of them is."""
        held = [each for slot in slots if (each := self._by_slot.get(slot)) and each.count >= STRIKES]
        return max(held, key=lambda each: each.refused_ns).reason if held else ""


class CrossingBrake:
    """After three refusals of a price because it would take, it is asked for again after 10 s, then every 30 s.

    Whoever sees the market as it is does not ask three times: the book here lags behind it. Another price may be asked
    for at once.
    """

    KEPT = 200
    EVERY_S = 30.0

    def __init__(self) -> None:
        self._by_price: dict[tuple[str, Side, int], _Strikes] = {}

    @property
    def grips(self) -> bool:
        """Tell whether any price may have to wait."""
        return bool(self._by_price)

    def refused(self, symbol: str, side: Side, price_ticks: int, now_ns: int) -> None:
        """Note that an order or an amendment at this price would have taken."""
        asked = symbol, side, price_ticks
        strikes = self._by_price.pop(asked, None)
        if strikes is None or now_ns > strikes.probe_ns + int(self.EVERY_S * 1e9):
            strikes = _Strikes(POST_ONLY_WOULD_TAKE)
        strikes.count += 1
        wait_s = (0.0, PROBES_APART_S, self.EVERY_S)[(strikes.count >= STRIKES) + (strikes.count > STRIKES)]
        strikes.probe_ns = now_ns + int(wait_s * 1e9)
        self._by_price[asked] = strikes
        if len(self._by_price) > self.KEPT:
            del self._by_price[next(iter(self._by_price))]

    def accepted(self, symbol: str, side: Side, price_ticks: int) -> None:
        """Note that the exchange lets this price rest: so it would those that are farther from the market."""
        if self._by_price:
            self._by_price = {
                asked: strikes
                for asked, strikes in self._by_price.items()
                if asked[:2] != (symbol, side) or side.sign * (asked[2] - price_ticks) > 0
            }

    def allows(self, symbol: str, side: Side, price_ticks: int, now_ns: int) -> bool:
        """Tell whether this price may be asked for now."""
        strikes = self._by_price.get((symbol, side, price_ticks))
        return strikes is None or now_ns >= strikes.probe_ns
