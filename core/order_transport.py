"""Orders over the WebSocket API: which requests go by its socket, and how they are put there."""

import logging
import random
from collections.abc import Callable, Mapping

from core.events import ConnectionEvent, ConnectionKind, EventBus
from core.lanes import Lanes
from core.rate_budget import Cost, Lane
from utils.clock import Clock
from utils.errors import ExchangeError, NotSent
from utils.http import BinanceRest, HttpResponse, no_objection
from utils.ws import Backoff, WsTransport
from utils.ws_api import WsApi

log = logging.getLogger(__name__)

METHODS: Mapping[tuple[str, str], str] = {
    ("POST", "/fapi/v1/order"): "order.place",
    ("PUT", "/fapi/v1/order"): "order.modify",
    ("DELETE", "/fapi/v1/order"): "order.cancel",
    ("GET", "/fapi/v1/order"): "order.status",
}
"""What the WebSocket API has of the requests that we send; batches and lists of orders it has not."""

HANDSHAKE = Cost(weight=5, connections=0)
HANDSHAKE_PATIENCE_S = 10.0


class OrderSocket:
    """Carries single orders by the WebSocket API for as long as its socket is up; else REST does.

    Once a request may have left on the socket, it is never sent again by REST: its outcome is what the socket says, or
    unknown. Limits, outcomes and measurements are those of REST: the exchange counts both, and so does ``rest``.

    Source: binance-futures WebSocket API, order.place, order.modify, order.cancel, order.status.
    """

    name = "order socket"
    LONGEST_PAUSE_S = 30.0

    def __init__(
        self,
        rest: BinanceRest,
        lanes: Lanes,
        transport: WsTransport,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._rest = rest
        self._lanes = lanes
        self.api = WsApi(
            transport,
            clock,
            Backoff(rng, cap_s=self.LONGEST_PAUSE_S),
            before_connecting=self._pay_handshake,
            on_up=lambda: bus.publish(ConnectionEvent(self.name, ConnectionKind.UP)),
            on_down=lambda reason: bus.publish(ConnectionEvent(self.name, ConnectionKind.DOWN, reason)),
        )
        rest.shortcut = self

    async def run(self) -> None:
        """Keep the socket connected until cancelled."""
        await self.api.run()

    async def _pay_handshake(self) -> None:
        """Wait until the limits allow a connection; it costs as much as five small requests."""
        self._rest.refuse_while_limited()
        with await self._lanes.take(Lane.QUERY, HANDSHAKE, HANDSHAKE_PATIENCE_S, no_objection):
            pass

    def takes(self, method: str, path: str) -> bool:
        """Tell whether such a request would go by the socket now."""
        return (method, path) in METHODS and self.api.is_ready

    async def request(
        self, method: str, path: str, params: Mapping[str, str | int], timeout_s: float
    ) -> HttpResponse | None:
        """Return the answer; None if the request was certainly not sent and may go by REST.

        Raises OutcomeUnknown if it was sent and there is no answer.
        """
        if not self.takes(method, path):
            return None
        signed = self._rest.signed_for_socket(params)
        try:
            return await self.api.request(METHODS[method, path], signed, timeout_s)
        except NotSent:
            return None

    def start(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        timeout_s: float,
        on_end: Callable[[HttpResponse | ExchangeError], None],
    ) -> None:
        """Send a request that it ``takes``, at once; ``on_end`` is called with what came of it, also if that is now."""
        signed = self._rest.signed_for_socket(params)
        try:
            self.api.start(METHODS[method, path], signed, timeout_s, on_end)
        except NotSent as error:
            on_end(error)
