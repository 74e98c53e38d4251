"""REST: exact bytes, honest outcomes, and silence while a limit is in force."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from core.lanes import Lanes
from core.rate_budget import RateBudget
from sim.virtual_time import VirtualClock, run_virtual
from test.blackbox.proxy import Proxy
from utils.errors import (
    AuthFailed,
    BotError,
    ClockSkew,
    ExchangeError,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    Refused,
)
from utils.http import (
    NOT_EXECUTED,
    UNANSWERED,
    AiohttpTransport,
    BinanceRest,
    HttpResponse,
    Security,
    classify,
    printable,
    with_retries,
)
from utils.secret import Secret
from utils.signing import Signer

NOW_MS = 1_790_000_000_000
DOCUMENTED_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
DOCUMENTED_KEY = "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83"


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def time_ms(self) -> int:
        """The wall clock."""
        return self.now_ms

    def monotonic_ns(self) -> int:
        """The same, in ns."""
        return self.now_ms * 1_000_000


class SteppedClock(HandClock):
    """One whose wall clock was set, ``stepped_ms`` from where it should be."""

    stepped_ms = 0

    def time_ms(self) -> int:
        """The wall clock."""
        return self.now_ms + self.stepped_ms


class Tape:
    """A transport that plays back what was recorded, in order, and keeps what was asked for."""

    def __init__(
        self, *replies: HttpResponse | Exception, clock: HandClock | None = None, takes_ms: int = 0
    ) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, str, str, dict[str, str], float]] = []
        self.clock = clock
        self.takes_ms = takes_ms
        self.closed = False

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """The next reply, after the time that it takes."""
        self.requests.append((method, path, query, dict(headers), timeout_s))
        if self.clock is not None:
            self.clock.now_ms += self.takes_ms
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        """The tape is put away."""
        self.closed = True


def reply(body: Any = b"{}", status: int = 200, **headers: str) -> HttpResponse:
    """What came back; anything but bytes becomes JSON, an underscore in a header's name a hyphen."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return HttpResponse(status, {name.replace("_", "-"): text for name, text in headers.items()}, raw)


def refusal(status: int, code: int, message: str = "no", **headers: str) -> HttpResponse:
    """An error as Binance words it."""
    return reply({"code": code, "msg": message}, status, **headers)


def rest_on(tape: Tape, clock: HandClock | None = None, **options: Any) -> BinanceRest:
    """A client whose requests go onto the tape."""
    return BinanceRest(
        tape, clock or HandClock(), api_key=DOCUMENTED_KEY, api_secret=DOCUMENTED_SECRET, **options
    )


# --- signing ------------------------------------------------------------------------------------------------

ORDER = "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
BATCH = (
    "batchOrders=%5B%7B%22symbol%22%3A%22BTCUSDT%22%2C%22side%22%3A%22BUY%22%2C%22type%22%3A%22LIMIT%22%2C"
    "%22timeInForce%22%3A%22GTX%22%2C%22price%22%3A%229000%22%2C%22quantity%22%3A%221%22%7D%5D"
)


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (
            f"{ORDER}&recvWindow=5000&timestamp=1591702613943",
            "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
        ),
        (
            "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
            "quantity=1&price=9000&recvWindow=5000&timestamp=1591702613943",
            "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4",
        ),
        (
            f"{BATCH}&timestamp=1591702613943",
            "6f4b90f229a338502517e340ccefc4cb506944302f69acfc267d3b8ef510d40c",
        ),
        (
            f"apiKey={DOCUMENTED_KEY}&price=9000&quantity=1&recvWindow=5000&side=BUY&symbol=BTCUSDT"
            "&timeInForce=GTC&timestamp=1591702613943&type=LIMIT",
            "5b8fe2b962b8e1b2b82fb40e548d56147c2a8f835b5f1393ae4b4b90c38b527f",
        ),
    ],
)
def test_signature_equals_the_documented_one(payload: str, signature: str) -> None:
    """The exchange's own examples."""
    assert Signer(DOCUMENTED_KEY, Secret(DOCUMENTED_SECRET)).signature(payload) == signature


async def test_signed_request_carries_window_time_and_last_the_signature_of_what_is_sent() -> None:
    """The documented order, made by a call: the very bytes of the query are signed."""
    clock, tape = HandClock(), Tape(reply())
    clock.now_ms = 1591702613943
    params = dict(parse_qsl(ORDER))
    await rest_on(tape, clock, recv_window_ms=5000).call("POST", "/fapi/v1/order", params, Security.SIGNED)
    signed = "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9"
    expected = f"{ORDER}&recvWindow=5000&timestamp=1591702613943&signature={signed}"
    assert tape.requests == [("POST", "/fapi/v1/order", expected, {"X-MBX-APIKEY": DOCUMENTED_KEY}, 3.0)]


async def test_lists_are_encoded_before_they_are_signed() -> None:
    """Compact JSON with every bracket and quote escaped."""
    tape = Tape(reply())
    rest = rest_on(tape)
    params = {
        "batchOrders": '[{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTX",'
        '"price":"9000","quantity":"1"}]'
    }
    await rest.call("POST", "/fapi/v1/batchOrders", params, Security.SIGNED)
    query = tape.requests[0][2]
    assert query.startswith(f"{BATCH}&recvWindow=2000&timestamp={NOW_MS}&signature=")
    payload, _, signature = query.rpartition("&signature=")
    assert signature == Signer(DOCUMENTED_KEY, DOCUMENTED_SECRET).signature(payload)


@pytest.mark.parametrize(
    ("security", "headers"), [(Security.NONE, {}), (Security.KEY, {"X-MBX-APIKEY": DOCUMENTED_KEY})]
)
async def test_request_that_needs_no_signature_has_none(security: Security, headers: dict[str, str]) -> None:
    """The key goes only where it is asked for."""
    tape = Tape(reply())
    await rest_on(tape, timeout_s=1.5).call("GET", "/fapi/v1/premiumIndex", {"symbol": "BTCUSDT"}, security)
    assert tape.requests == [("GET", "/fapi/v1/premiumIndex", "symbol=BTCUSDT", headers, 1.5)]


async def test_call_may_have_a_timeout_of_its_own() -> None:
    """And no parameters make an empty query."""
    tape = Tape(reply())
    await rest_on(tape).call("GET", "/fapi/v1/ping", timeout_s=0.5)
    assert tape.requests == [("GET", "/fapi/v1/ping", "", {}, 0.5)]


# --- classification -----------------------------------------------------------------------------------------

HTML = b"<html><body>502 Bad Gateway</body></html>"
UNKNOWN_ERROR = b'{"code":0,"msg":"Unknown error, please check your request or try again later."}'


def outcome(response: HttpResponse) -> Exception:
    """What a reply means."""
    try:
        body = msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None
    return classify("POST", "/fapi/v1/order", response, body, NOW_MS)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (refusal(400, -2019, "Margin is insufficient."), Refused),
        (refusal(408, -1007, "Timeout waiting for response from backend server."), OutcomeUnknown),
        (refusal(429, -1003, "Too many requests"), RateLimited),
        (refusal(429, -1015, "Too many new orders"), RateLimited),
        (refusal(418, -1003, "Way too many requests; IP banned until 1790000060000"), RateLimited),
        (reply(HTML, 418), RateLimited),
        (reply(HTML, 500), OutcomeUnknown),
        (reply(HTML, 502), OutcomeUnknown),
        (reply(HTML, 504), OutcomeUnknown),
        (refusal(500, -1000, "Request occur unknown error."), OutcomeUnknown),
        (reply(UNKNOWN_ERROR, 503), OutcomeUnknown),
        (reply(HTML, 503), OutcomeUnknown),
        (reply(b"", 503), OutcomeUnknown),
        (reply({"code": 0, "msg": "Service Unavailable."}, 503), Overloaded),
        (
            refusal(503, -1001, "Internal error; unable to process your request. Please try again."),
            OutcomeUnknown,
        ),
        (refusal(503, -1008, "Request throttled by system-level protection."), Overloaded),
        (refusal(401, -2014, "API-key format invalid."), AuthFailed),
        (refusal(401, -2015, "Invalid API-key, IP, or permissions for action."), AuthFailed),
        (reply(HTML, 401), AuthFailed),
        (reply({"code": 0, "msg": "Service unavailable from a restricted location"}, 451), Refused),
        (refusal(500, -1008, "Request throttled by system-level protection."), Overloaded),
        (refusal(503, -1003, "Too many requests"), RateLimited),
        (refusal(500, -2019, "Margin is insufficient."), OutcomeUnknown),
        (reply(HTML, 302), OutcomeUnknown),
        (reply(HTML, 403), RateLimited),
        (reply(HTML, 404), Refused),
    ],
    ids=lambda value: (
        f"{value.status} {value.body[:50]!r}" if isinstance(value, HttpResponse) else value.__name__
    ),
)
def test_every_http_status_has_its_meaning(response: HttpResponse, kind: type[Exception]) -> None:
    """Row by row of the documentation's table."""
    assert type(outcome(response)) is kind


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ((-1000, -1001, -1006, -1007, -2012, -4083), OutcomeUnknown),
        ((-1003, -1015), RateLimited),
        ((-1008,), Overloaded),
        ((-1021, -5028), ClockSkew),
        ((-1002, -1022, -2014, -2015, -2017), AuthFailed),
        (
            (
                *(-1010, -1013, -1014, -1016, -1020, -1099, -1109, -1100, -1102, -1106, -1111, -1115, -1116),
                *(-1117, -1121, -1122, -1125, -1128, -1130, -2010, -2011, -2013, -2018, -2019, -2020),
                *(-2021, -2022, -2023, -2024, -2025, -2027, -2028, -4001, -4002, -4003, -4004, -4005, -4013),
                *(-4014, -4015, -4016, -4021, -4023, -4024, -4028, -4032, -4045, -4046, -4047, -4048, -4059),
                *(-4060, -4061, -4062, -4067, -4068, -4082, -4087, -4088, -4105, -4109, -4116, -4118),
                *(-4120, -4131, -4140, -4141, -4161, -4164, -4171, -4192, -4400, -4402, -4531, -5021, -5022),
                *(-5024, -5025, -5026, -5027, -5029, -5037, -5040, -5043, -5047),
            ),
            Refused,
        ),
    ],
)
def test_every_code_of_a_400_has_its_meaning(codes: tuple[int, ...], kind: type[Exception]) -> None:
    """What is not known to leave the outcome open, or to concern clock or keys, is a plain refusal."""
    for code in codes:
        found = outcome(refusal(400, code))
        assert type(found) is kind, code
        if isinstance(found, Refused):
            assert (found.code, found.message, found.status) == (code, "no", 400)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    status=st.integers(100, 599),
    body=st.one_of(st.none(), st.binary(max_size=20)),
)
def test_unreadable_reply_proves_nothing_unless_its_status_does(
    method: str, status: int, body: bytes | None
) -> None:
    """Below 400 and from 500 on it may have been executed; so may a copy of what is refused with 400."""
    found = classify(method, "/x", HttpResponse(status, {}, b"?"), body, NOW_MS)
    may_be_a_copy = status == 400 and method != "GET"
    assert isinstance(found, Refused) is (400 <= status < 500 and status != 408 and not may_be_a_copy)
    assert isinstance(found, Refused | OutcomeUnknown)


def test_refusal_without_a_body_still_says_something() -> None:
    """The status, at least."""
    assert str(outcome(reply(b"", 404))) == "HTTP 404 without a readable body (code 0, HTTP 404)"


def test_code_that_is_no_number_is_none() -> None:
    """Only the status is left to go by."""
    found = outcome(reply({"code": "abc", "msg": "?"}, 404))
    assert isinstance(found, Refused)
    assert found.code == 0
    assert isinstance(outcome(reply({"code": "abc", "msg": "?"}, 400)), OutcomeUnknown)


@pytest.mark.parametrize(
    ("response", "seconds", "banned"),
    [
        (refusal(429, -1003, retry_after="7"), 7, False),
        (refusal(429, -1015), 10, False),
        (refusal(429, -1003, retry_after="soon"), 10, False),
        (refusal(418, -1003, retry_after="120"), 120, True),
        (refusal(418, -1003, "IP banned until 1790000060000. Use the websocket"), 60, True),
        (refusal(418, -1003, "IP banned until 1789999999999"), 1, True),
        (refusal(418, -1003, "IP banned until 1789999999999", retry_after="5"), 5, True),
        (refusal(418, -1003, "IP banned until 1790000000900", retry_after="0"), 1, True),
        (reply(HTML, 403), 120, False),
        (reply(HTML, 403, retry_after="300"), 300, False),
    ],
)
def test_limit_says_how_long_it_lasts(response: HttpResponse, seconds: float, banned: bool) -> None:
    """By the header, else by the moment in the message, at least a second; else a careful guess."""
    found = outcome(response)
    assert isinstance(found, RateLimited)
    assert (found.retry_after_s, found.banned) == (seconds, banned)


def test_refusal_with_a_code_and_status_403_is_one_of_the_exchange() -> None:
    """Only the firewall in front of it answers without a code."""
    assert type(outcome(refusal(403, -2019))) is Refused


def test_text_from_outside_cannot_forge_a_log_line() -> None:
    """Control characters are escaped, and it is cut."""
    found = outcome(refusal(400, -1100, "bad\n2026-11-21 INFO all is well\x1b[2J" + "x" * 500))
    assert isinstance(found, Refused)
    assert found.message.startswith("bad\\n2026-11-21 INFO all is well\\x1b[2J")
    assert "\n" not in str(found)
    assert len(found.message) < 220


@given(st.text(max_size=300))
def test_printable_text_is_printable(text: str) -> None:
    """Whatever it was."""
    assert printable(text).isprintable()
    assert printable("plain text") == "plain text"


def test_kinds_of_error_tell_what_to_do() -> None:
    """A plain refusal is caught with its kinds; nothing escapes the root."""
    for kind in (RateLimited, Overloaded, ClockSkew, AuthFailed):
        assert issubclass(kind, Refused)
    for kind in (Refused, NotSent, OutcomeUnknown):
        assert issubclass(kind, ExchangeError)
    assert issubclass(ExchangeError, BotError)


# --- calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [(b"{}", {}), (b"[]", []), (b'{"code":200,"msg":"done"}', {"code": 200, "msg": "done"}), (b"0", 0)],
)
async def test_success_is_the_decoded_body(body: bytes, value: Any) -> None:
    """An empty one too, and one that holds a code of 200."""
    assert await rest_on(Tape(reply(body))).call("GET", "/x") == value


@pytest.mark.parametrize("body", [b"", b"null", HTML, b'{"orderId":1', b"\xff\xfe", b"[" * 100_000], ids=len)
async def test_success_that_cannot_be_read_is_an_unknown_outcome(body: bytes) -> None:
    """The order may rest."""
    with pytest.raises(OutcomeUnknown, match="POST /fapi/v1/order: HTTP 200"):
        await rest_on(Tape(reply(body))).call("POST", "/fapi/v1/order")


async def test_headers_tell_of_limits_used_and_minus_one_is_no_number() -> None:
    """Order endpoints send -1 for the weight; the last number stands."""
    tape = Tape(
        reply(x_mbx_used_weight_1m="40"),
        reply(x_mbx_used_weight_1m="-1", x_mbx_order_count_10s="3", x_mbx_order_count_1m="12"),
        reply(),
    )
    rest = rest_on(tape)
    for _ in range(3):
        await rest.call("GET", "/x")
    usage = rest.usage
    assert (usage.used_weight_1m, usage.order_count_10s, usage.order_count_1m, usage.sent) == (40, 3, 12, 3)
    assert usage.counted_ms == dict.fromkeys(
        ("used_weight_1m", "order_count_10s", "order_count_1m"), rest.server_clock.time_ms()
    )


async def test_headers_of_a_refusal_count_too() -> None:
    """It used the limits as well."""
    rest = rest_on(Tape(refusal(400, -2019, x_mbx_order_count_10s="9")))
    with pytest.raises(Refused):
        await rest.call("POST", "/x")
    assert (rest.usage.order_count_10s, rest.usage.refused, rest.usage.unknown) == (9, 1, 0)


async def test_reply_that_leaves_the_outcome_open_counts_as_unknown() -> None:
    """Not as refused: the order may rest."""
    rest = rest_on(Tape(reply(UNKNOWN_ERROR, 503), reply(HTML)))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await rest.call("POST", "/x")
    assert (rest.usage.sent, rest.usage.refused, rest.usage.unknown) == (2, 0, 2)


async def test_round_trips_are_measured_by_endpoint() -> None:
    """The last of each, the newest last."""
    clock = HandClock()
    tape = Tape(reply(), reply(), reply(), clock=clock, takes_ms=5)
    rest = rest_on(tape, clock)
    await rest.call("GET", "/a")
    tape.takes_ms = 7
    await rest.call("POST", "/a")
    assert list(rest.usage.round_trips_ms.items()) == [("GET /a", 5.0), ("POST /a", 7.0)]
    assert rest.usage.last_round_trip_ms == 7.0
    await rest.call("GET", "/a")
    assert list(rest.usage.round_trips_ms.items()) == [("POST /a", 7.0), ("GET /a", 7.0)]


async def test_unknown_outcomes_of_the_network_are_counted() -> None:
    """And raised as they are; what was not sent is not unknown."""
    rest = rest_on(Tape(OutcomeUnknown("no answer"), NotSent("no connection")))
    with pytest.raises(OutcomeUnknown, match="no answer"):
        await rest.call("POST", "/x")
    with pytest.raises(NotSent, match="no connection"):
        await rest.call("POST", "/x")
    assert (rest.usage.sent, rest.usage.unknown, rest.usage.refused) == (2, 1, 0)


@pytest.mark.parametrize(("status", "banned"), [(429, False), (418, True)])
async def test_nothing_is_sent_while_a_limit_is_in_force(status: int, banned: bool) -> None:
    """Every call is refused here, with the seconds that are left, until they have passed."""
    clock, tape = HandClock(), Tape(refusal(status, -1003, retry_after="7"), reply())
    rest = rest_on(tape, clock)
    with pytest.raises(RateLimited):
        await rest.call("GET", "/x")
    clock.now_ms += 6000
    with pytest.raises(RateLimited, match="not sent") as caught:
        await rest.call("DELETE", "/y")
    assert (caught.value.retry_after_s, caught.value.banned, caught.value.status) == (1.0, banned, status)
    assert len(tape.requests) == 1
    assert rest.usage.sent == 1
    clock.now_ms += 1000
    assert await rest.call("GET", "/x") == {}


async def test_limit_on_orders_keeps_nothing_else_back() -> None:
    """Cancels and questions are allowed meanwhile; who places orders is told how long to wait."""
    tape = Tape(refusal(429, -1015, "Too many new orders", retry_after="7"), reply())
    rest = rest_on(tape)
    with pytest.raises(RateLimited) as caught:
        await rest.call("POST", "/fapi/v1/order")
    assert (caught.value.code, caught.value.retry_after_s) == (-1015, 7)
    assert await rest.call("DELETE", "/fapi/v1/batchOrders") == {}


async def test_late_reply_never_shortens_a_ban() -> None:
    """A 429 to a request that was sent before the ban asks for a second only; the ban stands."""
    replies = [refusal(418, -1003, retry_after="120"), refusal(429, -1003, retry_after="1")]
    clock = HandClock()
    rest = rest_on(Tape(*replies, reply()), clock)
    answers = await asyncio.gather(rest.call("GET", "/a"), rest.call("GET", "/b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [RateLimited, RateLimited]
    clock.now_ms += 119_000
    with pytest.raises(RateLimited, match="not sent") as caught:
        await rest.call("GET", "/c")
    assert (caught.value.retry_after_s, caught.value.banned) == (1.0, True)


async def test_end_of_a_ban_is_told_on_the_clock_of_the_exchange() -> None:
    """However wrong this machine's clock is: banned until 30 s from now, there and here."""
    clock = HandClock()
    rest = rest_on(Tape(refusal(418, -1003, f"IP banned until {NOW_MS + 30_000}.")), clock)
    rest.server_clock.offset_ms = -40_000
    clock.now_ms += 40_000
    with pytest.raises(RateLimited) as caught:
        await rest.call("GET", "/x")
    assert caught.value.retry_after_s == 30


async def test_clients_of_one_exchange_can_share_its_clock() -> None:
    """What one of them has measured stamps the requests of the other, as those of the wallet's host."""
    clock, tape = HandClock(), Tape(reply({"serverTime": NOW_MS + 5000}), reply())
    measuring = rest_on(tape, clock)
    other = rest_on(tape, clock, server_clock=measuring.server_clock)
    await measuring.synchronise_clock(samples=1)
    await other.call("GET", "/sapi/v1/account/apiRestrictions", security=Security.SIGNED)
    assert f"timestamp={NOW_MS + 5000}&" in tape.requests[1][2]


async def test_refused_timestamp_makes_the_clock_doubtful_until_it_is_measured() -> None:
    """Whoever keeps the clock sees it."""
    rest = rest_on(Tape(refusal(400, -1021), reply({"serverTime": NOW_MS + 250})))
    with pytest.raises(ClockSkew):
        await rest.call("GET", "/x", security=Security.SIGNED)
    assert rest.clock_is_doubtful
    await rest.synchronise_clock(samples=1)
    assert not rest.clock_is_doubtful


async def test_window_that_a_wrong_clock_took_for_full_is_counted_anew_once_the_clock_is_measured() -> None:
    """The exchange's last count goes for the minute that it really is; a clock that was right changes nothing."""
    clock = HandClock()
    begins_ms = NOW_MS - NOW_MS % 60_000
    said = ((10_000, "2"), (30_000, "2390"), (30_500, "1"), (12_000, "3"))
    replies = [reply({"serverTime": begins_ms + ms}, x_mbx_used_weight_1m=used) for ms, used in said]
    rest = rest_on(Tape(*replies), clock)
    lanes = rest.pace = Lanes(RateBudget(), rest.server_clock.time_ms, clock.monotonic_ns)
    used = []
    for _ in said:
        await rest.synchronise_clock(samples=1)
        used.append(lanes.used()[0])
    assert used == [2, 2390, 2391, 3]


async def test_count_of_a_minute_that_ends_does_not_fill_the_next_one_for_a_clock_that_was_set() -> None:
    """Set forward, it took the last half second of a full minute for the next, in which then nothing might leave."""
    clock = SteppedClock()
    clock.now_ms += 59_500 - NOW_MS % 60_000
    too_many = HttpResponse(429, {"retry-after": "1", "x-mbx-used-weight-1m": "2401"}, b'{"code":-1003}')
    time = reply({"serverTime": clock.now_ms + 1000}, x_mbx_used_weight_1m="1")
    rest = rest_on(Tape(too_many, time, reply()), clock)
    rest.pace = Lanes(RateBudget(), rest.server_clock.time_ms, clock.monotonic_ns, lambda: rest.time_is_known)
    clock.stepped_ms = 1200
    with pytest.raises(RateLimited):
        await rest.call("GET", "/x")
    clock.stepped_ms = 0
    clock.now_ms += 1000
    await rest.synchronise_clock(samples=1)
    await rest.call("DELETE", "/x", security=Security.SIGNED)


async def test_full_window_does_not_keep_a_time_in_doubt_from_being_asked_for() -> None:
    """The exchange's clock was set back: which window is full turns out with its time; one sample is enough."""
    said = {"x_mbx_used_weight_1m": "2400"}
    tape = Tape(
        reply({"code": -1021}, 400, **said),
        reply({"serverTime": NOW_MS - 30_000}, **said),
        OutcomeUnknown("lost"),
    )
    clock = HandClock()
    rest = rest_on(tape, clock)
    lanes = rest.pace = Lanes(
        RateBudget(), rest.server_clock.time_ms, clock.monotonic_ns, lambda: rest.time_is_known
    )
    with pytest.raises(ClockSkew):
        await rest.call("GET", "/x", security=Security.SIGNED)
    assert round(lanes.no_room_s()) == 40
    with pytest.raises(OutcomeUnknown):
        await rest.synchronise_clock()
    assert (len(tape.requests), round(lanes.no_room_s())) == (3, 10)


async def test_timestamps_are_the_exchanges_once_its_clock_was_measured() -> None:
    """Half a round trip is added to what it said; of three samples the quickest counts."""
    clock = HandClock()
    tape = Tape(
        *(reply({"serverTime": NOW_MS - 5000 + received}) for received in (5, 15, 30)),
        reply(),
        clock=clock,
        takes_ms=10,
    )
    rest = rest_on(tape, clock)
    await rest.synchronise_clock()
    assert (rest.server_clock.offset_ms, rest.server_clock.round_trip_ms) == (-4995, 10)
    sent_ms = clock.now_ms
    await rest.call("GET", "/x", security=Security.SIGNED)
    assert dict(parse_qsl(tape.requests[-1][2]))["timestamp"] == str(sent_ms - 4995)


async def test_request_that_waited_for_the_clock_is_not_sent_if_it_is_wanted_no_more() -> None:
    """The gate may have closed while the exchange's time was asked for, after a step of ours."""
    clock = SteppedClock()
    tape = Tape(*(reply({"serverTime": NOW_MS}) for _ in range(3)), reply())
    rest = rest_on(tape, clock)
    await rest.synchronise_clock(samples=1)
    for objection in ("the gate is closed", ""):
        clock.stepped_ms += 60_000
        asking = rest.call("POST", "/x", security=Security.SIGNED, objection=lambda: objection)  # noqa: B023
        if objection:
            with pytest.raises(NotSent, match=objection):
                await asking
        else:
            await asking
    assert [path for _, path, *_ in tape.requests] == 3 * ["/fapi/v1/time"] + ["/x"]


async def test_closing_closes_the_transport() -> None:
    """It holds the connections."""
    tape = Tape()
    await rest_on(tape).close()
    assert tape.closed


# --- retries ------------------------------------------------------------------------------------------------


def retried(
    *failures: Exception, attempts: int = 3, after: tuple[type[ExchangeError], ...] = UNANSWERED
) -> tuple[object, int, float]:
    """Read something that fails so first; return what came of it, after how many attempts, and how many seconds."""

    async def main(clock: VirtualClock) -> tuple[object, int, float]:
        waiting = list(failures)
        made = 0

        async def attempt() -> str:
            nonlocal made
            made += 1
            if waiting:
                raise waiting.pop(0)
            return "done"

        try:
            result: object = await with_retries(attempt, after=after, attempts=attempts)
        except ExchangeError as error:
            result = error
        return result, made, clock.monotonic_ns() / 1e9

    return run_virtual(main)


def test_reading_is_tried_again_after_what_proves_nothing() -> None:
    """Lost, unanswered or shed, with growing pauses."""
    assert retried() == ("done", 1, 0)
    assert retried(NotSent("no"), OutcomeUnknown("no")) == ("done", 3, pytest.approx(0.6))
    assert retried(Overloaded(-1008, "busy", 503)) == ("done", 2, pytest.approx(0.2))


def test_reading_gives_up_after_the_last_attempt() -> None:
    """With the last failure, and without another pause; pauses stop growing."""
    failures = [NotSent(str(number)) for number in range(7)]
    result, made, seconds = retried(*failures, attempts=7)
    assert (result, made) == (failures[-1], 7)
    assert seconds == pytest.approx(0.2 + 0.4 + 0.8 + 1.6 + 2.0 + 2.0)


@pytest.mark.parametrize(
    "failure",
    [
        Refused(-2013, "Order does not exist."),
        AuthFailed(-2015, "Invalid API-key", 401),
        RateLimited(-1003, "Too many", 429, retry_after_s=5, banned=False),
        ClockSkew(-1021, "Timestamp"),
    ],
)
def test_clear_answer_is_not_asked_for_again(failure: Exception) -> None:
    """A refusal is an answer."""
    assert retried(failure) == (failure, 1, 0)


def test_a_change_is_tried_again_only_after_it_was_certainly_not_executed() -> None:
    """A busy exchange that has said so; whatever may have been executed, or was refused, is not sent twice."""
    assert changed(Overloaded(-1008, "busy", 503), Overloaded(0, "Service Unavailable.", 503)) == ("done", 3)
    failures: list[ExchangeError] = [
        OutcomeUnknown("no answer"),
        NotSent("no connection"),
        Refused(-2019, "Margin is insufficient."),
        RateLimited(-1003, "Too many", 429, retry_after_s=5, banned=False),
    ]
    assert [changed(failure) for failure in failures] == [(failure, 1) for failure in failures]


def changed(*failures: ExchangeError) -> tuple[object, int]:
    """Change something that fails so first; return what came of it, after how many attempts."""
    result, made, _ = retried(*failures, after=NOT_EXECUTED)
    return result, made


async def test_no_attempt_at_all_is_a_mistake_of_the_caller() -> None:
    """There is nothing to return."""

    async def attempt() -> None:
        """Never called."""

    with pytest.raises(AssertionError, match="at least 1"):
        await with_retries(attempt, attempts=0)


# --- sockets ------------------------------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHANGES = ("POST", "PUT", "DELETE")


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """An HTTP server on loopback that gives every request to the handler; its origin."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server on loopback whose connections `talk` as they like; its origin."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def transport_to(origin: str) -> AsyncIterator[AiohttpTransport]:
    """A transport that is closed afterwards."""
    transport = AiohttpTransport(origin)
    try:
        yield transport
    finally:
        await transport.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset, not a farewell."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class SecondIsReset:
    """A server that answers the first request of all, resets the connection of the second, and answers the others."""

    def __init__(self) -> None:
        self.requests = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests until the connection ends."""
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            self.requests += 1
            if self.requests == 2:
                reset(writer)
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_request_arrives_byte_for_byte_and_its_reply_comes_back() -> None:
    """The query is not encoded again, headers pass, names of reply headers are lower case."""
    seen: list[tuple[str, str, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, request.headers.get("X-MBX-APIKEY")))
        return web.Response(body=b'{"a":1}', status=201, headers={"X-MBX-USED-WEIGHT-1M": "7"})

    async with serving(handler) as origin, transport_to(origin + "/") as transport:
        query = f"{BATCH}&signature=ab%2Bcd"
        answer = await transport.request("DELETE", "/fapi/v1/batchOrders", query, {"X-MBX-APIKEY": "k"}, 5)
        await transport.request("GET", "/fapi/v1/ping", "", {}, 5)
    assert seen == [("DELETE", f"/fapi/v1/batchOrders?{query}", "k"), ("GET", "/fapi/v1/ping", None)]
    assert (answer.status, answer.body, answer.headers["x-mbx-used-weight-1m"]) == (201, b'{"a":1}', "7")


async def test_refused_connection_was_not_sent() -> None:
    """Nobody listens there: it may be sent again."""
    async with transport_to(f"http://127.0.0.1:{free_port()}") as transport:
        with pytest.raises(NotSent, match="POST /fapi/v1/order: no connection"):
            await transport.request("POST", "/fapi/v1/order", "", {}, 5)


async def test_failed_encryption_was_not_sent() -> None:
    """A server that speaks no TLS gets no request."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as origin, transport_to(origin.replace("http", "https")) as transport:
        with pytest.raises(NotSent, match="no connection"):
            await transport.request("POST", "/x", "", {}, 5)


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("is_reset", [True, False])
async def test_change_whose_connection_is_cut_off_is_an_unknown_outcome(method: str, is_reset: bool) -> None:
    """The request was read, the answer never came; and it is sent once only."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if is_reset:
            reset(writer)
        else:
            writer.close()

    async with raw_server(talk) as origin, transport_to(origin) as transport:
        with pytest.raises(OutcomeUnknown, match=f"{method} /fapi/v1/order: no answer"):
            await transport.request(method, "/fapi/v1/order", "", {}, 5)
    assert connections == 1


@pytest.mark.parametrize("method", CHANGES)
async def test_order_on_a_connection_that_died_in_reserve_is_not_sent_twice(method: str) -> None:
    """The second request, on the kept connection, is read and then reset: unknown, and no third."""
    second = SecondIsReset()
    async with raw_server(second.talk) as origin, transport_to(origin) as transport:
        assert (await transport.request(method, "/x", "", {}, 5)).body == b"{}"
        with pytest.raises(OutcomeUnknown):
            await transport.request(method, "/x", "", {}, 5)
    assert second.requests == 2


async def test_read_on_a_connection_that_died_in_reserve_is_asked_again() -> None:
    """The second request is reset, the third one, on another connection, is answered."""
    second = SecondIsReset()
    async with raw_server(second.talk) as origin, transport_to(origin) as transport:
        for _ in range(2):
            assert (await transport.request("GET", "/x", "", {}, 5)).body == b"{}"
    assert second.requests == 3


async def test_read_that_is_cut_off_again_and_again_is_an_unknown_outcome() -> None:
    """Twice is enough: whoever asks knows best how often to."""
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)

    async with raw_server(talk) as origin, transport_to(origin) as transport:
        with pytest.raises(OutcomeUnknown, match="GET /x: no answer"):
            await transport.request("GET", "/x", "", {}, 5)
    assert connections == 2


async def test_answer_that_breaks_off_is_an_unknown_outcome() -> None:
    """Ten bytes of a hundred."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")
        writer.close()

    async with raw_server(talk) as origin, transport_to(origin) as transport:
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await transport.request("POST", "/x", "", {}, 5)


async def test_answer_that_is_no_http_is_an_unknown_outcome() -> None:
    """Whatever it was, it read the request."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    async with raw_server(talk) as origin, transport_to(origin) as transport:
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await transport.request("POST", "/x", "", {}, 5)


async def test_answer_that_does_not_come_in_time_is_an_unknown_outcome() -> None:
    """The server has the request and is silent."""
    never = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never.wait()
        writer.close()

    async with raw_server(talk) as origin, transport_to(origin) as transport:
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await transport.request("POST", "/x", "", {}, 0.05)
        never.set()


async def test_redirect_is_not_followed() -> None:
    """A pinned host stays pinned: the key goes nowhere else."""
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with serving(handler) as origin, transport_to(origin) as transport:
        assert (await transport.request("GET", "/here", "", {"X-MBX-APIKEY": "k"}, 5)).status == 302
    assert paths == ["/here"]


async def test_proxy_variables_and_cookies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads along by setting a variable, and the exchange sets none of its own."""
    cookies: list[str | None] = []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    async def handler(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with serving(handler) as origin, transport_to(origin) as transport:
        for _ in range(2):
            assert (await transport.request("GET", "/x", "", {}, 5)).status == 200
    assert cookies == [None, None]


async def test_one_dead_connection_is_enough_to_trust_none_of_its_age() -> None:
    """After one request without an answer the next takes a new connection; one that waits on an old one goes on."""
    together, release = asyncio.Barrier(2), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/together":
            await together.wait()
        if request.path == "/slow":
            await release.wait()
        return web.Response(text=request.path)

    async with serving(handler) as origin, transport_to(origin) as direct:
        with Proxy(urlsplit(origin).port or 0) as proxy:
            async with transport_to(f"http://127.0.0.1:{proxy.port}") as transport:
                await asyncio.gather(*(transport.request("GET", "/together", "", {}, 5) for _ in range(2)))
                await asyncio.to_thread(proxy.swallow)
                with pytest.raises(OutcomeUnknown):
                    await transport.request("GET", "/x", "", {}, 0.2)
                await asyncio.to_thread(proxy.heal)
                assert (await transport.request("GET", "/x", "", {}, 2)).body == b"/x"
        waiting = asyncio.ensure_future(direct.request("GET", "/slow", "", {}, 5))
        with pytest.raises(OutcomeUnknown):
            await direct.request("GET", "/slow", "", {}, 0.1)
        release.set()
        assert (await waiting).body == b"/slow"


async def test_transport_may_be_closed_twice_and_before_its_first_use() -> None:
    """There is nothing to release."""
    transport = AiohttpTransport("http://127.0.0.1:1")
    await transport.close()
    await transport.close()


async def test_client_on_real_sockets_reads_a_real_refusal() -> None:
    """The whole way: signed request out, classified answer in."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"code": -5022, "msg": "Post Only order will be rejected."}, status=400)

    async with serving(handler) as origin, transport_to(origin) as transport:
        rest = BinanceRest(transport, HandClock(), api_key="k", api_secret="s")
        with pytest.raises(Refused) as caught:
            await rest.call("POST", "/fapi/v1/order", {"symbol": "BTCUSDT"}, Security.SIGNED)
    assert (caught.value.code, caught.value.status) == (-5022, 400)
