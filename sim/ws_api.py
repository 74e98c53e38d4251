"""The WebSocket API: requests as JSON texts on one socket, answered by the endpoints that answer REST.

Each method stands for an endpoint, with its checks, its weight and its order slots; only the form differs. Orders go
to the same desk, and the ORDERS counters are those of REST; the weight has a pool of its own unless
``StreamOptions.api_shares_weight`` says otherwise. Replies come in the order of the requests unless faults delay some;
clients tell them apart by id. Faults of requests and replies aim at the endpoint that a method stands for.

Source: facts section 8, 2 (signing), 5 (pools). Not documented, so (unsure): the codes for a message that is no JSON
object (-1135), for an unknown method (-1020) and for a logon with another kind of key (-4056).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from sim.auth import Gatekeeper, Security, check_timestamp
from sim.desk import Desk
from sim.errors import ApiError, RefusedHandshake, refusal
from sim.faults import FaultPlan, Outcome, RequestFate
from sim.keys import ApiKey, KeyKind
from sim.limits import Limits
from sim.market import MarketError
from sim.messages import Request, Response
from sim.params import Params, decode_json
from sim.payloads import encode
from sim.record import Ledger
from sim.rest import Endpoint, Routes, note_refusal
from sim.streams import Bursts, Deliver, HangUp, Hub, echoed_id

PATH = "/ws-fapi/v1"
HANDSHAKE_WEIGHT = 5
SESSION_WEIGHT = 2
FRAMES_PER_SECOND = 5

_RETRY = "retry-after"
_NOWHERE = ("", "")

_METHODS = {
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "account.status": ("GET", "/fapi/v2/account"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
    "ticker.price": ("GET", "/fapi/v1/ticker/price"),
    "depth": ("GET", "/fapi/v1/depth"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
}


_PLAIN = re.compile(r"[A-Za-z0-9_.~=&-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Call:
    """One request, taken apart: ``values`` are its parameters as they were sent, ``params`` as endpoints read them."""

    id: object
    method: str
    values: Mapping[str, str]
    params: Params

    def as_request(self) -> Request:
        """Return the request of REST that the call stands for, unsigned: what faults take aim at."""
        method, path = _METHODS.get(self.method, ("WS", self.method))
        return Request(method, path, _query(self.values), {}, "")


@dataclass(frozen=True, slots=True)
class ApiDoor:
    """What all sessions of the WebSocket API share.

    ``weights`` is the pool that weights are counted on, ``limits`` has the ORDERS counters. ``enter`` brings the
    exchange to a time and returns it, ``leave`` is called when a request has been dealt with.
    """

    routes: Routes
    gatekeeper: Gatekeeper
    weights: Limits
    limits: Limits
    ledger: Ledger
    hub: Hub
    desk: Desk
    faults: FaultPlan
    enter: Callable[[int], int]
    leave: Callable[[], None]

    def open(self, target: str, deliver: Deliver, hang_up: HangUp, now_ms: int) -> "ApiSession":
        """Return the session of a new connection; RefusedHandshake if there is no weight left for it."""
        try:
            self.weights.charge_weight(HANDSHAKE_WEIGHT, now_ms)
        except ApiError as error:
            raise RefusedHandshake(error.status) from error
        shows_limits = dict(parse_qsl(target.partition("?")[2])).get("returnRateLimits") != "false"
        session = ApiSession(self, deliver, hang_up, now_ms, shows_limits=shows_limits)
        self.hub.attach(session)
        return session


def is_api(target: str) -> bool:
    """Tell whether a connection to ``target`` is for the WebSocket API."""
    return target.partition("?")[0] == PATH


class ApiSession:
    """One socket of the WebSocket API."""

    __slots__ = (
        "_authorized_ms",
        "_deliver",
        "_door",
        "_frames",
        "_hang_up",
        "_key",
        "_shows_limits",
        "opened_ms",
    )

    def __init__(
        self, door: ApiDoor, deliver: Deliver, hang_up: HangUp, now_ms: int, *, shows_limits: bool
    ) -> None:
        self._door = door
        self._deliver = deliver
        self._hang_up = hang_up
        self._frames = Bursts(FRAMES_PER_SECOND)
        self._shows_limits = shows_limits
        self._key: ApiKey | None = None
        self._authorized_ms: int | None = None
        self.opened_ms = now_ms

    def receive(self, text: str, now_ms: int) -> bool:
        """Answer a request; whatever is wrong with it becomes an error reply, and the connection stays."""
        message = decode_json(text)
        try:
            now_ms = self._door.enter(now_ms)
            call = _read_call(message)
        except (ApiError, MarketError) as error:
            failure = error if isinstance(error, ApiError) else ApiError(-1000, str(error), 500)
            name = echoed_id(message.get("id")) if isinstance(message, dict) else None
            self._deliver(_reply(name, _failure(failure), now_ms, self._rate_limits(None, now_ms)))
        else:
            if self._key is None or self._door.gatekeeper.knows(self._key):
                self._admit(call, now_ms)
            else:
                self._revoke(now_ms)
        self._door.leave()
        return True

    def pinged(self, now_ms: int) -> bool:
        """Count a ping or pong frame; at most five a second are allowed."""
        return self._frames.count(now_ms)

    def closed(self, now_ms: int) -> None:  # noqa: ARG002  the seam passes the time
        """Forget the connection."""
        self._door.hub.detach(self)

    def hang_up(self) -> None:
        """Let whoever carries the connection close it."""
        self._hang_up()

    # From request to reply, as the faults in force will have it

    def _admit(self, call: Call, now_ms: int) -> None:
        request = call.as_request()
        fate = self._door.faults.on_request(request, now_ms)
        self._later(fate.delay_ms, now_ms, partial(self._execute, call, request, fate))

    def _execute(self, call: Call, request: Request, fate: RequestFate, now_ms: int) -> None:
        if fate.outcome is not Outcome.PASS:
            self._give_up(fate.outcome, now_ms)
            return
        response = fate.answer
        if response is None or fate.execute:
            executed = self.respond(call, now_ms)
            if (witness := self._door.desk.witness) is not None:
                witness.answered(request, executed, now_ms)
            response = executed if response is None else response
        leaving = self._door.faults.on_reply(request, response, now_ms)
        if leaving.outcome is not Outcome.PASS:
            self._give_up(leaving.outcome, now_ms)
            return
        text = _reply(call.id, leaving.response, now_ms, self._rate_limits(call, now_ms))
        self._later(leaving.delay_ms, now_ms, lambda _now_ms: self._deliver(text))

    def _later(self, delay_ms: float, now_ms: int, action: Callable[[int], None]) -> None:
        if delay_ms > 0:
            self._door.faults.at(now_ms + max(1, round(delay_ms)), action)
        else:
            action(now_ms)

    def _give_up(self, outcome: Outcome, now_ms: int) -> None:
        if outcome is not Outcome.HANG:
            self.closed(now_ms)
            self._hang_up()

    def respond(self, call: Call, now_ms: int) -> Response:
        """Return what REST would reply; the exchange has been brought to ``now_ms``."""
        known = call.method in _METHODS or call.method in _SESSION_METHODS
        self._door.ledger.requests[f"ws {call.method}" if known else "ws unknown"] += 1
        try:
            result = self._perform(call, self._endpoint(call), now_ms)
        except ApiError as error:
            note_refusal(self._door.ledger, f"ws {call.method[:40]}", call.params, error, now_ms)
            return _failure(error)
        text = result if isinstance(result, str) else encode(result)
        return Response(200, {}, text.encode())

    def _endpoint(self, call: Call | None) -> Endpoint | None:
        return self._door.routes.get(_METHODS.get(call.method, _NOWHERE)) if call else None

    def _perform(self, call: Call, endpoint: Endpoint | None, now_ms: int) -> object:
        if call.method in _SESSION_METHODS:
            self._door.weights.charge_weight(SESSION_WEIGHT, now_ms)
            call.params.check()
            return _SESSION_METHODS[call.method](self, call, now_ms)
        if endpoint is None:
            self._door.weights.charge_weight(1, now_ms)
            raise refusal(-1020)
        self._door.weights.charge_weight(endpoint.weigh(call.params), now_ms)
        if endpoint.security is not Security.NONE:
            self._check_caller(endpoint.security, call, now_ms)
        if endpoint.orders:
            self._door.limits.charge_orders(endpoint.orders, now_ms)
        call.params.check()
        return endpoint.handle(call.params, now_ms)

    # Who asks

    def _check_caller(self, security: Security, call: Call, now_ms: int) -> None:
        key = self._key
        if key is None or "signature" in call.values or call.values.get("apiKey", key.key) != key.key:
            key = self._door.gatekeeper.find(call.values.get("apiKey", ""))
            if security is not Security.KEY:
                self._check_signed(key, call, now_ms)
        elif security is not Security.KEY:
            check_timestamp(call.params, now_ms + self._door.gatekeeper.skew_ms)
        if security is Security.TRADE:
            key.check_trade()

    def _check_signed(self, key: ApiKey, call: Call, now_ms: int) -> None:
        check_timestamp(call.params, now_ms + self._door.gatekeeper.skew_ms)
        signature = call.params.text("signature")
        if not any(key.verifies(payload, signature) for payload in signed_payloads(call.values)):
            raise refusal(-1022)

    def _log_on(self, call: Call, now_ms: int) -> object:
        key = self._door.gatekeeper.find(call.values.get("apiKey", ""))
        if key.kind is not KeyKind.ED25519:
            raise ApiError(-4056, f"{key.kind.value} API key is not supported.")
        self._check_signed(key, call, now_ms)
        self._key, self._authorized_ms = key, now_ms
        return self._status(call, now_ms)

    def _log_out(self, call: Call, now_ms: int) -> object:
        self._key = self._authorized_ms = None
        return self._status(call, now_ms)

    def _revoke(self, now_ms: int) -> None:
        """Tell that the session's key is known no more, in place of an answer (facts 8: under no id)."""
        self._key = self._authorized_ms = None
        self._deliver(_reply(None, _failure(refusal(-2015)), now_ms, self._rate_limits(None, now_ms)))

    def _status(self, call: Call, now_ms: int) -> object:  # noqa: ARG002  all session methods are called alike
        return {
            "apiKey": self._key.key if self._key else None,
            "authorizedSince": self._authorized_ms,
            "connectedSince": self.opened_ms,
            "returnRateLimits": self._shows_limits,
            "serverTime": now_ms + self._door.gatekeeper.skew_ms,
        }

    # What the reply says of limits

    def _rate_limits(self, call: Call | None, now_ms: int) -> list[Any] | None:
        wanted = call.values.get("returnRateLimits") if call else None
        if wanted == "false" or (wanted is None and not self._shows_limits):
            return None
        door, endpoint = self._door, self._endpoint(call)
        sizes = door.limits.sizes
        weight = door.weights.weight.add(0, now_ms)
        rows = [_limit("REQUEST_WEIGHT", "MINUTE", 1, door.weights.sizes.weight_per_minute, weight)]
        if endpoint and endpoint.orders:
            in_ten_seconds = door.limits.orders_10s.add(0, now_ms)
            in_a_minute = door.limits.orders_1m.add(0, now_ms)
            rows = [
                _limit("ORDERS", "SECOND", 10, sizes.orders_per_ten_seconds, in_ten_seconds),
                _limit("ORDERS", "MINUTE", 1, sizes.orders_per_minute, in_a_minute),
                *rows,
            ]
        return rows


_SESSION_METHODS: dict[str, Callable[[ApiSession, Call, int], object]] = {
    "session.logon": ApiSession._log_on,
    "session.status": ApiSession._status,
    "session.logout": ApiSession._log_out,
}


def signed_payloads(values: Mapping[str, str]) -> tuple[str, str]:
    """Return the two texts that a signature may be over: the values as they are, or percent-encoded.

    The documentation signs the former and the official SDK the latter; they differ only where a value has characters
    beyond letters, digits and a few signs.
    """
    pairs = sorted((name, value) for name, value in values.items() if name != "signature")
    plain = "&".join(f"{name}={value}" for name, value in pairs)
    return plain, "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in pairs)


def _read_call(message: Any) -> Call:
    if not isinstance(message, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    if echoed_id(message.get("id")) != message.get("id"):
        raise ApiError(-1135, "Invalid 'id' in JSON request; expected an integer, string or null.")
    method, params = message.get("method"), message.get("params") or {}
    if not isinstance(method, str) or not method:
        raise ApiError(-1135, "Invalid 'method' in JSON request; expected a string.")
    if not isinstance(params, dict):
        raise ApiError(-1135, "Invalid 'params' in JSON request; expected an object.")
    values = {name: _as_text(value) for name, value in params.items()}
    empty = next((name for name, value in values.items() if not value), None)
    present = {name: value for name, value in values.items() if value}
    return Call(message.get("id"), method, values, Params(present, refusal(-1105, empty) if empty else None))


def _query(values: Mapping[str, str]) -> str:
    """Return the values as a query string; nearly always there is nothing in them to be encoded."""
    text = "&".join([f"{name}={value}" for name, value in values.items()])
    if _PLAIN(text) and text.count("=") == len(values) == text.count("&") + 1:
        return text
    return urlencode(values, errors="surrogatepass")


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _failure(error: ApiError) -> Response:
    headers = {} if error.retry_after_s is None else {_RETRY: str(error.retry_after_s)}
    return Response(error.status, headers, encode({"code": error.code, "msg": error.message}).encode())


def _reply(name: object, response: Response, now_ms: int, rate_limits: list[Any] | None) -> str:
    body = response.body.decode("utf-8", "replace")
    if response.status == 200:
        outcome = f'"result":{body or "null"}'
    else:
        outcome = f'"error":{encode(_error(body, response.headers.get(_RETRY), now_ms))}'
    tail = "" if rate_limits is None else f',"rateLimits":{encode(rate_limits)}'
    return f'{{"id":{encode(name)},"status":{response.status},{outcome}{tail}}}'


def _error(body: str, retry_after_s: str | None, now_ms: int) -> Any:
    """Return the error of a REST reply's body; one that is no JSON object becomes the text of -1000."""
    error = decode_json(body)
    if not isinstance(error, dict):
        error = {"code": -1000, "msg": body}
    if retry_after_s is not None:
        error["data"] = {"serverTime": now_ms, "retryAfter": now_ms + int(retry_after_s) * 1000}
    return error


def _limit(kind: str, interval: str, number: int, limit: int, count: int) -> dict[str, object]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
        "count": count,
    }
