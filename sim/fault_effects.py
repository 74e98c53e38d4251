"""What faults do to the exchange itself: symbols that halt, accounts that are wiped, keys that end, orders of others.

Source: facts section 4.2 (client ids that the exchange makes), 7 (events), 12 (faults worth having).
"""

# ruff: noqa: ARG001  all effects are called alike

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from typing import Any

from msgspec import structs

from sim import payloads
from sim.auth import Gatekeeper
from sim.errors import ApiError
from sim.fault_replies import error_reply, json_reply
from sim.fault_rules import FaultError, Rule
from sim.filters import check_quantity
from sim.instrument import Instrument
from sim.layers import Layers, Undo, together
from sim.margin_endpoints import change_margin_type
from sim.market import DepthChange, MarketEvent
from sim.messages import Request, Response
from sim.order_entry import find_order
from sim.orders import Order, OrderSpec, OrderType, Side, TimeInForce
from sim.params import Params, decode_json, params_of_object
from sim.regime import TRADING, factors
from sim.rules import plain
from sim.standing import Restriction
from sim.venue import Venue

_AUTO_IDS = {"adl": "adl_autoclose", "liquidation": "autoclose-{}", "settlement": "settlement_autoclose-{}"}
_BPS = 10_000
_NEVER_MS = 2**62
_MS_PER_S = 1000


@dataclass(slots=True)
class VenueStage:
    """The exchange as faults see it; ``happen`` lets a market event happen now."""

    venue: Venue
    gatekeeper: Gatekeeper
    happen: Callable[[MarketEvent], None]
    layers: Layers = field(default_factory=Layers)

    def check(self, rule: Rule) -> None:
        """Return if this exchange can do what the fault says; raises FaultError."""
        symbol = rule.target.symbol
        if symbol and rule.kind.name in _EFFECTS and symbol not in self.venue.instruments:
            raise FaultError(f"{rule.where}: the exchange has no symbol {symbol}, only {self._symbols()}.")
        if rule.kind.name == "symbol-rules":
            self._check_rules(rule)

    def _check_rules(self, rule: Rule) -> None:
        for instrument in self.instruments(rule):
            try:
                factors(instrument.rules, replace(instrument.rules, **_changes(rule, 0)))
            except ValueError as error:
                raise FaultError(
                    f"{rule.where}: {error}: choose a multiple, or name another symbol."
                ) from None

    def _symbols(self) -> str:
        return ", ".join(self.venue.instruments)

    def strike(self, rule: Rule, now_ms: int) -> Undo | None:
        """Do what a fault of time does; return what undoes it at its end, if it has one."""
        return _EFFECTS[rule.kind.name](self, rule, now_ms)

    def intervene(self, rule: Rule, params: Params, request: Request, now_ms: int) -> Response | None:
        """Do what a fault of a request does beforehand; return the answer if it replaces the exchange's own."""
        return _INTERVENTIONS[rule.kind.name](self, rule, params, request, now_ms)

    def instruments(self, rule: Rule) -> list[Instrument]:
        """Return the instruments that a fault strikes: that of its symbol, or all."""
        symbol = rule.target.symbol
        return [each for each in self.venue.instruments.values() if symbol in ("", each.symbol)]

    def first(self, rule: Rule) -> Instrument | None:
        """Return the one instrument that a fault strikes, if the exchange carries it."""
        return next(iter(self.instruments(rule)), None)


def shift_market(stage: VenueStage, instrument: Instrument, bps: float, now_ms: int) -> None:
    """Let the symbol's market stand ``bps`` higher from now on, the present quote included."""
    quote = instrument.quote
    if quote is None:
        return
    was = instrument.regime.shift_ticks
    unmoved = structs.replace(
        quote,
        time_ms=now_ms,
        bid_ticks=quote.bid_ticks - was if quote.bid_ticks else 0,
        ask_ticks=quote.ask_ticks - was if quote.ask_ticks else 0,
    )
    instrument.shown.raised += 1  # the book is another one now
    instrument.regime.shift(round((quote.bid_ticks + quote.ask_ticks) / 2 * bps / _BPS))
    stage.happen(DepthChange(now_ms, instrument.symbol, quote.update_id, (), (), snapshot=True))
    stage.happen(unmoved)


def close_position(
    stage: VenueStage, instrument: Instrument, fraction: float, reason: str, now_ms: int
) -> None:
    """Let the exchange close so much of the position at the touch, under a client id of its own."""
    lots = stage.venue.account.positions[instrument.symbol].lots
    side = Side.SELL if lots > 0 else Side.BUY
    closed = max(1, round(abs(lots) * fraction))
    if lots and instrument.touch(is_buy=side is Side.BUY):
        client_id = _AUTO_IDS[reason].format(now_ms)
        stage.venue.desk.foreign_fill(instrument, side, closed, now_ms, client_id)


def _halt(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[str]) -> None:
            instrument.regime.enter(held[-1])
            _forget_depth(instrument)

        return stage.layers.lay(
            ("status", instrument.symbol), value=rule.values["status"], own=TRADING, show=show
        )

    return together([lay(each) for each in stage.instruments(rule)])


def _unlist(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[bool]) -> None:
            instrument.regime.list_it(is_listed=held[-1])
            _forget_depth(instrument)

        return stage.layers.lay(("listing", instrument.symbol), value=False, own=True, show=show)

    return together([lay(each) for each in stage.instruments(rule)])


def _forget_depth(instrument: Instrument) -> None:
    """Let nothing be known of the levels behind the touch, because changes of them are not heard."""
    instrument.matcher.on_depth((), (), snapshot=True)


def _thin(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[int]) -> None:
            instrument.regime.thin(held[-1])
            _forget_levels(stage, instrument)

        return stage.layers.lay(("thin", instrument.symbol), value=rule.values["factor"], own=1, show=show)

    return together([lay(each) for each in stage.instruments(rule)])


def _forget_levels(stage: VenueStage, instrument: Instrument) -> None:
    """Let what is behind the touch be modelled by the touch as it is from now on."""
    instrument.shown.forget()
    if (quote := instrument.quote) is not None:
        stage.happen(DepthChange(quote.time_ms, instrument.symbol, quote.update_id, (), (), snapshot=True))


def _offset_mark(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[float]) -> None:
            instrument.mark.offset_bps = held[-1]

        return stage.layers.lay(("mark", instrument.symbol), value=rule.values["bps"], own=0.0, show=show)

    return together([lay(each) for each in stage.instruments(rule)])


def _restrict(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    code, symbol = int(rule.values["code"]), rule.target.symbol

    def show(until_ms: Sequence[int]) -> None:
        stage.venue.standing.restrict(Restriction(code, symbol, until_ms[-1]))

    return stage.layers.lay(("restriction", code, symbol), value=_NEVER_MS, own=0, show=show)


def _wipe(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    venue = stage.venue
    venue.desk.forget()
    venue.ledger.forget()
    for name, position in venue.account.positions.items():
        venue.account.positions[name] = type(position)()
    venue.account.isolated.clear()
    venue.account.wallet = rule.values["wallet"]


def _expire_key(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    if rule.values["notice"]:
        stage.venue.user.close(now_ms)
    else:
        stage.venue.user.expires_ms = None


def _place_foreign(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    instrument, values = stage.first(rule), rule.values
    if instrument is None or instrument.quote is None:
        return
    away = 1 - values["away_bps"] / _BPS if values["side"] is Side.BUY else 1 + values["away_bps"] / _BPS
    spec = OrderSpec(
        client_order_id=_free_client_id(instrument, values["new_client_id"], now_ms),
        side=values["side"],
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price_ticks=round((instrument.quote.bid_ticks + instrument.quote.ask_ticks) / 2 * away),
        lots=check_quantity(instrument.rules, values["quantity"], OrderType.LIMIT),
        reduce_only=values["reduce_only"],
    )
    stage.venue.desk.place(instrument, spec, now_ms)


def _free_client_id(instrument: Instrument, prefix: str, now_ms: int) -> str:
    """Return an id that no open order has, however many faults strike within one millisecond."""
    tails = (f"-{now_ms}-{number}" for number in count(len(instrument.open)))
    ids = (prefix[: 36 - len(tail)] + tail for tail in tails)
    return next(each for each in ids if each not in instrument.by_client)


def _fill_foreign(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    instrument, side = stage.first(rule), rule.values["side"]
    if instrument is not None and instrument.touch(is_buy=side is Side.BUY):
        lots = check_quantity(instrument.rules, rule.values["quantity"], OrderType.LIMIT)
        stage.venue.desk.foreign_fill(instrument, side, lots, now_ms)


def _close_position(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    for instrument in stage.instruments(rule):
        close_position(stage, instrument, rule.values["fraction"], rule.values["reason"], now_ms)


def _post_rules(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    changes = _changes(rule, now_ms)

    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[dict[str, Any]]) -> None:
            instrument.regime.post(**dict(ChainMap(*reversed(held))))

        return stage.layers.lay(("rules", instrument.symbol), value=changes, own={}, show=show)

    return together([lay(each) for each in stage.instruments(rule)])


def _changes(rule: Rule, now_ms: int) -> dict[str, Any]:
    """Return the filters that a fault sets, by their names in the rules of a symbol."""
    changes = {name: value for name, value in rule.values.items() if value is not None}
    if (seconds := changes.pop("delivery_in_s", None)) is not None:
        changes["delivery_ms"] = now_ms + round(seconds * _MS_PER_S)
    return changes


def _transfer(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    venue, amount = stage.venue, rule.values["amount"]
    instrument = stage.first(rule)
    if instrument is None:
        return
    venue.account.wallet += amount
    venue.ledger.add_cash("", "TRANSFER", amount, now_ms)
    if venue.user.is_heard:
        wallet = plain(venue.account.wallet)
        balance = {
            "a": instrument.rules.quote_asset,
            "wb": wallet,
            "cw": plain(venue.account.cross_wallet),
            "bc": plain(amount),
        }
        reason = "DEPOSIT" if amount > 0 else "WITHDRAW"
        update = {"m": reason, "B": [balance], "P": []}
        event = {"e": "ACCOUNT_UPDATE", "E": now_ms, "T": now_ms, "a": update}
        venue.user.publish("ACCOUNT_UPDATE", payloads.encode(event), now_ms)


def _set_leverage(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    venue, wanted = stage.venue, rule.values["leverage"]
    for instrument in stage.instruments(rule):
        leverage = min(wanted, instrument.rules.max_leverage)
        venue.account.leverages[instrument.symbol] = leverage
        if venue.user.is_heard:
            event = payloads.leverage_event(instrument.symbol, leverage, now_ms)
            venue.user.publish("ACCOUNT_CONFIG_UPDATE", payloads.encode(event), now_ms)


def _set_margin_type(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    for instrument in stage.instruments(rule):
        change_margin_type(stage.venue, instrument, rule.values["margin_type"], now_ms)


def _hedge(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def show(held: Sequence[bool]) -> None:
        stage.venue.hedge_mode = held[-1]

    return stage.layers.lay("hedge", value=True, own=stage.venue.hedge_mode, show=show)


def _expire_post_only(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[bool]) -> None:
            instrument.regime.expires_post_only = held[-1]

        return stage.layers.lay(("post-only", instrument.symbol), value=True, own=False, show=show)

    return together([lay(each) for each in stage.instruments(rule)])


def _mix_assets(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def show(held: Sequence[bool]) -> None:
        stage.venue.account.multi_assets = held[-1]

    return stage.layers.lay("assets", value=True, own=stage.venue.account.multi_assets, show=show)


def _skew(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def show(held: Sequence[int]) -> None:
        stage.venue.skew_ms = stage.gatekeeper.skew_ms = held[-1]

    return stage.layers.lay("clock", value=rule.values["offset_ms"], own=0, show=show)


def _move(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    for instrument in stage.instruments(rule):
        shift_market(stage, instrument, rule.values["bps"], now_ms)


def _set_funding(stage: VenueStage, rule: Rule, now_ms: int) -> Undo:
    def lay(instrument: Instrument) -> Undo:
        def show(held: Sequence[Decimal | None]) -> None:
            instrument.funding.imposed_rate = held[-1]

        return stage.layers.lay(
            ("funding", instrument.symbol), value=rule.values["rate"], own=None, show=show
        )

    return together([lay(each) for each in stage.instruments(rule)])


def _use_weight(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    stage.venue.limits.weight.add(rule.values["weight"], now_ms)


def _use_orders(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    for window in (stage.venue.limits.orders_10s, stage.venue.limits.orders_1m):
        window.add(rule.values["orders"], now_ms)


def _expire_orders(stage: VenueStage, rule: Rule, now_ms: int) -> None:
    for instrument in stage.instruments(rule):
        stage.venue.desk.expire_all(instrument, now_ms)


def _guarded(effect: Callable[[VenueStage, Rule, int], Undo | None]) -> Callable[..., Undo | None]:
    """Return the effect; what the exchange refuses even to a fault does not happen."""

    def guarded(stage: VenueStage, rule: Rule, now_ms: int) -> Undo | None:
        try:
            return effect(stage, rule, now_ms)
        except ApiError:
            return None

    return guarded


_EFFECTS: Mapping[str, Callable[[VenueStage, Rule, int], Undo | None]] = {
    "halt": _halt,
    "symbol-missing": _unlist,
    "restrict": _restrict,
    "thin-book": _thin,
    "mark-offset": _offset_mark,
    "wipe-account": _wipe,
    "expire-listen-key": _expire_key,
    "foreign-order": _guarded(_place_foreign),
    "foreign-fill": _guarded(_fill_foreign),
    "adl": _close_position,
    "symbol-rules": _post_rules,
    "transfer": _transfer,
    "leverage": _set_leverage,
    "margin-type": _guarded(_set_margin_type),
    "hedge-mode": _hedge,
    "post-only-expires": _expire_post_only,
    "multi-assets-mode": _mix_assets,
    "clock-skew": _skew,
    "move-market": _move,
    "funding-rate": _set_funding,
    "used-weight": _use_weight,
    "used-orders": _use_orders,
    "expire-orders": _expire_orders,
}


def _ignore_setter(
    stage: VenueStage, rule: Rule, params: Params, request: Request, now_ms: int
) -> Response | None:
    if not request.path.endswith("/leverage"):
        return json_reply({"code": 200, "msg": "success"})
    leverage = params.optional_integer("leverage") or 0
    symbol = params.text_or("symbol", "")
    return json_reply({"leverage": leverage, "maxNotionalValue": "10000000", "symbol": symbol})


def _skip_cancels(
    stage: VenueStage, rule: Rule, params: Params, request: Request, now_ms: int
) -> Response | None:
    instrument = stage.venue.instruments.get(params.text_or("symbol", ""))
    if instrument is None:
        return None
    orders = list(instrument.open.values())
    for order in orders[: max(0, len(orders) - rule.values["orders"])]:
        stage.venue.desk.cancel(instrument, order, now_ms)
    return json_reply({"code": 200, "msg": "The operation of cancel all open order is done."})


def _fill_first(
    stage: VenueStage, rule: Rule, params: Params, request: Request, now_ms: int
) -> Response | None:
    for instrument, order in _named(stage.venue, params):
        if order.is_open:
            lots = max(1, round(order.remaining_lots * rule.values["fraction"]))
            stage.venue.desk.fill_resting(instrument, order, lots, now_ms)
            break
    return None


def _named(venue: Venue, params: Params) -> Iterator[tuple[Instrument, Order]]:
    """Yield the orders that a request for one order, or for several, names."""
    for each in (params, *_elements(params)):
        instrument = venue.instruments.get(each.text_or("symbol", params.text_or("symbol", "")))
        if instrument is None or not ("orderId" in each or "origClientOrderId" in each):
            continue
        try:
            order = find_order(venue, instrument, each)
        except ApiError:
            continue
        if order is not None:
            yield instrument, order


def _elements(params: Params) -> Iterator[Params]:
    for name, key in (("orderIdList", "orderId"), ("origClientOrderIdList", "origClientOrderId")):
        ids = decode_json(params.text_or(name, ""))
        if isinstance(ids, list):
            yield from (Params({key: str(each)}) for each in ids)
    batch = decode_json(params.text_or("batchOrders", ""))
    if isinstance(batch, list):
        yield from (params_of_object(each) for each in batch if isinstance(each, dict))


def _refuse_amendment(
    stage: VenueStage, rule: Rule, params: Params, request: Request, now_ms: int
) -> Response | None:
    return error_reply(400, -5043, "A pending modification already exists for this order.")


_INTERVENTIONS: Mapping[str, Callable[[VenueStage, Rule, Params, Request, int], Response | None]] = {
    "ignore-setter": _ignore_setter,
    "cancel-all-skips": _skip_cancels,
    "fill-first": _fill_first,
    "pending-amendment": _refuse_amendment,
}


def as_amount(value: Any) -> Decimal:
    """Return a number of a scenario as an exact decimal."""
    return Decimal(str(value))
