"""What the daemon says of itself, held against the truth: that it is flat, what it was told, how an order ended."""

import re
from collections import Counter
from decimal import Decimal
from typing import Any

from core.context import SymbolContext
from core.engine import Engine
from core.events import DepthEvent, EngineEvent, EngineKind, OrderEvent, OrderKind, RiskEvent, RiskKind
from core.load import Load
from core.market_model import DepthView
from core.model import OrderStatus
from sim.fault_events import decoded
from sim.orders import Order
from test.daemon import Sent
from test.simulation.facts import HELD_UP, LYING_READS, OTHER_HANDS, Facts
from test.simulation.operating import UNEXPLAINED
from utils.http import HttpResponse

PLANTED = "planted"
_RANK = {
    "NEW": 1,
    "PARTIALLY_FILLED": 2,
    "FILLED": 3,
    "CANCELED": 3,
    "EXPIRED": 3,
    "EXPIRED_IN_MATCH": 3,
}
_RANK_OF = {
    OrderStatus.PENDING_NEW: 0,
    OrderStatus.IN_DOUBT: 0,
    OrderStatus.ACTIVE: 1,
    OrderStatus.PARTIALLY_FILLED: 2,
}
_LONG = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{48,}")
_SHAPE = bytes(ord("a") if chr(each).isalnum() and each < 128 else each for each in range(256))
_LONG_SHAPE = b"a" * 48
"""What each match of ``_LONG`` has in it once letters and digits are alike: found in a tenth of the time."""
"""So long are signatures and listen keys, and nothing else that is written."""
_LEAST_QUOTE = 100
"""Less than this is dust: the exchange takes no order for it."""
_LEVELS = 20
_FORCED = ("autoclose-", "adl_autoclose", "settlement_autoclose-")
_HALTED_WITHIN_S = 20.0
_WRONG_FOR_S = 20.0
_TWICE = 2


class ClaimRules:
    """INV-10, -11, -12, -13, -17, -18 and -32."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._engine: Engine | None = None
        self._not_found: Counter[str] = Counter()
        self._secrets: set[str] = set()
        self._forced_s: float | None = None
        self._began_s = 0.0
        self._wrong_s: float | None = None
        self._alarmed_s = -1e9
        self._paused_s: float | None = None
        self._unpaused_s = 0.0

    def follow(self, engine: Engine) -> None:
        """Follow a daemon that has just been started."""
        self._engine, self._wrong_s, self._paused_s = engine, None, None
        self._unpaused_s = self._began_s = self._facts.now_s
        engine.bus.subscribe(self._risk, RiskEvent, name="claims of risk")
        engine.bus.subscribe(self._order, OrderEvent, name="claims of orders")
        engine.bus.subscribe(self._worker, EngineEvent, name="claims of workers")
        if self._facts.plan.keeps_book:
            engine.bus.subscribe(self._depth, DepthEvent, name="claims of depth")
        stream = engine.recovery.stream
        believe = stream._on_message

        def receive(message: str | bytes) -> None:
            believe(message)
            self.inv_10_what_was_told_is_known(engine.contexts[0], message)

        stream._on_message = receive

    # --- what passes ------------------------------------------------------------------------------------------

    def sending(self, sent: Sent) -> None:
        """Remember what has to stay secret of a request."""
        self._secrets.update(_LONG.findall(sent.query))

    def replied(self, sent: Sent, reply: HttpResponse) -> None:
        """Count the answers that do not know an order; remember listen keys."""
        if sent.path == "/fapi/v1/listenKey":
            self._secrets.update(_LONG.findall(reply.body.decode(errors="replace")))
        if (
            sent.path == "/fapi/v1/order"
            and sent.method == "GET"
            and reply.status == 400
            and b"-2013" in reply.body
        ):
            name = sent.query.partition("origClientOrderId=")[2].partition("&")[0]
            self._not_found[name] += 1

    def any_order_changed(self, order: Order, execution: str) -> None:
        """Note that the exchange itself has traded the position."""
        if execution == "TRADE" and order.client_order_id.startswith(_FORCED):
            self._forced_s = self._facts.now_s

    def look(self) -> None:
        """Look at time passing."""
        if self._facts.operator.latch.path.exists():
            self._forced_s = None  # also where the daemon that halted has ended before anybody looked
        context = self._facts.context
        if context is None:
            return
        self.inv_11_trades_explain_the_position()
        self.inv_18_forced_trade_halts()
        self.inv_12_nothing_is_quoted_on_a_wrong_position()
        self.inv_32_halt_is_told()
        self.inv_39_no_subscriber_fails()
        self.inv_03_sums_are_those_of_the_orders()

    def inv_03_sums_are_those_of_the_orders(self) -> None:
        """INV-03: what limits are compared with is what the orders add up to, without exception."""
        context = self._facts.context
        assert context is not None
        if context.orders.load != Load.of(context.orders.living()):
            self._facts.violated("INV-03", "the sums over the orders are not what the orders make")

    def _risk(self, event: RiskEvent) -> None:
        if event.kind in (RiskKind.BREACH, RiskKind.HELD):
            self._alarmed_s = self._facts.now_s
        if event.kind is RiskKind.FLAT:
            self.inv_17_flat_is_flat()

    def _worker(self, event: EngineEvent) -> None:
        if event.kind in (EngineKind.WORKER_RESTARTED, EngineKind.WORKER_GAVE_UP):
            self.inv_39_no_worker_fails(event)

    def _order(self, event: OrderEvent) -> None:
        if event.kind in (OrderKind.NEVER_EXISTED, OrderKind.CANCELLED):
            self.inv_13_absence_is_proven(event)
        elif event.kind is OrderKind.REJECTED:
            self.inv_13_refused_orders_do_not_rest(event)

    def _depth(self, event: DepthEvent) -> None:
        self.inv_06_copy_of_the_book_is_true(event.depth)

    # --- the rules --------------------------------------------------------------------------------------------

    def inv_17_flat_is_flat(self) -> None:
        """INV-17: a position that is said to be closed is closed at the exchange, down to less than an order's worth.

        Not where other hands have traded since it was read, which takes longer while answers are held up, or where
        the exchange's own readings lie.
        """
        facts = self._facts
        read_s = 10.0 if facts.struck(10.0, *HELD_UP) else 1.5
        if facts.struck(read_s, *OTHER_HANDS) or facts.struck(10.0, *LYING_READS):
            return
        instrument = facts.instrument
        lots = facts.world.exchange._venue.account.positions[instrument.symbol].lots
        if abs(instrument.rules.quantity(lots)) * instrument.mark.mark > _LEAST_QUOTE:
            facts.violated("INV-17", f"it is said to be closed, but {lots} lots are held")

    def inv_39_no_worker_fails(self, event: EngineEvent) -> None:
        """INV-39: no worker ends by an error, whatever the network, the disk and the exchange do.

        An error that a mutant has planted is passed over: there it is what comes of it that counts.
        """
        if PLANTED not in event.details:
            self._facts.violated("INV-39", f"{event.kind}: {event.details}")

    def inv_39_no_subscriber_fails(self) -> None:
        """INV-39: whoever is told of facts takes them without an error, rules here too, which would judge nothing."""
        engine = self._facts.world.engine
        if engine is not None and engine.bus.failures:
            failed = [each.name for each in engine.bus.statistics().subscribers if each.failures]
            self._facts.violated("INV-39", f"told of facts, and failed: {', '.join(failed)}")

    def inv_10_what_was_told_is_known(self, context: SymbolContext, message: str | bytes) -> None:
        """INV-10: once an event was read, its order is known to be at least as far as it tells, without exception.

        What cannot be read, or names an order or a status that is unknown, tells nothing; neither do parts of a lot,
        which there are after a change of the step.
        """
        if "ORDER_TRADE_UPDATE" not in str(message):
            return
        update = _update_of(message)
        order = context.orders.find(str(update.get("c", "")))
        told = _RANK.get(str(update.get("X", "")), 0)
        if order is None or not told:
            return
        executed = Decimal(str(update.get("z", 0)))
        lots = context.rules.floor_lots(executed)
        if context.rules.quantity(lots) != executed:
            return
        if _RANK_OF.get(order.status, 3) < told or order.executed_lots < lots:
            self._facts.violated(
                "INV-10",
                f"{order.client_id} was told to be {update['X']} with {lots} lots executed, and stands at"
                f" {order.status} with {order.executed_lots}",
            )

    def inv_13_absence_is_proven(self, event: OrderEvent) -> None:
        """INV-13: an order is held for gone only after two answers that do not know it.

        An end that the exchange has reported needs no proof.
        """
        context = self._facts.context
        order = context.orders.find(event.client_id) if context is not None else None
        if order is None or order.end_is_reported or not order.status.is_terminal:
            return
        if self._not_found[event.client_id] < _TWICE:
            self._facts.violated(
                "INV-13",
                f"{event.client_id} is held for gone ({order.reason}) after"
                f" {self._not_found[event.client_id]} answers that do not know it",
            )

    def inv_13_refused_orders_do_not_rest(self, event: OrderEvent) -> None:
        """INV-13: an order that is held for refused does not rest.

        Whatever is no proof of a refusal leaves the outcome open. Only where the network brings requests twice,
        and some are refused for no reason, the second may be taken behind the back of the first: of that the account
        stream tells.
        """
        is_by_chance = self._facts.struck(0.0, "twice") and self._facts.struck(0.0, "error")
        if event.client_id in self._facts.instrument.by_client and not is_by_chance:
            self._facts.violated(
                "INV-13", f"{event.client_id} is held for refused ({event.details}), and rests"
            )

    def inv_11_trades_explain_the_position(self) -> None:
        """INV-11: no difference of the position is called unexplained unless the exchange has hidden a trade.

        Then a person is asked to look, so it must not be said of what a question for the trades would have told.
        """
        context = self._facts.context
        assert context is not None
        if context.gate._reasons and not self._facts.struck(300.0, *LYING_READS, "hide-trades"):
            said = [each for each in context.gate._reasons.values() if UNEXPLAINED in each]
            if said:
                self._facts.violated("INV-11", f"all trades can be read, but it is said: {said[0]}")

    def inv_18_forced_trade_halts(self) -> None:
        """INV-18: after the exchange itself has traded the position a daemon halts within 20 s of calm.

        It is told of it on the stream, or finds it in the trades, once the position differs or when they are compared
        every 15 s, or, where none ran, when the next one begins; not by readings that lie, nor before it may ask, where
        it had no stream and others have used up the minute's weight.
        """
        facts = self._facts
        if self._forced_s is None:
            return
        if facts.world.state.strategy_paused or facts.struck(60.0, *LYING_READS, "hide-trades"):
            self._forced_s = None
            return
        for_s = facts.now_s - max(
            *(self._forced_s, self._began_s, facts.silent_last_s), facts.struck_last_s(*HELD_UP, *UNHEARD)
        )
        if for_s > _HALTED_WITHIN_S and not facts.struck(61.0 + _HALTED_WITHIN_S, "used-weight"):
            facts.violated("INV-18", f"no halt {for_s:.0f} s after a trade of the exchange's own")

    def inv_12_nothing_is_quoted_on_a_wrong_position(self) -> None:
        """INV-12: the gate is not open for more than 20 s while the position is another than the exchange's.

        It is compared every second, and reconciled when two readings in a row differ. While answers are held up or
        readings lie the clock does not run.
        """
        facts, context = self._facts, self._facts.context
        assert context is not None
        lots = facts.world.exchange._venue.account.positions[facts.world.symbol].lots
        ours = context.ledger.position_quantity / facts.instrument.rules.step_size
        if ours == lots or not context.gate.is_open or not context.ledger.is_open:
            self._wrong_s = None
            return
        self._wrong_s = facts.now_s if self._wrong_s is None else self._wrong_s
        since_s = max(self._wrong_s, facts.struck_last_s(*HELD_UP, *LYING_READS))
        if facts.now_s - since_s > _WRONG_FOR_S:
            facts.violated(
                "INV-12",
                f"quoted for {facts.now_s - self._wrong_s:.0f} s on a position of {ours}, it is {lots}",
            )

    def inv_32_halt_is_told(self) -> None:
        """INV-32: a halt is told of, with its cause, at most 5 s after it pauses the strategy.

        It may have been told of since the last look at a strategy that was not paused: nobody looks in a standstill.
        """
        facts = self._facts
        if not facts.world.state.strategy_paused:
            self._paused_s, self._unpaused_s = None, facts.now_s
            return
        self._paused_s = facts.now_s if self._paused_s is None else self._paused_s
        late = facts.now_s - self._paused_s > 5.0
        if late and self._alarmed_s < self._unpaused_s - 5.0:
            facts.violated("INV-32", "the strategy is paused, and no event has said why")

    def inv_06_copy_of_the_book_is_true(self, view: DepthView) -> None:
        """INV-06: the copy of the book that is kept from its changes has the exchange's twenty best levels of a side.

        Compared whenever both are at one update id. Not where payloads were made to lie, nor in other units: that the
        exchange has gone back to a finer step nobody needs to know at once.
        """
        facts, context = self._facts, self._facts.context
        image, rules = facts.instrument.shown._last, facts.instrument.rules
        if context is None or image.update_id != view.update_id:
            return
        if (context.rules.tick_size, context.rules.step_size) != (rules.tick_size, rules.step_size):
            return
        if facts.struck(300.0, "corrupt-prices", "sequence-reset", "symbol-rules"):
            return
        theirs = tuple(image.bids.best(_LEVELS)), tuple(image.asks.best(_LEVELS))
        if (view.bids[:_LEVELS], view.asks[:_LEVELS]) != theirs:
            facts.violated("INV-06", f"the copy of the book at {view.update_id} is not the exchange's book")

    # --- secrets ----------------------------------------------------------------------------------------------

    def inv_23_text_shows_no_secret(self, text: str) -> None:
        """INV-23: no signature and no listen key of this run is in a text that is shown, without exception."""
        if shown := self._secrets.intersection(_LONG.findall(text)):
            self._facts.violated("INV-23", f"{shown.pop()[:8]}... is shown: {text[:120]}")

    def inv_23_files_show_no_secret(self) -> None:
        """INV-23: nor is one in a file that the daemon has written: metrics, journal, halts, days."""
        for path in sorted(self._facts.world.folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                if _LONG_SHAPE not in content.translate(_SHAPE):
                    continue
                text = content.decode(errors="replace")
                if shown := self._secrets.intersection(_LONG.findall(text)):
                    self._facts.violated("INV-23", f"{shown.pop()[:8]}... stands in {path.name}")


UNHEARD = (
    *("silence", "drop-events", "delay-events", "truncate-events", "half-open-sockets", "close-sockets"),
    *("expire-listen-key", "refuse-handshakes", "unknown-status", "reorder-events"),
)
"""While these are in force the account stream may keep something to itself, or tell it late."""


def _update_of(message: str | bytes) -> dict[str, Any]:
    try:
        event = decoded(message)
        update = event.get("data", event)["o"]
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}
    return update if isinstance(update, dict) else {}
