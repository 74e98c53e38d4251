"""The gate that every request passes: it leaves at once while there is budget, and in order of importance when not."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from core.rate_budget import Cost, Counts, Lane, RateBudget
from core.rate_hold import RateHold
from core.request_costs import MIDDLE, ONE_ORDER, TIME, UNCOUNTED, Params, lane_and_cost
from utils.errors import NotSent, RateLimited
from utils.http import TOO_MANY_ORDERS, Objection

CONNECTIONS = 32
"""Requests that are under way at once; more would queue for a connection, where no lane could overtake."""

_SHARE_OF_CONNECTIONS: Mapping[Lane, int] = {
    Lane.CANCEL: CONNECTIONS,
    Lane.VERIFY: CONNECTIONS - 2,
    Lane.AMEND: CONNECTIONS - 4,
    Lane.PLACE: CONNECTIONS - 8,
    Lane.QUERY: CONNECTIONS - 12,
}
QUOTE_PATIENCE_S = 0.5
"""How long a quote or an amendment waits for budget: soon it would be about another market."""


_SAYS_NOTHING = Counts()


@dataclass(slots=True)
class LaneCounts:
    """What has passed and what has not, since the start."""

    sent: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    waits: int = 0
    dropped: int = 0
    longest_wait_ms: int = 0


class Passage:
    """One request that has been let through; leave it by its ``with`` block."""

    __slots__ = ("_counts", "_lanes", "cost", "taken_ms")

    def __init__(self, lanes: "Lanes", cost: Cost, taken_ms: int) -> None:
        self._lanes = lanes
        self._counts = _SAYS_NOTHING
        self.cost = cost
        self.taken_ms = taken_ms

    def answered(self, headers: Mapping[str, str]) -> None:
        """Note what the exchange's headers say of the limits; order endpoints send -1 for the weight."""
        self.counted(
            Counts(
                _count(headers.get("x-mbx-used-weight-1m")),
                _count(headers.get("x-mbx-order-count-10s")),
                _count(headers.get("x-mbx-order-count-1m")),
            )
        )

    def counted(self, counts: Counts) -> None:
        """Note what the exchange says is used."""
        self._counts = counts

    def __enter__(self) -> "Passage":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one through; what was not sent costs nothing."""
        del error, trace
        was_sent = kind is None or not issubclass(kind, NotSent)
        self._lanes.leave(self, self._counts, was_sent=was_sent)


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


@dataclass(slots=True, eq=False)
class _Waiting:
    """One request in front of the gate; ``passed`` gets its passage."""

    cost: Cost
    objection: Objection
    passed: asyncio.Future[Passage]


class Lanes:
    """Lets requests through by lane, as far as the budget goes.

    ``now_ms`` is the exchange's clock, by which limits are counted; ``steady_ns`` is monotonic. A request that has to
    wait is overtaken by those of higher lanes. It ends as NotSent as soon as it is certain that it would wait too long,
    or when there is an objection to it meanwhile.
    While ``time_is_known`` says no, nobody can tell which windows counts are of.
    """

    def __init__(
        self,
        budget: RateBudget,
        now_ms: Callable[[], int],
        steady_ns: Callable[[], int],
        time_is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        self.budget = budget
        self.counts = LaneCounts()
        self._hold = RateHold()
        self._now_ms = now_ms
        self._steady_ns = steady_ns
        self._time_is_known = time_is_known
        self._queues: dict[Lane, deque[_Waiting]] = {lane: deque() for lane in Lane}
        self._waiting = 0
        self._connections = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Return how many requests wait to leave."""
        return self._waiting

    def used(self) -> tuple[int, int, int]:
        """Return what is used of the limits now: weight in the minute, orders in the 10 s and in the minute."""
        now_ms, budget = self._now_ms(), self.budget
        return budget.weight.used(now_ms), budget.orders_10s.used(now_ms), budget.orders_1m.used(now_ms)

    def no_room_s(self) -> float:
        """Return for how long the limits hold up what quoting takes, new quotes and questions; 0 if they do not."""
        now_ms = self._now_ms()
        self._look_at_time()
        placing_ms = self._wait_ms(Lane.PLACE, ONE_ORDER, now_ms)
        return max(placing_ms, self._wait_ms(Lane.VERIFY, MIDDLE, now_ms)) / 1000

    async def enter(
        self, method: str, path: str, params: Params, patience_s: float, objection: Objection
    ) -> Passage:
        """Return the passage of a REST request once it may leave; NotSent if it may not in time.

        What asks for a time that is not known waits for no count, only for the exchange's word: the window that is
        full may be over, and nothing else would tell.
        """
        lane, cost = lane_and_cost(method, path, params)
        if (method, path) == TIME and not self._time_is_known():
            cost = UNCOUNTED
        if lane in (Lane.AMEND, Lane.PLACE):
            patience_s = min(patience_s, QUOTE_PATIENCE_S)
        return await self.take(lane, cost, patience_s, objection)

    def try_enter(self, method: str, path: str, params: Params) -> Passage | None:
        """Return the passage of a REST request that may leave at once; None if it would have to wait."""
        lane, cost = lane_and_cost(method, path, params)
        if self._waiting and any(self._queues[before] for before in Lane if before <= lane):
            return None
        passage, _ = self._try(lane, cost)
        if passage is not None:
            self.counts.sent[lane] += 1
        return passage

    async def take(self, lane: Lane, cost: Cost, patience_s: float, objection: Objection) -> Passage:
        """Return a passage in this lane; NotSent if there is none within ``patience_s``, or an objection comes up."""
        if not self._waiting or not any(self._queues[before] for before in Lane if before <= lane):
            passage, _ = self._try(lane, cost)
            if passage is not None:
                self.counts.sent[lane] += 1
                return passage
        passage = await self._wait(lane, cost, patience_s, objection)
        self.counts.sent[lane] += 1
        return passage

    def _try(self, lane: Lane, cost: Cost) -> tuple[Passage | None, int]:
        """Return a passage, or for how long there is none: 0 ms for as long as all connections are in use."""
        if cost.connections and self._connections >= _SHARE_OF_CONNECTIONS[lane]:
            return None, 0
        now_ms = self._now_ms()
        self._look_at_time()
        if self._held_ms(lane, cost):
            return None, self._wait_ms(lane, cost, now_ms)
        wait_ms = self.budget.try_take(lane, cost, now_ms)
        if wait_ms:
            return None, wait_ms
        self._connections += cost.connections
        return Passage(self, cost, now_ms), 0

    def _held_ms(self, lane: Lane, cost: Cost) -> int:
        return self._hold.left_ms(lane, cost, self._steady_ns() // 1_000_000) if self._hold.has_begun else 0

    def _wait_ms(self, lane: Lane, cost: Cost, now_ms: int) -> int:
        """Return for how many ms limits and holds keep a request back."""
        return max(self.budget.wait_ms(lane, cost, now_ms), self._held_ms(lane, cost))

    def _look_at_time(self) -> None:
        """Go no more by counts of a time that was in doubt, once it is not, nor by those before the end of a hold.

        The exchange says for how long its window is full. By a clock that is wrong here it might seem to be full for
        longer, and nothing could be asked that tells the time.
        """
        if self.budget.is_doubted and self._time_is_known():
            self.budget.forget_doubted()
        if self._hold.has_begun and self._hold.ends(self._steady_ns() // 1_000_000):
            self.budget.weight.begin_anew()

    async def _wait(self, lane: Lane, cost: Cost, patience_s: float, objection: Objection) -> Passage:
        began_ns = self._steady_ns()
        needed_ms = self._wait_ms(lane, cost, self._now_ms())
        if needed_ms > patience_s * 1000:
            self.counts.dropped += 1
            raise NotSent(f"the request limits leave no room for {needed_ms / 1000:.1f} s")
        waiting = _Waiting(cost, objection, asyncio.get_running_loop().create_future())
        self._queues[lane].append(waiting)
        self._waiting += 1
        self.counts.waits += 1
        self._pump()
        try:
            passage = await self._passed(waiting, patience_s)
        except BaseException:
            self.counts.dropped += 1
            raise
        finally:
            self._waiting -= 1
            if waiting in self._queues[lane]:
                self._queues[lane].remove(waiting)
            waited_ms = round((self._steady_ns() - began_ns) / 1e6)
            self.counts.longest_wait_ms = max(self.counts.longest_wait_ms, waited_ms)
        return passage

    async def _passed(self, waiting: _Waiting, patience_s: float) -> Passage:
        try:
            async with asyncio.timeout(patience_s):
                passage = await waiting.passed
            if reason := waiting.objection():
                raise NotSent(reason)
        except BaseException as error:
            if waiting.passed.done() and not waiting.passed.cancelled() and not waiting.passed.exception():
                self.leave(waiting.passed.result(), _SAYS_NOTHING, was_sent=False)
            waiting.passed.cancel()
            if isinstance(error, TimeoutError):
                raise NotSent("the request limits left no room in time") from error
            raise
        return passage

    def leave(self, passage: Passage, counts: Counts, *, was_sent: bool) -> None:
        """Note that a request is over, and let others through."""
        now_ms = self._now_ms()
        self._connections -= passage.cost.connections
        if was_sent:
            known = counts is _SAYS_NOTHING or self._time_is_known()
            self.budget.settle(passage.cost, passage.taken_ms, now_ms, counts, time_is_known=known)
        else:
            self.budget.give_back(passage.cost, passage.taken_ms, now_ms)
        if self._waiting:
            self._pump()

    def limited(self, limited: RateLimited) -> None:
        """Let nothing through while the exchange says so; after too many orders, only no orders."""
        self._hold.begin(
            int(limited.retry_after_s * 1000),
            self._steady_ns() // 1_000_000,
            orders_only=limited.code == TOO_MANY_ORDERS,
        )

    def clock_changed(self) -> None:
        """Note that the exchange's time is another than was believed until now."""
        self.budget.recount(self._now_ms())
        if self._waiting:
            self._pump()

    def recheck(self) -> None:
        """Drop those that wait and are no longer wanted; called when a gate has closed."""
        for queue in self._queues.values():
            for waiting in queue:
                if not waiting.passed.done() and (reason := waiting.objection()):
                    waiting.passed.set_exception(NotSent(reason))

    def _pump(self) -> None:
        """Let through whoever may go, highest lane first; come back when the first of the others may."""
        waits = [self._pump_lane(lane) for lane in Lane]
        self._set_timer(min((wait_ms for wait_ms in waits if wait_ms), default=0))

    def _pump_lane(self, lane: Lane) -> int:
        """Let through whoever of a lane may go, in order; return for how many ms the next one has to wait."""
        queue = self._queues[lane]
        while queue:
            if queue[0].passed.done():
                queue.popleft()
                continue
            passage, wait_ms = self._try(lane, queue[0].cost)
            if passage is None:
                return wait_ms
            queue.popleft().passed.set_result(passage)
        return 0

    def _set_timer(self, wait_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_ms:
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._pump)
