"""What we know of our orders against what the exchange knows, whatever becomes of the messages between them.

``python -m test.order_life --steps 1000000 --seed N`` lets chance choose a million things that happen: orders placed,
amended and cancelled with answers that come, come late, or never come; trades, hedges and strangers' cancels; events
of the account stream that come in any order, twice, or not at all; look-ups that lag. After each step nothing may be
known less than before, and nothing may rest that does not count. Every so often all is delivered or looked up, and then
what is known has to equal the exchange's record. A seed always makes the same story.
"""

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from urllib.parse import urlencode

from core import wire
from core.client_ids import ClientIds
from core.live_order import LiveOrder, absence_is_proof
from core.load import Load
from core.model import OrderReport, OrderStatus, Quote, Side
from core.order import LiveOrders
from sim.auth import sign
from sim.limits import LimitSizes
from sim.venue import Options

from .sim_factory import SECRET, START_MS, Reply, Rig

RECV_WINDOW_MS = 5000
LAG_MS = 900
"""A look-up shows what was at most so long ago; the program takes a second for the bound."""
MOST_LIVING = 8
EPISODE_STEPS = 250
"""So often everything is delivered and compared, and a new exchange taken."""
LOOK_UPS_AT_REST = 6
WIDE_LIMITS = LimitSizes(weight_per_minute=10**9, orders_per_ten_seconds=10**9, orders_per_minute=10**9)
NOTHING_CHANGED = {-5027, -5029, -5043, -5026, -5028, -1021, -4014, -4013, -2019, -4016, -4024}
"""Refusals of an amend after which the order rests as it did."""
GONE = {-2013, -2011, -5022}
"""Refusals of an amend after which nobody knows what became of the order."""

Pick = Callable[[int], int]
"""Chance: returns a number from 0 up to, and without, the one it is given."""


@dataclass(slots=True)
class Held:
    """A request that hangs on the way, signed at its time, and whose answer nobody waits for any more."""

    method: str
    query: str


class Story:
    """One exchange, our orders on it, and all that is on the way between the two."""

    def __init__(self) -> None:
        self.rig = Rig(wallet="10000000", options=Options(limits=WIDE_LIMITS))
        info = self.rig.call("GET", "/fapi/v1/exchangeInfo").body
        self.rules = next(wire.symbol_rules(one) for one in info["symbols"] if one["symbol"] == "BTCUSDT")
        self.heard = self.rig.listen_to_user()
        self.orders = LiveOrders()
        self.all: dict[str, LiveOrder] = {}
        self.mail: list[tuple[str, OrderReport]] = []
        """Reports on their way to us: from the account stream, and from late answers."""
        self.held: list[Held] = []
        self.told: dict[str, list[OrderReport]] = {}
        """Everything the exchange has said of an order on its stream, in its own order."""
        self.happened: Counter[str] = Counter()
        self._ids = ClientIds("life", START_MS)
        self._known: dict[str, tuple[int, int, OrderStatus | None]] = {}

    # --- what may happen --------------------------------------------------------------------------------------

    def act(self, name: str, pick: Pick) -> None:
        """Let one thing happen, and look at what must always hold."""
        self.happened[name] += 1
        getattr(self, name)(pick)
        self._listen()
        self.check()

    def place(self, pick: Pick) -> None:
        """Send a new order."""
        if len(self.orders.living()) >= MOST_LIVING:
            return
        side = (Side.BUY, Side.SELL)[pick(2)]
        quote = Quote(side, 1 + pick(3), self._price(side, pick), 2 + pick(4))
        order = self.orders.register(self._ids.mint(), quote, self.now_ns)
        self.all[order.client_id] = order
        params = {
            "symbol": "BTCUSDT",
            "side": side.value,
            "type": "LIMIT",
            "timeInForce": "GTX",
            "price": self.rules.price_text(quote.price_ticks),
            "quantity": self.rules.quantity_text(quote.lots),
            "newClientOrderId": order.client_id,
        }
        reply = self._send("POST", params, pick)
        if reply is None:
            self.orders.doubt(order, "no answer")
        elif reply.status != 200:
            self.orders.end(order, OrderStatus.REJECTED, str(reply.code))
        else:
            self._answered(order, reply, pick, lambda: self.orders.doubt(order, "no answer"))

    def amend(self, pick: Pick) -> None:
        """Amend an order: elsewhere, to another size, across the book, or below what is executed."""
        able = [order for order in self.orders.living() if order.is_amendable]
        if not able:
            return
        order = able[pick(len(able))]
        price_ticks = self._price(order.side, pick) if pick(4) else order.price_ticks
        lots = order.lots if pick(3) == 0 else max(2 + pick(4) + (order.executed_lots if pick(2) else 0), 1)
        self.orders.begin_amend(order, price_ticks, lots, self.now_ns)
        params = {
            "symbol": "BTCUSDT",
            "side": order.side.value,
            "origClientOrderId": order.client_id,
            "price": self.rules.price_text(price_ticks),
            "quantity": self.rules.quantity_text(lots),
        }
        reply = self._send("PUT", params, pick)
        if reply is None:
            self.orders.doubt_amend(order, "no answer")
        elif reply.status == 200:
            self._answered(order, reply, pick, lambda: self.orders.doubt_amend(order, "no answer"))
        elif reply.code in GONE:
            self.orders.doubt_amend(order, str(reply.code))
        else:
            assert reply.code in NOTHING_CHANGED, reply
            self.orders.end_amend(order)

    def cancel(self, pick: Pick) -> None:
        """Cancel an order, whatever is under way of it."""
        if order := self._one_of(self.orders.living(), pick):
            self._cancel(order, pick)

    def _cancel(self, order: LiveOrder, pick: Pick) -> None:
        self.orders.begin_cancel(order, self.now_ns)
        params = {"symbol": "BTCUSDT", "origClientOrderId": order.client_id}
        reply = self._send("DELETE", params, pick)
        if reply is None:
            return
        if reply.status == 200:
            self._answered(order, reply, pick, lambda: None)
            return
        assert reply.code in (-2011, -1021), reply
        if reply.code == -2011:
            order.uncancellable_ns = self.now_ns
        elif pick(2):
            self.orders.end_cancel(order)

    def trade(self, pick: Pick) -> None:
        """Let the market trade at or through prices where our orders may rest."""
        sold = bool(pick(2))
        ticks = self._touch(Side.BUY if sold else Side.SELL) + (-1 if sold else 1) * pick(6)
        quantity = self.rules.quantity_text(1 + pick(40)) if pick(3) else "10.5"
        self.rig.trade(self.rules.price_text(ticks), quantity, sold=sold)

    def quote(self, pick: Pick) -> None:
        """Let the best bid and ask move."""
        bid = 500_000 + pick(11) - 5
        texts = (self.rules.price_text(ticks) for ticks in (bid, bid + 1 + pick(2)))
        self.rig.quote(*texts)

    def hedge(self, pick: Pick) -> None:
        """Let the account itself take from the market: quotes of ours in its way expire in the match."""
        self.rig.take(("BUY", "SELL")[pick(2)], "10.004")

    def strangers_cancel(self, pick: Pick) -> None:
        """Let somebody else cancel an order of ours, or now and then all."""
        if pick(4) == 0:
            self.rig.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
        elif order := self._one_of(self.orders.living(), pick):
            self.rig.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=order.client_id)

    def deliver(self, pick: Pick) -> None:
        """Let one message arrive, any of those on the way; sometimes it will come again."""
        if self.mail:
            place = pick(len(self.mail))
            self._read(*self.mail[place])
            if pick(4):
                del self.mail[place]

    def lose(self, pick: Pick) -> None:
        """Let one message be lost, or now and then all that are on the way."""
        if self.mail and pick(8) == 0:
            self.mail.clear()
        elif self.mail:
            del self.mail[pick(len(self.mail))]

    def arrive(self, pick: Pick) -> None:
        """Let a request that hung on the way reach the exchange; its answer reaches nobody."""
        if self.held:
            held = self.held.pop(pick(len(self.held)))
            self.rig.wait(1)
            self.rig.send(held.method, "/fapi/v1/order", held.query)

    def look_up(self, pick: Pick) -> None:
        """Ask the exchange about an order, living or ended; what it shows may lag."""
        asked = [self.orders.find(client_id) for client_id in self.orders.to_ask()]
        wanted = [order for order in asked if order is not None] if pick(3) else list(self.all.values())[-20:]
        if order := self._one_of(wanted, pick):
            self._look_up(order, pick(LAG_MS) if pick(2) else 0)

    def forget(self, pick: Pick) -> None:
        """Let ended orders leave memory."""
        self.orders.forget_ended(self.now_ns, pick(3))

    def wait(self, pick: Pick) -> None:
        """Let time pass, now and then more than the receive window."""
        self.rig.wait(1 + (pick(400) if pick(4) else pick(7000)))

    # --- the two sides ----------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Our monotonic clock, which runs like the exchange's."""
        return (self.rig.now_ms - START_MS) * 1_000_000

    @staticmethod
    def _one_of(orders: Sequence[LiveOrder], pick: Pick) -> LiveOrder | None:
        return orders[pick(len(orders))] if orders else None

    def _price(self, side: Side, pick: Pick) -> int:
        """Return a price within a few ticks of 50 000, mostly on the own side of it."""
        return 500_000 + (1 - pick(8) if side is Side.BUY else pick(8))

    def _touch(self, side: Side) -> int:
        book = self.rig.send("GET", "/fapi/v1/ticker/bookTicker", "symbol=BTCUSDT").body
        return self.rules.ticks(Decimal(book["bidPrice" if side is Side.BUY else "askPrice"]))

    def _send(self, method: str, params: dict[str, str], pick: Pick) -> Reply | None:
        """Send a request; return its answer, None if it was lost on the way back, or hangs on the way there."""
        self.rig.wait(1 + pick(20))
        query = urlencode({**params, "recvWindow": RECV_WINDOW_MS, "timestamp": self.rig.now_ms})
        query = f"{query}&signature={sign(SECRET, query)}"
        fate = pick(8)
        if fate == 0:
            self.held.append(Held(method, query))
            return None
        reply = self.rig.send(method, "/fapi/v1/order", query)
        return None if fate == 1 else reply

    def _answered(self, order: LiveOrder, reply: Reply, pick: Pick, give_up: Callable[[], object]) -> None:
        """Let an answer arrive at once, or after events of the stream, or too late for anybody who waited."""
        report = wire.order_report(reply.body, self.rules)
        self._listen()
        for _ in range(pick(3)):
            self.deliver(pick)
        if pick(8) == 0:
            give_up()
            self.mail.append((order.client_id, report))
        else:
            self.orders.apply(order, report, self.now_ns)

    def _listen(self) -> None:
        """Have what the stream has said be on its way to us."""
        for event in self.heard:
            if event["e"] != "ORDER_TRADE_UPDATE" or event["o"]["c"] not in self.all:
                continue
            report = wire.order_event_report(event["o"], self.rules)
            self.told.setdefault(report.client_id, []).append(report)
            self.mail.append((report.client_id, report))
        self.heard.clear()

    def _read(self, client_id: str, report: OrderReport) -> None:
        order = self.orders.find(client_id)
        assert order is not None
        self.orders.apply(order, report, self.now_ns)
        self.orders.count(order, order.executed_lots - order.counted_lots, self.now_ns)

    def _look_up(self, order: LiveOrder, lag_ms: int) -> None:
        order = self.orders.find(order.client_id) or order
        asked_ns = self.now_ns
        self._listen()
        seen = [
            one for one in self.told.get(order.client_id, ()) if one.update_ms <= self.rig.now_ms - lag_ms
        ]
        self.rig.wait(5)
        self.orders.asked(order)
        if seen:
            latest = replace(seen[-1], is_amendment=False)
            self.orders.read(order, latest, asked_ns, self.now_ns, RECV_WINDOW_MS)
            return
        order.not_found += 1
        if not order.status.is_terminal and absence_is_proof(order, self.now_ns, RECV_WINDOW_MS):
            status = OrderStatus.CANCELLED if order.accepted_ns else OrderStatus.REJECTED
            self.orders.end(order, status, "the exchange does not have it")

    # --- what must hold ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing is known less than before; whatever rests lives here, and counts for no less than it is."""
        for order in [*self.orders.living(), *self.orders._ended.values()]:
            self._check_growth(order)
        for client_id, reports in self.told.items():
            self._check_counts(client_id, reports[-1])
        assert self.orders.load == Load.of(self.orders.living()), "the sums are not those of the orders"

    def _check_growth(self, order: LiveOrder) -> None:
        rank, executed, end = self._known.get(order.client_id, (0, 0, None))
        state = order.state
        assert order.executed_lots >= executed, f"{order}: executed fell from {executed}"
        assert state.rank >= rank or (order.status.is_terminal and not order.end_is_reported), (
            f"{order}: rank fell from {rank}"
        )
        assert end is None or order.status is end, f"{order}: ended {end} before"
        assert order.status.is_terminal is (order not in self.orders.living())
        self._known[order.client_id] = (
            max(rank, state.rank),
            order.executed_lots,
            order.status if order.end_is_reported else None,
        )

    def _check_counts(self, client_id: str, truth: OrderReport) -> None:
        if truth.status.is_terminal:
            return
        order = self.orders.find(client_id)  # only of what rests: this brings back what has left memory
        assert order is not None
        assert not order.status.is_terminal, f"{order} rests, but is believed to have ended"
        worst = order.worst_price_ticks * order.worst_remaining_lots
        rests = truth.price_ticks * (truth.lots - truth.executed_lots)
        assert worst >= rests, f"{order} counts for less than what rests: {truth}"

    def rest(self, pick: Pick) -> None:
        """Deliver or look up everything; afterwards what is known equals what the exchange has."""
        while self.held:
            self.arrive(pick)
        self._listen()
        for one in range(len(self.mail)):
            if pick(4):
                self._read(*self.mail[one])
        self.mail.clear()
        for _ in range(LOOK_UPS_AT_REST):
            self.rig.wait(RECV_WINDOW_MS + 1100)
            for order in self.orders.living():
                self._settle(order)
            for client_id in self.orders.to_ask():
                self._look_up(self.all[client_id], 0)
        self.check()
        self._compare()

    def ended(self) -> list[LiveOrder]:
        """Return the orders that have ended."""
        found = (self.orders.find(client_id) for client_id in self.all)
        return [order for order in found if order is not None and order.status.is_terminal]

    def _settle(self, order: LiveOrder) -> None:
        """Look an order up as the program does: what is not found is cancelled."""
        self._look_up(order, 0)
        if order.not_found > 1:
            self._cancel(order, lambda most: most - 1)

    def _compare(self) -> None:
        record = {one["clientOrderId"]: one for one in self.rig.record()["orders"]}
        for client_id in self.all:
            order = self.orders.find(client_id)
            assert order is not None
            if client_id not in record:
                assert order.status is OrderStatus.REJECTED, order
                continue
            truth = wire.order_report(record[client_id], self.rules)
            assert (order.status, order.executed_lots) == (truth.status, truth.executed_lots), (order, truth)
            assert truth.status.is_terminal or (order.price_ticks, order.lots) == (
                truth.price_ticks,
                truth.lots,
            ), (order, truth)
            assert order.change is None or order.cancel_requested, order
        living = {order.client_id for order in self.orders.living()}
        assert living == {
            name for name, one in record.items() if one["status"] in ("NEW", "PARTIALLY_FILLED")
        } & set(self.all)
        assert self.orders.to_ask() == {}


ACTIONS = {
    "place": 10,
    "amend": 14,
    "cancel": 4,
    "trade": 8,
    "quote": 5,
    "hedge": 1,
    "strangers_cancel": 1,
    "deliver": 30,
    "lose": 4,
    "arrive": 3,
    "look_up": 10,
    "forget": 2,
    "wait": 6,
}
"""What may happen, with how often it does."""


def live(seed: int, steps: int) -> Counter[str]:
    """Let chance choose so many steps; return how often what happened. AssertionError where something did not hold."""
    chance = random.Random(seed)
    names = random.Random(seed + 1).choices(list(ACTIONS), list(ACTIONS.values()), k=min(steps, 100_003))
    happened: Counter[str] = Counter()
    story = Story()
    for step in range(steps):
        story.act(names[step % len(names)], chance.randrange)
        if step % EPISODE_STEPS == EPISODE_STEPS - 1 or step == steps - 1:
            story.rest(chance.randrange)
            happened += story.happened
            happened["orders"] += len(story.all)
            happened.update(f"end {order.status}" for order in story.ended())
            story = Story()
    return happened


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says; return 1 if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m test.order_life", description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000, help="how many things happen (default: 10000)")
    parser.add_argument("--seed", type=int, help="what chance begins with (default: another one each time)")
    parsed = parser.parse_args(arguments)
    seed = secrets.randbits(32) if parsed.seed is None else parsed.seed
    began_s = time.monotonic()
    try:
        happened = live(seed, parsed.steps)
    except AssertionError as error:
        sys.stdout.write(f"FAILED with --seed {seed} --steps {parsed.steps}: {error}\n")
        return 1
    found = ", ".join(f"{name} {count}" for name, count in happened.items())
    sys.stdout.write(
        f"ok: {parsed.steps} steps with --seed {seed} in {time.monotonic() - began_s:.1f} s ({found})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
