"""What the exchange tells of our account: order updates, fills, funding, and changes made by others."""

import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from core import wire
from core.cash import CashEntry
from core.client_ids import is_ours
from core.context import SymbolContext
from core.events import EventBus, FillEvent, RiskEvent, RiskKind
from core.execution import ExecutionEngine
from core.live_order import LiveOrder
from core.model import Fill
from utils.clock import Clock

log = logging.getLogger(__name__)


FORCED_PREFIXES = ("autoclose-", "adl_autoclose", "settlement_autoclose-")
"""Client ids of orders that the exchange makes itself: liquidation, auto-deleveraging, settlement."""


class FillBook:
    """Counts each fill once, from whichever channel it comes, and tells those who watch.

    ``on_foreign`` is called with the id of an order that has traded and is neither ours nor of the exchange itself.
    """

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        on_fill: Callable[[str], None],
        on_foreign: Callable[[SymbolContext, int], None],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._on_fill = on_fill
        self._on_foreign = on_foreign

    def count(self, context: SymbolContext, fill: Fill) -> bool:
        """Add the fill to the ledger and the position; return False if it was there already."""
        before, was_reset = context.ledger.position_quantity, context.ledger.ids_began_anew
        order = self._order_of(context, fill)
        is_of_this_run = order is not None and order.level > 0  # one that was found has none
        if not context.ledger.apply(fill, is_of_this_run=is_of_this_run):
            return False
        if context.ledger.ids_began_anew and not was_reset:
            log.error(
                "%s: the exchange gives the ids of trades anew (%d): it was reset, look at the account",
                *(context.symbol, fill.trade_id),
            )
        context.state.position = context.ledger.position_quantity
        if order is not None:
            lots, rest = context.rules.whole_lots(fill.quantity + order.counted_rest)
            context.orders.count(order, lots, self._clock.monotonic_ns(), rest, fill.time_ms)
        self._say(context, fill, order)
        self._bus.publish(FillEvent(fill, order.level if order is not None else 0))
        if order is None and not is_ours(fill.client_id) and not fill.client_id.startswith(FORCED_PREFIXES):
            self._audit_foreign(context, fill, before)
        self._on_fill(context.symbol)
        return True

    @staticmethod
    def _order_of(context: SymbolContext, fill: Fill) -> LiveOrder | None:
        """Return the order that was filled; by its number only where its name is not told.

        Numbers are given anew after a reset of the exchange: one of ours may be a stranger's then.
        """
        if fill.client_id:
            return context.orders.find(fill.client_id)
        return context.orders.by_order_id(fill.order_id)

    def _audit_foreign(self, context: SymbolContext, fill: Fill, before: Decimal) -> None:
        """Leave a line about a trade that somebody else made on our position."""
        text = (
            f"position {before:f} -> {context.ledger.position_quantity:f} by a trade that is not ours:"
            f" {fill.side.lower()} {fill.quantity:f} at {fill.price:f}, trade {fill.trade_id},"
            f" order {fill.order_id} {fill.client_id}"
        )
        log.warning("%s: %s", context.symbol, text.rstrip())
        self._bus.publish(
            RiskEvent(context.symbol, RiskKind.FOREIGN_TRADE, fill.price * fill.quantity, text.rstrip())
        )
        self._on_foreign(context, fill.order_id)

    def _say(self, context: SymbolContext, fill: Fill, order: LiveOrder | None) -> None:
        whose = f"level {order.level}" if order is not None else f"not a quote of ours: {fill.client_id}"
        log.info(
            "%s: filled %s %s at %s (%s); position %s",
            context.symbol,
            fill.side.lower(),
            fill.quantity,
            fill.price,
            whose,
            f"{context.ledger.position_quantity:f}",
        )


class UserEvents:
    """Applies the events of the user data stream to orders and ledger.

    ``on_doubt`` is called with a reason when an event shows that something is not known here and the exchange must be
    asked; ``on_trade`` with each trade that is told of; ``on_forced`` with the symbol, a reason and the trade's time
    (None if there is no trade yet) when the exchange has liquidated, deleveraged or settled the position;
    ``on_key_expired`` when the listen key has died and the stream will stay silent; ``on_config`` with what somebody
    has changed of how the account is set up; ``on_cash`` with what has moved the wallet besides trades.

    Source: binance-futures user data streams.
    """

    def __init__(
        self,
        contexts: Mapping[str, SymbolContext],
        execution: ExecutionEngine,
        fills: FillBook,
        *,
        on_doubt: Callable[[str], None],
        on_trade: Callable[[Fill], None],
        on_forced: Callable[[str, str, int | None], None],
        on_key_expired: Callable[[], None],
        on_config: Callable[[str], None],
        on_cash: Callable[[CashEntry], None],
    ) -> None:
        self._contexts = contexts
        self._execution = execution
        self._fills = fills
        self._on_doubt = on_doubt
        self._on_trade = on_trade
        self._on_forced = on_forced
        self._on_key_expired = on_key_expired
        self._on_config = on_config
        self._on_cash = on_cash
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "ORDER_TRADE_UPDATE": self._order_update,
            "ACCOUNT_UPDATE": self._account_update,
            "ACCOUNT_CONFIG_UPDATE": self._config_update,
            "MARGIN_CALL": self._margin_call,
            "listenKeyExpired": self._key_expired,
        }

    def receive(self, message: str | bytes) -> None:
        """Apply one message; what cannot be read is never fatal, but leads to asking the exchange."""
        try:
            event = msgspec.json.decode(message)
            event = event.get("data", event)
            handler = self._handlers.get(event.get("e", ""))
            if handler is not None:
                handler(event)
        except (*wire.UNREADABLE, AttributeError, KeyError, TypeError) as error:
            log.warning(
                "an account message could not be read (%s); asking the exchange", type(error).__name__
            )
            self._on_doubt("an account message could not be read")

    def _order_update(self, event: dict[str, Any]) -> None:
        update = event["o"]
        context = self._contexts.get(update["s"])
        if context is None:
            return
        self._update_order(context, update)
        fill = wire.order_event_fill(update, context.rules.quote_asset)
        if fill is not None:
            self._fills.count(context, fill)
            self._on_trade(fill)
        if update["c"].startswith(FORCED_PREFIXES):
            reason = f"the exchange itself traded the position ({update['c']})"
            self._on_forced(context.symbol, reason, fill.time_ms if fill is not None else None)

    def _update_order(self, context: SymbolContext, update: dict[str, Any]) -> None:
        order = context.orders.find(update["c"])
        if order is not None:
            context.orders.echo(order)
            context.prove_stream()
            was_ended = order.status.is_terminal
            self._execution.report(context, order, wire.order_event_report(update, context.rules))
            if was_ended and not order.status.is_terminal:
                self._on_doubt(f"{context.symbol}: order {update['c']} was believed not to exist, but rests")
        elif is_ours(update["c"]):
            report = wire.order_event_report(update, context.rules)
            if update.get("R"):
                context.orders.note_taker(report)
            elif not report.status.is_terminal and not self._execution.is_strangers(report):
                self._on_doubt(
                    f"{context.symbol}: order {update['c']} carries our prefix but is not known here"
                )

    def _account_update(self, event: dict[str, Any]) -> None:
        if event["a"]["m"] == "MARGIN_TYPE_CHANGE":
            self._on_config("margin type")
        for entry in wire.cash_event(event):
            self._on_cash(entry)

    def _config_update(self, event: dict[str, Any]) -> None:
        if setup := event.get("ac"):
            self._on_config(f"leverage of {setup['s']} {setup['l']}")
        else:
            self._on_config(f"multi-assets mode {'on' if event['ai']['j'] else 'off'}")

    def _margin_call(self, _event: dict[str, Any]) -> None:
        log.error("the exchange sent a margin call: reduce the position or add margin")

    def _key_expired(self, _event: dict[str, Any]) -> None:
        self._on_key_expired()
