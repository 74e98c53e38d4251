"""What the account may not do at present: restrictions of symbols or of the whole account, set by rule or by command.

Some leave orders that only reduce a position alone, others refuse every order. Cancelling is always possible.

Source: facts section 9 (-4087, -4088, -4105 to -4109, -4140, -4141, -4189, -4192, -4400 to -4403).
"""

from dataclasses import dataclass

from sim.errors import refusal

REDUCE_ONLY = frozenset({-4087, -4105, -4106, -4107, -4140, -4189, -4400, -4401})
"""Under these, reduce-only orders are taken."""

NO_ORDERS = frozenset({-1122, -2023, -4088, -4109, -4141, -4192, -4402, -4403})
"""Under these, no order is taken."""


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
        if restriction.code not in REDUCE_ONLY | NO_ORDERS:
            raise ValueError(f"code {restriction.code} is no restriction")
        self._restrictions[restriction.code, restriction.symbol] = restriction

    def until_ms(self, code: int, symbol: str, now_ms: int) -> int | None:
        """Return when the restriction of the symbol ends, None if there is none."""
        found = self._restrictions.get((code, symbol))
        return found.until_ms if found and now_ms < found.until_ms else None

    def check(self, symbol: str, now_ms: int, *, reduce_only: bool) -> None:
        """Return if an order of the symbol is taken; raises the code of the restriction that forbids it."""
        for restriction in self._restrictions.values():
            concerns = restriction.symbol in ("", symbol) and now_ms < restriction.until_ms
            if concerns and not (reduce_only and restriction.code in REDUCE_ONLY):
                raise refusal(restriction.code)
