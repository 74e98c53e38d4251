"""A rolling hash of everything that passes between the daemon and the exchange."""

from zlib import crc32

from sim.messages import Request, Response
from sim.orders import Order
from sim.record import FillRecord
from test.daemon import Sent

_MASK = (1 << 64) - 1
_PRIME = 0x100000001B3


class Trace:
    """Two runs of a plan have equal hashes exactly when the same things happened at the same times."""

    def __init__(self) -> None:
        self._value = 0xCBF29CE484222325
        self.requests = 0

    def __str__(self) -> str:
        return f"{self._value:016x}"

    def _add(self, text: str) -> None:
        self._value = ((self._value ^ crc32(text.encode())) * _PRIME) & _MASK

    def sent(self, sent: Sent, now_s: float) -> None:
        """Count a request that leaves the daemon."""
        self.requests += 1
        self._add(f"{now_s:.6f} {sent.method} {sent.path} {sent.query}")

    def answered(self, request: Request, response: Response, now_ms: int) -> None:
        """Count an answer of the exchange."""
        self._add(f"{now_ms} {request.method} {request.path} {response.status} {crc32(response.body)}")

    def changed(self, order: Order, execution: str, fill: FillRecord | None, now_ms: int) -> None:
        """Count a change of an order."""
        trade = fill.trade_id if fill is not None else 0
        self._add(
            f"{now_ms} {order.client_order_id} {execution} {order.executed_lots} {order.price_ticks} {trade}"
        )
