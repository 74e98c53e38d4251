"""Storms: seeded random trouble against the whole daemon, with what must always hold looked at every 20 ms.

``python -m test.storm FIRST LAST`` lets the storms of these seeds happen in virtual time, and prints a line for each;
``--mode`` says what a refresh does in them, ``--lag`` has readings and account events lag besides, ``--log`` shows what
happened in those that failed. A seed always makes the same storm.
"""

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.engine import ExitCode
from test.daemon import MODES, Sent, World, in_a_world, json_reply
from utils.errors import ExchangeError
from utils.http import HttpResponse

STORM_S = 180.0
SETTLES_WITHIN_S = 60.0
LOOK_EVERY_S = 0.02
LEVELS = 3
SIZE_QUOTE = Decimal(250)
LIMIT_QUOTE = Decimal(2000) * Decimal("1.02")
"""The limit of the shipped configuration, and what the price may move between two looks at the position."""
FOREIGN_GRACE_S = 40.0
"""After a trade by another hand more may rest than fits, until it is known: at worst by the dead-man switch."""
REFRESH_S = 5.0
OLDEST_S = 60.0
"""Whoever replaces its quotes has none rest for longer: what cannot be replaced goes with the dead-man switch.

And nothing that the daemon thinks of an order is wrong, or undecided, for longer.
"""
PLACES = {"price_offset_percent": 0.03}

HARMS = ("request", "reply", "error after", "busy", "slow", "late", "twice")
TARGETS = (
    "",
    "GET",
    "POST",
    "DELETE",
    "PUT",
    "POST /fapi/v1/order",
    "PUT /fapi/v1/order",
    "PUT /fapi/v1/batchOrders",
    "GET /fapi/v1/openOrders",
    "GET /fapi/v1/order",
    "GET /fapi/v1/userTrades",
    "GET /fapi/v3/positionRisk",
    "GET /fapi/v1/ticker",
)


@dataclass(slots=True)
class Outcome:
    """How one storm went; ``recovered_s`` is None where quotes did not rest again, as after a halt."""

    seed: int
    mode: str
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    most_orders: int = 0
    quoted_s: float = 0.0
    recovered_s: float | None = None
    halted: bool = False
    requests: int = 0

    def __str__(self) -> str:
        verdict = "FAILED" if self.violations else "ok"
        recovered = (
            "halted" if self.halted else "-" if self.recovered_s is None else f"{self.recovered_s:.1f} s"
        )
        return (
            f"{self.seed:>6}  {self.mode:<7}  {verdict:<6}  {self.most_orders:>11}  {self.quoted_s:>6.0f} s"
            f"  {recovered:>9}  {self.requests:>8}"
        )


HEADER = f"{'seed':>6}  {'mode':<7}  {'':<6}  {'most orders':>11}  {'quoted':>8}  {'recovered':>9}  {'requests':>8}"


@dataclass(frozen=True, slots=True)
class Loss:
    """Requests to ``target`` come to harm with a probability."""

    target: str
    harms: Sequence[str]
    probability: float

    def strike(self, sent: Sent, rng: random.Random) -> str:
        """Return what happens to this request, nothing in most cases."""
        if not f"{sent.method} {sent.path}".startswith(self.target) or rng.random() >= self.probability:
            return ""
        return rng.choice(self.harms)


NO_LOSS = Loss("-", (), 0.0)


class Weather:
    """What the network, the exchange and other people do to the daemon."""

    def __init__(self, world: World, rng: random.Random, note: Callable[[str], None], *, big: bool) -> None:
        self._world = world
        self._rng = rng
        self._note = note
        self._big = big
        self._loss = NO_LOSS
        self._latency_s = 0.0
        self._read_lag_s = 0.0
        self._event_lag_s = 0.0
        self._due_s = {"market": 0.0, "account": 0.0}
        self._foreign_orders = 0
        self._stragglers: set[asyncio.Task[None]] = set()
        self.restarting = False
        self.last_foreign_s = -FOREIGN_GRACE_S
        self._kinds: dict[Callable[[float], Awaitable[None]], int] = {
            self._cut: 3,
            self._half_open: 3,
            self._silence: 5,
            self._lossy: 6,
            self._vanish: 2,
            self._foreign_fill: 4,
            self._foreign_order: 3,
            self._change_latency: 3,
            self._calm: 3,
        }
        world.tamper = self._tamper
        world.late_s = self._late_s

    async def blow(self, until_s: float) -> None:
        """Make one trouble after the other until then; afterwards the sky is clear."""
        rng = self._rng
        while self._world.now_s < until_s:
            await asyncio.sleep(rng.choice([0.05, 0.3, 1, 2, 4, 6, 9]) * rng.random() * 2)
            [kind] = rng.choices(list(self._kinds), list(self._kinds.values()))
            await kind(rng.choice([0.05, 0.3, 1, 3, 7, 15, 25]) * (0.5 + rng.random()))
        self._world.link.restore()
        self._loss, self._latency_s = NO_LOSS, 0.02

    async def lag(self, until_s: float) -> None:
        """Let readings and account events lag, now more and now less, until then."""
        rng = random.Random(self._rng.random())
        while self._world.now_s < until_s:
            self._read_lag_s = rng.choice([0, 0, 0.3, 1.5, 4, 6])
            self._event_lag_s = rng.choice([0, 0, 0.3, 1.5, 4, 8])
            self._note(f"readings lag {self._read_lag_s} s, account events {self._event_lag_s} s")
            await asyncio.sleep(rng.choice([3, 8, 15]))
        self._read_lag_s = self._event_lag_s = 0.0

    # --- kinds of trouble -------------------------------------------------------------------------------------

    async def _cut(self, seconds: float) -> None:
        self._note(f"cut off for {seconds:.2f} s")
        self._world.link.cut()
        await asyncio.sleep(seconds)
        self._world.link.restore()

    async def _half_open(self, seconds: float) -> None:
        self._note(f"half open for {seconds:.2f} s")
        self._world.link.half_open()
        await asyncio.sleep(seconds)
        self._world.link.restore()

    async def _silence(self, seconds: float) -> None:
        stream = self._rng.choice(["bookTicker", "markPrice", "userData", "userData"])
        self._note(f"{stream} silent for {seconds:.0f} s")
        self._world.control("POST", "/sim/silence", stream=stream, seconds=max(1, int(seconds)))

    async def _lossy(self, seconds: float) -> None:
        rng = self._rng
        harms = rng.sample(HARMS, rng.randint(1, 3))
        self._loss = Loss(rng.choice(TARGETS), harms, rng.choice([0.1, 0.3, 0.6, 1.0]))
        self._note(f"{self._loss} for {seconds:.2f} s")
        await asyncio.sleep(seconds)
        self._loss = NO_LOSS

    async def _vanish(self, _seconds: float) -> None:
        away_s = self._rng.choice([0, 0.01, 0.5, 3, 15])
        self._note(f"crash, back after {away_s} s")
        self.restarting = True
        await self._world.vanish()
        await asyncio.sleep(away_s)
        self._world.start(order_config=PLACES)
        self.restarting = False

    async def _foreign_fill(self, _seconds: float) -> None:
        rng, held = self._rng, self._world.position()
        breaks_limit = self._big and rng.random() < 0.3
        quantity = "0.04" if breaks_limit else rng.choice(["0.001", "0.002", "0.004"])
        side = rng.choice(["BUY", "SELL"])
        if not self._big and abs(held) > Decimal("0.015"):
            side = "SELL" if held > 0 else "BUY"
        self._note(f"another hand trades: {side} {quantity}")
        self.last_foreign_s = self._world.now_s
        self._world.control("POST", "/sim/fill", symbol=self._world.symbol, side=side, quantity=quantity)

    async def _foreign_order(self, _seconds: float) -> None:
        self._foreign_orders += 1
        instrument = self._world.exchange._venue.instruments[self._world.symbol]
        assert instrument.quote is not None
        order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTX", "quantity": "0.001"}
        price = instrument.rules.price_text(int(instrument.quote.bid_ticks * 97 // 100))
        name = f"of-a-person-{self._foreign_orders}"
        try:
            async with asyncio.timeout(2):
                await self._world.other_client(
                    "POST",
                    "/fapi/v1/order",
                    symbol=self._world.symbol,
                    **order,
                    price=price,
                    newClientOrderId=name,
                )
        except (ExchangeError, TimeoutError) as error:
            self._note(f"order of a person failed: {error}")

    async def _change_latency(self, _seconds: float) -> None:
        self._latency_s = self._rng.choice([1, 20, 100, 300, 700]) / 1000
        self._note(f"latency of {self._latency_s} s each way")

    async def _calm(self, _seconds: float) -> None:
        """Nothing happens."""

    # --- what becomes of messages -----------------------------------------------------------------------------

    async def _tamper(self, sent: Sent) -> HttpResponse | None:
        harm = self._loss.strike(sent, self._rng)
        if harm == "request":
            await sent.hang()
        if harm == "late":
            task = asyncio.get_running_loop().create_task(self._straggle(sent, 7 * self._rng.random()))
            self._stragglers.add(task)
            task.add_done_callback(self._stragglers.discard)
            await sent.hang()
        if harm == "busy":
            return json_reply(503, {"code": -1008, "msg": "Request throttled by system-level protection."})
        await asyncio.sleep(self._latency_s + (1.2 if harm == "slow" else 0))
        reply = await sent.deliver()
        if harm == "twice" and (sent.is_order() or sent.method in ("PUT", "DELETE")):
            reply = self._rng.choice([reply, await sent.deliver()])
        await asyncio.sleep(self._latency_s)
        if harm == "reply":
            await sent.hang()
        if harm == "error after":
            return json_reply(503, {"code": -1000, "msg": "Unknown error, please check your request."})
        return self._behind(sent, reply)

    async def _straggle(self, sent: Sent, late_s: float) -> None:
        """Bring a request to the exchange when nobody waits for its reply any more."""
        await asyncio.sleep(late_s)
        try:
            await sent.deliver()
        except ExchangeError as error:
            self._note(f"{sent.method} {sent.path} came to nothing: {error}")

    def _behind(self, sent: Sent, reply: HttpResponse) -> HttpResponse:
        """Return what a copy of the exchange answers that lags."""
        if not self._read_lag_s or sent.method != "GET" or reply.status != 200:
            return reply
        shown_ms = self._world.clock.time_ms() - self._read_lag_s * 1000
        body = json.loads(reply.body)
        if sent.path in ("/fapi/v1/openOrders", "/fapi/v1/userTrades"):
            return json_reply(200, [entry for entry in body if entry["time"] < shown_ms])
        if sent.path == "/fapi/v1/order" and body["time"] >= shown_ms:
            return json_reply(400, {"code": -2013, "msg": "Order does not exist."})
        return reply

    def _late_s(self, message: str) -> float:
        """Return how late a message comes; none overtakes one before it."""
        kind = "market" if message.startswith('{"stream"') else "account"
        late_s = self._latency_s + (self._event_lag_s if kind == "account" else 0)
        now_s = self._world.now_s
        self._due_s[kind] = max(now_s + late_s, self._due_s[kind])
        return self._due_s[kind] - now_s


class Storm:
    """One storm: the daemon in the weather, watched, and afterwards given time to recover and asked to stop."""

    def __init__(self, world: World, seed: int, *, mode: str, lag: bool, seconds: float) -> None:
        self.outcome = Outcome(seed, mode)
        self._mode = mode
        self._doubtful_s: dict[str, float] = {}
        self._world = world
        self._rng = random.Random(seed)
        self._lag = lag
        self._seconds = seconds
        self._big = seed % 10 == 0
        self._seen: set[str] = set()
        self._weather = Weather(world, self._rng, self._note, big=self._big)
        world.run_blocking = _at_once

    async def run(self) -> None:
        """Let it happen."""
        world = self._world
        world.defaults = {"refresh_config": {"refresh_mode": self._mode}}
        if self._mode == "amend":
            world.defaults["order_management"] = {
                "modify_threshold": self._rng.choice([0, 0.00006]),
                "patience_bps_s": self._rng.choice([0, 3.4]),
                "reset_interval": self._rng.choice([0, 40, 300]),
            }
        world.start(order_config={"price_offset_percent": self._rng.choice([0.01, 0.03, 0.1])})
        until_s = world.now_s + self._seconds
        async with asyncio.TaskGroup() as group:
            blowing = group.create_task(self._weather.blow(until_s))
            lagging = group.create_task(self._weather.lag(until_s if self._lag else 0))
            while not (blowing.done() and lagging.done()):
                await self._look()
        self._note("the storm is over")
        await self._recover()
        await self._stop()
        self.outcome.requests = sum(world.record()["requests"].values())

    def _note(self, what: str) -> None:
        self.outcome.log.append(f"{self._world.now_s:8.2f} {what}")

    def _violated(self, rule: str, details: object = "") -> None:
        if rule not in self._seen:
            self._seen.add(rule)
            self.outcome.violations.append(f"{self._world.now_s:.2f} s: {rule}: {details}")

    # --- what must always hold --------------------------------------------------------------------------------

    async def _look(self) -> None:
        self._check_orders()
        self._check_exposure()
        self._check_running()
        await asyncio.sleep(LOOK_EVERY_S)

    def _check_orders(self) -> None:
        ours = self._world.ours()
        rules = self._world.exchange._venue.instruments[self._world.symbol].rules
        self.outcome.most_orders = max(self.outcome.most_orders, len(ours))
        self.outcome.quoted_s += LOOK_EVERY_S if len(ours) == 2 * LEVELS else 0
        bids = [order.price_ticks for order in ours if order.side == "BUY"]
        asks = [order.price_ticks for order in ours if order.side == "SELL"]
        for name, prices in (("bids", bids), ("asks", asks)):
            # a copy that hides the orders of a crashed run lets them rest beside the new ones for a while
            if len(prices) > LEVELS * (2 if self._lag else 1):
                self._violated(f"too many {name}", len(prices))
            if len(set(prices)) < len(prices) and not self._lag:
                self._violated(f"{name} at the same price", prices)
        if bids and asks and max(bids) >= min(asks) and not self._lag:
            self._violated("our own orders cross", (bids, asks))
        for order in ours:
            if rules.price(order.price_ticks) * rules.quantity(order.lots) > SIZE_QUOTE:
                self._violated("an order is too big", order)
            if order.arrival.would_cross or order.time_in_force != "GTX":
                self._violated("a quote is not passive", order)
        if self._mode == "replace" and (forgotten := self._world.forgotten(OLDEST_S)):
            self._violated("orders rest and nobody replaces them", forgotten)
        self._check_books()

    def _check_books(self) -> None:
        """What the daemon thinks of an order may be wrong, or undecided, for a while only."""
        now_s = self._world.now_s
        wrong = {line.split(" ")[0]: line for line in self._world.disagreements()}
        self._doubtful_s = {name: self._doubtful_s.get(name, now_s) for name in wrong}
        for name, since_s in self._doubtful_s.items():
            if now_s - since_s > OLDEST_S:
                self._violated("the books of orders are wrong for long", wrong[name])

    def _check_exposure(self) -> None:
        is_grace = self._world.now_s - self._weather.last_foreign_s < FOREIGN_GRACE_S
        if self._world.ours() and not is_grace and self._world.worst_case_quote() > LIMIT_QUOTE:
            self._violated("the quotes could break the limit", self._world.worst_case_quote())

    def _check_running(self) -> None:
        """Start the daemon again where the weather did not let it start; any other end is a violation."""
        running = self._world.running
        if running is None or not running.done() or self._weather.restarting or self.outcome.halted:
            return
        error = running.exception()
        if isinstance(error, ExchangeError):
            self._note(f"could not start: {error}")
            self._world.start(order_config=PLACES)
        elif error is None and running.result() is ExitCode.HALTED and self._big:
            self.outcome.halted = True
        else:
            self._violated("the daemon ended", repr(error or running.result()))

    # --- what must hold afterwards ----------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Wait until all quotes rest again, in time; a halt, or a position that leaves less room, is no fault."""
        world, over_s = self._world, self._world.now_s
        rested_s = 0.0
        while world.now_s - over_s < SETTLES_WITHIN_S and not self.outcome.halted:
            await self._look()
            rested_s = world.now_s if world.ours() else rested_s
            if len(world.ours()) == 2 * LEVELS and self._all_is_known(over_s):
                self.outcome.recovered_s = world.now_s - over_s
                break
        self.outcome.halted = self.outcome.halted or world.state.strategy_paused
        rest = world.now_s - rested_s < REFRESH_S  # between a cancel and the next placing nothing does
        if self.outcome.recovered_s is None and not self.outcome.halted and not rest:
            self._violated("no quotes after the storm", self._why())
        if self.outcome.recovered_s is None and not self._has_ended() and world.disagreements():
            self._violated("the books of orders are wrong", world.disagreements())
        books_s = world.now_s
        while world.state.position != world.position() and world.now_s - books_s < 13:
            await self._look()
        if world.state.position != world.position() and not self._has_ended():
            self._violated("the books are wrong", (world.state.position, world.position()))

    def _all_is_known(self, over_s: float) -> bool:
        """Tell whether nothing rests of which the daemon does not know the truth."""
        if self._mode == "replace":
            return not self._world.forgotten(self._world.now_s - over_s)
        return self._world.disagreements() == []

    def _has_ended(self) -> bool:
        return self._world.running is None or self._world.running.done()

    def _why(self) -> str:
        rows = [row for row in self._world.rows() if row["metric_name"] == "quoting"]
        return rows[-1]["details"] if rows else "no metrics"

    async def _stop(self) -> None:
        if not self._has_ended():
            expected = ExitCode.HALTED if self._world.state.strategy_paused else ExitCode.STOPPED
            try:
                code = await self._world.end(within_s=8)
            except TimeoutError:
                self._violated("the stop took over 8 s")
            else:
                if code is not expected:
                    self._violated("exit code", repr(code))
        if left := self._world.ours():
            self._violated("orders are left at the end", len(left))
        self._check_fills(self._world.record())
        if problems := (await self._world.audit()).problems:
            self._violated("not every order is accounted for", problems)

    def _check_fills(self, record: dict[str, Any]) -> None:
        reducing = {order["clientOrderId"] for order in record["orders"] if order["reduceOnly"]}
        for fill in record["fills"]:
            ours = fill["clientOrderId"].startswith("qpmm-")
            if ours and not fill["maker"] and fill["clientOrderId"] not in reducing:
                self._violated("a quote took", fill)


async def _at_once(work: Callable[[], None]) -> None:
    """Do blocking work here: a thread would make two runs of a seed differ."""
    work()


def storm(seed: int, *, mode: str = "", lag: bool = False, seconds: float = STORM_S) -> Outcome:
    """Let the storm of this seed happen; return how it went. Without a mode, even seeds amend and odd ones replace."""
    mode = mode or MODES[seed % 2]
    found: list[Outcome] = []

    async def story(world: World) -> None:
        made = Storm(world, seed, mode=mode, lag=lag, seconds=seconds)
        found.append(made.outcome)
        await made.run()

    with tempfile.TemporaryDirectory() as folder:
        try:
            in_a_world(Path(folder), story, seed=seed)
        except Exception as error:  # noqa: BLE001 - a storm that the harness did not survive has failed
            found = found or [Outcome(seed, mode)]
            found[0].violations.append("".join(traceback.format_exception(error)))
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the storms happen that the command line names; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m test.storm", description=__doc__.split("\n")[0])
    parser.add_argument("first", type=int, metavar="FIRST", help="the first seed")
    parser.add_argument("last", type=int, metavar="LAST", help="the last seed")
    parser.add_argument(
        "--seconds", type=float, default=STORM_S, help="how long a storm lasts (default: 180)"
    )
    parser.add_argument(
        "--mode",
        choices=[*MODES, "both"],
        help="the refresh mode (default: amend for even seeds, else replace)",
    )
    parser.add_argument("--lag", action="store_true", help="let readings and account events lag besides")
    parser.add_argument("--log", action="store_true", help="show what happened in storms that failed")
    parsed = parser.parse_args(arguments)
    began_s = time.monotonic()
    failed: list[int] = []
    print(HEADER)
    modes = MODES if parsed.mode == "both" else (parsed.mode or "",)
    for seed, mode in itertools.product(range(parsed.first, parsed.last + 1), modes):
        outcome = storm(seed, mode=mode, lag=parsed.lag, seconds=parsed.seconds)
        print(outcome, *(f"        {line}" for line in outcome.violations), sep="\n", flush=True)
        if outcome.violations:
            failed.append(seed)
            print(*(f"        {line}" for line in outcome.log if parsed.log), sep="\n")
    names = ", ".join(map(str, failed))
    print(f"failed: {names or 'none'} ({time.monotonic() - began_s:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.exit(main())
