"""The clockwork advances what is due, when it is due, and lets others run meanwhile."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

from sim.clockwork import MAX_NAP_MS, SLICE_MS, drive
from sim.exchange import Exchange
from sim.feeds import FeedSettings, open_market
from sim.virtual_time import DEFAULT_EPOCH_MS, VirtualClock, run_virtual


class DueList:
    """Something with a list of due times, which notes at which times it was advanced."""

    def __init__(self, due_ms: list[int]) -> None:
        self.due_ms = sorted(due_ms)
        self.advanced_to_ms: list[int] = []
        self.on_sooner: Callable[[], None] = lambda: None

    def advance(self, now_ms: int) -> None:
        """Everything up to now is done."""
        self.advanced_to_ms.append(now_ms)
        self.due_ms = [due_ms for due_ms in self.due_ms if due_ms > now_ms]

    def next_due_ms(self) -> int | None:
        """The first that is left."""
        return self.due_ms[0] if self.due_ms else None


def test_each_due_time_is_met_exactly_on_an_idle_machine() -> None:
    """On virtual time, advancing happens at the due times and at no others."""

    async def main(clock: VirtualClock) -> list[int]:
        start_ms = clock.time_ms()
        ticking = DueList([start_ms + due_ms for due_ms in (0, 3, 500, 10_000)])
        await drive(ticking, clock)
        return [at_ms - start_ms for at_ms in ticking.advanced_to_ms]

    assert run_virtual(main) == [0, 3, 500, 10_000]


def test_driving_ends_when_nothing_is_due() -> None:
    """With nothing to do it returns at once."""

    async def main(clock: VirtualClock) -> int:
        await drive(DueList([]), clock)
        return clock.monotonic_ns()

    assert run_virtual(main) == 0


async def _after_something_became_due(clock: VirtualClock, *, is_told: bool) -> int:
    """When the clockwork did what came to be due at 1010 ms, 1001 ms after it had found nothing for a minute."""
    start_ms = clock.time_ms()
    ticking = DueList([start_ms + 60_000])
    driving = asyncio.ensure_future(drive(ticking, clock, MAX_NAP_MS if not is_told else 60_000))
    await asyncio.sleep(1.001)
    ticking.due_ms.insert(0, start_ms + 1_010)
    if is_told:
        ticking.on_sooner()
    await asyncio.sleep(1)
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    return ticking.advanced_to_ms[0] - start_ms


def test_something_that_becomes_due_earlier_is_met_within_a_nap() -> None:
    """A market that comes from outside has its events whenever it likes."""
    reached_ms = run_virtual(lambda clock: _after_something_became_due(clock, is_told=False))
    assert 1_010 <= reached_ms <= 1_010 + MAX_NAP_MS


def test_something_that_is_told_to_be_due_earlier_is_met_exactly() -> None:
    """A request may arm a timer that is due before what the clockwork waits for, however long its nap."""
    assert run_virtual(lambda clock: _after_something_became_due(clock, is_told=True)) == 1_010


def test_nothing_wakes_a_clockwork_that_has_stopped() -> None:
    """A request after the end sets no timer."""

    async def main(clock: VirtualClock) -> list[int]:
        ticking = DueList([clock.time_ms() + 60_000])
        driving = asyncio.ensure_future(drive(ticking, clock, 60_000))
        await asyncio.sleep(1)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        ticking.due_ms.insert(0, clock.time_ms() + 5)
        ticking.on_sooner()
        await asyncio.sleep(1)
        return ticking.advanced_to_ms

    assert run_virtual(main) == []


def test_a_backlog_is_caught_up_in_slices_between_which_others_run() -> None:
    """After a suspended machine no advance covers more than a slice, and other tasks get their turns."""

    async def main(clock: VirtualClock) -> tuple[list[int], int]:
        start_ms = clock.time_ms()
        ticking = DueList([start_ms + due_ms for due_ms in range(0, 5_000, 5)])
        await asyncio.sleep(5)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while ticking.due_ms:
                turns += 1
                await asyncio.sleep(0)

        await asyncio.gather(drive(ticking, clock), count_turns())
        reached = [start_ms, *ticking.advanced_to_ms]
        return [after - before for before, after in pairwise(reached)], turns

    steps_ms, turns = run_virtual(main)
    assert max(steps_ms) <= SLICE_MS + 5
    assert turns > 100


def test_market_that_is_older_than_its_exchange_is_caught_up_with() -> None:
    """Opening a recording takes a while, and the exchange is made after it: what was due meanwhile happens at once."""

    async def main(clock: VirtualClock) -> int | None:
        now_ms = clock.time_ms()
        exchange = Exchange(
            open_market(FeedSettings(), now_ms - 5 * SLICE_MS),
            api_key="k",
            api_secret="s",
            now_ms=now_ms,
            wallet_quote=Decimal(5000),
        )
        assert exchange.next_due_ms() == now_ms
        driving = asyncio.ensure_future(drive(exchange, clock))
        await asyncio.sleep(0.001)
        driving.cancel()
        return exchange.next_due_ms()

    assert (run_virtual(main) or 0) > DEFAULT_EPOCH_MS


def test_due_times_closer_than_a_millisecond_of_work_do_not_keep_the_loop_busy() -> None:
    """One advance a millisecond at most, however much is due in it."""

    async def main(clock: VirtualClock) -> int:
        start_ms = clock.time_ms()
        ticking = DueList([start_ms + number // 100 for number in range(10_000)])
        await drive(ticking, clock)
        return len(ticking.advanced_to_ms)

    assert run_virtual(main) == 100
