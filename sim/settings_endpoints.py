"""The account's settings over REST: leverage, position and asset mode, fees, limits.

Source: facts section 3.4.
"""

from sim import payloads
from sim.account_payloads import modes
from sim.auth import Security
from sim.brackets import bracket_rows, max_notional
from sim.errors import refusal
from sim.instrument import Instrument
from sim.margin_endpoints import CROSSED, ISOLATED
from sim.params import Params
from sim.payloads import Json
from sim.rest import Endpoint, Routes
from sim.rules import plain
from sim.venue import Venue

_SUCCESS: Json = {"code": 200, "msg": "success"}


class SettingsEndpoints:
    """Answers what is set for the account or for a symbol, and changes it."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def routes(self) -> Routes:
        """Return the endpoints by method and path."""
        signed, trade, v1 = Security.SIGNED, Security.TRADE, "/fapi/v1"
        return {
            ("GET", f"{v1}/accountConfig"): Endpoint(self.account_config, signed, 5),
            ("GET", f"{v1}/symbolConfig"): Endpoint(self.symbol_config, signed, 5),
            ("POST", f"{v1}/leverage"): Endpoint(self.set_leverage, trade),
            ("GET", f"{v1}/positionSide/dual"): Endpoint(self.position_mode, signed, 30),
            ("POST", f"{v1}/positionSide/dual"): Endpoint(self.set_position_mode, trade),
            ("GET", f"{v1}/multiAssetsMargin"): Endpoint(self.asset_mode, signed, 30),
            ("POST", f"{v1}/multiAssetsMargin"): Endpoint(self.set_asset_mode, trade),
            ("GET", f"{v1}/feeBurn"): Endpoint(self.fee_burn, signed, 30),
            ("POST", f"{v1}/feeBurn"): Endpoint(self.set_fee_burn, trade),
            ("GET", f"{v1}/commissionRate"): Endpoint(self.commission_rate, signed, 20),
            ("GET", f"{v1}/leverageBracket"): Endpoint(self.leverage_bracket, signed),
            ("GET", f"{v1}/apiTradingStatus"): Endpoint(self.trading_status, signed, _status_weight),
            ("GET", f"{v1}/rateLimit/order"): Endpoint(self.order_limits, signed),
        }

    def account_config(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002  all handlers are called alike
        """Return the account's modes."""
        return modes(self._venue) | {"dualSidePosition": self._venue.hedge_mode}

    def symbol_config(self, params: Params, now_ms: int) -> list[Json]:  # noqa: ARG002
        """Return margin type and leverage a symbol."""
        leverages, isolated = self._venue.account.leverages, self._venue.account.isolated
        return [
            {
                "symbol": instrument.symbol,
                "marginType": ISOLATED if instrument.symbol in isolated else CROSSED,
                "isAutoAddMargin": False,
                "leverage": leverages[instrument.symbol],
                "maxNotionalValue": str(max_notional(instrument.rules, leverages[instrument.symbol])),
            }
            for instrument in self._venue.chosen(params)
        ]

    def set_leverage(self, params: Params, now_ms: int) -> Json:
        """Set the symbol's leverage.

        -4028 outside of what it allows, -4161 if an isolated position would need more margin for it, -2027 if position
        and orders are too large for it, -2028 if margin would not suffice.
        """
        venue, instrument, leverage = self._venue, self._venue.instrument(params), params.integer("leverage")
        if not 1 <= leverage <= instrument.rules.max_leverage:
            raise refusal(-4028, leverage)
        changed = leverage != venue.account.leverages[instrument.symbol]
        most = max_notional(instrument.rules, leverage)
        if leverage < venue.account.leverages[instrument.symbol] and _is_held_isolated(venue, instrument):
            raise refusal(-4161)
        if changed and venue.desk.worst_notional(instrument) > most:
            raise refusal(-2027)
        if changed and venue.desk.required_margin(instrument, leverage) > venue.account.cover(
            venue.desk.marks
        ):
            raise refusal(-2028)
        venue.account.leverages[instrument.symbol] = leverage
        if changed and venue.user.is_heard:
            event = payloads.leverage_event(instrument.symbol, leverage, now_ms)
            venue.user.publish("ACCOUNT_CONFIG_UPDATE", payloads.encode(event), now_ms)
        return {"leverage": leverage, "maxNotionalValue": str(most), "symbol": instrument.symbol}

    def position_mode(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return whether the account is in hedge mode."""
        return {"dualSidePosition": self._venue.hedge_mode}

    def set_position_mode(self, params: Params, now_ms: int) -> Json:
        """Switch hedge mode; -4059 if unchanged, -4067 with open orders, -4068 with a position, -4531 if blocked."""
        wanted = params.flag("dualSidePosition")
        if wanted is self._venue.hedge_mode:
            raise refusal(-4059)
        self._venue.standing.check_mode_change(now_ms)
        if any(instrument.open for instrument in self._venue.instruments.values()):
            raise refusal(-4067)
        if any(position.lots for position in self._venue.account.positions.values()):
            raise refusal(-4068)
        self._venue.hedge_mode = wanted
        return _SUCCESS

    def asset_mode(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return whether the account is in multi-assets mode."""
        return {"multiAssetsMargin": self._venue.account.multi_assets}

    def set_asset_mode(self, params: Params, now_ms: int) -> Json:
        """Switch multi-assets mode, which changes nothing for a wallet of one asset; -4171 if unchanged, -4167 with an
        isolated symbol, -4170 with open orders.
        """
        venue, wanted = self._venue, params.flag("multiAssetsMargin")
        if wanted is venue.account.multi_assets:
            raise refusal(-4171)
        if wanted and venue.account.isolated:
            raise refusal(-4167)
        if any(instrument.open for instrument in venue.instruments.values()):
            raise refusal(-4170)
        venue.account.multi_assets = wanted
        if venue.user.is_heard:
            event = {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ai": {"j": wanted}}
            venue.user.publish("ACCOUNT_CONFIG_UPDATE", payloads.encode(event), now_ms)
        return _SUCCESS

    def fee_burn(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return whether fees are paid in BNB."""
        return {"feeBurn": self._venue.account.fees.burns_bnb}

    def set_fee_burn(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Let fees be paid in BNB or not."""
        self._venue.account.fees.burns_bnb = params.flag("feeBurn")
        return _SUCCESS

    def commission_rate(self, params: Params, now_ms: int) -> Json:  # noqa: ARG002
        """Return the fees of a symbol at the account's tier."""
        rules, fees = self._venue.instrument(params).rules, self._venue.account.fees
        maker = plain(fees.rate(rules, maker=True))
        return {
            "symbol": rules.symbol,
            "makerCommissionRate": maker,
            "takerCommissionRate": plain(fees.rate(rules, maker=False)),
            "rpiCommissionRate": maker,
        }

    def leverage_bracket(self, params: Params, now_ms: int) -> str:  # noqa: ARG002
        """Return the leverage brackets as a list; of one symbol perhaps without it, by choice."""
        rows = [bracket_rows(instrument.rules) for instrument in self._venue.chosen(params)]
        if "symbol" in params and self._venue.options.one_bracket_as_object:
            return rows[0]
        return f"[{','.join(rows)}]"

    def order_limits(self, params: Params, now_ms: int) -> list[dict[str, object]]:  # noqa: ARG002
        """Return the account's own ORDERS limits, the short one first."""
        rows = self._venue.limits.as_exchange_info()
        return [row for row in reversed(rows) if row["rateLimitType"] == "ORDERS"]

    def trading_status(self, params: Params, now_ms: int) -> str:
        """Return the indicators of the quantitative rules, a symbol, and whether it is locked."""
        rows = [
            self._venue.conduct.indicator_rows(instrument, now_ms)
            for instrument in self._venue.chosen(params)
        ]
        return f'{{"indicators":{{{",".join(rows)}}},"updateTime":{now_ms}}}'


def _is_held_isolated(venue: Venue, instrument: Instrument) -> bool:
    account, symbol = venue.account, instrument.symbol
    return symbol in account.isolated and bool(account.positions[symbol].lots)


def _status_weight(params: Params) -> int:
    return 1 if "symbol" in params else 10
