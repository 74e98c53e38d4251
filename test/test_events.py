"""The bus: every fact to every watcher, and no watcher that harms another."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

from core.event_statistics import KindStatistics, Timing
from core.events import (
    MAY_DROP,
    RECORDED,
    BookEvent,
    ConnectionEvent,
    ConnectionKind,
    EngineEvent,
    EngineKind,
    EventBus,
    Fact,
    GapEvent,
)
from core.model import BookTop
from sim.virtual_time import run_virtual
from utils.clock import Clock

STARTED = EngineEvent(EngineKind.STARTED)
UP = ConnectionEvent("market", ConnectionKind.UP)
GAP = GapEvent("BTCUSDT", "depth", 7, "the chain is broken")


def test_facts_reach_every_subscriber_in_order() -> None:
    """At once, in the order of subscription."""
    bus = EventBus()
    heard: list[tuple[str, Fact]] = []
    bus.subscribe(lambda fact: heard.append(("first", fact)))
    bus.subscribe(lambda fact: heard.append(("second", fact)))
    bus.publish(STARTED)
    bus.publish(UP)
    assert heard == [("first", STARTED), ("second", STARTED), ("first", UP), ("second", UP)]
    assert (bus.published, bus.failures) == (2, 0)


def test_late_subscriber_hears_what_comes_from_then_on() -> None:
    """Nothing is kept for those who come later."""
    bus = EventBus()
    heard: list[Fact] = []
    bus.publish(STARTED)
    bus.subscribe(heard.append)
    bus.publish(UP)
    assert heard == [UP]


def test_failing_subscriber_is_counted_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the publisher nor those after it; the log holds the fault with its cause."""

    def fail(fact: Fact) -> None:
        raise RuntimeError("the watcher is broken")

    bus = EventBus()
    heard: list[Fact] = []
    bus.subscribe(fail)
    bus.subscribe(heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(STARTED)
    assert heard == [STARTED]
    assert (bus.published, bus.failures) == (1, 1)
    assert "a subscriber failed on EngineEvent" in caplog.text
    assert "the watcher is broken" in caplog.text


# --- by kind ------------------------------------------------------------------------------------------------


def test_subscriber_hears_only_the_kinds_it_asked_for() -> None:
    """Exact kinds; nobody has to look at what does not concern them."""
    bus = EventBus()
    heard: list[Fact] = []
    bus.subscribe(heard.append, EngineEvent, GapEvent)
    for fact in (STARTED, UP, GAP):
        bus.publish(fact)
    assert heard == [STARTED, GAP]


def test_bus_knows_whether_anybody_would_hear() -> None:
    """Who publishes a thousand times a second asks before it builds a fact."""
    bus = EventBus()
    assert not bus.wants(BookEvent)
    subscription = bus.subscribe(lambda _: None, BookEvent)
    assert bus.wants(BookEvent)
    assert not bus.wants(GapEvent)
    bus.unsubscribe(subscription)
    assert not bus.wants(BookEvent)
    bus.subscribe(lambda _: None)
    assert bus.wants(GapEvent)


def test_unsubscribed_hears_nothing_any_more() -> None:
    """Also when it unsubscribes twice."""
    bus = EventBus()
    heard: list[Fact] = []
    subscription = bus.subscribe(heard.append)
    bus.publish(STARTED)
    bus.unsubscribe(subscription)
    bus.unsubscribe(subscription)
    bus.publish(UP)
    assert heard == [STARTED]


def test_failure_is_logged_once_for_each_kind_of_fact(caplog: pytest.LogCaptureFixture) -> None:
    """A broken watcher must not fill the disk; how often it failed is counted."""
    bus = EventBus()

    def fail(fact: Fact) -> None:
        raise RuntimeError("broken")

    bus.subscribe(fail, name="the page")
    for fact in (STARTED, STARTED, UP, UP, STARTED):
        bus.publish(fact)
    assert [record.getMessage() for record in caplog.records] == [
        "a subscriber failed on EngineEvent (the page)",
        "a subscriber failed on ConnectionEvent (the page)",
    ]
    assert bus.failures == 5


def test_recorded_facts_are_never_left_out() -> None:
    """Whatever has a row in the metrics file is not of the kinds that a slow subscriber may miss."""
    assert not set(RECORDED) & MAY_DROP
    assert set(RECORDED) | MAY_DROP == set(get_args(Fact))


def test_facts_that_come_together_go_to_one_subscriber_after_the_other_in_their_order() -> None:
    """One that fails on each of them misses none, is counted each time, and keeps nothing from the next one."""
    bus, heard = EventBus(), list[tuple[str, Fact]]()

    def fail(fact: Fact) -> None:
        heard.append(("broken", fact))
        raise RuntimeError("broken")

    facts = [book(1), book(2)]
    bus.subscribe(fail, BookEvent)
    bus.subscribe(lambda fact: heard.append(("well", fact)))
    bus.publish_all(BookEvent, facts)
    bus.publish_all(BookEvent, [])
    assert heard == [("broken", facts[0]), ("broken", facts[1]), ("well", facts[0]), ("well", facts[1])]
    statistics = bus.statistics()
    assert (bus.published, bus.failures) == (2, 2)
    assert [each.calls for each in statistics.subscribers] == [2, 2]


def test_each_of_several_that_were_timed_together_counts_with_their_mean() -> None:
    """None at all are nothing."""
    timing = Timing()
    timing.add(1_000_000)
    timing.add_all(3, 9_000_000)
    timing.add_all(0, 5)
    assert (timing.count, timing.mean_ms, timing.max_ms) == (4, 2.5, 3.0)


# --- with a queue -------------------------------------------------------------------------------------------


def book(update_id: int) -> BookEvent:
    """A change of best bid and ask."""
    return BookEvent("BTCUSDT", BookTop(100, 1, 101, 1, update_id, 0, 0))


def with_bus(story: Callable[[EventBus, Clock], Awaitable[None]]) -> EventBus:
    """Run a story on virtual time beside a running bus, which is returned."""
    made: list[EventBus] = []

    async def main(clock: Clock) -> None:
        bus = EventBus(clock)
        made.append(bus)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bus.run())
            await asyncio.sleep(0)
            await story(bus, clock)
            running.cancel()

    run_virtual(main)
    return made[0]


def test_slow_subscriber_delays_nobody_but_itself() -> None:
    """The publisher goes on at once, the quick one hears at once, the slow one hears all in order."""
    slow: list[tuple[float, Fact]] = []
    quick: list[tuple[float, Fact]] = []

    async def story(bus: EventBus, clock: Clock) -> None:
        async def hear_slowly(fact: Fact) -> None:
            await asyncio.sleep(1)
            slow.append((clock.monotonic_ns() / 1e9, fact))

        async def hear_quickly(fact: Fact) -> None:
            quick.append((clock.monotonic_ns() / 1e9, fact))

        bus.subscribe_async(hear_slowly)
        bus.subscribe_async(hear_quickly)
        for fact in (STARTED, UP, GAP):
            bus.publish(fact)
        assert clock.monotonic_ns() == 0
        assert await bus.drain(10)

    bus = with_bus(story)
    assert quick == [(0, STARTED), (0, UP), (0, GAP)]
    assert slow == [(1, STARTED), (2, UP), (3, GAP)]
    first, second = bus.statistics().subscribers
    assert (first.calls, first.mean_ms, first.max_ms, first.max_wait_ms, first.most_waiting) == (
        3,
        1000,
        1000,
        2000,
        3,
    )
    assert (second.calls, second.max_ms) == (3, 0)


def test_failing_coroutine_is_counted_and_hears_the_next_fact(caplog: pytest.LogCaptureFixture) -> None:
    """Also when something within it was cancelled, which is not the end of the subscription."""
    heard: list[Fact] = []

    async def story(bus: EventBus, clock: Clock) -> None:
        async def hear(fact: Fact) -> None:
            if fact is STARTED:
                raise RuntimeError("broken")
            if fact is UP:
                raise asyncio.CancelledError
            heard.append(fact)

        bus.subscribe_async(hear, name="the page")
        for fact in (STARTED, UP, GAP):
            bus.publish(fact)
        assert await bus.drain(1)

    bus = with_bus(story)
    assert heard == [GAP]
    assert bus.failures == 2
    assert [record.getMessage() for record in caplog.records] == [
        "a subscriber failed on EngineEvent (the page)",
        "a subscriber failed on ConnectionEvent (the page)",
    ]


def test_hanging_subscriber_loses_prices_before_it_loses_anything_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What makes room are the oldest books; facts about orders and connections stay, and all is counted."""
    heard: list[Fact] = []
    facts: list[Fact] = [book(0), STARTED, *(book(number) for number in range(1, 8)), UP, GAP, book(8)]

    async def story(bus: EventBus, clock: Clock) -> None:
        release = asyncio.Event()

        async def hear(fact: Fact) -> None:
            await release.wait()
            heard.append(fact)

        subscription = bus.subscribe_async(hear, capacity=4)
        for fact in facts:
            bus.publish(fact)
        assert subscription.statistics().waiting == 4
        release.set()
        assert await bus.drain(1)

    bus = with_bus(story)
    assert heard == [STARTED, UP, GAP, book(8)]
    statistics = bus.statistics()
    assert (statistics.dropped, statistics.lost) == (8, 0)
    assert caplog.records == []


def test_loss_of_what_must_not_be_left_out_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """Memory is bounded, so it can come to that; once in the log, and counted each time."""
    heard: list[Fact] = []

    async def story(bus: EventBus, clock: Clock) -> None:
        async def hear(fact: Fact) -> None:
            heard.append(fact)

        bus.subscribe_async(hear, capacity=2, name="the page")
        for fact in (STARTED, UP, GAP, STARTED):
            bus.publish(fact)
        assert await bus.drain(1)

    bus = with_bus(story)
    assert heard == [GAP, STARTED]
    assert bus.statistics().lost == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the page is too slow: its queue is full and facts are lost to it"
    ]


def test_queue_waits_until_the_bus_runs_and_outlives_its_restart() -> None:
    """What was published before, or between two runs, is handled in order."""
    heard: list[Fact] = []

    async def main(_clock: Clock) -> None:
        bus = EventBus()

        async def hear(fact: Fact) -> None:
            heard.append(fact)

        bus.subscribe_async(hear)
        for fact in (STARTED, UP):
            bus.publish(fact)
            assert not await bus.drain(0.01)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(bus.run())
                assert await bus.drain(1)
                running.cancel()

    run_virtual(main)
    assert heard == [STARTED, UP]


def test_unsubscribed_coroutine_is_ended_in_the_middle() -> None:
    """What it was doing is cancelled, what waits is forgotten, the others go on."""
    heard: list[Fact] = []

    async def story(bus: EventBus, clock: Clock) -> None:
        async def hang(fact: Fact) -> None:
            await asyncio.Event().wait()

        async def hear(fact: Fact) -> None:
            heard.append(fact)

        hanging = bus.subscribe_async(hang)
        bus.subscribe_async(hear)
        bus.publish(STARTED)
        await asyncio.sleep(0.01)
        bus.unsubscribe(hanging)
        bus.publish(UP)
        assert await bus.drain(1)

    assert len(with_bus(story).statistics().subscribers) == 1
    assert heard == [STARTED, UP]


# --- numbers ------------------------------------------------------------------------------------------------


def test_counts_and_rates_are_told_by_kind() -> None:
    """A rate is that of the last full second or more; asking more often does not change it."""

    async def story(bus: EventBus, clock: Clock) -> None:
        for _ in range(20):
            bus.publish(STARTED)
        assert bus.statistics().kinds["EngineEvent"].per_second == 0
        bus.publish(UP)
        await asyncio.sleep(2)
        statistics = bus.statistics()
        assert statistics.kinds["EngineEvent"] == KindStatistics(count=20, per_second=10)
        assert statistics.kinds["ConnectionEvent"] == KindStatistics(count=1, per_second=0.5)
        assert (statistics.published, statistics.per_second) == (21, 10.5)
        await asyncio.sleep(0.5)
        bus.publish(UP)
        assert bus.statistics().kinds["ConnectionEvent"] == KindStatistics(count=2, per_second=0.5)
        await asyncio.sleep(0.5)
        assert bus.statistics().kinds["ConnectionEvent"] == KindStatistics(count=2, per_second=1)

    with_bus(story)


def test_time_of_every_handler_is_told() -> None:
    """Mean and maximum by subscriber, and over all of them."""

    class Steps:
        def __init__(self) -> None:
            self.ns = 0

        def time_ms(self) -> int:
            return 0

        def monotonic_ns(self) -> int:
            return self.ns

    clock = Steps()
    bus = EventBus(clock)
    steps = iter([1_000_000, 3_000_000])

    def work(_fact: Fact) -> None:
        clock.ns += next(steps)

    bus.subscribe(work, EngineEvent, name="worker")
    bus.subscribe(lambda _: None, name="idle")
    bus.publish(STARTED)
    bus.publish(STARTED)
    worker, idle = bus.statistics().subscribers
    assert (worker.name, worker.calls, worker.mean_ms, worker.max_ms) == ("worker", 2, 2, 3)
    assert (idle.calls, idle.max_ms) == (2, 0)
    assert (bus.statistics().handler_mean_ms, bus.statistics().handler_max_ms) == (1, 3)


def test_summary_names_troubles_only_when_there_are_any() -> None:
    """For the log at the end of a run."""
    bus = EventBus()
    bus.publish(STARTED)
    healthy = "1 events, handled in 0.000 ms on average and 0.0 ms at most"
    assert str(bus.statistics()) == healthy

    def fail(fact: Fact) -> None:
        raise RuntimeError("broken")

    bus.subscribe(fail)
    bus.publish(UP)
    assert str(bus.statistics()).endswith("at most, 1 failed")
