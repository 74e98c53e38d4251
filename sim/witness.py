"""Whoever looks on at what the exchange does, without a say in it: an audit that is told as it happens."""

from typing import Protocol

from sim.instrument import Instrument
from sim.messages import Request, Response
from sim.orders import Order
from sim.record import FillRecord


class Witness(Protocol):
    """Is called in the middle of what the exchange does: it may read, has to be quick, and must not raise."""

    def order_changed(
        self, instrument: Instrument, order: Order, execution: str, fill: FillRecord | None, now_ms: int
    ) -> None:
        """Note that an order was accepted, amended, filled or has ended; ``execution`` is the event's field ``x``."""

    def answered(self, request: Request, response: Response, now_ms: int) -> None:
        """Note a request that reached the exchange, and the exchange's own answer."""
