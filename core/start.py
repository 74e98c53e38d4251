"""The start of a run: the preflight, asked again for a while where what is in the way passes by itself."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from core.gateway import Gateway
from core.preflight import Preflight, apply_leverage, preflight
from core.settings import Settings
from core.systemd import Notify, more_time
from utils.clock import Clock
from utils.errors import ExchangeError, NotSent, RateLimited
from utils.http import BinanceRest
from utils.machine import Machine

log = logging.getLogger(__name__)

PATIENCE_S = 900.0
"""For so long a start waits for what passes by itself; a ban whose end the exchange has named is waited for besides."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0

OnWait = Callable[[str], None]
"""Is told what a start waits for, and "" once it waits no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a preflight is asked with, and who is told while it has to be asked again."""

    settings: Settings
    gateway: Gateway
    wallet: BinanceRest | None
    clock: Clock
    has_keys: bool
    confirmed: bool
    machine: Machine | None
    notify: Notify
    on_wait: OnWait

    async def prepared(self) -> Preflight:
        """Return a preflight in which every check has passed, with the leverage set.

        Waited for are a symbol that does not trade just now, a book that is empty or has one side only, a market that
        is so far from its mark price that quotes would be refused, an exchange that cannot be reached or understood, a
        limit on requests, and a clock that is far off. Nothing is sent that could rest meanwhile; the dead-man switch
        sees to what an earlier run has left.

        Raises StartRefused at once for a mistake of configuration or account, and NotSent for a fault that nobody
        waits for, or that lasts longer than the patience.
        """
        began_ns, pause_s, said = self.clock.monotonic_ns(), FIRST_PAUSE_S, ""
        while True:
            found, reason = await self._asked()
            if found is not None:
                self.on_wait("")
                return found
            ban_s = self._ban_s()
            waited_s = (self.clock.monotonic_ns() - began_ns) / 1e9
            if waited_s >= PATIENCE_S and not ban_s:
                raise NotSent(f"{reason} (waited for {waited_s:.0f} s)")
            if reason != said:
                log.warning("the start waits: %s", reason)
                said = reason
            self.on_wait(reason)
            self.notify(f"{more_time(3 * LONGEST_PAUSE_S)}\nSTATUS=the start waits: {reason}")
            await asyncio.sleep(min(ban_s, LONGEST_PAUSE_S) if ban_s else pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _asked(self) -> tuple[Preflight | None, str]:
        """Return the preflight if everything passed, else what has to pass first."""
        try:
            found = await preflight(
                self.settings,
                self.gateway,
                self.wallet,
                has_keys=self.has_keys,
                confirmed=self.confirmed,
                machine=self.machine,
            )
        except ExchangeError as error:
            return None, f"the exchange could not be asked ({error})"
        found.refuse_unless_passed()
        if found.waits_for:
            return None, found.waits_for
        try:
            await apply_leverage(self.settings, self.gateway, found.facts)
        except ExchangeError as error:
            return None, f"the leverage could not be set ({error})"
        for check in found.checks:
            if check.caution:
                log.warning("%s: %s; %s", check.name, check.found, check.caution)
        return found, ""

    def _ban_s(self) -> float:
        """Return for how long the exchange wants no request at all: a new process would not know of it."""
        try:
            self.gateway.rest.refuse_while_limited()
        except RateLimited as limited:
            return limited.retry_after_s
        return 0.0
