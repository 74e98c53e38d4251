"""What a symbol has made or lost since the day began, at 00:00 UTC of the exchange's time. Pure.

Counted: realised profit, fees, funding, and by how much the unrealised profit has changed since the day began. A
position carried over midnight brings only what it makes after midnight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from core.ledger import Ledger
from core.model import Fill

DAY_MS = 86_400_000

_ZERO = Decimal(0)


def day_of(time_ms: int) -> int:
    """Return the day, UTC, that this time belongs to, as a number of days since the epoch."""
    return time_ms // DAY_MS


def start_ms_of(day: int) -> int:
    """Return when this day begins."""
    return day * DAY_MS


@dataclass(frozen=True, slots=True)
class Sums:
    """Realised profit before fees, fees by asset (positive when paid), and funding received."""

    realized_quote: Decimal = _ZERO
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    funding_quote: Decimal = _ZERO

    @classmethod
    def of_ledger(cls, ledger: Ledger) -> "Sums":
        """Return the sums of a ledger since its beginning."""
        return cls(ledger.realized_pnl_quote, dict(ledger.fees), ledger.funding_quote)

    @classmethod
    def of_fills(cls, fills: Iterable[Fill], funding_quote: Decimal) -> "Sums":
        """Return the sums of these fills, with this funding."""
        realized, fees = _ZERO, dict[str, Decimal]()
        for fill in fills:
            realized += fill.realized_pnl_quote
            fees[fill.commission_asset] = fees.get(fill.commission_asset, _ZERO) + fill.commission
        return cls(realized, fees, funding_quote)


@dataclass(frozen=True, slots=True)
class DayResult:
    """What the day has brought so far, in the quote asset; below zero is a loss.

    ``unvalued`` are fees in assets of which no price is known: they are not part of ``quote``. ``accepted_quote`` is a
    result that an operator has accepted: the count began anew there.
    """

    realized_quote: Decimal
    unrealized_quote: Decimal
    fees_quote: Decimal
    funding_quote: Decimal
    accepted_quote: Decimal = _ZERO
    unvalued: tuple[tuple[str, Decimal], ...] = ()

    @property
    def whole_quote(self) -> Decimal:
        """Return the result of the whole day, whatever has been accepted."""
        return self.realized_quote + self.unrealized_quote - self.fees_quote + self.funding_quote

    @property
    def quote(self) -> Decimal:
        """Return the result that counts against the limit."""
        return self.whole_quote - self.accepted_quote

    @property
    def loss_quote(self) -> Decimal:
        """Return the loss that counts against the limit, 0 for a profit."""
        return max(-self.quote, _ZERO)

    @property
    def text(self) -> str:
        """Return the parts in words."""
        accepted = f", {self.accepted_quote:+.2f} of it accepted" if self.accepted_quote else ""
        return (
            f"realised {self.realized_quote:+.2f}, unrealised {self.unrealized_quote:+.2f},"
            f" fees {-self.fees_quote:+.2f}, funding {self.funding_quote:+.2f}{accepted}"
        )


@dataclass(frozen=True, slots=True)
class DayCount:
    """How the result of one day is counted: what came before ``since``, and what the ledger has added to it.

    ``unrealized_at_start_quote`` is the unrealised profit of the position with which the day began.
    """

    day: int
    earlier: Sums
    since: Sums
    unrealized_at_start_quote: Decimal
    accepted_quote: Decimal = _ZERO
    accepted_ms: int = 0

    def result(
        self, ledger: Ledger, mark_price: Decimal, quote_asset: str, rates: Mapping[str, Decimal]
    ) -> DayResult:
        """Return the result at this mark price; ``rates`` are prices of other assets in which fees were paid."""
        sums = self.sums(ledger)
        rates = {**rates, quote_asset: Decimal(1)}
        paid = {asset: amount for asset, amount in sums.fees.items() if amount}
        return DayResult(
            realized_quote=sums.realized_quote,
            unrealized_quote=ledger.unrealized_pnl_quote(mark_price) - self.unrealized_at_start_quote,
            fees_quote=sum(
                (amount * rates[asset] for asset, amount in paid.items() if asset in rates), _ZERO
            ),
            funding_quote=sums.funding_quote,
            accepted_quote=self.accepted_quote,
            unvalued=tuple((asset, amount) for asset, amount in paid.items() if asset not in rates),
        )

    def sums(self, ledger: Ledger) -> Sums:
        """Return the day's sums."""
        earlier, since = self.earlier, self.since
        return Sums(
            earlier.realized_quote + ledger.realized_pnl_quote - since.realized_quote,
            {
                asset: earlier.fees.get(asset, _ZERO) + ledger.fees_in(asset) - since.fees.get(asset, _ZERO)
                for asset in {**earlier.fees, **ledger.fees, **since.fees}
            },
            earlier.funding_quote + ledger.funding_quote - since.funding_quote,
        )

    def with_funding(self, ledger: Ledger, funding_quote: Decimal) -> "DayCount":
        """Return the count with the day's funding as the exchange's own record has it."""
        missing = funding_quote - self.sums(ledger).funding_quote
        earlier = replace(self.earlier, funding_quote=self.earlier.funding_quote + missing)
        return replace(self, earlier=earlier)

    def without(self, fills: Iterable[Fill]) -> "DayCount":
        """Return the count with these not among what came before: the ledger has counted them since."""
        before, gone = self.earlier, Sums.of_fills(fills, _ZERO)
        fees = {
            asset: before.fees.get(asset, _ZERO) - gone.fees.get(asset, _ZERO)
            for asset in {**before.fees, **gone.fees}
        }
        earlier = Sums(before.realized_quote - gone.realized_quote, fees, before.funding_quote)
        return replace(self, earlier=earlier)

    def accepting(self, result: DayResult, accepted_ms: int) -> "DayCount":
        """Return the count begun anew at this result, which an operator has accepted."""
        return replace(self, accepted_quote=result.whole_quote, accepted_ms=accepted_ms)

    def next(self, ledger: Ledger, mark_price: Decimal, day: int) -> "DayCount":
        """Return the count of a later day that begins now."""
        return DayCount(day, Sums(), Sums.of_ledger(ledger), ledger.unrealized_pnl_quote(mark_price))


def quantity_at_start(ledger_quantity: Decimal, fills: Iterable[Fill]) -> Decimal:
    """Return the position with which the day began, from the present one and the day's fills."""
    return ledger_quantity - sum((fill.side.sign * fill.quantity for fill in fills), _ZERO)


def unrealized_at_start(
    quantity: Decimal, entry_price: Decimal, fills: Iterable[Fill], price_at_start: Decimal
) -> Decimal:
    """Return the unrealised profit with which the day began, from the day's fills and the price at its beginning.

    What the day has brought by its cash flows is the present position's value, less that of the first one, less what
    the fills cost; by realised and unrealised profit it is the sum of both. The difference is what was there before.
    """
    fills = list(fills)
    began = quantity_at_start(quantity, fills)
    if not began:
        return _ZERO
    cost = sum((fill.side.sign * fill.quantity * fill.price for fill in fills), _ZERO)
    realized = sum((fill.realized_pnl_quote for fill in fills), _ZERO)
    return realized - quantity * entry_price + began * price_at_start + cost
