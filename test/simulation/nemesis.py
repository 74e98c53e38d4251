"""Lets the faults of a plan happen to the daemon: to its network, its process, its host, and at the exchange."""

import asyncio
import errno
import json
import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from sim.fault_file import parse_fault
from sim.orders import Side
from sim.virtual_time import VirtualTimeLoop
from test.daemon import KEY, Sent, World
from test.simulation.kinds import AIMED, DAEMON, MARKET
from test.simulation.operating import Operator
from test.simulation.plan import Plan, TimedFault
from utils.errors import ExchangeError, NotSent
from utils.http import HttpResponse

_NS = 1_000_000_000
LEVERAGE = 5
NOTICED_AFTER_S = 15.0
"""A person puts the account's settings back so long after somebody has changed them."""
CLOSES_WITHIN_S = 20.0
"""A daemon that was to be killed in a close, and has begun none for so long, is left alone."""
LATE_S = 1.0
"""A fault that strikes so late may outlast the storm: the plan has it end with that."""
_PHASES = ("fall_s", "stay_s", "recover_s")


class Nemesis:
    """Carries out a plan; ``note`` is told of each fault, ``sending`` of each request that leaves the daemon."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        operator: Operator,
        *,
        note: Callable[[str], None],
        sending: Callable[[Sent], None],
        replied: Callable[[Sent, HttpResponse], None],
    ) -> None:
        self._world = world
        self._operator = operator
        self._plan = plan
        self._rng = random.Random(f"nemesis/{plan.seed}")
        self._note = note
        self._sending = sending
        self._replied = replied
        self._request_faults: list[tuple[float, TimedFault]] = []
        self._disk_faults: list[tuple[float, TimedFault]] = []
        self._latency_s = 0.0
        self._latency_until_s = 0.0
        self._behind = (0.0, 0.0, 0.0)
        self._due_s = {"market": 0.0, "account": 0.0}
        self._late_until_s = 0.0
        """Until when a fault is in force that struck late, because the process stood still at its time."""
        self._on_time_from_s = 0.0
        """From when on no message comes late, unless another fault has one do so."""
        self._stragglers: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        """Set when the daemon sends an order that closes."""
        self.fired: Counter[str] = Counter()
        self.last_s = 0.0
        """When the last fault struck, or one that lasts was last in force."""
        self.struck_s: dict[str, float] = {}
        self._began_s: dict[str, list[float]] = defaultdict(list)
        """Until when a fault of each kind was in force, or when it struck."""
        self.standstill = (-1e9, 0.0)
        """When the process last stood still until, and for how many seconds."""
        self._doings: dict[str, Callable[[TimedFault], Awaitable[None] | None]] = {
            "cut": self._cut,
            "half-open": self._half_open,
            "vanish": self._vanish,
            "killed-close": self._kill_in_close,
            "stop": self._stop,
            "stall": self._stall,
            "clock-step": self._step_clock,
            "disk-full": self._spoil_disk,
            "disk-broken": self._spoil_disk,
            "latency": self._slow_down,
            "fall-behind": self._fall_behind,
            "straggle": self._strike_requests,
            "twice": self._strike_requests,
            "echo": self._strike_requests,
            "refuse-close": self._strike_requests,
            "second-daemon": self._second_daemon,
            "wrong-host": self._wrong_host,
            "person-trades": self._person_trades,
            "person-order": self._person_order,
        }
        world.tamper = self._tamper
        world.late_s = self._late_s
        world.run_blocking = self._run_blocking
        world.has_plain_streams = not any(each.kind in ("latency", "fall-behind") for each in plan.faults)

    async def play(self, faults: list[TimedFault]) -> None:
        """Let these faults happen at their times; return when the last has struck."""
        for fault in faults:
            wait_s = fault.at_s - self._world.now_s
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self.strike(fault)

    def strike(self, fault: TimedFault) -> None:
        """Let one fault happen; what takes time goes on by itself."""
        self._note(str(fault).strip())
        now_s = self._world.now_s
        until_s = now_s + max(fault.for_s, sum(fault.values.get(name, 0) for name in _PHASES))
        self.struck_s[fault.kind] = max(self.struck_s.get(fault.kind, 0.0), until_s)
        self.last_s = max(self.last_s, until_s)
        self._began_s[fault.kind].append(now_s)
        if fault.kind in MARKET:
            self.fired[fault.kind] += 1
            return
        if fault.kind not in DAEMON and fault.kind not in AIMED:
            values = {name: _text(value) for name, value in fault.values.items()}
            rule = parse_fault({"fault": fault.kind, **values}, f"fault at {fault.at_s} s")
            self._world.exchange.inject(rule, self._world.clock.time_ms())
            if now_s - fault.at_s >= LATE_S:
                self._late_until_s = max(self._late_until_s, until_s)
            if fault.kind in ("leverage", "margin-type"):
                asyncio.get_running_loop().call_later(NOTICED_AFTER_S, self._put_account_back)
            return
        self.fired[fault.kind] += 1
        doing = self._doings[fault.kind](fault)
        if doing is not None:
            task = asyncio.ensure_future(doing)
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

    async def calm(self) -> None:
        """Wait until whatever takes time is over; from then on nothing is wrong any more."""
        while self._busy:
            await asyncio.wait(set(self._busy))
        await asyncio.sleep(max(self._late_until_s - self._world.now_s, 0.0))
        self._world.link.restore()
        self._request_faults.clear()
        self._disk_faults.clear()
        self._latency_s = 0.0
        self._behind = (0.0, 0.0, 0.0)
        self._due_s = dict.fromkeys(self._due_s, 0.0)
        self._on_time_from_s = 0.0
        self._set_clock(0)
        self._put_account_back()

    def struck_within(self, seconds: float, *kinds: str) -> bool:
        """Tell whether one of these kinds was in force, or struck, within so many seconds."""
        since_s = self._world.now_s - seconds
        return any(self.struck_s.get(kind, -1e9) >= since_s for kind in kinds)

    def began_within(self, seconds: float, kind: str) -> int:
        """Return how often a kind has struck within so many seconds."""
        since_s = self._world.now_s - seconds
        return sum(at_s >= since_s for at_s in self._began_s[kind])

    def fired_at_exchange(self, kind: str) -> int:
        """Return how often a kind of the exchange's has struck."""
        return self._world.exchange.faults.counts[kind]

    # --- the network ------------------------------------------------------------------------------------------

    async def _cut(self, fault: TimedFault) -> None:
        self._world.link.cut()
        await asyncio.sleep(fault.for_s)
        self._world.link.restore()

    async def _half_open(self, fault: TimedFault) -> None:
        self._world.link.half_open()
        await asyncio.sleep(fault.for_s)
        self._world.link.restore()

    def _slow_down(self, fault: TimedFault) -> None:
        self._latency_s = fault.values["ms"] / 1000
        self._latency_until_s = self._world.now_s + fault.for_s
        self._on_time_from_s = math.inf

    def _fall_behind(self, fault: TimedFault) -> None:
        """Let the market's messages come later and later, by so much of the time that passes."""
        self._behind = (self._world.now_s, self._world.now_s + fault.for_s, fault.values["share"])
        self._on_time_from_s = math.inf

    def _behind_s(self, now_s: float) -> float:
        begin_s, end_s, share = self._behind
        return (now_s - begin_s) * share if now_s < end_s else 0.0

    def _strike_requests(self, fault: TimedFault) -> None:
        self._request_faults.append((self._world.now_s + fault.for_s, fault))

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        self._sending(sent)
        if sent.is_close():
            self._closing.set()
        reply = await self._carried(sent)
        self._replied(sent, reply)
        return reply

    async def _carried(self, sent: Sent) -> HttpResponse:
        now_s = self._world.now_s
        harm = self._harm(sent, now_s) if self._request_faults else None
        latency_s = self._latency_s if now_s < self._latency_until_s else 0.0
        if harm is not None and harm.kind == "straggle":
            late_s = harm.values["late_ms"] / 1000 * self._rng.random()
            task = asyncio.ensure_future(self._straggle(sent, late_s))
            self._stragglers.add(task)
            task.add_done_callback(self._stragglers.discard)
            await sent.hang()
        if latency_s:
            await asyncio.sleep(latency_s)
        if harm is not None and harm.kind == "echo":
            return _echo_of(sent)
        if harm is not None and harm.kind == "refuse-close":
            return _refusal(harm.values["code"], "The order is refused.")
        reply = await sent.deliver()
        if (
            harm is not None
            and harm.kind == "twice"
            and (sent.is_order() or sent.method in ("PUT", "DELETE"))
        ):
            with suppress(NotSent):  # a copy that finds no connection is none, and nobody hears of it
                reply = self._rng.choice([reply, await sent.deliver()])
        if latency_s:
            await asyncio.sleep(latency_s)
        return reply

    def _harm(self, sent: Sent, now_s: float) -> TimedFault | None:
        self._request_faults = [each for each in self._request_faults if each[0] > now_s]
        for _, fault in self._request_faults:
            values = fault.values
            if values.get("method", sent.method) != sent.method or values.get("path", sent.path) != sent.path:
                continue
            if fault.kind == "refuse-close" and not sent.is_close():
                continue
            if self._rng.random() < values["probability"]:
                return fault
        return None

    async def _straggle(self, sent: Sent, late_s: float) -> None:
        """Bring a request to the exchange when nobody waits for its reply any more."""
        await asyncio.sleep(late_s)
        try:
            await sent.deliver()
        except ExchangeError as error:
            self._note(f"{sent.method} {sent.path} came to nothing: {error}")

    def _late_s(self, message: str) -> float:
        """Return how late a message comes; none overtakes one before it, except when falling behind is over."""
        now_s = self._world.now_s
        if now_s >= self._on_time_from_s:
            return 0.0
        kind = "market" if message.startswith('{"stream"') else "account"
        late_s = self._latency_s if now_s < self._latency_until_s else 0.0
        if kind == "market":
            behind_s = self._behind_s(now_s)
            late_s += behind_s
            if behind_s == 0 < self._behind[1]:
                self._behind = (0.0, 0.0, 0.0)
                self._due_s[kind] = now_s
        self._due_s[kind] = max(now_s + late_s, self._due_s[kind])
        if not self._behind[1]:
            self._on_time_from_s = max(self._latency_until_s, *self._due_s.values())
        return self._due_s[kind] - now_s

    # --- the process and its host -----------------------------------------------------------------------------

    async def _vanish(self, fault: TimedFault) -> None:
        if not self._operator.is_back.is_set():
            return
        self._operator.is_back.clear()
        await self._world.vanish()
        self._operator.gone_s = self._world.now_s
        await asyncio.sleep(fault.for_s)
        self._operator.start()

    async def _kill_in_close(self, fault: TimedFault) -> None:
        """Break the limit, and kill the daemon a moment after its first closing order has left.

        What is still held then is halved by a person: it is within the limit, and not closed.
        """
        self._closing.clear()
        self._do_at_exchange("foreign-fill", side=fault.values["side"], quantity=fault.values["quantity"])
        try:
            async with asyncio.timeout(CLOSES_WITHIN_S):
                await self._closing.wait()
        except TimeoutError:
            return
        await asyncio.sleep(fault.values["after_s"])
        self.fired["vanish"] += 1
        self.last_s = max(self.last_s, self._world.now_s + fault.for_s)
        killing = asyncio.ensure_future(self._vanish(fault))
        await asyncio.sleep(0)
        if held := abs(self._world.position()):
            side = "SELL" if self._world.position() > 0 else "BUY"
            self._do_at_exchange("foreign-fill", side=side, quantity=f"{(held / 2).quantize(held):f}")
        await killing

    async def _stop(self, fault: TimedFault) -> None:
        if not self._operator.is_back.is_set():
            return
        self._operator.is_back.clear()
        await self._operator.stop()
        await asyncio.sleep(fault.for_s)
        self._operator.start()

    def _stall(self, fault: TimedFault) -> None:
        """Let nothing of the daemon run for a while, as SIGSTOP does, while the world goes on."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        exchange, clock = self._world.exchange, self._world.clock
        end_ns = loop.now_ns + int(fault.values["seconds"] * _NS)
        self.last_s = max(self.last_s, end_ns / _NS)
        self.struck_s["stall"] = end_ns / _NS
        self.standstill = (end_ns / _NS, fault.values["seconds"])
        self._operator.frozen(loop.now_ns)
        while loop.now_ns < end_ns:
            due_ms, now_ms = exchange.next_due_ms(), clock.time_ms()
            wait_ms = max(due_ms - now_ms, 1) if due_ms is not None else 1000
            loop._now_ns = min(loop.now_ns + wait_ms * 1_000_000, end_ns)
            self._operator.frozen(loop.now_ns)  # until then nothing changes, so that it is told the worst
            exchange.advance(clock.time_ms())

    def _step_clock(self, fault: TimedFault) -> None:
        self._set_clock(fault.values["by_ms"])
        asyncio.get_running_loop().call_later(fault.for_s, self._set_clock, 0)

    def _set_clock(self, skew_ms: int) -> None:
        self._world.skew_ms = self._world.daemon_clock.skew_ms = skew_ms

    def _spoil_disk(self, fault: TimedFault) -> None:
        self._disk_faults.append((self._world.now_s + fault.for_s, fault))

    def disk_takes_nothing_since_s(self) -> float | None:
        """Return since when every write fails; None if some may succeed."""
        whole = [
            until_s - fault.for_s
            for until_s, fault in self._disk_faults
            if self._world.now_s < until_s and fault.values["probability"] == 1.0
        ]
        return min(whole, default=None)

    async def _run_blocking(self, work: Callable[[], None]) -> None:
        """Do blocking work here, as a thread would make two runs differ, unless the disk does not take it."""
        now_s = self._world.now_s
        for until_s, fault in self._disk_faults:
            if now_s < until_s and self._rng.random() < fault.values["probability"]:
                number = errno.ENOSPC if fault.kind == "disk-full" else errno.EIO
                raise OSError(number, os.strerror(number))
        work()

    async def _wrong_host(self, fault: TimedFault) -> None:
        await self._operator.start_at_wrong_host(fault.values["url"])

    async def _second_daemon(self, _fault: TimedFault) -> None:
        if not self._operator.is_back.is_set():
            return
        await self._operator.start_second()

    # --- other people -----------------------------------------------------------------------------------------

    def _person_trades(self, fault: TimedFault) -> None:
        self._do_at_exchange("foreign-fill", side=fault.values["side"], quantity=fault.values["quantity"])

    def _person_order(self, fault: TimedFault) -> None:
        values = {"side": fault.values["side"], "quantity": fault.values["quantity"]}
        self._do_at_exchange("foreign-order", away_bps="200", new_client_id="of-a-person", **values)

    def _put_account_back(self) -> None:
        """Do what a person does who is told that the account is not as the configuration has it."""
        account = self._world.exchange._venue.account
        if account.leverages[self._world.symbol] != LEVERAGE and self.fired_at_exchange("leverage"):
            self._do_at_exchange("leverage", leverage=LEVERAGE)
        if self._world.symbol in account.isolated:
            self._cross_margin_again()

    def _cross_margin_again(self) -> None:
        """Do what a person has to do for it: cancel what rests, close the position, and change the margin type."""
        venue, now_ms = self._world.exchange._venue, self._world.clock.time_ms()
        instrument = venue.instruments[self._world.symbol]
        venue.desk.cancel_all(instrument, now_ms)
        if lots := venue.account.positions[self._world.symbol].lots:
            side = Side.SELL if lots > 0 else Side.BUY
            venue.desk.foreign_fill(instrument, side, abs(lots), now_ms)
        self._do_at_exchange("margin-type", margin_type="CROSSED")

    def _do_at_exchange(self, kind: str, **values: Any) -> None:
        rule = parse_fault({"fault": kind, **{name: _text(each) for name, each in values.items()}})
        self._world.exchange.inject(rule, self._world.clock.time_ms())
        self.struck_s[kind] = self._world.now_s


def _text(value: Any) -> str:
    """Return a value of a plan as the text of a scenario file."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return '"null"' if value == "null" else str(value)


def _echo_of(sent: Sent) -> HttpResponse:
    """Return a refusal that repeats what was sent, signature and key included, as some middle boxes do."""
    text = f"Malformed: {sent.method} {sent.path}?{sent.query} X-MBX-APIKEY: {KEY}"
    return _refusal(-1102, text)


def _refusal(code: int, text: str) -> HttpResponse:
    return HttpResponse(400, {}, json.dumps({"code": code, "msg": text}).encode())
