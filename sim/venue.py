"""Everything that the endpoints share: instruments, account, desk, records, streams, limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from sim.account import Account
from sim.conduct import Conduct, ConductRules
from sim.deployment import Deployment
from sim.desk import Desk
from sim.errors import refusal
from sim.fees import FeeOptions, Fees
from sim.instrument import Instrument
from sim.limits import Limits, LimitSizes
from sim.matching import Thinning
from sim.orders import StpMode
from sim.params import Params
from sim.record import HISTORY, Ledger
from sim.rules import SymbolRules
from sim.standing import Standing
from sim.streams import Hub, StreamOptions, UserStream

HALTED_CODES = (-1122, -4140, -4141, -5024)
"""What may refuse orders and amendments of a symbol that does not trade (facts section 9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be chosen about the exchange. ``funding_rate`` is the fraction that longs pay every 8 hours.

    ``amend_refuses_crossing`` chooses the undocumented reply when a post-only order is amended into the
    market. False: HTTP 200 with the order as EXPIRED; True: error -5022. The order ends either way.
    ``amend_of_ended_code`` chooses between -2013 and -2011 for the amendment of an order that has ended,
    ``amend_resets_stp`` whether an amendment leaves self-trade prevention at NONE, and ``default_stp`` its mode
    where an order names none: sources disagree on each (facts 3.3, 4.3). ``deployment`` chooses filters and
    request limits, ``limits`` sets the latter apart from it. ``hedge_reduce_only_code`` chooses between -1106 and
    -4062 for reduceOnly in hedge mode (facts 4.5), ``one_bracket_as_object`` whether leverageBracket of one symbol
    comes without a list around it (facts 3.4). ``engine_ms`` is how long an order is on its way from the door
    to the matching engine, which holds it against recvWindow once more (-5028); nothing else depends on it.
    ``halted_order_code`` and ``halted_amend_code`` refuse orders and amendments of a symbol that does not trade; which
    ones a real halt gives is not documented (facts 9). ``refuses_covered_reduce_only`` refuses a reduce-only order, or
    its amendment, that the position is too small for beside other reduce-only orders of its side (-4118; facts 4.5).
    """

    thinning: Thinning = Thinning.FROM_BEHIND
    deployment: Deployment = Deployment.MAINNET
    limits: LimitSizes | None = None
    funding_rate: Decimal = Decimal("0.00010000")
    leverage: int = 20
    history: int = HISTORY
    can_withdraw: bool = False
    hedge_mode: bool = False
    amend_refuses_crossing: bool = False
    amend_of_ended_code: int = -2013
    amend_resets_stp: bool = False
    default_stp: StpMode = StpMode.EXPIRE_MAKER
    hedge_reduce_only_code: int = -1106
    one_bracket_as_object: bool = False
    engine_ms: int = 0
    halted_order_code: int = -4140
    halted_amend_code: int = -5024
    refuses_covered_reduce_only: bool = False
    fees: FeeOptions = field(default_factory=FeeOptions)
    conduct: ConductRules = field(default_factory=ConductRules)
    streams: StreamOptions = field(default_factory=StreamOptions)

    def __post_init__(self) -> None:
        if self.amend_of_ended_code not in (-2013, -2011):
            raise ValueError("amend_of_ended_code is -2013 or -2011")
        if self.hedge_reduce_only_code not in (-1106, -4062):
            raise ValueError("hedge_reduce_only_code is -1106 or -4062")
        for code in (self.halted_order_code, self.halted_amend_code):
            if code not in HALTED_CODES:
                raise ValueError(f"it is one of {', '.join(map(str, HALTED_CODES))}")
        if self.leverage < 1 or min(self.history, self.engine_ms, self.streams.agg_trade_ms) < 0:
            raise ValueError("leverage is at least 1, history and times are not negative")


class Venue:
    """The exchange without its doors."""

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        wallet_quote: Decimal,
        options: Options,
        seed: str,
        now_ms: int,
    ) -> None:
        self.options = options
        self.hub = Hub(options.streams)
        self.user = UserStream(self.hub, seed)
        self.ledger = Ledger(options.history)
        self.limits = Limits(options.limits or options.deployment.limits)
        self.account = Account(
            rules, wallet_quote, options.leverage, funded_ms=now_ms, fees=Fees(options.fees)
        )
        self.instruments = {
            symbol: Instrument(symbol_rules, self.hub, options.thinning, options.funding_rate, now_ms)
            for symbol, symbol_rules in rules.items()
        }
        self.desk = Desk(
            self.instruments,
            self.account,
            self.ledger,
            self.user,
            refuses_covered=options.refuses_covered_reduce_only,
        )
        self.hedge_mode = options.hedge_mode
        self.liquidating = False
        self.standing = Standing()
        self.conduct = Conduct(options.conduct, self.ledger, self.standing)
        self.skew_ms = 0
        """By how much the exchange's clock is off where clients see it: /time and timestamps."""

    def instrument(self, params: Params) -> Instrument:
        """Return the instrument that ``symbol`` names; -1102 without one, -1121 if there is none of that name."""
        found = self.instruments.get(params.text("symbol"))
        if found is None or not found.regime.is_listed:
            raise refusal(-1121)
        return found

    def chosen(self, params: Params) -> list[Instrument]:
        """Return the instrument that ``symbol`` names, or all that are listed if it was not sent."""
        return [self.instrument(params)] if "symbol" in params else self.listed()

    def listed(self) -> list[Instrument]:
        """Return the instruments that the exchange lists at present."""
        return [each for each in self.instruments.values() if each.regime.is_listed]
