"""What a change of the exchange's rules for a symbol means for a daemon that quotes it. Pure."""

from dataclasses import fields
from enum import Enum

from core.model import SymbolRules

TRADING = "TRADING"

RULES_CODES = frozenset(
    {-1013, -1111, -1121, -1122, -4001, -4002, -4003, -4004, -4005, -4013, -4014, -4016, -4023}
    | {-4024, -4025, -4030, -4108, -4109, -4131, -4140, -4164, -5024}
)
"""Refusals that speak of a filter or of the symbol's state: what is known of the rules may be old."""
ACCOUNT_CODES = frozenset({-2027, -4061, -4168})
"""Refusals that speak of the account's modes or leverage."""


class RulesStep(Enum):
    """What is to be done about the rules as they are now."""

    NOTHING = "nothing"
    TAKE = "take"
    """Other bounds: they are kept from now on."""
    BEGIN_ANEW = "begin anew"
    """Another tick or step: every price and size that is known here counts in units that are no more."""


def rules_step(known: SymbolRules, found: SymbolRules) -> RulesStep:
    """Return what is to be done when the rules that are known have become others."""
    if found == known:
        return RulesStep.NOTHING
    if (found.tick_size, found.step_size) != (known.tick_size, known.step_size):
        return RulesStep.BEGIN_ANEW
    return RulesStep.TAKE


def differences(known: SymbolRules, found: SymbolRules) -> str:
    """Return in words what has changed."""
    return ", ".join(
        f"{field.name} {getattr(known, field.name)} -> {getattr(found, field.name)}"
        for field in fields(SymbolRules)
        if field.init  # the others follow from these
        and getattr(known, field.name) != getattr(found, field.name)
    )
