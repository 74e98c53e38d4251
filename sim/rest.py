"""The REST door: finds the endpoint, checks limits, key, time and signature, and puts the outcome into HTTP's form.

Source: facts section 2 and 5, and section 12 for the order of the checks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sim.auth import Gatekeeper, Security
from sim.errors import ApiError
from sim.limits import Limits, OrderCost
from sim.messages import Request, Response
from sim.params import Params
from sim.payloads import encode
from sim.record import Ledger, Refusal

Handler = Callable[[Params, int], object]
Weight = Callable[[Params], int]

CONTENT = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call: who answers it, who may ask, what it costs.

    ``handle(params, now_ms)`` returns what becomes the JSON body, or finished JSON text, or the whole reply. An
    endpoint with ``is_order`` hides the weight (-1 in the header), as Binance does there.
    """

    handle: Handler
    security: Security
    weight: int | Weight = 1
    orders: OrderCost | None = None
    is_order: bool = False

    def weigh(self, params: Params) -> int:
        """Return the weight of a request with these parameters."""
        return self.weight if isinstance(self.weight, int) else self.weight(params)


Routes = Mapping[tuple[str, str], Endpoint]
OWN_DOORS = "/sim/"
"""The exchange's own doors, beside Binance's: no limit holds there, not even a ban."""


class Router:
    """Answers requests; whatever is wrong with one becomes Binance's error reply."""

    def __init__(self, routes: Routes, gatekeeper: Gatekeeper, limits: Limits, ledger: Ledger) -> None:
        self._routes = routes
        self._gatekeeper = gatekeeper
        self._limits = limits
        self._ledger = ledger

    def respond(self, request: Request, now_ms: int) -> Response:
        """Return the reply to ``request``."""
        endpoint = self._routes.get((request.method, request.path))
        if endpoint is None:
            self._ledger.requests["unknown"] += 1
            text = f"Path {request.path}, Method {request.method} is invalid"
            return _reply(404, {"code": -5000, "msg": text}, dict(CONTENT))
        self._ledger.requests[f"{request.method} {request.path}"] += 1
        params = Params.of_request(request.query, request.body)
        try:
            self._admit(endpoint, request, params, now_ms)
            result = endpoint.handle(params, now_ms)
        except ApiError as error:
            self._note(request, params, error, now_ms)
            return self._refuse(endpoint, error, now_ms)
        if isinstance(result, Response):
            return result
        return _reply(200, result, self._headers(endpoint, now_ms))

    def _admit(self, endpoint: Endpoint, request: Request, params: Params, now_ms: int) -> None:
        if not request.path.startswith(OWN_DOORS):
            self._limits.charge_weight(endpoint.weigh(params), now_ms)
        if endpoint.security is not Security.NONE:
            self._check_caller(endpoint.security, request, params, now_ms)
        if endpoint.orders:
            self._limits.charge_orders(endpoint.orders, now_ms)
        params.check()

    def _check_caller(self, security: Security, request: Request, params: Params, now_ms: int) -> None:
        key = self._gatekeeper.check_key(request.headers)
        if security is Security.KEY:
            return
        self._gatekeeper.check_signed(key, request.query, request.body, params, now_ms)
        if security is Security.TRADE:
            key.check_trade()

    def _headers(self, endpoint: Endpoint, now_ms: int) -> dict[str, str]:
        headers = self._weight_headers(endpoint, now_ms)
        if endpoint.orders:
            headers.update(self._limits.order_headers(now_ms))
        return headers

    def _weight_headers(self, endpoint: Endpoint, now_ms: int) -> dict[str, str]:
        weight = "-1" if endpoint.is_order else self._limits.weight_header(now_ms)
        return {**CONTENT, "x-mbx-used-weight-1m": weight}

    def _refuse(self, endpoint: Endpoint, error: ApiError, now_ms: int) -> Response:
        headers = self._weight_headers(endpoint, now_ms)
        if error.retry_after_s is not None:
            headers["retry-after"] = str(error.retry_after_s)
        return _reply(error.status, {"code": error.code, "msg": error.message}, headers)

    def _note(self, request: Request, params: Params, error: ApiError, now_ms: int) -> None:
        note_refusal(self._ledger, f"{request.method} {request.path}", params, error, now_ms)


def note_refusal(ledger: Ledger, endpoint: str, params: Params, error: ApiError, now_ms: int) -> None:
    """Keep a refused request, or a refused element of a batch, in the record."""
    client_id = params.text_or("newClientOrderId", params.text_or("origClientOrderId", ""))
    ledger.refusals.append(
        Refusal(
            time_ms=now_ms,
            endpoint=endpoint,
            symbol=params.text_or("symbol", ""),
            client_order_id=client_id,
            code=error.code,
            message=error.message,
        )
    )


def _reply(status: int, content: object, headers: Mapping[str, str]) -> Response:
    text = content if isinstance(content, str) else encode(content)
    return Response(status, headers, text.encode())
