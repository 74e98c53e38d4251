"""The queue of amendments: few requests, each with the newest targets, and none that nobody wants any more.

What waits here has not begun: its order rests as it is. A wish begins at the moment at which its request leaves, and
whoever made it notes its outcome.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from core.context import SymbolContext
from core.gateway import MAX_ORDER_BATCH, Amend, Answer
from core.live_order import LiveOrder
from core.model import SymbolRules
from utils.clock import Clock
from utils.errors import NotSent, OutcomeUnknown, Refused
from utils.http import Objection

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long a wish waits for its turn, and whoever made it for the outcome: the next refresh will have a newer one."""

Send = Callable[[SymbolRules, Sequence[Amend], Objection], Awaitable[list[Answer]]]
"""Sends up to five amendments; ``core.gateway.Gateway.amend``."""

SendNow = Callable[[SymbolRules, Callable[[], Amend], Callable[[Answer | NotSent], None]], bool]
"""Begins and sends one amendment if that needs no waiting; ``core.gateway.Gateway.start_amend``."""


def _cannot(
    _rules: SymbolRules, _begin: Callable[[], Amend], _on_end: Callable[[Answer | NotSent], None]
) -> bool:
    return False


class Wish(Protocol):
    """What one order is to become. ``begin`` is followed by exactly one ``settle``; else ``forgo`` is called, once.

    ``tell`` comes after ``begin``, in the same turn, not always before ``settle``: what is known of it need not hold up
    what is sent. Of one that has not begun it does nothing.
    """

    @property
    def order(self) -> LiveOrder:
        """Return the order."""

    def objection(self) -> str:
        """Return why it is not to be amended any more; empty if it is."""

    def begin(self) -> Amend:
        """Note that the request leaves now, and return what it asks for."""

    def tell(self) -> None:
        """Have it count, and be known, that it has begun."""

    def hindrance(self) -> str:
        """Return why it is not to leave although it has begun, if it had to wait after that; empty if it is."""

    def settle(self, answer: Answer | NotSent) -> None:
        """Note what became of it, and have it be known."""

    def forgo(self, reason: str) -> None:
        """Note that it was not sent, and never will be."""


class Rate:
    """So many a second: no more than that in any second, or one in several seconds if it is less than one."""

    def __init__(self, per_second: float) -> None:
        self._most = max(int(per_second), 1)
        self._times_ns: deque[int] = deque()
        self._span_ns = int(self._most / per_second * 1e9)

    def wait_ns(self, now_ns: int) -> int:
        """Return how long to wait for the next one; 0 for not at all."""
        if self.free(now_ns):
            return 0
        return self._times_ns[0] + self._span_ns - now_ns

    def free(self, now_ns: int) -> int:
        """Return how many may go now."""
        times_ns, past_ns = self._times_ns, now_ns - self._span_ns
        while times_ns and times_ns[0] <= past_ns:
            times_ns.popleft()
        return self._most - len(times_ns)

    def take(self, now_ns: int) -> None:
        """Count one."""
        self._times_ns.append(now_ns)


@dataclass(slots=True)
class AmendCounts:
    """What has left and what has not, since the start."""

    requests: int = 0
    amends: int = 0
    replaced: int = 0
    dropped: int = 0

    @property
    def mean_batch(self) -> float:
        """Return how many amendments went in one request."""
        return self.amends / self.requests if self.requests else 0.0


@dataclass(slots=True, eq=False)
class _Entry:
    """A wish that waits or is under way; ``done`` is set when its outcome has been noted."""

    context: SymbolContext
    wish: Wish
    done: asyncio.Future[None]


class AmendQueue:
    """Sends amendments with ``workers`` requests at once and ``per_second`` requests a second.

    Of one order, at most one change is under way, and only the newest wish waits. Of one symbol, at most
    ``max_pending`` amendments are without an answer. Where ``prefers_singles``, they leave one by one for as long as
    the rate allows that for all that wait.
    """

    def __init__(
        self,
        send: Send,
        clock: Clock,
        *,
        workers: int = 2,
        per_second: float = 10.0,
        max_pending: int = 10,
        prefers_singles: Callable[[], bool] = lambda: False,
        send_now: SendNow = _cannot,
    ) -> None:
        self.counts = AmendCounts()
        self._send = send
        self._clock = clock
        self._workers = workers
        self._rate = Rate(per_second)
        self._max_pending = max_pending
        self._prefers_singles = prefers_singles
        self._send_now = send_now
        self._waiting: dict[str, _Entry] = {}
        self._under_way: dict[str, SymbolContext] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Return how many wishes wait."""
        return len(self._waiting)

    @property
    def goes_at_once(self) -> bool:
        """Tell whether a wish may leave without waiting for others, or for company."""
        return not self._waiting and self._prefers_singles()

    async def amend(self, context: SymbolContext, wishes: Sequence[Wish]) -> None:
        """Have orders of one symbol amended; return when the outcome of each has been noted, or patience is over.

        One request without an answer must not hold up all other orders. What still waits then, or when this is
        cancelled, is forgone; what is under way goes on, and its outcome is noted when it is known.
        """
        entries = [self._enter(context, wish) for wish in wishes]
        if not entries:
            return
        self._pump()
        if not self._room(context) and not any(each is context for each in self._under_way.values()):
            self._forgo(entries, "too many amendments have no answer yet")
        try:
            await asyncio.wait([entry.done for entry in entries], timeout=PATIENCE_S)
        except asyncio.CancelledError:
            self._forgo(entries, "the refresh was broken off")
            raise
        finally:
            for entry in entries:
                if not entry.done.done():
                    entry.done.add_done_callback(_say_fault)
        self._forgo(entries, "its turn did not come in time")
        for entry in entries:
            if entry.done.done():
                entry.done.result()

    def amend_now(self, context: SymbolContext, wishes: Sequence[Wish], on_end: Callable[[], None]) -> int:
        """Have those of the wishes begin and leave at once, in their order, that need not wait for anything.

        Returns how many did; the others were never begun, and are forgotten. ``on_end`` is called after the outcome of
        each of them has been noted. Requests of this kind follow each other on one connection without waiting for
        answers: ``workers`` is no limit for them, the rate and ``max_pending`` are. Where the rate does not allow all
        of them one by one, none leaves: in company they need fewer requests, and the last need not wait for a second.
        """
        now_ns = self._clock.monotonic_ns()
        if self._waiting or len(wishes) > self._rate.free(now_ns):
            return 0
        sent = 0
        try:
            for wish in wishes[: self._room(context)]:
                if not self._leave_now(context, wish, on_end):
                    break
                self._rate.take(now_ns)
                sent += 1
        finally:  # also after a fault: one that has begun counts
            for wish in wishes:
                wish.tell()
        return sent

    def _leave_now(self, context: SymbolContext, wish: Wish, on_end: Callable[[], None]) -> bool:
        """Begin and send one; return whether it may have left. One that is objected to is not begun."""
        client_id = wish.order.client_id
        if client_id in self._under_way or wish.objection():
            return False
        self._under_way[client_id] = context
        is_sent = False
        try:
            is_sent = self._send_now(context.rules, wish.begin, partial(self._settle_now, wish, on_end))
        finally:
            if not is_sent:  # also after a fault: nothing will be heard of it
                self._under_way.pop(client_id, None)
        if not is_sent:
            return False
        self.counts.requests += 1
        self.counts.amends += 1
        return True

    def _settle_now(self, wish: Wish, on_end: Callable[[], None], answer: Answer | NotSent) -> None:
        """Have an outcome noted. It is called by the connection, which a fault of ours must not end."""
        self._under_way.pop(wish.order.client_id, None)
        try:
            wish.settle(answer)
        except Exception:
            log.exception("an amendment could not be noted")
        on_end()
        self._pump()

    def _enter(self, context: SymbolContext, wish: Wish) -> _Entry:
        replaced = self._waiting.get(wish.order.client_id)
        if replaced is not None:
            self.counts.replaced += 1
            self._forgo([replaced], "a newer target takes its place")
        entry = _Entry(context, wish, asyncio.get_running_loop().create_future())
        self._waiting[wish.order.client_id] = entry
        return entry

    def recheck(self) -> None:
        """Forgo at once what is not wanted any more; called when a gate has closed."""
        for entry in list(self._waiting.values()):
            if reason := entry.wish.objection():
                self._forgo([entry], reason)

    def drop(self, orders: Iterable[LiveOrder], reason: str) -> None:
        """Forgo what waits for these orders, which are to be cancelled."""
        waiting = (self._waiting.get(order.client_id) for order in orders)
        self._forgo([entry for entry in waiting if entry is not None], reason)

    def _forgo(self, entries: Sequence[_Entry], reason: str) -> None:
        """Let those of the entries that still wait wait no more."""
        for entry in entries:
            client_id = entry.wish.order.client_id
            if self._waiting.get(client_id) is entry:
                del self._waiting[client_id]
                self.counts.dropped += 1
                entry.wish.forgo(reason)
                entry.done.set_result(None)

    # --- leaving ----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what may leave now; come back when the next may."""
        self._stop_timer()
        while self._waiting and len(self._requests) < self._workers:
            now_ns = self._clock.monotonic_ns()
            wait_ns = self._rate.wait_ns(now_ns)
            if wait_ns:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wait_ns / 1e9, self._pump)
                return
            batch = self._next_batch()
            if not batch:
                return
            self._rate.take(now_ns)
            self._start(batch)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next_batch(self) -> list[_Entry]:
        """Return entries of one symbol that may leave now, none if all have to wait on; forgo what is not wanted.

        Only those are asked for objections whose turn it is: all of them each time would cost their number squared.
        """
        size = self._batch_size()
        for context in {entry.context.symbol: entry.context for entry in self._waiting.values()}.values():
            if batch := self._wanted(context, min(self._room(context), size)):
                return batch
        return []

    def _wanted(self, context: SymbolContext, most: int) -> list[_Entry]:
        """Return the first entries of a symbol that may leave now; forgo what is not wanted of those before them."""
        found: list[_Entry] = []
        for entry in list(self._waiting.values()):
            if len(found) >= most:
                break
            if not self._may_leave(entry, context):
                continue
            if reason := entry.wish.objection():
                self._forgo([entry], reason)
            else:
                found.append(entry)
        return found

    def _batch_size(self) -> int:
        free = self._rate.free(self._clock.monotonic_ns())
        return 1 if self._prefers_singles() and len(self._waiting) <= free else MAX_ORDER_BATCH

    def _may_leave(self, entry: _Entry, context: SymbolContext) -> bool:
        return entry.context is context and entry.wish.order.client_id not in self._under_way

    def _room(self, context: SymbolContext) -> int:
        """Return how many more amendments of the symbol may be without an answer."""
        room = self._max_pending
        for each in self._under_way.values():
            room -= each is context
        for order in context.orders.living():
            room -= order.change is not None and order.change.in_doubt
        return max(room, 0)

    def _start(self, batch: Sequence[_Entry]) -> None:
        for entry in batch:
            client_id = entry.wish.order.client_id
            del self._waiting[client_id]
            self._under_way[client_id] = entry.context
        task = asyncio.get_running_loop().create_task(self._run(batch), name="amendment")
        self._requests.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            self._pump()

    def _begin(self, entry: _Entry) -> Amend | None:
        """Ask once more, at the very moment of leaving, and begin; None if it is not to leave after all."""
        try:
            reason = entry.wish.objection()
            if not reason:
                amend = entry.wish.begin()
                entry.wish.tell()  # the objections to the next one count it
                return amend
        except Exception as error:  # noqa: BLE001  # it belongs to whoever waits
            entry.done.set_exception(error)
        else:
            self.counts.dropped += 1
            entry.wish.forgo(reason)
            entry.done.set_result(None)
        del self._under_way[entry.wish.order.client_id]
        return None

    async def _run(self, entries: Sequence[_Entry]) -> None:
        """Send one request and have its outcomes noted."""
        batch = [(entry, amend) for entry in entries if (amend := self._begin(entry)) is not None]
        if not batch:
            return
        self.counts.requests += 1
        self.counts.amends += len(batch)
        leaving = [entry for entry, _ in batch]
        context = leaving[0].context
        answers: Sequence[Answer | NotSent]
        try:
            answers = await self._send(
                context.rules, [amend for _, amend in batch], leaving[0].wish.hindrance
            )
        except (NotSent, Refused, OutcomeUnknown) as error:
            answers = [error] * len(batch)
        except BaseException as error:  # also when this task is cancelled: the request may be on its way
            self._settle(leaving, [OutcomeUnknown(type(error).__name__)] * len(batch), error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        self._settle(leaving, answers)

    def _settle(
        self,
        batch: Sequence[_Entry],
        answers: Sequence[Answer | NotSent],
        fault: BaseException | None = None,
    ) -> None:
        """Have each outcome noted; ``fault`` goes to those who wait for them."""
        for entry, answer in zip(batch, answers, strict=True):
            del self._under_way[entry.wish.order.client_id]
            try:
                entry.wish.settle(answer)
            except Exception as error:  # noqa: BLE001  # it belongs to whoever waits
                fault = error
            if isinstance(fault, Exception):
                entry.done.set_exception(fault)
            else:
                entry.done.set_result(None)


def _say_fault(done: asyncio.Future[None]) -> None:
    """Have a fault be known, although nobody waits any more for what it is about."""
    if not done.cancelled() and (fault := done.exception()) is not None:
        log.error("an amendment could not be noted", exc_info=fault)
