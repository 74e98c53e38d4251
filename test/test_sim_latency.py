"""Latency as a distribution: how it is written, that it is repeatable, and what it does to the order of messages."""

import asyncio
import random
from itertools import pairwise
from statistics import quantiles

import pytest

from sim.cli import main
from sim.clockwork import drive
from sim.delay import DelayLine
from sim.exchange import Exchange
from sim.latency import Latencies, constant, latencies_of, parse_latencies, parse_spread
from sim.rules import MAINNET
from sim.synthetic import SyntheticMarket
from sim.transport import InMemoryHttp, InMemoryWs, Link
from sim.virtual_time import VirtualClock, run_virtual


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5", "5 ms each way"),
        ("constant:5", "5 ms each way"),
        ("uniform:2-8", "from 2 to 8 ms each way"),
        ("lognormal:5-40", "5 ms in the middle, 99 % below 40 ms each way"),
        ("1,uniform:2-8.5", "1 ms there, from 2 to 8.5 ms back"),
    ],
)
def test_latency_is_written_on_one_line_and_shown_in_words(text: str, shown: str) -> None:
    """The syntax of --help."""
    assert str(parse_latencies(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "nan", "normal:1-2", "uniform:8-2", "uniform:3", "lognormal:0-5", "1,", "1,2,3", "10001"],
)
def test_latency_that_makes_no_sense_is_refused_with_one_sentence(text: str) -> None:
    """The sentence says what may be written instead."""
    with pytest.raises(ValueError, match="is no latency: use "):
        parse_latencies(text)


def test_bad_latency_ends_the_program_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line on stderr."""
    with pytest.raises(SystemExit):
        main(["--latency", "uniform:8-2"])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "argument --latency: uniform:8-2 is no latency: use rising figures from 0 to 10000 ms" in err


def test_lognormal_latency_has_the_percentiles_it_was_given() -> None:
    """p50 = 5 ms and p99 = 40 ms, within a tenth, over 20,000 messages."""
    spread, rng = parse_spread("lognormal:5-40"), random.Random(1)
    drawn = quantiles((spread.draw_ms(rng) for _ in range(20_000)), n=100)
    assert drawn[49] == pytest.approx(5, rel=0.1)
    assert drawn[98] == pytest.approx(40, rel=0.1)


def test_uniform_latency_stays_within_its_bounds() -> None:
    """Nothing is below the lowest or above the highest, and both ends are reached."""
    spread, rng = parse_spread("uniform:2-8"), random.Random(1)
    drawn = [spread.draw_ms(rng) for _ in range(2_000)]
    assert 2 <= min(drawn) < 2.1
    assert 7.9 < max(drawn) <= 8


def test_same_seed_draws_the_same_and_each_direction_its_own() -> None:
    """A run can be repeated; the way back does not copy the way there."""
    first, again = (parse_latencies("uniform:0-9", seed=3) for _ in range(2))
    up, up_again, down = first.draws("up"), again.draws("up"), first.draws("down")
    drawn = [up() for _ in range(5)]
    assert drawn == [up_again() for _ in range(5)]
    assert drawn != [down() for _ in range(5)]
    assert latencies_of(3) == Latencies(constant(3), constant(3))
    assert latencies_of(first) is first


def test_drawn_latency_keeps_the_order_of_a_line() -> None:
    """What would overtake arrives with what is before it, as bytes of one connection do."""

    async def story(clock: VirtualClock) -> list[tuple[int, int]]:
        arrived: list[tuple[int, int]] = []
        draws = parse_latencies("uniform:1-50").draws("up")
        line: DelayLine[int] = DelayLine(draws, lambda item: arrived.append((clock.time_ms(), item)))
        for number in range(40):
            line.put(number)
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.1)
        return arrived

    arrived = run_virtual(story)
    assert [item for _, item in arrived] == list(range(40))
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(arrived)]
    assert min(gaps) == 0
    assert max(gaps) > 2


def _run(latency: str, seed: int) -> list[object]:
    """Return what clients behind a link see, with times: replies to 40 requests, and the book stream in between."""

    async def story(clock: VirtualClock) -> list[object]:
        rules = {"BTCUSDT": MAINNET["BTCUSDT"]}
        market = SyntheticMarket(rules, clock.time_ms(), seed=1)
        exchange = Exchange(market, api_key="k", api_secret="s", now_ms=clock.time_ms())
        link = Link(exchange, clock, parse_latencies(latency, seed))
        driving = asyncio.ensure_future(drive(exchange, clock))
        http, seen = InMemoryHttp(link), list[object]()
        socket = await InMemoryWs(link).connect("/public/ws/btcusdt@bookTicker")

        async def ask(number: int) -> None:
            await http.request("GET", "/fapi/v1/ping", "", {}, 5)
            seen.append((number, clock.monotonic_ns()))

        await asyncio.gather(*(ask(number) for number in range(40)))
        for _ in range(50):
            seen.append((await socket.receive(), clock.monotonic_ns()))
        driving.cancel()
        return seen

    return run_virtual(story)


def test_requests_overtake_each_other_and_a_seed_repeats_it_to_the_nanosecond() -> None:
    """In memory a run with drawn latency is the same each time, and another with another seed."""
    seen = _run("lognormal:5-40,uniform:1-9", 1)
    replies = [entry[0] for entry in seen[:40]]  # type: ignore[index]
    assert sorted(replies) == list(range(40)) != replies
    assert seen == _run("lognormal:5-40,uniform:1-9", 1)
    assert seen != _run("lognormal:5-40,uniform:1-9", 2)
