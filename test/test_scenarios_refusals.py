"""What the exchange refuses, or would refuse: nothing is insisted on, and nothing out of bounds ever leaves."""

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from msgspec import structs

from core import refresh
from core.brake import MOST_A_MINUTE
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.strategy import Desired
from sim.account_payloads import available
from test.daemon import REPLACING, Sent, World, in_a_world, json_reply, untouched
from utils.http import HttpResponse


class Refusing:
    """An exchange that refuses every new quote with one code, and counts them."""

    def __init__(self, world: World, code: int) -> None:
        self.count = 0
        self._code = code
        world.tamper = self._tamper

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        if not sent.is_order():
            return None
        self.count += 1
        return json_reply(400, {"code": self._code, "msg": "refused by the test"})


@pytest.mark.parametrize("code", [-4400, -5028])
def test_one_quote_that_is_taken_again_brings_all_the_others_with_it(tmp_path: Path, code: int) -> None:
    """What was refused for a while is tried by one order; the rest does not wait for the next refresh."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        Refusing(world, code)
        await asyncio.sleep(25)
        assert world.ours() == []
        world.tamper = untouched
        await world.until(lambda: bool(world.ours()), 15.5, "the one that is tried")
        assert await world.until_quoting(0.5) < 0.5
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(("code", "most"), [(-1111, 30), (-4400, 30), (-5022, 100)])
def test_refused_quotes_are_not_insisted_on(tmp_path: Path, code: int, most: int) -> None:
    """A minute of refusals: three tries a slot and then one a minute; a price that would take waits for its turn."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        refusing = Refusing(world, code)
        await asyncio.sleep(60)
        assert 6 <= refusing.count <= most
        assert world.ours() == []
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_reason_that_is_shown_is_the_one_that_there_is_by_now(tmp_path: Path) -> None:
    """A restriction has passed, and now margin is short; an answer that cannot be read changes nothing."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        assert world.engine is not None
        context = world.engine.contexts[0]
        Refusing(world, -4400)
        await world.until(lambda: "-4400" in context.refusal, 30, "the brake")
        Refusing(world, -2019)
        await world.until(lambda: "-2019" in context.refusal, 30, "the other reason")
        Refusing(world, 0)
        await asyncio.sleep(70)
        assert "-2019" in context.refusal
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.02)


@pytest.mark.parametrize(("refresh", "transport"), [(REPLACING, "rest"), ({}, "ws")])
def test_reason_that_is_shown_is_one_for_which_a_quote_is_missing(
    tmp_path: Path, refresh: dict[str, object], transport: str
) -> None:
    """Bids are refused, and then the position leaves no room for them: the asks rest, and nothing is held back."""

    async def story(world: World) -> None:
        async def refuse_bids(sent: Sent) -> HttpResponse | None:
            if not sent.is_order() or "side=BUY" not in sent.query:
                return None
            return json_reply(400, {"code": -2019, "msg": "refused by the test"})

        world.tamper, world.order_transport = refuse_bids, transport
        world.start(refresh_config=refresh)
        await world.until_quoting(60, orders=3)
        assert world.engine is not None
        context = world.engine.contexts[0]
        await world.until(lambda: "-2019" in context.refusal, 60, "the brake")
        world.control("POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity="0.028")
        await asyncio.sleep(15)
        assert len(world.ours()) == 3
        assert context.refusal == ""
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.02)


def test_quotes_that_reduce_do_not_have_those_tried_again_that_lack_margin(tmp_path: Path) -> None:
    """Short, and without margin at first for any quote, then only for sells: that buys are taken changes nothing."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        world.control("POST", "/sim/fill", symbol=world.symbol, side="SELL", quantity="0.010")
        refused: Counter[str] = Counter()
        until_s = world.now_s + 25

        async def lack_margin(sent: Sent) -> HttpResponse | None:
            side = dict(parse_qsl(sent.query)).get("side", "")
            if not sent.is_order() or (side == "BUY" and world.now_s >= until_s):
                return None
            refused[side] += 1
            return json_reply(400, {"code": -2019, "msg": "Margin is insufficient."})

        world.tamper = lack_margin
        await world.until(lambda: len(world.ours()) == 3, 90, "the buys")
        await asyncio.sleep(60 - (world.now_s - until_s))
        assert refused["SELL"] <= 3 * 5, refused
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.02)


def test_quotes_that_have_no_room_are_not_insisted_on_while_the_account_stream_comes_and_goes(
    tmp_path: Path,
) -> None:
    """Margin for two a side. With each new stream the farthest goes first, alone, and is taken: that is no room."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        left = float(available(world.exchange._venue)) + 3 * 50  # what rests holds 50 each, of one side
        world.strike("transfer", amount=130 - left)
        refused_s: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)

        async def note(sent: Sent) -> HttpResponse | None:
            if not sent.is_order():
                return None
            reply = await sent.deliver()
            if b"-2019" in reply.body:
                order = dict(parse_qsl(sent.query))
                refused_s[order["side"], order["price"], order["quantity"]].append(world.now_s)
            return reply

        world.tamper = note
        for _ in range(8):
            await asyncio.sleep(7)
            world.strike("expire-listen-key", notice="true")
        assert refused_s
        assert max(len(times) for times in refused_s.values()) <= MOST_A_MINUTE, dict(refused_s)
        assert len(world.ours()) == 4
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.02)


def test_price_that_would_take_is_not_asked_for_again_and_again(tmp_path: Path) -> None:
    """The book lags behind the market: three times, once more after 10 s, then every 30 s; another price at once."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        until_s = world.now_s + 65
        asked: Counter[tuple[str, ...]] = Counter()

        async def refuse(sent: Sent) -> HttpResponse | None:
            if not (sent.is_order() or sent.method == "PUT") or world.now_s >= until_s:
                return None
            params = dict(parse_qsl(sent.query))
            asked[sent.method, params.get("side", ""), params.get("price", "")] += 1
            return json_reply(400, {"code": -5022, "msg": "it would take"})

        world.tamper = refuse
        world.strike("expire-orders")
        await asyncio.sleep(until_s - world.now_s)
        assert len(asked) >= 6
        assert 4 <= max(asked.values()) <= 5, asked
        await world.until_quoting(30)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story, events_per_s=0.02)


def test_busy_exchange_that_tells_no_code_gets_the_quotes_as_soon_as_it_takes_them(tmp_path: Path) -> None:
    """Half a minute of 503 without a code: that is no quote that was refused again and again."""

    async def story(world: World) -> None:
        world.start(refresh_config=REPLACING)
        await world.until_quoting()
        until_s, refused = world.now_s + 30, 0

        async def be_busy(sent: Sent) -> HttpResponse | None:
            nonlocal refused
            if not sent.is_order() or world.now_s >= until_s:
                return None
            refused += 1
            return json_reply(503, {"msg": "Service Unavailable."})

        world.tamper = be_busy
        await world.until(lambda: world.ours() == [], 10, "the quotes are replaced")
        await asyncio.sleep(until_s - world.now_s)
        assert refused > 3 * 6
        await world.until_quoting(5)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_nothing_leaves_while_a_limit_lasts(tmp_path: Path) -> None:
    """One 429 with fifteen seconds: not one request more, not even a cancel, until they are over."""

    async def story(world: World) -> None:
        left_s: list[float] = []

        async def limit_once(sent: Sent) -> HttpResponse | None:
            left_s.append(world.now_s)
            if len(left_s) > 1:
                return None
            body = b'{"code": -1003, "msg": "Too many requests; current limit is 2400 a minute."}'
            return HttpResponse(429, {"retry-after": "15"}, body)

        world.start()
        await world.until_quoting()
        world.tamper = limit_once
        await asyncio.sleep(30)
        under_way = [each for each in left_s if each - left_s[0] < 0.05]
        assert left_s[len(under_way)] - left_s[0] >= 15
        await world.until_quoting(10)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_ban_with_the_account_stream_down_does_not_starve_the_watchdog(tmp_path: Path) -> None:
    """What cannot be cancelled for so long is no loop that hangs: a new process would not even know of the ban."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        until_s = world.now_s + 60

        async def ban(_sent: Sent) -> HttpResponse | None:
            left_s = int(until_s - world.now_s)
            return HttpResponse(418, {"retry-after": str(left_s)}, b'{"code": -1003}') if left_s > 0 else None

        world.tamper = ban
        world.engine.recovery.stream.drop("cut")
        await world.until(lambda: not world.engine.gate.is_open, 5)
        known = world.engine.orders.progress[world.symbol]
        while world.now_s < until_s - 6:
            before = world.engine._progress()
            await asyncio.sleep(5)
            assert world.engine._progress() > before
        assert world.engine.orders.progress[world.symbol] <= known + 2  # those are for the dead-man switch
        await world.until_quoting(60)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_every_number_is_written_plainly(tmp_path: Path) -> None:
    """Positions of 0.043 and 0.051 are closed: sizes that come out of a float with a tail of digits are none here."""

    async def story(world: World) -> None:
        world.start()
        await world.until_quoting()
        for thousandths in (43, 51):
            world.control(
                "POST", "/sim/fill", symbol=world.symbol, side="BUY", quantity=f"0.{thousandths:03d}"
            )
            await world.until(lambda: world.position() == 0 and world.state.strategy_paused, 3)
            latch = HaltLatch(world.folder / "state", "paper-test", world.symbol)
            await world.until(lambda: latch.read() is not None, 3)  # noqa: B023 - asked within this turn
            latch.clear()
            await world.until_quoting()
        assert {row["code"] for row in world.record()["rejected"]} <= {-2011}  # cancelled twice
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


def test_quote_that_the_last_line_refuses_is_not_the_one_that_all_others_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the account stream has told of an order the farthest goes out alone: the farthest of those that can."""
    sane = refresh.desired_quotes

    def partly_mad(*arguments: Any) -> Desired:
        desired = sane(*arguments)
        *others, far_buy, far_sell = desired.quotes
        return structs.replace(
            desired, quotes=(*others, structs.replace(far_buy, lots=2 * far_buy.lots), far_sell)
        )

    async def story(world: World) -> None:
        monkeypatch.setattr(refresh, "desired_quotes", partly_mad)
        world.start(order_config={"levels": 2})
        await world.until_quoting(orders=3)
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)


@pytest.mark.parametrize(
    "wrong", [{"lots": 2}, {"lots": 100_000}, {"price": 2}, {"price": 0}, {"price": -1}], ids=str
)
def test_quote_of_a_strategy_gone_mad_never_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int]
) -> None:
    """Twice the size, a hundred thousand times it, twice the price, none, a negative one: the last line stops each."""
    sane = refresh.desired_quotes

    def mad(*arguments: Any) -> Desired:
        desired = sane(*arguments)
        return structs.replace(
            desired,
            quotes=tuple(
                structs.replace(
                    quote,
                    lots=quote.lots * wrong.get("lots", 1),
                    price_ticks=quote.price_ticks * wrong.get("price", 1),
                )
                for quote in desired.quotes
            ),
        )

    async def story(world: World) -> None:
        left: list[Sent] = []

        async def watch(sent: Sent) -> None:
            if sent.is_order() or (sent.method == "PUT" and "rder" in sent.path):
                left.append(sent)

        world.tamper = watch
        monkeypatch.setattr(refresh, "desired_quotes", mad)
        world.start()
        await asyncio.sleep(12)
        assert left == []
        monkeypatch.setattr(refresh, "desired_quotes", sane)
        await world.until_quoting()
        assert await world.end() is ExitCode.STOPPED

    in_a_world(tmp_path, story)
