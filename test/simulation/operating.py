"""Who looks after the daemon: a service manager that starts it again, and an operator who clears halts."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from commands.wiring import wired
from core.daily_loss import day_of
from core.day_file import DamagedDay, DayFile
from core.engine import Engine
from core.exit_code import ExitCode
from core.halt import HaltLatch
from core.state import SharedState
from test.daemon import World
from test.simulation.plan import Plan
from utils.errors import ExchangeError, StartRefused

RESTART_S = 2.0
RESUME_AFTER_S = 20.0
TOPPED_UP_QUOTE = 3000
UNEXPLAINED = "no trade explains"
"""What the daemon says when it wants a person to look at the account and to start it again."""
_OTHER_MARGIN_TYPE = "set it back to ISOLATED"
STOP_WITHIN_S, CLOSE_WITHIN_S = 9.0, 12.0
"""Longer than a stop may take: 1 s for requests under way, 4 s to verify, 3 s for last words and flushes.
In the middle of a close 10 s more, and up to 2 s for a disk."""
AWAKE_S = 0.5
"""A wait of this that took longer was slept through by the whole process."""


class Operator:
    """Keeps one daemon running; ``violated`` is told of what should not be."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        *,
        note: Callable[[str], None],
        violated: Callable[[str, object], None],
        on_engine: Callable[[Engine], None],
    ) -> None:
        self._world = world
        self._note = note
        self._violated = violated
        self._on_engine = on_engine
        self._config: dict[str, Any] = {
            "order_config": {"price_offset_percent": plan.offset_percent},
            "refresh_config": {"refresh_mode": plan.mode},
        }
        if plan.keeps_book:
            self._config["market_data"] = {"depth": "diff"}
        world.order_transport = plan.transport
        self.is_back = asyncio.Event()
        """Cleared while somebody has ended the daemon, and will start it again."""
        self.gone_s: float | None = None
        """Since when no daemon has run that was not asked to stop."""
        self.is_ended = False
        self._halted_since_s: float | None = None
        self._asked_since_s = 0.0
        self.exits: Counter[str] = Counter()
        self.resumes = 0
        self.restarts = 0
        self.on_exit: Callable[[ExitCode], None] = lambda _code: None
        self.on_start: Callable[[], None] = lambda: None
        self.frozen: Callable[[int], None] = lambda _now_ns: None
        self.latch = HaltLatch(world.folder / "state", "paper-test", world.symbol)

    def start(self) -> None:
        """Have a daemon run."""
        self.is_back.set()
        self.gone_s = None
        self.on_start()
        self._world.start(watch=self._on_engine, **self._config)

    async def stop(self) -> ExitCode | None:
        """Ask the daemon to stop, as SIGTERM does; return its exit code, None if it did not run."""
        running = self._world.running
        if running is None or running.done():
            return None
        self._world.stop.ask("the operator stops it")
        engine = self._world.engine
        within_s = STOP_WITHIN_S + (CLOSE_WITHIN_S if engine is not None and engine.risk.is_closing else 0)
        await self._awake(running, within_s)
        if not running.done():
            self._violated("INV-16", f"the stop took over {within_s:g} s")
            await self._world.vanish()
            return None
        return self._ended()

    async def _awake(self, running: "asyncio.Task[ExitCode]", within_s: float) -> None:
        """Wait for the daemon to end within so much time; what it has stood still for is none of it."""
        for _ in range(round(within_s / AWAKE_S)):
            await asyncio.wait({running}, timeout=AWAKE_S)
            if running.done():
                return

    async def start_second(self) -> None:
        """Try to start a second daemon on the same account and symbol: it has to be refused."""
        world = self._world
        running, engine, state, stop = world.running, world.engine, world.state, world.stop
        clock, watch = world.daemon_clock, world._watch
        if running is None or running.done() or engine is None:
            return
        self.is_back.clear()  # nobody else ends or starts one meanwhile
        second = world.start(watch=self._on_engine, **self._config)  # the watch is that of later engines, too
        await asyncio.wait({second}, timeout=0.5)
        refused = second.done() and isinstance(second.exception(), StartRefused)
        if not second.done():
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
        world.running, world.engine, world.state, world.stop = running, engine, state, stop
        world.daemon_clock, world._watch = clock, watch
        self.is_back.set()
        if not refused:
            self._violated("INV-21", "a second daemon on the same account was not refused")

    async def start_at_wrong_host(self, url: str) -> None:
        """Try to connect paper trading to a host of another environment: it has to be refused, before any socket."""
        world = self._world
        settings = replace(world.settings(**self._config), paper_url=url)
        config = SimpleNamespace(BINANCE_API_KEY="", BINANCE_SECRET_KEY="")
        try:
            async with wired(settings, config, SharedState(), live_confirmed=False):  # type: ignore[arg-type]
                self._violated("INV-30", f"paper trading would have been connected to {url}")
        except ValueError as error:
            self._note(f"refused: {error}")

    # --- what a service manager and an operator do ------------------------------------------------------------

    async def look_after(self) -> None:
        """Start the daemon again when it has ended, and clear halts after a while, until cancelled."""
        while True:
            await asyncio.sleep(0.5)
            if not self.is_back.is_set():
                continue
            running = self._world.running
            if running is not None and running.done():
                await self._restart()
            self._look_for_halt()
            if self._asks_for_a_look():
                self._asked_since_s = self._asked_since_s or self._world.now_s
                if self._world.now_s - self._asked_since_s >= RESUME_AFTER_S:
                    await self.restart_if_asked()
            else:
                self._asked_since_s = 0.0

    async def _restart(self) -> None:
        code = self._ended()
        self.is_back.clear()
        if code is ExitCode.HALTED:
            self.resume()
        self.gone_s = self._world.now_s
        await asyncio.sleep(RESTART_S)
        self.start()

    def _ended(self) -> ExitCode | None:
        """Note how the daemon has ended."""
        running = self._world.running
        assert running is not None
        error = running.exception() if not running.cancelled() else None
        if isinstance(error, ExchangeError | StartRefused):
            self.exits[type(error).__name__] += 1
            self._note(f"could not start: {error}")
            if str(error).startswith("margin: "):
                self._note(f"the operator transfers {TOPPED_UP_QUOTE} USDT")
                self._world.strike("transfer", amount=TOPPED_UP_QUOTE)
            return None
        if error is not None:
            self.exits["crash"] += 1
            self._violated("INV-39", f"the daemon ended with {error!r}")
            return None
        code = running.result()
        self.exits[code.name] += 1
        self._note(f"the daemon has ended: {code.name}")
        self.on_exit(code)
        return code

    def _asks_for_a_look(self) -> bool:
        engine = self._world.engine
        reasons = "; ".join(engine.contexts[0].gate.reasons) if engine is not None else ""
        return UNEXPLAINED in reasons or _OTHER_MARGIN_TYPE in reasons

    async def restart_if_asked(self) -> None:
        """Restart a daemon that wants a person to look: its position is not what its trades have made.

        Or its margin type is not that of its start, which was somebody else's doing.
        """
        if not self._asks_for_a_look():
            return
        self.is_back.clear()
        self.restarts += 1
        self._note("the operator has looked at the account, and restarts")
        await self.stop()
        self.start()

    def _look_for_halt(self) -> None:
        if not self._world.state.strategy_paused:
            self._halted_since_s = None
            return
        now_s = self._world.now_s
        self._halted_since_s = now_s if self._halted_since_s is None else self._halted_since_s
        if now_s - self._halted_since_s >= RESUME_AFTER_S:
            self.resume()

    def resume(self) -> None:
        """Do what ``python main.py resume --accept-loss`` does: nothing while a close is not finished."""
        world, halt = self._world, self.latch.read()
        if halt is not None and halt.is_closing:
            return
        file, now_ms = (
            DayFile(world.folder / "state", "paper-test", world.symbol),
            world.daemon_clock.time_ms(),
        )
        try:
            record = file.read(day_of(now_ms))
        except DamagedDay:
            record = None
        file.accept(day_of(now_ms), record.whole_quote if record is not None else None, now_ms)
        if self.latch.clear():
            self.resumes += 1
            self._note("the operator resumes")
        self._halted_since_s = None
