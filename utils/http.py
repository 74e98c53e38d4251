"""REST: one request at a time, signed at the moment of sending, with an outcome that tells the caller what to do.

Not to be run as a script: inside ``utils/`` its name would hide the standard library's ``http``.

Source: binance-futures general info (signed endpoints, limits, HTTP return codes).
"""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import aiohttp
import msgspec
from yarl import URL

from utils.clock import Clock, ServerClock
from utils.errors import (
    AuthFailed,
    ClockSkew,
    ExchangeError,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    Refused,
)
from utils.http_sessions import HttpSessions
from utils.query import query_text
from utils.signing import Signer
from utils.tls import tls_context


class HttpResponse(msgspec.Struct, frozen=True):
    """What came back: the HTTP status, headers with lower-case names, and the raw body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpTransport(Protocol):
    """Carries one request to one fixed origin. Behind it are sockets, or the simulated exchange in memory."""

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply; raise NotSent if nothing can have arrived, OutcomeUnknown if something may have."""

    async def close(self) -> None:
        """Release the connections."""


_CUT_OFF = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""The connection ended before the answer: the request may have been executed."""


class AiohttpTransport:
    """Requests over sockets to one pinned origin; follows no redirect and no proxy variable.

    What changes something leaves once. A read whose connection is cut off is asked a second time.

    ``origin`` is scheme, host and port, for example ``https://fapi.binance.com``. Over TLS the connection is by IPv4:
    the addresses that an API key is restricted to are of that kind.
    """

    CONNECT_TIMEOUT_S = 2.0
    MAX_BODY_BYTES = 32 * 2**20

    def __init__(self, origin: str) -> None:
        self._origin = origin.rstrip("/")
        self._pinned = URL(self._origin).origin()
        self._sessions = HttpSessions(self._session)

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the reply; raise NotSent if nothing can have arrived, OutcomeUnknown if something may have."""
        url = URL(f"{self._origin}{path}?{query}" if query else f"{self._origin}{path}", encoded=True)
        if url.origin() != self._pinned:
            raise NotSent(f"{method}: the request would go to another host than {self._origin}")
        ends_s = asyncio.get_running_loop().time() + timeout_s
        try:
            try:
                return await self._reply(method, url, headers, ends_s)
            except _CUT_OFF as error:
                if method != "GET" or isinstance(error, aiohttp.ClientConnectorError):
                    raise
            return await self._reply(method, url, headers, ends_s)  # the connection may have died in reserve
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"{method} {path}: no connection ({type(error).__name__})") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(f"{method} {path}: no answer ({type(error).__name__})") from error

    async def _reply(self, method: str, url: URL, headers: Mapping[str, str], ends_s: float) -> HttpResponse:
        """Return the reply to a request that leaves once, and has until then on the loop's clock."""
        left_s = max(ends_s - asyncio.get_running_loop().time(), 0.001)  # 0 would be for ever
        timeout = aiohttp.ClientTimeout(total=left_s, sock_connect=self.CONNECT_TIMEOUT_S)
        async with (
            self._sessions.one() as session,
            session.request(method, url, headers=headers, timeout=timeout, allow_redirects=False) as reply,
        ):
            lower = {name.lower(): value for name, value in reply.headers.items()}
            return HttpResponse(reply.status, lower, await self._body(reply))

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        """Return the body; raise ClientPayloadError once it is larger than any answer of the exchange."""
        parts: list[bytes] = []
        left = self.MAX_BODY_BYTES
        async for part in reply.content.iter_any():
            left -= len(part)
            if left < 0:
                reply.close()
                raise aiohttp.ClientPayloadError("the answer is too large")
            parts.append(part)
        return b"".join(parts)

    def _session(self) -> aiohttp.ClientSession:
        is_secure = self._pinned.scheme == "https"
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=32,
                keepalive_timeout=60,
                ssl=tls_context() if is_secure else True,
                family=socket.AF_INET if is_secure else socket.AF_UNSPEC,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # else it sends a PUT or DELETE whose connection is cut off a second time by itself; there is no public switch
        session._retry_connection = False
        return session

    async def close(self) -> None:
        """Release the connections."""
        await self._sessions.close()


class Security(Enum):
    """What a request carries beside its parameters."""

    NONE = "none"
    KEY = "key"
    SIGNED = "signed"


Objection = Callable[[], str]
"""Says why a request is not wanted any more, while it waits to leave; empty for as long as it is."""


def no_objection() -> str:
    """Return nothing: the request is wanted in any case."""
    return ""


def unnoted() -> None:
    """Nobody has to know when a request is signed."""


class Passage(Protocol):
    """The leave to send one request, for as long as it is under way."""

    def answered(self, headers: Mapping[str, str]) -> None:
        """Note what the reply's headers say of the limits."""

    def __enter__(self) -> "Passage":
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the end of the request."""


class Pace(Protocol):
    """Decides when requests leave."""

    async def enter(
        self, method: str, path: str, params: Mapping[str, str | int], patience_s: float, objection: Objection
    ) -> Passage:
        """Return when the request may leave; raise NotSent if it may not in time or is not wanted any more."""

    def try_enter(self, method: str, path: str, params: Mapping[str, str | int]) -> Passage | None:
        """Return the leave for a request that need not wait; None if it would have to."""

    def limited(self, limited: RateLimited) -> None:
        """Note that the exchange takes no more requests, or no more orders, for a while."""

    def clock_changed(self) -> None:
        """Note that the exchange's time turned out to be another: limits are counted by it."""


class Unpaced:
    """Lets every request leave at once."""

    async def enter(
        self, method: str, path: str, params: Mapping[str, str | int], patience_s: float, objection: Objection
    ) -> Passage:
        """Return at once."""
        del method, path, params, patience_s, objection
        return self

    def try_enter(self, method: str, path: str, params: Mapping[str, str | int]) -> Passage | None:
        """Return at once."""
        del method, path, params
        return self

    def limited(self, limited: RateLimited) -> None:
        """Need not know."""

    def clock_changed(self) -> None:
        """Need not know."""

    def answered(self, headers: Mapping[str, str]) -> None:
        """Need not know."""

    def __enter__(self) -> Passage:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note nothing."""


class Shortcut(Protocol):
    """Another way to the exchange, for some signed requests."""

    def takes(self, method: str, path: str) -> bool:
        """Tell whether such a request would go this way now."""

    async def request(
        self, method: str, path: str, params: Mapping[str, str | int], timeout_s: float
    ) -> HttpResponse | None:
        """Return the reply as REST would have given it, None if the request was not sent and may go by REST."""

    def start(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        timeout_s: float,
        on_end: "Callable[[HttpResponse | ExchangeError], None]",
    ) -> None:
        """Send a request that it ``takes``, at once; ``on_end`` is called with what came of it, also if that is now."""


@dataclass(slots=True)
class RequestUsage:
    """What the exchange's headers say about our use of its limits, and what we counted ourselves."""

    sent: int = 0
    refused: int = 0
    unknown: int = 0
    by_shortcut: int = 0
    used_weight_1m: int = 0
    order_count_10s: int = 0
    order_count_1m: int = 0
    counted_ms: dict[str, int] = field(default_factory=dict)
    """When the exchange said each of these three, by its own clock: they are of windows that end."""
    last_round_trip_ms: float = 0.0
    round_trips_ms: dict[str, float] = field(default_factory=dict)
    """Last round trip by method and path, the newest last; bounded, because paths are a fixed set."""


_USAGE_HEADERS = {
    "x-mbx-used-weight-1m": "used_weight_1m",
    "x-mbx-order-count-10s": "order_count_10s",
    "x-mbx-order-count-1m": "order_count_1m",
}
_BANNED_UNTIL = re.compile(r"banned until (\d{12,14})")
_UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007, -2012, -4083})
"""Codes that leave the outcome open: faults and timeouts inside of the exchange, and batches that failed at some point.

Of -1001 the documentation says that nothing was executed, and elsewhere that one has to ask.
"""
_CLOCK_CODES = frozenset({-1021, -5028})
_AUTH_CODES = frozenset({-1002, -1022, -2014, -2015, -2017})
TOO_MANY_REQUESTS = -1003
CLOCK_CHANGED_MS = 1000
"""From here on another offset of the exchange's clock is a change of its time, and not the reading of it."""
OVERLOADED = -1008
TOO_MANY_ORDERS = -1015
"""A limit on new orders only: cancels and questions are allowed meanwhile."""
_DEFAULT_RETRY_AFTER_S = 10.0
_FIREWALL_RETRY_AFTER_S = 120.0
"""A 403 without a code comes from the firewall before the exchange, which wants minutes of silence."""


class BinanceRest:
    """Requests to Binance's REST interface; each either returns decoded JSON or raises by what the caller must do.

    ``recv_window_ms`` bounds how late a signed request may still be executed. Timestamps and signatures are made at
    the moment of sending. While a rate limit or ban lasts nothing is sent: the call raises RateLimited at once.
    """

    MEASURE_WITHIN_S = 1.0
    MEASURE_AGAIN_S = 1.0

    def __init__(
        self,
        transport: HttpTransport,
        clock: Clock,
        *,
        api_key: str = "",
        api_secret: str = "",
        timeout_s: float = 3.0,
        recv_window_ms: int = 2000,
        server_clock: ServerClock | None = None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._signer = Signer(api_key, api_secret)
        self._timeout_s = timeout_s
        self.recv_window_ms = recv_window_ms
        self._blocked_until_ns = 0
        self._banned = False
        self.server_clock = server_clock or ServerClock(clock)
        self.usage = RequestUsage()
        self.pace: Pace = Unpaced()
        """Decides when requests leave; whoever shares out the limits puts another one here."""
        self.shortcut: Shortcut | None = None
        self.clock_is_doubtful = False
        """A timestamp of ours was refused, or our clock set, and the offset has not been measured since."""
        self._measuring = asyncio.Lock()
        self._measure_after_ns = -(10**18)
        self.on_key_refused: Callable[[AuthFailed], None] = lambda _refusal: None
        """Called whenever the exchange does not accept the key, its signature or its rights."""

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        security: Security = Security.NONE,
        timeout_s: float | None = None,
        objection: Objection = no_objection,
        patience_s: float | None = None,
        on_signing: Callable[[], None] = unnoted,
    ) -> Any:
        """Return the decoded JSON of a success; raise NotSent, OutcomeUnknown or a kind of Refused.

        It may wait for ``patience_s`` before it leaves, by default for as long as the answer may take. ``objection``
        is asked if it has to wait, and ``on_signing`` called at the moment of which its timestamp is.
        """
        self.refuse_while_limited()
        if security is Security.SIGNED and self.server_clock.has_stepped():
            await self.mend_clock()
            if reason := objection():
                raise NotSent(reason)
        params, timeout_s = params or {}, timeout_s or self._timeout_s
        patience_s = patience_s or timeout_s
        with await self.pace.enter(method, path, params, patience_s, objection) as passage:
            self.refuse_while_limited()  # it may have had to wait, and have become unwelcome meanwhile
            on_signing()
            response = await self._send(method, path, params, security, timeout_s)
            passage.answered(response.headers)
        return self._decode(method, path, response)

    def start(
        self,
        method: str,
        path: str,
        params: Callable[[], Mapping[str, str | int]],
        on_end: Callable[[Any], None],
    ) -> bool:
        """Send a signed request at once if there is a shortcut for it and nothing has to be waited for.

        Returns whether it was sent. Then, and only then, ``params`` is called for what it says, and ``on_end`` once:
        with what ``call`` would return, or with the ExchangeError that it would raise.
        """
        shortcut = self.shortcut
        if shortcut is None or not shortcut.takes(method, path):
            return False
        if self.limited_for_s > 0 or self.server_clock.has_stepped():
            return False
        passage = self.pace.try_enter(method, path, {})
        if passage is None:
            return False
        on_answer = partial(self._ended, method, path, passage, self._clock.monotonic_ns(), on_end)
        self.usage.sent += 1
        self.usage.by_shortcut += 1
        try:
            shortcut.start(method, path, params(), self._timeout_s, on_answer)
        except BaseException as error:  # a fault of ours: it may count at the exchange, but waits for nothing
            passage.__exit__(type(error), error, error.__traceback__)
            raise
        return True

    def _ended(
        self,
        method: str,
        path: str,
        passage: Passage,
        started_ns: int,
        on_end: Callable[[Any], None],
        answer: HttpResponse | ExchangeError,
    ) -> None:
        """Have what came of a request be known as it is of one that was waited for."""
        result: Any
        try:
            with passage:
                if isinstance(answer, ExchangeError):
                    self.usage.unknown += isinstance(answer, OutcomeUnknown)
                    raise answer
                self._note_reply(method, path, (self._clock.monotonic_ns() - started_ns) / 1e6, answer)
                passage.answered(answer.headers)
            result = self._decode(method, path, answer)
        except ExchangeError as error:
            result = error
        on_end(result)

    def goes_by_shortcut(self, method: str, path: str) -> bool:
        """Tell whether such a request would go by another way than REST now."""
        return self.shortcut is not None and self.shortcut.takes(method, path)

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        security: Security,
        timeout_s: float,
    ) -> HttpResponse:
        """Return the reply, by the shortcut if there is one; REST only if that has certainly not sent it."""
        started_ns = self._clock.monotonic_ns()
        self.usage.sent += 1
        response = None
        try:
            if self.shortcut is not None and security is Security.SIGNED:
                response = await self.shortcut.request(method, path, params, timeout_s)
            self.usage.by_shortcut += response is not None
            if response is None:
                headers = {} if security is Security.NONE else self._signer.header()
                query = self._query(params, security)
                response = await self._transport.request(method, path, query, headers, timeout_s)
        except OutcomeUnknown:
            self.usage.unknown += 1
            raise
        self._note_reply(method, path, (self._clock.monotonic_ns() - started_ns) / 1e6, response)
        return response

    async def close(self) -> None:
        """Release the connections."""
        await self._transport.close()

    @property
    def time_is_known(self) -> bool:
        """Tell whether the exchange's time is what we take it for, as far as anything has been seen of it."""
        return not self.clock_is_doubtful and not self.server_clock.has_stepped()

    async def synchronise_clock(self, samples: int = 3) -> None:
        """Measure the offset to the exchange's clock anew, by the best of a few samples."""
        before_ms, was_known = self.server_clock.offset_ms, self.time_is_known
        self.server_clock.restart()
        try:
            for _ in range(samples):
                await self._sample_clock()
            self.clock_is_doubtful = False
        finally:  # what one sample has told is known, whatever becomes of the next
            if not was_known or abs(self.server_clock.offset_ms - before_ms) >= CLOCK_CHANGED_MS:
                self.pace.clock_changed()

    async def _sample_clock(self) -> None:
        sent_ms = self._clock.time_ms()
        reply = await self.call("GET", "/fapi/v1/time")
        received_ms = self._clock.time_ms()
        try:
            server_ms = int(reply["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise OutcomeUnknown("the reply about the time could not be read") from error
        self.server_clock.learn(sent_ms=sent_ms, received_ms=received_ms, server_ms=server_ms)

    async def mend_clock(self, within_s: float = MEASURE_WITHIN_S) -> None:
        """Measure the offset if there is a doubt about it; for whom nobody else may be left to do it.

        Where that fails, or takes too long, nothing is raised and it is not tried again for a second: requests leave
        all the same, for a timestamp that is wrong is refused, and a cancel must not wait.
        """
        async with self._measuring:
            if self.time_is_known or self._clock.monotonic_ns() < self._measure_after_ns:
                return
            try:
                async with asyncio.timeout(within_s):
                    await self.synchronise_clock(samples=1)
            except (TimeoutError, ExchangeError):
                self.clock_is_doubtful = True
                self._measure_after_ns = self._clock.monotonic_ns() + int(self.MEASURE_AGAIN_S * 1e9)

    def _query(self, params: Mapping[str, str | int], security: Security) -> str:
        if security is not Security.SIGNED:
            return query_text(params)
        stamped = {**params, "recvWindow": self.recv_window_ms, "timestamp": self.server_clock.time_ms()}
        return self._signer.signed_query(query_text(stamped))

    def signed_for_socket(self, params: Mapping[str, str | int]) -> dict[str, str | int]:
        """Return the parameters with key, timestamp and signature as the WebSocket API wants them."""
        stamped = {**params, "recvWindow": self.recv_window_ms, "timestamp": self.server_clock.time_ms()}
        return self._signer.signed_params(stamped)

    @property
    def limited_for_s(self) -> float:
        """Return for how long nothing is to be sent because of a limit; 0 or less if there is none in force."""
        return (self._blocked_until_ns - self._clock.monotonic_ns()) / 1e9

    def refuse_while_limited(self) -> None:
        """Return if nothing keeps requests back; else raise RateLimited with the time that is left."""
        remaining_s = self.limited_for_s
        if remaining_s > 0:
            status = 418 if self._banned else 429
            raise RateLimited(
                TOO_MANY_REQUESTS,
                "not sent: a rate limit is in force",
                status,
                retry_after_s=remaining_s,
                banned=self._banned,
            )

    def _note_reply(self, method: str, path: str, round_trip_ms: float, response: HttpResponse) -> None:
        self.usage.last_round_trip_ms = round_trip_ms
        trips, endpoint = self.usage.round_trips_ms, f"{method} {path}"
        trips.pop(endpoint, None)
        trips[endpoint] = round_trip_ms
        for header, name in _USAGE_HEADERS.items():
            text = response.headers.get(header, "")
            if text.isdigit():  # order endpoints send -1 for the weight: not a number to believe
                setattr(self.usage, name, int(text))
                self.usage.counted_ms[name] = self.server_clock.time_ms()

    def _note_limit(self, limited: RateLimited) -> None:
        """Send nothing until the limit has passed, unless it is on orders only; a late reply shortens none."""
        self.pace.limited(limited)
        if limited.code == TOO_MANY_ORDERS:
            return
        until_ns = self._clock.monotonic_ns() + int(limited.retry_after_s * 1e9)
        if until_ns > self._blocked_until_ns:
            self._blocked_until_ns, self._banned = until_ns, limited.banned

    def _decode(self, method: str, path: str, response: HttpResponse) -> Any:
        try:
            body = msgspec.json.decode(response.body) if response.body else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            body = None
        if response.status == 200 and body is not None:
            return body
        error = classify(method, path, response, body, self.server_clock.time_ms())
        if isinstance(error, OutcomeUnknown):
            self.usage.unknown += 1
        else:
            self.usage.refused += 1
        if isinstance(error, RateLimited):
            self._note_limit(error)
        self.clock_is_doubtful = self.clock_is_doubtful or isinstance(error, ClockSkew)
        if isinstance(error, AuthFailed):
            self.on_key_refused(error)
        raise error


def classify(method: str, path: str, response: HttpResponse, body: Any, now_ms: int) -> Exception:
    """Return what a reply that is no success means: by code first, then by message, then by HTTP status.

    Anything that does not prove that the request was not executed is OutcomeUnknown.

    Source: binance-futures general info, HTTP return codes and error codes.
    """
    status = response.status
    code, message = _code_and_message(body)
    if code == OVERLOADED or (status == 503 and message.startswith("Service Unavailable")):
        return Overloaded(code, message, status)
    if status in (418, 429) or code in (TOO_MANY_REQUESTS, TOO_MANY_ORDERS) or (status == 403 and code == 0):
        return RateLimited(
            code,
            message,
            status,
            retry_after_s=_retry_after_s(response, message, now_ms),
            banned=status == 418,
        )
    if status >= 500 or status == 408 or status < 400 or code in _UNKNOWN_CODES:
        return OutcomeUnknown(f"{method} {path}: HTTP {status} {message}".rstrip())
    if status == 400 and not code and method != "GET":
        # every refusal of the exchange's own has a code, and that of a copy (-4116) says that the first was taken
        return OutcomeUnknown(f"{method} {path}: HTTP 400 without a code")
    if code in _CLOCK_CODES:
        return ClockSkew(code, message, status)
    if code in _AUTH_CODES or status == 401:
        return AuthFailed(code, message, status)
    return Refused(code, message or f"HTTP {status} without a readable body", status)


def refusal_of_entry(code: int, message: str) -> Refused | OutcomeUnknown:
    """Return what the error of one order in the reply to a batch means; the reply as a whole was a success."""
    message = printable(message)
    if code in _UNKNOWN_CODES:
        return OutcomeUnknown(f"{message} (code {code})")
    if code in (TOO_MANY_REQUESTS, TOO_MANY_ORDERS):
        return RateLimited(code, message, 200, retry_after_s=_DEFAULT_RETRY_AFTER_S, banned=False)
    if code == OVERLOADED:
        return Overloaded(code, message, 200)
    if code in _CLOCK_CODES:
        return ClockSkew(code, message, 200)
    return Refused(code, message, 200)


def _code_and_message(body: Any) -> tuple[int, str]:
    if not isinstance(body, dict):
        return 0, ""
    code = body.get("code", 0)
    return (code if isinstance(code, int) else 0), printable(str(body.get("msg", "")))


def printable(text: str, limit: int = 200) -> str:
    """Return text from outside, made safe to log: control characters escaped, cut to ``limit`` characters."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text[:limit]
    )


def _retry_after_s(response: HttpResponse, message: str, now_ms: int) -> float:
    """Return for how long to be silent: a duration needs no clock, the moment of a message goes by the exchange's.

    At least a second: whole seconds may be rounded down, and a request in the last one makes a ban longer.
    """
    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return max(float(text), 1.0)
    banned_until = _BANNED_UNTIL.search(message)
    if banned_until:
        return max((int(banned_until.group(1)) - now_ms) / 1000, 1.0)
    return _FIREWALL_RETRY_AFTER_S if response.status == 403 else _DEFAULT_RETRY_AFTER_S


UNANSWERED = (NotSent, OutcomeUnknown, Overloaded)
"""What a request that changes nothing may be tried again after."""
NOT_EXECUTED = (Overloaded,)
"""What a request that changes something may be tried again after, if it is as right a moment later as it is now."""


async def with_retries(
    attempt: Callable[[], Any],
    *,
    after: tuple[type[ExchangeError], ...] = UNANSWERED,
    attempts: int = 3,
    pause_s: float = 0.2,
    cap_s: float = 2.0,
) -> Any:
    """Return the first success of a request, trying it again after the failures named, with growing pauses.

    By default that is for requests that change nothing: an unknown outcome is simply asked again. Other failures are
    raised at once.
    """
    for remaining in reversed(range(attempts)):
        try:
            return await attempt()
        except after:
            if remaining == 0:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, cap_s)
    raise AssertionError("unreachable: attempts must be at least 1")
