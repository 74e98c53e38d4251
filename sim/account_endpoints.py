"""The account over REST: positions, balances, history, listen keys.

Source: facts section 3.4, 7.1.
"""

from sim import payloads
from sim.account_payloads import (
    account_body,
    balances,
    modes,
    position_risk_v2,
    position_v2,
    position_v3,
)
from sim.auth import Security
from sim.errors import refusal
from sim.instrument import Instrument
from sim.margin_endpoints import MarginEndpoints
from sim.params import Params
from sim.payloads import Json
from sim.queries import Span, page, recent
from sim.rest import Endpoint, Routes
from sim.settings_endpoints import SettingsEndpoints
from sim.venue import Venue


class AccountEndpoints:
    """Answers what concerns the account rather than a single order."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._asset = next(rules.quote_asset for rules in venue.account.rules.values())

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        signed, key = Security.SIGNED, Security.KEY
        v1, v3 = "/fapi/v1", "/fapi/v3"
        return {
            **SettingsEndpoints(self._venue).routes(),
            **MarginEndpoints(self._venue).routes(),
            ("GET", f"{v3}/positionRisk"): Endpoint(self.position_risk, signed, 5),
            ("GET", f"{v3}/balance"): Endpoint(self.balance, signed, 5),
            ("GET", "/fapi/v2/balance"): Endpoint(self.balance, signed, 5),
            ("GET", "/fapi/v2/positionRisk"): Endpoint(self.all_position_risks, signed, 5),
            ("GET", f"{v3}/account"): Endpoint(self.account, signed, 5),
            ("GET", "/fapi/v2/account"): Endpoint(self.account_v2, signed, 5),
            ("GET", f"{v1}/userTrades"): Endpoint(self.user_trades, signed, 5),
            ("GET", f"{v1}/income"): Endpoint(self.income, signed, 30),
            ("POST", f"{v1}/listenKey"): Endpoint(self.open_key, key),
            ("PUT", f"{v1}/listenKey"): Endpoint(self.keep_key, key),
            ("DELETE", f"{v1}/listenKey"): Endpoint(self.close_key, key),
            ("GET", "/sapi/v1/account/apiRestrictions"): Endpoint(self.key_rights, signed),
        }

    def position_risk(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002  all handlers are called alike
        """Return the symbols with a position or open orders, and no others."""
        account, marks = self._venue.account, self._venue.desk.marks
        return [
            payloads.position_risk(account, instrument, marks)
            for instrument in self._venue.chosen(params)
            if instrument.open or account.positions[instrument.symbol].lots
        ]

    def all_position_risks(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return all symbols, flat ones too, as version 2 does."""
        return [position_risk_v2(self._venue, instrument) for instrument in self._venue.chosen(params)]

    def balance(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return the wallet's balances."""
        return balances(self._venue, self._asset)

    def account(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return totals, assets, and the positions that exist."""
        rows = [position_v3(self._venue, instrument) for instrument in self._active()]
        return account_body(self._venue, self._asset) | {"positions": rows}

    def account_v2(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return modes, totals, assets, and all symbols, flat ones too."""
        venue = self._venue
        rows = [position_v2(venue, instrument) for instrument in venue.instruments.values()]
        return modes(venue) | account_body(venue, self._asset) | {"positions": rows}

    def user_trades(self, params: Params, now_ms: int) -> list[Json]:
        """Return fills of a symbol, oldest first."""
        instrument = self._venue.instrument(params)
        span = Span.of(params, "fromId", now_ms, default=500, most=1000)
        order_id = params.optional_integer("orderId")
        fills = (
            fill
            for fill in recent(self._venue.ledger.fills, now_ms)
            if fill.symbol == instrument.symbol and order_id in (None, fill.order_id)
        )
        found = page(span, fills, lambda fill: fill.trade_id, lambda fill: fill.time_ms)
        return [payloads.user_trade(fill, instrument) for fill in found]

    def income(self, params: Params, now_ms: int) -> list[Json]:
        """Return movements of the wallet, oldest first; with ``page`` in pages of ``limit``, counted from 1."""
        symbols = {instrument.symbol for instrument in self._venue.chosen(params)}
        if "symbol" not in params:
            symbols.add("")  # a transfer belongs to no symbol
        span = Span.of(params, "", now_ms, default=100, most=1000, is_bounded=False)
        number, kind = params.optional_integer("page"), params.text_or("incomeType", "")
        if number == 0:
            raise refusal(-1130, "page")
        rows = (
            row
            for row in recent(self._venue.ledger.cash, now_ms)
            if row.symbol in symbols and kind in ("", row.kind)
        )
        found = page(span, rows, lambda row: row.transaction_id, lambda row: row.time_ms, number)
        return [payloads.income(row, self._asset) for row in found]

    def open_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return the listen key, valid for 60 minutes from now."""
        return {"listenKey": self._venue.user.open(now_ms)}

    def keep_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Extend the listen key; -1125 if there is none."""
        return {"listenKey": self._venue.user.keep_alive(now_ms)}

    def close_key(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """End the listen key for all who use it."""
        self._venue.user.close(now_ms)
        return {}

    def key_rights(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return what the API key may do."""
        return {
            "ipRestrict": True,  # loopback only
            "createTime": 1700000000000,
            "enableReading": True,
            "enableWithdrawals": self._venue.options.can_withdraw,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": True,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": False,
            "enablePortfolioMarginTrading": False,
        }

    def _active(self) -> list[Instrument]:
        positions = self._venue.account.positions
        return [
            instrument
            for instrument in self._venue.instruments.values()
            if instrument.open or positions[instrument.symbol].lots
        ]
