"""The real market is relayed in the order of its own times, stands still when it is not heard, and comes back.

A second simulated exchange plays mainnet.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.clockwork import drive
from sim.embedded import embedded_exchange
from sim.exchange import Exchange
from sim.feeds import LIVE, FeedSettings, open_market
from sim.funding import Funding
from sim.market import BookTicker, FundingTerms, MarketError, MarketEvent, Trade
from sim.relay import FASTEST_MS, HOLD_MS, QUOTES, TRADES, LiveMarket, relayed
from sim.rules import MAINNET
from sim.server import RunningServer, start_server
from sim.stream_client import MAINNET_STREAMS, UnknownHost, quote_target, stream_origin, trade_target
from sim.synthetic import SyntheticMarket
from utils.clock import SystemClock
from utils.venue import LIVE as MAINNET_VENUE
from utils.venue import market_target, public_target

from .sim_factory import KEY, SECRET
from .test_sim_cli import get, running

NOW_MS = 1_700_000_000_000
RULES = {"BTCUSDT": MAINNET["BTCUSDT"]}


def quote(time_ms: int, update_id: int, bid: str = "64000.00") -> dict[str, Any]:
    """A bookTicker payload at so many ms after `NOW_MS`, with keys that nobody knows yet."""
    ask = str(Decimal(bid) + Decimal("0.10"))
    times = {"T": NOW_MS + time_ms, "E": NOW_MS + time_ms}
    sides = {"b": bid, "B": "1.000", "a": ask, "A": "2.000"}
    return {"e": "bookTicker", "u": update_id, "s": "BTCUSDT", "ps": "BTCUSDT", **sides, **times, "st": 1}


def trade(time_ms: int, trade_id: int, quantity: str = "0.250", **more: object) -> dict[str, Any]:
    """An aggTrade payload in which the taker sells."""
    ids = {"a": trade_id, "f": trade_id, "l": trade_id}
    times = {"T": NOW_MS + time_ms, "E": NOW_MS + time_ms}
    return {
        "e": "aggTrade",
        "s": "BTCUSDT",
        **ids,
        "p": "64000.00",
        "q": quantity,
        **times,
        "m": True,
        **more,
    }


def mark(time_ms: int, rate: str) -> dict[str, Any]:
    """A markPriceUpdate payload whose next funding is an hour away."""
    times = {"E": NOW_MS + time_ms, "T": NOW_MS + 3_600_000}
    return {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "64000", "i": "64000", "r": rate, **times}


def live() -> LiveMarket:
    """A live market both sockets of which are up."""
    market = LiveMarket(RULES, MAINNET_STREAMS, 1)
    market.went_up(QUOTES)
    market.went_up(TRADES)
    return market


def taken(market: LiveMarket) -> list[MarketEvent]:
    """The events that the market holds."""
    events = []
    while market.peek_ms() is not None:
        due_ms = market.peek_ms()
        events.append(market.take())
        assert events[-1].time_ms == due_ms
    return events


def test_events_are_held_back_and_come_in_the_order_of_their_own_times() -> None:
    """A trade that comes 90 ms late (aggTrade: every 100 ms) still happens before the quote that shows what it left."""
    market = live()
    market.put(quote(0, 1), NOW_MS + 20)
    market.put(quote(10, 2), NOW_MS + 30)
    market.put(trade(10, 7), NOW_MS + 120)
    assert [(type(event), event.time_ms - NOW_MS) for event in taken(market)] == [
        (BookTicker, 20 + HOLD_MS),
        (Trade, 30 + HOLD_MS),
        (BookTicker, 30 + HOLD_MS),
    ]


def test_the_fastest_message_tells_how_the_clocks_differ() -> None:
    """The other clock is 5 s ahead: events happen in our time, neither seconds ago nor seconds ahead."""
    market = live()
    market.put(quote(5_000, 1), NOW_MS + 90)
    market.put(quote(5_100, 2), NOW_MS + 130)
    market.put(quote(5_200, 3), NOW_MS + 230)
    assert [event.time_ms - NOW_MS for event in taken(market)] == [90 + HOLD_MS, 130 + HOLD_MS, 230 + HOLD_MS]


@pytest.mark.parametrize("later_ms", [400, 3_600_000])
def test_events_are_held_again_after_the_clock_was_set_ahead(later_ms: int) -> None:
    """By less than a second, or by an hour: a late trade happens before the quote that shows what it left, as ever."""
    market, step_s = live(), 2 * FASTEST_MS // 1_000
    for second in range(step_s + 1):
        market.put(
            quote(1_000 * second, second + 1), NOW_MS + 1_000 * second + 20 + (later_ms if second else 0)
        )
        assert len(taken(market)) == 1
    at_ms = 1_000 * step_s + 500
    market.put(quote(at_ms, step_s + 2), NOW_MS + at_ms + later_ms + 20)
    market.put(trade(at_ms, 7), NOW_MS + at_ms + later_ms + 110)
    due_ms = at_ms + later_ms + 20 + HOLD_MS
    assert [(type(event), event.time_ms - NOW_MS) for event in taken(market)] == [
        (Trade, due_ms),
        (BookTicker, due_ms),
    ]


def test_trade_is_before_its_quote_also_when_the_fastest_message_is_forgotten_between_them() -> None:
    """It came four minutes ago, the others 5 ms slower, and the trade is the first that is compared to them alone."""
    market, turn_ms = live(), FASTEST_MS - NOW_MS % FASTEST_MS
    market.put(quote(0, 1), NOW_MS + 15)
    market.put(quote(turn_ms, 2), NOW_MS + turn_ms + 20)
    assert len(taken(market)) == 2
    at_ms = turn_ms + FASTEST_MS - 25
    market.put(quote(at_ms, 3), NOW_MS + at_ms + 20)
    market.put(trade(at_ms, 7), NOW_MS + at_ms + 110)
    due_ms = at_ms + 20 + HOLD_MS
    assert [(type(event), event.time_ms - NOW_MS) for event in taken(market)] == [
        (Trade, due_ms),
        (BookTicker, due_ms),
    ]


def test_quotes_of_one_time_keep_their_order_when_a_faster_message_comes_between_them() -> None:
    """The book must not go back to the older of them."""
    market = live()
    market.put(quote(0, 1), NOW_MS + 30)
    market.put(trade(10, 7), NOW_MS + 35)
    market.put(quote(0, 2), NOW_MS + 35)
    events = taken(market)
    assert [event.update_id for event in events if isinstance(event, BookTicker)] == [1, 2]
    assert isinstance(events[-1], Trade)


def test_event_that_comes_very_late_happens_when_it_comes() -> None:
    """Nothing happens before it is known: an order sent meanwhile must not be older than its own fill."""
    market = live()
    market.put(quote(0, 1), NOW_MS)
    market.put(trade(1, 7), NOW_MS + 2_000)
    assert [event.time_ms - NOW_MS for event in taken(market)] == [HOLD_MS, 2_000]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3_000), st.integers(0, 600)), max_size=30))
def test_times_never_decrease_whatever_the_delays(messages: list[tuple[bool, int, int]]) -> None:
    """And no event happens before it has come."""
    market = live()
    arrivals = sorted((time_ms + delay_ms, is_quote, time_ms) for is_quote, time_ms, delay_ms in messages)
    last_ms, come = 0, 0
    for number, (come, is_quote, time_ms) in enumerate(arrivals, 1):
        market.put(quote(time_ms, number) if is_quote else trade(time_ms, number), NOW_MS + come)
        while (due_ms := market.peek_ms()) is not None and due_ms <= NOW_MS + come:
            assert market.take().time_ms >= last_ms
            last_ms = due_ms
    assert all(event.time_ms >= last_ms for event in taken(market))


def test_market_stands_still_while_a_socket_is_down() -> None:
    """Quotes without trades, or trades without quotes, are no market; after a gap it begins with a quote."""
    market = live()
    market.put(quote(0, 10), NOW_MS)
    market.went_down(TRADES)
    market.put(quote(100, 11), NOW_MS + 100)
    market.went_up(TRADES)
    market.put(trade(200, 20), NOW_MS + 200)
    market.put(quote(300, 12), NOW_MS + 300)
    market.put(trade(400, 21), NOW_MS + 400)
    ids = [
        e.update_id if isinstance(e, BookTicker) else e.trade_id
        for e in taken(market)
        if not isinstance(e, FundingTerms)
    ]
    assert ids == [10, 12, 21]


def test_missed_trades_are_told_and_repeated_messages_are_not_taken_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`a` counts up by one; what comes again has the id that was there before."""
    market = live()
    market.put(quote(0, 10), NOW_MS)
    for trade_id in (20, 20, 24):
        market.put(trade(trade_id, trade_id), NOW_MS + trade_id)
    market.put(quote(50, 10), NOW_MS + 50)
    with caplog.at_level(logging.WARNING):
        market.put(trade(60, 30), NOW_MS + 60)
    assert "5 trades of BTCUSDT were missed" in caplog.text
    events = taken(market)
    assert [event.trade_id for event in events if isinstance(event, Trade)] == [20, 24, 30]
    assert sum(isinstance(event, BookTicker) for event in events) == 1


def test_exchange_that_has_begun_anew_is_heard_again() -> None:
    """Its ids may be smaller than those before the gap."""
    market = live()
    market.put(quote(0, 1_000), NOW_MS)
    market.put(trade(1, 2_000), NOW_MS + 1)
    for name in (QUOTES, TRADES):
        market.went_down(name)
        market.went_up(name)
    market.put(quote(100, 5), NOW_MS + 100)
    market.put(trade(101, 6), NOW_MS + 101)
    assert len(taken(market)) == 4


def test_invisible_part_of_a_trade_fills_nobody() -> None:
    """RPI orders do not stand in the book that quotes show: `nq` counts, at 0 there is no trade (Aggregate Trade)."""
    market = live()
    market.put(quote(0, 1), NOW_MS)
    market.put(trade(1, 5, "0.500", nq="0.200"), NOW_MS + 1)
    market.put(trade(2, 6, "0.500", nq="0.000"), NOW_MS + 2)
    assert [event.lots for event in taken(market) if isinstance(event, Trade)] == [200]


def test_funding_is_that_of_the_real_market() -> None:
    """`r` and `T` of the mark price, when they change (Mark Price Stream)."""
    market = live()
    for number, rate in enumerate(("0.0001", "0.0001", "-0.0002")):
        market.put(mark(1_000 * number, rate), NOW_MS + 1_000 * number)
    terms = [event for event in taken(market) if isinstance(event, FundingTerms)]
    assert [(str(each.rate), each.next_ms) for each in terms] == [
        ("0.0001", NOW_MS + 3_600_000),
        ("-0.0002", NOW_MS + 3_600_000),
    ]


def test_funding_is_paid_on_a_machine_whose_clock_is_slow() -> None:
    """Two seconds behind: the stream names the payment after the next before the next one's time has come here."""
    slow_ms, market = 2_000, live()
    funding = Funding(Decimal("0.0001"), NOW_MS)
    due_ms, paid_ms = NOW_MS + 5_000, []
    for after_ms in range(0, 10_000, 1_000):
        next_ms = due_ms if NOW_MS + after_ms < due_ms else due_ms + 8 * 3_600_000
        market.put({**mark(after_ms, "0.0001"), "T": next_ms}, NOW_MS + after_ms - slow_ms)
        for event in taken(market):
            assert isinstance(event, FundingTerms)
            funding.change(event)
        now_ms = NOW_MS + after_ms - slow_ms + HOLD_MS
        if funding.settles(now_ms):
            paid_ms.append(now_ms)
    assert paid_ms == [due_ms + HOLD_MS]


@pytest.mark.parametrize(
    ("field", "value"), [("b", "64000.05"), ("b", None), ("B", "x"), ("T", "noon"), ("u", []), ("b", 1.5)]
)
def test_quote_that_fits_no_rule_ends_the_market_with_one_sentence(field: str, value: object) -> None:
    """Another tick size, say: better no market than a wrong one, and it never looks like a quiet one."""
    market = live()
    market.put({**quote(0, 1), field: value}, NOW_MS)
    for ask in (market.peek_ms, market.take):
        with pytest.raises(
            MarketError, match=r"^The real market does not fit the rules .* BTCUSDT \(.*\)\.$"
        ):
            ask()


@pytest.mark.parametrize(
    ("bid", "ask"), [("0.00", "64000.10"), ("64000.00", "0.00"), ("64000.10", "64000.10")]
)
def test_quote_of_one_side_or_crossed_is_passed_over(
    bid: str, ask: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A side can be empty in a crash, or at a halt: the quotes stand still until the next, and the log says it once."""
    market = live()
    market.put(quote(0, 1), NOW_MS)
    for number in (2, 3):
        market.put({**quote(number, number), "b": bid, "a": ask}, NOW_MS + number)
    market.put(trade(4, 7), NOW_MS + 4)
    market.put(quote(5, 4), NOW_MS + 5)
    assert [type(event) for event in taken(market)] == [BookTicker, Trade, BookTicker]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"the quotes of BTCUSDT stand still: bid {bid} and ask {ask} are no market"
    ]


def test_messages_of_other_kinds_and_symbols_are_passed_over() -> None:
    """New events appear without notice: parse tolerant (facts 11.27)."""
    market = live()
    market.put({"e": "somethingNew", "s": "BTCUSDT"}, NOW_MS)
    market.put({**quote(0, 1), "s": "OTHERUSDT"}, NOW_MS)
    market.put({"result": None}, NOW_MS)
    assert taken(market) == []
    with pytest.raises(StopIteration):
        market.take()


def test_hosts_and_routes_are_those_of_mainnet() -> None:
    """Pinned once in the simulated exchange, and the same as in the daemon (General info; routes)."""
    assert stream_origin("") == MAINNET_STREAMS == MAINNET_VENUE.stream_origin
    assert quote_target(["BTCUSDT", "ETHUSDT"]) == public_target(["btcusdt@bookTicker", "ethusdt@bookTicker"])
    assert trade_target(["BTCUSDT"]) == market_target(["btcusdt@aggTrade", "btcusdt@markPrice@1s"])


@pytest.mark.parametrize(
    "url",
    [
        "https://fapi.binance.com",
        "ws://192.0.2.1:80",
        "http://127.0.0.1.example.org:80",
        "file:///etc/passwd",
        "http://127.0.0.1:80/path",
        "wss://127.0.0.1:80",
        "127.0.0.1:80",
    ],
)
def test_no_other_host_is_connected_to(url: str) -> None:
    """Loopback or mainnet."""
    with pytest.raises(
        UnknownHost, match=r"is not on this machine: use http://127\.0\.0\.1:PORT or wss://fstream"
    ):
        stream_origin(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "ws://localhost:8080/", "http://[::1]:8080"])
def test_loopback_plays_mainnet(url: str) -> None:
    """A test, or a person who tries it out."""
    assert stream_origin(url).startswith("ws://")


LIVE_SETTINGS = FeedSettings(kind=LIVE)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            replace(LIVE_SETTINGS, speed=Fraction(2)),
            "A live market runs at its own speed and takes no events",
        ),
        (FeedSettings(live_url="http://127.0.0.1:1"), "A live URL is of use for a live market only"),
        (
            replace(LIVE_SETTINGS, symbols=("NEXOUSDT",)),
            "NEXOUSDT has no real perpetual: use one of BTCUSDT,",
        ),
        (replace(LIVE_SETTINGS, live_url="http://192.0.2.1"), "http://192.0.2.1 is not on this machine"),
    ],
)
def test_settings_that_are_not_live_are_refused(settings: FeedSettings, sentence: str) -> None:
    """One sentence each."""
    with pytest.raises(MarketError, match=sentence):
        open_market(settings, 0)


@asynccontextmanager
async def mainnet() -> AsyncIterator[RunningServer]:
    """A simulated exchange that plays mainnet, on real sockets and the real clock."""
    clock = SystemClock()
    market = SyntheticMarket(RULES, clock.time_ms(), seed=7)
    exchange = Exchange(market, api_key=KEY, api_secret=SECRET, now_ms=clock.time_ms())
    server = await start_server(exchange, clock)
    driving = asyncio.ensure_future(drive(exchange, clock))
    try:
        yield server
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await server.close()


async def until(true: Callable[[], bool], within_s: float = 15.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - it is a condition of another program
            await asyncio.sleep(0.02)


def test_what_mainnet_trades_is_relayed_without_loss() -> None:
    """The relayed trades are a run of mainnet's own, price by price and size by size; quotes and funding come too."""

    async def play() -> None:
        clock, heard = SystemClock(), []
        async with mainnet() as server:
            market = open_market(FeedSettings(kind=LIVE, live_url=server.url), clock.time_ms())

            def collect() -> bool:
                while (due_ms := market.peek_ms()) is not None and due_ms <= clock.time_ms():
                    heard.append(market.take())
                return sum(isinstance(event, Trade) for event in heard) >= 10

            async with relayed(market, clock):
                await until(collect)
            found = await asyncio.to_thread(get, f"{server.url}/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1000")
        told = {row["a"]: (row["p"], row["q"], row["m"]) for row in found}
        relayed_trades = [event for event in heard if isinstance(event, Trade)]
        rules = RULES["BTCUSDT"]
        for event in relayed_trades:
            shown = (
                rules.price_text(event.price_ticks),
                rules.quantity_text(event.lots),
                event.buyer_is_maker,
            )
            assert told[event.trade_id] == shown
        ids = [event.trade_id for event in relayed_trades]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert any(isinstance(event, FundingTerms) for event in heard)
        assert all(before.time_ms <= after.time_ms for before, after in pairwise(heard))

    asyncio.run(play())


def test_market_stops_with_mainnet_and_comes_back_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of a second and a half: nothing comes, the reconnects are told, then quotes come again."""

    async def play() -> None:
        clock = SystemClock()
        async with mainnet() as server:
            market = open_market(FeedSettings(kind=LIVE, live_url=server.url), clock.time_ms())

            def drained() -> int:
                count = 0
                while market.peek_ms() is not None:
                    count += isinstance(market.take(), BookTicker)
                return count

            async with relayed(market, clock):
                await until(lambda: drained() > 0)
                server.start_outage(1.5)
                await asyncio.sleep(0.5)
                drained()
                await asyncio.sleep(0.7)
                assert drained() == 0
                await until(lambda: drained() > 0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(play())
    assert "market stream ended: closed by the other side or lost; again in" in caplog.text


def test_command_line_trades_on_the_live_market_of_another_exchange() -> None:
    """`--market live --live-url`: its own orders, the other's prices; the summary names where they come from."""
    with running("--seed", "3") as other, running("--market", "live", "--live-url", other.url) as program:
        assert f"live, {other.url}" in program.summary

        async def quoted() -> None:
            await until(
                lambda: get(f"{program.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"] != "0.00"
            )

        asyncio.run(quoted())
        own = float(get(f"{program.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"])
        real = float(get(f"{other.url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")["bidPrice"])
        assert own == pytest.approx(real, rel=0.01)


def test_exchange_inside_another_program_is_fed_too() -> None:
    """`paper.market: live` of the daemon: the exchange is its own, the prices are those of the real market."""

    async def play() -> None:
        async with mainnet() as server:
            feed = FeedSettings(kind=LIVE, live_url=server.url)
            keys = {"api_key": KEY, "api_secret": SECRET}
            async with embedded_exchange(
                feed, SystemClock(), **keys, wallet_quote=Decimal(5_000), latency_ms=0
            ) as url:
                shown = f"{url}/fapi/v1/ticker/bookTicker?symbol=BTCUSDT"
                async with asyncio.timeout(15):
                    while not (await asyncio.to_thread(get, shown))["lastUpdateId"]:  # noqa: ASYNC110 - see above
                        await asyncio.sleep(0.05)
                own = float((await asyncio.to_thread(get, shown))["bidPrice"])
                real = await asyncio.to_thread(get, shown.replace(url, server.url))
        assert own == pytest.approx(float(real["bidPrice"]), rel=0.01)

    asyncio.run(play())
