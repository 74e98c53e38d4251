"""What has to be true of the account for this program to quote on it, and what is said where it is not. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountModes:
    """How the account is set up, as far as it decides whether this program can work with it."""

    can_trade: bool
    hedge_mode: bool
    multi_assets: bool


@dataclass(frozen=True, slots=True)
class SymbolSetup:
    """How the account trades one symbol; ``margin_type`` as the exchange spells it, "" where it does not say."""

    leverage: int
    margin_type: str


def account_problem(
    modes: AccountModes, setups: Mapping[str, SymbolSetup], wanted: Mapping[str, SymbolSetup]
) -> str:
    """Return why no quote may rest on this account, with the remedy; an empty string if there is no reason.

    ``wanted`` is how each symbol is to be traded: the configured leverage, the margin type of the start.
    """
    if not modes.can_trade:
        return "the account may not trade futures: see its status on the exchange's site"
    if modes.hedge_mode:
        return "the account is in hedge mode: switch it back to one-way mode"
    if modes.multi_assets:
        return "the account is in multi-assets mode: switch it back to single-asset mode"
    for symbol, setup in setups.items():
        want = wanted[symbol]
        if setup.leverage != want.leverage:
            return f"the leverage of {symbol} was changed to {setup.leverage}: set it back to {want.leverage}"
        if setup.margin_type and setup.margin_type != want.margin_type:
            return (
                f"the margin type of {symbol} was changed to {setup.margin_type}:"
                f" set it back to {want.margin_type}"
            )
    return ""
