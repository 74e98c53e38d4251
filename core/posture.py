"""How far the daemon holds back, and what makes it: steps with hysteresis, so that it does not flap. Pure.

A reading is a share of a limit. Each has a ladder: from which share on which posture is taken, and below which share,
for how long, the reading counts as calm again. Until then the highest step that it called for is kept. The posture of a
symbol is the highest that any of its readings calls for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

from msgspec import Struct


class Posture(IntEnum):
    """What may be done; each step allows less than the one before it."""

    NORMAL = 0
    WIDEN = 1
    """Quotes rest ``WIDEN_FACTOR`` times as far from the mid as configured."""
    ONE_SIDE = 2
    """Besides, only quotes that reduce the position."""
    PULL = 3
    """No quotes."""
    FLATTEN = 4
    """No quotes, and the position is being closed."""
    HALT = 5
    """No quotes until the operator clears the halt."""

    @property
    def label(self) -> str:
        """Return the name as a person writes it."""
        return self.name.lower().replace("_", " ")


WIDEN_FACTOR = 2


class Reading(Struct, frozen=True):
    """A share of a limit, with the numbers behind it in words, or what makes those: they are hardly ever asked for."""

    name: str
    share: Decimal
    words: str | Callable[[], str]

    @property
    def text(self) -> str:
        """Return the numbers in words."""
        return self.words if isinstance(self.words, str) else self.words()


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps of one reading, lowest first; each begins above its share, or at it where ``inclusive``.

    A reading is calm at ``calm_share`` and below; steps are left once it has been so for ``calm_s``.
    """

    steps: tuple[tuple[Decimal, Posture], ...]
    calm_share: Decimal
    calm_s: float = 10.0
    inclusive: bool = False

    def posture(self, share: Decimal) -> Posture:
        """Return the step that this share calls for by itself."""
        called = Posture.NORMAL
        for begin, posture in self.steps:
            if share > begin or (self.inclusive and share == begin):
                called = posture
        return called


PRICE, POSITION, WORST_CASE, LOSS = "price move", "position", "worst case", "daily loss"

LADDERS: Mapping[str, Ladder] = {
    PRICE: Ladder(((Decimal("0.5"), Posture.WIDEN), (Decimal(1), Posture.PULL)), Decimal("0.5")),
    POSITION: Ladder(((Decimal("0.9"), Posture.ONE_SIDE),), Decimal("0.8")),
    WORST_CASE: Ladder(((Decimal(1), Posture.ONE_SIDE),), Decimal(1)),
    LOSS: Ladder(
        ((Decimal("0.8"), Posture.ONE_SIDE), (Decimal(1), Posture.FLATTEN)), Decimal("0.7"), inclusive=True
    ),
}
"""A position over its limit is not among these: it is closed whatever else is the case."""


class Stance(Struct, frozen=True):
    """The posture that the readings call for, and why, in words."""

    posture: Posture = Posture.NORMAL
    reason: str = ""


@dataclass(slots=True)
class _Step:
    """What one reading has called for, and since when (monotonic ns) it is calm; None while it is not."""

    posture: Posture = Posture.NORMAL
    calm_since_ns: int | None = None


class Staircase:
    """The steps on which the readings of one symbol stand."""

    def __init__(self, ladders: Mapping[str, Ladder] = LADDERS) -> None:
        self._ladders = ladders
        self._steps = {name: _Step() for name in ladders}

    def update(self, readings: Iterable[Reading], now_ns: int) -> Stance:
        """Return the stance that these readings call for; those that are missing stay where they are."""
        found = {}
        for reading in readings:
            found[reading.name] = reading
            self._move(self._steps[reading.name], self._ladders[reading.name], reading.share, now_ns)
        posture = max((step.posture for step in self._steps.values()), default=Posture.NORMAL)
        if posture is Posture.NORMAL:
            return Stance()
        decisive = [name for name, step in self._steps.items() if step.posture is posture]
        return Stance(posture, "; ".join(self._why(name, found.get(name)) for name in decisive))

    def _why(self, name: str, reading: Reading | None) -> str:
        """Return why a reading stands where it does; by itself it may call for less, and has to be calm first."""
        if reading is None:
            return name
        ladder = self._ladders[name]
        if ladder.posture(reading.share) >= self._steps[name].posture:
            return reading.text
        calm = f"{ladder.calm_share:.0%} of its limit or less for {ladder.calm_s:g} s"
        return f"{reading.text}; held until it has been at {calm}"

    @staticmethod
    def _move(step: _Step, ladder: Ladder, share: Decimal, now_ns: int) -> None:
        called = ladder.posture(share)
        if (
            called >= step.posture or step.posture >= Posture.FLATTEN
        ):  # what holds a halt is the latch on disk
            step.posture, step.calm_since_ns = called, None
        elif share > ladder.calm_share:
            step.calm_since_ns = None
        elif step.calm_since_ns is None:
            step.calm_since_ns = now_ns
        elif now_ns - step.calm_since_ns >= ladder.calm_s * 1e9:
            step.posture, step.calm_since_ns = called, None

    def forget(self, name: str) -> None:
        """Have this reading stand nowhere, because what it was about has ended: a new day, for example."""
        self._steps[name] = _Step()
