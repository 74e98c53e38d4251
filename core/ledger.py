"""What our trades made of the account: position, fees, realised profit, each fill counted once. Pure."""

from collections import OrderedDict
from decimal import Decimal

from core.model import Fill, Position

_ZERO = Decimal(0)


class Ledger:
    """The books of one symbol since the start of this run.

    ``position_quantity`` is what the exchange reported at the start, plus every fill since; all other figures begin at
    zero with the run. Fills are known by their trade id, so that each counts once from whichever channel it comes. An
    exchange that was reset gives the same ids anew: a trade that is later than the one of its id is another one.
    """

    REMEMBERED = 20_000
    LAGS_AT_MOST_MS, UNDATED_LAGS_AT_MOST_MS = 10_000, 3000
    """No reading lags behind a fill for longer; after that it is believed, whatever time it bears, or none."""
    SAME_TRADE_MS = 10_000
    """Two channels tell of one trade with times that are no further apart."""

    def __init__(self) -> None:
        self.position_quantity = _ZERO
        self.entry_price = _ZERO
        self.realized_pnl_quote = _ZERO
        self.funding_quote = _ZERO
        self.fees: dict[str, Decimal] = {}
        self.fill_count = 0
        self.maker_fill_count = 0
        self.bought_quantity = _ZERO
        self.sold_quantity = _ZERO
        self.traded_quote = _ZERO
        self.last_fill_ms = 0
        """The exchange's time of the latest fill."""
        self.checkpoint_id = 0
        """Every trade up to this id is counted; beyond it only those that a stream told of."""
        self.ids_began_anew = False
        """A trade bore an id that was given before, or was passed over: the exchange was reset."""
        self.is_open = False
        self.unexplained_quantity = _ZERO
        """What was adopted of the exchange's position without a trade that explains it, signed; 0 in order."""
        self.unexplained_since_ms = 0
        """The exchange's time of the first of it."""
        self._opened_after = self._opened_after_ms = 0
        self._opened_as_of_ms = self._position_as_of_ms = 0
        self._doubted_until_ms, self._doubted_quantity = 0, _ZERO
        self._early: list[Fill] = []
        self._seen: OrderedDict[int, int] = OrderedDict()
        """The time in ms of each trade that is counted, by its id."""

    def can_open(self, position: Position, last_trade_id: int, last_trade_ms: int, now_ms: int) -> bool:
        """Tell whether these readings may be of one moment; ``now_ms`` is the exchange's.

        They are not where the list lacks a trade that a stream told of, or the position is older than the last one.
        """
        is_short = any(fill.trade_id > last_trade_id for fill in self._early)
        return not is_short and not self._is_behind(position, last_trade_ms, now_ms)

    def open(
        self, position: Position, last_trade_id: int, last_trade_ms: int = 0, read_by_ms: int = 0
    ) -> list[Fill]:
        """Begin with the exchange's position; trades up to ``last_trade_id`` are in it already.

        So are those up to its own time, which a list of trades that lagged did not have. ``last_trade_ms`` is the
        exchange's time of the last trade, 0 if it is not known. A position that bears no time was read by
        ``read_by_ms``: whether it holds a trade of before then that is told of later is in doubt (``takes_back``).
        Return the fills that came before this, to be applied now.
        """
        self.position_quantity, self.entry_price = position.quantity, position.entry_price
        self.checkpoint_id = self._opened_after = last_trade_id
        self._opened_after_ms = last_trade_ms
        self._opened_as_of_ms = self._position_as_of_ms = position.update_ms
        self._doubted_until_ms = 0 if position.update_ms else read_by_ms
        self.is_open = True
        early, self._early = self._early, []
        return early

    @property
    def opened_after_id(self) -> int:
        """Return the id of the last trade that was in the position with which the books began."""
        return self._opened_after

    @property
    def opened_after_ms(self) -> int:
        """Return the exchange's time of that trade, 0 if there was none."""
        return self._opened_after_ms

    def takes_back(self, position: Position) -> bool:
        """Tell whether the exchange's position shows that the one of the opening held the trades in doubt already.

        Then they move it no longer; what else they add up to stays.
        """
        if not self._doubted_quantity or position.quantity != self.position_quantity - self._doubted_quantity:
            return False
        self.position_quantity, self.entry_price = position.quantity, position.entry_price
        self._doubted_quantity = _ZERO
        return True

    def adopt(self, position: Position, as_of_ms: int) -> None:
        """Take the exchange's position for ours, after a difference that no trade explained.

        Fills up to ``as_of_ms``, the exchange's time, that are told of later are in it already: they explain it.
        """
        if not self.unexplained_quantity:
            self.unexplained_since_ms = as_of_ms
        self.unexplained_quantity += position.quantity - self.position_quantity
        self.position_quantity = position.quantity
        self.entry_price = position.entry_price
        self._position_as_of_ms = as_of_ms
        self._doubted_quantity = _ZERO

    def agree(self, position: Position, tick_size: Decimal, now_ms: int) -> None:
        """Note that the exchange's position is ours; take its entry price where ours is another by a tick or more.

        Trades that one channel told of late were counted in another order than they were made. Those of which it was
        in doubt whether the opening held them did move it, unless the reading is older than a fill; ``now_ms`` is the
        exchange's time.
        """
        if not self.outdates(position, now_ms):
            self._doubted_quantity = _ZERO
        is_present = position.update_ms >= self.last_fill_ms
        is_same = position.quantity == self.position_quantity != 0
        if is_present and is_same and abs(position.entry_price - self.entry_price) >= tick_size:
            self.entry_price = position.entry_price

    def apply(self, fill: Fill, *, is_of_this_run: bool = False) -> bool:
        """Count a fill; return False if it was counted before, or is kept until the books are opened.

        ``is_of_this_run`` says that its order was placed after that: the opening cannot have held it.
        """
        if not self.is_open:
            self._early.append(fill)
            return False
        if self.has_counted(fill.trade_id, fill.time_ms):
            return False
        if self._was_given_before(fill):
            self.ids_began_anew, self.checkpoint_id = True, 0
        self._remember(fill)
        change = fill.side.sign * fill.quantity
        if fill.time_ms > self._position_as_of_ms:
            self._move_position(change, fill.price)
            if fill.time_ms <= self._doubted_until_ms and not is_of_this_run:
                self._doubted_quantity += change
        elif fill.time_ms > self._opened_as_of_ms:
            self.unexplained_quantity -= change
        self.realized_pnl_quote += fill.realized_pnl_quote
        self.fees[fill.commission_asset] = self.fees.get(fill.commission_asset, _ZERO) + fill.commission
        self.fill_count += 1
        self.last_fill_ms = max(self.last_fill_ms, fill.time_ms)
        self.maker_fill_count += fill.is_maker
        self.traded_quote += fill.price * fill.quantity
        if fill.side.sign > 0:
            self.bought_quantity += fill.quantity
        else:
            self.sold_quantity += fill.quantity
        return True

    def outdates(self, position: Position, now_ms: int) -> bool:
        """Tell whether a reading of the position is older than a fill in these books; ``now_ms`` is the exchange's."""
        return self.is_open and self._is_behind(position, self.last_fill_ms, now_ms)

    def _is_behind(self, position: Position, trade_ms: int, now_ms: int) -> bool:
        at_most_ms = self.LAGS_AT_MOST_MS if position.update_ms else self.UNDATED_LAGS_AT_MOST_MS
        return position.update_ms < trade_ms and now_ms - trade_ms < at_most_ms

    def has_summed(self, trade_id: int, time_ms: int) -> bool:
        """Tell whether the trade of this id and this time is part of the figures that began at zero."""
        return trade_id in self._seen and time_ms <= self._seen[trade_id] + self.SAME_TRADE_MS

    def count_since(self, time_ms: int) -> int:
        """Return how many trades since then are counted, of those that are still remembered."""
        return sum(at_ms >= time_ms for at_ms in self._seen.values())

    def has_counted(self, trade_id: int, time_ms: int) -> bool:
        """Tell whether the trade of this id and this time is in the books."""
        if trade_id in self._seen:
            return self.has_summed(trade_id, time_ms)
        is_dated = self._opened_after_ms > 0
        is_later = is_dated and time_ms > self._opened_after_ms + self.SAME_TRADE_MS
        return trade_id <= self._opened_after and not is_later

    def _was_given_before(self, fill: Fill) -> bool:
        """Tell whether the id of a trade that is not counted belongs to another one.

        Not to one below the checkpoint that was hidden until now: that is older than the last one that is counted.
        """
        if fill.trade_id <= self._opened_after or fill.trade_id in self._seen:
            return True
        return fill.trade_id <= self.checkpoint_id and fill.time_ms > self.last_fill_ms + self.SAME_TRADE_MS

    def _remember(self, fill: Fill) -> None:
        self._seen[fill.trade_id] = fill.time_ms
        self._seen.move_to_end(fill.trade_id)  # also of an id that was given before: this trade is the newest
        while len(self._seen) > self.REMEMBERED:
            self._seen.popitem(last=False)

    def _move_position(self, change: Decimal, price: Decimal) -> None:
        """Move the position and its average entry: reducing keeps the entry, crossing zero starts a new one."""
        before = self.position_quantity
        after = before + change
        if after == 0:
            self.entry_price = _ZERO
        elif before == 0 or before * after < 0:
            self.entry_price = price
        elif abs(after) > abs(before):
            self.entry_price = (before * self.entry_price + change * price) / after
        self.position_quantity = after

    def unrealized_pnl_quote(self, mark_price: Decimal) -> Decimal:
        """Return what closing at the mark price would bring, before fees."""
        return self.position_quantity * (mark_price - self.entry_price)

    def fees_in(self, asset: str) -> Decimal:
        """Return the fees paid in this asset."""
        return self.fees.get(asset, _ZERO)

    def pnl_quote(self, mark_price: Decimal, quote_asset: str) -> Decimal:
        """Return realised and unrealised profit, after fees paid in the quote asset and with funding."""
        return (
            self.realized_pnl_quote
            + self.unrealized_pnl_quote(mark_price)
            - self.fees_in(quote_asset)
            + self.funding_quote
        )
