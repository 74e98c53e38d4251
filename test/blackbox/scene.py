"""One run: a venue, a daemon on it, an order of a stranger, and what has to be true whatever happened to them."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from test.blackbox.files import complaints
from test.process import Daemon, Exchange, Folder, Json, Stage

QUOTES = 6
BACK_WITHIN_S = 15.0
"""After the last trouble the quotes rest again by then, or a pause says why not."""
STOP_WITHIN_S = 5.0
START_WITHIN_S = 60.0
"""Generous: many processes start on one machine at the same time."""
_LOOK_EVERY_S = 0.2
SYMBOL, ELSEWHERE = "BTCUSDT", "ETHUSDT"
STRANGER = "by-hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things last, in seconds.

    ``window_s`` and ``refresh_s`` are the dead-man switch's; quotes are back when they have rested for ``calm_s``. With
    ``restarts``, a daemon is started once more at the end, and every order is audited.
    """

    window_s: int
    refresh_s: float
    moment_s: tuple[float, float]
    trouble_s: tuple[float, float]
    calm_s: float
    restarts: bool


FULL = Pace(window_s=20, refresh_s=5, moment_s=(0.2, 8), trouble_s=(1, 30), calm_s=5, restarts=True)
"""The daemon's own defaults."""
BRIEF = Pace(window_s=5, refresh_s=1, moment_s=(0.2, 1), trouble_s=(1, 2), calm_s=1, restarts=False)


def until(what: Callable[[], bool], within_s: float, why: str, every_s: float = _LOOK_EVERY_S) -> float:
    """Wait until it is true; return the seconds that took. Fails when it takes longer."""
    began_s = time.monotonic()
    while not what():
        assert time.monotonic() - began_s < within_s, f"{why} within {within_s:g} s"
        time.sleep(every_s)
    return time.monotonic() - began_s


def is_ours(order: Json) -> bool:
    """Tell whether a daemon placed it."""
    return bool(order["clientOrderId"].startswith("qpmm-"))


@dataclass
class Scene:
    """What a run has on its stage. ``figures`` are the seconds it measured; ``stranger`` is the order as placed."""

    stage: Stage
    rng: random.Random
    pace: Pace
    exchange: Exchange
    folder: Folder
    figures: dict[str, float] = field(default_factory=dict)
    stranger: Json = field(default_factory=dict)
    is_dropped: bool = False
    """The venue has lost everything, the stranger's order among it: nothing is audited."""

    # --- the venue's view -------------------------------------------------------------------------------------

    def ours(self) -> list[Json]:
        """Return the daemon's orders that rest at this moment."""
        return [each for each in self._open(SYMBOL) if is_ours(each)]

    def _open(self, symbol: str) -> list[Json]:
        found: list[Json] = self.exchange.ask_signed("GET", "/fapi/v1/openOrders", symbol=symbol)
        return found

    def zero_since_s(self) -> float:
        """Return when the last of the daemon's orders ended, by the venue's record, in seconds since the epoch."""
        orders = [each for each in self.exchange.record(SYMBOL)["orders"] if is_ours(each)]
        assert all(each["status"] not in ("NEW", "PARTIALLY_FILLED") for each in orders), "an order rests"
        return max((each["updateTime"] / 1000 for each in orders), default=0.0)

    def place_stranger(self, symbol: str) -> None:
        """Have an order of a person rest, far away from the market."""
        ticker = f"/fapi/v1/ticker/bookTicker?symbol={symbol}"
        until(lambda: Decimal(self.exchange.ask("GET", ticker).get("bidPrice", 0)) > 0, 5, "no market")
        bid = Decimal(self.exchange.ask("GET", ticker)["bidPrice"])
        self.stranger = self.exchange.ask_signed(
            "POST",
            "/fapi/v1/order",
            symbol=symbol,
            side="BUY",
            type="LIMIT",
            timeInForce="GTC",
            quantity="0.1" if symbol == ELSEWHERE else "0.002",
            price=str((bid * Decimal("0.97")).quantize(Decimal(1))),
            newClientOrderId=STRANGER,
        )
        assert self.stranger.get("status") == "NEW", self.stranger

    def _assert_stranger_is_untouched(self) -> None:
        symbol = self.stranger["symbol"]
        now = [each for each in self._open(symbol) if each["clientOrderId"] == STRANGER]
        told = ("orderId", "price", "origQty", "executedQty", "status", "updateTime")
        assert len(now) == 1, "the stranger's order is gone"
        assert [now[0][name] for name in told] == [self.stranger[name] for name in told]

    # --- the daemon -------------------------------------------------------------------------------------------

    def quoting(self) -> Daemon:
        """Return a daemon that has just been started and whose quotes rest."""
        daemon = self.stage.daemon(self.folder)
        self.until_quoting(daemon)
        return daemon

    def until_quoting(self, daemon: Daemon, within_s: float = START_WITHIN_S) -> float:
        """Wait until all quotes rest; return the seconds it took. The daemon must not end meanwhile."""
        try:
            return until(lambda: self._all_rest(daemon), within_s, "no quotes")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{daemon.err[-3000:]}") from None

    def until_back(self, daemon: Daemon) -> float:
        """Wait until all quotes rest and go on doing so; return the seconds until they did, from now.

        One look in between may fall into a refresh; two in a row may not.
        """
        began_s = time.monotonic()
        since_s, missed = began_s, 0
        while time.monotonic() - since_s < self.pace.calm_s:
            missed = 0 if self._all_rest(daemon) else missed + 1
            if missed > 1:
                since_s = time.monotonic()
            waited_s = since_s - began_s
            assert waited_s < BACK_WITHIN_S, f"no quotes for {waited_s:.1f} s: {daemon.err[-3000:]}"
            time.sleep(_LOOK_EVERY_S)
        return since_s - began_s

    def _all_rest(self, daemon: Daemon) -> bool:
        assert daemon.is_running, f"the daemon ended with {daemon.wait(0)}: {daemon.err[-3000:]}"
        count = len(self.ours())
        assert count <= QUOTES, f"{count} orders rest"
        return count == QUOTES

    def wait_for_a_moment(self) -> None:
        """Let a time pass that nobody could have known."""
        time.sleep(self.rng.uniform(*self.pace.moment_s))

    def drawn_trouble_s(self, most_s: float = 1000.0) -> float:
        """Return how long the trouble is to last, at most ``most_s``."""
        low, high = self.pace.trouble_s
        return self.rng.uniform(low, min(high, most_s))

    def go_through(self, port: int) -> None:
        """Have the next daemon look for the venue at that port of this machine."""
        (self.folder.path / ".env").write_text(f"PAPER_URL=http://127.0.0.1:{port}\n")

    def elsewhere(self) -> Folder:
        """Return the folder of a daemon on another machine: the same settings, and nothing known of the first."""
        own = ("logging", "state_directory")
        config = {name: value for name, value in self.folder.config.items() if name not in own}
        return Folder(self.stage.path / "elsewhere", config, {"PAPER_URL": self.exchange.url})

    def stop(self, daemon: Daemon) -> None:
        """End the daemon by SIGTERM: 0, and zero orders, which it has verified."""
        began_s = time.time()
        code = daemon.end(signal.SIGTERM, STOP_WITHIN_S)
        assert code == 0, f"it stopped with {code}: {daemon.err[-3000:]}"
        self.figures["exit"] = time.time() - began_s
        assert self.ours() == []
        assert "Traceback" not in daemon.err, daemon.err[-3000:]

    # --- the end ----------------------------------------------------------------------------------------------

    def finish(self, daemon: Daemon | None) -> None:
        """Hold what must be true after every run; ``daemon`` is the one that still runs."""
        if daemon is not None:
            self.stop(daemon)
        assert complaints(self.folder) == []
        if self.pace.restarts:
            began_s = time.monotonic()
            daemon = self.quoting()
            self.figures["restart"] = time.monotonic() - began_s
            assert complaints_about_orders(self) == []
            self.stop(daemon)
            assert complaints(self.folder) == []
        self._assert_stranger_is_untouched()


def complaints_about_orders(scene: Scene) -> list[str]:
    """Return what the audit of every order says, beside a daemon that quotes; nothing where the venue lost them."""
    if scene.is_dropped:
        return []
    audit = scene.stage.daemon(scene.folder, "orders", "--audit")
    code = audit.wait(START_WITHIN_S)
    return [] if code == 0 else [f"orders --audit ended with {code}: {audit.out[-1500:]} {audit.err[-500:]}"]


@contextmanager
def scene(path: Path, seed: int, pace: Pace, *, stranger_on: str = SYMBOL) -> Iterator[Scene]:
    """Give a scene whose daemon has not been started, with modes that the seed has drawn."""
    rng = random.Random(seed)
    with Stage(path) as stage:
        exchange = stage.exchange(*market(seed))
        found = Scene(stage, rng, pace, exchange, _folder(path, rng, pace, exchange.url))
        found.place_stranger(stranger_on)
        yield found


def market(seed: int) -> tuple[str, ...]:
    """Return the arguments of a venue whose market is quiet enough for many of them on one machine."""
    symbols = f"{SYMBOL},{ELSEWHERE}"
    return ("--symbol", symbols, "--events-per-second", "20", "--seed", str(seed), "--latency-ms", "2")


def _folder(path: Path, rng: random.Random, pace: Pace, url: str) -> Folder:
    config = {
        "max_net_position_ratio": 0.5,  # some fills must not take a side out
        "refresh_config": {
            "orderbook_refresh_interval": 1,
            "refresh_mode": rng.choice(["amend", "replace"]),
        },
        "order_management": {"modify_threshold": 0, "patience_bps_s": 0},  # something is always under way
        "execution": {"order_transport": rng.choice(["rest", "ws"])},
        "safety": {"dead_man_window_s": pace.window_s, "dead_man_refresh_s": pace.refresh_s},
    }
    return Folder(path / "daemon", config, {"PAPER_URL": url})
