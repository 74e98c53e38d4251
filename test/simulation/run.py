"""One run of a plan: storms, recoveries, comparisons and a clean stop, watched by the oracle all along."""

import asyncio
import logging
import re
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.daily_loss import DAY_MS
from core.engine import Engine
from core.exit_code import ExitCode
from core.log_setup import RedactingFormatter
from sim.directed import DirectedMarket
from sim.market import Market
from sim.rules import MAINNET
from sim.script import Drought, Halt, Happening, Move
from sim.synthetic import SyntheticMarket
from sim.virtual_time import DEFAULT_EPOCH_MS
from test.daemon import World, in_a_world
from test.simulation.facts import Facts, Violation
from test.simulation.kinds import MARKET
from test.simulation.liveness import Liveness
from test.simulation.nemesis import Nemesis
from test.simulation.operating import Operator
from test.simulation.oracle import LOOK_EVERY_S, Oracle
from test.simulation.plan import Plan, TimedFault, load_plan
from test.simulation.reach import Reached
from test.simulation.swarm import draw_plan

SYMBOL = "BTCUSDT"
WALLET_QUOTE = 20_000
RECOVERS_WITHIN_S = 60.0
CALM_S = 61.0
AGREES_WITHIN_S = 20.0
_WEIGHT_OF_A_STOP = 20
"""What its cancels and questions cost at most."""
_DIGITS = re.compile(r"[0-9.]+")


@dataclass(slots=True)
class Outcome:
    """How one run went; times are virtual seconds.

    ``recovered_s`` has a number for each storm after which nothing stood in the way of quotes: how long it took until
    they rested again, counted from the end of the last pause whose named cause was true. Where they did not come back
    before the next storm it is how long nobody had a reason. ``pauses`` has the true causes, one for each storm.
    """

    seed: int
    violations: list[Violation] = field(default_factory=list)
    trace: str = ""
    log: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    recovered_s: list[float] = field(default_factory=list)
    pauses: list[str] = field(default_factory=list)
    quoted_s: float = 0.0
    seconds: float = 0.0
    requests: int = 0
    fills: int = 0
    halts: int = 0
    cpu_s: float = 0.0

    @property
    def quoted_share(self) -> float:
        """Return in which part of the time quotes rested."""
        return self.quoted_s / self.seconds if self.seconds else 0.0


class _Listener(logging.Handler):
    """Weaves what the daemon logs into the log of the run, wherever logging is on."""

    def __init__(self, note: Callable[[str], None], shown: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(RedactingFormatter("%(message)s"))
        self._note = note
        self._shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        text = self.format(record)
        self._shown(text)
        self._note(f"    {record.levelname.lower()}: {text}")


class Run:
    """One world, its storms and its judge."""

    def __init__(self, world: World, plan: Plan, outcome: Outcome, *, go_on: bool) -> None:
        self._world = world
        self._plan = plan
        self._outcome = outcome
        self._go_on = go_on
        self._found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reached = Reached()
        self._operator = Operator(
            world, plan, note=self._note, violated=self._violated, on_engine=self._new_engine
        )
        self._nemesis = Nemesis(
            world,
            plan,
            self._operator,
            note=self._note,
            sending=lambda sent: self._oracle.sending(sent),
            replied=lambda sent, reply: self._oracle.replied(sent, reply),
        )
        facts = self._facts = Facts(world, plan, self._nemesis, self._operator, self._violated)
        self._oracle = Oracle(facts)
        self._liveness = Liveness(facts)
        self._operator.on_exit = self._oracle.lifelines.ended
        self._operator.on_start = self._oracle.requests.restarted
        self._operator.frozen = self._oracle.lifelines.frozen
        world.exchange.attend(self._oracle)

    def _note(self, what: str) -> None:
        self._outcome.log.append(f"{self._world.now_s:9.2f} {what}")

    def _violated(self, rule: str, what: object) -> None:
        known = [each.rule for each in self._outcome.violations]
        if rule in known:
            return
        self._outcome.violations.append(Violation(rule, self._world.now_s, str(what)))
        self._note(f"VIOLATED {rule}: {what}")
        if not self._go_on and not self._found.done():
            self._found.set_result(None)

    def _new_engine(self, engine: Engine) -> None:
        self._oracle.new_engine(engine)
        self._reached.follow(engine)

    async def go(self) -> None:
        """Let everything happen that is planned, or as much as it takes to find a violation."""
        playing = asyncio.ensure_future(self._play())
        listener = _Listener(self._note, self._oracle.claims.inv_23_text_shows_no_secret)
        logging.getLogger("core").addHandler(listener)
        helping = [asyncio.ensure_future(each) for each in (self._look(), self._operator.look_after())]
        try:
            with self._reached.counting_transitions():
                await asyncio.wait({playing, self._found, *helping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (playing, *helping):
                if task.done():
                    task.result()
        finally:
            for task in (playing, *helping):
                task.cancel()
            await asyncio.gather(playing, *helping, return_exceptions=True)
            logging.getLogger("core").removeHandler(listener)
            self._sum_up()

    async def _look(self) -> None:
        while True:
            self._oracle.look()
            if self._world.ours():
                self._outcome.quoted_s += LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)

    async def _play(self) -> None:
        self._operator.start()
        for number in range(self._plan.rounds):
            begin_s = number * self._plan.round_s
            await self._storm(begin_s)
            await self._recover()
            rest_s = begin_s + self._plan.round_s - self._world.now_s
            if rest_s > 0 and number + 1 < self._plan.rounds:
                await asyncio.sleep(rest_s)
        await self._end()

    async def _storm(self, begin_s: float) -> None:
        end_s = begin_s + self._plan.round_s
        faults = [each for each in self._plan.faults if begin_s <= each.at_s < end_s]
        await self._nemesis.play(faults)
        over_s = begin_s + self._plan.storm_s - self._world.now_s
        if over_s > 0:
            await asyncio.sleep(over_s)
        await self._nemesis.calm()
        await self._operator.is_back.wait()
        await self._operator.restart_if_asked()
        if self._world.state.strategy_paused:
            self._operator.resume()
        self._note("the storm is over")

    async def _recover(self) -> None:
        """Wait until quotes rest again and books agree; complain if neither that nor a true cause is there in time."""
        began_s = over_s = self._world.now_s
        is_back, cause, was_paused_for = False, "", ""
        while not (is_back := self._liveness.is_quoting()):
            now_s = self._world.now_s
            if cause := self._liveness.true_cause():
                over_s, was_paused_for = (
                    now_s,
                    cause,
                )  # the time begins when the true cause of a pause has gone
            if now_s - over_s > RECOVERS_WITHIN_S:
                said = "; ".join(self._liveness.causes()) or f"no cause named; {self._liveness.lack()}"
                self._violated("INV-27", f"no quotes {now_s - over_s:.0f} s after all was well: {said}")
                break
            if now_s - began_s > CALM_S:  # a pause that ended late is judged in the next round
                break
            await asyncio.sleep(0.1)
        if was_paused_for:
            self._outcome.pauses.append(_DIGITS.sub("N", was_paused_for))
        if is_back or not cause:
            self._note_recovery(self._world.now_s - over_s, is_back=is_back)
        if is_back:
            await self._agree()

    def _note_recovery(self, took_s: float, *, is_back: bool) -> None:
        self._outcome.recovered_s.append(round(took_s, 2))
        lack = "" if is_back else f": {'; '.join(self._liveness.causes()) or self._liveness.lack()}"
        self._note(f"{'quotes are back' if is_back else 'no quotes yet'} after {took_s:.1f} s{lack}")

    async def _agree(self) -> None:
        """Wait until the books equal the exchange's; a trade or an amendment may be on its way at any moment.

        What the account stream has not told can only be asked for: the time begins when the exchange answers.
        """
        began_s = self._world.now_s
        while differences := self._oracle.differences():
            if self._liveness.may_not_ask():
                began_s = self._world.now_s
            if self._world.now_s - began_s > AGREES_WITHIN_S:
                rule, _, what = differences[0].partition(" ")
                self._violated(rule, what)
                return
            await asyncio.sleep(0.1)

    async def _end(self) -> None:
        self._operator.is_back.clear()
        running, may_not_ask = self._world.running, False
        if running is not None and not running.done():
            began_s = self._world.now_s
            has_room = self._facts.weight_left > _WEIGHT_OF_A_STOP
            code = await self._operator.stop()
            # A limit that others have used up may be told of only when the stop asks.
            may_not_ask = not has_room or began_s < self._facts.silent_until_s
            # A start that was not complete has verified nothing of what an earlier run has left.
            ends = (ExitCode.STOPPED, ExitCode.HALTED, None)
            if self._world.engine is None:
                ends += (ExitCode.NOT_VERIFIED,)
            if code not in ends and not may_not_ask:
                self._violated("INV-16", f"a stop in calm ended as {code.name}")
        if (ours := self._world.ours()) and not may_not_ask:
            self._violated("INV-16", f"{len(ours)} orders rest after a clean stop")
        self._oracle.books.inv_22_files_parse()
        self._oracle.claims.inv_23_files_show_no_secret()
        if self._nemesis.fired_at_exchange("wipe-account") or self._disk_was_spoilt():
            return  # what became of orders was lost with the account, or with the disk
        if problems := (await self._world.audit()).problems:
            self._violated("INV-11", f"not every order is accounted for: {problems[:3]}")

    def _disk_was_spoilt(self) -> bool:
        return any(self._nemesis.fired[kind] for kind in ("disk-full", "disk-broken", "vanish"))

    def _sum_up(self) -> None:
        outcome, world = self._outcome, self._world
        outcome.trace = str(self._oracle.trace)
        outcome.requests = self._oracle.trace.requests
        outcome.seconds = world.now_s
        outcome.faults = self._nemesis.fired + world.exchange.faults.counts
        outcome.halts = self._operator.resumes
        outcome.fills = world.count("fills")
        outcome.reached.update(self._reached.counts)
        codes = self._oracle.requests.codes
        outcome.reached.update({f"refused {code}": number for code, number in codes.items()})
        outcome.reached.update({f"exit {name}": number for name, number in self._operator.exits.items()})


def market_of(plan: Plan, start_ms: int) -> Market:
    """Return the plan's market: random at so many events a second, with the shocks of the plan."""
    rules = {SYMBOL: MAINNET[SYMBOL]}
    market = SyntheticMarket(rules, start_ms, seed=plan.seed, events_per_s=plan.events_per_second)
    script = [_happening(each, start_ms) for each in plan.faults if each.kind in MARKET]
    return DirectedMarket(market, script, start_ms) if script else market


def _happening(fault: TimedFault, start_ms: int) -> Happening:
    at_ms, values = int(fault.at_s * 1000), fault.values
    if fault.kind == "jump":
        return Move(at_ms, None, values["bps"] * 100)
    if fault.kind == "flash_crash":
        fall_ms, stay_ms, recover_ms = (
            int(values[name] * 1000) for name in ("fall_s", "stay_s", "recover_s")
        )
        return Move(at_ms, None, values["bps"] * 100, fall_ms, stay_ms, recover_ms, 800)
    end_ms = at_ms + max(1, int(fault.for_s * 1000))
    if fault.kind == "drought":
        return Drought(at_ms, None, end_ms, values["factor"])
    return Halt(at_ms, None, end_ms, prints_only=False)


def epoch_of(plan: Plan) -> int:
    """Return the epoch time in ms at which a run begins."""
    if not plan.midnight_s:
        return DEFAULT_EPOCH_MS
    return (DEFAULT_EPOCH_MS // DAY_MS + 1) * DAY_MS - int(plan.midnight_s * 1000)


def run_plan(plan: Plan, *, go_on: bool = False) -> Outcome:
    """Carry out a plan in virtual time; end at the first violation unless told to go on."""
    outcome = Outcome(plan.seed)
    began_s = time.process_time()

    async def story(world: World) -> None:
        await Run(world, plan, outcome, go_on=go_on).go()

    with tempfile.TemporaryDirectory() as folder:
        try:
            in_a_world(
                Path(folder),
                story,
                symbol=SYMBOL,
                seed=plan.seed,
                wallet=WALLET_QUOTE,
                epoch_ms=epoch_of(plan),
                market=lambda start_ms: market_of(plan, start_ms),
            )
        except Exception as error:  # noqa: BLE001 - a run that the harness does not survive has failed
            text = "".join(traceback.format_exception(error))
            outcome.violations.append(Violation("harness", outcome.seconds, text))
    outcome.cpu_s = time.process_time() - began_s
    return outcome


def run_seed(
    seed: int,
    *,
    hours: float = 1.0,
    faults_per_hour: float = 600.0,
    kinds: Sequence[str] | None = None,
    script: Path | None = None,
    events_per_second: float = 20.0,
    go_on: bool = False,
) -> Outcome:
    """Return how the storms of a seed went, or, with ``script``, those of a scenario file.

    ``kinds`` enables these kinds of fault and no others. The run ends at the first violation unless told to ``go_on``.
    """
    if script is not None:
        return run_plan(load_plan(script), go_on=go_on)
    plan = draw_plan(
        seed,
        hours=hours,
        faults_per_hour=faults_per_hour,
        kinds=kinds,
        events_per_second=events_per_second,
    )
    return run_plan(plan, go_on=go_on)
