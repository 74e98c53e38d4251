"""The oracle inside the exchange: told of every change of an order, every request and answer, and of time passing.

It knows the truth (orders, trades, position, time) because it sits where it is made; what the daemon believes is only
compared. The rules are in ``*_rules.py``, one function each, named after the catalogue's invariants.
"""

from core.engine import Engine
from sim.instrument import Instrument
from sim.messages import Request, Response
from sim.orders import Order
from sim.record import FillRecord
from test.daemon import Sent
from test.simulation.book_rules import BookRules
from test.simulation.claim_rules import ClaimRules
from test.simulation.day_rules import DayRules
from test.simulation.facts import Facts, is_ours
from test.simulation.lifeline_rules import LifelineRules
from test.simulation.proof_rules import ProofRules
from test.simulation.resting_rules import RestingRules
from test.simulation.sending_rules import SendingRules
from test.simulation.tracing import Trace
from utils.http import HttpResponse

LOOK_EVERY_S = 0.5


class Oracle:
    """Hands what happens to the rules that it concerns; a ``sim.witness.Witness``."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.trace = Trace()
        self.resting = RestingRules(facts)
        self.requests = SendingRules(facts)
        self.lifelines = LifelineRules(facts)
        self.books = BookRules(facts)
        self.proofs = ProofRules(facts)
        self.claims = ClaimRules(facts)
        self.days = DayRules(facts)

    def new_engine(self, engine: Engine) -> None:
        """Follow a daemon that has just been started."""
        self.requests.follow(engine.contexts[0].gate)
        self.books.restarted()
        self.proofs.follow(engine)
        self.claims.follow(engine)

    def order_changed(
        self, instrument: Instrument, order: Order, execution: str, fill: FillRecord | None, now_ms: int
    ) -> None:
        """Look at a change of an order."""
        self.trace.changed(order, execution, fill, now_ms)
        self.claims.any_order_changed(order, execution)
        if instrument.symbol == self._facts.world.symbol and is_ours(order):
            self.resting.order_changed(order, execution, fill)
            self.lifelines.order_changed(order, execution)
            self.proofs.order_changed(order, execution)

    def answered(self, request: Request, response: Response, now_ms: int) -> None:
        """Look at a request that has reached the exchange, and at its answer."""
        self.trace.answered(request, response, now_ms)
        self.requests.answered(request, response)
        self.proofs.answered(request, response)
        self.lifelines.answered(request, response)

    def sending(self, sent: Sent) -> None:
        """Look at a request that leaves the daemon."""
        self.trace.sent(sent, self._facts.now_s)
        self.requests.sending(sent)
        self.lifelines.sending(sent)
        self.proofs.sending(sent)
        self.claims.sending(sent)

    def replied(self, sent: Sent, reply: HttpResponse) -> None:
        """Look at a reply that reaches the daemon."""
        self.requests.replied(sent, reply)
        self.proofs.replied(sent, reply)
        self.claims.replied(sent, reply)

    def look(self) -> None:
        """Look at time passing, every half second."""
        self.lifelines.thawed()
        self.resting.look()
        self.lifelines.look()
        self.requests.look()
        self.proofs.look()
        self.claims.look()
        self.days.look()
        self.books.look()

    def differences(self) -> list[str]:
        """Return in what the daemon's books differ from the exchange's, each with its rule; empty if in nothing."""
        return self.books.differences() or self.days.differences()
