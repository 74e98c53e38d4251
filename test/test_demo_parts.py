"""What the demos compute: delays and ages, requests saved, spot's streams, and an order's way through its states."""

import json
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from core.engine import Engine
from core.settings import settings_from
from demo._desk import HEARD, Desk, Requests
from demo._measure import Measure, Samples
from demo._screen import balance_bar
from demo._start import DemoError
from demo._streaming import Listener, measure_clock, rules_of, spot_rules, streams_of
from test.daemon import World, in_a_world
from utils.clock import SystemClock
from utils.config_loader import Config
from utils.http import BinanceRest, HttpResponse
from utils.venue import LIVE, SPOT, paper_venue
from utils.ws import WsConnection

SPOT_ENTRY = {
    "symbol": "BNBUSDT",
    "status": "TRADING",
    "baseAsset": "BNB",
    "quoteAsset": "USDT",
    "filters": [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01000000",
            "maxPrice": "100000",
            "tickSize": "0.01000000",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.00100000", "maxQty": "900000", "stepSize": "0.00100000"},
    ],
}
SPOT_QUOTE = {"u": 400900217, "s": "BNBUSDT", "b": "25.35", "B": "31.210", "a": "25.36", "A": "40.660"}
SPOT_TRADE = {
    "e": "trade",
    "E": 1672515782136,
    "s": "BNBUSDT",
    "t": 12345,
    "p": "25.36",
    "q": "100.000",
    "T": 1672515782136,
    "m": True,
    "M": True,
}
"""The payloads of spot's documentation, with prices that fit each other."""


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_672_515_782_150

    def time_ms(self) -> int:
        """Return the wall time."""
        return self.ms

    def monotonic_ns(self) -> int:
        """Return the same on another scale."""
        return self.ms * 1_000_000


def listener(clock: FixedClock) -> Listener:
    """Return a listener to spot's BNBUSDT."""
    settings = settings_from(Config()).market_data
    return Listener(
        spot_rules(SPOT_ENTRY), settings, clock, clock.time_ms, Measure(clock.monotonic_ns(), 0.0)
    )


def message(stream: str, data: Mapping[str, object]) -> bytes:
    """Return a payload as a combined stream wraps it."""
    return json.dumps({"stream": stream, "data": data}).encode()


def test_spots_single_trades_are_understood() -> None:
    """The buyer is the maker, so the taker has sold; the id is `t`, and the delay is known."""
    clock = FixedClock()
    heard = listener(clock)
    heard.hear(message("bnbusdt@trade", SPOT_TRADE))
    trade = heard.analysis.last_trade
    assert trade is not None
    assert (trade.is_buy, trade.trade_id, trade.price_ticks, trade.lots) == (False, 12345, 2536, 100_000)
    assert heard.measure.trade_delays_ms.last == 14
    assert heard.raw[-1].endswith("trade  sell 100.000 @ 25.36  14 ms late")
    assert heard.significant[-1].endswith("= 2,536 USDT  (interval)")


def test_spots_quotes_are_understood_without_a_time() -> None:
    """The book is known, its age is not."""
    clock = FixedClock()
    heard = listener(clock)
    heard.hear(message("bnbusdt@bookTicker", SPOT_QUOTE))
    heard.measure.look(clock.ms + 1000)
    assert heard.book is not None
    assert (heard.book.bid_ticks, heard.book.ask_lots) == (2535, 40_660)
    assert (heard.measure.quote_delays_ms.count, heard.measure.ages_ms.count) == (0, 0)


def test_perpetuals_quotes_and_trades_are_understood_as_text_and_bytes() -> None:
    """Both have times; what cannot be read is counted and harms nobody."""
    clock = FixedClock()
    heard = listener(clock)
    quote = {**SPOT_QUOTE, "e": "bookTicker", "E": clock.ms - 5, "T": clock.ms - 6}
    heard.hear(message("bnbusdt@bookTicker", quote).decode())
    heard.hear(message("bnbusdt@aggTrade", {**SPOT_TRADE, "a": 7, "f": 1, "l": 2}))
    heard.hear(message("bnbusdt@bookTicker", {**quote, "b": "25.355"}))
    heard.hear(b"not even JSON")
    assert heard.measure.quote_delays_ms.last == 6
    assert heard.analysis.last_trade is not None
    assert heard.analysis.last_trade.trade_id == 7
    assert (heard.unreadable, heard.measure.messages) == (2, 4)


class SpotHttp:
    """Answers as spot's documentation says; ``asked`` holds what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Return the documented reply."""
        self.asked.append(f"{method} {path}?{query}")
        replies = {
            "/api/v3/time": {"serverTime": 5_000_000},
            "/api/v3/exchangeInfo": {"symbols": [SPOT_ENTRY]},
        }
        return HttpResponse(200, {}, json.dumps(replies[path]).encode())

    async def close(self) -> None:
        """Hold nothing."""


async def test_spots_rules_and_clock_are_asked_by_spots_own_paths() -> None:
    """One symbol only, because all of them are tens of megabytes; an unknown one is a sentence."""
    http, clock = SpotHttp(), FixedClock()
    rest = BinanceRest(http, clock)
    rules = await rules_of(rest, SPOT, "BNBUSDT")
    assert (rules.tick_size, rules.step_size, rules.price_text(2536)) == (
        Decimal("0.01"),
        Decimal("0.001"),
        "25.36",
    )
    await measure_clock(rest, SPOT, clock)
    assert rest.server_clock.time_ms() == 5_000_000
    assert http.asked[0] == "GET /api/v3/exchangeInfo?symbol=BNBUSDT"
    with pytest.raises(DemoError, match="does not list BNBBTC"):
        await rules_of(rest, SPOT, "BNBBTC")


class Noted:
    """A transport that notes where it was to connect, and does not."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    async def connect(self, target: str) -> WsConnection:
        """Note the target."""
        self.targets.append(target)
        raise InterruptedError

    async def close(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize(
    ("venue", "spot", "targets"),
    [
        (SPOT, True, ["/stream?streams=bnbusdt@bookTicker/bnbusdt@trade"]),
        (
            LIVE,
            False,
            ["/public/stream?streams=bnbusdt@bookTicker", "/market/stream?streams=bnbusdt@aggTrade"],
        ),
        (
            paper_venue("http://127.0.0.1:1"),
            True,
            ["/public/stream?streams=bnbusdt@bookTicker/bnbusdt@trade"],
        ),
    ],
)
async def test_streams_go_by_the_routes_of_their_market(
    venue: object, spot: bool, targets: list[str]
) -> None:
    """A stream on a wrong route is silent, and nobody is told."""
    noted = Noted()
    for stream in streams_of(venue, "BNBUSDT", noted, SystemClock(), lambda _: None, spot=spot):
        with pytest.raises(InterruptedError):
            await stream.run()
    assert noted.targets == targets


# --- numbers ----------------------------------------------------------------------------------------------------


def test_samples_tell_quantiles_and_the_last() -> None:
    """Of none, of one, and of many."""
    samples = Samples()
    assert (samples.quantile(50), samples.mean, str(samples)) == (0.0, 0.0, "-")
    samples.add(7)
    assert (samples.quantile(95), samples.last) == (7, 7)
    for value in range(101):
        samples.add(value)
    assert samples.quantile(95) == pytest.approx(95, abs=1)
    assert samples.count == 102


def test_age_is_that_of_the_newest_quote_and_delay_that_of_each_new_one() -> None:
    """An older quote that comes late, or one that is told twice, makes nothing younger."""
    measure = Measure(0, 0.0)
    measure.look(1000)
    measure.quote(1000, 1010)
    measure.look(1050)
    measure.quote(990, 1060)
    measure.quote(1000, 1070)
    measure.look(1100)
    assert (measure.quote_delays_ms.count, measure.quote_delays_ms.last) == (1, 10)
    assert (measure.ages_ms.count, measure.ages_ms.mean) == (2, 75)


def test_figures_are_rates_of_the_time_since_the_beginning() -> None:
    """CPU in percent of one processor, requests a minute."""
    measure = Measure(1_000_000_000, 2.0)
    measure.requests = 3
    figures = measure.figures(7_000_000_000, 2.3)
    assert (figures["elapsed_s"], figures["requests_per_minute"]) == (6.0, 30.0)
    assert (figures["cpu_percent"], figures["cpu_s"]) == (5.0, 0.3)


def test_requests_are_set_against_cancelling_and_placing_the_same_orders() -> None:
    """Two amend requests of seven orders would be two cancels and seven placements; other requests do not count."""
    sent = Counter(
        {
            ("POST", "/fapi/v1/order"): 6,
            ("PUT", "/fapi/v1/batchOrders"): 1,
            ("PUT", "/fapi/v1/order"): 1,
            ("DELETE", "/fapi/v1/batchOrders"): 1,
            ("GET", "/fapi/v1/openOrders"): 2,
            ("GET", "/fapi/v1/ticker/bookTicker"): 50,
            ("POST", "/fapi/v1/listenKey"): 1,
        }
    )
    requests = Requests.of(sent, orders_placed=6, amendments=7)
    assert (requests.place, requests.amend, requests.cancel, requests.query) == (6, 2, 1, 2)
    assert (requests.total, requests.instead_of_amending, requests.by_replacing) == (11, 9, 18)
    assert requests.saved_percent == pytest.approx(100 * (1 - 2 / 9))
    in_batches = Requests.of(Counter({("POST", "/fapi/v1/batchOrders"): 2}), orders_placed=10, amendments=10)
    assert in_batches.instead_of_amending == 2, "placed five at a time, they would be placed so again"
    assert Requests.of(Counter(), 0, 0).saved_percent == 0


def test_bar_goes_from_the_middle_to_the_side_that_weighs_more() -> None:
    """From -1, all sold, to 1, all bought."""
    bars = [balance_bar(value) for value in (-1.0, 0.5)]
    assert [(bar.begin, bar.end) for bar in bars] == [(0.0, 1.0), (1.0, 1.5)]


# --- the desk ---------------------------------------------------------------------------------------------------


def test_desk_follows_every_order_to_its_end(tmp_path: Path) -> None:
    """On the virtual exchange: each order's states follow one another, and the last is the exchange's own."""
    desk = Desk()

    async def story(world: World) -> None:
        def watch(engine: Engine) -> None:
            desk.watch(engine.contexts[0])
            engine.bus.subscribe(lambda fact: desk.hear(fact, world.clock.time_ms()), *HEARD)

        world.start(
            watch=watch,
            refresh_config={"refresh_mode": "amend"},
            order_management={"reset_interval": 20, "patience_bps_s": 0},
        )
        await world.until_quoting()
        await world.until(lambda: desk.reset_in_s(world.clock.monotonic_ns()) is not None, 1)
        now_ns = world.clock.monotonic_ns()
        assert 0 < (desk.reset_in_s(now_ns) or 0) <= 20
        rows = desk.rows(now_ns)
        assert [row.side for row in rows] == ["sell"] * 3 + ["buy"] * 3
        assert {row.state for row in rows} == {"ACTIVE"}
        assert await world.until(lambda: desk.counts["reset done"] > 0, 30) > 0
        await world.until_quoting()
        await world.end()

    world = in_a_world(tmp_path, story)
    recorded = world.record()["orders"]
    assert desk.counts["placed"] == len(recorded)
    assert desk.counts["cancelled"] + desk.counts["filled"] == len(recorded)
    ended = [line for line in desk.flow if line.endswith(("-> CANCELLED", "-> FILLED"))]
    assert len(ended) == len(recorded)
    assert desk.rows(0) == []
