"""A request that was refused for good is not sent again and again: the brake on repeating oneself. Pure."""

from dataclasses import dataclass

from core.model import Side

POST_ONLY_WOULD_TAKE = -5022
STRIKES = 3
PROBE_EVERY_S = 60.0

_PASSING = frozenset({0, POST_ONLY_WOULD_TAKE, -1001, -1003, -1008, -1015, -1021, -5028})
"""Refusals that say nothing of the next attempt: nothing was sent, the market had moved, the exchange was busy, a limit
was reached, the clock was off."""


@dataclass(slots=True)
class _Strikes:
    code: int
    count: int
    last_ns: int


class RefusalBrake:
    """After three refusals in a row with the same code a slot is tried once a minute only."""

    def __init__(self) -> None:
        self._by_slot: dict[tuple[Side, int], _Strikes] = {}

    def refused(self, slot: tuple[Side, int], code: int, now_ns: int) -> bool:
        """Note a refusal; return whether the brake has just gripped."""
        if code in _PASSING:
            return False
        strikes = self._by_slot.get(slot)
        if strikes is None or strikes.code != code:
            strikes = self._by_slot[slot] = _Strikes(code, 0, now_ns)
        strikes.count += 1
        strikes.last_ns = now_ns
        return strikes.count == STRIKES

    def accepted(self, slot: tuple[Side, int]) -> None:
        """Note that the exchange took an order in this slot."""
        self._by_slot.pop(slot, None)

    def allows(self, slot: tuple[Side, int], now_ns: int) -> bool:
        """Tell whether the slot may be tried now."""
        strikes = self._by_slot.get(slot)
        if strikes is None or strikes.count < STRIKES:
            return True
        return now_ns - strikes.last_ns >= PROBE_EVERY_S * 1e9
