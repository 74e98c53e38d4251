"""A move of the price has the quotes follow in the very turn of the loop that brings it, over the order socket."""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.change_lock import ChangeLock
from core.events import Fact, OrderModifyEvent, OrderModifyFailureEvent, OrderModifySuccessEvent
from core.exit_code import ExitCode
from core.model import Side
from utils.errors import RateLimited
from utils.http import HttpResponse
from utils.signing import Signer

from .daemon import Sent, World, in_a_world, json_reply, untouched

AT_ONCE = {
    "refresh_config": {"orderbook_refresh_interval": 60, "min_requote_interval_ms": 0},
    "order_management": {"patience_bps_s": 0, "reset_interval": 0},
    "execution": {"order_transport": "ws", "modify_rate_limit": 100, "modify_worker_count": 1},
}
QUIET = 0.001
"""Events a second: the market stands still unless a test moves it."""
ONE_WAY_S = 0.002


class Watch:
    """What the daemon amends, with the moments at which it begins each amendment and gets its answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.began: list[float] = []
        self.done: list[float] = []
        engine = world.engine
        assert engine is not None
        engine.bus.subscribe(self._note(self.began), OrderModifyEvent, name="watch of beginnings")
        engine.bus.subscribe(self._note(self.done), OrderModifySuccessEvent, name="watch of ends")

    def _note(self, times: list[float]) -> Callable[[Any], None]:
        return lambda _event: times.append(self.world.now_s)


def in_a_still_world(tmp_path: Path, story: Callable[[World, Watch], Any], **config: Any) -> None:
    """Let a story happen in a market that stands still, once six quotes rest."""

    async def play(world: World) -> None:
        world.start(**{**AT_ONCE, **config})
        await world.until_quoting()
        await asyncio.sleep(1)
        await story(world, Watch(world))
        assert await world.end() is ExitCode.STOPPED
        assert "worker_restarted" not in world.events("engine_event")

    in_a_world(tmp_path, play, events_per_s=QUIET)


def move(world: World, bps: float) -> None:
    """Have the market stand somewhere else from now on."""
    world.strike("move-market", bps=bps)


def are_right(world: World) -> bool:
    """Tell whether six quotes rest at the exchange, each within a basis point of where it belongs."""
    near = near_targets(world)
    return len(near) == 6 and all(near) and not world.disagreements()


def near_targets(world: World) -> list[bool]:
    """Return of each order that lives whether it is within a basis point of where it belongs."""
    half_ticks = Decimal(world.mid_half_ticks())
    orders = world.books.living()
    targets = [half_ticks / 2 * (1 - each.side.sign * each.level * Decimal("0.001")) for each in orders]
    return [
        abs(each.price_ticks - target) <= target / 10_000
        for each, target in zip(orders, targets, strict=True)
    ]


def test_six_quotes_follow_a_move_within_the_turn_that_brings_it(tmp_path: Path) -> None:
    """All six amendments leave when the book arrives, and their answers come one round trip later."""

    async def story(world: World, watch: Watch) -> None:
        moved_s = world.now_s
        move(world, 4)
        await asyncio.sleep(0.1)
        assert [round(each - moved_s, 6) for each in watch.began] == [ONE_WAY_S] * 6
        assert [round(each - moved_s, 6) for each in watch.done] == [3 * ONE_WAY_S] * 6
        assert are_right(world)

    in_a_still_world(tmp_path, story)


def test_books_that_come_together_have_the_quotes_follow_the_newest(tmp_path: Path) -> None:
    """Three moves in one moment are one amendment of each order, to where the last one is."""

    async def story(world: World, watch: Watch) -> None:
        for bps in (4, 3, -2):
            move(world, bps)
        await asyncio.sleep(0.1)
        assert len(watch.began) == 6
        assert are_right(world)

    in_a_still_world(tmp_path, story)


def test_move_while_answers_are_under_way_is_followed_when_they_have_come(tmp_path: Path) -> None:
    """No order is changed twice at a time, and no move is forgotten."""

    async def story(world: World, watch: Watch) -> None:
        moved_s = world.now_s
        move(world, 4)
        await asyncio.sleep(ONE_WAY_S)
        move(world, 4)
        await asyncio.sleep(0.1)
        times = [round(each - moved_s, 6) for each in watch.began]
        assert times == [ONE_WAY_S] * 6 + [3 * ONE_WAY_S] * 6
        assert are_right(world)

    in_a_still_world(tmp_path, story)


def test_requotes_are_no_closer_than_configured(tmp_path: Path) -> None:
    """The second move waits for the rest of the interval, and the quotes follow then."""

    async def story(world: World, watch: Watch) -> None:
        moved_s = world.now_s
        for _ in range(3):
            move(world, 4)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        times = [round(each - moved_s, 3) for each in watch.began]
        assert times == [ONE_WAY_S] * 6 + [0.202] * 6
        assert are_right(world)

    in_a_still_world(
        tmp_path, story, refresh_config={"orderbook_refresh_interval": 60, "min_requote_interval_ms": 200}
    )


def test_what_the_rate_does_not_allow_one_by_one_follows_in_company(tmp_path: Path) -> None:
    """Ten a second are not six of each of two moves in a second: the second time a batch and one more do."""

    async def story(world: World, watch: Watch) -> None:
        for bps in (4, -4, 4, -4, 4, -4):
            move(world, bps)
            await asyncio.sleep(0.1)
            assert are_right(world)
            await asyncio.sleep(0.4)
        assert world.record()["requests"]["PUT /fapi/v1/batchOrders"] == 3

    in_a_still_world(
        tmp_path,
        story,
        execution={"order_transport": "ws", "modify_rate_limit": 10, "modify_worker_count": 2},
    )


@pytest.mark.parametrize("transport", ["ws", "rest"])
def test_move_is_one_refresh_whichever_way_it_goes(tmp_path: Path, transport: str) -> None:
    """Over REST nothing leaves at once: the worker alone decides, and what it does is counted once."""

    async def story(world: World, watch: Watch) -> None:
        refreshes = world.refreshes
        move(world, 4)
        await asyncio.sleep(0.1)
        assert (world.refreshes - refreshes, len(watch.began)) == (1, 6)

    at_once = AT_ONCE["execution"]
    in_a_still_world(tmp_path, story, execution={**at_once, "order_transport": transport})


def test_whoever_takes_the_quotes_out_goes_before_the_next_requote(tmp_path: Path) -> None:
    """Who waits for the lock while answers are under way gets it when they have come, whatever the price does."""

    async def story(world: World, watch: Watch) -> None:
        assert world.engine is not None
        [context] = world.engine.contexts
        lock: ChangeLock = context.lock
        move(world, 4)
        await asyncio.sleep(1.5 * ONE_WAY_S)
        assert lock.locked()
        waiting = asyncio.ensure_future(lock.acquire())
        move(world, 4)
        await asyncio.sleep(2 * ONE_WAY_S)
        assert waiting.done()
        await asyncio.sleep(0.05)
        assert len(watch.began) == 6, "nothing changes while somebody else holds the lock"
        lock.release()
        await asyncio.sleep(0.05)
        assert len(watch.began) == 12
        assert are_right(world)

    in_a_still_world(tmp_path, story)


def test_answer_that_stays_away_does_not_hold_up_the_others_for_long(tmp_path: Path) -> None:
    """The socket goes dumb: after a second others may change the orders, and in the end six rest where they should."""

    async def story(world: World, watch: Watch) -> None:
        world.strike("drop-reply", method="PUT", for_s=0.5)
        move(world, 4)
        await asyncio.sleep(0.5)
        move(world, 3)
        assert await world.until(lambda: are_right(world), 20, "quotes at their places") < 20
        assert len(watch.began) >= 6

    in_a_still_world(tmp_path, story)


def test_quotes_come_back_at_once_after_a_gate_that_closed_while_answers_were_under_way(
    tmp_path: Path,
) -> None:
    """The requote that ends while others wait to take the quotes out does not count as the next one."""

    async def story(world: World, watch: Watch) -> None:
        assert world.engine is not None
        [context] = world.engine.contexts
        move(world, 4)
        await asyncio.sleep(1.5 * ONE_WAY_S)
        assert len(watch.began) == 6
        context.gate.close("test", "for a moment")
        await asyncio.sleep(0.5 * ONE_WAY_S)
        context.gate.open("test")
        assert await world.until(lambda: are_right(world), 1, "quotes at their places") < 1

    in_a_still_world(tmp_path, story)


def test_book_that_seems_late_is_followed_as_soon_as_it_proves_to_be_the_present_one(tmp_path: Path) -> None:
    """The machine's clock jumps: every book seems seconds old, until the exchange says that it still stands."""

    async def story(world: World, watch: Watch) -> None:
        world.daemon_clock.skew_ms = 5000
        move(world, 4)
        assert await world.until(lambda: len(watch.began) == 6, 2, "six amendments") < 2
        assert await world.until(lambda: are_right(world), 1, "quotes at their places") < 1

    in_a_still_world(tmp_path, story)


def test_move_is_followed_at_once_also_just_before_the_worker_would_wake(tmp_path: Path) -> None:
    """The worker looks once a second by itself; a move in the 20 ms before that does not wait for it."""

    async def story(world: World, watch: Watch) -> None:
        bps = 4
        for _ in range(70):  # each 15 ms earlier in the worker's second than the one before
            moved_s, before = world.now_s, len(watch.began)
            move(world, bps)
            bps = -bps
            await asyncio.sleep(0.985)
            assert [round(each - moved_s, 6) for each in watch.began[before:]] == [ONE_WAY_S] * 6

    in_a_still_world(tmp_path, story)


def test_fault_while_an_amendment_is_sent_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is restarted, no place in the queue and no connection stays taken, and the quotes follow again."""
    signed_params, failures = Signer.signed_params, list[str]()

    def fail_once(signer: Signer, params: Mapping[str, str | int]) -> dict[str, str | int]:
        if failures:
            return signed_params(signer, params)
        failures.append("signing")
        raise RuntimeError("planted")

    async def play(world: World) -> None:
        world.start(**AT_ONCE)
        await world.until_quoting()
        await asyncio.sleep(1)
        monkeypatch.setattr(Signer, "signed_params", fail_once)
        move(world, 4)
        assert await world.until(lambda: bool(failures) and are_right(world), 15, "quotes") < 15
        assert world.engine is not None
        assert world.engine.execution.amend_queue._under_way == {}
        assert world.engine._gateway.lanes._connections == 0
        assert await world.end() is ExitCode.STOPPED
        assert "worker_restarted" in world.events("engine_event")

    in_a_world(tmp_path, play, events_per_s=QUIET)


def test_amendments_that_waited_for_room_do_not_leave_on_a_book_that_is_stale_by_then(tmp_path: Path) -> None:
    """The limits hold them up for 0.3 s; meanwhile the proof of the book runs out, and nobody has said so yet."""

    async def story(world: World, watch: Watch) -> None:
        async def noting(sent: Sent) -> None:
            if sent.method == "PUT":
                amended_s.append(world.now_s)

        amended_s: list[float] = []
        world.tamper = noting
        assert world.engine is not None
        [context] = world.engine.contexts
        refusal = RateLimited(-1015, "too many orders", 429, retry_after_s=0.3, banned=False)
        world.engine._gateway.lanes.limited(refusal)
        move(world, 4)
        await asyncio.sleep(0.1)
        assert sum(order.change is not None for order in context.orders.living()) == 5, (
            "one request has begun"
        )
        context.state.book_proven_ns -= 2_850_000_000
        await asyncio.sleep(0.3)
        assert amended_s == []
        assert context.gate.is_open, "else that alone would have held them back"
        await world.until(lambda: are_right(world), 5, "quotes at their places")

    at_once = AT_ONCE["execution"]
    in_a_still_world(tmp_path, story, execution={**at_once, "order_transport": "rest"})


@pytest.mark.parametrize("bps", [0, 4.3, -7.1])
def test_spread_as_wide_as_the_outermost_level_has_all_levels_quoted(tmp_path: Path, bps: float) -> None:
    """Prices are rounded away from the mid, so the outermost lies a fraction of a tick beyond max_spread."""

    async def play(world: World) -> None:
        move(world, bps)
        await asyncio.sleep(90)  # until the mark price has followed
        world.start(strategy={"max_spread": 0.003})
        await world.until_quoting()
        assert are_right(world)
        assert await world.end() is ExitCode.STOPPED
        assert "rejected" not in world.events("order_event")

    in_a_world(tmp_path, play, events_per_s=QUIET)


def test_level_too_far_from_the_mark_price_leaves_the_others_quoted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not the one quote that goes out first, for which all others would wait, and it is named."""

    async def play(world: World) -> None:
        world.strike("mark-offset", bps=30)
        await asyncio.sleep(30)
        world.start(strategy={"max_spread": 0.005})
        await world.until_quoting(15, orders=5)
        await asyncio.sleep(10)
        assert len(world.ours()) == 5
        assert await world.end() is ExitCode.STOPPED
        assert "rejected" not in world.events("order_event")

    in_a_world(tmp_path, play, events_per_s=QUIET)
    assert "quotes left out: buy 3: farther than max_spread from the mark price " in caplog.text


def test_market_that_leaves_the_mark_price_behind_has_the_level_too_far_from_it_cancelled(
    tmp_path: Path,
) -> None:
    """It does not stay where it was, nearer to the mid than wanted, because it may not follow; and comes back."""

    failed: list[Fact] = []

    async def story(world: World, watch: Watch) -> None:
        assert world.engine is not None
        world.engine.bus.subscribe(failed.append, OrderModifyFailureEvent)
        world.strike("mark-offset", bps=30, for_s=20)
        move(world, -30)
        await world.until(lambda: len(world.ours()) == 5, 1, "buy 3 is out")
        assert {(order.side, order.level) for order in world.books.living()} == {
            (side, level) for side in Side for level in (1, 2, 3)
        } - {(Side.BUY, 3)}
        await asyncio.sleep(10)
        assert len(world.ours()) == 5
        await world.until(lambda: are_right(world), 90, "all six at their places")
        assert failed == []

    in_a_still_world(tmp_path, story, strategy={"max_spread": 0.005})


@pytest.mark.parametrize(("status", "code"), [(503, -1008), (400, -1021)], ids=["busy", "timestamp"])
def test_cancel_that_is_refused_keeps_no_other_quote_from_following_the_price(
    tmp_path: Path, status: int, code: int
) -> None:
    """The move asks for a cancel and five amendments: these follow it, and the next one; nothing is insisted on."""
    cancels: list[Sent] = []
    failed: list[Fact] = []

    async def story(world: World, watch: Watch) -> None:
        async def refuse(sent: Sent) -> HttpResponse | None:
            if sent.method != "DELETE" or world.now_s > until_s:
                return None
            cancels.append(sent)
            return json_reply(status, {"code": code, "msg": "Not now."})

        def followed() -> bool:
            return near_targets(world).count(True) == 5

        assert world.engine is not None
        world.engine.bus.subscribe(failed.append, OrderModifyFailureEvent)
        until_s = world.now_s + 8
        world.tamper = refuse
        world.strike("mark-offset", bps=30, for_s=20)
        move(world, -30)
        await world.until(lambda: bool(cancels), 1, "a refused cancel")
        await world.until(followed, 2, "five quotes that have followed")
        move(world, 6)
        await world.until(lambda: not followed(), 1, "another move")
        await world.until(followed, 2, "five quotes that have followed again")
        await asyncio.sleep(until_s - world.now_s)
        assert len(cancels) <= 3 * 8 / 0.5  # three attempts, twice a second at most
        assert failed == []
        await world.until(lambda: len(world.ours()) == 5, 12, "buy 3 is out")

    in_a_still_world(tmp_path, story, strategy={"max_spread": 0.005})


@pytest.mark.parametrize(("move_bps", "is_far"), [(5, False), (-250, True)])
def test_new_order_without_an_answer_does_not_keep_the_others_from_following_the_price(
    tmp_path: Path, move_bps: int, is_far: bool
) -> None:
    """It has none for three seconds; little more than one later the others are where they belong, or out of the way."""

    async def story(world: World, watch: Watch) -> None:
        hanging: list[Sent] = []

        async def hang(sent: Sent) -> HttpResponse | None:
            if sent.is_order():
                hanging.append(sent)
                await sent.hang()
            return None

        def has_followed() -> bool:
            if is_far:
                return not any(order.side.value == "SELL" for order in world.ours())
            return len(watch.done) >= 5

        world.tamper = hang
        gone = world.ours()[0]
        await world.other_client(
            "DELETE", "/fapi/v1/order", symbol=world.symbol, origClientOrderId=gone.client_order_id
        )
        await world.until(lambda: bool(hanging), 6, "a new order without an answer")
        world.control("POST", "/sim/market", symbol=world.symbol, move_bps=str(move_bps))
        moved_s = world.now_s
        await world.until(has_followed, 1.5, "others that follow")
        assert world.now_s < moved_s + hanging[0].timeout_s - 1
        world.tamper = untouched
        await world.until_quoting(30)

    refreshing = {**AT_ONCE["refresh_config"], "orderbook_refresh_interval": 5}
    in_a_still_world(tmp_path, story, refresh_config=refreshing)
