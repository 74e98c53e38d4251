"""What every checker knows: the world, what has struck it, and where to tell of a violation."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from core.context import SymbolContext
from sim.instrument import Instrument
from sim.orders import Order
from test.daemon import World
from test.simulation.nemesis import Nemesis
from test.simulation.operating import Operator
from test.simulation.plan import Plan

LEVELS = 3
SIZE_QUOTE = Decimal(250)
LIMIT_QUOTE = Decimal(2000)
DEAD_MAN_S = 20.0
LYING_READS = ("hide-orders", "stale-reads", "empty-list", "drop-fields", "wipe-account", "symbol-missing")
"""While these are in force the exchange itself tells of fewer orders than rest."""
HELD_UP = (
    *("error", "delay-request", "drop-request", "reset-request", "refuse-connection"),
    *(
        "delay-reply",
        "drop-reply",
        "reset-reply",
        "truncate-reply",
        "empty-reply",
        "empty-list",
        "drop-fields",
        "short-batch",
    ),
    *("stale-reads", "cut", "half-open", "outage", "latency", "straggle", "stall", "symbol-missing"),
    *("used-weight", "clock-step", "clock-skew", "wrong-server-time"),
)
"""While these are in force an answer may be missing, late or wrong, or a request may not leave in time."""
MARKET_SHOCKS = ("move-market", "jump", "flash_crash", "halt", "drought", "quiet-market", "mark-offset")
OTHER_HANDS = (
    "foreign-fill",
    "person-trades",
    "adl",
    "wipe-account",
    "foreign-order",
    "person-order",
    "fill-first",
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that did not hold: its name, the virtual time in s, and what was seen."""

    rule: str
    at_s: float
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:.2f} s: {self.rule}: {self.text}"


@dataclass(slots=True)
class Facts:
    """What checkers may read; ``violated`` takes the name of a rule and what was seen."""

    world: World
    plan: Plan
    nemesis: Nemesis
    operator: Operator
    violated: Callable[[str, object], None]
    silent_until_s: float = 0.0
    """Until when the daemon does right to send nothing at all, by what the exchange has told it."""
    _silences: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=16))
    """From when until when that was so; they do not overlap."""

    @property
    def now_s(self) -> float:
        """Return the virtual time."""
        return self.world.now_s

    @property
    def instrument(self) -> Instrument:
        """Return the one symbol at the exchange."""
        return self.world.exchange._venue.instruments[self.world.symbol]

    @property
    def weight_left(self) -> int:
        """Return what is left of the request weight of this minute, that of others counted."""
        limits, sizes = self.world.exchange._venue.limits, self.world.exchange._venue.limits.sizes
        return sizes.weight_per_minute - limits.weight.add(0, self.world.clock.time_ms())

    @property
    def context(self) -> SymbolContext | None:
        """Return the inside of the daemon; None while none runs, or before its preflight has passed."""
        running = self.world.running
        if self.world.engine is None or running is None or running.done():
            return None
        return self.world.engine.contexts[0]

    @property
    def silent_last_s(self) -> float:
        """Return when nothing was to be sent last, because the exchange had said so; now if that goes on."""
        return min(self.silent_until_s, self.now_s)

    def be_silent(self, for_s: float) -> None:
        """Note that the daemon has been told to send nothing for so long; what comes later shortens nothing."""
        until_s = self.now_s + for_s
        if until_s > self.silent_until_s:
            self._silences.append((max(self.now_s, self.silent_until_s), until_s))
            self.silent_until_s = until_s

    def forget_silence(self) -> None:
        """Note that a new process has been told nothing yet."""
        self.silent_until_s = 0.0
        self._silences.clear()

    def could_ask_s(self, since_s: float) -> float:
        """Return for how much of the time since then the daemon was free to ask the exchange anything."""
        silent = (min(until_s, self.now_s) - max(from_s, since_s) for from_s, until_s in self._silences)
        return self.now_s - since_s - sum(max(each_s, 0.0) for each_s in silent)

    def struck(self, seconds: float, *kinds: str) -> bool:
        """Tell whether one of these kinds was in force within so many seconds."""
        return self.nemesis.struck_within(seconds, *kinds)

    def struck_last_s(self, *kinds: str) -> float:
        """Return when one of these kinds was last in force, now if one is; long ago if none ever was."""
        return min(max((self.nemesis.struck_s.get(kind, -1e9) for kind in kinds), default=-1e9), self.now_s)


def is_ours(order: Order) -> bool:
    """Tell whether the daemon has placed the order."""
    return order.client_order_id.startswith("qpmm-")
