"""Margin type over REST, and the margin of isolated positions.

Source: facts section 3.4 (marginType), 7.3 (ACCOUNT_UPDATE and its reasons), 9; Binance's pages "Modify Isolated
Position Margin", "Get Position Margin Change History" and "Error Code" (-4046 to -4055, -4168). That a new margin type
is told with the reason MARGIN_TYPE_CHANGE, and an adjusted margin with MARGIN_TRANSFER, follows from their names.
"""

from decimal import Decimal

from sim import payloads
from sim.account import MarginChange
from sim.auth import Security
from sim.errors import refusal
from sim.instrument import Instrument
from sim.money import ZERO, booked
from sim.params import Params
from sim.payloads import Json
from sim.queries import Span, page
from sim.rest import Endpoint, Routes
from sim.rules import plain
from sim.venue import Venue

CROSSED, ISOLATED = "CROSSED", "ISOLATED"
_ADD, _REDUCE = 1, 2


def change_margin_type(venue: Venue, instrument: Instrument, kind: str, now_ms: int) -> None:
    """Let the symbol be CROSSED or ISOLATED; raises -4046, -4168, -4047 or -4048."""
    account, symbol = venue.account, instrument.symbol
    if (kind == ISOLATED) is (symbol in account.isolated):
        raise refusal(-4046)
    if kind == ISOLATED and account.multi_assets:
        raise refusal(-4168)
    if instrument.open:
        raise refusal(-4047)
    if account.positions[symbol].lots:
        raise refusal(-4048)
    if kind == ISOLATED:
        account.isolated[symbol] = ZERO
    else:
        del account.isolated[symbol]
    _tell(venue, instrument, "MARGIN_TYPE_CHANGE", now_ms)


class MarginEndpoints:
    """Answers marginType, positionMargin and its history."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        v1 = "/fapi/v1"
        return {
            ("POST", f"{v1}/marginType"): Endpoint(self.set_margin_type, Security.TRADE),
            ("POST", f"{v1}/positionMargin"): Endpoint(self.adjust, Security.TRADE),
            ("GET", f"{v1}/positionMargin/history"): Endpoint(self.history, Security.SIGNED),
        }

    def set_margin_type(self, params: Params, now_ms: int) -> Json:
        """Change a symbol's margin type; -4046 if it has it, -4168, -4047 or -4048 if it cannot be changed."""
        instrument, kind = self._venue.instrument(params), params.text("marginType")
        if kind not in (CROSSED, ISOLATED):
            raise refusal(-1130, "marginType")
        change_margin_type(self._venue, instrument, kind, now_ms)
        return {"code": 200, "msg": "success"}

    def adjust(self, params: Params, now_ms: int) -> Json:
        """Add margin to an isolated position (``type`` 1) or take some away (2), down to its initial margin.

        -4049 for a crossed symbol, -4054 without a position, -4055 for nothing, -4050 or -4051 for too much.
        """
        venue, instrument = self._venue, self._venue.instrument(params)
        account, symbol = venue.account, instrument.symbol
        kind, amount = params.integer("type"), booked(params.decimal("amount"))
        if kind not in (_ADD, _REDUCE):
            raise refusal(-1130, "type")
        if amount <= 0:
            raise refusal(-4055)
        if symbol not in account.isolated:
            raise refusal(-4049)
        if not account.positions[symbol].lots:
            raise refusal(-4054)
        if kind == _ADD and amount > account.cover(venue.desk.marks) - venue.desk.required_margin(instrument):
            raise refusal(-4050)
        if kind == _REDUCE and amount > self._spare(instrument):
            raise refusal(-4051)
        account.adjust_margin(symbol, amount if kind == _ADD else -amount, now_ms)
        _tell(venue, instrument, "MARGIN_TRANSFER", now_ms)
        return {
            "amount": float(amount),
            "code": 200,
            "msg": "Successfully modify position margin.",
            "type": kind,
        }

    def history(self, params: Params, now_ms: int) -> list[Json]:
        """Return how the margin of a symbol's isolated positions has changed, oldest first."""
        instrument = self._venue.instrument(params)
        kind = params.optional_integer("type")
        span = Span.of(params, "", now_ms, default=500, most=500)
        changes = [
            each
            for each in self._venue.account.margin_changes
            if each.symbol == instrument.symbol and kind in (None, _type_of(each))
        ]
        numbers = range(len(changes))
        found = page(span, numbers, int, lambda number: changes[number].time_ms)
        return [_row(changes[number], instrument) for number in found]

    def _spare(self, instrument: Instrument) -> Decimal:
        """Return the margin that the position can do without: a profit that is not realised cannot be taken out."""
        account, mark = self._venue.account, instrument.mark.mark
        held = min(account.isolated[instrument.symbol], account.isolated_equity(instrument.symbol, mark))
        return held - account.position_margin(instrument.symbol, mark)


def _type_of(change: MarginChange) -> int:
    return _ADD if change.amount > 0 else _REDUCE


def _row(change: MarginChange, instrument: Instrument) -> Json:
    return {
        "symbol": change.symbol,
        "type": _type_of(change),
        "deltaType": change.kind,
        "amount": plain(abs(change.amount)),
        "asset": instrument.rules.quote_asset,
        "time": change.time_ms,
        "positionSide": "BOTH",
    }


def _tell(venue: Venue, instrument: Instrument, reason: str, now_ms: int) -> None:
    if venue.user.is_heard:
        update = payloads.margin_account_update(venue.account, instrument, reason, now_ms)
        venue.user.publish("ACCOUNT_UPDATE", payloads.encode(update), now_ms)
