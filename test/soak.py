"""Long days: quoting with resets, price shocks, a breach, a loss limit, cut streams, and an operator who resumes.

``python -m test.soak`` runs a day of six hours in virtual time and prints what it found; ``--days 7 --hours 24`` runs a
week, in which memory has to stay flat. At the end the ledger is the exchange's to the last digit, and every order is
accounted for.
"""

import argparse
import asyncio
import gc
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.machine import open_descriptors, resident_mib
from core.daily_loss import day_of
from core.day_file import DayFile
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.order_audit import Audit, Standing
from test.daemon import World, in_a_world

HOURS = 6.0
LOOK_EVERY_S = 1.0
MOST_ORDERS = 6
LEVELS, SIZE_QUOTE, LIMIT_QUOTE = 3, 250, 2000
TICK = Decimal("0.1")
DRIFT = Decimal("1.02")
"""What is held counts for this much, by the shipped ``position_drift_buffer_percent``."""
DOUBTFUL_FOR_S = 60.0
LOSS_LIMIT_QUOTE = 60
RESETS_A_DAY = 48
RESUMES_WITHIN_S = 20.0
"""Later right after a shock: the price has to be calm."""
SETTLES_AFTER_DAYS = 1
"""Memory is looked at from then on: caches and remembered orders fill up before."""
GROWTH_MIB_A_DAY = 8
"""What a day may add: the exchange keeps every order and every fill, for its own record."""


@dataclass(slots=True)
class Outcome:
    """How the days went: what was wrong, counts of what happened, memory and descriptors at the end of each day."""

    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def as_object(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "MiB": [round(mib, 1) for mib in self.memory_mib],
            "descriptors": self.descriptors,
            **self.counts,
            "violations": self.violations,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        memory = (
            "memory at the end of each day: " + ", ".join(f"{mib:.0f}" for mib in self.memory_mib) + " MiB"
        )
        return "\n".join([counts, memory, *self.violations, "failed" if self.violations else "ok"])


class Soak:
    """The days: what happens at which part of each, and what is looked at all along."""

    def __init__(self, world: World, hours: float, days: int) -> None:
        self.outcome = Outcome()
        self._world = world
        self._days = days
        self._length_s = hours * 3600
        self._doubtful_s: dict[str, float] = {}
        self._timetable: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.15, self._widening_shock),
            (0.3, self._pulling_shock),
            (0.5, self._breach),
            (0.7, self._loss),
            (0.85, self._cut),
            *(((number + 0.5) / RESETS_A_DAY, self._reset) for number in range(RESETS_A_DAY)),
        ]
        self._timetable.sort(key=lambda entry: entry[0])

    async def run(self) -> Outcome:
        """Let the days pass; return how they went."""
        world = self._world
        world.has_plain_streams = True
        world.start(**self._config())
        began_s = world.now_s
        await world.until_quoting()
        for day in range(self._days):
            await self._pass_day(began_s + day * self._length_s)
        self._check_memory()
        await world.until(lambda: world.disagreements() == [], 20, "equal books of orders")
        code = await world.end()
        if code is not ExitCode.STOPPED:
            self._violated(f"exit code {code!r}")
        self._check_ledger(world.record())
        self._check_audit(await world.audit())
        self._count(world.record())
        self.outcome.counts["fundings"] = len(
            await world.other_client("GET", "/fapi/v1/income", incomeType="FUNDING_FEE", limit=1000)
        )
        return self.outcome

    def _config(self) -> dict[str, Any]:
        return {
            "order_config": {"price_offset_percent": 0.05},
            "order_management": {"reset_interval": self._length_s / RESETS_A_DAY},
            "risk": {"max_daily_loss": LOSS_LIMIT_QUOTE, "max_price_change": 0.03},
        }

    async def _pass_day(self, begins_s: float) -> None:
        for part, happens in self._timetable:
            await self._watch(begins_s + part * self._length_s - self._world.now_s)
            await happens()
        await self._watch(begins_s + self._length_s - self._world.now_s)
        gc.collect()
        self.outcome.memory_mib.append(resident_mib())
        self.outcome.descriptors.append(open_descriptors())

    def _violated(self, what: str) -> None:
        if len(self.outcome.violations) < 20:
            self.outcome.violations.append(f"{self._world.now_s:.0f} s: {what}")

    async def _watch(self, seconds: float) -> None:
        """Let so many seconds pass, and resume what risk has halted by itself meanwhile."""
        until_s = self._world.now_s + seconds
        while self._world.now_s < until_s:
            self._look()
            await self._resume_if_halted()
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        world = self._world
        if len(world.ours()) > MOST_ORDERS:
            self._violated(f"{len(world.ours())} orders rest")
        wrong = {line.split(" ")[0]: line for line in world.disagreements()}
        self._doubtful_s = {name: self._doubtful_s.get(name, world.now_s) for name in wrong}
        for name, since_s in self._doubtful_s.items():
            if world.now_s - since_s > DOUBTFUL_FOR_S:
                self._violated(wrong[name])
        assert world.running is not None
        assert not world.running.done(), world.running.result()

    # --- what happens -----------------------------------------------------------------------------------------

    def _move(self, bps: int) -> None:
        self._world.control("POST", "/sim/market", symbol=self._world.symbol, move_bps=str(bps))

    def _trade(self, side: str, quantity: str) -> None:
        self._world.control("POST", "/sim/fill", symbol=self._world.symbol, side=side, quantity=quantity)

    async def _widening_shock(self) -> None:
        self._move(200)
        await self._watch(120)

    async def _pulling_shock(self) -> None:
        self._move(-400)
        await self._world.until(lambda: not self._world.ours(), 5, "quotes that are out")
        await self._until_quoting(150)

    async def _breach(self) -> None:
        """Another hand breaks the limit on the position; the operator resumes a minute later."""
        self._trade("SELL" if self._world.position() < 0 else "BUY", "0.040")
        await self._world.until(self._is_halted, 10, "a halt")
        await asyncio.sleep(60)
        await self._resume()

    async def _loss(self) -> None:
        """Trades there and back cost more than a day may; the operator accepts it and resumes."""
        for _ in range(200):
            self._trade("BUY", "0.010")
            self._trade("SELL", "0.010")
            await asyncio.sleep(0.5)
            if self._world.state.strategy_paused:
                break
        await self._world.until(self._is_halted, 10, "a halt")
        await asyncio.sleep(60)
        await self._resume()

    async def _cut(self) -> None:
        """Nothing is to be reached for a while, as once a day on some hosts; quotes are back soon."""
        self._world.link.cut()
        await asyncio.sleep(15)
        self._world.link.restore()
        await self._until_quoting(60)
        self.outcome.counts["cuts"] += 1

    async def _reset(self) -> None:
        """Every connection is reset at once; quotes are back soon."""
        self._world.link.cut()
        self._world.link.restore()
        await self._until_quoting(30)
        self.outcome.counts["connection resets"] += 1

    async def _until_quoting(self, within_s: float) -> None:
        """Wait until all quotes rest for which the position leaves room; a shock may also cost what a day may lose."""
        await self._world.until(lambda: self._is_quoting() or self._is_halted(), within_s, "quotes")
        await self._resume_if_halted(within_s)

    def _is_quoting(self) -> bool:
        """Tell whether six orders rest, or the side that reduces where a whole side more would be over the limit."""
        number = len(self._world.ours())
        held = abs(self._world.position()) * Decimal(self._world.mid_half_ticks()) * TICK / 2
        is_held_back = held * DRIFT + LEVELS * SIZE_QUOTE > LIMIT_QUOTE
        return number == 2 * LEVELS or (is_held_back and number >= LEVELS)

    @property
    def _latch(self) -> HaltLatch:
        return HaltLatch(self._world.folder / "state", "paper-test", self._world.symbol)

    async def _resume_if_halted(self, within_s: float = RESUMES_WITHIN_S) -> None:
        if self._is_halted():
            self.outcome.counts["halts that nobody planned"] += 1
            await self._resume(within_s)

    def _is_halted(self) -> bool:
        world = self._world
        return world.position() == 0 and not world.ours() and self._latch.read() is not None

    async def _resume(self, within_s: float = RESUMES_WITHIN_S) -> None:
        """Do what ``python main.py resume --accept-loss`` does."""
        world = self._world
        file, now_ms = DayFile(world.folder / "state", "paper-test", world.symbol), world.clock.time_ms()
        record = file.read(day_of(now_ms))
        file.accept(day_of(now_ms), record.whole_quote if record is not None else None, now_ms)
        self._latch.clear()
        self.outcome.counts["resumes"] += 1
        await world.until(
            lambda: not world.state.strategy_paused and bool(world.ours()), within_s, "quotes after resume"
        )

    # --- what must hold at the end ----------------------------------------------------------------------------

    def _check_memory(self) -> None:
        """What the days add is no more than what the exchange has to remember of them."""
        settled = self.outcome.memory_mib[SETTLES_AFTER_DAYS:]
        if len(settled) > 1 and settled[-1] - settled[0] > GROWTH_MIB_A_DAY * (len(settled) - 1):
            self._violated(f"memory grew from {settled[0]:.0f} to {settled[-1]:.0f} MiB")

    def _check_ledger(self, record: dict[str, Any]) -> None:
        """The last rows equal the exchange's record to the last digit, and each trade is counted once."""
        last: dict[str, str] = {}
        counted: Counter[str] = Counter()
        events: Counter[tuple[str, str]] = Counter()
        for row in self._world.each_row():  # those of a week take minutes to read: once
            name, sub_type = row["metric_name"], row["sub_type"]
            last[name] = row["value"]
            if sub_type:
                events[name, sub_type] += 1
                if sub_type.endswith("_fill"):
                    counted[row["details"].split("trade=")[1].split()[0]] += 1
        self.outcome.counts["order resets"] = events["order_reset", "done"]
        self.outcome.counts["amendments"] = events["order_modify", "done"]
        fills = record["fills"]
        pairs = {
            "position": (Decimal(last["position"]), self._world.position()),
            "fills": (Decimal(last["fills"]), Decimal(len(fills))),
            "fees": (Decimal(last["fees"]), sum(Decimal(fill["commission"]) for fill in fills)),
            "funding": (Decimal(last["funding"]), Decimal(record["fundingTotal"])),
            "profit": (Decimal(last["realized_pnl"]), sum(Decimal(fill["realizedPnl"]) for fill in fills)),
        }
        for name, (ours, theirs) in pairs.items():
            if ours != theirs:
                self._violated(f"{name} is {ours}, and {theirs} at the exchange")
        if counted != Counter(str(fill["id"]) for fill in fills):
            self._violated("not every trade is counted once")

    def _check_audit(self, audit: Audit) -> None:
        """Each client id of ours is there once, with the one final state that the exchange has."""
        for problem in audit.problems:
            self._violated(problem)
        states = {order.client_id: order.state for order in audit.orders}
        if len(states) != len(audit.orders) or {each.standing for each in audit.orders} != {Standing.ENDED}:
            self._violated("not every order has one final state")
        for order in self._world.record()["orders"]:
            name, status = order["clientOrderId"], order["status"].replace("CANCELED", "CANCELLED")
            if name.startswith("qpmm-") and states.get(name) != status:
                self._violated(f"{name} is {states.get(name)}, and {status} at the exchange")
        self.outcome.counts["orders accounted for"] = len(states)

    def _count(self, record: dict[str, Any]) -> None:
        counts = self.outcome.counts
        counts["trades"] = len(record["fills"])
        counts["requests"] = sum(record["requests"].values())


def soak(hours: float = HOURS, seed: int = 1, days: int = 1) -> Outcome:
    """Let days of so many hours pass in virtual time; return how they went."""
    found: list[Outcome] = []

    async def story(world: World) -> None:
        found.append(await Soak(world, hours, days).run())

    with tempfile.TemporaryDirectory() as folder:
        in_a_world(Path(folder), story, seed=seed)
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the days pass that the command line asks for; return 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m test.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=HOURS, help="how long a day is (default: 6)")
    parser.add_argument("--days", type=int, default=1, help="how many days (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the market (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse_args(arguments)
    outcome = soak(parsed.hours, parsed.seed, parsed.days)
    print(json.dumps(outcome.as_object()) if parsed.json else outcome)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(main())
