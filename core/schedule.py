"""When a symbol's orders are looked at again: at the interval, on a move, for a reset. Pure; times are monotonic ns."""

from core.decision import QuietBand
from core.patience import Patience
from core.settings import ManageSettings, QuoteSettings


class Schedule:
    """The next refresh and the next reset of one symbol.

    Between two refreshes the mid may move within the quiet band; outside of it there is a refresh once patience is used
    up, but not sooner than ``min_requote_interval_ms`` after the one before.
    """

    WORTH_WAKING_NS = 20_000_000
    """A reason that comes this much sooner than expected is told."""
    FRUITLESS_NS = 20_000_000
    """How long it takes until orders are looked at again that are not in their places, and could not be put there."""

    def __init__(self, settings: QuoteSettings, managing: ManageSettings) -> None:
        self._interval_ns = int(settings.refresh_interval_s * 1e9)
        self._requote_ns = self._pause_ns = settings.min_requote_interval_ms * 1_000_000
        self._follows_moves = settings.on_move and settings.refresh_mode == "amend"
        self._reset_every_ns = int(managing.reset_interval_s * 1e9)
        self._due_ns = 0
        self._refreshed_ns = 0
        self._patience = Patience(managing.patience_bps_s)
        self._expected_ns = 0
        self.reset_due_ns = 0
        """When the next reset is due; 0 while none is planned."""
        self.closings = 0
        """How often quoting was found closed: what is under way meanwhile brings nothing back."""

    def close(self) -> None:
        """Note that quoting is closed: the first moment after it is due, and a reset has nothing to add."""
        self.closings += 1
        self._due_ns = self.reset_due_ns = 0

    def moved_to(self, mid_half_ticks: int, now_ns: int) -> bool:
        """Note the mid of a new book; return whether the orders have to be looked at sooner than it was last told.

        Or now, for that costs nothing where they can follow at once.
        """
        if not self._follows_moves:
            return False
        self._patience.see(mid_half_ticks, now_ns)
        next_ns = self._next_refresh_ns()
        is_due = self._due_ns > 0 and next_ns <= now_ns
        if not is_due and next_ns > self._expected_ns - self.WORTH_WAKING_NS:
            return False
        self._expected_ns = next_ns
        return True

    def is_patient(self, now_ns: int) -> bool:
        """Tell whether orders that are off their targets by a move of the price may stay so for now."""
        return self._follows_moves and self._due_ns > 0 and not self._patience.is_used_up(now_ns)

    def hurry(self) -> None:
        """Have the next refresh be due now: what is wanted has changed."""
        self._due_ns = 0

    def refresh_is_due(self, now_ns: int) -> bool:
        """Tell whether it is time to compare what rests with what is wanted."""
        return now_ns >= self._next_refresh_ns()

    def reset_is_due(self, now_ns: int) -> bool:
        """Tell whether it is time to take everything out, verify, and begin anew."""
        return 0 < self.reset_due_ns <= now_ns

    def refreshed(
        self,
        now_ns: int,
        band: QuietBand,
        ended_ns: int,
        *,
        is_patient: bool = False,
        mid_half_ticks: int = 0,
    ) -> None:
        """Note a refresh from ``now_ns`` to ``ended_ns`` that left orders that are quiet within ``band``.

        ``mid_half_ticks`` is the mid on which it was decided, 0 if there was none.

        The interval keeps its rhythm; a refresh on a move is one besides. A patient one leaves patience as it was.
        """
        if now_ns >= self._due_ns:
            on_time = self._due_ns and now_ns - self._due_ns < self._interval_ns
            self._due_ns = (self._due_ns if on_time else now_ns) + self._interval_ns
        is_fruitless = mid_half_ticks > 0 and not band.holds(mid_half_ticks)
        self._pause_ns = max(self._requote_ns, self.FRUITLESS_NS) if is_fruitless else self._requote_ns
        self._refreshed_ns = now_ns
        if is_patient:
            self._patience.watch(band, ended_ns)
        else:
            self._patience.renew(band, ended_ns)
        if self._reset_every_ns and not self.reset_due_ns:
            self.reset_due_ns = now_ns + self._reset_every_ns

    def was_reset(self, now_ns: int) -> None:
        """Note that everything was taken out; the next refresh brings it back."""
        self._due_ns = 0
        self.reset_due_ns = now_ns + self._reset_every_ns if self._reset_every_ns else 0

    def wait_ns(self, now_ns: int) -> int:
        """Return how long nothing is due, 0 if something is; whoever waits is told when it turns out sooner."""
        next_ns = self._expected_ns = self._next_refresh_ns()
        if self.reset_due_ns:
            next_ns = min(next_ns, self.reset_due_ns)
        return max(next_ns - now_ns, 0)

    def is_sooner_than(self, asleep_until_ns: int) -> bool:
        """Tell whether something is due before whoever waits wakes by itself; of less the next moves do not tell."""
        next_ns = self._next_refresh_ns()
        self._expected_ns = min(next_ns, asleep_until_ns)
        return next_ns < asleep_until_ns - self.WORTH_WAKING_NS

    def _next_refresh_ns(self) -> int:
        if not self._follows_moves or self._patience.due_ns is None:
            return self._due_ns
        moved_ns, rested_ns = self._patience.due_ns, self._refreshed_ns + self._pause_ns
        if moved_ns < rested_ns:
            moved_ns = rested_ns
        return moved_ns if moved_ns < self._due_ns else self._due_ns
