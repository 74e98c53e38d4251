"""The WebSocket API: requests and their answers on one socket that comes back by itself.

Not to be run as a script (see ``utils/http.py``).

Source: binance-futures WebSocket API general info (request and response format, rate limits, 24 h).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

import msgspec

from utils.clock import Clock
from utils.errors import Disconnected, ExchangeError, NotSent, OutcomeUnknown
from utils.http import HttpResponse
from utils.ws import Backoff, Stream, WsTransport

log = logging.getLogger(__name__)

_SPAN = {("ORDERS", "SECOND", 10): "x-mbx-order-count-10s", ("ORDERS", "MINUTE", 1): "x-mbx-order-count-1m"}
_WEIGHT = ("REQUEST_WEIGHT", "MINUTE", 1)


class _Limit(msgspec.Struct, rename="camel"):
    """One entry of ``rateLimits``."""

    rate_limit_type: str
    interval: str
    interval_num: int
    count: int = -1


class _Reply(msgspec.Struct, rename="camel"):
    """An answer."""

    id: int | str | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    rate_limits: list[_Limit] = []


class _When(msgspec.Struct, rename="camel"):
    """The times in the data of an error that is about a limit."""

    server_time: int = 0
    retry_after: int = 0


class _Error(msgspec.Struct):
    """What of an error concerns limits."""

    data: _When | None = None


OnEnd = Callable[[HttpResponse | ExchangeError], None]
"""Is told what came of a request: its answer, or OutcomeUnknown."""


@dataclass(slots=True)
class _Waiting:
    """A request without an answer."""

    method: str
    on_end: OnEnd
    timer: asyncio.TimerHandle | None = None


class WsApi:
    """One socket to the WebSocket API, connected anew whenever it has ended.

    ``before_connecting`` is awaited before each attempt and may raise ExchangeError to put it off. ``on_up`` and
    ``on_down`` are called as those of a ``Stream``. The socket is given up after ``renew_after_s``, and after a request
    without an answer; but not before the others have been answered, so that the exchange's cut after 24 h meets none.
    """

    PATH = "/ws-fapi/v1"
    PATIENCE_S = 10.0

    def __init__(
        self,
        transport: WsTransport,
        clock: Clock,
        backoff: Backoff,
        *,
        before_connecting: Callable[[], Awaitable[None]],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        renew_after_s: float = 23 * 3600.0,
    ) -> None:
        self.unknown = 0
        self._before_connecting = before_connecting
        self._on_up = on_up
        self._on_down = on_down
        self._renew_after_s = renew_after_s
        self._ids = count(1)
        self._pending: dict[int, _Waiting] = {}
        self._is_closing = False
        self._renewal: asyncio.TimerHandle | None = None
        self.stream = Stream(
            "order socket",
            transport,
            clock,
            backoff,
            target=self._target,
            on_message=self._on_message,
            on_up=self._went_up,
            on_down=self._went_down,
            max_age_s=renew_after_s + 2 * self.PATIENCE_S,
            overlaps=False,
        )
        self._decode = msgspec.json.Decoder(_Reply).decode

    @property
    def is_ready(self) -> bool:
        """Tell whether requests can be sent now."""
        return self.stream.is_up and not self._is_closing

    @property
    def pending(self) -> int:
        """Return how many requests wait for their answers."""
        return len(self._pending)

    async def run(self) -> None:
        """Keep the socket connected until cancelled."""
        try:
            await self.stream.run()
        finally:
            self._abandon("the order socket was closed")

    async def request(self, method: str, params: Mapping[str, str | int], timeout_s: float) -> HttpResponse:
        """Return the answer, in the form that REST would have given it.

        Raises NotSent if there is no connection, OutcomeUnknown if there is no answer within ``timeout_s`` or the
        connection ends before it.
        """
        answer: asyncio.Future[HttpResponse | ExchangeError] = asyncio.get_running_loop().create_future()
        name = self.start(method, params, timeout_s, partial(_answer, answer))
        try:
            outcome = await answer
        except asyncio.CancelledError:
            self._forget(name)
            self._renew()  # whoever asked has given up sooner than that: the next one shall not have to
            raise
        if isinstance(outcome, ExchangeError):
            raise outcome
        return outcome

    def start(self, method: str, params: Mapping[str, str | int], timeout_s: float, on_end: OnEnd) -> int:
        """Send a request at once, and have ``on_end`` called once with its answer or with OutcomeUnknown.

        It is called in the same turn of the loop in which the answer is read. Returns the number of the request; raises
        NotSent, and calls nothing, if there is no connection, or none any more.
        """
        if not self.is_ready:
            raise NotSent(f"{method}: the order socket is not connected")
        name = next(self._ids)
        text = msgspec.json.encode({"id": name, "method": method, "params": params})
        waiting = self._pending[name] = _Waiting(method, on_end)
        try:
            self.stream.send_now(text)
        except Disconnected as error:  # it had ended before, and nobody has been told yet
            self._forget(name)
            raise NotSent(f"{method}: {error}") from error
        loop = asyncio.get_running_loop()
        waiting.timer = loop.call_later(timeout_s, self._is_late, name, timeout_s)
        return name

    def _is_late(self, name: int, timeout_s: float) -> None:
        waiting = self._pending.get(name)
        if waiting is not None:
            self.unknown += 1
            self._renew()  # a connection that does not answer may be one of which only this end is left
            self._end(name, OutcomeUnknown(f"{waiting.method}: no answer within {timeout_s:g} s"))

    def _end(self, name: int, outcome: HttpResponse | ExchangeError) -> None:
        """Tell whoever waits what came of a request."""
        if waiting := self._forget(name):
            waiting.on_end(outcome)

    def _forget(self, name: int) -> "_Waiting | None":
        """Have a request be waited for no more; return who waited, if anybody did."""
        waiting = self._pending.pop(name, None)
        if waiting is not None:
            if waiting.timer is not None:
                waiting.timer.cancel()
            self._close_if_due()
        return waiting

    # --- the connection ---------------------------------------------------------------------------------------

    async def _target(self) -> str:
        await self._before_connecting()
        return self.PATH

    def _went_up(self) -> None:
        self._is_closing = False
        self._stop_renewal()
        self._renewal = asyncio.get_running_loop().call_later(self._renew_after_s, self._renew)
        self._on_up()

    def _went_down(self, reason: str) -> None:
        self._abandon(reason)
        self._on_down(reason)

    def _abandon(self, reason: str) -> None:
        """Tell those who wait that no answer will come."""
        self._stop_renewal()
        for name, waiting in list(self._pending.items()):
            self.unknown += 1
            self._end(name, OutcomeUnknown(f"{waiting.method}: {reason}"))

    def _stop_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def _renew(self) -> None:
        """Take no more requests, and end the connection once none is under way."""
        if self._is_closing or not self.stream.is_up:
            return
        self._is_closing = True
        self._stop_renewal()
        self._renewal = asyncio.get_running_loop().call_later(self.PATIENCE_S, self._drop)
        self._close_if_due()

    def _close_if_due(self) -> None:
        if self._is_closing and not self._pending:
            self._drop()

    def _drop(self) -> None:
        self.stream.drop("making a new one")

    # --- the answers ------------------------------------------------------------------------------------------

    def _on_message(self, message: str | bytes) -> None:
        try:
            reply = self._decode(message)
        except (ValueError, RecursionError):
            log.warning("a message of the order socket could not be read")
            return
        if isinstance(reply.id, int) and reply.id in self._pending:
            self._end(reply.id, _as_http(reply))
        else:
            log.warning("the order socket answered what nobody waits for (status %d)", reply.status)


def _answer(
    waiting: "asyncio.Future[HttpResponse | ExchangeError]", outcome: HttpResponse | ExchangeError
) -> None:
    """Have whoever waits go on; one who was cancelled in this very turn of the loop waits no more."""
    if not waiting.done():
        waiting.set_result(outcome)


def _as_http(reply: _Reply) -> HttpResponse:
    """Return the reply of REST that says the same: status, body, and the limits as headers."""
    body = bytes(reply.result if reply.status == 200 else reply.error)
    headers = {}
    for limit in reply.rate_limits:
        span = (limit.rate_limit_type, limit.interval, limit.interval_num)
        name = "x-mbx-used-weight-1m" if span == _WEIGHT else _SPAN.get(span)
        if name is not None and limit.count >= 0:
            headers[name] = str(limit.count)
    if reply.status in (418, 429):
        headers |= _retry_after(body)
    return HttpResponse(reply.status, headers, body)


def _retry_after(body: bytes) -> dict[str, str]:
    """Return the header of the time that the error of a limit tells, none if it does not."""
    try:
        when = msgspec.json.decode(body, type=_Error).data
    except (ValueError, RecursionError):  # msgspec's errors, and those of text, are ValueErrors
        return {}
    if when is None or when.retry_after <= when.server_time:
        return {}
    return {"retry-after": str(-((when.server_time - when.retry_after) // 1000))}
