"""What the account may not do at present: restrictions of symbols or of the whole account, set by rule or by command.

Some leave orders that only reduce a position alone, others refuse every order. Cancelling is always possible.

Source: facts section 9 (-4087, -4088, -4105 to -4109, -4140, -4141, -4189, -4192, -4400 to -4403, -4531).
"""

from dataclasses import dataclass

from sim.errors import refusal

REDUCE_ONLY = frozenset({-4087, -4105, -4106, -4107, -4140, -4189, -4400, -4401})
"""Under these, reduce-only orders are taken."""

NO_ORDERS = frozenset({-1122, -2023, -4088, -4109, -4141, -4192, -4402, -4403})
"""Under these, no order is taken."""

NO_MODE_CHANGE = frozenset({-4531})
"""Under these, the position mode stays as it is."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """Orders of a symbol (of all if it is empty) are refused with ``code`` before ``until_ms``."""

    code: int
    symbol: str
    until_ms: int


class Standing:
    """The restrictions in force."""

    __slots__ = ("_restrictions",)

    def __init__(self) -> None:
        self._restrictions: dict[tuple[int, str], Restriction] = {}

    def restrict(self, restriction: Restriction) -> None:
        """Put a restriction into force, instead of the one with its code and symbol; raises ValueError for a code
        that restricts nothing.
        """
        if restriction.code not in REDUCE_ONLY | NO_ORDERS | NO_MODE_CHANGE:
            raise ValueError(f"code {restriction.code} is no restriction")
        self._restrictions[restriction.code, restriction.symbol] = restriction

    def until_ms(self, code: int, symbol: str, now_ms: int) -> int | None:
        """Return when the restriction of the symbol ends, None if there is none."""
        found = self._restrictions.get((code, symbol))
        return found.until_ms if found and now_ms < found.until_ms else None

    def check(self, symbol: str, now_ms: int, *, reduce_only: bool) -> None:
        """Return if an order of the symbol is taken; raises the code of the restriction that forbids it."""
        if not self._restrictions:
            return
        spared = NO_MODE_CHANGE | (REDUCE_ONLY if reduce_only else frozenset())
        for restriction in self.in_force(now_ms):
            if restriction.symbol in ("", symbol) and restriction.code not in spared:
                raise refusal(restriction.code)

    def check_mode_change(self, now_ms: int) -> None:
        """Return if the position mode may be changed; raises -4531."""
        for restriction in self.in_force(now_ms):
            if restriction.code in NO_MODE_CHANGE:
                raise refusal(restriction.code)

    def in_force(self, now_ms: int) -> list[Restriction]:
        """Return the restrictions that have not ended."""
        return [each for each in self._restrictions.values() if now_ms < each.until_ms]
