"""Publish and subscribe: facts go to whoever watches, and no watcher harms another or the publisher.

What the facts are is said in ``core.events``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from core.event_queue import FactQueue
from core.event_statistics import BusStatistics, Counts, SubscriberStatistics, Timing
from utils.clock import Clock

log = logging.getLogger(__name__)

F = TypeVar("F")
Now = Callable[[], int]


class Subscription(Generic[F]):
    """One who hears of facts of some kinds (none given: of all), and what handling them has cost so far."""

    def __init__(self, name: str, kinds: tuple[type, ...], now_ns: Now) -> None:
        self.name = name
        self.kinds = kinds
        self.failures = 0
        self.timing = Timing()
        self._now_ns = now_ns
        self._complained: set[type] = set()

    def hears(self, kind: type) -> bool:
        """Tell whether facts of this kind go to it."""
        return not self.kinds or kind in self.kinds

    def hand(self, fact: F) -> None:
        """Have the fact handled, now or later."""
        raise NotImplementedError

    def hand_all(self, facts: Sequence[F]) -> None:
        """Have the facts handled in their order, now or later."""
        for fact in facts:
            self.hand(fact)

    def statistics(self) -> SubscriberStatistics:
        """Return what it has done so far."""
        return SubscriberStatistics(
            name=self.name,
            calls=self.timing.count,
            failures=self.failures,
            mean_ms=self.timing.mean_ms,
            max_ms=self.timing.max_ms,
        )

    def _failed(self, fact: F) -> str:
        """Count a failure; return what to log, which is nothing unless it is the first with this kind of fact."""
        self.failures += 1
        kind = type(fact)
        if kind in self._complained:
            return ""
        self._complained.add(kind)
        return f"a subscriber failed on {kind.__name__} ({self.name})"


class DirectSubscription(Subscription[F]):
    """A function that is called at once, in the turn of the publisher."""

    def __init__(self, name: str, kinds: tuple[type, ...], now_ns: Now, handler: Callable[[F], None]) -> None:
        super().__init__(name, kinds, now_ns)
        self._handler = handler

    def hand(self, fact: F) -> None:
        """Call it; what it raises is counted and goes no further."""
        now_ns = self._now_ns
        started_ns = now_ns()
        try:
            self._handler(fact)
        except Exception:
            if complaint := self._failed(fact):
                log.exception("%s", complaint)
        self.timing.add(now_ns() - started_ns)

    def hand_all(self, facts: Sequence[F]) -> None:
        """Call it with each; of those that come together the mean is what one has cost."""
        handler, started_ns = self._handler, self._now_ns()
        for fact in facts:
            try:
                handler(fact)
            except Exception:
                if complaint := self._failed(fact):
                    log.exception("%s", complaint)
        self.timing.add_all(len(facts), self._now_ns() - started_ns)


class QueuedSubscription(Subscription[F]):
    """A coroutine function with a queue and a task of its own: however slow it is, only its own queue fills."""

    def __init__(
        self,
        name: str,
        kinds: tuple[type, ...],
        now_ns: Now,
        handler: Callable[[F], Awaitable[None]],
        capacity: int,
        may_drop: Callable[[type], bool],
    ) -> None:
        super().__init__(name, kinds, now_ns)
        self._handler = handler
        self._may_drop = may_drop
        self._queue: FactQueue[tuple[int, F]] = FactQueue(capacity)
        self._waits = Timing()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._told_of_loss = False

    def hand(self, fact: F) -> None:
        """Put it into the queue; a loss that the publisher could not know of is said aloud."""
        entry = (self._now_ns(), fact)
        if not self._queue.put(entry, may_drop=self._may_drop(type(fact))) and not self._told_of_loss:
            self._told_of_loss = True
            log.error("%s is too slow: its queue is full and facts are lost to it", self.name)
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Handle one fact after the other until cancelled."""
        while True:
            while len(self._queue):
                await self._handle(*self._queue.take())
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def _handle(self, published_ns: int, fact: F) -> None:
        started_ns = self._now_ns()
        self._waits.add(started_ns - published_ns)
        try:
            await self._handler(fact)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            if complaint := self._failed(fact):  # something within was cancelled, not this
                log.exception("%s", complaint)
        except Exception:
            if complaint := self._failed(fact):
                log.exception("%s", complaint)
        self.timing.add(self._now_ns() - started_ns)
        await asyncio.sleep(0)  # a handler that never waits must not keep the loop to itself

    async def drained(self) -> None:
        """Return once everything that was published so far has been handled."""
        await self._idle.wait()

    def statistics(self) -> SubscriberStatistics:
        """Return what it has done so far."""
        return SubscriberStatistics(
            name=self.name,
            calls=self.timing.count,
            failures=self.failures,
            mean_ms=self.timing.mean_ms,
            max_ms=self.timing.max_ms,
            waiting=len(self._queue),
            most_waiting=self._queue.most,
            dropped=self._queue.dropped,
            lost=self._queue.lost,
            max_wait_ms=self._waits.max_ms,
        )


class Bus(Generic[F]):
    """Hands each fact to those who subscribed to its kind, in the order of subscription.

    Kinds are exact types. A fact that nobody subscribed to costs a look into a table; who would have to build it first
    asks ``wants``. Without a clock, times and rates stay 0. Used from the event loop's thread only.
    """

    name = "events"

    def __init__(
        self, clock: Clock | None = None, may_drop: Callable[[type], bool] = lambda _: False
    ) -> None:
        self._now_ns: Now = clock.monotonic_ns if clock is not None else lambda: 0
        self._may_drop = may_drop
        self._counts = Counts()
        self._counts.begin(self._now_ns())
        self._subscriptions: list[Subscription[F]] = []
        self._routes: dict[type, tuple[Subscription[F], ...]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[QueuedSubscription[F], asyncio.Task[None]] = {}

    # --- who hears --------------------------------------------------------------------------------------------

    def subscribe(
        self, subscriber: Callable[[Any], None], *kinds: type[F], name: str = ""
    ) -> Subscription[F]:
        """Have a function called with every fact of these kinds (none: of all) from now on. It must not block."""
        subscription = DirectSubscription[F](name or _name_of(subscriber), kinds, self._now_ns, subscriber)
        self._add(subscription)
        return subscription

    def subscribe_async(
        self,
        subscriber: Callable[[Any], Awaitable[None]],
        *kinds: type[F],
        name: str = "",
        capacity: int = 1000,
    ) -> QueuedSubscription[F]:
        """Have a coroutine function called with these facts one after the other, while ``run`` runs.

        At most ``capacity`` facts wait for it. When it is too slow, facts of which the next one says it all make room
        for newer ones and are counted; the others are lost only if nothing else waits, counted and logged.
        """
        subscription = QueuedSubscription[F](
            name or _name_of(subscriber), kinds, self._now_ns, subscriber, capacity, self._may_drop
        )
        self._add(subscription)
        if self._group is not None:
            self._start(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[F]) -> None:
        """The subscriber hears nothing any more; what waits for it is forgotten."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            self._routes.clear()
        if isinstance(subscription, QueuedSubscription) and subscription in self._tasks:
            self._tasks.pop(subscription).cancel()

    def _add(self, subscription: Subscription[F]) -> None:
        self._subscriptions.append(subscription)
        self._routes.clear()

    def _route(self, kind: type) -> tuple[Subscription[F], ...]:
        routes = tuple(each for each in self._subscriptions if each.hears(kind))
        self._routes[kind] = routes
        return routes

    # --- what is said -----------------------------------------------------------------------------------------

    def wants(self, kind: type[F]) -> bool:
        """Tell whether anybody would hear a fact of this kind; who publishes often asks before building one."""
        routes = self._routes.get(kind)
        return bool(self._route(kind) if routes is None else routes)

    def publish(self, fact: F) -> None:
        """Hand the fact to every subscriber of its kind."""
        kind = type(fact)
        counts = self._counts.total
        counts[kind] = counts.get(kind, 0) + 1
        routes = self._routes.get(kind)
        for subscription in self._route(kind) if routes is None else routes:
            subscription.hand(fact)

    def publish_all(self, kind: type[F], facts: Sequence[F]) -> None:
        """Hand facts of one kind, in their order, to each subscriber: to one after the other, as they subscribed."""
        counts = self._counts.total
        counts[kind] = counts.get(kind, 0) + len(facts)
        routes = self._routes.get(kind)
        for subscription in self._route(kind) if routes is None else routes:
            subscription.hand_all(facts)

    # --- those with a queue -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Have the subscribers with a queue work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for subscription in self._subscriptions:
                    if isinstance(subscription, QueuedSubscription):
                        self._start(subscription)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._tasks.clear()

    def _start(self, subscription: QueuedSubscription[F]) -> None:
        assert self._group is not None  # noqa: S101 - for the type checker; both callers have looked
        self._tasks[subscription] = self._group.create_task(
            subscription.run(), name=f"{self.name} {subscription.name}"
        )

    async def drain(self, timeout_s: float) -> bool:
        """Wait until all queues are empty, at most so long; tell whether they are. ``run`` must be running."""
        waiting = [each for each in self._subscriptions if isinstance(each, QueuedSubscription)]
        try:
            async with asyncio.timeout(timeout_s):
                for subscription in waiting:
                    await subscription.drained()
        except TimeoutError:
            return False
        return True

    # --- numbers ----------------------------------------------------------------------------------------------

    @property
    def published(self) -> int:
        """Facts published since the start."""
        return sum(self._counts.total.values())

    @property
    def failures(self) -> int:
        """Calls of subscribers that failed since the start."""
        return sum(each.failures for each in self._subscriptions)

    def statistics(self) -> BusStatistics:
        """Return what the bus has done so far."""
        return BusStatistics(
            kinds=self._counts.read(self._now_ns()),
            subscribers=tuple(each.statistics() for each in self._subscriptions),
        )


def _name_of(subscriber: Callable[..., Any]) -> str:
    return getattr(subscriber, "__qualname__", type(subscriber).__name__)
